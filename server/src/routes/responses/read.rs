//! What clients of /v1/responses ask.

use serde_json::{Map, Value, json};
use weft_formats::chat::Message;

use super::super::number;
use crate::app::App;
use crate::ask::{self, Ask};
use crate::card::{Card, Rendering};
use crate::draw::Draw;
use crate::error::{ApiError, Result};
use crate::fields::{Fields, missing, wrong};
use crate::grammar::Source;
use crate::shape::{self, Form, MOST_TOOLS};
use crate::tools::{Calls, Choice, Tool};

/// Items of a conversation at most.
const MOST: usize = 16 << 10;

/// Fields that are documented and change nothing here.
const IGNORED: &[&str] = &[
    "user",
    "safety_identifier",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
];

/// Fields that are documented and not served.
const REFUSED: &[(&str, &str)] = &[
    ("background", "an answer comes while its client waits"),
    ("conversation", "give previous_response_id, or the whole input"),
    ("prompt", "there are no stored prompts"),
    ("max_tool_calls", "this server runs no tools of its own"),
    ("context_management", "nothing is cut from a conversation here"),
];

/// What is asked, and what the answer repeats of it.
pub(super) struct Asked {
    pub(super) ask: Ask,
    /// The items that this request adds to the conversation.
    pub(super) input: Vec<Value>,
    pub(super) echo: Value,
    pub(super) store: bool,
}

/// What the answer repeats for its client.
fn metadata(f: &mut Fields) -> Result<Value> {
    match f.take("metadata") {
        None => Ok(json!({})),
        Some(map @ Value::Object(_)) => Ok(map),
        Some(other) => Err(wrong("metadata", "an object", &other)),
    }
}

/// Reads the body of a request, without its `model`. `before` are the items of the conversation so far.
pub(super) fn asked(mut f: Fields, app: &App, card: &Card, before: &[Value]) -> Result<Asked> {
    let mut ignored = Vec::new();
    let lenient = app.config.lenient.then_some(&mut ignored);
    f.ignore(IGNORED)?;
    // False asks for nothing.
    if f.flag("background")? == Some(true) {
        return Err(ApiError::unsupported(
            "background",
            "\"background\" is not supported: an answer comes while its client waits",
        ));
    }
    f.refuse(&REFUSED[1..])?;
    let metadata = metadata(&mut f)?;
    let instructions = f.text("instructions")?;
    let input = items(f.need("input")?, app)?;
    let mut messages: Vec<Message> = instructions.iter().map(Message::system).collect();
    for (i, item) in before.iter().chain(&input).enumerate() {
        let at = i
            .checked_sub(before.len())
            .map_or_else(|| "previous_response_id".to_owned(), |i| format!("input[{i}]"));
        read_item(item.clone(), &at, &mut messages)?;
    }
    if messages.is_empty() {
        return Err(ApiError::value("input", "\"input\" is empty"));
    }
    let messages = crate::messages::paired(messages, "input")?;
    let tools = f.take("tools");
    let given = f.take("tool_choice");
    let (echo_tools, echo_choice) =
        (tools.clone().unwrap_or_else(|| json!([])), given.clone().unwrap_or_else(|| "auto".into()));
    let parallel = f.flag("parallel_tool_calls")?.unwrap_or(true);
    let calls = calls(tools, given, parallel)?;
    let (form, echo_text, verbosity) = text(&mut f, card)?;
    let mut draw = Draw::read(&mut f, card, app.id())?;
    draw.max_tokens = f.whole("max_output_tokens", 1, 1 << 31)?.map(|n| n as usize);
    if f.whole("top_logprobs", 0, 20)?.unwrap_or(0) > 0 {
        let line = "log-probabilities are told at /v1/chat/completions alone";
        return Err(ApiError::unsupported("top_logprobs", line));
    }
    let (thinking, mut extra, effort) = reasoning(&mut f, card)?;
    extra.extend(verbosity);
    include(&mut f)?;
    if f.choice("truncation", &["disabled", "auto"])? == Some("auto") {
        return Err(ApiError::unsupported(
            "truncation",
            "nothing is cut from a conversation here; \"disabled\" alone is served",
        ));
    }
    let store = f.flag("store")?.unwrap_or(true);
    let stream = f.flag("stream")?.unwrap_or(false);
    if let Some(mut options) = f.object("stream_options")? {
        if options.flag("include_obfuscation")? == Some(true) {
            return Err(ApiError::unsupported(
                "stream_options.include_obfuscation",
                "events are not padded here",
            ));
        }
        options.finish(None)?;
    }
    f.finish(lenient)?;
    app.log_ignored(&ignored);
    let echo = json!({
        "instructions": instructions, "max_output_tokens": draw.max_tokens, "metadata": metadata,
        "parallel_tool_calls": parallel, "store": store, "temperature": number(draw.sampling.temperature),
        "text": echo_text, "tool_choice": echo_choice, "tools": echo_tools, "top_p": number(draw.sampling.top_p),
        "truncation": "disabled", "reasoning": { "effort": effort, "summary": null },
    });
    let with = Rendering { tools: None, thinking, extra, goes_on: false };
    let ask = Ask::new((messages, with), draw, calls, form, stream);
    Ok(Asked { ask, input, echo, store })
}

