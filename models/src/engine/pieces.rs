//! Pieces of prompts between the steps, for a bounded time. Short ones of several prompts are one program
//! ([`packed`](super::packed)).

use std::time::Duration;

use super::answer::{Answer, Phase};
use super::device::{Device, Piece};
use super::request::Id;
use super::schedule::{Scheduler, What};
use crate::{Result, Sampling};

/// How long pieces of prompts may keep decoding answers waiting.
const PIECE_TIME: Duration = Duration::from_millis(40);
/// The least piece, whatever the device's speed.
const LEAST_PIECE: usize = 32;

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
        let (mut all, mut packed) = (0, false);
        let mut waiting: Vec<(Id, usize)> =
            (0..self.slots.len()).filter_map(|slot| Some((self.waits(slot)?.0, slot))).collect();
        waiting.sort_unstable();
        for i in 0..waiting.len() {
            if budget < least {
                break;
            }
            let slot = waiting[i].1;
            self.catch_up(slot)?;
            let Some((_, done)) = self.waits(slot) else { continue };
            // All of those that are short are submitted in the turn of the first of them.
            let tokens = match self.is_short(slot) {
                true if packed => 0,
                true => {
                    packed = true;
                    self.submit_packed(waiting[i..].iter().map(|w| w.1), budget)?
                }
                false => self.submit_piece(slot, done, budget)?,
            };
            all += tokens;
            budget -= tokens;
        }
        Ok(all)
    }

    /// Whose prompt waits in a slot, and how far it is.
    fn waits(&self, slot: usize) -> Option<(Id, usize)> {
        match self.slots[slot] {
            Some(Answer { phase: Phase::Prompt(done), id, .. }) => Some((id, done)),
            _ => None,
        }
    }

    /// A piece of at most `most` tokens; how many it has.
    pub(super) fn submit_piece(&mut self, slot: usize, from: usize, most: usize) -> Result<usize> {
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
        let piece =
            Piece { slot, known: &a.known[..to], from, draw, adapters: &a.adapters, scored, next: &[] };
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
}
