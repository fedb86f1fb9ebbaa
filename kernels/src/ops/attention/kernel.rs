//! The variants of an attention with many rows or few: their tiles and shaders.

use weft_runtime::{Access, Caps, Shader};

use super::plan::Params;
use super::shape::Shape;
use crate::coop::Coop;
use crate::layout::{CacheShape, CacheType, Sequences};
use crate::select::{self, CallShape};
use crate::{Fields, compose};

/// Which keys there are for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// Those in the KV cache.
    Cached,
    /// Those of its slot in blocks, for a prompt's piece.
    Piece,
    /// The same, for a token of each slot.
    Paged,
    /// The same, for tokens of any slots.
    Mixed,
    /// Those of its sequence in a training batch, up to itself.
    Packed,
    /// All of its sequence in a batch.
    PackedFull,
}

impl Keys {
    /// Those that a cache has for the tokens of a batch.
    pub(super) fn of(cache: &CacheShape, sequences: Sequences) -> Keys {
        match (cache.pages.is_some(), sequences) {
            (true, Sequences::One) => Keys::Piece,
            (true, Sequences::Slots { .. }) => Keys::Paged,
            (true, Sequences::Mixed) => Keys::Mixed,
            // Slots are of a cache in blocks, which plans see to.
            (false, _) => Keys::Cached,
        }
    }

