//! Pulling models and removing them, where `--allow-pull` lets requests do that.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_core::Stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::block_in_place;

use super::ollama::LINES;
use super::{Post, finish, json};
use crate::app::App;
use crate::error::{ApiError, Result};
use crate::fields::{Fields, missing};
use crate::pulls::{Job, Pulls};

fn allowed(app: &App) -> Result<&Pulls> {
    app.config.pulls.as_deref().ok_or_else(|| {
        let line = "this server pulls and removes no models; start it with --models and --allow-pull";
        ApiError::forbidden("pull_not_allowed", line)
    })
}

/// POST /v1/pulls: starts one, which goes on by itself.
pub(super) async fn start(State(app): State<Arc<App>>, post: Result<Post>) -> Result<Response> {
    let mut f = Fields::body(post?.body)?;
    let name = f.need_text("model")?;
    finish(&app, f)?;
    let job = allowed(&app)?.start(&name, true)?;
    let mut response = json(job.json().to_string());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

/// GET /v1/pulls: those that are on their way, those that broke off, and what is there.
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Response> {
    let pulls = allowed(&app)?;
    let jobs = pulls.jobs();
    let mut data: Vec<Value> = jobs.iter().map(|j| j.json()).collect();
    let (partial, entries) = block_in_place(|| (pulls.store.partial(), pulls.store.list()));
    let others = partial.iter().filter(|p| !jobs.iter().any(|j| j.asked == p.asked));
    data.extend(others.map(|p| {
        json!({ "id": p.asked, "object": "model.pull", "status": "stopped", "completed": p.done, "total": p.total })
    }));
    let models: Vec<Value> = entries
        .iter()
        .map(|e| json!({ "id": e.name, "size": e.size, "pulled_as": e.record.as_ref().map(|r| &r.name) }))
        .collect();
    Ok(json(json!({ "object": "list", "data": data, "models": models }).to_string()))
}

/// DELETE /v1/pulls/{id}: stops one, and keeps what came; drops what came of one that is not on its way.
pub(super) async fn stop(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Response> {
    let pulls = allowed(&app)?;
    let job = pulls.jobs().into_iter().find(|j| j.asked == id);
    if let Some(job) = job.as_ref().filter(|j| !j.is_over()) {
        job.stop();
        // The connection and the file are closed when this is answered.
        let _ = job.end().await;
        return Ok(json(job.json().to_string()));
    }
    let dropped = block_in_place(|| pulls.discard(&id))?;
    if let Some(job) = &job {
        pulls.forget(job);
    } else if !dropped {
        let shown: String = id.chars().take(80).collect();
        return Err(ApiError::missing("pull_not_found", format!("there is no pull \"{shown}\"")));
    }
    Ok(json(json!({ "id": id, "object": "model.pull", "deleted": true }).to_string()))
}

/// Removes a model that was pulled.
fn drop_model(app: &App, name: &str) -> Result<()> {
    let pulls = allowed(app)?;
    let entry = pulls.store.list().into_iter().find(|e| e.name == name);
    // It says which there are.
    let Some(entry) = entry else {
        if app.models.iter().any(|m| m.card.id == name) {
            let line = format!("\"{name}\" is not of the folder of models, and stays");
            return Err(ApiError::forbidden("not_pulled", line));
        }
        let shown: String = name.chars().take(80).collect();
        let names: Vec<String> = pulls.store.list().into_iter().map(|e| e.name).collect();
        let line = format!("there is no model \"{shown}\" here; known: {}", names.join(", "));
        return Err(ApiError::missing("model_not_found", line).at("model"));
    };
    if entry.record.is_none() {
        let line = format!("\"{name}\" was not pulled: whoever put its file there may remove it");
        return Err(ApiError::forbidden("not_pulled", line));
    }
    if app.models.iter().any(|m| m.card.id == name) {
        let line = format!("\"{name}\" is served as long as the server runs");
        return Err(ApiError::http(StatusCode::CONFLICT, "busy", line));
    }
    app.shelves.iter().try_for_each(|shelf| shelf.close(name))?;
    pulls.remove(name)
}

/// DELETE /v1/models/{id}
pub(super) async fn remove(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Response> {
    block_in_place(|| drop_model(&app, &id))?;
    Ok(json(json!({ "id": id, "object": "model", "deleted": true }).to_string()))
}

/// DELETE /api/delete
pub(super) async fn ollama_delete(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let mut f = Fields::body(post.body)?;
    let name = model(&mut f)?;
    finish(&app, f)?;
    let bare = name.strip_suffix(":latest").unwrap_or(&name);
    block_in_place(|| {
        let known = allowed(&app)?.store.find(bare).map_or_else(|| bare.to_owned(), |e| e.name);
        drop_model(&app, &known)
    })?;
    Ok(Response::new(Body::empty()))
}

/// The model of a request of Ollama's.
fn model(f: &mut Fields) -> Result<String> {
    let (model, name) = (f.text("model")?, f.text("name")?);
    model.or(name).ok_or_else(|| missing("model"))
}

/// POST /api/pull
pub(super) async fn ollama_pull(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let mut f = Fields::body(post.body)?;
    let name = model(&mut f)?;
    let stream = f.flag("stream")?.unwrap_or(true);
    if f.flag("insecure")? == Some(true) {
        return Err(ApiError::unsupported(
            "insecure",
            "certificates are checked; \"insecure\" may be false alone",
        ));
    }
    finish(&app, f)?;
    let job = allowed(&app)?.start(&name, false)?;
    let watching = job.watch();
    if !stream {
        job.end().await?;
        return Ok(json("{\"status\":\"success\"}"));
    }
    let (to, lines) = mpsc::channel(4);
    tokio::spawn(async move {
        tell(&job, &to).await;
        drop(watching);
    });
    let mut response = Response::new(Body::from_stream(Lines(lines)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(LINES));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// Writes how far a pull is, until it is over or nobody reads.
async fn tell(job: &Job, to: &mpsc::Sender<Bytes>) {
    let line = |value: Value| Bytes::from(format!("{value}\n"));
    let mut now = job.now.subscribe();
    if to.send(line(json!({ "status": "pulling manifest" }))).await.is_err() {
        return;
    }
    loop {
        let at = now.borrow_and_update().clone();
        let told = match &at.over {
            Some(Ok(_)) => {
                let _ = to.send(line(json!({ "status": "verifying sha256 digest" }))).await;
                Some(json!({ "status": "success" }))
            }
            Some(Err(e)) => Some(super::ollama::error(e)),
            None if at.stage.is_some() => {
                let status = format!("pulling {}", at.file);
                Some(json!({ "status": status, "digest": at.file, "total": at.total, "completed": at.done }))
            }
            None => None,
        };
        if let Some(told) = told
            && to.send(line(told)).await.is_err()
        {
            return;
        }
        if at.over.is_some() {
            return;
        }
        tokio::select! {
            changed = now.changed() => if changed.is_err() { return },
            () = to.closed() => return,
        }
    }
}

/// Lines as they come.
struct Lines(mpsc::Receiver<Bytes>);

impl Stream for Lines {
    type Item = std::result::Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|line| line.map(Ok))
    }
}
