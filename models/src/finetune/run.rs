//! The loop: batches, steps, validation, checkpoints.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;
use weft_formats::adapter::Adapter as AdapterFile;

use super::curve::Point;
use super::files::{self, Folder, Place, from_file, to_file};
use super::handle::{Handle, State};
use super::settings::{differences, short};
use super::{Data, Settings, Skips};
use crate::train::{AdamW, Adapter, Batch, Losses, Target, TrainPlan, TrainState, Trainer};
use crate::{Error, Model, Result, Spec, adapter_base};

/// What the loop drives; [`Trainer`], and in tests something small.
pub trait TrainLoop {
    /// Forward and backward; adds `scale` times the gradient of the summed loss.
    ///
    /// # Errors
    /// A batch that does not fit; a fault of the device.
    fn accumulate(&mut self, batch: &Batch, scale: f32) -> Result<Losses>;
    /// Forward only.
    ///
    /// # Errors
    /// As [`TrainLoop::accumulate`].
    fn evaluate(&mut self, batch: &Batch) -> Result<Losses>;
    /// Updates; the gradient's norm.
    ///
    /// # Errors
    /// A norm that is not finite.
    fn step(&mut self, o: &AdamW) -> Result<f32>;
    /// The adapter as it is.
    ///
    /// # Errors
    /// A fault of the device.
    fn adapter(&self) -> Result<Adapter>;
    /// Parameters, moments, step.
    ///
    /// # Errors
    /// A fault of the device.
    fn state(&self) -> Result<TrainState>;
    /// Goes on from a state.
    ///
    /// # Errors
    /// A state of something else.
    fn restore(&mut self, state: &TrainState) -> Result<()>;
    /// Bytes of GPU memory.
    fn memory(&self) -> u64;
}

impl TrainLoop for Trainer {
    fn accumulate(&mut self, batch: &Batch, scale: f32) -> Result<Losses> {
        Trainer::accumulate(self, batch, scale)
    }

    fn evaluate(&mut self, batch: &Batch) -> Result<Losses> {
        Trainer::evaluate(self, batch)
    }

    fn step(&mut self, o: &AdamW) -> Result<f32> {
        Trainer::step(self, o)
    }

    fn adapter(&self) -> Result<Adapter> {
        Trainer::adapter(self)
    }

    fn state(&self) -> Result<TrainState> {
        Trainer::state(self)
    }

    fn restore(&mut self, state: &TrainState) -> Result<()> {
        Trainer::restore(self, state)
    }

    fn memory(&self) -> u64 {
        Trainer::memory(self).allocated()
    }
}

/// What a step brought.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Counted from 1.
    pub step: u64,
    /// All steps of the run.
    pub steps: u64,
    /// Counted from 1.
    pub epoch: u64,
    /// Mean loss of the learnt tokens.
    pub loss: f64,
    /// Share of them that were the likeliest.
    pub accuracy: f64,
    /// Learning rate.
    pub lr: f32,
    /// Norm of the gradient before the clip.
    pub grad_norm: f32,
    /// Whether its loss or its gradient is not finite, so that nothing was learnt in it.
    pub skipped: bool,
    /// Tokens of the step.
    pub tokens: u64,
    /// Tokens a second of the step.
    pub tokens_per_s: f64,
    /// Mean loss of the validation set, where it was measured, and the share of likeliest tokens.
    pub val: Option<(f64, f64)>,
    /// Bytes of GPU memory.
    pub memory: u64,
    /// Seconds to the end, as far as the steps so far tell.
    pub seconds_left: f64,
}

/// What happens during a run.
#[derive(Debug, Clone)]
pub enum Event {
    /// The state changed.
    State(State),
    /// A step was done.
    Step(Step),
    /// So many batches of the validation set are done, of so many.
    Validating(usize, usize),
    /// A checkpoint was written.
    Saved(PathBuf),
}

