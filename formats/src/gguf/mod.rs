//! GGUF, the container of weights, tokenizer and metadata.

mod value;

pub use value::{Array, Metadata, Value};
