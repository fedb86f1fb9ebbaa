//! POST /v1/chat/completions

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use weft_models::engine::Usage;

use super::{Post, json};
use crate::app::{App, Served, no_room, now};
use crate::chat::Ask;
use crate::draw;
use crate::engine::Said;
use crate::error::Result;
use crate::fields::Fields;
use crate::said::{push_logprobs, push_string, reason, sum, usage_json};
use crate::stream::{self, Whole, Write};

pub(super) async fn chat(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let mut f = Fields::body(post.body)?;
    let name = draw::model_name(&mut f, app.config.lenient)?;
    let served = app.model(name.as_deref())?;
    let ask = Ask::read(f, &app, &served.card)?;
    let prompt = served.card.prompt(&ask.messages, &ask.with)?;
    served.card.check_length(prompt.len(), "messages")?;
    let room = served.card.context - prompt.len();
    let requests = ask.draw.requests(&prompt, room, post.who.0);
    let said = served.engine()?.submit(requests, post.who.0).map_err(no_room)?;
    let head = Head { id: format!("chatcmpl-{:016x}", app.id()), created: now(), served };
    if ask.stream {
        let writer = Chunks::new(head, &ask);
        return stream::respond(said, ask.draw.n, writer, app.config.ping, "text/event-stream").await;
    }
    let whole = stream::collect(said, ask.draw.n).await?;
    Ok(json(answer(&head, &ask, &whole)))
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

/// The answer as one object.
fn answer(head: &Head, ask: &Ask, all: &[Whole]) -> Vec<u8> {
    let mut to = head.open("chat.completion");
    to.extend_from_slice(b"\"choices\":[");
    for (i, whole) in all.iter().enumerate() {
        if i > 0 {
            to.push(b',');
        }
        to.extend_from_slice(
            format!("{{\"index\":{i},\"message\":{{\"role\":\"assistant\",\"content\":").as_bytes(),
        );
        push_string(&mut to, &whole.text);
        to.extend_from_slice(b",\"refusal\":null},\"logprobs\":");
        if ask.draw.logprobs.is_some() {
            to.extend_from_slice(b"{\"content\":[");
            let mut entries = Vec::new();
            for (token, l) in &whole.tokens {
                if let Some(l) = l {
                    push_logprobs(&mut entries, &head.served.card, *token, l);
                }
            }
            to.extend_from_slice(&entries);
            to.extend_from_slice(b"],\"refusal\":null}");
        } else {
            to.extend_from_slice(b"null");
        }
        to.extend_from_slice(format!(",\"finish_reason\":\"{}\"}}", reason(&whole.reason)).as_bytes());
    }
    let usage: Vec<Usage> = all.iter().map(|w| w.usage).collect();
    to.extend_from_slice(format!("],\"usage\":{}}}", usage_json(&sum(&usage), 0)).as_bytes());
    to
}

/// What the chunks of one answer have written so far.
#[derive(Default)]
struct Choice {
    opened: bool,
    /// Entries of log-probabilities whose text is held back.
    logprobs: Vec<u8>,
}

/// Writes chunks.
struct Chunks {
    head: Head,
    /// `data: {"id":...,` up to the first field that differs.
    open: Vec<u8>,
    /// What stands behind the choices of each chunk.
    close: &'static [u8],
    choices: Vec<Choice>,
    logprobs: bool,
    usage: bool,
    progress: bool,
    all: Vec<Usage>,
}

impl Chunks {
    fn new(head: Head, ask: &Ask) -> Chunks {
        let mut open = b"data: ".to_vec();
        open.extend(head.open("chat.completion.chunk"));
        Chunks {
            head,
            open,
            close: if ask.usage { b"}],\"usage\":null}\n\n" } else { b"}]}\n\n" },
            choices: (0..ask.draw.n).map(|_| Choice::default()).collect(),
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

    fn content(&mut self, index: u32, text: &str, to: &mut Vec<u8>) {
        if !text.is_empty() {
            self.chunk(index, None, to, |to| {
                to.extend_from_slice(b"\"content\":");
                push_string(to, text);
            });
        }
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
                self.content(index, &text, to);
            }
            Said::Finished { reason: finish, text, usage } => {
                self.content(index, &text, to);
                self.chunk(index, Some(reason(&finish)), to, |_| ());
                self.all.push(usage);
            }
            Said::Started { .. } | Said::Progress { .. } | Said::Failed(_) => {}
        }
        Ok(())
    }

    fn end(&mut self, to: &mut Vec<u8>) {
        if self.usage {
            to.extend_from_slice(&self.open);
            to.extend_from_slice(
                format!("\"choices\":[],\"usage\":{}}}\n\n", usage_json(&sum(&self.all), 0)).as_bytes(),
            );
        }
        to.extend_from_slice(b"data: [DONE]\n\n");
    }
}
