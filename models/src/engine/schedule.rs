//! Who gets the device next. A round is a step of all answers that are being decoded, and then pieces of prompts, for a
//! bounded time, so that no decode waits for more than that. Two rounds are on their way: while the device computes one,
//! the host reads the one before it.
//!
//! Answers are served in the order in which they were asked for. One whose prompt finds no room waits, and those behind
//! it; one that finds none while it decodes sends the youngest back to the queue, whose tokens are computed again later
//! (its prompt is then all that is known of it, and most of that may still be in the cache).
//!
//! Where the host draws a token (masks, log-probabilities, penalties by count), an answer takes part in every other step
//! only: its logits come back while the step after it runs, so that the others keep their speed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use weft_kernels::ops::sample::NOT_FINITE;

use super::answer::{Answer, Phase, choose_all};
use super::device::{self, Device};
use super::draft::{Drafter, Guesses};
use super::pace::{Pace, Round, Step};
use super::pool::{Blocks, Change};
use super::request::{Event, Id, Request};
use super::text::Text;
use crate::{Error, Result, Sampling};

/// Rounds submitted before the first of them is read.
const IN_FLIGHT: u64 = 2;

/// Something on its way back.
struct Flight<T> {
    round: u64,
    what: What,
    ticket: T,
}

/// A piece beside others: up to where its prompt is computed then, and how many tokens it tells of.
pub(super) struct Packed {
    pub(super) slot: usize,
    pub(super) epoch: u64,
    pub(super) done: usize,
    pub(super) told: usize,
}

pub(super) enum What {
    /// `rows` has the epoch of the answer whose token comes in each row, and `guesses` are verified by it.
    Step { rows: Vec<Option<u64>>, guesses: Vec<Guesses> },
    /// Logits of answers, slot and epoch of each, from a step or behind a prompt.
    Logits { of: Vec<(usize, u64)> },
    /// Logits of all tokens of a piece, from the token `from` on.
    Scored { slot: usize, epoch: u64, from: usize, done: usize },
    /// A piece: with the token that was drawn, or none.
    Piece { slot: usize, epoch: u64, done: usize, draws: bool },
    /// Pieces of several prompts.
    Mixed { of: Vec<Packed> },
}

/// What there is to do next.
pub(super) enum Next<T> {
    Events(Vec<Event>),
    Wait(T),
}

/// Requests, slots and blocks, on a device.
pub(super) struct Scheduler<D: Device> {
    pub(super) device: D,
    pub(super) blocks: Blocks,
    queue: VecDeque<Answer>,
    pub(super) slots: Vec<Option<Answer>>,
    /// Slots that the device may still compute.
    pub(super) awake: Vec<bool>,
    flights: VecDeque<Flight<D::Ticket>>,
    /// What the flight that is waited for is about.
    landing: Option<What>,
    /// The rounds of flights, the oldest first; `round` is the number of the last.
    rounds: VecDeque<Round>,
    round: u64,
    pub(super) pace: Pace,
    /// Whether the device is about to run out of work because of guesses.
    drained: bool,
    /// Who guesses, where a text that repeats itself is not all there is.
    pub(super) drafter: Option<Box<dyn Drafter>>,
    /// How long that took in this round.
    pub(super) drafting: Duration,
    pub(super) events: Vec<Event>,
    last_id: u64,
    epochs: u64,
    now: Instant,
    /// Answers that lost their slot for want of blocks.
    pub(super) preempted: u64,
}

impl<D: Device> Scheduler<D> {
    pub(super) fn new(device: D, now: Instant) -> Scheduler<D> {
        let layout = device.layout();
        let slots = layout.slots;
        Scheduler {
            blocks: Blocks::new(&layout.groups, layout.block),
            queue: VecDeque::new(),
            slots: (0..slots).map(|_| None).collect(),
            awake: vec![false; device.layout().rows],
            flights: VecDeque::new(),
            landing: None,
            rounds: VecDeque::new(),
            round: 0,
            pace: Pace::default(),
            drained: false,
            drafter: None,
            drafting: Duration::ZERO,
            events: Vec::new(),
            last_id: 0,
            epochs: 0,
            now,
            preempted: 0,
            device,
        }
    }

