//! Texts to vectors, and pairs of texts to scores, on a thread of their own.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use tokio::sync::oneshot;
use weft_models::{Embedder, Error, Result, Sequence};

use super::totals::{Totals, add, add_time};

/// Requests that may wait.
const WAITING: usize = 64;

/// What turns texts into vectors: an [`Embedder`], or something that looks like it.
pub trait Vectors {
    /// Whether it judges pairs, and gives no vectors.
    fn is_reranker(&self) -> bool;

    /// A text as the model takes it.
    ///
    /// # Errors
    /// No tokenizer.
    fn sequence(&self, text: &str) -> Result<Sequence>;

    /// A query and a document as the model takes them.
    ///
    /// # Errors
    /// No tokenizer.
    fn pair(&self, query: &str, document: &str) -> Result<Sequence>;

    /// A vector of length 1 for each sequence; of a reranker one number, its score.
    ///
    /// # Errors
    /// A sequence that is empty or too long, a fault of the device, [`Error::Cancelled`].
    fn run(
        &mut self,
        all: &[Sequence],
        go_on: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<f32>>>;
}

/// An embedder, and what it is for.
#[derive(Debug)]
pub struct Packed {
    /// The model's.
    pub embedder: Embedder,
    /// Whether it judges pairs.
    pub reranker: bool,
}

impl Vectors for Packed {
    fn is_reranker(&self) -> bool {
        self.reranker
    }

    fn sequence(&self, text: &str) -> Result<Sequence> {
        self.embedder.sequence(text)
    }

    fn pair(&self, query: &str, document: &str) -> Result<Sequence> {
        self.embedder.pair(query, document)
    }

    fn run(
        &mut self,
        all: &[Sequence],
        go_on: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<f32>>> {
        match self.reranker {
            true => Ok(self.embedder.score(all, go_on)?.into_iter().map(|s| vec![s]).collect()),
            false => self.embedder.embed(all, go_on),
        }
    }
}

/// What is asked.
#[derive(Debug)]
pub enum Texts {
    /// Texts.
    Each(Vec<String>),
    /// Texts that are tokens already.
    Tokens(Vec<Vec<u32>>),
    /// A query and documents.
    Pairs(String, Vec<String>),
}

/// What came of it.
#[derive(Debug)]
pub struct Given {
    /// One for each text.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of each text.
    pub tokens: Vec<usize>,
}

/// Why nothing came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoVectors {
    /// The queue is full.
    Full,
    /// The texts cannot be taken: the line says which.
    Refused(String),
    /// One has more tokens than the model takes.
    TooLong {
        /// The line.
        why: String,
        /// Its tokens.
        tokens: usize,
        /// Those that there is room for.
        room: usize,
    },
    /// A fault of ours.
    Failed(String),
}

struct Asked {
    texts: Texts,
    to: oneshot::Sender<std::result::Result<Given, NoVectors>>,
    at: Instant,
}

/// What is going on, for whoever watches.
#[derive(Debug, Default)]
struct Watched {
    totals: Arc<Totals>,
    waiting: AtomicUsize,
    running: AtomicUsize,
}

/// The async side.
#[derive(Debug, Clone)]
pub struct VectorHandle {
    asked: SyncSender<Asked>,
    watched: Arc<Watched>,
    /// Whether the model judges pairs, and gives no vectors.
    pub is_reranker: bool,
}

impl VectorHandle {
    /// Makes the model on a thread of its own, which ends with the last handle.
    ///
    /// # Errors
    /// What `start` says, or the system, which gives no thread.
    pub fn spawn(
        start: impl FnOnce() -> std::result::Result<Box<dyn Vectors>, String> + Send + 'static,
    ) -> std::result::Result<VectorHandle, String> {
        let (asked, from) = sync_channel(WAITING);
        let (ready, is_ready) = sync_channel(1);
        let watched = Arc::new(Watched::default());
        let seen = watched.clone();
        let run = move || match start() {
            Ok(vectors) => {
                // Who spawned the thread waits for this.
                let _ = ready.send(Ok(vectors.is_reranker()));
                drive(vectors, &from, &seen);
            }
            Err(why) => drop(ready.send(Err(why))),
        };
        std::thread::Builder::new().name("vectors".into()).spawn(run).map_err(|e| e.to_string())?;
        let is_reranker = is_ready.recv().map_err(|_| "the thread of vectors ended before it began")??;
        Ok(VectorHandle { asked, watched, is_reranker })
    }

