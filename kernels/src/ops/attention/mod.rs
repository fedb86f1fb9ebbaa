//! Causal attention over the KV cache: `kernel.wgsl` (a few rows, f32) and `coop.wgsl` (prefill,
//! cooperative matrices) compute parts, `combine.wgsl` merges them where there are several.

pub mod cases;
pub mod reference;

use std::ops::Range;

use weft_runtime::{Access, Caps, Cost, DeviceKind, Recorder, Shader, Slice};

use crate::ops::matmul::Coop;
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

/// The dispatches of chunk `chunk`, with `tile` query rows a workgroup. Operands: state, chunk of k, chunk of v, q, o (or the parts'
/// scratch), (m, l).
///
/// # Errors
/// Query rows or scratch that exceed a binding: ask for fewer tokens at a time.
pub fn plan(
    s: &Shape,
    cache: &CacheShape,
    chunk: usize,
    tile: u32,
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
                grid: [(n * group).div_ceil(tile), cache.kv_heads, s.splits],
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

/// A way to compute a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// A few query rows at a time in f32. Core WebGPU.
    Rows,
    /// Cooperative matrices, f16 in and f32 out.
    Coop,
}

impl Variant {
    /// All of them.
    pub const ALL: [Variant; 2] = [Variant::Rows, Variant::Coop];

    /// The name used in pipelines and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Rows => "rows",
            Variant::Coop => "coop",
        }
    }

    /// Whether the device can run this variant on this cache.
    ///
    /// # Errors
    /// What is lacking.
    pub fn supports(self, caps: &Caps, cache: &CacheShape) -> std::result::Result<(), &'static str> {
        if self == Variant::Rows {
            return Ok(());
        }
        let Some(coop) = Coop::of(caps) else { return Err("no cooperative matrices in f16 and f32") };
        // Tiles of q, of keys or values, of scores and of exponentials, and two rows of statistics.
        let (bq, hs) = (4 * coop.side, cache.head_dim + 8);
        let bytes = 2 * (bq + 32) * hs + 4 * bq * 36 + 2 * bq * 40 + 8 * 4 * coop.subgroup;
        match cache.ty {
            CacheType::F32 => Err("the cache is wider than f16"),
            _ if !cache.head_dim.is_multiple_of(coop.side) => Err("the head is no multiple of a matrix"),
            _ if bytes > caps.limits.max_compute_workgroup_storage_size => Err("too little workgroup memory"),
            _ => Ok(()),
        }
    }

    /// The variant for a device and a batch: matrices once a batch fills their tiles, and where heads
    /// are large. On an H200 heads of 128 won by them and heads of 64 lost (benches/results).
    pub fn pick(caps: &Caps, s: &Shape, cache: &CacheShape) -> Variant {
        let hardware = caps.kind != DeviceKind::Cpu;
        let large = s.tokens * (s.heads / cache.kv_heads) >= 32 && cache.head_dim >= 128;
        if hardware && large && Variant::Coop.supports(caps, cache).is_ok() {
            Variant::Coop
        } else {
            Variant::Rows
        }
    }
}

/// A variant with the constants of its shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernel {
    /// Query rows of a workgroup.
    Rows(u32),
    Coop(Coop),
}

impl Kernel {
    fn tile(self) -> u32 {
        match self {
            Kernel::Rows(tile) => tile,
            Kernel::Coop(c) => 4 * c.side,
        }
    }

    fn name(self, head_dim: u32, ty: CacheType) -> String {
        match self {
            Kernel::Rows(tile) => format!("attention_q{tile}_h{head_dim}_{}", ty.name()),
            Kernel::Coop(c) => format!("attention_coop{}_h{head_dim}_{}", c.side, ty.name()),
        }
    }

    fn shader(self, head_dim: u32, ty: CacheType) -> Shader {
        let cache = match ty {
            CacheType::F32 => include_str!("cache_f32.wgsl"),
            CacheType::F16 => include_str!("cache_f16.wgsl"),
        };
        let source = match self {
            Kernel::Rows(tile) => {
                compose(&[], &[("HD", head_dim), ("BQ", tile)], &[cache, include_str!("kernel.wgsl")])
            }
            Kernel::Coop(c) => {
                let matrices = match c.side {
                    16 => include_str!("coop16.wgsl"),
                    _ => include_str!("coop8.wgsl"),
                };
                compose(
                    &["f16", "wgpu_cooperative_matrix"],
                    &[
                        ("HD", head_dim),
                        ("SG", c.subgroup),
                        ("NK", 32 / c.side),
                        ("ND", head_dim / c.side),
                        // Loads of an invocation for 32 keys, and for 32 values.
                        ("KL", (4 * head_dim).div_ceil(4 * c.subgroup)),
                        ("VL", (8 * head_dim).div_ceil(4 * c.subgroup)),
                    ],
                    &[cache, include_str!("coop.wgsl"), matrices],
                )
            }
        };
        let bindings = [&[Access::Read; 3][..], &[Access::ReadWrite; 3]].concat();
        Shader { name: self.name(head_dim, ty), source, bindings }
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
            let kernel = Kernel::Rows(tile);
            all.extend(CacheType::ALL.map(|ty| (kernel.shader(head, ty), Params::FIELDS)));
        }
        for (side, subgroup) in [(16, 32), (8, 8), (8, 32)] {
            let kernel = Kernel::Coop(Coop { side, subgroup, bm: 0, bn: 0 });
            if head <= 128 || side == 8 {
                all.push((kernel.shader(head, CacheType::F16), Params::FIELDS));
            }
        }
    }
    all.push((combine_shader(), CombineParams::FIELDS));
    all
}

/// Records the attention of q over `chunks` of the cache into o, both `[tokens, heads, head_dim]`, as
/// the variant that [`Variant::pick`] gives.
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
    let variant = Variant::pick(rec.gpu().caps(), s, cache);
    attention_as(rec, variant, state, q, cache, chunks, scratch, o, s)
}

/// As [`attention`], as `variant`, which the device must support.
///
/// # Errors
/// As [`attention`].
pub fn attention_as(
    rec: &mut Recorder,
    variant: Variant,
    state: &Slice,
    q: &Slice,
    cache: &CacheShape,
    chunks: &[(Slice, Slice)],
    scratch: &Scratch,
    o: &Slice,
    s: &Shape,
) -> Result<()> {
    let gpu = rec.gpu().clone();
    let kernel = match variant {
        Variant::Rows => Kernel::Rows(s.tile(cache)),
        Variant::Coop => Kernel::Coop(Coop::of(gpu.caps()).expect("supported")),
    };
    let (head, ty, tile) = (cache.head_dim, cache.ty, kernel.tile());
    let pipeline = gpu.pipeline(&kernel.name(head, ty), || kernel.shader(head, ty))?;
    let several = s.parts(cache) > 1;
    let target = if several { &scratch.o } else { o };
    for (i, (kc, vc)) in chunks.iter().enumerate() {
        let plan = plan(s, cache, i, tile, gpu.budget())?;
        record(rec, &pipeline, &[state, kc, vc, q, target, &scratch.ml], &plan);
    }
    if several {
        let pipeline = gpu.pipeline("attention_combine_f32", combine_shader)?;
        record(rec, &pipeline, &[&scratch.o, &scratch.ml, o], &plan_combine(s, cache, gpu.budget())?);
    }
    Ok(())
}
