//! RMSNorm over rows: of the hidden state, and of each head for QK-norm.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use crate::layout::{Format, split_tokens};
use crate::plan::record_specialised;
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
    Ok(split_tokens("rmsnorm", rows, &[row, out_row], out, budget)?
        .into_iter()
        .map(|r| {
            let n = r.end - r.start;
            let grid = fold(n, budget);
            let part =
                |operand, n: u64, row: u64| Bind { operand, offset: u64::from(r.start) * row, size: n * row };
            Dispatch {
                params: Params { rows: n, cols, grid_x: grid[0], eps },
                binds: vec![
                    part(0, n.into(), row),
                    Bind { operand: 1, offset: 0, size: row },
                    part(2, out.rows(n), out_row),
                ],
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
        source: compose(enables, &[("WG", wg), ("ADD", 0)], &parts),
        bindings: vec![Access::ReadWrite, Access::Read, Access::ReadWrite],
    }
}

fn post_name(wg: u32) -> String {
    format!("rmsnorm_add_{wg}_f32")
}

fn post_shader(wg: u32) -> Shader {
    let (fragment, _) = Format::F32.out();
    let parts = [include_str!("../../wgsl/reduce.wgsl"), include_str!("kernel.wgsl"), fragment];
    let source = compose(&[], &[("WG", wg), ("ADD", 1)], &parts);
    Shader { name: post_name(wg), source, ..shader(wg, Format::F32) }
}

/// Values that an invocation of the kernel with parts keeps, in fours, and the most that it has on their way.
fn held(cols: u32) -> u32 {
    (cols / 4).div_ceil(256)
}
const MAX_LOADS: u32 = 24;

fn summed_name(count: u32, held: u32, out: Format) -> String {
    format!("rmsnorm_summed_{held}x{count}_{}", out.name())
}

fn summed_shader(count: u32, held: u32, out: Format) -> Shader {
    let (fragment, enables) = out.out();
    let parts = [include_str!("../../wgsl/reduce.wgsl"), include_str!("summed.wgsl"), fragment];
    Shader {
        name: summed_name(count, held, out),
        source: compose(enables, &[("WG", 256), ("HELD", held), ("COUNT", count)], &parts),
        bindings: vec![Access::ReadWrite, Access::ReadWrite, Access::Read, Access::ReadWrite],
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
    let forward = |wg| Format::OUT.map(|out| (shader(wg, out), Params::FIELDS));
    let post = [64, 256].map(|wg| (post_shader(wg), Params::FIELDS));
    let backward = [64, 256].map(|wg| (backward_shader(wg), BackwardParams::FIELDS));
    let summed = Format::OUT.map(|out| (summed_shader(5, 3, out), Params::FIELDS));
    [64, 256].into_iter().flat_map(forward).chain(post).chain(backward).chain(summed).collect()
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

/// The norm of what a block gave, added to the residual stream: `x += rmsnorm(y) * w`, all in f32, since both the
/// norm and the stream may be beyond f16 (Gemma 3).
///
/// Its gradients: that of x passes through as it is, and that of y is [`backward`] at y of the stream's gradient.
#[derive(Debug, Clone, Copy)]
pub struct PostNorm<'a> {
    /// What the block gave, `[rows, cols]` f32 activations; another buffer than x.
    pub y: &'a Slice,
    /// Weights of the norm, `[cols]` f32.
    pub w: &'a Slice,
    /// The residual stream, `[rows, cols]` f32 activations, which is added to.
    pub x: &'a Slice,
    /// Tokens of the batch.
    pub rows: u32,
    /// Values of a token.
    pub cols: u32,
    /// What is added to the mean of squares.
    pub eps: f32,
}

impl PostNorm<'_> {
    /// Records it.
    ///
    /// # Errors
    /// As [`rmsnorm`].
    pub fn record(&self, rec: &mut Recorder) -> Result<()> {
        let wg = if self.cols <= SHORT { 64 } else { 256 };
        let pipeline = rec.gpu().pipeline(&post_name(wg), || post_shader(wg))?;
        let plan = plan(self.rows, self.cols, self.eps, Format::F32, rec.gpu().budget())?;
        record(rec, &pipeline, &[self.y, self.w, self.x], &plan);
        Ok(())
    }
}

/// What a norm behind a residual product is given besides the stream.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    /// `[cols]` f32.
    pub w: &'a Slice,
    /// What is added to the mean of squares.
    pub eps: f32,
    /// Where the result goes, and in what format.
    pub to: (&'a Slice, Format),
}

/// Whether [`summed`] can do `count` parts of `rows` rows of `cols`.
pub fn sums([count, rows, cols]: [u32; 3], budget: &Budget) -> bool {
    let bytes = u64::from(count) * u64::from(rows) * u64::from(cols) * 4;
    cols.is_multiple_of(4) && (count + 2) * held(cols) <= MAX_LOADS && bytes <= budget.max_binding
}

/// Records `x += sum_z parts[z]` and then y = rmsnorm(x) * w: parts `[count, rows, cols]` and x `[rows, cols]`,
/// f32. Parameters are specialised ([`Gpu::specialised`](weft_runtime::Gpu::specialised)).
///
/// # Errors
/// Where [`sums`] says no, or a shader the device refuses.
pub fn summed(
    rec: &mut Recorder,
    parts: &Slice,
    x: &Slice,
    norm: Norm<'_>,
    shape @ [count, rows, cols]: [u32; 3],
) -> Result<()> {
    let budget = rec.gpu().budget();
    if !sums(shape, budget) {
        return Err(PlanError::Shape { op: "rmsnorm_summed", what: format!("parts of {shape:?}") }.into());
    }
    let (y, out) = norm.to;
    let grid = fold(rows, budget);
    let values = u64::from(rows) * u64::from(cols);
    let written = out.rows(rows) * u64::from(cols) * out.bytes();
    let sizes = [u64::from(count) * values * 4, values * 4, u64::from(cols) * 4, written];
    let dispatch = Dispatch {
        params: Params { rows, cols, grid_x: grid[0], eps: norm.eps },
        binds: (0..).zip(sizes).map(|(operand, size)| Bind { operand, offset: 0, size }).collect(),
        grid,
        cost: Cost { bytes: values as f64 * 4.0 * f64::from(count + 3), flops: values as f64 * 8.0 },
    };
    let held = held(cols);
    let shader = || summed_shader(count, held, out);
    record_specialised(rec, &summed_name(count, held, out), shader, &[parts, x, norm.w, y], &[dispatch])
}

/// The operands of `dx = d(rmsnorm(x) * w)/dx . dy`; w is frozen, and x, dy and dx are different buffers.
#[derive(Debug, Clone, Copy)]
pub struct Backward<'a> {
    /// What went in, `[rows, cols]` f32.
    pub x: &'a Slice,
    /// The norm's weights, `[cols]` f32.
    pub w: &'a Slice,
    /// The gradient of what came out, `[rows, cols]` f32.
    pub dy: &'a Slice,
    /// The gradient of x, `[rows, cols]` f32.
    pub dx: &'a Slice,
    /// Rows.
    pub rows: u32,
    /// Values of a row.
    pub cols: u32,
    /// The norm's epsilon.
    pub eps: f32,
    /// Whether the gradient is added to what dx holds, as a residual stream needs.
    pub add: bool,
}

impl Backward<'_> {
    /// Records it.
    ///
    /// # Errors
    /// As [`rmsnorm`].
    pub fn record(&self, rec: &mut Recorder) -> Result<()> {
        let Backward { x, w, dy, dx, rows, cols, eps, add } = *self;
        let wg = if cols <= SHORT { 64 } else { 256 };
        let pipeline = rec.gpu().pipeline(&backward_name(wg), || backward_shader(wg))?;
        let plan = plan_backward(rows, cols, eps, add, rec.gpu().budget())?;
        record(rec, &pipeline, &[x, w, dy, dx], &plan);
        Ok(())
    }
}
