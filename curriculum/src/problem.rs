//! What a question family draws: one question with its computed answer, its steps and its tempting
//! wrong answers.

use super::rng::Rng;
use std::fmt::Display;

/// One question, computed.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The parameters, in one fixed spelling: two questions are the same if family and key are.
    pub key: String,
    /// The question in one of its wordings.
    pub question: String,
    /// The worked steps.
    pub work: String,
    /// The answer, with its unit.
    pub answer: String,
    /// Candidates for the wrong options; duplicates and values equal to the answer are dropped later.
    pub wrong: Vec<Wrong>,
}

/// A wrong answer and the mistake that gives it.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// The mistake's name, a gerund such as "forgetting the carry".
    pub mistake: &'static str,
    /// The value that it gives, spelled like the answer.
    pub value: String,
    /// How the mistake reaches the value, one clause.
    pub how: String,
}

/// A wrong answer.
pub fn wrong(mistake: &'static str, value: impl Display, how: impl Into<String>) -> Wrong {
    Wrong { mistake, value: value.to_string(), how: how.into() }
}

/// `value` with its unit, or bare where `unit` is empty.
pub fn with_unit(value: impl Display, unit: &str) -> String {
    match unit {
        "" => value.to_string(),
        "%" => format!("{value}%"),
        _ => format!("{value} {unit}"),
    }
}

/// What may stand before and after a question without changing it.
const BEFORE: &[&str] = &[
    "Please help: ",
    "Question: ",
    "Can you solve this? ",
    "Tell me: ",
    "Please answer: ",
    "I need help. ",
    "Quick question: ",
];
const AFTER: &[&str] = &[
    " Show your work.",
    " Please.",
    " Explain step by step.",
    " Think step by step.",
    " Thanks.",
    " Show the steps.",
];

/// Other spellings of the same mark or unit.
const SPELLINGS: &[(&str, &str)] = &[
    ("²", "^2"),
    ("³", "^3"),
    (" × ", " x "),
    (" ohms", " Ω"),
    (" ohm ", " Ω "),
    ("drops/m", "gtt/m"),
    ("%", " %"),
];

/// One of `wordings` with every `{name}` replaced; now and then typed carelessly (first letter small, the
/// last mark missing), spelled another way or framed politely.
pub fn say(r: &mut Rng, wordings: &[&str], slots: &[(&str, &dyn Display)]) -> String {
    let wording = r.pick(wordings);
    let mut text = fill(wording, slots);
    if r.one_in(8) && !wording.starts_with('{') {
        let mut letters = text.chars();
        if let (Some(first), Some(second)) = (letters.next(), letters.next())
            && (second.is_lowercase() || second == ' ')
        {
            text.replace_range(..first.len_utf8(), &first.to_lowercase().to_string());
        }
    }
    let (from, to) = r.of(SPELLINGS);
    if r.one_in(3) {
        text = text.replace(from, to);
    }
    match r.below(24) {
        0 => text.insert_str(0, r.pick(BEFORE)),
        1 if text.ends_with(['?', '.']) => text.push_str(r.pick(AFTER)),
        2..5 if text.ends_with(['?', '.']) => {
            text.pop();
        }
        _ => {}
    }
    text
}

/// `wording` with every `{name}` replaced.
pub fn fill(wording: &str, slots: &[(&str, &dyn Display)]) -> String {
    let mut text = wording.to_string();
    for (name, value) in slots {
        text = text.replace(&format!("{{{name}}}"), &value.to_string());
    }
    text
}
