//! Tokens and templates, without drawing anything.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::{Post, finish, json};
use crate::app::{App, Served};
use crate::card::Rendering;
use crate::draw;
use crate::error::Result;
use crate::fields::{Fields, missing};
use crate::{ask, messages, shape};

/// The model that a request names, or the first.
fn model(app: &App, f: &mut Fields) -> Result<Arc<Served>> {
    let name = f.text("model")?;
    app.model(name.as_deref().or(app.models.first().map(|m| m.card.id.as_str())))
}

/// POST /tokenize
pub(super) async fn tokenize(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let mut f = Fields::body(post.body)?;
    let served = model(&app, &mut f)?;
    let content = f.need_text("content")?;
    let add = f.flag("add_special")?.unwrap_or(false);
    let parse = f.flag("parse_special")?.unwrap_or(true);
    let pieces = f.flag("with_pieces")?.unwrap_or(false);
    finish(&app, f)?;
    let tokenizer = &served.card.tokenizer;
    let mut ids = tokenizer.encode(&content, parse);
    if add {
        let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
        ids.splice(0..0, bos);
        ids.extend(tokenizer.eos().filter(|_| tokenizer.add_eos()));
    }
    let piece = |id: &u32| {
        let bytes = tokenizer.token_bytes(*id).unwrap_or_default();
        let piece = match String::from_utf8(bytes) {
            Ok(text) => Value::from(text),
            Err(e) => Value::from(e.into_bytes()),
        };
        json!({ "id": id, "piece": piece })
    };
    let tokens = if pieces { Value::from(ids.iter().map(piece).collect::<Vec<_>>()) } else { json!(ids) };
    Ok(json(json!({ "tokens": tokens }).to_string()))
}

/// POST /detokenize
pub(super) async fn detokenize(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let mut f = Fields::body(post.body)?;
    let served = model(&app, &mut f)?;
    let ids = draw::ids(&mut f, "tokens", served.card.vocabulary)?.ok_or_else(|| missing("tokens"))?;
    finish(&app, f)?;
    Ok(json(json!({ "content": served.card.tokenizer.decode(&ids, true) }).to_string()))
}

/// POST /apply-template
pub(super) async fn apply_template(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let mut f = Fields::body(post.body)?;
    let served = model(&app, &mut f)?;
    let messages = messages::read(&mut f, &mut None)?;
    served.card.check_names(&messages, &mut None)?;
    let (thinking, extra) = ask::thinking(&mut f, &served.card)?;
    let calls = shape::calls(&mut f)?;
    let with = Rendering { tools: None, thinking, extra, goes_on: ask::goes_on(&mut f)? };
    finish(&app, f)?;
    let (messages, with) = ask::with_tools(&served.card, &messages, with, &calls);
    Ok(json(json!({ "prompt": served.card.render(&messages, &with)? }).to_string()))
}
