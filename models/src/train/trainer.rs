//! A trainer: batches in, gradients and steps on the device.

use weft_runtime::MemoryReport;

use super::{Adapter, TrainPlan};
use crate::{Error, Model, Result};

/// The label of a token whose successor is not learnt.
pub const IGNORE: u32 = u32::MAX;

/// Sequences one after the other, without padding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Tokens.
    pub ids: Vec<u32>,
    /// For each token the one that should follow it, or [`IGNORE`].
    pub labels: Vec<u32>,
    /// Length of each sequence; they sum to the number of tokens.
    pub sequences: Vec<u32>,
}

/// How to train.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainOptions {
    /// The most tokens of a batch.
    pub tokens: u32,
    /// Keep each layer's input only and compute the rest again in the backward pass.
    pub checkpointing: bool,
    /// Probability that a value of an adapter's input is dropped.
    pub dropout: f32,
    /// Of the dropout.
    pub seed: u64,
}

impl Default for TrainOptions {
    fn default() -> TrainOptions {
        TrainOptions { tokens: 2048, checkpointing: true, dropout: 0.0, seed: 42 }
    }
}

/// AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101) with a clipped global gradient norm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Largest global norm of the gradient; 0 does not clip.
    pub clip: f32,
}

impl Default for AdamW {
    fn default() -> AdamW {
        AdamW { lr: 2e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, clip: 1.0 }
    }
}

/// What a batch costs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Losses {
    /// Sum of -ln p(label) over the supervised tokens.
    pub loss_sum: f64,
    /// Supervised tokens.
    pub supervised: u64,
    /// Those whose label is the likeliest token.
    pub correct: u64,
}

/// All that an optimiser needs to go on: the trained parameters and their two moments, flat, the pairs in
/// the order of the adapter, of each its A and then its B.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrainState {
    /// Steps done.
    pub step: u64,
    /// Parameters.
    pub parameters: Vec<f32>,
    /// First moments.
    pub m: Vec<f32>,
    /// Second moments.
    pub v: Vec<f32>,
}

/// Trains an adapter on a model.
pub struct Trainer {
    model: Model,
    plan: TrainPlan,
}

fn unfinished<T>() -> Result<T> {
    Err(Error::Training { what: "not written yet".into() })
}

impl Trainer {
    /// Takes all the memory that training needs.
    ///
    /// # Errors
    /// [`Error::Adapter`] where the adapter is not one for this model; [`Error::Training`] for senseless
    /// options, and where the memory does not fit, before any is taken, with the largest batch that would;
    /// a fault of the device.
    pub fn new(model: &Model, adapter: &Adapter, options: &TrainOptions) -> Result<Trainer> {
        adapter.check(model.config())?;
        let shape = adapter.shape();
        let plan = TrainPlan::of(model.config(), 0, &shape, options, model.gpu().budget())?;
        Ok(Trainer { model: model.clone(), plan })
    }

    /// The memory that it was planned to take.
    pub fn plan(&self) -> &TrainPlan {
        &self.plan
    }

    /// Runs a batch forward and backward and adds `scale` times the gradient of its summed loss to the
    /// gradient: `scale` is one over the supervised tokens of all batches of the step.
    ///
    /// # Errors
    /// [`Error::Training`] for a batch that is empty, too large or inconsistent; an id out of range; a fault
    /// of the device.
    pub fn accumulate(&mut self, _batch: &Batch, _scale: f32) -> Result<Losses> {
        unfinished()
    }

    /// Updates the parameters by the gradient that was accumulated, and clears it. Returns the gradient's
    /// global norm before the clip.
    ///
    /// # Errors
    /// [`Error::NotFinite`] where the norm is NaN or infinite: the parameters stay as they are, the gradient
    /// is cleared; a fault of the device.
    pub fn step(&mut self, _o: &AdamW) -> Result<f32> {
        unfinished()
    }

    /// Runs a batch forward only.
    ///
    /// # Errors
    /// As [`Trainer::accumulate`].
    pub fn evaluate(&mut self, _batch: &Batch) -> Result<Losses> {
        unfinished()
    }

    /// The adapter as it is now.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn adapter(&self) -> Result<Adapter> {
        unfinished()
    }

    /// Parameters, moments and step.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn state(&self) -> Result<TrainState> {
        unfinished()
    }

    /// Goes on from `state`, and forgets what was accumulated.
    ///
    /// # Errors
    /// [`Error::Training`] where the state is not of this adapter; a fault of the device.
    pub fn restore(&mut self, _state: &TrainState) -> Result<()> {
        unfinished()
    }

    /// Bytes that the device holds, by pool.
    pub fn memory(&self) -> MemoryReport {
        self.model.gpu().memory()
    }
}
