//! The tiles of the cooperative product of a few rows of activations: its left side comes in tiles
//! ([`Format::Tiles`](crate::layout::Format::Tiles)), as of [`DirectTile`](super::direct::DirectTile), and the
//! subgroups of a workgroup share the sum.

use weft_runtime::{Access, Caps, Cost, Recorder, Shader, Slice};

use super::matvec::{mixed_pair, own, second_of};
use super::operands::Input;
use super::pick::tiled;
use super::tiles::Kernel;
use super::variant::{Direction, Variant};
use crate::coop::{Coop, has_room};
use crate::layout::{Columns, Format};
use crate::ops::split_k;
use crate::ops::{WEIGHT, with_dequant};
use crate::{Fields, Result, Weight, WeightShape, WeightType, compose, params};

params! {
    /// Parameters of a product with rows of two types.
    pub struct TwoParams {
        pub planes: [u32; 4],
        pub row0: u32,
        pub rows: u32,
        pub units: u32,
        pub y_stride: u32,
        pub flags: u32,
        pub extent: u32,
        pub column: u32,
        pub chunk: u32,
        pub planes_2: [u32; 4],
        pub split: u32,
        pub pad: [u32; 3],
    }
}

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

    /// The WGSL text, for rows of one type or, with a `second` type, of two (see [`mixed_pair`]).
    fn source(self, ty: WeightType, second: Option<WeightType>) -> String {
        let matrices = match self.coop.side {
            16 => include_str!("coop16.wgsl"),
            _ => include_str!("coop8.wgsl"),
        };
        let tile = include_str!("sliced_tile.wgsl");
        let of_second = second.map_or(String::new(), |ty2| own(ty, ty2).concat() + &second_of(tile));
        let params = match second {
            None => include_str!("params.wgsl"),
            Some(_) => include_str!("params_two.wgsl"),
        };
        let mut parts = with_dequant(ty, include_str!("sliced.wgsl"));
        parts.extend([params, ty.half(), matrices, tile, &of_second]);
        let units = self.bn * self.bk / 16;
        let pairs = self.pairs(ty);
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
            ("TWO", u32::from(second.is_some())),
        ];
        compose(&["f16", "wgpu_cooperative_matrix"], &constants, &parts)
    }

    /// Whether pairs of units share what one load brings: where there are enough for everybody.
    fn pairs(self, ty: WeightType) -> bool {
        ty.layout().has_ints() && self.bn * self.bk / 32 >= self.coop.subgroup
    }

    /// The shader for rows of one type.
    pub(super) fn shader(self, ty: WeightType, name: String) -> Shader {
        Shader { name, source: self.source(ty, None), bindings: bindings() }
    }

    /// The shader for rows of two types.
    fn shader_of_two(self, [first, second]: [WeightType; 2]) -> Shader {
        let name = self.name_of_two([first, second]);
        Shader { name, source: self.source(first, Some(second)), bindings: bindings() }
    }

    fn name_of_two(self, [first, second]: [WeightType; 2]) -> String {
        format!("matmul_sliced_{}_{first}+{second}", self.name())
    }

    /// Whether a weight's slabs are whole tiles, of outputs and of the sum.
    pub(super) fn takes(self, w: &WeightShape, columns: Columns) -> bool {
        let whole =
            |s: &crate::Slab| s.rows.start.is_multiple_of(self.bn) && s.count().is_multiple_of(self.bn);
        w.cols.is_multiple_of(self.depth()) && w.slabs.iter().all(whole) && columns.stride.is_multiple_of(4)
    }
}

fn bindings() -> Vec<Access> {
    [&WEIGHT[..], &[Access::ReadWrite; 2], &[Access::Read]].concat()
}

/// Records two products with the same input, whose outputs follow each other from column 0 of y on, as one dispatch:
/// they would wait for each other, and the smaller takes as long as one three times as large. `false` if the weights
/// cannot share one: types without a common kernel, no place next to each other in memory, outputs that are no whole
/// tiles, tiles so few that workgroups would share their sums.
///
/// # Errors
/// A shader the device refuses.
pub fn linear_two(
    rec: &mut Recorder,
    [a, b]: [&Weight; 2],
    x: Input<'_>,
    y: &Slice,
    tokens: u32,
) -> Result<bool> {
    let gpu = rec.gpu().clone();
    let (caps, budget) = (gpu.caps(), gpu.budget());
    let (first, second) = (&a.shape, &b.shape);
    let rows = first.rows + second.rows;
    let can = |w: &WeightShape| {
        w.slabs.len() == 1
            && Variant::Sliced.supports(caps, w.ty, tokens).is_ok()
            && tiled(caps, w, tokens) == Variant::Sliced
    };
    if !matches!(x.format, Format::Tiles { .. })
        || first.cols != second.cols
        || !mixed_pair(first.ty, second.ty)
        || !can(first)
        || !can(second)
    {
        return Ok(false);
    }
    let picked = Kernel::pick(Variant::Sliced, Direction::Forward, (x.format, first.ty), caps, rows, tokens);
    let (Kernel::Sliced(tile), Some((slab, planes_2))) = (picked, a.joined(b)) else {
        return Ok(false);
    };
    let grid = [tokens.div_ceil(tile.bm()), rows.div_ceil(tile.bn), 1];
    let bytes = u64::from(tokens) * u64::from(rows) * 4;
    let columns = Columns::all(rows);
    let whole = [first, second].iter().all(|w| tile.takes(w, columns) && tile.pairs(w.ty));
    let most = bytes.max(slab.size()).max(x.x.size());
    if !whole
        || !split_k::fills(caps, grid[0] * grid[1])
        || most > budget.max_binding
        || grid[1] > budget.max_workgroups
    {
        return Ok(false);
    }
    let params = TwoParams {
        planes: first.slabs[0].planes,
        row0: 0,
        rows,
        units: first.units(),
        y_stride: rows,
        flags: 0,
        extent: tokens,
        column: 0,
        chunk: first.cols,
        planes_2,
        split: first.rows,
        pad: [0; 3],
    };
    let flops = 2.0 * f64::from(tokens) * f64::from(rows) * f64::from(first.cols);
    let cost = Cost { bytes: slab.size() as f64, flops };
    let types = [first.ty, second.ty];
    let pipeline = gpu.pipeline(&tile.name_of_two(types), || tile.shader_of_two(types))?;
    rec.dispatch(&pipeline, &params, &[&slab, &slab, x.x, &y.range(0, bytes), &slab], grid, cost);
    Ok(true)
}

/// The shaders of two types with their parameters' fields, for validation without a GPU.
pub(super) fn shaders_of_two() -> Vec<(Shader, Fields)> {
    let mut all = Vec::new();
    // What types have to do with each other has nothing to do with the tile.
    let tiles =
        Coop::DEVICES.into_iter().filter_map(|c| SlicedTile::of(c).find(|t| t.pairs(WeightType::Q4_K)));
    for tile in tiles {
        for &first in WeightType::ALL {
            let with =
                |second: &WeightType| mixed_pair(first, *second) && tile.pairs(first) && tile.pairs(*second);
            let seconds = WeightType::ALL.iter().copied().filter(with);
            all.extend(seconds.map(|second| (tile.shader_of_two([first, second]), TwoParams::FIELDS)));
        }
    }
    all
}
