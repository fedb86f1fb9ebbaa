//! Fine-tuning: data to batches, the loop around [`crate::train::Trainer`], checkpoints.

mod data;
pub mod spans;

pub use data::{Counts, Data, DataError, Example, Learn, Overlong, Reading};
