//! Fine-tuning with low-rank adapters on frozen, quantised weights.

mod adapter;
mod batch;
mod phase;
mod plan;
mod product;
mod products;
mod record;
mod trainer;

pub use crate::sites::Target;
pub use adapter::{Adapter, AdapterShape, MAX_RANK, Pair};
pub use batch::{AdamW, Batch, Checkpointing, IGNORE, Losses, TrainOptions, TrainState};
pub use plan::{KeptLayers, TrainPlan};
pub use trainer::Trainer;
