//! Weights on the GPU: a matrix cut by rows into slabs that each fit a binding, each slab holding the
//! code book of its type, if it has one, and then its planes one after the other.

use std::ops::{ControlFlow, Range};

use weft_runtime::{Budget, Gpu, Pool, Slice, Staging};

use crate::{Layout, PlanError, Result, WeightType};

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
        Self::cut(ty, [rows, cols], ("a row", 1), budget)
    }

    /// Cuts matrices `[experts, rows, cols]`, which become one of `experts * rows` rows, between experts alone.
    ///
    /// # Errors
    /// As [`WeightShape::new`]; [`PlanError::DoesNotFit`] where one expert exceeds a binding.
    pub fn experts(
        ty: WeightType,
        [experts, rows, cols]: [u32; 3],
        budget: &Budget,
    ) -> std::result::Result<Self, PlanError> {
        Self::cut(ty, [experts * rows, cols], ("an expert", rows), budget)
    }

    /// Cuts a matrix between runs of `unit` rows, which errors call `what`.
    fn cut(
        ty: WeightType,
        [rows, cols]: [u32; 2],
        (what, unit): (&'static str, u32),
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
        let unit_bytes = row_bytes * u64::from(unit);
        let units = rows / unit;
        let per = ((budget.max_binding.saturating_sub(fixed)) / unit_bytes).min(u64::from(units)) as u32;
        if per == 0 {
            return Err(PlanError::DoesNotFit {
                op: "weight",
                what,
                needed: unit_bytes + fixed,
                allowed: budget.max_binding,
            });
        }
        // Even slabs rather than a full one and a remainder; multiples of 4 rows where they fit.
        let count = units.div_ceil(per);
        let even = units.div_ceil(count);
        let per = if unit == 1 && even.next_multiple_of(4) <= per { even.next_multiple_of(4) } else { even };
        let per = per * unit;
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

    /// Cuts parts of these sizes (tensors as their file has them, whose rows follow each other) into what is repacked at a
    /// time.
    ///
    /// # Panics
    /// If the parts are not the size of the matrix, or one but the last has rows that are no multiple
    /// of 4.
    pub fn cuts(&self, parts: &[usize]) -> Vec<Cut> {
        let layout = self.ty.layout();
        let row_bytes = self.ty.row_bytes(self.cols as usize);
        let blocks_per_row = self.cols as usize / layout.block;
        let rows: usize = parts.iter().map(|p| p / row_bytes).sum();
        assert_eq!(rows, self.rows as usize, "rows of {}", self.ty);
        // Batches of 16 rows, and parts of 4, keep every plane's write a multiple of 4 bytes.
        let batch = (BATCH / row_bytes / 16 * 16).max(16);
        let mut cuts = Vec::new();
        for (n, slab) in self.slabs.iter().enumerate() {
            let (start, end) = (slab.rows.start as usize, slab.rows.end as usize);
            let mut first = 0;
            for (i, part) in parts.iter().enumerate() {
                let last = first + part / row_bytes;
                assert!(i + 1 == parts.len() || last.is_multiple_of(4), "part {i} ends at row {last}");
                let mut row = first.max(start);
                while row < last.min(end) {
                    let to = (row + batch).min(last).min(end);
                    let range = (row - first) * row_bytes..(to - first) * row_bytes;
                    let before = (row - start) * blocks_per_row;
                    let mut at = slab.planes.map(|word| u64::from(word) * 4);
                    for (at, bytes) in at.iter_mut().zip(layout.planes) {
                        *at += (before * bytes) as u64;
                    }
                    cuts.push(Cut { ty: self.ty, part: (i, range), slab: n, at });
                    row = to;
                }
                first = last;
            }
        }
        cuts
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

/// File bytes repacked at a time.
const BATCH: usize = 2 << 20;

/// Threads that repack: each has two buffers of host memory.
#[cfg(not(target_arch = "wasm32"))]
const THREADS: usize = 16;

/// Rows of a file that go to the GPU at a time, without their bytes.
#[derive(Debug, Clone)]
pub struct Cut {
    ty: WeightType,
    /// Which tensor of those that make up the matrix, and the bytes of it.
    pub part: (usize, Range<usize>),
    /// The slab that they go to.
    pub slab: usize,
    /// Where each plane's bytes go.
    at: [u64; 4],
}

/// Rows of a file that go to the GPU at a time.
#[derive(Debug, Clone)]
pub struct Piece<'a> {
    /// Which these are.
    pub cut: Cut,
    to: Slice,
    bytes: &'a [u8],
}

impl Weight {
    /// GPU memory for a matrix, empty but for its code book.
    ///
    /// # Errors
    /// Out of memory; a fault of the device.
    pub fn alloc(gpu: &Gpu, shape: WeightShape, label: &str) -> Result<Weight> {
        let table = shape.ty.layout().table;
        let slab = |slab: &Slab| {
            let slice = gpu.alloc(Pool::Weights, slab.bytes, label)?;
            if !table.is_empty() {
                gpu.write(&slice, 0, bytemuck::cast_slice(table))?;
            }
            Ok(slice)
        };
        let slices = shape.slabs.iter().map(slab).collect::<Result<_>>()?;
        Ok(Weight { shape, slices })
    }

    /// The slab of this matrix and the next one, each of one slab, where they lie next to each other in memory; and the
    /// planes of the next one in it.
    pub(crate) fn joined(&self, next: &Weight) -> Option<(Slice, [u32; 4])> {
        let slab = self.slices[0].joined(&next.slices[0])?;
        let behind = ((slab.size() - next.slices[0].size()) / 4) as u32;
        Some((slab, next.shape.slabs[0].planes.map(|p| p + behind)))
    }

    /// Cuts `parts` (tensors as their file has them, whose rows follow each other) into what [`fill`] takes.
    ///
    /// # Panics
    /// If the parts are not the size of the matrix, or one but the last has rows that are no multiple
    /// of 4.
    pub fn pieces<'a>(&self, parts: &[&'a [u8]]) -> Vec<Piece<'a>> {
        let sizes: Vec<usize> = parts.iter().map(|p| p.len()).collect();
        let piece = |cut: Cut| {
            let (bytes, to) = (&parts[cut.part.0][cut.part.1.clone()], self.slices[cut.slab].clone());
            Piece { cut, to, bytes }
        };
        self.shape.cuts(&sizes).into_iter().map(piece).collect()
    }

    /// Repacks `parts` into new GPU memory, as [`Weight::alloc`], [`Weight::pieces`] and [`fill`].
    ///
    /// # Errors
    /// Out of memory; a fault of the device.
    ///
    /// # Panics
    /// As [`Weight::pieces`].
    pub fn upload(gpu: &Gpu, shape: WeightShape, parts: &[&[u8]], label: &str) -> Result<Weight> {
        let weight = Weight::alloc(gpu, shape, label)?;
        let _ = fill(gpu, &weight.pieces(parts), &mut |_| ControlFlow::Continue(()))?;
        Ok(weight)
    }
}

