//! Products of one token, or of a few, that hand integers to each other, so that a decode step needs no dispatch for
//! norms, SwiGLU, residuals or quantisation: each happens at the end of the product before it. A token's sums are added
//! up in the same order however many there are, so that a step of several rows draws what a step of each would.

use weft_runtime::{Access, Caps, Cost, DeviceKind, Recorder, Shader, Slice};

use super::matvec::{self, Matvec};
use super::operands::{HAS_BIAS, Params};
use super::variant::Variant;
use crate::layout::Columns;
use crate::ops::WEIGHT;
use crate::ops::quantize::{Quantized, UNIT};
use crate::plan::dispatch_specialised;
use crate::select::CHAIN_TOKENS;
use crate::{Budget, Fields, PlanError, Result, Weight, WeightShape, WeightType, fold, params};

params! {
    /// [`Params`] of a product with rows of two types.
    pub struct MixedParams {
        pub planes: [u32; 4],
        pub row0: u32,
        pub rows: u32,
        pub units: u32,
        pub y_stride: u32,
        pub flags: u32,
        pub extent: u32,
        pub column: u32,
        pub eps: f32,
        pub planes_2: [u32; 4],
        pub split: u32,
        pub pad: [u32; 3],
    }
}

/// What a chained product reads.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// `[tokens, cols]` integers.
    pub ints: &'a Quantized,
    /// How many, [`CHAIN_TOKENS`] at most.
    pub tokens: u32,
    /// Epsilon of the RMSNorm that is still to be divided by: the integers then are those of
    /// [`crate::ops::quantize::normed`] or of [`ChainOutput::Residual`].
    pub norm: Option<f32>,
}

/// Where a chained product goes.
#[derive(Debug, Clone, Copy)]
pub enum ChainOutput<'a> {
    /// `y = sums (+ bias)`, f32.
    Rows {
        /// `[tokens, columns.stride]` f32.
        y: &'a Slice,
        /// Where in y.
        columns: Columns,
        /// `[rows]` f32.
        bias: Option<&'a Slice>,
    },
    /// `h += sums`, and what the product behind the next RMSNorm reads.
    Residual {
        /// `[tokens, rows]` f32.
        h: &'a Slice,
        /// Weights of the norm, `[rows]` f32.
        norm: &'a Slice,
        /// `[tokens, rows]` integers of h times the weights, with sums of squares of h.
        out: &'a Quantized,
    },
    /// `silu(gate) * up` as integers, of gate and up stacked.
    SwiGlu {
        /// `[tokens, rows / 2]` integers.
        out: &'a Quantized,
    },
}

/// An end without its operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainEpilogue {
    /// [`ChainOutput::Rows`].
    Rows,
    /// [`ChainOutput::Residual`].
    Residual,
    /// [`ChainOutput::SwiGlu`].
    SwiGlu,
}

impl ChainOutput<'_> {
    fn epilogue(&self) -> ChainEpilogue {
        match self {
            ChainOutput::Rows { .. } => ChainEpilogue::Rows,
            ChainOutput::Residual { .. } => ChainEpilogue::Residual,
            ChainOutput::SwiGlu { .. } => ChainEpilogue::SwiGlu,
        }
    }
}

impl ChainEpilogue {
    /// All of them.
    pub const ALL: [ChainEpilogue; 3] = [ChainEpilogue::Rows, ChainEpilogue::Residual, ChainEpilogue::SwiGlu];

    /// As the families of [`crate::tuning`] are called.
    pub fn family(self) -> &'static str {
        match self {
            ChainEpilogue::Rows => "chain_rows",
            ChainEpilogue::Residual => "chain_residual",
            ChainEpilogue::SwiGlu => "chain_swiglu",
        }
    }
}

