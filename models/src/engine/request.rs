//! What an engine is asked, and what it answers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::pool::Adapted;
use crate::{Error, Result, Sampling};

/// Names a request of an engine; no two of its requests have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub u64);

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Says which tokens may come next: a grammar. The engine asks for a mask while the forward pass of that token runs, and
/// tells which token was drawn.
pub trait Mask: Send {
    /// Sets the bits of the tokens that may come next: bit `i % 32` of word `i / 32` is token i. All are 0 before.
    ///
    /// # Errors
    /// Why there can be no next token; it ends the request.
    fn allowed(&mut self, bits: &mut [u32]) -> std::result::Result<(), String>;

    /// Takes a token that was drawn.
    ///
    /// # Errors
    /// Why it cannot be; it ends the request.
    fn accept(&mut self, token: u32) -> std::result::Result<(), String>;

    /// Whether every token may come next, so that no mask is needed: before a trigger, for instance.
    fn is_free(&self) -> bool {
        false
    }
}

/// An answer that is asked for.
pub struct Request {
    /// The tokens to go on from.
    pub prompt: Vec<u32>,
    /// The most tokens to draw.
    pub max_tokens: usize,
    /// How they are drawn.
    pub sampling: Sampling,
    /// What is added to the logits of tokens: (id, summand).
    pub logit_bias: Vec<(u32, f32)>,
    /// Texts that end the answer and are not part of it.
    pub stop: Vec<String>,
    /// Tokens that end the answer, besides those that end a text.
    pub stop_tokens: Vec<u32>,
    /// How many of the likeliest tokens are told with each token, and its own log-probability; None for neither. They are
    /// of the model's distribution, before temperature and masks.
    pub logprobs: Option<usize>,
    /// Tokens that are told with them, likely or not, behind the likeliest.
    pub logprobs_of: Vec<u32>,
    /// The same for each token of the prompt but the first, as [`Event::Prompt`] tells it. What they are told of is
    /// computed, whatever is in the cache.
    pub prompt_logprobs: Option<usize>,
    /// The first token of the prompt that they are told of, where that is not the second.
    pub prompt_logprobs_from: usize,
    /// Which tokens may come.
    pub mask: Option<Box<dyn Mask>>,
    /// Requests share the keys and values of what their prompts begin with, where their salts are equal, and their
    /// adapters with all strengths.
    pub salt: u64,
    /// The adapters in effect, each by its number among those of [`Engine::with_adapters`](super::Engine::with_adapters)
    /// and with a factor on its own scale. One that is named twice has the sum, and 0 is as if it was not named.
    pub adapters: Vec<(usize, f32)>,
    /// Whether the text shows control tokens.
    pub special: bool,
    /// The most tokens to guess and verify in one step, 0 for none; None for as many as the engine has room for
    /// ([`Options::guesses`](super::Options::guesses)). The answer is the same, and comes faster where it repeats what was
    /// said. Where the host draws, there are none.
    pub draft: Option<usize>,
}

impl Request {
    /// An answer of at most `max_tokens` tokens to a prompt.
    pub fn new(prompt: Vec<u32>, sampling: Sampling, max_tokens: usize) -> Request {
        Request {
            prompt,
            max_tokens,
            sampling,
            logit_bias: Vec::new(),
            stop: Vec::new(),
            stop_tokens: Vec::new(),
            logprobs: None,
            logprobs_of: Vec::new(),
            prompt_logprobs: None,
            prompt_logprobs_from: 1,
            mask: None,
            salt: 0,
            adapters: Vec::new(),
            special: false,
            draft: None,
        }
    }

    /// Whether the host draws its tokens, because the sampler on the device knows only a part of what is asked.
    pub(super) fn on_host(&self) -> bool {
        !self.sampling.is_on_device()
            || !self.logit_bias.is_empty()
            || self.logprobs.is_some()
            || self.mask.is_some()
    }

