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

/// Steps with guesses have to be better than plain ones by this factor: a little better is not worth the change.
const MARGIN: f64 = 1.1;
/// That factor grows by this for each plain step that guesses have cost so far.
const WARY: f64 = 0.2;
/// Guesses may cost this share of the time of plain steps in the long run.
const SHARE: f64 = 0.003;
/// Guesses may cost as many plain steps as this for what they won before.
const CREDIT: f64 = 10.0;

/// A step on its way.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) kind: Kind,
    /// Rows that it would have without guesses.
    pub(super) plain: usize,
    /// Answers that it gives tokens.
    pub(super) answers: usize,
    /// Answers that wait for what they have on its way, and miss it.
    pub(super) held: usize,
}

/// A round on its way.
pub(super) struct Round {
    pub(super) submitted: Instant,
    /// The step, where there is one.
    pub(super) step: Option<Step>,
    /// Whether the device had nothing else to do, because of guesses.
    pub(super) drained: bool,
    /// Tokens of prompts that it computes.
    pub(super) tokens: usize,
    /// How long a smaller model guessed before it was submitted.
    pub(super) drafting: Duration,
}

/// What steps of a kind take.
#[derive(Clone, Copy)]
struct Took {
    /// Seconds; none yet of a kind whose first step waited for its kernels.
    seconds: Option<f64>,
    /// Whether they were submitted while the device was busy: those alone are as fast as the device is.
    queued: bool,
}

