//! /v1/chat/completions and /v1/completions.

use serde_json::{Value, json};

use crate::support::{CONTEXT, Server};

fn ask(more: Value) -> Value {
    let mut body =
        json!({ "model": "fake", "messages": [{ "role": "user", "content": "What is 17 + 25?" }] });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

const CHAT: &str = "/v1/chat/completions";

/// The texts and the reasons of the choices of a stream.
fn joined(events: &[Value], field: &str) -> Vec<(String, String)> {
    let mut all = Vec::<(String, String)>::new();
    for choice in events.iter().flat_map(|e| e["choices"].as_array().expect("choices")) {
        let index = choice["index"].as_u64().expect("an index") as usize;
        all.resize(all.len().max(index + 1), Default::default());
        let text = if field == "delta" { &choice["delta"]["content"] } else { &choice["text"] };
        all[index].0 += text.as_str().unwrap_or_default();
        all[index].1 += choice["finish_reason"].as_str().unwrap_or_default();
    }
    all
}

#[test]
fn a_stream_says_what_the_whole_answer_says() {
    let server = Server::open();
    for seed in 0..40u64 {
        let n = seed % 3 + 1;
        let stop = json!(["the", " a", "\u{e9}", "xq"][seed as usize % 4]);
        let body = ask(
            json!({ "seed": seed, "n": n, "max_tokens": 60, "stop": stop, "logprobs": true, "top_logprobs": 2 }),
        );
        let whole = server.post(CHAT, &body).json();
        let mut streamed = body.clone();
        streamed["stream"] = true.into();
        streamed["stream_options"] = json!({ "include_usage": true });
        let reply = server.post(CHAT, &streamed);
        assert_eq!(reply.header("content-type"), Some("text/event-stream"));
        let events = reply.events();
        let texts = joined(&events, "delta");
        let choices = whole["choices"].as_array().expect("choices");
        assert_eq!((choices.len(), texts.len()), (n as usize, n as usize));
        for (choice, (text, reason)) in choices.iter().zip(&texts) {
            assert_eq!(choice["message"]["content"], text.as_str(), "{whole}");
            assert_eq!(choice["finish_reason"], reason.as_str());
            assert!(!text.contains(stop.as_str().expect("a text")), "{text:?}");
        }
        let logprobs: usize = events
            .iter()
            .flat_map(|e| e["choices"].as_array().expect("choices"))
            .map(|c| c["logprobs"]["content"].as_array().map_or(0, Vec::len))
            .sum();
        let wanted: usize =
            choices.iter().map(|c| c["logprobs"]["content"].as_array().expect("entries").len()).sum();
        assert_eq!(logprobs, wanted);
        let last = events.last().expect("usage");
        assert_eq!(last["choices"], json!([]));
        for name in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            assert_eq!(last["usage"][name], whole["usage"][name]);
        }
        assert!(events.iter().rev().skip(1).all(|e| e["usage"].is_null()));
        let id = |e: &Value| (e["id"].clone(), e["created"].clone(), e["object"].clone());
        assert!(events.iter().all(|e| id(e) == id(last)), "one id for all chunks");
        assert_eq!(events[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    }
}

#[test]
fn seeds_decide() {
    let server = Server::open();
    let text = |seed: Value| {
        let reply = server.post(CHAT, &ask(json!({ "seed": seed, "max_tokens": 20 })));
        reply.json()["choices"][0]["message"]["content"].clone()
    };
    assert_eq!(text(json!(7)), text(json!(7)));
    assert_ne!(text(json!(7)), text(json!(8)));
    assert_ne!(text(Value::Null), text(Value::Null));
}

#[test]
fn completions_are_answered() {
    let server = Server::open();
    let body = json!({ "model": "fake", "prompt": ["One, two,", "Three"], "n": 2, "max_tokens": 9, "seed": 3,
                       "ignore_eos": true, "logprobs": 1, "temperature": 0.5 });
    let whole = server.post("/v1/completions", &body).json();
    let choices = whole["choices"].as_array().expect("choices");
    assert_eq!(choices.len(), 4);
    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    let events = server.post("/v1/completions", &streamed).events();
    for (choice, (text, reason)) in choices.iter().zip(joined(&events, "text")) {
        assert_eq!(
            (choice["text"].as_str(), choice["finish_reason"].as_str()),
            (Some(&text[..]), Some(&reason[..]))
        );
        let l = &choice["logprobs"];
        for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            assert_eq!(l[name].as_array().expect(name).len(), 9);
        }
    }
    let echo = json!({ "model": "fake", "prompt": "One, two,", "echo": true, "max_tokens": 3 });
    let reply = server.post("/v1/completions", &echo).json();
    assert!(reply["choices"][0]["text"].as_str().expect("a text").starts_with("One, two,"), "{reply}");
    let ids = server.post("/tokenize", &json!({ "content": "One, two," })).json()["tokens"].clone();
    // With log-probabilities the prompt has its own, and may be all that is wanted.
    let n = ids.as_array().expect("ids").len();
    for (max_tokens, answers) in [(0, 1), (2, 2)] {
        let body = json!({ "model": "fake", "prompt": ids, "echo": true, "logprobs": 1, "n": answers,
                           "max_tokens": max_tokens, "ignore_eos": true, "seed": 5 });
        let whole = server.post("/v1/completions", &body).json();
        let mut streamed = body.clone();
        streamed["stream"] = true.into();
        let events = server.post("/v1/completions", &streamed).events();
        let all = |i: u64, name: &str| -> Vec<Value> {
            let of = |e: &Value| e["choices"][0]["index"] == i && !e["choices"][0]["logprobs"].is_null();
            let list = |e: &Value| e["choices"][0]["logprobs"][name].as_array().expect(name).clone();
            events.iter().filter(|e| of(e)).flat_map(list).collect()
        };
        for i in 0..answers {
            let choice = &whole["choices"][i as usize];
            let l = &choice["logprobs"];
            for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
                assert_eq!(l[name].as_array().map(Vec::len), Some(n + max_tokens), "{whole}");
                assert_eq!(l[name], Value::from(all(i, name)), "{name}");
            }
            assert!(l["token_logprobs"][0].is_null() && l["top_logprobs"][0].is_null());
            assert!(l["token_logprobs"][1].is_number() && l["top_logprobs"][n - 1].is_object());
            let said: String =
                l["tokens"].as_array().expect("tokens").iter().filter_map(Value::as_str).collect();
            assert_eq!(choice["text"], said.as_str());
        }
    }
    let nothing = json!({ "model": "fake", "prompt": "One", "max_tokens": 0 });
    assert_eq!(server.post("/v1/completions", &nothing).error().2, "max_tokens");
    for prompt in [ids.clone(), json!([ids])] {
        let body = json!({ "model": "fake", "prompt": prompt, "max_tokens": 3 });
        assert_eq!(server.post("/v1/completions", &body).status, 200);
    }
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let server = Server::open();
    let long = "word ".repeat(2 * CONTEXT);
    for (more, code, param) in [
        (json!({ "temprature": 1 }), "unknown_parameter", "temprature"),
        (json!({ "temperature": -1 }), "invalid_value", "temperature"),
        (json!({ "temperature": "hot" }), "invalid_type", "temperature"),
        (json!({ "top_p": 5 }), "invalid_value", "top_p"),
        (json!({ "max_tokens": -5 }), "invalid_value", "max_tokens"),
        (json!({ "max_tokens": 5, "max_completion_tokens": 6 }), "invalid_value", "max_tokens"),
        (json!({ "n": 100_000 }), "invalid_value", "n"),
        (json!({ "stop": [""] }), "invalid_value", "stop"),
        (json!({ "logit_bias": { "x": 1 } }), "invalid_value", "logit_bias"),
        (json!({ "logit_bias": { "1": 101 } }), "invalid_value", "logit_bias"),
        (json!({ "top_logprobs": 3 }), "invalid_value", "top_logprobs"),
        (json!({ "logprobs": true, "top_logprobs": 21 }), "invalid_value", "top_logprobs"),
        (json!({ "mirostat": 2 }), "unsupported_parameter", "mirostat"),
        (json!({ "functions": [{ "name": "f" }] }), "unsupported_parameter", "functions"),
        (json!({ "audio": {} }), "unsupported_parameter", "audio"),
        (json!({ "modalities": ["audio"] }), "unsupported_parameter", "modalities"),
        (json!({ "stream_options": { "include_usage": true } }), "invalid_value", "stream_options"),
        (
            json!({ "stream": true, "stream_options": { "usage": true } }),
            "unknown_parameter",
            "stream_options.usage",
        ),
        (json!({ "messages": [] }), "invalid_value", "messages"),
        (json!({ "messages": [{ "role": "user", "content": long }] }), "context_length_exceeded", "messages"),
        (json!({ "reasoning_effort": "huge" }), "unsupported_value", "reasoning_effort"),
        (json!({ "verbosity": "low" }), "unsupported_parameter", "verbosity"),
        (json!({ "verbosity": "loud" }), "unsupported_value", "verbosity"),
        // Names of the template's own, which a request cannot set, and what it says in another field.
        (json!({ "chat_template_kwargs": { "loop": 1 } }), "unsupported_parameter", "chat_template_kwargs"),
        (json!({ "chat_template_kwargs": { "m": 1 } }), "unsupported_parameter", "chat_template_kwargs"),
        (
            json!({ "chat_template_kwargs": { "messages": [] } }),
            "unsupported_parameter",
            "chat_template_kwargs",
        ),
        (json!({ "model": null }), "missing_required_parameter", "model"),
    ] {
        let reply = server.post(CHAT, &ask(more.clone()));
        assert_eq!(reply.error(), (400, code.to_owned(), param.to_owned()), "{more}: {reply:?}");
    }
    let reply = server.post(CHAT, &ask(json!({ "messages": [{ "role": "user", "content": long }] })));
    let tokens =
        server.post("/tokenize", &json!({ "content": long })).json()["tokens"].as_array().expect("ids").len();
    let message = reply.json()["error"]["message"].as_str().expect("a line").to_owned();
    assert!(message.contains(&CONTEXT.to_string()), "{message}");
    let said: usize = message.split(' ').find_map(|w| w.parse().ok()).expect("a number");
    assert!(said >= tokens, "{message}, of {tokens}");
    let reply = server.post(CHAT, &ask(json!({ "model": "gpt-4" })));
    assert_eq!(reply.error(), (404, "model_not_found".into(), "model".into()));
    assert!(reply.body.contains("known: fake"));
    let null = ask(json!({ "temperature": null, "stop": null, "user": "me", "verbosity": "medium" }));
    assert_eq!(server.post(CHAT, &null).status, 200);
    // Fields that change nothing here have the type they are documented with.
    for (field, value) in [("user", json!(5)), ("metadata", json!("a")), ("store", json!(1))] {
        let reply = server.post(CHAT, &ask(json!({ (field): value })));
        assert_eq!(reply.error(), (400, "invalid_type".into(), field.into()));
    }
    // With the mark that editors of Windows put in front of a file.
    let marked = [b"\xef\xbb\xbf".as_slice(), null.to_string().as_bytes()].concat();
    assert_eq!(server.post_bytes(CHAT, &marked).status, 200);
}

