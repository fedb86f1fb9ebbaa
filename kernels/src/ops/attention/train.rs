//! Attention within a batch of packed sequences: of training, and of encoders, which see both ways.

use std::ops::Range;

use weft_runtime::{Recorder, Slice};

use super::kernel::{Keys, Variant};
use super::plan::dispatches;
use super::shape::{self, Mask};
use crate::layout::{CacheShape, CacheType, Sequences};
use crate::{Budget, PlanError, Result, record, split_rows};

/// Bytes of scratch before the stats, as much as bindings are aligned to: the largest gradient.
pub(super) const PEAK_BYTES: u64 = 256;

/// The attention of a batch of packed sequences.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Tokens of the batch, all sequences one after the other.
    pub tokens: u32,
    /// Query heads.
    pub heads: u32,
    /// KV heads.
    pub kv_heads: u32,
    /// Size of a head.
    pub head_dim: u32,
    /// Scale of the scores, usually 1 / sqrt(head_dim).
    pub scale: f32,
    /// Which keys of its sequence a token sees.
    pub mask: Mask,
}

impl Shape {
    pub(super) fn row(&self, heads: u32) -> u64 {
        u64::from(heads) * u64::from(self.head_dim) * 4
    }

    pub(super) fn lse_row(&self) -> u64 {
        u64::from(self.heads) * 4
    }

    /// Bytes of the log-sum-exp that the forward pass keeps, `[tokens, heads]` f32.
    pub fn lse_bytes(&self) -> u64 {
        u64::from(self.tokens) * self.lse_row()
    }

    /// Bytes of scratch of the backward pass: the largest gradient, then what rows share.
    pub fn scratch_bytes(&self) -> u64 {
        PEAK_BYTES + 2 * self.lse_bytes()
    }

    /// The keys of the batch as a cache whose chunks are ranges of one tensor.
    pub(super) fn keys(&self, budget: &Budget) -> std::result::Result<CacheShape, PlanError> {
        let ranges = split_rows("attention", self.tokens, &[self.row(self.kv_heads)], budget)?;
        let per_chunk = ranges.first().map_or(1, |r| r.end);
        let cache = CacheShape::new(CacheType::F32, self.tokens, self.kv_heads, self.head_dim, budget)?;
        Ok(CacheShape { per_chunk, ..cache })
    }

    /// Ranges of tokens whose queries fit a binding, and a grid of one workgroup a `tile` of their rows.
    pub(super) fn tokens(
        &self,
        tile: u32,
        budget: &Budget,
    ) -> std::result::Result<Vec<Range<u32>>, PlanError> {
        let spans = u64::from(self.tokens) * 8;
        if spans > budget.max_binding {
            let (needed, allowed) = (spans, budget.max_binding);
            return Err(PlanError::DoesNotFit { op: "attention", what: "the spans", needed, allowed });
        }
        let row = self.row(self.heads);
        let most = u64::from(budget.max_workgroups) * u64::from(tile) / u64::from(self.heads / self.kv_heads);
        let budget = Budget { max_binding: budget.max_binding.min(most.max(1) * row), ..budget.clone() };
        split_rows("attention", self.tokens, &[row, self.lse_row(), 2 * self.lse_row()], &budget)
    }
}

/// Records the attention of each token to its own sequence, as far as the mask has it: q, o `[tokens, heads,
/// head_dim]`, k, v `[tokens, kv_heads, head_dim]`, lse `[tokens, heads]`, all f32 activations; lse is
/// kept for [`backward`](super::backward::backward). `spans` `[tokens]` of two u32 has the first token of each token's sequence and
/// one past its last; it lies outside of the activations. With cooperative matrices where there are any.
///
/// # Errors
/// A head size that is not supported, no plan under the budget, or a shader the device refuses.
pub fn attention(
    rec: &mut Recorder,
    spans: &Slice,
    qkv: [&Slice; 3],
    o: &Slice,
    lse: &Slice,
    s: &Shape,
) -> Result<()> {
    let caps = rec.gpu().caps();
    let can = |v: Variant| v.fits(caps, s.head_dim).is_ok();
    let variant = Variant::of_batch("attention_train", caps, s.tokens, s.head_dim, can);
    attention_as(rec, variant, spans, qkv, o, lse, s)
}

/// As [`attention`], as `variant`.
///
/// # Errors
/// As [`attention`]; the device lacks what the variant needs.
pub fn attention_as(
    rec: &mut Recorder,
    variant: Variant,
    spans: &Slice,
    [q, k, v]: [&Slice; 3],
    o: &Slice,
    lse: &Slice,
    s: &Shape,
) -> Result<()> {
    let gpu = rec.gpu().clone();
    let budget = gpu.budget();
    let cache = s.keys(budget)?;
    let shape = shape::Shape {
        tokens: s.tokens,
        heads: s.heads,
        window: s.mask.window(),
        scale: s.scale,
        splits: 1,
        sequences: Sequences::One,
    };
    if let Err(why) = variant.fits(gpu.caps(), s.head_dim) {
        return Err(PlanError::Shape { op: "attention", what: why.into() }.into());
    }
    let kernel = variant.kernel(gpu.caps(), &shape, &cache);
    let causal = matches!(s.mask, Mask::Causal { .. });
    let kind = if causal { Keys::Packed } else { Keys::PackedFull };
    let name = kernel.name(s.head_dim, kind, CacheType::F32);
    let pipeline = gpu.pipeline(&name, || kernel.shader(s.head_dim, kind, CacheType::F32))?;
    let queries = s.tokens(kernel.tile(), budget)?;
    for i in 0..cache.chunks() {
        let keys = cache.chunk(i);
        let at = u64::from(keys.start) * s.row(s.kv_heads);
        let [k, v] = [k, v].map(|x| x.range(at, cache.chunk_bytes(i)));
        let spans_size = u64::from(s.tokens) * 8;
        let mut plan = dispatches(&shape, &cache, i, kernel.tile(), true, spans_size, &queries);
        // In causal order queries before the first key see none of them, and have been written.
        plan.retain(|d| !causal || d.params.token0 + d.params.tokens > keys.start);
        record(rec, &pipeline, &[spans, &k, &v, q, o, lse], &plan);
    }
    Ok(())
}
