//! /v1/files and /v1/fine_tuning over real connections, with a trainer that counts.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weft_models::finetune::{Counts, Event, Shown, State, Step};
use weft_models::train::{KeptLayers, TrainPlan};
use weft_server::engine::fake::Fake;
use weft_server::engine::{Backend, Limits, Start, Worker};
use weft_server::tuning::{Jobs, Order, PROBLEMS, Plan, Problem, Refused, Stop, Told, Tuner};
use weft_server::{Config, Keys, Opened, Served, Unopened};

use crate::support::{CONTEXT, Engine, Reply, Server, card};

pub(crate) const JOBS: &str = "/v1/fine_tuning/jobs";

/// A step for each line of its data; where a line is, the run is, in a file of its folder.
struct Counting;

fn lines(order: &Order) -> Vec<String> {
    String::from_utf8_lossy(&order.data.bytes).lines().map(str::to_owned).collect()
}

impl Tuner for Counting {
    fn bases(&self) -> Vec<String> {
        vec!["fake".into()]
    }

    fn plan(&self, order: &Order, measure: bool) -> Result<Plan, Refused> {
        let all = lines(order);
        let wrong: Vec<Problem> = all
            .iter()
            .enumerate()
            .filter(|(_, l)| l.contains("bad"))
            .map(|(i, _)| Problem {
                file: order.data.name.clone(),
                place: Some(format!("line {}", i + 1)),
                what: "is bad".into(),
            })
            .take(PROBLEMS + 1)
            .collect();
        if !wrong.is_empty() {
            return Err(Refused::Data(wrong));
        }
        if order.recipe.rank == 200 {
            return Err(Refused::Line("a rank of 200 is not to be".into()));
        }
        let parts = vec![("asked".to_owned(), false), ("answered".to_owned(), true)];
        Ok(Plan {
            counts: Counts { examples: all.len(), records: all.len(), ..Counts::default() },
            validation: None,
            batch: vec![Shown { tokens: 2, learnt: 1, parts }],
            steps: all.len() as u64,
            tokens: 10 * all.len() as u64,
            memory: TrainPlan {
                weights: 100,
                staging: 0,
                adapters: 1,
                optimiser: 3,
                activations: 5,
                scratch: 7,
                kept: KeptLayers::default(),
            },
            shared: true,
            taken: 120,
            available: Some(1000),
            no_room: (order.recipe.batch == 999).then(|| "there is no room for 999".into()),
            step_seconds: measure.then_some(0.5),
        })
    }

    fn run(
        &self,
        order: &Order,
        folder: &Path,
        stop: &Stop,
        each: &mut dyn FnMut(Told),
    ) -> Result<State, String> {
        let (all, at) = (lines(order), folder.join("at"));
        let done: usize = std::fs::read_to_string(&at).map_or(0, |t| t.parse().expect("a number"));
        let steps = all.len() as u64;
        each(Told::Ready { steps, done: done as u64 });
        for (i, line) in all.iter().enumerate().skip(done) {
            if stop.asked() {
                return Ok(State::Cancelled);
            }
            assert!(!line.contains("panic"), "as it was asked");
            if line.contains("fail") {
                return Err(format!("line {} fails", i + 1));
            }
            std::thread::sleep(Duration::from_millis(5));
            let step = i as u64 + 1;
            let metrics = folder.join("metrics.jsonl");
            let mut file =
                std::fs::OpenOptions::new().create(true).append(true).open(metrics).expect("a file");
            let mut measured = json!({ "step": step, "loss": 1.0, "tokens": 10, "tokens_per_s": 5.0 });
            if line.contains("skip") {
                measured["skipped"] = true.into();
            }
            writeln!(file, "{measured}").expect("a disk");
            std::fs::write(&at, step.to_string()).expect("a disk");
            each(Told::Event(Event::Step(Step {
                step,
                steps,
                epoch: 1,
                loss: 1.0 / step as f64,
                accuracy: 0.5,
                lr: 0.1,
                grad_norm: 1.0,
                skipped: line.contains("skip"),
                tokens: 10,
                tokens_per_s: 5.0,
                val: (step == steps).then_some((0.25, 0.5)),
                memory: 16,
                seconds_left: 1.0,
            })));
            each(Told::Event(Event::Saved(at.clone())));
        }
        std::fs::write(folder.join("adapter.gguf"), b"GGUF").expect("a disk");
        Ok(State::Completed)
    }

