//! Cases of activation functions.

use weft_runtime::Recorder;

use super::{Activate, Activation};
use crate::PlanError;
use crate::layout::Format;
use crate::select::BASELINE;
use crate::testing::{Case, Guarded, Rng, input};

/// Every function: one value, primes, several workgroups and tokens, values where exponentials and cubes overflow,
/// and values so small that differences cancel.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for act in Activation::ALL {
        let shapes = [
            (1, 1, 1.0),
            (1, 4099, 1.0),
            (30, 1536, 1.0),
            (3, 100, 0.0),
            (3, 100, 60.0),
            (3, 100, 65_504.0),
            (3, 100, 1e15),
            (3, 100, 1e-12),
        ];
        all.extend(shapes.map(|(tokens, width, size)| case(act, [tokens, width], size, Format::F32)));
        all.push(case(act, [30, 1536], 1.0, Format::F16));
        all.push(case(act, [30, 48], 1e7, Format::F16));
        for side in [8, 16] {
            all.extend([1.0, 1e7].map(|size| case(act, [19, 48], size, Format::Tiles { side })));
        }
    }
    all
}

fn case(act: Activation, [tokens, width]: [u32; 2], magnitude: f32, out: Format) -> Case {
    let name = format!("{} tokens {tokens} width {width} magnitude {magnitude:e}", act.name());
    let (variant, tolerance) = match out {
        Format::F32 => (BASELINE, 1e-7),
        Format::F16 => ("out_f16", 5e-7),
        Format::Tiles { .. } => ("out_tiles", 5e-7),
    };
    Case::new("activation", variant, name, tolerance, move |gpu, _, seed| {
        if out != Format::F32 && !gpu.caps().f16 {
            return Err(PlanError::Shape { op: "activation", what: "no f16".into() }.into());
        }
        let n = (tokens * width) as usize;
        let values: Vec<f32> =
            Rng::seeded(tokens * width, seed).values(n).iter().map(|v| v * magnitude).collect();
        let x = input(gpu, &values)?;
        let y = Guarded::new(gpu, (out.rows(tokens) * u64::from(width) * out.bytes()) as usize / 4, None)?;
        let mut rec = Recorder::new(gpu);
        Activate { x: &x, y: &y.slice, out, act, tokens, width }.record(&mut rec)?;
        gpu.run(&rec.finish()?, None)?;
        let want: Vec<f64> = values.iter().map(|&v| super::reference::act(act, v.into())).collect();
        y.compare_as(gpu, out, [tokens, width], &want)
    })
}
