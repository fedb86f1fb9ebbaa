//! Cases of what heads go through before attention.

use weft_runtime::{Gpu, Pool, Recorder, Slice};

use super::{Extra, QkNormRope, Shape, reference, train};
use crate::Result;
use crate::layout::{CacheShape, CacheType, Sequences};
use crate::ops::hadamard::reference::spread;
use crate::ops::rope::{Pairing, Rotation, Scaling};
use crate::select::BASELINE;
use crate::testing::{
    Blocks, Case, Gradient, Gradients, Guarded, Rng, cache_on_gpu, chunk_bytes, chunk_values, decode_cache,
    encode_cache, input, nmse, spans,
};

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
                all.push(case(ty, norm, pairing, shape, false));
                if ty.blocks(32) > 0 && !norm && shape.3 == shape.4 {
                    all.push(case_of(ty, Extra::Bias, pairing, shape, false, 0));
                }
            }
            if ty.blocks(32) == 0 {
                all.push(case(ty, norm, Pairing::HalfSplit, (70, 4, 2, 80, 80, 9, 5), true));
            }
            // In blocks out of order, in one chunk and in several.
            for chunks in [1, 2] {
                let shape = (70, 6, 2, 64, 64, 40, 20);
                let extra = if norm { Extra::Norms } else { Extra::None };
                all.push(case_of(ty, extra, Pairing::HalfSplit, shape, false, chunks));
                if ty.blocks(32) > 0 && !norm {
                    all.push(case_of(ty, Extra::Bias, Pairing::HalfSplit, shape, false, chunks));
                }
            }
            // Without rotation, and in rings of which a batch crosses the edge.
            all.push(case(ty, norm, Pairing::HalfSplit, (70, 4, 2, 64, 0, 9, 5), false));
            all.push(case(ty, norm, Pairing::HalfSplit, (96, 6, 2, 64, 64, 40, 270), false));
            all.push(case(ty, norm, Pairing::HalfSplit, (64, 4, 1, 128, 128, 1, 1000), false));
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
            (Pairing::HalfSplit, 4, 2, 64, 0, &[7, 20]),
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
    let (h, kv, hd) = (heads as usize, kv_heads as usize, head_dim as usize);
    let all = h + 2 * kv;
    let tokens: u32 = lengths.iter().sum();
    let rotation = Rotation::new(dims, 1e6, None, Scaling::None, pairing);
    let again = rotation.clone();
    let batch = move |gpu: &Gpu, seed: u64| PackedBatch::new(gpu, seed, (h, kv, hd), &again, lengths);
    let shape = (tokens, heads, kv_heads, head_dim);
    // q, k and v in f64, side by side as the three of them lie in qkv.
    let turned = move |x: &[f64], spans: &[[u32; 2]], norms: &[f32], r: &Rotation| -> [Vec<f64>; 3] {
        let mut out = [0; 3].map(|_| Vec::new());
        for (t, x) in x.chunks_exact(all * hd).enumerate() {
            let position = t as u32 - spans[t][0];
            let ((q, x), (wq, wk)) = (x.split_at(h * hd), norms.split_at(hd));
            let (k, v) = x.split_at(kv * hd);
            let turn = |x: &[f64], heads, w| {
                reference::turned_f64(x.to_vec(), norm.then_some(w), EPS.into(), position, heads, hd, r)
            };
            out[0].extend(turn(q, h, wq));
            out[1].extend(turn(k, kv, wk));
            out[2].extend(v);
        }
        out
    };
    let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|&v| f64::from(v)).collect() };
    let (r, make) = (rotation.clone(), batch.clone());
    let forward = Case::new("qk_norm_rope_train", BASELINE, name.clone(), 1e-7, move |gpu, _, seed| {
        let b = make(gpu, seed)?;
        let [q, k, v] = [h, kv, kv].map(|heads| Guarded::new(gpu, tokens as usize * heads * hd, None));
        let out = [q?, k?, v?];
        let mut rec = Recorder::new(gpu);
        let norms = norm.then_some(&b.norms_gpu);
        let slices = out.each_ref().map(|o| &o.slice);
        train::forward(
            &mut rec,
            &b.spans_gpu,
            &b.table,
            norms,
            &b.qkv_gpu,
            slices,
            &packed_shape(shape, &r),
        )?;
        gpu.run(&rec.finish()?, None)?;
        let mut worst = 0.0f64;
        for (got, want) in out.iter().zip(turned(&wide(&b.qkv), &b.spans, &b.norms, &r)) {
            worst = worst.max(got.compare(gpu, &want)?);
        }
        Ok(worst)
    });
    let backward = Case::backward("qk_norm_rope_backward", BASELINE, name, 1e-7, move |gpu, _, seed| {
        let b = batch(gpu, seed)?;
        let out = Guarded::new(gpu, b.qkv.len(), None)?;
        let [q, k, v] = b.gradients.each_ref().map(|x| input(gpu, x));
        let (q, k, v) = (q?, k?, v?);
        let mut rec = Recorder::new(gpu);
        let norms = norm.then_some(&b.norms_gpu);
        let (x, r) = (&b.qkv_gpu, rotation.clone());
        train::Backward {
            spans: &b.spans_gpu,
            table: &b.table,
            norms,
            qkv: x,
            gradients: [&q, &k, &v],
            dqkv: &out.slice,
            shape: &packed_shape(shape, &r),
        }
        .record(&mut rec)?;
        gpu.run(&rec.finish()?, None)?;
        let x = wide(&b.qkv);
        let [dq, dk, dv] = b.gradients.each_ref().map(|g| wide(g));
        let (wq, wk) = b.norms.split_at(hd);
        let token = |t: usize| {
            let part = |at: usize, heads: usize, w: &[f32], dy: &[f64]| {
                let x = &x[(t * all + at) * hd..][..heads * hd];
                let (dy, position) = (&dy[t * heads * hd..][..heads * hd], t as u32 - b.spans[t][0]);
                let w = norm.then_some(w);
                reference::turned_backward([x, dy], w, EPS.into(), position, [heads, hd], &r)
            };
            [part(0, h, wq, &dq), part(h, kv, wk, &dk), dv[t * kv * hd..][..kv * hd].to_vec()].concat()
        };
        let want = (0..tokens as usize).flat_map(token).collect();
        let of = Gradient::read(gpu, x.clone(), &out, want)?;
        let of = vec![if norm { of.of_norm(head_dim, EPS) } else { of }];
        let loss = move |x: &[&[f64]]| {
            let y = turned(x[0], &b.spans, &b.norms, &r);
            let each = y.iter().zip([&dq, &dk, &dv]);
            each.map(|(y, g)| y.iter().zip(g).map(|(y, g)| y * g).sum::<f64>()).sum()
        };
        Ok(Gradients { of, loss: Box::new(loss) })
    });
    [forward, backward]
}

