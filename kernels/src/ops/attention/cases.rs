//! Cases of attention.

use std::collections::HashMap;
use std::ops::Range;

use weft_runtime::{Gpu, Pool, Recorder, Slice};

use super::backward::Backward;
use super::decode::{self, Decode};
use super::reference::Packed;
use super::{Attention, Mask, Scratch, Shape, Variant, train};
use crate::layout::{CacheShape, CacheType, Format, IDLE, Sequences, TOGETHER};
use crate::ops::hadamard::reference::spread;
use crate::ops::qk_norm_rope::{self, QkNormRope, reference as turn_reference};
use crate::ops::quantize::{self, Quantized};
use crate::ops::rope::{Pairing, Rotation, Scaling};
use crate::testing::{
    Blocks, Case, Gradient, Gradients, Guarded, MIXED, Rng, cache_on_gpu, chunk_bytes, chunk_values,
    decode_cache, encode_cache, input, nmse, spans,
};
use crate::{PlanError, Result};

/// What q, k and v hold.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Content {
    /// About normal, with outliers.
    Usual,
    /// Keys that grow with their position, so that the largest score does again and again.
    Growing,
    /// Nothing but zeros in q or in k for some heads and positions: all keys weigh the same.
    Zeros,
    /// The largest numbers of f16 among the values, and numbers so small that they are not normal.
    Extreme,
}

/// How a cache lies in memory.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lie {
    /// By positions.
    Order,
    /// In a ring no larger than it must be.
    Ring,
    /// In blocks out of order, in at least so many chunks.
    Blocks(u32),
}

impl Lie {
    fn name(self) -> String {
        match self {
            Lie::Order => String::new(),
            Lie::Ring => " ring".into(),
            Lie::Blocks(1) => " blocks".into(),
            Lie::Blocks(chunks) => format!(" blocks in {chunks}"),
        }
    }
}

/// An attention over a cache, as tried.
#[derive(Debug, Clone, Copy)]
struct Try {
    variant: Variant,
    ty: CacheType,
    /// Query heads, KV heads, size.
    heads: (u32, u32, u32),
    tokens: u32,
    position: u32,
    window: u32,
    splits: u32,
    content: Content,
    lie: Lie,
    /// Keys without their bias.
    apart: bool,
}

const PLAIN: Try = Try {
    variant: Variant::Rows,
    ty: CacheType::F16,
    heads: (4, 4, 64),
    tokens: 1,
    position: 0,
    window: 0,
    splits: 1,
    content: Content::Usual,
    lie: Lie::Order,
    apart: false,
};

/// Grouped-query ratios 1, 2, 4, 7 and 8, every head size in use, cache lengths around the tiles and up to
/// 4,096, windows, splits, batches of 1 to 9 and of one and more tiles.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    let mut push = |t: Try| all.push(case(t));
    let f16 = [(1, 1, 8), (4, 4, 64), (8, 4, 80), (8, 2, 96), (7, 1, 64), (16, 2, 128), (2, 1, 256)];
    for heads in f16 {
        let t = Try { heads, ..PLAIN };
        for (tokens, position) in [(1, 0), (1, 112), (1, 511), (1, 512), (3, 30), (17, 0), (40, 61)] {
            push(Try { tokens, position, ..t });
        }
        push(Try { position: 300, splits: 4, ..t });
        push(Try { tokens: 5, position: 20, splits: 3, ..t });
        push(Try { tokens: 9, position: 130, window: 50, ..t });
        for content in [Content::Growing, Content::Zeros, Content::Extreme] {
            push(Try { tokens: 6, position: 140, content, ..t });
        }
    }
    for tokens in [2, 4, 6, 7, 8, 9, 32, 33] {
        push(Try { tokens, position: 113 - tokens, heads: (8, 4, 64), ..PLAIN });
    }
    push(Try { tokens: 512, heads: (2, 1, 32), ..PLAIN });
    push(Try { position: 1024, heads: (32, 8, 128), splits: 8, ..PLAIN });
    push(Try { position: 4095, heads: (8, 4, 64), splits: 16, ..PLAIN });
    push(Try { position: 4095, heads: (8, 4, 64), window: 512, splits: 2, ..PLAIN });
    for (tokens, position, splits) in [(1, 200, 3), (1, 0, 1), (21, 40, 1)] {
        let t = Try { ty: CacheType::F32, tokens, position, splits, ..PLAIN };
        push(Try { heads: (8, 2, 128), ..t });
        push(Try { heads: (4, 4, 80), ..t });
    }
    for ty in [CacheType::Q8_0, CacheType::Q4_0] {
        let t = Try { ty, ..PLAIN };
        for heads in [(4, 4, 64), (8, 2, 96), (7, 1, 32), (8, 2, 128), (2, 1, 256)] {
            push(Try { heads, position: 112, ..t });
            push(Try { heads, position: 600, window: 50, splits: 3, ..t });
            push(Try { heads, tokens: 9, position: 61, ..t });
        }
        push(Try { tokens: 9, position: 61, content: Content::Zeros, ..t });
        let t = Try { apart: true, ..t };
        for heads in [(8, 2, 96), (7, 1, 32), (8, 2, 128), (2, 1, 256)] {
            push(Try { heads, position: 600, splits: 3, ..t });
            push(Try { heads, tokens: 9, position: 261, ..t });
        }
        push(Try { tokens: 5, position: 505, window: 90, lie: Lie::Ring, ..t });
    }
    // Few shapes, since a software GPU takes seconds to compile each.
    for variant in Variant::ALL.into_iter().filter(|&v| v != Variant::Rows) {
        // Heads that divide a workgroup, or into matrices.
        let other = match variant {
            Variant::Tiled => (4, 2, 256),
            Variant::TiledWide => (8, 4, 32),
            _ => (8, 4, 80),
        };
        // Gemma's heads.
        let large = if variant == Variant::Coop { Some((4, 1, 256)) } else { None };
        for heads in [(7, 1, 64), other, (16, 2, 128)].into_iter().chain(large) {
            let t = Try { variant, heads, ..PLAIN };
            push(Try { position: 300, ..t });
            push(Try { tokens: 40, ..t });
            push(Try { tokens: 75, position: 61, ..t });
            push(Try { tokens: 33, position: 100, splits: 3, ..t });
            push(Try { tokens: 70, position: 90, window: 50, ..t });
            for content in [Content::Growing, Content::Zeros, Content::Extreme] {
                push(Try { tokens: 40, position: 140, content, ..t });
            }
        }
        for ty in [CacheType::Q8_0, CacheType::Q4_0] {
            push(Try { variant, ty, tokens: 70, position: 90, window: 50, ..PLAIN });
            if !variant.matrices() {
                let t = Try { variant, ty, apart: true, ..PLAIN };
                push(Try { tokens: 70, position: 290, ..t });
                push(Try { tokens: 40, position: 80, window: 30, lie: Lie::Ring, heads: (7, 1, 64), ..t });
            }
        }
    }
    // Rings before they are full, within their first lap, across an edge and after many laps; splits, and chunks
    // where the budget makes them.
    for (tokens, position, window, splits) in [
        (1, 0, 50, 1),
        (1, 63, 50, 1),
        (1, 64, 50, 3),
        (1, 700, 50, 1),
        (5, 505, 90, 2),
        (33, 0, 64, 1),
        (40, 80, 30, 1),
        (70, 505, 90, 1),
    ] {
        let t = Try { tokens, position, window, splits, lie: Lie::Ring, ..PLAIN };
        for ty in CacheType::ALL {
            push(Try { ty, ..t });
        }
        push(Try { heads: (4, 1, 256), ..t });
        push(Try { heads: (8, 4, 128), window: 512, ..t });
        for variant in Variant::ALL.into_iter().filter(|&v| v != Variant::Rows && tokens > 1) {
            push(Try { variant, heads: (7, 1, 64), ..t });
            push(Try { variant, ty: CacheType::Q8_0, ..t });
        }
    }
    all.extend(block_cases());
    all.extend(decode_cases());
    all.extend(packed_cases());
    all.extend(slots_cases());
    all
}

