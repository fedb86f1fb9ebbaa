//! Chat templates: messages to the text that a model was trained on.
//!
//! A GGUF file carries the publisher's Jinja template in `tokenizer.chat_template`. It is
//! rendered as `apply_chat_template` of transformers does: the same whitespace settings,
//! globals and `tojson`, and Python's way to print values. The tests compare with jinja2.

mod clock;
mod jinja;
mod mark;
mod messages;

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value as Json};

use crate::gguf::{Metadata, Value};

pub use mark::{encode_marked, marked, unmarked};
pub use messages::messages;

/// ChatML, for files without a template.
const CHATML: &str = "\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- endif -%}";

/// Why a template gave no text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Error {
    #[error("metadata key tokenizer.chat_template must hold a string")]
    Type,
    #[error("the chat template does not parse at line {line}: {cause}")]
    Parse { line: usize, cause: String },
    #[error("the chat template failed at line {line}: {cause}")]
    Render { line: usize, cause: String },
    /// The template called `raise_exception`.
    #[error("the chat template refuses these messages: {0}")]
    Refused(String),
    #[error(
        "the chat template does more work than any chat needs, so it was stopped; --chat-template FILE gives another"
    )]
    Endless,
    #[error("the chat template gives more text than any context holds")]
    TooLong,
    #[error("the chat template takes more memory than any chat needs, so it was stopped")]
    Memory,
    #[error("the chat template nests values or calls too deeply")]
    Nested,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`, or what else the template knows.
    pub role: String,
    /// The text; `null`, which some clients send beside tool calls, reads as empty.
    #[serde(default, deserialize_with = "text_or_null")]
    pub content: String,
    /// Other fields that templates read, such as `tool_calls` or `reasoning_content`.
    #[serde(flatten)]
    pub extra: Map<String, Json>,
}

fn text_or_null<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Message {
    /// A message of text alone.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message { role: role.into(), content: content.into(), extra: Map::new() }
    }

    /// What sets the model's behaviour.
    pub fn system(content: impl Into<String>) -> Self {
        Message::new("system", content)
    }

    /// What the user says.
    pub fn user(content: impl Into<String>) -> Self {
        Message::new("user", content)
    }

    /// What the model answered.
    pub fn assistant(content: impl Into<String>) -> Self {
        Message::new("assistant", content)
    }
}

/// What a rendering depends on beside the messages.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Whether to end with the opening of the assistant's turn.
    pub add_generation_prompt: bool,
    /// The variable `enable_thinking` of Qwen3, SmolLM3 and others; undefined if `None`.
    pub enable_thinking: Option<bool>,
    /// Tools as a JSON array of function schemas.
    pub tools: Option<Json>,
    /// The moment that `strftime_now` tells, in seconds since 1970 UTC; the system's clock if
    /// `None`, and no such function where there is none (wasm).
    pub now: Option<i64>,
    /// Further variables; they win over the ones above.
    pub extra: Map<String, Json>,
}

/// A compiled chat template.
#[derive(Debug, Clone)]
pub struct Template {
    program: Arc<jinja::Program>,
    reads: Arc<jinja::Reads>,
    source: String,
    fallback: bool,
    bos: String,
    eos: String,
}

impl Template {
    /// The template of a file, or ChatML if it has none or an empty one, as in llama.cpp. `bos` and `eos` are the texts
    /// of the tokens, which templates print; empty where the file has none.
    ///
    /// # Errors
    /// [`Error::Type`] or [`Error::Parse`].
    pub fn from_metadata(meta: &Metadata, bos: &str, eos: &str) -> Result<Template, Error> {
        let key = "tokenizer.chat_template";
        match meta.get(key) {
            Some(Value::Str(text)) if !text.is_empty() => Template::new(text, bos, eos),
            None | Some(Value::Str(_)) => Ok(Template { fallback: true, ..Template::new(CHATML, bos, eos)? }),
            Some(_) => Err(Error::Type),
        }
    }

    /// A template from its Jinja source.
    ///
    /// # Errors
    /// [`Error::Parse`].
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Template, Error> {
        let program = Arc::new(jinja::Program::parse(source).map_err(error)?);
        let reads = Arc::new(program.reads());
        Ok(Template {
            program,
            reads,
            source: source.into(),
            fallback: false,
            bos: bos.into(),
            eos: eos.into(),
        })
    }

    /// The Jinja source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the file had no template and this is plain ChatML.
    pub fn is_fallback(&self) -> bool {
        self.fallback
    }

    /// Whether the template reads [`Options::enable_thinking`].
    pub fn has_thinking_switch(&self) -> bool {
        self.reads_variable("enable_thinking")
    }

    /// Whether a variable of this name can change what the template prints: it reads it where it has not set it itself.
    pub fn reads_variable(&self, name: &str) -> bool {
        self.reads.variables.contains(name)
    }

    /// Whether the template reads a field of this name of anything, or knows this text.
    pub fn reads_field(&self, name: &str) -> bool {
        self.reads.fields.contains(name)
    }

    /// The text for a conversation. It spells special tokens out, the beginning one included
    /// where the template puts it, so encode it with special tokens parsed and none added.
    ///
    /// # Errors
    /// [`Error::Refused`] if the template does not take these messages, and the others for a
    /// template that is broken or hostile.
    pub fn render(&self, messages: &[Message], options: &Options) -> Result<String, Error> {
        let messages = serde_json::to_value(messages).unwrap_or_default();
        let mut variables = Map::new();
        let mut set = |name: &str, value: Json| drop(variables.insert(name.to_owned(), value));
        set("messages", messages);
        // transformers defines these even where there are none.
        set("tools", options.tools.clone().unwrap_or_default());
        set("documents", Json::Null);
        set("add_generation_prompt", options.add_generation_prompt.into());
        set("bos_token", self.bos.as_str().into());
        set("eos_token", self.eos.as_str().into());
        if let Some(on) = options.enable_thinking {
            set("enable_thinking", on.into());
        }
        options.extra.iter().for_each(|(name, value)| set(name, value.clone()));
        let now = options.now.or_else(clock);
        let tell = |format: &str| clock::strftime(format, now.unwrap_or(0));
        let tell: Option<&dyn Fn(&str) -> String> = now.map(|_| &tell as _);
        self.program.render(&variables, tell).map_err(error)
    }
}

/// What went wrong, as one line.
fn error(fault: jinja::Fault) -> Error {
    use jinja::Fault as F;
    match fault {
        F::Parse(line, cause) => Error::Parse { line, cause: one_line(&cause) },
        F::Fail(line, cause) => Error::Render { line, cause: one_line(&cause) },
        F::Raised(message) => Error::Refused(one_line(&message)),
        F::Endless => Error::Endless,
        F::Memory => Error::Memory,
        F::TooLong => Error::TooLong,
        F::Nested => Error::Nested,
        F::Break | F::Continue => Error::Render { line: 0, cause: "a loop is left outside of it".into() },
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn clock() -> Option<i64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    since.as_secs().try_into().ok()
}

#[cfg(target_arch = "wasm32")]
fn clock() -> Option<i64> {
    None
}

/// A value as `json.dumps` of Python writes it.
pub fn json_text(value: &Json) -> String {
    jinja::json_text(value)
}

/// Text from a template as one short line.
fn one_line(text: &str) -> String {
    let line: Vec<&str> = text.split_whitespace().collect();
    line.join(" ").chars().take(300).collect()
}
