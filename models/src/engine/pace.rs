//! How fast a device is, as rounds show. What comes back is no clock by itself: the host waits while it submits, and finds
//! several things there at once.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How many rows a step has, and whether some are of one answer.
pub(super) type Kind = (usize, bool);

/// How many tokens are guessed at a time: few kinds, since each is compiled and has to be tried. With the token before
/// them they are 4 or 8 rows, which steps compute as they compute one ([`weft_kernels::select::CHAIN_TOKENS`]): 16 are a
/// tile of matrices, whose other rounding changed one answer in fifteen of a real model at temperature 0.
pub(super) const GUESSES: [usize; 2] = [3, 7];
/// A device that had nothing to do for longer was not waited for.
const IDLE: Duration = Duration::from_millis(50);

/// A round on its way.
pub(super) struct Round {
    pub(super) submitted: Instant,
    /// The step, where there is one.
    pub(super) step: Option<Kind>,
    /// Tokens of prompts that it computes.
    pub(super) tokens: usize,
    /// How long a smaller model guessed before it was submitted.
    pub(super) drafting: Duration,
}

/// What rounds took.
#[derive(Default)]
pub(super) struct Pace {
    /// Seconds of a step; none yet of a kind whose first step waited for its kernels.
    steps: HashMap<Kind, Option<f64>>,
    /// Guess as much as there is room for, whatever steps take.
    pub(super) always_guess: bool,
    /// Seconds that a smaller model takes for a guess; none yet where its first ones waited for its kernels.
    draft: Option<Option<f64>>,
    /// Tokens of prompts a second.
    pub(super) rate: Option<f64>,
    /// When the last round ended.
    last: Option<Instant>,
}

fn mix(old: Option<f64>, new: f64) -> f64 {
    old.map_or(new, |old| 0.7 * old + 0.3 * new)
}

impl Pace {
    /// A round has ended.
    pub(super) fn take(&mut self, round: &Round, now: Instant) {
        // From the later of the two on the device did nothing else. Guesses wait for all that is under way, and the time
        // that the device stands still for them is theirs.
        let guesses = round.step.is_some_and(|(_, shared)| shared);
        let begun = round.submitted.checked_sub(round.drafting).unwrap_or(round.submitted);
        let waited = |last: Instant| guesses && begun.saturating_duration_since(last) < IDLE;
        let begin = match self.last {
            Some(last) if waited(last) => last,
            Some(last) => last.max(begun),
            None => begun,
        };
        let took = (now - begin).as_secs_f64();
        self.last = Some(now);
        match round.step {
            Some(kind) if round.tokens == 0 => {
                // One that took long for another reason does not count as much.
                let fair = |old: f64| took.min(4.0 * old);
                let new = self.steps.get(&kind).map(|&old| mix(old, old.map_or(took, fair)));
                self.steps.insert(kind, new);
            }
            step => {
                let step = step.and_then(|kind| *self.steps.get(&kind)?).unwrap_or(0.0);
                let pieces = (took - step).max(0.1 * took).max(1e-6);
                // Pieces grow slower the deeper a prompt is: what was slower counts at once, since the others wait for
                // the next one, and what was faster by and by.
                let new = round.tokens as f64 / pieces;
                self.rate = Some(mix(self.rate, new).min(new));
            }
        }
    }

    /// A smaller model took so long for so many guesses.
    pub(super) fn drafted(&mut self, took: Duration, guesses: usize) {
        if guesses > 0 {
            let each = took.as_secs_f64() / guesses as f64;
            self.draft = Some(self.draft.map(|old| mix(old, old.map_or(each, |old| each.min(4.0 * old)))));
        }
    }

    /// Seconds of a step, measured, or by the one of fewer rows that was.
    fn step(&self, kind: Kind) -> f64 {
        if let Some(Some(took)) = self.steps.get(&kind) {
            return *took;
        }
        let fewer = self.steps.iter().filter_map(|((rows, _), took)| Some((*rows, (*took)?)));
        let nearest = fewer.filter(|(rows, _)| *rows <= kind.0).max_by_key(|(rows, _)| *rows);
        nearest.map_or(1.0, |(rows, took)| took * (1.0 + 0.01 * (kind.0 - rows) as f64))
    }

    /// How many guesses are worth a row each. `right` is how likely a guess is right if those before it are, `plain` the
    /// step without any, `rows(n)` how many rows one with n has, and `others` how many tokens it gives besides. Where a
    /// smaller model guesses, that takes its time.
    pub(super) fn guesses(
        &self,
        right: f64,
        most: usize,
        plain: Kind,
        (others, by_model): (usize, bool),
        rows: impl Fn(usize) -> usize,
    ) -> usize {
        if self.always_guess {
            return most;
        }
        let tokens = |n: usize| others as f64 + (0..=n).map(|i| right.powi(i as i32)).sum::<f64>();
        // Steps with guesses are timed from the end of the one before, with what was drafted in between. Those that were
        // not are estimated with it.
        let draft = if by_model { self.draft.flatten().unwrap_or(0.0) } else { 0.0 };
        let took = |n: usize| {
            let kind = (rows(n), true);
            let measured = matches!(self.steps.get(&kind), Some(Some(_)));
            self.step(kind) + if measured { 0.0 } else { n as f64 * draft }
        };
        let rate = |n: usize| tokens(n) / took(n);
        // A little better is not worth the change.
        let mut best = (0, 1.2 * tokens(0) / self.step(plain));
        for n in GUESSES.map(|n| n.min(most)) {
            if n > 0 && rate(n) > best.1 {
                best = (n, rate(n));
            }
        }
        best.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Pace, Round};

    /// Pieces are timed apart from the steps beside them, and guesses are tried and given up by what steps take.
    #[test]
    fn what_rounds_take_decides() {
        let mut p = Pace::default();
        let mut now = Instant::now();
        let mut round = |p: &mut Pace, step, tokens, ms| {
            let submitted = now;
            now += Duration::from_millis(ms);
            p.take(&Round { submitted, step, tokens, drafting: Duration::ZERO }, now);
        };
        // The first of a kind does not count.
        round(&mut p, Some((1, false)), 0, 100);
        round(&mut p, Some((1, false)), 0, 10);
        round(&mut p, Some((1, false)), 300, 40);
        assert!((p.rate.unwrap() - 10_000.0).abs() < 1.0, "{:?}", p.rate);
        round(&mut p, Some((1, false)), 300, 70);
        assert!((p.rate.unwrap() - 5_000.0).abs() < 1.0, "{:?}", p.rate);
        round(&mut p, Some((1, false)), 300, 40);
        assert!((p.rate.unwrap() - 6_500.0).abs() < 1.0, "{:?}", p.rate);
        let rows = |n: usize| (n + 1).next_power_of_two();
        let guesses = |p: &Pace, right| p.guesses(right, 20, (1, false), (0, false), rows);
        assert_eq!(guesses(&p, 0.9), 7);
        assert_eq!(guesses(&p, 0.0), 0);
        (0..2).for_each(|_| round(&mut p, Some((8, true)), 0, 90));
        assert_eq!(guesses(&p, 0.9), 3);
        for rows in [4, 4] {
            round(&mut p, Some((rows, true)), 0, 80);
        }
        assert_eq!(guesses(&p, 0.9), 0);
    }
}
