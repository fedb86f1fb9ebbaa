//! Evaluations: questions that a model is asked, and its answers scored; one evaluation at a time, on a thread of its
//! own. They are in memory alone, so that a server that ends forgets them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::app::now;
use crate::error::{ApiError, Result};
use crate::tuning::{Jobs, Stop, Text};

/// How many are remembered.
const MOST: usize = 32;

/// How many may wait.
const WAITING: usize = 8;

/// What is asked.
#[derive(Debug, Clone)]
pub enum Suite {
    /// Questions whose answers are computed, of these domains, or of the core ones where none is named.
    Curriculum(Vec<String>),
    /// Questions of a file.
    File {
        /// The file.
        data: Text,
        /// Which column holds what, where its columns have other names than usual.
        columns: Option<String>,
        /// Whether the likeliest letter counts, in place of an answer that is written out.
        letters: bool,
    },
}

/// An evaluation as it was asked for.
#[derive(Debug, Clone)]
pub struct Exam {
    /// Who is asked.
    pub model: String,
    /// The model below and the adapter's file, where it is one that came of a job.
    pub adapter: Option<(String, PathBuf)>,
    /// What is asked.
    pub suite: Suite,
    /// How many questions.
    pub limit: u64,
    /// Draws the questions.
    pub seed: u64,
    /// Tokens of an answer at most.
    pub max_tokens: usize,
}

/// A line of the result.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// How it was asked.
    pub kind: String,
    /// What was asked: everything, or a part.
    pub part: String,
    /// Questions.
    pub total: u64,
    /// Share that is right, from 0 to 1.
    pub share: f64,
    /// The ends of its 95 % interval.
    pub interval: (f64, f64),
}

/// Who asks the questions.
pub trait Examiner: Send + Sync {
    /// The models that can be asked, besides those that came of jobs.
    fn examinees(&self) -> Vec<String>;

    /// What is wrong with the questions, before they wait for their turn.
    ///
    /// # Errors
    /// That; the line names no path.
    fn check(&self, exam: &Exam) -> std::result::Result<(), String>;

    /// Asks, telling `each` how many questions of how many are answered.
    ///
    /// # Errors
    /// Why it ended; the line names no path.
    fn examine(
        &self,
        exam: &Exam,
        stop: &Stop,
        each: &mut dyn FnMut(u64, u64),
    ) -> std::result::Result<Vec<Score>, String>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Queued,
    Running,
    Completed,
    Failed,
    Cancelled,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Status::Queued => "queued",
            Status::Running => "running",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
        }
    }

    fn is_over(self) -> bool {
        !matches!(self, Status::Queued | Status::Running)
    }
}

struct One {
    id: String,
    owner: String,
    exam: Arc<Exam>,
    created: u64,
    finished: Option<u64>,
    status: Status,
    at: (u64, u64),
    scores: Vec<Score>,
    error: Option<String>,
    stop: Stop,
}

impl One {
    fn json(&self) -> Value {
        let suite = match &self.exam.suite {
            Suite::Curriculum(domains) => json!({ "name": "curriculum", "domains": domains }),
            Suite::File { data, letters, .. } => {
                json!({ "name": "file", "filename": data.name, "mode": if *letters { "letter" } else { "generate" } })
            }
        };
        let score = |s: &Score| {
            json!({
                "kind": s.kind, "part": s.part, "total": s.total, "share": s.share,
                "low": s.interval.0, "high": s.interval.1,
            })
        };
        json!({
            "object": "evaluation", "id": self.id, "created_at": self.created, "finished_at": self.finished,
            "model": self.exam.model, "suite": suite, "limit": self.exam.limit, "seed": self.exam.seed,
            "max_tokens": self.exam.max_tokens, "status": self.status.name(),
            "answered": self.at.0, "questions": self.at.1,
            "scores": self.scores.iter().map(score).collect::<Vec<_>>(), "error": self.error,
        })
    }
}

#[derive(Default)]
struct State {
    all: Vec<One>,
    ending: bool,
}

struct Shared {
    examiner: Arc<dyn Examiner>,
    state: Mutex<State>,
    wake: Condvar,
}

/// All evaluations, and the thread that runs them.
pub struct Exams(Arc<Shared>);

impl std::fmt::Debug for Exams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Exams({})", self.0.state().all.len())
    }
}

