//! The memory of training, known before any of it is taken.

use std::fmt;

use weft_formats::gguf::File;
use weft_kernels::Budget;
use weft_runtime::{Pool, human};

use super::adapter::Flat;
use super::product::TILED_ROWS;
use super::{AdapterShape, Checkpointing, TrainOptions};
use crate::graph::{Kept, Lesson, Training};
use crate::sites::Group;
use crate::spec::{Ffn, Mask, Norm, Norms};
use crate::weights::{Layout, Ring, refuse_unknown};
use crate::{Error, Model, Result, Spec};

pub(super) fn bad<T>(what: String) -> Result<T> {
    Err(Error::Training { what })
}

/// Refuses models whose gradients are not there, and batches that are none.
///
/// # Errors
/// [`Error::Training`] names the architecture and what it is.
pub(super) fn refuse(spec: &Spec, options: &TrainOptions) -> Result<()> {
    if !(1..=MAX_TOKENS).contains(&options.tokens) {
        return bad(format!("a batch must be of 1 to {MAX_TOKENS} tokens, not {}", options.tokens));
    }
    let what = spec.blocks.iter().find_map(|b| match (b.norms, b.norm, b.ffn, b.attention.mask) {
        (Norms::Post, ..) => Some("norms behind its sums"),
        (_, Norm::Layer { .. }, ..) => Some("LayerNorm"),
        (Norms::Sandwich, _, Ffn::Experts(_), _) => Some("experts with norms behind them"),
        (_, _, Ffn::Plain { .. }, _) => Some("a feed-forward network without a gate"),
        (.., Mask::Full | Mask::SymmetricWindow(_)) => Some("attention in both directions"),
        _ => None,
    });
    match what.or(spec.out.softcap.map(|_| "a soft cap of its logits")) {
        Some(what) => {
            bad(format!("a model of architecture {} has {what}, which cannot be trained", spec.architecture))
        }
        None => Ok(()),
    }
}

/// How many layers keep what for their backward pass: those behind keep more than those before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeptLayers {
    /// The last layers, which keep all that their gradients read in f32.
    pub whole: u32,
    /// Those before, which keep gate and up in f16 and the rest in f32.
    pub halves: u32,
    /// Those before, which keep their input and are computed once more; the ones below the first adapter keep nothing.
    pub inputs: u32,
}

impl KeptLayers {
    /// All in which some of the layers from `first` to `layers` keep more than their input, those that keep most first.
    fn all(layers: u32, first: u32) -> impl Iterator<Item = KeptLayers> {
        let trained = layers - first.min(layers);
        let of = move |whole, halves| KeptLayers { whole, halves, inputs: layers - whole - halves };
        let in_halves = (1..=trained).rev().map(move |halves| of(0, halves));
        (1..=trained).rev().map(move |whole| of(whole, trained - whole)).chain(in_halves)
    }

    /// Each layer's, from the first on.
    fn each(self) -> Vec<Kept> {
        let of = |kept, count| std::iter::repeat_n(kept, count as usize);
        of(Kept::Input, self.inputs)
            .chain(of(Kept::Halves, self.halves))
            .chain(of(Kept::Whole, self.whole))
            .collect()
    }
}

impl fmt::Display for KeptLayers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.whole, "all"),
            (self.halves, "all with gate and up in f16"),
            (self.inputs, "their input alone"),
        ];
        let said: Vec<String> =
            parts.iter().filter(|p| p.0 > 0).map(|(n, what)| format!("{n} keep {what}")).collect();
        write!(f, "of {} layers, {}", self.whole + self.halves + self.inputs, said.join(", "))
    }
}

/// Bytes of GPU memory that training takes, by use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrainPlan {
    /// The frozen model; where its layers are streamed, what stays, and the slot that they take turns in.
    pub weights: u64,
    /// Host memory that the slot is filled from; 0 where nothing is streamed.
    pub staging: u64,
    /// Trained parameters.
    pub adapters: u64,
    /// Their gradients and the two moments of AdamW.
    pub optimiser: u64,
    /// What the forward pass keeps for the backward pass.
    pub activations: u64,
    /// What one layer or one piece of the loss needs at a time, token ids, tables.
    pub scratch: u64,
    /// Which layers those activations are of.
    pub kept: KeptLayers,
}

