//! What Anthropic's clients ask.

use serde_json::{Map, Value, json};
use weft_formats::chat::Message;

use crate::app::App;
use crate::ask::Ask;
use crate::card::{Card, Rendering};
use crate::draw::Draw;
use crate::error::{ApiError, Result};
use crate::fields::{Fields, missing, wrong};
use crate::grammar::Source;
use crate::shape::{self, Form, MOST_TOOLS};
use crate::tools::{Calls, Choice, Tool};

/// Messages, and blocks of one, at most.
const MOST: usize = 16 << 10;

/// Fields that are documented and change nothing here.
const IGNORED: &[&str] = &["metadata", "service_tier", "cache_control", "inference_geo"];

/// Fields that are documented and not served.
const REFUSED: &[(&str, &str)] = &[
    ("container", "this server runs no code"),
    ("context_management", "nothing is cut from a conversation here"),
    ("mcp_servers", "this server reaches no others"),
];

/// Reads the body of a request, without its `model`. With `answers`, it must say how long the answer may be.
pub(super) fn ask(mut f: Fields, app: &App, card: &Card, answers: bool) -> Result<Ask> {
    let mut ignored = Vec::new();
    let lenient = app.config.lenient.then_some(&mut ignored);
    f.ignore(IGNORED)?;
    f.refuse(REFUSED)?;
    let max_tokens = f.whole("max_tokens", 1, 1 << 31)?;
    if answers && max_tokens.is_none() {
        return Err(missing("max_tokens"));
    }
    let system = f.take("system").map(|v| texts(v, "system")).transpose()?;
    let mut messages: Vec<Message> = system.into_iter().map(Message::system).collect();
    let all = f.list("messages", MOST)?.ok_or_else(|| missing("messages"))?;
    if all.is_empty() {
        return Err(ApiError::value("messages", "\"messages\" is empty"));
    }
    for (i, value) in all.into_iter().enumerate() {
        message(value, &format!("messages[{i}]"), &mut messages)?;
    }
    let messages = crate::messages::paired(messages, "messages")?;
    let stops = f.list("stop_sequences", 32)?.unwrap_or_default();
    let stop = |v: Value| match v {
        Value::String(text) if (1..=1024).contains(&text.len()) => Ok(text),
        Value::String(text) => {
            let line =
                format!("a string of \"stop_sequences\" has {} bytes; 1 to 1024 are taken", text.len());
            Err(ApiError::value("stop_sequences", line))
        }
        other => Err(wrong("stop_sequences", "an array of strings", &other)),
    };
    let mut draw = Draw::read(&mut f, card, app.id())?;
    draw.stop.extend(stops.into_iter().map(stop).collect::<Result<Vec<_>>>()?);
    draw.max_tokens = max_tokens.map(|n| n as usize);
    let (thinking, budget) = thinking(&mut f, card, max_tokens)?;
    let calls = calls(&mut f)?;
    let form = output(&mut f)?;
    let stream = f.flag("stream")?.unwrap_or(false);
    f.finish(lenient)?;
    app.log_ignored(&ignored);
    // What the last message says is the beginning of the answer.
    let goes_on =
        messages.last().is_some_and(|m| m.role == "assistant" && !m.extra.contains_key("tool_calls"));
    let with = Rendering { tools: None, thinking, extra: Map::new(), goes_on };
    Ok(Ask { budget, ..Ask::new((messages, with), draw, calls, form, stream) })
}

/// Whether the model thinks first.
fn thinking(f: &mut Fields, card: &Card, max_tokens: Option<u64>) -> Result<(Option<bool>, Option<usize>)> {
    let Some(mut f) = f.object("thinking")? else { return Ok((None, None)) };
    let kind =
        f.choice("type", &["enabled", "disabled", "adaptive"])?.ok_or_else(|| missing("thinking.type"))?;
    let budget = f.whole("budget_tokens", 1, 1 << 31)?;
    f.choice("display", &["summarized", "full", "omitted"])?;
    f.finish(None)?;
    if let (Some(budget), Some(most)) = (budget, max_tokens)
        && budget >= most
    {
        let line = format!("\"thinking.budget_tokens\" must be below \"max_tokens\", which is {most}");
        return Err(ApiError::value("thinking.budget_tokens", line));
    }
    let template = card.template.as_ref().ok();
    let has_switch = template.is_some_and(|t| t.has_thinking_switch());
    let on = match kind {
        "disabled" => crate::tools::unthinking(card, "thinking")?,
        _ if has_switch => Some(true),
        _ if template.is_some_and(|t| crate::tools::think_of(t, "").is_some()) => None,
        "adaptive" => None,
        _ => {
            let line = format!("\"{}\" does not think aloud", card.id);
            return Err(ApiError::unsupported("thinking", line));
        }
    };
    Ok((on, budget.map(|n| n as usize)))
}

