//! RMSNorm over rows: of the hidden state, and of each head for QK-norm.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use super::Format;
use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

params! {
    pub struct Params {
        pub rows: u32,
        pub cols: u32,
        pub grid_x: u32,
        pub eps: f32,
    }
}

params! {
    /// Parameters of the gradient.
    pub struct BackwardParams {
        pub rows: u32,
        pub cols: u32,
        pub grid_x: u32,
        pub eps: f32,
        pub flags: u32,
        pub pad: [u32; 3],
    }
}

/// Add to the gradient that is there.
const ADD: u32 = 2;

/// Rows no longer than this get a workgroup of 64: heads, and the widths of tiny models.
const SHORT: u32 = 512;

/// The dispatches. Operands: x, w, y.
///
/// # Errors
/// A row that exceeds a binding.
pub fn plan(
    rows: u32,
    cols: u32,
    eps: f32,
    out: Format,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let row = u64::from(cols) * 4;
    let out_row = u64::from(cols) * out.bytes();
    Ok(split_rows("rmsnorm", rows, &[row, out_row], budget)?
        .into_iter()
        .map(|r| {
            let n = r.end - r.start;
            let grid = fold(n, budget);
            let part = |operand, row: u64| Bind {
                operand,
                offset: u64::from(r.start) * row,
                size: u64::from(n) * row,
            };
            Dispatch {
                params: Params { rows: n, cols, grid_x: grid[0], eps },
                binds: vec![part(0, row), Bind { operand: 1, offset: 0, size: row }, part(2, out_row)],
                grid,
                cost: Cost { bytes: f64::from(n) * row as f64 * 2.0, flops: f64::from(n) * row as f64 },
            }
        })
        .collect())
}

/// The dispatches of the gradient. Operands: x, w, dy, dx.
///
/// # Errors
/// A row that exceeds a binding.
pub fn plan_backward(
    rows: u32,
    cols: u32,
    eps: f32,
    add: bool,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<BackwardParams>>, PlanError> {
    let row = u64::from(cols) * 4;
    let dispatch = |r: std::ops::Range<u32>| {
        let n = r.end - r.start;
        let grid = fold(n, budget);
        let part = |operand| Bind { operand, offset: u64::from(r.start) * row, size: u64::from(n) * row };
        let moved = f64::from(n) * row as f64;
        Dispatch {
            params: BackwardParams {
                rows: n,
                cols,
                grid_x: grid[0],
                eps,
                flags: if add { ADD } else { 0 },
                pad: [0; 3],
            },
            binds: vec![part(0), Bind { operand: 1, offset: 0, size: row }, part(2), part(3)],
            grid,
            cost: Cost { bytes: moved * if add { 4.0 } else { 3.0 }, flops: moved * 2.0 },
        }
    };
    Ok(split_rows("rmsnorm", rows, &[row], budget)?.into_iter().map(dispatch).collect())
}

fn name(wg: u32, out: Format) -> String {
    format!("rmsnorm_{wg}_{}", out.name())
}

fn shader(wg: u32, out: Format) -> Shader {
    let (fragment, enables) = out.out();
    let parts = [include_str!("../../wgsl/reduce.wgsl"), include_str!("kernel.wgsl"), fragment];
    Shader {
        name: name(wg, out),
        source: compose(enables, &[("WG", wg)], &parts),
        bindings: vec![Access::ReadWrite, Access::Read, Access::ReadWrite],
    }
}

fn backward_name(wg: u32) -> String {
    format!("rmsnorm_backward_{wg}_f32")
}

fn backward_shader(wg: u32) -> Shader {
    let parts = [include_str!("../../wgsl/reduce.wgsl"), include_str!("backward.wgsl")];
    Shader {
        name: backward_name(wg),
        source: compose(&[], &[("WG", wg)], &parts),
        bindings: vec![Access::ReadWrite, Access::Read, Access::ReadWrite, Access::ReadWrite],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    let forward = |wg| [Format::F32, Format::F16].map(|out| (shader(wg, out), Params::FIELDS));
    let backward = [64, 256].map(|wg| (backward_shader(wg), BackwardParams::FIELDS));
    [64, 256].into_iter().flat_map(forward).chain(backward).collect()
}

/// Records `y = rmsnorm(x) * w` for `rows` rows of `cols`; x and y are different buffers.
///
/// # Errors
/// No plan under the budget, or a shader the device refuses.
pub fn rmsnorm(
    rec: &mut Recorder,
    x: &Slice,
    w: &Slice,
    y: &Slice,
    rows: u32,
    cols: u32,
    eps: f32,
) -> Result<()> {
    rmsnorm_to(rec, x, w, (y, Format::F32), rows, cols, eps)
}

/// As [`rmsnorm`], with y in a format of choice.
///
/// # Errors
/// As [`rmsnorm`].
pub fn rmsnorm_to(
    rec: &mut Recorder,
    x: &Slice,
    w: &Slice,
    (y, out): (&Slice, Format),
    rows: u32,
    cols: u32,
    eps: f32,
) -> Result<()> {
    let wg = if cols <= SHORT { 64 } else { 256 };
    let pipeline = rec.gpu().pipeline(&name(wg, out), || shader(wg, out))?;
    let plan = plan(rows, cols, eps, out, rec.gpu().budget())?;
    record(rec, &pipeline, &[x, w, y], &plan);
    Ok(())
}

/// Records `dx = d(rmsnorm(x) * w)/dx . dy` for `rows` rows of `cols`: from x that went in and dy
/// `[rows, cols]`; w is frozen. With `add`, dx keeps what it holds and the gradient is added: what a
/// residual stream needs. x, dy and dx are different buffers.
///
/// # Errors
/// As [`rmsnorm`].
pub fn backward(
    rec: &mut Recorder,
    x: &Slice,
    w: &Slice,
    dy: &Slice,
    dx: &Slice,
    rows: u32,
    cols: u32,
    eps: f32,
    add: bool,
) -> Result<()> {
    let wg = if cols <= SHORT { 64 } else { 256 };
    let pipeline = rec.gpu().pipeline(&backward_name(wg), || backward_shader(wg))?;
    let plan = plan_backward(rows, cols, eps, add, rec.gpu().budget())?;
    record(rec, &pipeline, &[x, w, dy, dx], &plan);
    Ok(())
}
