//! Cases of the conversion.

use weft_runtime::{Pool, Recorder};

use super::{cast, reference};
use crate::layout::Format;
use crate::select::BASELINE;
use crate::testing::{Case, Guarded, Rng, input};

/// Four values, several workgroups, more than a small binding, values that f16 does not hold.
pub fn cases() -> Vec<Case> {
    let shapes = [(4, 1.0), (1000, 1.0), (200_000, 1.0), (400, 60_000.0), (400, 0.01)];
    shapes.into_iter().flat_map(|(n, magnitude)| [to_half(n, magnitude), to_f32(n, magnitude)]).collect()
}

/// Now and then a value rounds the other way.
fn to_half(n: u32, magnitude: f32) -> Case {
    let name = format!("n {n} magnitude {magnitude:e}");
    Case::new("cast", BASELINE, name, 5e-7, move |gpu, _, seed| {
        let x: Vec<f32> = Rng::seeded(n, seed).values(n as usize).iter().map(|v| v * magnitude).collect();
        let y = Guarded::new(gpu, n as usize / 2, None)?;
        let mut rec = Recorder::new(gpu);
        cast(&mut rec, &input(gpu, &x)?, (&y.slice, Format::F16), n.into())?;
        gpu.run(&rec.finish()?, None)?;
        y.compare_as(gpu, Format::F16, [1, n], &reference::rounded(&x))
    })
    .of_type("f16")
}

fn to_f32(n: u32, magnitude: f32) -> Case {
    let name = format!("n {n} magnitude {magnitude:e}");
    Case::new("cast", BASELINE, name, 0.0, move |gpu, _, seed| {
        let x: Vec<f32> = Rng::seeded(n, seed).values(n as usize).iter().map(|v| v * magnitude).collect();
        let x: Vec<f32> = x.iter().map(|v| v.clamp(-65_504.0, 65_504.0)).collect();
        let want = reference::rounded(&x);
        let bytes: Vec<u8> = want.iter().flat_map(|&v| half::f16::from_f64(v).to_le_bytes()).collect();
        let x = gpu.alloc_init(Pool::Activations, &bytes, "case input")?;
        let y = Guarded::new(gpu, n as usize, None)?;
        let mut rec = Recorder::new(gpu);
        cast(&mut rec, &x, (&y.slice, Format::F32), n.into())?;
        gpu.run(&rec.finish()?, None)?;
        y.compare(gpu, &want)
    })
    .of_type("f32")
}
