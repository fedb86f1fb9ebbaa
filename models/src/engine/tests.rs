//! The scheduler on a device that computes with hashes, and a clock of the test: thousands of requests in seconds.
//!
//! The device keeps what a real one keeps, by the tables that it was given: in each place of a block the position and the
//! token that were written there. A token is drawn from a hash of all that it sees, so that a wrong table, a block given
//! to two, or a stale one shows as another token.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::choose::logprobs;
use super::device::{Device, Kind, Layout, MIXED_END, Piece, padded};
use super::draft::Drafter;
use super::pool::{Adapted, Group};
use super::schedule::{Next, Scheduler};
use super::text::Text;
use super::{Event, Finish, Id, Logprobs, Mask, Request};
use crate::{Error, Result, Sampling};
use cost::Clock;

mod cost;

const VOCABULARY: u32 = 97;
const BLOCK: usize = 4;
const WINDOW: u32 = 10;

fn mix(h: u64, v: u64) -> u64 {
    (h ^ v).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// The logits behind `tokens`: of all of them, and of the last of them once more, as a layer with a window sees them. Most
/// of the time the last token alone counts, so that texts repeat themselves.
fn logits(tokens: &[u32]) -> Vec<f32> {
    let hash = |t: &[u32]| t.iter().fold(7, |h, &t| mix(h, u64::from(t)));
    let last = |n: usize| &tokens[tokens.len().saturating_sub(n)..];
    let all = mix(hash(tokens), hash(last(WINDOW as usize)));
    let h = if all.is_multiple_of(9) { all } else { hash(last(1)) };
    (0..VOCABULARY).map(|i| (mix(h, u64::from(i)) >> 40) as f32 / 1e6).collect()
}

fn draw(tokens: &[u32], s: &Sampling, adapters: &[Adapted]) -> u32 {
    let logits = logits(&adapted(tokens, adapters));
    weft_kernels::ops::sample::reference::sample(&s.state(0), &logits, tokens, tokens.len() as u32)
}

/// What a request gets alone.
fn alone(prompt: &[u32], s: &Sampling, n: usize) -> Vec<u32> {
    alone_with(prompt, s, n, &[])
}

fn alone_with(prompt: &[u32], s: &Sampling, n: usize, adapters: &[Adapted]) -> Vec<u32> {
    let mut known = prompt.to_vec();
    for _ in 0..n {
        let token = draw(&known, s, adapters);
        known.push(token);
    }
    known.split_off(prompt.len())
}

/// The logits behind `tokens` with adapters: the tokens are taken for others.
fn adapted(tokens: &[u32], adapters: &[Adapted]) -> Vec<u32> {
    let by = adapters.iter().fold(0, |by, (i, s)| by + (3 * *i as u32 + 1) * (s.to_bits() % VOCABULARY));
    tokens.iter().map(|t| (t + by) % VOCABULARY).collect()
}

/// The log-probabilities of a prompt.
fn scores(prompt: &[u32], adapters: &[Adapted], n: usize) -> Vec<Logprobs> {
    let of = |i: usize| logprobs(&logits(&adapted(&prompt[..i], adapters)), prompt[i], n, &[]);
    (1..prompt.len()).map(of).collect()
}

#[derive(Clone)]
struct Row {
    position: usize,
    token: u32,
    sampling: Sampling,
    history: Vec<u32>,
    adapters: Vec<Adapted>,
}

/// What lies in a place of a block: the position, the token, and what else its keys depend on.
type Cell = (usize, u32, Vec<Adapted>);

struct Fake {
    layout: Layout,
    /// The key is group, chunk and place.
    memory: Vec<Vec<Vec<Option<Cell>>>>,
    /// By group and slot.
    tables: Vec<Vec<Vec<u32>>>,
    rows: Vec<Option<Row>>,
    last_logits: BTreeMap<usize, Vec<f32>>,
    /// Tokens computed.
    work: usize,
    longest_piece_beside_rows: usize,
    /// Steps in which rows shared a slot.
    shared: usize,
    /// Programs of several prompts, and pieces of one.
    mixed: usize,
    pieces: usize,
    /// What things take, where that counts.
    clock: Option<Clock>,
}

impl Fake {
    /// With so many rows for guesses.
    fn new(slots: usize, guesses: usize, context: usize, groups: Vec<Group>) -> Fake {
        let rows = slots + guesses;
        let width = context.div_ceil(BLOCK);
        let chunk = |g: &Group| vec![None; g.blocks as usize * BLOCK];
        Fake {
            memory: groups.iter().map(|g| (0..g.chunks).map(|_| chunk(g)).collect()).collect(),
            tables: groups.iter().map(|_| vec![vec![0; width]; rows]).collect(),
            rows: vec![None; rows],
            last_logits: BTreeMap::new(),
            layout: Layout {
                slots,
                rows,
                guesses,
                context,
                block: BLOCK,
                batch: 64,
                scored: 8,
                together: true,
                told: 6,
                groups,
                vocabulary: VOCABULARY,
                adapters: 3,
            },
            work: 0,
            longest_piece_beside_rows: 0,
            shared: 0,
            mixed: 0,
            pieces: 0,
            clock: None,
        }
    }

    fn place(&self, g: usize, slot: usize, position: usize) -> (usize, usize) {
        let entry = position / BLOCK;
        let id = self.tables[g][slot][entry] as usize;
        (entry % self.layout.groups[g].chunks as usize, id * BLOCK + position % BLOCK)
    }

    fn write(&mut self, slot: usize, position: usize, token: u32, adapters: &[Adapted]) {
        self.work += 1;
        for g in 0..self.memory.len() {
            let (chunk, at) = self.place(g, slot, position);
            self.memory[g][chunk][at] = Some((position, token, adapters.to_vec()));
        }
    }

    /// The tokens that a layer of each group sees from a position.
    fn seen(&self, slot: usize, position: usize, adapters: &[Adapted]) -> Vec<u32> {
        let mut all = Vec::new();
        for g in (0..self.memory.len()).rev() {
            let window = self.layout.groups[g].window as usize;
            let first = if window == 0 { 0 } else { (position + 1).saturating_sub(window) };
            let token = |p: usize| {
                let (chunk, at) = self.place(g, slot, p);
                let (position, token, by) = self.memory[g][chunk][at].as_ref().expect("written");
                assert_eq!(*position, p, "group {g}, slot {slot}: another position's keys");
                assert_eq!(by, adapters, "group {g}, slot {slot}: the keys of other adapters");
                *token
            };
            let seen: Vec<u32> = (first..=position).map(token).collect();
            assert!(all.is_empty() || seen.ends_with(&all), "the groups disagree");
            all = seen;
        }
        all
    }
}

impl Device for Fake {
    type Ticket = Vec<u32>;

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn table(&mut self, group: usize, slot: usize, first: usize, ids: &[u32]) -> Result<()> {
        self.tables[group][slot][first..first + ids.len()].copy_from_slice(ids);
        Ok(())
    }

    fn piece(&mut self, piece: &Piece<'_>) -> Result<Vec<u32>> {
        let Piece { slot, known, from, draw: s, adapters, scored, next } = *piece;
        assert!(known.len() - from <= self.layout.batch && next.is_empty());
        self.pieces += 1;
        self.clock.iter_mut().for_each(Clock::piece);
        if self.rows.iter().any(Option::is_some) {
            self.longest_piece_beside_rows = self.longest_piece_beside_rows.max(known.len() - from);
        }
        for (p, &token) in known.iter().enumerate().skip(from) {
            self.write(slot, p, token, adapters);
        }
        let seen = self.seen(slot, known.len() - 1, adapters);
        assert_eq!(seen, known, "what came before the piece is not what it should be");
        if scored {
            assert!(known.len() - from <= self.layout.scored && s.is_none());
            let row = |p: usize| logits(&adapted(&seen[..=p], adapters)).into_iter().map(f32::to_bits);
            return Ok((from..known.len()).flat_map(row).collect());
        }
        self.last_logits = BTreeMap::from([(0, logits(&adapted(&seen, adapters)))]);
        Ok(vec![s.map_or(0, |s| draw(&seen, s, adapters))])
    }

    fn mixed(&mut self, pieces: &[Piece<'_>]) -> Result<Vec<u32>> {
        assert!(pieces.iter().map(|p| padded(p.known.len() - p.from)).sum::<usize>() <= self.layout.batch);
        self.mixed += 1;
        // All write before any of them reads.
        for p in pieces {
            assert!(p.draw.is_none() && p.adapters.is_empty() && !p.scored && p.known.len() <= MIXED_END);
            (p.from..p.known.len()).for_each(|at| self.write(p.slot, at, p.known[at], &[]));
        }
        let mut told = Vec::new();
        for p in pieces {
            let seen = self.seen(p.slot, p.known.len() - 1, &[]);
            assert_eq!(seen, p.known, "slot {}", p.slot);
            for (end, &token) in (p.known.len() - p.next.len() + 1..).zip(p.next) {
                let loss = -logprobs(&logits(&seen[..end]), token, 0, &[]).logprob;
                told.extend([loss.to_bits(), 0, 0, 0]);
            }
        }
        assert!(told.len() <= 4 * self.layout.told);
        Ok(if told.is_empty() { vec![0] } else { told })
    }

    fn wake(&mut self, slot: usize, known: &[u32], sampling: &Sampling, adapters: &[Adapted]) -> Result<()> {
        let (&token, position) = (known.last().unwrap(), known.len() - 1);
        let (sampling, adapters) = (*sampling, adapters.to_vec());
        self.rows[slot] = Some(Row { position, token, sampling, history: known.to_vec(), adapters });
        Ok(())
    }

    fn fall_back(&mut self) -> Result<bool> {
        Ok(false)
    }

    fn sleep(&mut self, slot: usize) -> Result<()> {
        self.rows[slot] = None;
        Ok(())
    }

    fn lend(&mut self, slot: usize, row: usize) -> Result<()> {
        assert!(self.rows[row].is_none(), "a row that is in use");
        self.tables.iter_mut().for_each(|t| t[row] = t[slot].clone());
        Ok(())
    }

    fn step(&mut self, rows: usize, positions: usize, kind: Kind) -> Result<Vec<u32>> {
        self.last_logits.clear();
        let all = self.rows(rows);
        self.clock.iter_mut().for_each(|c| c.step(all, kind.shared));
        assert!(self.rows[rows..].iter().all(Option::is_none), "a row that is awake was left out");
        let awake: Vec<(usize, Row)> =
            self.rows.iter().enumerate().filter_map(|(i, r)| Some((i, r.clone()?))).collect();
        assert_eq!(awake.iter().any(|(_, r)| !r.adapters.is_empty()), kind.adapted);
        // All write before any of them reads.
        for (row, r) in &awake {
            assert!(r.position < positions, "row {row} is beyond the positions of its program");
            self.write(*row, r.position, r.token, &r.adapters);
        }
        let mut drawn = vec![0; rows];
        for (i, mut row) in awake {
            let seen = self.seen(i, row.position, &row.adapters);
            assert_eq!(seen, row.history);
            self.last_logits.insert(i, logits(&adapted(&seen, &row.adapters)));
            row.token = draw(&seen, &row.sampling, &row.adapters);
            row.position += 1;
            row.history.push(row.token);
            drawn[i] = row.token;
            self.rows[i] = Some(row);
        }
        self.shared += usize::from(kind.shared);
        Ok(drawn)
    }

    fn logits(&mut self, rows: &[usize]) -> Result<Vec<u32>> {
        Ok(rows.iter().flat_map(|row| &self.last_logits[row]).map(|v| v.to_bits()).collect())
    }

    fn wait(&mut self, ticket: Vec<u32>) -> Result<Vec<u32>> {
        Ok(ticket)
    }
}

/// What came of a request.
#[derive(Default, Debug)]
struct Got {
    tokens: Vec<u32>,
    cached: Option<usize>,
    /// Log-probabilities of the prompt.
    scored: Vec<Logprobs>,
    /// Guesses, and those of them that were right.
    drafted: (usize, usize),
    end: Option<Finish>,
    failed: Option<String>,
}

struct Bench {
    s: Scheduler<Fake>,
    now: Instant,
    got: BTreeMap<Id, Got>,
}

impl Bench {
    fn new(slots: usize, context: usize, groups: Vec<Group>) -> Bench {
        Bench::guessing(slots, 0, context, groups)
    }

    fn guessing(slots: usize, guesses: usize, context: usize, groups: Vec<Group>) -> Bench {
        let now = Instant::now();
        let device = Fake::new(slots, guesses, context, groups);
        Bench { s: Scheduler::new(device, now), now, got: BTreeMap::new() }
    }

    fn ask(&mut self, request: Request) -> Id {
        let id = self.s.submit(request, Text::new(None, false, Vec::new()), self.now).unwrap();
        self.got.insert(id, Got::default());
        id
    }

    /// Lets the scheduler go on until something happened; whether there was anything.
    fn step(&mut self) -> bool {
        let events = self.events().unwrap_or_default();
        events.iter().for_each(|e| self.note(e));
        !events.is_empty()
    }

    /// What happens next, if anything does.
    fn events(&mut self) -> Option<Vec<Event>> {
        loop {
            self.s.device.clock.iter_mut().for_each(|c| c.now = self.now);
            match self.s.next(self.now).unwrap() {
                Next::Events(events) => return Some(events).filter(|e| !e.is_empty()),
                Next::Wait(words) => {
                    self.now = match &mut self.s.device.clock {
                        Some(clock) => clock.wait(self.now),
                        None => self.now + Duration::from_millis(3),
                    };
                    self.s.landed(words, self.now).unwrap();
                }
            }
        }
    }

    fn note(&mut self, event: &Event) {
        let got = self.got.get_mut(&event.id()).expect("asked for");
        assert!(got.end.is_none() && got.failed.is_none(), "an event after the end: {event:?}");
        match event {
            Event::Started { cached, .. } => {
                assert!(got.cached.replace(*cached).is_none(), "started twice");
            }
            Event::Progress { done, total, .. } => assert!(done <= total),
            Event::Prompt { first, logprobs, .. } => {
                assert_eq!(*first, got.scored.len() + 1, "out of order, or twice");
                assert!(got.tokens.is_empty());
                got.scored.extend(logprobs.iter().cloned());
            }
            Event::Token { token, .. } => got.tokens.push(*token),
            Event::Finished { reason, usage, .. } => {
                assert_eq!(
                    usage.generated,
                    got.tokens.len() + usize::from(matches!(reason, Finish::StopToken(_)))
                );
                got.end = Some(reason.clone());
                got.drafted = usage.drafted;
            }
            Event::Failed { error, .. } => got.failed = Some(error.to_string()),
        }
    }

    fn run(&mut self) {
        while self.step() {}
        assert_eq!(self.s.load(), (0, 0));
        assert_eq!(self.s.blocks().0, 0, "a block is lost");
    }
}

fn full(chunks: u32, blocks: u32) -> Group {
    Group { window: 0, chunks, blocks }
}

fn window(blocks: u32) -> Group {
    Group { window: WINDOW, chunks: 1, blocks }
}

/// Numbers that look random, from a seed.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(mix(self.0, 3), 5) % n
    }

    fn tokens(&mut self, n: usize) -> Vec<u32> {
        (0..n).map(|_| self.below(u64::from(VOCABULARY)) as u32).collect()
    }
}

