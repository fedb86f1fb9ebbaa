//! What a model is opened from, and how.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use weft_formats::gguf::Pieces;
use weft_kernels::ops::attention::CacheType;

use crate::Synthetic;

/// How to open a model.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The device and how much of it to use.
    pub device: weft_runtime::Options,
    /// Tokens of a prefill batch; picked by device if `None`.
    pub chunk: Option<u32>,
    /// The context that the check against the device's memory assumes; `None` assumes
    /// [`Model::default_context`].
    pub context: Option<u32>,
    /// How the KV cache is stored; `None` is f16, or f32 where every matrix of the file is f32.
    pub cache: Option<CacheType>,
    /// Multiply in integers of 8 bits when one token is computed, where weights allow; `None` does where the
    /// device has instructions for it.
    pub integers: Option<bool>,
    /// Read the matrices of layers from the file whenever they are needed, through memory for one of them: for training,
    /// where time matters less than memory.
    pub stream_weights: bool,
}

/// Where a model comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A GGUF file, or any shard of a split one.
    File(PathBuf),
    /// A GGUF file in memory.
    Bytes(Vec<u8>),
    /// A GGUF file of this name that is read piece by piece, such as one that somebody picked in a browser.
    Pieces(String, Arc<dyn Pieces>),
    /// No file: a real shape with made-up weights.
    Synthetic(Synthetic),
}

impl From<&str> for Source {
    fn from(path: &str) -> Source {
        Source::File(path.into())
    }
}

impl From<&Path> for Source {
    fn from(path: &Path) -> Source {
        Source::File(path.into())
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Source {
        Source::File(path)
    }
}

impl From<Synthetic> for Source {
    fn from(synthetic: Synthetic) -> Source {
        Source::Synthetic(synthetic)
    }
}

impl From<Vec<u8>> for Source {
    fn from(bytes: Vec<u8>) -> Source {
        Source::Bytes(bytes)
    }
}

/// Bytes of weights uploaded, of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Uploaded.
    pub done: u64,
    /// In all.
    pub total: u64,
}
