//! What a token's experts give together, and the gradients of that.

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use super::{Route, whole};
use crate::{Fields, PlanError, Result, compose, fold, params, split_rows};

params! {
    pub struct CombineParams {
        pub tokens: u32,
        pub token0: u32,
        pub used: u32,
        pub quads: u32,
        pub grid_x: u32,
        pub add: u32,
        pub pad: [u32; 2],
    }
}

params! {
    pub struct WeighParams {
        pub choices: u32,
        pub width: u32,
        pub grid_x: u32,
        pub pad: u32,
    }
}

const WG: u32 = 128;

fn combine_shader(sorted: bool, weighted: bool) -> Shader {
    let name = |on, name: &'static str| if on { name } else { "" };
    let constants = [
        ("WG", WG),
        ("SORTED", u32::from(sorted)),
        ("WEIGHTED", u32::from(weighted)),
        ("WEIGHTS", 3 + u32::from(sorted)),
    ];
    Shader {
        name: format!("experts_combine{}{}", name(sorted, "_sorted"), name(weighted, "_weighted")),
        source: compose(&[], &constants, &[include_str!("combine.wgsl")]),
        bindings: vec![Access::ReadWrite; 2 + usize::from(sorted) + usize::from(weighted)],
    }
}

fn weigh_shader() -> Shader {
    Shader {
        name: "experts_weigh".into(),
        source: compose(
            &[],
            &[("WG", WG)],
            &[include_str!("../../wgsl/reduce.wgsl"), include_str!("weigh.wgsl")],
        ),
        bindings: vec![Access::ReadWrite; 5],
    }
}

pub(super) fn shaders() -> Vec<(Shader, Fields)> {
    let combine = |(sorted, weighted)| (combine_shader(sorted, weighted), CombineParams::FIELDS);
    let mut all: Vec<_> = [(false, false), (false, true), (true, false), (true, true)].map(combine).into();
    all.push((weigh_shader(), WeighParams::FIELDS));
    all
}

/// Records `out[t, :] = sum_j weights[t, j] y[position of (t, j), :]`, in the order of j, or with `add` the sum with
/// what `out` holds: y `[choices, width]` by position, weights `[tokens, used]`, where there are none 1, out
/// `[tokens, width]`, all f32 activations, and width a multiple of 4.
///
/// # Errors
/// A width that is no multiple of 4; an operand that exceeds a binding, or a shader the device refuses.
pub fn combine(
    rec: &mut Recorder,
    y: &Slice,
    weights: Option<&Slice>,
    route: &Route<'_>,
    (out, add): (&Slice, bool),
    width: u32,
) -> Result<()> {
    if !width.is_multiple_of(4) {
        let what = format!("a width of {width} is no multiple of 4");
        return Err(PlanError::Shape { op: "experts_combine", what }.into());
    }
    let gpu = rec.gpu().clone();
    let y = whole(rec, y, "the experts' outputs", route.choices(), width)?;
    let list = |slice: &Slice| whole(rec, slice, "the list of choices", route.choices(), 1);
    let position = route.order.map(|o| list(&o.position)).transpose()?;
    let weights = weights.map(list).transpose()?;
    let s = combine_shader(position.is_some(), weights.is_some());
    let pipeline = gpu.pipeline(&s.name.clone(), || s)?;
    let row = u64::from(width) * 4;
    for t in split_rows("experts_combine", route.tokens, &[row], gpu.budget())? {
        let n = t.end - t.start;
        let grid = fold((n * (width / 4)).div_ceil(WG), gpu.budget());
        let params = CombineParams {
            tokens: n,
            token0: t.start,
            used: route.used,
            quads: width / 4,
            grid_x: grid[0],
            add: u32::from(add),
            pad: [0; 2],
        };
        let part = out.range(u64::from(t.start) * row, u64::from(n) * row);
        let operands: Vec<&Slice> = [&y, &part].into_iter().chain(&position).chain(&weights).collect();
        let values = f64::from(n) * f64::from(width) * f64::from(route.used);
        rec.dispatch(&pipeline, &params, &operands, grid, Cost { bytes: values * 4.0, flops: values * 2.0 });
    }
    Ok(())
}

/// Operands of [`weigh`], f32 activations.
#[derive(Debug, Clone, Copy)]
pub struct Weigh<'a> {
    /// `[choices, width]` by position: what the last product read.
    pub h: &'a Slice,
    /// `[choices, width]` by position: the gradient of h before weights; becomes the gradient of h.
    pub g: &'a Slice,
    /// `[tokens, used]`.
    pub weights: &'a Slice,
    /// `[tokens, used]`: becomes the gradient of the weights.
    pub dw: &'a Slice,
}

/// Records the gradients of weights and of what the last product of a sorted route read.
///
/// # Errors
/// A route that is not sorted; an operand that exceeds a binding, or a shader the device refuses.
pub fn weigh(rec: &mut Recorder, of: Weigh<'_>, route: &Route<'_>, width: u32) -> Result<()> {
    let Some(order) = route.order else {
        return Err(
            PlanError::Shape { op: "experts_weigh", what: "the choices are not sorted".into() }.into()
        );
    };
    let n = route.choices();
    let tensor = |slice: &Slice| whole(rec, slice, "the experts' activations", n, width);
    let list = |slice: &Slice| whole(rec, slice, "the list of choices", n, 1);
    let operands = [tensor(of.h)?, tensor(of.g)?, list(&order.position)?, list(of.weights)?, list(of.dw)?];
    let pipeline = rec.gpu().pipeline("experts_weigh", weigh_shader)?;
    let grid = fold(n, rec.gpu().budget());
    let values = f64::from(n) * f64::from(width);
    let params = WeighParams { choices: n, width, grid_x: grid[0], pad: 0 };
    let cost = Cost { bytes: values * 12.0, flops: values * 3.0 };
    rec.dispatch(&pipeline, &params, &operands.each_ref(), grid, cost);
    Ok(())
}
