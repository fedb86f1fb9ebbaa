//! LayerNorm over rows, of a residual sum where the norm comes behind it (BERT), or of the stream alone (ViT).

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use crate::layout::{Format, split_tokens};
use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record};

params! {
    pub struct Params {
        pub rows: u32,
        pub cols: u32,
        pub grid_x: u32,
        pub eps: f32,
    }
}

/// Rows no longer than this get a workgroup of 64.
const SHORT: u32 = 512;

/// LayerNorm: `y = (v - mean v) / sqrt(var v + eps) * w + b` of each row of `v = x + residual`, with the population's
/// variance.
#[derive(Debug, Clone, Copy)]
pub struct LayerNorm<'a> {
    /// `[rows, cols]` f32 activations.
    pub x: &'a Slice,
    /// `[rows, cols]` f32 activations, another buffer than x; none where x is normed alone.
    pub residual: Option<&'a Slice>,
    /// `[2, cols]` f32: weights, then biases, which are zeros where a model has none.
    pub wb: &'a Slice,
    /// `[rows, cols]` in [`LayerNorm::out`]; another buffer than x and residual.
    pub y: &'a Slice,
    /// What y holds.
    pub out: Format,
    /// Tokens of the batch.
    pub rows: u32,
    /// Values of a token.
    pub cols: u32,
    /// What is added to the variance.
    pub eps: f32,
}

impl LayerNorm<'_> {
    /// Records it.
    ///
    /// # Errors
    /// No plan under the budget, or a shader the device refuses.
    pub fn record(&self, rec: &mut Recorder) -> Result<()> {
        let wg = if self.cols <= SHORT { 64 } else { 256 };
        let (sum, out) = (self.residual.is_some(), self.out);
        let pipeline = rec.gpu().pipeline(&name(wg, sum, out), || shader(wg, sum, out))?;
        let plan = plan([self.rows, self.cols], self.eps, sum, out, rec.gpu().budget())?;
        // Without a residual nothing binds the last operand.
        record(rec, &pipeline, &[self.x, self.wb, self.y, self.residual.unwrap_or(self.x)], &plan);
        Ok(())
    }
}

/// The dispatches. Operands: x, wb, y, and with `residual` that.
///
/// # Errors
/// A row that exceeds a binding.
pub fn plan(
    [rows, cols]: [u32; 2],
    eps: f32,
    residual: bool,
    out: Format,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let (row, out_row) = (u64::from(cols) * 4, u64::from(cols) * out.bytes());
    let dispatch = |r: std::ops::Range<u32>| {
        let n = r.end - r.start;
        let grid = fold(n, budget);
        let part =
            |operand, row: u64| Bind { operand, offset: u64::from(r.start) * row, size: u64::from(n) * row };
        let to = Bind { operand: 2, offset: u64::from(r.start) * out_row, size: out.rows(n) * out_row };
        let mut binds = vec![part(0, row), Bind { operand: 1, offset: 0, size: 2 * row }, to];
        binds.extend(residual.then(|| part(3, row)));
        let read = row * (1 + u64::from(residual));
        Dispatch {
            params: Params { rows: n, cols, grid_x: grid[0], eps },
            binds,
            grid,
            cost: Cost { bytes: f64::from(n) * (read + out_row) as f64, flops: f64::from(n * cols) * 9.0 },
        }
    };
    Ok(split_tokens("layernorm", rows, &[row, out_row], out, budget)?.into_iter().map(dispatch).collect())
}

fn name(wg: u32, residual: bool, out: Format) -> String {
    let sum = if residual { "_sum" } else { "" };
    format!("layernorm{sum}_{wg}_{}", out.name())
}

fn shader(wg: u32, residual: bool, out: Format) -> Shader {
    let (fragment, enables) = out.out();
    let constants = [("WG", wg), ("RESIDUAL", u32::from(residual))];
    let parts = [include_str!("../../wgsl/reduce.wgsl"), include_str!("kernel.wgsl"), fragment];
    let mut bindings = vec![Access::ReadWrite, Access::Read, Access::ReadWrite];
    bindings.extend(residual.then_some(Access::ReadWrite));
    Shader { name: name(wg, residual, out), source: compose(enables, &constants, &parts), bindings }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    let mut all = Vec::new();
    for wg in [64, 256] {
        for residual in [false, true] {
            all.extend(Format::OUT.map(|out| (shader(wg, residual, out), Params::FIELDS)));
        }
    }
    all
}
