//! Gated linear units, the gate of the feed-forward block: SwiGLU and GeGLU.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use super::activation::Activation;
use crate::layout::{Format, split_tokens};
use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record};

params! {
    pub struct Params {
        pub tokens: u32,
        pub width: u32,
        pub grid_x: u32,
        pub pad: u32,
    }
}

params! {
    pub struct BackwardParams {
        pub tokens: u32,
        pub width: u32,
        pub grid_x: u32,
        pub scale: f32,
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

/// Where the gradients of gate and up go.
#[derive(Debug, Clone, Copy)]
pub enum GluGradient<'a> {
    /// In place of gate and up.
    InPlace,
    /// To tiles, for the product in front of the unit.
    Tiles {
        /// f16 `[tokens / side, 2 width / side, side, side]`, its tokens rounded up to whole tiles.
        dx: &'a Slice,
        /// Rows and columns of a tile: 8 or 16. The width is a multiple of it.
        side: u32,
        /// What gradients are multiplied by before they are rounded.
        scale: f32,
    },
}

impl GluGradient<'_> {
    fn format(self) -> Format {
        match self {
            GluGradient::InPlace => Format::F32,
            GluGradient::Tiles { side, .. } => Format::Tiles { side },
        }
    }
}

/// The dispatches of the gradient. Operands: x, dy, and the tiles where it goes to those.
///
/// # Errors
/// A token's values that exceed a binding; a width that is not whole tiles.
fn plan_backward(
    tokens: u32,
    width: u32,
    to: GluGradient<'_>,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<BackwardParams>>, PlanError> {
    let (row, format) = (u64::from(width) * 4, to.format());
    let (scale, each) = match to {
        GluGradient::InPlace => (1.0, 1),
        GluGradient::Tiles { side, .. } if !width.is_multiple_of(side) => {
            return Err(PlanError::Shape { op: "glu", what: format!("{width} columns make no whole tiles") });
        }
        GluGradient::Tiles { scale, .. } => (scale, 4),
    };
    let out = 2 * u64::from(width) * format.bytes();
    let dispatch = |t: std::ops::Range<u32>| {
        let n = t.end - t.start;
        let grid = fold((n * width / each).div_ceil(WG), budget);
        let part =
            |operand, n: u64, row: u64| Bind { operand, offset: u64::from(t.start) * row, size: n * row };
        let values = f64::from(n) * f64::from(width);
        let mut binds = vec![part(0, n.into(), 2 * row), part(1, n.into(), row)];
        if each == 4 {
            binds.push(part(2, format.rows(n), out));
        }
        Dispatch {
            params: BackwardParams { tokens: n, width, grid_x: grid[0], scale },
            binds,
            grid,
            cost: Cost { bytes: values * (16 + 2 * format.bytes()) as f64, flops: values * 10.0 },
        }
    };
    Ok(split_tokens("glu", tokens, &[2 * row, row, out], format, budget)?.into_iter().map(dispatch).collect())
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

fn backward_name(act: Activation, to: Format) -> String {
    format!("{}_backward_{}", unit(act), to.name())
}

fn backward_shader(act: Activation, to: Format) -> Shader {
    let (fragment, enables) = to.out();
    let (text, count) = match to {
        Format::Tiles { .. } => (include_str!("backward_fours.wgsl"), 3),
        _ => (include_str!("backward.wgsl"), 2),
    };
    let mut parts = vec![act.fragment(), text];
    if count == 3 {
        parts.push(fragment);
    }
    Shader {
        name: backward_name(act, to),
        source: compose(enables, &[("WG", WG)], &parts),
        bindings: vec![Access::ReadWrite; count],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    let forward = |act| Format::OUT.map(|out| (shader(act, out), Params::FIELDS));
    let tiles = [8, 16].map(|side| Format::Tiles { side });
    let backward = |act| {
        [Format::F32]
            .into_iter()
            .chain(tiles)
            .map(move |to| (backward_shader(act, to), BackwardParams::FIELDS))
    };
    Activation::ALL.into_iter().flat_map(|act| forward(act).into_iter().chain(backward(act))).collect()
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

/// The gradient of [`Glu`].
#[derive(Debug, Clone, Copy)]
pub struct GluBackward<'a> {
    /// `[tokens, 2 width]` f32 activations: gate and up.
    pub x: &'a Slice,
    /// `[tokens, width]` f32 activations: the gradient of y, which becomes y itself.
    pub dy: &'a Slice,
    /// Where the gradients of gate and up go.
    pub to: GluGradient<'a>,
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
        let format = self.to.format();
        let pipeline =
            rec.gpu().pipeline(&backward_name(self.act, format), || backward_shader(self.act, format))?;
        let plan = plan_backward(self.tokens, self.width, self.to, rec.gpu().budget())?;
        match self.to {
            GluGradient::InPlace => record(rec, &pipeline, &[self.x, self.dy], &plan),
            GluGradient::Tiles { dx, .. } => record(rec, &pipeline, &[self.x, self.dy, dx], &plan),
        }
        Ok(())
    }
}