impl TrainPlan {
    /// Plans training on a model whose weights take `weights` bytes, all of them in [`TrainPlan::weights`].
    ///
    /// # Errors
    /// [`Error::Training`] where one buffer would have to be larger than the budget allows, or all of them take more than
    /// [`Checkpointing::Within`] does.
    pub fn of(
        spec: &Spec,
        weights: u64,
        adapter: &AdapterShape,
        options: &TrainOptions,
        budget: &Budget,
    ) -> Result<TrainPlan> {
        let layers = spec.layers();
        let first = adapter.first().0;
        let with = |kept| TrainPlan::with(spec, weights, adapter, options, budget, kept);
        let inputs = KeptLayers { inputs: layers, ..KeptLayers::default() };
        let most = match options.checkpointing {
            Checkpointing::Every => return with(inputs),
            Checkpointing::Never => {
                let halves = layers - first.min(layers);
                return with(KeptLayers { halves, inputs: layers - halves, whole: 0 });
            }
            Checkpointing::Within(most) => most,
        };
        // What no buffer holds is left out: where less is kept, buffers are smaller.
        let mut more = KeptLayers::all(layers, first).filter_map(|kept| with(kept).ok());
        if let Some(plan) = more.find(|plan| plan.total() <= most) {
            return Ok(plan);
        }
        let least = with(inputs)?;
        if least.total() <= most {
            return Ok(least);
        }
        bad(format!(
            "{} tokens a batch need {} where layers keep their input alone, and {} may be taken",
            options.tokens,
            human(least.total()),
            human(most)
        ))
    }

