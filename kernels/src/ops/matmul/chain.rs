//! Products of one token that hand integers to each other, so that a decode step needs no dispatch for
//! norms, SwiGLU, residuals or quantisation: each happens at the end of the product before it.

use weft_runtime::{Access, Caps, Cost, DeviceKind, Recorder, Shader, Slice};

use super::matvec::{self, Matvec};
use super::operands::{HAS_BIAS, Params};
use super::variant::Variant;
use crate::layout::Columns;
use crate::ops::WEIGHT;
use crate::ops::quantize::{Quantized, UNIT};
use crate::plan::dispatch_specialised;
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
    /// `[cols]` integers.
    pub ints: &'a Quantized,
    /// Epsilon of the RMSNorm that is still to be divided by: the integers then are those of
    /// [`crate::ops::quantize::normed`] or of [`ChainOutput::Residual`].
    pub norm: Option<f32>,
}

/// Where a chained product goes.
#[derive(Debug, Clone, Copy)]
pub enum ChainOutput<'a> {
    /// `y = sums (+ bias)`, f32.
    Rows {
        /// f32.
        y: &'a Slice,
        /// Where in y.
        columns: Columns,
        /// `[rows]` f32.
        bias: Option<&'a Slice>,
    },
    /// `h += sums`, and what the product behind the next RMSNorm reads.
    Residual {
        /// `[rows]` f32.
        h: &'a Slice,
        /// Weights of the norm, `[rows]` f32.
        norm: &'a Slice,
        /// Integers of h times the weights, with sums of squares of h.
        out: &'a Quantized,
    },
    /// `silu(gate) * up` as integers, of gate and up stacked.
    SwiGlu {
        /// `[rows / 2]` integers.
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

/// The constants of a chained product: those measured on this device, else the table's.
pub fn constants(caps: &Caps, epilogue: ChainEpilogue, ty: WeightType, rows: u32, cols: u32) -> Matvec {
    let most = caps.limits.max_compute_invocations_per_workgroup;
    let pick = || Kernel::pick(epilogue, true, (ty, rows, cols), most).constants;
    caps.tuning.find(epilogue.family(), ty.name(), &[rows, cols]).map_or_else(pick, Matvec::of)
}

/// The shader of a chained product with these constants.
#[cfg(test)]
pub(crate) fn shader(epilogue: ChainEpilogue, ty: WeightType, constants: Matvec) -> Shader {
    Kernel { epilogue, normed: epilogue != ChainEpilogue::Residual, ty, second: None, constants, subgroup: 0 }
        .shader()
}

/// Whether the device can chain a product with this weight and this end. Where it can and should is the
/// caller's decision: a CPU emulates packed dots, and loses by them.
///
/// # Errors
/// What is lacking.
pub fn supports(
    caps: &Caps,
    w: &WeightShape,
    epilogue: ChainEpilogue,
) -> std::result::Result<(), &'static str> {
    Variant::MatvecDot.supports(caps, w.ty, 1)?;
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
    Ok(())
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
}

impl Kernel {
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
        Kernel { epilogue, normed, ty, second: None, constants, subgroup: 0 }
    }

    /// With shuffles, where subgroups have one size that the workgroup is made of.
    fn on(self, caps: &Caps) -> Kernel {
        let fits = |s: u32| self.constants.wg.is_multiple_of(s) && self.constants.lanes >= 2;
        let subgroup = caps.subgroups.filter(|(least, most)| least == most && fits(*most)).map_or(0, |s| s.0);
        Kernel { subgroup, ..self }
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
        format!("chain_{epilogue}{normed}_{name}{second}{subgroup}")
    }

    fn shader(self) -> Shader {
        const RW: Access = Access::ReadWrite;
        let input =
            if self.normed { include_str!("chain_normed.wgsl") } else { include_str!("plain_input.wgsl") };
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
        let end = [include_str!("matvec_dot.wgsl"), lanes, unit, end, input];
        Shader {
            name: self.name(),
            source: self.constants.dot_source(self.ty, self.second, self.normed, self.subgroup, &end),
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
                for subgroup in [0, 32] {
                    let kernel = Kernel::pick(epilogue, normed, (ty, 1024, cols), 256);
                    all.push((Kernel { subgroup, ..kernel }.shader(), Params::FIELDS));
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

/// Records a product of one token; the device must support it ([`supports`]).
///
/// # Errors
/// An operand that exceeds a binding, or a shader the device refuses.
pub fn chained(rec: &mut Recorder, w: &Weight, x: Input<'_>, end: ChainOutput<'_>) -> Result<()> {
    let constants = constants(rec.gpu().caps(), end.epilogue(), w.shape.ty, w.shape.rows, w.shape.cols);
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
    if let Err(why) = supports(gpu.caps(), s, epilogue) {
        return Err(PlanError::Shape { op: "matmul", what: why.into() }.into());
    }
    let kernel =
        Kernel { epilogue, normed: x.norm.is_some(), ty: s.ty, second: None, constants, subgroup: 0 }
            .on(gpu.caps());
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
        let flops = 2.0 * f64::from(rows) * f64::from(s.cols);
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

/// Two products of one token with the same input, whose outputs follow each other from column 0 of y on, as
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
    let can = |s: &WeightShape| supports(gpu.caps(), s, ChainEpilogue::Rows).is_ok() && s.slabs.len() == 1;
    if !can(first) || !can(second) || first.cols != second.cols || !matvec::mixed_pair(first.ty, second.ty) {
        return Ok(false);
    }
    let rows = first.rows + second.rows;
    let normed = x.norm.is_some();
    let most = gpu.caps().limits.max_compute_invocations_per_workgroup;
    let mut constants = constants(gpu.caps(), ChainEpilogue::Rows, first.ty, rows, first.cols);
    if !first.rows.is_multiple_of(constants.rows_per_group()) {
        // Measured on a single matrix; here a workgroup has rows of one type alone.
        constants = Kernel::pick(ChainEpilogue::Rows, normed, (first.ty, rows, first.cols), most).constants;
    }
    let kernel = Kernel {
        epilogue: ChainEpilogue::Rows,
        normed,
        ty: first.ty,
        second: Some(second.ty),
        constants,
        subgroup: 0,
    }
    .on(gpu.caps());
    let Some(slab) = a.slices[0].joined(&b.slices[0]) else { return Ok(false) };
    if !first.rows.is_multiple_of(kernel.constants.rows_per_group()) || slab.size() > gpu.budget().max_binding
    {
        return Ok(false);
    }
    let grid = grid(kernel, rows, gpu.budget());
    let behind = ((slab.size() - b.slices[0].size()) / 4) as u32;
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
        planes_2: second.slabs[0].planes.map(|p| p + behind),
        split: first.rows,
        pad: [0; 3],
    };
    let cost = Cost { bytes: slab.size() as f64, flops: 2.0 * f64::from(rows) * f64::from(first.cols) };
    let operands = [&slab, &slab, &slab, y, &x.ints.q, &x.ints.meta];
    dispatch_specialised(rec, &kernel.name(), || kernel.shader(), &params, &operands, grid, cost)?;
    Ok(true)
}

fn grid(kernel: Kernel, rows: u32, budget: &Budget) -> [u32; 3] {
    fold(rows.div_ceil(kernel.constants.rows_per_group()), budget)
}