    pub(super) fn submit(&mut self, request: Request, text: Text, now: Instant) -> Result<Id> {
        let layout = self.device.layout();
        request.check(layout.vocabulary)?;
        let most = layout.context.min(self.blocks.most_positions());
        if request.prompt.len() > most {
            return Err(Error::PromptTooLong { tokens: request.prompt.len(), context: most as u32 });
        }
        let id = Id(self.last_id + 1);
        let answer = Answer::new(id, request, text, now, layout, self.drafter.is_some())?;
        self.last_id += 1;
        self.queue.push_back(answer);
        Ok(id)
    }

    /// Ends a request without an event; whether there was one.
    pub(super) fn cancel(&mut self, id: Id) -> bool {
        self.events.retain(|e| e.id() != id);
        if let Some(at) = self.queue.iter().position(|a| a.id == id) {
            self.queue.remove(at);
            return true;
        }
        let slot = self.slots.iter().position(|a| a.as_ref().is_some_and(|a| a.id == id));
        if let Some(slot) = slot {
            self.free(slot);
        }
        slot.is_some()
    }

    /// Requests that wait for a slot, and those that have one.
    pub(super) fn load(&self) -> (usize, usize) {
        (self.queue.len(), self.slots.iter().flatten().count())
    }

    pub(super) fn blocks(&self) -> (usize, usize) {
        self.blocks.used()
    }

    /// What there is to give, or to wait for. Once the ticket is there, its words go to [`Scheduler::landed`].
    ///
    /// # Errors
    /// A fault of the device, which ends all requests.
    pub(super) fn next(&mut self, now: Instant) -> Result<Next<D::Ticket>> {
        self.now = now;
        self.admit()?;
        while self.flights.front().is_none_or(|f| self.round + 1 - f.round < IN_FLIGHT) {
            if !self.submit_round()? {
                break;
            }
        }
        if !self.events.is_empty() {
            return Ok(Next::Events(std::mem::take(&mut self.events)));
        }
        Ok(match self.flights.pop_front() {
            Some(f) => {
                self.landing = Some(f.what);
                Next::Wait(f.ticket)
            }
            None => Next::Events(Vec::new()),
        })
    }

