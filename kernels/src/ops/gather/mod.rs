//! Rows of activations by a list of indices, and back: a head on the supervised tokens only.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

params! {
    pub struct Params {
        pub count: u32,
        pub width: u32,
        pub first: u32,
        pub there: u32,
        pub index0: u32,
        pub grid_x: u32,
        pub add: u32,
        pub pad: u32,
    }
}

/// An index that names no row.
pub const NONE: u32 = u32::MAX;

const WG: u32 = 128;

/// Rows `[count, width]` of a tensor `[total, width]`, by the indices from `index0` on of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows of the tensor.
    pub total: u32,
    /// Indices.
    pub count: u32,
    /// Values of a row.
    pub width: u32,
    /// The first index of the list that counts.
    pub index0: u32,
}

/// The dispatches: of each part of x, each part of y. Operands: rows, of which `list` bytes are bound, x, y.
///
/// # Errors
/// A row or the list of indices that exceeds a binding; fewer indices than `index0 + count`.
pub fn plan(
    s: &Shape,
    list: u64,
    add: bool,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    if list > budget.max_binding {
        let (what, needed, allowed) = ("the list of rows", list, budget.max_binding);
        return Err(PlanError::DoesNotFit { op: "gather", what, needed, allowed });
    }
    if list < u64::from(s.index0 + s.count) * 4 {
        let what = format!("{} rows from {} on, of a list of {list} bytes", s.count, s.index0);
        return Err(PlanError::Shape { op: "gather", what });
    }
    let row = u64::from(s.width) * 4;
    let mut plan = Vec::new();
    for x in split_rows("gather", s.total, &[row], budget)? {
        for y in split_rows("gather", s.count, &[row], budget)? {
            let n = y.end - y.start;
            let grid = fold(n, budget);
            let part = |operand, r: &std::ops::Range<u32>| Bind {
                operand,
                offset: u64::from(r.start) * row,
                size: u64::from(r.end - r.start) * row,
            };
            plan.push(Dispatch {
                params: Params {
                    count: n,
                    width: s.width,
                    first: x.start,
                    there: x.end - x.start,
                    index0: s.index0 + y.start,
                    grid_x: grid[0],
                    add: u32::from(add),
                    pad: 0,
                },
                binds: vec![Bind { operand: 0, offset: 0, size: list }, part(1, &x), part(2, &y)],
                grid,
                cost: Cost { bytes: f64::from(n) * row as f64 * if add { 3.0 } else { 2.0 }, flops: 0.0 },
            });
        }
    }
    Ok(plan)
}

fn shader(name: &str) -> Shader {
    let text = match name {
        "gather" => include_str!("gather.wgsl"),
        _ => include_str!("scatter.wgsl"),
    };
    Shader {
        name: name.into(),
        source: compose(&[], &[("WG", WG)], &[text]),
        bindings: vec![Access::Read, Access::ReadWrite, Access::ReadWrite],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    ["gather", "scatter"].map(|name| (shader(name), Params::FIELDS)).into()
}

/// Records `y[i, :] = x[rows[index0 + i], :]`, zeros where the index is [`NONE`]: x `[total, width]`, y
/// `[count, width]`, both f32 activations that do not overlap; rows `[..]` u32 outside of them.
///
/// # Errors
/// No plan under the budget, or a shader the device refuses.
pub fn gather(rec: &mut Recorder, x: &Slice, rows: &Slice, y: &Slice, s: &Shape) -> Result<()> {
    let plan = plan(s, rows.size(), false, rec.gpu().budget())?;
    let pipeline = rec.gpu().pipeline("gather", || shader("gather"))?;
    record(rec, &pipeline, &[rows, x, y], &plan);
    Ok(())
}

/// Records `x[rows[index0 + i], :] = y[i, :]`, or with `add` the sum with what x holds there, but where the
/// index is [`NONE`]. No row may come twice; rows that do not come keep what they hold. Operands as in
/// [`gather`].
///
/// # Errors
/// As [`gather`].
pub fn scatter(rec: &mut Recorder, y: &Slice, rows: &Slice, x: &Slice, s: &Shape, add: bool) -> Result<()> {
    let plan = plan(s, rows.size(), add, rec.gpu().budget())?;
    let pipeline = rec.gpu().pipeline("scatter", || shader("scatter"))?;
    record(rec, &pipeline, &[rows, x, y], &plan);
    Ok(())
}
