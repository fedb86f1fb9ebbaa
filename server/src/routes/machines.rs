//! Other machines: which there are, and how one is added or forgotten.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::{Post, finish, json};
use crate::app::App;
use crate::error::{ApiError, Result};
use crate::fields::{Fields, missing};
use crate::peers::Peers;

/// What knows other machines, for whoever may change that: programs of this computer.
fn peers(app: &App) -> Result<&Peers> {
    let peers = app.peers.as_ref();
    peers.ok_or_else(|| {
        ApiError::missing("no_machines", "this server was started without a folder for machines")
    })
}

/// An address that a request names is connected to, so nobody may name one from elsewhere.
fn from_here(app: &App) -> Result<&Peers> {
    match app.config.any_address {
        true => Err(ApiError::forbidden(
            "not_from_here",
            "a server that others reach changes no machines by request; run \"weft pair\" on its computer",
        )),
        false => peers(app),
    }
}

fn fault(line: String) -> ApiError {
    ApiError::bad("pairing_failed", line)
}

/// GET /v1/machines
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Response> {
    let peers = peers(&app)?;
    let machines: Vec<Value> = peers
        .status()
        .await
        .map_err(fault)?
        .into_iter()
        .map(|s| {
            let (models, why) = match &s.said {
                Ok(models) => (models.iter().map(|m| m["id"].clone()).collect(), None),
                Err(why) => (Vec::new(), Some(why)),
            };
            json!({ "name": s.machine.name, "address": s.machine.address, "answers": s.said.is_ok(), "why": why,
                    "models": models })
        })
        .collect();
    let guests = peers.paired().map_err(fault)?.guests;
    let guests: Vec<Value> = guests.iter().map(|g| json!({ "name": g.name })).collect();
    Ok(json(
        json!({
            "object": "list", "name": peers.name(), "data": machines, "guests": guests,
            "listens": peers.listens(), "open": peers.is_open(), "may_change": !app.config.any_address,
        })
        .to_string(),
    ))
}

/// POST /v1/machines
pub(super) async fn add(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let mut f = Fields::body(post.body)?;
    let code = f.text("code")?.ok_or_else(|| missing("code"))?;
    let name = f.text("name")?;
    finish(&app, f)?;
    let peers = from_here(&app)?;
    let machine = peers.pair(&code, name.as_deref()).await.map_err(|why| fault(why).at("code"))?;
    Ok(json(json!({ "name": machine.name, "address": machine.address }).to_string()))
}

/// DELETE /v1/machines/{id}
pub(super) async fn remove(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Response> {
    let peers = from_here(&app)?;
    if peers.remove(&name).map_err(fault)? {
        return Ok(json(json!({ "name": name, "deleted": true }).to_string()));
    }
    let shown: String = name.chars().take(80).collect();
    Err(ApiError::missing("machine_not_found", format!("no machine is called \"{shown}\" here")))
}

/// POST /v1/pair
pub(super) async fn open(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    finish(&app, Fields::body(post.body)?)?;
    let peers = from_here(&app)?;
    match peers.listens() {
        Some(port) => {
            let code = peers.open_door().map_err(ApiError::fault)?;
            Ok(json(json!({ "code": code, "port": port, "seconds": 600 }).to_string()))
        }
        None => {
            Err(ApiError::bad("not_listening", "start the server with --pair to let other machines use it"))
        }
    }
}
