//! The ways in which models write calls, one a file.

mod gemma;
mod generic;
mod hermes;
mod list;
mod llama;
mod mistral;

use super::object::Names;
use super::parser::{Form, Reader};

/// A text that opens a call.
pub(super) struct Opener {
    pub(super) text: &'static str,
    /// Whether it counts only where nothing was said before.
    pub(super) at_start: bool,
    /// Whether it belongs to the call itself.
    pub(super) fed: bool,
}

/// A way to write calls.
pub struct Format {
    /// What it is called here.
    pub name: &'static str,
    /// Whether a template is of this format.
    pub(super) is: fn(&str) -> bool,
    pub(super) openers: &'static [Opener],
    /// What ends a call, where something does.
    pub(super) close: Option<&'static str>,
    /// Texts that are tokens of their own in the vocabularies of these models.
    pub(super) tags: &'static [&'static str],
    /// Texts behind which the model waits for a tool's result.
    pub stops: &'static [&'static str],
    pub(super) id: Form,
    /// Makes a reader of what stands behind an opener.
    pub(super) reader: fn(&str, &Names) -> Box<dyn Reader>,
    pub(super) grammar: Grammar,
}

/// What an answer looks like that calls tools, in Lark. `Writer` says how texts and arguments are written.
pub(super) struct Grammar {
    /// One call and more, with what opens them: rules, of which `calls` is the first.
    pub(super) whole: fn(&Writer, &[&str], bool) -> String,
    /// Texts that switch the grammar on: the text, whether only at the start, and the rules of what follows, `calls` first.
    pub(super) triggers: fn(&Writer, &[&str], bool) -> Vec<(String, bool, String)>,
    /// Whether arguments are written as JSON.
    pub(super) json: bool,
}

/// How the parts of a grammar are written.
pub(super) struct Writer<'w> {
    /// A tag: a token of the vocabulary where it is one, else its letters.
    pub(super) tag: &'w dyn Fn(&str) -> String,
}

impl Writer<'_> {
    /// A text, letter by letter.
    pub(super) fn text(&self, text: &str) -> String {
        serde_json::to_string(text).unwrap_or_default()
    }

    /// A tag.
    pub(super) fn tag(&self, text: &str) -> String {
        (self.tag)(text)
    }

    /// A choice of one rule a tool, whose arguments are `args0`, `args1` and so on.
    pub(super) fn one_of(&self, names: &[&str], each: impl Fn(usize, &str) -> String) -> String {
        let all: Vec<String> = names.iter().enumerate().map(|(i, name)| each(i, name)).collect();
        all.join("\n    | ")
    }
}

/// Calls of one answer at most, where it may have several.
pub(super) const MOST: usize = 16;

/// A call and the further ones that may follow it, each behind `gap`.
pub(super) fn repeated(first: &str, gap: &str, call: &str, parallel: bool) -> String {
    match parallel {
        true => format!("calls: {first} ({gap} {call}){{0,{}}}\n", MOST - 1),
        false => format!("calls: {first}\n"),
    }
}

/// How thoughts are marked: what in a template says so, and what opens and closes one.
pub(super) const THOUGHTS: &[(&str, &str, &str)] = &[
    ("</think>", "<think>", "</think>"),
    ("[THINK]", "[THINK]", "[/THINK]"),
    ("<|channel>", "<|channel>thought", "<channel|>"),
    ("<think>", "<think>", "</think>"),
];

/// From the most particular on.
const ALL: &[&Format] = &[
    &gemma::FOUR,
    &gemma::FUNCTION,
    &mistral::NAMED,
    &mistral::LIST,
    &hermes::FORMAT,
    &llama::FORMAT,
    &generic::FORMAT,
];

/// The format of a template that has a place for tools.
pub(super) fn of(template: &str) -> &'static Format {
    ALL.iter().find(|f| (f.is)(template)).copied().unwrap_or(&generic::FORMAT)
}

#[cfg(test)]
pub(super) fn all() -> &'static [&'static Format] {
    ALL
}
