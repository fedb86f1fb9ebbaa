//! The kernels for many tokens (prefill, training), bound by arithmetic: their tiles, shaders, plans,
//! and which one a device and a shape get.

use weft_runtime::{Access, Caps, Cost, DeviceKind, Shader};

use super::direct::DirectTile;
use super::{Columns, Variant};
use crate::coop::Coop;
use crate::layout::split_tokens;
use crate::ops::{Format, LOAD4, WEIGHT, split_k, with_dequant};
use crate::{Bind, Budget, Dispatch, Fields, PlanError, WeightShape, WeightType, compose, params};

params! {
    /// Parameters of all these kernels; `extent` is the tokens.
    pub struct Params {
        pub planes: [u32; 4],
        pub row0: u32,
        pub rows: u32,
        pub units: u32,
        pub y_stride: u32,
        pub flags: u32,
        pub extent: u32,
        pub column: u32,
        pub scale: f32,
        pub chunk: u32,
        pub ranks: u32,
        pub t_stride: u32,
        pub t_column: u32,
        pub bounds: [u32; 2],
        pub pad: [u32; 2],
    }
}

/// The fields of kernels that are not cooperative.
const PLAIN: Fields = Params::FIELDS.split_at(9).0;

/// The two products of a weight, from the same planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// `y = x w^T`.
    Forward,
    /// `dx = dy w`, the input gradient: the sum goes over the weight's rows.
    Gradient,
}

impl Direction {
    /// The op's name.
    pub fn op(self) -> &'static str {
        match self {
            Direction::Forward => "matmul",
            Direction::Gradient => "matmul_dx",
        }
    }
}

/// A register tile; constants of the shaders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// Tokens.
    pub bm: u32,
    /// Outputs.
    pub bn: u32,
    /// Values of the sum at a time.
    pub bk: u32,
    /// Tokens of an invocation.
    pub tm: u32,
    /// Outputs of an invocation.
    pub tn: u32,
}

/// A cooperative tile; constants of the shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoopTile {
    /// Its matrices.
    pub coop: Coop,
    /// Tokens.
    pub bm: u32,
    /// Outputs.
    pub bn: u32,
    /// Values of the sum at a time.
    pub bk: u32,
    /// Subgroups along the tokens and along the outputs.
    pub subgroups: (u32, u32),
    /// Whether the next tile is loaded before this one is multiplied.
    pub prefetch: bool,
}

/// Cooperative tiles in matrices: tokens, outputs, depth in values, subgroups along both, and whether
/// loads run prefetch. `weft kernels perf --tiles` measures them all; [`Kernel::pick`] has what won.
const COOP: [(u32, u32, u32, (u32, u32), bool); 8] = [
    (8, 8, 32, (2, 2), false),
    (8, 8, 64, (2, 4), true),
    (8, 8, 64, (4, 2), true),
    (4, 8, 32, (2, 2), false),
    (4, 4, 64, (2, 2), true),
    (2, 4, 64, (1, 4), true),
    (2, 4, 64, (1, 2), true),
    (1, 4, 64, (1, 4), true),
];

/// Register tiles in f32 that fit core WebGPU, the first of which suits every device.
const TILED: [Tile; 5] = [
    Tile { bm: 64, bn: 64, bk: 32, tm: 4, tn: 4 },
    Tile { bm: 128, bn: 128, bk: 16, tm: 8, tn: 8 },
    Tile { bm: 128, bn: 64, bk: 16, tm: 8, tn: 4 },
    Tile { bm: 64, bn: 64, bk: 16, tm: 8, tn: 8 },
    Tile { bm: 32, bn: 64, bk: 16, tm: 4, tn: 8 },
];

const TILED_F16: [Tile; 3] = [
    Tile { bm: 64, bn: 64, bk: 32, tm: 4, tn: 4 },
    Tile { bm: 64, bn: 64, bk: 64, tm: 4, tn: 4 },
    Tile { bm: 128, bn: 64, bk: 32, tm: 8, tn: 4 },
];

const TILED_DOT: [Tile; 3] = [
    Tile { bm: 64, bn: 64, bk: 32, tm: 4, tn: 4 },
    Tile { bm: 64, bn: 64, bk: 64, tm: 4, tn: 4 },
    Tile { bm: 128, bn: 64, bk: 32, tm: 8, tn: 4 },
];

