//! /v1/responses as OpenAI's clients see it.

use serde_json::{Value, json};

use crate::anthropic::{THINKS, TOOLS, events, with_template};
use crate::support::{CONTEXT, Reply, Server};

const RESPONSES: &str = "/v1/responses";

fn ask(more: Value) -> Value {
    let mut body = json!({ "model": "fake", "input": "Go.", "max_output_tokens": 200 });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body.as_object_mut().expect("an object").retain(|_, v| !v.is_null());
    body
}

fn schema() -> Value {
    json!({ "type": "object", "properties": { "on": { "type": "boolean" } }, "required": ["on"], "additionalProperties": false })
}

fn tools() -> Value {
    json!([{ "type": "function", "name": "set", "description": "Sets.", "parameters": schema(), "strict": true }])
}

/// The answer that events make, put together from its parts and compared with what the last event says.
fn joined(reply: &Reply) -> Value {
    let all = events(&reply.body);
    let mut output: Vec<Value> = Vec::new();
    for (i, event) in all.iter().enumerate() {
        assert_eq!(event["sequence_number"], i);
        let index = event["output_index"].as_u64().map(|i| i as usize);
        let mut add = |path: &str| {
            let to = output[index.expect("an index")].pointer_mut(path).expect("a place");
            *to = (to.as_str().expect("a text").to_owned() + event["delta"].as_str().expect("a text")).into();
        };
        match event["type"].as_str().expect("a type") {
            "response.output_item.added" => {
                assert_eq!(index, Some(output.len()));
                output.push(event["item"].clone());
            }
            "response.content_part.added" => {
                output[index.expect("an index")]["content"]
                    .as_array_mut()
                    .expect("parts")
                    .push(event["part"].clone());
            }
            "response.output_text.delta" | "response.reasoning_text.delta" => add("/content/0/text"),
            "response.function_call_arguments.delta" => add("/arguments"),
            "response.output_item.done" => {
                let item = &mut output[index.expect("an index")];
                item["status"] = event["item"]["status"].clone();
                assert_eq!(*item, event["item"]);
            }
            _ => {}
        }
    }
    let kinds: Vec<&str> = all.iter().filter_map(|e| e["type"].as_str()).collect();
    assert_eq!(&kinds[..2], ["response.created", "response.in_progress"]);
    let last = all.last().expect("an event");
    assert!(["response.completed", "response.incomplete"].contains(&kinds[kinds.len() - 1]), "{last}");
    assert_eq!(last["response"]["output"], json!(output));
    last["response"].clone()
}

/// Without what differs from answer to answer.
fn bare(mut response: Value) -> Value {
    let id = response["id"].take();
    assert!(id.as_str().is_some_and(|i| i.starts_with("resp_")), "{id}");
    response["created_at"].take();
    response["usage"]["input_tokens_details"].take();
    for item in response["output"].as_array_mut().expect("items") {
        item["id"].take();
        if let Some(id) = item.get_mut("call_id") {
            assert!(id.take().as_str().is_some_and(|i| i.starts_with("call_")));
        }
    }
    response
}

#[test]
fn a_stream_says_what_the_whole_answer_says() {
    let plain = Server::open();
    let tooled = with_template(TOOLS);
    let thinks = with_template(THINKS);
    for seed in 0..30 {
        let (server, more) = match seed % 5 {
            0 => (&plain, json!({})),
            1 => (&tooled, json!({ "tools": tools(), "tool_choice": "required" })),
            2 => (
                &tooled,
                json!({ "text": { "format": { "type": "json_schema", "name": "s", "strict": true, "schema": schema() } } }),
            ),
            3 => (&thinks, json!({ "max_output_tokens": 20 })),
            _ => (
                &tooled,
                json!({ "tools": tools(), "tool_choice": { "type": "function", "name": "set" }, "parallel_tool_calls": false }),
            ),
        };
        let mut body = ask(more);
        body["seed"] = seed.into();
        let reply = server.post(RESPONSES, &body);
        assert_eq!(reply.status, 200, "{reply:?}");
        let whole = reply.json();
        body["stream"] = true.into();
        let streamed = joined(&server.post(RESPONSES, &body));
        assert_eq!(bare(streamed), bare(whole.clone()), "{seed}");
        let kinds: Vec<&str> =
            whole["output"].as_array().expect("items").iter().filter_map(|i| i["type"].as_str()).collect();
        match seed % 5 {
            2 => {
                let text = whole["output"][0]["content"][0]["text"].as_str().expect("a text");
                assert!(serde_json::from_str::<Value>(text).is_ok_and(|v| v["on"].is_boolean()), "{text}");
            }
            3 => assert_eq!(kinds[0], "reasoning"),
            1 | 4 => assert!(kinds.iter().all(|k| *k == "function_call"), "{whole}"),
            _ => assert_eq!(kinds, ["message"]),
        }
        let cut = whole["status"] == "incomplete";
        assert_eq!(whole["incomplete_details"].is_object(), cut);
    }
}

