//! Several answers at a time: a step draws the next token of every slot from one reading of the weights.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;

use weft_kernels::ops::attention::Sequences;
use weft_kernels::ops::sample::{IDLE, NOT_FINITE, State};
use weft_runtime::{Pool, Program, Readback, Recorder, Slice};

use crate::graph::{Graph, Memory, Pass, Want};
use crate::kv::{Cache, Extent, Shapes};
use crate::{Error, Model, Result, Sampling, Session, Stop};

/// Steps submitted before the first of them is read.
const IN_FLIGHT: usize = 2;

/// The most slots of a batch.
pub const MAX_SLOTS: u32 = 64;

/// What a step gave a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drawn {
    /// Which slot.
    pub slot: usize,
    /// The next token; `None` where the answer ends without one.
    pub token: Option<u32>,
    /// Why the answer ended, if it did: the slot is free then.
    pub stop: Option<Stop>,
}

/// An answer being drawn.
struct Answer {
    /// Tells it from the ones that had the slot before.
    number: u64,
    prompt: usize,
    /// Tokens whose drawing was submitted, and those that came back.
    submitted: usize,
    generated: usize,
    max_tokens: usize,
    ignore_eos: bool,
}

/// A step on its way: which answers it draws for, by row, and the tokens.
struct Step {
    answers: Vec<Option<u64>>,
    tokens: Readback,
}

/// Slots with a KV cache each. Answers start and end at any time, each with its own prompt, sampling and
/// length; while some are being drawn, each [`Batch::step`] gives all of them a token.
///
/// ```no_run
/// # fn main() -> Result<(), weft_models::Error> {
/// # let model = weft_models::Model::open("model.gguf", &Default::default())?;
/// # let (first, second) = (vec![1, 2], vec![3]);
/// let mut batch = model.batch(8, 4096)?;
/// for prompt in [&first, &second] {
///     batch.start(prompt, &weft_models::Sampling::default(), 256)?;
/// }
/// loop {
///     let drawn = batch.step()?;
///     if drawn.is_empty() {
///         break;
///     }
///     for d in drawn {
///         println!("slot {}: {:?} {:?}", d.slot, d.token, d.stop);
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Batch {
    /// Where prompts are computed; what their beginnings share is computed once.
    pub(crate) session: Session,
    cache: Cache,
    state: Slice,
    ids: Slice,
    history: Slice,
    activations: Slice,
    /// What adapters hold between their two products.
    between: Option<Slice>,
    /// By rows and positions.
    pub(crate) programs: HashMap<(u32, u32), Program>,
    /// The program that ran last.
    pub(crate) last: Option<(u32, u32)>,
    answers: Vec<Option<Answer>>,
    /// Slots whose state on the device says that they have a token to compute.
    awake: Vec<bool>,
    steps: VecDeque<Step>,
    /// What can be given without waiting: first tokens, which prompts draw.
    ready: Vec<Drawn>,
    started: u64,
}

impl Batch {
    pub(crate) fn new(model: Model, slots: u32, context: u32) -> Result<Batch> {
        if slots == 0 || slots > MAX_SLOTS {
            return Err(Error::Slots { wanted: slots, most: MAX_SLOTS });
        }
        let session = Session::new(model.clone(), context)?;
        let gpu = &model.0.gpu;
        let all = u64::from(slots) * u64::from(context);
        u32::try_from(all).map_err(|_| Error::Context { wanted: context, most: u32::MAX / slots })?;
        let extent = Extent { sequences: slots, context, batch: 1 };
        let shapes = Shapes::new(&model.0.spec, model.0.cache, extent, gpu.budget())?;
        let cache = Cache::new(gpu, shapes, Pool::Slots, "the KV cache of slots")?;
        let frame = model.0.frame(&cache.shapes, model.1.as_deref());
        let rows = (0..=slots.ilog2()).map(|i| 1 << i).chain([slots]);
        let bytes = |rows| Graph::plan(&frame, pass(rows, context, context)).bytes();
        let activations = rows.map(bytes).max().unwrap_or(0);
        let idle = vec![State { position: IDLE, ..bytemuck::Zeroable::zeroed() }; slots as usize];
        let between = |l: &crate::lora::Lora| gpu.alloc(Pool::State, l.scratch_bytes(slots), "adapters");
        let between = model.1.as_deref().map(between).transpose()?;
        Ok(Batch {
            between,
            state: gpu.alloc_init(Pool::State, bytemuck::cast_slice(&idle), "sampler states")?,
            ids: gpu.alloc(Pool::State, u64::from(slots) * 4, "token ids")?,
            history: gpu.alloc(Pool::State, all * 4, "token histories")?,
            activations: gpu.alloc(Pool::Activations, activations, "activations of slots")?,
            session,
            cache,
            programs: HashMap::new(),
            last: None,
            answers: (0..slots).map(|_| None).collect(),
            awake: vec![false; slots as usize],
            steps: VecDeque::new(),
            ready: Vec::new(),
            started: 0,
        })
    }