fn calls(f: &mut Fields) -> Result<Calls> {
    let tools = f.list("tools", MOST_TOOLS)?.unwrap_or_default();
    let tools = tools.into_iter().enumerate().map(|(i, v)| tool(v, &format!("tools[{i}]")));
    let tools = shape::unlike(tools.collect::<Result<Vec<_>>>()?, "tools")?;
    let choice = if tools.is_empty() { Choice::None } else { Choice::Auto };
    let mut calls = Calls { tools, choice, parallel: true };
    let Some(mut f) = f.object("tool_choice")? else { return Ok(calls) };
    let kind =
        f.choice("type", &["auto", "any", "tool", "none"])?.ok_or_else(|| missing("tool_choice.type"))?;
    calls.choice = match kind {
        "auto" => Choice::Auto,
        "any" => Choice::Required,
        "none" => Choice::None,
        _ => Choice::Named(f.need_text("name")?),
    };
    calls.parallel = !f.flag("disable_parallel_tool_use")?.unwrap_or(false);
    f.finish(None)?;
    if let Choice::Named(name) = &calls.choice {
        shape::known(&calls, name, "tool_choice.name")?;
    }
    if calls.tools.is_empty() && calls.choice != Choice::None {
        return Err(ApiError::value("tool_choice", "\"tool_choice\" needs \"tools\""));
    }
    Ok(calls)
}

fn tool(value: Value, at: &str) -> Result<Tool> {
    let mut f = Fields::inner(value, at)?;
    if f.text("type")?.is_some_and(|k| k != "custom") {
        let path = format!("{at}.type");
        let line = format!("\"{path}\" must be \"custom\"; this server runs no tools of its own");
        return Err(ApiError::unsupported(path, line));
    }
    let name = f.need_text("name")?;
    shape::check_name(&name, &f.path("name"))?;
    let path = f.path("input_schema");
    let parameters = shape::parameters(Some(f.need("input_schema")?), &path)?;
    let (description, strict) = (f.text("description")?, f.flag("strict")?.unwrap_or(false));
    f.ignore(&[
        "cache_control",
        "input_examples",
        "eager_input_streaming",
        "allowed_callers",
        "defer_loading",
    ])?;
    f.finish(None)?;
    Ok(Tool { name, description, parameters, strict })
}

/// The form of the text.
fn output(f: &mut Fields) -> Result<Option<Form>> {
    let mut form = match f.object("output_format")? {
        Some(format) => schema(format)?.map(|s| (s, "output_format")),
        None => None,
    };
    if let Some(mut config) = f.object("output_config")? {
        if let Some(format) = config.object("format")? {
            form = schema(format)?.map(|s| (s, "output_config"));
        }
        config.refuse(&[("effort", "thinking is switched by \"thinking\"")])?;
        config.finish(None)?;
    }
    Ok(form)
}

fn schema(mut f: Fields) -> Result<Option<Source>> {
    let path = f.path("type");
    f.choice("type", &["json_schema"])?.ok_or_else(|| missing(&path))?;
    let schema = f.need("schema")?;
    f.finish(None)?;
    Ok(Some(Source::JsonSchema(schema)))
}

/// A text, or blocks of text.
fn texts(value: Value, at: &str) -> Result<String> {
    let blocks = match value {
        Value::String(text) => return Ok(text),
        Value::Array(blocks) => blocks,
        other => return Err(wrong(at, "a string or an array of blocks", &other)),
    };
    let each = |(i, value)| {
        let at = format!("{at}[{i}]");
        let mut f = Fields::inner(value, &at)?;
        match f.need_text("type")?.as_str() {
            "text" => text(f),
            other => Err(no_such_block(other, &at)),
        }
    };
    Ok(blocks.into_iter().enumerate().map(each).collect::<Result<Vec<_>>>()?.join("\n"))
}

