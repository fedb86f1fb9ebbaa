//! Tests of the crate, in one binary.

mod batch;
mod encoders;
mod golden;
#[path = "../../tests/support/golden_model.rs"]
mod golden_model;
mod imports;
mod lora;
mod memory;
mod refusals;
mod snapshots;
mod training;
