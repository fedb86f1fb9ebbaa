//! What clients of /v1/responses are told.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::app::App;
use crate::engine::Said;
use crate::error::{ApiError, Result};
use crate::one::{End, Listener, Reply, Took};
use crate::store::Record;
use crate::stream::Write;
use crate::tools::Piece;

/// What all parts of an answer have in common.
pub(super) struct Head {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
    /// What is repeated of the request.
    pub(super) echo: Value,
}

/// Where an answer is kept.
pub(super) struct Keep {
    pub(super) app: Arc<App>,
    pub(super) record: Record,
}

impl Keep {
    /// Keeps it.
    pub(super) fn keep(self, id: &str, response: &Value) -> Result<()> {
        let record = self.record.with(response.clone());
        tokio::task::block_in_place(|| super::store(&self.app)?.put(id, record).map_err(ApiError::fault))
    }
}

impl Head {
    /// The answer with these items, as it stands.
    fn response(&self, output: &[Value], end: Option<(&End, &Took)>) -> Value {
        let mut all = json!({ "id": self.id, "object": "response", "created_at": self.created });
        let length = end.is_some_and(|(e, _)| *e == End::Length);
        all["status"] = match (end, length) {
            (None, _) => "in_progress",
            (_, true) => "incomplete",
            _ => "completed",
        }
        .into();
        all["error"] = Value::Null;
        all["incomplete_details"] =
            if length { json!({ "reason": "max_output_tokens" }) } else { Value::Null };
        all["model"] = self.model.as_str().into();
        all["output"] = output.into();
        for (name, value) in self.echo.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        all["usage"] = end.map_or(Value::Null, |(_, took)| usage(took));
        all
    }

    /// The id of the item of this number.
    fn item(&self, kind: &str, number: usize) -> String {
        format!("{kind}_{}_{number}", self.id.trim_start_matches("resp_"))
    }

    /// The answer as one object.
    pub(super) fn whole(&self, reply: &Reply) -> Value {
        let mut output = Vec::new();
        let status = if reply.end == End::Length { "incomplete" } else { "completed" };
        if !reply.parts.reasoning.is_empty() {
            output.push(reasoning(&self.item("rs", output.len()), &reply.parts.reasoning));
        }
        if !reply.parts.content.is_empty() || (output.is_empty() && reply.parts.calls.is_empty()) {
            output.push(message(&self.item("msg", output.len()), &reply.parts.content, status));
        }
        for call in &reply.parts.calls {
            output.push(function(
                &self.item("fc", output.len()),
                &call.id,
                &call.name,
                (&call.arguments, status),
            ));
        }
        self.response(&output, Some((&reply.end, &reply.took)))
    }
}

fn usage(took: &Took) -> Value {
    let u = &took.usage;
    json!({
        "input_tokens": u.prompt, "input_tokens_details": { "cached_tokens": u.cached },
        "output_tokens": u.generated, "output_tokens_details": { "reasoning_tokens": took.reasoning },
        "total_tokens": u.prompt + u.generated,
    })
}

fn reasoning(id: &str, text: &str) -> Value {
    let content = json!([{ "type": "reasoning_text", "text": text }]);
    json!({ "type": "reasoning", "id": id, "summary": [], "content": content, "status": "completed" })
}

fn message(id: &str, text: &str, status: &str) -> Value {
    let content = json!([part(text)]);
    json!({ "type": "message", "id": id, "role": "assistant", "status": status, "content": content })
}

fn part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

fn function(id: &str, call: &str, name: &str, (arguments, status): (&str, &str)) -> Value {
    json!({ "type": "function_call", "id": id, "call_id": call, "name": name, "arguments": arguments, "status": status })
}

/// The item that is open.
enum Open {
    Reasoning(String),
    Message(String),
    Call { call: String, name: String, arguments: String },
}

/// Writes events.
pub(super) struct Events {
    head: Head,
    listener: Listener,
    keep: Option<Keep>,
    number: u64,
    open: Option<(String, Open)>,
    output: Vec<Value>,
}

impl Events {
    pub(super) fn new(head: Head, listener: Listener, keep: Option<Keep>) -> Events {
        Events { head, listener, keep, number: 0, open: None, output: Vec::new() }
    }

    fn event(&mut self, kind: &str, data: Value, to: &mut Vec<u8>) {
        let mut all = json!({ "type": kind, "sequence_number": self.number });
        for (name, value) in data.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        self.number += 1;
        to.extend_from_slice(format!("event: {kind}\ndata: {all}\n\n").as_bytes());
    }

    /// The fields that tell where something belongs.
    fn place(&self, id: &str) -> Value {
        json!({ "item_id": id, "output_index": self.output.len() })
    }

    fn at(&self, id: &str, more: Value) -> Value {
        let mut all = self.place(id);
        for (name, value) in more.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        all
    }