#[test]
fn answers_are_those_of_each_request_alone() {
    let mut b = Bench::new(3, 200, vec![full(1, 150)]);
    let mut asked = Vec::new();
    for i in 0..7u32 {
        let prompt: Vec<u32> = (0..10 + 20 * i).map(|n| (n * 7 + i) % VOCABULARY).collect();
        let sampling = Sampling { seed: i, temperature: [0.0, 0.9][i as usize % 2], ..Sampling::default() };
        let id = b.ask(Request::new(prompt.clone(), sampling, 9));
        asked.push((id, alone(&prompt, &sampling, 9)));
    }
    b.run();
    for (id, want) in asked {
        assert_eq!(b.got[&id].tokens, want, "{id}");
        assert_eq!(b.got[&id].end, Some(Finish::MaxTokens));
    }
}

/// The second of two prompts with a common beginning computes what follows it alone, whatever ran in between.
#[test]
fn common_beginnings_are_computed_once() {
    let mut rng = Rng(1);
    let common = rng.tokens(101);
    for groups in [vec![full(2, 60)], vec![full(1, 120), window(40)]] {
        let mut b = Bench::new(2, 200, groups);
        let ask = |b: &mut Bench, rest: &[u32]| {
            let prompt = [&common[..], rest].concat();
            let before = b.s.device.work;
            let id = b.ask(Request::new(prompt.clone(), Sampling::greedy(), 5));
            b.run();
            assert_eq!(b.got[&id].tokens, alone(&prompt, &Sampling::greedy(), 5));
            (b.got[&id].cached.unwrap(), b.s.device.work - before)
        };
        let (cached, work) = ask(&mut b, &[1, 2, 3]);
        assert_eq!((cached, work >= 104), (0, true));
        b.ask(Request::new(rng.tokens(50), Sampling::greedy(), 20));
        b.run();
        let (cached, work) = ask(&mut b, &[9, 8, 7, 6]);
        assert_eq!(cached, 100, "whole blocks of what is common");
        assert!(work <= 5 + 6, "computed {work}");
        // A turn of a conversation: what was answered is in the cache as well.
        let answer = alone(&[&common[..], &[1, 2, 3]].concat(), &Sampling::greedy(), 5);
        let (cached, _) = ask(&mut b, &[&[1, 2, 3], &answer[..], &[4]].concat());
        assert_eq!(cached, 108);
    }
}

