//! Pieces of prompts between the steps, for a bounded time. Short ones of several prompts are one program, one pass over
//! the weights. That one draws nothing: it leaves out the last token of each prompt, which the next step computes beside
//! all others, so that an answer begins with that step.

use std::time::Duration;

use super::answer::{Answer, Phase};
use super::device::{Device, MIXED_END, Piece};
use super::request::{Event, Id};
use super::schedule::{Scheduler, What};
use crate::{Result, Sampling};

/// How long pieces of prompts may keep decoding answers waiting.
const PIECE_TIME: Duration = Duration::from_millis(40);
/// The least piece, whatever the device's speed.
const LEAST_PIECE: usize = 32;
/// Tokens that are left of a prompt that shares a program with others.
const SHORT: usize = 256;

/// Tokens of a prompt, the last of which is not its last one.
#[derive(Clone, Copy)]
struct Short {
    slot: usize,
    from: usize,
    to: usize,
}

impl<D: Device> Scheduler<D> {
    /// Tokens of prompts that a round may compute.
    fn budget(&self, decoding: bool) -> usize {
        let batch = self.device.layout().batch;
        match (decoding, self.pace.rate) {
            (false, _) => batch,
            (true, None) => (4 * LEAST_PIECE).min(batch),
            (true, Some(rate)) => {
                let fits = (rate * PIECE_TIME.as_secs_f64()) as usize;
                // It takes a few sizes only, since each has a program.
                let power = 1 << fits.max(LEAST_PIECE).ilog2();
                power.min(batch)
            }
        }
    }

    /// Pieces of prompts, the oldest prompt first; how many tokens they have.
    pub(super) fn submit_pieces(&mut self, decoding: bool) -> Result<usize> {
        let mut budget = self.budget(decoding);
        // Each size has a program: what is left over by a round is not made into pieces of any size.
        let least = LEAST_PIECE.min(self.device.layout().batch);
        let (mut all, mut mixed) = (0, false);
        let phase = |a: &Option<Answer>| match a {
            Some(Answer { phase: Phase::Prompt(done), id, .. }) => Some((*id, *done)),
            _ => None,
        };
        let mut waiting: Vec<(Id, usize, usize)> = self
            .slots
            .iter()
            .enumerate()
            .filter_map(|(slot, a)| phase(a).map(|(id, done)| (id, slot, done)))
            .collect();
        waiting.sort_unstable();
        let mut short: Vec<Short> =
            waiting.iter().filter_map(|&(_, slot, from)| self.short(slot, from)).collect();
        if short.len() == 1 {
            // A piece of its own draws the token behind it at once.
            short.clear();
        }
        for (_, slot, done) in waiting {
            if budget < least {
                break;
            }
            // All of those that are short are submitted in the turn of the first of them.
            let tokens = match short.iter().any(|s| s.slot == slot) {
                true if mixed => 0,
                true => {
                    mixed = true;
                    self.submit_mixed(&short, budget)?
                }
                false => self.submit_piece(slot, done, budget)?,
            };
            all += tokens;
            budget -= tokens;
        }
        Ok(all)
    }

    /// What is left of a prompt, where a program can compute it with what is left of others.
    fn short(&self, slot: usize, from: usize) -> Option<Short> {
        let a = self.slots[slot].as_ref()?;
        let to = a.known.len() - 1;
        let short = (1..=SHORT).contains(&(to - from)) && to <= MIXED_END;
        (self.device.layout().together && short && a.adapters.is_empty() && !a.is_scoring())
            .then_some(Short { slot, from, to })
    }