    pub(super) fn fragment(self) -> &'static str {
        match self {
            Keys::Cached => include_str!("cached.wgsl"),
            Keys::Piece => concat!(
                include_str!("../../layout/pages.wgsl"),
                include_str!("../../layout/piece.wgsl"),
                include_str!("paged.wgsl")
            ),
            Keys::Paged => concat!(
                include_str!("../../layout/pages.wgsl"),
                include_str!("../../layout/rows.wgsl"),
                include_str!("paged.wgsl")
            ),
            Keys::Mixed => concat!(
                include_str!("../../layout/pages.wgsl"),
                include_str!("../../layout/mixed.wgsl"),
                include_str!("paged.wgsl")
            ),
            Keys::Packed => include_str!("packed.wgsl"),
            Keys::PackedFull => include_str!("packed_full.wgsl"),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Keys::Cached => "",
            Keys::Piece => "_piece",
            Keys::Paged => "_paged",
            Keys::Mixed => "_mixed",
            Keys::Packed => "_packed",
            Keys::PackedFull => "_packed_full",
        }
    }

    /// Access to bindings 1 to 3.
    pub(super) fn bindings(self) -> [Access; 3] {
        match self {
            Keys::Cached | Keys::Piece | Keys::Paged | Keys::Mixed => [Access::Read; 3],
            Keys::Packed | Keys::PackedFull => [Access::Read, Access::ReadWrite, Access::ReadWrite],
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
    /// The same with twice the subgroups.
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
    pub(super) fn tile(self, coop: Coop) -> CoopTile {
        let subgroups = if self == Variant::CoopWide { 8 } else { 4 };
        CoopTile { side: coop.side, subgroup: coop.subgroup, subgroups }
    }

    /// Whether the device can run this variant on this cache.
    ///
    /// # Errors
    /// What is lacking.
    pub fn supports(self, caps: &Caps, cache: &CacheShape) -> std::result::Result<(), &'static str> {
        match cache.ty {
            CacheType::F32 if self.matrices() => Err("the cache is wider than f16"),
            _ if self.matrices() && cache.apart => Err("what keys lie without is added in f32"),
            _ => self.fits(caps, cache.head_dim),
        }
    }

    /// The same for heads of a size, whatever holds them.
    pub(super) fn fits(self, caps: &Caps, head_dim: u32) -> std::result::Result<(), &'static str> {
        if self == Variant::Rows {
            return Ok(());
        }
        if let Some(rows) = self.registers() {
            let tile = Registers::pick(rows, head_dim, caps.limits.max_compute_workgroup_storage_size);
            return tile.map(|_| ()).ok_or("heads that do not divide a workgroup");
        }
        let Some(coop) = Coop::of(caps) else { return Err("no cooperative matrices in f16 and f32") };
        let tile = self.tile(coop);
        if tile.side > tile.subgroup {
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
        // A slot has one token.
        let one = s.sequences == Sequences::One;
        let tokens = if one { s.tokens } else { 1 };
        let at = CallShape { tokens, rows: tokens * (s.heads / cache.kv_heads), head_dim: cache.head_dim };
        let can = |v: Variant| (one || v == Variant::Rows) && v.supports(caps, cache).is_ok();
        Variant::select("attention", caps, at, can)
    }

    /// The variant of an op of training, of those that can run.
    pub(super) fn of_batch(
        op: &str,
        caps: &Caps,
        tokens: u32,
        head_dim: u32,
        can: impl Fn(Variant) -> bool,
    ) -> Variant {
        Variant::select(op, caps, CallShape { tokens, rows: tokens, head_dim }, can)
    }

    fn select(op: &str, caps: &Caps, at: CallShape, can: impl Fn(Variant) -> bool) -> Variant {
        let of = |name: &str| Variant::ALL.into_iter().find(|v| v.name() == name);
        of(select::variant(op, caps, at, |name| of(name).is_some_and(&can))).unwrap_or(Variant::Rows)
    }

    /// Query rows of a workgroup of the register tiles.
    pub(super) fn registers(self) -> Option<u32> {
        match self {
            Variant::Tiled => Some(32),
            Variant::TiledWide => Some(64),
            _ => None,
        }
    }

    pub(super) fn kernel(self, caps: &Caps, s: &Shape, cache: &CacheShape) -> Kernel {
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
pub(super) struct CoopTile {
    /// Side of a matrix.
    pub(super) side: u32,
    /// Invocations of a subgroup.
    pub(super) subgroup: u32,
    /// Subgroups of a workgroup, with the rows of a matrix each.
    pub(super) subgroups: u32,
}

/// Keys at a time.
pub(super) const COOP_KEYS: u32 = 16;

/// Tiles in workgroup memory: of keys and of values, those that are used and those that come next.
const TILES: u32 = 4;

impl CoopTile {
    /// Query rows of a workgroup.
    pub(super) fn rows(self) -> u32 {
        self.subgroups * self.side
    }

    /// The text of matrices of this side.
    pub(super) fn matrices(self) -> &'static str {
        match self.side {
            16 => include_str!("coop16.wgsl"),
            _ => include_str!("coop8.wgsl"),
        }
    }

    /// What the kernels call their tile.
    pub(super) fn constants(self, head_dim: u32) -> [(&'static str, u32); 9] {
        let parts = self.rows().div_ceil(TILES * COOP_KEYS);
        [
            ("HD", head_dim),
            ("SG", self.subgroup),
            ("NSG", self.subgroups),
            ("BK", COOP_KEYS),
            // Matrices of a row.
            ("ND", head_dim / self.side),
            // Parts of the workgroup's own rows, which first lie where the tiles will; loads of an invocation for a part.
            ("RP", parts),
            ("RL", (self.side * head_dim).div_ceil(4 * self.subgroup * parts)),
            // Loads of an invocation for a tile of keys, in eights; vec4 of its share of a row's scores.
            ("KL", (COOP_KEYS * head_dim / 8).div_ceil(self.subgroups * self.subgroup)),
            ("NV", COOP_KEYS * self.side / (4 * self.subgroup)),
        ]
    }

    /// Workgroup memory: two tiles of keys and values, scores, exponentials, and two numbers a row.
    pub(super) fn bytes(self, head_dim: u32) -> u32 {
        let tiles = TILES * 2 * COOP_KEYS * (head_dim + 8);
        tiles + self.rows() * (4 * (COOP_KEYS + 4) + 2 * (COOP_KEYS + 8) + 8)
    }
}

/// What a workgroup of register tiles computes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Registers {
    /// Query rows.
    pub(super) rows: u32,
    /// Dimensions of queries and keys in workgroup memory.
    pub(super) slice: u32,
    /// Rows of an invocation when values are added up.
    pub(super) values: u32,
}

impl Registers {
    /// The tile with the largest slice for so much workgroup memory. None where heads do not divide a workgroup,
    /// or an invocation would hold more than 64 sums.
    pub(super) fn pick(rows: u32, head_dim: u32, bytes: u32) -> Option<Registers> {
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
pub(super) enum Kernel {
    /// Query rows of a workgroup.
    Rows(u32),
    Tiled(Registers),
    Coop(CoopTile),
}

impl Kernel {
    pub(super) fn tile(self) -> u32 {
        match self {
            Kernel::Rows(tile) => tile,
            Kernel::Tiled(t) => t.rows,
            Kernel::Coop(t) => t.rows(),
        }
    }

    /// The same for a cache whose keys lie without their bias.
    pub(super) fn name_for(self, cache: &CacheShape, keys: Keys) -> String {
        let apart = if cache.apart { "_apart" } else { "" };
        self.name(cache.head_dim, keys, cache.ty) + apart
    }

    pub(super) fn name(self, head_dim: u32, keys: Keys, ty: CacheType) -> String {
        let how = match self {
            Kernel::Rows(tile) => format!("q{tile}"),
            Kernel::Tiled(t) => format!("tiled{}_k{}", t.rows, t.slice),
            Kernel::Coop(t) => format!("coop{}_s{}_q{}", t.side, t.subgroup, t.rows()),
        };
        format!("attention{}_{how}_h{head_dim}_{}", keys.name(), ty.name())
    }

    pub(super) fn shader(self, head_dim: u32, keys: Keys, ty: CacheType) -> Shader {
        self.shader_as(head_dim, keys, ty, false)
    }

    /// The same; `apart` for a cache whose keys lie without their bias.
    pub(super) fn shader_as(self, head_dim: u32, keys: Keys, ty: CacheType, apart: bool) -> Shader {
        let apart_is = ("APART", u32::from(apart));
        let phases = if apart { include_str!("phases.wgsl") } else { "" };
        let source = match self {
            Kernel::Rows(tile) => compose(
                &[],
                &[("HD", head_dim), ("BQ", tile), apart_is],
                &[keys.fragment(), ty.word(), ty.loads(), phases, include_str!("kernel.wgsl")],
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
                    apart_is,
                ],
                &[keys.fragment(), ty.word(), ty.loads(), phases, include_str!("tiled.wgsl")],
            ),
            Kernel::Coop(t) => compose(
                &["f16", "wgpu_cooperative_matrix"],
                &t.constants(head_dim),
                &[
                    keys.fragment(),
                    ty.word(),
                    ty.loads(),
                    ty.halves(),
                    include_str!("coop.wgsl"),
                    t.matrices(),
                ],
            ),
        };
        let table = if apart { &[Access::Read][..] } else { &[] };
        let bindings = [&keys.bindings()[..], &[Access::ReadWrite; 3], table].concat();
        let name = self.name(head_dim, keys, ty) + if apart { "_apart" } else { "" };
        Shader { name, source, bindings }
    }
}

/// The keys of packed sequences.
const PACKED: [Keys; 2] = [Keys::Packed, Keys::PackedFull];

/// The shaders of every variant, for validation without a GPU.
pub(super) fn shaders() -> Vec<(Shader, Fields)> {
    let mut all = Vec::new();
    for head in [32, 64, 80, 96, 128, 256] {
        for tile in [4, 8, 16].into_iter().filter(|&t| t < 16 || head <= 128) {
            let kernel = Kernel::Rows(tile);
            let kernels = CacheType::ALL.map(|ty| kernel.shader(head, Keys::Cached, ty));
            let packed = PACKED.map(|keys| kernel.shader(head, keys, CacheType::F32));
            let paged =
                [Keys::Piece, Keys::Paged, Keys::Mixed].map(|keys| kernel.shader(head, keys, CacheType::F16));
            all.extend(kernels.into_iter().chain(packed).chain(paged).map(|s| (s, Params::FIELDS)));
            if head % 32 == 0 && 2 * head * tile <= 2048 {
                let apart = [Keys::Cached, Keys::Paged]
                    .map(|keys| kernel.shader_as(head, keys, CacheType::Q8_0, true));
                all.extend(apart.map(|s| (s, Params::FIELDS)));
            }
        }
        for (rows, bytes) in [(32, 16 << 10), (64, 16 << 10), (32, 48 << 10), (64, 48 << 10)] {
            let Some(tile) = Registers::pick(rows, head, bytes) else { continue };
            let kernel = Kernel::Tiled(tile);
            let kernels = CacheType::ALL.map(|ty| kernel.shader(head, Keys::Cached, ty));
            let packed = PACKED.map(|keys| kernel.shader(head, keys, CacheType::F32));
            let apart =
                [Keys::Cached, Keys::Piece].map(|keys| kernel.shader_as(head, keys, CacheType::Q4_0, true));
            all.extend(kernels.into_iter().chain(packed).chain(apart).map(|s| (s, Params::FIELDS)));
        }
        for coop in Coop::DEVICES {
            let Coop { side, subgroup } = coop;
            for variant in [Variant::Coop, Variant::CoopWide] {
                let tile = variant.tile(coop);
                let fits = side <= subgroup && tile.bytes(head) <= 48 << 10;
                if head % side != 0 || !fits {
                    continue;
                }
                let types = CacheType::ALL.into_iter().filter(|&ty| ty != CacheType::F32);
                let kernel = Kernel::Coop(tile);
                let cached = types
                    .flat_map(|ty| [Keys::Cached, Keys::Piece].map(|keys| kernel.shader(head, keys, ty)));
                let packed = PACKED.map(|keys| Kernel::Coop(tile).shader(head, keys, CacheType::F32));
                all.extend(cached.chain(packed).map(|s| (s, Params::FIELDS)));
            }
        }
    }
    all
}
