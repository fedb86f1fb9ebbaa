//! Adding one activation to another: the residual of a product that could not add it itself.

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

/// The dispatches. Operands: x, y.
///
/// # Errors
/// A number of values that is no multiple of 4.
pub fn plan(n: u32, budget: &Budget) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    if !n.is_multiple_of(4) {
        return Err(PlanError::Shape { op: "add", what: format!("{n} values are no multiple of 4") });
    }
    let range = |r: std::ops::Range<u32>| {
        let count = r.end - r.start;
        let part = |operand| Bind { operand, offset: u64::from(r.start) * 16, size: u64::from(count) * 16 };
        let grid = fold(count.div_ceil(WG), budget);
        Dispatch {
            params: Params { n: count, grid_x: grid[0], pad: [0; 2] },
            binds: vec![part(0), part(1)],
            grid,
            cost: Cost { bytes: f64::from(count) * 48.0, flops: f64::from(count) * 4.0 },
        }
    };
    Ok(split_rows("add", n / 4, &[16], budget)?.into_iter().map(range).collect())
}

fn shader() -> Shader {
    Shader {
        name: "add".into(),
        source: compose(&[], &[("WG", WG)], &[include_str!("kernel.wgsl")]),
        bindings: vec![Access::ReadWrite; 2],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    vec![(shader(), Params::FIELDS)]
}

/// Records `y += x` for `n` f32 values, a multiple of 4; x and y do not overlap.
///
/// # Errors
/// No plan under the budget, or a shader the device refuses.
pub fn add(rec: &mut Recorder, x: &Slice, y: &Slice, n: u32) -> Result<()> {
    let pipeline = rec.gpu().pipeline("add", shader)?;
    let plan = plan(n, rec.gpu().budget())?;
    record(rec, &pipeline, &[x, y], &plan);
    Ok(())
}
