//! Cases of attention.

use weft_runtime::{Gpu, Pool, Recorder, Slice};

use super::reference::Packed;
use super::{CacheShape, CacheType, Scratch, Shape, Variant, attention_as, decode, train};
use crate::ops::heads::reference as heads_reference;
use crate::ops::rope::{Pairing, Rotation, Scaling};
use crate::registry::{BASELINE, Case, Guarded, Rng, input, nmse};
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
    for ty in [CacheType::Q8_0, CacheType::Q4_0] {
        for (heads, kv_heads, head_dim) in [(4, 4, 64), (8, 2, 96), (7, 1, 32), (8, 2, 128), (2, 1, 256)] {
            for (tokens, position, window, splits) in [(1, 112, 0, 1), (1, 600, 50, 3), (9, 61, 0, 1)] {
                let v = Variant::Rows;
                all.push(self::case(v, ty, heads, kv_heads, head_dim, tokens, position, window, splits));
            }
        }
        for (heads, kv_heads, head_dim) in [(4, 4, 64), (16, 2, 128)] {
            for (tokens, position, window, splits) in [(40, 0, 0, 1), (70, 90, 50, 1), (33, 100, 0, 3)] {
                let v = Variant::Coop;
                all.push(self::case(v, ty, heads, kv_heads, head_dim, tokens, position, window, splits));
            }
        }
    }
    for (heads, kv_heads, head_dim) in [(4, 4, 64), (8, 4, 80), (7, 1, 64), (16, 2, 128)] {
        for (tokens, position, window, splits) in
            [(1, 300, 0, 1), (40, 0, 0, 1), (75, 61, 0, 1), (33, 100, 0, 3), (70, 90, 50, 1)]
        {
            let (variant, ty) = (Variant::Coop, CacheType::F16);
            all.push(self::case(variant, ty, heads, kv_heads, head_dim, tokens, position, window, splits));
        }
    }
    all.extend(decode_cases());
    all.extend(packed_cases());
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
            let bytes = chunk_bytes(&cache, &rng.values(context as usize * width));
            let values = bytes.iter().enumerate().flat_map(|(i, b)| chunk_values(&cache, i, b));
            let values: Vec<f32> = values.collect();
            (bytes, values)
        };
        let ((k_bits, k), (v_bits, v)) = (rounded(), rounded());
        let chunks = cache_on_gpu(gpu, &k_bits, &v_bits)?;
        let state = gpu.alloc_init(Pool::State, bytemuck::bytes_of(&position), "state")?;
        let q_gpu = input(gpu, &q)?;
        let scale = 1.0 / (head_dim as f32).sqrt();
        let shape = Shape { tokens, heads, window, scale, splits };
        let (o_bytes, lse_bytes) = shape.scratch_bytes(&cache);
        let scratch = Scratch {
            o: gpu.alloc(Pool::Activations, o_bytes, "parts")?,
            lse: gpu.alloc(Pool::Activations, lse_bytes, "parts")?,
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

/// A decode step in one dispatch: every cache type, cuts of one and of more heads and splits, with and
/// without norms, both pairings, at the first position, within a round of keys and after many, in a window.
/// Few shapes, since each is a shader of its own that takes a software GPU half a second to compile.
fn decode_cases() -> Vec<Case> {
    let mut all = Vec::new();
    for ty in CacheType::ALL {
        for (heads, kv_heads, head_dim, norm, pairing) in [
            (8, 1, 64, false, Pairing::Adjacent),
            (8, 2, 128, true, Pairing::HalfSplit),
            (7, 1, 32, true, Pairing::Adjacent),
            (4, 4, 64, true, Pairing::HalfSplit),
        ] {
            if ty != CacheType::F16 && (heads, head_dim) != (8, 64) {
                continue;
            }
            for (position, window, per, splits) in [
                (0, 0, 4, 2),
                (1, 0, 1, 1),
                (112, 0, 1, 1),
                (513, 0, 4, 3),
                (1024, 100, 4, 2),
                (600, 0, 1, 4),
            ] {
                let cut = decode::Cut { heads: per, splits };
                all.push(decode_case(ty, heads, kv_heads, head_dim, position, window, cut, norm, pairing));
            }
        }
    }
    let cut = decode::Cut { heads: 4, splits: 16 };
    for ty in [CacheType::F16, CacheType::Q8_0] {
        all.push(decode_case(ty, 8, 2, 128, 4095, 0, cut, true, Pairing::HalfSplit));
    }
    all
}

fn decode_case(
    ty: CacheType,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    position: u32,
    window: u32,
    cut: decode::Cut,
    norm: bool,
    pairing: Pairing,
) -> Case {
    let name = format!(
        "heads {heads}/{kv_heads} x {head_dim} at {position} window {window} norm {norm} {pairing:?} cut {} x {}",
        cut.heads, cut.splits
    );
    Case::new("attention", "decode", name, 1e-6, move |gpu, _, seed| {
        let context = position + 9;
        let cache = CacheShape::new(ty, context, kv_heads, head_dim, gpu.budget())?;
        if let Err(why) = decode::supports(gpu.caps(), &cache) {
            return Err(PlanError::Shape { op: "attention", what: why.into() }.into());
        }
        let (hd, width) = (head_dim as usize, (kv_heads * head_dim) as usize);
        let (at, q_width) = (position as usize * width, (heads * head_dim) as usize);
        let rotation = Rotation::new(head_dim, 1e6, None, Scaling::None, pairing);
        let mut rng = Rng::seeded(heads * head_dim + position, seed);
        let qkv = rng.values(q_width + 2 * width);
        let weights = rng.values(2 * hd);
        let [held_k, held_v] = [0, 1].map(|_| chunk_bytes(&cache, &rng.values(context as usize * width)));
        let chunks = cache_on_gpu(gpu, &held_k, &held_v)?;

        let state = gpu.alloc_init(Pool::State, bytemuck::bytes_of(&position), "state")?;
        let table = rotation.table(context);
        let table = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&table), "rope table")?;
        let norms = gpu.alloc_init(Pool::Weights, bytemuck::cast_slice(&weights), "norms")?;
        let qkv_gpu = input(gpu, &qkv)?;
        let scale = 1.0 / (head_dim as f32).sqrt();
        let (o_bytes, lse_bytes) =
            Shape { tokens: 1, heads, window, scale, splits: cut.splits }.scratch_bytes(&cache);
        let scratch = Scratch {
            o: gpu.alloc(Pool::Activations, o_bytes, "parts")?,
            lse: gpu.alloc(Pool::Activations, lse_bytes, "parts")?,
        };
        let o = Guarded::new(gpu, q_width, None)?;
        let s = decode::Shape { heads, cache: &cache, rotation: &rotation, eps: 1e-6, window, scale, cut };
        let mut rec = Recorder::new(gpu);
        let norms = norm.then_some(&norms);
        decode::decode(&mut rec, &state, &table, norms, &qkv_gpu, &chunks[0], &scratch, &o.slice, &s)?;
        gpu.run(&rec.finish()?, None)?;

        let turned = |x: &[f32], heads: u32, w: &[f32]| -> Vec<f32> {
            let (w, eps) = (norm.then_some(w), f64::from(1e-6f32));
            let all = heads_reference::turned(x, w, eps, position, heads as usize, hd, &rotation);
            all.into_iter().map(|v| v as f32).collect()
        };
        let kept = |x: &[f32]| {
            heads_reference::decode(&heads_reference::encode(x, ty, hd), ty, kv_heads as usize, hd)
        };
        let q = turned(&qkv[..q_width], heads, &weights[..hd]);
        let new_k = kept(&turned(&qkv[q_width..][..width], kv_heads, &weights[hd..]));
        let new_v = kept(&qkv[q_width + width..]);
        let mut worst = 0.0f64;
        let mut with = |held: &[u8], new: &[f32], got: &Slice| -> Result<Vec<f32>> {
            let mut want = chunk_values(&cache, 0, held);
            want[at..][..width].copy_from_slice(new);
            let got = chunk_values(&cache, 0, &gpu.read_vec::<u8>(got)?);
            worst = worst.max(nmse(&got, &want.iter().map(|&v| f64::from(v)).collect::<Vec<_>>()));
            Ok(want)
        };
        let k = with(&held_k[0], &new_k, &chunks[0].0)?;
        let v = with(&held_v[0], &new_v, &chunks[0].1)?;
        let (h, kv, scale) = (heads as usize, kv_heads as usize, f64::from(scale));
        let want =
            super::reference::attention(&q, &k, &v, position as usize, h, kv, hd, scale, window as usize);
        Ok(worst.max(o.compare(gpu, &want)?))
    })
    .of_type(ty.name())
}

