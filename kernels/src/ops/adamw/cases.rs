//! Cases of AdamW: its norm, its step, and what a gradient or a parameter that is not finite leaves alone.

use weft_runtime::{Gpu, Pool, Recorder, Slice};

use super::{Buffers, Settings, norm, reference, step, zero};
use crate::Result;
use crate::select::BASELINE;
use crate::testing::{Case, Guarded, Rng};

/// Less than a workgroup's share, several, clipped and not, and infinite.
pub fn cases() -> Vec<Case> {
    let plain = [(4, 1.0), (1020, 1.0), (40_000, 1e-3), (100_004, 1e4)];
    let norms = plain.map(|(n, magnitude)| {
        Case::new(
            "adamw",
            BASELINE,
            format!("norm of {n}, magnitude {magnitude:e}"),
            1e-10,
            move |gpu, _, seed| {
                let g: Vec<f32> =
                    Rng::seeded(n, seed).values(n as usize).iter().map(|v| v * magnitude).collect();
                let g = optimiser(gpu, &g)?;
                let b = Buffers::new(gpu, g.size())?;
                let out = Guarded::new(gpu, 1, None)?;
                let mut rec = Recorder::new(gpu);
                // The largest of finite parameters are no reason to stop.
                let w = optimiser(gpu, &vec![f32::MAX; n as usize])?;
                norm(&mut rec, &w, &g, &Buffers { norm: out.slice.clone(), ..b })?;
                gpu.run(&rec.finish()?, None)?;
                out.compare(gpu, &[reference::norm(&gpu.read_vec::<f32>(&g)?)])
            },
        )
    });
    let steps = [
        (4, 0.0, Broken::Nothing),
        (1020, 1.0, Broken::Nothing),
        (100_004, 1e6, Broken::Nothing),
        (1020, 1.0, Broken::Gradient),
        (40_000, 1.0, Broken::Parameter(f32::NEG_INFINITY)),
        (4, 0.0, Broken::Parameter(f32::NAN)),
    ]
    .map(|(n, clip, broken)| step_case(n, clip, broken));
    let zeros = [4, 40_000].map(|n| {
        Case::new("adamw", BASELINE, format!("zero {n}"), 0.0, move |gpu, _, _| {
            let out = Guarded::new(gpu, n, None)?;
            let mut rec = Recorder::new(gpu);
            zero(&mut rec, &out.slice)?;
            gpu.run(&rec.finish()?, None)?;
            out.compare(gpu, &vec![0.0; n])
        })
    });
    norms.into_iter().chain(steps).chain(zeros).collect()
}

fn optimiser(gpu: &Gpu, data: &[f32]) -> Result<Slice> {
    Ok(gpu.alloc_init(Pool::Optimiser, bytemuck::cast_slice(data), "case input")?)
}

/// What is not finite.
#[derive(Clone, Copy)]
enum Broken {
    Nothing,
    Gradient,
    Parameter(f32),
}

fn step_case(n: u32, clip: f32, broken: Broken) -> Case {
    let what = match broken {
        Broken::Nothing => String::new(),
        Broken::Gradient => ", not finite".to_owned(),
        Broken::Parameter(v) => format!(", a parameter of {v}"),
    };
    Case::new("adamw", BASELINE, format!("step of {n}, clip {clip:e}{what}"), 1e-12, move |gpu, _, seed| {
        let mut rng = Rng::seeded(n, seed);
        let size = n as usize;
        let (mut w, mut g, m) = (rng.values(size), rng.values(size), rng.values(size));
        let v: Vec<f32> = rng.values(size).iter().map(|x| x * x).collect();
        match broken {
            Broken::Nothing => {}
            Broken::Gradient => g[size / 2] = f32::NAN,
            Broken::Parameter(v) => w[size - 1] = v,
        }
        let s = Settings {
            lr: 1e-2,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-3,
            weight_decay: 0.1,
            correction1: 0.19,
            correction2: 0.02,
            clip,
            scale: 0.25,
        };
        let out = Guarded::new(gpu, size, Some(&w))?;
        let kept = w.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let [first, second, gradient] = [&m, &v, &g].map(|data| optimiser(gpu, data));
        let (first, second, gradient) = (first?, second?, gradient?);
        let b = Buffers::new(gpu, gradient.size())?;
        gpu.write(&b.settings, 0, bytemuck::bytes_of(&s))?;
        let mut rec = Recorder::new(gpu);
        norm(&mut rec, &out.slice, &gradient, &b)?;
        step(&mut rec, &out.slice, &gradient, &first, &second, &b)?;
        gpu.run(&rec.finish()?, None)?;
        let norm = reference::norm(&g);
        let want: Vec<[f64; 3]> = (0..size)
            .map(|i| match broken {
                Broken::Nothing => reference::step([w[i], g[i], m[i], v[i]], norm, &s),
                _ => [w[i], m[i], v[i]].map(f64::from),
            })
            .collect();
        let column = |k: usize| want.iter().map(|w| w[k]).collect::<Vec<f64>>();
        let moments = crate::testing::nmse(&gpu.read_vec::<f32>(&first)?, &column(1))
            .max(crate::testing::nmse(&gpu.read_vec::<f32>(&second)?, &column(2)));
        let cleared = gpu.read_vec::<f32>(&gradient)?.iter().all(|&g| g == 0.0);
        // What is no number equals itself by its bits only.
        let error = match (broken, out.read(gpu)?) {
            (Broken::Parameter(_), Some(now)) if now.iter().map(|v| v.to_bits()).eq(kept) => moments,
            (Broken::Parameter(_), _) => f64::INFINITY,
            _ => out.compare(gpu, &column(0))?.max(moments),
        };
        Ok(if cleared { error } else { f64::INFINITY })
    })
}
