//! A model on a device.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use weft_formats::chat::{self, Template};
use weft_formats::gguf::Metadata;
use weft_formats::tokenizer::Tokenizer;
use weft_kernels::ops::attention::CacheType;
use weft_runtime::Gpu;

use crate::graph::Frame;
use crate::kv::Shapes;
use crate::lora::Lora;
use crate::weights::{Layout, Stream, Weights};
use crate::{AdapterFile, Error, Message, Result, Spec};

/// How long the parts of opening a model took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Opening {
    /// Reading and checking the file's header.
    pub file: Duration,
    /// The tokenizer and the template, while the device was opened.
    pub tokenizer: Duration,
    /// Opening the device.
    pub device: Duration,
    /// Memory for the weights, and vectors.
    pub memory: Duration,
    /// Recording programs whose kernels then compile beside the upload.
    pub prepare: Duration,
    /// Uploading the weights: reading, repacking, copying.
    pub upload: Duration,
    /// Bytes of the file that were uploaded.
    pub bytes: u64,
}

pub(crate) struct Inner {
    pub(crate) gpu: Gpu,
    pub(crate) spec: Spec,
    /// How its tensors became matrices.
    pub(crate) layout: Layout,
    pub(crate) weights: Weights,
    /// What brings the matrices of layers, where they do not stay.
    pub(crate) stream: Option<Stream>,
    pub(crate) chunk: u32,
    pub(crate) integers: bool,
    pub(crate) cache: CacheType,
    /// What all tensors have: values, and bytes as the file stores them.
    pub(crate) parameters: u64,
    pub(crate) bytes: u64,
    pub(crate) file: String,
    pub(crate) metadata: Metadata,
    pub(crate) tokenizer: std::result::Result<Tokenizer, weft_formats::tokenizer::Error>,
    pub(crate) template: std::result::Result<Template, chat::Error>,
    pub(crate) opening: OnceLock<Opening>,
    /// A sum of the metadata and of what weights were uploaded begin with, piece by piece.
    pub(crate) identity: OnceLock<String>,
}

/// A model on a device. Cheap to clone; all clones share the weights.
#[derive(Clone)]
pub struct Model(pub(crate) Arc<Inner>, pub(crate) Option<Arc<Lora>>);

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Model({} on {})", self.0.file, self.0.gpu.caps().name)
    }
}

impl Model {
    /// How long the parts of opening it took.
    pub fn opening(&self) -> Opening {
        self.0.opening.get().copied().unwrap_or_default()
    }

    /// Differs between models: a SHA-256 of the file's metadata and of a part of its weights, in hexadecimal.
    pub fn identity(&self) -> String {
        self.0.identity.get().cloned().unwrap_or_default()
    }

    /// Hyper-parameters.
    pub fn spec(&self) -> &Spec {
        &self.0.spec
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.0.gpu
    }

    /// The file's metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// The file has none, or one that is not supported.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.0
            .tokenizer
            .as_ref()
            .map_err(|e| Error::Tokenizer { file: self.0.file.clone(), source: e.clone() })
    }

    /// The chat template: the file's, or ChatML where it has none.
    ///
    /// # Errors
    /// The file's template does not parse.
    pub fn template(&self) -> Result<&Template> {
        self.0.template.as_ref().map_err(|e| Error::Template { file: self.0.file.clone(), source: e.clone() })
    }

    /// Renders a conversation up to where the model answers, as token ids. `thinking` is Qwen3's
    /// `enable_thinking`.
    ///
    /// # Errors
    /// No tokenizer, or a template that fails on these messages.
    pub fn chat(&self, messages: &[Message], thinking: Option<bool>) -> Result<Vec<u32>> {
        let options =
            chat::Options { add_generation_prompt: true, enable_thinking: thinking, ..Default::default() };
        self.template()?
            .tokens(messages, &options, self.tokenizer()?)
            .map_err(|source| Error::Template { file: self.0.file.clone(), source })
    }

    /// The context that is used where none is asked for: the model's own, at most 4,096.
    pub fn default_context(&self) -> u32 {
        self.0.spec.default_context()
    }

    /// Refuses what needs all weights at once.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where layers are streamed.
    pub(crate) fn check_resident(&self) -> Result<()> {
        match &self.0.stream {
            None => Ok(()),
            Some(_) => Err(Error::Unsupported {
                what: format!(
                    "{}: its layers are streamed (stream_weights), which is for training alone; open it without",
                    self.0.file
                ),
            }),
        }
    }

    pub(crate) fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let vocabulary = self.0.spec.vocabulary;
        match ids.iter().find(|&&id| id >= vocabulary) {
            Some(&id) => Err(Error::TokenRange { id, vocabulary }),
            None => Ok(()),
        }
    }
}

impl Inner {
    /// What graphs are planned from.
    pub(crate) fn frame<'a>(&'a self, kv: &'a Shapes, lora: Option<&'a Lora>) -> Frame<'a> {
        Frame {
            spec: &self.spec,
            weights: &self.layout,
            caps: self.gpu.caps(),
            budget: self.gpu.budget(),
            kv,
            lora,
            integers: self.integers,
        }
    }
}

impl Model {
    /// The same model with these adapters in effect, each with a factor on its own scale; they replace those
    /// that were. Weights stay as they are and are shared.
    ///
    /// # Errors
    /// An adapter of another model (see [`open_adapter`](crate::open_adapter), which checks); memory.
    pub fn with_adapters(&self, adapters: &[(&AdapterFile, f32)]) -> Result<Model> {
        let lora = match adapters {
            [] => None,
            _ => Some(Lora::new(self.gpu(), self.spec(), adapters)?.into()),
        };
        Ok(Model(self.0.clone(), lora))
    }
}
