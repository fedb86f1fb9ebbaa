//! What Ollama's clients ask.

use serde_json::{Map, Value, json};
use weft_formats::chat::Message;

use crate::app::App;
use crate::ask::Ask;
use crate::card::{Card, Rendering};
use crate::draw::Draw;
use crate::error::{ApiError, Result};
use crate::fields::{Fields, missing, short, wrong};
use crate::grammar::Source;
use crate::shape::{self, Form};

/// Which of the two routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Chat,
    Generate,
}

/// What is asked; nothing where the model is to be loaded alone, which it is.
pub(super) struct Asked {
    pub(super) ask: Option<Ask>,
    /// A text for the model as it is, without its template.
    pub(super) raw: Option<String>,
}

/// How Ollama runs a model, which is chosen when this server starts.
const RUNNING: &[&str] = &[
    "num_gpu",
    "num_thread",
    "num_batch",
    "main_gpu",
    "use_mmap",
    "use_mlock",
    "numa",
    "low_vram",
    "f16_kv",
    "num_keep",
];

/// Options that change answers and are not served.
const REFUSED: &[(&str, &str)] = &[
    ("mirostat", "there is no Mirostat here; use min_p or typical_p"),
    ("penalize_newline", "line ends are penalised like all tokens"),
    ("draft_num_predict", "drafts are chosen when the server starts"),
];

/// Reads the body of a request, without its `model`.
pub(super) fn asked(mut f: Fields, app: &App, card: &Card, kind: Kind) -> Result<Asked> {
    let mut ignored = Vec::new();
    let lenient = app.config.lenient.then_some(&mut ignored);
    let (mut raw, mut messages) = (None, Vec::new());
    match kind {
        Kind::Chat => {
            for (i, value) in f.list("messages", 16 << 10)?.unwrap_or_default().into_iter().enumerate() {
                messages.push(message(value, &format!("messages[{i}]"))?);
            }
        }
        Kind::Generate => {
            let prompt = f.text("prompt")?.unwrap_or_default();
            f.refuse(&[
                ("suffix", "give the whole prompt, with the model's own tokens for it, as \"raw\""),
                ("template", "the template is the model's; the server's --chat-template gives another"),
                ("context", "conversations are messages here; ask /api/chat"),
                ("images", "this server takes text alone"),
            ])?;
            let system = f.text("system")?.filter(|s| !s.is_empty());
            match f.flag("raw")?.unwrap_or(false) {
                true if system.is_some() => {
                    return Err(ApiError::value(
                        "system",
                        "\"system\" needs the template, which \"raw\" leaves out",
                    ));
                }
                true => raw = Some(prompt).filter(|p| !p.is_empty()),
                false if prompt.is_empty() => {}
                false => {
                    messages.extend(system.map(Message::system).into_iter().chain([Message::user(prompt)]))
                }
            }
        }
    }
    let calls = if kind == Kind::Chat { shape::calls(&mut f)? } else { shape::no_calls() };
    let form = form(&mut f)?;
    let mut draw = options(f.take("options"), app, card)?;
    let logprobs = f.flag("logprobs")?.unwrap_or(false);
    if f.whole("top_logprobs", 0, 20)?.unwrap_or(0) > 0 || logprobs {
        let line = "log-probabilities are told at /v1/chat/completions alone";
        return Err(ApiError::unsupported("logprobs", line));
    }
    draw.logprobs = None;
    let (thinking, extra) = think(&mut f, card)?;
    f.refuse(&[("shift", "nothing is cut from a conversation here")])?;
    f.flag("truncate")?;
    keep_alive(&mut f)?;
    let stream = f.flag("stream")?.unwrap_or(true);
    f.finish(lenient)?;
    app.log_ignored(&ignored);
    if messages.is_empty() && raw.is_none() {
        return Ok(Asked { ask: None, raw });
    }
    let goes_on =
        messages.last().is_some_and(|m| m.role == "assistant" && !m.extra.contains_key("tool_calls"));
    let with = Rendering { tools: None, thinking, extra, goes_on };
    let ask = Ask::new((messages, with), draw, calls, form, stream);
    Ok(Asked { ask: Some(ask), raw })
}