/// What rounds took.
#[derive(Default)]
pub(super) struct Pace {
    steps: HashMap<Kind, Took>,
    /// Seconds that guesses have cost, with what follows them, beyond what their tokens would have taken without. What
    /// they may cost is taken off by and by.
    lost: f64,
    /// Seconds that a token takes without guesses, beside those of the last step that had some.
    token: f64,
    /// Seconds that it costs to have the device wait for the host once.
    restart: Option<f64>,
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
        let guesses = round.step.is_some_and(|s| s.kind.1);
        let begun = round.submitted.checked_sub(round.drafting).unwrap_or(round.submitted);
        let queued = guesses || self.last.is_some_and(|last| begun <= last);
        let waited =
            |last: Instant| (guesses || round.drained) && begun.saturating_duration_since(last) < IDLE;
        let begin = match self.last {
            Some(last) if waited(last) => last,
            Some(last) => last.max(begun),
            None => begun,
        };
        let took = (now - begin).as_secs_f64();
        self.last = Some(now);
        match round.step {
            Some(step) if round.tokens == 0 => {
                self.account(&step, round.drained, took);
                // One that took long for another reason does not count as much.
                let fair = |old: f64| took.min(2.0 * old);
                let new = match self.steps.get(&step.kind) {
                    None => Took { seconds: None, queued },
                    Some(&old) if old.queued && !queued && old.seconds.is_some() => old,
                    Some(old) if queued && !old.queued => Took { seconds: Some(took), queued },
                    Some(old) => {
                        Took { seconds: Some(mix(old.seconds, old.seconds.map_or(took, fair))), queued }
                    }
                };
                self.steps.insert(step.kind, new);
            }
            step => {
                let step = step.and_then(|s| self.measured(s.kind)).unwrap_or(0.0);
                let pieces = (took - step).max(0.1 * took).max(1e-6);
                // Pieces grow slower the deeper a prompt is: what was slower counts at once, since the others wait for
                // the next one, and what was faster by and by.
                let new = round.tokens as f64 / pieces;
                self.rate = Some(mix(self.rate, new).min(new));
            }
        }
    }

    /// A step took so long: what guesses have to do with that.
    fn account(&mut self, step: &Step, drained: bool, took: f64) {
        let Some(plain) = self.measured((step.plain, false)) else { return };
        let token = plain / step.answers.max(1) as f64;
        // One that took long for another reason does not count as much.
        let more = took.min(4.0 * self.measured(step.kind).unwrap_or(plain)) - plain;
        match (step.kind.1, drained) {
            (true, _) => (self.lost, self.token) = (self.lost + more, token),
            (false, true) => {
                self.lost += more;
                self.restart = Some(mix(self.restart, more.max(0.0)));
            }
            (false, false) => self.lost -= SHARE * plain,
        }
        self.lost = (self.lost + step.held as f64 * token).max(-CREDIT * plain);
    }

    /// Takes off the account what the right guesses of the last step have won.
    pub(super) fn right(&mut self, guesses: usize) {
        self.lost -= guesses as f64 * self.token;
    }

    /// Seconds that it costs an answer to wait for what it has on its way.
    pub(super) fn restart(&self) -> f64 {
        self.restart.unwrap_or(0.0)
    }

    fn measured(&self, kind: Kind) -> Option<f64> {
        self.steps.get(&kind)?.seconds
    }

    /// A smaller model took so long for so many guesses.
    pub(super) fn drafted(&mut self, took: Duration, guesses: usize) {
        if guesses > 0 {
            let each = took.as_secs_f64() / guesses as f64;
            self.draft = Some(self.draft.map(|old| mix(old, old.map_or(each, |old| each.min(4.0 * old)))));
        }
    }

    /// Seconds of a step, measured, or by the one of fewer rows that was. It takes no longer than one of more rows: where
    /// it did, something else held it up, and nobody would find out that it is fast.
    fn step(&self, kind: Kind) -> f64 {
        if let Some(took) = self.measured(kind) {
            let more = self.steps.iter().filter(|((rows, guesses), _)| *rows > kind.0 && *guesses == kind.1);
            return more.filter_map(|(_, took)| took.seconds).fold(took, f64::min);
        }
        let fewer = self.steps.iter().filter_map(|((rows, _), took)| Some((*rows, took.seconds?)));
        let nearest = fewer.filter(|(rows, _)| *rows <= kind.0).max_by_key(|(rows, _)| *rows);
        nearest.map_or(1.0, |(rows, took)| took * (1.0 + 0.01 * (kind.0 - rows) as f64))
    }

    /// How many guesses are worth a row each, and the seconds that they are likely to save. `right` is how likely a guess is
    /// right if those before it are, `plain` the step without any, `rows(n)` how many rows one with n has, and `others` how
    /// many tokens it gives besides. Where a smaller model guesses, that takes its time.
    ///
    /// The more guesses have cost of late, the better they have to be: so what they can cost has an end, and a text that
    /// repeats itself is still found out.
    pub(super) fn guesses(
        &self,
        right: f64,
        most: usize,
        plain: Kind,
        (others, by_model): (usize, bool),
        rows: impl Fn(usize) -> usize,
    ) -> (usize, f64) {
        if self.always_guess {
            return (most, f64::INFINITY);
        }
        let tokens = |n: usize| others as f64 + (0..=n).map(|i| right.powi(i as i32)).sum::<f64>();
        // Steps with guesses are timed from the end of the one before, with what was drafted in between. Those that were
        // not are estimated with it.
        let draft = if by_model { self.draft.flatten().unwrap_or(0.0) } else { 0.0 };
        let took = |n: usize| {
            let kind = (rows(n), true);
            let measured = self.measured(kind).is_some();
            self.step(kind) + if measured { 0.0 } else { n as f64 * draft }
        };
        let rate = |n: usize| tokens(n) / took(n);
        let plain = self.step(plain);
        let margin = MARGIN + WARY * (self.lost / plain).max(0.0);
        let mut best = (0, margin * tokens(0) / plain);
        for n in GUESSES.map(|n| n.min(most)) {
            if n > 0 && rate(n) > best.1 {
                best = (n, rate(n));
            }
        }
        match best.0 {
            0 => (0, 0.0),
            n => (n, tokens(n) / tokens(0) * plain - took(n)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Pace, Round, Step};

    /// Pieces are timed apart from the steps beside them, and guesses are tried and given up by what steps take.
    #[test]
    fn what_rounds_take_decides() {
        let mut p = Pace::default();
        let mut now = Instant::now();
        let mut round = |p: &mut Pace, kind: Option<(usize, bool)>, tokens, ms| {
            let submitted = now;
            now += Duration::from_millis(ms);
            let step = kind.map(|kind| Step { kind, plain: 1, answers: 1, held: 0 });
            p.take(&Round { submitted, step, drained: false, tokens, drafting: Duration::ZERO }, now);
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
        let guesses = |p: &Pace, right| p.guesses(right, 20, (1, false), (0, false), rows).0;
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
