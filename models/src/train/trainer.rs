//! A trainer: batches in, gradients and steps on the device.

use std::collections::HashMap;
use std::ops::Range;

use weft_kernels::ops::adamw;
use weft_kernels::ops::rope::Rotation;
use weft_runtime::{MemoryReport, Pool, Program, Recorder, Replay, Slice, Wait};

use super::adapter::Flat;
use super::batch::{AdamW, Batch, IGNORE, Losses, TrainOptions, TrainState, mix};
use super::phase::{Parts, Phase};
use super::plan::{bad, lesson, padded, refuse};
use super::product::Formats;
use super::record::{Memory, Recording};
use super::{Adapter, AdapterShape, Pair, TrainPlan};
use crate::graph::{Common, Homes, Lesson, Training, Value};
use crate::session::listing_of;
use crate::weights::Stream;
use crate::{Error, Model, Result};

/// Trains an adapter on a model.
pub struct Trainer {
    model: Model,
    plan: TrainPlan,
    options: TrainOptions,
    shape: AdapterShape,
    alpha: f32,
    rslora: bool,
    scale: f32,
    flat: Flat,
    /// What the largest batch learns.
    lesson: Lesson,
    /// Where the losses of rows lie.
    stats: Value,
    memory: Memory,
    moments: [Slice; 2],
    /// AdamW's scratch and settings.
    optimiser: adamw::Buffers,
    programs: HashMap<Phase, Parts>,
    /// Steps done.
    step: u64,
    /// Batches accumulated since, and the scale of the first of them: the gradient in memory is divided by it.
    batches: u64,
    unit: f32,
    /// A loss of these batches was not finite, which gradients need not show.
    diverged: bool,
}

impl Trainer {
    /// Takes all the memory that training needs.
    ///
    /// # Errors
    /// [`Error::Adapter`] where the adapter is not one for this model; [`Error::Training`] for senseless
    /// options, and where the memory does not fit, before any is taken, with the largest batch that would;
    /// a fault of the device.
    pub fn new(model: &Model, adapter: &Adapter, options: &TrainOptions) -> Result<Trainer> {
        let (spec, gpu) = (model.spec(), model.gpu());
        adapter.check(spec)?;
        refuse(spec, options)?;
        if !(0.0..1.0).contains(&options.dropout) {
            return bad(format!("the dropout must be at least 0 and below 1, not {}", options.dropout));
        }
        let (shape, budget) = (adapter.shape(), gpu.budget().clone());
        let plan = TrainPlan::fitting(model, &shape, options)?;
        let flat = Flat::new(&shape, spec, budget.align);
        let lesson = lesson(spec, &shape, options, &budget, plan.kept);
        let training = Training::build(spec, &lesson);
        let (most, rows) = (lesson.tokens, lesson.rows);

        gpu.reserve(Pool::Adapters, flat.total);
        let optimiser_slice = |label| gpu.alloc(Pool::Optimiser, flat.total, label);
        let state = |bytes: u64, label| gpu.alloc(Pool::State, bytes, label);
        let table =
            |r: &Rotation| gpu.alloc_init(Pool::State, bytemuck::cast_slice(&r.table(most)), "rotary table");
        let memory = Memory {
            values: values(model, &training.place(budget.align))?,
            parameters: gpu.alloc(Pool::Adapters, flat.total, "adapters")?,
            gradient: optimiser_slice("gradients")?,
            ids: state(u64::from(most) * 4, "token ids")?,
            spans: state(u64::from(most) * 8, "spans")?,
            tables: spec.rotations().iter().map(table).collect::<std::result::Result<_, _>>()?,
            rows: state(u64::from(rows) * 4, "rows of the loss")?,
            labels: state(u64::from(rows) * 4, "labels")?,
            loss_scale: state(4, "scale of the loss")?,
            seed: state(8, "seed")?,
        };
        let moments = [optimiser_slice("first moments")?, optimiser_slice("second moments")?];
        let mut trainer = Trainer {
            optimiser: adamw::Buffers::new(gpu, flat.total)?,
            model: model.clone(),
            plan,
            options: *options,
            alpha: adapter.alpha,
            rslora: adapter.rslora,
            scale: adapter.scale(),
            shape,
            flat,
            stats: training.stats(),
            lesson,
            memory,
            moments,
            programs: HashMap::new(),
            step: 0,
            batches: 0,
            unit: 1.0,
            diverged: false,
        };
        trainer.restore(&TrainState {
            step: 0,
            parameters: trainer.parameters_of(adapter),
            m: vec![0.0; trainer.parameters()],
            v: vec![0.0; trainer.parameters()],
        })?;
        Ok(trainer)
    }

