//! How fast the ops of a mixture of experts are, at the sizes of Qwen3-30B-A3B: products of tokens with the matrices of
//! the experts that they are sent to, and what lies around them.

use weft_runtime::{Gpu, Pool, Slice};

use super::ops::{Call, Op, f32s, op, u32s};
use super::weights;
use crate::layout::Format;
use crate::ops::experts::{self, Experts, Left, Order, Product, Route, Variant, Weigh};
use crate::ops::matmul::Input;
use crate::ops::quantize::{self, Quantized};
use crate::ops::router::{self, Routes, Routing};
use crate::testing::Rng;
use crate::{Result, WeightType};

const WIDTH: u32 = 2048;
const INNER: u32 = 768;
const USED: u32 = 8;

/// Where tokens go, and their choices in order.
struct Batch {
    ids: Slice,
    order: Order,
}

/// Tokens of a batch, and experts of a layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) tokens: u32,
    pub(super) experts: u32,
}

impl Batch {
    fn new(gpu: &Gpu, Size { tokens, experts }: Size) -> Result<Batch> {
        let mut rng = Rng::new(1);
        let choices = tokens * USED;
        // Experts of a token differ.
        let first: Vec<u32> = (0..tokens).map(|_| rng.below(experts as usize) as u32).collect();
        let ids: Vec<u32> =
            first.iter().flat_map(|f| (0..USED).map(move |j| (f + j * 13) % experts)).collect();
        let bytes = Order::bytes(choices, experts);
        let [tokens, position, tiles] =
            [bytes.list, bytes.list, bytes.tiles].map(|b| gpu.alloc(Pool::Activations, b, "perf order"));
        let side = Order::side(gpu.caps(), choices, experts);
        Ok(Batch {
            ids: u32s(gpu, &ids)?,
            order: Order { tokens: tokens?, position: position?, tiles: tiles?, side },
        })
    }

    /// The same, after the order has been computed once.
    fn sorted(gpu: &Gpu, size: Size) -> Result<Batch> {
        let batch = Batch::new(gpu, size)?;
        let mut rec = weft_runtime::Recorder::new(gpu);
        batch.order.record(&mut rec, &batch.ids, [size.tokens, USED, size.experts])?;
        gpu.run(&rec.finish()?, None)?;
        Ok(batch)
    }

    fn route(&self, tokens: u32, sorted: bool) -> Route<'_> {
        Route { ids: &self.ids, tokens, used: USED, order: sorted.then_some(&self.order) }
    }
}

/// All of them: what decode runs for one token, and what a prompt does.
pub(super) fn ops(size: Size) -> Vec<Op> {
    let one = Size { tokens: 1, ..size };
    let mut all = around(size);
    for ty in [WeightType::F16, WeightType::Q4_K] {
        all.push(product(ty, Variant::Matvec, one));
        if ty.layout().has_ints() {
            all.push(product(ty, Variant::MatvecDot, one));
        }
        all.push(product(ty, Variant::Tiled, size));
        all.push(gradient(ty, size));
    }
    all
}

/// Matrices of all experts: copies of one, since what is computed with does not matter here.
fn matrices(gpu: &Gpu, ty: WeightType, experts: u32) -> Result<Experts> {
    let weight = weights(gpu, (ty, experts * INNER, WIDTH), 1)?.remove(0);
    Ok(Experts { weight, rows: INNER })
}

/// Bytes of the matrices that a batch reads, and operations.
fn work(ty: WeightType, Size { tokens, experts }: Size) -> (f64, f64) {
    let choices = f64::from(tokens * USED);
    let row = ty.row_bytes(WIDTH as usize) as f64 * f64::from(INNER);
    let sides = choices * f64::from(WIDTH + INNER) * 4.0;
    (row * choices.min(experts.into()) + sides, choices * 2.0 * f64::from(WIDTH) * f64::from(INNER))
}

fn product(ty: WeightType, variant: Variant, size: Size) -> Op {
    let (bytes, flops) = work(ty, size);
    let Size { tokens, experts } = size;
    let shape = format!("{tokens} x {USED} of {experts} x {INNER} x {WIDTH}");
    let call = move |gpu: &Gpu| -> Result<Call> {
        let (experts, batch) = (matrices(gpu, ty, size.experts)?, Batch::sorted(gpu, size)?);
        let (x, y) = (f32s(gpu, tokens * WIDTH)?, f32s(gpu, tokens * USED * INNER)?);
        let (q, meta) = quantize::bytes((tokens * WIDTH).into());
        let [q, meta] = [q, meta].map(|bytes| gpu.alloc(Pool::Activations, bytes, "perf op"));
        let ints = Quantized { q: q?, meta: meta? };
        Ok(Box::new(move |rec| {
            let ints = (variant == Variant::MatvecDot).then_some(&ints);
            let route = batch.route(tokens, variant == Variant::Tiled);
            let x = Input { x: &x, ints, format: Format::F32 };
            Product { experts: &experts, x, left: Left::Tokens, route, y: &y }.record(rec)
        }))
    };
    Op { variant: variant.name(), ty: Some(ty.name()), ..op("experts", shape, bytes, flops, call) }
}