/// Blocks out of order, in one chunk and in several, between those of other slots; windows whose blocks before them are
/// another's.
fn block_cases() -> Vec<Case> {
    let mut all = Vec::new();
    let mut push = |t: Try| all.push(case(t));
    for chunks in [1, 3] {
        let t = Try { lie: Lie::Blocks(chunks), ..PLAIN };
        for (tokens, position, window, splits) in [
            (1, 0, 0, 1),
            (1, 31, 0, 1),
            (1, 32, 0, 3),
            (1, 1000, 0, 4),
            (9, 700, 90, 2),
            (33, 0, 0, 1),
            (40, 61, 30, 1),
            (70, 505, 90, 1),
        ] {
            let t = Try { tokens, position, window, splits, ..t };
            CacheType::ALL.into_iter().for_each(|ty| push(Try { ty, ..t }));
            push(Try { heads: (4, 1, 256), ..t });
            push(Try { heads: (8, 4, 128), ..t });
            push(Try { heads: (7, 1, 64), content: Content::Growing, ..t });
            for variant in Variant::ALL.into_iter().filter(|&v| v != Variant::Rows && tokens > 1) {
                push(Try { variant, heads: (7, 1, 64), ..t });
                push(Try { variant, ty: CacheType::Q8_0, ..t });
            }
        }
        for ty in [CacheType::Q8_0, CacheType::Q4_0] {
            let t = Try { ty, apart: true, ..t };
            push(Try { position: 600, splits: 3, ..t });
            push(Try { tokens: 40, position: 290, window: 50, variant: Variant::Tiled, ..t });
        }
    }
    all
}

