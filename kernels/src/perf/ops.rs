//! How fast the ops between the products are, at the sizes of a 4B model: most of them read and write
//! memory and do little else.

use weft_runtime::{DeviceKind, Gpu, Pool, Recorder, Slice};

use super::{Effort, seconds, weights};
use crate::ops::activation::Activation;
use crate::ops::attention::{CacheShape, CacheType, Sequences};
use crate::ops::matmul::{Columns, Variant};
use crate::ops::quantize::{self, Quantized};
use crate::ops::rope::{Pairing, Rotation, Scaling};
use crate::ops::sample::{Sample, State, scratch_bytes};
use crate::ops::split_k::sum_splits;
use crate::ops::strengths::Strengths;
use crate::ops::{
    Format, activation, adamw, add, cast, cross_entropy, dropout, embed, gather, glu, hadamard, imatrix,
    layernorm, lora, pooling, qk_norm_rope, rmsnorm, rope, softcap, strengths, tile,
};
use crate::select::BASELINE;
use crate::testing::{Rng, spans};
use crate::{PlanError, Result, WeightType};

/// Records one call.
pub(super) type Call = Box<dyn Fn(&mut Recorder) -> Result<()>>;

/// An op to measure.
pub struct Op {
    /// The op, as `weft kernels test` calls it.
    pub op: &'static str,
    /// Its variant.
    pub variant: &'static str,
    /// The type it reads or writes besides f32.
    pub ty: Option<&'static str>,
    /// What is computed.
    pub shape: String,
    /// Bytes that have to be read and written.
    pub bytes: f64,
    /// Operations, roughly.
    pub flops: f64,
    /// So many calls, each with buffers of its own.
    pub(super) calls: Box<dyn Fn(&Gpu, usize) -> Result<Vec<Call>>>,
}

/// Width, feed-forward, query heads, KV heads, size of a head, vocabulary.
const WIDTH: u32 = 2560;
const FORWARD: u32 = 9728;
const HEADS: u32 = 32;
const KV_HEADS: u32 = 8;
const HEAD_DIM: u32 = 128;
const VOCABULARY: u32 = 151_936;
const RANK: u32 = 16;

/// An uninitialised buffer of f32: what is computed with does not matter here.
pub(super) fn f32s(gpu: &Gpu, n: u32) -> Result<Slice> {
    Ok(gpu.alloc(Pool::Activations, u64::from(n) * 4, "perf op")?)
}

pub(super) fn u32s(gpu: &Gpu, values: &[u32]) -> Result<Slice> {
    Ok(gpu.alloc_init(Pool::State, bytemuck::cast_slice(values), "perf op")?)
}

fn rotation() -> Rotation {
    Rotation::new(HEAD_DIM, 1e6, None, Scaling::None, Pairing::HalfSplit)
}

fn table(gpu: &Gpu, positions: u32) -> Result<Slice> {
    let table = rotation().table(positions);
    Ok(gpu.alloc_init(Pool::State, bytemuck::cast_slice(&table), "perf table")?)
}

pub(super) fn op(
    op: &'static str,
    shape: String,
    bytes: f64,
    flops: f64,
    call: impl Fn(&Gpu) -> Result<Call> + 'static,
) -> Op {
    let calls = move |gpu: &Gpu, n| (0..n).map(|_| call(gpu)).collect();
    Op { op, variant: BASELINE, ty: None, shape, bytes, flops, calls: Box::new(calls) }
}

