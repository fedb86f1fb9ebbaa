//! Causal attention over the KV cache, for prefill and decode: `kernel.wgsl` computes parts,
//! `combine.wgsl` merges them where there are several.

pub mod cases;
pub mod reference;

use std::ops::Range;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

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

    /// Bytes of chunk `i` of the keys, and of the values.
    pub fn chunk_bytes(&self, i: usize) -> u64 {
        let r = self.chunk(i);
        self.ty.bytes(u64::from(r.end - r.start) * u64::from(self.kv_heads) * u64::from(self.head_dim))
    }
}

const MAX_HEAD: u32 = 256;

params! {
    pub struct Params {
        pub token0: u32,
        pub tokens: u32,
        pub kv_heads: u32,
        pub group: u32,
        pub position0: u32,
        pub positions: u32,
        pub splits: u32,
        pub part0: u32,
        pub parts: u32,
        pub window: u32,
        pub scale: f32,
        pub pad: u32,
    }
}

params! {
    pub struct CombineParams {
        pub parts: u32,
        pub heads: u32,
        pub quads: u32,
        pub grid_x: u32,
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
}

impl Shape {
    /// Query rows of a workgroup: as few as a decode step has, as many as workgroup memory takes.
    pub fn tile(&self, cache: &CacheShape) -> u32 {
        let rows = self.tokens * (self.heads / cache.kv_heads);
        match rows {
            0..=4 => 4,
            5..=8 => 8,
            _ if cache.head_dim > 128 => 8,
            _ => 16,
        }
    }

    /// Parts that are merged: splits of all chunks.
    pub fn parts(&self, cache: &CacheShape) -> u32 {
        cache.chunks() as u32 * self.splits
    }

    /// Bytes of scratch for the parts' values, and for their (m, l); what a part needs if one, then 8.
    pub fn scratch_bytes(&self, cache: &CacheShape) -> (u64, u64) {
        let heads = u64::from(self.tokens) * u64::from(self.heads);
        match self.parts(cache) {
            1 => (8, 8),
            n => (u64::from(n) * heads * u64::from(cache.head_dim) * 4, u64::from(n) * heads * 8),
        }
    }
}

/// The dispatches of chunk `chunk`. Operands: state, chunk of k, chunk of v, q, o (or the parts'
/// scratch), (m, l).
///
/// # Errors
/// Query rows or scratch that exceed a binding: ask for fewer tokens at a time.
pub fn plan(
    s: &Shape,
    cache: &CacheShape,
    chunk: usize,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let positions = cache.chunk(chunk);
    let parts = s.parts(cache);
    let group = s.heads / cache.kv_heads;
    let row = u64::from(s.heads) * u64::from(cache.head_dim) * 4;
    let (o_scratch, ml) = s.scratch_bytes(cache);
    let tokens = if parts == 1 {
        split_rows("attention", s.tokens, &[row], budget)?
    } else {
        // The parts lie [parts, tokens, ...]: a range of tokens is no range of bytes.
        if o_scratch > budget.max_binding {
            return Err(PlanError::DoesNotFit {
                op: "attention",
                what: "the scratch of the parts",
                needed: o_scratch,
                allowed: budget.max_binding,
            });
        }
        std::iter::once(0..s.tokens).collect()
    };
    let kv = cache.chunk_bytes(chunk);
    Ok(tokens
        .into_iter()
        .map(|t| {
            let n = t.end - t.start;
            let rows = |operand| Bind { operand, offset: u64::from(t.start) * row, size: u64::from(n) * row };
            let keys = f64::from(positions.end - positions.start);
            let work = f64::from(n) * f64::from(s.heads) * f64::from(cache.head_dim);
            Dispatch {
                params: Params {
                    token0: t.start,
                    tokens: n,
                    kv_heads: cache.kv_heads,
                    group,
                    position0: positions.start,
                    positions: positions.end - positions.start,
                    splits: s.splits,
                    part0: chunk as u32 * s.splits,
                    parts,
                    window: s.window,
                    scale: s.scale,
                    pad: 0,
                },
                binds: vec![
                    Bind { operand: 0, offset: 0, size: 4 },
                    Bind { operand: 1, offset: 0, size: kv },
                    Bind { operand: 2, offset: 0, size: kv },
                    rows(3),
                    if parts == 1 { rows(4) } else { Bind { operand: 4, offset: 0, size: o_scratch } },
                    Bind { operand: 5, offset: 0, size: ml },
                ],
                grid: [(n * group).div_ceil(s.tile(cache)), cache.kv_heads, s.splits],
                // Half of the positions on average are in the future or not yet written.
                cost: Cost { bytes: kv as f64, flops: 2.0 * work * keys },
            }
        })
        .collect())
}

/// The dispatches of the merge. Operands: scratch, (m, l), o.
///
/// # Errors
/// Scratch that exceeds a binding.
pub fn plan_combine(
    s: &Shape,
    cache: &CacheShape,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<CombineParams>>, PlanError> {
    let heads = s.tokens * s.heads;
    let (a, ml) = s.scratch_bytes(cache);
    let o = u64::from(heads) * u64::from(cache.head_dim) * 4;
    let grid = fold(heads, budget);
    Ok(vec![Dispatch {
        params: CombineParams { parts: s.parts(cache), heads, quads: cache.head_dim / 4, grid_x: grid[0] },
        binds: vec![
            Bind { operand: 0, offset: 0, size: a },
            Bind { operand: 1, offset: 0, size: ml },
            Bind { operand: 2, offset: 0, size: o },
        ],
        grid,
        cost: Cost { bytes: a as f64, flops: a as f64 },
    }])
}

/// GPU memory for the parts, sized by [`Shape::scratch_bytes`].
#[derive(Debug, Clone)]
pub struct Scratch {
    /// Unnormalised values of each part.
    pub o: Slice,
    /// (m, l) of each part.
    pub ml: Slice,
}

fn name(tile: u32, head_dim: u32, ty: CacheType) -> String {
    format!("attention_q{tile}_h{head_dim}_{}", ty.name())
}

fn shader(tile: u32, head_dim: u32, ty: CacheType) -> Shader {
    let cache = match ty {
        CacheType::F32 => include_str!("cache_f32.wgsl"),
        CacheType::F16 => include_str!("cache_f16.wgsl"),
    };
    Shader {
        name: name(tile, head_dim, ty),
        source: compose(&[], &[("HD", head_dim), ("BQ", tile)], &[cache, include_str!("kernel.wgsl")]),
        bindings: [&[Access::Read; 3][..], &[Access::ReadWrite; 3]].concat(),
    }
}

fn combine_shader() -> Shader {
    Shader {
        name: "attention_combine_f32".into(),
        source: compose(&[], &[("WG", 32)], &[include_str!("combine.wgsl")]),
        bindings: vec![Access::ReadWrite; 3],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    let mut all = Vec::new();
    for head in [32, 64, 80, 96, 128, 256] {
        for tile in [4, 8, 16].into_iter().filter(|&t| t < 16 || head <= 128) {
            all.extend(CacheType::ALL.map(|ty| (shader(tile, head, ty), Params::FIELDS)));
        }
    }
    all.push((combine_shader(), CombineParams::FIELDS));
    all
}

/// Records the attention of q over `chunks` of the cache into o, both `[tokens, heads, head_dim]`.
///
/// # Errors
/// No plan under the budget, or a shader the device refuses.
pub fn attention(
    rec: &mut Recorder,
    state: &Slice,
    q: &Slice,
    cache: &CacheShape,
    chunks: &[(Slice, Slice)],
    scratch: &Scratch,
    o: &Slice,
    s: &Shape,
) -> Result<()> {
    let tile = s.tile(cache);
    let (head, ty) = (cache.head_dim, cache.ty);
    let pipeline = rec.gpu().pipeline(&name(tile, head, ty), || shader(tile, head, ty))?;
    let budget = rec.gpu().budget().clone();
    let several = s.parts(cache) > 1;
    let target = if several { &scratch.o } else { o };
    for (i, (kc, vc)) in chunks.iter().enumerate() {
        record(rec, &pipeline, &[state, kc, vc, q, target, &scratch.ml], &plan(s, cache, i, &budget)?);
    }
    if several {
        let pipeline = rec.gpu().pipeline("attention_combine_f32", combine_shader)?;
        record(rec, &pipeline, &[&scratch.o, &scratch.ml, o], &plan_combine(s, cache, &budget)?);
    }
    Ok(())
}
