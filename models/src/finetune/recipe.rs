//! What a person asks of a run, apart from the model, the data and the place: a command line and a server fill it in
//! alike.

use std::collections::BTreeSet;

use weft_formats::chat::Template;
use weft_formats::gguf::File;
use weft_formats::tokenizer::Tokenizer;

use super::{Learn, Length, Overlong, Reading, Schedule, Settings, Warmup, fingerprint};
use crate::Spec;
use crate::train::{AdamW, AdapterShape, Checkpointing, Target};

/// What is asked of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Which tokens are learnt.
    pub learn: Learn,
    /// What becomes of conversations that are longer than the context.
    pub overlong: Overlong,
    /// Keys of records that are left out.
    pub ignore_keys: Vec<String>,
    /// Which matrices; None for all that can be trained.
    pub targets: Option<BTreeSet<Target>>,
    /// Rank of the adapter.
    pub rank: u32,
    /// Its scale, times the rank.
    pub alpha: f32,
    /// Scale by the root of the rank.
    pub rslora: bool,
    /// Probability that a value of an adapter's input is dropped.
    pub dropout: f32,
    /// The peak learning rate, decay and clip.
    pub optimiser: AdamW,
    /// How the learning rate falls.
    pub schedule: Schedule,
    /// How it rises.
    pub warmup: Warmup,
    /// How long to train.
    pub length: Length,
    /// Sequences of a batch.
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
}

impl Default for Recipe {
    fn default() -> Recipe {
        Recipe {
            learn: Learn::default(),
            overlong: Overlong::default(),
            ignore_keys: Vec::new(),
            targets: None,
            rank: 16,
            alpha: 32.0,
            rslora: false,
            dropout: 0.0,
            optimiser: AdamW::default(),
            schedule: Schedule::default(),
            warmup: Warmup::Steps(0),
            length: Length::Epochs(1),
            batch: 4,
            accumulate: 1,
            context: 512,
            pack: false,
            seed: 42,
            checkpointing: Checkpointing::Every,
        }
    }
}

impl Recipe {
    /// How data is read for it. `now` is the time that templates may print: the same data must give the same tokens
    /// when a run is resumed.
    pub fn reading<'a>(&'a self, tokenizer: &'a Tokenizer, template: &'a Template, now: i64) -> Reading<'a> {
        Reading {
            tokenizer,
            template,
            context: self.context,
            learn: self.learn,
            overlong: self.overlong,
            now,
            ignore_keys: &self.ignore_keys,
        }
    }

    /// The matrices that a fresh adapter sits on.
    pub fn shape(&self, spec: &Spec) -> AdapterShape {
        let chosen = self.targets.as_ref().map(|t| t.iter().copied().collect());
        AdapterShape::uniform(spec, &chosen.unwrap_or_else(|| Target::of(spec).to_vec()), self.rank)
    }

    /// The settings of a run on this model that begins with a fresh adapter.
    pub fn settings(&self, file: &File, spec: &Spec, now: i64) -> Settings {
        Settings {
            model: fingerprint(file),
            shape: self.shape(spec),
            alpha: self.alpha,
            rslora: self.rslora,
            dropout: self.dropout,
            optimiser: self.optimiser,
            schedule: self.schedule,
            warmup: self.warmup,
            length: self.length,
            batch: self.batch,
            accumulate: self.accumulate,
            context: self.context,
            pack: self.pack,
            seed: self.seed,
            checkpointing: self.checkpointing,
            now,
        }
    }

    /// A set of matrices by name: attn, mlp, all, or a list of q, k, v, o, gate, up, down.
    ///
    /// # Errors
    /// A name that is none of these.
    pub fn parse_targets(text: &str) -> Result<BTreeSet<Target>, String> {
        let mut all = BTreeSet::new();
        for part in text.split(',').map(str::trim) {
            match (part, Target::parse(part)) {
                ("attn", _) => all.extend(Target::ATTENTION),
                ("mlp", _) => all.extend(Target::MLP),
                ("all", _) => all.extend(Target::ALL),
                (_, Some(t)) => drop(all.insert(t)),
                _ => return Err(format!("{part:?} is none of attn, mlp, all, q, k, v, o, gate, up, down")),
            }
        }
        Ok(all)
    }
}

impl Settings {
    /// What `weft finetune` does with a model unless told otherwise: rank 16 on every matrix, batches of 4, one
    /// epoch.
    pub fn new(file: &File, spec: &Spec) -> Settings {
        let usual = Recipe::default();
        Recipe { context: usual.context.min(spec.context), ..usual }.settings(file, spec, 0)
    }
}