/// Where and how often a run is written down.
#[derive(Debug, Clone)]
pub struct Saving {
    /// The folder.
    pub folder: PathBuf,
    /// Steps between checkpoints; 0 for the end only.
    pub every: u64,
    /// How many checkpoints stay.
    pub keep: usize,
    /// Steps between validations, besides the end of each epoch; 0 for those only.
    pub eval_every: u64,
    /// What PEFT's configuration calls the base model.
    pub base_name: String,
}

impl Saving {
    /// Every 100 steps, of which the last two stay; validation at the end of each epoch.
    pub fn new(folder: impl Into<PathBuf>) -> Saving {
        Saving { folder: folder.into(), every: 100, keep: 2, eval_every: 0, base_name: "model".to_owned() }
    }
}

/// A fine-tuning run.
pub struct Finetune<O> {
    optimiser: O,
    spec: Spec,
    settings: Settings,
    data: Data,
    val: Option<Data>,
    saving: Saving,
    folder: Folder,
    handle: Handle,
    steps: u64,
    step: u64,
    resumed: bool,
    skips: Skips,
    /// The first step whose loss or gradient the parameters as they are do not allow.
    diverged: Option<u64>,
}

impl Finetune<Trainer> {
    /// Prepares a run: takes the memory and the folder. It starts from `start`, or from a fresh adapter.
    ///
    /// # Errors
    /// A model that does not fit with its training; an adapter of another model or shape; a folder that
    /// cannot be written.
    pub fn new(
        model: &Model,
        start: Option<&AdapterFile>,
        settings: Settings,
        data: Data,
        val: Option<Data>,
        saving: Saving,
    ) -> Result<Finetune<Trainer>> {
        let spec = model.spec();
        let adapter = match start {
            Some(file) => from_file(file)?,
            None => {
                let targets: std::collections::BTreeSet<Target> =
                    settings.shape.sites.iter().map(|s| s.1).collect();
                let targets: Vec<Target> = targets.into_iter().collect();
                let s = &settings;
                Adapter::new(spec, &targets, s.shape.rank, s.alpha, s.rslora, s.seed)
            }
        };
        let trainer = Trainer::new(model, &adapter, &settings.train_options(&data, val.as_ref()))?;
        Finetune::with(trainer, spec.clone(), settings, data, val, saving)
    }

    /// The memory that was taken.
    pub fn plan(&self) -> &TrainPlan {
        self.optimiser.plan()
    }
}

impl<O: TrainLoop> Finetune<O> {
    /// As [`Finetune::new`] with what the loop drives given.
    ///
    /// # Errors
    /// Settings without a step; a folder that cannot be made.
    pub fn with(
        optimiser: O,
        spec: Spec,
        settings: Settings,
        data: Data,
        val: Option<Data>,
        saving: Saving,
    ) -> Result<Finetune<O>> {
        let steps = settings.steps(&data);
        if steps == 0 || data.examples.is_empty() {
            return Err(Error::Finetune {
                what: "there is no step to do: no epochs, steps or examples".into(),
            });
        }
        let folder = Folder::create(&saving.folder)?;
        let handle = Handle::new();
        Ok(Finetune {
            optimiser,
            spec,
            settings,
            data,
            val,
            saving,
            folder,
            handle,
            steps,
            step: 0,
            resumed: false,
            skips: Skips::default(),
            diverged: None,
        })
    }

    /// Steps of the whole run.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Steps done.
    pub fn done(&self) -> u64 {
        self.step
    }

    /// Steps of them that were skipped, since their loss or gradient was not finite.
    pub fn skipped(&self) -> u64 {
        self.skips.all()
    }

    #[cfg(test)]
    pub(super) fn optimiser(&self) -> &O {
        &self.optimiser
    }

    #[cfg(test)]
    pub(super) fn optimiser_mut(&mut self) -> &mut O {
        &mut self.optimiser
    }

