//! An answer on its way: what is known of it, and where it stands.

use std::time::Instant;

use super::choose::{self, Choice, NoToken};
use super::device::Layout;
use super::draft::Guesser;
use super::pool::{Adapted, Sequence};
use super::request::{Event, Finish, Id, Logprobs, Request, Usage};
use super::spread::side_by_side;
use super::text::{Step, Text};
use crate::Error;

/// What an answer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its prompt is computed, up to so many tokens so far.
    Prompt(usize),
    /// The token behind its prompt, or one that the host draws, is on its way.
    Waiting,
    /// It is a row of each step.
    Decoding,
}

/// An answer that has a slot, or had one and waits for another.
pub(super) struct Answer {
    pub(super) id: Id,
    pub(super) request: Request,
    /// The prompt and the tokens that came back.
    pub(super) known: Vec<u32>,
    pub(super) prompt: usize,
    /// Tokens known or on their way.
    pub(super) submitted: usize,
    pub(super) phase: Phase,
    pub(super) seq: Sequence,
    /// Tells what it has on its way from what it had before it lost its slot.
    pub(super) epoch: u64,
    /// Whether it was begun again because logits were not finite.
    pub(super) exact: bool,
    pub(super) text: Text,
    pub(super) usage: Usage,
    pub(super) asked: Instant,
    pub(super) started: Option<Instant>,
    pub(super) first: Option<Instant>,
    /// Guesses of what comes next, where they are wanted.
    pub(super) guesser: Option<Guesser>,
    /// The most of them in a step.
    pub(super) draft: usize,
    /// Tokens of the prompt whose log-probabilities were told, or have none.
    pub(super) scored: usize,
    /// What is in effect of the adapters of its request.
    pub(super) adapters: Vec<Adapted>,
    mask: Vec<u32>,
}

impl Answer {
    pub(super) fn new(
        id: Id,
        request: Request,
        text: Text,
        now: Instant,
        layout: &Layout,
        by_model: bool,
    ) -> Result<Answer, Error> {
        let vocabulary = layout.vocabulary;
        let draft = request.draft.unwrap_or(usize::MAX).min(layout.guesses);
        let mask =
            if request.mask.is_some() { vec![0; vocabulary.div_ceil(32) as usize] } else { Vec::new() };
        Ok(Answer {
            id,
            adapters: request.in_effect(layout.adapters)?,
            scored: request.prompt_logprobs_from.max(1),
            known: request.prompt.clone(),
            prompt: request.prompt.len(),
            submitted: 0,
            phase: Phase::Prompt(0),
            seq: Sequence::default(),
            epoch: 0,
            exact: false,
            text,
            usage: Usage { prompt: request.prompt.len(), ..Usage::default() },
            asked: now,
            started: None,
            first: None,
            guesser: (draft > 0).then(|| Guesser::new(by_model)),
            draft,
            mask,
            request,
        })
    }

    /// Whether another token is to be drawn, of those submitted already.
    pub(super) fn wants_more(&self, context: usize) -> bool {
        self.submitted - self.prompt < self.request.max_tokens && self.submitted < context
    }

    /// Whether log-probabilities of its prompt are still to come.
    pub(super) fn is_scoring(&self) -> bool {
        self.request.prompt_logprobs.is_some() && self.scored < self.prompt
    }

    /// The log-probabilities that the logits behind the tokens from `from` on give to what follows them, as far as they
    /// were not told.
    ///
    /// # Errors
    /// Logits that are not finite.
    pub(super) fn score(
        &mut self,
        bits: &[u32],
        from: usize,
        vocabulary: usize,
    ) -> Result<Option<Event>, Error> {
        let (first, n) = (self.scored, self.request.prompt_logprobs.unwrap_or(0));
        let rows = (from + 1..).zip(bits.chunks_exact(vocabulary));
        let rows = rows.filter(|(token, _)| (first..self.prompt).contains(token));
        let logprobs = side_by_side(rows.collect(), |(token, row)| {
            let logits: Vec<f32> = row.iter().copied().map(f32::from_bits).collect();
            match choose::are_finite(&logits) {
                true => Ok(choose::logprobs(&logits, self.known[token], n, &[])),
                false => Err(Error::NotFiniteLogits { position: token as u32 - 1 }),
            }
        });
        let logprobs = logprobs.into_iter().collect::<Result<Vec<_>, _>>()?;
        self.scored += logprobs.len();
        Ok((!logprobs.is_empty()).then_some(Event::Prompt { id: self.id, first, logprobs }))
    }

