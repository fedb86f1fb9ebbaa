//! Guesses are verified by rows of one step: the row of a slot computes the last token that is known, and rows that nobody
//! needs compute the guesses behind it, with the slot's own blocks. What a row draws is what the guess of the next row
//! should have been; from the first that was wrong on all is thrown away, and its keys are written again later. Draws
//! depend on seed and position alone, so an answer is what it is without guesses.

use std::time::Instant;

use super::device::Device;
use super::draft::Guesses;
use super::schedule::Scheduler;
use crate::{Result, Sampling};

impl<D: Device> Scheduler<D> {
    /// Whether an answer waits for what it has on its way, so that guesses behind that can be verified. One that was left
    /// alone has to: its tokens are not all known.
    pub(super) fn holds(&self, slot: usize) -> bool {
        let Some(a) = &self.slots[slot] else { return false };
        let under_way = a.submitted - a.known.len();
        let Some(guesser) = a.guesser.as_ref().filter(|_| under_way > 0 && !a.request.on_host()) else {
            return false;
        };
        if !self.awake[slot] {
            return true;
        }
        let right = guesser.right();
        // What is on its way has to be as guessed, too; a smaller model sees it first.
        let (sure, all) = match guesser.by_model() {
            true => (a.draft, 1.0),
            false => {
                let sure = guesser.guess(&a.known, under_way + a.draft).len();
                (sure.saturating_sub(under_way), right.powi(under_way as i32))
            }
        };
        let (free, top) = (self.free_rows(), self.top_row());
        let most = sure.min(free.len()).min(self.most_guesses(slot));
        let rows = |n: usize| self.rows_with(top, &free, n);
        let others = (self.others(slot), guesser.by_model());
        let (worth, gain) = self.pace.guesses(right, most, (rows(0), false), others, rows);
        all > 0.5 && worth > 0 && all * gain > self.pace.restart()
    }

    /// Guesses that an answer can take without going beyond its end.
    fn most_guesses(&self, slot: usize) -> usize {
        let Some(a) = &self.slots[slot] else { return 0 };
        let left = a.prompt.saturating_add(a.request.max_tokens).min(self.device.layout().context);
        // The token behind the last guess is drawn as well.
        left.saturating_sub(a.known.len() + 1).min(a.draft)
    }

    /// Other answers that a step gives a token.
    fn others(&self, slot: usize) -> usize {
        self.awake
            .iter()
            .take(self.slots.len())
            .enumerate()
            .filter(|(s, awake)| *s != slot && **awake)
            .count()
    }

    fn top_row(&self) -> usize {
        self.slots.iter().rposition(Option::is_some).map_or(0, |slot| slot + 1)
    }

    /// Rows that no answer needs, the first ones first; none where there is no room for guesses.
    fn free_rows(&self) -> Vec<usize> {
        let layout = self.device.layout();
        let all = if layout.guesses > 0 { layout.rows } else { 0 };
        (0..all).filter(|&row| self.slots.get(row).is_none_or(Option::is_none)).collect()
    }

    /// Rows of a step of the first `top` rows and of n that are free.
    fn rows_with(&self, top: usize, free: &[usize], n: usize) -> usize {
        self.device.rows(free[..n].iter().map(|row| row + 1).max().unwrap_or(0).max(top))
    }

