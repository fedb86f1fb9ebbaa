//! Streams that are taken up again.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::json;

use super::json;
use crate::app::App;
use crate::error::{ApiError, Result};
use crate::guard::Who;

fn owner(who: &Option<Extension<Who>>) -> u64 {
    who.as_ref().map_or(0, |w| w.0.0)
}

/// GET /v1/streams/{id}: what comes behind the event that `Last-Event-ID` names, or all.
pub(super) async fn resume(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    who: Option<Extension<Who>>,
    headers: HeaderMap,
) -> Result<Response> {
    let after = match headers.get("last-event-id").map(|v| v.to_str().unwrap_or_default().trim()) {
        None | Some("") => 0,
        Some(text) => text.parse().map_err(|_| {
            ApiError::bad("invalid_value", "the header Last-Event-ID is no number of an event")
                .at("Last-Event-ID")
        })?,
    };
    app.streams.resume(&id, owner(&who), after, app.config.ping)
}

/// DELETE /v1/streams/{id}
pub(super) async fn stop(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    who: Option<Extension<Who>>,
) -> Result<Response> {
    app.streams.stop(&id, owner(&who))?;
    Ok(json(json!({ "id": id, "object": "stream", "deleted": true }).to_string()))
}