/// Tiles without workgroup memory, whose rows are 32 times those of an invocation, by tokens.
const BROADCAST: [Tile; 3] = [
    Tile { bm: 1, bn: 256, bk: 16, tm: 1, tn: 8 },
    Tile { bm: 4, bn: 128, bk: 16, tm: 4, tn: 4 },
    Tile { bm: 8, bn: 128, bk: 16, tm: 8, tn: 4 },
];

/// What the kernels that hand activations round need to know of a device; constants of the shaders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lanes {
    /// Invocations of a subgroup.
    pub subgroup: u32,
    /// Whether weights are read as textures.
    pub texels: bool,
}

impl Lanes {
    /// Those of a device whose subgroups have one size up to 32.
    fn of(caps: &Caps) -> Option<Lanes> {
        let (least, most) = caps.subgroups?;
        let fits = least == most && (4..=32).contains(&least) && least.is_power_of_two();
        fits.then_some(Lanes { subgroup: least, texels: caps.texels })
    }
}

impl CoopTile {
    /// The tiles that the device has room for.
    fn all(caps: &Caps) -> Vec<CoopTile> {
        let limits = &caps.limits;
        let fits = |c: &CoopTile| {
            c.bytes() <= limits.max_compute_workgroup_storage_size
                && c.invocations() <= limits.max_compute_invocations_per_workgroup
        };
        Coop::of(caps).into_iter().flat_map(CoopTile::of).filter(fits).collect()
    }

    fn of(coop: Coop) -> impl Iterator<Item = CoopTile> {
        COOP.into_iter()
            .map(move |(bm, bn, bk, subgroups, prefetch)| CoopTile {
                coop,
                bm: bm * coop.side,
                bn: bn * coop.side,
                bk,
                subgroups,
                prefetch,
            })
            // Every invocation has a unit of w and eight values of x to load, at least.
            .filter(|c| c.bn * c.bk / 16 >= c.invocations() && c.bm * c.bk / 8 >= c.invocations())
    }

    fn invocations(self) -> u32 {
        self.subgroups.0 * self.subgroups.1 * self.coop.subgroup
    }

    /// Workgroup memory, of the larger of the two directions: two tiles, and a matrix of sums for each
    /// subgroup.
    fn bytes(self) -> u32 {
        let w = (self.bn * (self.bk + 8)).max(self.bk * (self.bn + 8));
        let sums = self.subgroups.0 * self.subgroups.1 * self.coop.side * self.coop.side;
        2 * (self.bm * (self.bk + 8) + w) + 4 * sums
    }
}

/// A variant with the constants of its shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// [`Variant::Tiled`].
    Tiled(Tile),
    /// [`Variant::TiledF16`].
    TiledF16(Tile),
    /// [`Variant::TiledDot`].
    TiledDot(Tile),
    /// [`Variant::Broadcast`].
    Broadcast(Tile, Lanes),
    /// [`Variant::Coop`].
    Coop(CoopTile),
    /// [`Variant::Direct`].
    Direct(DirectTile),
}

impl Kernel {
    /// All kernels of a variant that a device has room for.
    pub fn all(variant: Variant, direction: Direction, caps: &Caps) -> Vec<Kernel> {
        match (variant, direction) {
            (Variant::Tiled, _) => TILED.map(Kernel::Tiled).into(),
            (Variant::TiledF16, Direction::Forward) => TILED_F16.map(Kernel::TiledF16).into(),
            (Variant::TiledDot, Direction::Forward) => TILED_DOT.map(Kernel::TiledDot).into(),
            (Variant::Broadcast, Direction::Forward) => {
                let of = |lanes| BROADCAST.map(|t| Kernel::Broadcast(t, lanes)).into();
                Lanes::of(caps).map_or_else(Vec::new, of)
            }
            (Variant::Coop, _) => CoopTile::all(caps).into_iter().map(Kernel::Coop).collect(),
            (Variant::Direct, _) => DirectTile::all(caps).into_iter().map(Kernel::Direct).collect(),
            _ => Vec::new(),
        }
    }