impl Exams {
    /// None yet.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn new(examiner: Arc<dyn Examiner>) -> std::io::Result<Exams> {
        let shared = Arc::new(Shared { examiner, state: Mutex::default(), wake: Condvar::new() });
        let own = shared.clone();
        std::thread::Builder::new().name("exams".into()).spawn(move || own.work())?;
        Ok(Exams(shared))
    }

    /// Ends the one that runs behind its next answer, and begins none any more.
    pub(crate) fn end(&self) {
        let mut state = self.0.state();
        state.ending = true;
        state.all.iter().for_each(|one| one.stop.ask());
        self.0.wake.notify_all();
    }

    /// Who can be asked.
    pub(crate) fn examinees(&self, jobs: Option<&Jobs>) -> Vec<String> {
        let mut all = self.0.examiner.examinees();
        all.extend(jobs.into_iter().flat_map(Jobs::models));
        all
    }

    pub(crate) fn create(&self, owner: &str, exam: Exam, id: u64) -> Result<Value> {
        self.0.examiner.check(&exam).map_err(|line| ApiError::bad("invalid_value", line))?;
        let mut state = self.0.state();
        if state.all.iter().filter(|one| one.status == Status::Queued).count() >= WAITING {
            return Err(ApiError::too_many("as many evaluations wait as may; try again later", 60));
        }
        if state.all.len() >= MOST
            && let Some(old) = state.all.iter().position(|one| one.status.is_over())
        {
            state.all.remove(old);
        }
        let one = One {
            id: format!("eval-{id:016x}"),
            owner: owner.to_owned(),
            at: (0, 0),
            exam: Arc::new(exam),
            created: now(),
            finished: None,
            status: Status::Queued,
            scores: Vec::new(),
            error: None,
            stop: Stop::default(),
        };
        let json = one.json();
        state.all.push(one);
        self.0.wake.notify_all();
        Ok(json)
    }

    /// Those of an owner, the newest first.
    pub(crate) fn list(&self, owner: &str) -> Vec<Value> {
        self.0.state().all.iter().rev().filter(|one| one.owner == owner).map(One::json).collect()
    }

    pub(crate) fn find(&self, owner: &str, id: &str) -> Result<Value> {
        Ok(self.0.state().one(owner, id)?.json())
    }

    pub(crate) fn cancel(&self, owner: &str, id: &str) -> Result<Value> {
        let mut state = self.0.state();
        let one = state.one(owner, id)?;
        match one.status {
            Status::Queued => {
                one.status = Status::Cancelled;
                one.finished = Some(now());
            }
            Status::Running => one.stop.ask(),
            over => {
                let line = format!("the evaluation is {} and cannot be cancelled", over.name());
                return Err(ApiError::bad("invalid_state", line));
            }
        }
        Ok(one.json())
    }
}

impl State {
    fn one(&mut self, owner: &str, id: &str) -> Result<&mut One> {
        let found = self.all.iter_mut().find(|one| one.id == id && one.owner == owner);
        found.ok_or_else(|| {
            let shown: String = id.chars().take(80).collect();
            let line =
                format!("there is no evaluation \"{shown}\": the server forgot it, or it is another key's");
            ApiError::missing("evaluation_not_found", line)
        })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut One)) {
        if let Some(one) = self.state().all.iter_mut().find(|one| one.id == id) {
            change(one);
        }
    }

    fn next(&self) -> Option<(String, Arc<Exam>, Stop)> {
        let mut state = self.state();
        loop {
            if state.ending {
                return None;
            }
            if let Some(one) = state.all.iter_mut().find(|one| one.status == Status::Queued) {
                one.status = Status::Running;
                return Some((one.id.clone(), one.exam.clone(), one.stop.clone()));
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self) {
        while let Some((id, exam, stop)) = self.next() {
            let mut each = |done, of| self.change(&id, |one| one.at = (done, of));
            let asked = catch_unwind(AssertUnwindSafe(|| self.examiner.examine(&exam, &stop, &mut each)));
            let asked = asked.unwrap_or_else(|_| Err("the evaluation met a bug of its own".into()));
            self.change(&id, |one| {
                one.finished = Some(now());
                match asked {
                    _ if stop.asked() => one.status = Status::Cancelled,
                    Ok(scores) => (one.status, one.scores) = (Status::Completed, scores),
                    Err(why) => (one.status, one.error) = (Status::Failed, Some(why)),
                }
            });
        }
    }
}
