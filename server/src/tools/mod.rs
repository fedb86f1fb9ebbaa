//! What models write when they call a tool, and when they think.
//!
//! A model's text is read once, as it comes, and told apart into thought, content and calls ([`Parser`]). The same text
//! gives the same pieces however it is cut, so a streamed answer is the whole one. What begins like a call and is none is
//! content; nothing is lost. How calls look is chosen by the chat template ([`format_of`]); each way is one file of
//! `formats`. From the same description comes the grammar that holds a model to calls that can be carried out ([`plan`]).

mod formats;
mod json;
mod native;
mod object;
mod parser;
mod plan;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};
use weft_formats::chat::Template;
use weft_formats::tokenizer::Tokenizer;

pub use formats::Format;
pub use parser::{Parser, Piece};
pub use plan::plan;

use crate::card::Card;
use crate::error::{ApiError, Result};
use crate::grammar::Think;

/// A function that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// The schema of its arguments; none where it takes none.
    pub parameters: Option<Value>,
    /// Whether arguments must be held to the schema, so that a schema that cannot be enforced is an error.
    pub strict: bool,
}

impl Tool {
    /// What templates read: OpenAI's shape, with every field they touch.
    pub fn for_template(&self) -> Value {
        let parameters =
            self.parameters.clone().unwrap_or_else(|| json!({"type": "object", "properties": {}}));
        json!({"type": "function", "function": {
            "name": self.name,
            "description": self.description.clone().unwrap_or_default(),
            "parameters": parameters,
        }})
    }

    /// The schema that arguments are held to: an object in any case.
    pub(crate) fn schema(&self) -> Value {
        match &self.parameters {
            Some(Value::Object(map)) if !map.is_empty() => {
                let mut map: Map<String, Value> = map.clone();
                map.insert("type".into(), "object".into());
                Value::Object(map)
            }
            Some(Value::Object(_)) => json!({"type": "object"}),
            Some(other) => other.clone(),
            None => json!({"type": "object", "properties": {}, "additionalProperties": false}),
        }
    }
}

/// Whether and what the model calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Nothing.
    None,
    /// What it likes.
    Auto,
    /// At least one tool.
    Required,
    /// This tool.
    Named(String),
}

/// What is asked of an answer, as far as tools go.
#[derive(Debug, Clone, PartialEq)]
pub struct Calls {
    /// The tools that may be called.
    pub tools: Vec<Tool>,
    /// Whether and what.
    pub choice: Choice,
    /// Whether there may be several calls.
    pub parallel: bool,
}

impl Calls {
    /// Whether the model is told of any tool.
    pub(crate) fn offers(&self) -> bool {
        self.choice != Choice::None && !self.tools.is_empty()
    }
}

/// How the model that a template belongs to writes its calls; None where the template has no place for tools, so that
/// the model would never learn of them.
pub fn format_of(template: &Template) -> Option<&'static Format> {
    let has_place = !template.is_fallback() && template.reads_variable("tools");
    has_place.then(|| formats::of(template.source()))
}

/// How the model that a template belongs to thinks aloud, if it does. `prompt` is what the template gave: it may open the
/// thought itself.
pub fn think_of(template: &Template, prompt: &str) -> Option<Think> {
    let (_, open, close) = formats::THOUGHTS.iter().find(|(sign, ..)| template.source().contains(sign))?;
    let opened = prompt.trim_end().ends_with(open);
    Some(Think { open: (*open).into(), close: (*close).into(), opened })
}

/// What a template is told so that its model does not think aloud, as `param` asks: nothing where it cannot think.
///
/// # Errors
/// It always thinks.
pub(crate) fn unthinking(card: &Card, param: &str) -> Result<Option<bool>> {
    match card.template.as_ref() {
        Ok(template) if template.has_thinking_switch() => Ok(Some(false)),
        Ok(template) if think_of(template, "").is_some() => {
            let line = format!("\"{}\" always thinks aloud: its template has no switch for that", card.id);
            Err(ApiError::unsupported(param, line))
        }
        _ => Ok(None),
    }
}

/// Whether control tokens must be shown in the text, because some of them are what the parser looks for.
pub fn needs_special(tokenizer: &Tokenizer, format: Option<&Format>, think: Option<&Think>) -> bool {
    let is_special = |text: &str| tokenizer.token_id(text).is_some_and(|id| tokenizer.is_special(id));
    let thoughts = think.into_iter().flat_map(|t| [t.open.as_str(), t.close.as_str()]);
    let calls = format.into_iter().flat_map(|f| f.tags.iter().copied());
    // The name of a thought stands behind its token.
    thoughts.chain(calls).any(|tag| is_special(tag) || is_special(tag.trim_end_matches("thought")))
}
