//! The memory of training, known before any of it is taken.

use std::fmt;

use weft_kernels::Budget;
use weft_kernels::ops::attention::Mask;
use weft_kernels::ops::attention::train as attention;
use weft_kernels::ops::experts::Order;
use weft_runtime::{Arena, Layout, Placed, human};

use super::adapter::Flat;
use super::{AdapterShape, TrainOptions};
use crate::sites::Group;
use crate::spec::{Experts, Norms};
use crate::{Error, Result, Spec};

/// Bytes of GPU memory that training takes, by use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrainPlan {
    /// The frozen model.
    pub weights: u64,
    /// Trained parameters.
    pub adapters: u64,
    /// Their gradients and the two moments of AdamW.
    pub optimiser: u64,
    /// What the forward pass keeps for the backward pass.
    pub activations: u64,
    /// What one layer or one piece of the loss needs at a time, token ids, tables.
    pub scratch: u64,
}

impl TrainPlan {
    /// Plans training on a model whose weights take `weights` bytes.
    ///
    /// # Errors
    /// [`Error::Training`] where one buffer would have to be larger than the budget allows.
    pub fn of(
        spec: &Spec,
        weights: u64,
        adapter: &AdapterShape,
        options: &TrainOptions,
        budget: &Budget,
    ) -> Result<TrainPlan> {
        let flat = Flat::new(adapter, spec, budget.align);
        let buffers = Buffers::plan(spec, adapter, options, budget);
        let largest = flat.total.max(buffers.scratch.total).max(buffers.kept_bytes());
        if largest > budget.max_buffer {
            return Err(Error::Training {
                what: format!(
                    "a batch of {} tokens needs a buffer of {} and this device allows {}",
                    options.tokens,
                    human(largest),
                    human(budget.max_buffer)
                ),
            });
        }
        Ok(TrainPlan {
            weights,
            adapters: flat.total,
            optimiser: 3 * flat.total,
            activations: buffers.kept_total(),
            scratch: buffers.scratch.total + state_bytes(spec, options, budget),
        })
    }

    /// Bytes in all.
    pub fn total(&self) -> u64 {
        self.weights + self.adapters + self.optimiser + self.activations + self.scratch
    }

    /// The largest (batch, context) that fits `available` bytes: as many sequences of `context` tokens
    /// as do, or one that is shorter. `None` where not even 16 tokens fit.
    pub fn largest_fitting(
        spec: &Spec,
        weights: u64,
        adapter: &AdapterShape,
        options: &TrainOptions,
        budget: &Budget,
        context: u32,
        available: u64,
    ) -> Option<(u32, u32)> {
        let fits = |tokens: u32| {
            let options = TrainOptions { tokens, ..*options };
            TrainPlan::of(spec, weights, adapter, &options, budget).is_ok_and(|p| p.total() <= available)
        };
        let context = context.clamp(16, MAX_TOKENS);
        let largest = |unit: u32| {
            // Memory grows with tokens: bisection over multiples of `unit`.
            let (mut low, mut high) = (0, MAX_TOKENS / unit + 1);
            while high - low > 1 {
                let middle = low.midpoint(high);
                if fits(middle * unit) { low = middle } else { high = middle }
            }
            low
        };
        match largest(context) {
            0 => match largest(16) {
                0 => None,
                n => Some((1, n * 16)),
            },
            n => Some((n, context)),
        }
    }
}

impl fmt::Display for TrainPlan {
    /// A table with a row for each use.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("weights", self.weights),
            ("adapters", self.adapters),
            ("optimiser", self.optimiser),
            ("activations", self.activations),
            ("scratch", self.scratch),
        ];
        for (name, bytes) in rows {
            writeln!(f, "{name:<12}{:>12}", human(bytes))?;
        }
        write!(f, "{:<12}{:>12}", "total", human(self.total()))
    }
}

/// The most tokens of a batch.
pub(crate) const MAX_TOKENS: u32 = 1 << 20;

/// Token ids, spans, rows and labels of a batch, the rotary table, settings.
fn state_bytes(c: &Spec, options: &TrainOptions, budget: &Budget) -> u64 {
    let tokens = u64::from(padded(options.tokens, options.tokens));
    let table = |pairs: u32| (128 + tokens.div_ceil(128)) * u64::from(pairs) * 8;
    let tables: u64 = c.rotations().iter().map(|r| table(r.pairs())).sum();
    tables + tokens * 12 + 8 * budget.align
}

/// Tokens of the program that runs a batch of `tokens`: few sizes, so that few programs are recorded.
pub(crate) fn padded(tokens: u32, most: u32) -> u32 {
    let step = (most.next_power_of_two() / 16).clamp(8, 256);
    tokens.max(1).next_multiple_of(step)
}

