//! Gated linear units, the gate of the feed-forward block: SwiGLU and GeGLU.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use super::activation::Activation;
use crate::layout::{Format, split_tokens};
use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

params! {
    pub struct Params {
        pub tokens: u32,
        pub width: u32,
        pub grid_x: u32,
        pub pad: u32,
    }
}

const WG: u32 = 256;

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
    // Values of an invocation.
    let each = if matches!(out, Format::Tiles { .. }) { 4 } else { 1 };
    Ok(split_tokens("glu", tokens, &[2 * row, out_row], out, budget)?
        .into_iter()
        .map(|t| {
            let n = t.end - t.start;
            let grid = fold((n * width / each).div_ceil(WG), budget);
            let part =
                |operand, n: u64, row: u64| Bind { operand, offset: u64::from(t.start) * row, size: n * row };
            let values = f64::from(n) * f64::from(width);
            Dispatch {
                params: Params { tokens: n, width, grid_x: grid[0], pad: 0 },
                binds: vec![part(0, n.into(), 2 * row), part(1, out.rows(n), out_row)],
                grid,
                cost: Cost { bytes: values * 12.0, flops: values * 4.0 },
            }
        })
        .collect())
}

/// The dispatches of the gradient. Operands: x, dy.
///
/// # Errors
/// A token's values that exceed a binding.
pub fn plan_backward(
    tokens: u32,
    width: u32,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let row = u64::from(width) * 4;
    let dispatch = |t: std::ops::Range<u32>| {
        let n = t.end - t.start;
        let grid = fold((n * width).div_ceil(WG), budget);
        let part =
            |operand, row: u64| Bind { operand, offset: u64::from(t.start) * row, size: u64::from(n) * row };
        let values = f64::from(n) * f64::from(width);
        Dispatch {
            params: Params { tokens: n, width, grid_x: grid[0], pad: 0 },
            binds: vec![part(0, 2 * row), part(1, row)],
            grid,
            cost: Cost { bytes: values * 24.0, flops: values * 10.0 },
        }
    };
    Ok(split_rows("glu", tokens, &[2 * row, row], budget)?.into_iter().map(dispatch).collect())
}

/// As the units are called that papers name.
fn unit(act: Activation) -> String {
    match act {
        Activation::Silu => "swiglu".into(),
        other => format!("glu_{}", other.name()),
    }
}

fn name(act: Activation, out: Format) -> String {
    format!("{}_{}", unit(act), out.name())
}

fn shader(act: Activation, out: Format) -> Shader {
    let (fragment, enables) = out.out();
    let text = match out {
        Format::Tiles { .. } => include_str!("fours.wgsl"),
        _ => include_str!("kernel.wgsl"),
    };
    Shader {
        name: name(act, out),
        source: compose(enables, &[("WG", WG)], &[act.fragment(), text, fragment]),
        bindings: vec![Access::ReadWrite; 2],
    }
}

fn backward_name(act: Activation) -> String {
    format!("{}_backward_f32", unit(act))
}

fn backward_shader(act: Activation) -> Shader {
    Shader {
        name: backward_name(act),
        source: compose(&[], &[("WG", WG)], &[act.fragment(), include_str!("backward.wgsl")]),
        bindings: vec![Access::ReadWrite; 2],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    let of = |act| Format::OUT.map(|out| shader(act, out)).into_iter().chain([backward_shader(act)]);
    Activation::ALL.into_iter().flat_map(of).map(|s| (s, Params::FIELDS)).collect()
}

/// A gated linear unit: `y[t, i] = act(x[t, i]) x[t, width + i]`.
#[derive(Debug, Clone, Copy)]
pub struct Glu<'a> {
    /// `[tokens, 2 width]` f32 activations: gate, then up.
    pub x: &'a Slice,
    /// `[tokens, width]` in [`Glu::out`]; another buffer than x.
    pub y: &'a Slice,
    /// What y holds.
    pub out: Format,
    /// The function that the gate goes through.
    pub act: Activation,
    /// Tokens of the batch.
    pub tokens: u32,
    /// Values of a gate.
    pub width: u32,
}

impl Glu<'_> {
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

/// The gradient of [`Glu`], in place.
#[derive(Debug, Clone, Copy)]
pub struct GluBackward<'a> {
    /// `[tokens, 2 width]` f32 activations: gate and up, which become their gradients.
    pub x: &'a Slice,
    /// `[tokens, width]` f32 activations: the gradient of y, which becomes y itself.
    pub dy: &'a Slice,
    /// The function that the gate goes through.
    pub act: Activation,
    /// Tokens of the batch.
    pub tokens: u32,
    /// Values of a gate.
    pub width: u32,
}

impl GluBackward<'_> {
    /// Records it.
    ///
    /// # Errors
    /// As [`Glu::record`].
    pub fn record(&self, rec: &mut Recorder) -> Result<()> {
        let pipeline = rec.gpu().pipeline(&backward_name(self.act), || backward_shader(self.act))?;
        let plan = plan_backward(self.tokens, self.width, rec.gpu().budget())?;
        record(rec, &pipeline, &[self.x, self.dy], &plan);
        Ok(())
    }
}
