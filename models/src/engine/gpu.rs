//! The device of an engine: programs of a model, recorded once each and replayed.
//!
//! Prompts run in a session whose keys and values are then copied to their slot, one prompt after the other, so prompts
//! share nothing yet.

use std::collections::HashMap;

use weft_kernels::ops::attention::Sequences;
use weft_kernels::ops::sample::{IDLE, State};
use weft_runtime::{Pool, Program, Readback, Recorder, Slice};

use super::Options;
use super::device::{Device, Layout, Piece};
use crate::graph::{Graph, Memory, Pass, Want};
use crate::kv::{Cache, Extent, Shapes};
use crate::session::Extra;
use crate::{Error, Model, Result, Sampling, Session};

/// The most slots.
pub(super) const MAX_SLOTS: u32 = 64;

/// A program, and where its logits are afterwards.
type Recorded = (Program, Option<Slice>);

/// A model's programs and memory for many answers.
pub(super) struct Gpu {
    layout: Layout,
    session: Session,
    cache: Cache,
    state: Slice,
    ids: Slice,
    history: Slice,
    activations: Slice,
    /// What adapters hold between their two products.
    between: Option<Slice>,
    /// Programs of steps, by rows and positions.
    steps: HashMap<(u32, u32), Recorded>,
    /// Programs of pieces, by tokens.
    pieces: HashMap<(Want, u32), Recorded>,
    /// Where the logits of what ran last are.
    logits: Option<Slice>,
}

impl Gpu {
    pub(super) fn new(model: &Model, options: &Options) -> Result<Gpu> {
        let (slots, context) = (options.slots, options.context.unwrap_or(model.default_context()));
        if slots == 0 || slots > MAX_SLOTS {
            return Err(Error::Slots { wanted: slots, most: MAX_SLOTS });
        }
        let session = Session::new(model.clone(), context)?;
        let gpu = model.gpu();
        let all = u64::from(slots) * u64::from(context);
        u32::try_from(all).map_err(|_| Error::Context { wanted: context, most: u32::MAX / slots })?;
        let extent = Extent { sequences: slots, context, batch: 1 };
        let shapes = Shapes::new(model.spec(), model.0.cache, extent, gpu.budget())?;
        let cache = Cache::new(gpu, shapes, Pool::Slots, "the KV cache of slots")?;
        let frame = model.0.frame(&cache.shapes, model.1.as_deref());
        let rows = (0..=slots.ilog2()).map(|i| 1 << i).chain([slots]);
        let bytes = |rows| Graph::plan(&frame, pass(rows, context, context)).bytes();
        let activations = rows.map(bytes).max().unwrap_or(0);
        let idle = vec![State { position: IDLE, ..bytemuck::Zeroable::zeroed() }; slots as usize];
        let between = |l: &crate::lora::Lora| gpu.alloc(Pool::State, l.scratch_bytes(slots), "adapters");
        Ok(Gpu {
            layout: Layout {
                slots: slots as usize,
                context: context as usize,
                block: 32,
                batch: session.chunk() as usize,
                groups: Vec::new(),
                vocabulary: model.spec().vocabulary,
            },
            between: model.1.as_deref().map(between).transpose()?,
            state: gpu.alloc_init(Pool::State, bytemuck::cast_slice(&idle), "sampler states")?,
            ids: gpu.alloc(Pool::State, u64::from(slots) * 4, "token ids")?,
            history: gpu.alloc(Pool::State, all * 4, "token histories")?,
            activations: gpu.alloc(Pool::Activations, activations, "activations of slots")?,
            session,
            cache,
            steps: HashMap::new(),
            pieces: HashMap::new(),
            logits: None,
        })
    }

    fn record(&self, rows: u32, positions: u32) -> Result<Recorded> {
        let m = &self.session.model.0;
        let mut rec = Recorder::new(&m.gpu);
        let context = self.layout.context as u32;
        let history = self.history.range(0, u64::from(rows) * u64::from(context) * 4);
        let lora = self.session.model.1.as_deref();
        let memory = Memory {
            state: &self.state,
            ids: &self.ids,
            history: &history,
            tables: &self.session.tables,
            last_row: &self.session.last_row,
            cache: &self.cache,
            activations: &self.activations,
            lora: lora.zip(self.between.as_ref()),
            taps: &[],
            sums: None,
            packed: None,
        };
        let f = m.frame(&self.cache.shapes, lora);
        let graph = Graph::plan(&f, pass(rows, context, positions));
        let logits = graph.record(&mut rec, &f, &m.weights, &memory)?;
        Ok((rec.finish()?, logits))
    }