    /// Takes the negative log-probabilities of the tokens of its prompt that are to be told of next.
    ///
    /// # Errors
    /// One that is not finite.
    pub(super) fn tell(&mut self, losses: &[f32]) -> Result<Option<Event>, Error> {
        let first = self.scored;
        if let Some(at) = losses.iter().position(|loss| !loss.is_finite()) {
            return Err(Error::NotFiniteLogits { position: (first + at) as u32 - 1 });
        }
        self.scored += losses.len();
        let logprobs = losses.iter().map(|loss| Logprobs { logprob: -loss, top: Vec::new() }).collect();
        Ok((!losses.is_empty()).then_some(Event::Prompt { id: self.id, first, logprobs }))
    }

    /// Whether the next step may verify guesses: all that was submitted has come back.
    pub(super) fn may_guess(&self) -> bool {
        self.guesser.is_some() && self.submitted == self.known.len()
    }

    /// Draws the next token from its logits.
    ///
    /// # Errors
    /// Logits that are not finite, or a mask without a token.
    fn choose(&mut self, bits: &[u32]) -> Result<(u32, Option<super::Logprobs>), Error> {
        let mut logits: Vec<f32> = bits.iter().copied().map(f32::from_bits).collect();
        let mut masked = false;
        if let Some(mask) = self.request.mask.as_mut().filter(|m| !m.is_free()) {
            self.mask.fill(0);
            mask.allowed(&mut self.mask).map_err(|what| Error::Mask { what })?;
            masked = true;
        }
        let before = self.request.logprobs.map(|_| logits.clone());
        let choice = Choice {
            sampling: &self.request.sampling,
            bias: &self.request.logit_bias,
            mask: masked.then_some(&self.mask),
            known: &self.known,
        };
        let token = choice.draw(&mut logits).map_err(|why| match why {
            NoToken::NotFinite => Error::NotFiniteLogits { position: (self.known.len() - 1) as u32 },
            NoToken::Masked => Error::Mask { what: "no token may come next".into() },
        })?;
        let also = &self.request.logprobs_of;
        let top = before.zip(self.request.logprobs).map(|(l, n)| choose::logprobs(&l, token, n, also));
        Ok((token, top))
    }

    /// Takes a token; the events of it, and whether the answer is whole.
    ///
    /// # Errors
    /// A mask that refuses the token.
    pub(super) fn accept(
        &mut self,
        token: u32,
        logprobs: Option<super::Logprobs>,
        ends: bool,
        context: usize,
        now: Instant,
    ) -> Result<(Vec<Event>, bool), Error> {
        self.known.push(token);
        if let Some(guesser) = &mut self.guesser {
            guesser.push(&self.known);
        }
        self.usage.generated += 1;
        if self.first.is_none() {
            self.first = Some(now);
            self.usage.prefill = now - self.started.unwrap_or(now);
        }
        self.usage.decode = now - self.first.unwrap_or(now);
        let ends = ends && !self.request.sampling.ignore_eos;
        if ends || self.request.stop_tokens.contains(&token) {
            let reason = if ends { Finish::EndOfText } else { Finish::StopToken(token) };
            return Ok((vec![self.finish(reason)], true));
        }
        if let Some(mask) = &mut self.request.mask {
            mask.accept(token).map_err(|what| Error::Mask { what })?;
        }
        let id = self.id;
        let (text, stop) = match self.text.push(token) {
            Step::Text(text) => (text, None),
            Step::Stopped { text, stop } => (text, Some(stop)),
        };
        let mut events = vec![Event::Token { id, token, text, logprobs }];
        let reason = if let Some(stop) = stop {
            let (usage, text) = (self.usage, String::new());
            events.push(Event::Finished { id, reason: Finish::StopString(stop), text, usage });
            return Ok((events, true));
        } else if self.usage.generated >= self.request.max_tokens {
            Finish::MaxTokens
        } else if self.known.len() >= context {
            Finish::Context
        } else {
            return Ok((events, false));
        };
        events.push(self.finish(reason));
        Ok((events, true))
    }

    /// The end of an answer: what was held back is certain now.
    pub(super) fn finish(&mut self, reason: Finish) -> Event {
        let (text, reason) = match self.text.finish() {
            Step::Text(text) => (text, reason),
            Step::Stopped { text, stop } => (text, Finish::StopString(stop)),
        };
        Event::Finished { id: self.id, reason, text, usage: self.usage }
    }
}

/// What was drawn for the answer of a slot, and its epoch.
pub(super) type Chosen = (usize, u64, Result<(u32, Option<super::Logprobs>), Error>);

/// Draws the next token of the answers of slots from their logits: a draw reads a whole vocabulary, a mask may walk a
/// grammar, and the others' next step waits for none of it.
pub(super) fn choose_all(work: Vec<(usize, &mut Answer, &[u32])>) -> Vec<Chosen> {
    side_by_side(work, |(slot, answer, row)| (slot, answer.epoch, answer.choose(row)))
}
