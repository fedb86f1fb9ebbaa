//! The token embedding: rows of a matrix by their ids.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use super::{WEIGHT, slab_operands, with_dequant};
use crate::{
    Bind, Budget, Dispatch, Fields, PlanError, Result, Weight, WeightShape, WeightType, compose, fold,
    params, record, split_rows,
};

params! {
    pub struct Params {
        pub planes: [u32; 4],
        pub row0: u32,
        pub rows: u32,
        pub units: u32,
        pub tokens: u32,
        pub grid_x: u32,
        pub scale: f32,
        pub add: u32,
        pub pad: u32,
    }
}

const WG: u32 = 64;

/// The dispatches for slab `slab`. Operands: slab, slab, ids, y.
///
/// # Errors
/// A row of y that exceeds a binding.
pub fn plan(
    w: &WeightShape,
    slab: usize,
    tokens: u32,
    (scale, add): (f32, bool),
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let s = &w.slabs[slab];
    let y_row = u64::from(w.cols) * 4;
    Ok(split_rows("embed", tokens, &[y_row, 4], budget)?
        .into_iter()
        .map(|t| {
            let n = t.end - t.start;
            let grid = fold(n, budget);
            Dispatch {
                params: Params {
                    planes: s.planes,
                    row0: s.rows.start,
                    rows: s.rows.end - s.rows.start,
                    units: w.units(),
                    tokens: n,
                    grid_x: grid[0],
                    scale,
                    add: u32::from(add),
                    pad: 0,
                },
                binds: vec![
                    Bind { operand: 0, offset: 0, size: s.bytes },
                    Bind { operand: 1, offset: 0, size: s.bytes },
                    Bind { operand: 2, offset: u64::from(t.start) * 4, size: u64::from(n) * 4 },
                    Bind { operand: 3, offset: u64::from(t.start) * y_row, size: u64::from(n) * y_row },
                ],
                grid,
                cost: Cost {
                    bytes: f64::from(n) * (y_row + w.ty.row_bytes(w.cols as usize) as u64) as f64,
                    flops: 0.0,
                },
            }
        })
        .collect())
}

fn name(ty: WeightType) -> String {
    format!("embed_{ty}")
}

fn shader(ty: WeightType) -> Shader {
    Shader {
        name: name(ty),
        source: compose(&[], &[("WG", WG)], &with_dequant(ty, include_str!("kernel.wgsl"))),
        bindings: [&WEIGHT[..], &[Access::Read, Access::ReadWrite]].concat(),
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    WeightType::ALL.iter().map(|&ty| (shader(ty), Params::FIELDS)).collect()
}

/// Rows of a matrix by index: `y[t, :] = scale w[ids[t], :]`, or with `add` the sum with what y holds, as BERT
/// adds rows by type and by position to those of its tokens.
#[derive(Debug, Clone, Copy)]
pub struct Embed<'a> {
    /// `[rows, cols]` of any weight type.
    pub w: &'a Weight,
    /// `[tokens]` u32, each less than the rows.
    pub ids: &'a Slice,
    /// `[tokens, cols]` f32 activations.
    pub y: &'a Slice,
    /// Number of ids.
    pub tokens: u32,
    /// What rows are multiplied by: the root of the width for Gemma.
    pub scale: f32,
    /// Add to what y holds.
    pub add: bool,
}

impl<'a> Embed<'a> {
    /// The rows as they are.
    pub fn new(w: &'a Weight, ids: &'a Slice, y: &'a Slice, tokens: u32) -> Embed<'a> {
        Embed { w, ids, y, tokens, scale: 1.0, add: false }
    }

    /// Records it.
    ///
    /// # Errors
    /// No plan under the budget, or a shader the device refuses.
    pub fn record(&self, rec: &mut Recorder) -> Result<()> {
        let shape = &self.w.shape;
        let pipeline = rec.gpu().pipeline(&name(shape.ty), || shader(shape.ty))?;
        let budget = rec.gpu().budget().clone();
        for slab in 0..self.w.slices.len() {
            let [a, b] = slab_operands(self.w, slab);
            let plan = plan(shape, slab, self.tokens, (self.scale, self.add), &budget)?;
            record(rec, &pipeline, &[a, b, self.ids, self.y], &plan);
        }
        Ok(())
    }
}
