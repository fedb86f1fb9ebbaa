//! Ollama's API: chats and texts as lines of JSON, and what there is to know of the models.

mod read;
mod write;

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::{Post, json};
use crate::app::{App, Served, now};
use crate::ask::Ask;
use crate::engine::Texts;
use crate::error::{ApiError, Result};
use crate::fields::{Fields, missing, wrong};
use crate::one::{self, Begun};
use read::{Asked, Kind};

/// Lines of JSON.
pub(super) const LINES: &str = "application/x-ndjson";
/// Texts of a request for vectors at most.
const MOST: usize = 2048;

pub(super) async fn chat(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    answer(&app, post, Kind::Chat).await
}

pub(super) async fn generate(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    answer(&app, post, Kind::Generate).await
}

async fn answer(app: &Arc<App>, post: Post, kind: Kind) -> Result<Response> {
    if let Some(model) = closed(app, &post.body)? {
        return Ok(json(write::Head { model, kind }.unloaded().to_string()));
    }
    let mut f = Fields::body(post.body)?;
    let served = model(app, &mut f)?;
    let Asked { ask, raw } = read::asked(f, app, &served.card, kind)?;
    let head = write::Head { model: served.card.id.clone(), kind };
    let Some(ask) = ask else { return Ok(json(head.loaded().to_string())) };
    let begun = match raw {
        Some(text) => raw_text(&ask, &text, app, &served, post.who.0)?,
        None => one::begin(&ask, app, &served, post.who.0)?,
    };
    if ask.stream {
        let writer = write::Lines::new(head, begun.listener);
        return crate::stream::respond(begun.said, 1, writer, app.config.ping, LINES).await;
    }
    Ok(json(head.whole(&begun.whole().await?).to_string()))
}

/// Closes the model of a request that asks for that alone, and gives its name; None where it asks for something else, or
/// for a model that is open for good.
fn closed(app: &App, body: &Value) -> Result<Option<String>> {
    let name = body["model"].as_str().or(body["name"].as_str()).filter(|_| read::closes(body));
    let Some(name) = name else { return Ok(None) };
    let shelved = app.shelved();
    let is = |wanted: &str| shelved.iter().any(|listed| listed.name == wanted);
    let Some(name) = [Some(name), name.strip_suffix(":latest")].into_iter().flatten().find(|name| is(name))
    else {
        return Ok(None);
    };
    app.shelves.iter().try_for_each(|shelf| shelf.close(name))?;
    Ok(Some(name.to_owned()))
}

/// A text that the model goes on with, outside of its template.
fn raw_text(ask: &Ask, text: &str, app: &App, served: &Served, key: u64) -> Result<Begun> {
    let prompt = served.card.tokenizer.encode_prompt(text);
    served.card.check_length(prompt.len(), "prompt")?;
    one::begin_raw(ask, prompt, app, served, key)
}

/// The model of a request; Ollama's names may end in `:latest`.
fn model(app: &App, f: &mut Fields) -> Result<Arc<Served>> {
    let name = match (f.text("model")?, f.text("name")?) {
        (Some(name), _) | (None, Some(name)) => name,
        (None, None) => return Err(missing("model")),
    };
    let bare = name.strip_suffix(":latest").filter(|bare| app.names().iter().any(|name| name == bare));
    app.model(Some(bare.unwrap_or(&name)))
}

/// An error as its clients read it: a line of text, with the code and the field beside it.
pub(super) fn error(e: &ApiError) -> Value {
    json!({ "error": e.message, "code": e.code, "param": e.param })
}

fn details(served: &Served) -> Value {
    let facts = &served.card.facts;
    let family = facts.get("architecture").and_then(Value::as_str).unwrap_or_default();
    json!({
        "parent_model": "", "format": "gguf", "family": family, "families": [family],
        "parameter_size": facts.get("n_params").and_then(Value::as_u64).map(rounded).unwrap_or_default(),
        "quantization_level": facts.get("quantization").and_then(Value::as_str).unwrap_or_default(),
    })
}

/// A number of weights as Ollama writes it, such as 8.2B.
fn rounded(count: u64) -> String {
    let count = count as f64;
    match count {
        _ if count >= 1e9 => format!("{:.1}B", count / 1e9),
        _ if count >= 1e6 => format!("{:.1}M", count / 1e6),
        _ => format!("{:.1}K", count / 1e3),
    }
}

fn entry(served: &Served) -> Value {
    let card = &served.card;
    json!({
        "name": card.id, "model": card.id, "modified_at": write::moment(card.created, 0),
        "size": card.facts.get("size").and_then(Value::as_u64).unwrap_or(0), "details": details(served),
        "digest": card.facts.get("digest").and_then(Value::as_str).unwrap_or_default(),
    })
}

/// A model of another machine.
fn elsewhere(model: &Value) -> Value {
    let family = model["meta"]["architecture"].as_str().unwrap_or_default();
    json!({
        "name": model["id"], "model": model["id"],
        "modified_at": write::moment(model["created"].as_u64().unwrap_or(0), 0),
        "size": model["meta"]["size"].as_u64().unwrap_or(0),
        "digest": model["meta"]["digest"].as_str().unwrap_or_default(),
        "details": { "parent_model": "", "format": "gguf", "family": family, "families": [family],
                     "parameter_size": "", "quantization_level": "" },
    })
}

