//! Mistral 7B v0.3 and Nemo: `[TOOL_CALLS][{"name": …, "arguments": {…}, "id": …}]`; Small 3.2, Ministral 3 and Devstral:
//! `[TOOL_CALLS]name[ARGS]{…}`.

use super::list::List;
use super::{Format, Grammar, Opener, Writer, repeated};
use crate::tools::json::{Json, Read, escaped};
use crate::tools::object::Names;
use crate::tools::parser::{Event, Form, Reader, Step};

const OPEN: &str = "[TOOL_CALLS]";
const ARGS: &str = "[ARGS]";
const ID: &str = "[CALL_ID]";
const OPENERS: &[Opener] = &[Opener { text: OPEN, at_start: false, fed: false }];

pub(super) const LIST: Format = Format {
    name: "mistral-list",
    is: |template| template.contains(OPEN),
    openers: OPENERS,
    close: None,
    tags: &[OPEN],
    stops: &[],
    id: Form::Nine,
    reader,
    grammar: Grammar {
        whole: |w, names, parallel| {
            let list = list(w, names, parallel);
            format!("calls: {} list\n{list}", w.tag(OPEN))
        },
        triggers: |w, names, parallel| {
            vec![(OPEN.into(), false, format!("calls: list\n{}", list(w, names, parallel)))]
        },
        json: true,
    },
};

pub(super) const NAMED: Format = Format {
    name: "mistral-named",
    is: |template| template.contains(OPEN) && template.contains(ARGS),
    tags: &[OPEN, ARGS, ID],
    grammar: Grammar {
        whole: |w, names, parallel| {
            let call = format!("call: {} body\n", w.tag(OPEN));
            repeated("call", "", "call", parallel) + &call + &named(w, names)
        },
        triggers: |w, names, parallel| {
            let call = format!("call: {} body\n", w.tag(OPEN));
            vec![(OPEN.into(), false, repeated("body", "", "call", parallel) + &call + &named(w, names))]
        },
        json: true,
    },
    ..LIST
};

fn list(w: &Writer, names: &[&str], parallel: bool) -> String {
    let each = |i, name: &str| {
        let head = w.text(&format!("{{\"name\": \"{name}\", \"arguments\": "));
        format!("{head} args{i} \"}}\"")
    };
    let more = if parallel { format!("(\", \" call){{0,{}}}", super::MOST - 1) } else { String::new() };
    format!("list: \"[\" call {more} \"]\"\ncall: {}\n", w.one_of(names, each))
}

fn named(w: &Writer, names: &[&str]) -> String {
    format!("body: {}\n", w.one_of(names, |i, name| format!("{} {} args{i}", w.text(name), w.tag(ARGS))))
}

fn reader(_: &str, names: &Names) -> Box<dyn Reader> {
    Box::new(Either { names: names.clone(), at: At::Begin, text: String::new() })
}

enum At {
    Begin,
    List(List),
    Name,
    /// The model's own id, which is not passed on.
    Id,
    Arguments(Json),
}

/// Reads either of the two.
struct Either {
    names: Names,
    at: At,
    text: String,
}

impl Either {
    fn tell(&mut self, out: &mut Vec<Event>) -> Step {
        let end = self.text.find('[').unwrap_or(self.text.len());
        let name = self.text[..end].trim().to_owned();
        if !self.names.contains(&name) {
            return Step::Broken;
        }
        out.push(Event::Call(name));
        self.at = At::Arguments(Json::new());
        Step::More
    }
}

impl Reader for Either {
    fn feed(&mut self, c: char, out: &mut Vec<Event>) -> Step {
        match &mut self.at {
            At::Begin if c.is_ascii_whitespace() => Step::More,
            At::Begin if c == '[' => {
                let mut list = List::new(&self.names);
                let step = list.feed(c, out);
                self.at = At::List(list);
                step
            }
            At::Begin => {
                self.at = At::Name;
                self.feed(c, out)
            }
            At::List(list) => list.feed(c, out),
            At::Name if c == '{' => {
                let step = self.tell(out);
                if step == Step::More { self.feed(c, out) } else { step }
            }
            At::Name => {
                self.text.push(c);
                let tail = self.text.find('[').map(|at| &self.text[at..]);
                match tail {
                    Some(ARGS) => self.tell(out),
                    Some(ID) => {
                        self.at = At::Id;
                        Step::More
                    }
                    Some(tail) if !ARGS.starts_with(tail) && !ID.starts_with(tail) => Step::Broken,
                    None if self.text.len() > 128 || !(c.is_alphanumeric() || "_-. ".contains(c)) => {
                        Step::Broken
                    }
                    _ => Step::More,
                }
            }
            At::Id => {
                self.text.push(c);
                match self.text.ends_with(ARGS) {
                    true => self.tell(out),
                    false if self.text.len() > 256 => Step::Broken,
                    false => Step::More,
                }
            }
            At::Arguments(json) if !json.begun() && c != '{' => {
                if c.is_ascii_whitespace() {
                    Step::More
                } else {
                    Step::Broken
                }
            }
            At::Arguments(json) => {
                let read = json.push(c);
                if read == Read::Wrong {
                    return Step::Broken;
                }
                out.push(Event::Arguments(if read == Read::Raw { escaped(c) } else { c.to_string() }));
                if read != Read::Last {
                    return Step::More;
                }
                out.push(Event::End);
                Step::Done
            }
        }
    }
}