    /// The memory that it was planned to take.
    pub fn plan(&self) -> &TrainPlan {
        &self.plan
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Trained parameters.
    pub fn parameters(&self) -> usize {
        self.shape.parameters(self.model.spec()) as usize
    }

    /// An adapter's values one after the other, in the order of layers and targets.
    fn parameters_of(&self, adapter: &Adapter) -> Vec<f32> {
        let mut pairs: Vec<&Pair> = adapter.pairs.iter().collect();
        pairs.sort_by_key(|p| (p.layer, p.target));
        pairs.into_iter().flat_map(|p| p.a.iter().chain(&p.b)).copied().collect()
    }

    /// Runs a batch forward and backward and adds `scale` times the gradient of its summed loss to the
    /// gradient: `scale` is one over the supervised tokens of all batches of the step.
    ///
    /// # Errors
    /// [`Error::Training`] for a batch that is empty, too large or inconsistent; an id out of range; a fault
    /// of the device.
    pub fn accumulate(&mut self, batch: &Batch, scale: f32) -> Result<Losses> {
        pollster::block_on(self.accumulate_by(batch, scale, Wait::Block))
    }

    /// As [`Trainer::accumulate`], waiting as `wait` says.
    ///
    /// # Errors
    /// As [`Trainer::accumulate`].
    pub async fn accumulate_by(&mut self, batch: &Batch, scale: f32, wait: Wait) -> Result<Losses> {
        if !(scale.is_finite() && scale > 0.0) {
            return bad(format!("a gradient cannot be scaled by {scale}"));
        }
        if self.batches == 0 {
            self.unit = scale;
        }
        let tokens = self.upload(batch, scale / self.unit)?;
        self.replay(Phase::Forward(tokens))?;
        let losses = self.losses(batch, Phase::LossAndGradient)?;
        let layers = self.model.spec().layers();
        self.ahead((self.lesson.first.0..layers).rev())?;
        self.replay(Phase::Backward(tokens))?;
        // Those of the next batch.
        self.ahead(0..layers)?;
        self.batches += 1;
        let losses = Losses::read(losses, wait).await?;
        self.diverged |= !losses.loss_sum.is_finite();
        Ok(losses)
    }

    /// Updates the parameters by the gradient that was accumulated, and clears it. Returns the gradient's
    /// global norm before the clip.
    ///
    /// # Errors
    /// [`Error::NotFinite`] where the norm, a loss or a parameter is NaN or infinite: the parameters stay as they are, the
    /// gradient is cleared; a fault of the device.
    pub fn step(&mut self, o: &AdamW) -> Result<f32> {
        pollster::block_on(self.step_by(o, Wait::Block))
    }

    /// As [`Trainer::step`], waiting as `wait` says.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub async fn step_by(&mut self, o: &AdamW, wait: Wait) -> Result<f32> {
        if std::mem::take(&mut self.diverged) {
            self.scatter(&self.memory.gradient, &vec![0.0; self.parameters()])?;
            self.batches = 0;
            return Err(Error::NotFinite { step: self.step + 1 });
        }
        let t = (self.step + 1) as f64;
        let correction = |beta: f32| (1.0 - f64::from(beta).powf(t)) as f32;
        let settings = adamw::Settings {
            lr: o.lr,
            beta1: o.beta1,
            beta2: o.beta2,
            eps: o.eps,
            weight_decay: o.weight_decay,
            correction1: correction(o.beta1),
            correction2: correction(o.beta2),
            clip: o.clip,
            scale: self.unit,
        };
        let gpu = self.model.gpu().clone();
        gpu.write(&self.optimiser.settings, 0, bytemuck::bytes_of(&settings))?;
        let norm = self.optimiser.norm.clone();
        let program = self.program(Phase::Step)?;
        let bytes = gpu.run(program, Some(&norm))?.readback.expect("asked for").by(wait).await?;
        self.batches = 0;
        let norm = f32::from_le_bytes(bytes[..4].try_into().expect("four bytes")) * self.unit;
        if !norm.is_finite() {
            return Err(Error::NotFinite { step: self.step + 1 });
        }
        self.step += 1;
        Ok(norm)
    }

    /// Runs a batch forward only.
    ///
    /// # Errors
    /// As [`Trainer::accumulate`].
    pub fn evaluate(&mut self, batch: &Batch) -> Result<Losses> {
        let tokens = self.upload(batch, 1.0)?;
        self.replay(if self.options.dropout > 0.0 {
            Phase::Evaluate(tokens)
        } else {
            Phase::Forward(tokens)
        })?;
        let losses = self.losses(batch, Phase::Loss)?;
        self.ahead(0..self.model.spec().layers())?;
        pollster::block_on(Losses::read(losses, Wait::Block))
    }

