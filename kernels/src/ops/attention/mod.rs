//! Causal attention over the KV cache: `kernel.wgsl` (a few rows, f32), `tiled.wgsl` (prefill, f32 in register
//! tiles) and `coop.wgsl` (prefill, cooperative matrices) compute splits, `combine.wgsl` merges them where there are several. [`train`]
//! has attention within a training batch and its gradients.

pub mod cases;
pub mod decode;
pub mod reference;
pub mod train;

use std::ops::Range;

use weft_runtime::{Access, Caps, Cost, Recorder, Shader, Slice};

pub(crate) use crate::layout::STATE_BYTES;
pub use crate::layout::{CacheShape, CacheType, Moved, Sequences};

use crate::ops::matmul::Coop;
use crate::select::{self, CallShape};
use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

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
        pub streams: u32,
        pub context: u32,
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
        let tokens = if self.sequences == Sequences::One { self.tokens } else { 1 };
        match tokens * (self.heads / cache.kv_heads) {
            0..=4 => 4,
            5..=8 => 8,
            _ if cache.head_dim > 128 => 8,
            _ => 16,
        }
    }

    /// Bytes of scratch for the splits' values, and for the log-sum-exp of each split and row; 8 where
    /// there is nothing to keep.
    pub fn scratch_bytes(&self, cache: &CacheShape) -> (u64, u64) {
        let heads = u64::from(self.splits) * u64::from(self.tokens) * u64::from(self.heads);
        (
            if self.splits == 1 { 8 } else { heads * u64::from(cache.head_dim) * 4 },
            if self.splits == 1 && cache.chunks() == 1 { 8 } else { heads * 4 },
        )
    }
}

const KEEP: u32 = 1;
const MERGE: u32 = 2;

/// The dispatches of chunk `chunk`, with `tile` query rows a workgroup; they follow those of the chunks
/// before it. Operands: state, chunk of k, chunk of v, q, o (or the splits' scratch), log-sum-exp.
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
    let row = u64::from(s.heads) * u64::from(cache.head_dim) * 4;
    let (o_scratch, _) = s.scratch_bytes(cache);
    let keep = s.splits > 1 || cache.chunks() > 1;
    let lse_row = u64::from(s.heads) * 4;
    let tokens = if s.splits == 1 {
        let mut rows = vec![row];
        rows.extend(keep.then_some(lse_row));
        rows.extend((s.sequences != Sequences::One).then_some(STATE_BYTES));
        split_rows("attention", s.tokens, &rows, budget)?
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
    Ok(dispatches(s, cache, chunk, tile, keep, 4, &tokens))
}

/// A dispatch for each range of tokens; of the state or the spans it binds `first` bytes.
fn dispatches(
    s: &Shape,
    cache: &CacheShape,
    chunk: usize,
    tile: u32,
    keep: bool,
    first: u64,
    tokens: &[Range<u32>],
) -> Vec<Dispatch<Params>> {
    let positions = cache.chunk(chunk);
    let group = s.heads / cache.kv_heads;
    let (row, lse_row) = (u64::from(s.heads) * u64::from(cache.head_dim) * 4, u64::from(s.heads) * 4);
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
            let keys = f64::from(positions.end - positions.start);
            let work = f64::from(n) * f64::from(s.heads) * f64::from(cache.head_dim);
            let whole = |operand, size| Bind { operand, offset: 0, size };
            let (each, streams) = if s.sequences == Sequences::One { (n, 1) } else { (1, n) };
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
                    streams,
                    context: s.sequences.context(),
                },
                binds: vec![
                    if s.sequences == Sequences::One { whole(0, first) } else { part(0, STATE_BYTES) },
                    whole(1, kv),
                    whole(2, kv),
                    part(3, row),
                    if s.splits == 1 { part(4, row) } else { whole(4, o_scratch) },
                    match (s.splits, keep) {
                        (1, true) => part(5, lse_row),
                        (_, true) => whole(5, lse_scratch),
                        (_, false) => whole(5, 4),
                    },
                ],
                grid: [cache.kv_heads, (each * group).div_ceil(tile), s.splits * streams],
                // Half of the positions on average are in the future or not yet written.
                cost: Cost { bytes: kv as f64, flops: 2.0 * work * keys },
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

/// GPU memory for the splits, sized by [`Shape::scratch_bytes`].
#[derive(Debug, Clone)]
pub struct Scratch {
    /// Values of each split.
    pub o: Slice,
    /// Log-sum-exp of each split.
    pub lse: Slice,
}