/// The constants of a chained product: those measured on this device, else the table's. With more tokens they are one
/// token's with more rows for each row of lanes, so that what is read of x is used more often; the lanes of a row stay as
/// many, since they decide in which order it is summed. Where they are for half of the tokens, two workgroups share these.
pub fn constants(
    caps: &Caps,
    epilogue: ChainEpilogue,
    ty: WeightType,
    [rows, cols]: [u32; 2],
    tokens: u32,
) -> Matvec {
    let most = caps.limits.max_compute_invocations_per_workgroup;
    // Eight tokens leave a lane registers for few outputs, for each of which it reads the activations.
    let tokens = match (epilogue, tokens) {
        (ChainEpilogue::SwiGlu | ChainEpilogue::Residual, 6 | 8) => tokens / 2,
        _ => tokens,
    };
    let pick = || Kernel::pick(epilogue, true, (ty, rows, cols), most).constants;
    let one = caps.tuning.find(epilogue.family(), ty.name(), &[rows, cols]).map_or_else(pick, Matvec::of);
    let (wg, rows) = match (epilogue, tokens) {
        (_, 0..=1) => (one.wg, one.rows),
        (ChainEpilogue::Rows, _) => (if tokens > 4 { 2 * one.wg } else { one.wg }, one.rows.max(4)),
        // Eight tokens of four rows spill.
        (_, 2) | (ChainEpilogue::SwiGlu, 5..) => (one.wg, one.rows),
        // The outputs of a workgroup stay as many, whole units of 16.
        (ChainEpilogue::Residual, 5..) => (one.wg / 4, 4 * one.rows),
        _ => (one.wg / 2, 2 * one.rows),
    };
    let (one, more) = (Matvec { tokens, ..one }, Matvec { wg, rows, tokens, steps: 1, ..one });
    let kernel = Kernel::of(epilogue, true, ty, more);
    if rows == one.rows || wg < one.lanes.max(64) || wg > most || kernel.on(caps).fits(caps).is_err() {
        return one;
    }
    more
}

/// The shader of a chained product with these constants.
#[cfg(test)]
pub(crate) fn shader(epilogue: ChainEpilogue, ty: WeightType, constants: Matvec) -> Shader {
    Kernel::of(epilogue, epilogue != ChainEpilogue::Residual, ty, constants).shader()
}

/// Whether the device can chain a product of so many tokens with this weight and this end. Where it can and should is
/// the caller's decision: a CPU emulates packed dots, and loses by them.
///
/// # Errors
/// What is lacking.
pub fn supports(
    caps: &Caps,
    w: &WeightShape,
    epilogue: ChainEpilogue,
    tokens: u32,
) -> std::result::Result<(), &'static str> {
    Variant::MatvecDot.supports(caps, w.ty, 1)?;
    if tokens > CHAIN_TOKENS {
        return Err("more tokens than a chain takes");
    }
    let whole = match epilogue {
        ChainEpilogue::Rows => 1,
        ChainEpilogue::Residual => 64,
        ChainEpilogue::SwiGlu => 32,
    };
    // Sums of squares are read four at a time.
    if !w.cols.is_multiple_of(64) || !w.rows.is_multiple_of(whole) {
        return Err("rows or columns are no whole units");
    }
    if epilogue != ChainEpilogue::Rows && w.slabs.len() > 1 {
        return Err("the matrix is cut into slabs");
    }
    let constants = constants(caps, epilogue, w.ty, [w.rows, w.cols], tokens);
    Kernel::of(epilogue, true, w.ty, constants).on(caps).fits(caps)
}

/// A chained kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kernel {
    epilogue: ChainEpilogue,
    normed: bool,
    ty: WeightType,
    /// Type of the last rows, where it is another.
    second: Option<WeightType>,
    constants: Matvec,
    /// Invocations of a subgroup, if lanes add up by shuffles.
    subgroup: u32,
    /// Whether there are twice the tokens of the constants, which two workgroups share.
    halved: bool,
}

impl Kernel {
    /// A kernel of one type, which uses no subgroups.
    fn of(epilogue: ChainEpilogue, normed: bool, ty: WeightType, constants: Matvec) -> Kernel {
        Kernel { epilogue, normed, ty, second: None, constants, subgroup: 0, halved: false }
    }

