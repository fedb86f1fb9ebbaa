//! SwiGLU: the gate of the feed-forward block.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

params! {
    pub struct Params {
        pub n: u32,
        pub grid_x: u32,
        pub pad: [u32; 2],
    }
}

const WG: u32 = 256;

/// The dispatches for `n` values. Operands: gate, up.
///
/// # Errors
/// A budget smaller than one aligned range.
pub fn plan(n: u32, budget: &Budget) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    Ok(split_rows("swiglu", n, &[4], budget)?
        .into_iter()
        .map(|r| {
            let n = r.end - r.start;
            let grid = fold(n.div_ceil(WG), budget);
            let part = |operand| Bind { operand, offset: u64::from(r.start) * 4, size: u64::from(n) * 4 };
            Dispatch {
                params: Params { n, grid_x: grid[0], pad: [0; 2] },
                binds: vec![part(0), part(1)],
                grid,
                cost: Cost { bytes: f64::from(n) * 12.0, flops: f64::from(n) * 4.0 },
            }
        })
        .collect())
}

fn shader() -> Shader {
    Shader {
        name: "swiglu_f32".into(),
        source: compose(&[], &[("WG", WG)], &[include_str!("kernel.wgsl")]),
        bindings: vec![Access::ReadWrite; 2],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    vec![(shader(), Params::FIELDS)]
}

/// Records `gate = silu(gate) * up` over `n` values.
///
/// # Errors
/// No plan under the budget, or a shader the device refuses.
pub fn swiglu(rec: &mut Recorder, gate: &Slice, up: &Slice, n: u32) -> Result<()> {
    let pipeline = rec.gpu().pipeline("swiglu_f32", shader)?;
    let plan = plan(n, rec.gpu().budget())?;
    record(rec, &pipeline, &[gate, up], &plan);
    Ok(())
}
