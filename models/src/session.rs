//! A conversation's state on the device: KV cache, token history, and the programs recorded for it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use weft_kernels::ops::rope::Rotation;
use weft_kernels::ops::sample::State;
use weft_runtime::{Gpu, Pool, Program, Recorder, Slice, Wait};

use crate::graph::{Frame, Graph, Memory, Pass, Sums, Want};
use crate::kv::{Cache, Extent, Shapes};
use crate::lora::Applied;
use crate::plan::MemoryPlan;
use crate::{Error, Model, Result, Sampling};

/// How [`Session::logits`] computes its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// In prefill batches.
    Prefill,
    /// One token at a time.
    Decode,
}

/// What [`Session::taps`] brings back, for comparing layer by layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Taps {
    /// The residual stream after the embedding and after each layer, `[layers + 1]` of
    /// `[tokens, width]`.
    pub residual: Vec<Vec<f32>>,
    /// The normed output, `[tokens, width]`.
    pub last: Vec<f32>,
    /// `[tokens, vocabulary]`.
    pub logits: Vec<f32>,
}

/// What a program is recorded with besides a session's own memory.
pub(crate) struct Extra<'a> {
    /// Activations and ids in place of the session's.
    instead: Option<(&'a Slice, &'a Slice)>,
    taps: &'a [Slice],
    sums: Option<&'a Sums>,
}

impl Extra<'_> {
    pub(crate) const NONE: Extra<'static> = Extra { instead: None, taps: &[], sums: None };

    /// With sums of squares.
    pub(crate) fn sums(sums: &Sums) -> Extra<'_> {
        Extra { sums: Some(sums), ..Extra::NONE }
    }
}

impl Model {
    /// A KV cache for `context` positions.
    ///
    /// # Errors
    /// A context of 0, or more memory than the device has left.
    pub fn session(&self, context: u32) -> Result<Session> {
        self.check_resident()?;
        Session::new(self.clone(), context)
    }
}

/// A KV cache with the tokens it holds.
pub struct Session {
    pub(crate) model: Model,
    context: u32,
    pub(crate) cache: Cache,
    pub(crate) state: Slice,
    pub(crate) ids: Slice,
    pub(crate) history: Slice,
    /// The angles of each rotary embedding.
    pub(crate) tables: Vec<Slice>,
    pub(crate) last_row: Slice,
    pub(crate) activations: Slice,
    /// What adapters hold between their two products.
    between: Option<Slice>,
    /// The device as programs may use it: all of it, or without f16 (see [`Session::fall_back`]).
    gpu: Gpu,
    chunk: u32,
    programs: HashMap<(Want, u32, u32), Program>,
    /// Tokens known so far; those before `computed` are in the cache.
    pub(crate) tokens: Vec<u32>,
    pub(crate) computed: usize,
    /// Positions written since the cache was last begun from the start.
    pub(crate) written: usize,
}

impl Session {
    pub(crate) fn new(model: Model, context: u32) -> Result<Session> {
        let (gpu, spec) = (&model.0.gpu, &model.0.spec);
        if spec.is_encoder() {
            return Err(Error::Encoder { file: model.0.file.clone(), arch: spec.architecture.clone() });
        }
        // Past the trained context the model degrades but runs; what cannot be is an empty one.
        const MAX_CONTEXT: u32 = 1 << 24;
        if context == 0 || context > MAX_CONTEXT {
            return Err(Error::Context { wanted: context, most: MAX_CONTEXT });
        }
        let extent = Extent { sequences: 1, rows: 1, context, batch: model.0.chunk.min(context) };
        let shapes = Shapes::new(spec, model.0.cache, extent, gpu.budget())?;
        let lora = model.1.as_deref();
        let plan = MemoryPlan::session(&model.0.frame(&shapes, lora), model.0.chunk);
        let cache = Cache::new(gpu, shapes, Pool::KvCache, "the KV cache")?;
        let chunk = plan.chunk;
        let state = |bytes: u64, label| gpu.alloc(Pool::State, bytes, label);
        let between = lora.map(|l| state(l.scratch_bytes(chunk), "adapters")).transpose()?;
        let table = |r: &Rotation| {
            gpu.alloc_init(Pool::State, bytemuck::cast_slice(&r.table(context)), "rotary table")
        };
        Ok(Session {
            context,
            state: state(size_of::<State>() as u64, "sampler state")?,
            ids: state(u64::from(chunk) * 4, "token ids")?,
            history: state(u64::from(context) * 4, "token history")?,
            last_row: state(u64::from(spec.width) * 4, "last residual")?,
            tables: spec.rotations().iter().map(table).collect::<std::result::Result<_, _>>()?,
            activations: gpu.alloc(Pool::Activations, plan.activations, "activations")?,
            between,
            gpu: gpu.clone(),
            chunk,
            cache,
            programs: HashMap::new(),
            tokens: Vec::new(),
            computed: 0,
            written: 0,
            model,
        })
    }

