//! Cases of SwiGLU.

use weft_runtime::Recorder;

use crate::registry::{BASELINE, Case, Guarded, Rng, input};

/// One value, primes, several workgroups and tokens, and gates where exp overflows.
pub fn cases() -> Vec<Case> {
    [
        (1, 1, 1.0),
        (1, 257, 1.0),
        (1, 4099, 1.0),
        (30, 2048, 1.0),
        (100, 1000, 1.0),
        (3, 100, 60.0),
        (3, 100, 65_504.0),
        (3, 100, 1e-30),
    ]
    .map(|(tokens, width, magnitude)| case(tokens, width, magnitude))
    .into()
}

fn case(tokens: u32, width: u32, magnitude: f32) -> Case {
    let name = format!("tokens {tokens} width {width} magnitude {magnitude:e}");
    Case::new("swiglu", BASELINE, name, 1e-7, move |gpu, _, seed| {
        let mut rng = Rng::seeded(tokens * width, seed);
        let n = (tokens * width) as usize;
        let gate: Vec<f32> = rng.values(n).iter().map(|v| v * magnitude).collect();
        let up = rng.values(n);
        let rows = gate.chunks_exact(width as usize).zip(up.chunks_exact(width as usize));
        let x: Vec<f32> = rows.flat_map(|(g, u)| [g, u]).flatten().copied().collect();
        let x = input(gpu, &x)?;
        let y = Guarded::new(gpu, n, None)?;
        let mut rec = Recorder::new(gpu);
        super::swiglu(&mut rec, &x, &y.slice, tokens, width)?;
        gpu.run(&rec.finish()?, None)?;
        y.compare(gpu, &super::reference::swiglu(&gate, &up))
    })
}
