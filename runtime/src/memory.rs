//! Memory: few large blocks, sub-allocated, counted by pool, and read back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Poll, Waker};

use crate::gpu::{Gpu, one_line};
use crate::{Error, Result, texels};

/// What a piece of memory is for. Pools never share a block, so that a buffer bound for writing
/// (activations) is never one bound for reading (weights) in the same dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Pool {
    Weights,
    KvCache,
    /// The KV cache of several streams: not `KvCache`, from which prompts are copied to it.
    Streams,
    Activations,
    State,
    Params,
    /// What a training step keeps from its forward pass for its backward pass.
    Kept,
    /// Trained parameters.
    Adapters,
    /// Their gradients and moments.
    Optimiser,
}

impl std::fmt::Display for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Pool::Weights => "weights",
            Pool::KvCache => "KV cache",
            Pool::Streams => "KV cache of streams",
            Pool::Activations => "activations",
            Pool::State => "state",
            Pool::Params => "parameters",
            Pool::Kept => "kept activations",
            Pool::Adapters => "adapters",
            Pool::Optimiser => "optimiser",
        })
    }
}

/// A piece of a buffer. Clones share it; the block is freed with its last slice.
#[derive(Clone, Debug)]
pub struct Slice {
    block: Arc<Block>,
    offset: u64,
    size: u64,
}

#[derive(Debug)]
struct Block {
    buffer: wgpu::Buffer,
    size: u64,
    pool: Pool,
    /// What textures can lie over: weights where [`Caps::texels`](crate::Caps::texels) says so.
    texels: Option<texels::Memory>,
}

impl Slice {
    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The pool it came from.
    pub fn pool(&self) -> Pool {
        self.block.pool
    }

    /// The part of `size` bytes that starts at `offset`.
    ///
    /// # Panics
    /// If it does not lie inside.
    pub fn range(&self, offset: u64, size: u64) -> Slice {
        assert!(
            offset.checked_add(size).is_some_and(|end| end <= self.size),
            "range {offset}+{size} of a slice of {} bytes",
            self.size
        );
        Slice { block: self.block.clone(), offset: self.offset + offset, size }
    }

    /// The stretch from the beginning of this slice to the end of `next`, where that lies behind it in the
    /// same block of memory.
    pub fn joined(&self, next: &Slice) -> Option<Slice> {
        let behind = Arc::ptr_eq(&self.block, &next.block) && next.offset >= self.offset + self.size;
        behind.then(|| Slice {
            block: self.block.clone(),
            offset: self.offset,
            size: next.offset + next.size - self.offset,
        })
    }

    pub(crate) fn buffer(&self) -> &wgpu::Buffer {
        &self.block.buffer
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The texture over it.
    ///
    /// # Errors
    /// None can be made here.
    pub(crate) fn texels(&self, gpu: &Gpu) -> Result<wgpu::TextureView> {
        let memory = self.block.texels.as_ref().ok_or_else(|| Error::Gpu("no texture lies here".into()))?;
        memory.view(&gpu.0.device, self.offset, self.size)
    }
}

/// Bytes held in one pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolReport {
    /// Bytes of GPU buffers.
    pub allocated: u64,
    /// Bytes handed out of them.
    pub used: u64,
}

/// Bytes held, by pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryReport {
    /// Pools that hold anything.
    pub pools: BTreeMap<Pool, PoolReport>,
}

impl MemoryReport {
    /// Bytes of GPU buffers in all pools.
    pub fn allocated(&self) -> u64 {
        self.pools.values().map(|p| p.allocated).sum()
    }
}

#[derive(Default)]
pub(crate) struct Pools {
    blocks: Vec<(Weak<Block>, u64)>,
    expected: BTreeMap<Pool, u64>,
}

/// Blocks are no larger than this, so that one fits what is left of a fragmented heap.
const MAX_BLOCK: u64 = 1 << 30;

