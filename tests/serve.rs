//! `weft serve` as a person runs it, over a real connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr};
use std::time::Duration;

use serde_json::{Value, json};

use crate::adapters::F16;
use crate::support::cli::{command, fails, file, folder, ok, weft};

pub(crate) struct Server {
    child: Child,
    stderr: BufReader<ChildStderr>,
    at: String,
    /// What it said before it listened.
    pub(crate) said: String,
}

impl Server {
    pub(crate) fn start(args: &[&str]) -> Server {
        let mut child = command(&[&["serve", "--port", "0"], args].concat()).spawn().expect("weft starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut said = String::new();
        let at = loop {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).expect("a line") > 0, "weft serve ended: {said}");
            if let Some(at) = line.trim().strip_prefix("listening at http://") {
                break at.split('/').next().expect("an address").to_owned();
            }
            said += &line;
        };
        Server { child, stderr, at, said }
    }

    /// Status and body of the answer to a request.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let (head, body) = self.exchange(method, path, headers, body);
        (head[9..12].parse().expect("a status"), body)
    }

    /// Head and body of the answer to a request.
    pub(crate) fn exchange(&self, method: &str, path: &str, headers: &str, body: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.at).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a timeout");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\n\
             {headers}content-length: {}\r\n\r\n",
            self.at,
            body.len()
        );
        stream.write_all((head + body).as_bytes()).expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        (head.to_owned(), body.to_owned())
    }

    fn ask(&self, more: &Value) -> (u16, String) {
        let mut body =
            json!({ "model": "weft-mini", "messages": [{ "role": "user", "content": "What is 17 + 25?" }] });
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        self.send("POST", "/v1/chat/completions", "", &body.to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The model on board answers as `weft run` does, streamed and whole, and says what a request has wrong.
/// What other programs' users type: a file without -m, and llama.cpp's flag. Names that no request can say, and a model
/// that is not there, are refused.
#[test]
fn a_file_is_served_without_m() {
    let server = Server::start(&[F16, "--metrics", "--alias", "org/half:f16"]);
    let (status, body) = server.send("GET", "/v1/models", "", "");
    assert!(status == 200 && body.contains("\"org/half:f16\""), "{body}");
    for (args, part) in [
        (["serve", "--alias", ""], "at least one character"),
        (["serve", "--alias", "a+b"], "no space"),
        (["serve", "--fallback", "nobody"], "--fallback nobody: there is no such model"),
        (["serve", "--allow-host", "http://box.lan"], "without scheme, port and path"),
        (["serve", "--allow-host", "box.lan:8080"], "without scheme, port and path"),
    ] {
        let ran = weft(&args);
        assert!(ran.code == Some(2) && ran.stderr.contains(part), "{args:?}: {}", ran.stderr);
    }
    for folder in ["--jobs", "--cache-dir"] {
        fails(&["serve", "--port", "0", folder, F16], &[F16, "is no folder; give the name of one"]);
    }
}

#[test]
fn the_model_on_board_answers() {
    let server = Server::start(&[]);
    let (status, body) = server.ask(&json!({ "reasoning_format": "none" }));
    assert_eq!(status, 200, "{body}");
    let whole: Value = serde_json::from_str(&body).expect("JSON");
    let message = &whole["choices"][0]["message"];
    assert_eq!(
        message["content"].as_str().expect("a text").trim_end(),
        ok(&["run", "What is 17 + 25?"]).trim_end()
    );
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    let (_, body) = server.ask(&json!({}));
    let told: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(told["choices"][0]["message"]["content"], "The answer is 42.");
    assert!(told["choices"][0]["message"]["reasoning_content"].as_str().expect("a thought").contains("= 42"));
    assert!(told["usage"]["completion_tokens_details"]["reasoning_tokens"].as_u64() > Some(10), "{told}");
    let (_, body) = server.ask(&json!({ "stream": true }));
    assert!(
        body.contains("\"delta\":{\"role\":\"assistant\",\"content\":\"\"}")
            && body.contains("data: [DONE]\n\n")
    );
    let (status, body) = server.ask(&json!({ "temprature": 0 }));
    assert!(status == 400 && body.contains("did you mean \\\"temperature\\\"?"), "{body}");
    let (status, body) = server.ask(&json!({ "model": "other" }));
    assert!(status == 404 && body.contains("known: weft-mini"), "{body}");
    let (status, _) = server.send("GET", "/v1/models", "origin: http://evil.example\r\n", "");
    assert_eq!(status, 403);
}

/// An adapter answers at the strength that a request says, beside its model and in the same engine, and with --log every
/// request leaves a line that holds no prompt.
#[test]
fn requests_are_logged_and_choose_strengths() {
    let adapter = crate::adapters::write_adapter(&folder("serve-log").join("a.gguf"), 1, 4);
    let mut server = Server::start(&["--log", "json", "--lora", &format!("x={adapter}")]);
    let (status, body) = server.ask(&json!({ "max_tokens": 1 }));
    assert_eq!(status, 200, "{body}");
    let mut line = String::new();
    server.stderr.read_line(&mut line).expect("a line");
    let told: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(
        (&told["path"], &told["status"], &told["key"]),
        (&json!("/v1/chat/completions"), &json!(200), &json!(0))
    );
    assert!(told["ms"].is_number() && told["id"].is_string() && !line.contains("17 + 25"), "{line}");
    let said = |model: &str| {
        let (status, body) = server.ask(&json!({ "model": model, "max_tokens": 12 }));
        assert_eq!(status, 200, "{body}");
        let told: Value = serde_json::from_str(&body).expect("JSON");
        let message = &told["choices"][0]["message"];
        format!("{}{}", message["reasoning_content"], message["content"])
    };
    let plain = said("weft-mini");
    assert_eq!(said("weft-mini+x:0"), plain);
    assert_ne!(said("weft-mini+x:20"), plain);
    assert_eq!(said("weft-mini+x:1"), said("weft-mini+x"));
    let (status, body) = server.ask(&json!({ "model": "weft-mini+y:0.5" }));
    assert!(status == 404 && body.contains("known: x"), "{body}");
}

/// With guesses answers are what they are without.
#[test]
fn guesses_change_no_answer() {
    let question = "Add 123456 and 654321.";
    let want = ok(&["run", "-n", "90", question]);
    for draft in [["--draft", "ngram"], ["--draft-model", F16]] {
        let server = Server::start(&[&draft[..], &["--slots", "2"]].concat());
        let (status, body) = server.ask(&json!({
            "messages": [{ "role": "user", "content": question }],
            "max_tokens": 90,
            "reasoning_format": "none",
        }));
        assert_eq!(status, 200, "{body}");
        let whole: Value = serde_json::from_str(&body).expect("JSON");
        let text = whole["choices"][0]["message"]["content"].as_str().expect("a text");
        assert_eq!(text.trim_end(), want.trim_end(), "{draft:?}");
        let told = &whole["usage"]["x_weft"];
        assert!(told["draft_n"].as_u64() >= told["draft_n_accepted"].as_u64(), "{told}");
        let (_, metrics) = server.send("GET", "/metrics", "", "");
        assert!(metrics.contains("weft_draft_tokens_accepted_total{model=\"weft-mini\"}"), "{metrics}");
    }
    let other = file(&folder("serve-draft"), "other.gguf", &crate::support::golden_model::build("qwen3-f32"));
    fails(&["serve", "--port", "0", "--draft-model", &other], &["other.gguf", "tokenizer"]);
    fails(&["serve", "--port", "0", "--draft-model", "none.gguf"], &["none.gguf"]);
}

/// What a prompt is given back with is the log-softmax of the logits that `weft logits` writes for it.
#[test]
fn prompts_come_back_with_their_log_probabilities() {
    let server = Server::start(&["--slots", "2"]);
    let ids = [1, 5, 9, 200, 42, 7, 300, 3];
    let body = json!({ "model": "weft-mini", "prompt": ids, "echo": true, "logprobs": 1, "max_tokens": 0 });
    let (status, body) = server.send("POST", "/v1/completions", "", &body.to_string());
    assert_eq!(status, 200, "{body}");
    let told: Value = serde_json::from_str(&body).expect("JSON");
    let of = |name: &str, i: usize| told["choices"][0]["logprobs"][name][i].clone();
    assert!(of("token_logprobs", 0).is_null() && told["usage"]["completion_tokens"] == 0, "{told}");
    let logits = crate::adapters::logits(&folder("serve-echo"), &[]);
    for (i, (row, &token)) in logits.chunks(logits.len() / ids.len()).zip(&ids[1..]).enumerate() {
        let top = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = row.iter().map(|v| f64::from(v - top).exp()).sum();
        let near = |told: &Value, v: f32| {
            let want = f64::from(v - top) - sum.ln();
            let got = told.as_f64().expect("a number");
            assert!((got - want).abs() < 0.02, "token {i}: {got}, not {want}");
        };
        near(&of("token_logprobs", i + 1), row[token]);
        let likeliest = of("top_logprobs", i + 1);
        near(likeliest.as_object().expect("one").values().next().expect("one"), top);
    }
}

/// A schema holds the model to it, and a call that is required comes.
#[test]
fn answers_keep_to_schemas_and_tools() {
    let server = Server::start(&["--slots", "2"]);
    let schema = json!({ "type": "object", "properties": { "sum": { "type": "integer", "maximum": 99, "minimum": 0 } },
                         "required": ["sum"], "additionalProperties": false });
    let format =
        json!({ "type": "json_schema", "json_schema": { "name": "sum", "schema": schema, "strict": true } });
    let (status, body) = server.ask(&json!({ "response_format": format, "reasoning_effort": "none" }));
    assert_eq!(status, 200, "{body}");
    let whole: Value = serde_json::from_str(&body).expect("JSON");
    let content = whole["choices"][0]["message"]["content"].as_str().expect("a text");
    let kept: Value = serde_json::from_str(content).unwrap_or_else(|e| panic!("{e}: {content:?}"));
    assert!(kept["sum"].as_u64() <= Some(99) && kept.as_object().expect("an object").len() == 1, "{content}");
    let tools = json!([{ "type": "function", "function": { "name": "add", "parameters": schema } }]);
    let (status, body) =
        server.ask(&json!({ "tools": tools, "tool_choice": "required", "reasoning_effort": "none" }));
    assert_eq!(status, 200, "{body}");
    let whole: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls", "{body}");
    let call = &whole["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call["name"], "add");
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().expect("a text")).expect("JSON");
    assert!(arguments["sum"].is_u64(), "{call}");
}

#[test]
fn a_server_that_would_be_open_to_all_does_not_start() {
    let ran = weft(&["serve", "--host", "0.0.0.0", "--port", "0"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("--api-key-file"), "{}", ran.stderr);
    let dir = folder("serve");
    let keys = file(&dir, "keys.txt", b"short\n");
    let ran = weft(&["serve", "--api-key-file", &keys, "--port", "0"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("at least 16"), "{}", ran.stderr);
    let keys = file(&dir, "keys.txt", b"# of this test\na-key-that-is-long-enough\n");
    let server = Server::start(&["--api-key-file", &keys]);
    assert_eq!(server.send("GET", "/v1/models", "", "").0, 401);
    assert_eq!(
        server.send("GET", "/v1/models", "authorization: Bearer a-key-that-is-long-enough\r\n", "").0,
        200
    );
    let port = server.at.rsplit(':').next().expect("a port").to_owned();
    let ran = weft(&["serve", "--port", &port]);
    assert!(ran.code == Some(1) && ran.stderr.contains("another program listens there"), "{}", ran.stderr);
}

/// A terminal that is closed asks it to end, too, by SIGHUP.
#[cfg(unix)]
#[test]
fn signals_end_it_in_order() {
    for signal in [libc::SIGTERM, libc::SIGHUP] {
        // Under `nohup` the second is ignored, by whoever is started as well.
        if signal == libc::SIGHUP && crate::support::cli::ignores_hangups() {
            continue;
        }
        let mut server = Server::start(&[]);
        // SAFETY: sends a signal to a process of ours.
        unsafe { libc::kill(server.child.id() as i32, signal) };
        assert!(server.child.wait().expect("it ends").success());
        let mut rest = String::new();
        server.stderr.read_to_string(&mut rest).expect("text");
        assert!(rest.starts_with("ending; answers that are on their way are finished first"), "{rest}");
    }
}

/// A folder with a model that is none: it is listed with its size, and asking for it says what is wrong, for good.
#[test]
fn a_broken_model_of_a_folder_is_refused_for_good() {
    let folder = folder("serve-broken");
    let whole = std::fs::read(F16).expect("a model");
    file(&folder, "cut.gguf", &whole[..100_000]);
    file(&folder, "half.gguf", &whole);
    let server = Server::start(&["--models", folder.to_str().expect("UTF-8")]);
    let tags: Value = serde_json::from_str(&server.send("GET", "/api/tags", "", "").1).expect("JSON");
    let sizes: Vec<_> =
        tags["models"].as_array().expect("models").iter().map(|m| m["size"].as_u64()).collect();
    assert_eq!(sizes, [Some(100_000), Some(whole.len() as u64)], "{tags}");
    for _ in 0..2 {
        let (status, body) = server.ask(&json!({ "model": "cut" }));
        assert!(
            status == 500 && body.contains("model_failed") && body.contains("truncated"),
            "{status} {body}"
        );
    }
    let (status, body) = server.ask(&json!({ "model": "half", "max_tokens": 1 }));
    assert_eq!(status, 200, "{body}");
    // Open or not, it is the same version of the same file.
    let open: Value = serde_json::from_str(&server.send("GET", "/api/tags", "", "").1).expect("JSON");
    let digests = |tags: &Value| {
        let mut all: Vec<(String, String)> = Vec::new();
        for model in tags["models"].as_array().expect("models") {
            all.push((model["name"].to_string(), model["digest"].as_str().expect("a digest").to_owned()));
        }
        all.sort();
        all
    };
    assert_eq!(digests(&tags), digests(&open));
    assert!(
        digests(&open).iter().all(|(_, d)| d.len() == 64) && open["models"][0]["name"] == "half",
        "{open}"
    );
    assert_ne!(digests(&open)[0].1, digests(&open)[1].1);
}

/// Counters of a model go on where it was closed for another one and opened again.
#[test]
fn counters_never_go_back() {
    let folder = folder("serve-counters");
    let whole = std::fs::read(F16).expect("a model");
    file(&folder, "one.gguf", &whole);
    file(&folder, "two.gguf", &whole);
    let server = Server::start(&["--models", folder.to_str().expect("UTF-8"), "--max-models", "1"]);
    let ask = |name: &str| {
        let (status, body) = server.ask(&json!({ "model": name, "max_tokens": 1 }));
        assert_eq!(status, 200, "{body}");
        server.send("GET", "/metrics", "", "").1
    };
    let finished = |metrics: &str, name: &str| {
        let line = format!("weft_requests_finished_total{{model=\"{name}\"}} ");
        metrics.lines().find_map(|l| l.strip_prefix(&line)?.parse::<u64>().ok())
    };
    let open = |metrics: &str, name: &str| metrics.contains(&format!("weft_kv_blocks{{model=\"{name}\"}}"));
    let told = ask("one");
    assert_eq!((finished(&told, "one"), finished(&told, "two")), (Some(1), None));
    let told = ask("two");
    assert_eq!((finished(&told, "one"), finished(&told, "two")), (Some(1), Some(1)));
    assert!(!open(&told, "one") && open(&told, "two"), "{told}");
    // Closed by who asked for it, as Ollama's clients do.
    let (status, body) = server.send("POST", "/api/generate", "", "{\"model\":\"two\",\"keep_alive\":0}");
    assert!(status == 200 && body.contains("\"done_reason\":\"unload\""), "{status} {body}");
    assert!(!open(&server.send("GET", "/metrics", "", "").1, "two"));
    assert!(told.contains("weft_time_to_first_token_seconds_count{model=\"one\"} 1"), "{told}");
    let told = ask("one");
    assert_eq!((finished(&told, "one"), finished(&told, "two")), (Some(2), Some(1)));
}

/// `weft bench --url` asks as clients do, and counts every answer.
#[test]
fn a_server_is_measured_by_its_clients_times() {
    let server = Server::start(&[]);
    let url = format!("http://{}/v1", server.at);
    let asked =
        ["bench", "--url", &url, "--clients", "2", "--requests", "5", "--rate", "50", "-p", "20", "-n", "6"];
    let table = ok(&asked);
    let row: Vec<&str> = table.lines().nth(2).expect("a row").split('|').map(str::trim).collect();
    assert_eq!((row[1], row[2], row[3], row[4]), ("2", "50/s", "20/6", "5 of 5"), "{table}");
    assert!(row[5].parse::<f64>().expect("a rate") > 0.0 && !table.contains("NaN"), "{table}");
    let told: Value = serde_json::from_str(&ok(&[&asked[..], &["-o", "json"]].concat())).expect("JSON");
    assert_eq!((&told["answered"], &told["requests"], &told["rate"]), (&json!(5), &json!(5), &json!(50.0)));
    assert!(told["first_token_ms"]["p50"].as_f64().expect("a time") > 0.0, "{told}");
    fails(&["bench", "--url", "http://127.0.0.1:9/v1"], &["127.0.0.1:9"]);
}
