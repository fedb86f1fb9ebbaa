//! A job as it is written down, and what is seen of it while it runs.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use weft_models::finetune::Step;

use super::Stop;

/// Steps of a curve that are kept; of more, every second of the older ones goes.
const POINTS: usize = 4096;

/// Sentences of a job that are kept.
const MESSAGES: usize = 64;

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Queued,
    Running,
    Paused,
    Succeeded,
    Failed,
    Cancelled,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Status::Queued => "queued",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Succeeded => "succeeded",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
        }
    }

    /// Whether nothing comes any more, unless somebody asks for it.
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Status::Succeeded | Status::Failed | Status::Cancelled)
    }
}

/// Data of a job: the file that it was copied from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Source {
    pub(super) id: String,
    pub(super) name: String,
}

/// A sentence.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Message {
    pub(super) at: u64,
    pub(super) level: String,
    pub(super) text: String,
}

/// What is written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    /// Whose it is.
    pub(super) owner: String,
    pub(super) base: String,
    /// The name behind the base's.
    pub(super) suffix: String,
    pub(super) training: Source,
    pub(super) validation: Option<Source>,
    /// Hyper-parameters as they were asked for.
    pub(super) asked: Map<String, Value>,
    pub(super) seed: u64,
    pub(super) created: u64,
    pub(super) started: Option<u64>,
    pub(super) finished: Option<u64>,
    pub(super) status: Status,
    pub(super) error: Option<String>,
    pub(super) steps: u64,
    /// Tokens of the whole run.
    pub(super) tokens: u64,
    pub(super) messages: Vec<Message>,
}

impl Record {
    /// The name that the result answers to.
    pub(super) fn model(&self) -> String {
        format!("{}+{}", self.base, self.suffix)
    }
}

/// Something that happened.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Counted up within this process.
    pub(crate) number: u64,
    pub(crate) at: u64,
    pub(crate) level: &'static str,
    pub(crate) message: String,
    /// The numbers of a step.
    pub(crate) data: Option<Value>,
}

impl Row {
    fn step(&self) -> Option<u64> {
        self.data.as_ref()?["step"].as_u64()
    }

    fn is_validation(&self) -> bool {
        self.data.as_ref().is_some_and(|d| !d["valid_loss"].is_null())
    }

    /// As OpenAI's clients read it.
    pub(crate) fn json(&self, job: &str) -> Value {
        json!({
            "object": "fine_tuning.job.event",
            "id": format!("ftevent-{}-{}", job.trim_start_matches("ftjob-"), self.number),
            "created_at": self.at,
            "level": self.level,
            "message": self.message,
            "type": if self.data.is_some() { "metrics" } else { "message" },
            "data": self.data,
        })
    }
}

/// What somebody asked of a job that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Nothing,
    Pause,
    Cancel,
}

/// A job in memory.
pub(super) struct Job {
    pub(super) record: Record,
    pub(super) rows: Vec<Row>,
    next: u64,
    pub(super) wanted: Wanted,
    pub(super) stop: Stop,
    /// The last step.
    pub(super) last: Option<Value>,
    /// The last validation loss.
    pub(super) valid: Option<f64>,
    /// Batches of a validation that runs.
    pub(super) validating: Option<(usize, usize)>,
    /// The step of the last checkpoint.
    pub(super) saved: u64,
    /// The sum of the tokens of all steps.
    pub(super) trained: u64,
}

impl Job {
    pub(super) fn new(record: Record) -> Job {
        Job {
            record,
            rows: Vec::new(),
            next: 0,
            wanted: Wanted::Nothing,
            stop: Stop::default(),
            last: None,
            valid: None,
            validating: None,
            saved: 0,
            trained: 0,
        }
    }

    /// One that was written down, with the steps that its run measured.
    pub(super) fn load(record: Record, metrics: &Path) -> Job {
        let steps = record.steps;
        let (created, messages) = (record.created, record.messages.clone());
        let mut job = Job::new(record);
        for m in messages {
            let level = if m.level == "error" { "error" } else { "info" };
            job.row(m.at, level, m.text, None);
        }
        let text = std::fs::read(metrics).unwrap_or_default();
        for line in String::from_utf8_lossy(&text).lines() {
            // A line may be cut off where the process was killed.
            let Ok(Value::Object(m)) = serde_json::from_str::<Value>(line) else { break };
            let of = |key: &str| m.get(key).cloned().unwrap_or_default();
            let data = json!({
                "step": of("step"), "total_steps": steps, "epoch": of("epoch"),
                "train_loss": of("loss"), "train_mean_token_accuracy": of("accuracy"),
                "valid_loss": of("val_loss"), "valid_mean_token_accuracy": of("val_accuracy"),
                "learning_rate": of("lr"), "grad_norm": of("grad_norm"), "tokens": of("tokens"),
                "tokens_per_s": of("tokens_per_s"), "skipped": of("skipped"),
            });
            job.metrics(created, data);
        }
        job
    }