/// Which keys there are for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keys {
    /// Those in the KV cache.
    Cached,
    /// Those of its stream in the KV cache.
    Streams,
    /// Those of its sequence in a training batch.
    Packed,
}

impl Keys {
    fn fragment(self) -> &'static str {
        match self {
            Keys::Cached => include_str!("cached.wgsl"),
            Keys::Streams => include_str!("streams.wgsl"),
            Keys::Packed => include_str!("packed.wgsl"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Keys::Cached => "",
            Keys::Streams => "_streams",
            Keys::Packed => "_packed",
        }
    }

    /// Access to bindings 1 to 3.
    fn bindings(self) -> [Access; 3] {
        match self {
            Keys::Cached | Keys::Streams => [Access::Read; 3],
            Keys::Packed => [Access::Read, Access::ReadWrite, Access::ReadWrite],
        }
    }
}

/// A way to compute a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// A few query rows at a time in f32. Core WebGPU.
    Rows,
    /// Tiles of 32 query rows in registers, in f32. Core WebGPU.
    Tiled,
    /// The same with 64 rows.
    TiledWide,
    /// Cooperative matrices, f16 in and f32 out.
    Coop,
    /// The same with twice the rows a subgroup.
    CoopWide,
}

impl Variant {
    /// All of them.
    pub const ALL: [Variant; 5] =
        [Variant::Rows, Variant::Tiled, Variant::TiledWide, Variant::Coop, Variant::CoopWide];

    /// The name used in pipelines and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Rows => "rows",
            Variant::Tiled => "tiled",
            Variant::TiledWide => "tiled_wide",
            Variant::Coop => "coop",
            Variant::CoopWide => "coop_wide",
        }
    }

    /// Whether it computes in cooperative matrices.
    pub fn matrices(self) -> bool {
        matches!(self, Variant::Coop | Variant::CoopWide)
    }

    /// The tile of a variant with cooperative matrices.
    fn tile(self, coop: Coop) -> CoopTile {
        let matrices = if self == Variant::CoopWide { 2 } else { 1 };
        CoopTile { side: coop.side, subgroup: coop.subgroup, matrices }
    }

    /// Whether the device can run this variant on this cache.
    ///
    /// # Errors
    /// What is lacking.
    pub fn supports(self, caps: &Caps, cache: &CacheShape) -> std::result::Result<(), &'static str> {
        match cache.ty {
            CacheType::F32 if self.matrices() => Err("the cache is wider than f16"),
            _ => self.fits(caps, cache.head_dim),
        }
    }

    /// The same for heads of a size, whatever holds them.
    fn fits(self, caps: &Caps, head_dim: u32) -> std::result::Result<(), &'static str> {
        if self == Variant::Rows {
            return Ok(());
        }
        if let Some(rows) = self.registers() {
            let tile = Registers::pick(rows, head_dim, caps.limits.max_compute_workgroup_storage_size);
            return tile.map(|_| ()).ok_or("heads that do not divide a workgroup");
        }
        let Some(coop) = Coop::of(caps) else { return Err("no cooperative matrices in f16 and f32") };
        let tile = self.tile(coop);
        if tile.matrices * tile.side > tile.subgroup {
            return Err("subgroups are smaller than a tile");
        }
        if !head_dim.is_multiple_of(coop.side) {
            return Err("the head is no multiple of a matrix");
        }
        match tile.bytes(head_dim) > caps.limits.max_compute_workgroup_storage_size {
            true => Err("too little workgroup memory"),
            false => Ok(()),
        }
    }

    /// The variant for a device and a batch, by the table.
    pub fn pick(caps: &Caps, s: &Shape, cache: &CacheShape) -> Variant {
        // Of a stream there is one token.
        let one = s.sequences == Sequences::One;
        let tokens = if one { s.tokens } else { 1 };
        let at = CallShape { tokens, rows: tokens * (s.heads / cache.kv_heads), head_dim: cache.head_dim };
        let can = |v: Variant| (one || v == Variant::Rows) && v.supports(caps, cache).is_ok();
        Variant::select("attention", caps, at, can)
    }

    /// The variant of an op of training.
    fn of_batch(op: &str, caps: &Caps, tokens: u32, head_dim: u32) -> Variant {
        let at = CallShape { tokens, rows: tokens, head_dim };
        Variant::select(op, caps, at, |v| v.fits(caps, head_dim).is_ok())
    }

    fn select(op: &str, caps: &Caps, at: CallShape, can: impl Fn(Variant) -> bool) -> Variant {
        let of = |name: &str| Variant::ALL.into_iter().find(|v| v.name() == name);
        of(select::variant(op, caps, at, |name| of(name).is_some_and(&can))).unwrap_or(Variant::Rows)
    }

    /// Query rows of a workgroup of the register tiles.
    fn registers(self) -> Option<u32> {
        match self {
            Variant::Tiled => Some(32),
            Variant::TiledWide => Some(64),
            _ => None,
        }
    }

    fn kernel(self, caps: &Caps, s: &Shape, cache: &CacheShape) -> Kernel {
        let bytes = caps.limits.max_compute_workgroup_storage_size;
        match self {
            Variant::Rows => Kernel::Rows(s.tile(cache)),
            Variant::Tiled | Variant::TiledWide => {
                let rows = self.registers().expect("of a tile");
                Kernel::Tiled(Registers::pick(rows, cache.head_dim, bytes).expect("supported"))
            }
            coop => Kernel::Coop(coop.tile(Coop::of(caps).expect("supported"))),
        }
    }
}

