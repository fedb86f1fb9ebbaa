//! POST /v1/chat/completions

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use weft_models::engine::{Finish, Usage};

use super::{Post, json};
use crate::app::{App, Served, no_room, now};
use crate::ask::Ask;
use crate::card::Card;
use crate::draw;
use crate::engine::Said;
use crate::error::Result;
use crate::fields::Fields;
use crate::reader::{Parts, Reader};
use crate::said::{push_logprobs, push_string, reason, sum, time_headers, usage_json};
use crate::stream::{self, Token, Whole, Write};
use crate::tools::Piece;

pub(super) async fn chat(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let mut f = Fields::body(post.body)?;
    let name = draw::model_name(&mut f, app.config.lenient)?;
    let served = app.model(name.as_deref())?;
    let engine = served.engine()?.clone();
    let resumable = app.streams.asked(&mut f, post.who)?;
    let ask = Ask::read(f, &app, &served.card)?;
    let prepared = ask.prepare(&served, post.who.0)?;
    let ahead = engine.load().0;
    let said = engine.submit(prepared.requests, post.who.0).map_err(no_room)?;
    let seed = app.id();
    let readers =
        (0..ask.draw.n).map(|i| Reader::new(&prepared.reading, seed.wrapping_add(i.into()))).collect();
    let head = Head { id: format!("chatcmpl-{seed:016x}"), created: now(), served };
    if ask.stream {
        let writer = Chunks::new(head, &ask, readers);
        let kept = resumable.then(|| format!("chatcmpl-{seed:016x}"));
        let mut response = stream::events(&app, said, ask.draw.n, writer, (kept, post.who)).await?;
        time_headers(&mut response, ahead, None);
        return Ok(response);
    }
    let whole = stream::collect(said, ask.draw.n).await?;
    let usage: Vec<Usage> = whole.iter().map(|w| w.usage).collect();
    let mut response = json(answer(&head, &ask, readers, whole));
    time_headers(&mut response, ahead, Some(&sum(&usage)));
    Ok(response)
}

/// What all parts of an answer have in common.
struct Head {
    id: String,
    created: u64,
    served: Arc<Served>,
}

impl Head {
    /// The beginning of an object, up to its first own field.
    fn open(&self, object: &str) -> Vec<u8> {
        let mut to = format!(
            "{{\"id\":\"{}\",\"object\":\"{object}\",\"created\":{},\"model\":",
            self.id, self.created
        )
        .into_bytes();
        push_string(&mut to, &self.served.card.id);
        to.push(b',');
        to
    }
}

/// Why an answer ended, to a client: calls come before the end that the model set.
fn why(finish: &Finish, reader: &Reader) -> &'static str {
    match reason(finish) {
        "stop" if reader.has_calls() => "tool_calls",
        other => other,
    }
}

/// The answer as one object.
fn answer(head: &Head, ask: &Ask, readers: Vec<Reader>, all: Vec<Whole>) -> Vec<u8> {
    let mut to = head.open("chat.completion");
    to.extend_from_slice(b"\"choices\":[");
    let (mut usage, mut reasoning) = (Vec::new(), 0);
    for (i, (whole, mut reader)) in all.into_iter().zip(readers).enumerate() {
        if i > 0 {
            to.push(b',');
        }
        let (mut parts, mut pieces) = (Parts::default(), Vec::new());
        for token in &whole.tokens {
            reader.token(&token.text, &mut pieces);
            parts.add(pieces.drain(..));
        }
        reader.finish(&whole.rest, &mut pieces);
        parts.add(pieces.drain(..));
        to.extend_from_slice(format!("{{\"index\":{i},\"message\":").as_bytes());
        push_message(&mut to, &parts);
        to.extend_from_slice(b",\"logprobs\":");
        match ask.draw.logprobs {
            Some(_) => push_entries(&mut to, &head.served.card, &whole.tokens),
            None => to.extend_from_slice(b"null"),
        }
        to.extend_from_slice(format!(",\"finish_reason\":\"{}\"}}", why(&whole.reason, &reader)).as_bytes());
        usage.push(whole.usage);
        reasoning += reader.reasoning;
    }
    to.extend_from_slice(format!("],\"usage\":{}}}", usage_json(&sum(&usage), reasoning)).as_bytes());
    to
}

