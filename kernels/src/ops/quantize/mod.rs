//! Activations to 16-bit integers with a scale for every 16: what the integer matvec multiplies with.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

params! {
    pub struct Params {
        pub units: u32,
        pub grid_x: u32,
        pub pad: [u32; 2],
    }
}

const WG: u32 = 64;

/// Quantised activations on the GPU.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// `[units]` of two `vec4<u32>`: high and low bytes.
    pub q: Slice,
    /// `[units]` of (scale, scale times sum).
    pub meta: Slice,
}

/// Bytes of [`Quantized::q`] and [`Quantized::meta`] for `n` values.
pub fn bytes(n: u64) -> (u64, u64) {
    (n / 16 * 32, n / 16 * 8)
}

/// The dispatches for `units` groups of 16. Operands: x, q, meta.
///
/// # Errors
/// A budget smaller than one aligned range.
pub fn plan(units: u32, budget: &Budget) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    Ok(split_rows("quantize", units, &[64, 32, 8], budget)?
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
                binds: vec![part(0, 64), part(1, 32), part(2, 8)],
                grid,
                cost: Cost { bytes: f64::from(n) * 104.0, flops: f64::from(n) * 64.0 },
            }
        })
        .collect())
}

fn shader() -> Shader {
    Shader {
        name: "quantize_i16".into(),
        source: compose(&[], &[("WG", WG)], &[include_str!("kernel.wgsl")]),
        bindings: vec![Access::ReadWrite; 3],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    vec![(shader(), Params::FIELDS)]
}

/// Records the quantisation of `n` values of x, a multiple of 16.
///
/// # Errors
/// No plan under the budget, or a shader the device refuses.
pub fn quantize(rec: &mut Recorder, x: &Slice, out: &Quantized, n: u32) -> Result<()> {
    let pipeline = rec.gpu().pipeline("quantize_i16", shader)?;
    let plan = plan(n / 16, rec.gpu().budget())?;
    record(rec, &pipeline, &[x, &out.q, &out.meta], &plan);
    Ok(())
}