fn case(t: Try) -> Case {
    let Try { variant, ty, heads: (heads, kv_heads, head_dim), tokens, position, window, splits, .. } = t;
    let content = t.content;
    let mut name = format!(
        "heads {heads}/{kv_heads} x {head_dim} tokens {tokens} at {position} window {window} splits {splits}"
    );
    if content != Content::Usual {
        name += &format!(" {content:?}").to_lowercase();
    }
    name += &t.lie.name();
    if t.apart {
        name += " bias apart";
    }
    // f16 inputs lose what f16 loses.
    let tolerance = if variant.matrices() { 5e-4 } else { 1e-6 };
    Case::new("attention", variant.name(), name, tolerance, move |gpu, _, seed| {
        let context = position + tokens + 5;
        let width = (kv_heads * head_dim) as usize;
        let mut rng = Rng::seeded(heads * head_dim + position, seed);
        let ring = (t.lie == Lie::Ring).then(|| CacheShape::ring_capacity(window, tokens));
        // Another slot's blocks lie between those of the tokens' slot.
        let (mut blocks, cache) = match t.lie {
            Lie::Blocks(chunks) => {
                let kind = (ty, kv_heads, head_dim);
                let (blocks, cache) = Blocks::among(kind, context, chunks, &mut rng, gpu.budget())?;
                (Some(blocks), cache)
            }
            _ => (None, cache_of(gpu, ty, (ring.unwrap_or(context), ring), (kv_heads, head_dim))?),
        };
        if let Some(blocks) = blocks.as_mut().filter(|_| window > 0) {
            blocks.release(1, (position + 1).saturating_sub(window));
        }
        let cache = if t.apart { cache.without_bias() } else { cache };
        if let Err(why) = variant.supports(gpu.caps(), &cache) {
            return Err(PlanError::Shape { op: "attention", what: why.into() }.into());
        }
        let mut q = rng.values((tokens * heads * head_dim) as usize);
        let [mut k, mut v] = [0, 1].map(|_| rng.values(context as usize * width));
        let hd = head_dim as usize;
        match content {
            Content::Usual => {}
            Content::Growing => {
                for (j, k) in k.chunks_exact_mut(width).enumerate() {
                    k.iter_mut().for_each(|k| *k *= 0.02 * j as f32);
                }
            }
            Content::Zeros => {
                q.chunks_exact_mut(hd).step_by(2).for_each(|q| q.fill(0.0));
                k.chunks_exact_mut(hd).step_by(3).for_each(|k| k.fill(0.0));
                v.chunks_exact_mut(hd).step_by(5).for_each(|v| v.fill(0.0));
            }
            Content::Extreme => {
                v.iter_mut().step_by(89).for_each(|v| *v = 65504.0f32.copysign(*v));
                k.iter_mut().step_by(83).for_each(|k| *k *= 1e-6);
                q.iter_mut().step_by(79).for_each(|q| *q = 1e-39);
            }
        }
        let first = if window == 0 { 0 } else { (position + 1).saturating_sub(window) };
        // Values that the cache holds exactly, as its bytes and as floats.
        let rounded = |values: &[f32]| -> (Vec<Vec<u8>>, Vec<f32>) {
            let place = |p: u32| match &blocks {
                Some(blocks) => blocks.place(1, p),
                None => ring.map_or(p, |r| p % r) as usize,
            };
            let mut places = vec![1e4; cache.context as usize * width];
            let seen = if blocks.is_some() { first / 32 * 32 } else { 0 };
            for p in seen..if t.lie == Lie::Order { context } else { position + tokens } {
                let from = &values[p as usize * width..][..width];
                places[place(p) * width..][..width].copy_from_slice(from);
            }
            let bytes = chunk_bytes(&cache, &places);
            let held: Vec<f32> =
                bytes.iter().enumerate().flat_map(|(i, b)| chunk_values(&cache, i, b)).collect();
            let row = |p: u32| &held[place(p) * width..][..width];
            let values = (0..position + tokens).flat_map(row).copied().collect();
            (bytes, values)
        };
        let ((k_bits, mut k), (v_bits, v)) = (rounded(&k), rounded(&v));
        let bias = Bias::new(&mut rng, t.apart, [kv_heads as usize, hd], (head_dim, position + tokens));
        bias.add(&mut k, ty);
        let q_rows = bias.behind(&q, ty, heads as usize * hd);
        let chunks = cache_on_gpu(gpu, &k_bits, &v_bits)?;
        let words = match &blocks {
            Some(blocks) => blocks.words(&[IDLE, 1, 2], (position, 1)),
            None => vec![position],
        };
        let state = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&words), "state")?;
        let q_gpu = input(gpu, &q_rows)?;
        let table = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&bias.table), "table")?;
        let scale = 1.0 / (head_dim as f32).sqrt();
        let shape = Shape { tokens, heads, window, scale, splits, sequences: Sequences::One };
        let (o_bytes, lse_bytes) = shape.scratch_bytes(&cache);
        let scratch = Scratch {
            o: gpu.alloc(Pool::Activations, o_bytes, "parts")?,
            lse: gpu.alloc(Pool::Activations, lse_bytes, "parts")?,
        };
        let o = Guarded::new(gpu, q.len(), None)?;
        let mut rec = Recorder::new(gpu);
        Attention {
            state: &state,
            q: &q_gpu,
            cache: &cache,
            chunks: &chunks,
            scratch: &scratch,
            table: &table,
            o: &o.slice,
            shape: &shape,
        }
        .record_as(&mut rec, variant)?;
        gpu.run(&rec.finish()?, None)?;
        let (at, h, kv) = (position as usize, heads as usize, kv_heads as usize);
        let scale = f64::from(scale);
        let want = super::reference::attention([&q, &k, &v], at, [h, kv, hd], scale, window as usize);
        o.compare(gpu, &spread(&want, ty, hd))
    })
    .of_type(ty.name())
}

/// The bias of keys that a cache keeps without it, or none.
struct Bias {
    /// `[kv_heads, head_dim]`; empty for none.
    values: Vec<f32>,
    head_dim: usize,
    rotation: Rotation,
    table: Vec<[f32; 2]>,
}

impl Bias {
    fn new(
        rng: &mut Rng,
        there: bool,
        [kv_heads, head_dim]: [usize; 2],
        (dims, positions): (u32, u32),
    ) -> Bias {
        let values = if there { rng.values(kv_heads * head_dim) } else { Vec::new() };
        let mut rotation = Rotation::new(dims, 1e4, None, Scaling::None, Pairing::HalfSplit);
        rotation.mscale = 1.25;
        let table = if there { rotation.table(positions) } else { vec![[0.0; 2]; 2] };
        Bias { values, head_dim, rotation, table }
    }

    /// Adds it to keys `[positions, kv_heads, head_dim]` as a cache of the type holds them.
    fn add(&self, k: &mut [f32], ty: CacheType) {
        let width = self.values.len();
        for (n, k) in (0..).zip(k.chunks_exact_mut(width.max(1))).filter(|_| width > 0) {
            let heads = width / self.head_dim;
            let b = turn_reference::turned(&self.values, None, 0.0, n, heads, self.head_dim, &self.rotation);
            k.iter_mut()
                .zip(spread(&b, ty, self.head_dim))
                .for_each(|(k, b)| *k = (f64::from(*k) + b) as f32);
        }
    }

    /// Queries `[tokens, width]`, turned as keys are, with the coefficients behind each head.
    fn behind(&self, q: &[f32], ty: CacheType, width: usize) -> Vec<f32> {
        if self.values.is_empty() {
            return q.to_vec();
        }
        let wide: Vec<f64> = q.iter().map(|&q| f64::from(q)).collect();
        let plain = spread(&wide, ty, self.head_dim);
        let of = |(q, plain): (&[f32], &[f64])| -> Vec<f32> {
            let c = turn_reference::coefficients(plain, &self.values, self.head_dim, &self.rotation);
            let heads = q.chunks_exact(self.head_dim).zip(c.chunks_exact(self.head_dim));
            heads.flat_map(|(q, c)| q.iter().copied().chain(c.iter().map(|&c| c as f32))).collect()
        };
        q.chunks_exact(width).zip(plain.chunks_exact(width)).flat_map(of).collect()
    }
}

