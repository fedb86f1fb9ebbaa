//! Gemma 4: `<|tool_call>call:name{key:<|"|>text<|"|>,n:3}<tool_call|>`, and FunctionGemma, which has other tags for the same.

use super::{Format, Grammar, Opener, Writer, repeated};
use crate::tools::native::Native;
use crate::tools::object::Names;
use crate::tools::parser::{Event, Form, Reader, Step};

const FOUR_OPEN: &str = "<|tool_call>";
const FOUR_CLOSE: &str = "<tool_call|>";
pub(super) const FOUR_QUOTE: &str = "<|\"|>";
const FUNCTION_OPEN: &str = "<start_function_call>";
const FUNCTION_CLOSE: &str = "<end_function_call>";
pub(super) const FUNCTION_QUOTE: &str = "<escape>";

pub(super) const FOUR: Format = Format {
    name: "gemma",
    is: |template| template.contains(FOUR_OPEN),
    openers: &[Opener { text: FOUR_OPEN, at_start: false, fed: false }],
    close: Some(FOUR_CLOSE),
    tags: &[FOUR_OPEN, FOUR_CLOSE, FOUR_QUOTE],
    stops: &["<|tool_response>"],
    id: Form::Long,
    reader: |_, names| Box::new(Call::new(names, FOUR_CLOSE, FOUR_QUOTE)),
    grammar: Grammar {
        whole: |w, names, parallel| whole(w, names, parallel, [FOUR_OPEN, FOUR_CLOSE]),
        triggers: |w, names, parallel| triggers(w, names, parallel, [FOUR_OPEN, FOUR_CLOSE]),
        json: false,
    },
};

pub(super) const FUNCTION: Format = Format {
    name: "function-gemma",
    is: |template| template.contains(FUNCTION_OPEN),
    openers: &[Opener { text: FUNCTION_OPEN, at_start: false, fed: false }],
    close: Some(FUNCTION_CLOSE),
    tags: &[FUNCTION_OPEN, FUNCTION_CLOSE, FUNCTION_QUOTE],
    stops: &["<start_function_response>"],
    reader: |_, names| Box::new(Call::new(names, FUNCTION_CLOSE, FUNCTION_QUOTE)),
    grammar: Grammar {
        whole: |w, names, parallel| whole(w, names, parallel, [FUNCTION_OPEN, FUNCTION_CLOSE]),
        triggers: |w, names, parallel| triggers(w, names, parallel, [FUNCTION_OPEN, FUNCTION_CLOSE]),
        json: false,
    },
    ..FOUR
};

fn body(w: &Writer, names: &[&str], close: &str) -> String {
    let each = |i, name: &str| format!("{} args{i} {}", w.text(&format!("call:{name}")), w.tag(close));
    format!("body: {}\n", w.one_of(names, each))
}

fn whole(w: &Writer, names: &[&str], parallel: bool, [open, close]: [&str; 2]) -> String {
    let call = format!("call: {} body\n", w.tag(open));
    repeated("call", "", "call", parallel) + &call + &body(w, names, close)
}

fn triggers(
    w: &Writer,
    names: &[&str],
    parallel: bool,
    [open, close]: [&str; 2],
) -> Vec<(String, bool, String)> {
    let call = format!("call: {} body\n", w.tag(open));
    vec![(open.into(), false, repeated("body", "", "call", parallel) + &call + &body(w, names, close))]
}

enum At {
    Name,
    Arguments,
    Close(usize),
}

/// Reads `call:name{…}` and the closing tag.
struct Call {
    names: Names,
    close: &'static str,
    at: At,
    text: String,
    arguments: Native,
}

impl Call {
    fn new(names: &Names, close: &'static str, quote: &'static str) -> Call {
        Call { names: names.clone(), close, at: At::Name, text: String::new(), arguments: Native::new(quote) }
    }
}

impl Reader for Call {
    fn feed(&mut self, c: char, out: &mut Vec<Event>) -> Step {
        const CALL: &str = "call:";
        match self.at {
            At::Name if c == '{' => {
                let name = self.text.trim().strip_prefix(CALL).map(|n| n.trim().to_owned());
                let Some(name) = name.filter(|n| self.names.contains(n)) else { return Step::Broken };
                out.push(Event::Call(name));
                self.at = At::Arguments;
                self.feed(c, out)
            }
            At::Name => {
                self.text.push(c);
                let text = self.text.trim_start();
                let fits = CALL.starts_with(text) || (text.starts_with(CALL) && text.len() < 128 && c != '<');
                if fits { Step::More } else { Step::Broken }
            }
            At::Arguments => {
                let mut text = String::new();
                let step = self.arguments.push(c, &mut text);
                if !text.is_empty() {
                    out.push(Event::Arguments(text));
                }
                if step != Step::Done {
                    return step;
                }
                out.push(Event::End);
                self.at = At::Close(0);
                Step::More
            }
            At::Close(n) if self.close[n..].starts_with(c) => {
                self.at = At::Close(n + c.len_utf8());
                if n + c.len_utf8() == self.close.len() { Step::Done } else { Step::More }
            }
            At::Close(0) if c.is_ascii_whitespace() => Step::More,
            At::Close(0) => Step::Over,
            At::Close(_) => Step::Broken,
        }
    }
}
