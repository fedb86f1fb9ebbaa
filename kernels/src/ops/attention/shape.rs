//! What an attention computes, and the memory of its splits.

use weft_runtime::Slice;

use crate::layout::{CacheShape, Sequences};

/// Which keys of its own sequence a token of a batch of packed sequences sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mask {
    /// Its own and those before it.
    Causal {
        /// Only the last so many, its own among them; 0 for all.
        window: u32,
    },
    /// Those before and behind it.
    Full {
        /// Only those at most so many tokens away; 0 for all.
        window: u32,
    },
}

impl Mask {
    /// Its window, or 0.
    pub(crate) fn window(self) -> u32 {
        match self {
            Mask::Causal { window } | Mask::Full { window } => window,
        }
    }
}

/// What an attention computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Tokens of the batch.
    pub tokens: u32,
    /// Query heads.
    pub heads: u32,
    /// Sliding window in positions; 0 for none.
    pub window: u32,
    /// Scale of the scores, usually 1 / sqrt(head_dim).
    pub scale: f32,
    /// Splits of each chunk, so that a long cache keeps a whole GPU busy with one token.
    pub splits: u32,
    /// Whose the tokens are.
    pub sequences: Sequences,
}

impl Shape {
    /// Query rows of a workgroup: as few as a decode step has, as many as workgroup memory takes.
    pub fn tile(&self, cache: &CacheShape) -> u32 {
        match self.sequences.together(self.tokens) * (self.heads / cache.kv_heads) {
            0..=4 => 4,
            5..=8 if cache.q_row() <= 256 => 8,
            _ if cache.q_row() > 256 => 4,
            _ if cache.q_row() > 128 => 8,
            _ => 16,
        }
    }

    /// Bytes of scratch for the splits' values, and for the log-sum-exp of each split and row; 8 where
    /// there is nothing to keep.
    pub fn scratch_bytes(&self, cache: &CacheShape) -> (u64, u64) {
        let heads = u64::from(self.splits) * u64::from(self.tokens) * u64::from(self.heads);
        (
            if self.splits == 1 { 8 } else { heads * u64::from(cache.head_dim) * 4 },
            if self.splits == 1 && cache.chunks() == 1 && cache.ring.is_none() { 8 } else { heads * 4 },
        )
    }
}

/// GPU memory for the splits, sized by [`Shape::scratch_bytes`].
#[derive(Debug, Clone)]
pub struct Scratch {
    /// Values of each split.
    pub o: Slice,
    /// Log-sum-exp of each split.
    pub lse: Slice,
}
