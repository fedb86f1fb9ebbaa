//! Fine-tuning with low-rank adapters on frozen, quantised weights.

// The graph that uses all of this follows.
#![allow(dead_code)]

mod adapter;
mod plan;
mod trainer;

pub use adapter::{Adapter, AdapterShape, MOST_RANK, Pair, Target};
pub use plan::TrainPlan;
pub use trainer::{AdamW, Batch, IGNORE, Losses, TrainOptions, TrainState, Trainer};