#[test]
fn conversations_go_on_from_what_is_kept() {
    let server = with_template(TOOLS);
    let first = server.post(RESPONSES, &ask(json!({ "tools": tools(), "tool_choice": "required", "parallel_tool_calls": false, "seed": 1 }))).json();
    let call = &first["output"][0];
    let result = json!([{ "type": "function_call_output", "call_id": call["call_id"], "output": "done" },
                        { "role": "user", "content": [{ "type": "input_text", "text": "Thanks." }] }]);
    let more = json!({ "previous_response_id": first["id"], "input": result, "seed": 2, "tools": tools(), "stream": true });
    let second = joined(&server.post(RESPONSES, &ask(more)));
    // The same conversation, told as a whole, is the same prompt.
    let told = json!([{ "role": "user", "content": "Go." }, call, result[0], result[1]]);
    let whole = server
        .post(RESPONSES, &ask(json!({ "input": told, "seed": 2, "tools": tools(), "store": false })))
        .json();
    assert_eq!(second["usage"]["input_tokens"], whole["usage"]["input_tokens"]);
    assert_eq!(bare(second.clone())["output"], bare(whole.clone())["output"]);
    let path = |id: &Value| format!("{RESPONSES}/{}", id.as_str().expect("an id"));
    assert_eq!(server.get(&path(&second["id"])).json(), second);
    let items = server.get(&format!("{}/input_items", path(&second["id"]))).json();
    assert_eq!(items["data"].as_array().map(Vec::len), Some(4));
    assert_eq!(items["data"][0]["role"], "user");
    let asked = |query: &str| server.get(&format!("{}{query}", path(&second["id"])));
    let oldest = asked("/input_items?order=asc&limit=1").json();
    assert_eq!((&oldest["data"][0], &oldest["has_more"]), (&items["data"][3], &json!(true)));
    assert_eq!(asked("/input_items?order=up").error().0, 400);
    assert_eq!(asked("?stream=true").error(), (400, "unsupported_parameter".into(), "stream".into()));
    assert_eq!(
        asked("?starting_after=2").error(),
        (400, "unknown_parameter".into(), "starting_after".into())
    );
    assert_eq!(server.get(&path(&whole["id"])).status, 404, "it was not to be stored");
    let delete = |id: &Value| {
        let head =
            format!("DELETE {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", path(id), server.at);
        server.raw(&head, b"")
    };
    assert_eq!(delete(&second["id"]).json()["deleted"], true);
    assert_eq!(delete(&second["id"]).status, 404);
    let gone = server.post(RESPONSES, &ask(json!({ "previous_response_id": second["id"] })));
    assert_eq!(gone.error(), (404, "response_not_found".into(), "previous_response_id".into()));
}

#[test]
fn what_is_not_served_is_named() {
    let server = with_template(TOOLS);
    for (more, code, param) in [
        (json!({ "inptu": 1 }), "unknown_parameter", "inptu"),
        (json!({ "input": null }), "missing_required_parameter", "input"),
        (json!({ "background": true }), "unsupported_parameter", "background"),
        (json!({ "conversation": "c" }), "unsupported_parameter", "conversation"),
        (json!({ "truncation": "auto" }), "unsupported_parameter", "truncation"),
        (json!({ "include": ["file_search_call.results"] }), "unsupported_parameter", "include"),
        (json!({ "tools": [{ "type": "web_search" }] }), "unsupported_parameter", "tools[0].type"),
        (
            json!({ "tools": tools(), "tool_choice": { "type": "function", "name": "x" } }),
            "invalid_value",
            "tool_choice.name",
        ),
        (json!({ "tool_choice": "required" }), "invalid_value", "tool_choice"),
        (json!({ "input": [{ "type": "item_reference", "id": "x" }] }), "unsupported_parameter", "input[0]"),
        (
            json!({ "input": [{ "role": "user", "content": [{ "type": "input_image" }] }] }),
            "unsupported_parameter",
            "input[0].content[0]",
        ),
        (
            json!({ "input": [{ "type": "function_call", "call_id": "a", "name": "b", "arguments": "{" }] }),
            "invalid_value",
            "input[0].arguments",
        ),
        (
            json!({ "text": { "format": { "type": "json_schema", "name": "s", "schema": { "not": {} } } } }),
            "invalid_schema",
            "text.format",
        ),
        (json!({ "reasoning": { "effort": "high" } }), "unsupported_parameter", "reasoning.effort"),
        (json!({ "text": { "verbosity": "low" } }), "unsupported_parameter", "text.verbosity"),
        (json!({ "metadata": "a" }), "invalid_type", "metadata"),
        (json!({ "input": "word ".repeat(CONTEXT) }), "context_length_exceeded", "messages"),
    ] {
        let reply = server.post(RESPONSES, &ask(more.clone()));
        assert_eq!(reply.error(), (400, code.to_owned(), param.to_owned()), "{more} {reply:?}");
    }
    let harmless = json!({ "background": false, "truncation": "disabled", "include": ["reasoning.encrypted_content"], "max_output_tokens": 3,
                           "metadata": { "a": "b" }, "tool_choice": "auto", "tools": [], "reasoning": { "summary": "auto" }, "user": "x" });
    let reply = server.post(RESPONSES, &ask(harmless));
    assert_eq!((reply.status, &reply.json()["metadata"]), (200, &json!({ "a": "b" })), "{reply:?}");
}