/// Every op that is no product and no attention, and the products of a decode step's chain.
pub fn ops(kind: DeviceKind) -> Vec<Op> {
    // A software GPU would take half a minute for a model's own sizes.
    let software = kind == DeviceKind::Cpu;
    let n: u32 = if software { 16 } else { 512 };
    let mut all = Vec::new();
    all.extend(WeightType::ALL.iter().map(|&ty| embedded(ty, n)));
    all.extend([Format::F32, Format::F16, TILES].into_iter().flat_map(|f| elementwise(f, n)));
    all.extend(around_norms(n));
    all.push(hadamard(n));
    all.extend(around_attention(n));
    all.extend(training(n));
    // Qwen3-30B-A3B has 128.
    let experts = if software { 16 } else { 128 };
    all.extend(super::experts::ops(super::experts::Size { tokens: n, experts }));
    let widths = if software { [768, 512, 1024] } else { [6144, WIDTH, FORWARD] };
    all.extend(super::chain::ops(widths));
    all
}

fn embedded(ty: WeightType, n: u32) -> Op {
    let row = ty.row_bytes(WIDTH as usize) as f64 + 4.0 * f64::from(WIDTH);
    let call = move |gpu: &Gpu| -> Result<Call> {
        let w = weights(gpu, (ty, 8 * n, WIDTH), 1)?.remove(0);
        let mut rng = Rng::new(1);
        let ids: Vec<u32> = (0..n).map(|_| rng.below(8 * n as usize) as u32).collect();
        let (ids, y) = (u32s(gpu, &ids)?, f32s(gpu, n * WIDTH)?);
        Ok(Box::new(move |rec| embed::Embed::new(&w, &ids, &y, n).record(rec)))
    };
    let values = f64::from(n * WIDTH);
    Op {
        ty: Some(ty.name()),
        ..op("embed", format!("{n} of {} x {WIDTH}", 8 * n), f64::from(n) * row, values, call)
    }
}

fn elementwise(out: Format, n: u32) -> Vec<Op> {
    let values = n * WIDTH;
    let (v, written) = (f64::from(values), out.bytes() as f64);
    let norm = op("rmsnorm", format!("{n} x {WIDTH}"), v * (4.0 + written), 4.0 * v, move |gpu| {
        let (x, w, y) = (f32s(gpu, values)?, f32s(gpu, WIDTH)?, f32s(gpu, values)?);
        let w = gpu.alloc(Pool::Weights, w.size(), "perf op")?;
        Ok(Box::new(move |rec| rmsnorm::rmsnorm_to(rec, &x, &w, (&y, out), n, WIDTH, 1e-6)))
    });
    // The parts are those that a few slots have.
    let rows = n.min(32);
    let v = f64::from(rows * WIDTH);
    let moved = v * (4.0 * 7.0 + written);
    let summed = op("rmsnorm_summed", format!("5 x {rows} x {WIDTH}"), moved, 9.0 * v, move |gpu| {
        let (parts, x, y) =
            (f32s(gpu, 5 * rows * WIDTH)?, f32s(gpu, rows * WIDTH)?, f32s(gpu, rows * WIDTH)?);
        let w = gpu.alloc(Pool::Weights, u64::from(WIDTH) * 4, "perf op")?;
        Ok(Box::new(move |rec| {
            let norm = rmsnorm::Norm { w: &w, eps: 1e-6, to: (&y, out) };
            rmsnorm::summed(rec, &parts, &x, norm, [5, rows, WIDTH])
        }))
    });
    let gated = f64::from(n * FORWARD);
    let glu = op("glu", format!("{n} x {FORWARD}"), gated * (8.0 + written), 6.0 * gated, move |gpu| {
        let (x, y) = (f32s(gpu, 2 * n * FORWARD)?, f32s(gpu, n * FORWARD)?);
        Ok(Box::new(move |rec| {
            glu::Glu { x: &x, y: &y, out, act: Activation::Silu, tokens: n, width: FORWARD }.record(rec)
        }))
    });
    let moved = gated * (4.0 + written);
    let activation = op("activation", format!("{n} x {FORWARD}"), moved, 8.0 * gated, move |gpu| {
        let (x, y) = (f32s(gpu, n * FORWARD)?, f32s(gpu, n * FORWARD)?);
        Ok(Box::new(move |rec| {
            let act = Activation::GeluErf;
            activation::Activate { x: &x, y: &y, out, act, tokens: n, width: FORWARD }.record(rec)
        }))
    });
    let variant = written_as(out);
    let all = [norm, summed, glu, activation].map(|o| Op { variant, ..o });
    all.into()
}

