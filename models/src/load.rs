//! A model on a device, and how to open one.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use weft_formats::chat::{self, Template};
use weft_formats::gguf::Metadata;
use weft_formats::tokenizer::Tokenizer;
use weft_kernels::ops::attention::CacheType;
use weft_runtime::Gpu;

use crate::decoder::Weights;
use crate::loading::begin;
use crate::lora::Lora;
use crate::{Batch, Error, Loading, Message, Opening, Result, Session, Spec, Synthetic};

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
}

/// Where a model comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A GGUF file, or any shard of a split one.
    File(PathBuf),
    /// A GGUF file in memory.
    Bytes(Vec<u8>),
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

pub(crate) struct Inner {
    pub(crate) gpu: Gpu,
    pub(crate) spec: Spec,
    pub(crate) weights: Weights,
    pub(crate) chunk: u32,
    pub(crate) integers: bool,
    pub(crate) cache: CacheType,
    /// Of all tensors: values, and bytes as the file stores them.
    pub(crate) parameters: u64,
    pub(crate) bytes: u64,
    pub(crate) file: String,
    pub(crate) metadata: Metadata,
    pub(crate) tokenizer: std::result::Result<Tokenizer, weft_formats::tokenizer::Error>,
    pub(crate) template: std::result::Result<Template, chat::Error>,
    pub(crate) opening: OnceLock<Opening>,
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
    /// Opens a model and waits for it.
    ///
    /// # Errors
    /// Anything wrong with the file or the device; see [`Error`].
    pub fn open(source: impl Into<Source>, options: &Options) -> Result<Model> {
        pollster::block_on(Model::open_async(source, options))
    }

    /// As [`Model::open`], telling `progress` after each batch of weights; `Break` cancels.
    ///
    /// # Errors
    /// As [`Model::open`]; [`Error::Cancelled`].
    pub fn open_with(
        source: impl Into<Source>,
        options: &Options,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Model> {
        Model::begin(source, options)?.finish(progress)
    }

    /// As [`Model::open`], without blocking.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub async fn open_async(source: impl Into<Source>, options: &Options) -> Result<Model> {
        let loading = begin(source.into(), options).await?;
        loading.finish(&mut |_| ControlFlow::Continue(()))
    }

    /// The first half of [`Model::open`]: the file is read and checked, the device open and its memory taken.
    /// Weights come with [`Loading::finish`]; kernels can compile meanwhile, see [`Loading::prepare`].
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn begin(source: impl Into<Source>, options: &Options) -> Result<Loading> {
        pollster::block_on(begin(source.into(), options))
    }

    /// How long the parts of opening it took.
    pub fn opening(&self) -> Opening {
        self.0.opening.get().copied().unwrap_or_default()
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
        let text = self
            .template()?
            .render(messages, &options)
            .map_err(|source| Error::Template { file: self.0.file.clone(), source })?;
        Ok(self.tokenizer()?.encode(&text, true))
    }

    /// The context that is used where none is asked for: the model's own, at most 4,096.
    pub fn default_context(&self) -> u32 {
        self.0.spec.default_context()
    }

    /// A KV cache for `context` positions.
    ///
    /// # Errors
    /// A context of 0, or more memory than the device has left.
    pub fn session(&self, context: u32) -> Result<Session> {
        Session::new(self.clone(), context)
    }

    /// KV caches for `streams` answers at a time, of `context` positions each, and one for their prompts.
    ///
    /// # Errors
    /// More streams than [`MAX_STREAMS`](crate::MAX_STREAMS), or none; as [`Model::session`].
    pub fn batch(&self, streams: u32, context: u32) -> Result<Batch> {
        Batch::new(self.clone(), streams, context)
    }

    pub(crate) fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let vocabulary = self.0.spec.vocabulary;
        match ids.iter().find(|&&id| id >= vocabulary) {
            Some(&id) => Err(Error::TokenRange { id, vocabulary }),
            None => Ok(()),
        }
    }
}
