//! Uploads of all that a step needs at once: host memory that holds the whole of it, filled while the device computes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::one_line;
use crate::gpu::Gpu;
use crate::slice::Block;
use crate::{Error, Pool, Result, Slice};

/// Host memory that threads fill and the device then copies from in one submit. Where [`Staging`](crate::Staging) waits
/// for the device as soon as its two halves are full, which stand behind all that was submitted before, this holds
/// everything until it is sent. It counts as [`Pool::Staging`].
pub struct Transfer {
    gpu: Gpu,
    blocks: Vec<Arc<Block>>,
    /// The submit that copies from it, where one was made.
    sent: Option<wgpu::SubmissionIndex>,
    /// How many blocks are mapped again since then.
    mapped: Arc<AtomicUsize>,
}

/// Bytes of a transfer, and where they go.
#[derive(Debug, Clone)]
pub struct Moved {
    /// The block, and where in it they begin: a multiple of 4.
    pub from: (usize, u64),
    /// How many: a multiple of 4.
    pub bytes: u64,
    /// Where they go,
    pub to: Slice,
    /// and at which offset there.
    pub at: u64,
}

impl Gpu {
    /// Host memory in blocks of these sizes, multiples of 8.
    ///
    /// # Errors
    /// Out of memory; a fault of the device.
    pub fn transfer(&self, blocks: &[u64]) -> Result<Transfer> {
        let block = |&size: &u64| {
            let label = "weights on their way";
            let descriptor = wgpu::BufferDescriptor {
                label: Some(label),
                size,
                usage: wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: true,
            };
            let error = |message, oom| match oom {
                true => {
                    let (pool, label) = (Pool::Staging, label.to_owned());
                    Error::OutOfMemory { pool, label, requested: size, in_use: 0 }
                }
                false => Error::Gpu(message),
            };
            let buffer = self.creating(|| self.0.device.create_buffer(&descriptor), error)?;
            let block = Arc::new(Block { buffer, size, pool: Pool::Staging, texels: None });
            self.0.pools.lock().unwrap().blocks.push((Arc::downgrade(&block), size));
            Ok(block)
        };
        let blocks = blocks.iter().map(block).collect::<Result<Vec<_>>>()?;
        Ok(Transfer { gpu: self.clone(), blocks, sent: None, mapped: Arc::default() })
    }
}

impl Transfer {
    /// Waits until the device has copied what was sent, so that it can be filled again.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn ready(&mut self) -> Result<()> {
        if let Some(index) = self.sent.take() {
            // Another thread's wait may have found the copy done and be about to tell.
            while self.mapped.load(Ordering::Acquire) < self.blocks.len() {
                self.gpu.wait(Some(index.clone()))?;
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    /// Writes bytes, a multiple of 4, into a block at a multiple of 8. Any threads do, each elsewhere, behind
    /// [`Transfer::ready`].
    ///
    /// # Errors
    /// A fault of the device.
    ///
    /// # Panics
    /// Past the end of the block.
    pub fn write(&self, (block, at): (usize, u64), bytes: &[u8]) -> Result<()> {
        let range = at..at + bytes.len() as u64;
        let view = self.blocks[block].buffer.slice(range).get_mapped_range_mut();
        let mut view = view.map_err(|e| Error::Gpu(one_line(&e.to_string())))?;
        view.slice(..).copy_from_slice(bytes);
        Ok(())
    }

    /// Has the device copy these, behind all that was submitted before and ahead of all that comes.
    ///
    /// # Errors
    /// A fault of the device.
    ///
    /// # Panics
    /// Past the end of where they go.
    pub fn send(&mut self, all: &[Moved]) -> Result<()> {
        let mut encoder = self.gpu.0.device.create_command_encoder(&Default::default());
        for Moved { from: (block, from), bytes, to, at } in all {
            assert!(at + bytes <= to.size(), "write past the end of {}", to.size());
            let buffer = &self.blocks[*block].buffer;
            encoder.copy_buffer_to_buffer(buffer, *from, to.buffer(), to.offset() + at, *bytes);
        }
        self.blocks.iter().for_each(|b| b.buffer.unmap());
        self.mapped.store(0, Ordering::Release);
        let index = self.gpu.submit(encoder);
        for block in &self.blocks {
            let mapped = self.mapped.clone();
            // A failed mapping shows as a fault of the device, for which the wait looks.
            block.buffer.map_async(wgpu::MapMode::Write, .., move |_| {
                mapped.fetch_add(1, Ordering::Release);
            });
        }
        self.sent = Some(index);
        self.gpu.check()
    }
}

#[cfg(test)]
mod tests {
    use super::Moved;
    use crate::{Gpu, Options, Pool};

    #[test]
    fn what_is_sent_arrives_in_order_and_is_counted() {
        let gpu = pollster::block_on(Gpu::open(&Options::default())).expect("a Vulkan adapter");
        let to = gpu.alloc(Pool::State, 64, "there").expect("memory");
        let before = gpu.memory().allocated();
        let mut transfer = gpu.transfer(&[32, 16]).expect("memory");
        assert_eq!(gpu.memory().pools[&Pool::Staging].allocated, 48);
        for round in 0..3u8 {
            transfer.ready().expect("mapped");
            transfer.write((0, 8), &[round; 12]).expect("written");
            transfer.write((1, 0), &[round + 10; 16]).expect("written");
            let moved = |block, from, bytes, at| Moved { from: (block, from), bytes, to: to.clone(), at };
            transfer.send(&[moved(0, 8, 12, 4), moved(1, 4, 8, 40)]).expect("sent");
            let bytes = gpu.read_vec::<u8>(&to).expect("bytes");
            assert_eq!((&bytes[4..16], &bytes[40..48]), (&[round; 12][..], &[round + 10; 8][..]));
        }
        drop(transfer);
        assert_eq!(gpu.memory().allocated(), before);
    }
}
