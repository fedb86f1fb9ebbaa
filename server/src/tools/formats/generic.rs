//! Models whose way is not known: a message that is a call as JSON, bare, in a list or in a fence of Markdown.

use super::list::List;
use super::{Format, Grammar, Opener, Writer};
use crate::tools::object::{Names, Object};
use crate::tools::parser::{Event, Form, Reader, Step};

const FENCE: &str = "```";

pub(super) const FORMAT: Format = Format {
    name: "generic",
    is: |_| true,
    openers: &[
        Opener { text: "{", at_start: true, fed: true },
        Opener { text: "[", at_start: true, fed: true },
        Opener { text: "```json\n", at_start: true, fed: false },
        Opener { text: "```\n", at_start: true, fed: false },
        Opener { text: "```tool_call\n", at_start: true, fed: false },
    ],
    close: None,
    tags: &[],
    stops: &[],
    id: Form::Long,
    reader,
    grammar: Grammar { whole: |w, names, _| format!("calls: {}\n", calls(w, names)), triggers, json: true },
};

fn calls(w: &Writer, names: &[&str]) -> String {
    w.one_of(names, |i, name| {
        let head = w.text(&format!("{{\"name\": \"{name}\", \"arguments\": "));
        format!("{head} args{i} \"}}\"")
    })
}

fn triggers(_: &Writer, names: &[&str], _: bool) -> Vec<(String, bool, String)> {
    let rest = |i: usize| format!("calls: \" \"? args{i} \"}}\"\n");
    let spaced =
        |(i, name): (usize, &&str)| (format!("{{\"name\": \"{name}\", \"arguments\":"), true, rest(i));
    let dense = |(i, name): (usize, &&str)| (format!("{{\"name\":\"{name}\",\"arguments\":"), true, rest(i));
    names.iter().enumerate().map(spaced).chain(names.iter().enumerate().map(dense)).collect()
}

fn reader(opener: &str, names: &Names) -> Box<dyn Reader> {
    match opener {
        "[" => Box::new(List::new(names)),
        _ => Box::new(One {
            object: Some(Object::new(names, true)),
            fence: opener.starts_with(FENCE).then_some(0),
        }),
    }
}

/// Reads one object, and the end of its fence.
struct One {
    object: Option<Object>,
    /// Ticks of the closing fence so far, where there is one.
    fence: Option<usize>,
}

impl Reader for One {
    fn feed(&mut self, c: char, out: &mut Vec<Event>) -> Step {
        if let Some(object) = &mut self.object {
            let step = object.feed(c, out);
            if step != Step::Done {
                return step;
            }
            self.object = None;
            return if self.fence.is_none() { Step::Done } else { Step::More };
        }
        match (c, self.fence) {
            ('`', Some(n)) => {
                self.fence = Some(n + 1);
                if n + 1 == FENCE.len() { Step::Done } else { Step::More }
            }
            (c, Some(0)) if c.is_ascii_whitespace() => Step::More,
            (_, Some(0)) => Step::Over,
            _ => Step::Broken,
        }
    }
}