/// A cache of so many places, as a ring or rings where there is a capacity.
fn cache_of(
    gpu: &Gpu,
    ty: CacheType,
    (places, ring): (u32, Option<u32>),
    (kv_heads, head_dim): (u32, u32),
) -> Result<CacheShape> {
    let cache = CacheShape::new(ty, places, kv_heads, head_dim, gpu.budget())?;
    Ok(match ring {
        Some(capacity) => cache.as_ring(capacity),
        None => cache,
    })
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
                let prefetch = decode::prefetch(ty);
                let split = decode::SplitConfig {
                    heads: per,
                    splits,
                    values: 8,
                    prefetch,
                    subgroups: decode::SUBGROUPS,
                };
                for lie in [Lie::Order, Lie::Blocks(1)] {
                    let (heads, at) = ((heads, kv_heads, head_dim), (position, window, lie));
                    all.push(decode_case(ty, heads, at, split, (norm, pairing)));
                }
            }
        }
    }
    for (values, prefetch) in [(8, 4), (16, 8), (32, 8)] {
        let split =
            decode::SplitConfig { heads: 2, splits: 3, values, prefetch, subgroups: decode::SUBGROUPS };
        let (ty, pairing) = (CacheType::Q8_0, Pairing::HalfSplit);
        for lie in [Lie::Order, Lie::Blocks(1)] {
            all.push(decode_case(ty, (4, 1, 64), (601, 0, lie), split, (true, pairing)));
        }
    }
    for ty in [CacheType::F16, CacheType::Q8_0] {
        let split = decode::SplitConfig {
            heads: 4,
            splits: 16,
            values: 8,
            prefetch: decode::prefetch(ty),
            subgroups: decode::SUBGROUPS,
        };
        for lie in [Lie::Order, Lie::Blocks(1)] {
            all.push(decode_case(ty, (8, 2, 128), (4095, 0, lie), split, (true, Pairing::HalfSplit)));
        }
    }
    // Gemma's heads, also in rings: before they are full, at the end of a lap, and after many.
    let split = decode::SplitConfig { heads: 4, splits: 2, values: 8, prefetch: 4, subgroups: 4 };
    let turned = (true, Pairing::HalfSplit);
    for (position, window) in [(0, 0), (300, 0), (600, 100)] {
        for lie in [Lie::Order, Lie::Blocks(1)] {
            all.push(decode_case(CacheType::F16, (4, 1, 256), (position, window, lie), split, turned));
        }
    }
    // Keys without their bias: one key, a round, many; in a ring. With two heads a workgroup from here on, since a
    // software GPU takes half a minute to compile four of integers; with one where heads are large.
    let split = decode::SplitConfig { heads: 2, ..split };
    let apart = (false, Pairing::HalfSplit);
    for (ty, heads) in
        [(CacheType::Q8_0, (7, 1, 64)), (CacheType::Q4_0, (8, 2, 128)), (CacheType::Q8_0, (7, 1, 32))]
    {
        let split = if heads.2 > 64 { decode::SplitConfig { heads: 1, ..split } } else { split };
        for at in [
            (0, 0, Lie::Order),
            (300, 0, Lie::Order),
            (1700, 0, Lie::Order),
            (1000, 100, Lie::Ring),
            (1000, 100, Lie::Blocks(1)),
            (700, 0, Lie::Blocks(1)),
        ] {
            all.push(decode_case_of(ty, heads, at, split, apart, true));
        }
    }
    for ty in CacheType::ALL {
        for position in [0, 40, 127, 128, 1000] {
            let heads = if position % 2 == 0 { (8, 1, 64) } else { (4, 1, 256) };
            let split = if heads.2 > 64 { decode::SplitConfig { heads: 1, ..split } } else { split };
            for lie in [Lie::Ring, Lie::Blocks(1)] {
                all.push(decode_case(ty, heads, (position, 100, lie), split, turned));
            }
        }
    }
    all
}

fn decode_case(
    ty: CacheType,
    heads: (u32, u32, u32),
    at: (u32, u32, Lie),
    split: decode::SplitConfig,
    turned: (bool, Pairing),
) -> Case {
    decode_case_of(ty, heads, at, split, turned, false)
}