/// What a workgroup of cooperative matrices computes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CoopTile {
    /// Side of a matrix.
    side: u32,
    /// Invocations of a subgroup.
    subgroup: u32,
    /// Rows of a subgroup, in matrices.
    matrices: u32,
}

/// Keys at a time; 64 were slower on an H200.
const COOP_KEYS: u32 = 32;

impl CoopTile {
    /// Query rows of a workgroup.
    fn rows(self) -> u32 {
        4 * self.matrices * self.side
    }

    /// Workgroup memory: keys and values, scores, exponentials, and two numbers for rows or lanes.
    fn bytes(self, head_dim: u32) -> u32 {
        let tiles = 4 * COOP_KEYS * (head_dim + 8);
        tiles + self.rows() * (4 * (COOP_KEYS + 4) + 2 * (COOP_KEYS + 8) + 4) + 16 * self.subgroup + 16
    }
}

/// What a workgroup of register tiles computes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Registers {
    /// Query rows.
    rows: u32,
    /// Dimensions of queries and keys in workgroup memory.
    slice: u32,
    /// Rows of an invocation when values are added up.
    values: u32,
}

impl Registers {
    /// The tile with the largest slice for so much workgroup memory. None where heads do not divide a workgroup,
    /// or an invocation would hold more than 64 sums.
    fn pick(rows: u32, head_dim: u32, bytes: u32) -> Option<Registers> {
        let values = rows * head_dim / 8 / 128;
        if !(32..=256).contains(&head_dim) || !head_dim.is_power_of_two() || !(1..=8).contains(&values) {
            return None;
        }
        // Slices of queries and keys, weights, maxima of 4 keys, and two numbers a row.
        let all = |slice: u32| 4 * slice * (rows + 32) + rows * (128 + 32 + 8);
        let slice = [32, 16, 8].into_iter().find(|&slice| all(slice) <= bytes)?;
        Some(Registers { rows, slice, values })
    }
}

/// A variant with the constants of its shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernel {
    /// Query rows of a workgroup.
    Rows(u32),
    Tiled(Registers),
    Coop(CoopTile),
}

impl Kernel {
    fn tile(self) -> u32 {
        match self {
            Kernel::Rows(tile) => tile,
            Kernel::Tiled(t) => t.rows,
            Kernel::Coop(t) => t.rows(),
        }
    }

    fn name(self, head_dim: u32, keys: Keys, ty: CacheType) -> String {
        let how = match self {
            Kernel::Rows(tile) => format!("q{tile}"),
            Kernel::Tiled(t) => format!("tiled{}_k{}", t.rows, t.slice),
            Kernel::Coop(t) => format!("coop{}_s{}_q{}", t.side, t.subgroup, t.rows()),
        };
        format!("attention{}_{how}_h{head_dim}_{}", keys.name(), ty.name())
    }

