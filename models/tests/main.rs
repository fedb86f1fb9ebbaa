//! Tests of the crate, in one binary.

mod data_fuzz;
mod encoders;
mod engine;
mod golden;
#[path = "../../tests/support/golden_model.rs"]
mod golden_model;
mod imports;
mod lora;
mod memory;
mod pieces;
mod refusals;
mod snapshots;
#[path = "../../formats/tests/support/fuzz.rs"]
#[allow(dead_code)]
mod support;
mod training;

/// Counts what the targets in `data_fuzz` take.
#[global_allocator]
static ALLOCATOR: support::Counting = support::Counting;
