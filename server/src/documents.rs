//! Documents that are asked about: a store, the models that read it, and what is being added now.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use weft_documents::{About, Added, Embed, Error, Fault, Hit, Options, Rerank, Store};
use weft_formats::tokenizer::Tokenizer;

use crate::app::Served;
use crate::engine::{NoVectors, Texts, VectorHandle};
use crate::error::{ApiError, Result};

/// Documents that may wait to be added, and questions that are answered at a time.
const WAITING: usize = 64;
const ASKED: usize = 8;

/// What gives the pages of a PDF file, or says why it cannot.
pub type ReadPdf = Arc<dyn Fn(&[u8]) -> std::result::Result<Vec<String>, String> + Send + Sync>;

/// A document on its way into the store.
#[derive(Debug, Clone)]
pub(crate) struct Adding {
    number: u64,
    pub(crate) name: String,
    pub(crate) done: usize,
    pub(crate) of: usize,
}

/// A store of documents with its models.
pub struct Documents {
    pub(crate) store: Store,
    about: About,
    embedder: VectorHandle,
    tokenizer: Tokenizer,
    context: usize,
    reranker: Option<(String, VectorHandle)>,
    pdf: ReadPdf,
    adding: Mutex<Vec<Adding>>,
    number: AtomicUsize,
    one: Semaphore,
    asked: Semaphore,
}

impl std::fmt::Debug for Documents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Documents({:?}, {})", self.store, self.about)
    }
}

impl Documents {
    /// Documents of a store, whose vectors `embedder` makes, and whose passages `reranker` orders, if there is one.
    ///
    /// # Errors
    /// The models are others, or the store was made with another embedder.
    pub fn new(
        store: Store,
        about: About,
        embedder: &Served,
        reranker: Option<&Served>,
        pdf: ReadPdf,
    ) -> std::result::Result<Documents, String> {
        store.check(&about).map_err(|e| e.to_string())?;
        let vectors = |served: &Served, judges: bool| {
            let is = served.vectors.clone().filter(|v| v.is_reranker == judges);
            let what = if judges { "reranker" } else { "embedder" };
            is.ok_or_else(|| format!("\"{}\" is no {what}", served.card.id))
        };
        let reranker = reranker
            .map(|served| Ok::<_, String>((served.card.id.clone(), vectors(served, true)?)))
            .transpose()?;
        Ok(Documents {
            store,
            about,
            embedder: vectors(embedder, false)?,
            tokenizer: embedder.card.tokenizer.clone(),
            context: embedder.card.context,
            reranker,
            pdf,
            adding: Mutex::default(),
            number: AtomicUsize::new(0),
            one: Semaphore::new(1),
            asked: Semaphore::new(ASKED),
        })
    }

    /// The names of the models.
    pub(crate) fn models(&self) -> (&str, Option<&str>) {
        (&self.about.name, self.reranker.as_ref().map(|r| r.0.as_str()))
    }

    fn on_their_way(&self) -> MutexGuard<'_, Vec<Adding>> {
        self.adding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is being added, the oldest first.
    pub(crate) fn adding(&self) -> Vec<Adding> {
        self.on_their_way().clone()
    }

    /// Adds a document, one after the other; who drops this cancels it.
    ///
    /// # Errors
    /// It cannot be read, too many wait, or a fault of ours.
    pub(crate) async fn add(self: &Arc<Documents>, name: String, bytes: Vec<u8>) -> Result<Added> {
        let number = self.number.fetch_add(1, Ordering::Relaxed) as u64;
        {
            let mut all = self.on_their_way();
            if all.len() >= WAITING {
                let line = format!("{WAITING} documents are on their way already; try again later");
                return Err(ApiError::unavailable("overloaded", line, 5));
            }
            all.push(Adding { number, name: name.clone(), done: 0, of: 0 });
        }
        let gone = Gone { documents: self.clone(), number, is: Arc::default() };
        let _one = self.one.acquire().await.map_err(|_| ApiError::fault("the documents are closed"))?;
        let (documents, runtime, is_gone) = (self.clone(), Handle::current(), gone.is.clone());
        let work = tokio::task::spawn_blocking(move || {
            let mut remote = Remote { documents: &documents, runtime, is_gone: &is_gone };
            let mut progress = |done, of| {
                if let Some(one) = documents.on_their_way().iter_mut().find(|a| a.number == number) {
                    (one.done, one.of) = (done, of);
                }
                if is_gone.load(Ordering::Relaxed) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            };
            let pdf = |bytes: &[u8]| (documents.pdf)(bytes);
            weft_documents::add(&documents.store, &mut remote, &name, &bytes, &pdf, &mut progress)
        });
        let added = work.await.map_err(|_| ApiError::fault("a bug in the server ended this request"))?;
        drop(gone);
        added.map_err(refused)
    }