/// Tiles as most devices with matrices have them.
const TILES: Format = Format::Tiles { side: 16 };

/// The variant that writes a format.
fn written_as(out: Format) -> &'static str {
    match out {
        Format::F32 => BASELINE,
        Format::F16 => "out_f16",
        Format::Tiles { .. } => "out_tiles",
    }
}

/// Norms of other models than Llama's, and what lies behind their last.
fn around_norms(n: u32) -> Vec<Op> {
    let (values, shape) = (n * WIDTH, format!("{n} x {WIDTH}"));
    let v = f64::from(values);
    let layernorm = |out: Format| {
        let moved = v * (8.0 + out.bytes() as f64);
        let variant = written_as(out);
        let op = op("layernorm", shape.clone(), moved, 9.0 * v, move |gpu| {
            let [x, r, y] = [0; 3].map(|_| f32s(gpu, values));
            let (x, r, y) = (x?, r?, y?);
            let wb = gpu.alloc(Pool::Weights, u64::from(WIDTH) * 8, "perf op")?;
            Ok(Box::new(move |rec| {
                let (rows, cols, residual) = (n, WIDTH, Some(&r));
                layernorm::LayerNorm { x: &x, residual, wb: &wb, y: &y, out, rows, cols, eps: 1e-12 }
                    .record(rec)
            }))
        });
        Op { variant, ..op }
    };
    vec![
        layernorm(Format::F32),
        layernorm(Format::F16),
        layernorm(TILES),
        op("tile", shape.clone(), v * 6.0, v, move |gpu| {
            let (x, y) = (f32s(gpu, values)?, f32s(gpu, values)?);
            Ok(Box::new(move |rec| {
                let (columns, rows, cols) = (Columns::all(WIDTH), n, WIDTH);
                let from = Format::F32;
                tile::Tile { x: &x, from, columns, y: &y, rows, cols, side: 16, scale: 1.0 }.record(rec)
            }))
        }),
        op("rmsnorm_add", shape.clone(), v * 12.0, 5.0 * v, move |gpu| {
            let (x, y) = (f32s(gpu, values)?, f32s(gpu, values)?);
            let w = gpu.alloc(Pool::Weights, u64::from(WIDTH) * 4, "perf op")?;
            Ok(Box::new(move |rec| {
                rmsnorm::PostNorm { y: &y, w: &w, x: &x, rows: n, cols: WIDTH, eps: 1e-6 }.record(rec)
            }))
        }),
        op("pool", format!("4 x {} x {WIDTH}", n / 4), v * 4.0, v, move |gpu| {
            let (x, y) = (f32s(gpu, values)?, f32s(gpu, 4 * WIDTH)?);
            let bounds: Vec<u32> = (0..4).flat_map(|i| [i * n / 4, (i + 1) * n / 4]).collect();
            let bounds = u32s(gpu, &bounds)?;
            Ok(Box::new(move |rec| {
                let (pooling, tokens, sequences, width) = (pooling::Pooling::Mean, n, 4, WIDTH);
                pooling::PoolRows { x: &x, bounds: &bounds, y: &y, pooling, tokens, sequences, width }
                    .record(rec)
            }))
        }),
        op("normalize", shape.clone(), v * 8.0, 4.0 * v, move |gpu| {
            let x = f32s(gpu, values)?;
            Ok(Box::new(move |rec| pooling::Normalize { x: &x, rows: n, cols: WIDTH }.record(rec)))
        }),
        op("softcap", shape, v * 8.0, 8.0 * v, move |gpu| {
            let x = f32s(gpu, values)?;
            Ok(Box::new(move |rec| softcap::Softcap { x: &x, rows: n, cols: WIDTH, cap: 30.0 }.record(rec)))
        }),
        strengths(n),
    ]
}

