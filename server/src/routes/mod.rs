//! The routes.

mod anthropic;
mod chat;
mod completions;
mod documents;
mod exams;
mod files;
mod machines;
mod metrics;
mod models;
mod ollama;
pub(crate) mod page;
mod pulls;
mod responses;
mod state;
mod streams;
mod tasks;
mod text;
mod tuning;
mod vectors;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde_json::Value;

use crate::app::App;
use crate::error::{ApiError, Result};
use crate::fields::{Fields, nearest};
use crate::guard::Who;
use crate::peers::forward::Read;

/// Every path with its methods, as `/openapi.json` says them.
pub(crate) const PATHS: &[(&str, &[&str])] = &[
    ("/health", &["GET"]),
    ("/v1/health", &["GET"]),
    ("/v1/models", &["GET"]),
    ("/v1/models/{*id}", &["GET", "DELETE"]),
    ("/v1/pulls", &["GET", "POST"]),
    ("/v1/pulls/{*id}", &["DELETE"]),
    ("/v1/chat/completions", &["POST"]),
    ("/v1/completions", &["POST"]),
    ("/v1/messages", &["POST"]),
    ("/v1/responses", &["POST"]),
    ("/v1/responses/{*id}", &["GET", "DELETE"]),
    ("/v1/streams/{*id}", &["GET", "DELETE"]),
    ("/v1/messages/count_tokens", &["POST"]),
    ("/api/chat", &["POST"]),
    ("/api/delete", &["DELETE"]),
    ("/api/embed", &["POST"]),
    ("/api/embeddings", &["POST"]),
    ("/api/generate", &["POST"]),
    ("/api/ps", &["GET"]),
    ("/api/pull", &["POST"]),
    ("/api/show", &["POST"]),
    ("/api/tags", &["GET"]),
    ("/api/version", &["GET"]),
    ("/v1/embeddings", &["POST"]),
    ("/v1/rerank", &["POST"]),
    ("/v1/evaluations", &["GET", "POST"]),
    ("/v1/evaluations/{id}", &["GET"]),
    ("/v1/evaluations/{id}/cancel", &["POST"]),
    ("/v1/files", &["GET", "POST"]),
    ("/v1/files/{id}", &["GET", "DELETE"]),
    ("/v1/files/{id}/content", &["GET"]),
    ("/v1/fine_tuning/plan", &["POST"]),
    ("/v1/fine_tuning/jobs", &["GET", "POST"]),
    ("/v1/fine_tuning/jobs/{id}", &["GET", "DELETE"]),
    ("/v1/fine_tuning/jobs/{id}/cancel", &["POST"]),
    ("/v1/fine_tuning/jobs/{id}/events", &["GET"]),
    ("/v1/fine_tuning/jobs/{id}/pause", &["POST"]),
    ("/v1/fine_tuning/jobs/{id}/result/{file}", &["GET"]),
    ("/v1/fine_tuning/jobs/{id}/resume", &["POST"]),
    ("/v1/memory", &["POST"]),
    ("/v1/sizes", &["POST"]),
    ("/v1/tasks", &["GET", "POST"]),
    ("/v1/tasks/{id}", &["GET"]),
    ("/v1/tasks/{id}/cancel", &["POST"]),
    ("/v1/machines", &["GET", "POST"]),
    ("/v1/machines/{*id}", &["DELETE"]),
    ("/v1/pair", &["POST"]),
    ("/v1/documents", &["GET", "POST"]),
    ("/v1/documents/search", &["POST"]),
    ("/v1/documents/{*id}", &["DELETE"]),
    ("/metrics", &["GET"]),
    ("/openapi.json", &["GET"]),
    ("/props", &["GET"]),
    ("/slots", &["GET"]),
    ("/tokenize", &["POST"]),
    ("/detokenize", &["POST"]),
    ("/apply-template", &["POST"]),
];

/// Routes that ask a model, which the field "model" names.
const INFERENCE: &[&str] = &[
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/rerank",
    "/api/chat",
    "/api/embed",
    "/api/embeddings",
    "/api/generate",
    "/api/show",
    "/tokenize",
    "/detokenize",
    "/apply-template",
];

/// Whether a path asks a model.
pub(crate) fn is_inference(path: &str) -> bool {
    INFERENCE.contains(&path)
}

