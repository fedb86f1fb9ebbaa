//! How fast attention is, at the head sizes of real models.

use weft_runtime::{Caps, Gpu, Pool, Recorder, Slice};

use super::{Effort, seconds};
use crate::layout::{CacheShape, CacheType, Format, Sequences};
use crate::ops::attention::backward::Backward;
use crate::ops::attention::decode::{self, Decode};
use crate::ops::attention::{Attention as Operands, Mask, Scratch, Shape, Variant, train};
use crate::ops::quantize::{self, Quantized};
use crate::ops::rope::{Pairing, Rotation, Scaling};
use crate::testing::Rng;
use crate::{PlanError, Result};

/// An attention to measure.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct Attention {
    pub how: How,
    pub ty: CacheType,
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
    /// Positions of the cache, the batch included.
    pub positions: u32,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum How {
    /// One token, QK-norm, RoPE and the cache write included, each step waiting for the one before.
    Decode(decode::SplitConfig),
    /// A batch of all positions.
    Prefill(Variant),
    /// A training batch of sequences of [`TRAINED`], packed.
    Train(Variant),
    /// The gradients of that.
    Backward(Variant),
}

/// Tokens of a sequence in a training batch.
const TRAINED: u32 = 512;

impl Attention {
    /// The op, as `weft kernels test` calls it.
    pub fn op(&self) -> &'static str {
        match self.how {
            How::Decode(_) | How::Prefill(_) => "attention",
            How::Train(_) => "attention_train",
            How::Backward(_) => "attention_backward",
        }
    }

    /// The name of the variant.
    pub fn variant(&self) -> &'static str {
        match self.how {
            How::Decode(_) => "decode",
            How::Prefill(v) | How::Train(v) | How::Backward(v) => v.name(),
        }
    }

    /// How a decode step is split: heads and splits, values a lane and loads ahead.
    pub fn split(&self) -> String {
        match self.how {
            How::Decode(c) => format!("{} x {}, {} x {}", c.heads, c.splits, c.values, c.prefetch),
            _ => String::new(),
        }
    }

    /// Heads, KV heads, head size, tokens and positions.
    pub fn shape(&self) -> String {
        let tokens = if matches!(self.how, How::Decode(_)) { 1 } else { self.positions };
        format!("{}/{} x {}: {tokens} on {}", self.heads, self.kv_heads, self.head_dim, self.positions)
    }

    /// Bytes of the cache that are read.
    pub fn bytes(&self) -> f64 {
        2.0 * self.ty.bytes(u64::from(self.positions) * u64::from(self.kv_heads), self.head_dim) as f64
    }

    /// Multiplications and additions, of a prefill those of visible keys only.
    pub fn flops(&self) -> f64 {
        let n = f64::from(self.positions);
        // It has five products in place of two.
        let (pairs, products) = match self.how {
            How::Decode(_) => (n, 2.0),
            How::Prefill(_) => (n * (n + 1.0) / 2.0, 2.0),
            How::Train(_) => (n * f64::from(TRAINED + 1) / 2.0, 2.0),
            How::Backward(_) => (n * f64::from(TRAINED + 1) / 2.0, 5.0),
        };
        2.0 * products * f64::from(self.heads) * f64::from(self.head_dim) * pairs
    }
}

/// Steps at several depths of the cache as they are picked, and prefills in every variant.
pub fn attentions(caps: &Caps, deepest: u32) -> Vec<Attention> {
    let mut all = Vec::new();
    for (shape, positions) in shapes(deepest) {
        for ty in [CacheType::F16, CacheType::Q8_0, CacheType::Q4_0] {
            let heads = [shape.heads, shape.kv_heads, shape.head_dim];
            let split = decode::SplitConfig::tuned(caps, heads, ty, positions, 1);
            all.push(Attention { how: How::Decode(split), ty, positions, ..shape });
        }
    }
    for head_dim in [64, 128] {
        for variant in Variant::ALL {
            let positions = 2048.min(deepest);
            all.push(Attention { how: How::Prefill(variant), positions, head_dim, ..LARGE });
        }
    }
    // A layer of a 1.7B model on 8 sequences.
    let batch = Attention {
        heads: 16,
        ty: CacheType::F32,
        positions: (8 * TRAINED).min(deepest.saturating_mul(2)),
        ..LARGE
    };
    all.extend(Variant::ALL.map(|v| Attention { how: How::Train(v), ..batch }));
    all.extend(
        [Variant::Rows, Variant::Coop, Variant::CoopWide]
            .map(|v| Attention { how: How::Backward(v), ..batch }),
    );
    all
}