/// What lies between the products of four adapters of rank 16, each row with strengths of its own.
fn strengths(n: u32) -> Op {
    let (rank, adapters) = (64, 4);
    let values = f64::from(n * rank);
    op("strengths", format!("{n} x {rank} of {adapters}"), values * 8.0, values, move |gpu| {
        let (t, strengths) = (f32s(gpu, n * rank)?, f32s(gpu, n * adapters)?);
        let owners: Vec<u32> = (0..rank).map(|r| r / (rank / adapters)).collect();
        let owners = gpu.alloc_init(Pool::Adapters, bytemuck::cast_slice(&owners), "perf op")?;
        let shape = strengths::Shape { rows: n, rank, adapters, first: 0, step: 1 };
        Ok(Box::new(move |rec| {
            Strengths { t: &t, strengths: &strengths, owners: &owners, shape }.record(rec)
        }))
    })
}

/// Queries turned by a Hadamard matrix, as caches of few bits have them.
fn hadamard(n: u32) -> Op {
    let (cols, values) = (HEADS * HEAD_DIM, f64::from(n * HEADS * HEAD_DIM));
    // Each value takes part in as many sums as the side has bits.
    op("hadamard", format!("{n} x {HEADS} x {HEAD_DIM}"), values * 8.0, values * 7.0, move |gpu| {
        let x = f32s(gpu, n * cols)?;
        Ok(Box::new(move |rec| hadamard::Hadamard { x: &x, rows: n, cols, side: HEAD_DIM }.record(rec)))
    })
}

/// Integers, rotation, heads, the draw.
fn around_attention(n: u32) -> Vec<Op> {
    let values = n * WIDTH;
    let v = f64::from(values);
    let quantize = op("quantize", format!("{n} x {WIDTH}"), v * 5.5, 4.0 * v, move |gpu| {
        let x = f32s(gpu, values)?;
        let (q, meta) = quantize::bytes(values.into());
        let [q, meta] = [q, meta].map(|bytes| gpu.alloc(Pool::Activations, bytes, "perf op"));
        let out = Quantized { q: q?, meta: meta? };
        Ok(Box::new(move |rec| quantize::quantize(rec, &x, &out, values)))
    });
    let turned = n * HEADS * HEAD_DIM;
    let rope = op(
        "rope",
        format!("{n} x {HEADS} x {HEAD_DIM}"),
        f64::from(turned) * 8.0,
        f64::from(turned) * 3.0,
        move |gpu| {
            let (state, table, x) = (u32s(gpu, &[0])?, table(gpu, n)?, f32s(gpu, turned)?);
            Ok(Box::new(move |rec| {
                let (state, table, x, rotation) = (&state, &table, &x, &rotation());
                rope::Rope { state, table, x, tokens: n, heads: HEADS, head_dim: HEAD_DIM, rotation }
                    .record(rec)
            }))
        },
    );
    let mut all = vec![quantize, rope];
    all.extend(CacheType::ALL.map(|ty| heads(n, ty)));
    all.extend([("greedy", 0.0, 0), ("top-k 40, top-p 0.95", 0.8, 40)].map(sample));
    all
}