    /// The kernel of a variant that was the fastest at such shapes.
    ///
    /// # Panics
    /// If the device does not support the variant, or the variant is for a few tokens.
    pub fn pick(
        variant: Variant,
        direction: Direction,
        x: Format,
        caps: &Caps,
        outputs: u32,
        tokens: u32,
    ) -> Kernel {
        let all = Kernel::all(variant, direction, caps);
        let large = caps.kind == DeviceKind::Discrete && tokens > 64;
        let tiles = |at: usize| {
            let (bm, bn) = all[at].tile();
            tokens.div_ceil(bm) * outputs.div_ceil(bn)
        };
        let at = match variant {
            // Software GPUs walk their lanes one by one at each load, from workgroup memory as well, so that
            // loads a product are what counts. Large tiles take them seconds to compile, which the gradient
            // alone is worth, since the forward product has a better variant there.
            Variant::Tiled if caps.kind == DeviceKind::Cpu && direction == Direction::Gradient => {
                if tokens > 32 { 3 } else { 4 }
            }
            Variant::Direct => DirectTile::pick(caps, outputs, tokens),
            // The smallest tile of all tokens, or the largest there is.
            Variant::Broadcast => {
                (0..all.len()).find(|&at| all[at].tile().0 >= tokens).unwrap_or(all.len() - 1)
            }
            // Large register tiles pay where they are enough to fill a large GPU.
            Variant::Tiled if large && tiles(1) >= 400 => 1,
            Variant::Tiled if large => 2,
            Variant::TiledDot if large => 1,
            Variant::TiledF16 if large => 1,
            // A few streams are bound by the weights' bytes: no wider than they are, deep, and prefetch. Where there
            // are two tiles for each multiprocessor, two subgroups a tile load x less often than four.
            Variant::Coop if tokens <= 64 => {
                let key = |&at: &usize| {
                    let (tile, wg) = (all[at].tile(), all[at].invocations());
                    let many = outputs.div_ceil(tile.1) >= split_k::WANTED;
                    (tile, if many { wg } else { u32::MAX - wg })
                };
                let wide = |at: &usize| all[*at].tile().0 >= tokens;
                (0..all.len()).filter(wide).min_by_key(key).unwrap_or(0)
            }
            // Eight subgroups and a deeper tile win where x comes in f16 or workgroups are few; the
            // gradient has twice the tile of w to fill, and does better by four.
            Variant::Coop if direction == Direction::Forward && (x == Format::F16 || tiles(0) < 400) => 1,
            _ => 0,
        };
        all[at.min(all.len() - 1)]
    }

    /// Its variant.
    pub fn variant(self) -> Variant {
        match self {
            Kernel::Tiled(_) => Variant::Tiled,
            Kernel::TiledF16(_) => Variant::TiledF16,
            Kernel::TiledDot(_) => Variant::TiledDot,
            Kernel::Broadcast(..) => Variant::Broadcast,
            Kernel::Coop(_) => Variant::Coop,
            Kernel::Direct(_) => Variant::Direct,
        }
    }

    /// Tokens and outputs of a workgroup.
    pub(super) fn tile(self) -> (u32, u32) {
        match self {
            Kernel::Tiled(t) | Kernel::TiledF16(t) | Kernel::TiledDot(t) | Kernel::Broadcast(t, _) => {
                (t.bm, t.bn)
            }
            Kernel::Coop(c) => (c.bm, c.bn),
            Kernel::Direct(d) => (d.bm(), d.bn),
        }
    }

    /// Values of the sum at a time, of kernels whose workgroups can share a sum.
    pub(super) fn depth(self) -> Option<u32> {
        match self {
            Kernel::Coop(c) => Some(c.bk),
            Kernel::Direct(d) => Some(d.bk),
            _ => None,
        }
    }

    /// Invocations of a workgroup.
    fn invocations(self) -> u32 {
        match self {
            Kernel::Tiled(t) | Kernel::TiledF16(t) | Kernel::TiledDot(t) | Kernel::Broadcast(t, _) => {
                t.bm / t.tm * (t.bn / t.tn)
            }
            Kernel::Coop(c) => c.invocations(),
            Kernel::Direct(d) => d.invocations(),
        }
    }

    /// Its tile, readable.
    pub fn tile_name(self) -> String {
        match self {
            Kernel::Broadcast(t, lanes) => {
                let texels = if lanes.texels { "t" } else { "" };
                format!("{}x{}/{}/sg{}{texels}", t.bm, t.bn, t.tn, lanes.subgroup)
            }
            Kernel::Tiled(t) | Kernel::TiledF16(t) | Kernel::TiledDot(t) => {
                format!("{}x{}x{}/{}x{}", t.bm, t.bn, t.bk, t.tm, t.tn)
            }
            Kernel::Coop(c) => {
                let (m, n) = c.subgroups;
                let prefetch = if c.prefetch { "+" } else { "" };
                format!("{}x{}x{}/sg{m}x{n}{prefetch}", c.bm, c.bn, c.bk)
            }
            Kernel::Direct(d) => d.name(),
        }
    }

