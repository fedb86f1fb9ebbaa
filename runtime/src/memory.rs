//! Memory: few large blocks, sub-allocated, counted by pool.

use std::sync::Arc;

use crate::gpu::Gpu;
use crate::pool::Pool;
use crate::slice::{Block, MemoryReport, Slice};
use crate::{Error, Result, texels};

/// Blocks are no larger than this, so that one fits what is left of a fragmented heap.
const MAX_BLOCK: u64 = 1 << 30;

/// Bytes of a new block for a piece of `size` bytes, of which alignment takes `taken`, where `expected` bytes are
/// still to come, this piece among them: a block that cannot hold all of them holds as many such pieces as fit, and
/// nothing beside.
fn block_size(expected: u64, (size, taken): (u64, u64), limit: u64) -> u64 {
    let all = expected.max(taken);
    if all > limit { limit / taken * taken } else { all }.max(size) & !3
}

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
        let limit = self.budget().max_buffer.min(MAX_BLOCK.max(size));
        let size = size.max(4).next_multiple_of(4);
        let taken = size.next_multiple_of(self.budget().align);
        if size > self.budget().max_buffer {
            return Err(Error::BufferTooLarge {
                label: label.to_owned(),
                requested: size,
                allowed: self.budget().max_buffer,
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
        let block_size = block_size(ahead, (size, taken), limit);
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

    /// Takes a piece of each of these sizes. Neighbours of one size share blocks that are filled to the end, so that no
    /// more is taken than the pieces have. Reserved at once, the last block of one size would have room left that the
    /// next size does not fill.
    ///
    /// # Errors
    /// As [`Gpu::alloc`].
    pub fn alloc_all(&self, pool: Pool, sizes: &[u64], label: &str) -> Result<Vec<Slice>> {
        let mut all = Vec::with_capacity(sizes.len());
        for alike in sizes.chunk_by(|a, b| a == b) {
            let taken = |size: &u64| size.next_multiple_of(self.budget().align);
            self.reserve(pool, alike.iter().map(taken).sum());
            for &size in alike {
                all.push(self.alloc(pool, size, label)?);
            }
        }
        Ok(all)
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

#[cfg(test)]
mod tests {
    use super::block_size;
    use crate::{Budget, Error, Gpu, Options, Pool};

    fn gpu(budget: Budget) -> Gpu {
        let options = Options { budget: Some(budget), ..Options::default() };
        pollster::block_on(Gpu::open(&options)).expect("a Vulkan adapter")
    }

    #[test]
    fn blocks_hold_what_is_expected_or_whole_pieces() {
        // Nothing is expected: the piece alone.
        assert_eq!(block_size(0, (1000, 1024), 1 << 20), 1024);
        assert_eq!(block_size(10 * 1024, (1000, 1024), 1 << 20), 10 * 1024);
        // More than a block may be: as many pieces as fit, never less than the piece.
        assert_eq!(block_size(1 << 30, (3000, 3072), 10_000), 3 * 3072);
        assert_eq!(block_size(1 << 30, (10_000, 10_240), 10_000), 10_000);
    }

    #[test]
    fn what_was_reserved_lies_in_one_block() {
        let gpu = gpu(Budget::WEBGPU);
        gpu.reserve(Pool::State, 4 * 1024);
        let all: Vec<_> = (0..4).map(|_| gpu.alloc(Pool::State, 1000, "piece").expect("memory")).collect();
        assert!(all.windows(2).all(|p| p[0].joined(&p[1]).is_some()), "one after the other");
        let report = gpu.memory().pools[&Pool::State];
        assert_eq!((report.allocated, report.used), (4096, 4096));
        // The next one was not expected, and takes a block of its own.
        let more = gpu.alloc(Pool::State, 8, "more").expect("memory");
        assert!(all[3].joined(&more).is_none());
        assert!(gpu.memory().pools[&Pool::State].allocated > 4096);
        // Pools share no block, and a block goes with its last slice.
        let other = gpu.alloc(Pool::Activations, 8, "other").expect("memory");
        assert_eq!(other.pool(), Pool::Activations);
        drop((all, more));
        assert!(!gpu.memory().pools.contains_key(&Pool::State));
        assert_eq!(gpu.memory().allocated(), gpu.memory().pools[&Pool::Activations].allocated);
    }

    #[test]
    fn pieces_of_several_sizes_leave_no_gaps() {
        let gpu = gpu(Budget { max_buffer: 20 << 10, ..Budget::WEBGPU });
        let sizes = [7 << 10, 7 << 10, 7 << 10, 5 << 10, 5 << 10, 5 << 10, 5 << 10, 5 << 10, 256];
        let all = gpu.alloc_all(Pool::Kept, &sizes, "pieces").expect("memory");
        assert!(all.iter().map(|s| s.size()).eq(sizes));
        let report = gpu.memory().pools[&Pool::Kept];
        assert_eq!((report.allocated, report.used), (sizes.iter().sum(), sizes.iter().sum()));
    }

    #[test]
    fn what_no_buffer_holds_is_refused_by_name() {
        let gpu = gpu(Budget { max_buffer: 4096, ..Budget::WEBGPU });
        match gpu.alloc(Pool::Weights, 4100, "a matrix") {
            Err(Error::BufferTooLarge { label, requested, allowed }) => {
                assert_eq!((&label[..], requested, allowed), ("a matrix", 4100, 4096));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ranges_and_uploads_of_odd_lengths() {
        let gpu = gpu(Budget::WEBGPU);
        let bytes: Vec<u8> = (0..37).collect();
        let slice = gpu.alloc_init(Pool::State, &bytes, "bytes").expect("memory");
        let back = gpu.read_vec::<u8>(&slice).expect("bytes");
        assert_eq!((&back[..37], back.len()), (&bytes[..], 40));
        assert_eq!(gpu.read_vec::<u8>(&slice.range(8, 4)).expect("bytes"), [8, 9, 10, 11]);
        let past = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| slice.range(8, 40)));
        assert!(past.is_err(), "past the end");
    }
}
