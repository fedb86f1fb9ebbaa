//! Cases of LayerNorm.

use weft_runtime::{Pool, Recorder};

use super::LayerNorm;
use crate::PlanError;
use crate::layout::Format;
use crate::select::BASELINE;
use crate::testing::{Case, Guarded, Rng, input};

/// One value, primes, both workgroup sizes, many rows, rows of zeros, magnitudes whose squares overflow or vanish in
/// f32, and rows whose mean is a thousand times their deviation; with and without a residual, in f32 and in f16.
pub fn cases() -> Vec<Case> {
    let shapes = [
        (1, 1, 1.0, 0.0),
        (3, 7, 1.0, 0.0),
        (7, 384, 1.0, 0.0),
        (6, 513, 1.0, 3.0),
        (2, 4099, 1.0, 1000.0),
        (1500, 64, 1.0, 0.0),
        (4, 256, 65_504.0, 0.0),
        (4, 1024, 1e20, 1e20),
        (4, 256, 1e-12, 0.0),
        (3, 96, 0.0, 0.0),
    ];
    let mut all = Vec::new();
    for residual in [false, true] {
        let with = |out| move |(rows, cols, size, mean)| case([rows, cols], (size, mean), residual, out);
        all.extend(shapes.map(with(Format::F32)));
        all.extend([shapes[2], shapes[3]].map(with(Format::F16)));
        all.extend([8, 16].map(|side| with(Format::Tiles { side })((19, 48, 1.0, 0.0))));
    }
    all
}

fn case([rows, cols]: [u32; 2], (magnitude, mean): (f32, f32), residual: bool, out: Format) -> Case {
    let name = format!("rows {rows} cols {cols} magnitude {magnitude:e} mean {mean:e} residual {residual}");
    let (variant, tolerance) = match out {
        Format::F32 => (BASELINE, 1e-7),
        Format::F16 => ("out_f16", 5e-7),
        Format::Tiles { .. } => ("out_tiles", 5e-7),
    };
    Case::new("layernorm", variant, name, tolerance, move |gpu, _, seed| {
        if out != Format::F32 && !gpu.caps().f16 {
            return Err(PlanError::Shape { op: "layernorm", what: "no f16".into() }.into());
        }
        let mut rng = Rng::seeded(rows * cols, seed);
        let n = (rows * cols) as usize;
        let mut values =
            |mean: f32| -> Vec<f32> { rng.values(n).iter().map(|v| v * magnitude + mean).collect() };
        let (x, r) = (values(mean), if residual { values(0.0) } else { Vec::new() });
        let wb = rng.values(2 * cols as usize);
        let wb_gpu = gpu.alloc_init(Pool::Weights, bytemuck::cast_slice(&wb), "norm")?;
        let x_gpu = input(gpu, &x)?;
        let r_gpu = residual.then(|| input(gpu, &r)).transpose()?;
        let y = Guarded::new(gpu, (out.rows(rows) * u64::from(cols) * out.bytes()) as usize / 4, None)?;
        let mut rec = Recorder::new(gpu);
        let eps = 1e-12f32;
        let (x_gpu, residual) = (&x_gpu, r_gpu.as_ref());
        LayerNorm { x: x_gpu, residual, wb: &wb_gpu, y: &y.slice, out, rows, cols, eps }.record(&mut rec)?;
        gpu.run(&rec.finish()?, None)?;
        // The sum as the stream would hold it: rounded to f32.
        let v: Vec<f64> =
            x.iter().enumerate().map(|(i, &x)| f64::from(x + r.get(i).copied().unwrap_or(0.0))).collect();
        let (w, b) = wb.split_at(cols as usize);
        y.compare_as(gpu, out, [rows, cols], &super::reference::layernorm(&v, w, b, eps.into()))
    })
}
