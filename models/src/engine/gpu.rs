//! The device of an engine: programs of a model, recorded once each and replayed, over a cache in blocks.
//!
//! What changes from replay to replay goes through one buffer, the state: what the sampler advances of each slot, the
//! same for the piece of a prompt with the slot that it is of, and by group of layers the tables of blocks. Writes to it
//! and submits are done in the order in which they are asked for.

use std::collections::{BTreeMap, HashMap};

use weft_kernels::layout::BLOCK;
use weft_kernels::ops::attention::Sequences;
use weft_kernels::ops::sample::{IDLE, State};
use weft_runtime::{Gpu as Runtime, Pool, Program, Readback, Recorder, Replay, Slice};

use super::Options;
use super::device::{Device, Kind, Layout, MIXED_STEP, Piece, TOGETHER, padded};
use super::pool::Adapted;
use super::room::{Room, most_activations, pass, rotary, scored_activations, state_bytes, told_activations};
use super::told::Told;
use super::{pace, pool};
use crate::graph::{Frame, Graph, Memory, Pass, UNSPLIT, Want};
use crate::kv::{Cache, Group};
use crate::lora::{Applied, Lora};
use crate::{AdapterFile, Error, Model, Result, Sampling};

/// The most programs of pieces that are kept. Prompts end anywhere, so a server comes to have one for each size.
const MOST_PIECES: usize = 64;

/// Rows, positions, and what there is to do.
type StepKey = (u32, u32, Kind);

/// What is wanted, tokens, positions, and whether there are adapters.
type PieceKey = (Want, u32, u32, bool);

/// A program, and where its logits are afterwards.
type Recorded = (Program, Option<Slice>);

/// A model's programs and memory for many answers.
pub(super) struct Gpu {
    model: Model,
    layout: Layout,
    groups: Vec<Group>,
    /// The device as programs may use it: all of it, or without f16.
    gpu: Runtime,
    cache: Cache,
    /// `[rows]` of [`State`], the state of a piece with its slot, and the tables of each group, u32 and f32.
    state: Slice,
    rows: Rows,
    piece: Rows,
    /// What the tables in the state hold, by group, row and entry.
    known: Vec<Vec<Vec<u32>>>,
    /// The angles of each rotary embedding.
    tables: Vec<Slice>,
    last_row: Slice,
    activations: Slice,
    /// What adapters hold between their two products.
    between: Option<Slice>,
    /// The adapters that requests can name.
    apart: Option<Apart>,
    steps: HashMap<StepKey, Recorded>,
    /// Programs of pieces, with when each ran last.
    pieces: HashMap<PieceKey, (Recorded, u64)>,
    /// Programs of several pieces, by tokens and by those of them that are told of.
    mixed: HashMap<(u32, u32), Program>,
    told: Told,
    /// Pieces so far.
    ran: u64,
    /// Rows that the host has changed since something ran: their state, and the token that those compute which are awake.
    changed: BTreeMap<usize, (State, Option<u32>)>,
    /// The step that ran last.
    last: Option<StepKey>,
    /// Where the logits of what ran last are.
    logits: Option<Slice>,
}

/// Tokens of a step or of a piece.
struct Rows {
    /// `[tokens]` u32: what goes in; what is drawn comes out in its first places.
    ids: Slice,
    /// `[sequences, context]` u32: the tokens so far, for penalties.
    history: Slice,
}

/// Adapters that are each request's own.
struct Apart {
    lora: Lora,
    /// `[rows + 1, adapters]` f32: the strength of each for each row of a step, and behind them for a piece.
    strengths: Slice,
    /// What that holds.
    known: Vec<f32>,
}