/// The routes that ask a model, which are those that another machine may ask.
fn inference() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/models", get(models::list))
        .route("/v1/chat/completions", post(chat::chat))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/messages", post(anthropic::messages))
        .route("/v1/responses", post(responses::create))
        .route("/v1/messages/count_tokens", post(anthropic::count_tokens))
        .route("/api/chat", post(ollama::chat))
        .route("/api/embed", post(ollama::embed))
        .route("/api/embeddings", post(ollama::embeddings))
        .route("/api/generate", post(ollama::generate))
        .route("/api/show", post(ollama::show))
        .route("/v1/embeddings", post(vectors::embeddings))
        .route("/v1/rerank", post(vectors::rerank))
        .route("/props", get(state::props))
        .route("/tokenize", post(text::tokenize))
        .route("/detokenize", post(text::detokenize))
        .route("/apply-template", post(text::apply_template))
}

/// What another machine may ask, without the guard.
pub(crate) fn peer_router() -> Router<Arc<App>> {
    inference().fallback(not_for_peers).method_not_allowed_fallback(method)
}

/// All routes, without the guard.
pub(crate) fn router() -> Router<Arc<App>> {
    page::add(inference())
        .route("/health", get(state::health))
        .route("/v1/health", get(state::health))
        .route("/v1/models/{*id}", get(models::one).delete(pulls::remove))
        .route("/v1/pulls", get(pulls::list).post(pulls::start))
        .route("/v1/pulls/{*id}", delete(pulls::stop))
        .route("/v1/streams/{*id}", get(streams::resume).delete(streams::stop))
        .route("/api/delete", delete(pulls::ollama_delete))
        .route("/api/pull", post(pulls::ollama_pull))
        .route("/v1/responses/{*id}", get(responses::get).delete(responses::delete))
        .route("/v1/documents", get(documents::list).post(documents::add))
        .route("/v1/documents/search", post(documents::search))
        .route("/v1/documents/{*id}", delete(documents::delete))
        .route("/v1/machines", get(machines::list).post(machines::add))
        .route("/v1/machines/{*id}", delete(machines::remove))
        .route("/v1/pair", post(machines::open))
        .route("/v1/evaluations", get(exams::list).post(exams::create))
        .route("/v1/evaluations/{id}", get(exams::one))
        .route("/v1/evaluations/{id}/cancel", post(exams::cancel))
        .route("/v1/files", get(files::list).post(files::create))
        .route("/v1/files/{id}", get(files::one).delete(files::delete))
        .route("/v1/files/{id}/content", get(files::content))
        .route("/v1/fine_tuning/plan", post(tuning::plan))
        .route("/v1/fine_tuning/jobs", get(tuning::list).post(tuning::create))
        .route("/v1/fine_tuning/jobs/{id}", get(tuning::one).delete(tuning::delete))
        .route("/v1/fine_tuning/jobs/{id}/cancel", post(tuning::cancel))
        .route("/v1/fine_tuning/jobs/{id}/events", get(tuning::events))
        .route("/v1/fine_tuning/jobs/{id}/pause", post(tuning::pause))
        .route("/v1/fine_tuning/jobs/{id}/result/{file}", get(tuning::result))
        .route("/v1/fine_tuning/jobs/{id}/resume", post(tuning::resume))
        .route("/v1/memory", post(tasks::memory))
        .route("/v1/sizes", post(tasks::sizes))
        .route("/v1/tasks", get(tasks::list).post(tasks::create))
        .route("/v1/tasks/{id}", get(tasks::one))
        .route("/v1/tasks/{id}/cancel", post(tasks::cancel))
        .route("/api/ps", get(ollama::ps))
        .route("/api/tags", get(ollama::tags))
        .route("/api/version", get(ollama::version))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(state::openapi))
        .route("/slots", get(state::slots))
        .fallback(unknown)
        .method_not_allowed_fallback(method)
}

async fn not_for_peers(request: Request) -> ApiError {
    let path: String = request.uri().path().chars().take(80).collect();
    ApiError::missing("route_not_found", format!("there is nothing at {path} for another machine"))
}

/// What is wrong, as the clients of `path` read it.
pub(crate) fn error_body(path: &str, error: &ApiError) -> String {
    match path {
        path if path.starts_with("/v1/messages") => anthropic::error(error).to_string(),
        path if path.starts_with("/api/") => ollama::error(error).to_string(),
        _ => error.json(),
    }
}

