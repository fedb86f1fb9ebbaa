//! Matrix products with a weight of any type: for a few tokens (decode) in f32 or in integers, and for
//! many (prefill, training) in f32, f16, integers or with cooperative matrices. [`Variant::pick`]
//! chooses.

pub mod cases;
pub mod chain;
mod direct;
mod linear;
mod low_rank;
mod matvec;
mod operands;
mod pick;
mod plan;
mod product;
pub mod reference;
mod sliced;
mod tile;
pub mod tiles;
mod variant;

use weft_runtime::Shader;

pub use crate::coop::Coop;
pub use crate::layout::Columns;
pub use crate::select::MATVEC_TOKENS;
use crate::{Fields, WeightType};
pub use direct::DirectTile;
pub use linear::{linear, linear_as, matvec_with};
pub use low_rank::LowRank;
pub use matvec::Matvec;
pub use operands::{Epilogue, Input, Params};
pub use pick::{left_side, tiles_of};
pub use product::{Gradient, forward as linear_with, gradient as gradient_with, linear_gradient};
pub use sliced::{SlicedTile, TwoParams, linear_two};
pub use tile::{CoopTile, Lanes, Tile};
pub use tiles::Kernel;
pub use variant::{Direction, Variant};

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    let mut all = tiles::shaders();
    all.extend(chain::shaders());
    all.extend(sliced::shaders_of_two());
    for &ty in WeightType::ALL {
        all.extend(Matvec::all(ty).into_iter().map(|(v, m)| (m.shader(v, ty), Params::FIELDS)));
    }
    all
}
