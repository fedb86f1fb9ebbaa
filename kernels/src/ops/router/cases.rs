//! Cases of the router.

use weft_runtime::{Pool, Recorder};

use super::{Routes, Routing, reference};
use crate::select::BASELINE;
use crate::testing::{Case, Gradient, Gradients, Guarded, Rng, input, nmse};

/// One expert, all of them, numbers that are no power of two, fewer and more than a workgroup, the most there can
/// be, more tokens than one grid dimension of `minimal`; logits that are all the same, and such that overflow.
pub fn cases() -> Vec<Case> {
    let shapes = [
        (1, 1, 1, 1.0),
        (3, 8, 2, 1.0),
        (5, 7, 7, 1.0),
        (4, 60, 4, 1.0),
        (1100, 128, 8, 1.0),
        (3, 512, 22, 1.0),
        (6, 64, 8, 0.0),
        (6, 100, 3, 60.0),
        (6, 100, 3, 65_504.0),
    ];
    let each = |(tokens, experts, used, magnitude)| {
        [(true, 1.0), (false, 1.0), (true, 2.5)]
            .map(|(renormalise, scale)| (tokens, Routing { experts, used, renormalise, scale }, magnitude))
    };
    let all: Vec<_> = shapes.into_iter().flat_map(each).collect();
    // Where logits are large, the largest has all the weight, and what is left as a gradient is rounding.
    let smooth = all.iter().filter(|c| c.2 < 100.0);
    let backward = smooth.map(|&(tokens, routing, magnitude)| backward(tokens, routing, magnitude));
    all.iter().map(|&(tokens, routing, magnitude)| case(tokens, routing, magnitude)).chain(backward).collect()
}

fn name(tokens: u32, r: &Routing, magnitude: f32) -> String {
    let sum = if r.renormalise { ", renormalised" } else { "" };
    format!(
        "tokens {tokens} experts {} of {} scale {}{sum} magnitude {magnitude:e}",
        r.used, r.experts, r.scale
    )
}

/// Logits among which there are equal ones, in every token the largest as well.
fn logits(tokens: u32, r: &Routing, magnitude: f32, rng: &mut Rng) -> Vec<f32> {
    let normal = |v: f32| if v.is_subnormal() { 0.0 } else { v };
    let mut x: Vec<f32> =
        rng.values((tokens * r.experts) as usize).iter().map(|&v| normal(v * magnitude)).collect();
    for x in x.chunks_exact_mut(r.experts as usize) {
        for _ in 0..2 {
            let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            x[rng.below(r.experts as usize)] = largest;
            let (from, to) = (rng.below(r.experts as usize), rng.below(r.experts as usize));
            x[to] = x[from];
        }
        // Two zeros are one number.
        x[rng.below(r.experts as usize)] *= 0.0;
    }
    x
}

fn case(tokens: u32, r: Routing, magnitude: f32) -> Case {
    Case::new("router", BASELINE, name(tokens, &r, magnitude), 1e-7, move |gpu, _, seed| {
        let mut rng = Rng::seeded(tokens * r.experts + r.used, seed);
        let x = logits(tokens, &r, magnitude, &mut rng);
        let n = (tokens * r.used) as usize;
        let (ids, weights) = (Guarded::new(gpu, n, None)?, Guarded::new(gpu, n, None)?);
        let mut rec = Recorder::new(gpu);
        let to = Routes { ids: &ids.slice, weights: &weights.slice };
        super::router(&mut rec, &input(gpu, &x)?, to, tokens, &r)?;
        gpu.run(&rec.finish()?, None)?;
        let want = reference::choose(&x, &r);
        let chosen = ids.read(gpu)?.is_some_and(|got| bytemuck::cast_slice::<f32, u32>(&got) == want);
        let wide: Vec<f64> = x.iter().map(|&v| v.into()).collect();
        let e = weights.read(gpu)?.map_or(f64::INFINITY, |w| nmse(&w, &reference::weights(&wide, &want, &r)));
        Ok(if chosen { e } else { f64::INFINITY })
    })
}

fn backward(tokens: u32, r: Routing, magnitude: f32) -> Case {
    Case::backward("router_backward", BASELINE, name(tokens, &r, magnitude), 1e-7, move |gpu, _, seed| {
        let mut rng = Rng::seeded(tokens * r.experts + r.used, seed);
        let x = logits(tokens, &r, magnitude, &mut rng);
        let ids = reference::choose(&x, &r);
        let dw = rng.values(ids.len());
        let ids_gpu = gpu.alloc_init(Pool::Activations, bytemuck::cast_slice(&ids), "ids")?;
        let dx = Guarded::new(gpu, x.len(), None)?;
        let mut rec = Recorder::new(gpu);
        let from = Routes { ids: &ids_gpu, weights: &input(gpu, &dw)? };
        super::backward(&mut rec, &input(gpu, &x)?, from, &dx.slice, tokens, &r)?;
        gpu.run(&rec.finish()?, None)?;
        let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let (x, dw) = (wide(&x), wide(&dw));
        let want = reference::backward(&x, &ids, &dw, &r);
        let of = vec![Gradient::read(gpu, x, &dx, want)?.bends_within(1.0)];
        let loss =
            move |x: &[&[f64]]| reference::weights(x[0], &ids, &r).iter().zip(&dw).map(|(w, d)| w * d).sum();
        Ok(Gradients { of, loss: Box::new(loss) })
    })
}
