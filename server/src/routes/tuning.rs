//! /v1/fine_tuning: jobs as OpenAI's clients know them, and what a run would do before it begins.

use std::convert::Infallible;
use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_core::Stream;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::Instant;
use weft_models::finetune::Counts;

use super::{Post, finish, json};
use crate::app::App;
use crate::error::{ApiError, Result};
use crate::fields::Fields;
use crate::guard::Who;
use crate::tuning::{Ask, Jobs, PROBLEMS, Plan, Problem, Wish};

/// Who asks, where a request has no body.
pub(super) type Asker = Option<Extension<Who>>;

/// Whose what is asked for is.
pub(super) fn owner(app: &App, who: &Asker) -> String {
    app.config.keys.owner(who.as_ref().map_or(Who(0), |w| w.0))
}

/// The jobs, where they are switched on.
pub(super) fn jobs(app: &App) -> Result<&Arc<Jobs>> {
    app.jobs.as_ref().ok_or_else(|| {
        let line = "fine-tuning is off; start the server with --jobs DIR, a folder for data, checkpoints and adapters";
        ApiError::missing("fine_tuning_off", line)
    })
}

/// Fields of a query, of which no other is taken.
pub(super) fn query<'a, const N: usize>(
    q: Option<&'a str>,
    names: [&str; N],
) -> Result<[Option<&'a str>; N]> {
    let mut all = [None; N];
    for pair in q.unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(at) = names.iter().position(|n| *n == name) else {
            let shown: String = name.chars().take(80).collect();
            let line = format!("\"{shown}\" is not known in this query; known: {}", names.join(", "));
            return Err(ApiError::bad("unknown_parameter", line).at(shown));
        };
        all[at] = Some(value);
    }
    Ok(all)
}

/// The part of a list that a query asks for.
pub(super) fn page(all: Vec<Value>, after: Option<&str>, limit: Option<&str>) -> Result<Value> {
    let limit = match limit.map(str::parse::<usize>) {
        None => 20,
        Some(Ok(n)) if (1..=10_000).contains(&n) => n,
        Some(_) => return Err(ApiError::value("limit", "\"limit\" must be a whole number from 1 to 10000")),
    };
    let start = match after {
        None => 0,
        Some(id) => match all.iter().position(|v| v["id"] == *id) {
            Some(at) => at + 1,
            None => return Err(ApiError::value("after", "\"after\" names nothing in this list")),
        },
    };
    let more = all.len() > start + limit;
    let part: Vec<Value> = all.into_iter().skip(start).take(limit).collect();
    Ok(json!({ "object": "list", "data": part, "has_more": more }))
}

fn wish(app: &App, post: Post, plan: bool) -> Result<(String, Wish)> {
    let owner = app.config.keys.owner(post.who);
    Ok((owner, Wish::read(Fields::body(post.body)?, plan, |f| finish(app, f))?))
}

/// POST /v1/fine_tuning/jobs
pub(super) async fn create(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let (owner, wish) = wish(&app, post, false)?;
    let jobs = jobs(&app)?;
    let (id, names) = (app.id(), app.names());
    let job = tokio::task::block_in_place(|| jobs.create(&owner, wish, id, &names))?;
    Ok(json(job.to_string()))
}

/// GET /v1/fine_tuning/jobs
pub(super) async fn list(State(app): State<Arc<App>>, RawQuery(q): RawQuery, who: Asker) -> Result<Response> {
    let [after, limit] = query(q.as_deref(), ["after", "limit"])?;
    Ok(json(page(jobs(&app)?.list(&owner(&app, &who)), after, limit)?.to_string()))
}

/// GET /v1/fine_tuning/jobs/{id}
pub(super) async fn one(State(app): State<Arc<App>>, Path(id): Path<String>, who: Asker) -> Result<Response> {
    Ok(json(jobs(&app)?.find(&owner(&app, &who), &id)?.to_string()))
}

