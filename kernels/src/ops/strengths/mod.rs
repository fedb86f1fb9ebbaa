//! Adapters at strengths of their own: what lies between the two products of several adapters, whose ranks follow each
//! other, times the strength that each of them has for a row. Rows of one step can then have any of them, or none.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

params! {
    pub struct Params {
        pub values: u32,
        pub rank: u32,
        pub adapters: u32,
        pub first: u32,
        pub step: u32,
        pub grid_x: u32,
        pub pad: [u32; 2],
    }
}

const WG: u32 = 256;

/// Sizes, and which row of the strengths is whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows of what is changed.
    pub rows: u32,
    /// Its columns: the ranks of all adapters.
    pub rank: u32,
    /// Adapters.
    pub adapters: u32,
    /// The row of the strengths that the first row takes.
    pub first: u32,
    /// 1 where each row takes the next one, 0 where all take the same.
    pub step: u32,
}

/// `t[row, r] *= strengths[first + row * step, owners[r]]`, in place.
#[derive(Debug, Clone, Copy)]
pub struct Strengths<'a> {
    /// `[rows, rank]` f32 activations.
    pub t: &'a Slice,
    /// `[all, adapters]` f32, `first + (rows - 1) * step` below `all`.
    pub strengths: &'a Slice,
    /// `[rank]` u32: the adapter that each rank is of.
    pub owners: &'a Slice,
    /// Sizes.
    pub shape: Shape,
}

impl Strengths<'_> {
    /// Records it.
    ///
    /// # Errors
    /// No plan under the budget, or a shader the device refuses.
    pub fn record(&self, rec: &mut Recorder) -> Result<()> {
        let pipeline = rec.gpu().pipeline(NAME, shader)?;
        let sizes = [self.strengths.size(), self.owners.size()];
        let plan = plan(self.shape, sizes, rec.gpu().budget())?;
        record(rec, &pipeline, &[self.t, self.strengths, self.owners], &plan);
        Ok(())
    }
}

/// The dispatches. Operands: t, strengths, owners, the last two of so many bytes.
///
/// # Errors
/// A row, or all strengths together, that exceed a binding.
pub fn plan(
    shape: Shape,
    [strengths, owners]: [u64; 2],
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let Shape { rows, rank, adapters, first, step } = shape;
    if strengths > budget.max_binding {
        let (what, allowed) = ("the strengths of all adapters", budget.max_binding);
        return Err(PlanError::DoesNotFit { op: "strengths", what, needed: strengths, allowed });
    }
    let row = u64::from(rank) * 4;
    let dispatch = |r: std::ops::Range<u32>| {
        let values = (r.end - r.start) * rank;
        let grid = fold(values.div_ceil(WG), budget);
        let moved = f64::from(values);
        let t = Bind { operand: 0, offset: u64::from(r.start) * row, size: u64::from(values) * 4 };
        let first = first + r.start * step;
        Dispatch {
            params: Params { values, rank, adapters, first, step, grid_x: grid[0], pad: [0; 2] },
            binds: vec![
                t,
                Bind { operand: 1, offset: 0, size: strengths },
                Bind { operand: 2, offset: 0, size: owners },
            ],
            grid,
            cost: Cost { bytes: moved * 8.0, flops: moved },
        }
    };
    Ok(split_rows("strengths", rows, &[row], budget)?.into_iter().map(dispatch).collect())
}

const NAME: &str = "strengths";

fn shader() -> Shader {
    Shader {
        name: NAME.into(),
        source: compose(&[], &[("WG", WG)], &[include_str!("kernel.wgsl")]),
        bindings: vec![Access::ReadWrite, Access::Read, Access::Read],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    vec![(shader(), Params::FIELDS)]
}
