//! Dropout, whose mask is a hash of a counter and never stored.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

params! {
    pub struct Params {
        pub n: u32,
        pub first: u32,
        pub grid_x: u32,
        pub salt: u32,
        pub dropped: u32,
        pub factor: f32,
        pub add: u32,
        pub pad: u32,
    }
}

const WG: u32 = 256;

/// Which values are dropped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mask {
    /// How likely a value is dropped: 0 up to, but not, 1.
    pub probability: f32,
    /// Tells one tensor's mask from another's.
    pub salt: u32,
}

/// The dispatches for `n` values. Operands: seed, x, y.
///
/// # Errors
/// A probability outside of 0 up to, but not, 1.
pub fn plan(
    n: u32,
    m: Mask,
    add: bool,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    if !(0.0..1.0).contains(&m.probability) {
        let what = format!("a probability of {} is not from 0 up to, but not, 1", m.probability);
        return Err(PlanError::Shape { op: "dropout", what });
    }
    let dispatch = |r: std::ops::Range<u32>| {
        let n = r.end - r.start;
        let grid = fold(n.div_ceil(WG), budget);
        let part = |operand| Bind { operand, offset: u64::from(r.start) * 4, size: u64::from(n) * 4 };
        Dispatch {
            params: Params {
                n,
                first: r.start,
                grid_x: grid[0],
                salt: m.salt,
                dropped: (f64::from(m.probability) * 4_294_967_296.0) as u32,
                factor: 1.0 / (1.0 - m.probability),
                add: u32::from(add),
                pad: 0,
            },
            binds: vec![Bind { operand: 0, offset: 0, size: 8 }, part(1), part(2)],
            grid,
            cost: Cost { bytes: f64::from(n) * if add { 12.0 } else { 8.0 }, flops: f64::from(n) },
        }
    };
    // No more workgroups than two grid dimensions have.
    let most = u64::from(budget.max_workgroups).pow(2) * u64::from(WG) * 4;
    let budget = &Budget { max_binding: budget.max_binding.min(most), ..budget.clone() };
    Ok(split_rows("dropout", n, &[4], budget)?.into_iter().map(dispatch).collect())
}

fn shader() -> Shader {
    Shader {
        name: "dropout_f32".into(),
        source: compose(&[], &[("WG", WG)], &[include_str!("kernel.wgsl")]),
        bindings: vec![Access::Read, Access::ReadWrite, Access::ReadWrite],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    vec![(shader(), Params::FIELDS)]
}

/// Records `y[i] = x[i] / (1 - probability)` for kept values and 0 for dropped ones, with `add` added to
/// what y holds: x and y `[n]` f32 activations that do not overlap. `seed` `[2]` u32, of the run and of the
/// step, lies outside of them. The gradient is the same op on dy.
///
/// # Errors
/// A probability outside of 0 up to, but not, 1, or a shader the device refuses.
pub fn dropout(
    rec: &mut Recorder,
    x: &Slice,
    y: &Slice,
    n: u32,
    seed: &Slice,
    mask: Mask,
    add: bool,
) -> Result<()> {
    let plan = plan(n, mask, add, rec.gpu().budget())?;
    let pipeline = rec.gpu().pipeline("dropout_f32", shader)?;
    record(rec, &pipeline, &[seed, x, y], &plan);
    Ok(())
}