impl Apart {
    /// Nobody has any of them.
    fn new(gpu: &Runtime, lora: Lora, rows: usize) -> Result<Apart> {
        let known = vec![0.0; (rows + 1) * lora.count()];
        let strengths = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&known), "strengths of adapters")?;
        Ok(Apart { lora, strengths, known })
    }

    /// Gives a row these adapters alone.
    fn write(&mut self, gpu: &Runtime, row: usize, adapters: &[Adapted]) -> Result<()> {
        let n = self.lora.count();
        let mut strengths = vec![0.0; n];
        adapters.iter().for_each(|&(i, strength)| strengths[i] += strength);
        let known = &mut self.known[row * n..][..n];
        if *known == strengths[..] {
            return Ok(());
        }
        known.copy_from_slice(&strengths);
        Ok(gpu.write(&self.strengths, (row * n) as u64 * 4, bytemuck::cast_slice(&strengths))?)
    }
}

impl Gpu {
    pub(super) fn new(model: &Model, options: &Options, adapters: &[&AdapterFile]) -> Result<Gpu> {
        let apart = apart(model, adapters)?;
        let Room { shapes, groups, plan, slots, rows, guesses, scored, told, context } =
            Room::of(model, options, apart.as_ref())?;
        let gpu = model.gpu();
        let cache = Cache::new(gpu, shapes, Pool::KvCache, "the KV cache")?;
        let words = (state_bytes(&groups) / 4) as usize;
        let mut state: Vec<u32> = bytemuck::cast_slice(&vec![idle(); rows as usize]).to_vec();
        state.resize(words, 0);
        let alloc = |words: u64, label| gpu.alloc(Pool::State, words * 4, label);
        let all = u64::from(rows) * u64::from(context);
        let between =
            |l: &crate::lora::Lora| gpu.alloc(Pool::State, l.scratch_bytes(rows.max(plan.chunk)), "adapters");
        let table = |t: Vec<[f32; 2]>| gpu.alloc_init(Pool::State, bytemuck::cast_slice(&t), "rotary table");
        let group =
            |g: &Group| pool::Group { window: g.window, chunks: g.pages.chunks, blocks: g.pages.blocks };
        let device = Gpu {
            layout: Layout {
                slots: slots as usize,
                rows: rows as usize,
                guesses: guesses as usize,
                context: context as usize,
                block: BLOCK as usize,
                batch: plan.chunk as usize,
                scored: scored as usize,
                together: options.shares(gpu.caps()),
                told: told as usize,
                groups: groups.iter().map(group).collect(),
                vocabulary: model.spec().vocabulary,
                adapters: adapters.len(),
            },
            gpu: gpu.clone(),
            between: apart.as_ref().or(model.1.as_deref()).map(between).transpose()?,
            apart: apart.map(|lora| Apart::new(gpu, lora, rows as usize)).transpose()?,
            state: gpu.alloc_init(Pool::State, bytemuck::cast_slice(&state), "sampler states and tables")?,
            rows: Rows { ids: alloc(rows.into(), "token ids")?, history: alloc(all, "token histories")? },
            piece: Rows {
                ids: alloc(plan.chunk.into(), "token ids of a piece")?,
                history: alloc(context.into(), "token history of a piece")?,
            },
            tables: rotary(model.spec(), context).map(table).collect::<std::result::Result<_, _>>()?,
            last_row: alloc(model.spec().width.into(), "last residual")?,
            activations: gpu.alloc(Pool::Activations, plan.activations, "activations")?,
            known: groups.iter().map(|g| vec![vec![0; g.pages.width as usize]; rows as usize]).collect(),
            model: model.clone(),
            groups,
            cache,
            steps: HashMap::new(),
            pieces: HashMap::new(),
            mixed: HashMap::new(),
            told: Told::new(gpu, told)?,
            ran: 0,
            changed: BTreeMap::new(),
            last: None,
            logits: None,
        };
        device.prepare_guesses()?;
        Ok(device)
    }

