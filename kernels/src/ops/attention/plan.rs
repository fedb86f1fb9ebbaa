//! The dispatches of an attention over a cache.

use std::ops::Range;

use weft_runtime::Cost;

use super::shape::Shape;
use crate::layout::{BLOCK, CacheShape, Sequences, TOGETHER};
use crate::{Bind, Budget, Dispatch, PlanError, fold, params, split_rows};

params! {
    pub struct Params {
        pub token0: u32,
        pub tokens: u32,
        pub kv_heads: u32,
        pub group: u32,
        pub position0: u32,
        pub positions: u32,
        pub splits: u32,
        pub window: u32,
        pub flags: u32,
        pub scale: f32,
        pub slots: u32,
        pub context: u32,
        pub chunk: u32,
        pub chunks: u32,
        pub table: u32,
        pub piece: u32,
    }
}

params! {
    pub struct CombineParams {
        pub splits: u32,
        pub heads: u32,
        pub quads: u32,
        pub grid_x: u32,
    }
}

pub(super) const KEEP: u32 = 1;
pub(super) const MERGE: u32 = 2;
pub(super) const RING: u32 = 4;
pub(super) const OLDER: u32 = 8;

/// The dispatches of chunk `chunk`, with `tile` query rows a workgroup; they follow those of the chunks
/// before it. Operands: state, chunk of k, chunk of v, q, o (or the splits' scratch), log-sum-exp.
///
/// In a ring what a token sees may lie in two laps, at its end and at its beginning: a chunk has a dispatch for
/// each, of which either may find nothing.
///
/// # Errors
/// Query rows or scratch that exceed a binding: ask for fewer tokens at a time. A ring in which the batch overwrites
/// what its first token sees.
pub fn plan(
    s: &Shape,
    cache: &CacheShape,
    chunk: usize,
    tile: u32,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let q_row = u64::from(s.heads) * u64::from(cache.q_row()) * 4;
    let (o_scratch, _) = s.scratch_bytes(cache);
    let keep = s.splits > 1 || cache.chunks() > 1 || cache.ring.is_some();
    if let Some(ring) = cache.ring {
        let batch = if s.sequences == Sequences::One { s.tokens } else { 1 };
        if s.window == 0 || ring < CacheShape::ring_capacity(s.window, batch) {
            let what = format!("a window of {} and {batch} tokens in a ring of {ring} positions", s.window);
            return Err(PlanError::Shape { op: "attention", what });
        }
    }
    cache.check("attention", s.sequences)?;
    let each = if s.sequences == Sequences::Mixed { TOGETHER } else { 1 };
    if !s.tokens.is_multiple_of(each) {
        let what = format!("{} tokens of any slots, which come {each} at a time", s.tokens);
        return Err(PlanError::Shape { op: "attention", what });
    }
    let lse_row = u64::from(s.heads) * 4;
    let tokens: Vec<Range<u32>> = if s.splits == 1 {
        let mut rows = vec![q_row * u64::from(each)];
        rows.extend(keep.then_some(lse_row * u64::from(each)));
        let parts = split_rows("attention", s.tokens / each, &rows, budget)?;
        parts.into_iter().map(|r| r.start * each..r.end * each).collect()
    } else {
        // The splits lie [splits, tokens, ...]: a range of tokens is no range of bytes.
        if o_scratch > budget.max_binding {
            return Err(PlanError::DoesNotFit {
                op: "attention",
                what: "the scratch of the splits",
                needed: o_scratch,
                allowed: budget.max_binding,
            });
        }
        std::iter::once(0..s.tokens).collect()
    };
    let all = dispatches(s, cache, chunk, tile, keep, 4, &tokens);
    if cache.ring.is_none() {
        return Ok(all);
    }
    let lap = |flags: u32| {
        let flagged = move |mut d: Dispatch<Params>| {
            d.params.flags |= flags;
            d
        };
        all.iter().cloned().map(flagged)
    };
    Ok(lap(RING | OLDER).chain(lap(RING | MERGE)).collect())
}

