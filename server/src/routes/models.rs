//! Which models there are.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::json;
use crate::app::{App, Served};
use crate::error::Result;
use crate::guard::Who;
use crate::shelf::Listed;

/// A model as the lists show it.
fn entry(served: &Served) -> Value {
    let card = &served.card;
    let mut meta = json!({ "n_ctx": card.context, "n_ctx_train": card.trained, "n_vocab": card.vocabulary });
    for (name, value) in &card.facts {
        meta[name] = value.clone();
    }
    let adapters: Vec<Value> =
        card.adapters.iter().map(|(name, scale)| json!({ "name": name, "scale": scale })).collect();
    if !adapters.is_empty() {
        meta["adapters"] = adapters.into();
    }
    meta["open"] = true.into();
    meta["answers"] = served.engine.is_some().into();
    json!({ "id": card.id, "object": "model", "created": card.created, "owned_by": "weft", "meta": meta })
}

/// One that is opened when it is asked for.
fn closed(app: &App, listed: &Listed) -> Value {
    let mut meta = json!({ "open": false });
    if let Some(size) = listed.size {
        meta["size"] = size.into();
    }
    if let Some(digest) = &listed.digest {
        meta["digest"] = digest.as_str().into();
    }
    let created = listed.modified.unwrap_or(app.since);
    json!({ "id": listed.name, "object": "model", "created": created, "owned_by": "weft", "meta": meta })
}

/// The models of other machines, for whoever is no other machine.
async fn elsewhere(app: &App, who: Who) -> Vec<Value> {
    match &app.peers {
        Some(peers) if !who.is_peer() => peers.models().await,
        _ => Vec::new(),
    }
}

/// GET /v1/models
pub(super) async fn list(State(app): State<Arc<App>>, Extension(who): Extension<Who>) -> Response {
    let open = app.open_models();
    let mut data: Vec<Value> = open.iter().map(|m| entry(m)).collect();
    let shelved = app.shelved();
    let others = shelved.iter().filter(|listed| !open.iter().any(|m| m.card.id == listed.name));
    data.extend(others.map(|listed| closed(&app, listed)));
    data.extend(elsewhere(&app, who).await);
    let mut list = json!({ "object": "list", "data": data });
    if app.config.pulls.is_some() {
        // The page asks for pulls where there are some.
        list["pulls"] = true.into();
    }
    json(list.to_string())
}

/// GET /v1/models/{id}
pub(super) async fn one(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Extension(who): Extension<Who>,
) -> Result<Response> {
    if id.contains('@')
        && let Some(found) = elsewhere(&app, who).await.into_iter().find(|m| m["id"] == *id)
    {
        return Ok(json(found.to_string()));
    }
    let found = match app.open_models().iter().find(|m| m.card.id == id) {
        Some(served) => entry(served),
        None => match app.shelved().iter().find(|listed| listed.name == id) {
            Some(listed) => closed(&app, listed),
            // It says which there are.
            None => entry(&*app.model(Some(&id))?),
        },
    };
    Ok(json(found.to_string()))
}