    /// Positions that fit.
    pub fn context(&self) -> u32 {
        self.context
    }

    /// Tokens so far: prompts and answers.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens of a full prefill batch.
    pub fn chunk(&self) -> u32 {
        self.chunk
    }

    pub(crate) fn write_state(&self, position: u32, s: &Sampling) -> Result<()> {
        let state = s.state(position);
        Ok(self.model.0.gpu.write(&self.state, 0, bytemuck::bytes_of(&state))?)
    }

    /// The program for a batch of `tokens` that leaves `positions` in the cache. Decode programs are
    /// kept, one for each power of two of positions; so is the full prefill batch.
    pub(crate) fn program(&mut self, want: Want, tokens: u32, positions: u32) -> Result<&Program> {
        let bucket = self.bucket(tokens, positions);
        let key = (want, tokens, bucket);
        if !self.programs.contains_key(&key) {
            let program = self.recording(tokens, bucket, want, &Extra::NONE)?.0.finish()?;
            // Odd batches come from prompts' ends and are not likely to come again.
            self.programs.retain(|k, _| k.1 == 1 || k.1 == self.chunk);
            self.programs.insert(key, program);
        }
        Ok(&self.programs[&key])
    }

    /// The positions that a program is recorded for.
    fn bucket(&self, tokens: u32, positions: u32) -> u32 {
        if tokens == 1 { positions.next_power_of_two().max(64) } else { self.context }
    }

    /// What a session records for `tokens` tokens with so many positions in the cache, by name: the batch alone,
    /// with the next token, with the logits of every position, and with every layer's output.
    ///
    /// # Errors
    /// An op that does not fit the device.
    #[doc(hidden)]
    pub fn recordings(&self, tokens: u32, positions: u32) -> Result<Vec<(String, Recorder)>> {
        let (spec, gpu) = (self.model.spec(), self.model.gpu());
        let bytes = Graph::most_bytes(&self.frame(), tokens, &[Want::Taps]);
        let activations = gpu.alloc(Pool::Activations, bytes, "activations")?;
        let tap = |_| gpu.alloc(Pool::State, u64::from(tokens) * u64::from(spec.width) * 4, "tap");
        let taps = (0..spec.layers() + 2).map(tap).collect::<std::result::Result<Vec<_>, _>>()?;
        let own = Extra { instead: Some((&activations, &self.ids)), taps: &taps, sums: None };
        let wants = [
            ("cache", Want::Cache, &Extra::NONE),
            ("token", Want::Token, &Extra::NONE),
            ("logits", Want::Logits, &own),
            ("taps", Want::Taps, &own),
        ];
        let bucket = self.bucket(tokens, positions);
        let each = |(name, want, extra): (&str, Want, &Extra<'_>)| {
            Ok((format!("{name} of {tokens}"), self.recording(tokens, bucket, want, extra)?.0))
        };
        wants.into_iter().map(each).collect()
    }

