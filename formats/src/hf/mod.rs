//! A model as Hugging Face publishes it, on its way to GGUF: `config.json`, `tokenizer.json` and
//! safetensors in a folder, for every class in [`crate::names`].
//!
//! Keys, tensor names, types and orders are those of llama.cpp's convert_hf_to_gguf.py, so that what
//! is written loads wherever its files do. What a folder says and GGUF cannot is refused by name, or told
//! in [`Conversion::warnings`] where it may matter a little.

mod config;
mod decoder;
mod encoder;
mod json;
mod rope;
mod settings;
mod steps;
mod tensors;
mod tokenizer;
mod tokens;
mod weights;

use std::path::Path;

use crate::gguf::{Metadata, Value};
use crate::quant::{self, Type};
use json::Object;
pub(crate) use json::clip;
use tensors::{Change, Source};
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
    warnings: Vec<String>,
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
        let mut config = config::Config::read(&config)?;
        let pooling = encoder::pooling(folder)?;
        let weights = weights::Weights::open(folder)?;
        let mut tokenizer = Metadata::new();
        tokenizer::put(folder, &mut config, options.pre.as_deref(), &mut tokenizer)?;
        let lowercase = tokenizer.bool("tokenizer.ggml.normalizer.lowercase") == Some(true);
        encoder::before(folder, lowercase, &mut config.warnings)?;
        let (tensors, ty) = tensors::plan(&config, &weights, options.ty)?;
        let mut metadata = Metadata::new();
        let canonical = folder.canonicalize().ok();
        let name = canonical.as_deref().unwrap_or(folder).file_name().unwrap_or_default();
        let architecture = config.architecture.name;
        metadata.set("general.architecture", Value::Str(architecture.to_owned()));
        metadata.set("general.type", Value::Str("model".to_owned()));
        metadata.set("general.name", Value::Str(name.to_string_lossy().into_owned()));
        let pooling = pooling.map(|p| ("pooling_type", Value::U32(p)));
        for (key, value) in pooling.into_iter().chain(config.keys) {
            metadata.set(format!("{architecture}.{key}"), value);
        }
        let file_type = match ty {
            Type::F32 => 0,
            Type::BF16 => 32,
            Type::Q8_0 => 7,
            _ => 1,
        };
        metadata.set("general.file_type", Value::U32(file_type));
        metadata.set("general.quantization_version", Value::U32(2));
        if config.sizes.types > 0 {
            metadata.set("tokenizer.ggml.token_type_count", Value::U32(config.sizes.types as u32));
        }
        tokenizer.iter().for_each(|(key, value)| metadata.set(key, value.clone()));
        let folder = folder.display().to_string();
        Ok(Conversion { folder, metadata, tensors, weights, warnings: config.warnings })
    }

    /// What could not be carried over and may matter a little, one line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
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
        let failed = |cause| {
            let (file, name) = (self.folder.clone(), tensor.name.clone());
            Error::Quant { file, name, cause }
        };
        let (parts, change) = match &tensor.source {
            Source::Made(bytes) => {
                out.extend(bytes);
                return Ok(());
            }
            Source::Stored { parts, change } => (parts, change),
        };
        let cols = tensor.shape[0] as usize;
        for at in parts {
            let bytes = self.weights.bytes(at);
            // Checked when the tensors were planned.
            let from = at.ty.unwrap_or(Type::F32);
            let row = bytes.len() / at.shape[0].max(1);
            let rows = if at.shape.len() == 1 { cols } else { tensor.shape[1] as usize };
            let bytes = &bytes[change.skip * row..][..rows * row];
            let Change { heads, plus_one, .. } = *change;
            let converted = match (heads, plus_one) {
                (None, false) => quant::convert_rows(from, bytes, tensor.ty, cols, None, out),
                (Some(heads), _) => {
                    // A bias is one row of values; its values are permuted as rows of a matrix are.
                    let bytes = tensors::permuted(bytes, rows, heads);
                    quant::convert_rows(from, &bytes, tensor.ty, cols, None, out)
                }
                (None, true) => {
                    let mut values = vec![0.0; rows];
                    quant::dequantize(from, bytes, &mut values).and_then(|()| {
                        values.iter_mut().for_each(|v| *v += 1.0);
                        quant::quantize(tensor.ty, &values, None, out)
                    })
                }
            };
            converted.map_err(failed)?;
        }
        Ok(())
    }
}