    fn pick(epilogue: ChainEpilogue, normed: bool, s: (WeightType, u32, u32), most: u32) -> Kernel {
        let (ty, rows, cols) = s;
        let plain = Matvec::pick(DeviceKind::Discrete, Variant::MatvecDot, ty, rows, cols, 1);
        let constants = match epilogue {
            ChainEpilogue::Rows => plain,
            // Units of 16 rows a workgroup; as many lanes a row as then fit.
            ChainEpilogue::Residual => match cols {
                0..=1023 => Matvec { wg: 256, lanes: 16, rows: 1, steps: 1, tokens: 1 },
                _ if most < 512 => Matvec { wg: 256, lanes: 32, rows: 2, steps: 1, tokens: 1 },
                _ if cols < 2048 || most < 1024 => {
                    Matvec { wg: 512, lanes: 32, rows: 1, steps: 1, tokens: 1 }
                }
                _ => Matvec { wg: 1024, lanes: 64, rows: 1, steps: 1, tokens: 1 },
            },
            // A row of gate and one of up.
            ChainEpilogue::SwiGlu if cols <= 1024 => {
                Matvec { wg: 128, lanes: 8, rows: 2, steps: 1, tokens: 1 }
            }
            ChainEpilogue::SwiGlu => Matvec { wg: 256, lanes: 16, rows: 2, steps: 1, tokens: 1 },
        };
        Kernel::of(epilogue, normed, ty, constants)
    }

    /// With shuffles, where subgroups have one size that the workgroup is made of.
    fn on(self, caps: &Caps) -> Kernel {
        let fits = |s: u32| self.constants.wg.is_multiple_of(s) && self.constants.lanes >= 2;
        let subgroup = caps.subgroups.filter(|(least, most)| least == most && fits(*most)).map_or(0, |s| s.0);
        Kernel { subgroup, ..self }
    }

    /// Whether a workgroup has room for the sums of all its tokens, and an invocation for each value that it ends with.
    fn fits(self, caps: &Caps) -> std::result::Result<(), &'static str> {
        let Matvec { wg, lanes, rows, tokens, .. } = self.constants;
        let squares = if self.normed && self.subgroup == 0 { tokens } else { 0 };
        let parts = wg / lanes.min(self.subgroup.max(1)) * self.constants.sums(squares) + tokens;
        let outputs = wg / lanes * rows * tokens;
        let (ends, kept) = match self.epilogue {
            ChainEpilogue::Rows => (0, 0),
            ChainEpilogue::Residual => (outputs, 2),
            ChainEpilogue::SwiGlu => (outputs / 2, 1),
        };
        // The code book of some types is a KiB at most.
        let book = if self.ty.layout().table.is_empty() { 0 } else { 1024 };
        let bytes = 4 * (parts + ends * kept) + book;
        if ends > wg || bytes > caps.limits.max_compute_workgroup_storage_size {
            return Err("workgroups are too small for so many tokens");
        }
        Ok(())
    }

    fn name(self) -> String {
        let epilogue = match self.epilogue {
            ChainEpilogue::Rows => "rows",
            ChainEpilogue::Residual => "residual",
            ChainEpilogue::SwiGlu => "swiglu",
        };
        let normed = if self.normed { "_normed" } else { "" };
        let second = self.second.map_or(String::new(), |ty| format!("+{ty}"));
        let name = self.constants.suffix(self.ty);
        let subgroup = if self.subgroup > 0 { format!("_sg{}", self.subgroup) } else { String::new() };
        let halved = if self.halved { "_halved" } else { "" };
        format!("chain_{epilogue}{normed}_{name}{second}{subgroup}{halved}")
    }

    fn shader(self) -> Shader {
        const RW: Access = Access::ReadWrite;
        let input = match (self.normed, self.subgroup) {
            (false, _) => &[include_str!("plain_input.wgsl")][..],
            (true, 0) => &[include_str!("chain_normed.wgsl"), include_str!("chain_squares.wgsl")],
            (true, _) => &[include_str!("chain_normed.wgsl"), include_str!("chain_squares_shuffled.wgsl")],
        };
        let (end, ends) = match self.epilogue {
            ChainEpilogue::Rows => (include_str!("matvec_store.wgsl"), vec![Access::Read, RW, RW, RW]),
            ChainEpilogue::Residual => {
                (include_str!("chain_residual.wgsl"), vec![Access::Read, RW, RW, RW, RW, RW])
            }
            ChainEpilogue::SwiGlu => (include_str!("chain_swiglu.wgsl"), vec![RW; 4]),
        };
        let unit = if self.epilogue == ChainEpilogue::Rows { "" } else { UNIT };
        let lanes = match self.subgroup {
            0 => include_str!("lanes.wgsl"),
            _ => include_str!("lanes_shuffled.wgsl"),
        };
        let end = [&[include_str!("matvec_dot.wgsl"), lanes, unit, end], input].concat();
        Shader {
            name: self.name(),
            source: self.constants.dot_source(
                self.ty,
                self.second,
                self.normed,
                self.subgroup,
                self.halved,
                &end,
            ),
            bindings: [&WEIGHT[..], &ends].concat(),
        }
    }
}

