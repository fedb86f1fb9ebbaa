//! Weights of layers that come from the file each time they are needed.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weft_formats::gguf::{File, TensorInfo};
use weft_kernels::{Cut, Weight};
use weft_runtime::{Gpu, Moved, Pool, Slice, Transfer};

use super::layout::Stack;
use super::ring::{Place, Ring};
use crate::Result;

/// Threads that read and repack at most.
#[cfg(not(target_arch = "wasm32"))]
const THREADS: usize = 16;

/// The layers of a model that take turns in a slot of GPU memory.
pub(crate) struct Stream {
    file: Arc<File>,
    layers: Vec<Load>,
    turn: Mutex<Turn>,
}

/// What is where.
struct Turn {
    transfer: Transfer,
    /// The layer that the slot holds when all is done that was submitted.
    slot: Option<u32>,
    /// The layer that host memory holds.
    staged: Option<u32>,
}

/// What bringing a layer takes.
#[derive(Default)]
struct Load {
    jobs: Vec<Job>,
    /// Code books, and where they lie in host memory.
    tables: Vec<(&'static [u32], Place)>,
    moved: Vec<Moved>,
}

/// Rows of a tensor that are repacked at a time.
struct Job {
    cut: Cut,
    tensor: Arc<TensorInfo>,
    range: Range<usize>,
    to: Place,
}

/// The slot, whose matrices are handed out layer by layer, and what fills it.
pub(crate) struct Slots {
    ring: Ring,
    slot: Vec<Slice>,
    layers: Vec<Load>,
    transfer: Transfer,
}

impl Slots {
    /// Takes the memory.
    ///
    /// # Errors
    /// Out of memory; a fault of the device.
    pub(super) fn new(gpu: &Gpu, ring: Ring) -> Result<Slots> {
        let block = |&bytes: &u64| gpu.alloc(Pool::Weights, bytes, "a layer of weights");
        let slot = ring.slot.iter().map(block).collect::<std::result::Result<_, _>>()?;
        let transfer = gpu.transfer(&ring.staging)?;
        Ok(Slots { ring, slot, layers: Vec::new(), transfer })
    }

    /// The matrices of the next layer, whose stacks these are.
    pub(super) fn layer(&mut self, stacks: &[Vec<Stack>; 4]) -> [Vec<Weight>; 4] {
        let turn = &self.ring.layers[self.layers.len()];
        let (mut load, mut turned) = (Load::default(), turn.stacks.iter());
        let weights = stacks.each_ref().map(|group| {
            let weight = |stack: &Stack| {
                let (shape, turned) = (&stack.shape, turned.next().expect("laid out from the same stacks"));
                let slab = |(&(block, at), slab): (&Place, &weft_kernels::Slab)| {
                    self.slot[block].range(at, slab.bytes)
                };
                let slices: Vec<Slice> = turned.slabs.iter().zip(&shape.slabs).map(slab).collect();
                let table = shape.ty.layout().table;
                for (&place, to) in turned.tables.iter().zip(&slices) {
                    load.tables.push((table, place));
                    let bytes = table.len() as u64 * 4;
                    load.moved.push(Moved { from: place, bytes, to: to.clone(), at: 0 });
                }
                for (cut, to) in &turned.cuts {
                    for (begin, bytes, at) in cut.planes() {
                        let (from, bytes) = ((to.0, to.1 + begin as u64), bytes as u64);
                        load.moved.push(Moved { from, bytes, to: slices[cut.slab].clone(), at });
                    }
                    let (tensor, part) = &turned.parts[cut.part.0];
                    let range = part.start + cut.part.1.start..part.start + cut.part.1.end;
                    load.jobs.push(Job { cut: cut.clone(), tensor: tensor.clone(), range, to: *to });
                }
                Weight { shape: shape.clone(), slices }
            };
            group.iter().map(weight).collect()
        });
        self.layers.push(load);
        weights
    }