#[test]
fn a_lenient_server_ignores_what_it_does_not_know() {
    let config = weft_server::Config { lenient: true, ..Default::default() };
    let server = Server::start(config, Default::default());
    assert_eq!(
        server.post(CHAT, &ask(json!({ "beam_width": 1, "model": null, "max_tokens": 2 }))).status,
        200
    );
    assert_eq!(server.post(CHAT, &ask(json!({ "temperature": "hot" }))).status, 400);
}

/// The name of a control token in a message opens no turn.
#[test]
fn messages_are_text() {
    let server = Server::open();
    let count = |text: &str| {
        let body = ask(json!({ "messages": [{ "role": "user", "content": text }], "max_tokens": 1 }));
        server.post(CHAT, &body).json()["usage"]["prompt_tokens"].as_u64().expect("a count")
    };
    let ids = |text: &str, special: bool| {
        let body = json!({ "content": text, "parse_special": special });
        server.post("/tokenize", &body).json()["tokens"].as_array().expect("ids").len() as u64
    };
    let name = "<|im_end|>";
    assert_eq!(ids(name, true), 1, "weft-mini has this token");
    assert!(ids(name, false) > 3);
    assert!(count(&format!("a {name} b")) >= count("a  b") + ids(name, false) - 2);
    let prompt =
        server.post("/apply-template", &json!({ "messages": [{ "role": "user", "content": name }] }));
    assert!(
        prompt.json()["prompt"].as_str().expect("a text").contains(&format!("{name}<|im_end|>")),
        "{prompt:?}"
    );
}

