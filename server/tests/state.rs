//! Health, models, slots, tokens; how a server loses its engine, and how it ends.

use std::io::{Read, Write};
use std::time::Duration;

use serde_json::json;
use weft_server::Config;
use weft_server::engine::Limits;

use crate::support::{Engine, Reply, Server};

#[test]
fn the_server_tells_what_it_is() {
    let server = Server::open();
    assert_eq!(server.get("/health").json(), json!({ "status": "ok" }));
    let list = server.get("/v1/models").json();
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("fake")));
    assert_eq!(server.get("/v1/models/fake").json(), list["data"][0]);
    assert_eq!(server.get("/v1/models/a/b").error().0, 404);
    let props = server.get("/props").json();
    assert_eq!((&props["total_slots"], &props["model"]), (&json!(4), &json!("fake")));
    // It is told as a person would write it, and not with the digits that 32 bits have in 64.
    assert_eq!(props["default_generation_settings"]["params"]["top_p"], json!(0.95));
    let slots = server.get("/slots").json();
    assert_eq!(slots.as_array().expect("slots").len(), 4);
    assert_eq!(slots[0]["is_processing"], false);
}

#[test]
fn tokens_come_back_as_the_text() {
    let server = Server::open();
    let text = "What is 17 + 25? \u{e9}\u{1f600}";
    let ids = server.post("/tokenize", &json!({ "content": text })).json()["tokens"].clone();
    assert_eq!(server.post("/detokenize", &json!({ "tokens": ids })).json(), json!({ "content": text }));
    let pieces = server.post("/tokenize", &json!({ "content": "17", "with_pieces": true })).json();
    assert_eq!(pieces["tokens"][0]["piece"].as_str().map(|p| "17".starts_with(p)), Some(true), "{pieces}");
    assert_eq!(server.post("/detokenize", &json!({ "tokens": [1 << 30] })).error().0, 400);
}

const ENDLESS: &str = r#"{"model":"fake","messages":[{"role":"user","content":"Hi"}],"ignore_eos":true,"stream":true,"max_tokens":400}"#;

#[test]
fn a_lost_engine_is_told_and_comes_back() {
    let server = Server::start(Config::default(), Engine { lost_after: Some(20), ..Default::default() });
    let reply = server.post_bytes("/v1/chat/completions", ENDLESS.as_bytes());
    let last = reply.events_so_far().pop().expect("an event");
    assert_eq!((reply.status, &last["error"]["code"]), (200, &json!("engine_lost")), "{reply:?}");
    assert!(!reply.body.contains("[DONE]"));
    let reply = server.post_bytes("/v1/chat/completions", ENDLESS.as_bytes());
    let events = reply.events();
    // Some tokens are no whole character.
    assert!((300..=402).contains(&events.len()), "a head, at most 400 tokens and an end");
    assert_eq!(events.last().expect("an end")["choices"][0]["finish_reason"], "length");
    assert!(server.is_idle());
}

#[test]
fn a_full_queue_says_when_to_come_again() {
    let limits = Limits { waiting: 2, age: Duration::from_millis(400) };
    let engine = Engine { slots: 1, step: Duration::from_millis(20), ..Default::default() };
    let server = Server::start(Config { limits, ..Default::default() }, engine);
    let open = || {
        let mut stream = server.connect();
        stream
            .write_all((server.head("/v1/chat/completions", ENDLESS.len()) + ENDLESS).as_bytes())
            .expect("written");
        stream
    };
    let mut first = open();
    first.read_exact(&mut [0; 12]).expect("an answer has begun");
    let mut waiting = [open(), open()];
    std::thread::sleep(Duration::from_millis(100));
    let reply = server.post_bytes("/v1/chat/completions", ENDLESS.as_bytes());
    assert_eq!(reply.error(), (503, "overloaded".into(), String::new()));
    let text = server.get("/metrics").body;
    assert!(text.contains("\nweft_requests_refused_total{model=\"fake\"} 1\n"), "{text}");
    let after: u64 = reply.header("retry-after").expect("a time").parse().expect("seconds");
    assert!((1..=120).contains(&after));
    // Those that wait too long are sent away, too.
    for stream in &mut waiting {
        assert_eq!(Reply::read(stream).error(), (503, "overloaded".into(), String::new()));
    }
    drop(first);
    assert!(server.is_idle());
}

/// Ends a server in the middle of an answer that has no end of its own; gives it with what came of the answer.
fn ended(grace: Duration, step: Duration) -> (Server, String) {
    let mut server =
        Server::start(Config { grace, ..Default::default() }, Engine { step, ..Default::default() });
    let mut stream = server.connect();
    stream
        .write_all((server.head("/v1/chat/completions", ENDLESS.len()) + ENDLESS).as_bytes())
        .expect("written");
    stream.read_exact(&mut [0; 12]).expect("an answer has begun");
    let rest = std::thread::spawn(move || Reply::read(&mut stream).body);
    server.end();
    (server, rest.join().expect("read"))
}

#[test]
fn a_server_ends_in_order() {
    let (server, rest) = ended(Duration::from_secs(5), Duration::from_millis(2));
    assert!(rest.contains("data: [DONE]"), "the stream went on to its end: {rest:?}");
    assert!(std::net::TcpStream::connect(server.at).is_err());
}

#[test]
fn a_server_that_must_end_says_so() {
    let (_, rest) = ended(Duration::from_millis(100), Duration::from_millis(20));
    assert!(rest.contains("\"code\":\"ending\"") && !rest.contains("[DONE]"), "{rest:?}");
}

