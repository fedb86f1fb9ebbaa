//! Fine-tuning in the server's process: one job at a time, on a thread of its own, written down so that it survives
//! the page that began it and the server itself.
//!
//! What trains is behind [`Tuner`], which the harness has; here is what there is to do, in which order, and where it is
//! kept. Names of files come from this server alone, never from a request.

mod files;
mod jobs;
mod order;
mod record;
mod work;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use weft_models::finetune::{Counts, Event, Recipe, Shown, State};
use weft_models::train::TrainPlan;

use crate::shelf::{Opened, Unopened};

pub(crate) use files::FileCard;
pub(crate) use jobs::Ask;
pub use jobs::Jobs;
pub(crate) use order::Wish;

/// Problems of a data set that are told at a time.
pub const PROBLEMS: usize = 50;

/// Data as it was given.
#[derive(Debug, Clone)]
pub struct Text {
    /// The name of its file, for messages.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// A run as it was asked for.
#[derive(Debug, Clone)]
pub struct Order {
    /// The model that it begins with.
    pub base: String,
    /// What is learnt.
    pub data: Text,
    /// What it is measured on.
    pub validation: Option<Text>,
    /// The share of the data that it is measured on, where there is no validation data.
    pub share: Option<f64>,
    /// How it is learnt.
    pub recipe: Recipe,
    /// Steps between checkpoints; None for about twenty in a run.
    pub save_every: Option<u64>,
    /// Steps between validations, besides the end of each epoch.
    pub eval_every: u64,
    /// When it was asked for, which templates may print.
    pub now: i64,
}

/// Something that is wrong with data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which file.
    pub file: String,
    /// Where in it, such as "line 3".
    pub place: Option<String>,
    /// What, as a sentence.
    pub what: String,
}

/// Why a run is not begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// These are wrong with its data.
    Data(Vec<Problem>),
    /// This is.
    Line(String),
}

/// What a run would do and take.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What was read.
    pub counts: Counts,
    /// What it is measured on.
    pub validation: Option<Counts>,
    /// The first batch.
    pub batch: Vec<Shown>,
    /// Updates in all.
    pub steps: u64,
    /// Tokens that pass through the model in all.
    pub tokens: u64,
    /// Memory by use. The weights are those of the model that answers, if `shared`.
    pub memory: TrainPlan,
    /// Whether the weights are in memory already.
    pub shared: bool,
    /// Bytes of the device that are taken now.
    pub taken: u64,
    /// Bytes that the device has, if it says.
    pub available: Option<u64>,
    /// Why it does not fit, with what would.
    pub no_room: Option<String>,
    /// Seconds of a step, where it was measured.
    pub step_seconds: Option<f64>,
}

/// Asks a run to stop behind its step.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether it was asked.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a run says of itself.
#[derive(Debug, Clone)]
pub enum Told {
    /// The model is there, and so many steps lie before it; so many are done already.
    Ready {
        /// Steps of the whole run.
        steps: u64,
        /// Steps that a checkpoint had.
        done: u64,
    },
    /// As the run says.
    Event(Event),
}

/// What trains.
pub trait Tuner: Send + Sync {
    /// The models that can be trained.
    fn bases(&self) -> Vec<String>;

    /// Reads the data, and says what a run would do and take. With `measure` it also times a step on the device.
    ///
    /// # Errors
    /// What is wrong with the data, or why this model cannot be trained so; no line names a path.
    fn plan(&self, order: &Order, measure: bool) -> Result<Plan, Refused>;

    /// Trains, in a folder of the run's own; goes on from the checkpoint that lies there. The adapter is in the folder
    /// at the end, and where `stop` was asked, a checkpoint.
    ///
    /// # Errors
    /// Why it ended; the line names no path.
    fn run(
        &self,
        order: &Order,
        folder: &Path,
        stop: &Stop,
        each: &mut dyn FnMut(Told),
    ) -> Result<State, String>;

    /// Opens a model with an adapter, under a name.
    ///
    /// # Errors
    /// Why it cannot be opened.
    fn open(&self, base: &str, name: &str, adapter: &Path) -> Result<Opened, Unopened>;
}