    /// Adapters in the order of their numbers, without those that do nothing.
    ///
    /// # Errors
    /// A number that no adapter has, or a strength that is none.
    pub(super) fn in_effect(&self, adapters: usize) -> Result<Vec<Adapted>> {
        let mut all: BTreeMap<usize, f32> = BTreeMap::new();
        for &(number, strength) in &self.adapters {
            if number >= adapters {
                let what = format!("adapter {number}, where the engine has {adapters}");
                return Err(Error::Unsupported { what });
            }
            if !strength.is_finite() {
                let value = strength.to_string();
                return Err(Error::Sampling { what: "an adapter's strength", range: "a number", value });
            }
            *all.entry(number).or_default() += strength;
        }
        Ok(all.into_iter().filter(|(_, strength)| *strength != 0.0).collect())
    }

    pub(super) fn check(&self, vocabulary: u32) -> Result<()> {
        self.sampling.check()?;
        if self.prompt.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let ids = self.prompt.iter().chain(&self.stop_tokens).chain(&self.logprobs_of);
        let mut ids = ids.chain(self.logit_bias.iter().map(|(id, _)| id));
        if let Some(&id) = ids.find(|&&id| id >= vocabulary) {
            return Err(Error::TokenRange { id, vocabulary });
        }
        if let Some((id, by)) = self.logit_bias.iter().find(|(_, by)| by.is_nan()) {
            let value = format!("{by} for token {id}");
            return Err(Error::Sampling { what: "a bias of logits", range: "a number", value });
        }
        if self.stop.iter().any(String::is_empty) {
            let value = "an empty one".into();
            return Err(Error::Sampling { what: "a stop string", range: "some text", value });
        }
        Ok(())
    }
}

/// A token's log-probability, and the likeliest tokens at its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    /// The token's own, in nats.
    pub logprob: f32,
    /// The likeliest ones, from the likeliest on: (id, log-probability); then those that were asked for by their ids.
    pub top: Vec<(u32, f32)>,
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// The model said so.
    EndOfText,
    /// A stop string came.
    StopString(String),
    /// A stop token came.
    StopToken(u32),
    /// As many tokens as were asked for.
    MaxTokens,
    /// The context is full.
    Context,
}

/// What an answer took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Those of them that were in the cache already.
    pub cached: usize,
    /// Tokens drawn, the one that ended the text included.
    pub generated: usize,
    /// Tokens of drafts that were verified, and those that were right.
    pub drafted: (usize, usize),
    /// Time in the queue.
    pub queued: Duration,
    /// From then to the first token.
    pub prefill: Duration,
    /// From then to the last.
    pub decode: Duration,
}

/// What a step gives.
#[derive(Debug)]
pub enum Event {
    /// A request left the queue; so many tokens of its prompt are in the cache already.
    Started {
        /// Whose.
        id: Id,
        /// Tokens of its prompt.
        prompt: usize,
        /// Those of them that need no computing.
        cached: usize,
    },
    /// So many tokens of a prompt are computed.
    Progress {
        /// Whose.
        id: Id,
        /// Tokens done.
        done: usize,
        /// Tokens in all.
        total: usize,
    },
    /// Log-probabilities of tokens of a prompt that follow each other. They come in order, before the first token of the
    /// answer.
    Prompt {
        /// Whose.
        id: Id,
        /// The place of the first of them in the prompt; the first ever is [`Request::prompt_logprobs_from`].
        first: usize,
        /// What is told of each.
        logprobs: Vec<Logprobs>,
    },
    /// A token came.
    Token {
        /// Whose.
        id: Id,
        /// The token.
        token: u32,
        /// Text that is certain to be part of the answer now: whole characters, and no beginning of a stop string. It may
        /// be empty, and may hold what earlier tokens left open.
        text: String,
        /// If they were asked for.
        logprobs: Option<Logprobs>,
    },
    /// An answer is whole.
    Finished {
        /// Whose.
        id: Id,
        /// Why.
        reason: Finish,
        /// The rest of its text, which was held back.
        text: String,
        /// What it took.
        usage: Usage,
    },
    /// A request ended with an error.
    Failed {
        /// Whose.
        id: Id,
        /// What is wrong.
        error: Error,
    },
}

impl Event {
    /// Whose it is.
    pub fn id(&self) -> Id {
        match self {
            Event::Started { id, .. }
            | Event::Progress { id, .. }
            | Event::Prompt { id, .. }
            | Event::Token { id, .. }
            | Event::Finished { id, .. }
            | Event::Failed { id, .. } => *id,
        }
    }
}