/// `input` as items, each with an id.
fn items(input: Value, app: &App) -> Result<Vec<Value>> {
    let mut items = match input {
        Value::String(text) => {
            vec![
                json!({ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": text }] }),
            ]
        }
        Value::Array(items) if items.len() <= MOST => items,
        Value::Array(items) => {
            let line = format!("\"input\" has {} items; at most {MOST} are taken", items.len());
            return Err(ApiError::value("input", line));
        }
        other => return Err(wrong("input", "a string or an array of items", &other)),
    };
    for item in &mut items {
        if let Value::Object(map) = item {
            if map.get("id").is_none_or(Value::is_null) {
                map.insert("id".into(), format!("item_{:016x}", app.id()).into());
            }
            map.entry("type").or_insert_with(|| "message".into());
        }
    }
    Ok(items)
}

/// Adds an item to the messages of a template: what an assistant thinks, says and calls is one message there.
fn read_item(item: Value, at: &str, to: &mut Vec<Message>) -> Result<()> {
    let mut f = Fields::inner(item, at)?;
    // Clients send back what they were given.
    f.ignore(&["id", "status", "phase", "created_by"])?;
    let kind = f.need_text("type")?;
    match kind.as_str() {
        "message" => {
            let path = f.path("role");
            let role = f
                .choice("role", &["system", "developer", "user", "assistant"])?
                .ok_or_else(|| missing(&path))?;
            let path = f.path("content");
            let content =
                parts(f.need("content")?, &path, &["input_text", "output_text", "text", "refusal"])?;
            f.finish(None)?;
            // What was thought before belongs to what is said.
            match to.last_mut() {
                Some(last) if role == "assistant" && is_open(last) => last.content = content,
                _ => to.push(Message::new(if role == "developer" { "system" } else { role }, content)),
            }
        }
        "reasoning" => {
            let path = f.path("content");
            f.ignore(&["summary", "encrypted_content"])?;
            let content = f.take("content").map(|v| parts(v, &path, &["reasoning_text"])).transpose()?;
            f.finish(None)?;
            if let Some(text) = content.filter(|t| !t.is_empty()) {
                let mut message = Message::assistant("");
                message.extra.insert("reasoning_content".into(), text.into());
                to.push(message);
            }
        }
        "function_call" => {
            let (id, name) = (f.need_text("call_id")?, f.need_text("name")?);
            let path = f.path("arguments");
            let text = f.text("arguments")?.unwrap_or_default();
            f.finish(None)?;
            let arguments = match text.trim() {
                "" => json!({}),
                text => match serde_json::from_str(text) {
                    Ok(object @ Value::Object(_)) => object,
                    _ => return Err(ApiError::value(&path, format!("\"{path}\" holds no JSON object"))),
                },
            };
            let call =
                json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } });
            if to.last().is_none_or(|m| m.role != "assistant") {
                to.push(Message::assistant(""));
            }
            if let Some(Value::Array(calls)) =
                to.last_mut().map(|m| m.extra.entry("tool_calls").or_insert_with(|| json!([])))
            {
                calls.push(call);
            }
        }
        "function_call_output" => {
            let id = f.need_text("call_id")?;
            let path = f.path("output");
            let output = parts(f.need("output")?, &path, &["input_text", "output_text", "text"])?;
            f.finish(None)?;
            let mut message = Message::new("tool", output);
            message.extra.insert("tool_call_id".into(), id.into());
            to.push(message);
        }
        other => {
            let shown: String = other.chars().take(40).collect();
            let line = format!(
                "\"{at}\" is of the type \"{shown}\"; message, reasoning, function_call and function_call_output are served"
            );
            return Err(ApiError::unsupported(at, line));
        }
    }
    Ok(())
}

