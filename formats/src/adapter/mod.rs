//! LoRA adapters as files: GGUF as llama.cpp has it, and safetensors as PEFT has it.
//!
//! A matrix W `[rows, cols]` becomes W + scale * B A, with A `[rank, cols]` and B `[rows, rank]`
//! (Hu et al. 2021). In memory rows are in GGUF's order; PEFT files have Hugging Face's, which for Llama
//! differs in the rows of Q and K: [`Base`] says how to turn one into the other.

mod gguf;
mod peft;
mod sites;

use std::path::Path;

use rayon::prelude::*;

use crate::gguf as file;

/// Why a file is no adapter, or none for this model.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages are the documentation
pub enum Error {
    #[error(transparent)]
    Gguf(#[from] file::Error),
    #[error("{file}: {}", cause.to_string().split(" (os error").next().unwrap_or("").to_lowercase())]
    Io { file: String, cause: std::io::Error },
    #[error("{file}: not JSON ({cause})")]
    Json { file: String, cause: String },
    #[error("{file}: not a safetensors file ({cause})")]
    Safetensors { file: String, cause: String },
    #[error("{file}: {key} is {found}, not {expected}")]
    Key { file: String, key: &'static str, found: String, expected: &'static str },
    #[error("{file}: {what} is not supported")]
    Unsupported { file: String, what: String },
    #[error("{file}: is an adapter of an architecture \"{found}\", the model is \"{expected}\"")]
    Architecture { file: String, found: String, expected: String },
    #[error("{file}: tensor {name:?} {why}")]
    Tensor { file: String, name: String, why: String },
    #[error("{file}: holds no adapter tensors")]
    Empty { file: String },
}

/// What an adapter belongs to, as far as its files depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// `general.architecture`.
    pub architecture: String,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads.
    pub kv_heads: usize,
}

impl Base {
    /// Heads whose rows GGUF has in another order than Hugging Face, for the part named `attn_q` and the like.
    fn permuted_heads(&self, part: &str) -> Option<usize> {
        let architecture = crate::names::of_gguf(&self.architecture)?;
        architecture.permuted(architecture.module(part)?, self.heads, self.kv_heads)
    }
}

/// The pair of one matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The matrix: `blk.0.attn_q.weight`.
    pub tensor: String,
    /// Rows of A, columns of B.
    pub rank: usize,
    /// Rows of the matrix and of B.
    pub rows: usize,
    /// Columns of the matrix and of A.
    pub cols: usize,
    /// `[rank, cols]`.
    pub a: Vec<f32>,
    /// `[rows, rank]`.
    pub b: Vec<f32>,
}

impl Pair {
    /// Adds `scale` times rows `first..` of B A to `rows`, `[count, cols]`.
    pub fn add_to(&self, scale: f32, first: usize, rows: &mut [f32]) {
        rows.par_chunks_mut(self.cols).enumerate().for_each(|(i, row)| {
            let b = &self.b[(first + i) * self.rank..][..self.rank];
            for (b, a) in b.iter().zip(self.a.chunks_exact(self.cols)) {
                let factor = scale * b;
                row.iter_mut().zip(a).for_each(|(w, a)| *w += factor * a);
            }
        });
    }
}

/// A low-rank adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// What B A is scaled by, times the rank or its root.
    pub alpha: f32,
    /// Whether the scale is alpha / sqrt(rank) (Kalajdzievski 2023) rather than alpha / rank.
    pub rslora: bool,
    /// At least one, sorted by layer and name.
    pub pairs: Vec<Pair>,
}

impl Adapter {
    /// What B A is multiplied by. An alpha of 0 means 1, as in llama.cpp.
    pub fn scale(&self, pair: &Pair) -> f32 {
        match (self.alpha, self.rslora) {
            (0.0, _) => 1.0,
            (alpha, true) => alpha / (pair.rank as f32).sqrt(),
            (alpha, false) => alpha / pair.rank as f32,
        }
    }

    /// Reads a GGUF adapter, a PEFT `adapter_model.safetensors`, or the folder that holds one: PEFT's, else an
    /// `adapter.gguf`, as checkpoints do.
    ///
    /// # Errors
    /// Not an adapter, one of another architecture, or one with what is not supported: see [`Error`].
    pub fn open(path: &Path, base: &Base) -> Result<Adapter, Error> {
        let own = path.join("adapter.gguf");
        let mut adapter = if path.is_dir() && own.is_file() && !path.join(peft::WEIGHTS).exists() {
            gguf::read(&own, base)?
        } else if path.is_dir() {
            peft::read(&path.join(peft::WEIGHTS), base)?
        } else if path.extension().is_some_and(|e| e == "safetensors") {
            peft::read(path, base)?
        } else {
            gguf::read(path, base)?
        };
        let name = path.display().to_string();
        if adapter.pairs.is_empty() {
            return Err(Error::Empty { file: name });
        }
        for p in &adapter.pairs {
            for (values, part) in [(&p.a, "lora_a"), (&p.b, "lora_b")] {
                if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                    let why = format!("holds {} at {at}", values[at]);
                    return Err(Error::Tensor { file: name, name: format!("{}.{part}", p.tensor), why });
                }
            }
        }
        adapter.pairs.sort_by(|x, y| order(&x.tensor).cmp(&order(&y.tensor)));
        Ok(adapter)
    }

    /// Refuses an adapter that does not fit a model: `shape` gives the rows and columns of its matrices.
    ///
    /// # Errors
    /// [`Error::Tensor`] with the first that has no place or another shape.
    pub fn check(&self, file: &str, shape: &dyn Fn(&str) -> Option<(usize, usize)>) -> Result<(), Error> {
        for p in &self.pairs {
            let wrong = |part: &str, why| {
                Err(Error::Tensor { file: file.to_owned(), name: format!("{}.{part}", p.tensor), why })
            };
            match shape(&p.tensor) {
                None if !p.tensor.starts_with("blk.") => {
                    let why =
                        "is not supported while a model runs: only matrices of its layers take adapters";
                    return wrong("lora_a", format!("{why} (`weft merge` adds one to output.weight)"));
                }
                None => return wrong("lora_a", "has no matrix in this model to go with".to_owned()),
                Some((_, cols)) if cols != p.cols => {
                    let why = format!("has {} columns where the model's matrix has {cols}", p.cols);
                    return wrong("lora_a", format!("{why}: it is an adapter of another model"));
                }
                Some((rows, _)) if rows != p.rows => {
                    let why = format!("has {} rows where the model's matrix has {rows}", p.rows);
                    return wrong("lora_b", format!("{why}: it is an adapter of another model"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes a GGUF adapter that llama.cpp loads; whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_gguf(&self, path: &Path, base: &Base, name: &str) -> Result<(), Error> {
        gguf::write(self, path, base, name)
    }

    /// Writes `adapter_model.safetensors` and `adapter_config.json`, which PEFT loads, into `folder`; each
    /// whole or not at all. `model` is what the configuration calls the base.
    ///
    /// # Errors
    /// A file cannot be written; a matrix that PEFT has no name for.
    pub fn write_peft(&self, folder: &Path, base: &Base, model: &str) -> Result<(), Error> {
        peft::write(self, folder, base, model)
    }
}

/// Layers in order, in a layer by name.
fn order(tensor: &str) -> (u64, &str) {
    let layer = tensor.strip_prefix("blk.").and_then(|t| t.split('.').next()?.parse().ok());
    (layer.unwrap_or(u64::MAX), tensor)
}
