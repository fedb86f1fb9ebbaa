//! Cases of SwiGLU.

use weft_runtime::Recorder;

use crate::registry::{BASELINE, Case, Guarded, Rng, input};

/// One value, a prime, several workgroups, and gates where exp overflows.
pub fn cases() -> Vec<Case> {
    [(1, 1.0), (257, 1.0), (4099, 1.0), (100_000, 1.0), (300, 60.0), (300, 65_504.0), (300, 1e-30)]
        .map(|(n, magnitude)| case(n, magnitude))
        .into()
}

fn case(n: u32, magnitude: f32) -> Case {
    let name = format!("n {n} magnitude {magnitude:e}");
    Case::new("swiglu", BASELINE, name, 1e-7, move |gpu, _, seed| {
        let mut rng = Rng::seeded(n, seed);
        let gate: Vec<f32> = rng.values(n as usize).iter().map(|v| v * magnitude).collect();
        let up = rng.values(n as usize);
        let y = Guarded::new(gpu, gate.len(), Some(&gate))?;
        let up_gpu = input(gpu, &up)?;
        let mut rec = Recorder::new(gpu);
        super::swiglu(&mut rec, &y.slice, &up_gpu, n)?;
        gpu.run(&rec.finish()?, None)?;
        y.compare(gpu, &super::reference::swiglu(&gate, &up))
    })
}
