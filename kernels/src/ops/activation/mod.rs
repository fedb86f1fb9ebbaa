//! Activation functions, and the op that applies one to what a product gave: between the two products of a
//! feed-forward block without a gate, and behind the pooled row of an encoder. [`super::glu`] multiplies the result by
//! another value.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use crate::layout::{Format, split_tokens};
use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record};

params! {
    pub struct Params {
        pub values: u32,
        pub width: u32,
        pub grid_x: u32,
        pub pad: u32,
    }
}

/// A function of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `v / (1 + exp(-v))`, of Llama and Qwen.
    Silu,
    /// GELU by tanh, of Gemma. It differs from [`Activation::GeluErf`] by up to 4.7e-4.
    GeluTanh,
    /// GELU by the error function, of BERT.
    GeluErf,
    /// `max(v, 0)`.
    Relu,
    /// The hyperbolic tangent, of BERT's pooler.
    Tanh,
}

impl Activation {
    /// All of them.
    pub const ALL: [Activation; 5] =
        [Activation::Silu, Activation::GeluTanh, Activation::GeluErf, Activation::Relu, Activation::Tanh];

    /// The name used in pipelines.
    pub fn name(self) -> &'static str {
        match self {
            Activation::Silu => "silu",
            Activation::GeluTanh => "gelu_tanh",
            Activation::GeluErf => "gelu_erf",
            Activation::Relu => "relu",
            Activation::Tanh => "tanh",
        }
    }

    /// The fragment that defines `act(v)` and `act_and_slope(v)`.
    pub(super) fn fragment(self) -> &'static str {
        match self {
            Activation::Silu => include_str!("silu.wgsl"),
            Activation::GeluTanh => include_str!("gelu_tanh.wgsl"),
            Activation::GeluErf => include_str!("gelu_erf.wgsl"),
            Activation::Relu => include_str!("relu.wgsl"),
            Activation::Tanh => include_str!("tanh.wgsl"),
        }
    }
}

const WG: u32 = 256;

/// An activation function applied to every value: `y[t, i] = act(x[t, i])`.
#[derive(Debug, Clone, Copy)]
pub struct Activate<'a> {
    /// `[tokens, width]` f32 activations.
    pub x: &'a Slice,
    /// `[tokens, width]` in [`Activate::out`]; another buffer than x.
    pub y: &'a Slice,
    /// What y holds.
    pub out: Format,
    /// The function.
    pub act: Activation,
    /// Tokens of the batch.
    pub tokens: u32,
    /// Values of a token.
    pub width: u32,
}

impl Activate<'_> {
    /// Records it.
    ///
    /// # Errors
    /// No plan under the budget, or a shader the device refuses.
    pub fn record(&self, rec: &mut Recorder) -> Result<()> {
        let pipeline = rec.gpu().pipeline(&name(self.act, self.out), || shader(self.act, self.out))?;
        let plan = plan(self.tokens, self.width, self.out, rec.gpu().budget())?;
        record(rec, &pipeline, &[self.x, self.y], &plan);
        Ok(())
    }
}

/// The dispatches. Operands: x, y.
///
/// # Errors
/// A token's values that exceed a binding.
pub fn plan(
    tokens: u32,
    width: u32,
    out: Format,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let (row, out_row) = (u64::from(width) * 4, u64::from(width) * out.bytes());
    let dispatch = |t: std::ops::Range<u32>| {
        let n = t.end - t.start;
        let grid = fold((n * width).div_ceil(WG), budget);
        let part =
            |operand, n: u64, row: u64| Bind { operand, offset: u64::from(t.start) * row, size: n * row };
        let values = f64::from(n) * f64::from(width);
        Dispatch {
            params: Params { values: n * width, width, grid_x: grid[0], pad: 0 },
            binds: vec![part(0, n.into(), row), part(1, out.rows(n), out_row)],
            grid,
            cost: Cost { bytes: values * (4.0 + out.bytes() as f64), flops: values * 8.0 },
        }
    };
    Ok(split_tokens("activation", tokens, &[row, out_row], out, budget)?.into_iter().map(dispatch).collect())
}

fn name(act: Activation, out: Format) -> String {
    format!("activation_{}_{}", act.name(), out.name())
}

fn shader(act: Activation, out: Format) -> Shader {
    let (fragment, enables) = out.out();
    Shader {
        name: name(act, out),
        source: compose(enables, &[("WG", WG)], &[act.fragment(), include_str!("kernel.wgsl"), fragment]),
        bindings: vec![Access::ReadWrite; 2],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    let of = |act| Format::OUT.map(|out| (shader(act, out), Params::FIELDS));
    Activation::ALL.into_iter().flat_map(of).collect()
}
