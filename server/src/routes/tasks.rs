//! /v1/tasks: work on models and the device; /v1/memory and /v1/sizes: what models would take.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use serde_json::json;
use tokio::task::block_in_place;

use super::tuning::{Asker, empty, owner, page, query};
use super::{Post, finish, json};
use crate::app::App;
use crate::error::{ApiError, Result};
use crate::fields::{Fields, missing};
use crate::tasks::{Room, Task, Tasks};

/// Tokens of a context, and answers at a time, at most.
const CONTEXT: u64 = 1 << 24;
const SLOTS: u64 = 256;

const KINDS: [&str; 6] = ["quantize", "merge", "kernels", "roofline", "tune", "bench"];

fn tasks(app: &App) -> Result<&Arc<Tasks>> {
    app.tasks.as_ref().ok_or_else(|| ApiError::missing("tasks_off", "this server does no such work"))
}

fn known(tasks: &Tasks, model: &str) -> Result<()> {
    let all = tasks.doer.models();
    if all.iter().any(|m| m == model) {
        return Ok(());
    }
    let shown: String = model.chars().take(80).collect();
    let line = format!("there is no file of \"{shown}\" here; known: {}", all.join(", "));
    Err(ApiError::missing("model_not_found", line).at("model"))
}

/// POST /v1/memory
pub(super) async fn memory(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let mut f = Fields::body(post.body)?;
    let model = f.need_text("model")?;
    let number = |n: Option<u64>| n.and_then(|n| u32::try_from(n).ok());
    let context = number(f.whole("context", 1, CONTEXT)?);
    let slots = number(f.whole("slots", 1, SLOTS)?);
    let cache = f.text("cache_type")?;
    finish(&app, f)?;
    let tasks = tasks(&app)?;
    known(tasks, &model)?;
    let room = Room { model, context, slots, cache };
    let plan = block_in_place(|| tasks.doer.memory(&room));
    Ok(json(plan.map_err(|line| ApiError::bad("no_plan", line))?.to_string()))
}

/// POST /v1/sizes
pub(super) async fn sizes(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let mut f = Fields::body(post.body)?;
    let model = f.need_text("model")?;
    finish(&app, f)?;
    let tasks = tasks(&app)?;
    known(tasks, &model)?;
    let sizes = block_in_place(|| tasks.doer.sizes(&model));
    Ok(json(sizes.map_err(|line| ApiError::bad("no_sizes", line))?.to_string()))
}

/// What a request that is not for its kind of work is told.
fn only(name: &'static str, given: bool, kinds: &[&str], kind: &str) -> Result<()> {
    match !given || kinds.contains(&kind) {
        true => Ok(()),
        false => Err(ApiError::unsupported(
            name,
            format!("\"{name}\" is for {}, not for {kind}", kinds.join(", ")),
        )),
    }
}

fn allowed(tasks: &Tasks, kind: &str) -> Result<()> {
    if tasks.doer.kinds().contains(&kind) {
        return Ok(());
    }
    match kind {
        "quantize" => {
            let line = "this server writes no models; start it with --models and --allow-quantize";
            Err(ApiError::forbidden("quantize_not_allowed", line))
        }
        "tune" => {
            let line =
                "a server that others reach is not tuned by request; run \"weft tune\" on its computer";
            Err(ApiError::forbidden("not_from_here", line))
        }
        _ => Err(ApiError::forbidden("task_not_allowed", format!("this server does no \"{kind}\""))),
    }
}

/// POST /v1/tasks
pub(super) async fn create(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let mut f = Fields::body(post.body)?;
    let kind = f.need_text("kind")?;
    let (model, to, name, job) = (f.text("model")?, f.text("type")?, f.text("name")?, f.text("job")?);
    let (again, thorough) = (f.flag("requantize")?, f.flag("thorough")?);
    finish(&app, f)?;
    if !KINDS.contains(&kind.as_str()) {
        return Err(ApiError::value("kind", format!("\"kind\" must be one of {}", KINDS.join(", "))));
    }
    only("model", model.is_some(), &["quantize", "bench"], &kind)?;
    only("type", to.is_some(), &["quantize"], &kind)?;
    only("name", name.is_some(), &["quantize"], &kind)?;
    only("requantize", again.is_some(), &["quantize"], &kind)?;
    only("job", job.is_some(), &["merge"], &kind)?;
    only("thorough", thorough.is_some(), &["kernels", "roofline", "tune"], &kind)?;
    let tasks = tasks(&app)?;
    allowed(tasks, &kind)?;
    let owner = app.config.keys.owner(post.who);
    let thorough = thorough.unwrap_or(false);
    let task = match kind.as_str() {
        "quantize" => Task::Quantize {
            model: model.ok_or_else(|| missing("model"))?,
            to: to.ok_or_else(|| missing("type"))?,
            name: name.ok_or_else(|| missing("name"))?,
            again: again.unwrap_or(false),
        },
        "merge" => {
            let job = job.ok_or_else(|| missing("job"))?;
            super::tuning::jobs(&app)?.merging(&owner, &job).map_err(|e| e.at("job"))?
        }
        "kernels" => Task::Kernels { thorough },
        "roofline" => Task::Roofline { thorough },
        "tune" => Task::Tune { thorough },
        _ => Task::Bench { model: model.ok_or_else(|| missing("model"))? },
    };
    if let Task::Quantize { model, .. } | Task::Bench { model } = &task {
        known(tasks, model)?;
    }
    if let Task::Quantize { name, .. } = &task {
        if !weft_hub::is_name(name) {
            let line = "\"name\" must be letters, digits, '-', '_' and '.', the first a letter or a digit";
            return Err(ApiError::value("name", line));
        }
        if app.names().contains(name) {
            return Err(ApiError::value("name", format!("there is a \"{name}\" already; give another name")));
        }
    }
    let id = app.id();
    let told = block_in_place(|| tasks.create(&owner, task, id))?;
    Ok(json(told.to_string()))
}

/// GET /v1/tasks
pub(super) async fn list(State(app): State<Arc<App>>, RawQuery(q): RawQuery, who: Asker) -> Result<Response> {
    let [after, limit] = query(q.as_deref(), ["after", "limit"])?;
    let tasks = tasks(&app)?;
    let mut all = page(tasks.lane.list(&owner(&app, &who)), after, limit)?;
    (all["kinds"], all["models"]) = (json!(tasks.doer.kinds()), json!(tasks.doer.models()));
    Ok(json(all.to_string()))
}

/// GET /v1/tasks/{id}
pub(super) async fn one(State(app): State<Arc<App>>, Path(id): Path<String>, who: Asker) -> Result<Response> {
    Ok(json(tasks(&app)?.lane.find(&owner(&app, &who), &id)?.to_string()))
}

/// POST /v1/tasks/{id}/cancel
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    who: Asker,
    body: Body,
) -> Result<Response> {
    empty(&app, body).await?;
    Ok(json(tasks(&app)?.lane.cancel(&owner(&app, &who), &id)?.to_string()))
}