    /// The adapter as it is now.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn adapter(&self) -> Result<Adapter> {
        pollster::block_on(self.adapter_by(Wait::Block))
    }

    /// As [`Trainer::adapter`], waiting as `wait` says.
    ///
    /// # Errors
    /// As [`Trainer::adapter`].
    pub async fn adapter_by(&self, wait: Wait) -> Result<Adapter> {
        let spec = self.model.spec();
        let values = self.values_of(&self.memory.parameters, wait).await?;
        let mut rest = &values[..];
        let mut take = |n: u32| {
            let (head, tail) = rest.split_at(n as usize);
            rest = tail;
            head.to_vec()
        };
        let rank = self.shape.rank;
        let pairs = self
            .shape
            .sites
            .iter()
            .map(|&(layer, target)| Pair {
                layer,
                target,
                a: take(rank * target.inputs(spec)),
                b: take(target.outputs(spec) * rank),
            })
            .collect();
        Ok(Adapter { rank, alpha: self.alpha, rslora: self.rslora, pairs })
    }

    /// The gradient accumulated since the last step, as an adapter: what each value's gradient is.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn gradient(&self) -> Result<Vec<f32>> {
        Ok(self.gather(&self.memory.gradient)?.into_iter().map(|g| g * self.unit).collect())
    }

    /// Parameters, moments and step.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn state(&self) -> Result<TrainState> {
        Ok(TrainState {
            step: self.step,
            parameters: self.gather(&self.memory.parameters)?,
            m: self.gather(&self.moments[0])?,
            v: self.gather(&self.moments[1])?,
        })
    }

    /// Goes on from `state`, and forgets what was accumulated.
    ///
    /// # Errors
    /// [`Error::Training`] where the state is not of this adapter; a fault of the device.
    pub fn restore(&mut self, state: &TrainState) -> Result<()> {
        let n = self.parameters();
        for part in [&state.parameters, &state.m, &state.v] {
            if part.len() != n {
                return bad(format!("the state is of {} parameters, the adapter has {n}", part.len()));
            }
        }
        let m = &self.memory;
        let zeros = vec![0.0; n];
        let all = [
            (&m.parameters, &state.parameters),
            (&self.moments[0], &state.m),
            (&self.moments[1], &state.v),
            (&m.gradient, &zeros),
        ];
        for (slice, values) in all {
            self.scatter(slice, values)?;
        }
        self.step = state.step;
        self.batches = 0;
        self.unit = 1.0;
        self.diverged = false;
        Ok(())
    }

    /// What has run here: of each program recorded so far the distinct pipelines, with how often a replay
    /// dispatches each and its largest grid.
    pub fn explain(&self) -> Vec<String> {
        let mut programs: Vec<_> = self.programs.iter().collect();
        programs.sort_by_key(|(kind, _)| format!("{kind:?}"));
        let lines = |(kind, parts): (&Phase, &Parts)| {
            listing_of(&format!("{kind:?}"), parts.iter().map(|(_, program)| program))
        };
        programs.into_iter().flat_map(lines).collect()
    }

    /// Replays each program recorded so far, every dispatch apart, and says how long what took. What was
    /// accumulated is lost.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn measure(&self) -> Result<Vec<(String, Replay)>> {
        let gpu = self.model.gpu();
        let mut kinds: Vec<_> =
            self.programs.iter().map(|(kind, parts)| (format!("{kind:?}"), parts)).collect();
        kinds.sort_by(|a, b| a.0.cmp(&b.0));
        let parts = kinds.iter().flat_map(|(kind, parts)| parts.iter().map(move |p| (kind, &p.1)));
        parts.map(|(kind, program)| Ok((kind.clone(), gpu.measure(program, true)?))).collect()
    }

    /// Bytes that the device holds, by pool.
    pub fn memory(&self) -> MemoryReport {
        self.model.gpu().memory()
    }

    /// The values of a flat buffer, in the order of pairs.
    fn gather(&self, slice: &Slice) -> Result<Vec<f32>> {
        pollster::block_on(self.values_of(slice, Wait::Block))
    }

    async fn values_of(&self, slice: &Slice, wait: Wait) -> Result<Vec<f32>> {
        let all: Vec<f32> = bytemuck::pod_collect_to_vec(&self.model.gpu().read(slice).by(wait).await?);
        let part = |&(offset, bytes): &(u64, u64)| &all[offset as usize / 4..(offset + bytes) as usize / 4];
        Ok(self.flat.places.iter().flat_map(|(_, ab)| ab.iter().flat_map(part)).copied().collect())
    }

    /// The reverse. What lies between is zero, and stays so.
    fn scatter(&self, slice: &Slice, values: &[f32]) -> Result<()> {
        let mut all = vec![0.0f32; self.flat.total as usize / 4];
        let mut rest = values;
        for (offset, bytes) in self.flat.places.iter().flat_map(|(_, ab)| ab) {
            let (head, tail) = rest.split_at(*bytes as usize / 4);
            all[*offset as usize / 4..][..head.len()].copy_from_slice(head);
            rest = tail;
        }
        Ok(self.model.gpu().write(slice, 0, bytemuck::cast_slice(&all))?)
    }

    fn check(&self, batch: &Batch) -> Result<()> {
        let n = batch.ids.len();
        if n == 0 || n > self.options.tokens as usize {
            return bad(format!("a batch of {n} tokens; it must have from 1 to {}", self.options.tokens));
        }
        let sum: u64 = batch.sequences.iter().map(|&l| u64::from(l)).sum();
        if sum != n as u64 || batch.sequences.contains(&0) || batch.labels.len() != n {
            return bad(format!(
                "a batch of {n} tokens has {} labels and sequences of {sum} tokens",
                batch.labels.len()
            ));
        }
        self.model.check_ids(&batch.ids)?;
        let labels: Vec<u32> = batch.labels.iter().copied().filter(|&l| l != IGNORE).collect();
        self.model.check_ids(&labels)
    }

    /// Writes a batch, padded with sequences of one token, to the device. Returns its tokens.
    fn upload(&self, batch: &Batch, scale: f32) -> Result<u32> {
        self.check(batch)?;
        let tokens = padded(batch.ids.len() as u32, self.options.tokens);
        let mut ids = batch.ids.clone();
        ids.resize(tokens as usize, 0);
        let mut spans = Vec::with_capacity(ids.len());
        let mut start = 0;
        let padding = std::iter::repeat_n(1, (tokens as usize) - batch.ids.len());
        for length in batch.sequences.iter().copied().chain(padding) {
            spans.extend(std::iter::repeat_n([start, start + length], length as usize));
            start += length;
        }
        let (gpu, m) = (self.model.gpu(), &self.memory);
        gpu.write(&m.ids, 0, bytemuck::cast_slice(&ids))?;
        gpu.write(&m.spans, 0, bytemuck::cast_slice(&spans))?;
        gpu.write(&m.loss_scale, 0, bytemuck::bytes_of(&scale))?;
        // Another mask for each batch, the same again when a step is repeated.
        let seed = mix(mix(mix(self.options.seed) ^ self.step) ^ self.batches);
        gpu.write(&m.seed, 0, bytemuck::bytes_of(&seed))?;
        Ok(tokens)
    }

    /// Runs the loss, a piece of the supervised rows at a time.
    fn losses(&mut self, batch: &Batch, kind: Phase) -> Result<Vec<(usize, weft_runtime::Readback)>> {
        let gpu = self.model.gpu().clone();
        let most = self.lesson.rows as usize;
        let rows: Vec<u32> =
            (0..).zip(&batch.labels).filter(|(_, l)| **l != IGNORE).map(|(i, _)| i).collect();
        let stats = self.memory.values[self.stats.0].clone().expect("the loss writes it");
        let mut all = Vec::new();
        for part in rows.chunks(most) {
            let mut rows = part.to_vec();
            let mut labels: Vec<u32> = part.iter().map(|&i| batch.labels[i as usize]).collect();
            rows.resize(most, u32::MAX);
            labels.resize(most, IGNORE);
            gpu.write(&self.memory.rows, 0, bytemuck::cast_slice(&rows))?;
            gpu.write(&self.memory.labels, 0, bytemuck::cast_slice(&labels))?;
            let submission = gpu.run(self.program(kind)?, Some(&stats))?;
            all.push((part.len(), submission.readback.expect("asked for")));
        }
        Ok(all)
    }

    /// Replays a program. Where layers are streamed, each comes while the one before it computes.
    fn replay(&mut self, kind: Phase) -> Result<()> {
        self.program(kind)?;
        let (parts, gpu) = (&self.programs[&kind], self.model.gpu());
        let mut held = self.model.0.stream.as_ref().map(Stream::hold);
        for (i, (layer, program)) in parts.iter().enumerate() {
            if let Some((held, layer)) = held.as_mut().zip(*layer) {
                held.need(layer)?;
            }
            gpu.run(program, None)?;
            let next = parts.get(i + 1).and_then(|p| p.0);
            if let Some((held, next)) = held.as_mut().zip(next) {
                held.ahead(next)?;
            }
        }
        Ok(())
    }

    /// The layers that are streamed when a program is replayed next: the first that is not there comes while the device
    /// computes what was submitted.
    fn ahead(&self, layers: impl Iterator<Item = u32>) -> Result<()> {
        let Some(stream) = &self.model.0.stream else { return Ok(()) };
        stream.hold().ahead_of(layers)
    }

    /// A program, which is in several parts only where layers are streamed.
    fn program(&mut self, kind: Phase) -> Result<&Program> {
        if !self.programs.contains_key(&kind) {
            let finish = |(layer, rec): (Option<u32>, Recorder)| Ok((layer, rec.finish()?));
            let parts = self.recording(kind)?.into_iter().map(finish).collect::<Result<Parts>>()?;
            self.programs.insert(kind, parts);
        }
        Ok(&self.programs[&kind][0].1)
    }

    fn recording(&self, kind: Phase) -> Result<Vec<(Option<u32>, Recorder)>> {
        let dropout = self.options.dropout;
        match kind {
            Phase::Forward(tokens) => self.record(tokens, dropout, kind),
            Phase::Evaluate(tokens) => self.record(tokens, 0.0, kind),
            Phase::Backward(tokens) => self.record(tokens, dropout, kind),
            Phase::Loss | Phase::LossAndGradient => self.record(self.lesson.tokens, 0.0, kind),
            Phase::Step => {
                let mut rec = Recorder::new(self.model.gpu());
                let (m, [first, second]) = (&self.memory, &self.moments);
                adamw::norm(&mut rec, &m.parameters, &m.gradient, &self.optimiser)?;
                adamw::step(&mut rec, &m.parameters, &m.gradient, first, second, &self.optimiser)?;
                Ok(vec![(None, rec)])
            }
        }
    }

    /// Records the steps of a phase, for a batch of `tokens` tokens.
    fn record(&self, tokens: u32, dropout: f32, kind: Phase) -> Result<Vec<(Option<u32>, Recorder)>> {
        let (inner, m) = (&self.model.0, &self.memory);
        let (spec, w, caps) = (&inner.spec, &inner.weights, inner.gpu.caps());
        let mut training = Training::build(spec, &Lesson { tokens, ..self.lesson.clone() });
        let formats = Formats {
            spec,
            w,
            caps,
            budget: inner.gpu.budget(),
            adapter: &self.shape,
            dropout,
            tiles: self.lesson.tiles,
        };
        training.formats(|site, rows| formats.input(site, rows), |site, rows| formats.gradient(site, rows));
        let recording = Recording {
            common: Common {
                caps,
                spec,
                w,
                tokens,
                ids: &m.ids,
                spans: Some(&m.spans),
                rows: &[],
                tables: &m.tables,
                rotations: spec.rotations(),
                values: &training.values,
                slices: m.values.clone(),
            },
            adapter: &self.shape,
            flat: &self.flat,
            m,
            scale: self.scale,
            dropout,
        };
        let record = |(layer, steps): (Option<u32>, Range<usize>)| {
            let mut rec = Recorder::new(&inner.gpu);
            for step in &training.steps[steps] {
                recording.step(&mut rec, step)?;
            }
            Ok((layer, rec))
        };
        kind.parts(&training, inner.stream.as_ref().map(|_| spec.layers())).into_iter().map(record).collect()
    }

    /// What a step of a full batch records, by name.
    ///
    /// # Errors
    /// An op that does not fit the device.
    #[doc(hidden)]
    pub fn recordings(&self) -> Result<Vec<(String, Recorder)>> {
        let tokens = self.lesson.tokens;
        let kinds = [
            ("forward", Phase::Forward(tokens)),
            ("loss", Phase::Loss),
            ("loss and gradient", Phase::LossAndGradient),
            ("backward", Phase::Backward(tokens)),
            ("step", Phase::Step),
        ];
        let mut all = Vec::new();
        for (name, kind) in kinds {
            all.extend(self.recording(kind)?.into_iter().map(|(_, rec)| (name.to_owned(), rec)));
        }
        Ok(all)
    }
}

/// Takes memory for values. Returns where each lies.
fn values(model: &Model, homes: &Homes) -> Result<Vec<Option<Slice>>> {
    let gpu = model.gpu();
    let kept = gpu.alloc_all(Pool::Kept, &homes.kept, "kept activations")?;
    Ok(homes.slices(&gpu.alloc(Pool::Activations, homes.scratch(), "activations")?, &kept))
}
