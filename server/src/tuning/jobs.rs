//! The jobs: kept in a folder, run one after the other.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::watch;

use super::files::{FileCard, Files};
use super::record::{Job, Record, Row, Source, Status, Wanted};
use super::work::{Shared, State, Tuned, order};
use super::{Order, Plan, Problem, Refused, Text, Tuner, Wish};
use crate::app::now;
use crate::disk;
use crate::error::{ApiError, Result};
use crate::shelf::Library;
use crate::tasks::Task;

/// How many jobs are kept.
const MOST: usize = 64;

/// The file of a model with its adapter in its weights, once somebody asked for it.
const MERGED: &str = "merged.gguf";

/// Files of a result that can be fetched, with their types.
const RESULTS: &[(&str, &str)] = &[
    ("adapter.gguf", "application/octet-stream"),
    (MERGED, "application/octet-stream"),
    ("adapter_model.safetensors", "application/octet-stream"),
    ("adapter_config.json", "application/json"),
    ("metrics.jsonl", "application/jsonl"),
    ("loss.svg", "image/svg+xml"),
];

/// What can be asked of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Pause,
    Resume,
    Cancel,
}

/// All jobs, and the thread that runs them.
pub struct Jobs {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Jobs({})", self.shared.state().jobs.len())
    }
}

fn kept(e: std::io::Error) -> ApiError {
    ApiError::fault(format!("the job cannot be kept: {}", disk::plain(&e)))
}

