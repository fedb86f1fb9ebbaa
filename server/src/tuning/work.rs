//! The thread that runs the jobs, and what it shares with those who ask for them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use weft_models::finetune::{Event, State as Ended};

use super::files::Files;
use super::order::settings;
use super::record::{Job, Record, Source, Status, Wanted};
use super::{Order, Stop, Text, Told, Tuner};
use crate::app::now;
use crate::disk;
use crate::error::{ApiError, Result};
use crate::shelf::{Library, Listed, Opened, Unopened};

pub(super) struct State {
    pub(super) files: Files,
    /// In the order in which they were made.
    pub(super) jobs: Vec<Job>,
    pub(super) ending: bool,
}

pub(super) struct Shared {
    pub(super) folder: PathBuf,
    pub(super) tuner: Arc<dyn Tuner>,
    pub(super) state: Mutex<State>,
    pub(super) wake: Condvar,
    /// Counts what happened.
    pub(super) changed: watch::Sender<u64>,
    /// Held as long as this server is there, so that no other runs the same jobs.
    pub(super) _lock: Option<std::fs::File>,
}

impl State {
    pub(super) fn job(&mut self, owner: &str, id: &str) -> Result<&mut Job> {
        let found = self.jobs.iter_mut().find(|j| j.record.id == id && j.record.owner == owner);
        found.ok_or_else(|| {
            let shown: String = id.chars().take(80).collect();
            let line = format!("there is no job \"{shown}\": it was deleted, or is another key's");
            ApiError::missing("job_not_found", line)
        })
    }
}

