//! The tiles of the cooperative product whose left side comes in tiles ([`Format::Tiles`](crate::layout::Format::Tiles)) and goes straight
//! from memory into matrices: only weights are staged in workgroup memory.

use weft_runtime::Caps;

use super::variant::Direction;
use crate::coop::{Coop, has_room};
use crate::layout::Columns;
use crate::ops::with_dequant;
use crate::{WeightShape, WeightType, compose};

/// A tile of the product; constants of its shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectTile {
    /// The device's matrices.
    pub coop: Coop,
    /// Subgroups, which stand along the tokens.
    pub subgroups: u32,
    /// Matrices of a subgroup along the tokens.
    pub matrices: u32,
    /// Outputs.
    pub bn: u32,
    /// Values of the sum at a time.
    pub bk: u32,
    /// Whether weights are loaded a step of the sum ahead.
    pub prefetch: bool,
}

/// Subgroups, matrices of each along the tokens, outputs, depth, prefetch: for matrices of 16 x 16.
const TILES_16: [(u32, u32, u32, u32, bool); 3] =
    [(4, 1, 64, 64, false), (4, 2, 64, 64, false), (4, 4, 64, 64, true)];

/// The same for matrices of 8 x 8, of which a subgroup can keep fewer.
const TILES_8: [(u32, u32, u32, u32, bool); 2] = [(2, 2, 32, 32, false), (4, 2, 32, 32, true)];

impl DirectTile {
    /// Tokens.
    pub fn bm(self) -> u32 {
        self.subgroups * self.matrices * self.coop.side
    }

    /// Invocations of a workgroup.
    pub(super) fn invocations(self) -> u32 {
        self.subgroups * self.coop.subgroup
    }

    /// Its sizes, readable.
    pub(super) fn name(self) -> String {
        let prefetch = if self.prefetch { "+" } else { "" };
        format!("{}x{}x{}/sg{}{prefetch}", self.bm(), self.bn, self.bk, self.subgroups)
    }

    fn of(coop: Coop) -> impl Iterator<Item = DirectTile> {
        let tiles = if coop.side == 16 { &TILES_16[..] } else { &TILES_8[..] };
        tiles
            .iter()
            .map(move |&(subgroups, matrices, bn, bk, prefetch)| DirectTile {
                coop,
                subgroups,
                matrices,
                bn,
                bk,
                prefetch,
            })
            // Every invocation has a unit of w to load, at least.
            .filter(|t| t.bn * t.bk / 16 >= t.invocations())
    }

    /// The tiles that a device has room for.
    pub(super) fn all(caps: &Caps) -> Vec<DirectTile> {
        let fits = |t: &DirectTile| has_room(caps, t.bytes(), t.invocations());
        Coop::of(caps).into_iter().flat_map(DirectTile::of).filter(fits).collect()
    }

    /// Those of the devices that there are, for validation without one.
    pub(super) fn on_devices() -> impl Iterator<Item = DirectTile> {
        Coop::DEVICES.into_iter().flat_map(DirectTile::of)
    }

    /// Workgroup memory, of the larger of the two directions: the tile of weights, and a matrix of sums for
    /// each subgroup.
    fn bytes(self) -> u32 {
        let w = (self.bn * (self.bk + 8)).max(self.bk * (self.bn + 8));
        2 * w + 4 * self.subgroups * self.coop.side * self.coop.side
    }

    /// The WGSL text, of a kernel for whole tiles of tokens without a bias or of one for any; `low` is the binding of an
    /// adapter's t where its product joins the sum.
    pub(super) fn source(
        self,
        direction: Direction,
        ty: WeightType,
        whole: bool,
        low: Option<u32>,
    ) -> String {
        let forward = direction == Direction::Forward;
        let matrices = match self.coop.side {
            16 => include_str!("coop16.wgsl"),
            _ => include_str!("coop8.wgsl"),
        };
        let mut parts = with_dequant(ty, include_str!("direct.wgsl"));
        parts.extend([include_str!("params.wgsl"), include_str!("coop_w.wgsl"), ty.half(), matrices]);
        if low.is_some() {
            parts.push(include_str!("coop_low.wgsl"));
        }
        let low_t = low.unwrap_or(0);
        let units = self.bn * self.bk / 16;
        let wg = self.invocations();
        // Pairs of units share what one load brings, where there are enough for everybody.
        let pairs = ty.layout().has_ints() && units / 2 >= wg;
        let per_item = if pairs { 2 } else { 1 };
        let constants = [
            ("FORWARD", u32::from(forward)),
            ("ALIGNED", 1),
            ("WHOLE", u32::from(whole)),
            ("LOW", u32::from(low.is_some())),
            ("LOW_T", low_t),
            ("LOW_M", low_t + 1),
            // Fours of an adapter's matrix that an invocation loads.
            ("ML", (self.coop.side * self.bn / 4).div_ceil(wg)),
            ("PREFETCH", u32::from(self.prefetch)),
            ("SG", self.coop.subgroup),
            ("SM", self.subgroups),
            ("BM", self.bm()),
            ("BN", self.bn),
            ("BK", self.bk),
            ("WROWS", if forward { self.bn } else { self.bk }),
            ("MT", self.matrices),
            ("NT", self.bn / self.coop.side),
            ("KS", self.bk / self.coop.side),
            ("PER_ITEM", per_item),
            ("PAIRS", u32::from(pairs)),
            ("WL", units / per_item / wg),
            ("COOPERATIVE", 1),
        ];
        compose(&["f16", "wgpu_cooperative_matrix"], &constants, &parts)
    }

    /// Whether a weight's slabs are whole tiles: of outputs and of the sum, in both directions.
    pub(super) fn takes(self, w: &WeightShape, columns: Columns) -> bool {
        let step = self.bn.max(self.bk);
        let whole = |s: &crate::Slab| s.rows.start.is_multiple_of(step) && s.count().is_multiple_of(step);
        w.cols.is_multiple_of(step)
            && w.slabs.iter().all(whole)
            && columns.column.is_multiple_of(self.coop.side)
            && columns.stride.is_multiple_of(self.coop.side)
    }
}