fn decode_case_of(
    ty: CacheType,
    (heads, kv_heads, head_dim): (u32, u32, u32),
    (position, window, lie): (u32, u32, Lie),
    split: decode::SplitConfig,
    (norm, pairing): (bool, Pairing),
    apart: bool,
) -> Case {
    let what = if apart { "bias apart " } else { "" };
    let name = format!(
        "{what}heads {heads}/{kv_heads} x {head_dim} at {position} window {window} norm {norm} {pairing:?} split {} x {}{}",
        split.heads,
        split.splits,
        lie.name()
    );
    Case::new("attention", "decode", name, stored_tolerance(ty), move |gpu, _, seed| {
        let ring = (lie == Lie::Ring).then(|| CacheShape::ring_capacity(window, 1));
        let mut rng = Rng::seeded(heads * head_dim + position, seed);
        let (blocks, cache) = match lie {
            Lie::Blocks(chunks) => {
                let (kind, lengths) = ((ty, kv_heads, head_dim), [position + 9, 70]);
                let (mut blocks, cache) = Blocks::new(kind, &lengths, (0, chunks), &mut rng, gpu.budget())?;
                if window > 0 {
                    blocks.release(0, (position + 1).saturating_sub(window));
                }
                (Some(blocks), cache)
            }
            // Without splits a link of a chain is compiled for each room there is.
            _ => {
                let least = if split.splits == 1 { 112 } else { 0 };
                let room = ring.unwrap_or(position.max(least) + 9);
                (None, cache_of(gpu, ty, (room, ring), (kv_heads, head_dim))?)
            }
        };
        let context = cache.context;
        let place = |p: u32| match &blocks {
            Some(blocks) => blocks.place(0, p),
            None => ring.map_or(p, |r| p % r) as usize,
        };
        let cache = if apart { cache.without_bias() } else { cache };
        if let Err(why) = decode::supports(gpu.caps(), &cache) {
            return Err(PlanError::Shape { op: "attention", what: why.into() }.into());
        }
        let (hd, width) = (head_dim as usize, (kv_heads * head_dim) as usize);
        let (at, q_width) = (place(position) * width, (heads * head_dim) as usize);
        let qkv = rng.values(q_width + 2 * width);
        let bias = Bias::new(&mut rng, apart, [kv_heads as usize, hd], (head_dim, position + 1));
        let turned_by = Rotation::new(head_dim, 1e6, None, Scaling::None, pairing);
        let rotation = if apart { bias.rotation.clone() } else { turned_by };
        let weights = if apart { bias.values.clone() } else { rng.values(2 * hd) };
        let [held_k, held_v] = [0, 1].map(|_| chunk_bytes(&cache, &rng.values(context as usize * width)));
        let chunks = cache_on_gpu(gpu, &held_k, &held_v)?;

        let words = match &blocks {
            Some(blocks) => blocks.words(&[position, IDLE], (77, 1)),
            None => vec![position],
        };
        let state = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&words), "state")?;
        let table = rotation.table(position + 1);
        let table = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&table), "rope table")?;
        let norms = gpu.alloc_init(Pool::Weights, bytemuck::cast_slice(&weights), "norms")?;
        let qkv_gpu = input(gpu, &qkv)?;
        let scale = 1.0 / (head_dim as f32).sqrt();
        let (o_bytes, lse_bytes) =
            Shape { tokens: 1, heads, window, scale, splits: split.splits, sequences: Sequences::One }
                .scratch_bytes(&cache);
        let scratch = Scratch {
            o: gpu.alloc(Pool::Activations, o_bytes, "parts")?,
            lse: gpu.alloc(Pool::Activations, lse_bytes, "parts")?,
        };
        let o = Guarded::new(gpu, q_width, None)?;
        let s = decode::Shape {
            heads,
            cache: &cache,
            rotation: &rotation,
            eps: 1e-6,
            window,
            scale,
            split,
            positions: cache.context,
            tokens: 1,
            sequences: Sequences::One,
        };
        let mut rec = Recorder::new(gpu);
        let norms = (norm || apart).then_some(&norms);
        let step = Decode {
            state: &state,
            table: &table,
            norms,
            qkv: &qkv_gpu,
            cache: &chunks[0],
            scratch: &scratch,
            o: &o.slice,
            out: Format::F32,
            ints: None,
            shape: &s,
        };
        step.record(&mut rec)?;
        // Once more, as a link of a chain.
        let (q, meta) = quantize::bytes(q_width as u64);
        let ints = Quantized {
            q: gpu.alloc(Pool::Activations, q, "integers")?,
            meta: gpu.alloc(Pool::Activations, meta, "scales")?,
        };
        Decode { ints: Some(&ints), ..step }.record(&mut rec)?;
        gpu.run(&rec.finish()?, None)?;
        let ints = quantize::cases::values(&gpu.read_vec(&ints.q)?, &gpu.read_vec(&ints.meta)?);

        let turned = |x: &[f32], heads: u32, w: &[f32]| -> Vec<f32> {
            let (w, eps) = (norm.then_some(w), f64::from(1e-6f32));
            let all = turn_reference::turned(x, w, eps, position, heads as usize, hd, &rotation);
            spread(&all, ty, hd).into_iter().map(|v| v as f32).collect()
        };
        let kept = |x: &[f32]| decode_cache(&encode_cache(x, ty, hd), ty, kv_heads as usize, hd);
        let q = turned(&qkv[..q_width], heads, &weights[..hd]);
        let mut own_k = qkv[q_width..][..width].to_vec();
        own_k.iter_mut().zip(&bias.values).for_each(|(k, b)| *k -= b);
        let of_k = if norm { &weights[hd..] } else { &[] };
        let new_k = kept(&turned(&own_k, kv_heads, of_k));
        let new_v = kept(&spread_f32(&qkv[q_width + width..], ty, hd));
        let mut worst = 0.0f64;
        let mut with = |held: &[u8], new: &[f32], got: &Slice| -> Result<Vec<f32>> {
            let mut want = chunk_values(&cache, 0, held);
            want[at..][..width].copy_from_slice(new);
            let got = chunk_values(&cache, 0, &gpu.read_vec::<u8>(got)?);
            worst = worst.max(nmse(&got, &want.iter().map(|&v| f64::from(v)).collect::<Vec<_>>()));
            Ok((0..=position).flat_map(|p| &want[place(p) * width..][..width]).copied().collect())
        };
        let mut k = with(&held_k[0], &new_k, &chunks[0].0)?;
        bias.add(&mut k, ty);
        let v = with(&held_v[0], &new_v, &chunks[0].1)?;
        let (h, kv, scale) = (heads as usize, kv_heads as usize, f64::from(scale));
        let want =
            super::reference::attention([&q, &k, &v], position as usize, [h, kv, hd], scale, window as usize);
        let want = spread(&want, ty, hd);
        // Integers lose what 8 bits lose.
        let rounded = nmse(&ints[..q_width], &want) / 1e-3 * stored_tolerance(ty);
        Ok(worst.max(o.compare(gpu, &want)?).max(rounded))
    })
    .of_type(ty.name())
}

/// As [`spread`], of f32.
fn spread_f32(x: &[f32], ty: CacheType, head_dim: usize) -> Vec<f32> {
    let x: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
    spread(&x, ty, head_dim).into_iter().map(|v| v as f32).collect()
}

/// The tolerance of cases that compare what a step has stored: now and then a value rounds the other way.
fn stored_tolerance(ty: CacheType) -> f64 {
    match ty {
        CacheType::F32 | CacheType::F16 => 1e-6,
        CacheType::Q8_0 => 1e-5,
        CacheType::Q4_0 => 5e-4,
    }
}

