//! The KV cache: how it stores values and how it is cut.

use std::ops::Range;

use crate::{Budget, PlanError};

const MAX_HEAD: u32 = 256;

/// How the cache stores a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[allow(missing_docs)]
pub enum CacheType {
    F32,
    #[default]
    F16,
}

impl CacheType {
    /// All of them.
    pub const ALL: [CacheType; 2] = [CacheType::F32, CacheType::F16];

    /// The name used on the command line.
    pub fn name(self) -> &'static str {
        match self {
            CacheType::F32 => "f32",
            CacheType::F16 => "f16",
        }
    }

    /// The type called `name`.
    pub fn parse(name: &str) -> Option<CacheType> {
        CacheType::ALL.into_iter().find(|t| t.name() == name)
    }

    /// Bytes of `values` values.
    pub fn bytes(self, values: u64) -> u64 {
        match self {
            CacheType::F32 => 4 * values,
            CacheType::F16 => 2 * values,
        }
    }
}

/// A layer's cache: `[positions, kv_heads, head_dim]`, for keys and for values, cut by positions
/// into chunks that each fit a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheShape {
    /// How values are stored.
    pub ty: CacheType,
    /// Positions in all.
    pub context: u32,
    /// KV heads.
    pub kv_heads: u32,
    /// Size of a head.
    pub head_dim: u32,
    /// Positions of a chunk (the last may have fewer).
    pub per_chunk: u32,
}

impl CacheShape {
    /// Cuts a cache for `budget`.
    ///
    /// # Errors
    /// A head size the kernel does not take, or a position that exceeds a binding.
    pub fn new(
        ty: CacheType,
        context: u32,
        kv_heads: u32,
        head_dim: u32,
        budget: &Budget,
    ) -> std::result::Result<CacheShape, PlanError> {
        if head_dim == 0 || !head_dim.is_multiple_of(8) || head_dim > MAX_HEAD {
            let what = format!("head size {head_dim} (multiples of 8 up to {MAX_HEAD} are supported)");
            return Err(PlanError::Shape { op: "attention", what });
        }
        let row = ty.bytes(u64::from(kv_heads) * u64::from(head_dim));
        let fits = (budget.max_binding / row).min(u64::from(u32::MAX)) as u32;
        if fits == 0 {
            return Err(PlanError::DoesNotFit {
                op: "attention",
                what: "a position of the cache",
                needed: row,
                allowed: budget.max_binding,
            });
        }
        let chunks = context.div_ceil(fits).max(1);
        Ok(CacheShape { ty, context, kv_heads, head_dim, per_chunk: context.div_ceil(chunks) })
    }

    /// Number of chunks.
    pub fn chunks(&self) -> usize {
        self.context.div_ceil(self.per_chunk) as usize
    }

    /// Positions of chunk `i`.
    pub fn chunk(&self, i: usize) -> Range<u32> {
        let start = i as u32 * self.per_chunk;
        start..(start + self.per_chunk).min(self.context)
    }

    /// Bytes of a layer's cache on the GPU: keys and values of all chunks, each aligned for binding.
    pub fn bytes(&self, budget: &Budget) -> u64 {
        (0..self.chunks()).map(|i| 2 * self.chunk_bytes(i).next_multiple_of(budget.align)).sum()
    }

    /// Bytes of chunk `i` of the keys, and of the values.
    pub fn chunk_bytes(&self, i: usize) -> u64 {
        let r = self.chunk(i);
        self.ty.bytes(u64::from(r.end - r.start) * u64::from(self.kv_heads) * u64::from(self.head_dim))
    }
}
