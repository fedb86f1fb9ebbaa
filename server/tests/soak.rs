//! Memory under many clients who come and go, for as long as one likes. The system says what a process has on Linux alone.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use weft_server::Config;
use weft_server::engine::Limits;

use crate::load::{CLIENTS, body};
use crate::support::{Engine, Reply, Server, head};

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

/// Memory that this process has of the system and no file holds, in KiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("what the system says");
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// 64 clients of the server at `at`, of whom every third leaves somewhere.
fn clients(at: SocketAddr, all: Duration) {
    let (next, whole) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let began = Instant::now();
    let one = |client: usize| {
        let mut random = client as u64 * 0x9e37_79b9 + 1;
        while began.elapsed() < all {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let asked = body(next.fetch_add(1, Ordering::Relaxed)).to_string();
            let mut stream = TcpStream::connect(at).expect("a connection");
            stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
            let request = head(at, "/v1/chat/completions", asked.len()) + &asked;
            stream.write_all(request.as_bytes()).expect("a request");
            if (random >> 33).is_multiple_of(3) {
                let _ = stream.read_exact(&mut vec![0; (random >> 40) as usize % 900]);
                continue;
            }
            let reply = Reply::read(&mut stream);
            assert_eq!(reply.status, 200, "{reply:?}");
            whole.fetch_add(1, Ordering::Relaxed);
        }
    };
    let one = &one;
    std::thread::scope(|scope| (0..CLIENTS).for_each(|client| drop(scope.spawn(move || one(client)))));
    let (next, whole) = (next.into_inner(), whole.into_inner());
    println!("{next} requests, {whole} whole answers");
    assert!(whole > 100);
}

/// Where the clients of a soak find the server. They are a process of their own, so that the server's memory is its own.
const SOAKED: &str = "WEFT_SOAK_AT";

/// 64 clients for as long as `WEFT_SOAK` says in seconds, of whom every third leaves somewhere: memory stays what it was.
#[test]
#[ignore = "alone in its process: WEFT_SOAK=3600 cargo test -p weft-server --release --test main -- --ignored --nocapture soak::memory_stays"]
fn memory_stays() {
    let seconds: u64 = std::env::var("WEFT_SOAK").ok().and_then(|s| s.parse().ok()).unwrap_or(10);
    let all = Duration::from_secs(seconds);
    if let Ok(at) = std::env::var(SOAKED) {
        return clients(at.parse().expect("an address"), all);
    }
    let limits = Limits { waiting: 4 * CLIENTS, age: Duration::from_secs(60) };
    let engine = Engine { slots: 16, step: Duration::from_micros(500), ..Default::default() };
    let server = Server::start(Config { limits, ..Default::default() }, engine);
    let mut others = Command::new(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "--nocapture", "soak::memory_stays"])
        .env(SOAKED, server.at.to_string())
        .spawn()
        .expect("the clients");
    let (mut samples, began) = (Vec::new(), Instant::now());
    let step = (all / 60).max(Duration::from_millis(50));
    // While all of them are there: what a client leaves behind is gone soon after it.
    while began.elapsed() + 2 * step < all {
        std::thread::sleep(step);
        let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
        let (used, had) = (IN_USE.load(Ordering::Relaxed) as f64 / 1024.0, resident());
        let seconds = began.elapsed().as_secs();
        println!("{seconds} s: {used:.0} KiB in use, {had:.0} KiB of the system, {threads} threads");
        samples.push((used, had));
    }
    assert!(others.wait().expect("the clients").success(), "a client failed");
    assert!(server.is_idle(), "{:?} wait and run", server.engine.load());
    // The first third fills caches and what the allocator keeps.
    samples.drain(..samples.len() / 3);
    let fifth = (samples.len() / 5).max(1);
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (used, had): (Vec<f64>, Vec<f64>) = samples.into_iter().unzip();
    for (name, all) in [("in use", used), ("of the system", had)] {
        let (first, last) = (mean(&all[..fifth]), mean(&all[all.len() - fifth..]));
        println!(
            "{name}: {first:.0} KiB at first, {last:.0} KiB at last, {:+.1} %",
            (last / first - 1.0) * 100.0
        );
        assert!((last / first - 1.0).abs() < 0.05, "{name}: from {first} KiB to {last} KiB");
    }
}
