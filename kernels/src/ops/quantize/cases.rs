//! Cases of the activation quantiser.

use weft_runtime::Recorder;

use super::Quantized;
use crate::registry::{BASELINE, Case, Guarded, Rng, input, nmse};

/// One unit, a prime number of them, several workgroups; zeros, outliers, the ends of the range.
pub fn cases() -> Vec<Case> {
    [(1, 1.0), (67, 1.0), (1009, 1.0), (20_000, 1.0), (64, 0.0), (64, 65_504.0), (64, 1e-20)]
        .map(|(units, magnitude)| case(units, magnitude))
        .into()
}

fn case(units: u32, magnitude: f32) -> Case {
    let name = format!("units {units} magnitude {magnitude:e}");
    // An integer may round the other way where the GPU's reciprocal is an ulp off.
    Case::new("quantize", BASELINE, name, 1e-7, move |gpu, _, seed| {
        let mut rng = Rng::seeded(units, seed);
        let x: Vec<f32> = rng.values(units as usize * 16).iter().map(|v| v * magnitude).collect();
        let q = Guarded::new(gpu, units as usize * 8, None)?;
        let meta = Guarded::new(gpu, units as usize * 2, None)?;
        let x_gpu = input(gpu, &x)?;
        let out = Quantized { q: q.slice.clone(), meta: meta.slice.clone() };
        let mut rec = Recorder::new(gpu);
        super::quantize(&mut rec, &x_gpu, &out, units * 16)?;
        gpu.run(&rec.finish()?, None)?;
        let (Some(q), Some(meta)) = (q.read(gpu)?, meta.read(gpu)?) else { return Ok(f64::INFINITY) };
        let bytes: &[i8] = bytemuck::cast_slice(&q);
        let mut values = Vec::with_capacity(x.len());
        for (u, unit) in bytes.chunks_exact(32).enumerate() {
            for i in 0..16 {
                // Value i lies at byte `place(i)` of its plane.
                let (eight, pair) = (i / 8, i % 8 / 2);
                let at = 4 * (2 * eight + pair % 2) + pair / 2 + 2 * (i % 2);
                let int = 256 * i32::from(unit[at]) + i32::from(unit[16 + at]);
                values.push(meta[2 * u] * int as f32);
            }
        }
        let sums: Vec<f32> = meta.chunks_exact(2).map(|m| m[1]).collect();
        let (want, want_sums) = super::reference::quantize(&x);
        Ok(nmse(&values, &want).max(nmse(&sums, &want_sums)))
    })
}
