//! What decides a run: everything here is in its checkpoints, and a resumed run must have the same.

use serde_json::{Map, Value as Json, json};

use super::Data;
use crate::train::{AdamW, AdapterShape, Checkpointing, TrainOptions};

/// How the learning rate goes from its peak, behind the warm-up, to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Schedule {
    /// It stays.
    Constant,
    /// Half a cosine, to 0.
    #[default]
    Cosine,
    /// A line, to 0.
    Linear,
}

impl Schedule {
    /// All, with their names.
    pub const ALL: [(&'static str, Schedule); 3] =
        [("constant", Schedule::Constant), ("cosine", Schedule::Cosine), ("linear", Schedule::Linear)];

    /// The name.
    pub fn name(self) -> &'static str {
        Schedule::ALL[self as usize].0
    }
}

/// Steps in which the learning rate rises.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Warmup {
    /// A part of all steps, from 0 to 1.
    Ratio(f64),
    /// So many.
    Steps(u64),
}

/// How long to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Times through the data.
    Epochs(u64),
    /// Updates, through the data as often as it takes.
    Steps(u64),
}

/// What decides a run, besides the model and the data.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Which model it is; another value at a resume is refused.
    pub model: String,
    /// Where the adapter sits.
    pub shape: AdapterShape,
    /// Numerator of the adapter's scale.
    pub alpha: f32,
    /// Divide alpha by the root of the rank instead of the rank.
    pub rslora: bool,
    /// Probability that a value of an adapter's input is dropped.
    pub dropout: f32,
    /// The peak learning rate and the rest of the optimiser.
    pub optimiser: AdamW,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// How it begins.
    pub warmup: Warmup,
    /// How long to train.
    pub length: Length,
    /// Sequences of a batch; with `pack`, contexts of tokens.
    pub batch: u32,
    /// Batches of a step.
    pub accumulate: u32,
    /// Most tokens of a sequence.
    pub context: u32,
    /// Fill batches up to `batch` times `context` tokens.
    pub pack: bool,
    /// The seed of the adapter's first values, the shuffling and the dropout.
    pub seed: u64,
    /// Which layers keep their input only and compute the rest again.
    pub checkpointing: Checkpointing,
    /// Seconds since 1970 for templates that print the date.
    pub now: i64,
}

impl Settings {
    /// What the trainer is made with.
    pub fn train_options(&self, data: &Data, val: Option<&Data>) -> TrainOptions {
        let most = |d: &Data| d.most_tokens(self.batch, self.pack());
        TrainOptions {
            tokens: most(data).max(val.map_or(0, most)),
            context: self.context,
            checkpointing: self.checkpointing,
            dropout: self.dropout,
            seed: self.seed,
        }
    }

    /// Updates of the whole run.
    pub fn steps(&self, data: &Data) -> u64 {
        let per_epoch = |epoch: u64| {
            let batches = data.epoch(self.seed, epoch, self.batch, self.pack()).len() as u64;
            batches.div_ceil(self.accumulate.into())
        };
        match self.length {
            Length::Steps(n) => n,
            // Without packing all epochs are equally long.
            Length::Epochs(n) if !self.pack => n * per_epoch(0),
            Length::Epochs(n) => (0..n).map(per_epoch).sum(),
        }
    }

    /// Tokens that pass through the model in the whole run, near enough for a plan.
    pub fn tokens(&self, data: &Data) -> u64 {
        let once = data.epoch(self.seed, 0, self.batch, self.pack()).len() as u64;
        let steps = once.div_ceil(self.accumulate.into()).max(1);
        (data.counts.tokens as f64 * self.steps(data) as f64 / steps as f64).round() as u64
    }

    pub(super) fn pack(&self) -> Option<u32> {
        self.pack.then_some(self.context)
    }

    /// The learning rate of a step, counted from 0, of `steps`.
    pub fn lr(&self, step: u64, steps: u64) -> f32 {
        let warmup = match self.warmup {
            Warmup::Ratio(r) => (r * steps as f64).ceil() as u64,
            Warmup::Steps(n) => n,
        };
        let factor = if step < warmup {
            (step + 1) as f64 / warmup as f64
        } else {
            let done = (step - warmup) as f64 / steps.saturating_sub(warmup).max(1) as f64;
            match self.schedule {
                Schedule::Constant => 1.0,
                Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
                Schedule::Linear => 1.0 - done,
            }
        };
        (f64::from(self.optimiser.lr) * factor) as f32
    }

    /// All of it with the data's fingerprints, for a checkpoint.
    pub(super) fn to_json(&self, data: &Data, val: Option<&Data>) -> Map<String, Json> {
        let targets: std::collections::BTreeSet<_> = self.shape.sites.iter().map(|s| s.1).collect();
        let names: Vec<_> = targets.into_iter().map(|t| t.name()).collect();
        let (epochs, steps) = match self.length {
            Length::Epochs(n) => (json!(n), Json::Null),
            Length::Steps(n) => (Json::Null, json!(n)),
        };
        let warmup = match self.warmup {
            Warmup::Ratio(r) => json!(r),
            Warmup::Steps(n) => json!(n),
        };
        let o = &self.optimiser;
        let pairs = [
            ("model", json!(self.model)),
            ("data", json!(format!("{:016x}", data.fingerprint()))),
            ("rank", json!(self.shape.rank)),
            ("alpha", short(self.alpha)),
            ("targets", json!(names.join(","))),
            ("matrices", json!(self.shape.sites.len())),
            ("rslora", json!(self.rslora)),
            ("dropout", short(self.dropout)),
            ("lr", short(o.lr)),
            ("beta1", short(o.beta1)),
            ("beta2", short(o.beta2)),
            ("eps", short(o.eps)),
            ("weight-decay", short(o.weight_decay)),
            ("clip", short(o.clip)),
            ("schedule", json!(self.schedule.name())),
            ("warmup", warmup),
            ("epochs", epochs),
            ("steps", steps),
            ("batch", json!(self.batch)),
            ("accumulate", json!(self.accumulate)),
            ("ctx", json!(self.context)),
            ("pack", json!(self.pack)),
            ("seed", json!(self.seed)),
            ("checkpointing", json!(self.checkpointing != Checkpointing::Never)),
            (
                "memory",
                if let Checkpointing::Within(bytes) = self.checkpointing { json!(bytes) } else { Json::Null },
            ),
            ("now", json!(self.now)),
            ("val", json!(val.map(|v| format!("{:016x}", v.fingerprint())))),
        ];
        pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
    }
}

/// As few digits as tell an f32, which survive being written and read.
pub(super) fn short(v: f32) -> Json {
    json!(v.to_string().parse::<f64>().unwrap_or(f64::from(v)))
}

/// Which values of `here` differ from those `there`, in words.
pub(super) fn differences(there: &Map<String, Json>, here: &Map<String, Json>) -> Vec<String> {
    let shown = |v: Option<&Json>| match v {
        None | Some(Json::Null) => "none".to_owned(),
        Some(Json::String(s)) => s.clone(),
        Some(v) => v.to_string(),
    };
    let keys: std::collections::BTreeSet<_> = there.keys().chain(here.keys()).collect();
    let of = |k: &&String| (there.get(*k), here.get(*k));
    keys.iter()
        .filter(|k| {
            let (a, b) = of(k);
            shown(a) != shown(b)
        })
        .map(|k| {
            let (a, b) = of(k);
            format!("{k} {} there and {} here", shown(a), shown(b))
        })
        .collect()
}
