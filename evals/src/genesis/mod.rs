//! Training data from a student's failures: passages become multiple-choice questions, a student answers them, and a
//! teacher writes a document from each answer: what went wrong where it is wrong or cannot be read, and every option
//! weighed where it is right. Near-duplicates, overlaps with test sets and what fails the checks are removed.
//!
//! A run has a folder. Passages are cut into shards, each with a file a stage, a line a question: a line that is there
//! is never made again, so that a run which was stopped goes on, several processes can take different shards, and the
//! result is the same. [`finish`] then reads all shards and writes the data with its manifest.

pub mod finish;
pub mod minhash;
pub mod prompts;
mod rules;
pub mod stages;
mod write;

pub use rules::Rules;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::ask::{Answer, Drawing, Generate, Job};
use crate::hash::hash_all;
use crate::question::Question;
use crate::{Error, Result, records};

/// A text that questions are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Its name.
    pub id: String,
    /// What it says.
    pub text: String,
    /// What it is about; only [`Rules`] needs it.
    pub name: String,
    /// What kind of thing that is.
    pub kind: String,
    /// Questions that it answers, with the answers, in an order that all passages of a kind share.
    pub facts: Vec<(String, String)>,
}

/// Reads passages one after the other: records with `text`, and perhaps `id`, `name`, `kind` and `facts`.
///
/// # Errors
/// The file's; a record without a text; what `each` returns.
pub fn passages(path: &Path, each: &mut dyn FnMut(Passage) -> Result<()>) -> Result<()> {
    records::read(path, true, &mut |place, record| {
        let of =
            |key: &str| record.get(key).and_then(Value::as_str).map(str::trim).unwrap_or_default().to_owned();
        let text = of("text");
        if text.is_empty() {
            let have: Vec<&str> = record.keys().map(String::as_str).collect();
            return Err(Error::Row {
                file: path.display().to_string(),
                place: place.to_owned(),
                what: format!("has no \"text\", which a passage needs; it has {}", have.join(", ")),
            });
        }
        let pair = |v: &Value| Some((v.get(0)?.as_str()?.to_owned(), v.get(1)?.as_str()?.to_owned()));
        let facts = record.get("facts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let id = match of("id") {
            id if id.is_empty() => format!("{:016x}", hash_all(&[&text])),
            id => id,
        };
        let facts = facts.iter().filter_map(pair).collect();
        each(Passage { id, text, name: of("name"), kind: of("kind"), facts })
    })
}

/// How documents about failures are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A section of a textbook.
    Textbook,
    /// Questions and answers.
    Questions,
    /// An article for the web.
    Article,
    /// A conversation of a teacher and a learner.
    Dialogue,
}

impl Style {
    /// All of them.
    pub const ALL: [Style; 4] = [Style::Textbook, Style::Questions, Style::Article, Style::Dialogue];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Style::Textbook => "textbook",
            Style::Questions => "questions",
            Style::Article => "article",
            Style::Dialogue => "dialogue",
        }
    }

    /// The one of that name.
    pub fn parse(name: &str) -> Option<Style> {
        Style::ALL.into_iter().find(|s| s.name() == name)
    }
}

/// A multiple-choice question with what leads to each wrong option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// What is asked.
    pub text: String,
    /// Four of them.
    pub options: Vec<String>,
    /// The right one.
    pub right: usize,
    /// For each option the misconception behind it; empty for the right one.
    pub misconceptions: Vec<String>,
}

impl Made {
    /// As a question that can be asked.
    pub fn question(&self, id: &str) -> Question {
        Question {
            id: id.to_owned(),
            subject: "genesis".to_owned(),
            context: None,
            text: self.text.clone(),
            options: self.options.clone(),
            right: self.right,
            answer: self.options[self.right].clone(),
        }
    }
}

/// What a student made of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The right option.
    Right,
    /// This one, which is wrong.
    Wrong(usize),
    /// None, or several.
    Unreadable,
}

/// What a teacher is asked for.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// The `number`-th question of a passage.
    Question {
        /// The passage that it is about.
        passage: Passage,
        /// 0 for the first.
        number: usize,
        /// How often it was tried before.
        attempt: u32,
    },
    /// A document about an answer.
    Document {
        /// The passage that the question came from.
        passage: Passage,
        /// The question.
        question: Made,
        /// What the student made of it.
        verdict: Verdict,
        /// What the student said.
        said: String,
        /// How a document about a failure is written.
        style: Style,
    },
}

/// Who makes questions and writes documents.
pub trait Teacher {
    /// Who it is, for the manifest.
    fn name(&self) -> String;

    /// Answers all of `wanted`, in any order: questions as JSON, documents as text.
    ///
    /// # Errors
    /// What failed; what was told before stands.
    fn teach(
        &mut self,
        wanted: &[Wanted],
        seed: u32,
        done: &mut dyn FnMut(usize, Answer) -> Result<()>,
    ) -> Result<()>;
}

/// A teacher that is a model.
pub struct Model<'a>(pub &'a mut dyn Generate);

impl Teacher for Model<'_> {
    fn name(&self) -> String {
        self.0.name()
    }

    fn teach(
        &mut self,
        wanted: &[Wanted],
        seed: u32,
        done: &mut dyn FnMut(usize, Answer) -> Result<()>,
    ) -> Result<()> {
        let jobs: Vec<Job> = wanted.iter().map(|w| prompts::job(w, seed)).collect();
        self.0.generate(&jobs, done)
    }
}

/// What a run is made with.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The passages' file.
    pub passages: PathBuf,
    /// The folder.
    pub folder: PathBuf,
    /// Passages of a shard.
    pub shard: usize,
    /// Questions of a passage.
    pub questions: usize,
    /// The styles that documents about failures come in.
    pub styles: Vec<Style>,
    /// Seed of all draws.
    pub seed: u32,
    /// How the student draws.
    pub student: Drawing,
    /// Tokens of the student's answer at most.
    pub student_tokens: usize,
    /// Documents as alike as this, by the share of runs of five words that two have in common, are one.
    pub alike: f64,
    /// Characters of a document at least and at most.
    pub length: (usize, usize),
    /// Whether documents must be English.
    pub english: bool,
}

/// Lines of one stage of one shard, by question.
pub type Lines = BTreeMap<String, Map<String, Value>>;

impl Settings {
    /// The folder of a shard.
    pub fn shard_folder(&self, shard: usize) -> PathBuf {
        self.folder.join("shards").join(format!("{shard:05}"))
    }

    /// The passages of a shard.
    ///
    /// # Errors
    /// As [`passages`].
    pub fn read_shard(&self, shard: usize) -> Result<Vec<Passage>> {
        let mut all = Vec::new();
        let mut at = 0;
        passages(&self.passages, &mut |p| {
            if at / self.shard == shard {
                all.push(p);
            }
            at += 1;
            Ok(())
        })?;
        Ok(all)
    }

    /// How many shards there are.
    ///
    /// # Errors
    /// As [`passages`].
    pub fn shards(&self) -> Result<usize> {
        let mut count = 0usize;
        passages(&self.passages, &mut |_| {
            count += 1;
            Ok(())
        })?;
        Ok(count.div_ceil(self.shard))
    }

    /// The style of a question's document, which follows from its name.
    pub fn style(&self, id: &str) -> Style {
        let at = hash_all(&[id, "style"]) as usize % self.styles.len().max(1);
        self.styles.get(at).copied().unwrap_or(Style::Textbook)
    }
}
