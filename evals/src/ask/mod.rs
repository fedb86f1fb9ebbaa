//! Asking: who answers, with which prompt, and which option an answer names.

pub mod extract;
pub mod prompt;
mod words;

use serde_json::Value;

use crate::Result;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Turn {
    /// A message.
    pub fn new(role: &str, content: impl Into<String>) -> Turn {
        Turn { role: role.to_owned(), content: content.into() }
    }
}

/// How tokens are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawing {
    /// 0 takes the likeliest token each.
    pub temperature: f32,
    /// Keep the K likeliest; 0 keeps all.
    pub top_k: u32,
    /// Keep the fewest that together have this probability.
    pub top_p: f32,
    /// The same seed gives the same text.
    pub seed: u32,
}

impl Drawing {
    /// The likeliest token each.
    pub const GREEDY: Drawing = Drawing { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 };
}

/// A text that is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The conversation up to the answer.
    pub turns: Vec<Turn>,
    /// How it is drawn.
    pub drawing: Drawing,
    /// Tokens at most.
    pub max_tokens: usize,
    /// Whether to think first, for models that can be told; `None` leaves it to the model.
    pub thinking: Option<bool>,
    /// A JSON schema that the answer follows. An endpoint is told so; where nobody can promise it, the answer is
    /// checked all the same.
    pub schema: Option<Value>,
}

impl Job {
    /// A job of one user's message, greedy.
    pub fn user(text: impl Into<String>, max_tokens: usize) -> Job {
        let turns = vec![Turn::new("user", text)];
        Job { turns, drawing: Drawing::GREEDY, max_tokens, thinking: None, schema: None }
    }
}

/// A text that was drawn.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// All of it, thinking included.
    pub text: String,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub tokens: u64,
    /// Whether it was cut at its most tokens.
    pub cut: bool,
    /// From its start to its end, shared with whatever was drawn at the same time.
    pub seconds: f64,
}

/// Somebody who answers.
pub trait Generate {
    /// Who it is, for results.
    fn name(&self) -> String;

    /// Answers all of `jobs`, telling `done` (number, answer) in whatever order they end. An error that `done`
    /// returns ends it all.
    ///
    /// # Errors
    /// What failed; what was told before stands.
    fn generate(&mut self, jobs: &[Job], done: &mut dyn FnMut(usize, Answer) -> Result<()>) -> Result<()>;
}

/// A prompt with texts that could follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What comes before.
    pub prompt: String,
    /// What may follow, each with the space that it begins with.
    pub endings: Vec<String>,
}

/// How likely endings are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scored {
    /// The sum of the log-probabilities of each ending's tokens, in nats.
    pub loglikelihoods: Vec<f64>,
    /// Tokens of the prompt and of all endings.
    pub tokens: u64,
    /// What it took.
    pub seconds: f64,
}

/// Somebody who says how likely a text is.
pub trait Score {
    /// Who it is, for results.
    fn name(&self) -> String;

    /// Scores all of `items`, telling `done` (number, scores) in whatever order. An error that `done` returns ends it.
    ///
    /// # Errors
    /// What failed; what was told before stands.
    fn score(&mut self, items: &[Item], done: &mut dyn FnMut(usize, Scored) -> Result<()>) -> Result<()>;
}