    fn open(&self, base: &str, name: &str, adapter: &Path) -> Result<Opened, Unopened> {
        assert_eq!((base, std::fs::read(adapter).expect("an adapter")), ("fake", b"GGUF".to_vec()));
        let card = card(name);
        let tokenizer = card.tokenizer.clone();
        let start: Start =
            Box::new(move || Ok(Box::new(Fake::new(tokenizer.clone(), 1, CONTEXT)) as Box<dyn Backend>));
        let worker = Worker::spawn(start, Limits::default())?;
        Ok((Served::text(card, worker.handle()), Some(worker)))
    }
}

pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tuning-{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

pub(crate) fn open(folder: &Path) -> Arc<Jobs> {
    Arc::new(Jobs::open(folder, Arc::new(Counting)).expect("a folder of jobs"))
}

fn server(name: &str, config: Config) -> Server {
    let jobs = open(&folder(name));
    Server::made(config, Engine::default(), "server", |app| app.with_jobs(jobs))
}

#[track_caller]
fn upload(server: &Server, content: &str) -> String {
    let body = json!({ "purpose": "fine-tune", "filename": "mine.jsonl", "content": content });
    let reply = server.post("/v1/files", &body);
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["id"].as_str().expect("an id").to_owned()
}

fn wish(file: &str) -> Value {
    json!({ "model": "fake", "training_file": file, "suffix": "mine" })
}

#[track_caller]
pub(crate) fn begin(server: &Server, content: &str) -> String {
    let reply = server.post(JOBS, &wish(&upload(server, content)));
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["id"].as_str().expect("an id").to_owned()
}

#[track_caller]
pub(crate) fn until(server: &Server, id: &str, status: &str) -> Value {
    server.until(&format!("{JOBS}/{id}"), status)
}

fn ask(server: &Server, id: &str, what: &str) -> Reply {
    server.post(&format!("{JOBS}/{id}/{what}"), &json!({}))
}

#[test]
fn it_is_off_until_it_has_a_folder() {
    let server = Server::open();
    let off = (404, "fine_tuning_off".to_owned(), String::new());
    assert_eq!(server.post(JOBS, &wish("file-1")).error(), off);
    for path in [JOBS, "/v1/files", "/v1/files/file-1", "/v1/fine_tuning/jobs/ftjob-1/events"] {
        let reply = server.get(path);
        assert_eq!(reply.error(), off, "{path}");
        assert!(reply.line().expect("a line").contains("--jobs DIR"));
    }
    assert_eq!(server.get("/props").json()["fine_tuning"], json!({ "on": false, "models": [] }));
}

#[test]
fn files_are_kept_under_ids() {
    let server = server("files", Config::default());
    let id = upload(&server, "a\nb\n");
    assert_eq!(upload(&server, "a\nb\n"), id, "the same is the same");
    let other = upload(&server, "c\n");
    let list = server.get("/v1/files").json();
    let ids: Vec<&str> =
        list["data"].as_array().expect("files").iter().filter_map(|f| f["id"].as_str()).collect();
    assert_eq!(ids.len(), 2);
    assert!(ids.contains(&id.as_str()) && ids.contains(&other.as_str()));
    assert_eq!(server.get(&format!("/v1/files/{id}/content")).body, "a\nb\n");
    let one = server.get(&format!("/v1/files/{id}")).json();
    assert_eq!(
        (&one["bytes"], &one["filename"], &one["purpose"]),
        (&json!(4), &json!("mine.jsonl"), &json!("fine-tune"))
    );
    let delete = |id: &str| {
        let head =
            format!("DELETE /v1/files/{id} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", server.at);
        server.raw(&head, b"")
    };
    assert_eq!(delete(&id).json()["deleted"], true);
    assert_eq!(delete(&id).error().0, 404);
    for name in ["", "../x", "a/b", "a\\b", ".hidden", "a\nb", "a\u{0}"] {
        let body = json!({ "purpose": "fine-tune", "filename": name, "content": "a" });
        assert_eq!(
            server.post("/v1/files", &body).error(),
            (400, "invalid_value".into(), "filename".into()),
            "{name:?}"
        );
    }
    for id in ["..", "../jobs", "%2e%2e%2fx", "file-"] {
        assert_eq!(server.get(&format!("/v1/files/{id}")).status, 404, "{id}");
    }
    // As OpenAI's clients send it, which a page of elsewhere cannot.
    let form = "--xx\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nfine-tune\r\n--xx\r\n\
                content-disposition: form-data; name=\"file\"; filename=\"f.jsonl\"\r\n\
                content-type: application/octet-stream\r\n\r\nd\r\n--x\n\r\n--xx--\r\n";
    let send = |more: &str, form: &str| {
        let head = format!(
            "POST /v1/files HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{more}content-type: multipart/form-data; \
             boundary=xx\r\ncontent-length: {}\r\n\r\n",
            server.at,
            form.len()
        );
        server.raw(&head, form.as_bytes())
    };
    assert_eq!(send("", form).error().0, 415);
    let reply = send("authorization: Bearer none\r\n", form);
    let id = reply.json()["id"].as_str().unwrap_or_else(|| panic!("{reply:?}")).to_owned();
    assert_eq!(server.get(&format!("/v1/files/{id}/content")).body, "d\r\n--x\n");
    for cut in [5, 60, 120, form.len() - 8] {
        assert_eq!(send("x-api-key: none\r\n", &form[..cut]).error().1, "invalid_body", "{cut}");
    }
    let other = form.replace("\"purpose\"", "\"expires_after\"");
    assert_eq!(send("x-api-key: none\r\n", &other).error().1, "unknown_parameter");
    let large = json!({ "purpose": "fine-tune", "filename": "a", "content": "x".repeat(17 << 20) });
    assert_eq!(server.post("/v1/files", &large).error().0, 413);
}

#[test]
fn problems_are_told_by_line_before_anything_begins() {
    let server = server("problems", Config::default());
    let file = upload(&server, "good\nbad\ngood\nbad\n");
    let plan = server.post("/v1/fine_tuning/plan", &wish(&file)).json();
    let told: Vec<_> =
        plan["problems"].as_array().expect("problems").iter().map(|p| (&p["line"], &p["message"])).collect();
    assert_eq!(told, [(&json!(2), &json!("is bad")), (&json!(4), &json!("is bad"))]);
    assert_eq!(plan["more_problems"], false);
    let reply = server.post(JOBS, &wish(&file));
    assert_eq!(reply.error(), (400, "invalid_training_file".into(), "training_file".into()));
    assert!(reply.line().expect("a line").starts_with("mine.jsonl: line 2: is bad; 1 more"), "{reply:?}");
    let many = upload(&server, &"bad\n".repeat(90));
    let plan = server.post("/v1/fine_tuning/plan", &wish(&many)).json();
    assert_eq!(
        (plan["problems"].as_array().expect("problems").len(), &plan["more_problems"]),
        (PROBLEMS, &json!(true))
    );
    assert_eq!(server.get(JOBS).json()["data"], json!([]));
}

#[test]
fn a_plan_says_what_a_run_takes() {
    let server = server("plan", Config::default());
    let file = upload(&server, "a\nb\nc\n");
    let mut wish = wish(&file);
    wish["measure"] = true.into();
    let plan = server.post("/v1/fine_tuning/plan", &wish).json();
    assert_eq!((&plan["steps"], &plan["seconds"], &plan["measured"]), (&json!(3), &json!(1.5), &json!(true)));
    // Weights that answer already are not taken again.
    assert_eq!((&plan["memory"]["training"], &plan["memory"]["fits"]), (&json!(16), &json!(true)));
    assert_eq!(plan["batch"][0]["parts"], json!([["asked", false], ["answered", true]]));
    wish["hyperparameters"] = json!({ "batch_size": 999 });
    let plan = server.post("/v1/fine_tuning/plan", &wish).json();
    assert_eq!(
        (&plan["memory"]["fits"], &plan["memory"]["message"]),
        (&json!(false), &json!("there is no room for 999"))
    );
    wish.as_object_mut().expect("an object").remove("measure");
    assert_eq!(server.post(JOBS, &wish).error().1, "not_enough_memory");
}

#[test]
fn a_request_is_taken_strictly() {
    let server = server("strict", Config::default());
    let file = upload(&server, "a\n");
    let with = |name: &str, value: Value| {
        let mut wish = wish(&file);
        wish[name] = value;
        server.post(JOBS, &wish).error()
    };
    let bad = |code: &str, param: &str| (400, code.to_owned(), param.to_owned());
    assert_eq!(with("suffix", "../x".into()), bad("invalid_value", "suffix"));
    assert_eq!(with("suffix", "".into()), bad("invalid_value", "suffix"));
    assert_eq!(with("integrations", json!([{}])), bad("unsupported_parameter", "integrations"));
    assert_eq!(with("hyperparameters", json!({ "rank": 0 })), bad("invalid_value", "hyperparameters.rank"));
    assert_eq!(
        with("hyperparameters", json!({ "rnak": 1 })),
        bad("unknown_parameter", "hyperparameters.rnak")
    );
    assert_eq!(with("hyperparameters", json!({ "rank": 200 })).1, "invalid_value");
    assert_eq!(with("method", json!({ "type": "dpo" })), bad("unsupported_parameter", "method.type"));
    assert_eq!(
        with("training_file", "file-nothing".into()),
        (404, "file_not_found".into(), "training_file".into())
    );
    assert_eq!(with("model", "other".into()), (404, "model_not_found".into(), "model".into()));
    assert_eq!(server.get(&format!("{JOBS}?qqq=1")).error(), bad("unknown_parameter", "qqq"));
    assert_eq!(server.get(&format!("{JOBS}/ftjob-1")).error().1, "job_not_found");
    assert_eq!(server.get(&format!("{JOBS}/../../x/events")).status, 404);
}

#[test]
fn a_job_runs_is_followed_and_becomes_a_model() {
    let server = server("run", Config::default());
    let id = begin(&server, &format!("a\nskip\n{}", "a\n".repeat(28)));
    let job = server.get(&format!("{JOBS}/{id}")).json();
    assert_eq!((&job["object"], &job["fine_tuned_model"]), (&json!("fine_tuning.job"), &Value::Null));
    // The stream tells every step, from the first on, and ends with the job.
    let events = server.get(&format!("{JOBS}/{id}/events?stream=true")).events();
    let steps: Vec<u64> = events.iter().filter_map(|e| e["data"]["step"].as_u64()).collect();
    assert_eq!(steps, (1..=30).collect::<Vec<u64>>());
    assert_eq!(events.iter().filter(|e| !e["data"]["valid_loss"].is_null()).count(), 1);
    // What was not learnt is a warning.
    let warned = events.iter().filter(|e| e["level"] == "warn").map(|e| &e["message"]).collect::<Vec<_>>();
    assert_eq!(warned, ["step 2 was skipped: its loss or gradient is not finite"]);
    let job = until(&server, &id, "succeeded");
    assert_eq!((&job["fine_tuned_model"], &job["trained_tokens"]), (&json!("fake+mine"), &json!(300)));
    assert_eq!((&job["progress"]["step"], &job["progress"]["valid_loss"]), (&json!(30), &json!(0.25)));
    let newest = server.get(&format!("{JOBS}/{id}/events?limit=1")).json();
    assert!(
        newest["data"][0]["message"].as_str().expect("a line").contains("answers as \"fake+mine\""),
        "{newest}"
    );
    assert_eq!(newest["has_more"], true);
    let names = server.get("/v1/models").json().to_string();
    assert!(names.contains("fake+mine"), "{names}");
    let chat =
        json!({ "model": "fake+mine", "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 3 });
    assert_eq!(server.post("/v1/chat/completions", &chat).status, 200);
    let result = server.get(&format!("{JOBS}/{id}/result/adapter.gguf"));
    assert_eq!((result.status, result.body.as_str()), (200, "GGUF"));
    assert_eq!(result.header("content-disposition"), Some("attachment; filename=\"mine-adapter.gguf\""));
    assert_eq!(server.get(&format!("{JOBS}/{id}/result/job.json")).error().0, 404);
    // The name is taken.
    let again = server.post(JOBS, &wish(&upload(&server, "b\n")));
    assert_eq!(again.error(), (400, "invalid_value".into(), "suffix".into()));
    assert_eq!(ask(&server, &id, "pause").error(), (400, "invalid_state".into(), String::new()));
    let head = format!("DELETE {JOBS}/{id} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", server.at);
    let end = Instant::now() + Duration::from_secs(5);
    while server.raw(&head, b"").status != 200 {
        assert!(Instant::now() < end, "the answer is over, but the model is still in use");
    }
    assert_eq!(server.post("/v1/chat/completions", &chat).error().1, "model_not_found");
}

#[test]
fn one_at_a_time_paused_resumed_and_cancelled() {
    let server = server("steer", Config::default());
    let first = begin(&server, &"a\n".repeat(400));
    until(&server, &first, "running");
    let mut more = wish(&upload(&server, "b\n"));
    more["suffix"] = "second".into();
    let second = server.post(JOBS, &more).json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(server.get(&format!("{JOBS}/{second}")).json()["status"], "queued");
    assert_eq!(ask(&server, &first, "pause").status, 200);
    let paused = until(&server, &first, "paused");
    let step = paused["progress"]["step"].as_u64().expect("a step");
    // Its place is free meanwhile.
    until(&server, &second, "succeeded");
    assert_eq!(ask(&server, &first, "resume").json()["status"], "queued");
    until(&server, &first, "running");
    assert_eq!(ask(&server, &first, "cancel").status, 200);
    let ended = until(&server, &first, "cancelled");
    assert!(
        ended["progress"]["step"].as_u64().expect("a step") >= step && ended["fine_tuned_model"].is_null()
    );
    assert_eq!(ask(&server, &first, "resume").error().1, "invalid_state");
    let body = json!({ "reason": "none" });
    let reply = server.post(&format!("{JOBS}/{first}/cancel"), &body);
    assert_eq!(reply.error(), (400, "unknown_parameter".into(), "reason".into()));
}

#[test]
fn a_run_that_fails_says_why_and_the_next_one_runs() {
    let server = server("fail", Config::default());
    let failed = begin(&server, "a\nfail\n");
    let job = until(&server, &failed, "failed");
    assert_eq!(job["error"]["message"], "line 2 fails");
    let mut more = wish(&upload(&server, "a\npanic\n"));
    more["suffix"] = "second".into();
    let panics = server.post(JOBS, &more).json()["id"].as_str().expect("an id").to_owned();
    let job = until(&server, &panics, "failed");
    assert_eq!(job["error"]["message"], "the training met a bug of its own");
    more = wish(&upload(&server, "a\n"));
    more["suffix"] = "third".into();
    let well = server.post(JOBS, &more).json()["id"].as_str().expect("an id").to_owned();
    until(&server, &well, "succeeded");
}

#[test]
fn a_server_that_ends_goes_on_with_its_jobs_at_the_next_start() {
    let folder = folder("restart");
    let jobs = open(&folder);
    let kept = jobs.clone();
    let mut server = Server::made(Config::default(), Engine::default(), "server", |app| app.with_jobs(kept));
    let id = begin(&server, &"a\n".repeat(120));
    let end = Instant::now() + Duration::from_secs(20);
    while server.get(&format!("{JOBS}/{id}")).json()["progress"]["step"].as_u64() < Some(3) {
        assert!(Instant::now() < end);
    }
    assert!(Jobs::open(&folder, Arc::new(Counting)).expect_err("a lock").contains("another server"));
    server.end();
    assert!(jobs.wait(Duration::from_secs(10)));
    drop((jobs, server));
    let jobs = open(&folder);
    let server = Server::made(Config::default(), Engine::default(), "server", |app| app.with_jobs(jobs));
    let events = server.get(&format!("{JOBS}/{id}/events?stream=true")).events();
    let steps: Vec<u64> = events.iter().filter_map(|e| e["data"]["step"].as_u64()).collect();
    assert_eq!(steps, (1..=120).collect::<Vec<u64>>());
    assert!(
        events
            .iter()
            .any(|e| e["message"].as_str().is_some_and(|m| m.starts_with("training goes on after step")))
    );
    assert_eq!(until(&server, &id, "succeeded")["trained_tokens"], 1200);
    assert_eq!(server.get("/v1/files").json()["data"].as_array().expect("files").len(), 1);
}

#[test]
fn keys_do_not_see_each_other() {
    let keys = Keys::parse("aaaaaaaaaaaaaaaa\nbbbbbbbbbbbbbbbb\n").expect("keys");
    let server = server("keys", Config { keys, ..Config::default() });
    let send = |key: char, method: &str, path: &str, body: &str| {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\n\
             authorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
            server.at,
            key.to_string().repeat(16),
            body.len()
        );
        server.raw(&head, body.as_bytes())
    };
    let file = json!({ "purpose": "fine-tune", "filename": "a.jsonl", "content": "a\n" }).to_string();
    let id = send('a', "POST", "/v1/files", &file).json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(send('b', "GET", &format!("/v1/files/{id}"), "").error().0, 404);
    assert_eq!(send('b', "POST", JOBS, &wish(&id).to_string()).error().1, "file_not_found");
    let job =
        send('a', "POST", JOBS, &wish(&id).to_string()).json()["id"].as_str().expect("an id").to_owned();
    for (method, path) in [
        ("GET", ""),
        ("GET", "/events"),
        ("POST", "/cancel"),
        ("DELETE", ""),
        ("GET", "/result/adapter.gguf"),
    ] {
        assert_eq!(
            send('b', method, &format!("{JOBS}/{job}{path}"), "").error().1,
            "job_not_found",
            "{method} {path}"
        );
    }
    assert_eq!(send('b', "GET", JOBS, "").json()["data"], json!([]));
    assert_eq!(send('a', "GET", JOBS, "").json()["data"].as_array().expect("jobs").len(), 1);
    assert_eq!(server.get(JOBS).error().0, 401);
}
