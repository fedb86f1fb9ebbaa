//! What draws the answers, on a thread of its own behind channels.
//!
//! A [`Backend`] is driven by one thread (`worker.rs`), which takes requests from the async side and sends back what
//! comes of them. Who no longer listens is not answered: a request whose receiver is gone is cancelled before the next
//! step, in the queue, in its prompt and while it is decoded.

pub mod fake;
mod queue;
mod totals;
mod vectors;
mod worker;

pub use queue::{Full, Limits};
pub use totals::{Histogram, Totals};
pub use vectors::{Given, NoVectors, Packed, Texts, VectorHandle, Vectors};
pub use worker::{Handle, Look, SlotLook, Worker};

use std::time::Duration;

use weft_models::engine::{Engine, Event, Finish, Id, Logprobs, Request, Usage};

/// What a worker drives: the engine, or something that looks like it.
pub trait Backend {
    /// As [`Engine::submit`].
    ///
    /// # Errors
    /// As [`Engine::submit`].
    fn submit(&mut self, request: Request) -> weft_models::Result<Id>;

    /// As [`Engine::cancel`].
    fn cancel(&mut self, id: Id) -> bool;

    /// As [`Engine::step`].
    ///
    /// # Errors
    /// A fault after which the backend is of no use.
    fn step(&mut self) -> weft_models::Result<Vec<Event>>;

    /// Answers that are drawn at a time.
    fn slots(&self) -> usize;

    /// Blocks of the cache that answers have, and all there are.
    fn blocks(&self) -> (usize, usize);

    /// How often an answer lost its slot.
    fn preempted(&self) -> u64;
}

impl Backend for Engine {
    fn submit(&mut self, request: Request) -> weft_models::Result<Id> {
        Engine::submit(self, request)
    }

    fn cancel(&mut self, id: Id) -> bool {
        Engine::cancel(self, id)
    }

    fn step(&mut self) -> weft_models::Result<Vec<Event>> {
        Engine::step(self)
    }

    fn slots(&self) -> usize {
        Engine::slots(self)
    }

    fn blocks(&self) -> (usize, usize) {
        Engine::blocks(self)
    }

    fn preempted(&self) -> u64 {
        Engine::preempted(self)
    }
}

/// Makes a backend, on the thread that will drive it: at the start, and again after a fault.
pub type Start = Box<dyn FnMut() -> Result<Box<dyn Backend>, String> + Send>;

/// What comes of a request.
#[derive(Debug)]
pub enum Said {
    /// It left the queue.
    Started {
        /// Tokens of its prompt.
        prompt: usize,
        /// Those of them that were in the cache.
        cached: usize,
    },
    /// So much of its prompt is computed.
    Progress {
        /// Tokens done.
        done: usize,
        /// Tokens in all.
        total: usize,
    },
    /// Log-probabilities of tokens of its prompt.
    Prompt {
        /// The place of the first of them.
        first: usize,
        /// What is told of each.
        logprobs: Vec<Logprobs>,
    },
    /// A token came.
    Token {
        /// Its id.
        token: u32,
        /// Text that is certain now.
        text: String,
        /// If they were asked for.
        logprobs: Option<Logprobs>,
    },
    /// It is whole.
    Finished {
        /// Why.
        reason: Finish,
        /// The rest of the text.
        text: String,
        /// What it took; the time in the queue includes the worker's.
        usage: Usage,
    },
    /// It came to nothing.
    Failed(Fault),
}

/// Why a request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The engine does not take it.
    Refused(String),
    /// It failed on its way, alone.
    Failed(String),
    /// It waited too long.
    Overdue(Duration),
    /// The server ends.
    Ending,
    /// The device, or the engine, is gone; a new one is made.
    Lost(String),
}