#[test]
fn a_silent_stream_is_kept_open() {
    let config = Config { ping: Duration::from_millis(30), ..Default::default() };
    let engine = Engine { step: Duration::from_millis(150), ..Default::default() };
    let server = Server::start(config, engine);
    let body = json!({ "model": "fake", "messages": [{ "role": "user", "content": "Hi" }], "stream": true,
                       "max_tokens": 3, "ignore_eos": true });
    let reply = server.post("/v1/chat/completions", &body);
    assert!(reply.body.matches(": ping\n\n").count() > 4, "{}", reply.body);
    assert!(reply.events().len() >= 3);
}

/// The document names every field that a route takes, and no other.
#[test]
fn the_document_is_what_the_routes_take() {
    let server = Server::open();
    let document = server.get("/openapi.json").json();
    let paths = document["paths"].as_object().expect("paths");
    let mut checked = 0;
    for (path, operations) in paths {
        let get = server.get(&path.replace("{id}", "fake"));
        assert_eq!(get.status == 405, operations.get("get").is_none(), "{path}: {get:?}");
        let Some(post) = operations.get("post") else { continue };
        let schema = &post["requestBody"]["content"]["application/json"]["schema"];
        let properties = schema["properties"].as_object().expect("properties");
        let mut body = json!({ "qqqqqqqqqqqqqqqqqqqq": 1 });
        for name in schema["required"].as_array().expect("names") {
            let name = name.as_str().expect("a name");
            assert!(properties.contains_key(name));
            let message = json!([{ "role": "user", "content": "Hi" }]);
            body[name] = match name {
                "model" => "fake".into(),
                "messages" => message,
                "documents" => json!(["a"]),
                "tokens" => json!([1]),
                "max_tokens" => json!(1),
                _ => "a".into(),
            };
        }
        let reply = server.post(path, &body);
        assert_eq!(reply.error().1, "unknown_parameter", "{path}: {reply:?}");
        let message = reply.line().expect("a line");
        let mut known: Vec<&str> = message
            .split("known here: ")
            .nth(1)
            .expect("names")
            .split(", ")
            .filter(|n| !n.is_empty())
            .collect();
        let mut named: Vec<&str> = properties.keys().map(String::as_str).collect();
        known.sort_unstable();
        named.sort_unstable();
        assert_eq!(known, named, "{path}");
        checked += 1;
    }
    assert!(checked >= 7, "{checked}");
}

#[test]
fn answers_say_how_long_what_took() {
    let server = Server::open();
    let mut body =
        json!({ "model": "fake", "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 7 });
    let whole = server.post("/v1/chat/completions", &body);
    for name in ["queue-position", "queue-ms", "prefill-ms", "decode-ms", "cached-tokens"] {
        let value = whole.header(&format!("x-weft-{name}"));
        assert!(value.is_some_and(|v| v.parse::<u64>().is_ok()), "{name}: {}", whole.head);
    }
    body["stream"] = true.into();
    assert_eq!(server.post("/v1/chat/completions", &body).header("x-weft-queue-position"), Some("0"));
}

#[test]
fn what_was_done_is_counted() {
    let server = Server::open();
    let body = json!({ "model": "fake", "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 7, "ignore_eos": true });
    for _ in 0..3 {
        assert_eq!(server.post("/v1/chat/completions", &body).status, 200);
    }
    let text = server.get("/metrics").body;
    let value = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix("{model=\"fake\"} "));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse::<f64>().expect("a number")
    };
    assert_eq!((value("weft_requests_finished_total"), value("weft_tokens_generated_total")), (3.0, 21.0));
    assert_eq!((value("weft_requests_running"), value("weft_time_to_first_token_seconds_count")), (0.0, 3.0));
    assert!(text.contains("weft_time_per_token_seconds_bucket{model=\"fake\",le=\"+Inf\"} 3"), "{text}");
}

/// What answers say of themselves adds up to what the server counts, however they end.
#[test]
fn counts_are_those_of_the_answers() {
    // Slow enough for a client to leave before the end.
    let engine = Engine { step: Duration::from_millis(2), ..Default::default() };
    let server = Server::start(Config::default(), engine);
    let value = |name: &str| {
        let text = server.get("/metrics").body;
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix("weft_")?.strip_prefix(name)?.strip_prefix("{model=\"fake\"} "));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse::<u64>().expect("a number")
    };
    let (mut prompt, mut generated, mut answers, mut ends) = (0, 0, 0, std::collections::BTreeSet::new());
    for seed in 0..30u64 {
        let n = seed % 2 + 1;
        let body = json!({ "model": "fake", "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 60,
                           "temperature": 1, "seed": seed, "n": n, "stop": ["the"] });
        let reply = server.post("/v1/chat/completions", &body).json();
        prompt += n * reply["usage"]["prompt_tokens"].as_u64().expect("a number");
        generated += reply["usage"]["completion_tokens"].as_u64().expect("a number");
        answers += n;
        let choices = reply["choices"].as_array().expect("choices").iter();
        ends.extend(choices.map(|c| c["finish_reason"].as_str().expect("a reason").to_owned()));
    }
    assert_eq!(ends.len(), 2, "some end by themselves: {ends:?}");
    assert_eq!(
        (value("prompt_tokens_total"), value("tokens_generated_total"), value("requests_finished_total")),
        (prompt, generated, answers)
    );
    // One that a client leaves was read all the same.
    let mut stream = server.connect();
    stream
        .write_all((server.head("/v1/chat/completions", ENDLESS.len()) + ENDLESS).as_bytes())
        .expect("written");
    stream.read_exact(&mut [0; 12]).expect("an answer has begun");
    drop(stream);
    assert!(server.is_idle());
    let each = prompt / answers;
    assert_eq!((value("requests_cancelled_total"), value("prompt_tokens_total")), (1, prompt + each));
    assert_eq!((value("requests_failed_total"), value("requests_refused_total")), (0, 0));
}
