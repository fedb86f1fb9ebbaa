//! GET /metrics: Prometheus' text, version 0.0.4.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;

use crate::app::{App, Served};
use crate::engine::{Look, Totals, VectorHandle};

/// What is known of a model.
struct Watched {
    /// Its name, as labels spell it.
    label: String,
    /// Since the server began, however often it was opened and closed.
    totals: Totals,
    /// Requests that wait and that run, and blocks; None where it is not open.
    now: Option<((usize, usize), Look)>,
    /// Whether it writes text: vectors have no tokens that could come early or late.
    writes: bool,
}

impl Watched {
    async fn new(served: &Served, past: Option<Totals>) -> Watched {
        let (load, look) = match (&served.engine, &served.vectors) {
            (Some(e), _) => (e.load(), e.look().await.unwrap_or_default()),
            (None, vectors) => {
                (vectors.as_ref().map(VectorHandle::load).unwrap_or_default(), Look::default())
            }
        };
        let totals = past.unwrap_or_default();
        served.totals().into_iter().for_each(|t| totals.absorb(t));
        Watched {
            label: label(&served.card.id),
            totals,
            now: Some((load, look)),
            writes: served.engine.is_some(),
        }
    }
}

fn label(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A metric that is read off one model.
type Read = fn(&Totals, &Look, (usize, usize)) -> f64;

fn count(n: &AtomicU64) -> f64 {
    n.load(Ordering::Relaxed) as f64
}

fn seconds(us: &AtomicU64) -> f64 {
    count(us) / 1e6
}

/// Name, kind, what it is, and how it is read.
const METRICS: &[(&str, &str, &str, Read)] = &[
    (
        "prompt_tokens_total",
        "counter",
        "Tokens of prompts, once for each answer that got a slot, and of texts that became vectors or scores",
        |t, _, _| count(&t.prompt),
    ),
    ("texts_total", "counter", "Texts that became vectors or scores", |t, _, _| count(&t.texts)),
    ("prompt_tokens_cached_total", "counter", "Tokens of prompts that were cached", |t, _, _| {
        count(&t.cached)
    }),
    ("draft_tokens_total", "counter", "Tokens that were guessed and verified", |t, _, _| count(&t.drafted)),
    ("draft_tokens_accepted_total", "counter", "Guesses that were right", |t, _, _| count(&t.accepted)),
    ("tokens_generated_total", "counter", "Tokens drawn, those that end texts among them", |t, _, _| {
        count(&t.generated)
    }),
    ("queue_seconds_total", "counter", "Time of requests in the queue", |t, _, _| seconds(&t.queued_us)),
    (
        "prompt_seconds_total",
        "counter",
        "Time from a slot to the first token, or to vectors or scores",
        |t, _, _| seconds(&t.prefill_us),
    ),
    ("decode_seconds_total", "counter", "Time from the first token to the last", |t, _, _| {
        seconds(&t.decode_us)
    }),
    (
        "requests_finished_total",
        "counter",
        "Answers that came to their end, vectors and scores among them",
        |t, _, _| count(&t.finished),
    ),
    ("requests_failed_total", "counter", "Answers that failed", |t, _, _| count(&t.failed)),
    ("requests_cancelled_total", "counter", "Answers whose clients left", |t, _, _| count(&t.cancelled)),
    ("requests_refused_total", "counter", "Answers for which the queue had no room", |t, _, _| {
        count(&t.refused)
    }),
    ("steps_total", "counter", "Steps of the engine", |t, _, _| count(&t.steps)),
    ("engines_lost_total", "counter", "Engines that were lost and made again", |t, _, _| count(&t.lost)),
    ("preemptions_total", "counter", "Answers that lost their slot for want of blocks", |t, _, _| {
        count(&t.preempted)
    }),
    ("requests_waiting", "gauge", "Requests in the queue", |_, _, (waiting, _)| waiting as f64),
    ("requests_running", "gauge", "Requests that have a slot", |_, _, (_, running)| running as f64),
    ("kv_blocks_used", "gauge", "Blocks of the KV cache that answers have", |_, l, _| l.blocks.0 as f64),
    ("kv_blocks", "gauge", "Blocks of the KV cache", |_, l, _| l.blocks.1 as f64),
];

async fn watched(app: &App) -> Vec<Watched> {
    let (open, mut past) = app.watched();
    let mut all = Vec::new();
    for served in open.iter().filter(|served| !served.is_adapted()) {
        all.push(Watched::new(served, past.remove(&served.card.id)).await);
    }
    all.extend(past.into_iter().map(|(name, totals)| {
        let writes = totals.first_token.sum().1 > 0;
        Watched { label: label(&name), totals, now: None, writes }
    }));
    all
}

pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let models = watched(&app).await;
    let mut text = String::new();
    for (name, kind, help, read) in METRICS {
        // Writing into memory cannot fail.
        let _ = writeln!(text, "# HELP weft_{name} {help}\n# TYPE weft_{name} {kind}");
        for Watched { label, totals, now, .. } in &models {
            let value = match now {
                Some((load, look)) => read(totals, look, *load),
                // What is closed has counted, and does nothing now.
                None if *kind == "counter" => read(totals, &Look::default(), (0, 0)),
                None => continue,
            };
            let _ = writeln!(text, "weft_{name}{{model=\"{label}\"}} {value}");
        }
    }
    for (name, help) in [
        ("time_to_first_token_seconds", "Time to the first token"),
        ("time_per_token_seconds", "Time between tokens, the mean of an answer"),
    ] {
        let _ = writeln!(text, "# HELP weft_{name} {help}\n# TYPE weft_{name} histogram");
        for Watched { label, totals, .. } in models.iter().filter(|m| m.writes) {
            let h = if name.starts_with("time_to") { &totals.first_token } else { &totals.per_token };
            for (le, n) in h.buckets() {
                let le = if le.is_finite() { le.to_string() } else { "+Inf".into() };
                let _ = writeln!(text, "weft_{name}_bucket{{model=\"{label}\",le=\"{le}\"}} {n}");
            }
            let (sum, n) = h.sum();
            let _ = writeln!(
                text,
                "weft_{name}_sum{{model=\"{label}\"}} {sum}\nweft_{name}_count{{model=\"{label}\"}} {n}"
            );
        }
    }
    let mut response = Response::new(text.into());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
    response
}
