//! Many clients at once, some of which leave.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use weft_server::Config;
use weft_server::engine::Limits;

use crate::support::{Engine, Server};

const CLIENTS: usize = 64;
const REQUESTS: usize = 2000;

fn body(i: usize) -> Value {
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