    fn frame(&self) -> Frame<'_> {
        self.frame_on(&self.gpu)
    }

    fn frame_on<'a>(&'a self, gpu: &'a Gpu) -> Frame<'a> {
        let frame = self.model.0.frame(&self.cache.shapes, self.model.1.as_deref());
        Frame { caps: gpu.caps(), budget: gpu.budget(), ..frame }
    }

    /// Whether programs use neither f16 arithmetic nor cooperative matrices because logits were not finite with them.
    /// It stays so for as long as the session lives, since what was beyond f16 once will be again.
    pub fn without_f16(&self) -> bool {
        self.gpu.without_f16().is_none() && self.model.gpu().without_f16().is_some()
    }

    /// Records from now on without what rounds activations to f16, and forgets what the cache holds. Gives `false`
    /// where nothing rounds them as it is.
    pub(crate) fn fall_back(&mut self) -> Result<bool> {
        let Some(gpu) = self.gpu.without_f16() else { return Ok(false) };
        let plan = MemoryPlan::session(&self.frame_on(&gpu), self.chunk);
        if plan.activations > self.activations.size() {
            self.activations = gpu.alloc(Pool::Activations, plan.activations, "activations")?;
        }
        self.programs.clear();
        self.chunk = plan.chunk;
        self.gpu = gpu;
        self.tokens.clear();
        (self.computed, self.written) = (0, 0);
        Ok(true)
    }

    /// Records what a pass of `tokens` tokens needs, with up to `positions` positions in the cache. Returns where the
    /// logits will be, if there are any.
    pub(crate) fn recording(
        &self,
        tokens: u32,
        positions: u32,
        want: Want,
        extra: &Extra<'_>,
    ) -> Result<(Recorder, Option<Slice>)> {
        let m = &self.model.0;
        let mut rec = Recorder::new(&self.gpu);
        let (activations, ids) = extra.instead.unwrap_or((&self.activations, &self.ids));
        let memory = Memory {
            state: &self.state,
            ids,
            history: &self.history,
            tables: &self.tables,
            last_row: &self.last_row,
            cache: &self.cache,
            activations,
            lora: self.model.1.as_deref().zip(self.between.as_ref()).map(|(lora, between)| Applied {
                lora,
                between,
                strengths: None,
            }),
            taps: extra.taps,
            sums: extra.sums,
            packed: None,
            chosen: None,
        };
        let f = self.frame();
        let graph = Graph::plan(&f, Pass::one(tokens, positions, want));
        let logits = graph.record(&mut rec, &f, &m.weights, &memory)?;
        Ok((rec, logits))
    }

    /// The logits of every position of `tokens`, from an empty cache: `each` gets (position, row). Where some are not
    /// finite, all is computed once more without f16: see [`Session::without_f16`].
    ///
    /// # Errors
    /// As [`Session::generate`]; [`Error::NotFiniteLogits`].
    pub fn logits(
        &mut self,
        tokens: &[u32],
        rows: Rows,
        each: &mut dyn FnMut(u32, &[f32]) -> ControlFlow<()>,
    ) -> Result<()> {
        pollster::block_on(self.logits_by(tokens, rows, each, Wait::Block))
    }

    /// As [`Session::logits`], without blocking.
    ///
    /// # Errors
    /// As [`Session::logits`].
    pub async fn logits_async(
        &mut self,
        tokens: &[u32],
        rows: Rows,
        each: &mut dyn FnMut(u32, &[f32]) -> ControlFlow<()>,
    ) -> Result<()> {
        self.logits_by(tokens, rows, each, Wait::Await).await
    }

    async fn logits_by(
        &mut self,
        tokens: &[u32],
        rows: Rows,
        each: &mut dyn FnMut(u32, &[f32]) -> ControlFlow<()>,
        wait: Wait,
    ) -> Result<()> {
        match self.finite_logits((tokens, rows), 0, each, wait).await {
            Err(Error::NotFiniteLogits { position }) if self.fall_back()? => {
                self.finite_logits((tokens, rows), position, each, wait).await
            }
            done => done,
        }
    }

    /// As [`Session::logits`], given to `each` from position `from` on, and with no second try.
    async fn finite_logits(
        &mut self,
        (tokens, rows): (&[u32], Rows),
        from: u32,
        each: &mut dyn FnMut(u32, &[f32]) -> ControlFlow<()>,
        wait: Wait,
    ) -> Result<()> {
        let vocabulary = self.model.0.spec.vocabulary as usize;
        let mut broken = None;
        let mut rows_of = |start: u32, _: &[Vec<f32>], logits: &[f32]| {
            for (position, row) in (start..).zip(logits.chunks_exact(vocabulary)) {
                if !row.iter().all(|v| v.is_finite()) {
                    broken = Some(position);
                }
                if broken.is_some() || position >= from && each(position, row).is_break() {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        };
        let done = self.batches((tokens, rows), false, &mut rows_of, wait).await;
        match broken {
            Some(position) => Err(Error::NotFiniteLogits { position }),
            None => done,
        }
    }

    /// The residual stream after each layer, with the logits, from an empty cache.
    ///
    /// # Errors
    /// As [`Session::generate`].
    pub fn taps(&mut self, tokens: &[u32], rows: Rows) -> Result<Taps> {
        let layers = self.model.0.spec.layers() as usize;
        let mut out = Taps { residual: vec![Vec::new(); layers + 1], last: Vec::new(), logits: Vec::new() };
        let mut each = |_: u32, taps: &[Vec<f32>], logits: &[f32]| {
            for (all, part) in out.residual.iter_mut().chain([&mut out.last]).zip(taps) {
                all.extend(part);
            }
            out.logits.extend_from_slice(logits);
            ControlFlow::Continue(())
        };
        pollster::block_on(self.batches((tokens, rows), true, &mut each, Wait::Block))?;
        Ok(out)
    }

    /// Runs `tokens` from position 0 with the logits of every position, batch by batch.
    async fn batches(
        &mut self,
        (tokens, rows): (&[u32], Rows),
        with_taps: bool,
        each: &mut dyn FnMut(u32, &[Vec<f32>], &[f32]) -> ControlFlow<()>,
        wait: Wait,
    ) -> Result<()> {
        let m = self.model.0.clone();
        let (gpu, c) = (&m.gpu, &m.spec);
        if tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if tokens.len() > self.context as usize {
            return Err(Error::PromptTooLong { tokens: tokens.len(), context: self.context });
        }
        self.model.check_ids(tokens)?;
        self.tokens.clear();
        self.computed = 0;
        self.written = 0;
        let wanted = if rows == Rows::Decode { 1 } else { self.chunk.min(tokens.len() as u32) };
        let want = if with_taps { Want::Taps } else { Want::Logits };
        let frame = self.frame();
        let chunk = Graph::fitting_chunk(&frame, wanted, want);
        let bytes = Graph::most_bytes(&frame, chunk, &[want]);
        let activations = gpu.alloc(Pool::Activations, bytes, "activations")?;
        let ids = gpu.alloc(Pool::State, u64::from(chunk) * 4, "token ids")?;
        let mut recorded: HashMap<(u32, u32), (Program, Slice, Vec<Slice>)> = HashMap::new();
        for (i, batch) in tokens.chunks(chunk as usize).enumerate() {
            let (n, start) = (batch.len() as u32, i as u32 * chunk);
            let bucket = self.bucket(n, start + 1);
            if let Entry::Vacant(vacant) = recorded.entry((n, bucket)) {
                let taps = (0..if with_taps { c.layers() + 2 } else { 0 })
                    .map(|_| gpu.alloc(Pool::State, u64::from(n) * u64::from(c.width) * 4, "tap"))
                    .collect::<std::result::Result<Vec<_>, _>>()?;
                let extra = Extra { instead: Some((&activations, &ids)), taps: &taps, sums: None };
                let (rec, logits) = self.recording(n, bucket, want, &extra)?;
                vacant.insert((rec.finish()?, logits.expect("asked for"), taps));
            }
            let (program, logits, taps) = &recorded[&(n, bucket)];
            self.write_state(start, &Sampling::greedy())?;
            gpu.write(&ids, 0, bytemuck::cast_slice(batch))?;
            let used = logits.range(0, u64::from(n) * u64::from(c.vocabulary) * 4);
            let submission = gpu.run(program, Some(&used))?;
            let bytes = submission.readback.expect("asked for").by(wait).await?;
            let mut values = Vec::new();
            for tap in taps {
                values.push(bytemuck::pod_collect_to_vec(&gpu.read(tap).by(wait).await?));
            }
            self.tokens.extend_from_slice(batch);
            self.computed = self.tokens.len();
            self.written = self.computed;
            if each(start, &values, &bytemuck::pod_collect_to_vec::<u8, f32>(&bytes)).is_break() {
                return Err(Error::Cancelled);
            }
        }
        Ok(())
    }

    /// What has run here: each distinct pipeline with how often a replay dispatches it and its largest
    /// grid, for each kind of program recorded so far.
    pub fn explain(&self) -> Vec<String> {
        let mut keys: Vec<_> = self.programs.iter().collect();
        keys.sort_by_key(|(k, _)| (k.1, k.2));
        let mut lines = Vec::new();
        for ((want, tokens, bucket), program) in keys {
            let what = match (want, tokens) {
                (Want::Token, 1) => format!("decode, up to {bucket} positions"),
                (Want::Token, n) => format!("prefill of {n} tokens and the next token"),
                (_, n) => format!("prefill of {n} tokens"),
            };
            lines.extend(listing(&what, program));
        }
        lines
    }
}

/// What a program runs: each distinct pipeline with how often and its largest grid.
pub(crate) fn listing(what: &str, program: &Program) -> Vec<String> {
    listing_of(what, std::iter::once(program))
}

/// The same of several programs that follow each other.
pub(crate) fn listing_of<'a>(what: &str, parts: impl Iterator<Item = &'a Program> + Clone) -> Vec<String> {
    let dispatches: usize = parts.clone().map(Program::dispatches).sum();
    let mut lines = vec![format!("{what}: {dispatches} dispatches")];
    let mut pipelines: BTreeMap<&str, (u32, [u32; 3])> = BTreeMap::new();
    for (name, grid) in parts.flat_map(Program::listing) {
        let e = pipelines.entry(name).or_default();
        e.0 += 1;
        e.1 = e.1.max(grid);
    }
    for (name, (count, [x, y, z])) in pipelines {
        lines.push(format!("  {name:<32} {count:>5} x  grid up to {x} x {y} x {z}"));
    }
    lines
}
