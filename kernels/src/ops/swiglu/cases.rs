//! Cases of SwiGLU.

use weft_runtime::Recorder;

use crate::PlanError;
use crate::ops::Format;
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
    .map(|(tokens, width, magnitude)| case(tokens, width, magnitude, Format::F32))
    .into_iter()
    .chain([case(30, 2048, 1.0, Format::F16), case(3, 100, 60.0, Format::F16)])
    .collect()
}

fn case(tokens: u32, width: u32, magnitude: f32, out: Format) -> Case {
    let name = format!("tokens {tokens} width {width} magnitude {magnitude:e}");
    let (variant, tolerance) = if out == Format::F16 { ("out_f16", 5e-7) } else { (BASELINE, 1e-7) };
    Case::new("swiglu", variant, name, tolerance, move |gpu, _, seed| {
        if out == Format::F16 && !gpu.caps().f16 {
            return Err(PlanError::Shape { op: "swiglu", what: "no f16".into() }.into());
        }
        let mut rng = Rng::seeded(tokens * width, seed);
        let n = (tokens * width) as usize;
        let gate: Vec<f32> = rng.values(n).iter().map(|v| v * magnitude).collect();
        let up = rng.values(n);
        let rows = gate.chunks_exact(width as usize).zip(up.chunks_exact(width as usize));
        let x: Vec<f32> = rows.flat_map(|(g, u)| [g, u]).flatten().copied().collect();
        let x = input(gpu, &x)?;
        let y = Guarded::new(gpu, n * out.bytes() as usize / 4, None)?;
        let mut rec = Recorder::new(gpu);
        super::swiglu_to(&mut rec, &x, (&y.slice, out), tokens, width)?;
        gpu.run(&rec.finish()?, None)?;
        y.compare_as(gpu, out, &super::reference::swiglu(&gate, &up))
    })
}