/// Whether a request asks for nothing but that its model be closed: `keep_alive` is 0, and there is nothing to answer.
pub(super) fn closes(body: &Value) -> bool {
    let Some(fields) = body.as_object() else { return false };
    let known = ["model", "name", "keep_alive", "messages", "prompt", "stream"];
    let none = |name: &str| match fields.get(name) {
        Some(Value::Array(all)) => all.is_empty(),
        Some(Value::String(text)) => text.is_empty(),
        other => other.is_none_or(Value::is_null),
    };
    let at_once = |v: &Value| v.as_f64().or_else(|| v.as_str().and_then(seconds)) == Some(0.0);
    fields.get("keep_alive").is_some_and(at_once)
        && none("messages")
        && none("prompt")
        && fields.keys().all(|name| known.contains(&name.as_str()))
}

/// How long a model stays loaded is for the server to choose.
pub(super) fn keep_alive(f: &mut Fields) -> Result<()> {
    let Some(value) = f.take("keep_alive") else { return Ok(()) };
    match value.as_f64().or_else(|| value.as_str().and_then(seconds)) {
        Some(0.0) => Err(ApiError::unsupported(
            "keep_alive",
            "a model of --models is closed by a request of its own, without messages; others stay loaded as long as the \
             server runs",
        )),
        Some(_) => Ok(()),
        None => {
            let line = format!(
                "\"keep_alive\" must be a number of seconds or a duration such as \"5m\", not {}",
                short(&value)
            );
            Err(ApiError::value("keep_alive", line))
        }
    }
}

