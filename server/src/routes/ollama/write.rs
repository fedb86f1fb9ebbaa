//! What Ollama's clients are told.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::read::Kind;
use crate::engine::Said;
use crate::error::{ApiError, Result};
use crate::one::{End, Listener, Reply, Took};
use crate::reader::Call;
use crate::stream::Write;
use crate::tools::Piece;

/// What all lines of an answer have in common.
pub(super) struct Head {
    pub(super) model: String,
    pub(super) kind: Kind,
}

/// A moment as RFC 3339 has it, in UTC.
pub(super) fn moment(seconds: u64, nanos: u32) -> String {
    // The civil calendar from days since 1970, counted in eras of 400 years that begin in March.
    let days = (seconds / 86_400) as i64 + 719_468;
    let era = days / 146_097;
    let day_of_era = days - era * 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let clock = seconds % 86_400;
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    moment(since.as_secs(), since.subsec_nanos())
}

impl Head {
    fn line(&self, content: &str, thinking: &str, calls: Vec<Value>) -> Value {
        let mut line = json!({ "model": self.model, "created_at": now() });
        let to = match self.kind {
            Kind::Chat => {
                line["message"] = json!({ "role": "assistant", "content": content });
                &mut line["message"]
            }
            Kind::Generate => {
                line["response"] = content.into();
                &mut line
            }
        };
        if !thinking.is_empty() {
            to["thinking"] = thinking.into();
        }
        if !calls.is_empty() {
            to["tool_calls"] = calls.into();
        }
        line["done"] = false.into();
        line
    }

    /// What is said to who asks for nothing but that the model is there.
    pub(super) fn loaded(&self) -> Value {
        self.without_answer("load")
    }

    /// The model was closed.
    pub(super) fn unloaded(&self) -> Value {
        self.without_answer("unload")
    }

    fn without_answer(&self, reason: &str) -> Value {
        let mut line = self.line("", "", Vec::new());
        line["done"] = true.into();
        line["done_reason"] = reason.into();
        line
    }

    /// The answer as one object.
    pub(super) fn whole(&self, reply: &Reply) -> Value {
        let calls = reply.parts.calls.iter().map(call).collect();
        let line = self.line(&reply.parts.content, &reply.parts.reasoning, calls);
        done(line, &reply.end, &reply.took)
    }
}

fn done(mut line: Value, end: &End, took: &Took) -> Value {
    let u = &took.usage;
    line["done"] = true.into();
    line["done_reason"] = if *end == End::Length { "length" } else { "stop" }.into();
    let nanos = |d: std::time::Duration| d.as_nanos() as u64;
    line["total_duration"] = nanos(u.queued + u.prefill + u.decode).into();
    line["load_duration"] = 0.into();
    line["prompt_eval_count"] = u.prompt.into();
    line["prompt_eval_duration"] = nanos(u.prefill).into();
    line["eval_count"] = u.generated.into();
    line["eval_duration"] = nanos(u.decode).into();
    line
}

fn call(call: &Call) -> Value {
    // Arguments that the end of the answer cut short are no object; nothing of them is lost all the same.
    let cut = || json!({ "partial_json": call.arguments });
    let arguments = serde_json::from_str(&call.arguments).unwrap_or_else(|_| cut());
    json!({ "id": call.id, "function": { "name": call.name, "arguments": arguments } })
}

/// Writes lines.
pub(super) struct Lines {
    head: Head,
    listener: Listener,
    /// The call that is on its way: these clients take calls whole.
    call: Option<Call>,
}

impl Lines {
    pub(super) fn new(head: Head, listener: Listener) -> Lines {
        Lines { head, listener, call: None }
    }

    fn flush(&mut self, to: &mut Vec<u8>) {
        if let Some(whole) = self.call.take() {
            push(to, &self.head.line("", "", vec![call(&whole)]));
        }
    }
}

fn push(to: &mut Vec<u8>, line: &Value) {
    to.extend_from_slice(line.to_string().as_bytes());
    to.push(b'\n');
}

impl Write for Lines {
    fn write(&mut self, _: u32, said: Said, to: &mut Vec<u8>) -> Result<()> {
        let mut pieces = Vec::new();
        let ended = self.listener.hear(&said, &mut pieces);
        for piece in pieces {
            match piece {
                Piece::Arguments { text, .. } => {
                    if let Some(call) = &mut self.call {
                        call.arguments += &text;
                    }
                    continue;
                }
                Piece::Reasoning(text) => push(to, &self.head.line("", &text, Vec::new())),
                Piece::Content(text) => {
                    self.flush(to);
                    push(to, &self.head.line(&text, "", Vec::new()));
                }
                Piece::Call { id, name, .. } => {
                    self.flush(to);
                    self.call = Some(Call { id, name, arguments: String::new() });
                }
            }
        }
        if let Some((end, took)) = ended {
            self.flush(to);
            push(to, &done(self.head.line("", "", Vec::new()), &end, &took));
        }
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<u8>) {}

    fn error(&mut self, error: &ApiError, to: &mut Vec<u8>) {
        push(to, &super::error(error));
    }

    /// Lines of JSON have nothing that says nothing.
    fn ping(&mut self, _: &mut Vec<u8>) {}
}

#[cfg(test)]
mod tests {
    use super::moment;

    #[test]
    fn moments_are_those_of_the_calendar() {
        let cases = [
            (0, "1970-01-01T00:00:00.000000007Z"),
            (951_782_399, "2000-02-28T23:59:59.000000007Z"),
            (951_782_400, "2000-02-29T00:00:00.000000007Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000007Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000000007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000007Z"),
        ];
        for (seconds, text) in cases {
            assert_eq!(moment(seconds, 7), text);
        }
    }
}
