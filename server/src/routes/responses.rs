//! /v1/responses: a conversation as items, which this server can keep.

mod read;
mod write;

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::tuning::{page, query};
use super::{Post, json};
use crate::app::{App, now};
use crate::draw;
use crate::error::{ApiError, Result};
use crate::fields::Fields;
use crate::guard::Who;
use crate::one;
use crate::store::{Record, Store};
use read::Asked;

pub(super) async fn create(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let mut f = Fields::body(post.body)?;
    let name = draw::model_name(&mut f, app.config.lenient)?;
    let served = app.model(name.as_deref())?;
    let resumable = app.streams.asked(&mut f, post.who)?;
    let before = match f.text("previous_response_id")? {
        None => Vec::new(),
        Some(id) => conversation(find(&app, &id, post.who).map_err(|e| e.at("previous_response_id"))?),
    };
    let Asked { ask, input, echo, store } = read::asked(f, &app, &served.card, &before)?;
    let begun = one::begin(&ask, &app, &served, post.who.0)?;
    let created = now();
    let head =
        write::Head { id: format!("resp_{:016x}", app.id()), created, model: served.card.id.clone(), echo };
    let keep = store.then(|| write::Keep {
        app: app.clone(),
        record: Record::new(app.config.keys.owner(post.who), created, before, input, Value::Null),
    });
    if ask.stream {
        let kept = resumable.then(|| head.id.clone());
        let writer = write::Events::new(head, begun.listener, keep);
        return crate::stream::events(&app, begun.said, 1, writer, (kept, post.who)).await;
    }
    let response = head.whole(&begun.whole().await?);
    if let Some(keep) = keep {
        keep.keep(&head.id, &response)?;
    }
    Ok(json(response.to_string()))
}

/// The items of a conversation up to an answer's end.
fn conversation(record: Record) -> Vec<Value> {
    let output = record.response["output"].as_array().cloned().unwrap_or_default();
    [record.before, record.input, output].concat()
}

fn store(app: &App) -> Result<&Store> {
    app.store.as_ref().ok_or_else(|| ApiError::fault("there is no store of responses"))
}

fn find(app: &App, id: &str, who: Who) -> Result<Record> {
    let owner = app.config.keys.owner(who);
    let record = tokio::task::block_in_place(|| store(app)?.get(id, &owner).map_err(ApiError::fault))?;
    record.ok_or_else(|| {
        let shown: String = id.chars().take(80).collect();
        let line =
            format!("there is no response \"{shown}\": it was not stored, is too old or is another key's");
        ApiError::missing("response_not_found", line)
    })
}

/// Who asks, where a request has no body.
type Asker = Option<Extension<Who>>;

fn asker(who: &Asker) -> Who {
    who.as_ref().map_or(Who(0), |w| w.0)
}

/// GET /v1/responses/{id}, and its input items.
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    RawQuery(q): RawQuery,
    who: Asker,
) -> Result<Response> {
    let Some(id) = path.strip_suffix("/input_items") else {
        if query(q.as_deref(), ["stream"])?[0].is_some_and(|stream| stream != "false") {
            let line = "a stream is taken up again at /v1/streams/ID, if its request said \"resumable\"";
            return Err(ApiError::unsupported("stream", line));
        }
        return Ok(json(find(&app, &path, asker(&who))?.response.to_string()));
    };
    let [after, limit, order] = query(q.as_deref(), ["after", "limit", "order"])?;
    let record = find(&app, id, asker(&who))?;
    let mut items = [record.before, record.input].concat();
    match order {
        Some("asc") => {}
        // The newest first, as OpenAI has it.
        None | Some("desc") => items.reverse(),
        Some(_) => return Err(ApiError::value("order", "\"order\" must be asc or desc")),
    }
    let mut list = page(items, after, limit)?;
    let id = |item: Option<&Value>| item.map(|i| i["id"].clone()).unwrap_or_default();
    let data = list["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    let (first, last) = (id(data.first()), id(data.last()));
    (list["first_id"], list["last_id"]) = (first, last);
    Ok(json(list.to_string()))
}

/// DELETE /v1/responses/{id}
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    who: Asker,
) -> Result<Response> {
    find(&app, &id, asker(&who))?;
    tokio::task::block_in_place(|| {
        store(&app)?.remove(&id, &app.config.keys.owner(asker(&who))).map_err(ApiError::fault)
    })?;
    Ok(json(json!({ "id": id, "object": "response", "deleted": true }).to_string()))
}
