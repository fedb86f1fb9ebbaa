//! AdamW over flat buffers of parameters, with the gradient's global norm and its clip.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Gpu, Pool, Recorder, Shader, Slice};

use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

params! {
    /// Parameters of all these kernels; `n` counts vec4.
    pub struct Params {
        pub n: u32,
        pub grid_x: u32,
        pub first: u32,
        pub pad: u32,
    }
}

params! {
    /// What a step is taken with; lies in a storage buffer, since it changes from step to step.
    pub struct Settings {
        pub lr: f32,
        pub beta1: f32,
        pub beta2: f32,
        pub eps: f32,
        pub weight_decay: f32,
        pub correction1: f32,
        pub correction2: f32,
        pub clip: f32,
        pub scale: f32,
    }
}

const WG: u32 = 256;

/// vec4 whose squares one workgroup sums.
const SHARE: u32 = 4096;

/// What a step needs besides parameters, gradient and moments.
#[derive(Debug, Clone)]
pub struct Buffers {
    /// Sums of squares, one a workgroup.
    pub sums: Slice,
    /// `[1]`: the gradient's norm.
    pub norm: Slice,
    /// [`Settings`].
    pub settings: Slice,
}

impl Buffers {
    /// For a gradient of `bytes` bytes.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(gpu: &Gpu, bytes: u64) -> Result<Buffers> {
        let groups = plan_norm(bytes, gpu.budget())?.iter().map(|d| d.params.n.div_ceil(SHARE)).sum::<u32>();
        Ok(Buffers {
            sums: gpu.alloc(Pool::Optimiser, u64::from(groups.max(1)) * 4, "sums of squares")?,
            norm: gpu.alloc(Pool::Optimiser, 4, "the gradient's norm")?,
            settings: gpu.alloc(Pool::Optimiser, size_of::<Settings>() as u64, "AdamW's settings")?,
        })
    }
}

/// Ranges of vec4, of which `operands` operands bind their part.
fn ranges(
    bytes: u64,
    operands: usize,
    share: u32,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    if !bytes.is_multiple_of(16) || bytes / 16 > u64::from(u32::MAX) {
        let what = format!("{bytes} bytes are no multiple of 16, or too many");
        return Err(PlanError::Shape { op: "adamw", what });
    }
    let mut first = 0;
    let range = |r: std::ops::Range<u32>| {
        let n = r.end - r.start;
        let groups = n.div_ceil(share);
        let grid = fold(groups, budget);
        let part = |operand| Bind { operand, offset: u64::from(r.start) * 16, size: u64::from(n) * 16 };
        first += groups;
        Dispatch {
            params: Params { n, grid_x: grid[0], first: first - groups, pad: 0 },
            binds: (0..operands).map(part).collect(),
            grid,
            cost: Cost { bytes: f64::from(n) * 16.0 * operands as f64 * 2.0, flops: f64::from(n) * 16.0 },
        }
    };
    Ok(split_rows("adamw", (bytes / 16) as u32, &[16], budget)?.into_iter().map(range).collect())
}

/// The dispatches of the sums. Operands: gradient, parameters, sums.
///
/// # Errors
/// A length that is no multiple of 16 bytes.
pub fn plan_norm(bytes: u64, budget: &Budget) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let mut plan = ranges(bytes, 2, SHARE, budget)?;
    let groups: u64 = plan.iter().map(|d| u64::from(d.params.n.div_ceil(SHARE))).sum();
    plan.iter_mut().for_each(|d| d.binds.push(Bind { operand: 2, offset: 0, size: groups * 4 }));
    Ok(plan)
}

/// The dispatches of a step. Operands: parameters, gradient, moments, settings, norm.
///
/// # Errors
/// As [`plan_norm`].
pub fn plan_step(bytes: u64, budget: &Budget) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let mut plan = ranges(bytes, 4, WG, budget)?;
    let settings = size_of::<Settings>() as u64;
    let whole = [(4, settings), (5, 4)].map(|(operand, size)| Bind { operand, offset: 0, size });
    plan.iter_mut().for_each(|d| d.binds.extend(whole.clone()));
    Ok(plan)
}

fn shader(name: &str) -> Shader {
    let reduce = include_str!("../../wgsl/reduce.wgsl");
    let (parts, bindings): (&[&str], usize) = match name {
        "adamw_norm" => (&[reduce, include_str!("norm.wgsl")], 3),
        "adamw_root" => (&[reduce, include_str!("root.wgsl")], 2),
        "adamw_step" => (&[include_str!("step.wgsl")], 6),
        _ => (&[include_str!("zero.wgsl")], 1),
    };
    Shader {
        name: name.into(),
        source: compose(&[], &[("WG", WG), ("SHARE", SHARE)], parts),
        bindings: vec![Access::ReadWrite; bindings],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    ["adamw_norm", "adamw_root", "adamw_step", "adamw_zero"].map(|n| (shader(n), Params::FIELDS)).into()
}

/// Records the global norm of a gradient into `b.norm`, which is not finite where a parameter is not; its sums
/// have one order, so that it is the same from run to run.
///
/// # Errors
/// Lengths that differ or are no multiple of 16 bytes, or a shader the device refuses.
pub fn norm(rec: &mut Recorder, parameters: &Slice, gradient: &Slice, b: &Buffers) -> Result<()> {
    let plan = plan_norm(gradient.size(), rec.gpu().budget())?;
    let pipeline = rec.gpu().pipeline("adamw_norm", || shader("adamw_norm"))?;
    record(rec, &pipeline, &[gradient, parameters, &b.sums], &plan);
    let pipeline = rec.gpu().pipeline("adamw_root", || shader("adamw_root"))?;
    let n = (b.sums.size() / 4) as u32;
    let params = Params { n, grid_x: 1, first: 0, pad: 0 };
    let cost = Cost { bytes: f64::from(n) * 4.0, flops: f64::from(n) };
    rec.dispatch(&pipeline, &params, &[&b.sums, &b.norm], [1; 3], cost);
    Ok(())
}

/// Records a step from `gradient`, whose norm is in `b.norm`, with what is in `b.settings`; the gradient is
/// cleared. All of one size, a multiple of 16 bytes.
///
/// # Errors
/// As [`norm`].
pub fn step(
    rec: &mut Recorder,
    parameters: &Slice,
    gradient: &Slice,
    first: &Slice,
    second: &Slice,
    b: &Buffers,
) -> Result<()> {
    let plan = plan_step(parameters.size(), rec.gpu().budget())?;
    let pipeline = rec.gpu().pipeline("adamw_step", || shader("adamw_step"))?;
    record(rec, &pipeline, &[parameters, gradient, first, second, &b.settings, &b.norm], &plan);
    Ok(())
}

/// Records that `x` is cleared; a multiple of 16 bytes.
///
/// # Errors
/// As [`norm`].
pub fn zero(rec: &mut Recorder, x: &Slice) -> Result<()> {
    let plan = ranges(x.size(), 1, WG, rec.gpu().budget())?;
    let pipeline = rec.gpu().pipeline("adamw_zero", || shader("adamw_zero"))?;
    record(rec, &pipeline, &[x], &plan);
    Ok(())
}
