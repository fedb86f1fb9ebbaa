//! Cases of dropout.

use weft_runtime::{Pool, Recorder};

use super::{Mask, dropout, reference};
use crate::select::BASELINE;
use crate::testing::{Case, Guarded, Rng, input};

/// One value, primes, more than a small binding; nothing dropped, and nearly all.
pub fn cases() -> Vec<Case> {
    [(1, 0.5, false), (257, 0.0, true), (4099, 0.1, false), (100_003, 0.5, true), (5000, 0.99, false)]
        .map(|(n, probability, add)| case(n, probability, add))
        .into()
}

fn case(n: u32, probability: f32, add: bool) -> Case {
    let name = format!("n {n} probability {probability} add {add}");
    Case::new("dropout", BASELINE, name, 1e-12, move |gpu, _, seed| {
        let mut rng = Rng::seeded(n, seed);
        let (x, before) = (rng.values(n as usize), rng.values(n as usize));
        let seeds = [rng.bits() as u32, 17];
        let mask = Mask { probability, salt: rng.bits() as u32 };
        let seed_gpu = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&seeds), "seed")?;
        let y = Guarded::new(gpu, x.len(), add.then_some(&before[..]))?;
        let mut rec = Recorder::new(gpu);
        dropout(&mut rec, &input(gpu, &x)?, &y.slice, n, &seed_gpu, mask, add)?;
        gpu.run(&rec.finish()?, None)?;
        let mut want = reference::dropout(&x, seeds, mask);
        if add {
            want.iter_mut().zip(&before).for_each(|(v, &b)| *v += f64::from(b));
        }
        y.compare(gpu, &want)
    })
}
