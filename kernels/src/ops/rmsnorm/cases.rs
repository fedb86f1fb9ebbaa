//! Cases of RMSNorm.

use weft_runtime::{Pool, Recorder};

use crate::PlanError;
use crate::layout::Format;
use crate::select::BASELINE;
use crate::testing::{Case, Gradient, Gradients, Guarded, Rng, input};

/// One value, primes, both workgroup sizes, more rows than one grid dimension of `minimal`, rows of
/// zeros, and magnitudes whose squares overflow or vanish in f32.
pub fn cases() -> Vec<Case> {
    let shapes = [
        (1, 1, 1.0),
        (3, 7, 1.0),
        (1, 512, 1.0),
        (7, 511, 1.0),
        (5, 513, 1.0),
        (2, 4099, 1.0),
        (3, 14_336, 1.0),
        (33, 128, 1.0),
        (1500, 64, 1.0),
        (4, 256, 65_504.0),
        (4, 1024, 1e20),
        (4, 256, 1e-12),
        (3, 96, 0.0),
    ];
    let half = [(5, 514, Format::F16), (33, 128, Format::F16)];
    let tiles = [8, 16].map(|side| Format::Tiles { side });
    let tiles = tiles.into_iter().flat_map(|f| [(16, 1024, f), (19, 48, f)]);
    let narrow = half.into_iter().chain(tiles).map(|(rows, cols, out)| case(rows, cols, 1.0, out));
    let backward = shapes.map(|(rows, cols, magnitude)| backward(rows, cols, magnitude));
    // An invocation has one value or several, the end is not whole, and every format is written.
    let tiled = [8, 16].map(|side| ([2, 19, 1040], Format::Tiles { side }));
    let summed = [([1, 1, 4], Format::F32), ([5, 3, 2560], Format::F16), ([3, 17, 1028], Format::F32)];
    let summed = summed.into_iter().chain(tiled);
    shapes
        .into_iter()
        .map(|(rows, cols, magnitude)| case(rows, cols, magnitude, Format::F32))
        .chain(shapes.map(|(rows, cols, magnitude)| post(rows, cols, magnitude)))
        .chain(narrow)
        .chain(summed.map(|(shape, out)| summed_case(shape, out)))
        .chain(backward)
        .collect()
}

fn case(rows: u32, cols: u32, magnitude: f32, out: Format) -> Case {
    let name = format!("rows {rows} cols {cols} magnitude {magnitude:e}");
    let (variant, tolerance) = match out {
        Format::F32 => (BASELINE, 1e-7),
        Format::F16 => ("out_f16", 5e-7),
        Format::Tiles { .. } => ("out_tiles", 5e-7),
    };
    Case::new("rmsnorm", variant, name, tolerance, move |gpu, _, seed| {
        if out != Format::F32 && !gpu.caps().f16 {
            return Err(PlanError::Shape { op: "rmsnorm", what: "no f16".into() }.into());
        }
        let mut rng = Rng::seeded(rows * cols, seed);
        let x: Vec<f32> = rng.values((rows * cols) as usize).iter().map(|v| v * magnitude).collect();
        let w = rng.values(cols as usize);
        let w_gpu = gpu.alloc_init(Pool::Weights, bytemuck::cast_slice(&w), "norm")?;
        let x_gpu = input(gpu, &x)?;
        let y = Guarded::new(gpu, (out.rows(rows) * u64::from(cols) * out.bytes()) as usize / 4, None)?;
        let mut rec = Recorder::new(gpu);
        super::rmsnorm_to(&mut rec, &x_gpu, &w_gpu, (&y.slice, out), rows, cols, 1e-6)?;
        gpu.run(&rec.finish()?, None)?;
        y.compare_as(gpu, out, [rows, cols], &super::reference::rmsnorm(&x, &w, f64::from(1e-6f32)))
    })
}

/// Added to a stream that peaks beyond f16, with a weight as large as Gemma 3 has.
fn post(rows: u32, cols: u32, magnitude: f32) -> Case {
    let name = format!("rows {rows} cols {cols} magnitude {magnitude:e}");
    Case::new("rmsnorm_add", BASELINE, name, 1e-7, move |gpu, _, seed| {
        let mut rng = Rng::seeded(rows * cols, seed);
        let values = (rows * cols) as usize;
        let y: Vec<f32> = rng.values(values).iter().map(|v| v * magnitude).collect();
        let mut w = rng.values(cols as usize);
        w[0] = 1657.0;
        let mut before = rng.values(values);
        before[values / 2] = 104_061.0;
        let w_gpu = gpu.alloc_init(Pool::Weights, bytemuck::cast_slice(&w), "norm")?;
        let x = Guarded::new(gpu, values, Some(&before))?;
        let y_gpu = input(gpu, &y)?;
        let mut rec = Recorder::new(gpu);
        super::PostNorm { y: &y_gpu, w: &w_gpu, x: &x.slice, rows, cols, eps: 1e-6 }.record(&mut rec)?;
        gpu.run(&rec.finish()?, None)?;
        let normed = super::reference::rmsnorm(&y, &w, f64::from(1e-6f32));
        let want: Vec<f64> = normed.iter().zip(&before).map(|(n, &b)| n + f64::from(b)).collect();
        x.compare(gpu, &want)
    })
}