/// Rows of the loss computed at a time: logits are by far the widest activation.
pub(crate) fn loss_rows(c: &Spec, tokens: u32, budget: &Budget) -> u32 {
    let row = u64::from(c.vocabulary) * 4;
    // A binding of 128 MiB is a phone's: 16 MiB there, 128 rows of a large vocabulary elsewhere.
    let most = (budget.max_binding / 8).clamp(4 * row, 96 << 20);
    // Where a large batch needs as much for gate and up, they lie in the same memory.
    let widest = u64::from(tokens) * u64::from(c.feed_forward()) * 8;
    let most = if budget.max_binding > 128 << 20 { most.max(widest.min(budget.max_binding)) } else { most };
    let rows = (most / row).max(1).min(u64::from(MAX_TOKENS)) as u32;
    // Whole tiles of products.
    let rows = if rows >= 128 { (rows / 128 * 128).min(512) } else { rows };
    rows.min(tokens)
}

/// Where a tensor lies while a program runs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Spot {
    /// In the scratch, shared by all layers.
    Scratch(Placed),
    /// At this offset of the layer's own memory, with this length.
    Kept(u64, u64),
}

/// A layer's tensors of the forward pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerSpots {
    pub(crate) x: Spot,
    pub(crate) n1: Spot,
    pub(crate) qkv: Spot,
    pub(crate) q: Spot,
    pub(crate) k: Spot,
    pub(crate) v: Spot,
    pub(crate) attended: Spot,
    pub(crate) lse: Spot,
    pub(crate) mid: Spot,
    pub(crate) n2: Spot,
    pub(crate) gate_up: Spot,
    pub(crate) gated: Spot,
    /// What attention and the feed-forward network give before their norms, in models that have those:
    /// `[tokens, width]` f32.
    pub(crate) given: Option<[Spot; 2]>,
    /// What each group's A makes of its input.
    pub(crate) t: [Spot; 4],
}

/// The tensors of the backward pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GradientSpots {
    pub(crate) x: Placed,
    pub(crate) gated: Placed,
    pub(crate) n: Placed,
    pub(crate) attended: Placed,
    pub(crate) q: Placed,
    pub(crate) k: Placed,
    pub(crate) v: Placed,
    pub(crate) qkv: Placed,
    pub(crate) t: Placed,
    pub(crate) attention: Placed,
    /// Of what a norm behind a half reads: `[tokens, width]` f32.
    pub(crate) given: Option<Placed>,
}

impl GradientSpots {
    /// Of batches of `tokens` tokens, with up to `t` ranks of adapters that share an input.
    fn plan(a: &mut Arena, c: &Spec, tokens: u32, t: u32) -> GradientSpots {
        let (q, kv) = (c.attention().q_width(), c.attention().kv_width());
        let attention = a.add(attention_shape(c, 0, tokens).scratch_bytes(), 35, 35);
        let mut put =
            |width: u32, first: u32, last: u32| a.add(u64::from(tokens) * u64::from(width) * 4, first, last);
        GradientSpots {
            x: put(c.width, 9, 38),
            gated: put(expert_width(c), 30, 31),
            n: put(c.width, 32, 38),
            attended: put(q, 34, 35),
            q: put(q, 35, 36),
            k: put(kv, 35, 36),
            v: put(kv, 35, 36),
            qkv: put(q + 2 * kv, 36, 37),
            t: put(t, 30, 37),
            given: norms_behind(c).then(|| put(c.width, 30, 34)),
            attention,
        }
    }
}

/// For each group the columns of the adapters' t, the most of any layer.
fn ranks(c: &Spec, adapter: &AdapterShape) -> [u32; 4] {
    Group::ALL.map(|g| {
        let of = |l| adapter.targets(l, g).len() as u32;
        (0..c.layers()).map(of).max().unwrap_or(0) * adapter.rank
    })
}

/// Gated values of a token, of all experts that it uses.
fn expert_width(c: &Spec) -> u32 {
    let used = (0..c.layers()).find_map(|l| c.experts(l)).map_or(1, |e| e.used);
    c.feed_forward() * used
}

/// Whether halves of a layer give what a norm then reads.
fn norms_behind(c: &Spec) -> bool {
    c.blocks.iter().any(|b| b.norms == Norms::Sandwich)
}

