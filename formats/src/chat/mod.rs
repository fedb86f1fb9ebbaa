//! Chat templates: messages to the text that a model was trained on.
//!
//! A GGUF file carries the publisher's Jinja template in `tokenizer.chat_template`. It is
//! rendered as `apply_chat_template` of transformers does: the same whitespace settings,
//! globals and `tojson`, and Python's way to print values. The tests compare with jinja2.

mod python;

use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value as Json};

use crate::gguf::Metadata;

/// Instructions one rendering may take. Ten thousand long messages need a tenth of it.
const FUEL: u64 = 10_000_000;
/// Bytes one rendering may give.
const MAX_OUTPUT: usize = 1 << 28;

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
    #[error("the chat template did not end within {FUEL} steps")]
    Endless,
    #[error("the chat template gave more than {MAX_OUTPUT} bytes")]
    TooLong,
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
    env: Environment<'static>,
    source: String,
    fallback: bool,
    bos: String,
    eos: String,
}

/// Carries the message of `raise_exception` through minijinja.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

impl Template {
    /// The template of a file, or ChatML if it has none. `bos` and `eos` are the texts of the
    /// tokens, which templates print; empty where the file has none.
    ///
    /// # Errors
    /// [`Error::Type`] or [`Error::Parse`].
    pub fn from_metadata(meta: &Metadata, bos: &str, eos: &str) -> Result<Template, Error> {
        let key = "tokenizer.chat_template";
        match meta.get(key) {
            None => Ok(Template { fallback: true, ..Template::new(CHATML, bos, eos)? }),
            Some(_) => Template::new(meta.str(key).ok_or(Error::Type)?, bos, eos),
        }
    }

    /// A template from its Jinja source.
    ///
    /// # Errors
    /// [`Error::Parse`].
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Template, Error> {
        let mut env = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        env.set_syntax(syntax.expect("the delimiters are Jinja's own"));
        env.set_undefined_behavior(UndefinedBehavior::Lenient);
        env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.set_fuel(Some(FUEL));
        env.set_formatter(|out, _, value| {
            let mut text = String::new();
            python::write_str(value, &mut text)?;
            out.write_str(&text).map_err(minijinja::Error::from)
        });
        env.add_filter("tojson", tojson);
        env.add_filter("string", |value: Value| -> Result<String, minijinja::Error> {
            let mut text = String::new();
            python::write_str(&value, &mut text)?;
            Ok(text)
        });
        env.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, "raise_exception")
                .with_source(Raised(message)))
        });
        env.add_template_owned("chat", without_generation_tags(source)).map_err(|e| Error::Parse {
            line: e.line().unwrap_or(0),
            cause: one_line(e.detail().unwrap_or("syntax error")),
        })?;
        Ok(Template { env, source: source.into(), fallback: false, bos: bos.into(), eos: eos.into() })
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
        self.source.contains("enable_thinking")
    }

    /// The text for a conversation. It spells special tokens out, the beginning one included
    /// where the template puts it, so encode it with special tokens parsed and none added.
    ///
    /// # Errors
    /// [`Error::Refused`] if the template does not take these messages, and the others for a
    /// template that is broken or hostile.
    pub fn render(&self, messages: &[Message], options: &Options) -> Result<String, Error> {
        let mut vars: Vec<(String, Value)> = vec![
            ("messages".into(), Serde(messages).into()),
            // transformers defines these even where there are none.
            ("tools".into(), options.tools.as_ref().map_or(Value::from(()), |t| Serde(t).into())),
            ("documents".into(), Value::from(())),
            ("add_generation_prompt".into(), options.add_generation_prompt.into()),
            ("bos_token".into(), self.bos.as_str().into()),
            ("eos_token".into(), self.eos.as_str().into()),
        ];
        if let Some(on) = options.enable_thinking {
            vars.push(("enable_thinking".into(), on.into()));
        }
        if let Some(now) = options.now.or_else(clock) {
            let tell = move |format: &str| python::strftime(format, now);
            vars.push(("strftime_now".into(), Value::from_function(tell)));
        }
        vars.extend(options.extra.iter().map(|(k, v)| (k.clone(), Serde(v).into())));
        let vars = Value::from_pairs(vars);

        let template = self.env.get_template("chat").map_err(|e| render_error(&e))?;
        let mut out = Limited(Vec::new());
        match template.render_captured_to(vars, &mut out) {
            // Only whole pieces of UTF-8 were written.
            Ok(_) => Ok(String::from_utf8(out.0).unwrap_or_default()),
            Err(_) if out.0.len() > MAX_OUTPUT => Err(Error::TooLong),
            Err(e) => Err(render_error(&e)),
        }
    }
}

/// A buffer that refuses to grow past [`MAX_OUTPUT`].
struct Limited(Vec<u8>);

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        if self.0.len() > MAX_OUTPUT {
            return Err(io::Error::other("too long"));
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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

fn render_error(error: &minijinja::Error) -> Error {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(Raised(message)) = inner.downcast_ref() {
            return Error::Refused(one_line(message));
        }
        source = inner.source();
    }
    if error.kind() == ErrorKind::OutOfFuel {
        return Error::Endless;
    }
    let detail = error.detail().map(|d| format!(": {d}")).unwrap_or_default();
    Error::Render { line: error.line().unwrap_or(0), cause: one_line(&format!("{}{detail}", error.kind())) }
}

/// Text from a template as one short line.
fn one_line(text: &str) -> String {
    let line: Vec<&str> = text.split_whitespace().collect();
    line.join(" ").chars().take(300).collect()
}

/// transformers marks the assistant's text with a block of its own, `{% generation %}`, which
/// prints its body; to Jinja it is a scope.
fn without_generation_tags(source: &str) -> String {
    let pattern = regex::Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}");
    let pattern = pattern.expect("the pattern is a constant that every test runs");
    pattern.replace_all(source, "{%$1 ${2}with $3%}").into_owned()
}

/// `tojson` as transformers defines it: `json.dumps` without escaping of other scripts.
fn tojson(value: &Value, indent: Option<Value>, args: Kwargs) -> Result<String, minijinja::Error> {
    let refuse = |cause: String| minijinja::Error::new(ErrorKind::InvalidOperation, cause);
    if value.is_undefined() {
        return Err(refuse("an undefined value cannot become JSON".into()));
    }
    let indent = match indent {
        Some(indent) => Some(indent),
        None => args.get::<Option<Value>>("indent")?,
    };
    let indent = match indent.filter(|v| !v.is_none()) {
        Some(v) => Some(
            v.as_usize().filter(|&n| n <= 64).ok_or_else(|| refuse("indent is no small number".into()))?,
        ),
        None => None,
    };
    let separators = args.get::<Option<Vec<String>>>("separators")?;
    let item = if indent.is_some() { "," } else { ", " };
    let [item_separator, key_separator] = match separators.as_deref() {
        Some([item, key]) => [item.clone(), key.clone()],
        Some(_) => return Err(refuse("separators must be a pair".into())),
        None => [item.into(), ": ".into()],
    };
    let style = python::JsonStyle {
        indent,
        item_separator,
        key_separator,
        ensure_ascii: args.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: args.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    args.assert_all_used()?;
    let json = serde_json::to_value(value).map_err(|e| refuse(e.to_string()))?;
    let mut out = String::new();
    python::write_json(&json, &style, 0, &mut out);
    Ok(out)
}
