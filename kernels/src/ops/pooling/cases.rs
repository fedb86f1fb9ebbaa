//! Cases of pooling and of L2 normalisation.

use weft_runtime::{Pool, Recorder};

use super::{Normalize, PoolRows, Pooling};
use crate::select::BASELINE;
use crate::testing::{Case, Guarded, Rng, input};

/// One token, sequences of one and of many, a width beyond a workgroup, and more than a small binding holds, so that
/// a sequence lies in two parts.
pub fn cases() -> Vec<Case> {
    let batches: [(&[u32], u32); 4] =
        [(&[1], 1), (&[3, 1, 17, 2], 384), (&[40, 100, 7], 516), (&[30, 1, 200, 64, 5], 256)];
    let mut all = Vec::new();
    for pooling in Pooling::ALL {
        all.extend(batches.map(|(lengths, width)| case(lengths, width, pooling)));
    }
    let shapes = [
        ([1, 1], 1.0),
        ([3, 384], 1.0),
        ([70, 516], 1.0),
        ([2, 1024], 1e25),
        ([2, 384], 1e-9),
        ([3, 64], 0.0),
    ];
    all.extend(shapes.map(|(shape, magnitude)| normalize(shape, magnitude)));
    all
}

fn case(lengths: &[u32], width: u32, pooling: Pooling) -> Case {
    let lengths = lengths.to_vec();
    let name = format!("{} of lengths {lengths:?} width {width}", pooling.name());
    Case::new("pool", BASELINE, name, 1e-7, move |gpu, _, seed| {
        let (tokens, sequences) = (lengths.iter().sum::<u32>(), lengths.len() as u32);
        let mut first = 0;
        let bounds: Vec<[u32; 2]> = lengths
            .iter()
            .map(|&n| {
                first += n;
                [first - n, first]
            })
            .collect();
        let x = Rng::seeded(tokens * width, seed).values((tokens * width) as usize);
        let bounds_gpu = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&bounds), "bounds")?;
        let y = Guarded::new(gpu, (sequences * width) as usize, None)?;
        let (x_gpu, bounds_gpu) = (&input(gpu, &x)?, &bounds_gpu);
        let mut rec = Recorder::new(gpu);
        PoolRows { x: x_gpu, bounds: bounds_gpu, y: &y.slice, pooling, tokens, sequences, width }
            .record(&mut rec)?;
        gpu.run(&rec.finish()?, None)?;
        y.compare(gpu, &super::reference::pool(&x, &bounds, width as usize, pooling))
    })
}

fn normalize([rows, cols]: [u32; 2], magnitude: f32) -> Case {
    let name = format!("rows {rows} cols {cols} magnitude {magnitude:e}");
    Case::new("normalize", BASELINE, name, 1e-7, move |gpu, _, seed| {
        let mut rng = Rng::seeded(rows * cols, seed);
        let values: Vec<f32> = rng.values((rows * cols) as usize).iter().map(|v| v * magnitude).collect();
        let x = Guarded::new(gpu, values.len(), Some(&values))?;
        let mut rec = Recorder::new(gpu);
        Normalize { x: &x.slice, rows, cols }.record(&mut rec)?;
        gpu.run(&rec.finish()?, None)?;
        x.compare(gpu, &super::reference::normalize(&values, cols as usize))
    })
}