    /// Slots.
    pub fn slots(&self) -> usize {
        self.answers.len()
    }

    /// Positions of each slot.
    pub fn context(&self) -> u32 {
        self.session.context()
    }

    /// A slot that draws no answer, if there is one.
    pub fn free(&self) -> Option<usize> {
        self.answers.iter().position(Option::is_none)
    }

    /// Starts an answer of at most `max_tokens` tokens to `prompt` on a free slot, which it returns. The
    /// prompt is computed here, what it shares with the beginning of the prompt before it only once.
    ///
    /// # Errors
    /// As [`Session::generate`]; [`Error::NoFreeSlot`].
    pub fn start(&mut self, prompt: &[u32], sampling: &Sampling, max_tokens: usize) -> Result<usize> {
        self.start_with(prompt, sampling, max_tokens, &mut |_, _| ControlFlow::Continue(()))
    }

    /// As [`Batch::start`], telling `progress` (done, total) tokens of the prompt after each prefill batch;
    /// `Break` cancels.
    ///
    /// # Errors
    /// As [`Batch::start`]; [`Error::Cancelled`].
    pub fn start_with(
        &mut self,
        prompt: &[u32],
        sampling: &Sampling,
        max_tokens: usize,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<usize> {
        let (slot, first) = self.prefill(prompt, sampling, progress)?;
        let token = bytemuck::pod_read_unaligned(&first.wait()?);
        self.begin(slot, prompt, sampling, max_tokens, token)
    }

    /// As [`Batch::start`], without blocking.
    ///
    /// # Errors
    /// As [`Batch::start`].
    pub async fn start_async(
        &mut self,
        prompt: &[u32],
        sampling: &Sampling,
        max_tokens: usize,
    ) -> Result<usize> {
        let (slot, first) = self.prefill(prompt, sampling, &mut |_, _| ControlFlow::Continue(()))?;
        let token = bytemuck::pod_read_unaligned(&first.await?);
        self.begin(slot, prompt, sampling, max_tokens, token)
    }

    /// Computes a prompt and copies its keys and values to a free slot.
    fn prefill(
        &mut self,
        prompt: &[u32],
        sampling: &Sampling,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<(usize, Readback)> {
        let slot = self.free().ok_or(Error::NoFreeSlot { slots: self.slots() })?;
        drop(self.session.generate_with(prompt, sampling, 0, progress)?);
        let gpu = self.session.model.gpu().clone();
        let mut rec = Recorder::new(&gpu);
        for (from, to) in self.session.cache.copies(prompt.len() as u32, &self.cache, slot as u32) {
            rec.copy(&from, &to);
        }
        let submission = gpu.run(&rec.finish()?, Some(&self.session.ids.range(0, 4)))?;
        Ok((slot, submission.readback.expect("asked for")))
    }

    /// Puts an answer whose prompt drew `token` on a slot.
    fn begin(
        &mut self,
        slot: usize,
        prompt: &[u32],
        sampling: &Sampling,
        max_tokens: usize,
        token: u32,
    ) -> Result<usize> {
        let gpu = self.session.model.gpu();
        let context = self.context() as usize;
        let room = max_tokens.min(context - prompt.len());
        if room > 0 {
            let known: Vec<u32> = prompt.iter().copied().chain([token]).collect();
            let at = (slot * context) as u64 * 4;
            gpu.write(&self.history, at, bytemuck::cast_slice(&known))?;
            gpu.write(&self.ids, slot as u64 * 4, bytemuck::bytes_of(&token))?;
            let state = sampling.state(prompt.len() as u32);
            gpu.write(&self.state, (slot * size_of::<State>()) as u64, bytemuck::bytes_of(&state))?;
            self.awake[slot] = true;
        }
        self.started += 1;
        let number = self.started;
        let prompt = prompt.len();
        let ignore_eos = sampling.ignore_eos;
        self.answers[slot] =
            Some(Answer { number, prompt, submitted: 1, generated: 0, max_tokens, ignore_eos });
        let first = if room > 0 {
            self.accept(slot, token)?
        } else {
            let stop = if max_tokens == 0 { Stop::MaxTokens } else { Stop::Context };
            self.answers[slot] = None;
            Drawn { slot, token: None, stop: Some(stop) }
        };
        self.ready.push(first);
        Ok(slot)
    }

    /// Ends the answer of a slot, which is free then.
    pub fn stop(&mut self, slot: usize) {
        self.ready.retain(|d| d.slot != slot);
        if let Some(answer) = self.answers.get_mut(slot) {
            *answer = None;
        }
    }

    /// The next token of every answer being drawn; nothing once there is none.
    ///
    /// # Errors
    /// [`Error::NotFiniteLogits`], which ends that answer; a fault of the device.
    pub fn step(&mut self) -> Result<Vec<Drawn>> {
        loop {
            match self.next()? {
                Next::Drawn(drawn) => return Ok(drawn),
                Next::Wait(step) => {
                    let bytes = step.tokens.wait()?;
                    let drawn = self.arrived(&step.answers, &bytes)?;
                    if !drawn.is_empty() {
                        return Ok(drawn);
                    }
                }
            }
        }
    }

    /// As [`Batch::step`], without blocking.
    ///
    /// # Errors
    /// As [`Batch::step`].
    pub async fn step_async(&mut self) -> Result<Vec<Drawn>> {
        loop {
            match self.next()? {
                Next::Drawn(drawn) => return Ok(drawn),
                Next::Wait(step) => {
                    let bytes = step.tokens.await?;
                    let drawn = self.arrived(&step.answers, &bytes)?;
                    if !drawn.is_empty() {
                        return Ok(drawn);
                    }
                }
            }
        }
    }

    /// The answers to all `prompts`, each with its sampling, as many at a time as there are slots. Answers
    /// that are being drawn already are ended.
    ///
    /// # Errors
    /// As [`Batch::start`] and [`Batch::step`].
    pub fn generate(&mut self, prompts: &[(&[u32], Sampling)], max_tokens: usize) -> Result<Vec<Vec<u32>>> {
        (0..self.slots()).for_each(|slot| self.stop(slot));
        let mut of_slot = vec![0; self.slots()];
        let mut answers = vec![Vec::new(); prompts.len()];
        let mut next = 0;
        loop {
            while next < prompts.len() && self.free().is_some() {
                let (prompt, sampling) = &prompts[next];
                of_slot[self.start(prompt, sampling, max_tokens)?] = next;
                next += 1;
                // A first token that ends the answer is taken before its slot is.
                if self.ready.last().is_some_and(|d| d.stop.is_some()) {
                    break;
                }
            }
            let drawn = self.step()?;
            if drawn.is_empty() && next == prompts.len() {
                return Ok(answers);
            }
            for d in drawn {
                answers[of_slot[d.slot]].extend(d.token);
            }
        }
    }

    /// What there is to give, or to wait for.
    fn next(&mut self) -> Result<Next> {
        if !self.ready.is_empty() {
            return Ok(Next::Drawn(std::mem::take(&mut self.ready)));
        }
        while self.steps.len() < IN_FLIGHT && self.submit()? {}
        Ok(match self.steps.pop_front() {
            Some(step) => Next::Wait(step),
            None => Next::Drawn(Vec::new()),
        })
    }

    /// Submits a step of all answers that want another token; whether there was any.
    fn submit(&mut self) -> Result<bool> {
        let gpu = self.session.model.gpu().clone();
        let context = self.context() as usize;
        let wants = |a: &Answer| a.submitted < a.max_tokens && a.prompt + a.submitted < context;
        let mut answers: Vec<Option<u64>> = Vec::new();
        let mut positions = 0;
        for (slot, answer) in self.answers.iter_mut().enumerate() {
            let wanted = answer.as_mut().filter(|a| wants(a));
            match &wanted {
                None if self.awake[slot] => {
                    let at = (slot * size_of::<State>()) as u64;
                    gpu.write(&self.state, at, bytemuck::bytes_of(&IDLE))?;
                    self.awake[slot] = false;
                }
                _ => {}
            }
            if let Some(a) = wanted {
                // The token at `prompt + submitted` is drawn from the one before.
                positions = positions.max(a.prompt + a.submitted);
                a.submitted += 1;
                answers.resize(slot, None);
                answers.push(Some(a.number));
            }
        }
        if answers.is_empty() {
            return Ok(false);
        }
        let rows = (answers.len() as u32).next_power_of_two().min(self.answers.len() as u32);
        let positions = (positions as u32).next_power_of_two().max(64);
        let tokens = self.ids.range(0, answers.len() as u64 * 4);
        if !self.programs.contains_key(&(rows, positions)) {
            let program = self.record(rows, positions)?;
            self.programs.insert((rows, positions), program);
        }
        let submission = gpu.run(&self.programs[&(rows, positions)], Some(&tokens))?;
        self.last = Some((rows, positions));
        let tokens = submission.readback.expect("asked for");
        self.steps.push_back(Step { answers, tokens });
        Ok(true)
    }

    fn record(&self, rows: u32, positions: u32) -> Result<Program> {
        Ok(self.recording(rows, positions)?.finish()?)
    }

    /// What a step of so many rows records.
    ///
    /// # Errors
    /// An op that does not fit the device.
    #[doc(hidden)]
    pub fn recording(&self, rows: u32, positions: u32) -> Result<Recorder> {
        let m = &self.session.model.0;
        let mut rec = Recorder::new(&m.gpu);
        // The rows that take part.
        let history = self.history.range(0, u64::from(rows) * u64::from(self.context()) * 4);
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
        Graph::plan(&f, pass(rows, self.context(), positions)).record(&mut rec, &f, &m.weights, &memory)?;
        Ok(rec)
    }

    /// The tokens of a step, for the answers that are still wanted.
    fn arrived(&mut self, answers: &[Option<u64>], bytes: &[u8]) -> Result<Vec<Drawn>> {
        let tokens = bytemuck::pod_collect_to_vec::<u8, u32>(bytes);
        let mut drawn = Vec::new();
        for (slot, (number, &token)) in answers.iter().zip(&tokens).enumerate() {
            let now = self.answers[slot].as_ref().map(|a| a.number);
            if number.is_some() && *number == now {
                drawn.push(self.accept(slot, token)?);
            }
        }
        Ok(drawn)
    }

    /// Counts a token of a slot's answer, and ends the answer if that was the last.
    fn accept(&mut self, slot: usize, token: u32) -> Result<Drawn> {
        let context = self.context() as usize;
        let answer = self.answers[slot].as_mut().expect("an answer");
        if token == NOT_FINITE {
            let position = (answer.prompt + answer.generated).saturating_sub(1) as u32;
            self.answers[slot] = None;
            return Err(Error::NotFiniteLogits { position });
        }
        answer.generated += 1;
        let stop = if !answer.ignore_eos && self.session.model.tokenizer().is_ok_and(|t| t.is_eog(token)) {
            Some(Stop::EndOfText)
        } else if answer.generated >= answer.max_tokens {
            Some(Stop::MaxTokens)
        } else if answer.prompt + answer.generated >= context {
            Some(Stop::Context)
        } else {
            None
        };
        if stop.is_some() {
            self.answers[slot] = None;
        }
        Ok(Drawn { slot, token: (stop != Some(Stop::EndOfText)).then_some(token), stop })
    }

    /// What has run here, as [`Session::explain`] says it.
    pub fn explain(&self) -> Vec<String> {
        let mut keys: Vec<_> = self.programs.iter().collect();
        keys.sort_by_key(|(k, _)| **k);
        let what =
            |&(rows, positions): &(u32, u32)| format!("decode of {rows} slots, up to {positions} positions");
        let steps = keys.into_iter().flat_map(|(k, p)| crate::session::listing(&what(k), p));
        self.session.explain().into_iter().chain(steps).collect()
    }
}

/// What [`Batch::step`] does next.
enum Next {
    Drawn(Vec<Drawn>),
    Wait(Step),
}

/// A step of so many rows.
fn pass(rows: u32, context: u32, positions: u32) -> Pass {
    Pass { tokens: rows, sequences: Sequences::Slots { context }, positions, want: Want::Token }
}

impl Model {
    /// KV caches for `slots` answers at a time, of `context` positions each, and one for their prompts.
    ///
    /// # Errors
    /// More slots than [`MAX_SLOTS`](crate::MAX_SLOTS), or none; as [`Model::session`].
    pub fn batch(&self, slots: u32, context: u32) -> Result<Batch> {
        Batch::new(self.clone(), slots, context)
    }
}
