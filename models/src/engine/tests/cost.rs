//! What guesses cost, on a device that takes its time: texts from those that repeat themselves to those that never do,
//! with and without guesses, by the clock of the test.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Bench, Request, Rng, full};
use crate::Sampling;

/// A device that does one thing after the other, and a host that reads late what it did.
pub(super) struct Clock {
    pub(super) now: Instant,
    free: Instant,
    /// When what was asked for is there, in the order in which that was.
    ready: VecDeque<Instant>,
    costs: Costs,
}

/// What things take, in microseconds.
#[derive(Clone, Copy)]
pub(super) struct Costs {
    plain: u64,
    /// Steps with guesses, of up to 4 rows and of more.
    shared: [u64; 2],
    piece: u64,
    /// From the end of something to where the host goes on.
    host: u64,
}

impl Clock {
    pub(super) fn step(&mut self, rows: usize, shared: bool) {
        let c = self.costs;
        let cost = if shared { c.shared[usize::from(rows > 4)] } else { c.plain };
        self.take(cost);
    }

    pub(super) fn piece(&mut self) {
        self.take(self.costs.piece);
    }

    fn take(&mut self, micros: u64) {
        self.free = self.free.max(self.now) + Duration::from_micros(micros);
        self.ready.push_back(self.free);
    }

    /// When the host has what is there next.
    pub(super) fn wait(&mut self, now: Instant) -> Instant {
        let ready = self.ready.pop_front().expect("something that was asked for");
        now.max(ready) + Duration::from_micros(self.costs.host)
    }
}

/// A small model on a large GPU: the host takes long beside it, and rows are dear.
const DEAR: Costs = Costs { plain: 800, shared: [1200, 1500], piece: 5000, host: 250 };
/// A large one, whose rows cost little.
const CHEAP: Costs = Costs { plain: 5000, shared: [5300, 5600], piece: 20_000, host: 250 };

/// Seconds of some answers, one after the other.
fn run(costs: Costs, temperatures: &[f32], guesses: bool) -> f64 {
    const ANSWERS: u32 = 12;
    const TOKENS: usize = 250;
    let mut b = Bench::guessing(1, 7, 400, vec![full(1, 120)]);
    let now = b.now;
    b.s.device.clock = Some(Clock { now, free: now, ready: VecDeque::new(), costs });
    let mut rng = Rng(3);
    for seed in 0..ANSWERS {
        let temperature = temperatures[seed as usize % temperatures.len()];
        let sampling =
            Sampling { temperature, seed, top_k: 0, top_p: 1.0, min_p: 0.0, ..Sampling::default() };
        let draft = Some(if guesses { 7 } else { 0 });
        b.ask(Request { draft, ..Request::new(rng.tokens(60), sampling, TOKENS) });
        b.run();
    }
    (b.now - now).as_secs_f64()
}

/// However well texts can be guessed, an answer takes as long as without guesses at most; and where they repeat
/// themselves, guesses pay.
#[test]
fn guesses_cost_next_to_nothing() {
    for (name, costs, most) in [("dear", DEAR, 1.2), ("cheap", CHEAP, 1.7)] {
        let mut texts: Vec<Vec<f32>> =
            [0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 3.0].map(|t| vec![t]).into();
        texts.push(vec![0.0, 0.5]);
        texts.push(vec![0.1, 0.2]);
        for t in texts {
            let ratio = run(costs, &t, true) / run(costs, &t, false);
            assert!(ratio < 1.005, "{name}, {t:?}: {ratio:.4} of the time without guesses");
            assert!(t != [0.0] || ratio < 1.0 / most, "{name}: {ratio:.4} where a text repeats itself");
        }
    }
}
