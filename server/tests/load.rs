//! Many clients at once, some of which leave.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use weft_server::Config;
use weft_server::engine::Limits;

use crate::support::{Engine, Server};

pub(crate) const CLIENTS: usize = 64;
const REQUESTS: usize = 2000;

pub(crate) fn body(i: usize) -> Value {
    json!({ "model": "fake", "seed": i, "ignore_eos": true, "max_tokens": 5 + i % 30, "n": 1 + i % 2,
            "stream": i.is_multiple_of(3), "messages": [{ "role": "user", "content": format!("Question {i}") }] })
}

fn content(reply: &crate::support::Reply, streamed: bool) -> String {
    if !streamed {
        return reply.json()["choices"][0]["message"]["content"].as_str().expect("a text").to_owned();
    }
    let first = |e: &Value| e["choices"][0]["index"] == 0;
    let events = reply.events();
    events.iter().filter(|e| first(e)).filter_map(|e| e["choices"][0]["delta"]["content"].as_str()).collect()
}

/// No answer is lost or mixed up with another, whoever leaves, and every slot comes back.
#[test]
fn clients_come_and_go() {
    let limits = Limits { waiting: 4 * CLIENTS, age: Duration::from_secs(60) };
    let engine = Engine { slots: 16, step: Duration::from_micros(200), ..Default::default() };
    let server = Server::start(Config { limits, ..Default::default() }, engine);
    let (next, left) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= REQUESTS {
                        return;
                    }
                    let asked = body(i);
                    if i % 4 == 1 {
                        // Some leave at once, in the queue, some behind the first tokens.
                        server.leave_after("/v1/chat/completions", &asked, (i * 37) % 700);
                        left.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    let reply = server.post("/v1/chat/completions", &asked);
                    assert_eq!(reply.status, 200, "{reply:?}");
                    if i % 16 == 0 {
                        let again = server.post("/v1/chat/completions", &asked);
                        let streamed = asked["stream"] == true;
                        assert_eq!(content(&reply, streamed), content(&again, streamed), "request {i}");
                    }
                }
            });
        }
    });
    assert!(left.load(Ordering::Relaxed) > REQUESTS / 5);
    assert!(server.is_idle(), "{:?} wait and run", server.engine.load());
    let slots = server.get("/slots").json();
    assert!(slots.as_array().expect("slots").iter().all(|s| s["is_processing"] == false), "{slots}");
    assert_eq!(server.post("/v1/chat/completions", &body(2)).status, 200);
}
/// Processor time of the threads of this process whose name begins so, in seconds.
#[cfg(target_os = "linux")]
fn busy(name: &str) -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("the threads");
    let mut sum = 0.0;
    for task in tasks.filter_map(Result::ok) {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        if read("comm").starts_with(name) {
            // Nanoseconds on a processor come first.
            sum += read("schedstat").split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0) / 1e9;
        }
    }
    sum
}

/// What the server does for a token of a stream, from the engine's event to the socket, costs microseconds.
#[cfg(target_os = "linux")]
#[test]
fn a_token_costs_little() {
    const STREAMS: usize = 32;
    const TOKENS: usize = 400;
    let engine = Engine { slots: STREAMS, step: Duration::from_millis(1), ..Default::default() };
    let server = Server::named(Config::default(), engine, "measured");
    let (before, engine_before) = (busy("measured"), busy("engine"));
    let events: usize = std::thread::scope(|scope| {
        let one = |i: usize| {
            let server = &server;
            scope.spawn(move || {
                let body = json!({ "model": "fake", "seed": i, "ignore_eos": true, "max_tokens": TOKENS, "stream": true,
                                   "messages": [{ "role": "user", "content": format!("Question {i}") }] });
                server.post("/v1/chat/completions", &body).events().len()
            })
        };
        let all: Vec<_> = (0..STREAMS).map(one).collect();
        all.into_iter().map(|t| t.join().expect("an answer")).sum()
    });
    let spent = busy("measured") - before;
    let each = spent / events as f64 * 1e6;
    let engine = (busy("engine") - engine_before) / (STREAMS * TOKENS) as f64 * 1e6;
    println!(
        "{each:.2} us of HTTP a token, and {engine:.2} us of the engine's thread, its stand-in included"
    );
    // Twenty times what it takes on a quiet machine.
    assert!(each < 100.0, "{each} us a token");
}
