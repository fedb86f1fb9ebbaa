//! Documents that a model is asked about: text, Markdown and PDF are read, cut into passages, turned into vectors by a
//! model behind a trait, kept in one file, found by meaning and by words together, and cited.
//!
//! [`add`] and [`find`] are the whole way through; the modules are its steps.

pub mod apart;
pub mod chunk;
mod file;
mod index;
pub mod models;
pub mod pdf;
pub mod read;
mod store;
pub mod words;

use std::ops::ControlFlow;

pub use chunk::{Chunk, Sizes};
pub use file::open_file;
pub use models::{About, Embed, Fault, Rerank};
pub use read::{Document, Kind, PdfReader};
pub use store::{Hit, Record, Store};

/// Bytes of a file at most.
pub const MOST_BYTES: usize = 64 << 20;

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a document was not taken, or nothing was found. Its Display is one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages are the documentation
pub enum Error {
    #[error("{name}: {why}")]
    Unreadable { name: String, why: String },
    #[error("the store of documents: {0}")]
    Store(String),
    #[error(
        "the store was made with the embedder {stored}, and this one is {given}; vectors of two models cannot be \
         compared: open it with the first, or begin another store"
    )]
    OtherEmbedder { stored: String, given: String },
    #[error("{0}")]
    Model(String),
    #[error("interrupted")]
    Cancelled,
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        match fault {
            Fault::Cancelled => Error::Cancelled,
            Fault::Failed(why) => Error::Model(why),
        }
    }
}

/// What became of a document that was given.
#[derive(Debug, Clone, PartialEq)]
pub enum Added {
    /// It is new, or took the place of an older one of its name.
    New(Record),
    /// The same text of the same name was there already.
    Known(Record),
}

impl Added {
    /// The record in the store.
    pub fn record(&self) -> &Record {
        match self {
            Added::New(record) | Added::Known(record) => record,
        }
    }
}

/// Passages that are turned into vectors at a time: between them the work can be cancelled.
const BATCH: usize = 32;

/// Reads a file, cuts it, and keeps it with its vectors: whole, or not at all. `progress` is told how many passages of
/// how many are done; `Break` cancels.
///
/// # Errors
/// A file that cannot be read or has no text; a fault of the model or of the store; [`Error::Cancelled`].
pub fn add(
    store: &Store,
    embedder: &mut dyn Embed,
    name: &str,
    bytes: &[u8],
    pdf: PdfReader<'_>,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Added> {
    store.check(embedder.about())?;
    if let Some(known) = store.known(name, bytes) {
        return Ok(Added::Known(known));
    }
    let document = read::read(name, bytes, pdf)?;
    let sizes = Sizes::within(embedder.context());
    let chunks = chunk::cut(&document, &sizes, &|text| embedder.tokens(text));
    if chunks.is_empty() {
        return Err(Error::Unreadable { name: name.into(), why: "there is no text in it".into() });
    }
    let texts: Vec<String> = chunks.iter().map(|c| c.to_embed(&document.text)).collect();
    let mut vectors = Vec::with_capacity(texts.len());
    for batch in texts.chunks(BATCH) {
        if progress(vectors.len(), texts.len()).is_break() {
            return Err(Error::Cancelled);
        }
        vectors.extend(embedder.embed(batch)?);
    }
    if progress(texts.len(), texts.len()).is_break() {
        return Err(Error::Cancelled);
    }
    store.set_about(embedder.about())?;
    store.put(name, bytes, &document, &chunks, &vectors).map(Added::New)
}

/// How to search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Passages that are given at most.
    pub top: usize,
    /// Passages that a reranker judges.
    pub judged: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { top: 5, judged: 30 }
    }
}

/// The passages that answer `query` best: what vectors and words find is put together by rank, and a reranker, if there
/// is one, puts the best of them in its own order.
///
/// # Errors
/// An empty query, a fault of a model or of the store.
pub fn find(
    store: &Store,
    embedder: &mut dyn Embed,
    reranker: Option<&mut dyn Rerank>,
    query: &str,
    options: Options,
) -> Result<Vec<Hit>> {
    store.check(embedder.about())?;
    if query.trim().is_empty() {
        return Err(Error::Model("the question is empty".into()));
    }
    let limit = embedder.context();
    let asked = chunk::shorten(query, limit, &|text| embedder.tokens(text));
    let vector = embedder.embed(&[asked.to_owned()])?.pop().unwrap_or_default();
    let wanted = if reranker.is_some() { options.top.max(options.judged) } else { options.top };
    let mut hits = store.search(&vector, query, wanted)?;
    if let Some(reranker) = reranker
        && !hits.is_empty()
    {
        let texts: Vec<String> = hits.iter().map(|h| h.text.clone()).collect();
        let scores = reranker.score(query, &texts)?;
        for (hit, score) in hits.iter_mut().zip(scores) {
            hit.judged = Some(score);
        }
        // Equal scores stay in the order in which they were found.
        hits.sort_by(|a, b| b.judged.unwrap_or(f32::MIN).total_cmp(&a.judged.unwrap_or(f32::MIN)));
    }
    hits.truncate(options.top);
    Ok(hits)
}