    /// One program of prompts that are short, as many of them as `budget` has room for, and a part of one more; how many
    /// tokens it has.
    fn submit_mixed(&mut self, short: &[Short], budget: usize) -> Result<usize> {
        let mut left = budget;
        let mut of = Vec::new();
        for &s in short {
            let to = s.to.min(s.from + left);
            let a = self.slots[s.slot].as_mut().expect("an answer");
            self.blocks.leave_behind(&mut a.seq, s.from);
            // A window's pool can be short here, as it can for a piece that is alone.
            if to > s.from
                && let Some(changes) = self.blocks.grow(&mut a.seq, s.from, to)
            {
                self.write_tables(s.slot, changes)?;
                left -= to - s.from;
                of.push(Short { to, ..s });
            }
        }
        if of.is_empty() {
            return Ok(0);
        }
        let piece = |s: &Short| {
            let known = &self.slots[s.slot].as_ref().expect("an answer").known[..s.to];
            Piece { slot: s.slot, known, from: s.from, draw: None, adapters: &[], scored: false }
        };
        let pieces: Vec<_> = of.iter().map(piece).collect();
        let ticket = self.device.mixed(&pieces)?;
        let mut landing = Vec::new();
        for Short { slot, to, .. } in of {
            let a = self.slots[slot].as_mut().expect("an answer");
            let whole = to + 1 == a.known.len();
            a.phase = if whole { Phase::Decoding } else { Phase::Prompt(to) };
            self.blocks.computed(&mut a.seq, &a.known, to);
            landing.push((slot, a.epoch, to + usize::from(whole)));
        }
        self.fly(What::Mixed { of: landing }, ticket);
        Ok(budget - left)
    }

    /// A piece of at most `most` tokens; how many it has.
    fn submit_piece(&mut self, slot: usize, from: usize, most: usize) -> Result<usize> {
        let a = self.slots[slot].as_mut().expect("an answer");
        // The first logits that are wanted are those of the token before the first to be told of. Behind the last token
        // there is none: that one's piece draws, as ever.
        let before = a.is_scoring() && from + 1 < a.scored;
        let scored = a.is_scoring() && !before && from + 1 < a.prompt;
        let (end, most) = match (before, scored) {
            (true, _) => (a.scored - 1, most),
            (_, true) => (a.prompt - 1, most.min(self.device.layout().scored)),
            _ => (a.known.len(), most),
        };
        if a.is_scoring() && !before && !scored && !a.wants_more(self.device.layout().context) {
            // What it waits for is on its way.
            return Ok(0);
        }
        let left = end - from;
        let whole = most - most % LEAST_PIECE.min(most);
        let to = from + if left <= most { left } else { whole };
        self.blocks.leave_behind(&mut a.seq, from);
        let Some(changes) = self.blocks.grow(&mut a.seq, from, to) else {
            // Only a window's pool can be short here, until the pieces before this one have passed.
            return Ok(0);
        };
        self.write_tables(slot, changes)?;
        let a = self.slots[slot].as_mut().expect("an answer");
        let last = to == a.known.len();
        let on_host = a.request.on_host();
        let greedy = Sampling::greedy();
        let draw = last.then_some(if on_host { &greedy } else { &a.request.sampling });
        let draws = last && !on_host;
        let piece = Piece { slot, known: &a.known[..to], from, draw, adapters: &a.adapters, scored };
        let ticket = self.device.piece(&piece)?;
        a.phase = if last { Phase::Waiting } else { Phase::Prompt(to) };
        self.blocks.computed(&mut a.seq, &a.known, to);
        let epoch = a.epoch;
        self.fly(
            match scored {
                true => What::Scored { slot, epoch, from, done: to },
                false => What::Piece { slot, epoch, done: to, draws },
            },
            ticket,
        );
        if last && on_host {
            let ticket = self.device.logits(&[0])?;
            self.fly(What::Logits { of: vec![(slot, epoch)] }, ticket);
        }
        Ok(to - from)
    }

    /// Tells how far a prompt is.
    pub(super) fn progress(&mut self, slot: usize, done: usize) {
        let a = self.slots[slot].as_ref().expect("an answer");
        let (id, total) = (a.id, a.prompt);
        self.events.push(Event::Progress { id, done: done.min(total), total });
    }
}