/// DELETE /v1/fine_tuning/jobs/{id}
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    who: Asker,
) -> Result<Response> {
    let (jobs, owner) = (jobs(&app)?, owner(&app, &who));
    tokio::task::block_in_place(|| {
        let model = jobs.removable(&owner, &id)?;
        for shelf in &app.shelves {
            shelf.close(&model)?;
        }
        jobs.remove(&owner, &id)
    })?;
    Ok(json(json!({ "id": id, "object": "fine_tuning.job", "deleted": true }).to_string()))
}

/// A POST without a body, or with an empty object, as clients send where there is nothing to say.
pub(super) async fn empty(app: &App, body: Body) -> Result<()> {
    let bytes = axum::body::to_bytes(body, 1024).await;
    let bytes = bytes.map_err(|_| ApiError::bad("invalid_body", "the body must be empty, or {}"))?;
    if !bytes.is_empty() {
        let body = serde_json::from_slice(&bytes).map_err(|e| {
            ApiError::bad("invalid_json", format!("the body is no JSON that is read here: {e}"))
        })?;
        finish(app, Fields::body(body)?)?;
    }
    Ok(())
}

async fn asked(app: &App, body: Body, who: &Asker, id: &str, ask: Ask) -> Result<Response> {
    empty(app, body).await?;
    let (jobs, owner) = (jobs(app)?, owner(app, who));
    let job = tokio::task::block_in_place(|| jobs.ask(&owner, id, ask))?;
    Ok(json(job.to_string()))
}

/// POST /v1/fine_tuning/jobs/{id}/pause
pub(super) async fn pause(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    who: Asker,
    body: Body,
) -> Result<Response> {
    asked(&app, body, &who, &id, Ask::Pause).await
}

/// POST /v1/fine_tuning/jobs/{id}/resume
pub(super) async fn resume(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    who: Asker,
    body: Body,
) -> Result<Response> {
    asked(&app, body, &who, &id, Ask::Resume).await
}

/// POST /v1/fine_tuning/jobs/{id}/cancel
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    who: Asker,
    body: Body,
) -> Result<Response> {
    asked(&app, body, &who, &id, Ask::Cancel).await
}

