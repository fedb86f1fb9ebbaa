//! The tiles of the cooperative product of a few rows of activations: its left side comes in tiles
//! ([`Format::Tiles`](crate::layout::Format::Tiles)), as of [`DirectTile`](super::direct::DirectTile), and the
//! subgroups of a workgroup share the sum.

use weft_runtime::Caps;

use crate::coop::{Coop, has_room};
use crate::layout::Columns;
use crate::ops::with_dequant;
use crate::{WeightShape, WeightType, compose};

/// A tile of the product; constants of its shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlicedTile {
    /// The device's matrices.
    pub coop: Coop,
    /// Subgroups, which share the sum.
    pub slices: u32,
    /// Matrices along the tokens.
    pub matrices: u32,
    /// Outputs.
    pub bn: u32,
    /// Values of the sum that a subgroup takes at a time.
    pub bk: u32,
}

/// Subgroups, matrices along the tokens, outputs, depth: for matrices of 16 x 16.
const TILES_16: [(u32, u32, u32, u32); 4] = [(4, 1, 32, 64), (4, 2, 16, 64), (4, 2, 32, 64), (4, 4, 32, 64)];

/// The same for matrices of 8 x 8.
const TILES_8: [(u32, u32, u32, u32); 2] = [(2, 2, 16, 32), (2, 4, 16, 32)];

impl SlicedTile {
    /// Tokens.
    pub(super) fn bm(self) -> u32 {
        self.matrices * self.coop.side
    }

    /// Invocations of a workgroup.
    pub(super) fn invocations(self) -> u32 {
        self.slices * self.coop.subgroup
    }

    /// Values of the sum that a workgroup takes at a time.
    pub(super) fn depth(self) -> u32 {
        self.slices * self.bk
    }

    /// Its sizes, readable.
    pub(super) fn name(self) -> String {
        format!("{}x{}x{}/{}", self.bm(), self.bn, self.bk, self.slices)
    }

    fn of(coop: Coop) -> impl Iterator<Item = SlicedTile> {
        let tiles = if coop.side == 16 { &TILES_16[..] } else { &TILES_8[..] };
        tiles
            .iter()
            .map(move |&(slices, matrices, bn, bk)| SlicedTile { coop, slices, matrices, bn, bk })
            // Every invocation has a unit of w to load, at least.
            .filter(|t| t.bn * t.bk / 16 >= t.coop.subgroup)
    }

    /// The tiles that a device has room for.
    pub(super) fn all(caps: &Caps) -> Vec<SlicedTile> {
        let fits = |t: &SlicedTile| has_room(caps, t.bytes(), t.invocations());
        Coop::of(caps).into_iter().flat_map(SlicedTile::of).filter(fits).collect()
    }

    /// Those of the devices that there are, for validation without one.
    pub(super) fn on_devices() -> impl Iterator<Item = SlicedTile> {
        Coop::DEVICES.into_iter().flat_map(SlicedTile::of)
    }

    /// Workgroup memory: weights of a step and a matrix of sums for each subgroup.
    fn bytes(self) -> u32 {
        self.slices * (2 * self.bn * (self.bk + 8) + 4 * self.coop.side * self.coop.side)
    }

    /// The WGSL text.
    pub(super) fn source(self, ty: WeightType) -> String {
        let matrices = match self.coop.side {
            16 => include_str!("coop16.wgsl"),
            _ => include_str!("coop8.wgsl"),
        };
        let mut parts = with_dequant(ty, include_str!("sliced.wgsl"));
        parts.extend([include_str!("params.wgsl"), ty.half(), matrices]);
        let units = self.bn * self.bk / 16;
        // Pairs of units share what one load brings, where there are enough for everybody.
        let pairs = ty.layout().has_ints() && units / 2 >= self.coop.subgroup;
        let per_item = if pairs { 2 } else { 1 };
        let constants = [
            ("SG", self.coop.subgroup),
            ("SK", self.slices),
            ("BM", self.bm()),
            ("BN", self.bn),
            ("BK", self.bk),
            ("MT", self.matrices),
            ("NT", self.bn / self.coop.side),
            ("PER_ITEM", per_item),
            ("PAIRS", u32::from(pairs)),
            ("WL", units / per_item / self.coop.subgroup),
            ("COOPERATIVE", 1),
        ];
        compose(&["f16", "wgpu_cooperative_matrix"], &constants, &parts)
    }

    /// Whether a weight's slabs are whole tiles, of outputs and of the sum.
    pub(super) fn takes(self, w: &WeightShape, columns: Columns) -> bool {
        let whole =
            |s: &crate::Slab| s.rows.start.is_multiple_of(self.bn) && s.count().is_multiple_of(self.bn);
        w.cols.is_multiple_of(self.depth()) && w.slabs.iter().all(whole) && columns.stride.is_multiple_of(4)
    }
}