/// Whether a message holds a thought alone.
fn is_open(message: &Message) -> bool {
    message.role == "assistant" && message.content.is_empty() && !message.extra.contains_key("tool_calls")
}

/// A text, or parts of text.
fn parts(value: Value, at: &str, kinds: &[&str]) -> Result<String> {
    let parts = match value {
        Value::String(text) => return Ok(text),
        Value::Array(parts) => parts,
        other => return Err(wrong(at, "a string or an array of parts", &other)),
    };
    let mut text = String::new();
    for (i, part) in parts.into_iter().enumerate() {
        let at = format!("{at}[{i}]");
        let mut f = Fields::inner(part, &at)?;
        let kind = f.need_text("type")?;
        if !kinds.contains(&kind.as_str()) {
            let shown: String = kind.chars().take(40).collect();
            let line = format!(
                "\"{at}\" is of the type \"{shown}\"; this server takes text alone: {}",
                kinds.join(", ")
            );
            return Err(ApiError::unsupported(at, line));
        }
        text += &f.need_text(if kind == "refusal" { "refusal" } else { "text" })?;
        f.ignore(&["annotations", "logprobs"])?;
        f.finish(None)?;
    }
    Ok(text)
}

fn calls(tools: Option<Value>, choice: Option<Value>, parallel: bool) -> Result<Calls> {
    let list = match tools {
        None => Vec::new(),
        Some(Value::Array(list)) if list.len() <= MOST_TOOLS => list,
        Some(Value::Array(list)) => {
            return Err(ApiError::value(
                "tools",
                format!("\"tools\" has {} entries; at most {MOST_TOOLS} are taken", list.len()),
            ));
        }
        Some(other) => return Err(wrong("tools", "an array", &other)),
    };
    let tools = list.into_iter().enumerate().map(|(i, v)| tool(v, &format!("tools[{i}]")));
    let tools = shape::unlike(tools.collect::<Result<Vec<_>>>()?, "tools")?;
    let none = tools.is_empty();
    let mut calls = Calls { tools, choice: if none { Choice::None } else { Choice::Auto }, parallel };
    match choice {
        None => {}
        // A choice among no tools is none.
        Some(Value::String(word)) if none && word == "auto" => {}
        Some(Value::Object(map)) if map.get("type").and_then(Value::as_str) == Some("function") => {
            let mut f = Fields::inner(Value::Object(map), "tool_choice")?;
            f.take("type");
            let name = f.need_text("name")?;
            f.finish(None)?;
            shape::known(&calls, &name, "tool_choice.name")?;
            calls.choice = Choice::Named(name);
        }
        Some(Value::Object(map)) if map.get("type").and_then(Value::as_str) == Some("allowed_tools") => {
            allowed(map, &mut calls)?;
        }
        Some(other) => shape::choose(other, &mut calls)?,
    }
    if none && calls.choice != Choice::None {
        return Err(ApiError::value("tool_choice", "\"tool_choice\" needs \"tools\""));
    }
    Ok(calls)
}

