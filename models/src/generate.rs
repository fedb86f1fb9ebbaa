//! Tokens, as they come.

use std::collections::VecDeque;

use weft_formats::tokenizer::StreamDecoder;
use weft_kernels::ops::sample::State;
use weft_runtime::Readback;

use crate::graph::Want;
use crate::{Error, Result, Session};

/// How the next token is drawn. The default is llama.cpp's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// Keep the k most probable tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set of tokens with this mass; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens with at least this part of the largest probability; 0 keeps all.
    pub min_p: f32,
    /// Make recent tokens less probable; 1 does nothing.
    pub repeat_penalty: f32,
    /// How many tokens are recent.
    pub repeat_last_n: u32,
    /// Seed of the draws: the same seed gives the same text on the same device.
    pub seed: u32,
    /// Go on after a token that ends the text.
    pub ignore_eos: bool,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            seed: 0,
            ignore_eos: false,
        }
    }
}

impl Sampling {
    /// Always the most probable token.
    pub fn greedy() -> Sampling {
        Sampling { temperature: 0.0, ..Sampling::default() }
    }

    /// What the sampler reads, for a batch that begins at `position`.
    pub(crate) fn state(&self, position: u32) -> State {
        State {
            position,
            seed: self.seed,
            top_k: self.top_k,
            last_n: self.repeat_last_n,
            temperature: self.temperature,
            top_p: self.top_p,
            min_p: self.min_p,
            penalty: self.repeat_penalty,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let bad = |what, range, value: f32| Err(Error::Sampling { what, range, value: value.to_string() });
        if !(0.0..=1e6).contains(&self.temperature) {
            return bad("the temperature", "from 0 to 1e6", self.temperature);
        }
        if !(0.0..=1.0).contains(&self.top_p) {
            return bad("top-p", "from 0 to 1", self.top_p);
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return bad("min-p", "from 0 to 1", self.min_p);
        }
        if !(1e-6..=1e6).contains(&self.repeat_penalty) {
            return bad("the repetition penalty", "from 1e-6 to 1e6", self.repeat_penalty);
        }
        Ok(())
    }
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The model said so.
    EndOfText,
    /// As many tokens as were asked for.
    MaxTokens,
    /// The context is full.
    Context,
}

/// Decode steps submitted before the first of them is read: the device computes a token while the host
/// records the next and prints the last.
const IN_FLIGHT: usize = 2;

/// An answer being drawn. Dropping it cancels it; the session keeps what was read.
pub struct Generation<'a> {
    session: &'a mut Session,
    pending: VecDeque<Readback>,
    /// Position of the next token to be drawn by a submit.
    submitted: usize,
    prompt: usize,
    reused: usize,
    generated: usize,
    max_tokens: usize,
    ignore_eos: bool,
    stop: Option<Stop>,
    text: Option<StreamDecoder>,
}

impl<'a> Generation<'a> {
    pub(crate) fn new(
        session: &'a mut Session,
        sampling: &Sampling,
        prompt: usize,
        reused: usize,
        max_tokens: usize,
    ) -> Self {
        // The prefill has drawn the token at position `prompt` already.
        let text = session.model.tokenizer().ok().map(|t| t.stream(false).continuing());
        Generation {
            session,
            pending: VecDeque::new(),
            submitted: prompt,
            prompt,
            reused,
            generated: 0,
            max_tokens,
            ignore_eos: sampling.ignore_eos,
            stop: None,
            text,
        }
    }

    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.prompt
    }

    /// Tokens of the prompt that the cache already held.
    pub fn reused_tokens(&self) -> usize {
        self.reused
    }

    /// Tokens drawn so far, the one that ended the text included.
    pub fn generated(&self) -> usize {
        self.generated
    }

    /// Why it ended, once it has.
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// Submits until enough steps are in flight; `None` when there is nothing left to wait for.
    fn next_pending(&mut self) -> Result<Option<Readback>> {
        if self.stop.is_some() {
            return Ok(None);
        }
        if self.generated >= self.max_tokens {
            self.stop = Some(Stop::MaxTokens);
            return Ok(None);
        }
        let context = self.session.context() as usize;
        if self.prompt + self.generated >= context {
            self.stop = Some(Stop::Context);
            return Ok(None);
        }
        let gpu = self.session.model.gpu().clone();
        let last = (self.prompt + self.max_tokens.min(context)).min(context);
        while self.pending.len() < IN_FLIGHT && self.submitted < last {
            let token = self.session.history.range(self.submitted as u64 * 4, 4);
            if self.submitted == self.prompt {
                self.pending.push_back(gpu.read(&token));
            } else {
                let positions = self.submitted as u32;
                let program = self.session.program(Want::Token, 1, positions)?;
                let submission = gpu.run(program, Some(&token))?;
                self.pending.extend(submission.readback);
                self.session.computed = self.submitted;
                self.session.written = self.session.written.max(self.submitted);
            }
            self.submitted += 1;
        }
        Ok(self.pending.pop_front())
    }

    fn accept(&mut self, bytes: &[u8]) -> Result<Option<u32>> {
        let token = bytemuck::pod_read_unaligned::<u32>(bytes);
        self.session.tokens.push(token);
        self.generated += 1;
        if !self.ignore_eos && self.session.model.tokenizer().is_ok_and(|t| t.is_eog(token)) {
            self.stop = Some(Stop::EndOfText);
            return Ok(None);
        }
        Ok(Some(token))
    }

    /// The next token's id, or `None` at the end.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn next_token(&mut self) -> Result<Option<u32>> {
        match self.next_pending()? {
            None => Ok(None),
            Some(r) => {
                let bytes = r.wait()?;
                self.accept(&bytes)
            }
        }
    }

    /// As [`Generation::next_token`], without blocking.
    ///
    /// # Errors
    /// As [`Generation::next_token`].
    pub async fn next_async(&mut self) -> Result<Option<u32>> {
        match self.next_pending()? {
            None => Ok(None),
            Some(r) => {
                let bytes = r.await?;
                self.accept(&bytes)
            }
        }
    }

    /// The next piece of text, made of whole UTF-8 characters (empty while one is incomplete), or
    /// `None` at the end.
    ///
    /// # Errors
    /// A fault of the device; a model without a tokenizer.
    pub fn next_text(&mut self) -> Result<Option<String>> {
        let token = self.next_token()?;
        self.session.model.tokenizer()?;
        let decoder = self.text.as_mut().expect("the model has a tokenizer");
        match token {
            Some(t) => Ok(Some(decoder.push(t))),
            None => {
                let rest = decoder.finish();
                Ok((!rest.is_empty()).then_some(rest))
            }
        }
    }
}
