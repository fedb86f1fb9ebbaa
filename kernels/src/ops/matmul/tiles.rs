//! The kernels for many tokens (prefill, training), bound by arithmetic, and their shaders.

use weft_runtime::{Access, Caps, Shader};

use super::direct::DirectTile;
use super::operands::HAS_BIAS;
use super::sliced::SlicedTile;
use super::tile::{BROADCAST, CoopTile, Lanes, TILED, TILED_DOT, TILED_F16, Tile};
use super::variant::{Direction, Variant};
use crate::coop::Coop;
use crate::layout::Format;
use crate::ops::{LOAD4, WEIGHT, with_dequant};
use crate::{Dispatch, Fields, WeightType, compose, params};

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
pub(crate) const PLAIN: Fields = Params::FIELDS.split_at(9).0;

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
    /// [`Variant::Sliced`].
    Sliced(SlicedTile),
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
            (Variant::Sliced, Direction::Forward) => {
                SlicedTile::all(caps).into_iter().map(Kernel::Sliced).collect()
            }
            _ => Vec::new(),
        }
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
            Kernel::Sliced(_) => Variant::Sliced,
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
            Kernel::Sliced(s) => (s.bm(), s.bn),
        }
    }

    /// Values of the sum at a time, of kernels whose workgroups can share a sum, and how many of those a workgroup
    /// should have at least.
    pub(super) fn depth(self) -> Option<(u32, u32)> {
        match self {
            Kernel::Coop(c) => Some((c.bk, 8)),
            Kernel::Direct(d) => Some((d.bk, 8)),
            Kernel::Sliced(s) => Some((s.depth(), 2)),
            _ => None,
        }
    }

    /// Its register tile, where it has one.
    pub(super) fn registers_tile(self) -> Option<Tile> {
        match self {
            Kernel::Tiled(t) | Kernel::TiledF16(t) | Kernel::TiledDot(t) | Kernel::Broadcast(t, _) => Some(t),
            Kernel::Coop(_) | Kernel::Direct(_) | Kernel::Sliced(_) => None,
        }
    }

    /// Invocations of a workgroup.
    pub(super) fn invocations(self) -> u32 {
        match self {
            Kernel::Tiled(t) | Kernel::TiledF16(t) | Kernel::TiledDot(t) | Kernel::Broadcast(t, _) => {
                t.bm / t.tm * (t.bn / t.tn)
            }
            Kernel::Coop(c) => c.invocations(),
            Kernel::Direct(d) => d.invocations(),
            Kernel::Sliced(s) => s.invocations(),
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
            Kernel::Sliced(s) => s.name(),
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
        let aligned = if aligned { "_aligned" } else { "" };
        let low = if low { "_low" } else { "" };
        format!("{}_{}_{}_{ty}{half}{aligned}{low}", direction.op(), self.variant().name(), self.tile_name())
    }

    /// The dispatches of a plan whose shapes need no clamping, and the others; `padded` says that the result has room
    /// for whole tiles.
    pub(super) fn by_alignment(
        self,
        [outputs, depth]: [u32; 2],
        padded: bool,
        plan: Vec<Dispatch<Params>>,
    ) -> Vec<(bool, Vec<Dispatch<Params>>)> {
        let Kernel::Direct(d) = self else {
            return vec![(self.aligned(outputs, depth, &plan), plan)];
        };
        let fours = |p: &Params| (p.y_stride | p.column | p.row0).is_multiple_of(4);
        let whole =
            |p: &Params| (padded || p.extent.is_multiple_of(d.bm())) && p.flags & HAS_BIAS == 0 && fours(p);
        let (whole, rest): (Vec<_>, Vec<_>) = plan.into_iter().partition(|d| whole(&d.params));
        [(true, whole), (false, rest)].into_iter().filter(|(_, plan)| !plan.is_empty()).collect()
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
        let forward = direction == Direction::Forward;
        let mut bindings = [&WEIGHT[..], &[Access::ReadWrite; 2]].concat();
        if forward {
            bindings.push(Access::Read);
        }
        let low_at = bindings.len() as u32 + 1;
        match self {
            Kernel::Broadcast(_, Lanes { texels: true, .. }) => bindings[0] = Access::Texels,
            Kernel::TiledDot(_) => bindings.push(Access::ReadWrite),
            Kernel::Coop(_) | Kernel::Direct(_) if low => bindings.extend([Access::ReadWrite, Access::Read]),
            _ => {}
        }
        let source = match self {
            Kernel::Tiled(t) if forward => self.registers(t, ty, include_str!("tiled.wgsl"), true),
            Kernel::Tiled(t) => self.registers(t, ty, include_str!("gradient.wgsl"), false),
            Kernel::TiledF16(t) => self.registers(t, ty, include_str!("tiled_f16.wgsl"), forward),
            Kernel::TiledDot(t) => self.registers(t, ty, include_str!("tiled_dot.wgsl"), forward),
            Kernel::Broadcast(t, lanes) => self.broadcast(t, lanes, ty),
            Kernel::Direct(d) => d.source(direction, ty, aligned, low.then_some(low_at)),
            Kernel::Sliced(s) => return s.shader(ty, self.name(direction, ty, x, aligned, low)),
            Kernel::Coop(c) => coop_source(c, direction, ty, (x, aligned), low.then_some(low_at)),
        };
        Shader { name: self.name(direction, ty, x, aligned, low), source, bindings }
    }

    /// The text of a kernel of register tiles.
    fn registers(self, t: Tile, ty: WeightType, text: &'static str, stores: bool) -> String {
        let constants = [
            ("WG", self.invocations()),
            ("BM", t.bm),
            ("BN", t.bn),
            ("BK", t.bk),
            ("TM", t.tm),
            ("TN", t.tn),
            ("TQ", t.tn / 4),
            ("SPAN32", u32::from(ty.span() == 32)),
            ("COOPERATIVE", 0),
            ("ROUTED", 0),
        ];
        let mut parts = with_dequant(ty, text);
        parts.push(include_str!("params.wgsl"));
        if stores {
            parts.push(include_str!("tiled_store.wgsl"));
        }
        let half = matches!(self, Kernel::TiledF16(_));
        if half {
            parts.push(ty.half());
        }
        compose(if half { &["f16"] } else { &[] }, &constants, &parts)
    }

    /// The text of a kernel that hands activations round.
    fn broadcast(self, t: Tile, lanes: Lanes, ty: WeightType) -> String {
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
        let load4 = if lanes.texels { include_str!("../../types/load4_texels.wgsl") } else { LOAD4 };
        let own = [
            load4,
            ty.book(),
            include_str!("params.wgsl"),
            include_str!("broadcast.wgsl"),
            include_str!("tiled_store.wgsl"),
        ];
        compose(&[], &constants, &[ty.layout().dequant, &own].concat())
    }
}

