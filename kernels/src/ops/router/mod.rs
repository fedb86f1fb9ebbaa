//! Router of a mixture of experts: which k experts a token is sent to, and their weights.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

params! {
    pub struct Params {
        pub tokens: u32,
        pub experts: u32,
        pub used: u32,
        pub renormalise: u32,
        pub grid_x: u32,
        pub scale: f32,
        pub pad: [u32; 2],
    }
}

/// The most experts that a layer can have.
pub const MAX_EXPERTS: u32 = 512;

const WG: u32 = 128;

/// How a layer chooses its experts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Routing {
    /// Experts of the layer, at most [`MAX_EXPERTS`].
    pub experts: u32,
    /// Experts that a token is sent to, `k`, at most `experts`.
    pub used: u32,
    /// Whether the `k` weights of a token are divided by their sum.
    pub renormalise: bool,
    /// What every weight is multiplied by.
    pub scale: f32,
}

/// The dispatches of the forward op (operands: logits, ids, weights) or, `backward`, of its gradient
/// (operands: logits, ids, dw, dlogits).
///
/// # Errors
/// A number of experts that the op does not take, or a token's values that exceed a binding.
pub fn plan(
    tokens: u32,
    routing: &Routing,
    backward: bool,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let Routing { experts, used, renormalise, scale } = *routing;
    if used == 0 || used > experts || experts > MAX_EXPERTS {
        let what = format!("{used} of {experts} experts: from 1 to all of at most {MAX_EXPERTS} can be used");
        return Err(PlanError::Shape { op: "router", what });
    }
    let (all, some) = (u64::from(experts) * 4, u64::from(used) * 4);
    let rows = if backward { vec![all, some, some, all] } else { vec![all, some, some] };
    let dispatch = |t: std::ops::Range<u32>| {
        let n = t.end - t.start;
        let grid = fold(n, budget);
        let part = |(operand, &row): (usize, &u64)| Bind {
            operand,
            offset: u64::from(t.start) * row,
            size: u64::from(n) * row,
        };
        let bytes = f64::from(n) * rows.iter().sum::<u64>() as f64;
        Dispatch {
            params: Params {
                tokens: n,
                experts,
                used,
                renormalise: u32::from(renormalise),
                grid_x: grid[0],
                scale,
                pad: [0; 2],
            },
            binds: rows.iter().enumerate().map(part).collect(),
            grid,
            cost: Cost { bytes, flops: f64::from(n) * f64::from(experts).powi(2) },
        }
    };
    Ok(split_rows("router", tokens, &rows, budget)?.into_iter().map(dispatch).collect())
}

fn shader(backward: bool) -> Shader {
    let (name, kernel, bindings) = match backward {
        false => ("router_f32", include_str!("kernel.wgsl"), 3),
        true => ("router_backward_f32", include_str!("backward.wgsl"), 4),
    };
    let parts = [include_str!("softmax.wgsl"), include_str!("../../wgsl/reduce.wgsl"), kernel];
    Shader {
        name: name.into(),
        source: compose(&[], &[("WG", WG), ("MAX_EXPERTS", MAX_EXPERTS)], &parts),
        bindings: vec![Access::ReadWrite; bindings],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    [false, true].map(|backward| (shader(backward), Params::FIELDS)).into()
}

/// What a token is sent to.
#[derive(Debug, Clone, Copy)]
pub struct Routes<'a> {
    /// `[tokens, used]` u32: the numbers of the experts, that of the largest weight first.
    pub ids: &'a Slice,
    /// `[tokens, used]` f32: their weights, or in the backward pass the gradients of those.
    pub weights: &'a Slice,
}

/// Records the choice of experts by the softmax of logits `[tokens, experts]` f32. Among equal logits the lowest
/// number comes first. All operands are activations.
///
/// # Errors
/// No plan under the budget, or a shader the device refuses.
pub fn router(
    rec: &mut Recorder,
    logits: &Slice,
    to: Routes<'_>,
    tokens: u32,
    routing: &Routing,
) -> Result<()> {
    let plan = plan(tokens, routing, false, rec.gpu().budget())?;
    let pipeline = rec.gpu().pipeline("router_f32", || shader(false))?;
    record(rec, &pipeline, &[logits, to.ids, to.weights], &plan);
    Ok(())
}

/// Records the gradient of the logits, dlogits `[tokens, experts]` f32, from that of the weights that [`router`]
/// gave. The choice itself has no gradient.
///
/// # Errors
/// As [`router`].
pub fn backward(
    rec: &mut Recorder,
    logits: &Slice,
    from: Routes<'_>,
    dlogits: &Slice,
    tokens: u32,
    routing: &Routing,
) -> Result<()> {
    let plan = plan(tokens, routing, true, rec.gpu().budget())?;
    let pipeline = rec.gpu().pipeline("router_backward_f32", || shader(true))?;
    record(rec, &pipeline, &[logits, from.ids, from.weights, dlogits], &plan);
    Ok(())
}