fn is_job(name: &str) -> bool {
    name.strip_prefix("ftjob-").is_some_and(|h| h.len() == 16 && h.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Locks a folder until the file is closed, which the system does where a process is killed.
fn lock(folder: &Path) -> std::result::Result<Option<std::fs::File>, String> {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(folder.join(".lock"));
    let file = file.map_err(|e| disk::plain(&e))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Err("another server runs the jobs there".into()),
        // There are file systems without locks.
        Err(std::fs::TryLockError::Error(_)) => Ok(None),
    }
}

impl Jobs {
    /// Takes the jobs of a folder up again: those that ran when the server ended go on from their checkpoints.
    ///
    /// # Errors
    /// The folder cannot be used, or another server does.
    pub fn open(folder: &Path, tuner: Arc<dyn Tuner>) -> std::result::Result<Jobs, String> {
        let plain = |e: std::io::Error| disk::plain(&e);
        disk::folder(folder).map_err(plain)?;
        let lock = lock(folder)?;
        let files = Files::open(folder.join("files")).map_err(plain)?;
        let mut jobs = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(plain)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            if name.strip_suffix(".gone").is_some_and(is_job) {
                let _ = std::fs::remove_dir_all(&path);
            }
            if !is_job(&name) {
                continue;
            }
            let record: Option<Record> =
                std::fs::read(path.join("job.json")).ok().and_then(|b| serde_json::from_slice(&b).ok());
            match record.filter(|r| r.id == name) {
                Some(mut record) => {
                    if record.status == Status::Running {
                        record.status = Status::Queued;
                    }
                    jobs.push(Job::load(record, &path.join("run").join("metrics.jsonl")));
                }
                // Killed while it was made: nobody was told of it.
                None => drop(std::fs::remove_dir_all(&path)),
            }
        }
        jobs.sort_by(|a, b| (a.record.created, &a.record.id).cmp(&(b.record.created, &b.record.id)));
        let state = Mutex::new(State { files, jobs, ending: false });
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            tuner,
            state,
            wake: Condvar::new(),
            changed: watch::Sender::new(0),
            _lock: lock,
        });
        let own = shared.clone();
        let thread = std::thread::Builder::new().name("jobs".into()).spawn(move || own.work());
        Ok(Jobs { shared, thread: Mutex::new(Some(thread.map_err(|e| e.to_string())?)) })
    }

    /// How many jobs go on now.
    pub fn waiting(&self) -> usize {
        self.shared.state().jobs.iter().filter(|j| j.record.status == Status::Queued).count()
    }

    /// Begins no job any more, and has the one that runs written down behind its step.
    pub fn end(&self) {
        let mut state = self.shared.state();
        state.ending = true;
        state.jobs.iter().for_each(|j| j.stop.ask());
        drop(state);
        self.shared.tell();
    }

    /// Waits for the thread, after [`Jobs::end`]. Whether it ended in time; if not, its last checkpoint is there.
    pub fn wait(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return true };
        while !thread.is_finished() {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // Its panics were told already.
        let _ = thread.join();
        true
    }

    pub(crate) fn bases(&self) -> Vec<String> {
        self.shared.tuner.bases()
    }

    /// What opens the models that came of jobs.
    pub(crate) fn library(&self) -> impl Library + use<> {
        Tuned(self.shared.clone())
    }

    /// The models that came of jobs.
    pub(crate) fn models(&self) -> Vec<String> {
        self.library().list().into_iter().map(|listed| listed.name).collect()
    }

    /// The model below one that came of a job, and the file of its adapter.
    pub(crate) fn adapter(&self, name: &str) -> Option<(String, PathBuf)> {
        let state = self.shared.state();
        let done = |j: &&Job| j.record.status == Status::Succeeded && j.record.model() == name;
        let record = &state.jobs.iter().find(done)?.record;
        Some((record.base.clone(), self.shared.folder.join(&record.id).join("run").join("adapter.gguf")))
    }

    pub(crate) fn add_file(&self, owner: &str, text: Text) -> Result<FileCard> {
        self.shared.state().files.add(owner, text, now())
    }

    pub(crate) fn files(&self, owner: &str) -> Vec<FileCard> {
        self.shared.state().files.list(owner)
    }

    pub(crate) fn file(&self, owner: &str, id: &str) -> Result<FileCard> {
        self.shared.state().files.find(owner, id)
    }

    pub(crate) fn content(&self, owner: &str, id: &str) -> Result<Text> {
        let state = self.shared.state();
        state.files.read(&state.files.find(owner, id)?)
    }

    pub(crate) fn remove_file(&self, owner: &str, id: &str) -> Result<()> {
        self.shared.state().files.remove(owner, id)
    }

    fn order(&self, owner: &str, wish: &Wish) -> Result<Order> {
        let bases = self.bases();
        if !bases.contains(&wish.base) {
            let shown: String = wish.base.chars().take(80).collect();
            let line = format!("\"{shown}\" cannot be trained here; those that can: {}", bases.join(", "));
            return Err(ApiError::missing("model_not_found", line).at("model"));
        }
        let data = self.content(owner, &wish.training).map_err(|e| e.at("training_file"))?;
        let validation = wish.validation.as_deref().map(|id| self.content(owner, id)).transpose();
        let validation = validation.map_err(|e| e.at("validation_file"))?;
        order(wish.base.clone(), data, validation, &wish.asked, (wish.seed, now()))
    }

    /// What a run would do and take; the problems of its data, where it has any.
    pub(crate) fn plan(
        &self,
        owner: &str,
        wish: &Wish,
    ) -> Result<std::result::Result<(Plan, Option<f64>), Vec<Problem>>> {
        let order = self.order(owner, wish)?;
        // A measurement beside a run would measure that run, too.
        let runs = self.shared.state().jobs.iter().any(|j| j.record.status == Status::Running);
        match self.shared.tuner.plan(&order, wish.measure && !runs) {
            Ok(plan) => {
                let seconds = plan.step_seconds.map(|s| s * plan.steps as f64);
                let seconds = seconds.or_else(|| Some(plan.tokens as f64 / self.rate(&wish.base)?));
                Ok(Ok((plan, seconds)))
            }
            Err(Refused::Data(problems)) => Ok(Err(problems)),
            Err(Refused::Line(line)) => Err(ApiError::bad("invalid_value", line)),
        }
    }

    /// Tokens a second of the last job on a model.
    fn rate(&self, base: &str) -> Option<f64> {
        let state = self.shared.state();
        let rate = |j: &Job| j.last.as_ref()?["tokens_per_s"].as_f64().filter(|r| *r > 0.0);
        state.jobs.iter().rev().filter(|j| j.record.base == base).find_map(rate)
    }

    /// Makes a job.
    pub(crate) fn create(&self, owner: &str, wish: Wish, id: u64, names: &[String]) -> Result<Value> {
        let id = format!("ftjob-{id:016x}");
        let suffix = wish.suffix.clone().unwrap_or_else(|| id[6..14].to_owned());
        let order = self.order(owner, &wish)?;
        let plan = match self.shared.tuner.plan(&order, false) {
            Ok(plan) => plan,
            Err(Refused::Line(line)) => return Err(ApiError::bad("invalid_value", line)),
            Err(Refused::Data(problems)) => {
                let first = problems.first().map(Problem::line).unwrap_or_default();
                let more = match problems.len() {
                    0 | 1 => String::new(),
                    n => format!("; {} more of this kind (POST /v1/fine_tuning/plan tells all)", n - 1),
                };
                let line = format!("{first}{more}");
                return Err(ApiError::bad("invalid_training_file", line).at("training_file"));
            }
        };
        if let Some(line) = plan.no_room {
            return Err(ApiError::bad("not_enough_memory", line));
        }
        let source = |id: &str| self.file(owner, id).map(|f| Source { id: f.id, name: f.name });
        let record = Record {
            id: id.clone(),
            owner: owner.to_owned(),
            base: wish.base,
            suffix,
            training: source(&wish.training)?,
            validation: wish.validation.as_deref().map(source).transpose()?,
            asked: wish.asked,
            seed: wish.seed,
            created: order.now as u64,
            started: None,
            finished: None,
            status: Status::Queued,
            error: None,
            steps: plan.steps,
            tokens: plan.tokens,
            messages: Vec::new(),
        };
        let model = record.model();
        let mut state = self.shared.state();
        let taken = names.contains(&model) || state.jobs.iter().any(|j| j.record.model() == model);
        if taken {
            let line = format!("there is a \"{model}\" already; give another name by \"suffix\"");
            return Err(ApiError::value("suffix", line));
        }
        if state.jobs.len() >= MOST {
            let line = format!("{MOST} jobs are kept here and no more; delete one that has ended");
            return Err(ApiError::bad("too_many_jobs", line));
        }
        let folder = self.shared.folder.join(&id);
        let mut job = Job::new(record);
        job.say(now(), "info", format!("{} steps are to do on {}", plan.steps, plan.counts));
        disk::folder(&folder)
            .and_then(|()| disk::write(&folder.join("data"), &order.data.bytes))
            .and_then(|()| {
                order.validation.iter().try_for_each(|v| disk::write(&folder.join("validation"), &v.bytes))
            })
            // The record comes last: a job is there once it is.
            .and_then(|()| self.shared.write(&job.record))
            .map_err(kept)?;
        let json = job.json();
        state.jobs.push(job);
        drop(state);
        self.shared.tell();
        Ok(json)
    }

    /// The jobs of an owner, the newest first.
    pub(crate) fn list(&self, owner: &str) -> Vec<Value> {
        self.shared.state().jobs.iter().rev().filter(|j| j.record.owner == owner).map(Job::json).collect()
    }

    pub(crate) fn find(&self, owner: &str, id: &str) -> Result<Value> {
        Ok(self.shared.state().job(owner, id)?.json())
    }

    /// What happened behind a number, and whether nothing more comes.
    pub(crate) fn rows(&self, owner: &str, id: &str, after: u64) -> Result<(Vec<Row>, bool)> {
        let mut state = self.shared.state();
        let ending = state.ending;
        let job = state.job(owner, id)?;
        let rows = job.rows.iter().filter(|r| r.number > after).cloned().collect();
        Ok((rows, ending || job.record.status.is_over() || job.record.status == Status::Paused))
    }

    /// Is told of everything that happens.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Pauses, goes on or ends a job.
    pub(crate) fn ask(&self, owner: &str, id: &str, ask: Ask) -> Result<Value> {
        let mut state = self.shared.state();
        let job = state.job(owner, id)?;
        let status = job.record.status;
        let to = match (ask, status) {
            (Ask::Pause | Ask::Cancel, Status::Running) => {
                job.wanted = if ask == Ask::Pause { Wanted::Pause } else { Wanted::Cancel };
                job.stop.ask();
                None
            }
            (Ask::Pause, Status::Queued) => Some((Status::Paused, "paused before it ran")),
            (Ask::Cancel, Status::Queued | Status::Paused) => Some((Status::Cancelled, "cancelled")),
            // What failed may go on from its last checkpoint, once its cause is gone.
            (Ask::Resume, Status::Paused | Status::Failed) => {
                Some((Status::Queued, "goes on as soon as it can"))
            }
            _ => {
                let what = match ask {
                    Ask::Pause => "paused",
                    Ask::Resume => "resumed",
                    Ask::Cancel => "cancelled",
                };
                let line = format!("the job is {} and cannot be {what}", status.name());
                return Err(ApiError::bad("invalid_state", line));
            }
        };
        if let Some((status, line)) = to {
            job.record.status = status;
            job.record.error = None;
            job.record.finished = (status == Status::Cancelled).then(now);
            job.say(now(), "info", line);
            self.shared.write(&job.record).map_err(kept)?;
        }
        let json = job.json();
        drop(state);
        self.shared.tell();
        Ok(json)
    }

    /// The name of the model of a job that can be removed.
    pub(crate) fn removable(&self, owner: &str, id: &str) -> Result<String> {
        let mut state = self.shared.state();
        let job = state.job(owner, id)?;
        match job.record.status {
            Status::Queued | Status::Running => {
                let line = format!("the job is {}; cancel it first", job.record.status.name());
                Err(ApiError::bad("invalid_state", line))
            }
            _ => Ok(job.record.model()),
        }
    }

    /// Removes a job with all that came of it.
    pub(crate) fn remove(&self, owner: &str, id: &str) -> Result<()> {
        self.removable(owner, id)?;
        let mut state = self.shared.state();
        disk::remove(&self.shared.folder.join(id)).map_err(kept)?;
        state.jobs.retain(|j| j.record.id != id);
        drop(state);
        self.shared.tell();
        Ok(())
    }

    /// What adds a job's adapter into the weights of its model.
    pub(crate) fn merging(&self, owner: &str, id: &str) -> Result<Task> {
        let mut state = self.shared.state();
        let record = &state.job(owner, id)?.record;
        if record.status != Status::Succeeded {
            let line = format!("the job is {}, and has no adapter yet", record.status.name());
            return Err(ApiError::bad("invalid_state", line));
        }
        let run = self.shared.folder.join(&record.id).join("run");
        let (job, base, name) = (record.id.clone(), record.base.clone(), record.model());
        Ok(Task::Merge { job, base, name, adapter: run.join("adapter.gguf"), to: run.join(MERGED) })
    }

    /// A file that came of a job: its bytes' place, type and the name to keep it by.
    pub(crate) fn result(
        &self,
        owner: &str,
        id: &str,
        file: &str,
    ) -> Result<(PathBuf, &'static str, String)> {
        let mut state = self.shared.state();
        let record = &state.job(owner, id)?.record;
        let Some((name, kind)) = RESULTS.iter().find(|(name, _)| *name == file) else {
            let known: Vec<&str> = RESULTS.iter().map(|r| r.0).collect();
            let shown: String = file.chars().take(80).collect();
            let line = format!("a job has no \"{shown}\"; it has {}", known.join(", "));
            return Err(ApiError::missing("file_not_found", line));
        };
        let path = self.shared.folder.join(&record.id).join("run").join(name);
        match path.is_file() {
            true => Ok((path, kind, format!("{}-{name}", record.suffix))),
            false => {
                let line = format!("the job is {}, and there is no {name} yet", record.status.name());
                Err(ApiError::missing("file_not_found", line))
            }
        }
    }
}

impl Problem {
    /// One line.
    fn line(&self) -> String {
        let place = self.place.as_ref().map(|p| format!(": {p}")).unwrap_or_default();
        format!("{}{place}: {}", self.file, self.what)
    }
}