    /// What brings the layers.
    pub(crate) fn stream(self, file: Arc<File>) -> Stream {
        let turn = Turn { transfer: self.transfer, slot: None, staged: None };
        Stream { file, layers: self.layers, turn: Mutex::new(turn) }
    }
}

impl Stream {
    /// Each tensor that is streamed, with its first bytes, `most` of them.
    pub(crate) fn beginnings(&self, most: usize) -> impl Iterator<Item = (&TensorInfo, &[u8])> {
        let first = self.layers.iter().flat_map(|l| &l.jobs).filter(|j| j.range.start == 0);
        first.map(move |j| (&*j.tensor, &self.file.bytes(&j.tensor)[..most.min(j.range.end)]))
    }

    /// It is held for as long as nobody else may change what the slot holds.
    pub(crate) fn hold(&self) -> Held<'_> {
        Held { stream: self, turn: self.turn.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

/// The slot, while one thread decides what it holds.
pub(crate) struct Held<'a> {
    stream: &'a Stream,
    turn: MutexGuard<'a, Turn>,
}

impl Held<'_> {
    /// Has the slot hold a layer for what is submitted from now on.
    ///
    /// # Errors
    /// A fault of the device.
    pub(crate) fn need(&mut self, layer: u32) -> Result<()> {
        if self.turn.slot == Some(layer) {
            return Ok(());
        }
        self.ahead(layer)?;
        let turn = &mut *self.turn;
        (turn.slot, turn.staged) = (None, None);
        turn.transfer.send(&self.stream.layers[layer as usize].moved)?;
        turn.slot = Some(layer);
        Ok(())
    }

    /// Reads and repacks a layer that is needed next, while the device computes. Returns when it is in host memory.
    ///
    /// # Errors
    /// A fault of the device.
    pub(crate) fn ahead(&mut self, layer: u32) -> Result<()> {
        let turn = &mut *self.turn;
        if turn.slot == Some(layer) || turn.staged == Some(layer) {
            return Ok(());
        }
        turn.staged = None;
        turn.transfer.ready()?;
        let load = &self.stream.layers[layer as usize];
        for &(table, place) in &load.tables {
            turn.transfer.write(place, bytemuck::cast_slice(table))?;
        }
        fill(&self.stream.file, &load.jobs, &turn.transfer)?;
        turn.staged = Some(layer);
        Ok(())
    }

    /// As [`Held::ahead`], of the first of these layers that the slot does not hold.
    ///
    /// # Errors
    /// A fault of the device.
    pub(crate) fn ahead_of(&mut self, mut layers: impl Iterator<Item = u32>) -> Result<()> {
        let slot = self.turn.slot;
        layers.find(|&l| slot != Some(l)).map_or(Ok(()), |layer| self.ahead(layer))
    }
}

/// Repacks jobs until none is left.
fn work(file: &File, jobs: &[Job], next: &AtomicUsize, transfer: &Transfer) -> Result<()> {
    let mut space = Vec::new();
    while let Some(Job { cut, tensor, range, to }) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
        cut.repack(&file.bytes(tensor)[range.clone()], &mut space);
        file.release_part(tensor, range.clone());
        transfer.write(*to, &space)?;
    }
    Ok(())
}

#[cfg(not(target_arch = "wasm32"))]
fn fill(file: &File, jobs: &[Job], transfer: &Transfer) -> Result<()> {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(THREADS).min(jobs.len());
    std::thread::scope(|scope| {
        let spawn = |_| scope.spawn(|| work(file, jobs, &next, transfer));
        let all: Vec<_> = (0..threads).map(spawn).collect();
        let join = |t: std::thread::ScopedJoinHandle<'_, Result<()>>| {
            t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        all.into_iter().try_for_each(join)
    })
}

/// In a browser, where opening refuses to stream.
#[cfg(target_arch = "wasm32")]
fn fill(file: &File, jobs: &[Job], transfer: &Transfer) -> Result<()> {
    work(file, jobs, &AtomicUsize::new(0), transfer)
}