    /// What pauses and cancels the run.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Goes on from a checkpoint: `path` is one, or a run's folder, whose last one is taken. Returns its step.
    ///
    /// # Errors
    /// No checkpoint there; a broken one; one that was made with other options, a model or data of its own:
    /// the error says which.
    pub fn resume(&mut self, path: &Path) -> Result<u64> {
        let path = files::find(path)?;
        let wrong = |what: String| Error::Finetune { what: format!("{}: {what}", path.display()) };
        let place = files::place(&path)?;
        let different = differences(&place.options, &self.options());
        if !different.is_empty() {
            let list = different.join(", ");
            return Err(wrong(format!("was made with other options: {list}; give the same, or start anew")));
        }
        let at = self.position(place.step);
        if (place.epoch, place.batch) != at || place.step > self.steps {
            return Err(wrong(format!(
                "is at epoch {}, batch {} after {} steps, where this data is at epoch {}, batch {}",
                place.epoch, place.batch, place.step, at.0, at.1
            )));
        }
        if !self.folder.holds(&path) {
            // Going on elsewhere; not over another run.
            files::check_free(&self.saving.folder)?;
        }
        let state = files::state(&path, place.step - place.skipped)?;
        self.optimiser.restore(&state).map_err(|e| wrong(e.to_string()))?;
        self.folder.resume(place.step)?;
        (self.step, self.skips) = (place.step, Skips::so_far(place.skipped));
        self.resumed = true;
        Ok(place.step)
    }

    fn options(&self) -> serde_json::Map<String, serde_json::Value> {
        self.settings.to_json(&self.data, self.val.as_ref())
    }

    fn batches(&self, epoch: u64) -> Vec<Vec<usize>> {
        self.data.epoch(self.settings.seed, epoch, self.settings.batch, self.settings.pack())
    }

    /// Epoch and batches of it that are done after `step` steps.
    fn position(&self, step: u64) -> (u64, u64) {
        let (mut epoch, mut left) = (0, step);
        loop {
            let batches = self.batches(epoch).len() as u64;
            let steps = batches.div_ceil(self.settings.accumulate.into());
            if left < steps {
                return (epoch, left * u64::from(self.settings.accumulate));
            }
            left -= steps;
            epoch += 1;
        }
    }

    /// Trains to the end, or until it is cancelled, telling `each` what happens. The adapter is in the folder
    /// then.
    ///
    /// # Errors
    /// Eight steps in a row whose loss or gradient is not finite, or a run in which nothing was learnt for that; a full
    /// disk; a fault of the device. The last checkpoint stays.
    pub fn run(&mut self, each: &mut dyn FnMut(Event)) -> Result<State> {
        if !self.resumed {
            self.folder.begin()?;
        }
        self.set(State::Running, each);
        let ended = self.train(each);
        self.folder.release();
        match &ended {
            Ok(state) => self.set(*state, each),
            Err(_) => self.set(State::Idle, each),
        }
        ended.map_err(|e| self.with_checkpoint(e))
    }

    fn set(&self, state: State, each: &mut dyn FnMut(Event)) {
        self.handle.with(|s| s.state = state);
        each(Event::State(state));
    }

    /// Says which checkpoint there is to go on from.
    fn with_checkpoint(&self, e: Error) -> Error {
        let mut good = self.folder.checkpoints().unwrap_or_default();
        good.retain(|(step, _)| self.diverged.is_none_or(|first| *step + 1 < first));
        let what = match good.pop() {
            Some((_, path)) => format!("{e}; the last good checkpoint is {}", path.display()),
            None => format!("{e}; there is no good checkpoint yet"),
        };
        Error::Finetune { what }
    }

    /// The error of parameters that do not allow a step, the first of which is `first`.
    fn diverges(&mut self, first: u64, steps: &str, what: &str) -> Error {
        self.diverged = Some(first);
        // What has learnt nothing yet has not diverged.
        let way_out = match self.skipped() == self.step {
            true if self.skipped() > 0 => {
                "a weight is not finite, or values are beyond f16: try --without coop,f16, and checkpointing"
            }
            _ => "start anew, or on a checkpoint's adapter by --lora, with a lower --lr or --clip",
        };
        Error::Finetune { what: format!("{steps}: {what}; {way_out}") }
    }

