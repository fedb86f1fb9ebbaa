//! GGUF, the container of weights, tokenizer and metadata.
//!
//! [`File`] reads versions 2 and 3, split over several files or not, through a memory map or piece by piece;
//! [`Writer`] writes version 3. The layout is in `parse.rs`.

mod error;
mod file;
mod parse;
mod value;
mod writer;

pub use error::{Cause, Error};
pub use file::{File, Pieces, kind_of};
pub use parse::TensorInfo;
pub use value::{Array, Metadata, Value};
pub use writer::{Output, Writer};