/// Norm and rotation of heads, to a cache of a type.
fn heads(n: u32, ty: CacheType) -> Op {
    let rows = u64::from(n) * u64::from(KV_HEADS);
    let bytes =
        f64::from((2 * HEADS + 2 * KV_HEADS) * HEAD_DIM * n) * 4.0 + 2.0 * ty.bytes(rows, HEAD_DIM) as f64;
    let flops = f64::from((HEADS + KV_HEADS) * HEAD_DIM * n) * 7.0;
    let shape = format!("{n} x {HEADS}/{KV_HEADS} x {HEAD_DIM}");
    let call = move |gpu: &Gpu| -> Result<Call> {
        let cache = CacheShape::new(ty, n, KV_HEADS, HEAD_DIM, gpu.budget())?;
        let (state, table) = (u32s(gpu, &[0])?, table(gpu, n)?);
        let norms = gpu.alloc(Pool::Weights, u64::from(HEAD_DIM) * 8, "perf op")?;
        let qkv = f32s(gpu, (HEADS + 2 * KV_HEADS) * HEAD_DIM * n)?;
        let q = f32s(gpu, n * HEADS * HEAD_DIM)?;
        let chunk = |i| -> Result<(Slice, Slice)> {
            let half = || gpu.alloc(Pool::KvCache, cache.chunk_bytes(i), "perf op");
            Ok((half()?, half()?))
        };
        let chunks = (0..cache.chunks()).map(chunk).collect::<Result<Vec<_>>>()?;
        Ok(Box::new(move |rec| {
            let rotation = rotation();
            let sequences = Sequences::One;
            let s = qk_norm_rope::Shape {
                tokens: n,
                heads: HEADS,
                cache: &cache,
                rotation: &rotation,
                eps: 1e-6,
                sequences,
            };
            qk_norm_rope::QkNormRope {
                state: &state,
                table: &table,
                norms: Some(&norms),
                qkv: &qkv,
                q: &q,
                chunks: &chunks,
                shape: &s,
            }
            .record(rec)
        }))
    };
    Op { ty: Some(ty.name()), ..op("qk_norm_rope", shape, bytes, flops, call) }
}

