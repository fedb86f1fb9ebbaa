//! The order of choices by expert.

use weft_runtime::{Access, Caps, Cost, DeviceKind, Recorder, Shader, Slice};

use super::whole;
use crate::ops::router::MAX_EXPERTS;
use crate::{Fields, PlanError, Result, compose, fold, params};

params! {
    pub struct Params {
        pub choices: u32,
        pub experts: u32,
        pub used: u32,
        pub side: u32,
        pub tiles: u32,
        pub grid_x: u32,
        pub pad: [u32; 2],
    }
}

const WG: u32 = 256;

/// The choices of a batch by expert, as activations.
#[derive(Debug, Clone)]
pub struct Order {
    /// `[choices]` u32: the token at each position.
    pub tokens: Slice,
    /// `[choices]` u32: the position of each choice.
    pub position: Slice,
    /// `[tiles, 4]` u32: expert, first position, one past the last.
    pub tiles: Slice,
    /// Positions of a tile.
    pub side: u32,
}

/// Sizes of an [`Order`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderBytes {
    /// Bytes of each of two lists.
    pub list: u64,
    /// Bytes of the tiles.
    pub tiles: u64,
}

/// The most tiles of `side` positions that `choices` make: each expert has at most one that is not full.
pub(super) fn most_tiles(choices: u32, experts: u32, side: u32) -> u32 {
    choices / side + choices.min(experts)
}

impl Order {
    /// How wide tiles are: about as wide as an expert's share of the choices.
    pub fn side(caps: &Caps, choices: u32, experts: u32) -> u32 {
        match choices / experts.max(1) {
            // Large tiles take a software GPU seconds to compile.
            _ if caps.kind == DeviceKind::Cpu => 32,
            0..=47 => 32,
            48..=95 => 64,
            _ => 128,
        }
    }

    /// The bytes that an order takes at most, however wide its tiles are.
    pub fn bytes(choices: u32, experts: u32) -> OrderBytes {
        let tiles = most_tiles(choices, experts, 32);
        OrderBytes { list: u64::from(choices) * 4, tiles: u64::from(tiles) * 16 }
    }

    /// Records the order of choices with the experts `ids`, `[tokens, used]` u32.
    ///
    /// # Errors
    /// More experts than the router takes; a list that exceeds a binding, or a shader the device refuses.
    pub fn record(&self, rec: &mut Recorder, ids: &Slice, [tokens, used, experts]: [u32; 3]) -> Result<()> {
        if experts > MAX_EXPERTS {
            let what = format!("{experts} experts, of at most {MAX_EXPERTS}");
            return Err(PlanError::Shape { op: "experts_sort", what }.into());
        }
        let choices = tokens * used;
        let tiles = most_tiles(choices, experts, self.side);
        let list = |rec: &Recorder, slice| whole(rec, slice, "the list of choices", choices, 1);
        let operands = [
            &list(rec, ids)?,
            &list(rec, &self.tokens)?,
            &list(rec, &self.position)?,
            &whole(rec, &self.tiles, "the list of tiles", tiles, 4)?,
        ];
        let grid = fold(experts, rec.gpu().budget());
        let params = Params { choices, experts, used, side: self.side, tiles, grid_x: grid[0], pad: [0; 2] };
        let read = f64::from(choices) * f64::from(experts);
        let pipeline = rec.gpu().pipeline("experts_sort", shader)?;
        let cost = Cost { bytes: f64::from(choices) * 12.0, flops: read * 3.0 };
        rec.dispatch(&pipeline, &params, &operands, grid, cost);
        Ok(())
    }
}

fn shader() -> Shader {
    Shader {
        name: "experts_sort".into(),
        source: compose(&[], &[("WG", WG), ("MAX_EXPERTS", MAX_EXPERTS)], &[include_str!("sort.wgsl")]),
        bindings: vec![Access::ReadWrite; 4],
    }
}

pub(super) fn shaders() -> Vec<(Shader, Fields)> {
    vec![(shader(), Params::FIELDS)]
}
