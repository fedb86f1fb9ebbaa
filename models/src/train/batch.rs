//! What training is given, and what it gives.

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
    /// The longest sequence, which a batch that would fit is suggested for; 0 where nobody knows.
    pub context: u32,
    /// Keep each layer's input only and compute the rest again in the backward pass.
    pub checkpointing: bool,
    /// Probability that a value of an adapter's input is dropped.
    pub dropout: f32,
    /// The seed of the dropout.
    pub seed: u64,
}

impl Default for TrainOptions {
    fn default() -> TrainOptions {
        TrainOptions { tokens: 2048, context: 0, checkpointing: true, dropout: 0.0, seed: 42 }
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