    fn row(&mut self, at: u64, level: &'static str, message: String, data: Option<Value>) {
        self.next += 1;
        self.rows.push(Row { number: self.next, at, level, message, data });
    }

    /// Adds a sentence, which is written down with the record.
    pub(super) fn say(&mut self, at: u64, level: &'static str, text: impl Into<String>) {
        let text = text.into();
        let all = &mut self.record.messages;
        all.push(Message { at, level: level.into(), text: text.clone() });
        let old = all.len().saturating_sub(MESSAGES);
        all.drain(..old);
        self.row(at, level, text, None);
    }

    /// Adds a step. A run that goes on from a checkpoint measures some again.
    fn metrics(&mut self, at: u64, data: Value) {
        let step = data["step"].as_u64().unwrap_or(0);
        if self.last.as_ref().and_then(|l| l["step"].as_u64()).is_some_and(|last| last >= step) {
            self.rows.retain(|r| r.step().is_none_or(|s| s < step));
        }
        self.valid = data["valid_loss"].as_f64().or(self.valid);
        let number = |name: &str| data[name].as_f64().unwrap_or(f64::NAN);
        let mut line = format!("step {step}: loss {:.4}", number("train_loss"));
        if let Some(valid) = data["valid_loss"].as_f64() {
            line += &format!(", validation loss {valid:.4}");
        }
        let level = match data["skipped"] == true {
            true => {
                line = format!("step {step} was skipped: its loss or gradient is not finite");
                "warn"
            }
            false => "info",
        };
        self.trained += data["tokens"].as_u64().unwrap_or(0);
        self.last = Some(data.clone());
        self.row(at, level, line, Some(data));
        self.thin();
    }

    /// Every second step of the first half goes where there are too many, but for those with a validation.
    fn thin(&mut self) {
        if self.rows.len() < POINTS {
            return;
        }
        let (half, mut odd) = (self.rows.len() / 2, false);
        let mut at = 0;
        self.rows.retain(|r| {
            at += 1;
            if at > half || r.data.is_none() || r.is_validation() {
                return true;
            }
            odd = !odd;
            odd
        });
    }

    /// Adds a step as the run tells it.
    pub(super) fn step(&mut self, at: u64, s: &Step) {
        self.validating = None;
        let data = json!({
            "step": s.step, "total_steps": s.steps, "epoch": s.epoch,
            "train_loss": s.loss, "train_mean_token_accuracy": s.accuracy,
            "valid_loss": s.val.map(|v| v.0), "valid_mean_token_accuracy": s.val.map(|v| v.1),
            "learning_rate": s.lr, "grad_norm": s.grad_norm, "tokens": s.tokens,
            "tokens_per_s": s.tokens_per_s, "seconds_left": s.seconds_left, "memory": s.memory, "skipped": s.skipped,
        });
        self.metrics(at, data);
    }

    /// As OpenAI's clients read it, with `progress` beside.
    pub(super) fn json(&self) -> Value {
        let r = &self.record;
        let done = r.status == Status::Succeeded;
        let last = |name: &str| self.last.as_ref().map(|l| l[name].clone()).unwrap_or_default();
        let left = last("seconds_left").as_f64().filter(|_| r.status == Status::Running);
        json!({
            "object": "fine_tuning.job",
            "id": r.id,
            "created_at": r.created,
            "started_at": r.started,
            "finished_at": r.finished,
            "estimated_finish": left.map(|s| crate::app::now() + s as u64),
            "status": r.status.name(),
            "model": r.base,
            "fine_tuned_model": done.then(|| r.model()),
            "user_provided_suffix": r.suffix,
            "organization_id": "weft",
            "training_file": r.training.id,
            "validation_file": r.validation.as_ref().map(|v| &v.id),
            "hyperparameters": r.asked,
            "method": { "type": "supervised", "supervised": { "hyperparameters": r.asked } },
            "seed": r.seed,
            "trained_tokens": done.then_some(self.trained),
            "error": r.error.as_ref().map(|line| json!({ "code": "training_failed", "message": line, "param": null })),
            "result_files": [],
            "integrations": [],
            "progress": {
                "step": last("step").as_u64().unwrap_or(0),
                "steps": r.steps,
                "train_loss": last("train_loss"),
                "valid_loss": self.valid,
                "tokens_per_s": last("tokens_per_s"),
                "seconds_left": left,
                "memory": last("memory"),
                "saved_step": self.saved,
                "validating": self.validating.map(|(done, of)| json!([done, of])),
                "stopping": match self.wanted {
                    Wanted::Nothing => None,
                    Wanted::Pause => Some("paused"),
                    Wanted::Cancel => Some("cancelled"),
                },
            },
        })
    }
}