#[test]
fn one_salt_does_not_see_anothers_blocks() {
    let mut b = Bench::new(1, 100, vec![full(1, 50)]);
    let prompt: Vec<u32> = (0..40).collect();
    for (salt, want) in [(1, 0), (2, 0), (1, 36), (2, 36)] {
        let id = b.ask(Request { salt, ..Request::new(prompt.clone(), Sampling::greedy(), 1) });
        b.run();
        assert_eq!(b.got[&id].cached, Some(want));
    }
}

/// While others decode, a long prompt comes in pieces, and every one of them goes on.
#[test]
fn a_long_prompt_does_not_stop_the_others() {
    let mut b = Bench::new(3, 2000, vec![full(1, 900)]);
    let mut rng = Rng(5);
    let ids: Vec<Id> = (0..2).map(|_| b.ask(Request::new(rng.tokens(5), Sampling::greedy(), 300))).collect();
    while b.got[&ids[0]].tokens.len() < 3 {
        b.step();
    }
    let long = b.ask(Request::new(rng.tokens(1500), Sampling::greedy(), 2));
    let mut before = b.got[&ids[0]].tokens.len();
    let mut events = 0;
    while b.got[&long].tokens.is_empty() {
        b.step();
        events += 1;
        if events % 4 == 0 {
            let now = b.got[&ids[0]].tokens.len();
            assert!(now > before || b.got[&ids[0]].end.is_some(), "the others stand still");
            before = now;
        }
    }
    assert!(b.s.device.longest_piece_beside_rows <= 64);
    b.run();
}

