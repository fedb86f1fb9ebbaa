//! Fine-tuning with low-rank adapters on frozen, quantised weights.

mod adapter;
mod graph;
mod plan;
mod products;
mod trainer;

pub use crate::sites::Target;
pub use adapter::{Adapter, AdapterShape, MAX_RANK, Pair};
pub use plan::TrainPlan;
pub use trainer::{AdamW, Batch, IGNORE, Losses, TrainOptions, TrainState, Trainer};
