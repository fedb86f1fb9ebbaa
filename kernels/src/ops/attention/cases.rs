//! Cases of attention.

use weft_runtime::{Gpu, Pool, Recorder, Slice};

use super::{CacheShape, Scratch, Shape};
use crate::Result;
use crate::registry::{Case, Guarded, Rng, input};

/// Grouped-query ratios 1 to 8, every head size in use, cache lengths around the tiles, windows,
/// splits, and batches of one and more tiles.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (heads, kv_heads, head_dim) in
        [(1, 1, 8), (4, 4, 64), (8, 4, 80), (8, 2, 96), (7, 1, 64), (16, 2, 128), (2, 1, 256)]
    {
        for (tokens, position) in [(1, 0), (1, 112), (1, 512), (3, 30), (17, 0), (40, 61)] {
            all.push(case(heads, kv_heads, head_dim, tokens, position, 0, 1));
        }
        all.push(case(heads, kv_heads, head_dim, 1, 300, 0, 4));
        all.push(case(heads, kv_heads, head_dim, 5, 20, 0, 3));
        all.push(case(heads, kv_heads, head_dim, 9, 130, 50, 1));
    }
    all.push(case(32, 8, 128, 1, 1024, 0, 8));
    all.push(case(8, 4, 64, 1, 4095, 0, 16));
    all.push(case(8, 4, 64, 1, 4095, 512, 2));
    all
}

fn case(
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    tokens: u32,
    position: u32,
    window: u32,
    splits: u32,
) -> Case {
    let name = format!(
        "heads {heads}/{kv_heads} x {head_dim} tokens {tokens} at {position} window {window} splits {splits}"
    );
    Case::new("attention", name, 1e-6, move |gpu, _| {
        let context = position + tokens + 5;
        let width = (kv_heads * head_dim) as usize;
        let cache = CacheShape::new(context, kv_heads, head_dim, gpu.budget())?;
        let mut rng = Rng::new(u64::from(heads * head_dim + position));
        let q = rng.values((tokens * heads * head_dim) as usize);
        let mut rounded = || -> (Vec<u16>, Vec<f32>) {
            let n = context as usize * width;
            rng.values(n).into_iter().map(half::f16::from_f32).map(|h| (h.to_bits(), h.to_f32())).unzip()
        };
        let ((k_bits, k), (v_bits, v)) = (rounded(), rounded());
        let chunks = cache_on_gpu(gpu, &cache, &k_bits, &v_bits)?;
        let state = gpu.alloc_init(Pool::State, bytemuck::bytes_of(&position), "state")?;
        let q_gpu = input(gpu, &q)?;
        let scale = 1.0 / (head_dim as f32).sqrt();
        let shape = Shape { tokens, heads, window, scale, splits };
        let (o_bytes, ml_bytes) = shape.scratch_bytes(&cache);
        let scratch = Scratch {
            o: gpu.alloc(Pool::Activations, o_bytes, "parts")?,
            ml: gpu.alloc(Pool::Activations, ml_bytes, "parts")?,
        };
        let o = Guarded::new(gpu, q.len(), None)?;
        let mut rec = Recorder::new(gpu);
        super::attention(&mut rec, &state, &q_gpu, &cache, &chunks, &scratch, &o.slice, &shape)?;
        gpu.run(&rec.finish()?, None)?;
        let want = super::reference::attention(
            &q,
            &k,
            &v,
            position as usize,
            heads as usize,
            kv_heads as usize,
            head_dim as usize,
            f64::from(scale),
            window as usize,
        );
        o.compare(gpu, &want)
    })
}

/// A cache with the given f16 bits, `[positions, kv_heads, head_dim]`.
pub(crate) fn cache_on_gpu(
    gpu: &Gpu,
    shape: &CacheShape,
    k: &[u16],
    v: &[u16],
) -> Result<Vec<(Slice, Slice)>> {
    let width = (shape.kv_heads * shape.head_dim) as usize;
    (0..shape.chunks())
        .map(|i| {
            let r = shape.chunk(i);
            let r = r.start as usize * width..r.end as usize * width;
            let upload =
                |x: &[u16]| gpu.alloc_init(Pool::KvCache, bytemuck::cast_slice(&x[r.clone()]), "cache");
            Ok((upload(k)?, upload(v)?))
        })
        .collect()
}