    /// Writes the rows that the host has changed, those that follow each other at once: a step with guesses changes eight
    /// of them, for which an answer waits.
    fn bring(&mut self) -> Result<()> {
        let changed: Vec<_> = std::mem::take(&mut self.changed).into_iter().collect();
        for rows in changed.chunk_by(|a, b| a.0 + 1 == b.0) {
            let states: Vec<State> = rows.iter().map(|(_, (state, _))| *state).collect();
            let at = (rows[0].0 * size_of::<State>()) as u64;
            self.gpu.write(&self.state, at, bytemuck::cast_slice(&states))?;
        }
        let awake: Vec<_> = changed.iter().filter_map(|&(row, (_, id))| Some((row, id?))).collect();
        for rows in awake.chunk_by(|a, b| a.0 + 1 == b.0) {
            let ids: Vec<u32> = rows.iter().map(|&(_, id)| id).collect();
            self.gpu.write(&self.rows.ids, rows[0].0 as u64 * 4, bytemuck::cast_slice(&ids))?;
        }
        Ok(())
    }

    /// Requests the kernels of steps with guesses, and does not wait for them: the first guess would.
    fn prepare_guesses(&self) -> Result<()> {
        if self.layout.guesses == 0 {
            return Ok(());
        }
        for n in pace::GUESSES {
            let kind = Kind { shared: true, adapted: false };
            self.record(self.pass((self.rows(n + 1) as u32, 64, kind)), false)?;
        }
        Ok(())
    }

    /// Requests the kernels for a prompt of so many tokens and its answer, and does not wait for them.
    pub(super) fn prepare(&self, prompt: usize) -> Result<()> {
        let batch = self.layout.batch;
        let prompt = prompt.clamp(1, self.layout.context);
        if prompt > batch {
            self.record(Pass::one(batch as u32, self.seen(batch), Want::Cache), false)?;
        }
        let last = (prompt - 1) % batch + 1;
        self.record(Pass::one(last as u32, self.seen(prompt), Want::Token), false)?;
        self.record(self.pass((1, bucket(prompt + 1), Kind::default())), false)?;
        Ok(())
    }

    /// Positions of the program of a piece whose last token is the `known`-th: where much is seen, attention is cut as far
    /// as that asks for.
    fn seen(&self, known: usize) -> u32 {
        let most = (self.layout.context as u32).next_power_of_two();
        (known as u32).next_power_of_two().max(UNSPLIT).min(most)
    }

