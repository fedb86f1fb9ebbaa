//! Cases of the activation quantiser.

use weft_runtime::Recorder;

use super::Quantized;
use crate::select::BASELINE;
use crate::testing::{Case, Guarded, Rng, input, nmse};

/// One unit, a prime number of them, several workgroups; zeros, outliers, the ends of the range.
pub fn cases() -> Vec<Case> {
    [(1, 1.0), (67, 1.0), (1009, 1.0), (20_000, 1.0), (64, 0.0), (64, 65_504.0), (64, 1e-20)]
        .map(|(units, magnitude)| case(units, magnitude))
        .into()
}

fn case(units: u32, magnitude: f32) -> Case {
    let name = format!("units {units} magnitude {magnitude:e}");
    // An integer may round the other way where the GPU's reciprocal is an ulp off.
    Case::new("quantize", BASELINE, name, 1e-6, move |gpu, _, seed| {
        let mut rng = Rng::seeded(units, seed);
        let x: Vec<f32> = rng.values(units as usize * 16).iter().map(|v| v * magnitude).collect();
        let q = Guarded::new(gpu, units as usize * 4, None)?;
        let meta = Guarded::new(gpu, units as usize * 2, None)?;
        let x_gpu = input(gpu, &x)?;
        let out = Quantized { q: q.slice.clone(), meta: meta.slice.clone() };
        let mut rec = Recorder::new(gpu);
        super::quantize(&mut rec, &x_gpu, &out, units * 16)?;
        gpu.run(&rec.finish()?, None)?;
        let (Some(q), Some(meta)) = (q.read(gpu)?, meta.read(gpu)?) else { return Ok(f64::INFINITY) };
        let values = values(bytemuck::cast_slice(&q), &meta);
        let sums: Vec<f32> = meta.chunks_exact(2).map(|m| m[1]).collect();
        let (want, want_sums) = super::reference::quantize(&x);
        Ok(nmse(&values, &want).max(nmse(&sums, &want_sums)))
    })
}

/// The values that quantised activations stand for.
pub(crate) fn values(q: &[u8], meta: &[f32]) -> Vec<f32> {
    let mut values = Vec::with_capacity(q.len());
    for (u, unit) in q.chunks_exact(16).enumerate() {
        for i in 0..16 {
            // Value i lies at this byte of the unit.
            let (eight, pair) = (i / 8, i % 8 / 2);
            let at = 4 * (2 * eight + pair % 2) + pair / 2 + 2 * (i % 2);
            values.push(meta[2 * u] * f32::from(unit[at] as i8));
        }
    }
    values
}