/// Short prompts share programs, each beside those of others and after a part of its own, with windows and in chunks; and
/// the oldest prompt goes first, so that a long one among ever new short ones is done.
#[test]
fn short_prompts_share_programs() {
    for groups in [vec![full(2, 90)], vec![full(1, 180), window(60)]] {
        let mut b = Bench::new(8, 300, groups);
        let mut rng = Rng(9);
        let hot = Sampling { temperature: 0.9, seed: 5, ..Sampling::default() };
        let mut asked = Vec::new();
        for n in [1, 30, 2, 45, 17, 40, 64, 9] {
            let prompt = rng.tokens(n);
            let logprobs = (n == 17).then_some(2);
            let id = b.ask(Request { logprobs, ..Request::new(prompt.clone(), hot, 6) });
            asked.push((id, alone(&prompt, &hot, 6)));
        }
        b.run();
        // 200 tokens, of which a program takes 64: as few as can be, and a piece for what has no other beside it.
        assert!((3..=4).contains(&b.s.device.mixed), "{} programs", b.s.device.mixed);
        for (id, want) in asked {
            assert_eq!(b.got[&id].tokens, want, "{id}");
        }
        let long = b.ask(Request::new(rng.tokens(250), hot, 2));
        let mut others = 0;
        while b.got[&long].end.is_none() {
            while b.s.load().1 + b.s.load().0 < 8 {
                others += 1;
                b.ask(Request::new(rng.tokens(20), hot, 3));
            }
            b.step();
            assert!(others < 60, "a long prompt waits for {others} short ones");
        }
        b.run();
    }
}