    pub(super) fn name(
        self,
        direction: Direction,
        ty: WeightType,
        x: Format,
        aligned: bool,
        low: bool,
    ) -> String {
        let half = if x == Format::F16 { "_xf16" } else { "" };
        let aligned = aligned && !matches!(self, Kernel::Direct(_));
        let aligned = if aligned { "_aligned" } else { "" };
        let low = if low { "_low" } else { "" };
        format!("{}_{}_{}_{ty}{half}{aligned}{low}", direction.op(), self.variant().name(), self.tile_name())
    }

    /// Whether the shapes of a plan need no clamping.
    pub(super) fn aligned(self, outputs: u32, depth: u32, plan: &[Dispatch<Params>]) -> bool {
        match self {
            Kernel::Coop(c) => {
                outputs.is_multiple_of(c.bn)
                    && depth.is_multiple_of(c.bk)
                    && plan.iter().all(|d| d.params.extent >= c.bm)
            }
            _ => false,
        }
    }

    pub(super) fn shader(
        self,
        direction: Direction,
        ty: WeightType,
        x: Format,
        aligned: bool,
        low: bool,
    ) -> Shader {
        let forward = u32::from(direction == Direction::Forward);
        let mut bindings = [&WEIGHT[..], &[Access::ReadWrite; 2]].concat();
        if forward == 1 {
            bindings.push(Access::Read);
        }
        let registers = |t: Tile, text: &'static str, half: bool| {
            let span = u32::from(ty.span() == 32);
            let constants = [
                ("WG", self.invocations()),
                ("BM", t.bm),
                ("BN", t.bn),
                ("BK", t.bk),
                ("TM", t.tm),
                ("TN", t.tn),
                ("TQ", t.tn / 4),
                ("SPAN32", span),
                ("COOPERATIVE", 0),
            ];
            let mut parts = with_dequant(ty, text);
            parts.push(include_str!("params.wgsl"));
            if forward == 1 {
                parts.push(include_str!("tiled_store.wgsl"));
            }
            let enables: &[&str] = if half {
                parts.push(ty.half());
                &["f16"]
            } else {
                &[]
            };
            compose(enables, &constants, &parts)
        };
        let source = match self {
            Kernel::Tiled(t) => match direction {
                Direction::Forward => registers(t, include_str!("tiled.wgsl"), false),
                Direction::Gradient => registers(t, include_str!("gradient.wgsl"), false),
            },
            Kernel::Broadcast(t, lanes) => {
                let per = 16 / lanes.subgroup.min(16);
                let heads = ty.layout().has_ints() && ty.layout().parts() == 2;
                let constants = [
                    ("WG", self.invocations()),
                    ("BN", t.bn),
                    ("TM", t.tm),
                    ("TN", t.tn),
                    ("PER", per),
                    ("HELD", 16 / per),
                    ("HEADS", u32::from(heads)),
                    ("COOPERATIVE", 0),
                ];
                let load4 = if lanes.texels {
                    bindings[0] = Access::Texels;
                    include_str!("../../types/load4_texels.wgsl")
                } else {
                    LOAD4
                };
                let own = [
                    load4,
                    ty.book(),
                    include_str!("params.wgsl"),
                    include_str!("broadcast.wgsl"),
                    include_str!("tiled_store.wgsl"),
                ];
                compose(&[], &constants, &[ty.layout().dequant, &own].concat())
            }
            Kernel::Direct(d) => d.source(direction, ty),
            Kernel::TiledF16(t) => registers(t, include_str!("tiled_f16.wgsl"), true),
            Kernel::TiledDot(t) => {
                bindings.push(Access::ReadWrite);
                registers(t, include_str!("tiled_dot.wgsl"), false)
            }
            Kernel::Coop(c) => {
                let (matrices, put_x) = match c.coop.side {
                    16 => (include_str!("coop16.wgsl"), include_str!("coop16_x.wgsl")),
                    _ => (include_str!("coop8.wgsl"), include_str!("coop8_x.wgsl")),
                };
                let activations = match x {
                    Format::F32 => include_str!("x_f32.wgsl"),
                    _ => include_str!("x_f16.wgsl"),
                };
                let mut parts = with_dequant(ty, include_str!("coop.wgsl"));
                parts.extend([
                    include_str!("params.wgsl"),
                    include_str!("coop_w.wgsl"),
                    include_str!("coop_x.wgsl"),
                    ty.half(),
                    matrices,
                    put_x,
                    activations,
                ]);
                let low_t = bindings.len() as u32 + 1;
                if low {
                    parts.push(include_str!("coop_low.wgsl"));
                    bindings.extend([Access::ReadWrite, Access::Read]);
                }
                let wg = c.invocations();
                let units = c.bn * c.bk / 16;
                // Pairs of units share what one load brings, where there are enough for everybody.
                let pairs = ty.layout().has_ints() && units / 2 >= wg;
                let per_item = if pairs { 2 } else { 1 };
                let (m, n) = c.subgroups;
                let constants = [
                    ("FORWARD", forward),
                    ("GRADIENT", 1 - forward),
                    ("ALIGNED", u32::from(aligned)),
                    ("EDGES", u32::from(!aligned)),
                    ("LOW", u32::from(low)),
                    ("LOW_T", low_t),
                    ("LOW_M", low_t + 1),
                    ("PREFETCH", u32::from(c.prefetch)),
                    ("NOW", u32::from(!c.prefetch)),
                    ("SG", c.coop.subgroup),
                    ("SM", m),
                    ("SN", n),
                    ("BM", c.bm),
                    ("BN", c.bn),
                    ("BK", c.bk),
                    ("WROWS", if forward == 1 { c.bn } else { c.bk }),
                    ("MT", c.bm / (m * c.coop.side)),
                    ("NT", c.bn / (n * c.coop.side)),
                    // Small matrices are many: unrolled, they take software GPUs seconds to compile.
                    ("KS", if c.coop.side == 16 { c.bk / 16 } else { 1 }),
                    ("PER_ITEM", per_item),
                    ("PAIRS", u32::from(pairs)),
                    ("UNITS", u32::from(!pairs)),
                    // Items of w and eights of x that an invocation loads.
                    ("WL", units / per_item / wg),
                    ("XL", c.bm * c.bk / 8 / wg),
                    ("COOPERATIVE", 1),
                ];
                compose(&["f16", "wgpu_cooperative_matrix"], &constants, &parts)
            }
        };
        Shader { name: self.name(direction, ty, x, aligned, low), source, bindings }
    }
}