/// GET /v1/fine_tuning/jobs/{id}/result/{file}
pub(super) async fn result(
    State(app): State<Arc<App>>,
    Path((id, file)): Path<(String, String)>,
    who: Asker,
) -> Result<Response> {
    let (path, kind, name) = jobs(&app)?.result(&owner(&app, &who), &id, &file)?;
    let unread = |_| ApiError::fault("the file cannot be read");
    let file = tokio::task::block_in_place(|| std::fs::File::open(&path)).map_err(unread)?;
    let size = file.metadata().map_err(unread)?.len();
    let (to, frames) = channel(2);
    // A merged model is larger than memory may be.
    tokio::task::spawn_blocking(move || send_file(file, &to));
    let mut response = Response::new(Body::from_stream(Frames(frames)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    // The name has letters, digits, '-', '_' and '.' alone.
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

/// Sends a file piece by piece, as long as somebody takes them.
fn send_file(mut file: std::fs::File, to: &Sender<Bytes>) {
    let mut piece = vec![0; 1 << 18];
    while let Ok(n @ 1..) = file.read(&mut piece) {
        if to.blocking_send(Bytes::copy_from_slice(&piece[..n])).is_err() {
            return;
        }
    }
}

/// GET /v1/fine_tuning/jobs/{id}/events
pub(super) async fn events(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    RawQuery(q): RawQuery,
    who: Asker,
) -> Result<Response> {
    let [after, limit, stream] = query(q.as_deref(), ["after", "limit", "stream"])?;
    let (jobs, owner) = (jobs(&app)?.clone(), owner(&app, &who));
    let (rows, _) = jobs.rows(&owner, &id, 0)?;
    match stream {
        None | Some("false") => {
            // The newest first, as OpenAI has it.
            let all = rows.iter().rev().map(|r| r.json(&id)).collect();
            Ok(json(page(all, after, limit)?.to_string()))
        }
        Some("true") => {
            let (to, frames) = channel(4);
            tokio::spawn(follow(app.clone(), jobs, (owner, id), to));
            let mut response = Response::new(Body::from_stream(Frames(frames)));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
            Ok(response)
        }
        Some(_) => Err(ApiError::value("stream", "\"stream\" must be true or false")),
    }
}

/// Sends what happened and what happens, until nothing more comes or nobody listens.
async fn follow(app: Arc<App>, jobs: Arc<Jobs>, (owner, id): (String, String), to: Sender<Bytes>) {
    let mut changes = jobs.watch();
    let (mut last, mut sent) = (0, Instant::now());
    loop {
        changes.mark_unchanged();
        // A job that is deleted ends its stream.
        let Ok((rows, over)) = jobs.rows(&owner, &id, last) else { return };
        let mut text = String::new();
        for row in &rows {
            last = row.number;
            text += &format!("data: {}\n\n", row.json(&id));
        }
        if over {
            text += "data: [DONE]\n\n";
        } else if text.is_empty() && sent.elapsed() >= app.config.ping {
            text += ": ping\n\n";
        }
        if !text.is_empty() {
            sent = Instant::now();
            if to.send(text.into()).await.is_err() {
                return;
            }
        }
        if over || app.ending.load(Ordering::Relaxed) {
            return;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = to.closed() => return,
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
    }
}

struct Frames(Receiver<Bytes>);

impl Stream for Frames {
    type Item = std::result::Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|next| next.map(Ok))
    }
}

/// POST /v1/fine_tuning/plan
pub(super) async fn plan(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let (owner, wish) = wish(&app, post, true)?;
    let jobs = jobs(&app)?;
    let plan = tokio::task::block_in_place(|| jobs.plan(&owner, &wish))?;
    let mut answer = match plan {
        Ok((plan, seconds)) => planned(&plan, seconds),
        Err(problems) => {
            let told: Vec<Value> = problems.iter().take(PROBLEMS).map(problem).collect();
            json!({ "problems": told, "more_problems": problems.len() > PROBLEMS })
        }
    };
    answer["object"] = "fine_tuning.plan".into();
    answer["model"] = wish.base.into();
    Ok(json(answer.to_string()))
}

fn problem(p: &Problem) -> Value {
    let line = p.place.as_ref().and_then(|p| p.strip_prefix("line ")?.parse::<u64>().ok());
    json!({ "file": p.file, "place": p.place, "line": line, "message": p.what })
}

fn counts(c: &Counts) -> Value {
    json!({
        "records": c.records, "examples": c.examples, "tokens": c.tokens, "learnt": c.supervised,
        "longest": c.longest, "truncated": c.truncated, "dropped": c.dropped,
        "unsupervised": c.unsupervised, "forms": c.forms, "summary": c.to_string(),
    })
}

fn planned(plan: &Plan, seconds: Option<f64>) -> Value {
    let m = &plan.memory;
    let training = m.total() - if plan.shared { m.weights } else { 0 };
    let batch: Vec<Value> = plan
        .batch
        .iter()
        .map(|s| json!({ "tokens": s.tokens, "learnt": s.learnt, "parts": s.parts }))
        .collect();
    let says = plan.no_room.clone().unwrap_or_else(|| {
        "Answers go on while it trains; both are slower, since they share the device.".into()
    });
    json!({
        "problems": [],
        "more_problems": false,
        "data": counts(&plan.counts),
        "validation": plan.validation.as_ref().map(counts),
        "batch": batch,
        "steps": plan.steps,
        "tokens": plan.tokens,
        "seconds": seconds,
        "measured": plan.step_seconds.is_some(),
        "memory": {
            "weights": m.weights, "adapters": m.adapters, "optimiser": m.optimiser,
            "activations": m.activations, "scratch": m.scratch,
            "layers": { "whole": m.kept.whole, "halves": m.kept.halves, "inputs": m.kept.inputs },
            "weights_shared": plan.shared, "training": training, "taken": plan.taken,
            "available": plan.available, "fits": plan.no_room.is_none(), "message": says,
        },
    })
}
