//! Which models there are.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::json;
use crate::app::{App, Served};
use crate::error::Result;

/// A model as the lists show it.
fn entry(served: &Served) -> Value {
    let card = &served.card;
    let mut meta = json!({ "n_ctx": card.context, "n_ctx_train": card.trained, "n_vocab": card.vocabulary });
    for (name, value) in &card.facts {
        meta[name] = value.clone();
    }
    meta["answers"] = served.engine.is_some().into();
    json!({ "id": card.id, "object": "model", "created": card.created, "owned_by": "weft", "meta": meta })
}

/// GET /v1/models
pub(super) async fn list(State(app): State<Arc<App>>) -> Response {
    let data: Vec<Value> = app.models.iter().map(|m| entry(m)).collect();
    json(json!({ "object": "list", "data": data }).to_string())
}

/// GET /v1/models/{id}
pub(super) async fn one(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Response> {
    Ok(json(entry(&*app.model(Some(&id))?).to_string()))
}