/// A draw from logits.
fn sample((name, temperature, top_k): (&'static str, f32, u32)) -> Op {
    let bytes = f64::from(VOCABULARY) * 4.0;
    op("sample", format!("1 x {VOCABULARY}, {name}"), bytes, f64::from(VOCABULARY), move |gpu| {
        let mut rng = Rng::new(1);
        let logits: Vec<f32> = (0..VOCABULARY).map(|_| rng.normal() * 3.0).collect();
        let logits = gpu.alloc_init(Pool::Activations, bytemuck::cast_slice(&logits), "perf op")?;
        let state = State { temperature, top_k, top_p: 0.95, penalty: 1.0, ..bytemuck::Zeroable::zeroed() };
        let state = gpu.alloc_init(Pool::State, bytemuck::bytes_of(&state), "perf op")?;
        let maxima = gpu.alloc(Pool::Activations, scratch_bytes(VOCABULARY, 1), "perf op")?;
        // Positions count up with every draw.
        let (ids, history) = (u32s(gpu, &[0])?, gpu.alloc(Pool::State, 16 << 20, "perf op")?);
        Ok(Box::new(move |rec| {
            Sample {
                state: &state,
                logits: &logits,
                maxima: &maxima,
                ids: &ids,
                history: &history,
                vocab: VOCABULARY,
                slots: 1,
                tokens: 1,
            }
            .record(rec)
        }))
    })
}

/// What training adds.
fn training(n: u32) -> Vec<Op> {
    let values = n * WIDTH;
    let v = f64::from(values);
    let gated = f64::from(n * FORWARD);
    let shape = format!("{n} x {WIDTH}");
    let glu_gradient = |tiles: bool| {
        let of = op("glu_backward", format!("{n} x {FORWARD}"), gated * 20.0, 12.0 * gated, move |gpu| {
            let [x, dy, dx] = [2 * n, n, n.next_multiple_of(16)].map(|rows| f32s(gpu, rows * FORWARD));
            let (x, dy, dx) = (x?, dy?, dx?);
            Ok(Box::new(move |rec| {
                let (in_tiles, act) =
                    (glu::GluGradient::Tiles { dx: &dx, side: 16, scale: 1.0 }, Activation::Silu);
                let to = if tiles { in_tiles } else { glu::GluGradient::InPlace };
                glu::GluBackward { x: &x, dy: &dy, to, act, tokens: n, width: FORWARD }.record(rec)
            }))
        });
        Op { variant: if tiles { "out_tiles" } else { BASELINE }, ..of }
    };
    let mut all = vec![
        op("rmsnorm_backward", shape.clone(), v * 12.0, 8.0 * v, move |gpu| {
            let [x, dy, dx] = [0; 3].map(|_| f32s(gpu, values));
            let (x, dy, dx) = (x?, dy?, dx?);
            let w = gpu.alloc(Pool::Weights, u64::from(WIDTH) * 4, "perf op")?;
            Ok(Box::new(move |rec| {
                let (x, w, dy, dx) = (&x, &w, &dy, &dx);
                rmsnorm::Backward { x, w, dy, dx, rows: n, cols: WIDTH, eps: 1e-6, add: false }.record(rec)
            }))
        }),
        glu_gradient(false),
        glu_gradient(true),
        op("add", shape.clone(), v * 12.0, v, move |gpu| {
            let (x, y) = (f32s(gpu, values)?, f32s(gpu, values)?);
            Ok(Box::new(move |rec| add::add(rec, &x, &y, values)))
        }),
        // A product of 128 tokens, shared by four workgroups a tile.
        op("split_k", format!("4 x 128 x {WIDTH}"), f64::from(WIDTH) * 128.0 * 20.0, 0.0, move |gpu| {
            let (parts, y) = (f32s(gpu, 4 * 128 * WIDTH)?, f32s(gpu, 128 * WIDTH)?);
            let to = Columns::all(WIDTH);
            Ok(Box::new(move |rec| sum_splits(rec, &parts, [4, 128, WIDTH], (&y, to), 1.0, false)))
        }),
        op("imatrix", shape.clone(), v * 4.0, 2.0 * v, move |gpu| {
            let (x, s) = (f32s(gpu, values)?, f32s(gpu, WIDTH)?);
            Ok(Box::new(move |rec| imatrix::accumulate(rec, (&x, Format::F32), &s, n, WIDTH)))
        }),
        op("dropout", shape.clone(), v * 8.0, 8.0 * v, move |gpu| {
            let (x, y, seed) = (f32s(gpu, values)?, f32s(gpu, values)?, u32s(gpu, &[1, 2])?);
            let mask = dropout::Mask { probability: 0.1, salt: 1 };
            Ok(Box::new(move |rec| dropout::dropout(rec, &x, &y, values, &seed, mask, false)))
        }),
        Op {
            ty: Some("f16"),
            ..op("cast", shape, v * 6.0, v, move |gpu| {
                let (x, y) = (f32s(gpu, values)?, f32s(gpu, values)?);
                Ok(Box::new(move |rec| cast::cast(rec, &x, (&y, Format::F16), values.into())))
            })
        },
        losses(n / 8),
    ];
    all.extend([false, true].map(|backward| packed_heads(n, backward)));
    all.extend([false, true].map(|scatter| rows(n, scatter)));
    for name in ["lora_down", "lora_up", "lora_grad_t", "lora_grad_b", "lora_grad_a", "lora_grad_x"] {
        all.push(adapter(name, BASELINE, n));
        if !matches!(name, "lora_up" | "lora_grad_x") {
            all.push(adapter(name, "coop", n));
        }
    }
    // An adapter of rank 16 on all matrices of a 4B model has 33 million numbers.
    all.push(step(if n == 16 { 1 << 18 } else { 1 << 25 }));
    all
}

/// The loss of rows of logits.
fn losses(rows: u32) -> Op {
    op(
        "cross_entropy",
        format!("{rows} x {VOCABULARY}"),
        f64::from(rows * VOCABULARY) * 8.0,
        f64::from(rows * VOCABULARY) * 4.0,
        move |gpu| {
            let (logits, labels) = (f32s(gpu, rows * VOCABULARY)?, u32s(gpu, &vec![7; rows as usize])?);
            let stats = gpu.alloc(Pool::Activations, u64::from(rows) * cross_entropy::STATS, "perf op")?;
            let scale = u32s(gpu, &[0x3f80_0000])?;
            Ok(Box::new(move |rec| {
                cross_entropy::CrossEntropy {
                    logits: &logits,
                    labels: &labels,
                    stats: &stats,
                    scale: &scale,
                    row0: 0,
                    rows,
                    vocab: VOCABULARY,
                }
                .record(rec)
            }))
        },
    )
}

/// Norm and rotation of heads of whole sequences, or their gradient.
fn packed_heads(n: u32, backward: bool) -> Op {
    let packed = f64::from((HEADS + 2 * KV_HEADS) * HEAD_DIM * n);
    let (name, moved) = if backward { ("qk_norm_rope_backward", 12.0) } else { ("qk_norm_rope_train", 8.0) };
    let shape = format!("{n} x {HEADS}/{KV_HEADS} x {HEAD_DIM}");
    op(name, shape, packed * moved, packed * 10.0, move |gpu| {
        let spans: Vec<u32> = spans(&[n / 2, n / 2]).concat();
        let (spans, table) = (u32s(gpu, &spans)?, table(gpu, n)?);
        let norms = gpu.alloc(Pool::Weights, u64::from(HEAD_DIM) * 8, "perf op")?;
        let all = (HEADS + 2 * KV_HEADS) * HEAD_DIM * n;
        let (qkv, dqkv) = (f32s(gpu, all)?, f32s(gpu, all)?);
        let [q, k, v] = [HEADS, KV_HEADS, KV_HEADS].map(|heads| f32s(gpu, heads * HEAD_DIM * n));
        let (q, k, v) = (q?, k?, v?);
        Ok(Box::new(move |rec| {
            let rotation = rotation();
            let (heads, kv_heads, head_dim) = (HEADS, KV_HEADS, HEAD_DIM);
            let s = qk_norm_rope::train::Shape {
                tokens: n,
                heads,
                kv_heads,
                head_dim,
                rotation: &rotation,
                eps: 1e-6,
            };
            let parts = [&q, &k, &v];
            match backward {
                true => qk_norm_rope::train::Backward {
                    spans: &spans,
                    table: &table,
                    norms: Some(&norms),
                    qkv: &qkv,
                    gradients: parts,
                    dqkv: &dqkv,
                    shape: &s,
                }
                .record(rec),
                false => qk_norm_rope::train::forward(rec, &spans, &table, Some(&norms), &qkv, parts, &s),
            }
        }))
    })
}

/// Half of all rows, taken out or put back.
fn rows(n: u32, scatter: bool) -> Op {
    let (values, v) = (n * WIDTH, f64::from(n * WIDTH));
    let name = if scatter { "scatter" } else { "gather" };
    op(name, format!("{} of {n} x {WIDTH}", n / 2), v * 4.0, v / 2.0, move |gpu| {
        let (x, y) = (f32s(gpu, values)?, f32s(gpu, values / 2)?);
        let list = u32s(gpu, &(0..n / 2).map(|i| 2 * i).collect::<Vec<_>>())?;
        let s = gather::Shape { total: n, count: n / 2, width: WIDTH, index0: 0 };
        Ok(Box::new(move |rec| match scatter {
            true => gather::scatter(rec, &y, &list, &x, &s, false),
            false => gather::gather(rec, &x, &list, &y, &s),
        }))
    })
}

/// A step of AdamW.
fn step(parameters: u32) -> Op {
    let p = f64::from(parameters);
    // Norm and step read the gradient, the step parameters and moments as well, and writes those.
    op("adamw", format!("{parameters}"), p * 32.0, p * 16.0, move |gpu| {
        let buffer = || gpu.alloc(Pool::Optimiser, u64::from(parameters) * 4, "perf op");
        let (w, g, first, second) = (buffer()?, buffer()?, buffer()?, buffer()?);
        let b = adamw::Buffers::new(gpu, g.size())?;
        Ok(Box::new(move |rec| {
            adamw::norm(rec, &w, &g, &b)?;
            adamw::step(rec, &w, &g, &first, &second, &b)
        }))
    })
}

/// A product of an adapter.
fn adapter(name: &'static str, variant: &'static str, n: u32) -> Op {
    let (wide, narrow, matrix) = (f64::from(n * WIDTH), f64::from(n * RANK), f64::from(RANK * WIDTH));
    // What is added to is read and written.
    let moved = match name {
        "lora_down" | "lora_grad_t" => wide + narrow + matrix,
        "lora_up" | "lora_grad_x" => 2.0 * wide + narrow + matrix,
        _ => wide + narrow + 2.0 * matrix,
    };
    let flops = 2.0 * wide * f64::from(RANK);
    let measured = op(name, format!("{n} x {WIDTH}, rank {RANK}"), 4.0 * moved, flops, move |gpu| {
        let (t, x) = (f32s(gpu, n * RANK)?, f32s(gpu, n * WIDTH)?);
        let pool = if name.contains("grad_a") || name.contains("grad_b") {
            Pool::Activations
        } else {
            Pool::Weights
        };
        let m = gpu.alloc(pool, u64::from(RANK * WIDTH) * 4, "perf op")?;
        let s = lora::Shape { tokens: n, rank: RANK, width: WIDTH };
        let (ranks, columns) = (Columns::all(RANK), Columns::all(WIDTH));
        let scratch = gpu.alloc(Pool::Activations, 16 << 20, "perf op")?;
        let windows = [lora::Window { columns, width: WIDTH }];
        Ok(Box::new(move |rec| {
            let (tokens, rank, format, windows) = (n, RANK, Format::F32, &windows);
            let (narrow, wide, m, scratch) = (&t, &x, &m, Some(&scratch));
            let pass = |form, matrix| {
                let shape = lora::PassShape { form, matrix, tokens, rank, narrow: ranks, format, windows };
                lora::Pass { shape, narrow, wide, m, scale: 1.0, range: 1.0, scratch }
            };
            match name {
                "lora_down" => pass(lora::Form::Down, lora::Matrix::A).record_as(rec, variant),
                "lora_up" => lora::up(rec, (narrow, ranks), m, (wide, columns), 1.0, s),
                "lora_grad_t" => pass(lora::Form::Down, lora::Matrix::B).record_as(rec, variant),
                "lora_grad_b" => pass(lora::Form::Outer, lora::Matrix::B).record_as(rec, variant),
                "lora_grad_a" => pass(lora::Form::Outer, lora::Matrix::A).record_as(rec, variant),
                _ => lora::grad_x(rec, (narrow, ranks), m, wide, s, true),
            }
        }))
    });
    Op { variant, ..measured }
}

/// Seconds of one call, among others on other buffers.
///
/// # Errors
/// [`crate::Error::Plan`] where the device lacks what it needs; out of memory; a fault.
pub fn measure(gpu: &Gpu, effort: &Effort, o: &Op) -> Result<f64> {
    if matches!(o.variant, "out_f16" | "out_tiles") && !gpu.caps().f16 {
        return Err(PlanError::Shape { op: o.op, what: "no f16".into() }.into());
    }
    if o.variant == "chain" {
        Variant::MatvecDot
            .supports(gpu.caps(), WeightType::Q4_K, 1)
            .map_err(|why| PlanError::Shape { op: o.op, what: why.into() })?;
    }
    let sets = (effort.distinct as f64 / o.bytes).ceil().clamp(1.0, effort.sets as f64) as usize;
    let calls = (o.calls)(gpu, sets)?;
    let dispatches = effort.dispatches.min(2 * sets).max(1);
    let mut rec = Recorder::new(gpu);
    for i in 0..dispatches {
        calls[i % sets](&mut rec)?;
    }
    seconds(gpu, effort, &rec.finish()?, dispatches)
}
