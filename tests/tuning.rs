//! Fine-tuning by `weft serve --jobs`, on the first layer of weft-mini.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::finetune::{data, layer};
use crate::serve::Server;
use crate::support::cli::{folder, ok};

/// Steps of a run.
const STEPS: u64 = 24;

struct Tuning {
    server: Server,
}

impl Tuning {
    fn start(model: &str, jobs: &Path) -> Tuning {
        let jobs = jobs.to_str().expect("UTF-8");
        let server =
            Server::start(&["-m", model, "--alias", "layer", "-c", "128", "--slots", "1", "--jobs", jobs]);
        Tuning { server }
    }

    #[track_caller]
    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, text) = self.server.send(method, path, "", &body);
        assert_eq!(status, 200, "{method} {path}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    #[track_caller]
    fn job(&self, id: &str) -> Value {
        self.send("GET", &format!("/v1/fine_tuning/jobs/{id}"), &Value::Null)
    }

    /// Uploads the data and gives its id.
    fn upload(&self, path: &str) -> String {
        let content = std::fs::read_to_string(path).expect("data");
        let file = json!({ "purpose": "fine-tune", "filename": "data.jsonl", "content": content });
        self.send("POST", "/v1/files", &file)["id"].as_str().expect("an id").to_owned()
    }

    fn ask(&self, model: &str) -> (u16, String) {
        let messages = json!([{ "role": "user", "content": "What is 3 + 2?" }]);
        let body = json!({ "model": model, "messages": messages, "max_tokens": 4 });
        self.server.send("POST", "/v1/chat/completions", "", &body.to_string())
    }
}

fn wish(file: &str) -> Value {
    json!({
        "model": "layer", "training_file": file, "suffix": "mine",
        "hyperparameters": {
            "n_steps": STEPS, "batch_size": 1, "rank": 2, "alpha": 32, "targets": "k,o", "save_every": 2,
        },
    })
}

/// Killed at random moments and started again, a server's job gives what `weft finetune` gives in one go, byte for
/// byte; no kill costs more than the steps since the last checkpoint. The model answers meanwhile, and at the end the
/// adapter does.
#[cfg(unix)]
#[test]
fn kills_of_the_server_change_nothing() {
    let folder = folder("tuning-kill");
    let (data, model, jobs) = (data(&folder), layer(&folder), folder.join("jobs"));
    let whole = folder.join("whole");
    let steps = STEPS.to_string();
    let mut args = vec!["finetune", "-m", &model, "-d", &data, "-o", whole.to_str().expect("UTF-8")];
    args.extend(["--steps", &steps, "--batch", "1", "--rank", "2", "--targets", "k,o", "--save-every", "2"]);
    ok(&args);

    let mut tuning = Tuning::start(&model, &jobs);
    let file = tuning.upload(&data);
    let id =
        tuning.send("POST", "/v1/fine_tuning/jobs", &wish(&file))["id"].as_str().expect("an id").to_owned();
    let metrics = jobs.join(&id).join("run").join("metrics.jsonl");
    let lines = || std::fs::read_to_string(&metrics).map_or(0, |t| t.lines().count() as u64);
    let mut random = 20_261_129u64;
    let mut kills = 0;
    while kills < 6 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Behind some new steps, or at once, at a random moment.
        let (before, more) = (lines(), (random >> 33) % 4);
        let late = Instant::now() + Duration::from_secs(120);
        while lines() < before + more && tuning.job(&id)["status"] != "succeeded" {
            assert!(Instant::now() < late, "no step is done: {}", tuning.job(&id));
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis((random >> 40) % 50));
        drop(tuning);
        kills += 1;
        let measured = lines();
        tuning = Tuning::start(&model, &jobs);
        let job = tuning.job(&id);
        let saved = job["progress"]["step"].as_u64().expect("a step");
        assert!(measured <= saved + 3, "{measured} steps were measured, and it goes on at {saved}: {job}");
    }
    assert_eq!(tuning.ask("layer").0, 200, "the model answers while it is trained, or behind that");
    let late = Instant::now() + Duration::from_secs(120);
    while tuning.job(&id)["status"] != "succeeded" {
        let job = tuning.job(&id);
        assert!(Instant::now() < late && job["status"] != "failed", "{job}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let bytes = |f: &Path| std::fs::read(f.join("adapter.gguf")).expect("an adapter");
    assert!(bytes(&jobs.join(&id).join("run")) == bytes(&whole), "the adapter is another one");
    let (status, text) = tuning.ask("layer+mine");
    assert_eq!(status, 200, "{text}");
    assert!(!jobs.join(&id).join("job.json.part").exists());
}

/// What a page shows before a run begins is what `weft finetune` reads: problems by line, the first batch, the memory.
#[test]
fn a_plan_is_made_of_the_data() {
    let folder = folder("tuning-plan");
    let (data, model) = (data(&folder), layer(&folder));
    let tuning = Tuning::start(&model, &folder.join("jobs"));
    let mut ask = wish(&tuning.upload(&data));
    ask["measure"] = true.into();
    let plan = tuning.send("POST", "/v1/fine_tuning/plan", &ask);
    assert_eq!((&plan["steps"], &plan["data"]["examples"]), (&json!(STEPS), &json!(8)), "{plan}");
    assert!(plan["seconds"].as_f64() > Some(0.0) && plan["measured"] == true, "{plan}");
    assert!(plan["memory"]["training"].as_u64() > Some(1 << 10) && plan["memory"]["fits"] == true, "{plan}");
    let learnt: Vec<&Value> =
        plan["batch"][0]["parts"].as_array().expect("parts").iter().filter(|p| p[1] == true).collect();
    assert_eq!(learnt.len(), 1, "{plan}");
    assert!(learnt[0][0].as_str().expect("a text").contains("The answer is"), "{plan}");
    assert_eq!(plan["memory"]["layers"], json!({ "whole": 0, "halves": 0, "inputs": 1 }), "{plan}");
    // Within a budget, what fits is kept; where nothing does, both numbers are told.
    let within = |bytes: u64| {
        let mut ask = ask.clone();
        ask["hyperparameters"]["memory"] = bytes.into();
        tuning.server.send("POST", "/v1/fine_tuning/plan", "", &ask.to_string())
    };
    let (status, text) = within(1 << 30);
    let kept: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((status, &kept["memory"]["layers"]["whole"]), (200, &json!(1)), "{text}");
    let (status, text) = within(1000);
    assert!(status == 400 && text.contains("1000 B may be taken"), "{status} {text}");
    let wrong = folder.join("wrong.jsonl");
    std::fs::write(&wrong, "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": 1}\nno JSON\n")
        .expect("a disk");
    ask["training_file"] = tuning.upload(wrong.to_str().expect("UTF-8")).into();
    let plan = tuning.send("POST", "/v1/fine_tuning/plan", &ask);
    let lines: Vec<_> =
        plan["problems"].as_array().expect("problems").iter().map(|p| p["line"].as_u64()).collect();
    assert_eq!(lines, [Some(2), Some(3)], "{plan}");
    assert!(!plan.to_string().contains(folder.to_str().expect("UTF-8")), "no path is told: {plan}");
    ask["hyperparameters"] = json!({ "context": 100_000 });
    let (status, text) = tuning.server.send("POST", "/v1/fine_tuning/plan", "", &ask.to_string());
    assert!(status == 400 && text.contains("is longer than that of layer, which is"), "{text}");
}
