//! Bytes to tensors and text to tokens: GGUF, quantised blocks, tokenizers, chat templates, adapters.
//!
//! Nothing here knows of a GPU, of another crate of ours, or of a model. Readers are total:
//! any byte string gives a value or an error, in time and memory bounded by its length.

pub mod adapter;
mod atomic_file;
pub mod base64;
pub mod chat;
pub mod gguf;
pub mod guard;
mod hex;
pub mod hf;
pub mod imatrix;
pub mod json;
pub mod merge;
pub mod names;
pub mod quant;
pub mod recipe;
#[cfg(not(target_arch = "wasm32"))]
pub mod table;
pub mod tokenizer;

pub use atomic_file::{AtomicFile, read_regular};
pub use hex::hex;
