//! Cases of the sum.

use weft_runtime::Recorder;

use crate::select::BASELINE;
use crate::testing::{Case, Guarded, Rng, input};

/// One vector, a part of a workgroup, several workgroups.
pub fn cases() -> Vec<Case> {
    [4, 1020, 1024, 100_004].map(case).into()
}

fn case(n: u32) -> Case {
    Case::new("add", BASELINE, format!("values {n}"), 1e-7, move |gpu, _, seed| {
        let mut rng = Rng::seeded(n, seed);
        let (x, y) = (rng.values(n as usize), rng.values(n as usize));
        let out = Guarded::new(gpu, n as usize, Some(&y))?;
        let mut rec = Recorder::new(gpu);
        super::add(&mut rec, &input(gpu, &x)?, &out.slice, n)?;
        gpu.run(&rec.finish()?, None)?;
        out.compare(gpu, &super::reference::add(&x, &y))
    })
}