fn summed_case(shape: [u32; 3], out: Format) -> Case {
    let [count, rows, cols] = shape;
    let name = format!("parts {count} rows {rows} cols {cols}");
    let (variant, tolerance) = match out {
        Format::F32 => (BASELINE, 1e-7),
        Format::F16 => ("out_f16", 5e-7),
        Format::Tiles { .. } => ("out_tiles", 5e-7),
    };
    Case::new("rmsnorm_summed", variant, name, tolerance, move |gpu, _, seed| {
        if out != Format::F32 && !gpu.caps().f16 {
            return Err(PlanError::Shape { op: "rmsnorm", what: "no f16".into() }.into());
        }
        let mut rng = Rng::seeded(count * rows * cols, seed);
        let values = (rows * cols) as usize;
        let parts = rng.values(values * count as usize);
        let (before, w) = (rng.values(values), rng.values(cols as usize));
        let w_gpu = gpu.alloc_init(Pool::Weights, bytemuck::cast_slice(&w), "norm")?;
        let x = Guarded::new(gpu, values, Some(&before))?;
        let y = Guarded::new(gpu, (out.rows(rows) * u64::from(cols) * out.bytes()) as usize / 4, None)?;
        let mut rec = Recorder::new(gpu);
        let norm = super::Norm { w: &w_gpu, eps: 1e-6, to: (&y.slice, out) };
        super::summed(&mut rec, &input(gpu, &parts)?, &x.slice, norm, shape)?;
        gpu.run(&rec.finish()?, None)?;
        let sum = |(i, &v): (usize, &f32)| {
            f64::from(v) + parts.iter().skip(i).step_by(values).map(|&p| f64::from(p)).sum::<f64>()
        };
        let want: Vec<f64> = before.iter().enumerate().map(sum).collect();
        x.compare(gpu, &want)?;
        y.compare_as(gpu, out, [rows, cols], &super::reference::rmsnorm_f64(&want, &w, f64::from(1e-6f32)))
    })
}

/// Every second case adds to what is there.
fn backward(rows: u32, cols: u32, magnitude: f32) -> Case {
    let add = rows % 2 == 1;
    let name = format!("rows {rows} cols {cols} magnitude {magnitude:e} add {add}");
    Case::backward("rmsnorm_backward", BASELINE, name, 1e-7, move |gpu, _, seed| {
        let mut rng = Rng::seeded(rows * cols, seed);
        let x: Vec<f32> = rng.values((rows * cols) as usize).iter().map(|v| v * magnitude).collect();
        let w = rng.values(cols as usize);
        // What is added to is as large as the gradient itself.
        let eps = 1e-6f32;
        let size = 1.0 / f64::from(magnitude).hypot(f64::from(eps).sqrt()) as f32;
        let dy = rng.values(x.len());
        let before: Vec<f32> = rng.values(x.len()).iter().map(|v| v * size).collect();
        let w_gpu = gpu.alloc_init(Pool::Weights, bytemuck::cast_slice(&w), "norm")?;
        let (x_gpu, dy_gpu) = (input(gpu, &x)?, input(gpu, &dy)?);
        let dx = Guarded::new(gpu, x.len(), add.then_some(&before[..]))?;
        let mut rec = Recorder::new(gpu);
        super::Backward { x: &x_gpu, w: &w_gpu, dy: &dy_gpu, dx: &dx.slice, rows, cols, eps, add }
            .record(&mut rec)?;
        gpu.run(&rec.finish()?, None)?;
        let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let (x, dy, before) = (wide(&x), wide(&dy), if add { wide(&before) } else { vec![0.0; x.len()] });
        let mut want = super::reference::backward(&x, &w, &dy, eps.into());
        want.iter_mut().zip(&before).for_each(|(v, b)| *v += b);
        let of = vec![Gradient::read(gpu, x, &dx, want)?.of_norm(cols, eps)];
        let loss = move |x: &[&[f64]]| {
            let y = super::reference::rmsnorm_f64(x[0], &w, eps.into());
            let each = y.iter().zip(&dy).zip(x[0].iter().zip(&before));
            each.map(|((y, d), (x, b))| y * d + x * b).sum()
        };
        Ok(Gradients { of, loss: Box::new(loss) })
    })
}
