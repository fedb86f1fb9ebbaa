//! What Anthropic's clients are told.

use serde_json::{Value, json};

use crate::engine::Said;
use crate::error::{ApiError, Result};
use crate::one::{End, Listener, Reply, Took};
use crate::stream::Write;
use crate::tools::Piece;

/// What all parts of an answer have in common.
pub(super) struct Head {
    pub(super) id: String,
    pub(super) model: String,
    /// Tokens of the prompt.
    pub(super) prompt: usize,
}

impl Head {
    fn message(&self, content: Value, reason: (Value, Value), usage: Value) -> Value {
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": content,
            "stop_reason": reason.0, "stop_sequence": reason.1, "usage": usage,
        })
    }
}

/// Why an answer ended, and at what.
fn reason(end: &End) -> (Value, Value) {
    match end {
        End::Stop => ("end_turn".into(), Value::Null),
        End::StopString(text) => ("stop_sequence".into(), text.as_str().into()),
        End::Length => ("max_tokens".into(), Value::Null),
        End::Calls => ("tool_use".into(), Value::Null),
    }
}

/// Tokens that were in the cache are counted apart.
fn usage(prompt: usize, cached: usize, output: usize) -> Value {
    json!({
        "input_tokens": prompt - cached.min(prompt), "output_tokens": output,
        "cache_read_input_tokens": cached, "cache_creation_input_tokens": 0,
    })
}

fn used(took: &Took) -> Value {
    usage(took.usage.prompt, took.usage.cached, took.usage.generated)
}

/// Calls have ids of a form of their own there.
fn call_id(id: &str) -> String {
    id.strip_prefix("call_").map_or_else(|| id.to_owned(), |rest| format!("toolu_{rest}"))
}

/// The answer as one object.
pub(super) fn whole(head: &Head, reply: &Reply) -> Value {
    let mut content = Vec::new();
    if !reply.parts.reasoning.is_empty() {
        content.push(json!({ "type": "thinking", "thinking": reply.parts.reasoning, "signature": "" }));
    }
    if !reply.parts.content.is_empty() {
        content.push(json!({ "type": "text", "text": reply.parts.content }));
    }
    for call in &reply.parts.calls {
        // Arguments that the end of the answer cut short are no object; nothing of them is lost all the same.
        let cut = || json!({ "partial_json": call.arguments });
        let input = serde_json::from_str(&call.arguments).unwrap_or_else(|_| cut());
        content
            .push(json!({ "type": "tool_use", "id": call_id(&call.id), "name": call.name, "input": input }));
    }
    head.message(content.into(), reason(&reply.end), used(&reply.took))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    Thinking,
    Text,
    Call,
}

/// Writes events.
pub(super) struct Events {
    head: Head,
    listener: Listener,
    begun: bool,
    /// The block that is open, and how many there were.
    open: Option<Block>,
    count: usize,
}

fn event(kind: &str, mut data: Value, to: &mut Vec<u8>) {
    if let Some(map) = data.as_object_mut() {
        map.shift_insert(0, "type".into(), kind.into());
    }
    to.extend_from_slice(format!("event: {kind}\ndata: {data}\n\n").as_bytes());
}

impl Events {
    pub(super) fn new(head: Head, listener: Listener) -> Events {
        Events { head, listener, begun: false, open: None, count: 0 }
    }

    fn close(&mut self, to: &mut Vec<u8>) {
        let Some(open) = self.open.take() else { return };
        let index = self.count - 1;
        if open == Block::Thinking {
            self.delta(json!({ "type": "signature_delta", "signature": "" }), to);
        }
        event("content_block_stop", json!({ "index": index }), to);
    }

    /// Opens a block, unless one of its kind is open; calls are blocks each.
    fn block(&mut self, kind: Block, content: Value, to: &mut Vec<u8>) {
        if self.open == Some(kind) && kind != Block::Call {
            return;
        }
        self.close(to);
        event("content_block_start", json!({ "index": self.count, "content_block": content }), to);
        self.open = Some(kind);
        self.count += 1;
    }

    fn delta(&self, delta: Value, to: &mut Vec<u8>) {
        event("content_block_delta", json!({ "index": self.count - 1, "delta": delta }), to);
    }

    fn piece(&mut self, piece: Piece, to: &mut Vec<u8>) {
        match piece {
            Piece::Reasoning(text) => {
                self.block(
                    Block::Thinking,
                    json!({ "type": "thinking", "thinking": "", "signature": "" }),
                    to,
                );
                self.delta(json!({ "type": "thinking_delta", "thinking": text }), to);
            }
            Piece::Content(text) => {
                self.block(Block::Text, json!({ "type": "text", "text": "" }), to);
                self.delta(json!({ "type": "text_delta", "text": text }), to);
            }
            Piece::Call { id, name, .. } => {
                let block = json!({ "type": "tool_use", "id": call_id(&id), "name": name, "input": {} });
                self.block(Block::Call, block, to);
            }
            Piece::Arguments { text, .. } => {
                self.delta(json!({ "type": "input_json_delta", "partial_json": text }), to);
            }
        }
    }
}

impl Write for Events {
    fn write(&mut self, _: u32, said: Said, to: &mut Vec<u8>) -> Result<()> {
        if !std::mem::replace(&mut self.begun, true) {
            let cached = if let Said::Started { cached, .. } = &said { *cached } else { 0 };
            let none = (Value::Null, Value::Null);
            let message = self.head.message(json!([]), none, usage(self.head.prompt, cached, 0));
            event("message_start", json!({ "message": message }), to);
        }
        let mut pieces = Vec::new();
        let ended = self.listener.hear(&said, &mut pieces);
        for piece in pieces {
            self.piece(piece, to);
        }
        if let Some((end, took)) = ended {
            self.close(to);
            let (reason, stop) = reason(&end);
            let delta = json!({ "stop_reason": reason, "stop_sequence": stop });
            event("message_delta", json!({ "delta": delta, "usage": used(&took) }), to);
            event("message_stop", json!({}), to);
        }
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<u8>) {}

    fn error(&mut self, error: &ApiError, to: &mut Vec<u8>) {
        to.extend_from_slice(format!("event: error\ndata: {}\n\n", super::error(error)).as_bytes());
    }

    fn ping(&mut self, to: &mut Vec<u8>) {
        event("ping", json!({}), to);
    }
}
