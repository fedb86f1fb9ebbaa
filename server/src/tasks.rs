//! Work that a request asks for and that takes minutes: a model in a smaller type, an adapter added to its model, and
//! what tests and measures the device; one piece at a time.
//!
//! What does it is behind [`Doer`], which the harness has. A request names models and jobs, never a path.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::error::{ApiError, Result};
use crate::lane::{Each, Kind, Lane, Turn};
use crate::tuning::Stop;

/// What is to be done.
#[derive(Debug, Clone)]
pub enum Task {
    /// Writes a model of the folder in a smaller type, beside it.
    Quantize {
        /// Which.
        model: String,
        /// The mixture, such as Q4_K_M.
        to: String,
        /// What the new one is called.
        name: String,
        /// Whether a model is taken that is quantised already.
        again: bool,
    },
    /// Adds the adapter of a job into the weights of its model.
    Merge {
        /// The job.
        job: String,
        /// The model.
        base: String,
        /// The name of what came of the job.
        name: String,
        /// The adapter's file.
        adapter: PathBuf,
        /// The file that is written.
        to: PathBuf,
    },
    /// Compares the kernels with their references.
    Kernels {
        /// All cases, and not a part of them.
        thorough: bool,
    },
    /// Measures kernels beside what the device reaches at best.
    Roofline {
        /// Whether it takes longer and tries more.
        thorough: bool,
    },
    /// Looks for constants of the kernels that are faster here, and keeps them for later starts.
    Tune {
        /// All kernels and types, and not a part of them.
        thorough: bool,
    },
    /// Measures how fast a model reads and writes.
    Bench {
        /// Which.
        model: String,
    },
}

impl Task {
    /// What requests call its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Task::Quantize { .. } => "quantize",
            Task::Merge { .. } => "merge",
            Task::Kernels { .. } => "kernels",
            Task::Roofline { .. } => "roofline",
            Task::Tune { .. } => "tune",
            Task::Bench { .. } => "bench",
        }
    }
}

/// What a memory plan is asked for.
#[derive(Debug, Clone)]
pub struct Room {
    /// The model.
    pub model: String,
    /// Tokens of an answer; None for the server's.
    pub context: Option<u32>,
    /// Answers at a time; None for the server's.
    pub slots: Option<u32>,
    /// How the cache is stored; None for the server's way.
    pub cache: Option<String>,
}

/// What does the work.
pub trait Doer: Send + Sync {
    /// The kinds of work that whoever runs the server allows.
    fn kinds(&self) -> Vec<&'static str>;

    /// The models that can be planned, quantised and measured.
    fn models(&self) -> Vec<String>;

    /// The memory that a model would take.
    ///
    /// # Errors
    /// What is wrong with the model or the wish; no line names a path.
    fn memory(&self, room: &Room) -> std::result::Result<Value, String>;

    /// How large a model would be in each type.
    ///
    /// # Errors
    /// What is wrong with the model; the line names no path.
    fn sizes(&self, model: &str) -> std::result::Result<Value, String>;

    /// What is wrong with a piece of work, before it waits for its turn.
    ///
    /// # Errors
    /// That; the line names no path.
    fn check(&self, task: &Task) -> std::result::Result<(), String>;

    /// Does it, and gives what there is to tell of it.
    ///
    /// # Errors
    /// Why it ended; the line names no path.
    fn run(&self, task: &Task, stop: &Stop, each: Each<'_>) -> std::result::Result<Value, String>;
}

fn told(turn: &Turn<Task, Value>) -> Value {
    let mut all = json!({
        "object": "task", "kind": turn.what.kind(), "done": turn.at.0, "of": turn.at.1, "now": turn.word,
        "result": turn.done,
    });
    match &*turn.what {
        Task::Quantize { model, to, name, .. } => {
            (all["model"], all["type"], all["name"]) =
                (model.as_str().into(), to.as_str().into(), name.as_str().into());
        }
        Task::Merge { name, job, .. } => {
            (all["model"], all["job"]) = (name.as_str().into(), job.as_str().into());
        }
        Task::Bench { model } => all["model"] = model.as_str().into(),
        Task::Kernels { thorough } | Task::Roofline { thorough } | Task::Tune { thorough } => {
            all["thorough"] = (*thorough).into();
        }
    }
    all
}

/// All work, and the thread that does it.
pub struct Tasks {
    pub(crate) doer: Arc<dyn Doer>,
    pub(crate) lane: Lane<Task, Value>,
}

impl std::fmt::Debug for Tasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.lane.fmt(f)
    }
}

impl Tasks {
    /// None yet.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn new(doer: Arc<dyn Doer>) -> std::io::Result<Tasks> {
        let kind = Kind { noun: "task", prefix: "task", missing: "task_not_found", json: told };
        let own = doer.clone();
        let run = move |task: &Task, stop: &Stop, each: Each<'_>| own.run(task, stop, each);
        Ok(Tasks { doer, lane: Lane::new("tasks", kind, Box::new(run))? })
    }

    pub(crate) fn create(&self, owner: &str, task: Task, id: u64) -> Result<Value> {
        self.doer.check(&task).map_err(|line| ApiError::bad("invalid_value", line))?;
        self.lane.create(owner, task, id)
    }
}
