//! What a question looks like to a model. Templates are texts with `{question}`, `{options}`, `{letters}`, `{context}`
//! and `{subject}` in them; a line that holds only an empty value goes.

use super::{Item, Turn};
use crate::hash::sha256;
use crate::question::{LETTERS, Question};
use crate::{Error, Result};

/// How a question is put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its name in results: one of [`TEMPLATES`], or `file`.
    pub name: String,
    /// The text.
    pub text: String,
    /// Questions with their answers that come first, put by the same template.
    pub shots: Vec<Question>,
}

/// Templates by name.
pub const TEMPLATES: [(&str, &str); 4] = [
    (
        "instruct",
        "{context}\n\n{question}\n\n{options}\n\nThink it through, then end with a line that says only \"Answer: \" \
         and the letter of the right option, one of {letters}.",
    ),
    // Zero-shot as Genesis is scored.
    ("plain", "{context}\n{question}\n{options}\nAnswer:"),
    ("question", "{context}\nQuestion: {question}\nAnswer:"),
    ("open", "{context}\n\n{question}\n\nEnd with a line that says only \"Answer: \" and the answer."),
];

impl Template {
    /// The template of that name.
    ///
    /// # Errors
    /// No such name.
    pub fn named(name: &str) -> Result<Template> {
        let found = TEMPLATES.iter().find(|t| t.0 == name);
        let known: Vec<&str> = TEMPLATES.iter().map(|t| t.0).collect();
        let (name, text) = found.ok_or_else(|| {
            Error::input(format!(
                "no template \"{name}\"; known: {}, or a file of your own",
                known.join(", ")
            ))
        })?;
        Ok(Template { name: (*name).to_owned(), text: (*text).to_owned(), shots: Vec::new() })
    }

    /// One of a person's own.
    ///
    /// # Errors
    /// A text without `{question}`.
    pub fn own(text: String) -> Result<Template> {
        match text.contains("{question}") {
            true => Ok(Template { name: "file".to_owned(), text, shots: Vec::new() }),
            false => Err(Error::input("a template needs {question} in it, where the question goes")),
        }
    }

    /// A hash of the text and the shots, for results.
    pub fn sha256(&self) -> String {
        let shots: Vec<String> =
            self.shots.iter().map(|s| format!("{}\n{}", self.fill(s), s.right_label())).collect();
        sha256(format!("{}\0{}", self.text, shots.join("\0")).as_bytes())
    }

    /// A question's text.
    pub fn fill(&self, q: &Question) -> String {
        let options: Vec<String> =
            q.options.iter().zip(LETTERS).map(|(text, letter)| format!("{letter}. {text}")).collect();
        let letters: Vec<String> = LETTERS[..q.options.len()].iter().map(char::to_string).collect();
        let values = [
            ("{question}", q.text.as_str()),
            ("{options}", &options.join("\n")),
            ("{letters}", &letters.join(", ")),
            ("{context}", q.context.as_deref().unwrap_or("")),
            ("{subject}", &q.subject.replace('_', " ")),
        ];
        let mut out = String::new();
        let mut rest = self.text.as_str();
        // One pass, so that braces within a question stay what they are.
        while let Some(at) = rest.find('{') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            match values.iter().find(|(name, _)| rest.starts_with(name)) {
                Some((name, "")) => {
                    rest = rest[name.len()..].trim_start_matches('\n');
                    let kept = out.trim_end_matches('\n').len();
                    if kept > 0 && !rest.is_empty() && kept < out.len() {
                        out.truncate(kept);
                        out.push_str("\n\n");
                    }
                }
                Some((name, value)) => {
                    out.push_str(value);
                    rest = &rest[name.len()..];
                }
                None => {
                    out.push('{');
                    rest = &rest[1..];
                }
            }
        }
        out + rest
    }

    /// The conversation that asks a question; shots are turns of it.
    pub fn turns(&self, q: &Question, system: Option<&str>) -> Vec<Turn> {
        let mut turns: Vec<Turn> = system.map(|s| Turn::new("system", s)).into_iter().collect();
        for shot in &self.shots {
            turns.push(Turn::new("user", self.fill(shot)));
            turns.push(Turn::new("assistant", format!("Answer: {}", shot.right_label())));
        }
        turns.push(Turn::new("user", self.fill(q)));
        turns
    }

    /// The text before the answer, with the shots before it, and what may follow.
    pub fn item(&self, q: &Question, kind: Likelihood) -> Item {
        let ending = |q: &Question, i: usize| match kind {
            Likelihood::Letter => format!(" {}", LETTERS[i]),
            Likelihood::Option | Likelihood::Normalised => format!(" {}", q.options[i]),
        };
        let shots: String =
            self.shots.iter().map(|s| format!("{}{}\n\n", self.fill(s), ending(s, s.right))).collect();
        Item {
            prompt: format!("{shots}{}", self.fill(q)),
            endings: (0..q.options.len()).map(|i| ending(q, i)).collect(),
        }
    }
}

/// What is compared by likelihood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likelihood {
    /// The options' letters behind a prompt that lists them.
    Letter,
    /// The options' texts.
    Option,
    /// The options' texts, each log-likelihood divided by its bytes.
    Normalised,
}

impl Likelihood {
    /// Its name in flags and results.
    pub fn name(self) -> &'static str {
        match self {
            Likelihood::Letter => "letter",
            Likelihood::Option => "option",
            Likelihood::Normalised => "normalised",
        }
    }

    /// The option with the most; the first of equals.
    pub fn pick(self, loglikelihoods: &[f64], options: &[String]) -> Option<usize> {
        let value = |i: usize| match self {
            Likelihood::Normalised => loglikelihoods[i] / options[i].len().max(1) as f64,
            _ => loglikelihoods[i],
        };
        (0..loglikelihoods.len()).reduce(|best, i| if value(i) > value(best) { i } else { best })
    }
}
