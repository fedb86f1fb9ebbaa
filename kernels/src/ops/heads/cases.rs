//! Cases of what heads go through before attention.

use weft_runtime::{Gpu, Pool, Recorder};

use super::{Shape, heads, reference, train};
use crate::Result;
use crate::ops::attention::cases::{cache_on_gpu, chunk_bytes, chunk_values, spans};
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
                if ty.blocks(32) > 0 && shape.3 % 32 != 0 {
                    continue;
                }
                all.push(case(ty, norm, pairing, shape));
            }
        }
    }
    for norm in [false, true] {
        for (pairing, heads, kv_heads, head_dim, dims, lengths) in [
            (Pairing::HalfSplit, 1, 1, 8, 8, &[1][..]),
            (Pairing::Adjacent, 6, 2, 64, 64, &[5, 1, 140]),
            (Pairing::HalfSplit, 32, 8, 128, 128, &[9, 3]),
            (Pairing::Adjacent, 4, 4, 96, 32, &[30, 33]),
            (Pairing::HalfSplit, 3, 1, 256, 64, &[40]),
            (Pairing::HalfSplit, 3, 1, 80, 80, &[7, 7]),
        ] {
            all.extend(packed_case(norm, pairing, heads, kv_heads, head_dim, dims, lengths));
        }
    }
    all
}

/// A training batch of sequences of `lengths`, there and back.
fn packed_case(
    norm: bool,
    pairing: Pairing,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    dims: u32,
    lengths: &'static [u32],
) -> [Case; 2] {
    let name = format!("{pairing:?} norm {norm} heads {heads}/{kv_heads} x {head_dim} ({dims}) {lengths:?}");
    let run = move |gpu: &Gpu, seed: u64, backward: bool| -> Result<f64> {
        let tokens: u32 = lengths.iter().sum();
        let rotation = Rotation::new(dims, 1e6, None, Scaling::None, pairing);
        let mut rng = Rng::seeded(heads * head_dim + tokens, seed);
        let (h, kv, hd) = (heads as usize, kv_heads as usize, head_dim as usize);
        let all = h + 2 * kv;
        let qkv = rng.values(tokens as usize * all * hd);
        let weights = rng.values(2 * hd);
        let [dq, dk, dv] = [h, kv, kv].map(|heads| rng.values(tokens as usize * heads * hd));

        let spans = spans(lengths);
        let longest = lengths.iter().copied().max().unwrap_or(1);
        let table = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&rotation.table(longest)), "table")?;
        let norms = gpu.alloc_init(Pool::Weights, bytemuck::cast_slice(&weights), "norms")?;
        let spans_gpu = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&spans), "spans")?;
        let x = input(gpu, &qkv)?;
        let s = train::Shape { tokens, heads, kv_heads, head_dim, rotation: &rotation, eps: 1e-6 };
        let norms = norm.then_some(&norms);

        // What the reference gives for a part of each token: heads at `at`, turned as its position asks.
        let part = |t: usize, at: usize, heads: usize, w: Option<&[f32]>, dy: Option<&[f32]>| {
            let x: Vec<f64> = qkv[(t * all + at) * hd..][..heads * hd].iter().map(|&v| v.into()).collect();
            let position = t as u32 - spans[t][0];
            let w = w.filter(|_| norm);
            let eps = f64::from(1e-6f32);
            match dy {
                None => reference::turned_f64(x, w, eps, position, heads, hd, &rotation),
                Some(dy) => {
                    let dy: Vec<f64> = dy[t * heads * hd..][..heads * hd].iter().map(|&v| v.into()).collect();
                    reference::turned_backward(&x, w, eps, position, heads, hd, &rotation, &dy)
                }
            }
        };
        let (wq, wk) = (Some(&weights[..hd]), Some(&weights[hd..]));
        let tokens = 0..tokens as usize;
        let mut rec = Recorder::new(gpu);
        if backward {
            let out = Guarded::new(gpu, qkv.len(), None)?;
            let [q, k, v] = [&dq, &dk, &dv].map(|x| input(gpu, x));
            train::backward(&mut rec, &spans_gpu, &table, norms, &x, [&q?, &k?, &v?], &out.slice, &s)?;
            gpu.run(&rec.finish()?, None)?;
            let of = |t: usize| {
                let value = dv[t * kv * hd..][..kv * hd].iter().map(|&v| f64::from(v)).collect();
                [part(t, 0, h, wq, Some(&dq)), part(t, h, kv, wk, Some(&dk)), value].concat()
            };
            return out.compare(gpu, &tokens.flat_map(of).collect::<Vec<_>>());
        }
        let out = [dq.len(), dk.len(), dv.len()].map(|n| Guarded::new(gpu, n, None));
        let [q, k, v] = out;
        let (q, k, v) = (q?, k?, v?);
        train::heads(&mut rec, &spans_gpu, &table, norms, &x, [&q.slice, &k.slice, &v.slice], &s)?;
        gpu.run(&rec.finish()?, None)?;
        let value = |t: usize| qkv[(t * all + h + kv) * hd..][..kv * hd].iter().map(|&v| f64::from(v));
        let want_q: Vec<f64> = tokens.clone().flat_map(|t| part(t, 0, h, wq, None)).collect();
        let want_k: Vec<f64> = tokens.clone().flat_map(|t| part(t, h, kv, wk, None)).collect();
        let worst = q.compare(gpu, &want_q)?.max(k.compare(gpu, &want_k)?);
        Ok(worst.max(v.compare(gpu, &tokens.flat_map(value).collect::<Vec<_>>())?))
    };
    [("heads_train", false), ("heads_backward", true)].map(|(op, backward)| {
        Case::new(op, BASELINE, name.clone(), 1e-7, move |gpu, _, seed| run(gpu, seed, backward))
    })
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
    // Now and then a value rounds the other way.
    let tolerance = match ty {
        CacheType::F32 => 1e-7,
        CacheType::F16 => 2e-7,
        CacheType::Q8_0 => 1e-5,
        CacheType::Q4_0 => 5e-4,
    };
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
        let bytes = chunk_bytes(&cache, &before);
        let chunks = cache_on_gpu(gpu, &bytes, &bytes)?;

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
        let held: Vec<f32> = bytes.iter().enumerate().flat_map(|(i, b)| chunk_values(&cache, i, b)).collect();
        // What is stored is what the reference would store.
        let with = |new: Vec<f64>| -> Vec<f64> {
            let new: Vec<f32> = new.iter().map(|&v| v as f32).collect();
            let new = reference::decode(&reference::encode(&new, ty, hd), ty, new.len() / hd, hd);
            let mut all = held.clone();
            all[position as usize * width..][..new.len()].copy_from_slice(&new);
            all.into_iter().map(f64::from).collect()
        };
        let want_k = with(part(&k, kv_heads as usize, &weights[hd..]));
        let want_v = with(v.iter().map(|&v| f64::from(v)).collect());
        let (mut got_k, mut got_v) = (Vec::new(), Vec::new());
        for (i, (kc, vc)) in chunks.iter().enumerate() {
            got_k.extend(chunk_values(&cache, i, &gpu.read_vec::<u8>(kc)?));
            got_v.extend(chunk_values(&cache, i, &gpu.read_vec::<u8>(vc)?));
        }
        Ok(q_error.max(nmse(&got_k, &want_k)).max(nmse(&got_v, &want_v)))
    })
    .of_type(ty.name())
}