    /// The error of a step in which nothing was learnt, after too many of them.
    fn too_many(&mut self, what: &str) -> Error {
        let row = self.skips.row();
        let first = self.step + 1 - row;
        let steps = match row {
            1 => format!("step {first}"),
            _ => format!("steps {first} to {}", self.step),
        };
        self.diverges(first, &steps, what)
    }

    fn train(&mut self, each: &mut dyn FnMut(Event)) -> Result<State> {
        let (mut epoch, mut batch) = self.position(self.step);
        let mut batches = self.batches(epoch);
        let (start, first) = (Instant::now(), self.step);
        let mut saved = self.resumed.then_some(self.step);
        while self.step < self.steps {
            if self.handle.with(|s| s.cancel) {
                return self.finish(State::Cancelled, saved, each);
            }
            if self.handle.with(|s| s.pause) {
                if saved != Some(self.step) {
                    self.save(each)?;
                    saved = Some(self.step);
                }
                self.set(State::Paused, each);
                if self.handle.wait() {
                    return self.finish(State::Cancelled, saved, each);
                }
                self.set(State::Running, each);
            }
            let end = (batch + u64::from(self.settings.accumulate)).min(batches.len() as u64);
            let mut step = self.one(&batches[batch as usize..end as usize], epoch)?;
            if self.skips.row() == 0 {
                // Not before this step's loss has shown that the last checkpoint is a good one.
                self.folder.prune(self.saving.keep)?;
            }
            batch = end;
            let epoch_ends = batch == batches.len() as u64;
            if epoch_ends {
                (epoch, batch) = (epoch + 1, 0);
                batches = self.batches(epoch);
            }
            let due = self.saving.eval_every > 0 && self.step.is_multiple_of(self.saving.eval_every);
            if epoch_ends || due || self.step == self.steps {
                step.val = self.validate(each)?;
            }
            let per_step = start.elapsed().as_secs_f64() / (self.step - first) as f64;
            step.seconds_left = per_step * (self.steps - self.step) as f64;
            self.measure(&step)?;
            each(Event::Step(step));
            // What was last learnt has not shown yet that it is good where a step was skipped behind it.
            let due = self.saving.every > 0 && self.step.is_multiple_of(self.saving.every);
            if due && self.skips.row() == 0 {
                self.save(each)?;
                saved = Some(self.step);
            }
        }
        self.finish(State::Completed, saved, each)
    }

    /// One update on these batches.
    fn one(&mut self, batches: &[Vec<usize>], epoch: u64) -> Result<Step> {
        let start = Instant::now();
        let batches: Vec<Batch> = batches.iter().map(|b| self.data.batch(b)).collect();
        let supervised = |b: &Batch| b.labels.iter().filter(|&&l| l != crate::train::IGNORE).count();
        let scale = 1.0 / batches.iter().map(supervised).sum::<usize>().max(1) as f32;
        let mut total = Losses::default();
        for batch in &batches {
            let l = self.optimiser.accumulate(batch, scale)?;
            total.loss_sum += l.loss_sum;
            total.supervised += l.supervised;
            total.correct += l.correct;
        }
        let count = total.supervised.max(1) as f64;
        let loss = total.loss_sum / count;
        let lr = self.settings.lr(self.step, self.steps);
        let grad_norm = match self.optimiser.step(&AdamW { lr, ..self.settings.optimiser }) {
            Err(Error::NotFinite { .. }) => None,
            other => Some(other?),
        };
        self.step += 1;
        let learnt = loss.is_finite() && grad_norm.is_some();
        if !self.skips.count(learnt, self.step, self.steps) {
            let what = match loss.is_finite() {
                true => "the gradient is not finite".to_owned(),
                false => format!("the loss is {loss}"),
            };
            return Err(self.too_many(&what));
        }
        let tokens = batches.iter().map(|b| b.ids.len() as u64).sum();
        Ok(Step {
            step: self.step,
            steps: self.steps,
            epoch: epoch + 1,
            loss,
            accuracy: total.correct as f64 / count,
            lr,
            grad_norm: grad_norm.unwrap_or(f32::NAN),
            skipped: !learnt,
            tokens,
            tokens_per_s: tokens as f64 / start.elapsed().as_secs_f64(),
            val: None,
            memory: self.optimiser.memory(),
            seconds_left: 0.0,
        })
    }