    fn shader(self, head_dim: u32, keys: Keys, ty: CacheType) -> Shader {
        let source = match self {
            Kernel::Rows(tile) => compose(
                &[],
                &[("HD", head_dim), ("BQ", tile)],
                &[keys.fragment(), ty.word(), ty.loads(), include_str!("kernel.wgsl")],
            ),
            Kernel::Tiled(t) => compose(
                &[],
                &[
                    ("HD", head_dim),
                    ("BQ", t.rows),
                    ("SL", t.slice),
                    ("SR", t.rows / 16),
                    ("RV", t.values),
                    ("FOUR", 4),
                ],
                &[keys.fragment(), ty.word(), ty.loads(), include_str!("tiled.wgsl")],
            ),
            Kernel::Coop(t) => {
                let matrices = match t.side {
                    16 => include_str!("coop16.wgsl"),
                    _ => include_str!("coop8.wgsl"),
                };
                compose(
                    &["f16", "wgpu_cooperative_matrix"],
                    &[
                        ("HD", head_dim),
                        ("SG", t.subgroup),
                        ("RW", t.matrices),
                        ("BK", COOP_KEYS),
                        ("ND", head_dim / t.side),
                        // Loads of an invocation for a tile of keys; vec4 of its share of a row's scores.
                        ("KL", (COOP_KEYS * head_dim / 8).div_ceil(4 * t.subgroup)),
                        ("NV", COOP_KEYS * t.matrices * t.side / (4 * t.subgroup)),
                    ],
                    &[
                        keys.fragment(),
                        ty.word(),
                        ty.loads(),
                        ty.halves(),
                        include_str!("coop.wgsl"),
                        matrices,
                    ],
                )
            }
        };
        let bindings = [keys.bindings(), [Access::ReadWrite; 3]].concat();
        Shader { name: self.name(head_dim, keys, ty), source, bindings }
    }
}

fn combine_shader() -> Shader {
    Shader {
        name: "attention_combine_f32".into(),
        source: compose(&[], &[], &[include_str!("combine.wgsl")]),
        bindings: vec![Access::ReadWrite; 3],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    let mut all = Vec::new();
    for head in [32, 64, 80, 96, 128, 256] {
        for tile in [4, 8, 16].into_iter().filter(|&t| t < 16 || head <= 128) {
            let kernel = Kernel::Rows(tile);
            let kernels = CacheType::ALL.map(|ty| kernel.shader(head, Keys::Cached, ty));
            let packed = kernel.shader(head, Keys::Packed, CacheType::F32);
            let streams = kernel.shader(head, Keys::Streams, CacheType::F16);
            all.extend(kernels.into_iter().chain([packed, streams]).map(|s| (s, Params::FIELDS)));
        }
        for (rows, bytes) in [(32, 16 << 10), (64, 16 << 10), (32, 48 << 10), (64, 48 << 10)] {
            let Some(tile) = Registers::pick(rows, head, bytes) else { continue };
            let kernel = Kernel::Tiled(tile);
            let kernels = CacheType::ALL.map(|ty| kernel.shader(head, Keys::Cached, ty));
            let packed = kernel.shader(head, Keys::Packed, CacheType::F32);
            all.extend(kernels.into_iter().chain([packed]).map(|s| (s, Params::FIELDS)));
        }
        for (side, subgroup) in [(16, 32), (8, 8), (8, 32)] {
            let coop = Coop { side, subgroup };
            for variant in [Variant::Coop, Variant::CoopWide] {
                let tile = variant.tile(coop);
                let fits = tile.matrices * side <= subgroup && tile.bytes(head) <= 48 << 10;
                if head % side != 0 || !fits {
                    continue;
                }
                let types = CacheType::ALL.into_iter().filter(|&ty| ty != CacheType::F32);
                let cached = types.map(|ty| Kernel::Coop(tile).shader(head, Keys::Cached, ty));
                let packed = Kernel::Coop(tile).shader(head, Keys::Packed, CacheType::F32);
                all.extend(cached.chain([packed]).map(|s| (s, Params::FIELDS)));
            }
        }
    }
    all.push((combine_shader(), CombineParams::FIELDS));
    all.extend(decode::shaders());
    all.extend(train::shaders());
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
    let kernel = variant.kernel(gpu.caps(), s, cache);
    let (head, ty, tile) = (cache.head_dim, cache.ty, kernel.tile());
    let keys = if s.sequences == Sequences::One { Keys::Cached } else { Keys::Streams };
    let pipeline = gpu.pipeline(&kernel.name(head, keys, ty), || kernel.shader(head, keys, ty))?;
    let target = if s.splits > 1 { &scratch.o } else { o };
    for (i, (kc, vc)) in chunks.iter().enumerate() {
        let plan = plan(s, cache, i, tile, gpu.budget())?;
        record(rec, &pipeline, &[state, kc, vc, q, target, &scratch.lse], &plan);
    }
    combine(rec, s, cache, scratch, o)
}

/// Records the merge of the splits, if there are several.
fn combine(rec: &mut Recorder, s: &Shape, cache: &CacheShape, scratch: &Scratch, o: &Slice) -> Result<()> {
    if s.splits > 1 {
        let pipeline = rec.gpu().pipeline("attention_combine_f32", combine_shader)?;
        let plan = plan_combine(s, cache, rec.gpu().budget())?;
        record(rec, &pipeline, &[&scratch.o, &scratch.lse, o], &plan);
    }
    Ok(())
}