fn push_entries(to: &mut Vec<u8>, card: &Card, tokens: &[Token]) {
    let mut entries = Vec::new();
    for token in tokens {
        if let Some(l) = &token.logprobs {
            push_logprobs(&mut entries, card, token.id, l);
        }
    }
    to.extend_from_slice(b"{\"content\":[");
    to.extend_from_slice(&entries);
    to.extend_from_slice(b"],\"refusal\":null}");
}

fn push_message(to: &mut Vec<u8>, parts: &Parts) {
    to.extend_from_slice(b"{\"role\":\"assistant\",\"content\":");
    match parts.content.is_empty() && !parts.calls.is_empty() {
        true => to.extend_from_slice(b"null"),
        false => push_string(to, &parts.content),
    }
    to.extend_from_slice(b",\"refusal\":null");
    if !parts.reasoning.is_empty() {
        to.extend_from_slice(b",\"reasoning_content\":");
        push_string(to, &parts.reasoning);
    }
    for (i, call) in parts.calls.iter().enumerate() {
        to.extend_from_slice(if i == 0 { b",\"tool_calls\":[" } else { b"," });
        push_call(to, None, &call.id, &call.name, &call.arguments);
    }
    to.extend_from_slice(if parts.calls.is_empty() { b"}" } else { b"]}" });
}

/// A call; in a stream it has an index.
fn push_call(to: &mut Vec<u8>, index: Option<usize>, id: &str, name: &str, arguments: &str) {
    to.push(b'{');
    if let Some(index) = index {
        to.extend_from_slice(format!("\"index\":{index},").as_bytes());
    }
    to.extend_from_slice(b"\"id\":");
    push_string(to, id);
    to.extend_from_slice(b",\"type\":\"function\",\"function\":{\"name\":");
    push_string(to, name);
    to.extend_from_slice(b",\"arguments\":");
    push_string(to, arguments);
    to.extend_from_slice(b"}}");
}

/// The delta that a piece is.
fn push_delta(to: &mut Vec<u8>, piece: &Piece) {
    match piece {
        Piece::Content(text) => {
            to.extend_from_slice(b"\"content\":");
            push_string(to, text);
        }
        Piece::Reasoning(text) => {
            to.extend_from_slice(b"\"reasoning_content\":");
            push_string(to, text);
        }
        Piece::Call { index, id, name } => {
            to.extend_from_slice(b"\"tool_calls\":[");
            push_call(to, Some(*index), id, name, "");
            to.push(b']');
        }
        Piece::Arguments { index, text } => {
            to.extend_from_slice(
                format!("\"tool_calls\":[{{\"index\":{index},\"function\":{{\"arguments\":").as_bytes(),
            );
            push_string(to, text);
            to.extend_from_slice(b"}}]");
        }
    }
}

/// What the chunks of one answer have written so far.
struct Choice {
    opened: bool,
    /// Entries of log-probabilities whose text is held back.
    logprobs: Vec<u8>,
    reader: Reader,
}

/// Writes chunks.
struct Chunks {
    head: Head,
    /// `data: {"id":...,` up to the first field that differs.
    open: Vec<u8>,
    /// What stands behind the choices of each chunk.
    close: &'static [u8],
    choices: Vec<Choice>,
    pieces: Vec<Piece>,
    logprobs: bool,
    usage: bool,
    progress: bool,
    all: Vec<Usage>,
}

impl Chunks {
    fn new(head: Head, ask: &Ask, readers: Vec<Reader>) -> Chunks {
        let mut open = b"data: ".to_vec();
        open.extend(head.open("chat.completion.chunk"));
        let choice = |reader| Choice { opened: false, logprobs: Vec::new(), reader };
        Chunks {
            head,
            open,
            close: if ask.usage { b"}],\"usage\":null}\n\n" } else { b"}]}\n\n" },
            choices: readers.into_iter().map(choice).collect(),
            pieces: Vec::new(),
            logprobs: ask.draw.logprobs.is_some(),
            usage: ask.usage,
            progress: ask.progress,
            all: Vec::new(),
        }
    }