    /// Mean loss and share of likeliest tokens of the validation set, batches in the order of the file.
    fn validate(&mut self, each: &mut dyn FnMut(Event)) -> Result<Option<(f64, f64)>> {
        let Some(val) = &self.val else { return Ok(None) };
        let all: Vec<usize> = (0..val.examples.len()).collect();
        let batches: Vec<_> = all.chunks(self.settings.batch as usize).collect();
        let mut total = Losses::default();
        for (i, batch) in batches.iter().enumerate() {
            let l = self.optimiser.evaluate(&val.batch(batch))?;
            total.loss_sum += l.loss_sum;
            total.supervised += l.supervised;
            total.correct += l.correct;
            each(Event::Validating(i + 1, batches.len()));
        }
        let count = total.supervised.max(1) as f64;
        let loss = total.loss_sum / count;
        if !loss.is_finite() {
            let step = format!("step {}", self.step);
            return Err(self.diverges(self.step + 1, &step, &format!("the validation loss is {loss}")));
        }
        Ok(Some((loss, total.correct as f64 / count)))
    }

    fn measure(&mut self, s: &Step) -> Result<()> {
        let mut line = json!({
            "step": s.step,
            "epoch": s.epoch,
            "loss": s.loss,
            "accuracy": s.accuracy,
            "lr": short(s.lr),
            "grad_norm": short(s.grad_norm),
            "tokens": s.tokens,
            "tokens_per_s": (s.tokens_per_s * 10.0).round() / 10.0,
        });
        if s.skipped {
            line["skipped"] = true.into();
        }
        if let Some((loss, accuracy)) = s.val {
            line["val_loss"] = loss.into();
            line["val_accuracy"] = accuracy.into();
        }
        let point = Point { step: s.step, loss: s.loss, val: s.val.map(|v| v.0) };
        self.folder.measure(point, &line)
    }

    fn adapter(&self) -> Result<AdapterFile> {
        Ok(to_file(&self.optimiser.adapter()?, &self.spec))
    }

    fn save(&mut self, each: &mut dyn FnMut(Event)) -> Result<()> {
        let (epoch, batch) = self.position(self.step);
        let place = Place { step: self.step, skipped: self.skipped(), epoch, batch, options: self.options() };
        let state = self.optimiser.state()?;
        // Behind the last step there is no loss that would tell.
        if ![&state.parameters, &state.m, &state.v].into_iter().flatten().all(|x| x.is_finite()) {
            let step = format!("step {}", self.step);
            return Err(self.diverges(self.step + 1, &step, "the adapter has values that are not finite"));
        }
        let base = adapter_base(&self.spec);
        let path = self.folder.save(&place, &state, &self.adapter()?, &base)?;
        self.folder.draw()?;
        each(Event::Saved(path));
        Ok(())
    }

    fn finish(&mut self, state: State, saved: Option<u64>, each: &mut dyn FnMut(Event)) -> Result<State> {
        if saved != Some(self.step) {
            self.save(each)?;
        }
        self.folder.draw()?;
        let adapter = self.adapter()?;
        self.folder.adapter(&adapter, &adapter_base(&self.spec), &self.saving.base_name)?;
        self.folder.prune(self.saving.keep)?;
        Ok(state)
    }
}