    /// What has run here.
    pub(super) fn explain(&self) -> Vec<String> {
        let mut steps: Vec<_> = self.steps.iter().collect();
        steps.sort_by_key(|(k, _)| **k);
        let mut pieces: Vec<_> = self.pieces.iter().collect();
        pieces.sort_by_key(|((want, tokens), _)| (*tokens, *want == Want::Token));
        let what =
            |&(rows, positions): &(u32, u32)| format!("decode of {rows} slots, up to {positions} positions");
        let steps = steps.into_iter().flat_map(|(k, p)| crate::session::listing(&what(k), &p.0));
        let what = |&(want, tokens): &(Want, u32)| match want {
            Want::Token => format!("prefill of {tokens} tokens and the next token"),
            _ => format!("prefill of {tokens} tokens"),
        };
        pieces.into_iter().flat_map(|(k, p)| crate::session::listing(&what(k), &p.0)).chain(steps).collect()
    }
}

/// A step of so many rows.
fn pass(rows: u32, context: u32, positions: u32) -> Pass {
    Pass { tokens: rows, sequences: Sequences::Slots { context }, positions, want: Want::Token }
}

impl Device for Gpu {
    type Ticket = Readback;

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn table(&mut self, _group: usize, _slot: usize, _first: usize, _ids: &[u32]) -> Result<()> {
        Ok(())
    }

    fn piece(&mut self, piece: &Piece<'_>) -> Result<Readback> {
        let Piece { slot, known, from, draw } = *piece;
        let gpu = self.session.model.gpu().clone();
        let tokens = &known[from..];
        if from == 0 {
            gpu.write(&self.session.history, 0, bytemuck::cast_slice(known))?;
        } else {
            gpu.write(&self.session.history, from as u64 * 4, bytemuck::cast_slice(tokens))?;
        }
        // A session that is used by itself would start anew.
        self.session.tokens.clear();
        self.session.computed = 0;
        self.session.write_state(from as u32, draw.unwrap_or(&Sampling::greedy()))?;
        gpu.write(&self.session.ids, 0, bytemuck::cast_slice(tokens))?;
        let want = if draw.is_some() { Want::Token } else { Want::Cache };
        let key = (want, tokens.len() as u32);
        if !self.pieces.contains_key(&key) {
            let (rec, logits) = self.session.recording(key.1, self.session.context(), want, &Extra::NONE)?;
            // Odd sizes come from prompts' ends and are not likely to come again.
            self.pieces.retain(|k, _| k.1.is_power_of_two());
            self.pieces.insert(key, (rec.finish()?, logits));
        }
        let (program, logits) = &self.pieces[&key];
        self.logits.clone_from(logits);
        let token = self.session.ids.range(0, 4);
        if draw.is_none() {
            return Ok(gpu.run(program, Some(&token))?.readback.expect("asked for"));
        }
        gpu.run(program, None)?;
        let mut rec = Recorder::new(&gpu);
        for (from, to) in self.session.cache.copies(known.len() as u32, &self.cache, slot as u32) {
            rec.copy(&from, &to);
        }
        Ok(gpu.run(&rec.finish()?, Some(&token))?.readback.expect("asked for"))
    }

    fn wake(&mut self, slot: usize, known: &[u32], sampling: &Sampling) -> Result<()> {
        let gpu = self.session.model.gpu();
        let at = (slot * self.layout.context) as u64 * 4;
        gpu.write(&self.history, at, bytemuck::cast_slice(known))?;
        let last = known.last().expect("a token");
        gpu.write(&self.ids, slot as u64 * 4, bytemuck::bytes_of(last))?;
        let state = sampling.state(known.len() as u32 - 1);
        Ok(gpu.write(&self.state, (slot * size_of::<State>()) as u64, bytemuck::bytes_of(&state))?)
    }

    fn sleep(&mut self, slot: usize) -> Result<()> {
        let at = (slot * size_of::<State>()) as u64;
        Ok(self.session.model.gpu().write(&self.state, at, bytemuck::bytes_of(&IDLE))?)
    }

    fn step(&mut self, rows: usize, positions: usize) -> Result<Readback> {
        let gpu = self.session.model.gpu().clone();
        let tokens = self.ids.range(0, rows as u64 * 4);
        let rows = (rows as u32).next_power_of_two().min(self.layout.slots as u32);
        let key = (rows, (positions as u32).next_power_of_two().max(64));
        if !self.steps.contains_key(&key) {
            self.steps.insert(key, self.record(key.0, key.1)?);
        }
        let (program, logits) = &self.steps[&key];
        self.logits.clone_from(logits);
        Ok(gpu.run(program, Some(&tokens))?.readback.expect("asked for"))
    }

    fn logits(&mut self, row: usize) -> Result<Readback> {
        let bytes = u64::from(self.layout.vocabulary) * 4;
        let logits = self.logits.as_ref().expect("something ran that has logits");
        Ok(self.session.model.gpu().read(&logits.range(row as u64 * bytes, bytes)))
    }

    fn wait(&mut self, ticket: Readback) -> Result<Vec<u32>> {
        Ok(bytemuck::pod_collect_to_vec(&ticket.wait()?))
    }
}
