//! From what the engine says to what a client is told: the pieces that all formats share.

use axum::response::Response;
use serde_json::json;
use weft_models::engine::{Finish, Logprobs, Usage};

use crate::card::Card;
use crate::engine::Fault;
use crate::error::ApiError;

/// OpenAI's word for why an answer ended.
pub(crate) fn reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::EndOfText | Finish::StopString(_) | Finish::StopToken(_) => "stop",
        Finish::MaxTokens | Finish::Context => "length",
    }
}

/// What a client is told of a fault.
pub(crate) fn fault(fault: Fault) -> ApiError {
    match fault {
        Fault::Refused(why) => ApiError::bad("invalid_value", why),
        Fault::Failed(why) => ApiError::fault(why),
        Fault::Overdue(waited) => {
            let line = format!("no slot became free within {:.0} s; try again later", waited.as_secs_f64());
            ApiError::unavailable("overloaded", line, 10)
        }
        Fault::Ending => ApiError::unavailable("ending", "the server is ending", 10),
        Fault::Lost(why) => {
            ApiError::unavailable("engine_lost", format!("the engine is started again, because: {why}"), 5)
        }
    }
}

/// The sum of what the answers to one prompt took.
pub(crate) fn sum(all: &[Usage]) -> Usage {
    let mut sum = Usage::default();
    for u in all {
        sum.prompt = u.prompt;
        sum.cached = sum.cached.max(u.cached);
        sum.generated += u.generated;
        sum.drafted = (sum.drafted.0 + u.drafted.0, sum.drafted.1 + u.drafted.1);
        sum.queued = sum.queued.max(u.queued);
        sum.prefill = sum.prefill.max(u.prefill);
        sum.decode = sum.decode.max(u.decode);
    }
    sum
}

/// OpenAI's `usage`, with how long things took beside it.
pub(crate) fn usage_json(u: &Usage, reasoning: usize) -> String {
    let ms = |d: std::time::Duration| (d.as_secs_f64() * 1e4).round() / 10.0;
    let mut told =
        json!({ "queue_ms": ms(u.queued), "prefill_ms": ms(u.prefill), "decode_ms": ms(u.decode) });
    if u.drafted.0 > 0 {
        told["draft_n"] = u.drafted.0.into();
        told["draft_n_accepted"] = u.drafted.1.into();
    }
    json!({
        "prompt_tokens": u.prompt,
        "completion_tokens": u.generated,
        "total_tokens": u.prompt + u.generated,
        "prompt_tokens_details": { "cached_tokens": u.cached },
        "completion_tokens_details": { "reasoning_tokens": reasoning },
        "x_weft": told,
    })
    .to_string()
}

/// Tells in the head of an answer how many requests waited before it, and of a whole one what took how long.
pub(crate) fn time_headers(response: &mut Response, ahead: usize, usage: Option<&Usage>) {
    let headers = response.headers_mut();
    headers.insert("x-weft-queue-position", ahead.into());
    let Some(u) = usage else { return };
    for (name, value) in [
        ("x-weft-queue-ms", u.queued.as_millis() as u64),
        ("x-weft-prefill-ms", u.prefill.as_millis() as u64),
        ("x-weft-decode-ms", u.decode.as_millis() as u64),
        ("x-weft-cached-tokens", u.cached as u64),
    ] {
        headers.insert(name, value.into());
    }
    if u.drafted.0 > 0 {
        headers.insert("x-weft-draft-tokens", u.drafted.0.into());
        headers.insert("x-weft-draft-tokens-accepted", u.drafted.1.into());
    }
}

/// Appends a text as a JSON string.
pub(crate) fn push_string(to: &mut Vec<u8>, text: &str) {
    // Writing into memory cannot fail.
    let _ = serde_json::to_writer(to, text);
}

/// Numbers of JSON are finite, and OpenAI's least log-probability is this.
fn finite(logprob: f32) -> f32 {
    logprob.max(-9999.0)
}

fn push_token(to: &mut Vec<u8>, card: &Card, id: u32, logprob: f32) {
    let (text, bytes) = card.token(id);
    to.extend_from_slice(b"{\"token\":");
    push_string(to, &text);
    to.extend_from_slice(format!(",\"logprob\":{:?},\"bytes\":[", finite(logprob)).as_bytes());
    for (i, b) in bytes.iter().enumerate() {
        to.extend_from_slice(format!("{}{b}", if i > 0 { "," } else { "" }).as_bytes());
    }
    to.extend_from_slice(b"]");
}

/// Appends an entry of a chat's `logprobs.content`.
pub(crate) fn push_logprobs(to: &mut Vec<u8>, card: &Card, token: u32, l: &Logprobs) {
    if to.last().is_some_and(|b| *b == b'}') {
        to.push(b',');
    }
    push_token(to, card, token, l.logprob);
    to.extend_from_slice(b",\"top_logprobs\":[");
    for (i, (id, logprob)) in l.top.iter().enumerate() {
        if i > 0 {
            to.push(b',');
        }
        push_token(to, card, *id, *logprob);
        to.push(b'}');
    }
    to.extend_from_slice(b"]}");
}