/// A dispatch for each range of tokens; of the state or the spans it binds `first` bytes.
pub(super) fn dispatches(
    s: &Shape,
    cache: &CacheShape,
    chunk: usize,
    tile: u32,
    keep: bool,
    first: u64,
    tokens: &[Range<u32>],
) -> Vec<Dispatch<Params>> {
    let pages = cache.pages;
    let positions = if pages.is_some() { 0..cache.per_chunk } else { cache.chunk(chunk) };
    let group = s.heads / cache.kv_heads;
    let lse_row = u64::from(s.heads) * 4;
    let [row, q_row] = [cache.head_dim, cache.q_row()].map(|d| u64::from(s.heads) * u64::from(d) * 4);
    let (o_scratch, lse_scratch) = s.scratch_bytes(cache);
    let kv = cache.chunk_bytes(chunk);
    tokens
        .iter()
        .map(|t| {
            let n = t.end - t.start;
            let part = |operand, row: u64| Bind {
                operand,
                offset: u64::from(t.start) * row,
                size: u64::from(n) * row,
            };
            // A pool is walked as far as the longest sequence can reach in a chunk.
            let longest = pages.map_or(u32::MAX, |p| p.width.div_ceil(p.chunks).saturating_mul(BLOCK));
            let keys = f64::from((positions.end - positions.start).min(longest));
            let work = f64::from(n) * f64::from(s.heads) * f64::from(cache.head_dim);
            let whole = |operand, size| Bind { operand, offset: 0, size };
            let each = s.sequences.together(n);
            let slots = n / each;
            Dispatch {
                params: Params {
                    token0: t.start,
                    tokens: each,
                    kv_heads: cache.kv_heads,
                    group,
                    position0: positions.start,
                    positions: positions.end - positions.start,
                    splits: s.splits,
                    window: s.window,
                    flags: if keep { KEEP } else { 0 } | if chunk > 0 { MERGE } else { 0 },
                    scale: s.scale,
                    slots,
                    context: pages.map_or(cache.ring.unwrap_or(s.sequences.context()), |p| p.width),
                    chunk: chunk as u32,
                    chunks: pages.map_or(1, |p| p.chunks),
                    table: pages.map_or(0, |p| p.table),
                    piece: pages.map_or(0, |p| p.whose(s.sequences)),
                },
                binds: vec![
                    whole(0, pages.map_or(first, |p| p.state_bytes())),
                    whole(1, kv),
                    whole(2, kv),
                    part(3, q_row),
                    if s.splits == 1 { part(4, row) } else { whole(4, o_scratch) },
                    match (s.splits, keep) {
                        (1, true) => part(5, lse_row),
                        (_, true) => whole(5, lse_scratch),
                        (_, false) => whole(5, 4),
                    },
                ],
                grid: [cache.kv_heads, (each * group).div_ceil(tile), s.splits * slots],
                // Half of the positions on average are in the future or not yet written.
                cost: Cost { bytes: kv as f64 * keys / f64::from(cache.per_chunk), flops: 2.0 * work * keys },
            }
        })
        .collect()
}

/// The dispatches of the merge. Operands: scratch, log-sum-exp, o.
///
/// # Errors
/// Scratch that exceeds a binding.
pub fn plan_combine(
    s: &Shape,
    cache: &CacheShape,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<CombineParams>>, PlanError> {
    let heads = s.tokens * s.heads;
    let (a, lse) = s.scratch_bytes(cache);
    let o = u64::from(heads) * u64::from(cache.head_dim) * 4;
    let grid = fold(heads, budget);
    Ok(vec![Dispatch {
        params: CombineParams { splits: s.splits, heads, quads: cache.head_dim / 4, grid_x: grid[0] },
        binds: vec![
            Bind { operand: 0, offset: 0, size: a },
            Bind { operand: 1, offset: 0, size: lse },
            Bind { operand: 2, offset: 0, size: o },
        ],
        grid,
        cost: Cost { bytes: a as f64, flops: a as f64 },
    }])
}