/// The tensors of a layer of experts, besides gate and up, whose rows are slots: a token's each of its experts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExpertSpots {
    /// `[tokens, experts]` f32, and its gradient.
    pub(crate) logits: Placed,
    pub(crate) dlogits: Placed,
    /// `[tokens, used]`: u32, f32, and the gradient of that.
    pub(crate) ids: Placed,
    pub(crate) weights: Placed,
    pub(crate) dweights: Placed,
    /// `[slots]` u32, twice, and `[tiles, 4]` u32.
    pub(crate) order: [Placed; 3],
    /// `[slots, width]` f32: what experts give, and the gradient of what they get.
    pub(crate) out: Placed,
    pub(crate) din: Placed,
    /// `[slots, expert width]` f32: the gated values when the backward pass needs them.
    pub(crate) gated: Placed,
}

impl ExpertSpots {
    fn plan(a: &mut Arena, e: &Experts, tokens: u32, width: u32) -> ExpertSpots {
        let slots = tokens * e.used;
        let bytes = Order::bytes(slots, e.count);
        let floats = |rows: u32, cols: u32| u64::from(rows) * u64::from(cols) * 4;
        ExpertSpots {
            logits: a.add(floats(tokens, e.count), 5, 33),
            dlogits: a.add(floats(tokens, e.count), 32, 33),
            ids: a.add(bytes.list, 5, 33),
            weights: a.add(bytes.list, 5, 33),
            dweights: a.add(bytes.list, 30, 33),
            order: [bytes.list, bytes.list, bytes.tiles].map(|b| a.add(b, 5, 33)),
            out: a.add(floats(slots, width), 8, 8),
            din: a.add(floats(slots, width), 32, 33),
            gated: a.add(floats(slots, e.width), 30, 31),
        }
    }
}

/// The tensors of the loss, a piece of the rows at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LossSpots {
    pub(crate) x: Placed,
    pub(crate) n: Placed,
    pub(crate) logits: Placed,
    pub(crate) dn: Placed,
    pub(crate) dx: Placed,
    pub(crate) stats: Placed,
}

impl LossSpots {
    /// Of `rows` rows at a time.
    fn plan(a: &mut Arena, c: &Spec, rows: u32) -> LossSpots {
        let mut put = |width: u32| a.add(u64::from(rows) * u64::from(width) * 4, 9, 9);
        LossSpots {
            x: put(c.width),
            n: put(c.width),
            logits: put(c.vocabulary),
            dn: put(c.width),
            dx: put(c.width),
            stats: put(4),
        }
    }
}

/// Where everything lies.
#[derive(Debug, Clone)]
pub(crate) struct Buffers {
    pub(crate) scratch: Layout,
    /// Bytes that each layer keeps, from the first that is trained on.
    pub(crate) kept: u64,
    pub(crate) kept_layers: u32,
    pub(crate) first_layer: u32,
    /// The residual stream: of layers that keep nothing, and after the last.
    pub(crate) stream: [Placed; 2],
    /// Without checkpointing: gate and up in f16.
    pub(crate) kept_gate_up: Option<Spot>,
    pub(crate) forward: LayerSpots,
    /// When the backward pass computes a layer once more.
    pub(crate) again: LayerSpots,
    /// The same when it comes to attention: n1, q, k and v are cheaper to compute a third time than to keep.
    pub(crate) late: LayerSpots,
    pub(crate) d: GradientSpots,
    pub(crate) loss: LossSpots,
    /// Parts of sums that workgroups share, at any time.
    pub(crate) parts: Placed,
    /// With dropout: the input that is left, and its gradient.
    pub(crate) dropped: Option<[Placed; 2]>,
    /// Where the model has experts.
    pub(crate) experts: Option<ExpertSpots>,
}

