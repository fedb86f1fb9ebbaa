//! Ollama's API as its clients see it.

use serde_json::{Value, json};

use crate::anthropic::{THINKS, TOOLS, with_template};
use crate::support::{CONTEXT, Reply, Server};

fn ask(more: Value) -> Value {
    let mut body = json!({ "model": "fake", "options": { "num_predict": 100 },
                           "messages": [{ "role": "user", "content": "Go." }] });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body.as_object_mut().expect("an object").retain(|_, v| !v.is_null());
    body
}

fn tools() -> Value {
    let schema = json!({ "type": "object", "properties": { "on": { "type": "boolean" } }, "required": ["on"],
                         "additionalProperties": false });
    json!([{ "type": "function", "function": { "name": "set", "description": "Sets.", "parameters": schema } }])
}

fn lines(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"), "{reply:?}");
    reply.body.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

/// Texts joined, calls listed, and the last line's fields, without what differs from run to run.
fn joined(lines: &[Value]) -> (String, String, Vec<Value>, Value) {
    let (mut content, mut thinking, mut calls) = (String::new(), String::new(), Vec::new());
    for line in lines {
        let at = if line["message"].is_object() { &line["message"] } else { line };
        content += at["content"].as_str().or(at["response"].as_str()).expect("a text");
        thinking += at["thinking"].as_str().unwrap_or_default();
        calls.extend(at["tool_calls"].as_array().into_iter().flatten().map(|c| c["function"].clone()));
        assert!(line["created_at"].as_str().is_some_and(|t| t.len() == 30 && t.ends_with('Z')), "{line}");
        assert_eq!(line["model"], "fake");
    }
    let last = lines.last().expect("a line");
    assert_eq!(last["done"], true);
    assert!(lines.iter().rev().skip(1).all(|l| l["done"] == false));
    assert!(
        last["total_duration"].is_u64()
            && last["eval_duration"].is_u64()
            && last["prompt_eval_duration"].is_u64()
    );
    let end = json!([last["done_reason"], last["eval_count"], last["prompt_eval_count"]]);
    (content, thinking, calls, end)
}

#[test]
fn lines_say_what_the_whole_answer_says() {
    let plain = Server::open();
    let tooled = with_template(TOOLS);
    let thinks = with_template(THINKS);
    let schema = json!({ "type": "object", "properties": { "n": { "enum": [1, 2] } }, "required": ["n"], "additionalProperties": false });
    for seed in 0..30 {
        let (server, path, more) = match seed % 5 {
            0 => (&plain, "/api/chat", json!({})),
            1 => (&tooled, "/api/chat", json!({ "format": schema })),
            2 => (&tooled, "/api/chat", json!({ "tools": tools(), "tool_choice": "required" })),
            3 => (&thinks, "/api/generate", json!({ "prompt": "Go.", "messages": null })),
            _ => (
                &plain,
                "/api/generate",
                json!({ "prompt": "Once", "raw": true, "messages": null, "format": "json" }),
            ),
        };
        let mut body = ask(more);
        body["options"]["seed"] = seed.into();
        body["stream"] = false.into();
        let reply = server.post(path, &body);
        assert_eq!(reply.status, 200, "{reply:?}");
        let whole = joined(&[reply.json()]);
        body.as_object_mut().expect("an object").remove("stream");
        assert_eq!(joined(&lines(&server.post(path, &body))), whole, "{seed}");
        match seed % 5 {
            1 => assert!(
                serde_json::from_str::<Value>(&whole.0).is_ok_and(|v| v["n"] == 1 || v["n"] == 2),
                "{whole:?}"
            ),
            2 if whole.3[0] == "stop" => {
                assert!(whole.2.iter().all(|c| c["name"] == "set" && c["arguments"]["on"].is_boolean()))
            }
            3 => assert!(whole.0.is_empty() && !whole.1.is_empty()),
            _ => {}
        }
    }
}

#[test]
fn models_are_told_of() {
    let server = with_template(TOOLS);
    let tags = server.get("/api/tags").json();
    assert_eq!(tags["models"][0]["model"], "fake");
    assert_eq!(tags["models"][0]["modified_at"], "2023-11-14T22:13:20.000000000Z");
    assert_eq!(server.get("/api/ps").json()["models"][0]["context_length"], CONTEXT);
    let show = server.post("/api/show", &json!({ "model": "fake:latest" })).json();
    assert_eq!(show["capabilities"], json!(["completion", "tools"]));
    assert!(show["template"].as_str().is_some_and(|t| t.contains("<tool_call>")));
    assert!(server.get("/api/version").json()["version"].is_string());
    for path in ["/api/chat", "/api/generate"] {
        let loaded = server.post(path, &json!({ "model": "fake" })).json();
        assert_eq!((&loaded["done"], &loaded["done_reason"]), (&json!(true), &json!("load")));
    }
}

#[test]
fn what_is_not_served_is_named() {
    let server = with_template(TOOLS);
    let options = |o: Value| json!({ "options": o });
    for (path, more, code, param) in [
        ("/api/chat", json!({ "keep_alive": 0 }), "unsupported_parameter", "keep_alive"),
        ("/api/chat", json!({ "keep_alive": "0s" }), "unsupported_parameter", "keep_alive"),
        ("/api/chat", json!({ "keep_alive": "soon" }), "invalid_value", "keep_alive"),
        ("/api/chat", json!({ "formt": "json" }), "unknown_parameter", "formt"),
        ("/api/chat", json!({ "format": "xml" }), "invalid_type", "format"),
        ("/api/chat", json!({ "think": true }), "unsupported_parameter", "think"),
        ("/api/chat", json!({ "think": "low" }), "unsupported_parameter", "think"),
        (
            "/api/embeddings",
            json!({ "messages": null, "options": null }),
            "missing_required_parameter",
            "prompt",
        ),
        ("/api/chat", json!({ "logprobs": true }), "unsupported_parameter", "logprobs"),
        ("/api/chat", options(json!({ "num_ctx": CONTEXT + 1 })), "invalid_value", "options.num_ctx"),
        ("/api/chat", options(json!({ "mirostat": 1 })), "unsupported_parameter", "options.mirostat"),
        ("/api/chat", options(json!({ "temprature": 1 })), "unknown_parameter", "options.temprature"),
        (
            "/api/chat",
            json!({ "messages": [{ "role": "user", "content": "x", "images": ["aa"] }] }),
            "unsupported_parameter",
            "messages[0].images",
        ),
        (
            "/api/generate",
            json!({ "messages": null, "prompt": "a", "suffix": "b" }),
            "unsupported_parameter",
            "suffix",
        ),
        (
            "/api/generate",
            json!({ "messages": null, "prompt": "a", "raw": true, "system": "b" }),
            "invalid_value",
            "system",
        ),
        (
            "/api/embed",
            json!({ "messages": null, "input": "a", "options": {} }),
            "unsupported_parameter",
            "model",
        ),
    ] {
        let reply = server.post(path, &ask(more.clone()));
        assert_eq!(reply.error(), (400, code.to_owned(), param.to_owned()), "{more} {reply:?}");
        assert!(reply.json()["error"].is_string());
    }
    let reply = server.post("/api/chat", &ask(json!({ "model": "llama3" })));
    assert_eq!((reply.status, reply.json()["error"].is_string()), (404, true));
    let long = server.post(
        "/api/chat",
        &ask(json!({ "messages": [{ "role": "user", "content": "word ".repeat(CONTEXT) }] })),
    );
    assert_eq!(long.error().1, "context_length_exceeded");
    // What always thinks cannot be told not to, by any route.
    let thinks = with_template(THINKS);
    let quiet = |path: &str, more: Value| thinks.post(path, &ask(more)).error();
    let refused = |param: &str| (400, "unsupported_parameter".to_owned(), param.to_owned());
    assert_eq!(quiet("/api/chat", json!({ "think": false })), refused("think"));
    let openai = json!({ "options": null, "reasoning_effort": "none" });
    assert_eq!(quiet("/v1/chat/completions", openai), refused("reasoning_effort"));
    let anthropic = json!({ "options": null, "max_tokens": 9, "thinking": { "type": "disabled" } });
    assert_eq!(quiet("/v1/messages", anthropic), refused("thinking"));
    // All tokens are kept, as 0 has it.
    assert_eq!(server.post("/api/chat", &ask(options(json!({ "top_k": -1, "num_predict": 1 })))).status, 200);
    // Running is for Ollama to choose; these change no answer.
    let running = ask(options(
        json!({ "num_ctx": 256, "num_gpu": 1, "num_thread": 4, "num_predict": 3, "repeat_last_n": -1 }),
    ));
    assert_eq!(server.post("/api/chat", &running).status, 200);
}