/// What a product is about, besides the weight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    pub(super) direction: Direction,
    pub(super) kernel: Kernel,
    /// How the left side lies in memory.
    pub(super) x: Format,
    pub(super) tokens: u32,
    /// Where the weight's rows lie: in y, or in dy.
    pub(super) columns: Columns,
    pub(super) flags: u32,
    /// Power of two that keeps a gradient in the range of f16.
    pub(super) scale: f32,
    /// Parts that workgroups share the sum in, and the values of each.
    pub(super) parts: (u32, u32),
    /// An adapter's product that joins the sum: its ranks, where they lie in t, and the bytes of its matrix.
    pub(super) low: Option<(u32, Columns, [u32; 2], u64)>,
}

/// One dispatch for each range of tokens whose rows of both activations fit a binding. Operands: slab,
/// slab, left side, result, and forward the bias, and for integers their scales.
///
/// # Errors
/// A row of activations that exceeds a binding.
pub(super) fn plan(
    w: &WeightShape,
    slab: usize,
    job: &Job,
    bias_bytes: u64,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let s = &w.slabs[slab];
    let rows = s.rows.end - s.rows.start;
    let (of_rows, of_cols) = (u64::from(job.columns.stride), u64::from(w.cols));
    let forward = job.direction == Direction::Forward;
    let integers = matches!(job.kernel, Kernel::TiledDot(_));
    // Bytes of a token in each operand from the third on; none of the bias.
    let mut per_token = match job.direction {
        Direction::Forward => vec![of_cols * job.x.bytes(), of_rows * 4, 0],
        Direction::Gradient => vec![of_rows * job.x.bytes(), of_cols * 4],
    };
    if integers {
        let (q, meta) = super::quantize::bytes(of_cols);
        per_token[0] = q;
        per_token.push(meta);
    }
    let m_bytes = job.low.map(|(_, t, _, bytes)| {
        per_token.extend([u64::from(t.stride) * 4, 0]);
        bytes
    });
    let split: Vec<u64> = per_token.iter().copied().filter(|&b| b > 0).collect();
    let (bm, bn) = job.kernel.tile();
    let outputs = if forward { rows } else { w.cols };
    Ok(split_tokens(job.direction.op(), job.tokens, &split, job.x, budget)?
        .into_iter()
        .map(|t| {
            let n = t.end - t.start;
            let mut binds: Vec<Bind> =
                (0..2).map(|operand| Bind { operand, offset: 0, size: s.bytes }).collect();
            for (i, &row) in per_token.iter().enumerate() {
                let (offset, size) = match row {
                    0 if i + 1 == per_token.len() => (0, m_bytes.unwrap_or(bias_bytes)),
                    0 => (0, bias_bytes),
                    // Of tiles, whole ones.
                    row if i == 0 => (u64::from(t.start) * row, job.x.rows(n) * row),
                    // All parts of the result.
                    row if i == 1 => (u64::from(t.start) * row, u64::from(n) * row * u64::from(job.parts.0)),
                    row => (u64::from(t.start) * row, u64::from(n) * row),
                };
                binds.push(Bind { operand: 2 + i, offset, size });
            }
            Dispatch {
                params: Params {
                    planes: s.planes,
                    row0: s.rows.start,
                    rows,
                    units: w.units(),
                    y_stride: job.columns.stride,
                    flags: job.flags,
                    extent: n,
                    column: job.columns.column,
                    scale: job.scale,
                    chunk: job.parts.1,
                    ranks: job.low.map_or(0, |l| l.0),
                    t_stride: job.low.map_or(0, |l| l.1.stride),
                    t_column: job.low.map_or(0, |l| l.1.column),
                    bounds: job.low.map_or([u32::MAX; 2], |l| l.2),
                    pad: [0; 2],
                },
                binds,
                grid: [n.div_ceil(bm), outputs.div_ceil(bn), job.parts.0],
                cost: Cost {
                    bytes: s.bytes as f64 + f64::from(n) * per_token.iter().sum::<u64>() as f64,
                    flops: 2.0 * f64::from(n) * f64::from(rows) * f64::from(w.cols),
                },
            }
        })
        .collect())
}

