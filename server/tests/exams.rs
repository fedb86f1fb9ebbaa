//! /v1/evaluations over real connections, with an examiner that counts.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use weft_server::exams::{Exam, Examiner, Exams, Score, Suite};
use weft_server::tuning::Stop;
use weft_server::{Config, Keys};

use crate::support::{Engine, Server};

const EVALUATIONS: &str = "/v1/evaluations";

/// As many questions as the limit says, 5 ms each; it knows one domain.
struct Counting;

impl Examiner for Counting {
    fn examinees(&self) -> Vec<String> {
        vec!["fake".into()]
    }

    fn check(&self, exam: &Exam) -> Result<(), String> {
        match &exam.suite {
            Suite::Curriculum(domains) if domains.iter().any(|d| d != "physics") => {
                Err("no such domain".into())
            }
            Suite::File { data, .. } if data.bytes == b"bad" => Err(format!("{}: line 1: is bad", data.name)),
            _ => Ok(()),
        }
    }

    fn examine(
        &self,
        exam: &Exam,
        stop: &Stop,
        each: &mut dyn FnMut(u64, u64),
    ) -> Result<Vec<Score>, String> {
        assert!(exam.seed != 13, "as it was asked");
        for done in 0..exam.limit {
            each(done + 1, exam.limit);
            if stop.asked() {
                return Err("stopped".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let all = Score {
            kind: "counted".into(),
            part: "all".into(),
            total: exam.limit,
            share: 0.5,
            interval: (0.25, 0.75),
        };
        Ok(vec![all])
    }
}

fn server(config: Config) -> Server {
    let exams = Arc::new(Exams::new(Arc::new(Counting)).expect("a thread"));
    Server::made(config, Engine::default(), "server", |app| app.with_exams(exams))
}

#[track_caller]
fn begin(server: &Server, more: Value) -> String {
    let mut body = json!({ "model": "fake", "limit": 3 });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    let reply = server.post(EVALUATIONS, &body);
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["id"].as_str().expect("an id").to_owned()
}

#[track_caller]
fn until(server: &Server, id: &str, status: &str) -> Value {
    server.until(&format!("{EVALUATIONS}/{id}"), status)
}

#[test]
fn questions_are_asked_one_evaluation_after_the_other() {
    let server = server(Config::default());
    let long = begin(&server, json!({ "limit": 2000 }));
    let second = begin(&server, json!({}));
    until(&server, &long, "running");
    assert_eq!(server.get(&format!("{EVALUATIONS}/{second}")).json()["status"], "queued");
    let cancel = |id: &str| server.post(&format!("{EVALUATIONS}/{id}/cancel"), &json!({}));
    assert_eq!(cancel(&long).status, 200);
    until(&server, &long, "cancelled");
    let done = until(&server, &second, "completed");
    assert_eq!((&done["answered"], &done["questions"]), (&json!(3), &json!(3)));
    let score =
        json!({ "kind": "counted", "part": "all", "total": 3, "share": 0.5, "low": 0.25, "high": 0.75 });
    assert_eq!(done["scores"], json!([score]));
    assert_eq!(cancel(&second).error(), (400, "invalid_state".into(), String::new()));
    let list = server.get(EVALUATIONS).json();
    assert_eq!((&list["data"][0]["id"], &list["models"]), (&json!(second), &json!(["fake"])));
    let panics = begin(&server, json!({ "seed": 13 }));
    assert_eq!(until(&server, &panics, "failed")["error"], "the evaluation met a bug of its own");
    until(&server, &begin(&server, json!({})), "completed");
}

#[test]
fn a_request_is_taken_strictly() {
    let server = server(Config::default());
    let with = |more: Value| {
        let mut body = json!({ "model": "fake" });
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        server.post(EVALUATIONS, &body).error()
    };
    let bad = |code: &str, param: &str| (400, code.to_owned(), param.to_owned());
    assert_eq!(with(json!({ "model": "other" })), (404, "model_not_found".into(), "model".into()));
    assert_eq!(with(json!({ "suite": "medqa" })), bad("invalid_value", "suite"));
    assert_eq!(with(json!({ "suite": "file" })), bad("missing_required_parameter", "content"));
    assert_eq!(
        with(json!({ "suite": "file", "content": "a", "filename": "../x" })),
        bad("invalid_value", "filename")
    );
    assert_eq!(
        with(json!({ "suite": "file", "content": "a", "mode": "guess" })),
        bad("invalid_value", "mode")
    );
    assert_eq!(with(json!({ "suite": "file", "content": "bad" })), bad("invalid_value", ""));
    assert_eq!(with(json!({ "content": "a" })), bad("unsupported_parameter", "content"));
    assert_eq!(with(json!({ "domains": ["astrology"] })), bad("invalid_value", ""));
    assert_eq!(with(json!({ "limit": 0 })), bad("invalid_value", "limit"));
    assert_eq!(server.get(&format!("{EVALUATIONS}/eval-1")).error().0, 404);
    assert_eq!(Server::open().get(EVALUATIONS).error(), (404, "evaluations_off".into(), String::new()));
    // A queue that is full says so.
    let long = begin(&server, json!({ "limit": 10_000 }));
    until(&server, &long, "running");
    for _ in 0..8 {
        begin(&server, json!({}));
    }
    assert_eq!(with(json!({})).0, 429);
    server.post(&format!("{EVALUATIONS}/{long}/cancel"), &json!({}));
}

#[test]
fn keys_do_not_see_each_other_s_evaluations() {
    let keys = Keys::parse("aaaaaaaaaaaaaaaa\nbbbbbbbbbbbbbbbb\n").expect("keys");
    let server = server(Config { keys, ..Config::default() });
    let send = |key: char, method: &str, path: &str, body: &str| {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\n\
             x-api-key: {}\r\ncontent-length: {}\r\n\r\n",
            server.at,
            key.to_string().repeat(16),
            body.len()
        );
        server.raw(&head, body.as_bytes())
    };
    let id = send('a', "POST", EVALUATIONS, r#"{"model":"fake","limit":2}"#).json()["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    assert_eq!(send('b', "GET", &format!("{EVALUATIONS}/{id}"), "").error().0, 404);
    assert_eq!(send('b', "POST", &format!("{EVALUATIONS}/{id}/cancel"), "").error().0, 404);
    assert_eq!(send('b', "GET", EVALUATIONS, "").json()["data"], json!([]));
    assert_eq!(send('a', "GET", EVALUATIONS, "").json()["data"].as_array().expect("some").len(), 1);
}