    /// Takes the words of the ticket that [`Scheduler::next`] gave.
    pub(super) fn landed(&mut self, words: Vec<u32>, now: Instant) -> Result<()> {
        let what = self.landing.take().expect("a flight is landing");
        self.now = now;
        let left = self.flights.front().map_or(0, |f| self.round + 1 - f.round) as usize;
        while self.rounds.len() > left {
            let round = self.rounds.pop_front().expect("longer than none");
            self.pace.take(&round, now);
        }
        match what {
            What::Step { rows, guesses } => {
                for (slot, (epoch, &token)) in rows.into_iter().zip(&words).enumerate() {
                    if epoch.is_some_and(|e| self.is(slot, e)) {
                        self.take(slot, token, None, now)?;
                    }
                }
                guesses.into_iter().try_for_each(|g| self.verified(&g, &words, now))?;
            }
            What::Logits { of } => self.choose(&of, &words, now)?,
            What::Scored { slot, epoch, from, done } if self.is(slot, epoch) => {
                self.scored(slot, &words, (from, done))?;
            }
            What::Mixed { of } => self.packed(&of, &words)?,
            What::Piece { slot, epoch, done, draws } if self.is(slot, epoch) => {
                self.progress(slot, done);
                if draws {
                    let answer = self.slots[slot].as_mut().expect("an answer");
                    answer.submitted += 1;
                    self.take(slot, words[0], None, now)?;
                    self.resume(slot);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Draws the tokens of answers from their logits.
    fn choose(&mut self, of: &[(usize, u64)], words: &[u32], now: Instant) -> Result<()> {
        let vocabulary = self.device.layout().vocabulary as usize;
        let mut work = Vec::with_capacity(of.len());
        for (slot, answer) in self.slots.iter_mut().enumerate() {
            let Some(answer) = answer.as_mut() else { continue };
            if let Some(at) = of.iter().position(|&o| o == (slot, answer.epoch)) {
                work.push((slot, answer, &words[at * vocabulary..][..vocabulary]));
            }
        }
        for (slot, epoch, drawn) in choose_all(work) {
            // What became of one before it may have sent it back to the queue.
            if !self.is(slot, epoch) {
                continue;
            }
            match drawn {
                Ok((token, logprobs)) => {
                    self.slots[slot].as_mut().expect("an answer").submitted += 1;
                    self.take(slot, token, logprobs, now)?;
                    self.resume(slot);
                }
                Err(Error::NotFiniteLogits { .. }) => self.once_more(slot)?,
                Err(error) => self.fail(slot, error),
            }
        }
        Ok(())
    }

    /// Whether a slot still has the answer of this epoch.
    pub(super) fn is(&self, slot: usize, epoch: u64) -> bool {
        self.slots[slot].as_ref().is_some_and(|a| a.epoch == epoch)
    }

    /// Gives slots to those that wait, in order.
    fn admit(&mut self) -> Result<()> {
        let now = self.now;
        while let Some(slot) = self.slots.iter().position(Option::is_none) {
            let Some(mut answer) = self.queue.pop_front() else { return Ok(()) };
            let salt = self.blocks.salt(answer.request.salt, &answer.adapters);
            // What the cache has leaves no logits.
            let (mut seq, cached, found) = match answer.is_scoring() {
                true => self.blocks.open_before(&answer.known, answer.scored - 1, salt),
                false => self.blocks.open(&answer.known, salt),
            };
            let Some(grown) = self.blocks.reserve(&mut seq, cached, answer.known.len()) else {
                self.blocks.close(seq);
                if self.slots.iter().all(Option::is_none) {
                    // Nobody will ever make room.
                    let (id, known) = (answer.id, answer.known.len());
                    let error = Error::PoolFull { tokens: known };
                    self.events.push(Event::Failed { id, error });
                    continue;
                }
                self.queue.push_front(answer);
                return Ok(());
            };
            self.write_tables(slot, found.into_iter().chain(grown))?;
            answer.seq = seq;
            answer.phase = Phase::Prompt(cached);
            answer.submitted = answer.known.len();
            self.epochs += 1;
            answer.epoch = self.epochs;
            if answer.started.is_none() {
                answer.started = Some(now);
                answer.usage.queued = now - answer.asked;
                answer.usage.cached = cached;
                self.events.push(Event::Started { id: answer.id, prompt: answer.prompt, cached });
            }
            self.slots[slot] = Some(answer);
            self.end_without_tokens(slot);
        }
        Ok(())
    }

    pub(super) fn write_tables(
        &mut self,
        slot: usize,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<()> {
        changes.into_iter().try_for_each(|(group, first, ids)| self.device.table(group, slot, first, &ids))
    }

    /// Submits a step, and pieces of prompts; whether there was anything.
    fn submit_round(&mut self) -> Result<bool> {
        self.round += 1;
        let before = std::mem::take(&mut self.drained);
        let step = self.submit_step()?;
        let drained = before && self.rounds.is_empty();
        self.drained |= step.map_or(before, |s| s.kind.1);
        let tokens = self.submit_pieces(step.is_some())?;
        let any = step.is_some() || tokens > 0;
        match any {
            true => {
                let drafting = std::mem::take(&mut self.drafting);
                self.rounds.push_back(Round {
                    submitted: self.now + drafting,
                    step,
                    drained,
                    tokens,
                    drafting,
                });
            }
            false => self.round -= 1,
        }
        Ok(any)
    }

    pub(super) fn fly(&mut self, what: What, ticket: D::Ticket) {
        self.flights.push_back(Flight { round: self.round, what, ticket });
    }

    /// A step of all answers that are being decoded and want another token; what it is, if there is one.
    fn submit_step(&mut self) -> Result<Option<Step>> {
        let context = self.device.layout().context;
        let mut rows: Vec<Option<u64>> = Vec::new();
        let mut on_host = Vec::new();
        let mut guessing = Vec::new();
        let (mut positions, mut held) = (0, 0);
        for slot in 0..self.slots.len() {
            let wants = |a: &Answer| a.phase == Phase::Decoding && a.wants_more(context);
            let wants = self.slots[slot].as_ref().is_some_and(wants);
            if !wants || self.holds(slot) {
                // One that waits, or has all that it may have, is not computed any further.
                held += usize::from(wants);
                self.put_to_sleep(slot)?;
                continue;
            }
            if !self.make_room(slot)? {
                continue;
            }
            self.rouse(slot)?;
            let a = self.slots[slot].as_mut().expect("an answer");
            positions = positions.max(a.submitted);
            rows.resize(slot, None);
            if a.request.on_host() {
                a.phase = Phase::Waiting;
                on_host.push((slot, a.epoch));
                rows.push(None);
            } else {
                if a.may_guess() {
                    guessing.push((slot, a.epoch));
                }
                a.submitted += 1;
                rows.push(Some(a.epoch));
            }
        }
        // Making room for one may have sent back another that was counted already.
        for (slot, row) in rows.iter_mut().enumerate() {
            if row.is_some_and(|e| self.slots[slot].as_ref().is_none_or(|a| a.epoch != e)) {
                *row = None;
            }
        }
        on_host.retain(|&(slot, epoch)| self.is(slot, epoch));
        guessing.retain(|&(slot, epoch)| self.is(slot, epoch));
        self.drained = held > 0;
        let (plain, answers) = (self.device.rows(rows.len()), rows.iter().flatten().count() + on_host.len());
        if answers == 0 {
            return Ok(None);
        }
        let (guesses, all, positions) = self.guess(&guessing, &mut rows, positions)?;
        let kind = (self.device.rows(all), !guesses.is_empty());
        let mut awake =
            self.slots.iter().zip(&self.awake).filter_map(|(a, awake)| a.as_ref().filter(|_| *awake));
        let adapted = awake.any(|a| !a.adapters.is_empty());
        let ticket = self.device.step(all, positions, device::Kind { shared: kind.1, adapted })?;
        self.asleep_behind(&guesses)?;
        self.fly(What::Step { rows, guesses }, ticket);
        if !on_host.is_empty() {
            let rows: Vec<usize> = on_host.iter().map(|o| o.0).collect();
            let ticket = self.device.logits(&rows)?;
            self.fly(What::Logits { of: on_host }, ticket);
        }
        Ok(Some(Step { kind, plain, answers, held }))
    }

    /// Has the device compute the next token of a slot that was left alone, all of whose tokens are known.
    fn rouse(&mut self, slot: usize) -> Result<()> {
        if !self.awake[slot] {
            let a = self.slots[slot].as_ref().expect("an answer");
            // Where the host draws, the device leaves the logits as they are.
            let plain = Sampling::greedy();
            let sampling = if a.request.on_host() { &plain } else { &a.request.sampling };
            self.device.wake(slot, &a.known, sampling, &a.adapters)?;
            self.awake[slot] = true;
        }
        Ok(())
    }

    /// Blocks for the token that a slot computes next; false where its answer lost the slot.
    fn make_room(&mut self, slot: usize) -> Result<bool> {
        loop {
            let a = self.slots[slot].as_mut().expect("an answer");
            let position = a.submitted - 1;
            self.blocks.leave_behind(&mut a.seq, position);
            if let Some(changes) = self.blocks.grow(&mut a.seq, position, position + 1) {
                self.write_tables(slot, changes)?;
                return Ok(true);
            }
            let youngest = |s: &usize| self.slots[*s].as_ref().map(|a| a.id);
            let victim = (0..self.slots.len()).max_by_key(youngest).expect("a slot");
            if self.slots.iter().flatten().count() == 1 {
                let known = self.slots[slot].as_ref().map_or(0, |a| a.known.len());
                self.fail(slot, Error::PoolFull { tokens: known });
                return Ok(false);
            }
            self.preempt(victim)?;
            if victim == slot {
                return Ok(false);
            }
        }
    }

    /// Sends an answer back to the queue. What it has on its way is dropped and drawn again.
    fn preempt(&mut self, slot: usize) -> Result<()> {
        let mut answer = self.slots[slot].take().expect("an answer");
        self.preempted += 1;
        self.epochs += 1;
        answer.epoch = self.epochs;
        self.blocks.close(std::mem::take(&mut answer.seq));
        // Those behind it in the queue were asked for later, or were sent back before it and are older.
        let at = self.queue.iter().position(|a| a.id > answer.id).unwrap_or(self.queue.len());
        self.queue.insert(at, answer);
        self.put_to_sleep(slot)
    }

    pub(super) fn put_to_sleep(&mut self, slot: usize) -> Result<()> {
        if std::mem::take(&mut self.awake[slot]) {
            self.device.sleep(slot)?;
        }
        Ok(())
    }

    /// A token of an answer came.
    pub(super) fn take(
        &mut self,
        slot: usize,
        token: u32,
        logprobs: Option<super::Logprobs>,
        now: Instant,
    ) -> Result<()> {
        if token == NOT_FINITE {
            return self.once_more(slot);
        }
        let a = self.slots[slot].as_mut().expect("an answer");
        let ends = a.text.is_end(token);
        match a.accept(token, logprobs, ends, self.device.layout().context, now) {
            Ok((events, whole)) => {
                self.events.extend(events);
                let computed = a.known.len() - 1;
                self.blocks.computed(&mut a.seq, &a.known, computed);
                if whole {
                    self.free(slot);
                }
            }
            Err(error) => self.fail(slot, error),
        }
        Ok(())
    }

    /// Logits were not finite. All of the answer is computed once more, by a device that rounds nothing to f16; where
    /// that was so, or there is none, the answer ends.
    pub(super) fn once_more(&mut self, slot: usize) -> Result<()> {
        let again = self.slots[slot].as_ref().is_some_and(|a| a.exact);
        if again || !self.device.fall_back()? {
            let known = self.slots[slot].as_ref().map_or(1, |a| a.known.len());
            self.fail(slot, Error::NotFiniteLogits { position: known as u32 - 1 });
            return Ok(());
        }
        let a = self.slots[slot].as_mut().expect("an answer");
        a.exact = true;
        // What it found in the cache may be to blame as well.
        a.seq.distrust();
        self.blocks.forget(&a.seq);
        self.preempt(slot)
    }

    /// Lets an answer whose next token is known take part in steps, if it goes on.
    pub(super) fn resume(&mut self, slot: usize) {
        if let Some(a) = self.slots[slot].as_mut() {
            a.phase = Phase::Decoding;
        }
    }

    fn fail(&mut self, slot: usize, error: Error) {
        let a = self.slots[slot].as_ref().expect("an answer");
        self.blocks.forget(&a.seq);
        self.events.push(Event::Failed { id: a.id, error });
        self.free(slot);
    }

    /// Takes an answer from its slot.
    pub(super) fn free(&mut self, slot: usize) {
        if let Some(a) = self.slots[slot].take() {
            self.blocks.close(a.seq);
        }
    }
}
