//! Evaluations: questions that a model is asked, and its answers scored; one evaluation at a time.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::error::{ApiError, Result};
use crate::lane::{Each, Kind, Lane, Turn};
use crate::tuning::{Jobs, Stop, Text};

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

type One = Turn<Exam, Vec<Score>>;

fn told(one: &One) -> Value {
    let exam = &one.what;
    let suite = match &exam.suite {
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
        "object": "evaluation", "model": exam.model, "suite": suite, "limit": exam.limit, "seed": exam.seed,
        "max_tokens": exam.max_tokens, "answered": one.at.0, "questions": one.at.1,
        "scores": one.done.iter().flatten().map(score).collect::<Vec<_>>(),
    })
}

/// All evaluations, and the thread that runs them.
pub struct Exams {
    examiner: Arc<dyn Examiner>,
    pub(crate) lane: Lane<Exam, Vec<Score>>,
}

impl std::fmt::Debug for Exams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.lane.fmt(f)
    }
}

impl Exams {
    /// None yet.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn new(examiner: Arc<dyn Examiner>) -> std::io::Result<Exams> {
        let kind = Kind { noun: "evaluation", prefix: "eval", missing: "evaluation_not_found", json: told };
        let own = examiner.clone();
        let run = move |exam: &Exam, stop: &Stop, each: Each<'_>| {
            own.examine(exam, stop, &mut |done, of| each(done, of, ""))
        };
        Ok(Exams { examiner, lane: Lane::new("exams", kind, Box::new(run))? })
    }

    /// Who can be asked.
    pub(crate) fn examinees(&self, jobs: Option<&Jobs>) -> Vec<String> {
        let mut all = self.examiner.examinees();
        all.extend(jobs.into_iter().flat_map(Jobs::models));
        all
    }

    pub(crate) fn create(&self, owner: &str, exam: Exam, id: u64) -> Result<Value> {
        self.examiner.check(&exam).map_err(|line| ApiError::bad("invalid_value", line))?;
        self.lane.create(owner, exam, id)
    }
}
