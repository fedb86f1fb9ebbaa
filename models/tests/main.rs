//! Tests of the crate, in one binary.

mod batch;
mod golden;
#[path = "../../tests/support/golden_model.rs"]
mod golden_model;
mod lora;
mod snapshots;
mod training;
