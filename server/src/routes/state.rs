//! How the server is.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::{json, number, query};
use crate::app::App;
use crate::error::{ApiError, Result};

/// GET /health
pub(super) async fn health(State(app): State<Arc<App>>) -> Result<Response> {
    match app.ending.load(Ordering::Relaxed) {
        true => Err(ApiError::unavailable("ending", "the server is ending", 10)),
        false => Ok(json("{\"status\":\"ok\"}")),
    }
}

/// GET /props
pub(super) async fn props(State(app): State<Arc<App>>, RawQuery(q): RawQuery) -> Result<Response> {
    let served = app
        .model(query(q.as_deref(), "model").as_deref().or(app.models.first().map(|m| m.card.id.as_str())))?;
    let card = &served.card;
    let s = &card.sampling;
    let template = card.template.as_ref().ok();
    let props = json!({
        "default_generation_settings": {
            "n_ctx": card.context,
            "params": {
                "temperature": number(s.temperature), "top_k": s.top_k, "top_p": number(s.top_p),
                "min_p": number(s.min_p), "typical_p": number(s.typical_p),
                "repeat_penalty": number(s.repeat_penalty), "repeat_last_n": s.repeat_last_n,
                "presence_penalty": number(s.presence_penalty), "frequency_penalty": number(s.frequency_penalty),
            },
        },
        "total_slots": card.slots,
        "model": card.id,
        "models": app.names(),
        "chat_template": template.map(|t| t.source()),
        "chat_template_caps": {
            "is_fallback": template.is_some_and(|t| t.is_fallback()),
            "supports_tools": template.is_some_and(|t| t.reads_variable("tools")),
            "supports_thinking_switch": template.is_some_and(|t| t.has_thinking_switch()),
        },
        "modalities": { "vision": false, "audio": false },
        "fine_tuning": { "on": app.jobs.is_some(), "models": app.jobs.as_ref().map(|j| j.bases()).unwrap_or_default() },
        "device": app.config.device,
        "tasks": app.tasks.as_ref().map(|t| json!({ "kinds": t.doer.kinds(), "models": t.doer.models() })),
        "documents": app.documents.as_ref().map(|d| {
            let (embedder, reranker) = d.models();
            json!({ "embedder": embedder, "reranker": reranker })
        }),
        "build_info": concat!("weft ", env!("CARGO_PKG_VERSION")),
    });
    Ok(json(props.to_string()))
}

/// GET /slots
pub(super) async fn slots(State(app): State<Arc<App>>, RawQuery(q): RawQuery) -> Result<Response> {
    let served = app
        .model(query(q.as_deref(), "model").as_deref().or(app.models.first().map(|m| m.card.id.as_str())))?;
    let look = served.engine()?.look().await;
    let look = look.ok_or_else(|| ApiError::unavailable("engine_lost", "the engine does not answer", 5))?;
    if query(q.as_deref(), "fail_on_no_slot").as_deref() == Some("1")
        && look.running.len() >= served.card.slots
    {
        return Err(ApiError::unavailable("no_slot", "all slots draw an answer", 1));
    }
    // No request shows what another one says.
    let slot = |i: usize| -> Value {
        let running = look.running.get(i);
        let next = running.map(|r| {
            let left = r.max_tokens.saturating_sub(r.generated);
            json!({ "n_decoded": r.generated, "n_remain": left })
        });
        json!({
            "id": i,
            "id_task": running.map(|r| r.id),
            "n_ctx": served.card.context,
            "is_processing": running.is_some(),
            "prompt": running.map(|r| json!({ "n_tokens": r.prompt.0, "n_done": r.prompt.1 })),
            "next_token": next,
        })
    };
    Ok(json(Value::from((0..served.card.slots).map(slot).collect::<Vec<_>>()).to_string()))
}

/// GET /openapi.json
pub(super) async fn openapi() -> Response {
    json(crate::openapi::document().to_string())
}
