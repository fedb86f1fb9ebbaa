//! /v1/messages as Anthropic's clients see it.

use serde_json::{Value, json};

use weft_server::Config;

use crate::support::{CONTEXT, Engine, Server};

const MESSAGES: &str = "/v1/messages";

/// A template with a place for tools, as Qwen has it.
pub(crate) const TOOLS: &str = "{% if tools %}{{ tools | tojson }}<tool_call>{% endif %}{% for m in messages %}\
                                [{{ m.role }}] {{ m.content }}\n{% if m.tool_calls %}{{ m.tool_calls | tojson }}\
                                {% endif %}{% endfor %}";

/// One that opens a thought.
pub(crate) const THINKS: &str = "{# </think> #}{% for m in messages %}{{ m.content }}\n{% endfor %}<think>\n";

pub(crate) fn with_template(template: &'static str) -> Server {
    Server::start(Config::default(), Engine { template: Some(template), ..Engine::default() })
}

fn ask(more: Value) -> Value {
    let mut body =
        json!({ "model": "fake", "max_tokens": 200, "messages": [{ "role": "user", "content": "Go." }] });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body.as_object_mut().expect("an object").retain(|_, v| !v.is_null());
    body
}

fn tools() -> Value {
    let schema = json!({
        "type": "object",
        "properties": { "on": { "type": "boolean" }, "how": { "enum": ["fast", "well"] } },
        "required": ["on", "how"],
        "additionalProperties": false,
    });
    json!([{ "name": "set", "description": "Sets.", "input_schema": schema },
           { "name": "stop", "input_schema": { "type": "object", "properties": {}, "additionalProperties": false } }])
}

/// The events of a stream: each has a name that its data repeats.
pub(crate) fn events(body: &str) -> Vec<Value> {
    let frames = body.split("\n\n").filter(|f| !f.is_empty());
    frames
        .map(|frame| {
            let (event, data) = frame.split_once('\n').unwrap_or_else(|| panic!("two lines: {frame:?}"));
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
            assert_eq!(data["type"], event.strip_prefix("event: ").expect("an event"));
            data
        })
        .collect()
}

/// The message that events make, as Anthropic's client puts it together.
fn joined(events: &[Value]) -> Value {
    let mut message = Value::Null;
    let (mut open, mut json) = (None, String::new());
    for event in events {
        let index = event["index"].as_u64().map(|i| i as usize);
        match event["type"].as_str().expect("a type") {
            "message_start" => message = event["message"].clone(),
            "content_block_start" => {
                let content = message["content"].as_array_mut().expect("content");
                assert_eq!((open, index), (None, Some(content.len())));
                content.push(event["content_block"].clone());
                (open, json) = (index, String::new());
            }
            "content_block_delta" => {
                assert_eq!(open, index);
                let block = &mut message["content"][index.expect("an index")];
                let delta = &event["delta"];
                let mut add = |name: &str| {
                    block[name] = (block[name].as_str().expect("a text").to_owned()
                        + delta[name].as_str().expect("a text"))
                    .into();
                };
                match delta["type"].as_str().expect("a type") {
                    "text_delta" => add("text"),
                    "thinking_delta" => add("thinking"),
                    "signature_delta" => add("signature"),
                    _ => json += delta["partial_json"].as_str().expect("a text"),
                }
            }
            "content_block_stop" => {
                assert_eq!(open.take(), index);
                let block = &mut message["content"][index.expect("an index")];
                if block["type"] == "tool_use" {
                    block["input"] =
                        serde_json::from_str(&json).unwrap_or_else(|_| json!({ "partial_json": json }));
                }
            }
            "message_delta" => {
                for name in ["stop_reason", "stop_sequence"] {
                    message[name] = event["delta"][name].clone();
                }
                message["usage"] = event["usage"].clone();
            }
            "message_stop" | "ping" => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!(events.last().map(|e| &e["type"]), Some(&json!("message_stop")));
    message
}

#[test]
fn a_stream_says_what_the_whole_answer_says() {
    let plain = Server::open();
    let tooled = with_template(TOOLS);
    let thinks = with_template(THINKS);
    for seed in 0..30 {
        let (server, more) = match seed % 5 {
            0 => (&plain, json!({ "stop_sequences": ["e", "\u{e9}"] })),
            1 => (&tooled, json!({ "tools": tools(), "tool_choice": { "type": "any" } })),
            2 => (
                &tooled,
                json!({ "tools": tools(), "tool_choice": { "type": "tool", "name": "set", "disable_parallel_tool_use": true } }),
            ),
            3 => (&thinks, json!({ "max_tokens": 20 })),
            _ => (&tooled, json!({ "tools": tools() })),
        };
        let mut body = ask(more);
        body["seed"] = seed.into();
        let mut whole = server.post(MESSAGES, &body).json();
        body["stream"] = true.into();
        let reply = server.post(MESSAGES, &body);
        assert_eq!(reply.header("content-type"), Some("text/event-stream"));
        let mut streamed = joined(&events(&reply.body));
        for message in [&mut whole, &mut streamed] {
            let id = message["id"].take();
            assert!(id.as_str().is_some_and(|i| i.starts_with("msg_")), "{id}");
            for block in message["content"].as_array_mut().expect("content") {
                let id = block["id"].take();
                assert!(
                    block["type"] != "tool_use" || id.as_str().is_some_and(|i| i.starts_with("toolu_")),
                    "{id}"
                );
            }
            // Prompts that were asked before are in the cache.
            message["usage"]["input_tokens"].take();
            message["usage"]["cache_read_input_tokens"].take();
        }
        assert_eq!(whole, streamed);
        let reason = whole["stop_reason"].as_str().expect("a reason");
        let kinds: Vec<&str> =
            whole["content"].as_array().expect("content").iter().filter_map(|b| b["type"].as_str()).collect();
        match seed % 5 {
            0 if reason == "stop_sequence" => {
                assert!(["e", "\u{e9}"].contains(&whole["stop_sequence"].as_str().expect("a stop")))
            }
            0 | 4 => {}
            3 => assert_eq!(kinds, ["thinking"], "{whole}"),
            n => {
                assert!(reason == "tool_use" || reason == "max_tokens", "{whole}");
                assert!(kinds.iter().all(|k| *k == "tool_use") && (n == 1 || kinds.len() == 1), "{whole}");
            }
        }
    }
}

#[test]
fn conversations_with_tools_are_read() {
    let server = with_template(TOOLS);
    let messages = json!([
        { "role": "user", "content": [{ "type": "text", "text": "Switch it on.", "cache_control": { "type": "ephemeral" } }] },
        { "role": "assistant", "content": [
            { "type": "thinking", "thinking": "Hm.", "signature": "" },
            { "type": "text", "text": "Well." },
            { "type": "tool_use", "id": "toolu_1", "name": "set", "input": { "on": true, "how": "fast" } }] },
        { "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": "toolu_1", "content": [{ "type": "text", "text": "done" }] },
            { "type": "text", "text": "Thanks." }] },
    ]);
    let body = ask(
        json!({ "messages": messages, "tools": tools(), "system": [{ "type": "text", "text": "Be brief." }],
                           "metadata": { "user_id": "x" }, "max_tokens": 5 }),
    );
    let reply = server.post(MESSAGES, &body);
    assert_eq!(reply.status, 200, "{reply:?}");
    let usage = &reply.json()["usage"];
    let total = usage["input_tokens"].as_u64().expect("a number")
        + usage["cache_read_input_tokens"].as_u64().expect("a number");
    let mut count = body.clone();
    count.as_object_mut().expect("an object").remove("max_tokens");
    assert_eq!(server.post("/v1/messages/count_tokens", &count).json(), json!({ "input_tokens": total }));
}