impl Buffers {
    pub(crate) fn plan(c: &Spec, adapter: &AdapterShape, o: &TrainOptions, budget: &Budget) -> Buffers {
        let tokens = padded(o.tokens, o.tokens);
        let rows = |width: u32| u64::from(tokens) * u64::from(width) * 4;
        let (q, kv) = (c.heads() * c.head_dim(), c.kv_heads() * c.head_dim());
        let ts = ranks(c, adapter);
        // Of experts, a token's values are those of each one that it uses.
        let experts = (0..c.layers()).find_map(|l| c.experts(l));
        let wide = expert_width(c);
        let first_layer = adapter.first().0.min(c.layers());
        let mut a = Arena::new();
        let mut kept = 0;
        let mut keep = |bytes: u64| {
            let spot = Spot::Kept(kept, bytes);
            kept += bytes.next_multiple_of(budget.align);
            spot
        };
        // What a layer always keeps, and what it keeps without checkpointing.
        let x = keep(rows(c.width));
        let more = (!o.checkpointing).then(|| {
            let [qkv, attended, lse, mid] = [q + 2 * kv, q, c.heads(), c.width].map(|w| keep(rows(w)));
            (qkv, attended, lse, mid, ts.map(|w| keep(rows(w))))
        });
        // What the feed-forward network gave: to compute it once more takes the widest product.
        let sandwich = norms_behind(c);
        let given = sandwich.then(|| keep(rows(c.width)));
        let given_first = (sandwich && !o.checkpointing).then(|| keep(rows(c.width)));
        // The widest, in f16: half of all that is kept.
        let kept_gate_up = (!o.checkpointing && experts.is_none()).then(|| keep(rows(wide)));
        // Steps. A layer forward: 0 norm, 1 qkv, 2 heads, 3 attention, 4 output, 5 norm, 6 gate and up,
        // 7 SwiGLU, 8 down. The loss: 9. Once more with 20: 20 to 27. Backward: 30 down, 31 SwiGLU,
        // 32 gate and up, 33 norm, 34 output, 35 heads again and attention, 36 heads, 37 norm again
        // and qkv, 38 norm.
        let mut layer = |s: u32, end: [u32; 12]| {
            let mut put = |width: u32, first: u32, last: u32| Spot::Scratch(a.add(rows(width), first, last));
            let [n1, qkv, q_, attended, mid, n2, gate_up, gated, t0, t1, t2, t3] = end;
            let spots = LayerSpots {
                x,
                n1: put(c.width, s, n1),
                q: put(q, s + 2, q_),
                k: put(kv, s + 2, q_),
                v: put(kv, s + 2, q_),
                n2: put(c.width, s + 5, n2),
                gate_up: put(2 * wide, s + 6, gate_up),
                gated: put(wide, s + 7, gated),
                qkv: x,
                attended: x,
                lse: x,
                mid: x,
                given: given.map(|second| [given_first.unwrap_or_else(|| put(c.width, s + 4, t1)), second]),
                t: [x; 4],
            };
            match more {
                Some((qkv, attended, lse, mid, t)) => LayerSpots { qkv, attended, lse, mid, t, ..spots },
                None => LayerSpots {
                    qkv: put(q + 2 * kv, s + 1, qkv),
                    attended: put(q, s + 3, attended),
                    lse: put(c.heads(), s + 3, attended),
                    mid: put(c.width, s + 4, mid),
                    t: [
                        put(ts[0], s + 1, t0),
                        put(ts[1], s + 4, t1),
                        put(ts[2], s + 6, t2),
                        put(ts[3], s + 8, t3),
                    ],
                    ..spots
                },
            }
        };
        let forward = layer(0, [1, 2, 3, 4, 8, 6, 7, 8, 1, 4, 6, 8]);
        let again = layer(20, [21, 36, 23, 35, 33, 32, 32, 27, 37, 34, 32, 31]);
        let mut put = |width: u32, first: u32, last: u32| a.add(rows(width), first, last);
        let mut scratch = |width, first, last| Spot::Scratch(put(width, first, last));
        let late = LayerSpots {
            q: scratch(q, 35, 36),
            k: scratch(kv, 35, 36),
            v: scratch(kv, 35, 36),
            n1: scratch(c.width, 37, 37),
            ..again
        };
        let stream = [put(c.width, 0, 9), put(c.width, 0, 9)];
        let d = GradientSpots::plan(&mut a, c, tokens, ts.into_iter().max().unwrap_or(0));
        let dropped = (o.dropout > 0.0).then(|| {
            let widest = c.width.max(q).max(c.feed_forward());
            [a.add(rows(widest), 0, 38), a.add(rows(widest), 30, 38)]
        });
        let loss = LossSpots::plan(&mut a, c, loss_rows(c, tokens, budget));
        let experts = experts.map(|e| ExpertSpots::plan(&mut a, e, tokens, c.width));
        let parts = a.add((budget.max_binding / 32).min(16 << 20), 0, 38);
        Buffers {
            scratch: a.place(budget.align),
            kept,
            kept_layers: c.layers() - first_layer,
            first_layer,
            stream,
            kept_gate_up,
            forward,
            again,
            late,
            d,
            loss,
            parts,
            dropped,
            experts,
        }
    }

    /// Bytes of the buffers that kept activations lie in, the largest of them.
    fn kept_bytes(&self) -> u64 {
        self.kept
    }

    fn kept_total(&self) -> u64 {
        self.kept * u64::from(self.kept_layers)
    }
}

