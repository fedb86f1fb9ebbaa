//! Cases of what heads go through before attention.

use weft_runtime::{Pool, Recorder};

use super::{Shape, heads, reference};
use crate::ops::attention::cases::cache_on_gpu;
use crate::ops::attention::{CacheShape, CacheType};
use crate::ops::rope::{Pairing, Rotation, Scaling};
use crate::registry::{BASELINE, Case, Guarded, Rng, input, nmse};

/// With and without norms, both pairings, partial rotation, the first position, the last, and a batch
/// that crosses a chunk's edge when the budget makes one.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for ty in CacheType::ALL {
        for norm in [false, true] {
            for (pairing, shape) in [
                (Pairing::HalfSplit, (16, 1, 1, 8, 8, 1, 0)),
                (Pairing::Adjacent, (40, 6, 2, 64, 64, 7, 33)),
                (Pairing::HalfSplit, (513, 32, 8, 128, 128, 1, 512)),
                (Pairing::Adjacent, (300, 4, 4, 96, 32, 130, 100)),
                (Pairing::HalfSplit, (70, 3, 1, 256, 256, 40, 20)),
            ] {
                all.push(case(ty, norm, pairing, shape));
            }
        }
    }
    all
}

fn case(
    ty: CacheType,
    norm: bool,
    pairing: Pairing,
    (context, q_heads, kv_heads, head_dim, dims, tokens, position): (u32, u32, u32, u32, u32, u32, u32),
) -> Case {
    let name = format!(
        "{pairing:?} norm {norm} heads {q_heads}/{kv_heads} x {head_dim} ({dims}) tokens {tokens} at {position} of {context}"
    );
    // What rounding to f16 costs, and nothing more.
    let tolerance = if ty == CacheType::F16 { 2e-7 } else { 1e-7 };
    Case::new("heads", BASELINE, name, tolerance, move |gpu, _, seed| {
        let cache = CacheShape::new(ty, context, kv_heads, head_dim, gpu.budget())?;
        let rotation = Rotation::new(dims, 1e6, None, Scaling::None, pairing);
        let mut rng = Rng::seeded(context + tokens, seed);
        let hd = head_dim as usize;
        let (q_width, width) = (q_heads as usize * hd, kv_heads as usize * hd);
        let q = rng.values(tokens as usize * q_width);
        let [k, v] = [0, 1].map(|_| rng.values(tokens as usize * width));
        let weights = rng.values(2 * hd);
        // What was in the cache before must stay.
        let before = rng.values(context as usize * width);
        let mut bytes = vec![0; ty.bytes(before.len() as u64) as usize];
        reference::store(&mut bytes, ty, &before, 0);
        let chunks = cache_on_gpu(gpu, &cache, &bytes, &bytes)?;

        let state = gpu.alloc_init(Pool::State, bytemuck::bytes_of(&position), "state")?;
        let table = rotation.table(context);
        let table = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&table), "rope table")?;
        let norms = gpu.alloc_init(Pool::Weights, bytemuck::cast_slice(&weights), "norms")?;
        let token =
            |t: usize| [&q[t * q_width..][..q_width], &k[t * width..][..width], &v[t * width..][..width]];
        let qkv: Vec<f32> = (0..tokens as usize).flat_map(token).flatten().copied().collect();
        let qkv = input(gpu, &qkv)?;
        let q_gpu = Guarded::new(gpu, q.len(), None)?;
        let shape = Shape { tokens, heads: q_heads, cache: &cache, rotation: &rotation, eps: 1e-6 };
        let mut rec = Recorder::new(gpu);
        heads(&mut rec, &state, &table, norm.then_some(&norms), &qkv, &q_gpu.slice, &chunks, &shape)?;
        gpu.run(&rec.finish()?, None)?;

        let part = |x: &[f32], heads: usize, w: &[f32]| {
            let w = norm.then_some(w);
            reference::turned(x, w, f64::from(1e-6f32), position, heads, hd, &rotation)
        };
        let q_error = q_gpu.compare(gpu, &part(&q, q_heads as usize, &weights[..hd]))?;
        let held: Vec<f64> = reference::load(&bytes, ty).into_iter().map(f64::from).collect();
        let (mut want_k, mut want_v) = (held.clone(), held);
        let at = position as usize * width;
        want_k[at..at + k.len()].copy_from_slice(&part(&k, kv_heads as usize, &weights[hd..]));
        want_v[at..at + v.len()].iter_mut().zip(&v).for_each(|(w, &v)| *w = f64::from(v));
        let (mut got_k, mut got_v) = (Vec::new(), Vec::new());
        for (kc, vc) in &chunks {
            got_k.extend(reference::load(&gpu.read_vec::<u8>(kc)?, ty));
            got_v.extend(reference::load(&gpu.read_vec::<u8>(vc)?, ty));
        }
        Ok(q_error.max(nmse(&got_k, &want_k)).max(nmse(&got_v, &want_v)))
    })
    .of_type(ty.name())
}