impl Gpu {
    /// Announces that `bytes` more will be allocated from `pool`, so that blocks come out large and
    /// the last one exact.
    pub fn reserve(&self, pool: Pool, bytes: u64) {
        *self.0.pools.lock().unwrap().expected.entry(pool).or_default() += bytes;
    }

    /// Takes `size` bytes from `pool`, aligned for binding.
    ///
    /// # Errors
    /// [`Error::BufferTooLarge`] past the largest buffer, [`Error::OutOfMemory`] when the device
    /// has no more.
    pub fn alloc(&self, pool: Pool, size: u64, label: &str) -> Result<Slice> {
        let limit = self.0.budget.max_buffer.min(MAX_BLOCK.max(size));
        let size = size.max(4).next_multiple_of(4);
        let taken = size.next_multiple_of(self.0.budget.align);
        if size > self.0.budget.max_buffer {
            return Err(Error::BufferTooLarge {
                label: label.to_owned(),
                requested: size,
                allowed: self.0.budget.max_buffer,
            });
        }
        let mut pools = self.0.pools.lock().unwrap();
        pools.blocks.retain(|(b, _)| b.strong_count() > 0);
        let expected = pools.expected.entry(pool).or_default();
        let ahead = *expected;
        *expected = expected.saturating_sub(taken);
        for (weak, used) in &mut pools.blocks {
            let Some(block) = weak.upgrade() else { continue };
            if block.pool == pool && *used + size <= block.size {
                let offset = *used;
                *used += taken;
                return Ok(Slice { block, offset, size });
            }
        }
        // A block that cannot hold all that is expected holds as many such pieces as fit, and nothing beside.
        let all = ahead.max(taken);
        let block_size = if all > limit { limit / taken * taken } else { all }.max(size) & !3;
        let in_use = pools.report().pools.get(&pool).map_or(0, |p| p.allocated);
        let descriptor = wgpu::BufferDescriptor {
            label: Some(label),
            size: block_size,
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::UNIFORM
                | wgpu::BufferUsages::COPY_DST
                | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        };
        let full = || Error::OutOfMemory { pool, label: label.to_owned(), requested: block_size, in_use };
        let (buffer, texels) = if pool == Pool::Weights && self.caps().texels {
            let (buffer, memory) = texels::buffer(&self.0.device, &descriptor)?.ok_or_else(full)?;
            (buffer, Some(memory))
        } else {
            let make = || self.0.device.create_buffer(&descriptor);
            (self.creating(make, |message, oom| if oom { full() } else { Error::Gpu(message) })?, None)
        };
        let block = Arc::new(Block { buffer, size: block_size, pool, texels });
        pools.blocks.push((Arc::downgrade(&block), taken));
        Ok(Slice { block, offset: 0, size })
    }

    /// Takes memory for `data` and writes it there.
    ///
    /// # Errors
    /// As [`Gpu::alloc`].
    pub fn alloc_init(&self, pool: Pool, data: &[u8], label: &str) -> Result<Slice> {
        let slice = self.alloc(pool, data.len() as u64, label)?;
        if data.len().is_multiple_of(4) {
            self.write(&slice, 0, data)?;
        } else {
            let mut padded = data.to_vec();
            padded.resize(data.len().next_multiple_of(4), 0);
            self.write(&slice, 0, &padded)?;
        }
        Ok(slice)
    }

    /// Bytes held now, by pool.
    pub fn memory(&self) -> MemoryReport {
        self.0.pools.lock().unwrap().report()
    }
}

impl Pools {
    fn report(&self) -> MemoryReport {
        let mut report = MemoryReport::default();
        for (block, used) in &self.blocks {
            if let Some(block) = block.upgrade() {
                let p = report.pools.entry(block.pool).or_default();
                p.allocated += block.size;
                p.used += used.min(&block.size);
            }
        }
        report
    }
}

