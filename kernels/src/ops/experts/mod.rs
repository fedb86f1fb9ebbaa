//! Products by experts: each token's row times the matrices of the k experts that it is sent to, and their weighted
//! sum.
//!
//! A few tokens have a matvec for each choice, which is a token's i-th expert. Many are sorted by expert first
//! ([`Order`]), so that a tile has one expert; what is made of them lies in that order, by *position*, until
//! [`combine`] brings it back to tokens. Nothing grows with the number of experts but what [`Order::record`]
//! dispatches once.

pub mod cases;
pub mod imatrix;
pub mod matvec;
pub mod reference;
pub mod sort;
pub mod sums;
mod tiles;

use weft_runtime::{Caps, Recorder, Shader, Slice};

use super::Format;
use super::matmul::{Direction, Input};
use crate::select::{self, CallShape};
use crate::{Fields, PlanError, Result, Weight, WeightType};

pub use sort::{Order, OrderBytes};
pub use sums::{Weigh, combine, weigh};

/// The matrices of a layer's experts.
#[derive(Debug, Clone)]
pub struct Experts {
    /// `[experts * rows, cols]`, cut between experts ([`WeightShape::experts`](crate::WeightShape::experts)).
    pub weight: Weight,
    /// Rows of one expert.
    pub rows: u32,
}

/// Which experts a batch of tokens goes to.
#[derive(Debug, Clone, Copy)]
pub struct Route<'a> {
    /// `[tokens, used]` u32: the numbers of the experts, as [`router`](super::router::router) gives them.
    pub ids: &'a Slice,
    /// Tokens of the batch.
    pub tokens: u32,
    /// Experts of a token.
    pub used: u32,
    /// The choices by expert; without, position and choice are the same.
    pub order: Option<&'a Order>,
}

impl Route<'_> {
    /// Choices, which are as many as positions.
    pub fn choices(&self) -> u32 {
        self.tokens * self.used
    }
}

/// What the rows of a product's left side belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Left {
    /// `[tokens, ..]`: all choices of a token have the same row.
    Tokens,
    /// `[choices, ..]` by position.
    Positions,
}

/// A way to compute the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// A few tokens, f32. Core WebGPU.
    Matvec,
    /// A few tokens, `dot4I8Packed` on activations of 8 bits.
    MatvecDot,
    /// Register tiles in f32 of choices sorted by expert. Core WebGPU.
    Tiled,
}

impl Variant {
    /// All of them.
    pub const ALL: [Variant; 3] = [Variant::Matvec, Variant::MatvecDot, Variant::Tiled];

    /// The name used in pipelines and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Matvec => "matvec",
            Variant::MatvecDot => "matvec_dot",
            Variant::Tiled => "tiled",
        }
    }

    /// Whether the device can run this variant on this type; the reason if not.
    ///
    /// # Errors
    /// What is lacking.
    pub fn supports(self, caps: &Caps, ty: WeightType) -> std::result::Result<(), &'static str> {
        match self {
            Variant::MatvecDot if !caps.dot => Err("no packed int8 dot product"),
            Variant::MatvecDot if !ty.layout().has_ints() => Err("the type is not one of integers"),
            _ => Ok(()),
        }
    }

    /// The variant for a device, a type and a batch, by the table.
    pub fn pick(caps: &Caps, ty: WeightType, tokens: u32) -> Variant {
        let of = |name: &str| Variant::ALL.into_iter().find(|v| v.name() == name);
        let can = |name: &str| of(name).is_some_and(|v| v.supports(caps, ty).is_ok());
        of(select::variant("experts", caps, CallShape::tokens(tokens), can)).unwrap_or(Variant::Tiled)
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    [sort::shaders(), sums::shaders(), imatrix::shaders(), matvec::shaders(), tiles::shaders()].concat()
}

/// A product of rows with the matrices of their experts.
#[derive(Debug, Clone, Copy)]
pub struct Product<'a> {
    /// The matrices.
    pub experts: &'a Experts,
    /// `[tokens, cols]` or `[choices, cols]` by position. Integers count where a few tokens come without an
    /// [`Order`].
    pub x: Input<'a>,
    /// Which of the two.
    pub left: Left,
    /// Where the rows go.
    pub route: Route<'a>,
    /// `[choices, rows]` f32, by position.
    pub y: &'a Slice,
}

impl Product<'_> {
    /// Records `y[p, r] = sum_c x[row of p, c] w[expert of p, r, c]`.
    ///
    /// # Errors
    /// An operand that exceeds a binding, or a shader the device refuses.
    pub fn record(&self, rec: &mut Recorder) -> Result<()> {
        match self.route.order {
            Some(_) if self.x.format != Format::F32 => {
                Err(PlanError::Shape { op: "experts", what: "tiles take f32".into() }.into())
            }
            Some(order) => {
                let sides = (self.x.x, self.y);
                tiles::record(rec, Direction::Forward, self.experts, (order, self.route), self.left, sides)
            }
            None => matvec::record(rec, self),
        }
    }
}

/// The gradient of a [`Product`] with respect to its rows, one for each choice.
#[derive(Debug, Clone, Copy)]
pub struct InputGradient<'a> {
    /// The matrices.
    pub experts: &'a Experts,
    /// `[tokens, rows]` or `[choices, rows]` f32, by position.
    pub dy: &'a Slice,
    /// Which of the two.
    pub left: Left,
    /// Where the rows went, sorted.
    pub route: Route<'a>,
    /// `[choices, cols]` f32, by position.
    pub dx: &'a Slice,
}

impl InputGradient<'_> {
    /// Records `dx[p, c] = sum_r dy[row of p, r] w[expert of p, r, c]`.
    ///
    /// # Errors
    /// A route without an order; an operand that exceeds a binding, or a shader the device refuses.
    pub fn record(&self, rec: &mut Recorder) -> Result<()> {
        let Some(order) = self.route.order else {
            return Err(
                PlanError::Shape { op: "experts", what: "a gradient takes sorted choices".into() }.into()
            );
        };
        let sides = (self.dy, self.dx);
        tiles::record(rec, Direction::Gradient, self.experts, (order, self.route), self.left, sides)
    }
}

/// The first `rows * width` values of a tensor of 4-byte values, in one binding.
fn whole(
    rec: &Recorder,
    slice: &Slice,
    what: &'static str,
    rows: u32,
    width: u32,
) -> std::result::Result<Slice, PlanError> {
    let (needed, allowed) = (u64::from(rows) * u64::from(width) * 4, rec.gpu().budget().max_binding);
    match needed <= allowed {
        true => Ok(slice.range(0, needed)),
        false => Err(PlanError::DoesNotFit { op: "experts", what, needed, allowed }),
    }
}
