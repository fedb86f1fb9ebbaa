//! The server as clients see it, over real connections, with an engine that computes with hashes.

mod support;

mod adapters;
mod anthropic;
mod chat;
mod documents;
mod exams;
mod guard;
mod load;
mod ollama;
mod page;
mod peers;
mod pulls;
mod responses;
#[cfg(target_os = "linux")]
mod soak;
mod state;
mod streams;
mod tasks;
mod tools;
mod tuning;
mod vectors;