/// Attention of common programs is slower than what a prompt of 600 tokens leaves idle.
#[test]
fn prompts_of_600_tokens_have_their_own_programs() {
    for n in [100, 300, 500, 600] {
        let mut b = Bench::new(4, 700, vec![full(1, 700)]);
        b.s.device.layout.batch = 2048;
        let mut rng = Rng(n as u64);
        let greedy = Sampling::greedy();
        let asked: Vec<_> = (0..3)
            .map(|_| {
                let prompt = rng.tokens(n);
                (b.ask(Request::new(prompt.clone(), greedy, 3)), alone(&prompt, &greedy, 3))
            })
            .collect();
        b.run();
        assert!(asked.iter().all(|(id, want)| b.got[id].tokens == *want));
        assert_eq!(b.s.device.mixed > 0, n < 600, "{n} tokens");
    }
}

/// A number that no adapter has is refused, and a strength of 0 is as if none had been named.
#[test]
fn adapters_are_those_that_there_are() {
    let mut b = Bench::new(1, 100, vec![full(1, 50)]);
    let prompt: Vec<u32> = (0..40).collect();
    let with =
        |adapters: Vec<Adapted>| Request { adapters, ..Request::new(prompt.clone(), Sampling::greedy(), 3) };
    let text = || Text::new(None, false, Vec::new());
    assert!(matches!(b.s.submit(with(vec![(3, 1.0)]), text(), b.now), Err(Error::Unsupported { .. })));
    assert!(matches!(b.s.submit(with(vec![(0, f32::NAN)]), text(), b.now), Err(Error::Sampling { .. })));
    // The same adapters in another order, and the same strength in two parts, share what is in the cache.
    for (adapters, same, cached) in [
        (vec![(1, 0.0)], vec![], 0),
        (vec![], vec![], 36),
        (vec![(2, 1.0), (0, 0.5)], vec![(0, 0.5), (2, 1.0)], 0),
        (vec![(0, 0.25), (2, 1.0), (0, 0.25)], vec![(0, 0.5), (2, 1.0)], 36),
        (vec![(0, 0.25), (2, 1.0)], vec![(0, 0.25), (2, 1.0)], 0),
    ] {
        let id = b.ask(with(adapters));
        b.run();
        assert_eq!(b.got[&id].tokens, alone_with(&prompt, &Sampling::greedy(), 3, &same));
        assert_eq!(b.got[&id].cached, Some(cached), "{same:?}");
    }
}