    /// Makes guesses for the answers of these slots, which have their rows already, and has free rows compute them. Gives
    /// them, how many rows the step has then, and positions.
    pub(super) fn guess(
        &mut self,
        slots: &[(usize, u64)],
        rows: &mut [Option<u64>],
        mut positions: usize,
    ) -> Result<(Vec<Guesses>, usize, usize)> {
        let mut all = rows.len();
        let mut made = Vec::new();
        let mut free = if slots.is_empty() { Vec::new() } else { self.free_rows() };
        for &(slot, epoch) in slots {
            let others = rows.iter().flatten().count() - 1;
            let a = self.slots[slot].as_ref().expect("it was there");
            let Some(guesser) = &a.guesser else { continue };
            let (by_model, most) = (guesser.by_model(), self.most_guesses(slot).min(free.len()));
            let found = guesser.guess(&a.known, most);
            let most = if by_model { most } else { found.len() };
            let count = |n: usize| self.rows_with(all, &free, n);
            let n = self.pace.guesses(guesser.right(), most, (count(0), false), (others, by_model), count).0;
            if n == 0 {
                continue;
            }
            let (known, sampling) = (a.known.clone(), a.request.sampling);
            let tokens = if by_model { self.draft(slot, &known, &sampling, n)? } else { found[..n].to_vec() };
            let n = tokens.len();
            if n == 0 {
                continue;
            }
            if !self.room_for(slot, n)? {
                continue;
            }
            let taken: Vec<usize> = free.drain(..n).collect();
            let mut text = known;
            for (&row, &token) in taken.iter().zip(&tokens) {
                text.push(token);
                self.lend(slot, row, &text, &sampling)?;
            }
            all = all.max(taken.iter().max().map_or(0, |row| row + 1));
            positions = positions.max(text.len());
            // The tokens of its row are looked at together with the guesses.
            rows[slot] = None;
            let a = self.slots[slot].as_mut().expect("it was there");
            a.phase = super::answer::Phase::Waiting;
            made.push(Guesses { slot, epoch, tokens, rows: taken });
        }
        Ok((made, all, positions))
    }

    /// Guesses of the smaller model, whose time is counted.
    fn draft(&mut self, slot: usize, known: &[u32], sampling: &Sampling, n: usize) -> Result<Vec<u32>> {
        let Some(drafter) = &mut self.drafter else { return Ok(Vec::new()) };
        let begin = Instant::now();
        let mut tokens = drafter.draft(slot, known, sampling, n)?;
        let took = begin.elapsed();
        self.drafting += took;
        self.pace.drafted(took, tokens.len());
        // Its vocabulary may have more rows.
        let vocabulary = self.device.layout().vocabulary;
        tokens.truncate(tokens.iter().position(|&t| t >= vocabulary).unwrap_or(n));
        Ok(tokens)
    }

    /// Blocks for n guesses; false where there are none.
    fn room_for(&mut self, slot: usize, n: usize) -> Result<bool> {
        let a = self.slots[slot].as_mut().expect("an answer");
        let position = a.known.len() - 1;
        match self.blocks.grow(&mut a.seq, position, position + 1 + n) {
            Some(changes) => self.write_tables(slot, changes).map(|()| true),
            None => Ok(false),
        }
    }

    fn lend(&mut self, slot: usize, row: usize, text: &[u32], sampling: &Sampling) -> Result<()> {
        self.device.lend(slot, row)?;
        let adapters = self.slots[slot].as_ref().map_or(&[][..], |a| &a.adapters);
        self.device.wake(row, text, sampling, adapters)
    }

    /// Rows of guesses, and those of their slots, are left alone until it is known what was right.
    pub(super) fn asleep_behind(&mut self, guesses: &[Guesses]) -> Result<()> {
        for g in guesses {
            g.rows.iter().try_for_each(|&row| self.device.sleep(row))?;
            self.put_to_sleep(g.slot)?;
        }
        Ok(())
    }

    /// A step with guesses is there: takes what its slot drew, and what the guesses' rows drew as far as they were right.
    pub(super) fn verified(&mut self, g: &Guesses, words: &[u32], now: Instant) -> Result<()> {
        let mut drawn = words[g.slot];
        for (right, (&guess, &row)) in g.tokens.iter().zip(&g.rows).enumerate() {
            if !self.is(g.slot, g.epoch) {
                return Ok(());
            }
            let a = self.slots[g.slot].as_mut().expect("an answer");
            a.usage.drafted.0 += 1;
            a.usage.drafted.1 += usize::from(guess == drawn);
            a.guesser.iter_mut().for_each(|g| g.verified(guess == drawn));
            if guess != drawn {
                // What is behind it was of no use.
                a.usage.drafted.0 += g.tokens.len() - right - 1;
                break;
            }
            self.pace.right(1);
            self.take(g.slot, drawn, None, now)?;
            drawn = words[row];
        }
        if self.is(g.slot, g.epoch) {
            self.take(g.slot, drawn, None, now)?;
        }
        if self.is(g.slot, g.epoch) {
            let a = self.slots[g.slot].as_mut().expect("an answer");
            a.submitted = a.known.len();
            self.resume(g.slot);
        }
        Ok(())
    }
}