/// Repacks pieces into GPU memory, calling `done` with each that is no longer needed; `Break` ends it early,
/// which shows in the result. By several threads where there are, in no certain order.
///
/// # Errors
/// Out of memory; a fault of the device.
pub fn fill(
    gpu: &Gpu,
    pieces: &[Piece<'_>],
    done: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    let most = pieces.iter().map(Piece::bytes).max().unwrap_or(0);
    #[cfg(not(target_arch = "wasm32"))]
    if pieces.len() > 1 {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        let flow = threaded(gpu, pieces, most, threads.min(THREADS).min(pieces.len()), done)?;
        // Frees the staging memory.
        gpu.flush()?;
        return Ok(flow);
    }
    here(gpu, pieces, most, done)
}

fn here(
    gpu: &Gpu,
    pieces: &[Piece<'_>],
    most: usize,
    done: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    let mut feed = Feed::new(gpu, most);
    for (i, piece) in pieces.iter().enumerate() {
        feed.put(&piece.cut, &piece.to, piece.bytes)?;
        if done(i).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

#[cfg(not(target_arch = "wasm32"))]
fn threaded(
    gpu: &Gpu,
    pieces: &[Piece<'_>],
    most: usize,
    threads: usize,
    done: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    // The next piece that nobody has; past the end after a failure or a `Break`.
    let next = AtomicUsize::new(0);
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || {
                let mut feed = Feed::new(gpu, most);
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(piece) = pieces.get(i) else { break };
                    let result = feed.put(&piece.cut, &piece.to, piece.bytes).map(|()| i);
                    if send.send(result).is_err() {
                        break;
                    }
                }
            });
        }
        drop(send);
        let mut flow = Ok(ControlFlow::Continue(()));
        for result in receive {
            if !matches!(flow, Ok(ControlFlow::Continue(()))) {
                continue;
            }
            flow = result.map(&mut *done);
            if !matches!(flow, Ok(ControlFlow::Continue(()))) {
                next.store(pieces.len(), Ordering::Relaxed);
            }
        }
        flow
    })
}

