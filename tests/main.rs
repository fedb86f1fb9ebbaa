//! Tests of the whole, in one binary.
//!
//! They need a Vulkan adapter (lavapipe will do) and none of the files outside this repository.

mod adapters;
mod arch_rules;
mod batch;
mod bench;
mod cli;
mod cli_bad_input;
mod docs;
mod evals;
mod evaluations;
mod faults;
mod finetune;
/// The hub of the tests of `weft-hub`.
#[path = "../hub/tests/hub.rs"]
#[allow(dead_code)]
mod hub;
mod no_c;
mod pair;
mod pull;
mod quantize;
mod rag;
mod serve;
mod tune;
mod tuning;
mod support {
    pub(crate) mod cli;
    pub(crate) mod golden_model;
    pub(crate) mod workspace;
}
