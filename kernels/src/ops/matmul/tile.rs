//! The tiles of the products of many tokens, by name.

use weft_runtime::Caps;

use crate::coop::{Coop, has_room};

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

/// A cooperative tile for matrices of any side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CoopSize {
    /// Tokens, in matrices.
    m: u32,
    /// Outputs, in matrices.
    n: u32,
    /// Values of the sum at a time.
    k: u32,
    /// Subgroups along the tokens and along the outputs.
    subgroups: (u32, u32),
    /// Whether the next tile is loaded before this one is multiplied.
    prefetch: bool,
}

const fn coop(m: u32, n: u32, k: u32, subgroups: (u32, u32), prefetch: bool) -> CoopSize {
    CoopSize { m, n, k, subgroups, prefetch }
}

/// The cooperative tile that suits most shapes: four subgroups.
pub(super) const COOP_FOUR: CoopSize = coop(8, 8, 32, (2, 2), false);
/// Eight subgroups and a deeper tile, loads ahead.
pub(super) const COOP_EIGHT: CoopSize = coop(8, 8, 64, (2, 4), true);

/// All of them, wide ones first. `weft kernels perf --tiles` measures them all.
const COOP: [CoopSize; 8] = [
    COOP_FOUR,
    COOP_EIGHT,
    coop(8, 8, 64, (4, 2), true),
    coop(4, 8, 32, (2, 2), false),
    coop(4, 4, 64, (2, 2), true),
    coop(2, 4, 64, (1, 4), true),
    coop(2, 4, 64, (1, 2), true),
    coop(1, 4, 64, (1, 4), true),
];

const fn registers(bm: u32, bn: u32, bk: u32, tm: u32, tn: u32) -> Tile {
    Tile { bm, bn, bk, tm, tn }
}

/// 16 sums an invocation: suits every device.
pub(super) const SQUARE_64: Tile = registers(64, 64, 32, 4, 4);
/// The same twice as deep.
pub(super) const SQUARE_64_DEEP: Tile = registers(64, 64, 64, 4, 4);
/// 64 sums an invocation, for large GPUs with enough of them.
pub(super) const SQUARE_128: Tile = registers(128, 128, 16, 8, 8);
/// 32 sums an invocation.
pub(super) const TALL_128: Tile = registers(128, 64, 16, 8, 4);
/// The same twice as deep.
pub(super) const TALL_128_DEEP: Tile = registers(128, 64, 32, 8, 4);
/// 64 sums an invocation, few invocations: for software GPUs.
pub(super) const LOADS_64: Tile = registers(64, 64, 16, 8, 8);
/// Half of that, for batches that do not fill it.
pub(super) const LOADS_32: Tile = registers(32, 64, 16, 4, 8);

/// Register tiles in f32 that fit core WebGPU.
pub(super) const TILED: [Tile; 5] = [SQUARE_64, SQUARE_128, TALL_128, LOADS_64, LOADS_32];
/// Those in f16.
pub(super) const TILED_F16: [Tile; 3] = [SQUARE_64, SQUARE_64_DEEP, TALL_128_DEEP];
/// Those in integers.
pub(super) const TILED_DOT: [Tile; 3] = [SQUARE_64, SQUARE_64_DEEP, TALL_128_DEEP];

/// Tiles without workgroup memory, whose rows are 32 times those of an invocation, by tokens.
pub(super) const BROADCAST: [Tile; 3] =
    [registers(1, 256, 16, 1, 8), registers(4, 128, 16, 4, 4), registers(8, 128, 16, 8, 4)];

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
    pub(super) fn of(caps: &Caps) -> Option<Lanes> {
        let (least, most) = caps.subgroups?;
        let fits = least == most && (4..=32).contains(&least) && least.is_power_of_two();
        fits.then_some(Lanes { subgroup: least, texels: caps.texels })
    }
}

impl CoopTile {
    /// The tiles that the device has room for.
    pub(super) fn all(caps: &Caps) -> Vec<CoopTile> {
        let fits = |t: &CoopTile| has_room(caps, t.bytes(), t.invocations());
        Coop::of(caps).into_iter().flat_map(CoopTile::of).filter(fits).collect()
    }

    pub(super) fn of(coop: Coop) -> impl Iterator<Item = CoopTile> {
        COOP.into_iter()
            .map(move |size| size.on(coop))
            // Every invocation has a unit of w and eight values of x to load, at least.
            .filter(|c| c.bn * c.bk / 16 >= c.invocations() && c.bm * c.bk / 8 >= c.invocations())
    }

    pub(super) fn invocations(self) -> u32 {
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

impl CoopSize {
    /// The tile for matrices of a device.
    pub(super) fn on(self, coop: Coop) -> CoopTile {
        let CoopSize { m, n, k, subgroups, prefetch } = self;
        CoopTile { coop, bm: m * coop.side, bn: n * coop.side, bk: k, subgroups, prefetch }
    }
}
