//! A model as Hugging Face publishes it, on its way to GGUF: `config.json`, `tokenizer.json` and
//! safetensors in a folder, for Llama, Qwen2, Qwen3 and its mixtures of experts.
//!
//! Keys, tensor names, types and orders are those of llama.cpp's convert_hf_to_gguf.py, so that what
//! is written loads wherever its files do.

mod config;
mod json;
mod tensors;
mod tokenizer;
mod weights;

use std::path::Path;

use crate::gguf::{Metadata, Value};
use crate::quant::{self, Type};
use json::Object;
pub(crate) use json::clip;
use tensors::Source;
pub(crate) use tensors::{permuted, unpermuted};

/// Why a folder cannot be converted.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages are the documentation
pub enum Error {
    #[error("{file}: {}", cause.to_string().split(" (os error").next().unwrap_or("").to_lowercase())]
    Io { file: String, cause: std::io::Error },
    #[error("{file}: not JSON ({cause})")]
    Json { file: String, cause: String },
    #[error("{file}: key {key:?} is missing")]
    Missing { file: String, key: String },
    #[error("{file}: key {key:?} is {found}, not {expected}")]
    Key { file: String, key: String, found: String, expected: &'static str },
    #[error("{file}: architecture {found:?} is not supported (supported: {known})")]
    Architecture { file: String, found: String, known: String },
    #[error("{file}: {what} is not supported")]
    Unsupported { file: String, what: String },
    #[error("{file}: not a safetensors file ({cause})")]
    Safetensors { file: String, cause: String },
    #[error("{file}: no model.safetensors and no model.safetensors.index.json")]
    NoWeights { file: String },
    #[error("{file}: tensor {name:?} is missing")]
    NoTensor { file: String, name: String },
    #[error("{file}: tensor {name:?} has the shape {shape:?}, not {expected:?} (rows first)")]
    Shape { file: String, name: String, shape: Vec<usize>, expected: Vec<usize> },
    #[error("{file}: tensor {name:?} is {dtype}, not F32, F16 or BF16")]
    Dtype { file: String, name: String, dtype: String },
    #[error("{file}: tensor {name:?}: {cause}")]
    Quant { file: String, name: String, cause: quant::Error },
}

/// What to make of a folder.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The type of matrices: F32, F16, BF16 or Q8_0. Without it, the one they are stored in.
    pub ty: Option<Type>,
    /// The value of `tokenizer.ggml.pre`, in place of the one that tokenizer.json's patterns mean.
    pub pre: Option<String>,
}

/// A folder read and checked, its weights mapped and not read.
#[derive(Debug)]
pub struct Conversion {
    folder: String,
    metadata: Metadata,
    tensors: Vec<Tensor>,
    weights: weights::Weights,
}

/// A tensor of the new file.
#[derive(Debug)]
pub struct Tensor {
    /// GGUF's name.
    pub name: String,
    /// Columns first.
    pub shape: Vec<u64>,
    /// The type it gets.
    pub ty: Type,
    source: Source,
}

/// Types that [`Options::ty`] takes.
pub const TYPES: [Type; 4] = [Type::F32, Type::F16, Type::BF16, Type::Q8_0];

impl Conversion {
    /// Reads `folder`.
    ///
    /// # Errors
    /// A file is missing, broken, or asks for something that is not supported; a tensor is missing, not
    /// known, or of another shape than the configuration says: see [`Error`].
    pub fn open(folder: &Path, options: &Options) -> Result<Conversion, Error> {
        let config = Object::read(&folder.join("config.json"))?;
        let config = config::Config::read(&config)?;
        let weights = weights::Weights::open(folder)?;
        let (tensors, ty) = tensors::plan(&config, &weights, options.ty)?;
        let mut metadata = Metadata::new();
        let canonical = folder.canonicalize().ok();
        let name = canonical.as_deref().unwrap_or(folder).file_name().unwrap_or_default();
        metadata.set("general.architecture", Value::Str(config.family.name.to_owned()));
        metadata.set("general.type", Value::Str("model".to_owned()));
        metadata.set("general.name", Value::Str(name.to_string_lossy().into_owned()));
        config.put(&mut metadata);
        let file_type = match ty {
            Type::F32 => 0,
            Type::BF16 => 32,
            Type::Q8_0 => 7,
            _ => 1,
        };
        metadata.set("general.file_type", Value::U32(file_type));
        metadata.set("general.quantization_version", Value::U32(2));
        tokenizer::put(folder, &config, options.pre.as_deref(), &mut metadata)?;
        Ok(Conversion { folder: folder.display().to_string(), metadata, tensors, weights })
    }

    /// The keys of the new file.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tensors of the new file, in order.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Appends the bytes of one of [`Conversion::tensors`].
    ///
    /// # Errors
    /// A value that its type cannot hold.
    pub fn bytes(&self, tensor: &Tensor, out: &mut Vec<u8>) -> Result<(), Error> {
        let cols = tensor.shape[0] as usize;
        let converted = match &tensor.source {
            Source::Made(bytes) => {
                out.extend(bytes);
                Ok(())
            }
            Source::Pieces(pieces) => pieces.iter().try_for_each(|(at, range)| {
                let bytes = &self.weights.bytes(at)[range.clone()];
                quant::convert_rows(at.ty, bytes, tensor.ty, cols, None, out)
            }),
            Source::Stored { at, heads: None } => {
                quant::convert_rows(at.ty, self.weights.bytes(at), tensor.ty, cols, None, out)
            }
            Source::Stored { at, heads: Some(heads) } => {
                // A bias is one row of values; its values are permuted as rows of a matrix are.
                let rows = if tensor.shape.len() == 1 { cols } else { tensor.shape[1] as usize };
                let bytes = tensors::permuted(self.weights.bytes(at), rows, *heads);
                quant::convert_rows(at.ty, &bytes, tensor.ty, cols, None, out)
            }
        };
        let (file, name) = (&self.folder, &tensor.name);
        converted.map_err(|cause| Error::Quant { file: file.clone(), name: name.clone(), cause })
    }
}