/// The text of a cooperative kernel; `low` is the binding of an adapter's t where its product joins the sum.
fn coop_source(
    c: CoopTile,
    direction: Direction,
    ty: WeightType,
    (x, aligned): (Format, bool),
    low: Option<u32>,
) -> String {
    let forward = direction == Direction::Forward;
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
    if low.is_some() {
        parts.push(include_str!("coop_low.wgsl"));
    }
    let low_t = low.unwrap_or(0);
    let wg = c.invocations();
    let units = c.bn * c.bk / 16;
    // Pairs of units share what one load brings, where there are enough for everybody.
    let pairs = ty.layout().has_ints() && units / 2 >= wg;
    let per_item = if pairs { 2 } else { 1 };
    let (m, n) = c.subgroups;
    let constants = [
        ("FORWARD", u32::from(forward)),
        ("ALIGNED", u32::from(aligned)),
        ("LOW", u32::from(low.is_some())),
        ("LOW_T", low_t),
        ("LOW_M", low_t + 1),
        ("PREFETCH", u32::from(c.prefetch)),
        ("SG", c.coop.subgroup),
        ("SM", m),
        ("SN", n),
        ("BM", c.bm),
        ("BN", c.bn),
        ("BK", c.bk),
        ("WROWS", if forward { c.bn } else { c.bk }),
        ("MT", c.bm / (m * c.coop.side)),
        ("NT", c.bn / (n * c.coop.side)),
        // Small matrices are many: unrolled, they take software GPUs seconds to compile.
        ("KS", if c.coop.side == 16 { c.bk / 16 } else { 1 }),
        ("PER_ITEM", per_item),
        ("PAIRS", u32::from(pairs)),
        // Items of w and eights of x that an invocation loads.
        ("WL", units / per_item / wg),
        ("XL", c.bm * c.bk / 8 / wg),
        ("COOPERATIVE", 1),
    ];
    compose(&["f16", "wgpu_cooperative_matrix"], &constants, &parts)
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
        for c in Coop::DEVICES.into_iter().flat_map(CoopTile::of) {
            for direction in [Direction::Forward, Direction::Gradient] {
                for x in [Format::F32, Format::F16] {
                    add(Kernel::Coop(c), direction, x);
                }
            }
        }
        for s in SlicedTile::on_devices() {
            let x = Format::Tiles { side: s.coop.side };
            all.push((Kernel::Sliced(s).shader(Direction::Forward, ty, x, false, false), Params::FIELDS));
        }
        for d in DirectTile::on_devices() {
            let x = Format::Tiles { side: d.coop.side };
            for direction in [Direction::Forward, Direction::Gradient] {
                for low in [false, true] {
                    // What an adapter adds is tried with one type in integers and one that is not, as above.
                    if !low || matches!(ty, WeightType::F16 | WeightType::Q4_K) {
                        all.push((Kernel::Direct(d).shader(direction, ty, x, false, low), Params::FIELDS));
                    }
                }
            }
        }
    }
    all
}
