//! Hermes, Qwen2.5, Qwen3, QwQ, SmolLM3: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`.

use super::{Format, Grammar, Opener, Writer, repeated};
use crate::tools::object::{Names, Object};
use crate::tools::parser::{Event, Form, Reader, Step};

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

pub(super) const FORMAT: Format = Format {
    name: "hermes",
    is: |template| template.contains(OPEN) && !template.contains("<function="),
    openers: &[Opener { text: OPEN, at_start: false, fed: false }],
    close: Some(CLOSE),
    tags: &[OPEN, CLOSE],
    stops: &[],
    id: Form::Long,
    reader: |_, names| {
        Box::new(Tagged { names: names.clone(), object: Some(Object::new(names, false)), close: 0 })
    },
    grammar: Grammar { whole, triggers, json: true },
};

fn body(w: &Writer, names: &[&str]) -> String {
    let each = |i, name: &str| {
        let head = w.text(&format!("\n{{\"name\": \"{name}\", \"arguments\": "));
        format!("{head} args{i} {} {}", w.text("}\n"), w.tag(CLOSE))
    };
    format!("body: {}\n", w.one_of(names, each))
}

fn whole(w: &Writer, names: &[&str], parallel: bool) -> String {
    let call = format!("call: {} body\n", w.tag(OPEN));
    repeated("call", "\"\\n\"", "call", parallel) + &call + &body(w, names)
}

fn triggers(w: &Writer, names: &[&str], parallel: bool) -> Vec<(String, bool, String)> {
    let call = format!("call: {} body\n", w.tag(OPEN));
    vec![(OPEN.into(), false, repeated("body", "\"\\n\"", "call", parallel) + &call + &body(w, names))]
}

/// Reads objects up to the closing tag.
struct Tagged {
    names: Names,
    object: Option<Object>,
    /// Bytes of the closing tag so far.
    close: usize,
}

impl Reader for Tagged {
    fn feed(&mut self, c: char, out: &mut Vec<Event>) -> Step {
        if let Some(object) = &mut self.object {
            return match object.feed(c, out) {
                Step::Done => {
                    self.object = None;
                    Step::More
                }
                step => step,
            };
        }
        if CLOSE[self.close..].starts_with(c) {
            self.close += 1;
            return if self.close == CLOSE.len() { Step::Done } else { Step::More };
        }
        match c {
            _ if self.close > 0 => Step::Broken,
            c if c.is_ascii_whitespace() => Step::More,
            // Some models put several calls into one tag.
            '{' => {
                let mut object = Object::new(&self.names, false);
                let step = object.feed(c, out);
                self.object = Some(object);
                step
            }
            _ => Step::Over,
        }
    }
}