    /// With the adapters of requests, or without.
    fn frame(&self, adapted: bool) -> Frame<'_> {
        let apart = self.apart.as_ref().filter(|_| adapted).map(|a| &a.lora);
        let frame = self.model.0.frame(&self.cache.shapes, apart.or(self.model.1.as_deref()));
        Frame { caps: self.gpu.caps(), budget: self.gpu.budget(), ..frame }
    }

    /// What a program applies to the first of its tokens and to those behind it: of its row, or of the piece.
    fn applied<'a>(&'a self, f: &Frame<'a>, pass: &Pass) -> Option<Applied<'a>> {
        let (lora, between) = f.lora.zip(self.between.as_ref())?;
        let (first, step) = match pass.sequences {
            Sequences::One => (self.layout.rows as u32, 0),
            // Those of any slots have none of their own.
            Sequences::Slots { .. } | Sequences::Mixed => (0, 1),
        };
        let strengths = self.apart.as_ref().map(|a| (&a.strengths, first, step));
        Some(Applied { lora, between, strengths })
    }

    fn record(&self, pass: Pass, adapted: bool) -> Result<(Recorder, Option<Slice>)> {
        let f = self.frame(adapted);
        let m = &self.model.0;
        let mut rec = Recorder::new(&self.gpu);
        let (rows, sequences) = match pass.sequences {
            Sequences::One | Sequences::Mixed => (&self.piece, 1),
            Sequences::Slots { .. } => (&self.rows, pass.tokens),
        };
        let history = rows.history.range(0, u64::from(sequences) * self.layout.context as u64 * 4);
        let memory = Memory {
            state: &self.state,
            ids: &rows.ids,
            history: &history,
            tables: &self.tables,
            last_row: &self.last_row,
            cache: &self.cache,
            activations: &self.activations,
            lora: self.applied(&f, &pass),
            taps: &[],
            sums: None,
            packed: None,
            chosen: Some(self.told.rows()),
        };
        let logits = Graph::plan(&f, pass).record(&mut rec, &f, &m.weights, &memory)?;
        Ok((rec, logits))
    }

    /// The memory that holds a block of a group's pool: keys and values of each of its layers.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn block(&self, group: usize, chunk: usize, id: u32) -> Vec<Slice> {
        self.cache.block(self.groups[group].window, chunk, id)
    }

    /// Bytes of a block of a group's pool, in all layers.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn block_bytes(&self, group: usize) -> u64 {
        self.cache.shapes.block_bytes(self.groups[group].window)
    }

    /// What a step of so many rows records, for the tests.
    pub(super) fn recording(&self, rows: u32, positions: u32) -> Result<Recorder> {
        Ok(self.record(self.pass((rows, positions, Kind::default())), false)?.0)
    }

    fn pass(&self, (rows, positions, kind): StepKey) -> Pass {
        Pass { shared: kind.shared, ..pass(rows, self.layout.context as u32, positions) }
    }

    /// Computes the last step once more, and says how long that took. None if there was none.
    pub(super) fn replay(&self, apart: bool) -> Result<Option<Replay>> {
        let last = self.last.as_ref().and_then(|key| self.steps.get(key));
        Ok(last.map(|(program, _)| self.gpu.measure(program, apart)).transpose()?)
    }

    /// Whether it has fallen back.
    pub(super) fn without_f16(&self) -> bool {
        self.gpu.without_f16().is_none() && self.model.gpu().without_f16().is_some()
    }

    /// What has run here.
    pub(super) fn explain(&self) -> Vec<String> {
        let mut steps: Vec<_> = self.steps.iter().collect();
        steps.sort_by_key(|(k, _)| **k);
        let mut pieces: Vec<_> = self.pieces.iter().collect();
        pieces.sort_by_key(|((want, tokens, positions, with), _)| {
            (*tokens, *positions, *want == Want::Token, *with)
        });
        let with = |adapted: bool| if adapted { ", with adapters" } else { "" };
        let what = |&(rows, positions, kind): &StepKey| {
            let of = if kind.shared { "slots and guesses" } else { "slots" };
            format!("decode of {rows} {of}, up to {positions} positions{}", with(kind.adapted))
        };
        let steps = steps.into_iter().flat_map(|(k, p)| crate::session::listing(&what(k), &p.0));
        let what = |&(want, tokens, positions, adapted): &PieceKey| {
            let next = match want {
                Want::Token => " and the next token",
                Want::Logits => " with logits of each",
                _ => "",
            };
            format!("prefill of {tokens} tokens{next}, up to {positions} positions{}", with(adapted))
        };
        let pieces = pieces.into_iter().flat_map(|(k, p)| crate::session::listing(&what(k), &p.0.0));
        let mut mixed: Vec<_> = self.mixed.iter().collect();
        mixed.sort_by_key(|(key, _)| **key);
        let what = |&(tokens, told): &(u32, u32)| {
            let and = if told > 0 { format!(", {told} of them told of") } else { String::new() };
            format!("prefill of {tokens} tokens of several prompts{and}")
        };
        let mixed = mixed.into_iter().flat_map(|(key, p)| crate::session::listing(&what(key), p));
        pieces.chain(mixed).chain(steps).collect()
    }
}

/// The state of a row that is left alone.
fn idle() -> State {
    State { position: IDLE, ..bytemuck::Zeroable::zeroed() }
}

/// The adapters that requests can name, in memory.
fn apart(model: &Model, adapters: &[&AdapterFile]) -> Result<Option<Lora>> {
    if adapters.is_empty() {
        return Ok(None);
    }
    if model.1.is_some() {
        let what = "adapters by request on a model that has some for all of them".into();
        return Err(Error::Unsupported { what });
    }
    Lora::apart(model.gpu(), model.spec(), adapters).map(Some)
}

