//! Models that requests pull, from a hub of ours on loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weft_hub::{Options, Store, Url};
use weft_server::{Config, Pulls};

use crate::support::{Engine, Reply, Server};

/// weft-mini is as good a file as any.
fn bytes() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/assets/weft-mini.gguf"))
        .expect("weft-mini")
}

/// A hub with one model. While `shut` it sends a part of the file and holds the connection; it counts files it was asked
/// for.
struct Hub {
    at: SocketAddr,
    shut: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Hub {
    fn start() -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        let (shut, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (its_shut, its_asked) = (shut.clone(), asked.clone());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (shut, asked) = (its_shut.clone(), its_asked.clone());
                std::thread::spawn(move || {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                        head.push(byte[0]);
                    }
                    let head = String::from_utf8(head).expect("a head").to_ascii_lowercase();
                    let bytes = bytes();
                    if head.starts_with("get /api/models/org/mini/") {
                        let sibling =
                            json!({ "rfilename": "mini-Q8_0.gguf", "lfs": { "size": bytes.len() } });
                        let text = json!({ "sha": "1", "siblings": [sibling] }).to_string();
                        let _ =
                            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
                        return;
                    }
                    if !head.starts_with("get /org/mini/resolve/1/mini-q8_0.gguf ") {
                        let _ = write!(stream, "HTTP/1.1 404 None\r\ncontent-length: 0\r\n\r\n");
                        return;
                    }
                    asked.fetch_add(1, Ordering::SeqCst);
                    let from = head
                        .split("range: bytes=")
                        .nth(1)
                        .and_then(|r| r.split('-').next()?.parse().ok())
                        .unwrap_or(0);
                    let (status, last) = (if from > 0 { 206 } else { 200 }, bytes.len() - 1);
                    let _ = write!(
                        stream,
                        "HTTP/1.1 {status} OK\r\netag: \"e\"\r\ncontent-range: bytes {from}-{last}/{}\r\ncontent-length: {}\r\n\r\n",
                        bytes.len(),
                        bytes.len() - from
                    );
                    let mut at: usize = from;
                    while at < bytes.len() {
                        // Shut, it goes on by drops, so that whoever reads is never waiting for its patience to end.
                        let most = if shut.load(Ordering::SeqCst) && at > 0 { 1000 } else { 1 << 20 };
                        let end = (at + most).min(bytes.len());
                        if stream.write_all(&bytes[at..end]).is_err() {
                            return;
                        }
                        at = end;
                        if most == 1000 {
                            std::thread::sleep(Duration::from_millis(5));
                        }
                    }
                });
            }
        });
        Hub { at, shut, asked }
    }

    /// A server that pulls from it into an empty folder.
    fn server(&self, name: &str) -> (Server, Store) {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&folder);
        let store = Store::at(folder);
        let options = Options {
            tries: 1,
            pause: Duration::from_millis(1),
            ..Options::new(Url::parse(&format!("http://{}", self.at)).expect("an address"))
        };
        let pulls = Some(Arc::new(Pulls::new(store.clone(), options)));
        (Server::start(Config { pulls, ..Config::default() }, Engine::default()), store)
    }
}

fn send(server: &Server, method: &str, path: &str, body: &Value) -> Reply {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        server.at,
        body.len()
    );
    server.raw(&head, body.as_bytes())
}

