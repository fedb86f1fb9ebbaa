//! Cases of gated linear units.

use weft_runtime::Recorder;

use super::{Glu, GluBackward, GluGradient};
use crate::PlanError;
use crate::layout::Format;
use crate::ops::activation::Activation;
use crate::select::BASELINE;
use crate::testing::{Case, Gradient, Gradients, Guarded, Rng, input};

/// One value, primes, several workgroups and tokens, and gates where exp and cubes overflow.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for act in [Activation::Silu, Activation::GeluTanh, Activation::GeluErf] {
        let shapes = [
            (1, 1, 1.0),
            (1, 257, 1.0),
            (1, 4099, 1.0),
            (30, 2048, 1.0),
            (100, 1000, 1.0),
            (2, 11_008, 1.0),
            (3, 100, 0.0),
            (3, 100, 60.0),
            (3, 100, 65_504.0),
            (3, 100, 1e-30),
        ];
        let forward = |out| move |(tokens, width, size)| case(act, [tokens, width], size, out);
        all.extend(shapes.map(forward(Format::F32)));
        all.extend([(30, 2048, 1.0), (3, 100, 60.0), (3, 100, 1e7)].map(forward(Format::F16)));
        // Whole tiles, and a last one that is not full.
        for side in [8, 16] {
            all.extend([(32, 2048, 1.0), (19, 48, 60.0), (19, 48, 1e7)].map(forward(Format::Tiles { side })));
        }
        let gradient = |format| move |(tokens, width, size)| backward(act, [tokens, width], size, format);
        all.extend(shapes.map(gradient(Format::F32)));
        for side in [8, 16] {
            all.extend([(32, 2048, 1.0), (19, 48, 60.0)].map(gradient(Format::Tiles { side })));
        }
    }
    all
}

/// Gate and up of each token as the unit reads them: `[tokens, 2 width]`.
fn side_by_side(gate: &[f32], up: &[f32], width: u32) -> Vec<f32> {
    let rows = gate.chunks_exact(width as usize).zip(up.chunks_exact(width as usize));
    rows.flat_map(|(g, u)| [g, u]).flatten().copied().collect()
}

fn case(act: Activation, [tokens, width]: [u32; 2], magnitude: f32, out: Format) -> Case {
    let name = format!("{} tokens {tokens} width {width} magnitude {magnitude:e}", act.name());
    let (variant, tolerance) = match out {
        Format::F32 => (BASELINE, 1e-7),
        Format::F16 => ("out_f16", 5e-7),
        Format::Tiles { .. } => ("out_tiles", 5e-7),
    };
    Case::new("glu", variant, name, tolerance, move |gpu, _, seed| {
        if out != Format::F32 && !gpu.caps().f16 {
            return Err(PlanError::Shape { op: "glu", what: "no f16".into() }.into());
        }
        let mut rng = Rng::seeded(tokens * width, seed);
        let n = (tokens * width) as usize;
        let gate: Vec<f32> = rng.values(n).iter().map(|v| v * magnitude).collect();
        let up = rng.values(n);
        let x = input(gpu, &side_by_side(&gate, &up, width))?;
        let y = Guarded::new(gpu, (out.rows(tokens) * u64::from(width) * out.bytes()) as usize / 4, None)?;
        let mut rec = Recorder::new(gpu);
        Glu { x: &x, y: &y.slice, out, act, tokens, width }.record(&mut rec)?;
        gpu.run(&rec.finish()?, None)?;
        y.compare_as(gpu, out, [tokens, width], &super::reference::glu(act, &gate, &up))
    })
}

/// What gradients in tiles are multiplied by.
const SCALE: f32 = 4.0;

fn backward(act: Activation, [tokens, width]: [u32; 2], magnitude: f32, format: Format) -> Case {
    let name = format!("{} tokens {tokens} width {width} magnitude {magnitude:e}", act.name());
    let (variant, tolerance) = match format {
        Format::Tiles { .. } => ("out_tiles", 5e-7),
        _ => (BASELINE, 1e-7),
    };
    Case::backward("glu_backward", variant, name, tolerance, move |gpu, _, seed| {
        if format != Format::F32 && !gpu.caps().f16 {
            return Err(PlanError::Shape { op: "glu", what: "no f16".into() }.into());
        }
        let mut rng = Rng::seeded(tokens * width, seed);
        let n = (tokens * width) as usize;
        let gate: Vec<f32> = rng.values(n).iter().map(|v| v * magnitude).collect();
        let (up, dy) = (rng.values(n), rng.values(n));
        let pairs = side_by_side(&gate, &up, width);
        // In place, dy becomes the output, and x its gradient where that does not go to tiles.
        let y = Guarded::new(gpu, n, Some(&dy))?;
        let values = format.rows(tokens) as usize * 2 * width as usize;
        let (x, dx) = match format {
            Format::Tiles { .. } => (input(gpu, &pairs)?, Guarded::new(gpu, values / 2, None)?),
            _ => {
                let dx = Guarded::new(gpu, values, Some(&pairs))?;
                (dx.slice.clone(), dx)
            }
        };
        let (to, by) = match format {
            Format::Tiles { side } => (GluGradient::Tiles { dx: &dx.slice, side, scale: SCALE }, SCALE),
            _ => (GluGradient::InPlace, 1.0),
        };
        let mut rec = Recorder::new(gpu);
        GluBackward { x: &x, dy: &y.slice, to, act, tokens, width }.record(&mut rec)?;
        gpu.run(&rec.finish()?, None)?;
        let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let (gate, up, dy) = (wide(&gate), wide(&up), wide(&dy));
        let (dg, du) = super::reference::backward(act, &gate, &up, &dy);
        // Where gates are extreme these differ in size, so each is compared for itself.
        let again = y.compare(gpu, &super::reference::glu(act, &gate, &up))? <= 1e-7;
        let got = dx.read_as(gpu, format, [tokens, 2 * width])?.filter(|_| again);
        let part = |first: usize| -> Option<Vec<f32>> {
            let rows = got.as_ref()?.chunks_exact(width as usize).skip(first).step_by(2);
            Some(rows.flatten().map(|v| v / by).collect())
        };
        let of = vec![
            Gradient::new(gate, part(0), dg).bends_within(1.0),
            Gradient::new(up, part(1), du).bends_within(1.0),
        ];
        let loss = move |x: &[&[f64]]| {
            super::reference::glu(act, x[0], x[1]).iter().zip(&dy).map(|(y, d)| y * d).sum()
        };
        Ok(Gradients { of, loss: Box::new(loss) })
    })
}
