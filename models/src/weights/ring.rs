//! Where the matrices of layers lie that take turns in memory, before any is taken.

use std::ops::Range;
use std::sync::Arc;

use weft_formats::gguf::{File, TensorInfo};
use weft_kernels::{Budget, Cut};

use super::layout::{Layout, Stack, shaped};
use crate::Result;

/// A block, and an offset there.
pub(super) type Place = (usize, u64);

/// Parts of tensors, whose rows follow each other.
pub(crate) type Parts = Vec<(Arc<TensorInfo>, Range<usize>)>;

/// Layers that take turns in one slot of GPU memory, each of which goes there from host memory that holds all of it.
///
/// A queue does one thing after the other, so that a copy into a second slot would wait for the layer that computes, as
/// one into the first does. What takes long is reading and repacking, which fills the host memory meanwhile.
#[derive(Debug)]
pub(crate) struct Ring {
    pub(super) layers: Vec<Turn>,
    /// Bytes of each block of the slot, and of the host memory.
    pub(super) slot: Vec<u64>,
    pub(super) staging: Vec<u64>,
}

/// One layer of a [`Ring`].
#[derive(Debug)]
pub(super) struct Turn {
    /// Its matrices in the order of groups.
    pub(super) stacks: Vec<Turned>,
}

/// One matrix of a layer.
#[derive(Debug)]
pub(super) struct Turned {
    /// Where each slab lies in the slot.
    pub(super) slabs: Vec<Place>,
    /// Where the code book of each slab lies in host memory, if the type has one.
    pub(super) tables: Vec<Place>,
    pub(super) parts: Parts,
    /// What is repacked at a time, and where it lies in host memory.
    pub(super) cuts: Vec<(Cut, Place)>,
}

impl Ring {
    /// Lays out the layers of `file`.
    ///
    /// # Errors
    /// None that the layout had not.
    pub(crate) fn of(file: &File, layout: &Layout, budget: &Budget) -> Result<Ring> {
        let mut ring = Ring { layers: Vec::new(), slot: Vec::new(), staging: Vec::new() };
        for groups in &layout.layers {
            // Mapped memory is written from multiples of 8 on.
            let mut slot = Packed { align: budget.align, most: budget.max_buffer, used: Vec::new() };
            let mut staging = Packed { align: 8, ..slot.clone() };
            let mut stacks = Vec::new();
            for stack in groups.iter().flatten() {
                let (shape, parts) = (&stack.shape, parts(file, stack)?);
                let table = shape.ty.layout().table.len() as u64 * 4;
                let tables = if table == 0 { 0 } else { shape.slabs.len() };
                let sizes: Vec<usize> = parts.iter().map(|(_, part)| part.len()).collect();
                let cuts = shape.cuts(&sizes).into_iter().map(|cut| {
                    let place = staging.place(cut.bytes() as u64);
                    (cut, place)
                });
                stacks.push(Turned {
                    slabs: shape.slabs.iter().map(|slab| slot.place(slab.bytes)).collect(),
                    cuts: cuts.collect(),
                    tables: (0..tables).map(|_| staging.place(table)).collect(),
                    parts,
                });
            }
            ring.layers.push(Turn { stacks });
            larger(&mut ring.slot, &slot.used);
            larger(&mut ring.staging, &staging.used);
        }
        Ok(ring)
    }

    /// Bytes of the slot, and of the host memory.
    pub(crate) fn bytes(&self) -> [u64; 2] {
        [self.slot.iter().sum(), self.staging.iter().sum()]
    }
}

/// The tensors that make up a matrix.
///
/// # Errors
/// One that is missing, or of another shape.
pub(super) fn parts(file: &File, s: &Stack) -> Result<Parts> {
    let tensor = |(name, rows): &(String, u32)| {
        let sizes = [s.shape.cols, *rows].into_iter().chain(s.experts);
        let shape: Vec<u64> = sizes.map(u64::from).collect();
        shaped(file, &format!("{name}.weight"), &shape).map(|t| Arc::new(t.clone()))
    };
    let tensors = s.tensors.iter().map(tensor).collect::<Result<Vec<_>>>()?;
    // All tensors of an expert, then those of the next.
    let count = s.experts.unwrap_or(1) as usize;
    let parts = (0..count).flat_map(|e| {
        tensors.iter().map(move |t| {
            let bytes = t.size as usize / count;
            (t.clone(), e * bytes..(e + 1) * bytes)
        })
    });
    Ok(parts.collect())
}

/// Pieces one after the other in blocks of limited size.
#[derive(Clone)]
struct Packed {
    align: u64,
    most: u64,
    used: Vec<u64>,
}

impl Packed {
    fn place(&mut self, bytes: u64) -> Place {
        let taken = bytes.next_multiple_of(self.align);
        match self.used.last_mut().filter(|used| **used + bytes <= self.most) {
            Some(used) => *used += taken,
            None => self.used.push(taken),
        }
        let block = self.used.len() - 1;
        (block, self.used[block] - taken)
    }
}

/// Makes each block as large as the other.
fn larger(all: &mut Vec<u64>, other: &[u64]) {
    all.resize(all.len().max(other.len()), 0);
    all.iter_mut().zip(other).for_each(|(a, &b)| *a = b.max(*a));
}

#[cfg(test)]
mod tests {
    use super::{Packed, larger};

    #[test]
    fn pieces_fill_blocks_in_order() {
        let mut packed = Packed { align: 8, most: 100, used: Vec::new() };
        let places: Vec<_> = [30, 40, 30, 101, 4, 96].into_iter().map(|n| packed.place(n)).collect();
        assert_eq!(places, [(0, 0), (0, 32), (1, 0), (2, 0), (3, 0), (4, 0)]);
        assert_eq!(packed.used, [72, 32, 104, 8, 96]);
        let mut all = vec![10, 50];
        larger(&mut all, &[20, 40, 5]);
        assert_eq!(all, [20, 50, 5]);
    }
}
