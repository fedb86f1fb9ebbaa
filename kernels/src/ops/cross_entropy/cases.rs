//! Cases of the loss.

use weft_runtime::{Pool, Recorder};

use super::{CrossEntropy, IGNORED, STATS, Stats, reference};
use crate::select::BASELINE;
use crate::testing::{Case, Gradient, Gradients, Guarded, Rng, input};

/// One value, a row shorter than a workgroup, rows that fill and exceed it, more rows than one grid
/// dimension of `minimal`, logits whose exponentials overflow, rows longer than a small binding at
/// offsets that are not aligned, and the vocabulary of Qwen.
pub fn cases() -> Vec<Case> {
    [
        (1, 1, 0, 1.0),
        (5, 7, 3, 1.0),
        (4, 4096, 0, 1.0),
        (3, 5003, 1, 1.0),
        (1100, 33, 0, 1.0),
        (6, 1000, 0, 60.0),
        (6, 1000, 0, 1e-20),
        (3, 32_003, 2, 5.0),
        (2, 151_936, 0, 3.0),
    ]
    .map(|(rows, vocab, row0, magnitude)| case(rows, vocab, row0, magnitude))
    .into()
}

fn case(rows: u32, vocab: u32, row0: u32, magnitude: f32) -> Case {
    let name = format!("rows {rows} from {row0} vocabulary {vocab} magnitude {magnitude:e}");
    Case::backward("cross_entropy", BASELINE, name, 1e-7, move |gpu, _, seed| {
        let mut rng = Rng::seeded(rows * vocab, seed);
        let n = (rows * vocab) as usize;
        // Numbers that are not normal may count as zeros, and then be as large as the largest.
        let normal = |v: f32| if v.is_subnormal() { 0.0 } else { v };
        let x: Vec<f32> = rng.values(n).iter().map(|v| normal(v * magnitude)).collect();
        let largest = |x: &[f32]| x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // The first row's label is the last column, the last one's the right answer, now and then none.
        let label = |(r, x): (usize, &[f32])| {
            let most = largest(x);
            let right = x.iter().position(|&v| v == most).expect("a largest one");
            match r {
                0 => Some(vocab as usize - 1),
                r if r + 1 == rows as usize => Some(right),
                r if r % 3 == 1 => None,
                _ => Some(rng.below(vocab as usize)),
            }
        };
        let rows_of = || x.chunks_exact(vocab as usize);
        let labels: Vec<Option<usize>> = rows_of().enumerate().map(label).collect();
        let mut ids = vec![0; row0 as usize];
        ids.extend(labels.iter().map(|l| l.map_or(IGNORED, |l| l as u32)));
        let ids = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&ids), "labels")?;
        let factor = 0.125f32;
        let scale = gpu.alloc_init(Pool::State, bytemuck::bytes_of(&factor), "scale")?;
        let logits = Guarded::new(gpu, n, Some(&x))?;
        let stats = vec![f32::NAN; (row0 + rows) as usize * STATS as usize / 4];
        let stats = input(gpu, &stats)?;
        let mut rec = Recorder::new(gpu);
        CrossEntropy { logits: &logits.slice, labels: &ids, stats: &stats, scale: &scale, row0, rows, vocab }
            .record(&mut rec)?;
        gpu.run(&rec.finish()?, None)?;
        let wide: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
        let got = logits.read(gpu)?;
        let stats: Vec<Stats> = gpu.read_vec(&stats)?;
        let stats = &stats[row0 as usize..];
        let correct = |(x, l): (&[f32], &Option<usize>)| u32::from(l.is_some_and(|l| x[l] >= largest(x)));
        let counted = rows_of().zip(&labels).map(correct).eq(stats.iter().map(|s| s.correct));
        // A right answer's loss may be 0 but for the rounding of the logits.
        let want = reference::losses(&wide, &labels);
        let rounding: f64 = wide.iter().fold(1.0f64, |m, v| m.max(v.abs())) * f64::from(f32::EPSILON);
        let near = |(s, w): (&Stats, &f64)| (f64::from(s.loss) - w).abs() <= 4.0 * rounding + 1e-5 * w;
        let got = got.filter(|_| counted && stats.iter().zip(&want).all(near));
        let want = reference::gradient(&wide, &labels, factor.into());
        let of = vec![Gradient::new(wide, got, want).bends_within(1.0)];
        let loss =
            move |x: &[&[f64]]| f64::from(factor) * reference::losses(x[0], &labels).iter().sum::<f64>();
        Ok(Gradients { of, loss: Box::new(loss) })
    })
}