/// What ends a stream of `path` that broke off behind `count` events, as its clients read it.
pub(crate) fn last_words(path: &str, error: &ApiError, count: u64) -> Vec<u8> {
    let body = || error_body(path, error);
    let text = match path {
        "/v1/messages" => format!("event: error\ndata: {}\n\n", body()),
        "/v1/responses" => {
            let data = serde_json::json!({ "type": "error", "code": error.code, "message": error.message,
                                           "param": error.param, "sequence_number": count });
            format!("event: error\ndata: {data}\n\n")
        }
        path if path.starts_with("/api/") => format!("{}\n", body()),
        _ => format!("data: {}\n\n", body()),
    };
    text.into_bytes()
}

/// The value of a field of a query.
pub(crate) fn query(query: Option<&str>, name: &str) -> Option<String> {
    let value = query?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    // What names of models have besides letters.
    Some(value.replace("%40", "@").replace("%2B", "+").replace("%2b", "+"))
}

/// The methods of a path; None for one that is not there.
fn methods(path: &str) -> Option<&'static [&'static str]> {
    let is = |known: &str| match known.strip_suffix("{*id}") {
        Some(prefix) => path.len() > prefix.len() && path.starts_with(prefix),
        None => {
            let same = |(known, given): (&str, &str)| {
                known == given || (known.starts_with('{') && !given.is_empty())
            };
            known.split('/').count() == path.split('/').count()
                && known.split('/').zip(path.split('/')).all(same)
        }
    };
    let known = PATHS.iter().find(|(known, _)| is(known)).map(|(_, methods)| *methods);
    known.or_else(|| page::has(path).then_some(&["GET"]))
}

async fn unknown(request: Request) -> ApiError {
    let path: String = request.uri().path().chars().take(80).collect();
    let known: Vec<&str> = PATHS.iter().map(|p| p.0).collect();
    let hint = match nearest(&path, &known) {
        Some(near) => format!("; did you mean {near}?"),
        None => "; GET /openapi.json lists all".to_owned(),
    };
    ApiError::missing("route_not_found", format!("there is nothing at {path}{hint}"))
}

async fn method(request: Request) -> Response {
    let path = request.uri().path();
    let known = methods(path).unwrap_or_default();
    if *request.method() == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    let line = format!("{path} takes {}, not {}", known.join(" and "), request.method());
    let error = ApiError::http(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", line);
    let mut response = error.into_response();
    if let Ok(allow) = HeaderValue::from_str(&known.join(", ")) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

/// The body of a POST, and who sent it.
pub(crate) struct Post {
    pub(crate) who: Who,
    pub(crate) body: Value,
}

impl FromRequest<Arc<App>> for Post {
    type Rejection = ApiError;

    async fn from_request(mut request: Request, app: &Arc<App>) -> Result<Post> {
        let who = request.extensions().get().copied().unwrap_or(Who(0));
        let body = match request.extensions_mut().remove::<Read>() {
            Some(Read(read)) => read?,
            None => read(request.into_body(), app).await?,
        };
        Ok(Post { who, body })
    }
}

/// Reads a body of JSON, within the server's bounds.
pub(crate) async fn read(body: Body, app: &App) -> Result<Value> {
    let bytes = bytes(body, app).await?;
    // Editors of Windows begin a file with this mark, which readers of JSON may pass over (RFC 8259).
    weft_formats::json::strict(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes))
        .map_err(|e| ApiError::bad("invalid_json", format!("the body is no JSON that is read here: {e}")))
}

/// A body, within the server's bounds.
async fn bytes(body: Body, app: &App) -> Result<Bytes> {
    let limit = app.config.body;
    let read = axum::body::to_bytes(body, limit);
    match tokio::time::timeout(app.config.read_timeout, read).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(e)) if e.to_string().contains("length limit") => {
            let line = format!("the body is larger than {} MiB", limit >> 20);
            Err(ApiError::http(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", line))
        }
        Ok(Err(_)) => Err(ApiError::bad("invalid_body", "the body broke off")),
        Err(_) => {
            let line = "the body did not come in time";
            Err(ApiError::http(StatusCode::REQUEST_TIMEOUT, "timeout", line))
        }
    }
}

/// Refuses what nobody took of a request.
fn finish(app: &App, f: Fields) -> Result<()> {
    let mut ignored = Vec::new();
    f.finish(app.config.lenient.then_some(&mut ignored))?;
    app.log_ignored(&ignored);
    Ok(())
}

/// A number as it was given, which 64 bits would write with more digits than it has.
fn number(x: f32) -> Value {
    serde_json::from_str(&x.to_string()).unwrap_or_default()
}

/// A response that holds JSON.
pub(crate) fn json(text: impl Into<Body>) -> Response {
    let mut response = Response::new(text.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
