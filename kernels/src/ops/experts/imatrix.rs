//! How large the activations are that meet each column of each expert: what an importance matrix of experts is made of.

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use super::{Left, Route, whole};
use crate::{Fields, Result, compose, fold, params};

params! {
    pub struct Params {
        pub choices: u32,
        pub per_row: u32,
        pub cols: u32,
        pub experts: u32,
        pub grid_x: u32,
        pub pad: [u32; 3],
    }
}

/// Columns of a workgroup.
const COLS: u32 = 16;

fn shader(sorted: bool) -> Shader {
    Shader {
        name: if sorted { "experts_imatrix_sorted" } else { "experts_imatrix" }.into(),
        source: compose(&[], &[("SORTED", u32::from(sorted))], &[include_str!("imatrix.wgsl")]),
        bindings: vec![Access::ReadWrite; 3 + usize::from(sorted)],
    }
}

pub(super) fn shaders() -> Vec<(Shader, Fields)> {
    [false, true].map(|sorted| (shader(sorted), Params::FIELDS)).into()
}

/// Values of the sums of `experts` matrices of `cols` columns: one for each column of each, and for each how many
/// choices they are over.
pub fn sums(experts: u32, cols: u32) -> u64 {
    u64::from(experts) * (u64::from(cols) + 1)
}

/// Records `s[e, c] += sum x[row, c]^2` over the choices of each expert, and behind them how many those were: x
/// `[tokens, cols]` or `[choices, cols]` by position, f32, and s [`sums`] of f32, which lies outside of the
/// activations or does not overlap x.
///
/// # Errors
/// An operand that exceeds a binding, or a shader the device refuses.
pub fn accumulate(
    rec: &mut Recorder,
    (x, left): (&Slice, Left),
    s: &Slice,
    route: &Route<'_>,
    [experts, cols]: [u32; 2],
) -> Result<()> {
    let choices = route.choices();
    let (rows, per_row) = match left {
        Left::Tokens => (route.tokens, route.used),
        Left::Positions => (choices, 1),
    };
    let x = whole(rec, x, "the experts' inputs", rows, cols)?;
    let ids = whole(rec, route.ids, "the list of choices", choices, 1)?;
    let s = whole(rec, s, "the sums of squares", experts, cols + 1)?;
    // Only what lies by position has to be looked up.
    let order = route.order.filter(|_| left == Left::Positions);
    let position = order.map(|o| whole(rec, &o.position, "the list of choices", choices, 1)).transpose()?;
    let shader = shader(position.is_some());
    let pipeline = rec.gpu().pipeline(&shader.name.clone(), || shader)?;
    let grid = fold(experts * cols.div_ceil(COLS), rec.gpu().budget());
    let params = Params { choices, per_row, cols, experts, grid_x: grid[0], pad: [0; 3] };
    let operands: Vec<&Slice> = [&x, &ids, &s].into_iter().chain(&position).collect();
    // Each expert's workgroups read the whole list.
    let listed = f64::from(choices) * f64::from(experts) * f64::from(cols.div_ceil(COLS)) * 4.0;
    let values = f64::from(choices) * f64::from(cols);
    rec.dispatch(
        &pipeline,
        &params,
        &operands,
        grid,
        Cost { bytes: values * 4.0 + listed, flops: values * 2.0 },
    );
    Ok(())
}