    /// What comes of texts; who drops this cancels it.
    ///
    /// # Errors
    /// See [`NoVectors`].
    pub async fn ask(&self, texts: Texts) -> std::result::Result<Given, NoVectors> {
        let (to, back) = oneshot::channel();
        // Counted before it is there to be taken.
        self.watched.waiting.fetch_add(1, Ordering::Relaxed);
        if self.asked.try_send(Asked { texts, to, at: Instant::now() }).is_err() {
            self.watched.waiting.fetch_sub(1, Ordering::Relaxed);
            add(&self.watched.totals.refused, 1);
            return Err(NoVectors::Full);
        }
        back.await.unwrap_or_else(|_| Err(NoVectors::Failed("the thread of vectors ended".into())))
    }

    /// What was done since the start.
    pub(crate) fn totals(&self) -> &Arc<Totals> {
        &self.watched.totals
    }

    /// Requests that wait, and those that are computed.
    pub(crate) fn load(&self) -> (usize, usize) {
        (self.watched.waiting.load(Ordering::Relaxed), self.watched.running.load(Ordering::Relaxed))
    }
}

fn drive(mut vectors: Box<dyn Vectors>, from: &Receiver<Asked>, watched: &Watched) {
    while let Ok(Asked { texts, to, at }) = from.recv() {
        watched.waiting.fetch_sub(1, Ordering::Relaxed);
        let totals = &watched.totals;
        if to.is_closed() {
            add(&totals.cancelled, 1);
            continue;
        }
        let began = Instant::now();
        add_time(&totals.queued_us, began - at);
        watched.running.store(1, Ordering::Relaxed);
        let mut go_on = |_| if to.is_closed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let given = catch_unwind(AssertUnwindSafe(|| answer(&mut *vectors, texts, &mut go_on)));
        let given =
            given.unwrap_or_else(|_| Err(NoVectors::Failed("a bug in the server ended this request".into())));
        match &given {
            Ok(given) => {
                add(&totals.texts, given.tokens.len());
                add(&totals.prompt, given.tokens.iter().sum());
                add_time(&totals.prefill_us, began.elapsed());
                add(&totals.finished, 1);
            }
            Err(NoVectors::Failed(_)) if to.is_closed() => add(&totals.cancelled, 1),
            Err(NoVectors::Failed(_)) => add(&totals.failed, 1),
            // What cannot be taken was told to its client, as before a queue.
            Err(_) => {}
        }
        watched.running.store(0, Ordering::Relaxed);
        // Who asked may be gone.
        let _ = to.send(given);
    }
}

fn answer(
    vectors: &mut dyn Vectors,
    texts: Texts,
    go_on: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> std::result::Result<Given, NoVectors> {
    let all = match texts {
        Texts::Each(texts) => texts.iter().map(|t| vectors.sequence(t)).collect::<Result<Vec<_>>>(),
        Texts::Tokens(ids) => Ok(ids.into_iter().map(Sequence::from).collect()),
        Texts::Pairs(query, documents) => documents.iter().map(|d| vectors.pair(&query, d)).collect(),
    };
    let refused = |e: Error| match e {
        Error::TextTooLong { tokens, context, .. } => {
            NoVectors::TooLong { why: e.to_string(), tokens, room: context as usize }
        }
        Error::EmptyText { .. } | Error::TokenRange { .. } | Error::EmptyPrompt => {
            NoVectors::Refused(e.to_string())
        }
        e => NoVectors::Failed(e.to_string()),
    };
    let all = all.map_err(refused)?;
    let tokens = all.iter().map(|s| s.ids.len()).collect();
    Ok(Given { vectors: vectors.run(&all, go_on).map_err(refused)?, tokens })
}