/// Steps in every split that may win.
pub fn attention_cuts(deepest: u32) -> Vec<Attention> {
    let mut all = Vec::new();
    for (shape, positions) in shapes(deepest) {
        for ty in [CacheType::F16, CacheType::Q8_0] {
            for (heads, splits) in [(1, 1), (1, 4), (1, 8), (2, 8), (2, 16), (4, 16), (4, 32)] {
                // Neither fewer keys than a round has nor more rounds than anybody waits for.
                if splits > 1 && splits * 128 > positions || splits < positions / 2048 {
                    continue;
                }
                for (values, prefetch) in [(8, 8), (8, 4), (16, 8), (16, 4), (32, 8)] {
                    let how = How::Decode(decode::SplitConfig {
                        heads,
                        splits,
                        values,
                        prefetch,
                        subgroups: decode::SUBGROUPS,
                    });
                    all.push(Attention { how, ty, positions, ..shape });
                }
            }
        }
    }
    all
}

pub(super) const LARGE: Attention = Attention {
    how: How::Prefill(Variant::Rows),
    ty: CacheType::F16,
    heads: 32,
    kv_heads: 8,
    head_dim: 128,
    positions: 0,
};

/// The heads of 4B and 1B models at several depths.
fn shapes(deepest: u32) -> Vec<(Attention, u32)> {
    let depths = [128, 1024, 4096, 16_384].into_iter().filter(|&n| n <= deepest);
    let of = |n| [128, 64].map(|head_dim| (Attention { head_dim, ..LARGE }, n));
    depths.flat_map(of).collect()
}

/// Seconds of one attention.
///
/// # Errors
/// [`crate::Error::Plan`] where the device lacks what the variant needs; out of memory; a fault.
pub fn attention(gpu: &Gpu, effort: &Effort, a: &Attention) -> Result<f64> {
    if let How::Train(variant) | How::Backward(variant) = a.how {
        return packed(gpu, effort, a, variant);
    }
    Prepared::new(gpu, effort, a, false)?.seconds(gpu, effort, a.how)
}

/// An attention with all that it reads and writes.
pub(super) struct Prepared {
    a: Attention,
    dispatches: usize,
    cache: CacheShape,
    caches: Vec<Vec<(Slice, Slice)>>,
    rotation: Rotation,
    table: Slice,
    norms: Slice,
    state: Slice,
    q: Slice,
    scratch: Scratch,
    o: Slice,
    ints: Option<Quantized>,
}

