//! What can be wrong with a model, a prompt or a device, in one line each.

use weft_runtime::human;

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a model does not load or run.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error(transparent)]
    File(#[from] weft_formats::gguf::Error),
    #[error("{what}")]
    Finetune { what: String },
    #[error(transparent)]
    Data(#[from] crate::finetune::DataError),
    #[error(transparent)]
    AdapterFile(#[from] weft_formats::adapter::Error),
    #[error("{file}: {source}")]
    Tokenizer { file: String, source: weft_formats::tokenizer::Error },
    #[error("{file}: {source}")]
    Template { file: String, source: weft_formats::chat::Error },
    #[error(transparent)]
    Gpu(#[from] weft_runtime::Error),
    #[error(transparent)]
    Kernel(weft_kernels::Error),
    #[error("{file}: metadata key \"{key}\" is missing")]
    MissingKey { file: String, key: String },
    #[error("{file}: metadata key \"{key}\" has the value {value}, which {why}")]
    BadKey { file: String, key: String, value: String, why: String },
    #[error("{file}: architecture \"{arch}\" is not supported (supported: {})", crate::SUPPORTED.join(", "))]
    Architecture { file: String, arch: String },
    #[error("{file}: holds a vocabulary and no tensors; it can be tokenized with, not run")]
    NoTensors { file: String },
    #[error("{file}: is {kind}, not a model")]
    NotAModel { file: String, kind: String },
    #[error("{file}: tensor \"{name}\" is missing")]
    MissingTensor { file: String, name: String },
    #[error("{file}: tensor \"{name}\" has no place in the graphs of {}", crate::SUPPORTED.join(", "))]
    UnknownTensor { file: String, name: String },
    #[error("{file}: tensor \"{name}\" has the shape {found:?}, expected {expected:?}")]
    TensorShape { file: String, name: String, found: Vec<u64>, expected: Vec<u64> },
    #[error(
        "{file}: tensor \"{name}\" is of type {ty}, which is not supported here (supported: {supported})"
    )]
    TensorType { file: String, name: String, ty: String, supported: String },
    #[error(
        "{file}: needs {} ({} of weights, {} of KV cache for a context of {context}) but {device} has {}; {way_out}",
        human(*needed), human(*weights), human(*cache), human(*available)
    )]
    TooLarge {
        file: String,
        device: String,
        needed: u64,
        weights: u64,
        cache: u64,
        context: u32,
        available: u64,
        way_out: String,
    },
    #[error(
        "the prompt has {tokens} tokens, more than the context of {context}; raise it with -c or shorten the prompt"
    )]
    PromptTooLong { tokens: usize, context: u32 },
    #[error("the prompt is empty")]
    EmptyPrompt,
    #[error("token id {id} is out of range: the vocabulary has {vocabulary} tokens")]
    TokenRange { id: u32, vocabulary: u32 },
    #[error("a context of {wanted} was asked for; it must be from 1 to {most}")]
    Context { wanted: u32, most: u32 },
    #[error("{wanted} slots were asked for; it must be from 1 to {most}")]
    Slots { wanted: u32, most: u32 },
    #[error("{what} must be {range}, not {value}")]
    Sampling { what: &'static str, range: &'static str, value: String },
    #[error("{what}")]
    Unsupported { what: String },
    #[error(
        "the logits at position {position} are not finite, so no token can be drawn: the weights hold a value that is NaN or infinite, or keys and activations are beyond f16; try --cache-type f32, then --without coop,f16"
    )]
    NotFiniteLogits { position: u32 },
    #[error("the adapter does not fit the model: {what}")]
    Adapter { what: String },
    #[error("training: {what}")]
    Training { what: String },
    #[error(
        "training: the gradient of step {step} is not finite; the parameters are those of the step before: lower the learning rate, or clip; where the first step says so, values are beyond f16: try --without coop,f16"
    )]
    NotFinite { step: u64 },
    #[error("{file}: {arch} is an encoder and has no next token; ask it with `weft embed` or `weft rerank`")]
    Encoder { file: String, arch: String },
    #[error(
        "{file}: says no pooling, so it is no model of embeddings; name one with --pooling (mean, cls or last)"
    )]
    NoPooling { file: String },
    #[error(
        "{file}: is a reranker, which scores pairs; ask it with `weft rerank`, or name a --pooling (mean, cls or last)"
    )]
    Reranker { file: String },
    #[error(
        "{file}: has no classifier, so it is no reranker (pooling type 4, rank); `weft embed` gives vectors to compare"
    )]
    NoReranker { file: String },
    #[error(
        "text {number} has {tokens} tokens, more than the {context} that the model takes; shorten or split it"
    )]
    TextTooLong { number: usize, tokens: usize, context: u32 },
    #[error("text {number} is empty")]
    EmptyText { number: usize },
    #[error("no token can come next: {what}")]
    Mask { what: String },
    #[error(
        "{tokens} tokens do not fit the KV cache that all answers share; give it more memory, or a smaller context"
    )]
    PoolFull { tokens: usize },
    #[error("{file}: {what}")]
    Prefix { file: String, what: String },
    #[error("cancelled")]
    Cancelled,
}

impl From<weft_kernels::Error> for Error {
    fn from(e: weft_kernels::Error) -> Error {
        match e {
            weft_kernels::Error::Gpu(e) => Error::Gpu(e),
            other => Error::Kernel(other),
        }
    }
}

impl From<weft_kernels::PlanError> for Error {
    fn from(e: weft_kernels::PlanError) -> Error {
        Error::Kernel(e.into())
    }
}