/// Every shader with its parameters' fields, for validation without a GPU.
pub(super) fn shaders() -> Vec<(Shader, Fields)> {
    let mut all = Vec::new();
    for &ty in WeightType::ALL.iter().filter(|t| t.layout().has_ints()) {
        for (epilogue, normed) in
            [(ChainEpilogue::Rows, true), (ChainEpilogue::Residual, false), (ChainEpilogue::SwiGlu, true)]
        {
            for cols in [512, 1024, 4096] {
                for (subgroup, tokens) in [(0, 1), (32, 1), (0, 2), (32, CHAIN_TOKENS)] {
                    let kernel = Kernel::pick(epilogue, normed, (ty, 1024, cols), 256);
                    let constants = Matvec { tokens, ..kernel.constants };
                    let halved = tokens == 2 && epilogue == ChainEpilogue::SwiGlu;
                    all.push((Kernel { subgroup, constants, halved, ..kernel }.shader(), Params::FIELDS));
                }
            }
        }
    }
    for &ty in WeightType::ALL {
        for &second in WeightType::ALL.iter().filter(|&&second| matvec::mixed_pair(ty, second)) {
            let kernel = Kernel {
                second: Some(second),
                ..Kernel::pick(ChainEpilogue::Rows, true, (ty, 1024, 4096), 256)
            };
            all.push((kernel.shader(), MixedParams::FIELDS));
        }
    }
    all
}

/// Records a product of a few tokens; the device must support it ([`supports`]).
///
/// # Errors
/// An operand that exceeds a binding, or a shader the device refuses.
pub fn chained(rec: &mut Recorder, w: &Weight, x: Input<'_>, end: ChainOutput<'_>) -> Result<()> {
    let s = &w.shape;
    let constants = constants(rec.gpu().caps(), end.epilogue(), s.ty, [s.rows, s.cols], x.tokens);
    chained_with(rec, constants, w, x, end)
}

/// As [`chained`], by a kernel with these constants.
///
/// # Errors
/// As [`chained`].
pub fn chained_with(
    rec: &mut Recorder,
    constants: Matvec,
    w: &Weight,
    x: Input<'_>,
    end: ChainOutput<'_>,
) -> Result<()> {
    let gpu = rec.gpu().clone();
    let epilogue = end.epilogue();
    let s = &w.shape;
    if let Err(why) = supports(gpu.caps(), s, epilogue, x.tokens) {
        return Err(PlanError::Shape { op: "matmul", what: why.into() }.into());
    }
    let halved = x.tokens > constants.tokens;
    let kernel = Kernel { halved, ..Kernel::of(epilogue, x.norm.is_some(), s.ty, constants).on(gpu.caps()) };
    let (q, meta) = (&x.ints.q, &x.ints.meta);
    for (slab, slice) in s.slabs.iter().zip(&w.slices) {
        let (flags, columns) = match end {
            ChainOutput::Rows { bias, columns, .. } => (if bias.is_some() { HAS_BIAS } else { 0 }, columns),
            _ => (0, Columns::all(s.rows)),
        };
        let rows = slab.rows.end - slab.rows.start;
        let grid = grid(kernel, rows, gpu.budget());
        let params = Params {
            planes: slab.planes,
            row0: slab.rows.start,
            rows,
            units: s.units(),
            y_stride: columns.stride,
            flags,
            extent: grid[0],
            column: columns.column,
            eps: x.norm.unwrap_or(0.0),
        };
        let operands = match &end {
            // Without a bias the slab stands in for it: bound, never read.
            ChainOutput::Rows { y, bias, .. } => vec![slice, slice, bias.unwrap_or(slice), y, q, meta],
            ChainOutput::Residual { h, norm, out } => vec![slice, slice, norm, h, q, meta, &out.q, &out.meta],
            ChainOutput::SwiGlu { out } => vec![slice, slice, &out.q, &out.meta, q, meta],
        };
        let flops = 2.0 * f64::from(x.tokens) * f64::from(rows) * f64::from(s.cols);
        let cost = Cost { bytes: slab.bytes as f64, flops };
        // Each slab would be a pipeline of its own: a device that needs many has other worries than half a
        // microsecond.
        if s.slabs.len() == 1 {
            dispatch_specialised(rec, &kernel.name(), || kernel.shader(), &params, &operands, grid, cost)?;
        } else {
            let pipeline = gpu.pipeline(&kernel.name(), || kernel.shader())?;
            rec.dispatch(&pipeline, &params, &operands, grid, cost);
        }
    }
    Ok(())
}

