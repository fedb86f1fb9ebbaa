//! Which variant and which tile a device and a shape get.

use std::cmp::Reverse;

use weft_runtime::{Caps, DeviceKind};

use super::direct::DirectTile;
use super::sliced::SlicedTile;
use super::tile::{
    COOP_EIGHT, COOP_FOUR, CoopSize, LOADS_32, LOADS_64, SQUARE_64, SQUARE_64_DEEP, SQUARE_128, TALL_128,
    Tile,
};
use super::tiles::Kernel;
use super::variant::{Direction, Variant};
use crate::layout::{Columns, Format};
use crate::ops::split_k;
use crate::select::{self, CallShape, MATVEC_TOKENS};
use crate::{WeightShape, WeightType};

impl Variant {
    /// Whether the device can run this variant on this type and batch; the reason if not.
    ///
    /// # Errors
    /// What is lacking.
    pub fn supports(self, caps: &Caps, ty: WeightType, tokens: u32) -> std::result::Result<(), &'static str> {
        match self {
            v if v.few() && tokens > MATVEC_TOKENS => Err("more tokens than a matvec takes"),
            Variant::MatvecDot | Variant::TiledDot if !caps.dot => Err("no packed int8 dot product"),
            Variant::MatvecDot | Variant::TiledDot if !ty.layout().has_ints() => {
                Err("the type is not one of integers")
            }
            Variant::TiledF16 if !caps.f16 => Err("no f16"),
            Variant::Broadcast if Kernel::all(Variant::Broadcast, Direction::Forward, caps).is_empty() => {
                Err("no subgroups of one size up to 32")
            }
            Variant::Coop if Kernel::all(Variant::Coop, Direction::Forward, caps).is_empty() => {
                Err("no cooperative matrices in f16 and f32")
            }
            Variant::Direct | Variant::Sliced => self.supports_tiles(caps, ty, tokens),
            // A file of F32 was chosen for its precision, which f16 would lose.
            Variant::TiledF16 | Variant::Coop if ty == WeightType::F32 => Err("the type is wider than f16"),
            _ => Ok(()),
        }
    }

    /// As [`Variant::supports`], of those that take their left side in tiles.
    fn supports_tiles(
        self,
        caps: &Caps,
        ty: WeightType,
        tokens: u32,
    ) -> std::result::Result<(), &'static str> {
        Variant::Coop.supports(caps, ty, tokens)?;
        match self {
            // Memory for rows of f32 holds whole tiles of f16 from here on.
            Variant::Direct if tokens <= MATVEC_TOKENS => Err("fewer tokens than fill half a tile"),
            Variant::Sliced if tokens > split_k::SLOTS => Err("more tokens than a few slots have"),
            v if Kernel::all(v, Direction::Forward, caps).is_empty() => Err("no room for its tiles"),
            _ => Ok(()),
        }
    }

    /// The variant for a device, a type and a batch whose activations lie in rows, by the table.
    pub fn pick(caps: &Caps, ty: WeightType, tokens: u32) -> Variant {
        let rows = |v: &Variant| !v.tiles();
        let of = |name: &str| Variant::named(name).filter(rows);
        let can = |name: &str| of(name).is_some_and(|v| v.supports(caps, ty, tokens).is_ok());
        of(select::variant("matmul", caps, CallShape::tokens(tokens), can)).unwrap_or(Variant::Tiled)
    }
}

/// What a product's tile depends on.
struct Product<'a> {
    caps: &'a Caps,
    direction: Direction,
    /// How the left side lies in memory.
    x: Format,
    /// Whether weights are integers that have to be unpacked.
    integers: bool,
    outputs: u32,
    tokens: u32,
}

impl Product<'_> {
    /// A large GPU with more than a few slots.
    fn large(&self) -> bool {
        self.caps.kind == DeviceKind::Discrete && self.tokens > split_k::SLOTS
    }

    /// A gradient on a software GPU.
    fn software_gradient(&self) -> bool {
        self.caps.kind == DeviceKind::Cpu && self.direction == Direction::Gradient
    }

    /// Tiles that the product has.
    fn tiles(&self, (bm, bn): (u32, u32)) -> u32 {
        self.tokens.div_ceil(bm) * self.outputs.div_ceil(bn)
    }

    /// Whether tiles of so many outputs are fewer than fill a large GPU, and too many for workgroups to share their
    /// sums.
    fn half_filled(&self, bn: u32) -> bool {
        let tiles = self.outputs.div_ceil(bn);
        split_k::WANTED / 2 < tiles && tiles < split_k::WANTED
    }

    /// Tiles of [`COOP_FOUR`].
    fn coop_tiles(&self) -> u32 {
        let all = Kernel::all(Variant::Coop, self.direction, self.caps);
        all.first().map_or(0, |k| self.tiles(k.tile()))
    }
}