/// Training batches of one sequence and of several, grouped-query ratios 1 to 8, every head size, and
/// lengths around the tiles; then one of which some gradients are tiny.
fn packed_cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (heads, kv_heads, head_dim) in
        [(1, 1, 8), (4, 4, 64), (4, 2, 80), (4, 1, 96), (7, 1, 32), (8, 1, 64), (4, 2, 128), (2, 1, 256)]
    {
        for lengths in [&[1][..], &[33], &[5, 1, 40, 31], &[9, 8, 7, 6, 5, 4, 3, 2, 1]] {
            all.push(packed_case(heads, kv_heads, head_dim, lengths, 1.0));
        }
    }
    all.push(packed_case(8, 4, 128, &[200, 113, 40], 1e-6));
    all.push(packed_case(2, 1, 64, &[512, 1], 1.0));
    all.into_iter().flatten().collect()
}

/// Forward and backward of a batch of sequences of `lengths`, with gradients of about `size`.
fn packed_case(heads: u32, kv_heads: u32, head_dim: u32, lengths: &'static [u32], size: f32) -> [Case; 2] {
    let name = format!("heads {heads}/{kv_heads} x {head_dim} sequences {lengths:?} gradients {size:e}");
    let run = move |gpu: &Gpu, seed: u64, backward: bool| -> Result<f64> {
        let tokens: u32 = lengths.iter().sum();
        let spans = spans(lengths);
        let s = train::Shape { tokens, heads, kv_heads, head_dim, scale: 1.0 / (head_dim as f32).sqrt() };
        let mut rng = Rng::seeded(heads * head_dim + tokens, seed);
        let mut random = |heads: u32| rng.values((tokens * heads * head_dim) as usize);
        let [q, k, v, mut g] = [heads, kv_heads, kv_heads, heads].map(&mut random);
        g.iter_mut().for_each(|g| *g *= size);
        let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|&v| f64::from(v)).collect() };
        let first: Vec<usize> = spans.iter().map(|s| s[0] as usize).collect();
        let (h, kv, hd) = (heads as usize, kv_heads as usize, head_dim as usize);
        let scale = f64::from(s.scale);
        let want = Packed { first: &first, heads: h, kv_heads: kv, head_dim: hd, scale };
        let [wq, wk, wv] = [&q, &k, &v].map(|x| wide(x));

        let spans = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&spans), "spans")?;
        let [q, k, v, g] = [&q, &k, &v, &g].map(|x| input(gpu, x).map(|s| (s, wide(x))));
        let (q, k, v, (g, wg)) = (q?.0, k?.0, v?.0, g?);
        let o = Guarded::new(gpu, wq.len(), None)?;
        let lse = Guarded::new(gpu, (tokens * heads) as usize, None)?;
        let mut rec = Recorder::new(gpu);
        train::attention(&mut rec, &spans, [&q, &k, &v], &o.slice, &lse.slice, &s)?;
        if !backward {
            gpu.run(&rec.finish()?, None)?;
            let (want_o, want_lse) = want.forward(&wq, &wk, &wv);
            return Ok(o.compare(gpu, &want_o)?.max(lse.compare(gpu, &want_lse)?));
        }
        let scratch = gpu.alloc(Pool::Activations, s.scratch_bytes(), "scratch")?;
        let out = [wq.len(), wk.len(), wv.len()].map(|n| Guarded::new(gpu, n, None));
        let [dq, dk, dv] = out;
        let out = [dq?, dk?, dv?];
        let grads = [&out[0].slice, &out[1].slice, &out[2].slice];
        train::backward(&mut rec, &spans, [&q, &k, &v], &o.slice, &lse.slice, &g, &scratch, grads, &s)?;
        gpu.run(&rec.finish()?, None)?;
        let mut worst = 0.0f64;
        for (got, want) in out.iter().zip(want.backward(&wq, &wk, &wv, &wg)) {
            worst = worst.max(got.compare(gpu, &want)?);
        }
        Ok(worst)
    };
    [("attention_train", false), ("attention_backward", true)].map(|(op, backward)| {
        Case::new(op, BASELINE, name.clone(), 1e-6, move |gpu, _, seed| run(gpu, seed, backward))
    })
}

