//! Calls, thoughts, schemas and grammars, drawn by an engine whose tokens are as good as random.

use serde_json::{Value, json};
use weft_server::Config;

use crate::support::{Engine, Reply, Server};

const CHAT: &str = "/v1/chat/completions";

/// Templates of the families, cut down to what tells them apart.
const TEMPLATES: &[(&str, &str)] = &[
    (
        "none",
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n",
    ),
    (
        "hermes",
        "{% if tools %}{% for t in tools %}{{ t | tojson }}{% endfor %}<tool_call></tool_call>{% endif %}\
         {% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: ",
    ),
    (
        "llama",
        "{% if tools %}{% for t in tools %}{{ t | tojson }}{% endfor %}<|python_tag|>{% endif %}\
         {% for m in messages %}<|start_header_id|>{{ m.role }}: {{ m.content }}<|eot_id|>{% endfor %}ipython ",
    ),
    (
        "mistral",
        "[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS][TOOL_CALLS]\
         {% for m in messages %}[INST]{{ m.content }}[/INST]{% endfor %}",
    ),
];

fn tools() -> Value {
    let schema = json!({
        "type": "object",
        "properties": {
            "a": { "type": "integer", "minimum": 0, "maximum": 99 },
            "unit": { "enum": ["m", "km"] },
            "deep": { "type": "object", "properties": { "on": { "type": "boolean" } }, "required": ["on"],
                      "additionalProperties": false },
        },
        "required": ["a", "unit"],
        "additionalProperties": false,
    });
    json!([
        { "type": "function", "function": { "name": "convert", "description": "Converts.", "parameters": schema, "strict": true } },
        { "type": "function", "function": { "name": "now", "description": null } },
    ])
}

fn ask(seed: usize, more: &Value) -> Value {
    let mut body = json!({ "model": "fake", "seed": seed, "max_tokens": 200, "temperature": 1,
                           "messages": [{ "role": "user", "content": format!("Question {seed}") }] });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

/// Content, thoughts and calls (name, arguments), and why it ended.
type Parts = (String, String, Vec<(String, String)>, String);

fn whole(reply: &Reply) -> Parts {
    assert_eq!(reply.status, 200, "{reply:?}");
    let choice = &reply.json()["choices"][0];
    let message = &choice["message"];
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
    let calls = calls.iter().map(|c| (text(&c["function"]["name"]), text(&c["function"]["arguments"])));
    (
        text(&message["content"]),
        text(&message["reasoning_content"]),
        calls.collect(),
        text(&choice["finish_reason"]),
    )
}

fn streamed(reply: &Reply) -> Parts {
    assert_eq!(reply.status, 200, "{reply:?}");
    let mut parts = Parts::default();
    for event in reply.events() {
        let choice = &event["choices"][0];
        let delta = &choice["delta"];
        parts.0 += delta["content"].as_str().unwrap_or_default();
        parts.1 += delta["reasoning_content"].as_str().unwrap_or_default();
        parts.3 += choice["finish_reason"].as_str().unwrap_or_default();
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = call["index"].as_u64().expect("an index") as usize;
            if let Some(id) = call["id"].as_str() {
                assert!(!id.is_empty() && call["type"] == "function" && index == parts.2.len(), "{call}");
                parts.2.push((call["function"]["name"].as_str().expect("a name").to_owned(), String::new()));
            }
            parts.2[index].1 += call["function"]["arguments"].as_str().expect("arguments");
        }
    }
    parts
}

fn both(server: &Server, body: &Value) -> Parts {
    let one = whole(&server.post(CHAT, body));
    let mut body = body.clone();
    body["stream"] = true.into();
    assert_eq!(one, streamed(&server.post(CHAT, &body)), "{body}");
    one
}

fn is_valid(name: &str, arguments: &str) -> bool {
    let Ok(Value::Object(map)) = serde_json::from_str(arguments) else { return false };
    match name {
        "now" => map.is_empty(),
        "convert" => {
            let a = map.get("a").and_then(Value::as_u64).is_some_and(|a| a <= 99);
            let unit = map.get("unit").is_some_and(|u| u == "m" || u == "km");
            let deep = map.get("deep").is_none_or(|d| d["on"].is_boolean());
            a && unit && deep && map.keys().all(|k| ["a", "unit", "deep"].contains(&k.as_str()))
        }
        _ => false,
    }
}