/// Two products with the same input, whose outputs follow each other from column 0 of y on, as
/// one dispatch; `false` if the weights cannot share one: types without a common kernel, no place next to
/// each other in memory, rows that are no whole workgroups.
///
/// # Errors
/// As [`chained`].
pub fn chained_mixed(
    rec: &mut Recorder,
    [a, b]: [&Weight; 2],
    x: Input<'_>,
    y: &Slice,
    stride: u32,
) -> Result<bool> {
    let gpu = rec.gpu().clone();
    let (first, second) = (&a.shape, &b.shape);
    let can = |s: &WeightShape| {
        supports(gpu.caps(), s, ChainEpilogue::Rows, x.tokens).is_ok() && s.slabs.len() == 1
    };
    if !can(first) || !can(second) || first.cols != second.cols || !matvec::mixed_pair(first.ty, second.ty) {
        return Ok(false);
    }
    let rows = first.rows + second.rows;
    let normed = x.norm.is_some();
    let most = gpu.caps().limits.max_compute_invocations_per_workgroup;
    let mut constants = constants(gpu.caps(), ChainEpilogue::Rows, first.ty, [rows, first.cols], x.tokens);
    if !first.rows.is_multiple_of(constants.rows_per_group()) {
        // Measured on a single matrix; here a workgroup has rows of one type alone.
        let usual = Kernel::pick(ChainEpilogue::Rows, normed, (first.ty, rows, first.cols), most).constants;
        constants = Matvec { tokens: x.tokens, ..usual };
    }
    let kernel =
        Kernel { second: Some(second.ty), ..Kernel::of(ChainEpilogue::Rows, normed, first.ty, constants) }
            .on(gpu.caps());
    let Some((slab, planes_2)) = a.joined(b) else { return Ok(false) };
    if !first.rows.is_multiple_of(kernel.constants.rows_per_group()) || slab.size() > gpu.budget().max_binding
    {
        return Ok(false);
    }
    let grid = grid(kernel, rows, gpu.budget());
    let params = MixedParams {
        planes: first.slabs[0].planes,
        row0: 0,
        rows,
        units: first.units(),
        y_stride: stride,
        flags: 0,
        extent: grid[0],
        column: 0,
        eps: x.norm.unwrap_or(0.0),
        planes_2,
        split: first.rows,
        pad: [0; 3],
    };
    let flops = 2.0 * f64::from(x.tokens) * f64::from(rows) * f64::from(first.cols);
    let cost = Cost { bytes: slab.size() as f64, flops };
    let operands = [&slab, &slab, &slab, y, &x.ints.q, &x.ints.meta];
    dispatch_specialised(rec, &kernel.name(), || kernel.shader(), &params, &operands, grid, cost)?;
    Ok(true)
}

fn grid(kernel: Kernel, rows: u32, budget: &Budget) -> [u32; 3] {
    fold(rows.div_ceil(kernel.constants.rows_per_group()) * (1 + u32::from(kernel.halved)), budget)
}