impl Piece<'_> {
    /// Bytes of its planes, each padded to a multiple of 4.
    fn bytes(&self) -> usize {
        self.cut.bytes()
    }
}

impl Cut {
    /// Bytes of its planes, each padded to a multiple of 4.
    pub fn bytes(&self) -> usize {
        self.sizes().map(|(_, bytes)| bytes).sum()
    }

    /// Each plane of what [`Cut::repack`] gives: where it begins there, its length, and where it goes in the slab.
    pub fn planes(&self) -> impl Iterator<Item = (usize, usize, u64)> {
        self.sizes().zip(self.at).scan(0, |begin, ((_, bytes), at)| {
            *begin += bytes;
            Some((*begin - bytes, bytes, at))
        })
    }

    /// The planes of the bytes of the cut, one after the other, in `space`.
    ///
    /// # Panics
    /// If the bytes are not as many as the cut has.
    pub fn repack(&self, bytes: &[u8], space: &mut Vec<u8>) {
        assert_eq!(bytes.len(), self.part.1.len(), "bytes of a cut");
        space.resize(self.bytes(), 0);
        let mut rest = &mut space[..];
        let mut planes: [&mut [u8]; 4] = Default::default();
        for (plane, (_, bytes)) in planes.iter_mut().zip(self.sizes()) {
            (*plane, rest) = std::mem::take(&mut rest).split_at_mut(bytes);
        }
        repack(self.ty.layout(), bytes, &mut planes);
    }

    /// Bytes of a block and of the piece in each plane, those padded to a multiple of 4.
    fn sizes(&self) -> impl Iterator<Item = (usize, usize)> {
        let layout = self.ty.layout();
        let blocks = self.part.1.len() / layout.bytes;
        layout.planes.iter().map(move |&b| (b, (blocks * b).next_multiple_of(4)))
    }
}

/// Host memory through which one thread repacks weights.
pub struct Feed {
    staging: Staging,
    space: Vec<u8>,
}

impl Feed {
    /// For cuts of at most so many bytes ([`Cut::bytes`]).
    pub fn new(gpu: &Gpu, most: usize) -> Feed {
        Feed { staging: gpu.staging(most as u64), space: Vec::new() }
    }

    /// Repacks the bytes of `cut` and sends them off to its slab.
    ///
    /// # Errors
    /// Out of memory; a fault of the device.
    ///
    /// # Panics
    /// If they are not as many as the cut has.
    pub fn put(&mut self, cut: &Cut, to: &Slice, bytes: &[u8]) -> Result<()> {
        let layout = cut.ty.layout();
        if layout.planes == [layout.bytes] && bytes.len().is_multiple_of(4) {
            assert_eq!(bytes.len(), cut.part.1.len(), "bytes of a cut");
            return Ok(self.staging.put(&[(bytes, to, cut.at[0])])?);
        }
        cut.repack(bytes, &mut self.space);
        let planes = cut.planes().map(|(begin, bytes, at)| (&self.space[begin..][..bytes], to, at));
        Ok(self.staging.put(&planes.collect::<Vec<_>>())?)
    }
}

/// The planes of whole blocks in memory of their own, each padded to a multiple of 4 bytes.
pub(crate) fn planes(ty: WeightType, from: &[u8]) -> Vec<Vec<u8>> {
    let layout = ty.layout();
    let blocks = from.len() / layout.bytes;
    let empty = |bytes: &usize| vec![0; (blocks * bytes).next_multiple_of(4)];
    let mut all: Vec<Vec<u8>> = layout.planes.iter().map(empty).collect();
    let mut planes: [&mut [u8]; 4] = Default::default();
    for (plane, space) in planes.iter_mut().zip(&mut all) {
        *plane = space;
    }
    repack(layout, from, &mut planes);
    all
}

/// The planes of whole blocks.
fn repack(layout: &Layout, from: &[u8], planes: &mut [&mut [u8]; 4]) {
    if layout.planes == [layout.bytes] {
        planes[0][..from.len()].copy_from_slice(from);
        return;
    }
    for (i, block) in from.chunks_exact(layout.bytes).enumerate() {
        let mut out: [&mut [u8]; 4] = Default::default();
        for ((out, plane), bytes) in out.iter_mut().zip(&mut *planes).zip(layout.planes) {
            *out = &mut plane[i * bytes..][..*bytes];
        }
        (layout.repack)(block, &mut out);
    }
}