#[test]
fn what_is_not_served_is_named() {
    let server = with_template(TOOLS);
    let user = |content: Value| json!({ "messages": [{ "role": "user", "content": content }] });
    for (more, code, param) in [
        (json!({ "max_tokens": null }), "missing_required_parameter", "max_tokens"),
        (json!({ "max_token": 1 }), "unknown_parameter", "max_token"),
        (json!({ "mcp_servers": [{ "url": "x" }] }), "unsupported_parameter", "mcp_servers"),
        (json!({ "n": 2 }), "unsupported_parameter", "n"),
        (json!({ "messages": [] }), "invalid_value", "messages"),
        (user(json!([{ "type": "image", "source": {} }])), "unsupported_parameter", "messages[0].content[0]"),
        (user(json!([])), "invalid_value", "messages[0].content"),
        (
            json!({ "messages": [{ "role": "user", "content": "x" },
                { "role": "assistant", "content": [{ "type": "tool_use", "id": "a", "name": "set", "input": {} }] },
                { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "b", "content": "1" }] }] }),
            "invalid_value",
            "messages",
        ),
        (user(json!([{ "type": "text" }])), "missing_required_parameter", "messages[0].content[0].text"),
        (
            user(json!([{ "type": "tool_use", "id": "a", "name": "b", "input": {} }])),
            "invalid_value",
            "messages[0].content[0]",
        ),
        (
            json!({ "tools": [{ "type": "web_search_20250305", "name": "web_search" }] }),
            "unsupported_parameter",
            "tools[0].type",
        ),
        (json!({ "tools": [{ "name": "a" }] }), "missing_required_parameter", "tools[0].input_schema"),
        (json!({ "tool_choice": { "type": "any" } }), "invalid_value", "tool_choice"),
        (
            json!({ "thinking": { "type": "enabled", "budget_tokens": 1024 } }),
            "invalid_value",
            "thinking.budget_tokens",
        ),
        (json!({ "thinking": { "type": "enabled" } }), "unsupported_parameter", "thinking"),
        (
            json!({ "output_format": { "type": "json_schema", "schema": { "not": {} } } }),
            "invalid_schema",
            "output_format",
        ),
        (user("word ".repeat(CONTEXT).into()), "context_length_exceeded", "messages"),
    ] {
        let reply = server.post(MESSAGES, &ask(more.clone()));
        assert_eq!(reply.error(), (400, code.to_owned(), param.to_owned()), "{more} {reply:?}");
        let body = reply.json();
        assert_eq!(
            (&body["type"], &body["error"]["type"]),
            (&json!("error"), &json!("invalid_request_error"))
        );
    }
    let reply = server.post(MESSAGES, &ask(json!({ "model": "claude-x" })));
    assert_eq!((reply.status, &reply.json()["error"]["type"]), (404, &json!("not_found_error")));
    let reply = server.post_bytes(MESSAGES, b"{");
    assert_eq!((reply.status, &reply.json()["type"]), (400, &json!("error")));
}
