//! Cases of attention.

use weft_runtime::{Gpu, Pool, Recorder, Slice};

use super::{CacheShape, CacheType, Scratch, Shape, Variant, attention_as};
use crate::registry::{Case, Guarded, Rng, input};
use crate::{PlanError, Result};

/// Grouped-query ratios 1 to 8, every head size in use, cache lengths around the tiles, windows,
/// splits, and batches of one and more tiles.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    let case = |heads, kv_heads, head_dim, tokens, position, window, splits| {
        case(Variant::Rows, CacheType::F16, heads, kv_heads, head_dim, tokens, position, window, splits)
    };
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
    for (tokens, position, splits) in [(1, 200, 3), (1, 0, 1), (21, 40, 1)] {
        all.push(self::case(Variant::Rows, CacheType::F32, 8, 2, 128, tokens, position, 0, splits));
        all.push(self::case(Variant::Rows, CacheType::F32, 4, 4, 80, tokens, position, 0, splits));
    }
    for (heads, kv_heads, head_dim) in [(4, 4, 64), (8, 4, 80), (7, 1, 64), (16, 2, 128)] {
        for (tokens, position, window, splits) in
            [(1, 300, 0, 1), (40, 0, 0, 1), (75, 61, 0, 1), (33, 100, 0, 3), (70, 90, 50, 1)]
        {
            let (variant, ty) = (Variant::Coop, CacheType::F16);
            all.push(self::case(variant, ty, heads, kv_heads, head_dim, tokens, position, window, splits));
        }
    }
    all
}

fn case(
    variant: Variant,
    ty: CacheType,
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
    // f16 inputs lose what f16 loses.
    let tolerance = if variant == Variant::Coop { 5e-4 } else { 1e-6 };
    Case::new("attention", variant.name(), name, tolerance, move |gpu, _, seed| {
        let context = position + tokens + 5;
        let width = (kv_heads * head_dim) as usize;
        let cache = CacheShape::new(ty, context, kv_heads, head_dim, gpu.budget())?;
        if let Err(why) = variant.supports(gpu.caps(), &cache) {
            return Err(PlanError::Shape { op: "attention", what: why.into() }.into());
        }
        let mut rng = Rng::seeded(heads * head_dim + position, seed);
        let q = rng.values((tokens * heads * head_dim) as usize);
        // Values that the cache holds exactly, as its bytes and as floats.
        let mut rounded = || {
            let n = context as usize * width;
            let mut bytes = vec![0; ty.bytes(n as u64) as usize];
            let mut values = rng.values(n);
            crate::ops::heads::reference::store(&mut bytes, ty, &values, 0);
            if ty == CacheType::F16 {
                values.iter_mut().for_each(|v| *v = half::f16::from_f32(*v).to_f32());
            }
            (bytes, values)
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
        attention_as(&mut rec, variant, &state, &q_gpu, &cache, &chunks, &scratch, &o.slice, &shape)?;
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
    .of_type(ty.name())
}

/// A cache with the given bytes, `[positions, kv_heads, head_dim]`.
pub(crate) fn cache_on_gpu(gpu: &Gpu, shape: &CacheShape, k: &[u8], v: &[u8]) -> Result<Vec<(Slice, Slice)>> {
    let mut at = 0;
    (0..shape.chunks())
        .map(|i| {
            let r = at..at + shape.chunk_bytes(i) as usize;
            at = r.end;
            let upload = |x: &[u8]| gpu.alloc_init(Pool::KvCache, &x[r.clone()], "cache");
            Ok((upload(k)?, upload(v)?))
        })
        .collect()
}
