//! Time by op, as a table, as JSON, and as a trace that browsers show.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use weft_runtime::{Replay, Span};

use crate::{Error, Result};

/// What all dispatches of one kernel on one grid took.
struct KernelTime<'a> {
    name: &'a str,
    grid: [u32; 3],
    calls: usize,
    seconds: f64,
}

/// By kernel and grid, the longest first.
fn parts(spans: &[Span]) -> Vec<KernelTime<'_>> {
    let mut sums: BTreeMap<(&str, [u32; 3]), (usize, f64)> = BTreeMap::new();
    for s in spans {
        let sum = sums.entry((&s.name, s.grid)).or_default();
        *sum = (sum.0 + 1, sum.1 + s.seconds);
    }
    let part = |((name, grid), (calls, seconds))| KernelTime { name, grid, calls, seconds };
    let mut all: Vec<KernelTime<'_>> = sums.into_iter().map(part).collect();
    all.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    all
}

/// An object for each kernel and grid; null without a profile.
pub(super) fn json(replay: Option<&Replay>) -> Value {
    let Some(replay) = replay else { return Value::Null };
    let one =
        |p: &KernelTime<'_>| json!({ "kernel": p.name, "grid": p.grid, "calls": p.calls, "s": p.seconds });
    Value::Array(parts(&replay.spans).iter().map(one).collect())
}

/// A table in markdown. `whole` is the time that the device is busy when nothing is measured apart.
pub(super) fn lines(test: &str, replay: &Replay, whole: Option<f64>) -> Vec<String> {
    let all: f64 = replay.spans.iter().map(|s| s.seconds).sum();
    let together = whole.map_or_else(String::new, |w| format!(" where they take {:.3} ms together", w * 1e3));
    let mut lines = vec![
        String::new(),
        format!(
            "{test}: {} dispatches, each alone between two time stamps: {:.3} ms{together}",
            replay.spans.len(),
            all * 1e3
        ),
        String::new(),
        format!(
            "| {:<44} | {:>18} | {:>6} | {:>10} | {:>10} | {:>7} |",
            "kernel", "grid", "calls", "us", "us each", "share"
        ),
        format!(
            "| {} | {}: | {}: | {}: | {}: | {}: |",
            "-".repeat(44),
            "-".repeat(17),
            "-".repeat(5),
            "-".repeat(9),
            "-".repeat(9),
            "-".repeat(6)
        ),
    ];
    for p in parts(&replay.spans) {
        let [x, y, z] = p.grid;
        lines.push(format!(
            "| {:<44} | {:>18} | {:>6} | {:>10.1} | {:>10.2} | {:>5.1} % |",
            p.name,
            format!("{x} x {y} x {z}"),
            p.calls,
            p.seconds * 1e6,
            p.seconds * 1e6 / p.calls as f64,
            p.seconds / all * 100.0,
        ));
    }
    lines
}

/// Writes the dispatches of all tests in the Trace Event Format, which chrome://tracing and Perfetto open:
/// a process a test, an event a dispatch, microseconds.
///
/// # Errors
/// A path that cannot be written, a full disk.
pub(super) fn write_trace(path: &Path, tests: &[(String, Replay, Option<f64>)]) -> Result<()> {
    let mut events = Vec::new();
    for (pid, (test, replay, _)) in tests.iter().enumerate() {
        events.push(
            json!({ "name": "process_name", "ph": "M", "pid": pid, "tid": 0, "args": { "name": test } }),
        );
        events.extend(replay.spans.iter().map(|s| {
            json!({
                "name": s.name,
                "cat": s.name.split('_').next().unwrap_or_default(),
                "ph": "X",
                "ts": s.start * 1e6,
                "dur": s.seconds * 1e6,
                "pid": pid,
                "tid": 0,
                "args": { "grid": s.grid },
            })
        }));
    }
    let mut file = weft_formats::AtomicFile::create(path)?;
    let text = json!({ "traceEvents": events, "displayTimeUnit": "ms" }).to_string();
    file.write_all(text.as_bytes()).map_err(|e| Error::io(path, e))?;
    Ok(file.finish()?)
}