#[test]
fn what_a_request_says_twice_is_refused() {
    let server = Server::open();
    let body = r#"{"model": "fake", "temperature": 0, "temperature": 1, "messages": []}"#;
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n",
        server.at,
        body.len()
    );
    let reply = server.raw(&head, body.as_bytes());
    assert_eq!((reply.status, reply.error().1.as_str()), (400, "invalid_json"));
    assert!(
        reply.json()["error"]["message"].as_str().is_some_and(|m| m.contains("\"temperature\" stands twice"))
    );
}

#[test]
fn tools_are_in_the_prompt_that_is_shown() {
    let server = Server::open();
    let messages = json!([{ "role": "user", "content": "Go." }]);
    let tools = json!([{ "type": "function", "function": { "name": "set_mode" } }]);
    let shown = |more: Value| {
        let mut body = json!({ "messages": messages, "tools": tools });
        body["tool_choice"] = more;
        let prompt = server.post("/apply-template", &body).json()["prompt"].take();
        prompt.as_str().expect("a text").to_owned()
    };
    // weft-mini's template has no place for tools, so that they are told in words, as a chat tells them.
    let told = shown(json!("auto"));
    assert!(told.contains("set_mode"), "{told}");
    assert!(!shown(json!("none")).contains("set_mode"));
    let ids = server.post("/tokenize", &json!({ "content": told })).json()["tokens"].as_array().map(Vec::len);
    let body = ask(json!({ "messages": messages, "tools": tools, "max_tokens": 1 }));
    let used = server.post(CHAT, &body).json()["usage"]["prompt_tokens"].as_u64();
    assert_eq!(used, ids.map(|n| n as u64));
}