fn allowed(map: Map<String, Value>, calls: &mut Calls) -> Result<()> {
    let mut f = Fields::inner(Value::Object(map), "tool_choice")?;
    f.take("type");
    let mode = f.choice("mode", &["auto", "required"])?.ok_or_else(|| missing("tool_choice.mode"))?;
    let list = f.list("tools", MOST_TOOLS)?.ok_or_else(|| missing("tool_choice.tools"))?;
    f.finish(None)?;
    let mut names = Vec::new();
    for (i, value) in list.into_iter().enumerate() {
        let mut f = Fields::inner(value, &format!("tool_choice.tools[{i}]"))?;
        f.choice("type", &["function"])?;
        let name = f.need_text("name")?;
        f.finish(None)?;
        shape::known(calls, &name, "tool_choice.tools")?;
        names.push(name);
    }
    calls.tools.retain(|t| names.contains(&t.name));
    calls.choice = if mode == "auto" { Choice::Auto } else { Choice::Required };
    Ok(())
}

fn tool(value: Value, at: &str) -> Result<Tool> {
    let mut f = Fields::inner(value, at)?;
    if f.need_text("type")? != "function" {
        let path = format!("{at}.type");
        let line = format!("\"{path}\" must be \"function\"; this server runs no tools of its own");
        return Err(ApiError::unsupported(path, line));
    }
    let name = f.need_text("name")?;
    shape::check_name(&name, &f.path("name"))?;
    let path = f.path("parameters");
    let parameters = shape::parameters(f.take("parameters"), &path)?;
    let (description, strict) = (f.text("description")?, f.flag("strict")?.unwrap_or(false));
    f.finish(None)?;
    Ok(Tool { name, description, parameters, strict })
}

/// The form of the text, what the answer repeats of it, and how much is to be said, for the template.
type Text = (Option<Form>, Value, Option<(String, Value)>);

fn text(f: &mut Fields, card: &Card) -> Result<Text> {
    let plain = json!({ "format": { "type": "text" } });
    let Some(mut text) = f.object("text")? else { return Ok((None, plain, None)) };
    let verbosity = ask::verbosity(&mut text, card)?;
    let echo = text.take("format");
    text.finish(None)?;
    let Some(value) = echo else { return Ok((None, plain, verbosity)) };
    let mut format = Fields::inner(value.clone(), "text.format")?;
    let kind = format
        .choice("type", &["text", "json_object", "json_schema"])?
        .ok_or_else(|| missing("text.format.type"))?;
    let source = match kind {
        "text" => None,
        "json_object" => Some(Source::JsonObject),
        _ => {
            // A schema is kept to in any case.
            format.ignore(&["name", "description", "strict"])?;
            Some(Source::JsonSchema(format.need("schema")?))
        }
    };
    format.finish(None)?;
    Ok((source.map(|s| (s, "text.format")), json!({ "format": value }), verbosity))
}

type Reasoning = (Option<bool>, Map<String, Value>, Option<String>);

fn reasoning(f: &mut Fields, card: &Card) -> Result<Reasoning> {
    let Some(mut inner) = f.object("reasoning")? else { return Ok((None, Map::new(), None)) };
    // Thoughts are told as they are; nobody sums them up.
    inner.choice("summary", &["auto", "concise", "detailed"])?;
    inner.choice("generate_summary", &["auto", "concise", "detailed"])?;
    let effort = inner.text("effort")?;
    inner.finish(None)?;
    let mut map = Map::new();
    if let Some(effort) = &effort {
        map.insert("reasoning_effort".into(), effort.as_str().into());
    }
    let (thinking, extra) =
        ask::thinking(&mut Fields::body(Value::Object(map))?, card).map_err(|mut e| {
            e.message = e.message.replace("reasoning_effort", "reasoning.effort");
            e.at("reasoning.effort")
        })?;
    Ok((thinking, extra, effort))
}

fn include(f: &mut Fields) -> Result<()> {
    for value in f.list("include", 16)?.unwrap_or_default() {
        // Thoughts are in the open here, and what sends them back works with them as they are.
        if value != "reasoning.encrypted_content" {
            let shown: String = value.to_string().chars().take(60).collect();
            return Err(ApiError::unsupported("include", format!("{shown} in \"include\" is not served")));
        }
    }
    Ok(())
}