/// The seconds of a duration as Go writes it, such as `1h30m` or `-1s`; a bare number has seconds.
fn seconds(text: &str) -> Option<f64> {
    let mut rest = text.trim_start_matches(['-', '+']);
    if let Ok(seconds) = rest.parse() {
        return Some(seconds);
    }
    let mut sum = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit = rest[end..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| end + n);
        sum += number
            * match &rest[end..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    (!text.is_empty()).then_some(sum)
}

/// Options where no text is drawn.
pub(super) fn no_options(mut f: Fields) -> Result<()> {
    f.ignore(RUNNING)?;
    f.take("num_ctx");
    f.finish(None)
}

fn form(f: &mut Fields) -> Result<Option<Form>> {
    let source = match f.take("format") {
        None => return Ok(None),
        Some(Value::String(word)) if word.is_empty() => return Ok(None),
        Some(Value::String(word)) if word == "json" => Source::JsonObject,
        Some(schema @ Value::Object(_)) => Source::JsonSchema(schema),
        Some(other) => return Err(wrong("format", "\"json\" or a JSON schema", &other)),
    };
    Ok(Some((source, "format")))
}

fn think(f: &mut Fields, card: &Card) -> Result<(Option<bool>, Map<String, Value>)> {
    let template = card.template.as_ref().ok();
    let has_switch = template.is_some_and(|t| t.has_thinking_switch());
    let thinks = template.is_some_and(|t| crate::tools::think_of(t, "").is_some());
    let mut extra = Map::new();
    let on = match f.take("think") {
        None => return Ok((None, extra)),
        Some(Value::Bool(on)) => on,
        Some(Value::String(level)) if ["low", "medium", "high"].contains(&level.as_str()) => {
            if !template.is_some_and(|t| t.reads_variable("reasoning_effort")) {
                let line =
                    format!("\"{}\" has no levels of thinking; \"think\" can be true or false", card.id);
                return Err(ApiError::unsupported("think", line));
            }
            extra.insert("reasoning_effort".into(), level.into());
            true
        }
        Some(other) => return Err(wrong("think", "true, false, \"low\", \"medium\" or \"high\"", &other)),
    };
    if on && !thinks {
        return Err(ApiError::unsupported("think", format!("\"{}\" does not think aloud", card.id)));
    }
    match on {
        true => Ok((has_switch.then_some(true), extra)),
        false => Ok((crate::tools::unthinking(card, "think")?, extra)),
    }
}

fn options(value: Option<Value>, app: &App, card: &Card) -> Result<Draw> {
    let mut map = match value {
        None => Map::new(),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(wrong("options", "an object", &other)),
    };
    // Ollama has words for all and none as negative numbers.
    if map.get("repeat_last_n").and_then(Value::as_i64) == Some(-1) {
        map.insert("repeat_last_n".into(), card.context.into());
    }
    let unbounded = map.get("num_predict").and_then(Value::as_i64).is_some_and(|n| n < 0);
    if unbounded {
        map.remove("num_predict");
    }
    let mut f = Fields::inner(Value::Object(map), "options")?;
    f.ignore(RUNNING)?;
    f.refuse(REFUSED)?;
    if let Some(wanted) = f.whole("num_ctx", 1, 1 << 31)?
        && wanted > card.context as u64
    {
        let line = format!(
            "\"options.num_ctx\" is {wanted} and the context of \"{}\" has room for {}; start the server with a larger \
             --ctx",
            card.id, card.context
        );
        return Err(ApiError::value("options.num_ctx", line));
    }
    let most = f.whole("num_predict", 1, 1 << 31)?;
    let mut draw = Draw::read(&mut f, card, app.id())?;
    draw.max_tokens = most.map(|n| n as usize);
    f.finish(None)?;
    Ok(draw)
}

fn message(value: Value, at: &str) -> Result<Message> {
    let mut f = Fields::inner(value, at)?;
    let path = f.path("role");
    let role = f.choice("role", &["system", "user", "assistant", "tool"])?.ok_or_else(|| missing(&path))?;
    let content = f.text("content")?.unwrap_or_default();
    let mut extra = Map::new();
    if let Some(thought) = f.text("thinking")?.filter(|t| !t.is_empty()) {
        extra.insert("reasoning_content".into(), thought.into());
    }
    let path = f.path("images");
    if f.list("images", 64)?.is_some_and(|l| !l.is_empty()) {
        return Err(ApiError::unsupported(path, "this server takes text alone"));
    }
    for name in ["tool_name", "tool_call_id"] {
        if let Some(text) = f.text(name)? {
            extra.insert(if name == "tool_name" { "name" } else { name }.into(), text.into());
        }
    }
    let path = f.path("tool_calls");
    let calls = f.list("tool_calls", 128)?.unwrap_or_default();
    let calls = calls.into_iter().enumerate().map(|(i, v)| call(v, &format!("{path}[{i}]")));
    let calls = calls.collect::<Result<Vec<Value>>>()?;
    if !calls.is_empty() {
        extra.insert("tool_calls".into(), calls.into());
    }
    f.finish(None)?;
    Ok(Message { role: role.into(), content, extra })
}

fn call(value: Value, at: &str) -> Result<Value> {
    let mut f = Fields::inner(value, at)?;
    let path = f.path("function");
    let mut function = f.object("function")?.ok_or_else(|| missing(&path))?;
    // Clients send back what they were given.
    f.ignore(&["id", "type"])?;
    f.finish(None)?;
    let name = function.need_text("name")?;
    let path = function.path("arguments");
    let arguments = match function.take("arguments") {
        None => json!({}),
        Some(object @ Value::Object(_)) => object,
        Some(other) => return Err(wrong(&path, "an object", &other)),
    };
    function.ignore(&["index"])?;
    function.finish(None)?;
    Ok(json!({ "type": "function", "function": { "name": name, "arguments": arguments } }))
}