/// Attention of a layer in a batch.
pub(crate) fn attention_shape(c: &Spec, layer: u32, tokens: u32) -> attention::Shape {
    let a = &c.blocks[layer as usize].attention;
    attention::Shape {
        mask: Mask::Causal { window: a.mask.window() },
        tokens,
        heads: a.heads,
        kv_heads: a.kv_heads,
        head_dim: a.head_dim,
        scale: a.scale,
    }
}

#[cfg(test)]
mod tests {
    use weft_kernels::{WeightShape, WeightType};
    use weft_runtime::Profile;

    use super::*;
    use crate::train::Target;

    const MIB: u64 = 1 << 20;

    /// Qwen3 of a size, and the bytes of its weights in Q4_K_M (`None`) or one type.
    fn qwen3(
        (layers, width, heads, feed_forward): (u32, u32, u32, u32),
        one: Option<WeightType>,
        budget: &Budget,
    ) -> (Spec, u64) {
        let c = Spec::qwen3([layers, width, feed_forward, heads, 8, 128, 151_936, 40_960]);
        let matrix = |ty: WeightType, rows, cols| {
            WeightShape::new(one.unwrap_or(ty), rows, cols, budget).unwrap().bytes(budget)
        };
        let (q, kv, six) = (heads * 128, 8 * 128, WeightType::Q6_K);
        let mut bytes = matrix(six, c.vocabulary, width);
        for i in 0..layers {
            let more = i < layers / 8 || i >= 7 * layers / 8 || (i - layers / 8) % 3 == 2;
            let (four, some) = (WeightType::Q4_K, if more { six } else { WeightType::Q4_K });
            bytes += matrix(four, q + kv, width) + matrix(some, kv, width) + matrix(four, width, q);
            bytes += matrix(four, 2 * feed_forward, width) + matrix(some, width, feed_forward);
        }
        (c, bytes)
    }

    const SMALL: (u32, u32, u32, u32) = (28, 2048, 16, 6144);
    const LARGE: (u32, u32, u32, u32) = (36, 2560, 32, 9728);

    fn total(c: &Spec, weights: u64, rank: u32, tokens: u32, checkpointing: bool, budget: &Budget) -> u64 {
        let shape = AdapterShape::uniform(c, &Target::ALL, rank);
        let options = TrainOptions { tokens, checkpointing, ..TrainOptions::default() };
        let plan = TrainPlan::of(c, weights, &shape, &options, budget).unwrap();
        println!("{plan}\n");
        plan.total() / MIB
    }

    #[test]
    fn a_phone_has_room() {
        let budget = Profile::Adreno.budget();
        let (c, weights) = qwen3(SMALL, None, &budget);
        assert!(total(&c, weights, 8, 128, true, &budget) <= 1500);
        let (c, weights) = qwen3(LARGE, None, &budget);
        assert!(total(&c, weights, 8, 128, true, &budget) <= 3200);
        let (c, weights) = qwen3(LARGE, Some(WeightType::Q8_0), &budget);
        assert!(total(&c, weights, 8, 128, true, &budget) <= 5000);
    }

    #[test]
    fn a_large_batch_fits_its_goals() {
        let budget = Budget { max_binding: (1 << 31) - 256, max_buffer: 1 << 40, ..Budget::WEBGPU };
        let (c, weights) = qwen3(SMALL, None, &budget);
        assert!(total(&c, weights, 16, 4096, true, &budget) <= 3 << 10);
        assert!(total(&c, weights, 16, 4096, false, &budget) <= 10 << 10);
        let (c, weights) = qwen3(LARGE, None, &budget);
        assert!(total(&c, weights, 16, 4096, true, &budget) <= 5 << 10);
    }

    #[test]
    fn what_is_suggested_fits_and_no_more() {
        let budget = Budget { max_buffer: 1 << 40, ..Budget::WEBGPU };
        let (c, weights) = qwen3(SMALL, None, &budget);
        let shape = AdapterShape::uniform(&c, &Target::ATTENTION, 8);
        let options = TrainOptions { tokens: 1 << 16, ..TrainOptions::default() };
        let at = |tokens| {
            TrainPlan::of(&c, weights, &shape, &TrainOptions { tokens, ..options }, &budget).unwrap().total()
        };
        let fitting =
            |context, room| TrainPlan::largest_fitting(&c, weights, &shape, &options, &budget, context, room);
        let (batch, context) = fitting(512, 4 << 30).unwrap();
        assert_eq!(context, 512);
        assert!(at(batch * 512) <= 4 << 30 && at((batch + 1) * 512) > 4 << 30);
        assert_eq!(fitting(512, at(256)), Some((1, 256)));
        assert_eq!(fitting(512, weights), None);
    }
}
