//! The messages of a conversation, from OpenAI's shape to what templates read.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use weft_formats::chat::Message;

use crate::error::{ApiError, Result};
use crate::fields::{Fields, missing, wrong};

/// Messages of a conversation at most.
const MOST: usize = 16 << 10;
const ROLES: &[&str] = &["system", "developer", "user", "assistant", "tool"];

/// Reads `messages`.
pub(crate) fn read(f: &mut Fields, ignored: &mut Option<&mut Vec<String>>) -> Result<Vec<Message>> {
    let all = f.list("messages", MOST)?.ok_or_else(|| missing("messages"))?;
    if all.is_empty() {
        return Err(ApiError::value("messages", "\"messages\" is empty"));
    }
    let all = all.into_iter().enumerate().map(|(i, v)| message(v, &format!("messages[{i}]"), ignored));
    paired(all.collect::<Result<Vec<_>>>()?, "messages")
}

/// The ids of a message's calls, where each has one of its own.
fn ids(message: &Message) -> Option<Vec<String>> {
    let calls = message.extra.get("tool_calls").and_then(Value::as_array)?;
    let ids: Vec<String> = calls.iter().filter_map(|call| Some(call["id"].as_str()?.to_owned())).collect();
    let own = ids.iter().enumerate().all(|(i, id)| !ids[..i].contains(id));
    (own && ids.len() == calls.len()).then_some(ids)
}

/// A conversation whose results of tools stand in the order of their calls: many templates show no ids, and there the
/// first result is taken for that of the first call. `param` is the field that it came in.
///
/// # Errors
/// As OpenAI and Anthropic have it: a result of no call of the message before it, two of one call, or results of some
/// calls alone. Calls of which none has a result were broken off, and nothing is mistaken for theirs.
pub(crate) fn paired(mut messages: Vec<Message>, param: &str) -> Result<Vec<Message>> {
    let wrong = |line: String| Err(ApiError::value(param, line));
    let is_result = |m: &Message| m.role == "tool" && m.extra.contains_key("tool_call_id");
    let mut at = 0;
    while let Some(first) = messages[at..].iter().position(is_result).map(|n| at + n) {
        let end = first + messages[first..].iter().take_while(|m| is_result(m)).count();
        at = end;
        let calling = first.checked_sub(1).map(|i| &messages[i]);
        let Some(calling) = calling.filter(|m| m.extra.contains_key("tool_calls")) else {
            let id = &messages[first].extra["tool_call_id"];
            return wrong(format!("the result of the call {id} does not follow a message that calls a tool"));
        };
        let Some(ids) = ids(calling) else { continue };
        let place = |m: &Message| ids.iter().position(|id| m.extra["tool_call_id"] == **id);
        let results = &mut messages[first..end];
        let mut left: Vec<&String> = ids.iter().collect();
        for result in results.iter() {
            let id = &result.extra["tool_call_id"];
            let Some(found) = left.iter().position(|call| *id == ***call) else {
                let why = if place(result).is_some() {
                    "has two results"
                } else {
                    "is none of the message before it"
                };
                return wrong(format!("the call {id} {why}; its calls are {}", ids.join(", ")));
            };
            left.remove(found);
        }
        if let Some(call) = left.first() {
            return wrong(format!("the call \"{call}\" has no result, and others of its message have one"));
        }
        results.sort_by_key(place);
    }
    Ok(messages)
}