const EPS: f32 = 1e-6;

fn packed_shape(
    (tokens, heads, kv_heads, head_dim): (u32, u32, u32, u32),
    rotation: &Rotation,
) -> train::Shape<'_> {
    train::Shape { tokens, heads, kv_heads, head_dim, rotation, eps: EPS }
}

/// Inputs of a training batch.
struct PackedBatch {
    spans: Vec<[u32; 2]>,
    qkv: Vec<f32>,
    norms: Vec<f32>,
    /// Those of q, k and v.
    gradients: [Vec<f32>; 3],
    spans_gpu: Slice,
    qkv_gpu: Slice,
    norms_gpu: Slice,
    table: Slice,
}

impl PackedBatch {
    fn new(
        gpu: &Gpu,
        seed: u64,
        (h, kv, hd): (usize, usize, usize),
        rotation: &Rotation,
        lengths: &[u32],
    ) -> Result<PackedBatch> {
        let tokens = lengths.iter().sum::<u32>();
        let mut rng = Rng::seeded((h * hd) as u32 + tokens, seed);
        let tokens = tokens as usize;
        let qkv = rng.values(tokens * (h + 2 * kv) * hd);
        let norms = rng.values(2 * hd);
        let gradients = [h, kv, kv].map(|heads| rng.values(tokens * heads * hd));
        let spans = spans(lengths);
        let table = rotation.table(lengths.iter().copied().max().unwrap_or(1));
        Ok(PackedBatch {
            spans_gpu: gpu.alloc_init(Pool::State, bytemuck::cast_slice(&spans), "spans")?,
            qkv_gpu: input(gpu, &qkv)?,
            norms_gpu: gpu.alloc_init(Pool::Weights, bytemuck::cast_slice(&norms), "norms")?,
            table: gpu.alloc_init(Pool::State, bytemuck::cast_slice(&table), "table")?,
            spans,
            qkv,
            norms,
            gradients,
        })
    }
}

