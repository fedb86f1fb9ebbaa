//! What training is given, and what it gives.

use weft_kernels::ops::cross_entropy::Stats;
use weft_runtime::{Readback, Wait};

use crate::Result;

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

/// Which layers keep their input only, so that the backward pass computes the rest of them again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checkpointing {
    /// All of them.
    #[default]
    Every,
    /// None of them: all layers keep what their gradients read, gate and up in f16.
    Never,
    /// Only those whose activations do not fit: training takes so many bytes of GPU memory at most, weights included.
    Within(u64),
}

impl From<bool> for Checkpointing {
    fn from(every: bool) -> Checkpointing {
        if every { Checkpointing::Every } else { Checkpointing::Never }
    }
}

/// How to train.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainOptions {
    /// The most tokens of a batch.
    pub tokens: u32,
    /// The longest sequence, which a batch that would fit is suggested for; 0 where nobody knows.
    pub context: u32,
    /// Which layers keep their input only and compute the rest again in the backward pass.
    pub checkpointing: Checkpointing,
    /// Probability that a value of an adapter's input is dropped.
    pub dropout: f32,
    /// The seed of the dropout.
    pub seed: u64,
}

impl Default for TrainOptions {
    fn default() -> TrainOptions {
        TrainOptions { tokens: 2048, context: 0, checkpointing: Checkpointing::Every, dropout: 0.0, seed: 42 }
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

impl Losses {
    /// Waits for those of each piece of the rows.
    pub(super) async fn read(parts: Vec<(usize, Readback)>, wait: Wait) -> Result<Losses> {
        let mut losses = Losses::default();
        for (rows, readback) in parts {
            let stats: Vec<Stats> = bytemuck::pod_collect_to_vec(&readback.by(wait).await?);
            for row in &stats[..rows] {
                losses.loss_sum += f64::from(row.loss);
                losses.correct += u64::from(row.correct);
            }
            losses.supervised += rows as u64;
        }
        Ok(losses)
    }
}

/// SplitMix64's mixing of a word.
pub(super) fn mix(x: u64) -> u64 {
    let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