/// Positions that the program of a step is recorded for.
fn bucket(positions: usize) -> u32 {
    (positions as u32).next_power_of_two().max(64)
}

impl Device for Gpu {
    type Ticket = Readback;

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn table(&mut self, group: usize, slot: usize, first: usize, ids: &[u32]) -> Result<()> {
        let word = self.groups[group].pages.word(slot as u32, first as u32);
        self.known[group][slot][first..first + ids.len()].copy_from_slice(ids);
        Ok(self.gpu.write(&self.state, u64::from(word) * 4, bytemuck::cast_slice(ids))?)
    }

    fn lend(&mut self, slot: usize, row: usize) -> Result<()> {
        for group in 0..self.known.len() {
            let [from, to] = [slot, row].map(|r| &self.known[group][r]);
            let differ = || from.iter().zip(to).enumerate().filter(|(_, (a, b))| a != b).map(|(i, _)| i);
            if let (Some(first), Some(last)) = (differ().next(), differ().next_back()) {
                let ids = from[first..=last].to_vec();
                self.table(group, row, first, &ids)?;
            }
        }
        Ok(())
    }

    fn piece(&mut self, piece: &Piece<'_>) -> Result<Readback> {
        let Piece { slot, known, from, draw, adapters, scored, .. } = *piece;
        self.bring()?;
        let gpu = self.gpu.clone();
        let tokens = &known[from..];
        let greedy = Sampling::greedy();
        let state = draw.unwrap_or(&greedy).state(from as u32);
        let mut words: Vec<u32> = bytemuck::cast_slice(&[state]).to_vec();
        words.push(slot as u32);
        let at = self.cache.shapes.piece().expect("caches lie in blocks");
        gpu.write(&self.state, at, bytemuck::cast_slice(&words))?;
        gpu.write(&self.piece.ids, 0, bytemuck::cast_slice(tokens))?;
        if draw.is_some_and(|s| s.repeat_penalty != 1.0) {
            gpu.write(&self.piece.history, 0, bytemuck::cast_slice(known))?;
        }
        let row = self.layout.rows;
        self.apart.iter_mut().try_for_each(|a| a.write(&gpu, row, adapters))?;
        let want = match scored {
            true => Want::Logits,
            false if draw.is_some() => Want::Token,
            false => Want::Cache,
        };
        let key = (want, tokens.len() as u32, self.seen(known.len()), !adapters.is_empty());
        if !self.pieces.contains_key(&key) {
            let (rec, logits) = self.record(Pass::one(key.1, key.2, want), key.3)?;
            if self.pieces.len() >= MOST_PIECES
                && let Some(oldest) = self.pieces.iter().min_by_key(|(_, (_, ran))| *ran).map(|(k, _)| *k)
            {
                self.pieces.remove(&oldest);
            }
            self.pieces.insert(key, ((rec.finish()?, logits), 0));
        }
        self.ran += 1;
        let ((program, logits), ran) = self.pieces.get_mut(&key).expect("just put there");
        *ran = self.ran;
        self.logits.clone_from(logits);
        let back = match logits {
            Some(all) if scored => all.range(0, tokens.len() as u64 * u64::from(self.layout.vocabulary) * 4),
            _ => self.piece.ids.range(0, 4),
        };
        Ok(gpu.run(program, Some(&back))?.readback.expect("asked for"))
    }

