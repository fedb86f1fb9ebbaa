//! Logits bent so that none exceeds a cap.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use super::activation::Activation;
use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

params! {
    pub struct Params {
        pub values: u32,
        pub grid_x: u32,
        pub cap: f32,
        pub pad: u32,
    }
}

const WG: u32 = 256;

/// A soft cap in place: `x = cap tanh(x / cap)`.
#[derive(Debug, Clone, Copy)]
pub struct Softcap<'a> {
    /// `[rows, cols]` f32 activations.
    pub x: &'a Slice,
    /// Rows of logits.
    pub rows: u32,
    /// Values of a row.
    pub cols: u32,
    /// What no value exceeds; above 0.
    pub cap: f32,
}

impl Softcap<'_> {
    /// Records it.
    ///
    /// # Errors
    /// A cap that is no positive number, no plan under the budget, or a shader the device refuses.
    pub fn record(&self, rec: &mut Recorder) -> Result<()> {
        let pipeline = rec.gpu().pipeline(NAME, shader)?;
        let plan = plan([self.rows, self.cols], self.cap, rec.gpu().budget())?;
        record(rec, &pipeline, &[self.x], &plan);
        Ok(())
    }
}

/// The dispatches. Operand: x.
///
/// # Errors
/// A cap that is no positive number; a row that exceeds a binding.
pub fn plan(
    [rows, cols]: [u32; 2],
    cap: f32,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    if !cap.is_finite() || cap <= 0.0 {
        return Err(PlanError::Shape { op: "softcap", what: format!("a cap of {cap} (it must be above 0)") });
    }
    let row = u64::from(cols) * 4;
    let dispatch = |r: std::ops::Range<u32>| {
        let values = (r.end - r.start) * cols;
        let grid = fold(values.div_ceil(WG), budget);
        let moved = f64::from(values);
        Dispatch {
            params: Params { values, grid_x: grid[0], cap, pad: 0 },
            binds: vec![Bind { operand: 0, offset: u64::from(r.start) * row, size: u64::from(values) * 4 }],
            grid,
            cost: Cost { bytes: moved * 8.0, flops: moved * 8.0 },
        }
    };
    Ok(split_rows("softcap", rows, &[row], budget)?.into_iter().map(dispatch).collect())
}

const NAME: &str = "softcap_f32";

fn shader() -> Shader {
    let parts = [Activation::Tanh.fragment(), include_str!("kernel.wgsl")];
    Shader {
        name: NAME.into(),
        source: compose(&[], &[("WG", WG)], &parts),
        bindings: vec![Access::ReadWrite],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    vec![(shader(), Params::FIELDS)]
}
