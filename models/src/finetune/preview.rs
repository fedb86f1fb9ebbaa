//! What is known of a run before it begins: its first batch as text, and how long a step takes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use weft_formats::tokenizer::Tokenizer;

use super::{Data, Settings};
use crate::train::{Adapter, IGNORE, Target, Trainer};
use crate::{Model, Result};

/// A first pass that takes longer is not repeated to leave its compiling of kernels out.
const LONG: Duration = Duration::from_secs(10);

/// Seconds of a step on this device: that of the first batch, without an update. Takes the memory of training, and
/// gives it back.
///
/// # Errors
/// It does not fit; a fault of the device.
pub fn measure(model: &Model, settings: &Settings, data: &Data, validation: Option<&Data>) -> Result<f64> {
    let targets: BTreeSet<Target> = settings.shape.sites.iter().map(|s| s.1).collect();
    let targets: Vec<Target> = targets.into_iter().collect();
    let (rank, alpha) = (settings.shape.rank, settings.alpha);
    let adapter = Adapter::new(model.spec(), &targets, rank, alpha, settings.rslora, settings.seed);
    let mut trainer = Trainer::new(model, &adapter, &settings.train_options(data, validation))?;
    let batches = data.epoch(settings.seed, 0, settings.batch, settings.pack());
    let batch = data.batch(batches.first().map(Vec::as_slice).unwrap_or_default());
    let mut took = Duration::ZERO;
    for _ in 0..2 {
        let start = Instant::now();
        trainer.accumulate(&batch, 1.0)?;
        took = start.elapsed();
        if took > LONG {
            break;
        }
    }
    Ok(took.as_secs_f64() * f64::from(settings.accumulate))
}

/// A sequence as a person reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its tokens.
    pub tokens: usize,
    /// Those of them that are learnt.
    pub learnt: usize,
    /// Its text in runs that are learnt, or are not.
    pub parts: Vec<(String, bool)>,
}

impl Data {
    /// The sequences of the first batch.
    pub fn first_batch(&self, settings: &Settings, tokenizer: &Tokenizer) -> Vec<Shown> {
        let batches = self.epoch(settings.seed, 0, settings.batch, settings.pack());
        let first = batches.first().map(Vec::as_slice).unwrap_or_default();
        first.iter().map(|&index| self.shown(index, tokenizer)).collect()
    }

    fn shown(&self, index: usize, tokenizer: &Tokenizer) -> Shown {
        let e = &self.examples[index];
        let first = e.ids.first().map(|&id| (id, false));
        let rest = e.ids.iter().skip(1).zip(&e.labels).map(|(&id, &label)| (id, label != IGNORE));
        let last = e.labels.last().filter(|l| **l != IGNORE).map(|&l| (l, true));
        let all: Vec<(u32, bool)> = first.into_iter().chain(rest).chain(last).collect();
        let text = |run: &[(u32, bool)]| {
            let ids: Vec<u32> = run.iter().map(|t| t.0).collect();
            (tokenizer.decode(&ids, true), run[0].1)
        };
        let parts = all.chunk_by(|a, b| a.1 == b.1).map(text).collect();
        Shown { tokens: e.ids.len(), learnt: e.supervised(), parts }
    }
}