/// A step of several slots, some of them idle, in one dispatch and by the ops of many: alone in the cache's
/// first positions, at the end of theirs, with splits and in a window. Then several tokens of each, those of the last
/// slot first.
fn slots_cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (ty, heads, kv_heads, head_dim) in [
        (CacheType::F16, 8, 2, 128),
        (CacheType::F16, 7, 1, 32),
        (CacheType::F32, 4, 4, 64),
        (CacheType::Q8_0, 8, 1, 64),
        (CacheType::Q4_0, 8, 1, 64),
    ] {
        for (positions, window, per, splits) in [
            (&[0, IDLE, 199, 3, 64][..], 0, 4, 1),
            (&[IDLE, 130, 0, IDLE], 0, 1, 3),
            (&[80, 7, 199], 50, 4, 2),
            // With windows whose blocks were left behind.
            (&[80, 7, IDLE, 63, 64, 999], 50, 4, 2),
        ] {
            let split = decode::SplitConfig {
                heads: per,
                splits,
                values: 8,
                prefetch: decode::prefetch(ty),
                subgroups: decode::SUBGROUPS,
            };
            let (shape, rows) = ((heads, kv_heads, head_dim), ("rows", Format::F32));
            all.push(slots_case(("decode", Format::F32), ty, shape, (positions, 1, false), window, split));
            if splits == 1 {
                for side in [8, 16] {
                    let tiles = ("decode", Format::Tiles { side });
                    all.push(slots_case(tiles, ty, shape, (positions, 1, false), window, split));
                }
            }
            for mixed in [false, true] {
                all.push(slots_case(rows, ty, shape, (positions, 1, mixed), window, split));
                all.push(slots_case(rows, ty, shape, (positions, 3, mixed), window, split));
            }
        }
    }
    all
}

/// Up to [`MIXED`] tokens of each slot, the last of them at its position: slot and position of each, those of the last
/// slot first, and one of each that is idle. The first comes as often as there are [`TOGETHER`] in turn.
fn last_tokens(positions: &[u32]) -> Vec<(usize, u32)> {
    let of = |(slot, &last): (usize, &u32)| {
        let first = if last == IDLE { IDLE } else { (last + 1).saturating_sub(MIXED) };
        let count = last - first + 1;
        let twice = std::iter::repeat_n(first, (count.next_multiple_of(TOGETHER) - count) as usize);
        twice.chain(first..=last).map(move |p| (slot, p))
    };
    positions.iter().enumerate().rev().flat_map(of).collect()
}

