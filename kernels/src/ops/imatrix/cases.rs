//! Cases of the sums of squares.

use weft_runtime::{Pool, Recorder};

use super::{accumulate, reference};
use crate::layout::Format;
use crate::select::BASELINE;
use crate::testing::{Case, Guarded, Rng, input};

/// One value, one under and one over a workgroup's columns and phases, primes, a batch that splits under a
/// small binding, zeros, and the largest that f16 holds.
pub fn cases() -> Vec<Case> {
    let shapes = [
        (1, 1, 1.0),
        (15, 15, 1.0),
        (17, 17, 1.0),
        (33, 257, 1.0),
        (513, 96, 1.0),
        (100, 1000, 1.0),
        (300, 2560, 1.0),
        (40, 64, 0.0),
        (40, 64, 1e-12),
        (40, 64, 1_000.0),
    ];
    shapes.into_iter().flat_map(|(t, c, m)| [Format::F32, Format::F16].map(|f| case(t, c, m, f))).collect()
}

/// What the sums hold before is about as large as what is added.
fn case(tokens: u32, cols: u32, magnitude: f32, format: Format) -> Case {
    let name = format!("tokens {tokens} cols {cols} magnitude {magnitude:e}");
    let case = Case::new("imatrix", BASELINE, name, 1e-7, move |gpu, _, seed| {
        let mut rng = Rng::seeded(tokens * cols, seed);
        let x: Vec<f32> = rng.values((tokens * cols) as usize).iter().map(|v| v * magnitude).collect();
        let halves: Vec<half::f16> = x.iter().map(|&v| half::f16::from_f32(v)).collect();
        let size = tokens as f32 * magnitude * magnitude;
        let before: Vec<f32> = rng.values(cols as usize).iter().map(|v| v.abs() * size).collect();
        let (x_gpu, want) = match format {
            Format::F32 => (input(gpu, &x)?, reference::accumulate(&x, &before)),
            _ => {
                // A word is two values.
                let mut bytes: Vec<u8> = halves.iter().flat_map(|h| h.to_le_bytes()).collect();
                bytes.resize(bytes.len().next_multiple_of(4), 0xff);
                let x = gpu.alloc_init(Pool::Activations, &bytes, "case input")?;
                (x, reference::accumulate(&halves, &before))
            }
        };
        let s = Guarded::new(gpu, cols as usize, Some(&before))?;
        let mut rec = Recorder::new(gpu);
        accumulate(&mut rec, (&x_gpu, format), &s.slice, tokens, cols)?;
        gpu.run(&rec.finish()?, None)?;
        s.compare(gpu, &want)
    });
    case.of_type(format.name())
}
