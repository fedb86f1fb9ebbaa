//! /v1/evaluations: how good a model is on questions.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::tuning::{Asker, empty, owner, page, query};
use super::{Post, finish, json};
use crate::app::App;
use crate::error::{ApiError, Result};
use crate::exams::{Exam, Exams, Suite};
use crate::fields::{Fields, missing, wrong};
use crate::tuning::Text;

/// Questions, and tokens of an answer, at most.
const QUESTIONS: u64 = 10_000;
const TOKENS: u64 = 32_768;

fn exams(app: &App) -> Result<&Arc<Exams>> {
    app.exams.as_ref().ok_or_else(|| ApiError::missing("evaluations_off", "this server evaluates no models"))
}

fn texts(all: Option<Vec<Value>>, name: &str) -> Result<Vec<String>> {
    let text = |v: Value| match v {
        Value::String(text) => Ok(text),
        other => Err(wrong(name, "an array of strings", &other)),
    };
    all.unwrap_or_default().into_iter().map(text).collect()
}

/// POST /v1/evaluations
pub(super) async fn create(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let mut f = Fields::body(post.body)?;
    let model = f.need_text("model")?;
    let suite = f.text("suite")?;
    let domains = texts(f.list("domains", 64)?, "domains")?;
    let limit = f.whole("limit", 1, QUESTIONS)?.unwrap_or(100);
    let seed = f.whole("seed", 0, u64::from(u32::MAX))?.unwrap_or(1);
    let max_tokens = f.whole("max_tokens", 1, TOKENS)?.unwrap_or(512) as usize;
    let (content, name) = (f.text("content")?, f.text("filename")?);
    let (columns, mode) = (f.text("columns")?, f.text("mode")?);
    finish(&app, f)?;
    let suite = match suite.as_deref() {
        None | Some("curriculum") => {
            let given =
                [("content", content.is_some()), ("columns", columns.is_some()), ("mode", mode.is_some())];
            if let Some((name, _)) = given.iter().find(|g| g.1) {
                let line = format!("\"{name}\" is for the suite file");
                return Err(ApiError::unsupported(*name, line));
            }
            Suite::Curriculum(domains)
        }
        Some("file") => {
            let letters = match mode.as_deref() {
                None | Some("generate") => false,
                Some("letter") => true,
                Some(_) => return Err(ApiError::value("mode", "\"mode\" must be generate or letter")),
            };
            let bytes = content.ok_or_else(|| missing("content"))?.into_bytes();
            let name = name.unwrap_or_else(|| "questions.jsonl".into());
            super::files::check_name(&name)?;
            Suite::File { data: Text { name, bytes }, columns, letters }
        }
        Some(_) => return Err(ApiError::value("suite", "\"suite\" must be curriculum or file")),
    };
    let exams = exams(&app)?;
    let known = exams.examinees(app.jobs.as_deref());
    if !known.contains(&model) {
        let shown: String = model.chars().take(80).collect();
        let line = format!("\"{shown}\" cannot be asked here; those that can: {}", known.join(", "));
        return Err(ApiError::missing("model_not_found", line).at("model"));
    }
    let adapter = app.jobs.as_ref().and_then(|j| j.adapter(&model));
    let exam = Exam { model, adapter, suite, limit, seed, max_tokens };
    let owner = app.config.keys.owner(post.who);
    let id = app.id();
    let one = tokio::task::block_in_place(|| exams.create(&owner, exam, id))?;
    Ok(json(one.to_string()))
}

/// GET /v1/evaluations
pub(super) async fn list(State(app): State<Arc<App>>, RawQuery(q): RawQuery, who: Asker) -> Result<Response> {
    let [after, limit] = query(q.as_deref(), ["after", "limit"])?;
    let mut all = page(exams(&app)?.lane.list(&owner(&app, &who)), after, limit)?;
    all["models"] = json!(exams(&app)?.examinees(app.jobs.as_deref()));
    Ok(json(all.to_string()))
}

/// GET /v1/evaluations/{id}
pub(super) async fn one(State(app): State<Arc<App>>, Path(id): Path<String>, who: Asker) -> Result<Response> {
    Ok(json(exams(&app)?.lane.find(&owner(&app, &who), &id)?.to_string()))
}

/// POST /v1/evaluations/{id}/cancel
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    who: Asker,
    body: Body,
) -> Result<Response> {
    empty(&app, body).await?;
    Ok(json(exams(&app)?.lane.cancel(&owner(&app, &who), &id)?.to_string()))
}
