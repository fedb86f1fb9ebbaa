//! Attention within a training batch of packed sequences, and its gradients: the softmax is recomputed
//! from the log-sum-exp that the forward pass keeps.

use std::ops::Range;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use super::{CacheShape, CacheType, Keys, Variant, dispatches};
use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

params! {
    /// Parameters of the sums that the gradients share.
    pub struct DeltaParams {
        pub rows: u32,
        pub grid_x: u32,
        pub pad: [u32; 2],
    }
}

params! {
    /// Parameters of the gradients.
    pub struct BackwardParams {
        pub token0: u32,
        pub tokens: u32,
        pub key0: u32,
        pub keys: u32,
        pub kv_heads: u32,
        pub group: u32,
        pub more: u32,
        pub scale: f32,
    }
}

/// A training batch's attention.
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
}

impl Shape {
    fn row(&self, heads: u32) -> u64 {
        u64::from(heads) * u64::from(self.head_dim) * 4
    }

    fn lse_row(&self) -> u64 {
        u64::from(self.heads) * 4
    }

    /// Bytes of the log-sum-exp that the forward pass keeps, `[tokens, heads]` f32.
    pub fn lse_bytes(&self) -> u64 {
        u64::from(self.tokens) * self.lse_row()
    }

    /// Bytes of scratch of the backward pass.
    pub fn scratch_bytes(&self) -> u64 {
        2 * self.lse_bytes()
    }

    /// The keys of the batch as a cache whose chunks are ranges of one tensor.
    fn keys(&self, budget: &Budget) -> std::result::Result<CacheShape, PlanError> {
        let ranges = split_rows("attention", self.tokens, &[self.row(self.kv_heads)], budget)?;
        let per_chunk = ranges.first().map_or(1, |r| r.end);
        let cache = CacheShape::new(CacheType::F32, self.tokens, self.kv_heads, self.head_dim, budget)?;
        Ok(CacheShape { per_chunk, ..cache })
    }

    /// Ranges of tokens whose queries fit a binding, and a grid of one workgroup a `tile` of their rows.
    fn tokens(&self, tile: u32, budget: &Budget) -> std::result::Result<Vec<Range<u32>>, PlanError> {
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

/// Records the attention of each token to its own sequence up to itself: q, o `[tokens, heads,
/// head_dim]`, k, v `[tokens, kv_heads, head_dim]`, lse `[tokens, heads]`, all f32 activations; lse is
/// kept for [`backward`]. `spans` `[tokens]` of two u32 has the first token of each token's sequence and
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
    let variant = Variant::fastest(rec.gpu().caps(), s.head_dim);
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
    let shape = super::Shape { tokens: s.tokens, heads: s.heads, window: 0, scale: s.scale, splits: 1 };
    if let Err(why) = variant.fits(gpu.caps(), s.head_dim) {
        return Err(PlanError::Shape { op: "attention", what: why.into() }.into());
    }
    let kernel = variant.kernel(gpu.caps(), &shape, &cache);
    let name = kernel.name(s.head_dim, Keys::Packed, CacheType::F32);
    let pipeline = gpu.pipeline(&name, || kernel.shader(s.head_dim, Keys::Packed, CacheType::F32))?;
    let queries = s.tokens(kernel.tile(), budget)?;
    for i in 0..cache.chunks() {
        let keys = cache.chunk(i);
        let at = u64::from(keys.start) * s.row(s.kv_heads);
        let [k, v] = [k, v].map(|x| x.range(at, cache.chunk_bytes(i)));
        let spans_size = u64::from(s.tokens) * 8;
        let mut plan = dispatches(&shape, &cache, i, kernel.tile(), true, spans_size, &queries);
        // Queries before the first key see none of them, and have been written.
        plan.retain(|d| d.params.token0 + d.params.tokens > keys.start);
        record(rec, &pipeline, &[spans, &k, &v, q, o, lse], &plan);
    }
    Ok(())
}

/// Own rows of a workgroup.
fn tile(head_dim: u32) -> u32 {
    if head_dim > 128 { 4 } else { 8 }
}

/// The dispatches of the sums. Operands: o, gradient of o, lse, stats.
///
/// # Errors
/// A row that exceeds a binding.
pub fn plan_delta(s: &Shape, budget: &Budget) -> std::result::Result<Vec<Dispatch<DeltaParams>>, PlanError> {
    let row = s.row(s.heads);
    let rows = [row, s.lse_row(), 2 * s.lse_row()];
    Ok(split_rows("attention", s.tokens, &rows, budget)?
        .into_iter()
        .map(|t| {
            let n = t.end - t.start;
            let part = |operand, row: u64| Bind {
                operand,
                offset: u64::from(t.start) * row,
                size: u64::from(n) * row,
            };
            let grid = fold(n * s.heads, budget);
            let moved = 2.0 * f64::from(n) * row as f64;
            Dispatch {
                params: DeltaParams { rows: n * s.heads, grid_x: grid[0], pad: [0; 2] },
                binds: vec![part(0, row), part(1, row), part(2, s.lse_row()), part(3, 2 * s.lse_row())],
                grid,
                cost: Cost { bytes: moved, flops: moved / 4.0 },
            }
        })
        .collect())
}

/// Which gradient a dispatch computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gradient {
    /// Of the queries.
    Queries,
    /// Of the keys and values.
    Keys,
}

