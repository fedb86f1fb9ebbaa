//! Everything a person runs: the commands of `weft` and the model on board.
//!
//! A command is one file under `cmd/`: its flags as a clap struct, and a function that runs it. Text that
//! is the result goes to stdout; progress, timings and errors go to stderr; an error is one line.

pub mod answers;
pub mod cmd;
pub mod documents;
pub mod error;
pub mod interrupt;
pub mod mini;
pub mod options;
pub mod output;
pub mod report;
pub mod sampling;

pub use error::{Error, Result};
