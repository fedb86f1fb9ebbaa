//! Who waits: bounded in number and age, and served by turns of those who ask, so that nobody's many requests keep
//! another's one waiting.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a queue has room for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests that may wait.
    pub waiting: usize,
    /// How long one may wait.
    pub age: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { waiting: 128, age: Duration::from_secs(120) }
    }
}

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Who asks has more than their share of the queue.
    Share {
        /// Seconds after which there is likely to be room.
        retry_after: u64,
    },
    /// The queue is full.
    Queue {
        /// Seconds after which there is likely to be room.
        retry_after: u64,
    },
    /// The server ends, or its engine does not answer.
    Closed,
}

/// Counts that both sides see: the one that lets requests in, and the one that serves them.
#[derive(Debug, Default)]
pub(super) struct Door(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    waiting: usize,
    by_key: HashMap<u64, usize>,
    running: usize,
    /// Seconds that an answer holds its slot, as measured.
    seconds: Option<f64>,
    closed: bool,
}

impl Door {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `n` requests in.
    pub(super) fn enter(&self, key: u64, n: usize, slots: usize, limits: &Limits) -> Result<(), Full> {
        let mut c = self.counts();
        if c.closed {
            return Err(Full::Closed);
        }
        let own = c.by_key.get(&key).copied().unwrap_or(0);
        let others = c.by_key.len() > usize::from(own > 0);
        // Slots that are free take requests at once.
        let room = limits.waiting + slots.saturating_sub(c.running);
        if c.waiting + n > room {
            return Err(Full::Queue { retry_after: c.retry_after(slots) });
        }
        if others && own + n > room.div_ceil(2) {
            return Err(Full::Share { retry_after: c.retry_after(slots) });
        }
        c.waiting += n;
        *c.by_key.entry(key).or_default() += n;
        Ok(())
    }

    /// One that waited does so no longer; `runs` says whether it has a slot now.
    pub(super) fn leave(&self, key: u64, runs: bool) {
        let mut c = self.counts();
        c.waiting -= 1;
        c.running += usize::from(runs);
        if let Some(own) = c.by_key.get_mut(&key) {
            *own -= 1;
            if *own == 0 {
                c.by_key.remove(&key);
            }
        }
    }

    /// One that ran does so no longer; `whole` is how long it did, if it came to its end.
    pub(super) fn done(&self, whole: Option<Duration>) {
        let mut c = self.counts();
        c.running -= 1;
        if let Some(took) = whole.map(|d| d.as_secs_f64()) {
            c.seconds = Some(c.seconds.map_or(took, |s| s + (took - s) / 16.0));
        }
    }

    pub(super) fn close(&self) {
        self.counts().closed = true;
    }

    /// Those that wait, and those that run.
    pub(super) fn load(&self) -> (usize, usize) {
        let c = self.counts();
        (c.waiting, c.running)
    }
}

impl Counts {
    /// Seconds until the half of those that wait now are likely to have their slots.
    fn retry_after(&self, slots: usize) -> u64 {
        let each = self.seconds.unwrap_or(1.0) / slots.max(1) as f64;
        ((self.waiting as f64 / 2.0 * each).ceil() as u64).clamp(1, 120)
    }
}

/// Something that waits.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    pub(super) key: u64,
    pub(super) since: Instant,
    pub(super) what: T,
}

/// Those that wait, by who asks.
#[derive(Debug)]
pub(super) struct Queue<T> {
    lines: VecDeque<(u64, VecDeque<Waiting<T>>)>,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Queue<T> {
        Queue { lines: VecDeque::new() }
    }

    pub(super) fn push(&mut self, one: Waiting<T>) {
        match self.lines.iter_mut().find(|(key, _)| *key == one.key) {
            Some((_, line)) => line.push_back(one),
            None => self.lines.push_back((one.key, VecDeque::from([one]))),
        }
    }

    /// The next whose turn it is; whoever asked for it is last now.
    pub(super) fn pop(&mut self) -> Option<Waiting<T>> {
        let (key, mut line) = self.lines.pop_front()?;
        let one = line.pop_front();
        if !line.is_empty() {
            self.lines.push_back((key, line));
        }
        one
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Takes out those for which `leaves` holds.
    pub(super) fn take_out(&mut self, mut leaves: impl FnMut(&Waiting<T>) -> bool) -> Vec<Waiting<T>> {
        let mut out = Vec::new();
        for (_, line) in &mut self.lines {
            if line.iter().any(&mut leaves) {
                let (gone, stay) = std::mem::take(line).into_iter().partition(|w| leaves(w));
                *line = stay;
                out.extend::<VecDeque<_>>(gone);
            }
        }
        self.lines.retain(|(_, line)| !line.is_empty());
        out
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Door, Full, Limits, Queue, Waiting};

    #[test]
    fn everybody_has_a_turn() {
        let mut queue = Queue::new();
        for (key, what) in [(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1"), (3, "c1"), (2, "b2")] {
            queue.push(Waiting { key, since: Instant::now(), what });
        }
        let gone = queue.take_out(|w| w.what == "a2");
        assert_eq!(gone.len(), 1);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|w| w.what).collect();
        assert_eq!(order, ["a1", "b1", "c1", "a3", "b2"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn the_door_is_shut_in_time() {
        let limits = Limits { waiting: 4, age: Duration::from_secs(1) };
        let door = Door::default();
        door.enter(1, 2, 2, &limits).unwrap();
        for _ in 0..2 {
            door.leave(1, true);
        }
        assert_eq!(door.load(), (0, 2));
        door.enter(1, 3, 2, &limits).unwrap();
        // Somebody else has room where the first has none.
        door.enter(2, 1, 2, &limits).unwrap();
        assert_eq!(door.enter(3, 1, 2, &limits), Err(Full::Queue { retry_after: 1 }));
        door.leave(1, true);
        assert_eq!(door.enter(1, 1, 2, &limits), Err(Full::Share { retry_after: 1 }));
        door.done(Some(Duration::from_secs(40)));
        assert_eq!(door.enter(3, 2, 2, &limits), Err(Full::Queue { retry_after: 30 }));
        door.close();
        assert_eq!(door.enter(3, 1, 2, &limits), Err(Full::Closed));
    }
}