    /// Writes a chunk whose delta `delta` writes.
    fn chunk(
        &mut self,
        index: u32,
        reason: Option<&str>,
        to: &mut Vec<u8>,
        delta: impl FnOnce(&mut Vec<u8>),
    ) {
        to.extend_from_slice(&self.open);
        to.extend_from_slice(b"\"choices\":[{\"index\":");
        to.extend_from_slice(index.to_string().as_bytes());
        to.extend_from_slice(b",\"delta\":{");
        delta(to);
        to.push(b'}');
        if self.logprobs {
            let entries = std::mem::take(&mut self.choices[index as usize].logprobs);
            if entries.is_empty() {
                to.extend_from_slice(b",\"logprobs\":null");
            } else {
                to.extend_from_slice(b",\"logprobs\":{\"content\":[");
                to.extend_from_slice(&entries);
                to.extend_from_slice(b"],\"refusal\":null}");
            }
        }
        match reason {
            None => to.extend_from_slice(b",\"finish_reason\":null"),
            Some(reason) => to.extend_from_slice(format!(",\"finish_reason\":\"{reason}\"").as_bytes()),
        }
        to.extend_from_slice(self.close);
    }

    /// Writes a chunk for each of the pieces that are there.
    fn pieces(&mut self, index: u32, to: &mut Vec<u8>) {
        let mut pieces = std::mem::take(&mut self.pieces);
        for piece in pieces.drain(..) {
            self.chunk(index, None, to, |to| push_delta(to, &piece));
        }
        self.pieces = pieces;
    }
}

impl Write for Chunks {
    fn write(&mut self, index: u32, said: Said, to: &mut Vec<u8>) -> Result<()> {
        if !std::mem::replace(&mut self.choices[index as usize].opened, true) {
            self.chunk(index, None, to, |to| {
                to.extend_from_slice(b"\"role\":\"assistant\",\"content\":\"\"")
            });
        }
        match said {
            Said::Progress { done, total } if self.progress => {
                to.extend_from_slice(&self.open);
                let choice = format!("{{\"index\":{index},\"delta\":{{}},\"finish_reason\":null}}");
                let progress = format!("{{\"processed\":{done},\"total\":{total}}}");
                to.extend_from_slice(
                    format!("\"choices\":[{choice}],\"prompt_progress\":{progress}}}\n\n").as_bytes(),
                );
            }
            Said::Token { token, text, logprobs } => {
                if let Some(l) = logprobs {
                    let mut entries = std::mem::take(&mut self.choices[index as usize].logprobs);
                    push_logprobs(&mut entries, &self.head.served.card, token, &l);
                    self.choices[index as usize].logprobs = entries;
                }
                self.choices[index as usize].reader.token(&text, &mut self.pieces);
                self.pieces(index, to);
            }
            Said::Finished { reason: finish, text, usage } => {
                self.choices[index as usize].reader.finish(&text, &mut self.pieces);
                self.pieces(index, to);
                let why = why(&finish, &self.choices[index as usize].reader);
                self.chunk(index, Some(why), to, |_| ());
                self.all.push(usage);
            }
            Said::Started { .. } | Said::Progress { .. } | Said::Prompt { .. } | Said::Failed(_) => {}
        }
        Ok(())
    }

    fn end(&mut self, to: &mut Vec<u8>) {
        if self.usage {
            to.extend_from_slice(&self.open);
            let reasoning = self.choices.iter().map(|c| c.reader.reasoning).sum();
            let usage = usage_json(&sum(&self.all), reasoning);
            to.extend_from_slice(format!("\"choices\":[],\"usage\":{usage}}}\n\n").as_bytes());
        }
        to.extend_from_slice(b"data: [DONE]\n\n");
    }
}
