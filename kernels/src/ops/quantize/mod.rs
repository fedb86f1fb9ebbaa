//! Activations to 8-bit integers with a scale and a sum for every 16: what the integer matvec multiplies
//! with; and with one scale for every 32, for the integer product of many tokens.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use crate::plan::dispatch_specialised;
use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

params! {
    pub struct Params {
        pub units: u32,
        pub grid_x: u32,
        pub pad: [u32; 2],
    }
}

params! {
    /// Parameters of [`normed`].
    pub struct NormedParams {
        pub units: u32,
        pub grid_x: u32,
        pub tokens: u32,
        pub pad: u32,
    }
}

const WG: u32 = 64;

/// Quantised activations on the GPU.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// `[units]` of `vec4<u32>`: four groups of bytes.
    pub q: Slice,
    /// `[units]` of (scale, scale times sum).
    pub meta: Slice,
}

/// Bytes of [`Quantized::q`] and [`Quantized::meta`] for `n` values.
pub fn bytes(n: u64) -> (u64, u64) {
    (n, n / 16 * 8)
}

/// The dispatches for `n` groups of values, whose bytes of x, q and meta are given. Operands: x, q,
/// meta.
///
/// # Errors
/// A budget smaller than one aligned range.
fn plan(n: u32, bytes: [u64; 3], budget: &Budget) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    Ok(split_rows("quantize", n, &bytes, budget)?
        .into_iter()
        .map(|r| {
            let n = r.end - r.start;
            let grid = fold(n.div_ceil(WG), budget);
            let part = |operand, bytes: u64| Bind {
                operand,
                offset: u64::from(r.start) * bytes,
                size: u64::from(n) * bytes,
            };
            Dispatch {
                params: Params { units: n, grid_x: grid[0], pad: [0; 2] },
                binds: (0..).zip(bytes).map(|(operand, bytes)| part(operand, bytes)).collect(),
                grid,
                cost: Cost {
                    bytes: f64::from(n) * bytes.iter().sum::<u64>() as f64,
                    flops: f64::from(n) * bytes[0] as f64,
                },
            }
        })
        .collect())
}

fn shader8() -> Shader {
    Shader {
        name: "quantize_i8x32".into(),
        source: compose(&[], &[("WG", WG)], &[include_str!("kernel8.wgsl")]),
        bindings: vec![Access::ReadWrite; 3],
    }
}

fn shader() -> Shader {
    Shader {
        name: "quantize_i8x16".into(),
        source: compose(&[], &[("WG", WG)], &[UNIT, include_str!("kernel.wgsl")]),
        bindings: vec![Access::ReadWrite; 3],
    }
}

/// The WGSL of `unit16`, for kernels that quantise what they compute.
pub(crate) const UNIT: &str = include_str!("unit.wgsl");

fn shader_normed() -> Shader {
    Shader {
        name: "quantize_normed".into(),
        source: compose(&[], &[("WG", WG)], &[UNIT, include_str!("normed.wgsl")]),
        bindings: vec![Access::ReadWrite, Access::Read, Access::ReadWrite, Access::ReadWrite],
    }
}

/// Bytes of [`Quantized::q`] and [`Quantized::meta`] of a residual stream of `n` values in all, with its squares.
pub fn bytes_normed(n: u64) -> (u64, u64) {
    (n, n / 16 * 12)
}

/// Records the first input of a chain of products: x, `[tokens, n]` f32, times w, `[n]` f32, as integers, with sums of
/// squares of x behind the scales; n is a multiple of 64.
///
/// # Errors
/// A shader the device refuses.
pub fn normed(
    rec: &mut Recorder,
    x: &Slice,
    w: &Slice,
    out: &Quantized,
    [tokens, n]: [u32; 2],
) -> Result<()> {
    let all = tokens * n;
    let grid = fold((all / 16).div_ceil(WG), rec.gpu().budget());
    let params = NormedParams { units: n / 16, grid_x: grid[0], tokens, pad: 0 };
    let cost = Cost { bytes: f64::from(all) * 10.0, flops: f64::from(all) * 8.0 };
    dispatch_specialised(
        rec,
        "quantize_normed",
        shader_normed,
        &params,
        &[x, w, &out.q, &out.meta],
        grid,
        cost,
    )
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    vec![(shader(), Params::FIELDS), (shader8(), Params::FIELDS), (shader_normed(), NormedParams::FIELDS)]
}

/// Records the quantisation of `n` values of x, a multiple of 16.
///
/// # Errors
/// No plan under the budget, or a shader the device refuses.
pub fn quantize(rec: &mut Recorder, x: &Slice, out: &Quantized, n: u32) -> Result<()> {
    let pipeline = rec.gpu().pipeline("quantize_i8x16", shader)?;
    let plan = plan(n / 16, [64, 16, 8], rec.gpu().budget())?;
    record(rec, &pipeline, &[x, &out.q, &out.meta], &plan);
    Ok(())
}

/// As [`quantize`], with a scale for every 32 values and `n` a multiple of 32.
///
/// # Errors
/// As [`quantize`].
pub fn quantize8(rec: &mut Recorder, x: &Slice, out: &Quantized, n: u32) -> Result<()> {
    let pipeline = rec.gpu().pipeline("quantize_i8x32", shader8)?;
    let plan = plan(n / 32, [128, 32, 16], rec.gpu().budget())?;
    record(rec, &pipeline, &[x, &out.q, &out.meta], &plan);
    Ok(())
}
