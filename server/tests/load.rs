//! Many clients at once, some of which leave.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
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

/// Counts the bytes that are in use. What a process has of the system grows by more, since an allocator keeps what was
/// freed, in pieces.
struct Counted;

static IN_USE: AtomicIsize = AtomicIsize::new(0);

// SAFETY: passes everything on to the system's allocator, and gives back no pointer of its own.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// Memory that this process has, in KiB.
#[cfg(target_os = "linux")]
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("what the system says");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// 64 clients for as long as `WEFT_SOAK` says in seconds, of whom every third leaves somewhere: memory stays what it was.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "alone in its process: WEFT_SOAK=3600 cargo test -p weft-server --release --test main -- --ignored --nocapture load::soak"]
fn soak() {
    let seconds: u64 = std::env::var("WEFT_SOAK").ok().and_then(|s| s.parse().ok()).unwrap_or(10);
    let limits = Limits { waiting: 4 * CLIENTS, age: Duration::from_secs(60) };
    let engine = Engine { slots: 16, step: Duration::from_micros(500), ..Default::default() };
    let server = Server::start(Config { limits, ..Default::default() }, engine);
    let (next, whole) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let began = std::time::Instant::now();
    let all = Duration::from_secs(seconds);
    let had = resident();
    let samples: Vec<f64> = std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (server, next, whole) = (&server, &next, &whole);
            scope.spawn(move || {
                let mut random = client as u64 * 0x9e37_79b9 + 1;
                while began.elapsed() < all {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    let asked = body(next.fetch_add(1, Ordering::Relaxed));
                    if (random >> 33).is_multiple_of(3) {
                        server.leave_after("/v1/chat/completions", &asked, (random >> 40) as usize % 900);
                        continue;
                    }
                    let reply = server.post("/v1/chat/completions", &asked);
                    assert_eq!(reply.status, 200, "{reply:?}");
                    whole.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // The first third fills caches and what the allocator keeps.
        std::thread::sleep(all / 3);
        let mut samples = Vec::new();
        while began.elapsed() < all {
            samples.push(IN_USE.load(Ordering::Relaxed) as f64 / 1024.0);
            std::thread::sleep((all / 60).max(Duration::from_millis(50)));
        }
        samples
    });
    assert!(server.is_idle(), "{:?} wait and run", server.engine.load());
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let fifth = (samples.len() / 5).max(1);
    let (first, last) = (mean(&samples[..fifth]), mean(&samples[samples.len() - fifth..]));
    println!(
        "{seconds} s, {} requests, {} whole answers: {first:.0} KiB in use at first, {last:.0} KiB at last, {:+.1} %; the \
         process had {had:.0} KiB of the system, and has {:.0}",
        next.load(Ordering::Relaxed),
        whole.load(Ordering::Relaxed),
        (last / first - 1.0) * 100.0,
        resident()
    );
    assert!((last / first - 1.0).abs() < 0.05, "from {first} KiB to {last} KiB: {samples:?}");
    assert!(whole.load(Ordering::Relaxed) > 100);
}