fn slots_case(
    (variant, out): (&'static str, Format),
    ty: CacheType,
    (heads, kv_heads, head_dim): (u32, u32, u32),
    (positions, pools, mixed): (&'static [u32], u32, bool),
    window: u32,
    split: decode::SplitConfig,
) -> Case {
    let at: Vec<String> =
        positions.iter().map(|&p| if p == IDLE { "idle".into() } else { p.to_string() }).collect();
    let name = format!(
        "heads {heads}/{kv_heads} x {head_dim} {} at {} window {window} split {} x {}{}",
        if mixed { "mixed" } else { "slots" },
        at.join(" "),
        split.heads,
        split.splits,
        Lie::Blocks(pools).name()
    );
    let name = if out == Format::F32 { name } else { format!("{name} out {}", out.name()) };
    Case::new("attention", variant, name, stored_tolerance(ty), move |gpu, _, seed| {
        let tokens = match mixed {
            false => positions.iter().copied().enumerate().collect(),
            true => last_tokens(positions),
        };
        let n = tokens.len();
        let most = positions.iter().filter(|&&p| p != IDLE).max().map_or(0, |p| p + 1);
        let context = 200;
        let mut rng = Rng::seeded(heads * head_dim + window, seed);
        // Slots share their first block where they are beyond it.
        let kind = (ty, kv_heads, head_dim);
        let lengths: Vec<u32> = positions.iter().map(|p| p.wrapping_add(1)).collect();
        let (mut blocks, cache) = Blocks::new(kind, &lengths, (1, pools), &mut rng, gpu.budget())?;
        // The last of a slot's tokens comes last; what the first of them sees is before all that the others do.
        let firsts = tokens.iter().rev().filter(|t| window > 0 && t.1 != IDLE);
        for (slot, first) in firsts.map(|&(slot, p)| (slot, p)).collect::<HashMap<_, _>>() {
            blocks.release(slot, (first + 1).saturating_sub(window));
        }
        let place = |slot: usize, p: u32| blocks.place(slot, p);
        let fused = variant == "decode";
        if let Some(why) = decode::supports(gpu.caps(), &cache).err().filter(|_| fused) {
            return Err(PlanError::Shape { op: "attention", what: why.into() }.into());
        }
        if out != Format::F32 && !gpu.caps().f16 {
            return Err(PlanError::Shape { op: "attention", what: "no f16".into() }.into());
        }
        let (hd, width) = (head_dim as usize, (kv_heads * head_dim) as usize);
        let q_width = (heads * head_dim) as usize;
        let rotation = Rotation::new(head_dim, 1e6, None, Scaling::None, Pairing::HalfSplit);
        let all = q_width + 2 * width;
        let mut qkv = rng.values(n * all);
        for i in (1..n).filter(|&i| tokens[i] == tokens[i - 1]) {
            qkv.copy_within((i - 1) * all..i * all, i * all);
        }
        let weights = rng.values(2 * hd);
        let held = [0, 1].map(|_| chunk_bytes(&cache, &rng.values(cache.context as usize * width)));
        let chunks = cache_on_gpu(gpu, &held[0], &held[1])?;

        let words = if mixed { blocks.words_mixed(&tokens) } else { blocks.words(positions, (77, 0)) };
        let state = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&words), "states")?;
        let table = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&rotation.table(most)), "table")?;
        let norms = gpu.alloc_init(Pool::Weights, bytemuck::cast_slice(&weights), "norms")?;
        let qkv_gpu = input(gpu, &qkv)?;
        let sequences = if mixed { Sequences::Mixed } else { Sequences::Slots { context } };
        let (count, scale) = (n as u32, 1.0 / (head_dim as f32).sqrt());
        let shape = Shape { tokens: count, heads, window, scale, splits: split.splits, sequences };
        let (o_bytes, lse_bytes) = shape.scratch_bytes(&cache);
        let scratch = Scratch {
            o: gpu.alloc(Pool::Activations, o_bytes, "parts")?,
            lse: gpu.alloc(Pool::Activations, lse_bytes, "parts")?,
        };
        let o_bytes = out.rows(count) * u64::from(heads * head_dim) * out.bytes();
        let o = Guarded::new(gpu, o_bytes as usize / 4, None)?;
        let mut rec = Recorder::new(gpu);
        let (norms, rotation, cache) = (Some(&norms), &rotation, &cache);
        if fused {
            let (eps, positions) = (1e-6, context);
            let s = decode::Shape {
                heads,
                cache,
                rotation,
                eps,
                window,
                scale,
                split,
                positions,
                tokens: count,
                sequences,
            };
            let kv = &chunks[0];
            Decode {
                state: &state,
                table: &table,
                norms,
                qkv: &qkv_gpu,
                cache: kv,
                scratch: &scratch,
                o: &o.slice,
                out,
                ints: None,
                shape: &s,
            }
            .record(&mut rec)?;
        } else {
            let q = Guarded::new(gpu, n * q_width, None)?;
            let s = qk_norm_rope::Shape { tokens: count, heads, cache, rotation, eps: 1e-6, sequences };
            QkNormRope {
                state: &state,
                table: &table,
                norms,
                qkv: &qkv_gpu,
                q: &q.slice,
                chunks: &chunks,
                shape: &s,
            }
            .record(&mut rec)?;
            let v = Variant::Rows;
            Attention {
                state: &state,
                q: &q.slice,
                cache,
                chunks: &chunks,
                scratch: &scratch,
                table: &table,
                o: &o.slice,
                shape: &shape,
            }
            .record_as(&mut rec, v)?;
        }
        gpu.run(&rec.finish()?, None)?;

        let turned = |x: &[f32], heads: u32, w: &[f32], position| -> Vec<f32> {
            let eps = f64::from(1e-6f32);
            let all = turn_reference::turned(x, Some(w), eps, position, heads as usize, hd, rotation);
            spread(&all, ty, hd).into_iter().map(|v| v as f32).collect()
        };
        let kept = |x: &[f32]| decode_cache(&encode_cache(x, ty, hd), ty, kv_heads as usize, hd);
        let values = |bytes: &[Vec<u8>]| -> Vec<f32> {
            bytes.iter().enumerate().flat_map(|(i, b)| chunk_values(cache, i, b)).collect()
        };
        let Some(got_o) = o.read_as(gpu, out, [count, heads * head_dim])? else { return Ok(f64::INFINITY) };
        let [mut k, mut v] = [values(&held[0]), values(&held[1])];
        let (mut got, mut want) = (Vec::new(), Vec::new());
        for (i, &(slot, position)) in tokens.iter().enumerate().filter(|t| t.1.1 != IDLE) {
            let qkv = &qkv[i * all..][..all];
            let q = turned(&qkv[..q_width], heads, &weights[..hd], position);
            let at = place(slot, position) * width;
            k[at..][..width].copy_from_slice(&kept(&turned(
                &qkv[q_width..][..width],
                kv_heads,
                &weights[hd..],
                position,
            )));
            v[at..][..width].copy_from_slice(&kept(&spread_f32(&qkv[q_width + width..], ty, hd)));
            let (h, kv, scale) = (heads as usize, kv_heads as usize, f64::from(scale));
            let of = |x: &[f32]| -> Vec<f32> {
                (0..=position).flat_map(|p| &x[place(slot, p) * width..][..width]).copied().collect()
            };
            let (k, v) = (of(&k), of(&v));
            let at = position as usize;
            let o = super::reference::attention([&q, &k, &v], at, [h, kv, hd], scale, window as usize);
            want.extend(spread(&o, ty, hd));
            got.extend_from_slice(&got_o[i * q_width..][..q_width]);
        }
        let mut worst = nmse(&got, &want);
        // What other slots hold, and what lies behind the positions, stays.
        for (want, which) in [(k, 0), (v, 1)] {
            let read = |c: &(Slice, Slice)| gpu.read_vec::<u8>(if which == 0 { &c.0 } else { &c.1 });
            let got = chunks.iter().map(read).collect::<std::result::Result<Vec<_>, _>>()?;
            let want: Vec<f64> = want.into_iter().map(f64::from).collect();
            worst = worst.max(nmse(&values(&got), &want));
        }
        Ok(worst)
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
            all.push(packed_case((heads, kv_heads, head_dim), lengths, 1.0, CAUSAL));
        }
    }
    all.push(packed_case((8, 4, 128), &[200, 113, 40], 1e-6, CAUSAL));
    all.push(packed_case((2, 1, 64), &[512, 1], 1.0, CAUSAL));
    for window in [2, 7, 33, 100] {
        all.push(packed_case((2, 1, 64), &[70, 1, 40, 130], 1.0, Mask::Causal { window }));
        all.push(packed_case((4, 2, 64), &[70, 1, 40, 130], 1.0, Mask::Full { window }));
    }
    all.push(packed_case((4, 1, 256), &[90, 33], 1.0, Mask::Causal { window: 20 }));
    for (heads, lengths) in [
        ((1, 1, 8), &[1][..]),
        ((12, 12, 32), &[5, 1, 140, 31]),
        ((4, 4, 64), &[9, 8, 7, 6, 5, 4, 3, 2, 1]),
        ((4, 1, 128), &[200, 113, 40]),
        ((2, 1, 256), &[33, 70]),
    ] {
        all.push(packed_case(heads, lengths, 1.0, Mask::Full { window: 0 }));
    }
    all.into_iter().flatten().collect()
}

const CAUSAL: Mask = Mask::Causal { window: 0 };