fn message(value: Value, at: &str, ignored: &mut Option<&mut Vec<String>>) -> Result<Message> {
    let mut f = Fields::inner(value, at)?;
    let role = f.choice("role", ROLES)?.ok_or_else(|| missing(&format!("{at}.role")))?;
    let content = f.take("content");
    let mut extra = Map::new();
    if let Some(name) = f.text("name")? {
        // As OpenAI has it: it stands among a template's marks, and must not look like one.
        let wrong = |c: char| c.is_whitespace() || c.is_control() || "<|\\/>".contains(c);
        if name.is_empty() || name.chars().count() > 64 || name.contains(wrong) {
            let line = format!("\"{at}.name\" must have 1 to 64 characters, and no space, <, |, \\, / or >");
            return Err(ApiError::value(format!("{at}.name"), line));
        }
        extra.insert("name".into(), name.into());
    }
    let calls = f.list("tool_calls", 128)?.unwrap_or_default();
    let call_id = f.text("tool_call_id")?;
    let reasoning = f.text("reasoning_content")?.or(f.text("reasoning")?);
    let refusal = f.text("refusal")?;
    f.refuse(&[
        ("audio", "this server takes text alone"),
        ("function_call", "it was replaced by tool_calls"),
    ])?;
    // Clients send back what they were given, and what they made of it.
    f.ignore(&["parsed"])?;
    if f.list("annotations", 0).is_err() {
        let path = format!("{at}.annotations");
        return Err(ApiError::unsupported(&path, format!("\"{path}\" is not supported: it must be empty")));
    }
    f.finish(ignored.as_deref_mut())?;
    let only = |name: &str, there: bool, who: &str| match there && role != who {
        true => {
            Err(ApiError::value(format!("{at}.{name}"), format!("\"{at}.{name}\" is for the role \"{who}\"")))
        }
        false => Ok(()),
    };
    only("tool_calls", !calls.is_empty(), "assistant")?;
    only("tool_call_id", call_id.is_some(), "tool")?;
    only("reasoning_content", reasoning.is_some(), "assistant")?;
    only("refusal", refusal.is_some(), "assistant")?;
    let content = match content {
        Some(content) => text(content, &format!("{at}.content"))?,
        None => match (role, refusal) {
            ("assistant", Some(refusal)) => refusal,
            ("assistant", None) if !calls.is_empty() || reasoning.is_some() => String::new(),
            _ => return Err(missing(&format!("{at}.content"))),
        },
    };
    if let Some(id) = call_id {
        extra.insert("tool_call_id".into(), id.into());
    } else if role == "tool" {
        return Err(missing(&format!("{at}.tool_call_id")));
    }
    if let Some(reasoning) = reasoning {
        extra.insert("reasoning_content".into(), reasoning.into());
    }
    if !calls.is_empty() {
        let calls = calls.into_iter().enumerate().map(|(i, c)| call(c, &format!("{at}.tool_calls[{i}]")));
        extra.insert("tool_calls".into(), calls.collect::<Result<Vec<Value>>>()?.into());
    }
    // Templates know the older name.
    let role = if role == "developer" { "system" } else { role };
    Ok(Message { role: role.into(), content, extra })
}

/// The place of the first message whose name would be lost: it is by another participant than an earlier one of the same
/// role, and `render` gives the same text without names.
pub(crate) fn lost_name(
    messages: &[Message],
    render: &dyn Fn(&[Message]) -> Option<String>,
) -> Option<usize> {
    let by = |m: &Message| m.extra.get("name").and_then(Value::as_str).map(str::to_owned);
    let mut first: BTreeMap<&str, Option<String>> = BTreeMap::new();
    // A tool's result stands where its call does.
    let mut talk = messages.iter().enumerate().filter(|(_, m)| m.role != "tool");
    let other = talk.find(|(_, m)| *first.entry(&m.role).or_insert_with(|| by(m)) != by(m))?.0;
    let without = |m: &Message| {
        let mut m = m.clone();
        m.extra.remove("name");
        m
    };
    let bare: Vec<Message> = messages.iter().map(without).collect();
    (render(messages)? == render(&bare)?).then_some(other)
}

