//! /v1/tasks, /v1/memory and /v1/sizes over real connections, with somebody who counts in place of the work.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use weft_server::tasks::{Doer, Room, Task, Tasks};
use weft_server::tuning::Stop;
use weft_server::{Config, Each};

use crate::support::{Engine, Server};
use crate::tuning;

const TASKS: &str = "/v1/tasks";

/// Does everything but to quantise, in steps of 5 ms: three, or thousands where it is thorough.
struct Counting {
    kinds: Vec<&'static str>,
}

impl Doer for Counting {
    fn kinds(&self) -> Vec<&'static str> {
        self.kinds.clone()
    }

    fn models(&self) -> Vec<String> {
        vec!["fake".into(), "big".into()]
    }

    fn memory(&self, room: &Room) -> Result<Value, String> {
        match room.cache.as_deref() {
            Some("f64") => Err("there is no cache \"f64\"".into()),
            _ => Ok(json!({ "model": room.model, "context": room.context, "slots": room.slots })),
        }
    }

    fn sizes(&self, model: &str) -> Result<Value, String> {
        match model {
            "big" => Err("big: holds no tensors".into()),
            _ => Ok(json!({ "types": [{ "type": "Q4_0", "bytes": 7 }] })),
        }
    }

    fn check(&self, task: &Task) -> Result<(), String> {
        match task {
            Task::Quantize { again: false, .. } => Err("it is quantised already".into()),
            _ => Ok(()),
        }
    }

    fn run(&self, task: &Task, stop: &Stop, each: Each<'_>) -> Result<Value, String> {
        let (of, result) = match task {
            Task::Kernels { thorough: true } => (5000, json!({})),
            Task::Quantize { to, name, .. } => (3, json!({ "wrote": format!("{name} as {to}") })),
            Task::Bench { model } if model == "big" => return Err("big does not fit".into()),
            Task::Merge { adapter, to, .. } => {
                let whole = [std::fs::read(adapter).expect("an adapter"), b" and all".to_vec()].concat();
                std::fs::write(to, whole).expect("a disk");
                (1, json!({}))
            }
            Task::Tune { .. } => panic!("as it was asked"),
            _ => (3, json!({ "passed": 3 })),
        };
        for done in 0..of {
            each(done + 1, of, "matmul");
            if stop.asked() {
                return Err("stopped".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(result)
    }
}

fn server(kinds: &[&'static str]) -> Server {
    let tasks = Arc::new(Tasks::new(Arc::new(Counting { kinds: kinds.to_vec() })).expect("a thread"));
    Server::made(Config::default(), Engine::default(), "server", |app| app.with_tasks(tasks))
}

const ALL: &[&str] = &["quantize", "kernels", "roofline", "tune", "bench"];

#[track_caller]
fn begin(server: &Server, body: Value) -> String {
    let reply = server.post(TASKS, &body);
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["id"].as_str().expect("an id").to_owned()
}

#[track_caller]
fn until(server: &Server, id: &str, status: &str) -> Value {
    server.until(&format!("{TASKS}/{id}"), status)
}

#[test]
fn work_is_done_one_piece_after_the_other() {
    let server = server(ALL);
    let long = begin(&server, json!({ "kind": "kernels", "thorough": true }));
    let written = begin(
        &server,
        json!({ "kind": "quantize", "model": "fake", "type": "Q4_0", "name": "new", "requantize": true }),
    );
    let running = until(&server, &long, "running");
    assert_eq!(
        (&running["of"], &running["now"], &running["thorough"]),
        (&json!(5000), &json!("matmul"), &json!(true))
    );
    assert_eq!(server.get(&format!("{TASKS}/{written}")).json()["status"], "queued");
    let cancel = |id: &str| server.post(&format!("{TASKS}/{id}/cancel"), &json!({}));
    assert_eq!(cancel(&long).status, 200);
    assert_eq!(until(&server, &long, "cancelled")["result"], Value::Null);
    let done = until(&server, &written, "completed");
    assert_eq!((&done["done"], &done["result"]["wrote"]), (&json!(3), &json!("new as Q4_0")));
    assert_eq!(cancel(&written).error(), (400, "invalid_state".into(), String::new()));
    let failed = begin(&server, json!({ "kind": "bench", "model": "big" }));
    assert_eq!(until(&server, &failed, "failed")["error"], "big does not fit");
    let panics = begin(&server, json!({ "kind": "tune" }));
    assert_eq!(until(&server, &panics, "failed")["error"], "the task met a bug of its own");
    until(&server, &begin(&server, json!({ "kind": "bench", "model": "fake" })), "completed");
    let list = server.get(TASKS).json();
    assert_eq!((&list["data"][4]["id"], &list["models"]), (&json!(long), &json!(["fake", "big"])));
}

#[test]
fn what_is_not_allowed_or_not_known_is_refused_by_name() {
    let server = server(ALL);
    let with = |body: Value| server.post(TASKS, &body).error();
    let bad = |code: &str, param: &str| (400, code.to_owned(), param.to_owned());
    let new = |name: &str| json!({ "kind": "quantize", "model": "fake", "type": "Q4_0", "name": name });
    assert_eq!(with(json!({ "kind": "format" })), bad("invalid_value", "kind"));
    assert_eq!(with(json!({ "kind": "kernels", "model": "fake" })), bad("unsupported_parameter", "model"));
    assert_eq!(
        with(json!({ "kind": "bench", "thorough": true, "model": "fake" })),
        bad("unsupported_parameter", "thorough")
    );
    assert_eq!(with(json!({ "kind": "bench" })), bad("missing_required_parameter", "model"));
    assert_eq!(
        with(json!({ "kind": "bench", "model": "../x" })),
        (404, "model_not_found".into(), "model".into())
    );
    assert_eq!(
        with(json!({ "kind": "quantize", "model": "fake", "type": "Q4_0" })),
        bad("missing_required_parameter", "name")
    );
    for name in ["../x", "a/b", "", ".hidden", "/etc/x"] {
        assert_eq!(with(new(name)), bad("invalid_value", "name"), "{name}");
    }
    // There is a model of this name, and the source is quantised.
    assert_eq!(with(new("fake")), bad("invalid_value", "name"));
    assert_eq!(with(new("new")), bad("invalid_value", ""));
    assert_eq!(
        with(json!({ "kind": "merge", "job": "ftjob-1" })),
        (403, "task_not_allowed".into(), String::new())
    );
    let less = self::server(&["kernels"]);
    assert_eq!(less.post(TASKS, &new("new")).error(), (403, "quantize_not_allowed".into(), String::new()));
    assert_eq!(less.get(TASKS).json()["kinds"], json!(["kernels"]));
    assert_eq!(Server::open().get(TASKS).error(), (404, "tasks_off".into(), String::new()));
}

#[test]
fn plans_and_sizes_are_told_before_anything_is_begun() {
    let server = server(&[]);
    let memory = |body: Value| server.post("/v1/memory", &body);
    let plan = memory(json!({ "model": "big", "context": 8192, "slots": 4, "cache_type": "q8_0" })).json();
    assert_eq!(plan, json!({ "model": "big", "context": 8192, "slots": 4 }));
    assert_eq!(memory(json!({ "model": "big", "cache_type": "f64" })).error().1, "no_plan");
    for (name, value) in [("context", json!(0)), ("slots", json!(257)), ("slots", json!(-1))] {
        let mut body = json!({ "model": "big" });
        body[name] = value;
        assert_eq!(memory(body).error(), (400, "invalid_value".into(), name.into()));
    }
    assert_eq!(memory(json!({ "model": "none" })).error(), (404, "model_not_found".into(), "model".into()));
    assert_eq!(server.post("/v1/sizes", &json!({ "model": "fake" })).json()["types"][0]["bytes"], 7);
    assert_eq!(server.post("/v1/sizes", &json!({ "model": "big" })).error().1, "no_sizes");
}

#[test]
fn an_adapter_is_added_to_its_model_and_fetched() {
    let tasks = Arc::new(Tasks::new(Arc::new(Counting { kinds: vec!["merge"] })).expect("a thread"));
    let jobs = tuning::open(&tuning::folder("merged"));
    let server = Server::made(Config::default(), Engine::default(), "server", |app| {
        app.with_jobs(jobs).with_tasks(tasks)
    });
    let merge = |job: &str| json!({ "kind": "merge", "job": job });
    let failed = tuning::begin(&server, "fail\n");
    tuning::until(&server, &failed, "failed");
    assert_eq!(server.post(TASKS, &merge(&failed)).error(), (400, "invalid_state".into(), "job".into()));
    assert_eq!(server.post(TASKS, &merge("../x")).error(), (404, "job_not_found".into(), "job".into()));
    // The name of the first is taken until it is gone.
    let head = format!(
        "DELETE {}/{failed} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
        tuning::JOBS,
        server.at
    );
    assert_eq!(server.raw(&head, b"").status, 200);
    let job = tuning::begin(&server, "a\nb\n");
    tuning::until(&server, &job, "succeeded");
    let result = format!("{}/{job}/result/merged.gguf", tuning::JOBS);
    assert_eq!(server.get(&result).error().1, "file_not_found");
    let task = begin(&server, merge(&job));
    let done = until(&server, &task, "completed");
    assert_eq!((&done["job"], &done["model"]), (&json!(job), &json!("fake+mine")));
    let reply = server.get(&result);
    assert_eq!((reply.body.as_str(), reply.header("content-length")), ("GGUF and all", Some("12")));
    assert!(reply.header("content-disposition").is_some_and(|d| d.contains("mine-merged.gguf")));
}