#[derive(Default)]
struct Mapped {
    done: Option<std::result::Result<(), String>>,
    waker: Option<Waker>,
}

/// Bytes on their way back from the GPU: a future, or a blocking [`Readback::wait`].
#[must_use]
pub struct Readback {
    gpu: Gpu,
    staging: wgpu::Buffer,
    size: u64,
    mapped: Arc<Mutex<Mapped>>,
    /// The submit that copies: waiting for it leaves later ones running.
    submission: wgpu::SubmissionIndex,
    #[cfg(not(target_arch = "wasm32"))]
    polling: bool,
}

impl Readback {
    /// Records the copy of `slice` into a fresh staging buffer.
    pub(crate) fn copy(gpu: &Gpu, encoder: &mut wgpu::CommandEncoder, slice: &Slice) -> (wgpu::Buffer, u64) {
        let staging = gpu.0.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read back"),
            size: slice.size,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        encoder.copy_buffer_to_buffer(slice.buffer(), slice.offset, &staging, 0, slice.size);
        (staging, slice.size)
    }

    /// Asks for the mapping, after the copy was submitted.
    pub(crate) fn map(
        gpu: &Gpu,
        (staging, size): (wgpu::Buffer, u64),
        submission: wgpu::SubmissionIndex,
    ) -> Readback {
        let mapped = Arc::new(Mutex::new(Mapped::default()));
        let signal = mapped.clone();
        staging.slice(..).map_async(wgpu::MapMode::Read, move |r| {
            let mut m = signal.lock().unwrap();
            m.done = Some(r.map_err(|e| one_line(&e.to_string())));
            if let Some(w) = m.waker.take() {
                w.wake();
            }
        });
        Readback {
            gpu: gpu.clone(),
            staging,
            size,
            mapped,
            submission,
            #[cfg(not(target_arch = "wasm32"))]
            polling: false,
        }
    }

    fn take(&self, result: std::result::Result<(), String>) -> Result<Vec<u8>> {
        self.gpu.check()?;
        result.map_err(Error::Gpu)?;
        let view = self.staging.get_mapped_range(..).map_err(|e| Error::Gpu(one_line(&e.to_string())))?;
        Ok(view[..self.size as usize].to_vec())
    }

    /// Blocks until the bytes are here. Not on the web: await there.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn wait(self) -> Result<Vec<u8>> {
        if cfg!(target_arch = "wasm32") {
            return Err(Error::Gpu("a browser cannot wait: await the read back instead".into()));
        }
        loop {
            if let Some(done) = self.mapped.lock().unwrap().done.take() {
                return self.take(done);
            }
            self.gpu.wait(Some(self.submission.clone()))?;
        }
    }
}

impl Future for Readback {
    type Output = Result<Vec<u8>>;

    #[cfg_attr(target_arch = "wasm32", allow(unused_mut))]
    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let mut mapped = self.mapped.lock().unwrap();
        if let Some(done) = mapped.done.take() {
            drop(mapped);
            return Poll::Ready(self.take(done));
        }
        mapped.waker = Some(cx.waker().clone());
        drop(mapped);
        // In a browser the event loop runs the callback; natively somebody must poll the device.
        #[cfg(not(target_arch = "wasm32"))]
        if !self.polling {
            self.polling = true;
            let (gpu, submission) = (self.gpu.clone(), self.submission.clone());
            std::thread::spawn(move || gpu.wait(Some(submission)));
        }
        Poll::Pending
    }
}

/// `1.5 GiB`, `640 MiB`, `12 KiB`.
pub fn human(bytes: u64) -> String {
    let b = bytes as f64;
    match bytes {
        b if b < 1 << 10 => format!("{b} B"),
        x if x < 1 << 20 => format!("{:.1} KiB", b / 1024.0),
        x if x < 1 << 30 => format!("{:.1} MiB", b / 1_048_576.0),
        _ => format!("{:.2} GiB", b / 1_073_741_824.0),
    }
}
