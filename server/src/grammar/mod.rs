//! Which tokens may come next: schemas, regular expressions and grammars as masks of the engine.
//!
//! What a caller asks for is checked here first ([`schema`], [`gbnf`], [`limits`]), so that what cannot be enforced is
//! refused with the keyword and its place; llguidance then compiles it over the vocabulary of the model. Compiled grammars
//! are kept in a bounded cache, and each request gets a copy of its own.
//!
//! A small model, once it is forced into a number, tends to write digits until its context is full. JSON is therefore held
//! inside bounds that no schema asked for ([`bounds`] lists them): 20 digits in a row, 2 in an exponent, 2 spaces between
//! tokens or a line end and 4 for each level, 100 levels, 128 KiB in a string and 512 repeats of one character or pair. A
//! schema that leaves no other choice overrides them.

mod bounds;
mod cache;
mod compile;
mod ecma;
mod gbnf;
mod limits;
mod mask;
mod refs;
mod schema;
mod vocabulary;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use serde_json::Value;
use weft_formats::tokenizer::Tokenizer;
use weft_models::engine::Mask;

pub use compile::Compiled;
pub use mask::{Budget, Entry, Think, Trigger};

/// What an answer must look like.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema describes.
    JsonSchema(Value),
    /// Text that a regular expression matches as a whole.
    Regex(String),
    /// A grammar in the notation of llama.cpp.
    Gbnf(String),
    /// A grammar in llguidance's dialect of Lark.
    Lark(String),
    /// Several grammars in llguidance's own form, of which ours are made; callers' never come this way.
    Parts(Vec<Part>),
}

/// A grammar that others name with `@name`; the first of several is the whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// What it is.
    pub body: Body,
}

/// What a part is made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Body {
    /// A grammar in Lark.
    Lark(String),
    /// A schema of the caller, which is checked like any other.
    Schema(Value),
}

/// Why a grammar cannot be enforced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The keyword of the schema that is at fault, if one is.
    pub keyword: Option<String>,
    /// Its place in the schema, as a JSON pointer behind `#`, if it has one.
    pub path: Option<String>,
    /// The whole sentence, keyword and place included.
    pub message: String,
    /// Whether the same would be compiled at a quieter time.
    pub busy: bool,
}

impl Refusal {
    pub(crate) fn new(message: impl Into<String>) -> Refusal {
        Refusal { keyword: None, path: None, message: message.into(), busy: false }
    }

    /// `what` says why, and reads on from the keyword and its place.
    pub(crate) fn keyword(keyword: &str, path: &str, what: impl std::fmt::Display) -> Refusal {
        Refusal {
            keyword: Some(keyword.into()),
            path: Some(path.into()),
            message: format!("the schema's {keyword:?} at {path} {what}"),
            busy: false,
        }
    }
}

/// The grammars of one vocabulary.
pub struct Grammars {
    compiler: compile::Compiler,
    cache: cache::Cache,
}

impl Grammars {
    /// Prepares a vocabulary. This takes a second for large ones, so it is done once a model.
    ///
    /// # Errors
    /// The vocabulary has no token that ends a text.
    pub fn new(tokenizer: &Tokenizer) -> Result<Grammars, Refusal> {
        Ok(Grammars { compiler: compile::Compiler::new(tokenizer)?, cache: cache::Cache::default() })
    }

    /// Compiles a grammar, or finds it in the cache. It may take seconds, so async callers do it on a blocking thread.
    ///
    /// # Errors
    /// What in it cannot be enforced, or which limit it passes.
    pub fn compile(&self, source: &Source) -> Result<Arc<Compiled>, Refusal> {
        if let Some(known) = self.cache.get(source) {
            return Ok(known);
        }
        let compiled = Arc::new(self.compiler.compile(source)?);
        self.cache.put(source.clone(), compiled.clone());
        Ok(compiled)
    }

    /// Enforces `source` from where `think` ends, or from the first token on.
    ///
    /// # Errors
    /// Those of [`Grammars::compile`].
    pub fn entry(&self, source: &Source, think: Option<Think>) -> Result<Entry, Refusal> {
        let grammar =
            if think.is_some() { self.compile(&after_space(source)?)? } else { self.compile(source)? };
        Ok(Entry { think, grammar: Some(grammar), ..Entry::default() })
    }

    /// The same as a mask.
    ///
    /// # Errors
    /// Those of [`Grammars::compile`].
    pub fn mask(&self, source: &Source, think: Option<Think>) -> Result<Box<dyn Mask>, Refusal> {
        Ok(self.entry(source, think)?.mask())
    }

    /// Makes a thought end after so many tokens, whatever is enforced behind it.
    pub fn end_thought(&self, entry: Option<Entry>, think: Think, tokens: usize) -> Entry {
        let budget = Budget { tokens, vocabulary: self.compiler.vocabulary() };
        Entry { think: Some(think), budget: Some(budget), ..entry.unwrap_or_default() }
    }
}

impl Source {
    /// The same as a part of a grammar.
    ///
    /// # Errors
    /// What is wrong with a text.
    pub(crate) fn part(&self, name: &str) -> Result<Part, Refusal> {
        let body = match self {
            Source::JsonObject => Body::Schema(serde_json::json!({"type": "object"})),
            Source::JsonSchema(schema) => Body::Schema(schema.clone()),
            _ => Body::Lark(limits::as_lark(self)?),
        };
        Ok(Part { name: name.into(), body })
    }
}

/// The same grammar behind the blank lines that models write when they have thought.
fn after_space(source: &Source) -> Result<Source, Refusal> {
    if let Source::Parts(_) = source {
        return Ok(source.clone());
    }
    let first = Body::Lark(format!("start: (/{SPACE}/)? @inner\n"));
    Ok(Source::Parts(vec![Part { name: "spaced".into(), body: first }, source.part("inner")?]))
}

/// A schema with its references resolved and its annotations gone.
///
/// # Errors
/// What in it cannot be enforced.
pub(crate) fn read_schema(schema: &Value) -> Result<Value, Refusal> {
    schema::normalise(schema)
}

/// What may stand between a thought and the answer.
pub(crate) const SPACE: &str = r"[ \n\r\t]{1,8}";
