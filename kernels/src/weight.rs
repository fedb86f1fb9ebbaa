//! Weights on the GPU: a matrix cut by rows into slabs that each fit a binding, each slab holding the
//! code book of its type, if it has one, and then its planes one after the other.

use std::ops::Range;

use weft_runtime::{Budget, Gpu, Pool, Slice};

use crate::{PlanError, Result, WeightType};

/// A run of rows with its own planes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slab {
    /// Rows of the matrix.
    pub rows: Range<u32>,
    /// Word offset of each plane.
    pub planes: [u32; 4],
    /// Bytes in all.
    pub bytes: u64,
}

impl Slab {
    /// Number of rows.
    pub fn count(&self) -> u32 {
        self.rows.end - self.rows.start
    }
}

/// A weight matrix as it lies on the GPU: a pure function of type, shape and budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightShape {
    /// Type.
    pub ty: WeightType,
    /// Outputs.
    pub rows: u32,
    /// Inputs.
    pub cols: u32,
    /// Its parts.
    pub slabs: Vec<Slab>,
}

impl WeightShape {
    /// Cuts a matrix for `budget`.
    ///
    /// # Errors
    /// [`PlanError::Shape`] where `cols` is no multiple of 16 or of the type's block,
    /// [`PlanError::DoesNotFit`] where one row exceeds a binding.
    pub fn new(
        ty: WeightType,
        rows: u32,
        cols: u32,
        budget: &Budget,
    ) -> std::result::Result<Self, PlanError> {
        let layout = ty.layout();
        if cols == 0 || rows == 0 || !(cols as usize).is_multiple_of(layout.block) {
            return Err(PlanError::Shape {
                op: "weight",
                what: format!(
                    "a {ty} matrix of {rows} x {cols}: columns must be a multiple of {}",
                    layout.block
                ),
            });
        }
        let blocks_per_row = u64::from(cols) / layout.block as u64;
        let table = (layout.table.len() as u64 * 4).next_multiple_of(16);
        let slab = |rows: Range<u32>| {
            let blocks = u64::from(rows.end - rows.start) * blocks_per_row;
            let mut planes = [0u32; 4];
            let mut at = table;
            for (p, &bytes) in planes.iter_mut().zip(layout.planes) {
                *p = (at / 4) as u32;
                at = (at + blocks * bytes as u64).next_multiple_of(16);
            }
            Slab { rows, planes, bytes: at }
        };
        // The padding of the planes is at most 64 bytes, so one correction is enough.
        let fixed = table + 64;
        let row_bytes = blocks_per_row * layout.planes.iter().sum::<usize>() as u64;
        let per = ((budget.max_binding.saturating_sub(fixed)) / row_bytes).min(u64::from(rows)) as u32;
        if per == 0 {
            return Err(PlanError::DoesNotFit {
                op: "weight",
                what: "a row",
                needed: row_bytes + fixed,
                allowed: budget.max_binding,
            });
        }
        // Even slabs rather than a full one and a remainder; multiples of 4 rows where they fit.
        let count = rows.div_ceil(per);
        let even = rows.div_ceil(count);
        let per = if even.next_multiple_of(4) <= per { even.next_multiple_of(4) } else { even };
        let slabs = (0..rows).step_by(per as usize).map(|r| slab(r..(r + per).min(rows))).collect();
        Ok(WeightShape { ty, rows, cols, slabs })
    }

    /// Bytes on the GPU, alignment between slabs included.
    pub fn bytes(&self, budget: &Budget) -> u64 {
        self.slabs.iter().map(|s| s.bytes.next_multiple_of(budget.align)).sum()
    }

    /// Groups of 16 weights in a row.
    pub fn units(&self) -> u32 {
        self.cols / 16
    }
}

/// A weight matrix in GPU memory.
#[derive(Debug, Clone)]
pub struct Weight {
    /// How it is cut.
    pub shape: WeightShape,
    /// One slice a slab.
    pub slices: Vec<Slice>,
}

/// File bytes repacked at a time: the upload's share of host memory.
const BATCH: usize = 8 << 20;