    fn mixed(&mut self, pieces: &[Piece<'_>]) -> Result<Readback> {
        self.bring()?;
        let gpu = self.gpu.clone();
        let (mut ids, mut whose) = (Vec::new(), Vec::new());
        for &Piece { slot, known, from, .. } in pieces {
            let more = padded(known.len() - from) - (known.len() - from);
            for at in std::iter::repeat_n(from, more).chain(from..known.len()) {
                ids.push(known[at]);
                whose.push([at as u32, slot as u32]);
            }
        }
        let n = ids.len().next_multiple_of(MIXED_STEP).min(self.layout.batch / TOGETHER * TOGETHER);
        ids.resize(n, 0);
        whose.resize(n, [IDLE, 0]);
        let at = self.cache.shapes.mixed().expect("caches lie in blocks");
        gpu.write(&self.state, at, bytemuck::cast_slice(&whose))?;
        gpu.write(&self.piece.ids, 0, bytemuck::cast_slice(&ids))?;
        let told = self.told.write(&gpu, pieces)?;
        let key = (n as u32, told);
        if !self.mixed.contains_key(&key) {
            let (mut rec, logits) = self.record(Pass::mixed(key.0, told), false)?;
            if let Some(logits) = logits {
                self.told.record(&mut rec, &logits, (told, self.layout.vocabulary))?;
            }
            self.mixed.insert(key, rec.finish()?);
        }
        let back = if told > 0 { self.told.stats(told) } else { self.piece.ids.range(0, 4) };
        Ok(gpu.run(&self.mixed[&key], Some(&back))?.readback.expect("asked for"))
    }

    fn wake(&mut self, row: usize, known: &[u32], sampling: &Sampling, adapters: &[Adapted]) -> Result<()> {
        let gpu = &self.gpu;
        self.apart.iter_mut().try_for_each(|a| a.write(gpu, row, adapters))?;
        let last = known.len() - 1;
        let state = sampling.state(last as u32);
        // Only the penalty looks back.
        if state.penalty != 1.0 {
            let back = (state.last_n as usize).min(last);
            let at = (row * self.layout.context + last - back) as u64 * 4;
            gpu.write(&self.rows.history, at, bytemuck::cast_slice(&known[last - back..]))?;
        }
        self.changed.insert(row, (state, Some(known[last])));
        Ok(())
    }

    fn sleep(&mut self, row: usize) -> Result<()> {
        self.changed.insert(row, (idle(), None));
        Ok(())
    }

    fn step(&mut self, rows: usize, positions: usize, kind: Kind) -> Result<Readback> {
        self.bring()?;
        let gpu = self.gpu.clone();
        let tokens = self.rows.ids.range(0, rows as u64 * 4);
        let key = (self.rows(rows) as u32, bucket(positions), kind);
        if !self.steps.contains_key(&key) {
            let (rec, logits) = self.record(self.pass(key), kind.adapted)?;
            self.steps.insert(key, (rec.finish()?, logits));
        }
        self.last = Some(key);
        let (program, logits) = &self.steps[&key];
        self.logits.clone_from(logits);
        Ok(gpu.run(program, Some(&tokens))?.readback.expect("asked for"))
    }

    fn logits(&mut self, rows: &[usize]) -> Result<Readback> {
        let bytes = u64::from(self.layout.vocabulary) * 4;
        let logits = self.logits.as_ref().expect("something ran that has logits");
        let slices: Vec<_> = rows.iter().map(|&row| logits.range(row as u64 * bytes, bytes)).collect();
        Ok(self.gpu.read_all(&slices))
    }

    fn wait(&mut self, ticket: Readback) -> Result<Vec<u32>> {
        Ok(ticket.wait_as()?)
    }

    fn fall_back(&mut self) -> Result<bool> {
        let Some(gpu) = self.gpu.without_f16() else {
            // Either it has been done, or there is no other way to compute.
            return Ok(self.without_f16());
        };
        self.gpu = gpu;
        let (rows, context) = (self.layout.rows as u32, self.layout.context as u32);
        let guesses = self.layout.guesses > 0;
        let frame = self.frame(true);
        let bytes = most_activations(&frame, (rows, guesses), context, self.layout.batch as u32);
        let bytes = bytes.max(scored_activations(&frame, self.layout.scored as u32));
        let bytes = bytes.max(told_activations(&frame, self.layout.batch as u32, self.layout.told as u32));
        if bytes > self.activations.size() {
            self.activations = self.gpu.alloc(Pool::Activations, bytes, "activations")?;
        }
        self.steps.clear();
        self.pieces.clear();
        self.mixed.clear();
        self.last = None;
        Ok(true)
    }
}