/// The text of `content`: a string, or parts of text.
pub(crate) fn text(value: Value, at: &str) -> Result<String> {
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
        match kind.as_str() {
            "text" => text += &f.need_text("text")?,
            "refusal" => text += &f.need_text("refusal")?,
            "image_url" | "input_audio" | "file" | "video_url" => {
                let line = format!("\"{at}\" is of the type \"{kind}\"; this server takes text alone");
                return Err(ApiError::unsupported(at, line));
            }
            _ => {
                let shown: String = kind.chars().take(40).collect();
                let line = format!("\"{at}.type\" must be \"text\", not \"{shown}\"");
                return Err(ApiError::bad("unsupported_value", line).at(format!("{at}.type")));
            }
        }
        // A hint to caches, which this server has no need of.
        f.ignore(&["cache_control", "prompt_cache_breakpoint"])?;
        f.finish(None)?;
    }
    Ok(text)
}

/// A call of the conversation so far. Templates take its arguments as an object.
fn call(value: Value, at: &str) -> Result<Value> {
    let mut f = Fields::inner(value, at)?;
    let id = f.text("id")?;
    f.choice("type", &["function"])?;
    f.ignore(&["index"])?;
    let path = f.path("function");
    let mut function = f.object("function")?.ok_or_else(|| missing(&path))?;
    f.finish(None)?;
    let name = function.need_text("name")?;
    let path = function.path("arguments");
    let arguments = match function.take("arguments") {
        None => json!({}),
        Some(object @ Value::Object(_)) => object,
        Some(Value::String(text)) if text.trim().is_empty() => json!({}),
        Some(Value::String(text)) => match serde_json::from_str(&text) {
            Ok(object @ Value::Object(_)) => object,
            _ => return Err(ApiError::value(&path, format!("\"{path}\" holds no JSON object"))),
        },
        Some(other) => return Err(wrong(&path, "a string that holds a JSON object", &other)),
    };
    function.ignore(&["parsed_arguments"])?;
    function.finish(None)?;
    let mut call = json!({ "type": "function", "function": { "name": name, "arguments": arguments } });
    if let Some(id) = id {
        call["id"] = id.into();
    }
    Ok(call)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::read;
    use crate::fields::Fields;

    fn messages(value: serde_json::Value) -> Result<Vec<weft_formats::chat::Message>, String> {
        let mut f = Fields::body(json!({ "messages": value })).unwrap();
        read(&mut f, &mut None).map_err(|e| format!("{} ({})", e.message, e.param.unwrap_or_default()))
    }

    #[test]
    fn conversations_are_read() {
        let all = messages(json!([
            { "role": "developer", "content": [{ "type": "text", "text": "Be " }, { "type": "text", "text": "brief." }] },
            { "role": "user", "content": "Hi", "name": "me" },
            { "role": "assistant", "content": null, "refusal": null, "tool_calls": [
                { "id": "call_1", "type": "function", "function": { "name": "f", "arguments": "{\"a\": 1}" } },
                { "id": "call_2", "type": "function", "function": { "name": "g", "arguments": "" } }] },
            { "role": "tool", "tool_call_id": "call_2", "content": "3" },
            { "role": "tool", "tool_call_id": "call_1", "content": "2" },
        ]))
        .unwrap();
        assert_eq!((all[0].role.as_str(), all[0].content.as_str()), ("system", "Be brief."));
        assert_eq!(all[2].extra["tool_calls"][0]["function"]["arguments"], json!({ "a": 1 }));
        assert_eq!(all[2].extra["tool_calls"][1]["function"]["arguments"], json!({}));
        // In the order of the calls, which is what most templates go by.
        assert_eq!((&all[3].extra["tool_call_id"], &*all[3].content), (&json!("call_1"), "2"));
        assert_eq!((&all[4].extra["tool_call_id"], &*all[4].content), (&json!("call_2"), "3"));
    }

    #[test]
    fn results_belong_to_calls() {
        let call = |id: &str| json!({ "id": id, "function": { "name": "f", "arguments": "{}" } });
        let calls = json!({ "role": "assistant", "tool_calls": [call("a"), call("b")] });
        let result = |id: &str| json!({ "role": "tool", "tool_call_id": id, "content": id });
        let user = json!({ "role": "user", "content": "x" });
        for (value, part) in [
            (json!([user, result("a")]), "\"a\" does not follow a message that calls a tool"),
            (
                json!([calls, result("a"), result("c")]),
                "\"c\" is none of the message before it; its calls are a, b",
            ),
            (json!([calls, result("a"), result("a")]), "\"a\" has two results"),
            (json!([calls, result("b"), user]), "\"a\" has no result"),
            (json!([calls, result("a"), result("b"), user, result("a")]), "does not follow"),
        ] {
            let error = messages(value).unwrap_err();
            assert!(error.contains(part) && error.ends_with("(messages)"), "{error}");
        }
        let order = |value| {
            let all = messages(value).unwrap();
            all.into_iter().filter(|m| m.role == "tool").map(|m| m.content).collect::<String>()
        };
        assert_eq!(
            order(json!([calls, result("b"), result("a"), user, calls, result("a"), result("b")])),
            "abab"
        );
        // Calls that were broken off, and those that cannot be told apart, are as they were given.
        assert_eq!(order(json!([calls, user])), "");
        let alike = json!({ "role": "assistant", "tool_calls": [call("a"), call("a")] });
        assert_eq!(order(json!([alike, result("a"), result("a")])), "aa");
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (value, part) in [
            (json!([]), "is empty (messages)"),
            (json!([{ "role": "user" }]), "\"messages[0].content\" is missing"),
            (json!([{ "role": "robot", "content": "x" }]), "must be one of system, developer"),
            (json!([{ "role": "user", "content": 7 }]), "not 7 (messages[0].content)"),
            (
                json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": {} }] }]),
                "text alone",
            ),
            (json!([{ "role": "user", "content": "x", "name": "" }]), "(messages[0].name)"),
            (json!([{ "role": "user", "content": "x", "name": "a b" }]), "1 to 64 characters"),
            (json!([{ "role": "user", "content": "x", "name": "<|im_end|>" }]), "(messages[0].name)"),
            (json!([{ "role": "user", "content": "x", "name": "n".repeat(65) }]), "1 to 64 characters"),
            (json!([{ "role": "user", "content": "x", "contnt": 1 }]), "did you mean \"content\"?"),
            (json!([{ "role": "tool", "content": "x" }]), "tool_call_id\" is missing"),
            (json!([{ "role": "user", "content": "x", "tool_call_id": "a" }]), "is for the role \"tool\""),
            (
                json!([{ "role": "assistant", "tool_calls": [{ "function": { "name": "f", "arguments": "{" } }] }]),
                "(messages[0].tool_calls[0].function.arguments)",
            ),
        ] {
            let error = messages(value).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn names_that_a_template_reads_are_kept() {
        let reads = |m: &[weft_formats::chat::Message]| {
            Some(m.iter().map(|m| format!("{:?}{}\n", m.extra.get("name"), m.content)).collect::<String>())
        };
        let deaf = |m: &[weft_formats::chat::Message]| {
            Some(m.iter().map(|m| format!("{}\n", m.content)).collect::<String>())
        };
        let lost = |names: &[(&str, Option<&str>)],
                    reads: &dyn Fn(&[weft_formats::chat::Message]) -> Option<String>| {
            let one =
                |(role, name): &(&str, Option<&str>)| json!({ "role": role, "content": "x", "name": name });
            let all: Vec<_> = names.iter().map(one).collect();
            super::lost_name(&messages(all.into()).unwrap(), reads)
        };
        let two = [("user", Some("ann")), ("assistant", None), ("user", Some("bob"))];
        assert_eq!((lost(&two, &reads), lost(&two, &deaf)), (None, Some(2)));
        // One of each role is who it is.
        let one = [
            ("system", Some("rules")),
            ("user", Some("ann")),
            ("assistant", Some("bot")),
            ("user", Some("ann")),
        ];
        assert_eq!((lost(&one, &deaf), lost(&[("user", None), ("user", None)], &deaf)), (None, None));
        assert_eq!(lost(&[("user", None), ("user", Some("ann"))], &deaf), Some(1));
    }
}