/// Every shader of these kernels with its parameters' fields.
pub(super) fn shaders() -> Vec<(Shader, Fields)> {
    let mut all = Vec::new();
    for &ty in WeightType::ALL {
        let mut add = |kernel: Kernel, direction, x| {
            for aligned in [false, true] {
                let coop = kernel.variant() == Variant::Coop;
                let fields = if coop { Params::FIELDS } else { PLAIN };
                if !aligned || coop {
                    all.push((kernel.shader(direction, ty, x, aligned, false), fields));
                }
                // What an adapter adds has nothing to do with the type, but for how wide its items are.
                if coop && matches!(ty, WeightType::F16 | WeightType::Q4_K) {
                    all.push((kernel.shader(direction, ty, x, aligned, true), fields));
                }
            }
        };
        for t in TILED {
            add(Kernel::Tiled(t), Direction::Forward, Format::F32);
            add(Kernel::Tiled(t), Direction::Gradient, Format::F32);
        }
        for t in TILED_F16 {
            add(Kernel::TiledF16(t), Direction::Forward, Format::F32);
        }
        for (t, subgroup) in BROADCAST.into_iter().flat_map(|t| [4, 8, 32].map(|s| (t, s))) {
            for texels in [false, true] {
                add(Kernel::Broadcast(t, Lanes { subgroup, texels }), Direction::Forward, Format::F32);
            }
        }
        if ty.layout().has_ints() {
            TILED_DOT.iter().for_each(|&t| add(Kernel::TiledDot(t), Direction::Forward, Format::F32));
        }
        let devices = [(16, 32), (8, 8), (8, 32)].map(|(side, subgroup)| Coop { side, subgroup });
        for c in devices.into_iter().flat_map(CoopTile::of) {
            for direction in [Direction::Forward, Direction::Gradient] {
                for x in [Format::F32, Format::F16] {
                    add(Kernel::Coop(c), direction, x);
                }
            }
        }
        for d in DirectTile::on_devices() {
            let x = Format::Tiles { side: d.coop.side };
            all.extend(
                [Direction::Forward, Direction::Gradient].map(|direction| {
                    (Kernel::Direct(d).shader(direction, ty, x, false, false), Params::FIELDS)
                }),
            );
        }
    }
    all
}