fn case(
    ty: CacheType,
    norm: bool,
    pairing: Pairing,
    shape: (u32, u32, u32, u32, u32, u32, u32),
    extreme: bool,
) -> Case {
    case_of(ty, if norm { Extra::Norms } else { Extra::None }, pairing, shape, extreme, 0)
}

fn case_of(
    ty: CacheType,
    extra: Extra,
    pairing: Pairing,
    (context, q_heads, kv_heads, head_dim, dims, tokens, position): (u32, u32, u32, u32, u32, u32, u32),
    extreme: bool,
    blocks: u32,
) -> Case {
    let (norm, apart) = (extra == Extra::Norms, extra == Extra::Bias);
    let what = if extreme { "extreme " } else { "" };
    let what = if apart { "bias apart " } else { what };
    let name = format!(
        "{what}{pairing:?} norm {norm} heads {q_heads}/{kv_heads} x {head_dim} ({dims}) tokens {tokens} at {position} of {context}{}",
        if blocks > 0 { format!(" in blocks in {blocks}") } else { String::new() }
    );
    // Now and then a value rounds the other way.
    let tolerance = match ty {
        CacheType::F32 => 1e-7,
        CacheType::F16 => 2e-7,
        CacheType::Q8_0 => 1e-5,
        CacheType::Q4_0 => 5e-4,
    };
    Case::new("qk_norm_rope", BASELINE, name, tolerance, move |gpu, _, seed| {
        // Positions beyond the context go round.
        let mut rng = Rng::seeded(context + tokens, seed);
        let (blocks, cache) = match blocks {
            0 => (None, CacheShape::new(ty, context, kv_heads, head_dim, gpu.budget())?),
            chunks => {
                let kind = (ty, kv_heads, head_dim);
                let (blocks, cache) = Blocks::among(kind, context, chunks, &mut rng, gpu.budget())?;
                (Some(blocks), cache)
            }
        };
        let place = |p: u32| blocks.as_ref().map_or((p % context) as usize, |b| b.place(1, p));
        let cache = if position + tokens > context { cache.as_ring(context) } else { cache };
        let cache = if apart { cache.without_bias() } else { cache };
        let mut rotation = Rotation::new(dims, 1e6, None, Scaling::None, pairing);
        rotation.mscale = if apart { 1.25 } else { 1.0 };
        let hd = head_dim as usize;
        let (q_width, width) = (q_heads as usize * hd, kv_heads as usize * hd);
        let mut q = rng.values(tokens as usize * q_width);
        let [mut k, mut v] = [0, 1].map(|_| rng.values(tokens as usize * width));
        if extreme {
            // Heads of zeros, whose norm is that of epsilon alone, and the largest numbers of f16.
            q.chunks_exact_mut(hd).step_by(3).for_each(|q| q.fill(0.0));
            k.chunks_exact_mut(hd).step_by(3).for_each(|k| k.fill(0.0));
            v.iter_mut().step_by(2).for_each(|v| *v = 65_504.0f32.copysign(*v));
        }
        let weights = rng.values(if apart { width } else { 2 * hd });
        // What was in the cache before must stay.
        let before = rng.values(cache.context as usize * width);
        let bytes = chunk_bytes(&cache, &before);
        let chunks = cache_on_gpu(gpu, &bytes, &bytes)?;

        let words = blocks.as_ref().map_or(vec![position], |b| b.words(&[1, 2, 3], (position, 1)));
        let state = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&words), "state")?;
        let table = rotation.table(position + tokens);
        let table = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&table), "rope table")?;
        let norms = gpu.alloc_init(Pool::Weights, bytemuck::cast_slice(&weights), "norms")?;
        let token =
            |t: usize| [&q[t * q_width..][..q_width], &k[t * width..][..width], &v[t * width..][..width]];
        let qkv: Vec<f32> = (0..tokens as usize).flat_map(token).flatten().copied().collect();
        let qkv = input(gpu, &qkv)?;
        let q_gpu = Guarded::new(gpu, (tokens * q_heads * cache.q_row()) as usize, None)?;
        let shape = Shape {
            tokens,
            heads: q_heads,
            cache: &cache,
            rotation: &rotation,
            eps: 1e-6,
            sequences: Sequences::One,
        };
        let mut rec = Recorder::new(gpu);
        QkNormRope {
            state: &state,
            table: &table,
            norms: (norm || apart).then_some(&norms),
            qkv: &qkv,
            q: &q_gpu.slice,
            chunks: &chunks,
            shape: &shape,
        }
        .record(&mut rec)?;
        gpu.run(&rec.finish()?, None)?;

        let part = |x: &[f32], heads: usize, w: &[f32]| {
            let w = norm.then_some(w);
            reference::turned(x, w, f64::from(1e-6f32), position, heads, hd, &rotation)
        };
        let turned = part(&q, q_heads as usize, &weights[..hd]);
        let mut want_q = spread(&turned, ty, hd);
        if apart {
            // Behind each head its coefficients.
            let token = |q: &[f64]| reference::coefficients(q, &weights, hd, &rotation);
            let behind: Vec<f64> = turned.chunks_exact(q_width).flat_map(token).collect();
            let heads = want_q.chunks_exact(hd).zip(behind.chunks_exact(hd));
            want_q = heads.flat_map(|(q, c)| [q, c].concat()).collect();
            let bias = weights.iter().cycle();
            k.iter_mut().zip(bias).for_each(|(k, b)| *k -= b);
        }
        let q_error = q_gpu.compare(gpu, &want_q)?;
        let held: Vec<f32> = bytes.iter().enumerate().flat_map(|(i, b)| chunk_values(&cache, i, b)).collect();
        // What is stored is what the reference would store.
        let with = |new: Vec<f64>| -> Vec<f64> {
            let new: Vec<f32> = new.iter().map(|&v| v as f32).collect();
            let new = decode_cache(&encode_cache(&new, ty, hd), ty, new.len() / hd, hd);
            let mut all = held.clone();
            for (at, new) in (position..).zip(new.chunks_exact(width)) {
                all[place(at) * width..][..width].copy_from_slice(new);
            }
            all.into_iter().map(f64::from).collect()
        };
        let of_k = if apart { &[] } else { &weights[hd..] };
        let want_k = with(spread(&part(&k, kv_heads as usize, of_k), ty, hd));
        let v: Vec<f64> = v.iter().map(|&v| f64::from(v)).collect();
        let want_v = with(spread(&v, ty, hd));
        let (mut got_k, mut got_v) = (Vec::new(), Vec::new());
        for (i, (kc, vc)) in chunks.iter().enumerate() {
            got_k.extend(chunk_values(&cache, i, &gpu.read_vec::<u8>(kc)?));
            got_v.extend(chunk_values(&cache, i, &gpu.read_vec::<u8>(vc)?));
        }
        Ok(q_error.max(nmse(&got_k, &want_k)).max(nmse(&got_v, &want_v)))
    })
    .of_type(ty.name())
}
