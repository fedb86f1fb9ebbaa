//! Short pieces of several prompts in one program, one pass over the weights. It draws nothing: it leaves out the last
//! token of each prompt, which the next step computes beside all others, so that an answer begins with that step. What it
//! tells are log-probabilities of prompts for which nothing else is asked.
//!
//! All tokens write the keys of a layer before any of them reads there. So a piece sees what another of the same program
//! computes, and the endings of a question need no program each: what they share is computed with the first of them.

use weft_kernels::ops::cross_entropy::{STATS, Stats};

use super::answer::Phase;
use super::device::{Device, MIXED_END, Piece, TOGETHER, padded};
use super::request::Event;
use super::schedule::{Packed, Scheduler, What};
use crate::Result;

/// Tokens that are left of a prompt that shares a program with others. Attention of such programs goes by tokens, not by
/// tiles, and products by up to 2,048 tokens: an H200 computes prompts of 305 tokens at 13,100 tokens/s one by one and
/// at 19,100 together. A prompt of 512 has 18,700 alone.
const SHORT: usize = 512;

/// Words that come back of a token whose log-probability is told.
const TOLD: usize = STATS as usize / 4;

/// Tokens of a prompt, the last of which is not its last one.
#[derive(Clone, Copy)]
struct Short {
    slot: usize,
    from: usize,
    to: usize,
    /// The log-probabilities of this many tokens come back; the last of these is the one behind the piece.
    told: usize,
}

impl<D: Device> Scheduler<D> {
    /// Takes what others have computed of a prompt since it got its slot.
    pub(super) fn catch_up(&mut self, slot: usize) -> Result<()> {
        let Some(a) = self.slots[slot].as_mut() else { return Ok(()) };
        let Phase::Prompt(from) = a.phase else { return Ok(()) };
        // What the cache has leaves no logits.
        let most = if a.is_scoring() { a.scored } else { a.known.len() } - 1;
        let (to, changes) = self.blocks.catch_up(&mut a.seq, &a.known, from, most);
        if to > from {
            a.phase = Phase::Prompt(to);
            if a.usage.cached == from {
                a.usage.cached = to;
            }
        }
        self.write_tables(slot, changes)
    }

    /// Whether a program can compute what is left of a prompt with what is left of others.
    pub(super) fn is_short(&self, slot: usize) -> bool {
        self.short(slot, usize::MAX, usize::MAX).is_some()
    }

    /// What is left of a prompt, where a program can compute it with what is left of others: at most so many tokens, and
    /// so many that are told of.
    fn short(&self, slot: usize, tokens: usize, told: usize) -> Option<Short> {
        let (a, layout) = (self.slots[slot].as_ref()?, self.device.layout());
        let Phase::Prompt(from) = a.phase else { return None };
        let scoring = a.is_scoring();
        if scoring && (a.request.prompt_logprobs != Some(0) || layout.told == 0) {
            return None;
        }
        let end = if scoring { a.prompt } else { a.known.len() } - 1;
        let short = (from + 1..=from + SHORT).contains(&end) && end <= MIXED_END;
        let together = layout.together && layout.batch >= TOGETHER;
        if !together || !short || !a.adapters.is_empty() {
            return None;
        }
        let mut to = end.min(from.saturating_add(tokens));
        // The first token behind which one is told of.
        let first = if scoring { from.max(a.scored - 1) } else { to };
        to = to.min(first.saturating_add(told));
        (to > from).then_some(Short { slot, from, to, told: to.saturating_sub(first) })
    }

    /// One program of prompts that are short, as many of them as `budget` has room for, and a part of one more; how many
    /// tokens it has. `slots` are looked through in their order.
    pub(super) fn submit_packed(
        &mut self,
        slots: impl Iterator<Item = usize>,
        budget: usize,
    ) -> Result<usize> {
        let all = budget / TOGETHER * TOGETHER;
        let (mut left, mut rows) = (all, self.device.layout().told);
        let mut of: Vec<Short> = Vec::new();
        for slot in slots {
            self.catch_up(slot)?;
            let Some(s) = self.short(slot, left, rows) else { continue };
            let a = self.slots[slot].as_mut().expect("an answer");
            self.blocks.leave_behind(&mut a.seq, s.from);
            // The token behind it has its room as well, should it be the only one. A window's pool can be short here, as
            // it can for a piece that is alone.
            let end = (s.to + 1).min(a.known.len());
            if let Some(changes) = self.blocks.grow(&mut a.seq, s.from, end) {
                // Those behind it find in the cache what it computes.
                self.blocks.computed(&mut a.seq, &a.known, s.to);
                self.write_tables(slot, changes)?;
                left -= padded(s.to - s.from);
                rows -= s.told;
                of.push(s);
            }
        }
        match of[..] {
            [] => return Ok(0),
            // A piece of its own draws the token behind it at once.
            [Short { slot, from, to, .. }] if self.draws_behind(slot, to) && to - from < budget => {
                return self.submit_piece(slot, from, budget);
            }
            _ => {}
        }
        let piece = |s: &Short| {
            let known = &self.slots[s.slot].as_ref().expect("an answer").known;
            let (known, next) = (&known[..s.to], &known[s.to + 1 - s.told..=s.to]);
            Piece { slot: s.slot, known, from: s.from, draw: None, adapters: &[], scored: false, next }
        };
        let pieces: Vec<_> = of.iter().map(piece).collect();
        let ticket = self.device.mixed(&pieces)?;
        let mut landing = Vec::new();
        for Short { slot, to, told, .. } in of {
            let a = self.slots[slot].as_mut().expect("an answer");
            let whole = to + 1 == a.known.len();
            a.phase = if whole { Phase::Decoding } else { Phase::Prompt(to) };
            landing.push(Packed { slot, epoch: a.epoch, done: to + usize::from(whole), told });
        }
        self.fly(What::Mixed { of: landing }, ticket);
        Ok(all - left)
    }

    /// Whether nothing is wanted of a prompt computed up to `to` but the token behind it.
    fn draws_behind(&self, slot: usize, to: usize) -> bool {
        self.slots[slot].as_ref().is_some_and(|a| to + 1 == a.known.len() && !a.is_scoring())
    }

    /// Pieces of several prompts are there.
    pub(super) fn packed(&mut self, of: &[Packed], words: &[u32]) -> Result<()> {
        let mut rows = words
            .chunks_exact(TOLD)
            .map(|row| bytemuck::pod_read_unaligned::<Stats>(bytemuck::cast_slice(row)));
        for p in of {
            let losses: Vec<f32> = rows.by_ref().take(p.told).map(|s| s.loss).collect();
            if !self.is(p.slot, p.epoch) {
                continue;
            }
            let a = self.slots[p.slot].as_mut().expect("an answer");
            match a.tell(&losses) {
                Ok(event) => self.events.extend(event),
                Err(_) => {
                    self.once_more(p.slot)?;
                    continue;
                }
            }
            self.progress(p.slot, p.done);
            self.end_without_tokens(p.slot);
        }
        Ok(())
    }

    /// Tells how far a prompt is.
    pub(super) fn progress(&mut self, slot: usize, done: usize) {
        let a = self.slots[slot].as_ref().expect("an answer");
        let (id, total) = (a.id, a.prompt);
        self.events.push(Event::Progress { id, done: done.min(total), total });
    }
}
