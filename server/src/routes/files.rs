//! /v1/files: data for fine-tuning.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::tuning::{Asker, jobs, owner, page, query};
use super::{finish, json};
use crate::app::App;
use crate::error::{ApiError, Result};
use crate::fields::{Fields, missing};
use crate::guard::{self, Who};
use crate::tuning::{FileCard, Text};

/// Characters of a name at most.
const NAME: usize = 128;

fn entry(f: &FileCard) -> Value {
    json!({
        "object": "file", "id": f.id, "bytes": f.bytes, "created_at": f.created, "filename": f.name,
        "purpose": "fine-tune", "status": "processed",
    })
}

/// A name that can stand in a message: it is no path, and nothing is called so on the disk.
pub(super) fn check_name(name: &str) -> Result<()> {
    let known = |c: char| (c.is_alphanumeric() || " -_.()+,".contains(c)) && !c.is_control();
    if !name.is_empty() && name.chars().count() <= NAME && name.chars().all(known) && !name.starts_with('.') {
        return Ok(());
    }
    let line = format!(
        "\"filename\" must be 1 to {NAME} letters, digits, spaces and '-', '_', '.', '(', ')', '+', ',', and no path"
    );
    Err(ApiError::value("filename", line))
}

/// What is uploaded: purpose, name and content.
type Upload = (String, String, Vec<u8>);

/// POST /v1/files
pub(super) async fn create(State(app): State<Arc<App>>, request: Request) -> Result<Response> {
    let who = request.extensions().get().copied().unwrap_or(Who(0));
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let boundary = guard::boundary(kind).map(str::to_owned);
    let (purpose, name, content) = match boundary {
        Some(boundary) => form(&super::bytes(request.into_body(), &app).await?, &boundary)?,
        None => {
            let mut f = Fields::body(super::read(request.into_body(), &app).await?)?;
            let all = (f.need_text("purpose")?, f.need_text("filename")?, f.need_text("content")?);
            finish(&app, f)?;
            (all.0, all.1, all.2.into_bytes())
        }
    };
    if purpose != "fine-tune" {
        return Err(ApiError::value("purpose", "\"purpose\" is fine-tune here"));
    }
    check_name(&name)?;
    if content.trim_ascii().is_empty() {
        return Err(ApiError::value("content", "the file is empty"));
    }
    let jobs = jobs(&app)?;
    let text = Text { name, bytes: content };
    let owner = app.config.keys.owner(who);
    let card = tokio::task::block_in_place(|| jobs.add_file(&owner, text))?;
    Ok(json(entry(&card).to_string()))
}

/// The parts of a form that OpenAI's clients send: `purpose` and `file`.
fn form(body: &[u8], boundary: &str) -> Result<Upload> {
    let broken =
        || ApiError::bad("invalid_body", "the body is no form of the parts \"purpose\" and \"file\"");
    let line = format!("\r\n--{boundary}");
    let first = format!("--{boundary}\r\n");
    let mut rest = body.strip_prefix(first.as_bytes()).ok_or_else(broken)?;
    let (mut purpose, mut file) = (None, None);
    loop {
        let head_end = find(rest, b"\r\n\r\n").ok_or_else(broken)?;
        let head = std::str::from_utf8(&rest[..head_end]).map_err(|_| broken())?;
        rest = &rest[head_end + 4..];
        let end = find(rest, line.as_bytes()).ok_or_else(broken)?;
        let content = &rest[..end];
        rest = &rest[end + line.len()..];
        let disposition = head.split("\r\n").find_map(|l| {
            let (name, value) = l.split_once(':')?;
            name.eq_ignore_ascii_case("content-disposition").then_some(value)
        });
        let value = |name: &str| {
            let mut all = disposition?.split(';').map(str::trim);
            all.find_map(|p| p.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
        };
        match value("name") {
            Some("purpose") if purpose.is_none() => {
                purpose = Some(String::from_utf8(content.to_vec()).map_err(|_| broken())?);
            }
            Some("file") if file.is_none() => {
                file = Some((value("filename").unwrap_or_default().to_owned(), content.to_vec()));
            }
            Some(other) => {
                let shown: String = other.chars().take(80).collect();
                let line = format!("\"{shown}\" is not known, or stands twice; known here: purpose, file");
                return Err(ApiError::bad("unknown_parameter", line).at(shown));
            }
            None => return Err(broken()),
        }
        match rest {
            _ if rest.starts_with(b"--") => break,
            _ => rest = rest.strip_prefix(b"\r\n").ok_or_else(broken)?,
        }
    }
    let purpose = purpose.ok_or_else(|| missing("purpose"))?;
    let (name, content) = file.ok_or_else(|| missing("file"))?;
    Ok((purpose, name, content))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    // Few positions begin alike, so that this is a search for the first byte.
    let first = *what.first()?;
    let mut at = 0;
    while let Some(next) = bytes.get(at..)?.iter().position(|b| *b == first) {
        at += next;
        if bytes[at..].starts_with(what) {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// GET /v1/files
pub(super) async fn list(State(app): State<Arc<App>>, RawQuery(q): RawQuery, who: Asker) -> Result<Response> {
    let [after, limit, purpose] = query(q.as_deref(), ["after", "limit", "purpose"])?;
    let mut all = jobs(&app)?.files(&owner(&app, &who));
    all.retain(|_| purpose.is_none_or(|p| p == "fine-tune"));
    Ok(json(page(all.iter().map(entry).collect(), after, limit)?.to_string()))
}

/// GET /v1/files/{id}
pub(super) async fn one(State(app): State<Arc<App>>, Path(id): Path<String>, who: Asker) -> Result<Response> {
    Ok(json(entry(&jobs(&app)?.file(&owner(&app, &who), &id)?).to_string()))
}

/// GET /v1/files/{id}/content
pub(super) async fn content(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    who: Asker,
) -> Result<Response> {
    let (jobs, owner) = (jobs(&app)?, owner(&app, &who));
    let text = tokio::task::block_in_place(|| jobs.content(&owner, &id))?;
    let mut response = Response::new(Body::from(text.bytes));
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// DELETE /v1/files/{id}
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    who: Asker,
) -> Result<Response> {
    let (jobs, owner) = (jobs(&app)?, owner(&app, &who));
    tokio::task::block_in_place(|| jobs.remove_file(&owner, &id))?;
    Ok(json(json!({ "id": id, "object": "file", "deleted": true }).to_string()))
}