    /// Finds passages.
    ///
    /// # Errors
    /// An empty question, too many questions, or a fault of ours.
    pub(crate) async fn find(
        self: &Arc<Documents>,
        query: String,
        top: usize,
        judge: bool,
    ) -> Result<Vec<Hit>> {
        let full = || ApiError::unavailable("overloaded", "too many questions at once; try again later", 1);
        let _asked = self.asked.try_acquire().map_err(|_| full())?;
        let (documents, runtime) = (self.clone(), Handle::current());
        let gone = Arc::new(AtomicBool::new(false));
        let work = tokio::task::spawn_blocking(move || {
            let remote = || Remote { documents: &documents, runtime: runtime.clone(), is_gone: &gone };
            let (mut embedder, mut reranker) = (remote(), remote());
            let reranker =
                (judge && documents.reranker.is_some()).then_some(&mut reranker as &mut dyn Rerank);
            let options = Options { top, ..Options::default() };
            weft_documents::find(&documents.store, &mut embedder, reranker, &query, options)
        });
        let hits = work.await.map_err(|_| ApiError::fault("a bug in the server ended this request"))?;
        hits.map_err(refused)
    }
}

fn refused(e: Error) -> ApiError {
    match e {
        Error::Unreadable { .. } => ApiError::bad("unreadable_document", e.to_string()),
        Error::Cancelled => ApiError::fault("the request was cancelled"),
        Error::OtherEmbedder { .. } | Error::Store(_) | Error::Model(_) => ApiError::fault(e.to_string()),
    }
}

/// Takes a document off the list of those on their way, and tells the work that nobody waits for it any more.
struct Gone {
    documents: Arc<Documents>,
    number: u64,
    is: Arc<AtomicBool>,
}

impl Drop for Gone {
    fn drop(&mut self) {
        self.is.store(true, Ordering::Relaxed);
        self.documents.on_their_way().retain(|a| a.number != self.number);
    }
}

/// The models, which run in threads of their own, as a thread that may wait sees them.
struct Remote<'a> {
    documents: &'a Documents,
    runtime: Handle,
    is_gone: &'a AtomicBool,
}

impl Remote<'_> {
    fn ask(
        &self,
        handle: &VectorHandle,
        texts: impl Fn() -> Texts,
    ) -> std::result::Result<Vec<Vec<f32>>, Fault> {
        loop {
            match self.runtime.block_on(handle.ask(texts())) {
                Ok(given) => return Ok(given.vectors),
                // Others ask the same model; they are not kept waiting by a long document.
                Err(NoVectors::Full) if !self.is_gone.load(Ordering::Relaxed) => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(NoVectors::Full) => return Err(Fault::Cancelled),
                Err(NoVectors::Refused(why) | NoVectors::Failed(why) | NoVectors::TooLong { why, .. }) => {
                    return Err(Fault::Failed(why));
                }
            }
        }
    }
}

impl Embed for Remote<'_> {
    fn about(&self) -> &About {
        &self.documents.about
    }

    fn context(&self) -> usize {
        self.documents.context
    }

    fn tokens(&self, text: &str) -> usize {
        // One more: some models count their last token beyond what the tokenizer gives.
        self.documents.tokenizer.encode_prompt(text).len() + 1
    }

    fn embed(&mut self, texts: &[String]) -> std::result::Result<Vec<Vec<f32>>, Fault> {
        self.ask(&self.documents.embedder, || Texts::Each(texts.to_vec()))
    }
}

impl Rerank for Remote<'_> {
    fn score(&mut self, query: &str, texts: &[String]) -> std::result::Result<Vec<f32>, Fault> {
        let Some((_, reranker)) = &self.documents.reranker else { return Ok(Vec::new()) };
        let scores = self.ask(reranker, || Texts::Pairs(query.to_owned(), texts.to_vec()))?;
        Ok(scores.into_iter().map(|s| s.first().copied().unwrap_or(f32::NAN)).collect())
    }
}
