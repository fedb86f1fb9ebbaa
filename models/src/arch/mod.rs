//! Architectures: from a file's keys to a [`Spec`]. An architecture is a file here and a line in the list of
//! [`architectures!`].

mod decoder;
mod encoder;
mod keys;

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

/// Takes in the file of each architecture, whose `read` makes a spec of keys, and makes the list of them.
macro_rules! architectures {
    ($($name:literal: $file:ident,)*) => {
        $(mod $file;)*

        /// All that load: the only list of them here. What Hugging Face calls them, and how its files become GGUF,
        /// is in `weft_formats::names`.
        const ARCHITECTURES: &[Architecture] = &[$(Architecture { name: $name, read: $file::read }),*];
    };
}

architectures! {
    "bert": bert,
    "gemma3": gemma3,
    "llama": llama,
    "nomic-bert": nomic_bert,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "qwen3moe": qwen3moe,
    "smollm3": smollm3,
}

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
    /// An unsupported architecture, a missing or senseless key, one that nothing honours, a missing token embedding.
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
        let keys = Keys::new(file, arch);
        let spec = (known.read)(&keys)?;
        keys.check_unread(&spec)?;
        Ok(spec)
    }
}