    fn begin(&mut self, kind: &str, open: Open, to: &mut Vec<u8>) {
        self.close(false, to);
        let id = self.head.item(kind, self.output.len());
        let (item, part) = match &open {
            Open::Reasoning(_) => {
                let item = json!({ "type": "reasoning", "id": id, "summary": [], "content": [], "status": "in_progress" });
                (item, Some(json!({ "type": "reasoning_text", "text": "" })))
            }
            Open::Message(_) => {
                let item = json!({ "type": "message", "id": id, "role": "assistant", "status": "in_progress", "content": [] });
                (item, Some(part("")))
            }
            Open::Call { call, name, .. } => (function(&id, call, name, ("", "in_progress")), None),
        };
        let index = self.output.len();
        self.event("response.output_item.added", json!({ "output_index": index, "item": item }), to);
        if let Some(part) = part {
            let data = self.at(&id, json!({ "content_index": 0, "part": part }));
            self.event("response.content_part.added", data, to);
        }
        self.open = Some((id, open));
    }

    /// Ends the item that is open; `cut` says whether the answer had no more room.
    fn close(&mut self, cut: bool, to: &mut Vec<u8>) {
        let Some((id, open)) = self.open.take() else { return };
        let status = if cut { "incomplete" } else { "completed" };
        let item = match open {
            Open::Reasoning(text) => {
                let done = self.at(&id, json!({ "content_index": 0, "text": text }));
                self.event("response.reasoning_text.done", done, to);
                let part = json!({ "type": "reasoning_text", "text": text });
                let done = self.at(&id, json!({ "content_index": 0, "part": part }));
                self.event("response.content_part.done", done, to);
                reasoning(&id, &text)
            }
            Open::Message(text) => {
                let done = self.at(&id, json!({ "content_index": 0, "text": text, "logprobs": [] }));
                self.event("response.output_text.done", done, to);
                let done = self.at(&id, json!({ "content_index": 0, "part": part(&text) }));
                self.event("response.content_part.done", done, to);
                message(&id, &text, status)
            }
            Open::Call { call, name, arguments } => {
                let done = self.at(&id, json!({ "name": name, "arguments": arguments }));
                self.event("response.function_call_arguments.done", done, to);
                function(&id, &call, &name, (&arguments, status))
            }
        };
        let index = self.output.len();
        self.event("response.output_item.done", json!({ "output_index": index, "item": item }), to);
        self.output.push(item);
    }

    fn piece(&mut self, piece: Piece, to: &mut Vec<u8>) {
        match (&piece, &self.open) {
            (Piece::Reasoning(_), Some((_, Open::Reasoning(_))))
            | (Piece::Content(_), Some((_, Open::Message(_)))) => {}
            (Piece::Reasoning(_), _) => self.begin("rs", Open::Reasoning(String::new()), to),
            (Piece::Content(_), _) => self.begin("msg", Open::Message(String::new()), to),
            (Piece::Call { id, name, .. }, _) => {
                let open = Open::Call { call: id.clone(), name: name.clone(), arguments: String::new() };
                return self.begin("fc", open, to);
            }
            (Piece::Arguments { .. }, _) => {}
        }
        let Some((id, open)) = &mut self.open else { return };
        let id = id.clone();
        let (kind, data) = match (open, piece) {
            (Open::Reasoning(all), Piece::Reasoning(text)) => {
                *all += &text;
                ("response.reasoning_text.delta", json!({ "content_index": 0, "delta": text }))
            }
            (Open::Message(all), Piece::Content(text)) => {
                *all += &text;
                ("response.output_text.delta", json!({ "content_index": 0, "delta": text, "logprobs": [] }))
            }
            (Open::Call { arguments, .. }, Piece::Arguments { text, .. }) => {
                *arguments += &text;
                ("response.function_call_arguments.delta", json!({ "delta": text }))
            }
            _ => return,
        };
        let data = self.at(&id, data);
        self.event(kind, data, to);
    }
}

impl Write for Events {
    fn write(&mut self, _: u32, said: Said, to: &mut Vec<u8>) -> Result<()> {
        if self.number == 0 {
            for kind in ["response.created", "response.in_progress"] {
                let response = self.head.response(&[], None);
                self.event(kind, json!({ "response": response }), to);
            }
        }
        let mut pieces = Vec::new();
        let ended = self.listener.hear(&said, &mut pieces);
        for piece in pieces {
            self.piece(piece, to);
        }
        let Some((end, took)) = ended else { return Ok(()) };
        if self.open.is_none() && self.output.is_empty() {
            // An answer without a word is one all the same.
            self.begin("msg", Open::Message(String::new()), to);
        }
        self.close(end == End::Length, to);
        let response = self.head.response(&self.output, Some((&end, &took)));
        if let Some(keep) = self.keep.take() {
            keep.keep(&self.head.id, &response)?;
        }
        let kind = if end == End::Length { "response.incomplete" } else { "response.completed" };
        self.event(kind, json!({ "response": response }), to);
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<u8>) {}

    fn error(&mut self, error: &ApiError, to: &mut Vec<u8>) {
        let data = json!({ "code": error.code, "message": error.message, "param": error.param });
        self.event("error", data, to);
    }
}
