//! /v1/documents: files that are kept with their vectors, and passages of them that answer a question.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};
use weft_documents::{Added, Record};
use weft_formats::base64;

use super::{Post, json};
use crate::app::App;
use crate::documents::Documents;
use crate::error::{ApiError, Result};
use crate::fields::{Fields, missing};

/// Letters of a name at most.
const LONGEST_NAME: usize = 255;

fn documents(app: &App) -> Result<&Arc<Documents>> {
    app.documents.as_ref().ok_or_else(|| {
        let line = "this server keeps no documents; start it with \"weft serve --documents documents.redb --embedder \
                    EMBEDDER.gguf\"";
        ApiError::missing("documents_not_served", line)
    })
}

fn value(record: &Record) -> Value {
    json!({
        "id": record.id, "object": "document", "name": record.name, "kind": record.kind.name(), "bytes": record.bytes,
        "pages": record.pages, "passages": record.passages, "tokens": record.tokens, "created": record.created,
    })
}

/// GET /v1/documents
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Response> {
    let documents = documents(&app)?;
    let data: Vec<Value> = documents.store.list().iter().map(value).collect();
    let adding: Vec<Value> = documents
        .adding()
        .into_iter()
        .map(|a| json!({ "name": a.name, "passages_done": a.done, "passages": a.of }))
        .collect();
    let (embedder, reranker) = documents.models();
    let list = json!({ "object": "list", "data": data, "adding": adding, "embedder": embedder, "reranker": reranker });
    Ok(json(list.to_string()))
}

/// POST /v1/documents
pub(super) async fn add(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let mut f = Fields::body(post.body)?;
    let name = f.need_text("name")?;
    let (text, content) = (f.text("text")?, f.text("content")?);
    super::finish(&app, f)?;
    let documents = documents(&app)?;
    let plain = !name.trim().is_empty() && !name.contains(|c: char| c.is_control() || c == '/' || c == '\\');
    if !plain || name.len() > LONGEST_NAME {
        let line =
            format!("\"name\" must be the name of a file, of at most {LONGEST_NAME} bytes, without folders");
        return Err(ApiError::value("name", line));
    }
    let bytes = match (text, content) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(content)) => base64::decode(&content).ok_or_else(|| {
            ApiError::value("content", "\"content\" must be the bytes of the file in base64")
        })?,
        (Some(_), Some(_)) => {
            return Err(ApiError::value("content", "\"text\" and \"content\" cannot be given both"));
        }
        (None, None) => return Err(missing("content")),
    };
    let added = documents.add(name, bytes).await?;
    let mut answer = value(added.record());
    answer["known"] = matches!(added, Added::Known(_)).into();
    Ok(json(answer.to_string()))
}

/// DELETE /v1/documents/{id}
pub(super) async fn delete(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Response> {
    let documents = documents(&app)?;
    let removed = tokio::task::block_in_place(|| documents.store.remove(&id));
    match removed.map_err(|e| ApiError::fault(e.to_string()))? {
        Some(_) => Ok(json(json!({ "id": id, "object": "document", "deleted": true }).to_string())),
        None => {
            let shown: String = id.chars().take(80).collect();
            Err(ApiError::missing("document_not_found", format!("there is no document \"{shown}\" here")))
        }
    }
}

/// POST /v1/documents/search
pub(super) async fn search(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let mut f = Fields::body(post.body)?;
    let query = f.need_text("query")?;
    let top = f.whole("top_n", 1, 100)?.unwrap_or(5) as usize;
    let judge = f.flag("rerank")?;
    super::finish(&app, f)?;
    let documents = documents(&app)?;
    if query.trim().is_empty() {
        return Err(ApiError::value("query", "\"query\" is empty"));
    }
    if judge == Some(true) && documents.models().1.is_none() {
        let line = "\"rerank\" needs a server that was started with --reranker FILE";
        return Err(ApiError::unsupported("rerank", line));
    }
    let hits = documents.find(query, top, judge.unwrap_or(true)).await?;
    Ok(json(json!({ "object": "list", "data": hits }).to_string()))
}