fn gradient(ty: WeightType, size: Size) -> Op {
    let (bytes, flops) = work(ty, size);
    let Size { tokens: n, experts } = size;
    let shape = format!("{n} x {USED} of {experts} x {INNER} x {WIDTH}");
    let call = move |gpu: &Gpu| -> Result<Call> {
        let (experts, batch) = (matrices(gpu, ty, size.experts)?, Batch::sorted(gpu, size)?);
        let (dy, dx) = (f32s(gpu, n * USED * INNER)?, f32s(gpu, n * USED * WIDTH)?);
        Ok(Box::new(move |rec| {
            let (left, route) = (Left::Positions, batch.route(n, true));
            experts::InputGradient { experts: &experts, dy: &dy, left, route, dx: &dx }.record(rec)
        }))
    };
    Op { ty: Some(ty.name()), ..op("experts_dx", shape, bytes, flops, call) }
}

/// The choice of experts, the order of choices, the sums behind products, and their gradients.
fn around(size: Size) -> Vec<Op> {
    let Size { tokens: n, experts: count } = size;
    let choices = n * USED;
    let (t, s) = (f64::from(n), f64::from(choices));
    let logits = format!("{n} x {count}");
    let list = format!("{n} x {USED} x {WIDTH}");
    let routing = Routing { experts: count, used: USED, renormalise: true, scale: 1.0 };
    let lists = move |gpu: &Gpu| -> Result<[Slice; 3]> {
        Ok([f32s(gpu, n * count)?, f32s(gpu, choices)?, f32s(gpu, choices)?])
    };
    let values = s * f64::from(WIDTH);
    vec![
        op("router", logits.clone(), (t * f64::from(count) + 2.0 * s) * 4.0, t * 1e3, move |gpu| {
            let [logits, ids, weights] = lists(gpu)?;
            Ok(Box::new(move |rec| {
                router::router(rec, &logits, Routes { ids: &ids, weights: &weights }, n, &routing)
            }))
        }),
        op("router_backward", logits, (2.0 * t * f64::from(count) + 2.0 * s) * 4.0, t * 1e3, move |gpu| {
            let [logits, ids, weights] = lists(gpu)?;
            let dlogits = f32s(gpu, n * count)?;
            Ok(Box::new(move |rec| {
                let from = Routes { ids: &ids, weights: &weights };
                router::backward(rec, &logits, from, &dlogits, n, &routing)
            }))
        }),
        op("experts_sort", format!("{n} x {USED} of {count}"), s * 12.0, s, move |gpu| {
            let batch = Batch::new(gpu, size)?;
            Ok(Box::new(move |rec| batch.order.record(rec, &batch.ids, [n, USED, count])))
        }),
        op(
            "experts_combine",
            list.clone(),
            values * 4.0 + values / f64::from(USED) * 8.0,
            values * 2.0,
            move |gpu| {
                let batch = Batch::sorted(gpu, size)?;
                let (y, weights, out) =
                    (f32s(gpu, choices * WIDTH)?, f32s(gpu, choices)?, f32s(gpu, n * WIDTH)?);
                Ok(Box::new(move |rec| {
                    experts::combine(rec, &y, Some(&weights), &batch.route(n, true), (&out, true), WIDTH)
                }))
            },
        ),
        op("experts_combine_backward", list.clone(), values * 12.0, values * 3.0, move |gpu| {
            let batch = Batch::sorted(gpu, size)?;
            let (h, g) = (f32s(gpu, choices * WIDTH)?, f32s(gpu, choices * WIDTH)?);
            let (weights, dw) = (f32s(gpu, choices)?, f32s(gpu, choices)?);
            Ok(Box::new(move |rec| {
                let of = Weigh { h: &h, g: &g, weights: &weights, dw: &dw };
                experts::weigh(rec, of, &batch.route(n, true), WIDTH)
            }))
        }),
        op("experts_imatrix", list, values / f64::from(USED) * 4.0, values * 2.0, move |gpu| {
            let batch = Batch::sorted(gpu, size)?;
            let x = f32s(gpu, n * WIDTH)?;
            let sums = gpu.alloc(Pool::State, experts::imatrix::sums(count, WIDTH) * 4, "perf op")?;
            Ok(Box::new(move |rec| {
                let left = (&x, Left::Tokens);
                experts::imatrix::accumulate(rec, left, &sums, &batch.route(n, true), [count, WIDTH])
            }))
        }),
    ]
}