impl Prepared {
    /// A decode step in any split; with `ints`, as in a chain, whose next product reads integers.
    pub(super) fn new(gpu: &Gpu, effort: &Effort, a: &Attention, ints: bool) -> Result<Prepared> {
        let cache = CacheShape::new(a.ty, a.positions, a.kv_heads, a.head_dim, gpu.budget())?;
        let (tokens, lacking, dispatches) = match a.how {
            How::Decode(_) => (1, decode::supports(gpu.caps(), &cache), effort.dispatches.min(36)),
            How::Prefill(v) | How::Train(v) | How::Backward(v) => {
                (a.positions, v.supports(gpu.caps(), &cache), effort.sets.min(4))
            }
        };
        if let Err(why) = lacking {
            return Err(PlanError::Shape { op: "attention", what: why.into() }.into());
        }
        let splits = if let How::Decode(split) = a.how { split.splits.max(decode::MAX_SPLITS) } else { 1 };
        let scale = 1.0 / (a.head_dim as f32).sqrt();
        let shape = Shape { tokens, heads: a.heads, window: 0, scale, splits, sequences: Sequences::One };
        let mut rng = Rng::new(1);
        let mut random = |n: u64| -> Vec<u16> {
            let some: Vec<u16> = (0..1 << 14).map(|_| half::f16::from_f32(rng.normal()).to_bits()).collect();
            some.into_iter().cycle().take(n as usize / 2).collect()
        };
        // As many caches as the device's own cannot hold, each in chunks.
        let copies = ((effort.distinct as f64 / a.bytes()).ceil() as usize).clamp(1, dispatches);
        let mut caches: Vec<Vec<(Slice, Slice)>> = Vec::with_capacity(copies);
        for _ in 0..copies {
            let chunk = |i| -> Result<(Slice, Slice)> {
                let bits = random(cache.chunk_bytes(i));
                let fill = || gpu.alloc_init(Pool::KvCache, bytemuck::cast_slice(&bits), "perf cache");
                Ok((fill()?, fill()?))
            };
            caches.push((0..cache.chunks()).map(chunk).collect::<Result<_>>()?);
        }
        let rotation = Rotation::new(a.head_dim, 1e6, None, Scaling::None, Pairing::HalfSplit);
        let table = rotation.table(a.positions);
        let table = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&table), "perf table")?;
        let norms = vec![1.0f32; 2 * a.head_dim as usize];
        let norms = gpu.alloc_init(Pool::Weights, bytemuck::cast_slice(&norms), "perf norms")?;
        let position = a.positions - tokens;
        let state = gpu.alloc_init(Pool::State, bytemuck::bytes_of(&position), "perf state")?;
        let width = u64::from(tokens) * u64::from(a.heads + 2 * a.kv_heads) * u64::from(a.head_dim) * 4;
        let values: Vec<f32> = random(width / 2).iter().map(|&b| half::f16::from_bits(b).to_f32()).collect();
        let q = gpu.alloc_init(Pool::Activations, bytemuck::cast_slice(&values), "perf q")?;
        let (o_bytes, lse_bytes) = shape.scratch_bytes(&cache);
        let scratch = Scratch {
            o: gpu.alloc(Pool::Activations, o_bytes, "perf parts")?,
            lse: gpu.alloc(Pool::Activations, lse_bytes, "perf parts")?,
        };
        let row = u64::from(tokens) * u64::from(a.heads) * u64::from(a.head_dim) * 4;
        let o = gpu.alloc(Pool::Activations, row, "perf o")?;
        let ints = match ints {
            true => {
                let (q, meta) = quantize::bytes(row / 4);
                let q = gpu.alloc(Pool::Activations, q, "perf o")?;
                Some(Quantized { q, meta: gpu.alloc(Pool::Activations, meta, "perf o")? })
            }
            false => None,
        };
        Ok(Prepared { a: *a, dispatches, cache, caches, rotation, table, norms, state, q, scratch, o, ints })
    }

    /// Has all of these compiled side by side: a GPU that waits for the compiler slows its clock.
    pub(super) fn compile(&self, gpu: &Gpu, splits: impl Iterator<Item = decode::SplitConfig>) -> Result<()> {
        let mut rec = Recorder::new(gpu);
        splits.into_iter().try_for_each(|split| self.record(&mut rec, How::Decode(split), &self.caches[0]))
    }

    /// Seconds of one.
    pub(super) fn seconds(&self, gpu: &Gpu, effort: &Effort, how: How) -> Result<f64> {
        let mut rec = Recorder::new(gpu);
        for chunks in self.caches.iter().cycle().take(self.dispatches) {
            self.record(&mut rec, how, chunks)?;
        }
        seconds(gpu, effort, &rec.finish()?, self.dispatches)
    }

    fn record(&self, rec: &mut Recorder, how: How, chunks: &[(Slice, Slice)]) -> Result<()> {
        let Prepared { a, cache, rotation, table, norms, state, q, scratch, o, .. } = self;
        let scale = 1.0 / (a.head_dim as f32).sqrt();
        match how {
            How::Decode(split) => {
                let s = decode::Shape {
                    heads: a.heads,
                    cache,
                    rotation,
                    eps: 1e-6,
                    window: 0,
                    scale,
                    split,
                    positions: a.positions,
                    tokens: 1,
                    sequences: Sequences::One,
                };
                let ints = self.ints.as_ref();
                let (norms, qkv, cache, shape) = (Some(norms), q, &chunks[0], &s);
                let out = Format::F32;
                Decode { state, table, norms, qkv, cache, scratch, o, out, ints, shape }.record(rec)
            }
            How::Prefill(variant) | How::Train(variant) | How::Backward(variant) => {
                let q = q.range(0, o.size());
                let (tokens, heads) = (a.positions, a.heads);
                let shape = Shape { tokens, heads, window: 0, scale, splits: 1, sequences: Sequences::One };
                Operands { state, q: &q, cache, chunks, scratch, table, o, shape: &shape }
                    .record_as(rec, variant)
            }
        }
    }
}

