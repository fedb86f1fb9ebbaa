//! Evaluations by `weft serve`, which are those of `weft eval`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::serve::Server;
use crate::support::cli::{self, file, folder};

const EVALUATIONS: &str = "/v1/evaluations";

fn send(server: &Server, method: &str, path: &str, body: &str) -> Value {
    let (status, text) = server.send(method, path, "", body);
    assert_eq!(status, 200, "{method} {path}: {text}");
    serde_json::from_str(&text).expect("JSON")
}

/// Asks, and waits for what comes of it.
fn evaluated(server: &Server, body: &Value) -> Value {
    let one = send(server, "POST", EVALUATIONS, &body.to_string());
    let path = format!("{EVALUATIONS}/{}", one["id"].as_str().expect("an id"));
    let late = Instant::now() + Duration::from_secs(240);
    loop {
        let one = send(server, "GET", &path, "");
        match one["status"].as_str().expect("a status") {
            "completed" => return one,
            "queued" | "running" => assert!(Instant::now() < late, "{one}"),
            _ => panic!("{one}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The same questions get the same marks, from the page and on the command line.
#[test]
fn a_model_is_asked_as_weft_eval_asks() {
    let server = Server::start(&["--slots", "1", "-c", "256"]);
    let curriculum = json!({
        "model": "weft-mini", "suite": "curriculum", "domains": ["physics"], "limit": 3, "max_tokens": 64,
    });
    let asked = evaluated(&server, &curriculum);
    let want =
        cli::json(&["eval", "--domain", "physics", "--limit", "3", "-n", "64", "--slots", "4", "--json"]);
    for (kind, key) in [("generation", "generation"), ("multiple choice", "multiple_choice")] {
        let all = asked["scores"]
            .as_array()
            .expect("scores")
            .iter()
            .find(|s| s["kind"] == kind && s["part"] == "all");
        let all = all.unwrap_or_else(|| panic!("no {kind} in {asked}"));
        for name in ["total", "share", "low", "high"] {
            assert_eq!(all[name], want[key][name], "{kind}: {name}");
        }
    }
    let folder = folder("evaluations");
    let lines = "{\"question\": \"What is 2 + 3?\", \"options\": [\"4\", \"5\", \"6\", \"7\"], \"answer\": \"B\"}\n\
                 {\"question\": \"What is 4 + 4?\", \"options\": [\"8\", \"5\", \"6\", \"7\"], \"answer\": \"A\"}\n";
    let path = file(&folder, "own.jsonl", lines.as_bytes());
    let body = json!({ "model": "weft-mini", "suite": "file", "content": lines, "filename": "own.jsonl", "mode": "letter" });
    let asked = evaluated(&server, &body);
    let want = cli::json(&["eval", "--suite", "file", "--data", &path, "--mode", "letter", "--json"]);
    assert_eq!(
        (&asked["scores"][0]["total"], &asked["scores"][0]["share"]),
        (&json!(2), &want["score"]["mean"]),
        "{asked} {want}"
    );
    let wrong = json!({ "model": "weft-mini", "suite": "file", "content": "{\"question\": 1}" });
    let (status, text) = server.send("POST", EVALUATIONS, "", &wrong.to_string());
    assert!(status == 400 && text.contains("questions.jsonl") && !text.contains("weft-eval-"), "{text}");
}
