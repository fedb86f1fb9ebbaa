//! Activations between f32 and f16: kept in half the memory for the backward pass. Core WebGPU, which
//! packs and unpacks f16 without having it.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use crate::layout::Format;
use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

params! {
    pub struct Params {
        pub quads: u32,
        pub grid_x: u32,
        pub pad: [u32; 2],
    }
}

const WG: u32 = 256;

/// The dispatches for `n` values, a multiple of 4. Operands: x, y.
///
/// # Errors
/// A number that is no multiple of 4.
pub fn plan(n: u64, to: Format, budget: &Budget) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    if let Format::Tiles { .. } = to {
        return Err(PlanError::Shape { op: "cast", what: "tiles are made by the op tile".into() });
    }
    if !n.is_multiple_of(4) || n / 4 > u64::from(u32::MAX) {
        let what = format!("{n} values are not a multiple of 4");
        return Err(PlanError::Shape { op: "cast", what });
    }
    let (from, to) = if to == Format::F16 { (16, 8) } else { (8, 16) };
    let dispatch = |r: std::ops::Range<u32>| {
        let quads = r.end - r.start;
        let grid = fold(quads.div_ceil(WG), budget);
        let part = |operand, row: u64| Bind {
            operand,
            offset: u64::from(r.start) * row,
            size: u64::from(quads) * row,
        };
        Dispatch {
            params: Params { quads, grid_x: grid[0], pad: [0; 2] },
            binds: vec![part(0, from), part(1, to)],
            grid,
            cost: Cost { bytes: f64::from(quads) * 24.0, flops: 0.0 },
        }
    };
    // No more workgroups than two grid dimensions have.
    let most = u64::from(budget.max_workgroups).pow(2) * u64::from(WG) * 16;
    let budget = &Budget { max_binding: budget.max_binding.min(most), ..budget.clone() };
    Ok(split_rows("cast", (n / 4) as u32, &[from, to], budget)?.into_iter().map(dispatch).collect())
}

fn shader(to: Format) -> Shader {
    let text = match to {
        Format::F32 => include_str!("to_f32.wgsl"),
        _ => include_str!("to_half.wgsl"),
    };
    Shader {
        name: format!("cast_to_{}", to.name()),
        source: compose(&[], &[("WG", WG)], &[text]),
        bindings: vec![Access::ReadWrite; 2],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    [Format::F32, Format::F16].map(|to| (shader(to), Params::FIELDS)).into()
}

/// Records the conversion of `n` values from the other format to `to`: x and y activations that do not
/// overlap. What f16 does not hold becomes infinite there.
///
/// # Errors
/// A number that is no multiple of 4, or a shader the device refuses.
pub fn cast(rec: &mut Recorder, x: &Slice, (y, to): (&Slice, Format), n: u64) -> Result<()> {
    let plan = plan(n, to, rec.gpu().budget())?;
    let s = shader(to);
    let pipeline = rec.gpu().pipeline(&s.name.clone(), || s)?;
    record(rec, &pipeline, &[x, y], &plan);
    Ok(())
}