/// Waits until the one pull of a server is as `want` says.
fn until(server: &Server, want: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let told = server.get("/v1/pulls").json();
        if want(&told["data"][0]) {
            return told;
        }
        assert!(Instant::now() < end, "{told}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_server_pulls_nothing_unless_it_may() {
    let server = Server::open();
    let model = json!({ "model": "org/mini:Q8_0" });
    for (method, path, body) in [
        ("POST", "/v1/pulls", &model),
        ("GET", "/v1/pulls", &Value::Null),
        ("DELETE", "/v1/pulls/org/mini:Q8_0", &Value::Null),
        ("DELETE", "/v1/models/fake", &Value::Null),
        ("POST", "/api/pull", &model),
        ("DELETE", "/api/delete", &model),
    ] {
        let reply = send(&server, method, path, body);
        assert!(reply.status == 403 && reply.body.contains("pull_not_allowed"), "{method} {path}: {reply:?}");
    }
    assert!(server.get("/v1/models").json()["pulls"].is_null());
}

#[test]
fn a_pull_is_started_stopped_gone_on_with_and_removed() {
    let hub = Hub::start();
    let (server, store) = hub.server("server-pulls");
    assert_eq!(server.get("/v1/models").json()["pulls"], true);
    hub.shut.store(true, Ordering::SeqCst);
    let started = server.post("/v1/pulls", &json!({ "model": "hf.co/org/mini:Q8_0" }));
    assert_eq!((started.status, started.json()["id"].as_str()), (202, Some("org/mini:Q8_0")));
    let told = until(&server, |p| p["status"] == "pulling" && p["completed"].as_u64() > Some(0));
    assert_eq!(told["data"][0]["total"].as_u64(), Some(bytes().len() as u64));
    // The same once more is the same pull.
    server.post("/v1/pulls", &json!({ "model": "org/mini:Q8_0" }));
    assert_eq!(server.get("/v1/pulls").json()["data"].as_array().map(Vec::len), Some(1));
    let stopped = send(&server, "DELETE", "/v1/pulls/org/mini:Q8_0", &Value::Null);
    assert_eq!((stopped.status, stopped.json()["status"].as_str()), (200, Some("stopped")));
    assert!(store.list().is_empty() && store.partial().len() == 1);
    hub.shut.store(false, Ordering::SeqCst);
    server.post("/v1/pulls", &json!({ "model": "org/mini:Q8_0" }));
    let told = until(&server, |p| p["status"] == "done");
    assert_eq!(told["data"][0]["model"], "mini-Q8_0");
    assert_eq!(told["models"][0]["pulled_as"], "org/mini:Q8_0");
    assert_eq!(hub.asked.load(Ordering::SeqCst), 2);
    assert!(std::fs::read(store.folder().join("mini-Q8_0.gguf")).expect("a file") == bytes());
    // What nobody pulled is not removed, and what is not there is not.
    std::fs::copy(store.folder().join("mini-Q8_0.gguf"), store.folder().join("mine.gguf")).expect("a copy");
    for (name, status) in [("mine", 403), ("fake", 403), ("other", 404), ("..%2Fmine", 404)] {
        let reply = send(&server, "DELETE", &format!("/v1/models/{name}"), &Value::Null);
        assert_eq!(reply.status, status, "{name}: {reply:?}");
    }
    assert_eq!(send(&server, "DELETE", "/v1/models/mini-Q8_0", &Value::Null).status, 200);
    assert_eq!(store.list().len(), 1);
    assert_eq!(send(&server, "DELETE", "/v1/pulls/org/mini:Q8_0", &Value::Null).status, 200);
    assert_eq!(send(&server, "DELETE", "/v1/pulls/org/mini:Q8_0", &Value::Null).status, 404);
}

#[test]
fn what_cannot_be_pulled_is_said() {
    let hub = Hub::start();
    let (server, store) = hub.server("server-pulls-refused");
    for name in ["llama3", "../x/y", "http://127.0.0.1:1/x.gguf", "https://hf.co/a/b/x.gguf", "a/b:../c", ""]
    {
        for path in ["/v1/pulls", "/api/pull"] {
            let reply = server.post(path, &json!({ "model": name }));
            assert!(reply.status == 400 && reply.body.contains("ORG/REPO:QUANT"), "{name}: {reply:?}");
        }
    }
    let insecure = server.post("/api/pull", &json!({ "model": "org/mini", "insecure": true }));
    assert!(insecure.status == 400 && insecure.body.contains("insecure"), "{insecure:?}");
    server.post("/v1/pulls", &json!({ "model": "org/none" }));
    let told = until(&server, |p| p["status"] == "failed");
    assert_eq!(told["data"][0]["error"]["code"], "not_found");
    let whole = server.post("/api/pull", &json!({ "model": "org/mini:Q2_K", "stream": false }));
    assert!(whole.status == 404 && whole.body.contains("mini-Q8_0.gguf"), "{whole:?}");
    let lines = server.post("/api/pull", &json!({ "model": "org/none" }));
    let last = lines.body.lines().last().expect("a line");
    assert!(lines.status == 200 && last.starts_with("{\"error\":\"org/none"), "{lines:?}");
    assert!(store.list().is_empty());
}

/// As Ollama's clients ask: lines of progress; who leaves stops it, and who asks again goes on.
#[test]
fn ollama_s_clients_pull_and_delete() {
    let hub = Hub::start();
    let (server, store) = hub.server("server-pulls-ollama");
    hub.shut.store(true, Ordering::SeqCst);
    let model = json!({ "model": "hf.co/org/mini:Q8_0" });
    server.leave_after("/api/pull", &model, 600);
    until(&server, |p| p["status"] == "stopped");
    let there = store.partial()[0].done;
    assert!(there > 0 && there < bytes().len() as u64, "{there}");
    hub.shut.store(false, Ordering::SeqCst);
    let reply = server.post("/api/pull", &model);
    let lines: Vec<Value> = reply.body.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(
        (&lines[0]["status"], &lines.last().expect("a line")["status"]),
        (&json!("pulling manifest"), &json!("success"))
    );
    assert!(reply.head.contains("application/x-ndjson"), "{}", reply.head);
    let progress: Vec<&Value> = lines.iter().filter(|l| l["total"].is_u64()).collect();
    assert!(
        progress.iter().all(|l| l["status"] == "pulling mini-Q8_0.gguf" && l["completed"].is_u64()),
        "{lines:?}"
    );
    assert_eq!(store.list()[0].name, "mini-Q8_0");
    let gone = send(&server, "DELETE", "/api/delete", &model);
    assert_eq!((gone.status, store.list().len()), (200, 0));
    assert_eq!(send(&server, "DELETE", "/api/delete", &model).status, 404);
}
