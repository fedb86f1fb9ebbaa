//! Architectures: from a file's keys to a [`Spec`]. An architecture is a file here and a line in [`ARCHITECTURES`].

mod bert;
mod decoder;
mod encoder;
mod gemma3;
mod keys;
mod llama;
mod nomic_bert;
mod qwen2;
mod qwen3;
mod qwen3moe;
mod smollm3;

use weft_formats::gguf::File;

use crate::spec::Spec;
use crate::{Error, Result};
use keys::Keys;

/// One architecture.
pub(crate) struct Architecture {
    /// `general.architecture` in GGUF.
    pub(crate) name: &'static str,
    /// From keys to the model.
    read: fn(&Keys<'_>) -> Result<Spec>,
}

/// All that load: the only list of them here. What Hugging Face calls them, and how its files become GGUF, is in
/// `weft_formats::names`.
const ARCHITECTURES: &[Architecture] = &[
    Architecture { name: "bert", read: bert::read },
    Architecture { name: "gemma3", read: gemma3::read },
    Architecture { name: "llama", read: llama::read },
    Architecture { name: "nomic-bert", read: nomic_bert::read },
    Architecture { name: "qwen2", read: qwen2::read },
    Architecture { name: "qwen3", read: qwen3::read },
    Architecture { name: "qwen3moe", read: qwen3moe::read },
    Architecture { name: "smollm3", read: smollm3::read },
];

/// Names of the architectures that load.
pub const SUPPORTED: [&str; ARCHITECTURES.len()] = {
    let mut names = [""; ARCHITECTURES.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = ARCHITECTURES[i].name;
        i += 1;
    }
    names
};

impl Spec {
    /// Reads the model that `file` holds.
    ///
    /// # Errors
    /// An unsupported architecture, a missing or senseless key, a missing token embedding.
    pub fn read(file: &File) -> Result<Spec> {
        let name = || file.path().display().to_string();
        let meta = file.metadata();
        let missing = || Error::MissingKey { file: name(), key: "general.architecture".into() };
        let arch = meta.str("general.architecture").ok_or_else(missing)?;
        if let Some(kind @ ("adapter" | "imatrix" | "mmproj")) = meta.str("general.type") {
            return Err(Error::NotAModel { file: name(), kind: format!("of type \"{kind}\"") });
        }
        let Some(known) = ARCHITECTURES.iter().find(|a| a.name == arch) else {
            return Err(Error::Architecture { file: name(), arch: arch.into() });
        };
        if file.tensors().is_empty() {
            return Err(Error::NoTensors { file: name() });
        }
        (known.read)(&Keys::new(file, arch))
    }
}