/// GET /api/tags
pub(super) async fn tags(State(app): State<Arc<App>>) -> Response {
    let open = app.open_models();
    let shelved = app.shelved();
    let mut models: Vec<Value> = open.iter().map(|m| entry(m)).collect();
    let closed = shelved.iter().filter(|listed| !open.iter().any(|m| m.card.id == listed.name));
    models.extend(closed.map(|listed| {
        let details = json!({ "parent_model": "", "format": "gguf", "family": "", "families": [],
                              "parameter_size": "", "quantization_level": "" });
        json!({ "name": listed.name, "model": listed.name,
                "modified_at": write::moment(listed.modified.unwrap_or(app.since), 0),
                "size": listed.size.unwrap_or(0), "digest": listed.digest.clone().unwrap_or_default(),
                "details": details })
    }));
    if let Some(peers) = &app.peers {
        models.extend(peers.models().await.iter().map(elsewhere));
    }
    json(json!({ "models": models }).to_string())
}

/// GET /api/ps: the models that are open.
pub(super) async fn ps(State(app): State<Arc<App>>) -> Response {
    let loaded = |m: &Arc<Served>| {
        let mut entry = entry(m);
        entry["expires_at"] = write::moment(now() + 10 * 365 * 86_400, 0).into();
        entry["size_vram"] = entry["size"].clone();
        entry["context_length"] = m.card.context.into();
        entry
    };
    let models: Vec<Value> = app.open_models().iter().map(loaded).collect();
    json(json!({ "models": models }).to_string())
}

/// GET /api/version
pub(super) async fn version() -> Response {
    json(json!({ "version": env!("CARGO_PKG_VERSION") }).to_string())
}

pub(super) async fn show(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let mut f = Fields::body(post.body)?;
    let served = model(&app, &mut f)?;
    // It asks for the tensors, which clients show nowhere.
    f.flag("verbose")?;
    super::finish(&app, f)?;
    Ok(json(shown(&served).to_string()))
}

fn shown(served: &Served) -> Value {
    let card = &served.card;
    let template = card.template.as_ref().ok();
    let mut capabilities = Vec::new();
    if served.engine.is_some() {
        // Where a template has no place for tools, the model is told of them in its system message.
        capabilities.extend(["completion", "tools"]);
    }
    if template.is_some_and(|t| crate::tools::think_of(t, "").is_some()) {
        capabilities.push("thinking");
    }
    if served.vectors.as_ref().is_some_and(|v| !v.is_reranker) {
        capabilities.push("embedding");
    }
    let family = card.facts.get("architecture").and_then(Value::as_str).unwrap_or("model");
    let mut info = json!({ "general.architecture": family });
    info[format!("{family}.context_length")] = card.trained.into();
    info[format!("{family}.vocab_size")] = card.vocabulary.into();
    let s = &card.sampling;
    json!({
        "modified_at": write::moment(card.created, 0), "template": template.map(|t| t.source()).unwrap_or_default(),
        "parameters": format!("temperature {}\ntop_k {}\ntop_p {}\nmin_p {}", s.temperature, s.top_k, s.top_p, s.min_p),
        "details": details(served), "model_info": info, "capabilities": capabilities,
    })
}

/// POST /api/embeddings: the older route, which takes one text.
pub(super) async fn embeddings(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let mut f = Fields::body(post.body)?;
    let served = model(&app, &mut f)?;
    let text = f.need_text("prompt")?;
    if text.is_empty() {
        return Err(ApiError::value("prompt", "\"prompt\" is empty"));
    }
    read::keep_alive(&mut f)?;
    if let Some(options) = f.object("options")? {
        read::no_options(options)?;
    }
    super::finish(&app, f)?;
    let mut given = super::vectors::ask(&served, false, Texts::Each(vec![text]), "prompt").await?;
    Ok(json(json!({ "embedding": given.vectors.pop().unwrap_or_default() }).to_string()))
}

pub(super) async fn embed(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let mut f = Fields::body(post.body)?;
    let served = model(&app, &mut f)?;
    let texts = match f.need("input")? {
        Value::String(text) => vec![text],
        Value::Array(all) if all.len() <= MOST => {
            let text = |v| match v {
                Value::String(text) => Ok(text),
                other => Err(wrong("input", "a string or an array of strings", &other)),
            };
            all.into_iter().map(text).collect::<Result<_>>()?
        }
        other => return Err(wrong("input", "a string or an array of at most 2048 strings", &other)),
    };
    if texts.iter().any(String::is_empty) {
        return Err(ApiError::value("input", "\"input\" has an entry that is empty"));
    }
    let dimensions = f.whole("dimensions", 1, 1 << 20)?.map(|n| n as usize);
    // Nothing is cut in silence here, so that both its values come to the same for texts that fit.
    f.flag("truncate")?;
    read::keep_alive(&mut f)?;
    if let Some(options) = f.object("options")? {
        read::no_options(options)?;
    }
    super::finish(&app, f)?;
    let given = super::vectors::ask(&served, false, Texts::Each(texts), "input").await?;
    let mut all = given.vectors;
    super::vectors::shorten_all(&mut all, dimensions)?;
    let tokens: usize = given.tokens.iter().sum();
    let body = json!({ "model": served.card.id, "embeddings": all, "prompt_eval_count": tokens,
                       "total_duration": 0, "load_duration": 0 });
    Ok(json(body.to_string()))
}