fn text(mut f: Fields) -> Result<String> {
    let text = f.need_text("text")?;
    // Clients send back what they were given.
    f.ignore(&["cache_control", "citations"])?;
    f.finish(None)?;
    Ok(text)
}

fn no_such_block(kind: &str, at: &str) -> ApiError {
    let shown: String = kind.chars().take(40).collect();
    let line = match kind {
        "image" | "document" | "search_result" => {
            format!("\"{at}\" is of the type \"{shown}\"; this server takes text alone")
        }
        _ => format!("\"{at}\" is of the type \"{shown}\", which is not served here"),
    };
    ApiError::unsupported(at, line)
}

/// One message, which may become several: results of tools are messages of their own in templates.
fn message(value: Value, at: &str, to: &mut Vec<Message>) -> Result<()> {
    let mut f = Fields::inner(value, at)?;
    let path = f.path("role");
    let role = f.choice("role", &["user", "assistant", "system"])?.ok_or_else(|| missing(&path))?;
    let path = f.path("content");
    let content = f.need("content")?;
    f.finish(None)?;
    let blocks = match content {
        Value::String(text) => {
            to.push(Message::new(role, text));
            return Ok(());
        }
        Value::Array(blocks) if blocks.is_empty() => {
            let line = format!("\"{path}\" has no blocks, so that there is no message");
            return Err(ApiError::value(&path, line));
        }
        Value::Array(blocks) if blocks.len() <= MOST => blocks,
        other => return Err(wrong(&path, "a string or an array of blocks", &other)),
    };
    let mut thoughts: Vec<String> = Vec::new();
    let (mut said, mut extra, mut calls) = (Vec::new(), Map::new(), Vec::new());
    for (i, block) in blocks.into_iter().enumerate() {
        let at = format!("{path}[{i}]");
        let mut f = Fields::inner(block, &at)?;
        let kind = f.need_text("type")?;
        match (kind.as_str(), role) {
            ("text", _) => said.push(text(f)?),
            ("tool_result", "user") => to.push(result(f)?),
            ("tool_use", "assistant") => calls.push(tool_use(f)?),
            ("thinking", "assistant") => {
                thoughts.push(f.need_text("thinking")?);
                f.ignore(&["signature", "cache_control"])?;
                f.finish(None)?;
            }
            ("tool_result" | "tool_use" | "thinking", _) => {
                let line =
                    format!("\"{at}\" is of the type \"{kind}\", which the role \"{role}\" does not have");
                return Err(ApiError::value(at, line));
            }
            (other, _) => return Err(no_such_block(other, &at)),
        }
    }
    if !thoughts.is_empty() {
        extra.insert("reasoning_content".into(), thoughts.join("\n").into());
    }
    if !calls.is_empty() {
        extra.insert("tool_calls".into(), calls.into());
    }
    if !said.is_empty() || !extra.is_empty() {
        to.push(Message { role: role.into(), content: said.join("\n"), extra });
    }
    Ok(())
}

fn result(mut f: Fields) -> Result<Message> {
    let path = f.path("content");
    let id = f.need_text("tool_use_id")?;
    let content = f.take("content").map(|v| texts(v, &path)).transpose()?.unwrap_or_default();
    // Templates have no other way to say that a tool failed.
    let content = if f.flag("is_error")?.unwrap_or(false) { format!("Error: {content}") } else { content };
    f.ignore(&["cache_control"])?;
    f.finish(None)?;
    let mut message = Message::new("tool", content);
    message.extra.insert("tool_call_id".into(), id.into());
    Ok(message)
}

fn tool_use(mut f: Fields) -> Result<Value> {
    let (id, name) = (f.need_text("id")?, f.need_text("name")?);
    let path = f.path("input");
    let input = match f.take("input") {
        None => json!({}),
        Some(object @ Value::Object(_)) => object,
        Some(other) => return Err(wrong(&path, "an object", &other)),
    };
    f.ignore(&["cache_control", "caller"])?;
    f.finish(None)?;
    Ok(json!({ "id": id, "type": "function", "function": { "name": name, "arguments": input } }))
}