/// Seconds of a training batch's attention, or of its gradients.
fn packed(gpu: &Gpu, effort: &Effort, a: &Attention, variant: Variant) -> Result<f64> {
    let s = train::Shape {
        tokens: a.positions,
        heads: a.heads,
        kv_heads: a.kv_heads,
        head_dim: a.head_dim,
        scale: 1.0 / (a.head_dim as f32).sqrt(),
        mask: Mask::Causal { window: 0 },
    };
    let span = |t: u32| {
        let first = t / TRAINED * TRAINED;
        [first, (first + TRAINED).min(a.positions)]
    };
    let spans: Vec<[u32; 2]> = (0..a.positions).map(span).collect();
    let spans = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&spans), "perf spans")?;
    let mut rng = Rng::new(1);
    let some: Vec<f32> = (0..1 << 14).map(|_| rng.normal()).collect();
    let tensor = |heads: u32| {
        let n = (a.positions * heads * a.head_dim) as usize;
        let values: Vec<f32> = some.iter().copied().cycle().take(n).collect();
        gpu.alloc_init(Pool::Activations, bytemuck::cast_slice(&values), "perf tensor")
    };
    let [q, o, g, dq] = [0; 4].map(|_| tensor(a.heads));
    let [k, v, dk, dv] = [0; 4].map(|_| tensor(a.kv_heads));
    let (q, o, g, dq, k, v, dk, dv) = (q?, o?, g?, dq?, k?, v?, dk?, dv?);
    let lse = gpu.alloc(Pool::Activations, s.lse_bytes(), "perf lse")?;
    let scratch = gpu.alloc(Pool::Activations, s.scratch_bytes(), "perf scratch")?;
    let (qkv, gradients) = ([&q, &k, &v], [&dq, &dk, &dv]);
    // The gradients want what the forward pass keeps.
    let mut rec = Recorder::new(gpu);
    train::attention_as(&mut rec, variant, &spans, qkv, &o, &lse, &s)?;
    gpu.run(&rec.finish()?, None)?;
    let mut rec = Recorder::new(gpu);
    let dispatches = effort.sets.min(4);
    for _ in 0..dispatches {
        match a.how {
            How::Backward(_) => {
                Backward {
                    spans: &spans,
                    qkv,
                    o: &o,
                    lse: &lse,
                    g: &g,
                    scratch: &scratch,
                    gradients,
                    shape: &s,
                }
                .record_as(&mut rec, variant)?;
            }
            _ => train::attention_as(&mut rec, variant, &spans, qkv, &o, &lse, &s)?,
        }
    }
    seconds(gpu, effort, &rec.finish()?, dispatches)
}
