//! POST /v1/messages and /v1/messages/count_tokens, in Anthropic's shape.

mod read;
mod write;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::{Post, json};
use crate::app::App;
use crate::draw;
use crate::error::{ApiError, Result};
use crate::fields::Fields;
use crate::one;

pub(super) async fn messages(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let mut f = Fields::body(post.body)?;
    let name = draw::model_name(&mut f, app.config.lenient)?;
    let served = app.model(name.as_deref())?;
    let resumable = app.streams.asked(&mut f, post.who)?;
    let ask = read::ask(f, &app, &served.card, true)?;
    let begun = one::begin(&ask, &app, &served, post.who.0)?;
    let head = write::Head {
        id: format!("msg_{:016x}", app.id()),
        model: served.card.id.clone(),
        prompt: begun.prompt,
    };
    if ask.stream {
        let kept = resumable.then(|| head.id.clone());
        let writer = write::Events::new(head, begun.listener);
        return crate::stream::events(&app, begun.said, 1, writer, (kept, post.who)).await;
    }
    Ok(json(write::whole(&head, &begun.whole().await?).to_string()))
}

pub(super) async fn count_tokens(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let mut f = Fields::body(post.body)?;
    let name = draw::model_name(&mut f, app.config.lenient)?;
    let served = app.model(name.as_deref())?;
    let ask = read::ask(f, &app, &served.card, false)?;
    let prepared = ask.prepare(&served, 0)?;
    let tokens = prepared.requests.first().map_or(0, |r| r.prompt.len());
    Ok(json(json!({ "input_tokens": tokens }).to_string()))
}

/// Anthropic's word for what is wrong.
fn kind(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// An error as its clients read it; `param` and `code` stand beside what they know.
pub(super) fn error(e: &ApiError) -> Value {
    json!({ "type": "error", "error": {
        "type": kind(e.status), "message": e.message, "param": e.param, "code": e.code,
    }})
}