/// Log-probabilities of a prompt are told in order and once, with an answer or without, though the cache has the prompt,
/// and a prompt of one token has none.
#[test]
fn prompts_are_scored() {
    let mut b = Bench::new(2, 200, vec![full(2, 60), window(60)]);
    let prompt: Vec<u32> = (0..70).map(|i| i * 5 % VOCABULARY).collect();
    for (n, top) in [(0, 3), (3, 3), (0, 0), (1, 0), (3, 0)] {
        for _ in 0..2 {
            let request = Request::new(prompt.clone(), Sampling::greedy(), n);
            let id = b.ask(Request { prompt_logprobs: Some(top), ..request });
            let other = b.ask(Request::new(prompt.clone(), Sampling::greedy(), n));
            b.run();
            let got = &b.got[&id];
            assert!(got.scored == scores(&prompt, &[], top) && got.cached == Some(0));
            assert_eq!(got.tokens, alone(&prompt, &Sampling::greedy(), n));
            assert_eq!(got.end, Some(Finish::MaxTokens));
            assert_eq!(b.got[&other].tokens, got.tokens);
            assert!(b.got[&other].scored.is_empty());
        }
    }
    for (n, top) in [(0, 3), (2, 3), (0, 0), (2, 0)] {
        let id =
            b.ask(Request { prompt_logprobs: Some(top), ..Request::new(vec![4], Sampling::greedy(), n) });
        b.run();
        assert!(b.got[&id].scored.is_empty() && b.got[&id].tokens.len() == n);
    }
}

/// The endings of a question that come together share a program, and what they share is computed once.
#[test]
fn endings_of_a_question_are_one_program() {
    for groups in [vec![full(2, 90)], vec![full(1, 180), window(90)]] {
        let mut b = Bench::new(8, 300, groups);
        b.s.device.layout.told = 16;
        let mut rng = Rng(4);
        let question = rng.tokens(33);
        let endings: Vec<Vec<u32>> = (2..6).map(|n| rng.tokens(n)).collect();
        let mut asked = Vec::new();
        for ending in &endings {
            let prompt = [&question[..], ending].concat();
            let request = Request::new(prompt.clone(), Sampling::greedy(), 0);
            let told = Request { prompt_logprobs: Some(0), prompt_logprobs_from: 33, ..request };
            let want = scores(&prompt, &[], 0).split_off(32);
            asked.push((b.s.submit(told, Text::new(None, false, Vec::new()), b.now).unwrap(), want));
        }
        let mut got: BTreeMap<Id, Vec<Logprobs>> = BTreeMap::new();
        let mut ended = 0;
        while let Some(events) = b.events() {
            for e in events {
                match e {
                    Event::Prompt { id, first, logprobs } => {
                        let so_far = got.entry(id).or_default();
                        assert_eq!(first, 33 + so_far.len());
                        so_far.extend(logprobs);
                    }
                    Event::Finished { usage, .. } => {
                        assert_eq!(usage.cached, [0, 32][usize::from(ended > 0)]);
                        ended += 1;
                    }
                    Event::Failed { error, .. } => panic!("{error}"),
                    _ => {}
                }
            }
        }
        assert_eq!((ended, b.s.device.mixed, b.s.device.pieces), (4, 1, 0));
        // 32 tokens once, and of each ending the last of the question and all but its own last.
        assert_eq!(b.s.device.work, 32 + 4 + (1 + 2 + 3 + 4));
        assert!(asked.iter().all(|(id, want)| got[id] == *want));
        assert_eq!(b.s.blocks().0, 0, "a block is lost");
    }
}

/// An exam's questions and their endings share programs, as many as these have room for.
#[test]
fn an_exam_takes_few_programs() {
    let mut b = Bench::new(32, 352, vec![full(1, 32 * 88)]);
    (b.s.device.layout.batch, b.s.device.layout.told) = (2048, 256);
    let mut rng = Rng(8);
    for _ in 0..40 {
        let question = rng.tokens(305);
        for _ in 0..4 {
            let prompt = [&question[..], &rng.tokens(8)].concat();
            let request = Request::new(prompt, Sampling::greedy(), 0);
            let told = Request { prompt_logprobs: Some(0), prompt_logprobs_from: 305, ..request };
            b.s.submit(told, Text::new(None, false, Vec::new()), b.now).unwrap();
        }
    }
    let mut told = 0;
    while let Some(events) = b.events() {
        let of = |e: &Event| if let Event::Prompt { logprobs, .. } = e { logprobs.len() } else { 0 };
        told += events.iter().map(of).sum::<usize>();
    }
    assert_eq!((told, b.s.device.pieces), (40 * 4 * 8, 0));
    // Each question once, up to its last whole block, and the rest with each ending.
    assert_eq!(b.s.device.work, 40 * (304 + 4 * 8));
    assert!(b.s.device.mixed <= 16, "{} programs", b.s.device.mixed);
}

