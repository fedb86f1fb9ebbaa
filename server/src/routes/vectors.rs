//! POST /v1/embeddings and /v1/rerank

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::{Post, json};
use crate::app::{App, Served};
use crate::draw;
use crate::engine::{Given, NoVectors, Texts};
use crate::error::{ApiError, Result};
use crate::fields::{Fields, missing, wrong};

/// Texts of a request at most, as OpenAI has it.
const MOST: usize = 2048;

fn refused(param: &'static str) -> impl Fn(NoVectors) -> ApiError {
    move |e| match e {
        NoVectors::Full => ApiError::unavailable("overloaded", "the queue is full; try again later", 1),
        NoVectors::Refused(why) => ApiError::value(param, why),
        NoVectors::TooLong { why, tokens, room } => ApiError::too_long(why, tokens, room).at(param),
        NoVectors::Failed(why) => ApiError::fault(why),
    }
}

/// What a model is for, where it is not what is asked of it.
fn other(served: &Served) -> &'static str {
    match &served.vectors {
        Some(v) if v.is_reranker => "is a reranker; ask it at /v1/rerank",
        Some(_) => "gives vectors; ask it at /v1/embeddings",
        None => "writes text; ask it at /v1/chat/completions",
    }
}

pub(super) async fn ask(served: &Served, reranker: bool, texts: Texts, param: &'static str) -> Result<Given> {
    match &served.vectors {
        Some(v) if v.is_reranker == reranker => v.ask(texts).await.map_err(refused(param)),
        _ => {
            let line = format!("\"{}\" {}", served.card.id, other(served));
            Err(ApiError::unsupported("model", line))
        }
    }
}

/// The texts of `input`: a string or token ids, or an array of either.
fn input(value: Value, vocabulary: u32) -> Result<Texts> {
    const WANTED: &str = "a string, an array of token ids, or an array of either";
    let empty = || ApiError::value("input", "\"input\" has an entry that is empty");
    let ids =
        |list: &[Value]| list.iter().map(|v| draw::id(v, "input", vocabulary)).collect::<Result<Vec<_>>>();
    let list = match value {
        Value::String(text) if text.is_empty() => return Err(empty()),
        Value::String(text) => return Ok(Texts::Each(vec![text])),
        Value::Array(list) if list.is_empty() => return Err(ApiError::value("input", "\"input\" is empty")),
        Value::Array(list) if list[0].is_number() => return Ok(Texts::Tokens(vec![ids(&list)?])),
        Value::Array(list) if list.len() > MOST => {
            let line = format!("\"input\" has {} entries; at most {MOST} are taken", list.len());
            return Err(ApiError::value("input", line));
        }
        Value::Array(list) => list,
        other => return Err(wrong("input", WANTED, &other)),
    };
    if list[0].is_string() {
        let text = |v| match v {
            Value::String(text) if text.is_empty() => Err(empty()),
            Value::String(text) => Ok(text),
            other => Err(wrong("input", WANTED, &other)),
        };
        return list.into_iter().map(text).collect::<Result<Vec<_>>>().map(Texts::Each);
    }
    let tokens = |v: &Value| match v {
        Value::Array(list) if list.is_empty() => Err(empty()),
        Value::Array(list) => ids(list),
        other => Err(wrong("input", WANTED, other)),
    };
    list.iter().map(tokens).collect::<Result<Vec<_>>>().map(Texts::Tokens)
}

/// The first values of a vector, of length 1 again.
fn shorten(vector: &mut Vec<f32>, dimensions: usize) {
    vector.truncate(dimensions);
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
}

/// The first values of each vector, if fewer are asked for than there are.
pub(super) fn shorten_all(vectors: &mut [Vec<f32>], dimensions: Option<usize>) -> Result<()> {
    let width = vectors.first().map_or(0, Vec::len);
    match dimensions {
        Some(n) if n > width => {
            let line = format!(
                "\"dimensions\" must be from 1 to {width}, the values of this model's vectors, not {n}"
            );
            Err(ApiError::value("dimensions", line))
        }
        Some(n) => {
            vectors.iter_mut().for_each(|v| shorten(v, n));
            Ok(())
        }
        None => Ok(()),
    }
}