/// Whatever the logits: a required call comes, its arguments are valid, and its stream is the whole answer.
#[test]
fn required_and_named_calls_come() {
    for (family, template) in TEMPLATES {
        let engine = Engine { template: Some(template), ..Default::default() };
        let server = Server::start(Config::default(), engine);
        for seed in 0..75 {
            let named = json!({ "type": "function", "function": { "name": "now" } });
            for (choice, only) in [(json!("required"), None), (named, Some("now"))] {
                let parallel = seed % 2 == 0;
                let more =
                    json!({ "tools": tools(), "tool_choice": choice, "parallel_tool_calls": parallel });
                let (content, _, calls, why) = both(&server, &ask(seed, &more));
                assert!(!calls.is_empty(), "{family} {seed}: {content:?} and no call");
                for (i, (name, arguments)) in calls.iter().enumerate() {
                    // A model that draws at random may run into the end in the middle of a further call.
                    let whole = why == "tool_calls" || i + 1 < calls.len();
                    assert!(!whole || is_valid(name, arguments), "{family} {seed}: {name}({arguments})");
                    assert!(only.is_none_or(|n| n == name), "{family}: {name}");
                }
                assert!(parallel || calls.len() == 1, "{family} {seed}: {calls:?}");
            }
        }
    }
}

#[test]
fn without_a_choice_the_stream_is_the_whole_answer() {
    for (_, template) in TEMPLATES {
        let engine = Engine { template: Some(template), ..Default::default() };
        let server = Server::start(Config::default(), engine);
        for seed in 0..75 {
            for choice in ["auto", "none"] {
                let (_, _, calls, why) =
                    both(&server, &ask(seed, &json!({ "tools": tools(), "tool_choice": choice })));
                assert!(choice == "auto" || calls.is_empty());
                assert_eq!(why == "tool_calls", !calls.is_empty() && why != "length");
            }
        }
    }
}

#[test]
fn schemas_and_grammars_are_kept_to() {
    let server = Server::open();
    let schema = tools()[0]["function"]["parameters"].clone();
    for seed in 0..40 {
        let format = json!({ "type": "json_schema", "json_schema": { "name": "length", "strict": true, "schema": schema } });
        let (content, _, _, why) =
            both(&server, &ask(seed, &json!({ "response_format": format, "reasoning_effort": "none" })));
        assert!(why == "length" || is_valid("convert", &content), "{seed}: {content:?}");
        let regex = json!({ "response_format": { "type": "regex", "regex": "[a-f]{3}-[0-9]{2}" }, "reasoning_effort": "none" });
        let (content, ..) = both(&server, &ask(seed, &regex));
        let shape: String = content
            .chars()
            .map(|c| {
                if c.is_ascii_digit() {
                    '9'
                } else if c == '-' {
                    c
                } else {
                    'a'
                }
            })
            .collect();
        assert_eq!(shape, "aaa-99", "{content:?}");
        let gbnf = json!({ "grammar": "root ::= (\"yes\" | \"no\") \"!\"", "reasoning_effort": "none" });
        let (content, ..) = both(&server, &ask(seed, &gbnf));
        assert!(content == "yes!" || content == "no!", "{content:?}");
        let choice =
            json!({ "structured_outputs": { "choice": ["red", "green"] }, "reasoning_effort": "none" });
        let (content, ..) = both(&server, &ask(seed, &choice));
        assert!(content == "red" || content == "green", "{content:?}");
    }
}

#[test]
fn what_cannot_be_enforced_is_refused() {
    let server = Server::open();
    let schema = |s: Value| json!({ "type": "json_schema", "json_schema": { "name": "a", "schema": s } });
    for (more, part) in [
        (
            json!({ "response_format": schema(json!({ "type": "object", "unevaluatedProperties": false })) }),
            "unevaluatedProperties",
        ),
        (json!({ "response_format": schema(json!({ "type": "string", "pattern": "(?=a)b" })) }), "pattern"),
        (json!({ "grammar": "root ::= missing" }), "missing"),
        (json!({ "response_format": { "type": "regex", "regex": "(" } }), "regex"),
    ] {
        let reply = server.post(CHAT, &ask(1, &more));
        assert_eq!(reply.status, 400, "{more}: {reply:?}");
        assert!(reply.body.contains(part), "{more}: {reply:?}");
    }
    let deep = "(".repeat(60_000);
    assert_eq!(server.post(CHAT, &ask(1, &json!({ "grammar": format!("root ::= {deep}") }))).error().0, 400);
    assert_eq!(server.get("/health").status, 200);
}
