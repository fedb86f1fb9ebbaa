//! What an engine did since it began, for whoever watches it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often something took how long.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum_us: AtomicU64,
}

/// Seconds; each bucket counts what took at most so long.
const BOUNDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

impl Histogram {
    pub(super) fn add(&self, d: Duration) {
        let s = d.as_secs_f64();
        let at = BOUNDS.iter().position(|b| s <= *b).unwrap_or(BOUNDS.len());
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        add_time(&self.sum_us, d);
    }

    /// Adds what another one counted.
    fn absorb(&self, other: &Histogram) {
        for (to, from) in self.buckets.iter().zip(&other.buckets) {
            to.fetch_add(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.sum_us.fetch_add(other.sum_us.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Bounds, the last of which is infinite, and how many took at most so long.
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let mut n = 0;
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let up_to = |(le, b): (f64, &AtomicU64)| {
            n += b.load(Ordering::Relaxed);
            (le, n)
        };
        bounds.zip(&self.buckets).map(up_to).collect()
    }

    /// The sum in seconds, and how many there were.
    pub fn sum(&self) -> (f64, u64) {
        let n = self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).sum();
        (self.sum_us.load(Ordering::Relaxed) as f64 / 1e6, n)
    }
}

/// Sums since the start.
#[derive(Debug, Default)]
pub struct Totals {
    /// Texts of which vectors or scores were made.
    pub texts: AtomicU64,
    /// Tokens of prompts, and of those texts.
    pub prompt: AtomicU64,
    /// Those of them that were cached.
    pub cached: AtomicU64,
    /// Tokens that were guessed and verified.
    pub drafted: AtomicU64,
    /// Those of them that were right.
    pub accepted: AtomicU64,
    /// Tokens drawn.
    pub generated: AtomicU64,
    /// Time from the start of each request to its first token, in microseconds, added up.
    pub prefill_us: AtomicU64,
    /// Time from there to its last, likewise.
    pub decode_us: AtomicU64,
    /// Time in the queue, likewise.
    pub queued_us: AtomicU64,
    /// Requests that came to their end.
    pub finished: AtomicU64,
    /// Those that failed.
    pub failed: AtomicU64,
    /// Those whose clients left.
    pub cancelled: AtomicU64,
    /// Those for which there was no room.
    pub refused: AtomicU64,
    /// Steps of the backend.
    pub steps: AtomicU64,
    /// Backends that were lost.
    pub lost: AtomicU64,
    /// How often an answer lost its slot.
    pub preempted: AtomicU64,
    /// From being asked to the first token.
    pub first_token: Histogram,
    /// Between tokens, the mean of each answer.
    pub per_token: Histogram,
}

impl Totals {
    /// Adds what another engine counted.
    pub(crate) fn absorb(&self, other: &Totals) {
        for (to, from) in [
            (&self.texts, &other.texts),
            (&self.prompt, &other.prompt),
            (&self.cached, &other.cached),
            (&self.drafted, &other.drafted),
            (&self.accepted, &other.accepted),
            (&self.generated, &other.generated),
            (&self.prefill_us, &other.prefill_us),
            (&self.decode_us, &other.decode_us),
            (&self.queued_us, &other.queued_us),
            (&self.finished, &other.finished),
            (&self.failed, &other.failed),
            (&self.cancelled, &other.cancelled),
            (&self.refused, &other.refused),
            (&self.steps, &other.steps),
            (&self.lost, &other.lost),
            (&self.preempted, &other.preempted),
        ] {
            to.fetch_add(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.first_token.absorb(&other.first_token);
        self.per_token.absorb(&other.per_token);
    }
}

pub(super) fn add(to: &AtomicU64, n: usize) {
    to.fetch_add(n as u64, Ordering::Relaxed);
}

pub(super) fn add_time(to: &AtomicU64, d: Duration) {
    to.fetch_add(d.as_micros() as u64, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Histogram;

    #[test]
    fn buckets_add_up() {
        let h = Histogram::default();
        for ms in [0, 1, 2, 40, 70_000] {
            h.add(Duration::from_millis(ms));
        }
        let buckets = h.buckets();
        assert_eq!((buckets[0], buckets[1], buckets[5]), ((0.001, 2), (0.0025, 3), (0.05, 4)));
        assert_eq!(buckets.last().map(|b| b.1), Some(5));
        assert_eq!(h.sum(), (70.043, 5));
    }
}