impl Weight {
    /// Repacks `parts` (tensors as their file has them, whose rows follow each other) into GPU memory,
    /// calling `done` with each range of a part that is no longer needed.
    ///
    /// # Errors
    /// As [`WeightShape::new`]; out of memory; a fault of the device.
    ///
    /// # Panics
    /// If the parts are not the size of the matrix, or one but the last has rows that are no multiple
    /// of 4.
    pub fn upload(
        gpu: &Gpu,
        shape: WeightShape,
        parts: &[&[u8]],
        label: &str,
        mut done: impl FnMut(usize, Range<usize>),
    ) -> Result<Weight> {
        let layout = shape.ty.layout();
        let row_bytes = shape.ty.row_bytes(shape.cols as usize);
        let blocks_per_row = shape.cols as usize / layout.block;
        let rows: usize = parts.iter().map(|p| p.len() / row_bytes).sum();
        assert_eq!(rows, shape.rows as usize, "{label}: rows of {}", shape.ty);
        // Batches of 16 rows, and parts of 4, keep every plane's write a multiple of 4 bytes.
        let batch = (BATCH / row_bytes).next_multiple_of(16).max(16);
        let mut slices = Vec::with_capacity(shape.slabs.len());
        for slab in &shape.slabs {
            let slice = gpu.alloc(Pool::Weights, slab.bytes, label)?;
            if !layout.table.is_empty() {
                gpu.write(&slice, 0, bytemuck::cast_slice(layout.table))?;
            }
            let (start, end) = (slab.rows.start as usize, slab.rows.end as usize);
            let mut first = 0;
            for (i, part) in parts.iter().enumerate() {
                let last = first + part.len() / row_bytes;
                assert!(
                    i + 1 == parts.len() || last.is_multiple_of(4),
                    "{label}: part {i} ends at row {last}"
                );
                let mut row = first.max(start);
                while row < last.min(end) {
                    let to = (row + batch).min(last).min(end);
                    let src = (row - first) * row_bytes..(to - first) * row_bytes;
                    let blocks_before = (row - start) * blocks_per_row;
                    for (p, plane) in repack(shape.ty, &part[src.clone()]).iter().enumerate() {
                        let at = u64::from(slab.planes[p]) * 4 + (blocks_before * layout.planes[p]) as u64;
                        gpu.write(&slice, at, plane)?;
                    }
                    done(i, src);
                    row = to;
                }
                first = last;
            }
            slices.push(slice);
        }
        Ok(Weight { shape, slices })
    }
}

/// The planes of whole blocks, each padded to a multiple of 4 bytes.
pub(crate) fn repack(ty: WeightType, src: &[u8]) -> Vec<Vec<u8>> {
    let layout = ty.layout();
    let blocks = src.len() / layout.bytes;
    let mut planes: Vec<Vec<u8>> =
        layout.planes.iter().map(|&b| vec![0; (blocks * b).next_multiple_of(4)]).collect();
    if layout.planes.len() == 1 {
        planes[0].copy_from_slice(src);
        return planes;
    }
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(8);
    let threads = if cfg!(target_arch = "wasm32") || blocks < 4096 { 1 } else { threads };
    let per = blocks.div_ceil(threads);
    // Hand each thread its own stretch of every plane.
    let mut rest: Vec<&mut [u8]> = planes.iter_mut().map(|p| &mut p[..]).collect();
    let mut jobs = Vec::new();
    for part in src.chunks(per * layout.bytes) {
        let n = part.len() / layout.bytes;
        let mut mine = Vec::with_capacity(rest.len());
        for (r, &b) in rest.iter_mut().zip(layout.planes) {
            let (head, tail) = std::mem::take(r).split_at_mut(n * b);
            mine.push(head);
            *r = tail;
        }
        jobs.push((part, mine));
    }
    let work = |(part, mut mine): (&[u8], Vec<&mut [u8]>)| {
        for block in part.chunks_exact(layout.bytes) {
            let mut out: Vec<&mut [u8]> = Vec::with_capacity(4);
            for (m, &b) in mine.iter_mut().zip(layout.planes) {
                let (head, tail) = std::mem::take(m).split_at_mut(b);
                out.push(head);
                *m = tail;
            }
            (layout.repack)(block, &mut out);
        }
    };
    if jobs.len() == 1 {
        jobs.into_iter().for_each(work);
    } else {
        std::thread::scope(|s| jobs.into_iter().for_each(|j| drop(s.spawn(|| work(j)))));
    }
    planes
}