/// Forward and backward of a batch of sequences of `lengths`, with gradients of about `size`; forward alone of those
/// that see both ways.
fn packed_case(
    (heads, kv_heads, head_dim): (u32, u32, u32),
    lengths: &'static [u32],
    size: f32,
    mask: Mask,
) -> Vec<Case> {
    let mut name = format!("heads {heads}/{kv_heads} x {head_dim} sequences {lengths:?} gradients {size:e}");
    if mask != CAUSAL {
        name += &format!(" {mask:?}");
    }
    let scale = 1.0 / (head_dim as f32).sqrt();
    let shape = train::Shape { tokens: lengths.iter().sum(), heads, kv_heads, head_dim, scale, mask };
    let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|&v| f64::from(v)).collect() };
    let forward = move |gpu: &Gpu, seed: u64, variant: Variant| -> Result<f64> {
        let b = PackedBatch::new(gpu, &shape, lengths, seed)?;
        gpu.run(&b.attention(gpu, variant, &shape)?.finish()?, None)?;
        let [q, k, v, _] = b.values.each_ref().map(|x| wide(x));
        let (want_o, want_lse) = packed_reference(&shape, &b.keys).forward(&q, &k, &v);
        Ok(b.o.compare(gpu, &want_o)?.max(b.lse.compare(gpu, &want_lse)?))
    };
    let backward = move |gpu: &Gpu, seed: u64, variant: Variant| -> Result<Gradients> {
        let b = PackedBatch::new(gpu, &shape, lengths, seed)?;
        let [q, k, v, mut g] = b.values.each_ref().map(|x| x.clone());
        g.iter_mut().for_each(|g| *g *= size);
        let g_gpu = input(gpu, &g)?;
        let scratch = gpu.alloc(Pool::Activations, shape.scratch_bytes(), "scratch")?;
        let [dq, dk, dv] = [&q, &k, &v].map(|x| Guarded::new(gpu, x.len(), None));
        let out = [dq?, dk?, dv?];
        let grads = out.each_ref().map(|g| &g.slice);
        let (o, lse) = (&b.o.slice, &b.lse.slice);
        let mut rec = b.attention(gpu, variant, &shape)?;
        let qkv = b.qkv.each_ref();
        Backward {
            spans: &b.spans,
            qkv,
            o,
            lse,
            g: &g_gpu,
            scratch: &scratch,
            gradients: grads,
            shape: &shape,
        }
        .record_as(&mut rec, variant)?;
        gpu.run(&rec.finish()?, None)?;
        let (x, g, keys) = ([q, k, v].map(|x| wide(&x)), wide(&g), b.keys);
        let want = packed_reference(&shape, &keys).backward(&x[0], &x[1], &x[2], &g);
        let of = x.into_iter().zip(&out).zip(want);
        let of = of.map(|((x, got), want)| Gradient::read(gpu, x, got, want)).collect::<Result<_>>()?;
        let loss = move |x: &[&[f64]]| {
            let o = packed_reference(&shape, &keys).forward(x[0], x[1], x[2]).0;
            o.iter().zip(&g).map(|(o, g)| o * g).sum()
        };
        Ok(Gradients { of, loss: Box::new(loss) })
    };
    let mut all = Vec::new();
    // Few shapes where a shader takes seconds to compile; one of them has gradients too small for f16.
    let few = head_dim == 64 || head_dim == 128 && size < 1.0;
    for variant in Variant::ALL.into_iter().filter(|&v| v == Variant::Rows || few) {
        let tolerance = if variant.matrices() { 5e-4 } else { 1e-6 };
        all.push(Case::new(
            "attention_train",
            variant.name(),
            name.clone(),
            tolerance,
            move |gpu, _, seed| forward(gpu, seed, variant),
        ));
    }
    for variant in [Variant::Rows, Variant::Coop, Variant::CoopWide] {
        if matches!(mask, Mask::Causal { .. }) && (variant == Variant::Rows || few) {
            let tolerance = if variant == Variant::Rows { 1e-6 } else { 1e-3 };
            let name = name.clone();
            all.push(Case::backward(
                "attention_backward",
                variant.name(),
                name,
                tolerance,
                move |gpu, _, seed| backward(gpu, seed, variant),
            ));
        }
    }
    all
}

fn packed_reference<'a>(s: &train::Shape, keys: &'a [Range<usize>]) -> Packed<'a> {
    let (heads, kv_heads, head_dim) = (s.heads as usize, s.kv_heads as usize, s.head_dim as usize);
    Packed { keys, heads, kv_heads, head_dim, scale: s.scale.into() }
}

/// Inputs and outputs of attention within a training batch.
struct PackedBatch {
    /// The keys that each token sees.
    keys: Vec<Range<usize>>,
    spans: Slice,
    /// q, k, v and the gradient of o.
    values: [Vec<f32>; 4],
    qkv: [Slice; 3],
    o: Guarded,
    lse: Guarded,
}

impl PackedBatch {
    fn new(gpu: &Gpu, s: &train::Shape, lengths: &[u32], seed: u64) -> Result<PackedBatch> {
        let spans = spans(lengths);
        let mut rng = Rng::seeded(s.heads * s.head_dim + s.tokens, seed);
        let values = [s.heads, s.kv_heads, s.kv_heads, s.heads]
            .map(|heads| rng.values((s.tokens * heads * s.head_dim) as usize));
        let [q, k, v] = [0, 1, 2].map(|i: usize| input(gpu, &values[i]));
        Ok(PackedBatch {
            keys: super::reference::seen(&spans, s.mask),
            spans: gpu.alloc_init(Pool::State, bytemuck::cast_slice(&spans), "spans")?,
            qkv: [q?, k?, v?],
            o: Guarded::new(gpu, values[0].len(), None)?,
            lse: Guarded::new(gpu, (s.tokens * s.heads) as usize, None)?,
            values,
        })
    }

    /// The forward pass, recorded.
    fn attention(&self, gpu: &Gpu, variant: Variant, s: &train::Shape) -> Result<Recorder> {
        let mut rec = Recorder::new(gpu);
        let (o, lse) = (&self.o.slice, &self.lse.slice);
        train::attention_as(&mut rec, variant, &self.spans, self.qkv.each_ref(), o, lse, s)?;
        Ok(rec)
    }
}