    /// As [`TrainPlan::of`], with these layers kept.
    fn with(
        spec: &Spec,
        weights: u64,
        adapter: &AdapterShape,
        options: &TrainOptions,
        budget: &Budget,
        kept: KeptLayers,
    ) -> Result<TrainPlan> {
        let flat = Flat::new(adapter, spec, budget.align);
        let lesson = lesson(spec, adapter, options, budget, kept);
        let homes = Training::build(spec, &lesson).place(budget.align);
        let layer = homes.kept.iter().max().copied().unwrap_or(0);
        let largest = flat.total.max(homes.scratch()).max(layer);
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
            staging: 0,
            adapters: flat.total,
            optimiser: 3 * flat.total,
            activations: homes.kept.iter().sum(),
            scratch: homes.scratch() + state_bytes(spec, options, budget),
            kept,
        })
    }

    /// Plans training on a file's model, of which nothing is open.
    ///
    /// # Errors
    /// As [`TrainPlan::of`]; a file whose tensors are not such a model's.
    pub fn of_file(
        (file, spec): (&File, &Spec),
        stream_weights: bool,
        adapter: &AdapterShape,
        options: &TrainOptions,
        budget: &Budget,
    ) -> Result<TrainPlan> {
        refuse(spec, options)?;
        refuse_unknown(spec, file)?;
        let layout = Layout::of(file, spec, budget)?;
        let [slot, staging] = match stream_weights {
            true => Ring::of(file, &layout, budget)?.bytes(),
            false => [0; 2],
        };
        let weights = layout.resident(budget, stream_weights) + slot;
        Ok(TrainPlan {
            weights,
            staging,
            ..TrainPlan::of(spec, weights + staging, adapter, options, budget)?
        })
    }

    /// Plans training on a model, if its device has room.
    ///
    /// # Errors
    /// [`Error::Training`] where the memory does not fit, with the largest batch that would.
    pub(crate) fn fitting(
        model: &Model,
        adapter: &AdapterShape,
        options: &TrainOptions,
    ) -> Result<TrainPlan> {
        let (spec, gpu) = (model.spec(), model.gpu());
        let budget = gpu.budget();
        let pools = gpu.memory().pools;
        let [weights, staging] =
            [Pool::Weights, Pool::Staging].map(|p| pools.get(&p).map_or(0, |p| p.allocated));
        // Staging of other models may be there as well, as their weights may.
        let held = weights + staging;
        let available = gpu.caps().memory.unwrap_or(u64::MAX);
        let what = match TrainPlan::of(spec, held, adapter, options, budget) {
            Ok(plan) if plan.total() <= available => return Ok(TrainPlan { weights, staging, ..plan }),
            Ok(plan) => format!(
                "{} tokens a batch need {} and {} has {}",
                options.tokens,
                human(plan.total()),
                gpu.caps().name,
                human(available)
            ),
            Err(Error::Training { what }) => what,
            Err(e) => return Err(e),
        };
        let context = if options.context == 0 { options.tokens } else { options.context };
        let fitting = TrainPlan::largest_fitting(spec, held, adapter, options, budget, context, available);
        let way_out = match fitting {
            Some((batch, context)) => {
                format!("the largest batch and context that fit are {batch} and {context}")
            }
            None => "not even a batch of 16 tokens fits".into(),
        };
        Err(Error::Training { what: format!("{what}; {way_out}") })
    }

    /// Bytes in all.
    pub fn total(&self) -> u64 {
        self.weights + self.staging + self.adapters + self.optimiser + self.activations + self.scratch
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
            ("staging", self.staging),
            ("adapters", self.adapters),
            ("optimiser", self.optimiser),
            ("activations", self.activations),
            ("scratch", self.scratch),
        ];
        for (name, bytes) in rows.into_iter().filter(|r| r.0 != "staging" || r.1 > 0) {
            write!(f, "{name:<12}{:>12}", human(bytes))?;
            match name {
                "activations" => writeln!(f, "   {}", self.kept)?,
                _ => writeln!(f)?,
            }
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
fn loss_rows(c: &Spec, tokens: u32, budget: &Budget) -> u32 {
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

/// What is trained in the largest batch.
pub(crate) fn lesson(
    c: &Spec,
    adapter: &AdapterShape,
    o: &TrainOptions,
    budget: &Budget,
    kept: KeptLayers,
) -> Lesson {
    let tokens = padded(o.tokens, o.tokens);
    let ranks = |l: u32| Group::ALL.map(|g| adapter.targets(l, g).len() as u32 * adapter.rank);
    Lesson {
        tokens,
        rows: loss_rows(c, tokens, budget),
        ranks: (0..c.layers()).map(ranks).collect(),
        first: adapter.first(),
        kept: kept.each(),
        dropout: o.dropout > 0.0,
        parts: (budget.max_binding / 32).min(16 << 20),
        // A binding of 128 MiB is a phone's, whose products read rows.
        tiles: budget.matrices && tokens >= TILED_ROWS && budget.max_binding > 128 << 20,
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
        let options = TrainOptions { tokens, checkpointing: checkpointing.into(), ..TrainOptions::default() };
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

    /// Streamed, a phone has room for four times as much, and what weights take does not grow with the layers.
    #[test]
    fn a_phone_has_room_for_layers_that_come_and_go() {
        let budget = Profile::Adreno.budget();
        let plan = |layers, streamed| {
            let made = crate::Synthetic::parse("qwen3-4b:q4_k_m", Some(layers)).unwrap();
            let file = made.outline().unwrap();
            let spec = Spec::read(&file).unwrap();
            let shape = AdapterShape::uniform(&spec, &Target::ALL, 8);
            let options = TrainOptions { tokens: 128, ..TrainOptions::default() };
            TrainPlan::of_file((&file, &spec), streamed, &shape, &options, &budget).unwrap()
        };
        let (whole, streamed) = (plan(36, false), plan(36, true));
        println!("{whole}\n\n{streamed}");
        assert!(whole.total() > 2600 * MIB && streamed.total() <= 1000 * MIB);
        let rest = |p: TrainPlan| TrainPlan { weights: 0, staging: 0, ..p };
        assert_eq!(rest(whole), rest(streamed));
        // Norms stay.
        let few = plan(12, true);
        assert!(streamed.weights - few.weights < MIB && streamed.staging == few.staging);
    }

    #[test]
    fn a_large_batch_fits_its_goals() {
        let budget = Budget { max_binding: (1 << 31) - 256, max_buffer: 1 << 40, ..Budget::WEBGPU };
        let (c, weights) = qwen3(SMALL, None, &budget);
        assert!(total(&c, weights, 16, 4096, true, &budget) <= 3 << 10);
        assert!(total(&c, weights, 16, 4096, false, &budget) <= 10 << 10);
        let (c, weights) = qwen3(LARGE, None, &budget);
        assert!(total(&c, weights, 16, 4096, true, &budget) <= 5 * 1024 + 512);
    }

    /// More memory never keeps less, what is planned fits, and one layer more would not.
    #[test]
    fn as_many_layers_are_kept_as_fit() {
        let budget = Budget { max_binding: (1 << 31) - 256, max_buffer: 1 << 40, ..Budget::WEBGPU };
        let (c, weights) = qwen3(SMALL, None, &budget);
        let mut shape = AdapterShape::uniform(&c, &Target::ALL, 16);
        // The first two layers are not trained.
        shape.sites.retain(|s| s.0 >= 2);
        let plan = |checkpointing| {
            let options = TrainOptions { tokens: 4096, checkpointing, ..TrainOptions::default() };
            TrainPlan::of(&c, weights, &shape, &options, &budget)
        };
        let (least, plain) = (plan(true.into()).unwrap(), plan(false.into()).unwrap());
        assert_eq!(plain.kept, KeptLayers { whole: 0, halves: 26, inputs: 2 });
        let within = |bytes| plan(Checkpointing::Within(bytes));
        assert_eq!(within(least.total()).unwrap(), least);
        let why = within(least.total() - 1).unwrap_err().to_string();
        assert!(why.contains("where layers keep their input alone"), "{why}");
        assert_eq!(within(plain.total()).unwrap(), plain);
        let whole = within(u64::MAX).unwrap();
        assert_eq!(whole.kept, KeptLayers { whole: 26, halves: 0, inputs: 2 });
        let mut before = least;
        for step in 0..=40 {
            let bytes = least.total() + (whole.total() - least.total()) * step / 40;
            let now = within(bytes).unwrap();
            assert!(now.total() <= bytes, "{now}");
            let rank = |k: KeptLayers| (std::cmp::Reverse(k.inputs), k.whole);
            assert!(rank(now.kept) >= rank(before.kept), "{now}");
            before = now;
        }
        assert!(
            plan(Checkpointing::Within(5 << 30))
                .unwrap()
                .to_string()
                .contains("keep all with gate and up in f16")
        );
    }

    /// Tiles of gradients take room where there are matrices for them, and nowhere else.
    #[test]
    fn a_device_without_matrices_plans_no_tiles() {
        let budget = Budget { max_binding: (1 << 31) - 256, max_buffer: 1 << 40, ..Budget::WEBGPU };
        let (c, weights) = qwen3(SMALL, None, &budget);
        let without = |budget: &Budget| Budget { matrices: false, ..budget.clone() };
        let scratch = |budget: &Budget, tokens| {
            let shape = AdapterShape::uniform(&c, &Target::ALL, 16);
            let options = TrainOptions { tokens, ..TrainOptions::default() };
            TrainPlan::of(&c, weights, &shape, &options, budget).unwrap().scratch
        };
        let spared = scratch(&budget, 4096) - scratch(&without(&budget), 4096);
        assert!((64 * MIB..256 * MIB).contains(&spared), "{spared}");
        // Few rows are not laid in tiles, nor is anything on a phone.
        assert_eq!(scratch(&budget, 128), scratch(&without(&budget), 128));
        assert_eq!(scratch(&Budget::WEBGPU, 1024), scratch(&without(&Budget::WEBGPU), 1024));
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
