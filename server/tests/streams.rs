//! Streams that break and are taken up again.

use std::io::{Read, Write};
use std::time::Duration;

use serde_json::{Value, json};
use weft_server::{Config, Keys};

use crate::support::{Engine, Reply, Server};

fn body(tokens: u32) -> Value {
    json!({ "model": "fake", "messages": [{ "role": "user", "content": "Hi" }], "stream": true, "seed": 7,
            "max_tokens": tokens, "ignore_eos": true, "resumable": true })
}

fn slow(config: Config) -> Server {
    Server::start(config, Engine { step: Duration::from_millis(3), ..Engine::default() })
}

/// Numbers and data of the events that are whole; some have a name between them.
fn events(text: &str) -> Vec<(u64, String)> {
    let event = |e: &str| {
        let (id, rest) = e.trim_start().strip_prefix("id: ")?.split_once('\n')?;
        let data = rest.split_once("data: ")?.1;
        Some((id.parse().ok()?, data.to_owned()))
    };
    let whole = text.rsplit_once("\n\n").map_or("", |t| t.0);
    whole.split("\n\n").filter_map(event).collect()
}

fn content(events: &[(u64, String)]) -> String {
    let delta = |data: &str| {
        let chunk: Value = serde_json::from_str(data).ok()?;
        chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned)
    };
    events.iter().filter_map(|(_, data)| delta(data)).collect()
}

/// Asks, reads some events and breaks the connection: the name of the stream, and the events.
fn broken(server: &Server, key: &str, tokens: u32) -> (String, Vec<(u64, String)>) {
    let body = body(tokens).to_string();
    let mut stream = server.connect();
    let head = server.head("/v1/chat/completions", body.len());
    let head = head.replacen("\r\n", &format!("\r\n{key}"), 1);
    stream.write_all((head + &body).as_bytes()).expect("sent");
    let (mut text, mut piece) = (String::new(), [0; 512]);
    while !text.contains("\nid: 9\n") {
        let n = stream.read(&mut piece).expect("bytes");
        assert!(n > 0, "{text}");
        text += std::str::from_utf8(&piece[..n]).expect("UTF-8");
    }
    // Chunked framing stands between events; it is taken out by its line ends.
    let lines = text.split_once("\r\n\r\n").expect("a head").1.split("\r\n");
    let all: String = lines.filter(|l| !l.is_empty() && !l.bytes().all(|b| b.is_ascii_hexdigit())).collect();
    let seen = events(&all);
    let first: Value = serde_json::from_str(&seen[0].1).expect("a chunk");
    (first["id"].as_str().expect("an id").to_owned(), seen)
}

fn ask(server: &Server, method: &str, id: &str, headers: &str) -> Reply {
    let head = format!(
        "{method} /v1/streams/{id} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{headers}\r\n",
        server.at
    );
    server.raw(&head, b"")
}

#[test]
fn a_stream_that_broke_is_taken_up_again() {
    let server = slow(Config::default());
    let whole = events(&server.post("/v1/chat/completions", &body(80)).body);
    let numbers: Vec<u64> = whole.iter().map(|e| e.0).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(whole.last().expect("an event").1, "[DONE]");
    let (id, seen) = broken(&server, "", 80);
    assert!(seen.len() >= 8 && seen.len() < whole.len(), "{}", seen.len());
    let last = seen.last().expect("an event").0;
    let reply = ask(&server, "GET", &id, &format!("last-event-id: {last}\r\n"));
    let rest = events(&reply.body);
    assert_eq!((reply.status, rest[0].0), (200, last + 1), "{reply:?}");
    assert_eq!(content(&seen) + &content(&rest), content(&whole));
    assert_eq!(rest.last().expect("an event").1, "[DONE]");
    // Once more, from the first on: it is kept for a while.
    assert_eq!(content(&events(&ask(&server, "GET", &id, "").body)), content(&whole));
    assert_eq!(ask(&server, "GET", &id, "last-event-id: 999999\r\n").status, 410);
    assert_eq!(ask(&server, "GET", &id, "last-event-id: x\r\n").status, 400);
    assert_eq!(ask(&server, "GET", "chatcmpl-0", "").status, 404);
}

/// The other routes with streams of events keep theirs by the same field, under the id of their answer.
#[test]
fn every_stream_of_events_is_taken_up_again() {
    let server = slow(Config::default());
    let said = json!([{ "role": "user", "content": "Hi" }]);
    for (path, id, more) in [
        ("/v1/completions", "/id", json!({ "prompt": "Hi", "max_tokens": 40, "ignore_eos": true })),
        (
            "/v1/responses",
            "/response/id",
            json!({ "input": "Hi", "max_output_tokens": 40, "ignore_eos": true }),
        ),
        ("/v1/messages", "/message/id", json!({ "messages": said, "max_tokens": 40, "ignore_eos": true })),
    ] {
        let mut body = json!({ "model": "fake", "stream": true, "seed": 7, "resumable": true });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let whole = events(&server.post(path, &body).body);
        assert_eq!(
            whole.iter().map(|e| e.0).collect::<Vec<_>>(),
            (1..=whole.len() as u64).collect::<Vec<_>>()
        );
        assert!(whole.len() > 30, "{path}: {} events", whole.len());
        let first: Value = serde_json::from_str(&whole[0].1).expect("an event");
        let id = first.pointer(id).and_then(Value::as_str).unwrap_or_else(|| panic!("{path}: {first}"));
        let rest = events(&ask(&server, "GET", id, "last-event-id: 20\r\n").body);
        assert_eq!(rest, whole[20..], "{path}");
        body["stream"] = false.into();
        let error = server.post(path, &body);
        assert!(error.status == 400 && error.body.contains("is for streams"), "{path}: {error:?}");
    }
}

#[test]
fn a_stream_belongs_to_its_key_and_ends_when_told() {
    let keys = Keys::parse("the-first-of-the-keys\nthe-second-of-the-keys\n").expect("keys");
    let server = slow(Config { keys, ..Config::default() });
    let (mine, other) = ("x-api-key: the-first-of-the-keys\r\n", "x-api-key: the-second-of-the-keys\r\n");
    let (id, _) = broken(&server, mine, 400);
    assert_eq!(ask(&server, "GET", &id, other).status, 404);
    assert_eq!(ask(&server, "DELETE", &id, other).status, 404);
    assert_eq!(ask(&server, "GET", &id, "").status, 401);
    // Nobody reads, and it is drawn all the same.
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(server.engine.load(), (0, 1));
    assert_eq!(ask(&server, "DELETE", &id, mine).status, 200);
    assert!(server.is_idle());
}

#[test]
fn only_streams_are_resumable() {
    let server = Server::open();
    let mut whole = body(3);
    whole["stream"] = false.into();
    assert_eq!(server.post("/v1/chat/completions", &whole).error().1, "invalid_value");
}