/// The dispatches of a gradient, in order. Operands: spans, q, k, v, gradient of o, stats, then dq, or
/// dk and dv.
///
/// # Errors
/// A row that exceeds a binding; a head size that is not supported.
pub fn plan_backward(
    s: &Shape,
    gradient: Gradient,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<BackwardParams>>, PlanError> {
    let tile = tile(s.head_dim);
    let keys = s.keys(budget)?;
    let group = s.heads / s.kv_heads;
    let mut all = Vec::new();
    let queries = s.tokens(tile, budget)?;
    // Keys in as many workgroups as a dispatch may have.
    let most = u64::from(budget.max_workgroups) * u64::from(tile);
    let budget = Budget { max_binding: budget.max_binding.min(most * s.row(s.kv_heads)), ..budget.clone() };
    let keys = match gradient {
        Gradient::Queries => (0..keys.chunks()).map(|i| keys.chunk(i)).collect(),
        Gradient::Keys => split_rows("attention", s.tokens, &[s.row(s.kv_heads)], &budget)?,
    };
    for t in &queries {
        for k in &keys {
            if k.start >= t.end {
                continue;
            }
            let (tokens, n) = (t.end - t.start, k.end - k.start);
            let part = |operand, range: &Range<u32>, row: u64| Bind {
                operand,
                offset: u64::from(range.start) * row,
                size: u64::from(range.end - range.start) * row,
            };
            let (row, kv_row) = (s.row(s.heads), s.row(s.kv_heads));
            let mut binds = vec![
                Bind { operand: 0, offset: 0, size: u64::from(s.tokens) * 8 },
                part(1, t, row),
                part(2, k, kv_row),
                part(3, k, kv_row),
                part(4, t, row),
                part(5, t, 2 * s.lse_row()),
            ];
            let (more, grid, products) = match gradient {
                Gradient::Queries => {
                    binds.push(part(6, t, row));
                    (k.start > 0, [(tokens * group).div_ceil(tile), s.kv_heads, 1], 6.0)
                }
                Gradient::Keys => {
                    binds.extend([part(6, k, kv_row), part(7, k, kv_row)]);
                    // The first queries that see a key are those of its own range.
                    let first = queries.iter().position(|q| q.end > k.start);
                    (first.is_some_and(|f| queries[f] != *t), [n.div_ceil(tile), s.kv_heads, 1], 8.0)
                }
            };
            let work = f64::from(tokens) * f64::from(n) * f64::from(s.heads) * f64::from(s.head_dim);
            all.push(Dispatch {
                params: BackwardParams {
                    token0: t.start,
                    tokens,
                    key0: k.start,
                    keys: n,
                    kv_heads: s.kv_heads,
                    group,
                    more: u32::from(more),
                    scale: s.scale,
                },
                binds,
                grid,
                // Half of the keys are in the future.
                cost: Cost { bytes: f64::from(tokens) * row as f64, flops: products * work / 2.0 },
            });
        }
    }
    Ok(all)
}

fn delta_name(head_dim: u32) -> String {
    format!("attention_backward_delta_h{head_dim}_f32")
}

fn delta_shader(head_dim: u32) -> Shader {
    let parts = [include_str!("../../wgsl/reduce.wgsl"), include_str!("backward_delta.wgsl")];
    Shader {
        name: delta_name(head_dim),
        source: compose(&[], &[("HD", head_dim)], &parts),
        bindings: vec![Access::ReadWrite; 4],
    }
}

fn backward_name(gradient: Gradient, head_dim: u32) -> String {
    let what = if gradient == Gradient::Queries { "q" } else { "kv" };
    format!("attention_backward_{what}_h{head_dim}_f32")
}

fn backward_shader(gradient: Gradient, head_dim: u32) -> Shader {
    let (kernel, outputs) = match gradient {
        Gradient::Queries => (include_str!("backward_q.wgsl"), 1),
        Gradient::Keys => (include_str!("backward_kv.wgsl"), 2),
    };
    let mut bindings = vec![Access::ReadWrite; 6 + outputs];
    bindings[0] = Access::Read;
    let constants = [("HD", head_dim), ("R", tile(head_dim))];
    Shader { name: backward_name(gradient, head_dim), source: compose(&[], &constants, &[kernel]), bindings }
}

pub(super) fn shaders() -> Vec<(Shader, Fields)> {
    let mut all = Vec::new();
    for head_dim in [8, 32, 64, 80, 96, 128, 256] {
        all.push((delta_shader(head_dim), DeltaParams::FIELDS));
        for gradient in [Gradient::Queries, Gradient::Keys] {
            all.push((backward_shader(gradient, head_dim), BackwardParams::FIELDS));
        }
    }
    all
}

/// Records the gradients of [`attention`]: from g, the gradient of o, and what the forward pass read and
/// wrote, to dq `[tokens, heads, head_dim]` and dk, dv `[tokens, kv_heads, head_dim]`, which are
/// overwritten. `scratch` has [`Shape::scratch_bytes`] bytes of activations. All sums are taken in a
/// fixed order.
///
/// # Errors
/// As [`attention`].
pub fn backward(
    rec: &mut Recorder,
    spans: &Slice,
    [q, k, v]: [&Slice; 3],
    o: &Slice,
    lse: &Slice,
    g: &Slice,
    scratch: &Slice,
    [dq, dk, dv]: [&Slice; 3],
    s: &Shape,
) -> Result<()> {
    let gpu = rec.gpu().clone();
    let pipeline = gpu.pipeline(&delta_name(s.head_dim), || delta_shader(s.head_dim))?;
    record(rec, &pipeline, &[o, g, lse, scratch], &plan_delta(s, gpu.budget())?);
    for (gradient, outputs) in [(Gradient::Queries, &[dq][..]), (Gradient::Keys, &[dk, dv][..])] {
        let name = backward_name(gradient, s.head_dim);
        let pipeline = gpu.pipeline(&name, || backward_shader(gradient, s.head_dim))?;
        let operands = [&[spans, q, k, v, g, scratch][..], outputs].concat();
        record(rec, &pipeline, &operands, &plan_backward(s, gradient, gpu.budget())?);
    }
    Ok(())
}