/// Guesses change nothing but the number of steps, whatever becomes of them, up to the last token that fits.
#[test]
fn guesses_are_verified() {
    let prompt: Vec<u32> = (1..9).chain(1..9).collect();
    for (temperature, penalty) in [(0.0, 1.0), (0.9, 1.0), (0.0, 1.4)] {
        let sampling =
            Sampling { temperature, repeat_penalty: penalty, repeat_last_n: 7, ..Sampling::default() };
        for (n, context) in [(200, 400), (500, 150)] {
            let mut b = Bench::guessing(2, 15, context, vec![full(1, 200), window(90)]);
            let ids: Vec<Id> = (0..2)
                .map(|_| b.ask(Request { draft: Some(15), ..Request::new(prompt.clone(), sampling, n) }))
                .collect();
            b.run();
            for id in ids {
                let got = &b.got[&id];
                assert_eq!(got.tokens, alone(&prompt, &sampling, n.min(context - prompt.len())));
                if penalty == 1.0 && temperature == 0.0 {
                    assert!(got.drafted.1 > 40, "{:?}", got.drafted);
                }
            }
        }
    }
}

/// Guesses what the device will draw, but for every fifth token.
struct Nearly;

impl Drafter for Nearly {
    fn draft(&mut self, _: usize, known: &[u32], sampling: &Sampling, n: usize) -> Result<Vec<u32>> {
        let drawn = alone(known, sampling, n).into_iter().enumerate();
        let wrong = |i: usize| (known.len() + i).is_multiple_of(5);
        Ok(drawn.map(|(i, t)| if wrong(i) { (t + 1) % VOCABULARY } else { t }).collect())
    }
}

/// A smaller model guesses most tokens, and none of its wrong ones is taken.
#[test]
fn guesses_of_a_model_are_verified() {
    let prompt: Vec<u32> = (1..9).collect();
    let hot = Sampling { temperature: 0.9, seed: 4, ..Sampling::default() };
    for sampling in [Sampling::greedy(), hot] {
        let mut b = Bench::guessing(2, 15, 400, vec![full(1, 200), window(90)]);
        b.s.drafter = Some(Box::new(Nearly));
        b.s.pace.always_guess = true;
        let ids: Vec<Id> = (0..2).map(|_| b.ask(Request::new(prompt.clone(), sampling, 200))).collect();
        b.run();
        for id in ids {
            let got = &b.got[&id];
            assert_eq!(got.tokens, alone(&prompt, &sampling, 200));
            assert!(got.drafted.1 > 120 && got.drafted.0 > got.drafted.1, "{:?}", got.drafted);
        }
    }
}

struct Odd;

impl Mask for Odd {
    fn allowed(&mut self, bits: &mut [u32]) -> std::result::Result<(), String> {
        bits.fill(0xaaaa_aaaa);
        Ok(())
    }

    fn accept(&mut self, token: u32) -> std::result::Result<(), String> {
        if token % 2 == 1 { Ok(()) } else { Err(format!("token {token}")) }
    }
}

#[test]
fn masked_and_plain_requests_run_beside_each_other() {
    let mut b = Bench::new(4, 200, vec![full(1, 200), window(60)]);
    let prompt: Vec<u32> = (3..20).collect();
    let hot = Sampling { temperature: 1.5, seed: 3, ..Sampling::default() };
    let plain = b.ask(Request::new(prompt.clone(), hot, 20));
    let masked = b.ask(Request { mask: Some(Box::new(Odd)), ..Request::new(prompt.clone(), hot, 20) });
    let told = b.ask(Request { logprobs: Some(3), ..Request::new(prompt.clone(), hot, 20) });
    let biased = b.ask(Request { logit_bias: vec![(50, 1e4)], ..Request::new(prompt.clone(), hot, 20) });
    b.run();
    let want = alone(&prompt, &hot, 20);
    assert_eq!(b.got[&plain].tokens, want);
    // Who asks for log-probabilities gets the same tokens.
    assert_eq!(b.got[&told].tokens, want);
    assert_eq!(b.got[&biased].tokens, [50; 20]);
    let masked = &b.got[&masked].tokens;
    assert!(masked.len() == 20 && masked.iter().all(|t| t % 2 == 1), "{masked:?}");
}

#[test]
fn what_does_not_fit_is_refused_or_fails_alone() {
    let mut b = Bench::new(2, 100, vec![full(1, 10)]);
    let long = Request::new(vec![1; 41], Sampling::greedy(), 5);
    let text = || Text::new(None, false, Vec::new());
    assert!(matches!(b.s.submit(long, text(), b.now), Err(Error::PromptTooLong { tokens: 41, context: 40 })));
    let wrong = Request::new(vec![VOCABULARY], Sampling::greedy(), 5);
    assert!(matches!(b.s.submit(wrong, text(), b.now), Err(Error::TokenRange { .. })));
    // One that outgrows the pool alone; then the next one has room.
    let grows = b.ask(Request::new(vec![1; 30], Sampling::greedy(), 60));
    let next = b.ask(Request::new(vec![2; 30], Sampling::greedy(), 3));
    b.run();
    assert!(b.got[&grows].failed.as_ref().is_some_and(|e| e.contains("KV cache")), "{:?}", b.got[&grows]);
    assert_eq!(b.got[&next].tokens.len(), 3);
    let nothing = b.ask(Request::new(vec![3], Sampling::greedy(), 0));
    let stop = b.ask(Request {
        stop_tokens: alone(&[5, 6], &Sampling::greedy(), 3)[2..].to_vec(),
        ..Request::new(vec![5, 6], Sampling::greedy(), 9)
    });
    b.run();
    assert_eq!(b.got[&nothing].end, Some(Finish::MaxTokens));
    assert!(matches!(b.got[&stop].end, Some(Finish::StopToken(_))));
    assert!(b.got[&stop].tokens.len() <= 2);
}