/// Puts an order together.
pub(super) fn order(
    base: String,
    data: Text,
    validation: Option<Text>,
    asked: &serde_json::Map<String, Value>,
    (seed, now): (u64, u64),
) -> Result<Order> {
    let s = settings(asked, seed)?;
    // Data of its own stands before a share.
    let share = s.share.filter(|_| validation.is_none());
    Ok(Order {
        base,
        data,
        validation,
        share,
        recipe: s.recipe,
        save_every: s.save_every,
        eval_every: s.eval_every,
        now: now as i64,
    })
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self) {
        self.wake.notify_all();
        self.changed.send_modify(|n| *n += 1);
    }

    pub(super) fn write(&self, record: &Record) -> std::io::Result<()> {
        let bytes = serde_json::to_vec_pretty(record).map_err(std::io::Error::other)?;
        disk::write(&self.folder.join(&record.id).join("job.json"), &bytes)
    }

    /// Changes a job that is there, and writes it down if the change asks for it.
    fn change(&self, id: &str, change: impl FnOnce(&mut Job) -> bool) {
        let mut state = self.state();
        if let Some(job) = state.jobs.iter_mut().find(|j| j.record.id == id)
            && change(job)
        {
            // A disk that is full ends the run itself, which is told.
            let _ = self.write(&job.record);
        }
        drop(state);
        self.tell();
    }

    /// The thread: the oldest that waits runs.
    pub(super) fn work(&self) {
        while let Some((id, stop)) = self.next() {
            let ended = catch_unwind(AssertUnwindSafe(|| self.run(&id, &stop)));
            self.settle(&id, ended.unwrap_or_else(|_| Err("the training met a bug of its own".into())));
        }
    }

    fn next(&self) -> Option<(String, Stop)> {
        let mut state = self.state();
        loop {
            if state.ending {
                return None;
            }
            if let Some(job) = state.jobs.iter_mut().find(|j| j.record.status == Status::Queued) {
                job.stop = Stop::default();
                job.wanted = Wanted::Nothing;
                job.record.status = Status::Running;
                job.record.started.get_or_insert_with(now);
                job.say(now(), "info", "the model is made ready");
                let _ = self.write(&job.record);
                let next = (job.record.id.clone(), job.stop.clone());
                drop(state);
                self.tell();
                return Some(next);
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn run(&self, id: &str, stop: &Stop) -> std::result::Result<Ended, String> {
        let record = self.state().jobs.iter().find(|j| j.record.id == id).map(|j| j.record.clone());
        let record = record.ok_or("the job is gone")?;
        let folder = self.folder.join(id);
        let read = |name: &str, source: &Source| {
            let bytes = std::fs::read(folder.join(name)).map_err(|e| disk::plain(&e))?;
            Ok::<_, String>(Text { name: source.name.clone(), bytes })
        };
        let data = read("data", &record.training)?;
        let validation = record.validation.as_ref().map(|v| read("validation", v)).transpose()?;
        let order = order(record.base, data, validation, &record.asked, (record.seed, record.created));
        let order = order.map_err(|e| e.message)?;
        let run = folder.join("run");
        disk::folder(&run).map_err(|e| disk::plain(&e))?;
        self.tuner.run(&order, &run, stop, &mut |told| self.hear(id, told))
    }

    fn hear(&self, id: &str, told: Told) {
        self.change(id, |job| match told {
            Told::Ready { steps, done } => {
                job.record.steps = steps;
                job.saved = done;
                let line = match done {
                    0 => format!("training begins, {steps} steps"),
                    _ => format!("training goes on after step {done} of {steps}"),
                };
                job.say(now(), "info", line);
                true
            }
            Told::Event(Event::Step(s)) => {
                job.step(now(), &s);
                false
            }
            Told::Event(Event::Validating(done, of)) => {
                job.validating = Some((done, of));
                false
            }
            Told::Event(Event::Saved(_)) => {
                job.saved = job.last.as_ref().and_then(|l| l["step"].as_u64()).unwrap_or(job.saved);
                false
            }
            Told::Event(Event::State(_)) => false,
        });
    }

    fn settle(&self, id: &str, ended: std::result::Result<Ended, String>) {
        let ending = self.state().ending;
        self.change(id, |job| {
            let at = now();
            job.validating = None;
            let wanted = std::mem::replace(&mut job.wanted, Wanted::Nothing);
            let (status, level, line) = match ended {
                Ok(Ended::Completed) => {
                    let line = format!("done; the model answers as \"{}\"", job.record.model());
                    (Status::Succeeded, "info", line)
                }
                Ok(_) if wanted == Wanted::Cancel => (Status::Cancelled, "info", "cancelled".into()),
                Ok(_) if wanted == Wanted::Pause => {
                    (Status::Paused, "info", "paused; its memory is free".into())
                }
                // What a server that ends interrupts goes on with the next.
                _ if ending => (Status::Queued, "info", "goes on when the server is there again".into()),
                Ok(_) => (Status::Failed, "error", "the training stopped before its end".into()),
                Err(why) => {
                    job.record.error = Some(why.clone());
                    (Status::Failed, "error", why)
                }
            };
            job.record.status = status;
            job.record.finished = status.is_over().then_some(at);
            job.say(at, level, line);
            true
        });
    }
}

/// The models that came of jobs, opened when they are asked for.
pub(super) struct Tuned(pub(super) Arc<Shared>);

impl Library for Tuned {
    fn list(&self) -> Vec<Listed> {
        // An adapter that is done is never written again, so its job is its version.
        let listed = |job: &Job| Listed {
            name: job.record.model(),
            size: None,
            digest: Some(weft_formats::hex(&Sha256::digest(&job.record.id))),
            modified: job.record.finished,
        };
        let state = self.0.state();
        state.jobs.iter().filter(|j| j.record.status == Status::Succeeded).map(listed).collect()
    }

    fn open(&self, name: &str) -> std::result::Result<Opened, Unopened> {
        let state = self.0.state();
        let job =
            state.jobs.iter().find(|j| j.record.status == Status::Succeeded && j.record.model() == name);
        let record = job.map(|j| j.record.clone()).ok_or("it is gone")?;
        drop(state);
        let adapter = self.0.folder.join(&record.id).join("run").join("adapter.gguf");
        self.0.tuner.open(&record.base, name, &adapter)
    }
}