/// What a rule gives.
enum Choice {
    /// A register tile.
    Registers(Tile),
    /// A cooperative tile.
    Matrices(CoopSize),
    /// The widest of the tiles that take all tokens and have the fewest of them, or the largest there is.
    CoveringWide,
    /// The narrowest of those.
    CoveringNarrow,
    /// The narrowest cooperative tile that takes all tokens.
    Narrowest,
    /// A tile of so many tokens with its left side in tiles, or the first that there is.
    Direct(u32),
}

/// A row of the table; of a variant's rows, the first that holds counts.
struct Rule {
    variant: Variant,
    holds: fn(&Product<'_>) -> bool,
    gives: Choice,
}

const fn rule(variant: Variant, holds: fn(&Product<'_>) -> bool, gives: Choice) -> Rule {
    Rule { variant, holds, gives }
}

/// What was the fastest, as `weft kernels perf --tiles` measured it.
const RULES: [Rule; 18] = [
    // Software GPUs walk their lanes one by one at each load, from workgroup memory as well, so that loads a product
    // are what counts. Large tiles take them seconds to compile, which the gradient alone is worth, since the forward
    // product has a better variant there.
    rule(Variant::Tiled, |p| p.software_gradient() && p.tokens > 32, Choice::Registers(LOADS_64)),
    rule(Variant::Tiled, |p| p.software_gradient(), Choice::Registers(LOADS_32)),
    // Large register tiles pay where they are enough to fill a large GPU.
    rule(Variant::Tiled, |p| p.large() && p.tiles((128, 128)) >= 400, Choice::Registers(SQUARE_128)),
    rule(Variant::Tiled, |p| p.large(), Choice::Registers(TALL_128)),
    rule(Variant::Tiled, |_| true, Choice::Registers(SQUARE_64)),
    rule(Variant::TiledF16, |p| p.large(), Choice::Registers(SQUARE_64_DEEP)),
    rule(Variant::TiledF16, |_| true, Choice::Registers(SQUARE_64)),
    rule(Variant::TiledDot, |p| p.large(), Choice::Registers(SQUARE_64_DEEP)),
    rule(Variant::TiledDot, |_| true, Choice::Registers(SQUARE_64)),
    rule(Variant::Broadcast, |_| true, Choice::CoveringWide),
    // A few slots are bound by the weights' bytes: no wider than they are, deep, and ahead.
    rule(Variant::Coop, |p| p.tokens <= split_k::SLOTS, Choice::Narrowest),
    // Eight subgroups and a deeper tile win where x comes in f16 or workgroups are few; the gradient has twice the
    // tile of w to fill, and does better by four.
    rule(
        Variant::Coop,
        |p| p.direction == Direction::Forward && (p.x == Format::F16 || p.coop_tiles() < 400),
        Choice::Matrices(COOP_EIGHT),
    ),
    rule(Variant::Coop, |_| true, Choice::Matrices(COOP_FOUR)),
    // Where weights have to be unpacked, 256 tokens a tile are worth their registers if tiles are many.
    rule(Variant::Direct, |p| p.tokens <= split_k::SLOTS, Choice::Direct(64)),
    rule(Variant::Direct, |p| p.integers && p.tiles((256, 64)) >= MANY_TILES, Choice::Direct(256)),
    rule(Variant::Direct, |_| true, Choice::Direct(128)),
    // Tiles that leave multiprocessors without one are worth half as wide, unless workgroups share their sums.
    rule(Variant::Sliced, |p| p.half_filled(32), Choice::CoveringNarrow),
    rule(Variant::Sliced, |_| true, Choice::CoveringWide),
];

/// Tiles that fill a large GPU several times over: what a tile of 256 tokens is worth its registers from.
const MANY_TILES: u32 = 512;

impl Kernel {
    /// The kernel of a variant that was the fastest at such shapes: what the table gives, or the first one where a
    /// device has no room for that.
    ///
    /// # Panics
    /// If the device does not support the variant, or the variant is for a few tokens.
    pub fn pick(
        variant: Variant,
        direction: Direction,
        (x, ty): (Format, WeightType),
        caps: &Caps,
        outputs: u32,
        tokens: u32,
    ) -> Kernel {
        let all = Kernel::all(variant, direction, caps);
        let integers = ty.layout().has_ints();
        let product = Product { caps, direction, x, integers, outputs, tokens };
        let rule = RULES.iter().find(|r| r.variant == variant && (r.holds)(&product));
        let found = match &rule.expect("a row for every variant").gives {
            Choice::Registers(tile) => all.iter().find(|k| k.registers_tile() == Some(*tile)),
            Choice::Matrices(size) => {
                all.iter().find(|k| matches!(k, Kernel::Coop(c) if size.on(c.coop) == *c))
            }
            Choice::CoveringWide => {
                let takes = all.iter().filter(|k| k.tile().0 >= tokens);
                takes.min_by_key(|k| (k.tile().0, Reverse(k.tile().1))).or(all.last())
            }
            Choice::CoveringNarrow => {
                all.iter().filter(|k| k.tile().0 >= tokens).min_by_key(|k| k.tile()).or(all.last())
            }
            Choice::Narrowest => {
                // Where there are two tiles for each multiprocessor, two subgroups a tile load x less often than
                // four.
                let key = |k: &&Kernel| {
                    let (tile, wg) = (k.tile(), k.invocations());
                    let many = outputs.div_ceil(tile.1) >= split_k::WANTED;
                    (tile, if many { wg } else { u32::MAX - wg })
                };
                all.iter().filter(|k| k.tile().0 >= tokens).min_by_key(key)
            }
            Choice::Direct(tokens) => all.iter().find(|k| k.tile().0 == *tokens),
        };
        *found.unwrap_or(&all[0])
    }
}

/// How the left side of products with all of `weights` should be written for `tokens` tokens: in tiles where
/// the table says so and every shape is whole tiles, in f16 where every product would round it to that, in f32
/// elsewhere.
pub fn left_side(caps: &Caps, weights: &[&WeightShape], tokens: u32) -> Format {
    let whole = weights.iter().map(|w| (*w, Columns::all(w.rows)));
    match tiles_of(caps, Direction::Forward, whole, tokens) {
        Some(tiles) => tiles,
        _ if weights.iter().all(|w| Variant::pick(caps, w.ty, tokens) == Variant::Coop) => Format::F16,
        _ => Format::F32,
    }
}

/// The tiles that the left side of products in this direction should be written in for `tokens` tokens, if the table
/// says so for all of `weights` and every shape is whole tiles; each weight has its outputs in these columns.
pub fn tiles_of<'a>(
    caps: &Caps,
    direction: Direction,
    mut weights: impl Iterator<Item = (&'a WeightShape, Columns)>,
    tokens: u32,
) -> Option<Format> {
    let (direct, sliced) = (DirectTile::all(caps), SlicedTile::all(caps));
    let tiled = |(w, columns): (&WeightShape, Columns)| {
        let can = |name: &str| {
            let variant = Variant::named(name);
            let whole = match variant {
                Some(Variant::Direct) => direct.iter().all(|t| t.takes(w, columns)),
                Some(Variant::Sliced) => !wide(w, tokens) && sliced.iter().all(|t| t.takes(w, columns)),
                _ => true,
            };
            whole && variant.is_some_and(|v| v.supports(caps, w.ty, tokens).is_ok())
        };
        let name = select::variant(direction.op(), caps, CallShape::tokens(tokens), can);
        Variant::named(name).is_some_and(Variant::tiles)
    };
    let side = direct.first()?.coop.side;
    weights.all(tiled).then_some(Format::Tiles { side })
}

/// Whether the product of a few rows has tiles enough by itself and a type of five bits or more, for which subgroups
/// that share a sum lose to [`Variant::Coop`]: on an H200, 32 rows and 19,456 outputs, Q8_0 takes 60 us where that takes
/// 50, Q6_K 64 and 57, F16 47 and 47, but Q4_K 42 and 46. From 33 rows on, [`Variant::Direct`] beats both.
fn wide(w: &WeightShape, tokens: u32) -> bool {
    let bits = w.ty.row_bytes(w.cols as usize) * 8 / w.cols as usize;
    tokens <= split_k::SLOTS / 2 && w.rows.div_ceil(64) >= split_k::WANTED && bits > 4
}

/// The variant of a product whose left side lies in tiles.
pub(super) fn tiled(caps: &Caps, w: &WeightShape, tokens: u32) -> Variant {
    let columns = Columns::all(w.rows);
    let sliced = SlicedTile::all(caps).iter().all(|t| t.takes(w, columns));
    let can = |v: Variant| v.supports(caps, w.ty, tokens).is_ok();
    // Tiles of 64 rows that fill a large GPU by themselves unpack a weight once for all of them.
    let direct = tokens > split_k::SLOTS / 2
        && w.rows.div_ceil(64) >= split_k::WANTED
        && DirectTile::all(caps).iter().all(|t| t.takes(w, columns));
    if sliced && can(Variant::Sliced) && !(direct && can(Variant::Direct)) {
        Variant::Sliced
    } else {
        Variant::Direct
    }
}
