//! Heads turned by a Hadamard matrix, which spreads over all of a head what one of its channels holds: rounded to few
//! bits with one scale a block, a head loses least when its values are of one size.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

params! {
    pub struct Params {
        pub values: u32,
        pub grid_x: u32,
    }
}

/// Values of a workgroup, and the largest matrix.
const VALUES: u32 = 256;

/// Blocks turned by a Hadamard matrix in place; the same once more turns them back.
#[derive(Debug, Clone, Copy)]
pub struct Hadamard<'a> {
    /// `[rows, cols]` f32.
    pub x: &'a Slice,
    /// Rows.
    pub rows: u32,
    /// Values of a row, a multiple of `side`.
    pub cols: u32,
    /// Rows and columns of the matrix: a power of two up to 256.
    pub side: u32,
}

impl Hadamard<'_> {
    /// Records it.
    ///
    /// # Errors
    /// A side that is no power of two up to 256 or does not divide a row, no plan under the budget, or a shader the
    /// device refuses.
    pub fn record(&self, rec: &mut Recorder) -> Result<()> {
        let plan = plan([self.rows, self.cols], self.side, rec.gpu().budget())?;
        let pipeline = rec.gpu().pipeline(&name(self.side), || shader(self.side))?;
        record(rec, &pipeline, &[self.x], &plan);
        Ok(())
    }
}

/// The dispatches. Operand: x.
///
/// # Errors
/// A side that is no power of two up to 256 or does not divide a row; a row that exceeds a binding.
pub fn plan(
    [rows, cols]: [u32; 2],
    side: u32,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    if !side.is_power_of_two() || side > VALUES || !cols.is_multiple_of(side) {
        let what = format!("a Hadamard matrix of {side} for rows of {cols}");
        return Err(PlanError::Shape { op: "hadamard", what });
    }
    let row = u64::from(cols) * 4;
    let dispatch = |r: std::ops::Range<u32>| {
        let values = (r.end - r.start) * cols;
        let grid = fold(values.div_ceil(VALUES), budget);
        let moved = f64::from(values);
        Dispatch {
            params: Params { values, grid_x: grid[0] },
            binds: vec![Bind { operand: 0, offset: u64::from(r.start) * row, size: u64::from(values) * 4 }],
            grid,
            cost: Cost { bytes: moved * 8.0, flops: moved * 8.0 },
        }
    };
    Ok(split_rows("hadamard", rows, &[row], budget)?.into_iter().map(dispatch).collect())
}

fn name(side: u32) -> String {
    format!("hadamard_{side}_f32")
}

fn shader(side: u32) -> Shader {
    Shader {
        name: name(side),
        source: compose(&[], &[("SIDE", side)], &[include_str!("kernel.wgsl")]),
        bindings: vec![Access::ReadWrite],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    [32, 64, 128, 256].map(|side| (shader(side), Params::FIELDS)).into()
}