/// Ten thousand random requests: every answer is what it is alone, nobody waits for ever, nothing is lost or doubled,
/// and no block is lost, while requests are cancelled at every stage and lose their slots.
#[test]
fn ten_thousand_requests() {
    for seed in 0..5 {
        let mut rng = Rng(seed + 11);
        let groups = match seed % 3 {
            0 => vec![full(1, 70)],
            1 => vec![full(3, 25)],
            _ => vec![full(1, 70), window(90)],
        };
        let mut b = Bench::guessing(6, 5, 120, groups);
        let beginnings: Vec<Vec<u32>> = (0..5).map(|i| rng.tokens(10 + 7 * i)).collect();
        let mut asked: BTreeMap<Id, (Vec<u32>, Sampling, usize, Vec<Adapted>)> = BTreeMap::new();
        let mut waiting: VecDeque<(Id, Instant)> = VecDeque::new();
        let (mut cancelled, mut to_score) = (0, BTreeMap::new());
        let mut left = 2000;
        while left > 0 || b.s.load() != (0, 0) {
            while left > 0 && b.s.load().0 < 8 && rng.below(2) == 0 {
                left -= 1;
                let mut prompt = beginnings[rng.below(5) as usize].clone();
                let more = 1 + rng.below(30) as usize;
                prompt.extend(rng.tokens(more));
                let sampling = Sampling {
                    temperature: [0.0, 1.0][rng.below(2) as usize],
                    seed: rng.below(1000) as u32,
                    repeat_penalty: [1.0, 1.2][rng.below(2) as usize],
                    ..Sampling::default()
                };
                let n = rng.below(40) as usize;
                let adapters = [vec![], vec![], vec![(0, 1.0)], vec![(0, 0.5), (2, -1.0)]];
                let adapters = adapters[rng.below(4) as usize].clone();
                let request =
                    Request { adapters: adapters.clone(), ..Request::new(prompt.clone(), sampling, n) };
                let host = rng.below(6) == 0;
                let draft = [0, 3, 20][rng.below(3) as usize];
                let scored = [Some(0), Some(2), None][(rng.below(16) as usize).min(2)];
                let id = b.ask(Request {
                    logprobs: host.then_some(2),
                    prompt_logprobs: scored,
                    draft: Some(draft),
                    ..request
                });
                to_score.extend(scored.map(|top| (id, top)));
                asked.insert(id, (prompt, sampling, n, adapters));
                waiting.push_back((id, b.now));
            }
            if rng.below(60) == 0
                && let Some((&id, _)) =
                    b.got.iter().filter(|(_, g)| g.end.is_none()).nth(rng.below(9) as usize)
            {
                assert!(b.s.cancel(id), "{id} was there");
                let got = b.got.remove(&id).unwrap();
                let (prompt, sampling, n, adapters) = asked.remove(&id).unwrap();
                assert!(alone_with(&prompt, &sampling, n, &adapters).starts_with(&got.tokens));
                waiting.retain(|w| w.0 != id);
                cancelled += 1;
            }
            b.step();
            waiting.retain(|(id, _)| b.got[id].end.is_none());
            if let Some((id, since)) = waiting.front() {
                assert!(b.now - *since < Duration::from_secs(20), "seed {seed}: {id} starves");
            }
        }
        assert_eq!(b.s.blocks().0, 0, "a block is lost");
        assert!(cancelled > 20 && asked.len() > 1200, "{cancelled} cancelled of {}", asked.len());
        assert!(b.s.preempted > 0, "seed {seed}: nobody lost a slot");
        assert!(b.s.device.mixed > 50, "seed {seed}: {} programs of several prompts", b.s.device.mixed);
        let right: usize = b.got.values().map(|g| g.drafted.1).sum();
        assert!(b.s.device.shared > 50 && right > 50, "{} steps, {right} right", b.s.device.shared);
        for (id, (prompt, sampling, n, adapters)) in &asked {
            let got = &b.got[id];
            assert_eq!(got.failed, None);
            let scores = to_score.get(id).map_or(Vec::new(), |&top| scores(prompt, adapters, top));
            assert!(got.scored == scores, "seed {seed}, request {id}: {:?}", got.scored);
            let want = alone_with(prompt, sampling, *n, adapters);
            assert_eq!(got.tokens, want, "seed {seed}, request {id}");
        }
    }
}
