//! Fine-tuning with low-rank adapters on frozen, quantised weights.

mod adapter;
mod graph;
mod plan;
mod products;
mod trainer;

pub use adapter::{Adapter, AdapterShape, MAX_RANK, Pair, Target};
pub use plan::TrainPlan;
pub use trainer::{AdamW, Batch, IGNORE, Losses, TrainOptions, TrainState, Trainer};