pub(super) async fn embeddings(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let mut f = Fields::body(post.body)?;
    let name = draw::model_name(&mut f, app.config.lenient)?;
    let served = app.model(name.as_deref())?;
    let texts = input(f.need("input")?, served.card.vocabulary)?;
    let base64 = f.choice("encoding_format", &["float", "base64"])? == Some("base64");
    let dimensions = f.whole("dimensions", 1, 1 << 20)?.map(|n| n as usize);
    f.ignore(&["user"])?;
    super::finish(&app, f)?;
    let mut given = ask(&served, false, texts, "input").await?;
    shorten_all(&mut given.vectors, dimensions)?;
    let entry = |(index, vector): (usize, &Vec<f32>)| {
        let embedding = if base64 { Value::from(base64_of(vector)) } else { json!(vector) };
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    };
    let data: Vec<Value> = given.vectors.iter().enumerate().map(entry).collect();
    let tokens: usize = given.tokens.iter().sum();
    let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    Ok(json(json!({ "object": "list", "data": data, "model": served.card.id, "usage": usage }).to_string()))
}

/// f32 in little-endian order, in base64.
fn base64_of(vector: &[f32]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group.iter().enumerate().fold(0u32, |w, (i, b)| w | u32::from(*b) << (16 - 8 * i));
        for i in 0..4 {
            match i <= group.len() {
                true => out.push(DIGITS[(word >> (18 - 6 * i)) as usize & 63].into()),
                false => out.push('='),
            }
        }
    }
    out
}

pub(super) async fn rerank(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let mut f = Fields::body(post.body)?;
    let name = draw::model_name(&mut f, app.config.lenient)?;
    let served = app.model(name.as_deref())?;
    let query = f.need_text("query")?;
    let text = |(i, v)| match v {
        Value::String(text) => Ok(text),
        Value::Object(_) => Fields::inner(v, &format!("documents[{i}]"))?.need_text("text"),
        other => Err(wrong(&format!("documents[{i}]"), "a string or an object with \"text\"", &other)),
    };
    let documents = f.list("documents", MOST)?.ok_or_else(|| missing("documents"))?;
    let documents = documents.into_iter().enumerate().map(text).collect::<Result<Vec<String>>>()?;
    if documents.is_empty() {
        return Err(ApiError::value("documents", "\"documents\" is empty"));
    }
    let top = f.whole("top_n", 1, 1 << 31)?.map_or(usize::MAX, |n| n as usize);
    let whole = f.flag("return_documents")?.unwrap_or(false);
    super::finish(&app, f)?;
    let given = ask(&served, true, Texts::Pairs(query, documents.clone()), "documents").await?;
    let mut ranks: Vec<(usize, f32)> =
        given.vectors.iter().enumerate().map(|(i, v)| (i, v.first().copied().unwrap_or(f32::NAN))).collect();
    // Equal scores stay in the documents' order.
    ranks.sort_by(|a, b| b.1.total_cmp(&a.1));
    let entry = |(index, score): (usize, f32)| {
        let mut entry = json!({ "index": index, "relevance_score": score });
        if whole {
            entry["document"] = json!({ "text": documents[index] });
        }
        entry
    };
    let results: Vec<Value> = ranks.into_iter().take(top).map(entry).collect();
    let tokens: usize = given.tokens.iter().sum();
    let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    Ok(json(
        json!({ "object": "list", "model": served.card.id, "results": results, "usage": usage }).to_string(),
    ))
}

#[cfg(test)]
mod tests {
    use super::{base64_of, shorten};

    #[test]
    fn vectors_are_written_as_clients_read_them() {
        // Python: base64.b64encode(numpy.array([...], "<f4"))
        assert_eq!(base64_of(&[1.0]), "AACAPw==");
        assert_eq!(base64_of(&[1.0, -2.5]), "AACAPwAAIMA=");
        assert_eq!(base64_of(&[0.5, 0.25, 3.0]), "AAAAPwAAgD4AAEBA");
        let mut v = vec![3.0, 4.0, 12.0];
        shorten(&mut v, 2);
        assert_eq!(v, [0.6, 0.8]);
    }
}