/// First token and one past the last of each token's sequence.
pub(crate) fn spans(lengths: &[u32]) -> Vec<[u32; 2]> {
    let mut end = 0;
    let of = |&n: &u32| {
        end += n;
        std::iter::repeat_n([end - n, end], n as usize)
    };
    lengths.iter().flat_map(of).collect()
}

/// The bytes of each chunk of a cache that holds `values`, `[positions, kv_heads, head_dim]`.
pub(crate) fn chunk_bytes(shape: &CacheShape, values: &[f32]) -> Vec<Vec<u8>> {
    let row = (shape.kv_heads * shape.head_dim) as usize;
    let chunks = (0..shape.chunks()).map(|i| shape.chunk(i));
    chunks
        .map(|r| {
            let values = &values[r.start as usize * row..r.end as usize * row];
            heads_reference::encode(values, shape.ty, shape.head_dim as usize)
        })
        .collect()
}

/// The values that the bytes of chunk `i` hold.
pub(crate) fn chunk_values(shape: &CacheShape, i: usize, bytes: &[u8]) -> Vec<f32> {
    let rows = shape.chunk(i).len() * shape.kv_heads as usize;
    heads_reference::decode(bytes, shape.ty, rows, shape.head_dim as usize)
}

/// A cache on the GPU with the given bytes of keys and of values, chunk by chunk.
pub(crate) fn cache_on_gpu(gpu: &Gpu, k: &[Vec<u8>], v: &[Vec<u8>]) -> Result<Vec<(Slice, Slice)>> {
    let upload = |bytes: &[u8]| gpu.alloc_init(Pool::KvCache, bytes, "cache");
    k.iter().zip(v).map(|(k, v)| Ok((upload(k)?, upload(v)?))).collect()
}
