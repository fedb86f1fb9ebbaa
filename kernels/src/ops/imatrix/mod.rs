//! How large the activations are that meet each column of a matrix: what an importance matrix is made of.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use crate::layout::Format;
use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

params! {
    pub struct Params {
        pub tokens: u32,
        pub cols: u32,
        pub grid_x: u32,
        pub pad: u32,
    }
}

/// Columns of a workgroup.
const COLS: u32 = 16;

/// The dispatches. Operands: x, s.
///
/// # Errors
/// A token's values that exceed a binding.
pub fn plan(
    tokens: u32,
    cols: u32,
    format: Format,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let row = u64::from(cols) * format.bytes();
    let dispatch = |t: std::ops::Range<u32>| {
        let n = t.end - t.start;
        let grid = fold(cols.div_ceil(COLS), budget);
        let (first, bytes) = (u64::from(t.start) * row, u64::from(n) * row);
        Dispatch {
            params: Params { tokens: n, cols, grid_x: grid[0], pad: 0 },
            binds: vec![
                // A half that is the last of an odd number is read with the one behind it.
                Bind { operand: 0, offset: first, size: bytes.next_multiple_of(4) },
                Bind { operand: 1, offset: 0, size: u64::from(cols) * 4 },
            ],
            grid,
            cost: Cost { bytes: bytes as f64, flops: f64::from(n) * f64::from(cols) * 2.0 },
        }
    };
    let widest = u64::from(cols) * 4;
    Ok(split_rows("imatrix", tokens, &[row, widest], budget)?.into_iter().map(dispatch).collect())
}

fn name(format: Format) -> String {
    format!("imatrix_{}", format.name())
}

fn shader(format: Format) -> Shader {
    let fragment = match format {
        Format::F32 => include_str!("x_f32.wgsl"),
        _ => include_str!("x_f16.wgsl"),
    };
    Shader {
        name: name(format),
        source: compose(&[], &[], &[include_str!("kernel.wgsl"), fragment]),
        bindings: vec![Access::ReadWrite; 2],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    [Format::F32, Format::F16].map(|f| (shader(f), Params::FIELDS)).into()
}

/// Records `s[c] += Σ_t x[t, c]²` for x `[tokens, cols]` and s `[cols]` f32, which lies outside of the
/// activations or does not overlap x.
///
/// # Errors
/// No plan under the budget, or a shader the device refuses.
pub fn accumulate(
    rec: &mut Recorder,
    (x, format): (&Slice, Format),
    s: &Slice,
    tokens: u32,
    cols: u32,
) -> Result<()> {
    if let Format::Tiles { .. } = format {
        return Err(PlanError::Shape { op: "imatrix", what: "sums are of rows, not tiles".into() }.into());
    }
    let pipeline = rec.gpu().pipeline(&name(format), || shader(format))?;
    let plan = plan(tokens, cols, format, rec.gpu().budget())?;
    record(rec, &pipeline, &[x, s], &plan);
    Ok(())
}