#[test]
fn an_answer_goes_on_where_its_message_ends() {
    let server = Server::open();
    let messages =
        json!([{ "role": "user", "content": "Hi" }, { "role": "assistant", "content": "Hello, I" }]);
    let body = json!({ "messages": messages, "continue_final_message": true });
    let prompt = server.post("/apply-template", &body).json()["prompt"].as_str().expect("a text").to_owned();
    assert!(prompt.ends_with("assistant\nHello, I"), "{prompt:?}");
    // Behind the space that it ends with, whatever the template makes of that.
    let spaced =
        json!([{ "role": "user", "content": "Hi" }, { "role": "assistant", "content": "Hello, I " }]);
    let spaced = json!({ "messages": spaced, "continue_final_message": true });
    let prompt =
        server.post("/apply-template", &spaced).json()["prompt"].as_str().expect("a text").to_owned();
    assert!(prompt.ends_with("assistant\nHello, I "), "{prompt:?}");
    let both =
        ask(json!({ "messages": messages, "continue_final_message": true, "add_generation_prompt": true }));
    assert_eq!(server.post(CHAT, &both).error().0, 400);
}

/// The template of weft-mini reads no names.
#[test]
fn participants_whom_nobody_tells_apart_are_refused() {
    let talk = |names: [&str; 2]| {
        let one = |name: &str| json!({ "role": "user", "content": "Hi", "name": name });
        ask(json!({ "messages": names.map(one), "max_tokens": 2 }))
    };
    let server = Server::open();
    assert_eq!(server.post(CHAT, &talk(["ann", "ann"])).status, 200);
    let refused = (400, "unsupported_parameter".to_owned(), "messages[1].name".to_owned());
    assert_eq!(server.post(CHAT, &talk(["ann", "bob"])).error(), refused);
    assert_eq!(server.post("/apply-template", &talk(["ann", "bob"])).error().2, "messages[1].name");
    let config = weft_server::Config { lenient: true, ..Default::default() };
    let lenient = Server::start(config, crate::support::Engine::default());
    assert_eq!(lenient.post(CHAT, &talk(["ann", "bob"])).status, 200);
}
