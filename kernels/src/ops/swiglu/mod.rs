//! SwiGLU: the gate of the feed-forward block.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use super::Format;
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
    Ok(split_rows("swiglu", tokens, &[2 * row, out_row], budget)?
        .into_iter()
        .map(|t| {
            let n = t.end - t.start;
            let grid = fold((n * width).div_ceil(WG), budget);
            let part = |operand, row: u64| Bind {
                operand,
                offset: u64::from(t.start) * row,
                size: u64::from(n) * row,
            };
            let values = f64::from(n) * f64::from(width);
            Dispatch {
                params: Params { tokens: n, width, grid_x: grid[0], pad: 0 },
                binds: vec![part(0, 2 * row), part(1, out_row)],
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
    Ok(split_rows("swiglu", tokens, &[2 * row, row], budget)?.into_iter().map(dispatch).collect())
}

fn name(out: Format) -> String {
    format!("swiglu_{}", out.name())
}

fn shader(out: Format) -> Shader {
    let (fragment, enables) = out.out();
    Shader {
        name: name(out),
        source: compose(enables, &[("WG", WG)], &[include_str!("kernel.wgsl"), fragment]),
        bindings: vec![Access::ReadWrite; 2],
    }
}

const BACKWARD: &str = "swiglu_backward_f32";

fn backward_shader() -> Shader {
    Shader {
        name: BACKWARD.into(),
        source: compose(&[], &[("WG", WG)], &[include_str!("backward.wgsl")]),
        bindings: vec![Access::ReadWrite; 2],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    [shader(Format::F32), shader(Format::F16), backward_shader()].map(|s| (s, Params::FIELDS)).into()
}

/// Records `y = silu(gate) * up` for x `[tokens, 2 width]`, gate and then up, and y `[tokens, width]`.
///
/// # Errors
/// No plan under the budget, or a shader the device refuses.
pub fn swiglu(rec: &mut Recorder, x: &Slice, y: &Slice, tokens: u32, width: u32) -> Result<()> {
    swiglu_to(rec, x, (y, Format::F32), tokens, width)
}

/// As [`swiglu`], with y in a format of choice.
///
/// # Errors
/// As [`swiglu`].
pub fn swiglu_to(
    rec: &mut Recorder,
    x: &Slice,
    (y, out): (&Slice, Format),
    tokens: u32,
    width: u32,
) -> Result<()> {
    let pipeline = rec.gpu().pipeline(&name(out), || shader(out))?;
    let plan = plan(tokens, width, out, rec.gpu().budget())?;
    record(rec, &pipeline, &[x, y], &plan);
    Ok(())
}

/// Records the gradient of [`swiglu`] in place: x `[tokens, 2 width]`, gate and up, becomes their gradient,
/// and dy `[tokens, width]` becomes y, what [`swiglu`] gave.
///
/// # Errors
/// As [`swiglu`].
pub fn backward(rec: &mut Recorder, x: &Slice, dy: &Slice, tokens: u32, width: u32) -> Result<()> {
    let pipeline = rec.gpu().pipeline(BACKWARD, backward_shader)?;
    let plan = plan_backward(tokens, width, rec.gpu().budget())?;
    record(rec, &pipeline, &[x, dy], &plan);
    Ok(())
}
