//! Slices of blocks, and what the pools hold.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use crate::pool::Pool;
use crate::{Error, Result, texels};

/// A piece of a buffer. Clones share it; the block is freed with its last slice.
#[derive(Clone, Debug)]
pub struct Slice {
    pub(crate) block: Arc<Block>,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) buffer: wgpu::Buffer,
    pub(crate) size: u64,
    pub(crate) pool: Pool,
    /// What textures can lie over: weights where [`Caps::texels`](crate::Caps::texels) says so.
    pub(crate) texels: Option<texels::Memory>,
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
    pub(crate) fn texels(&self, device: &wgpu::Device) -> Result<wgpu::TextureView> {
        let memory = self.block.texels.as_ref().ok_or_else(|| Error::Gpu("no texture lies here".into()))?;
        memory.view(device, self.offset, self.size)
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
    pub(crate) blocks: Vec<(Weak<Block>, u64)>,
    pub(crate) expected: BTreeMap<Pool, u64>,
}

impl Pools {
    pub(crate) fn report(&self) -> MemoryReport {
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
