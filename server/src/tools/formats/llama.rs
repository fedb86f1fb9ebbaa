//! Llama 3.1 to 3.3: the whole message is `{"name": …, "parameters": {…}}`, sometimes behind `<|python_tag|>`.

use super::{Format, Grammar, Opener, Writer};
use crate::tools::object::{Names, Object};
use crate::tools::parser::{Event, Form, Reader, Step};

const TAG: &str = "<|python_tag|>";

pub(super) const FORMAT: Format = Format {
    name: "llama",
    is: |template| {
        template.contains(TAG)
            || (template.contains("<|start_header_id|>") && template.contains("parameters"))
    },
    openers: &[
        Opener { text: "{", at_start: true, fed: true },
        Opener { text: TAG, at_start: false, fed: false },
    ],
    close: None,
    tags: &[TAG],
    stops: &[],
    id: Form::Long,
    reader: |_, names| Box::new(Objects { names: names.clone(), object: Some(Object::new(names, true)) }),
    grammar: Grammar {
        whole: |w, names, _| format!("calls: body\n{}", body(w, names)),
        triggers,
        json: true,
    },
};

fn body(w: &Writer, names: &[&str]) -> String {
    let each = |i, name: &str| {
        let head = w.text(&format!("{{\"name\": \"{name}\", \"parameters\": "));
        format!("{head} args{i} \"}}\"")
    };
    format!("body: {}\n", w.one_of(names, each))
}

/// A message is a call once it holds a tool's name and the key of its arguments. Its template takes one call alone.
fn triggers(w: &Writer, names: &[&str], _: bool) -> Vec<(String, bool, String)> {
    let rest = |i: usize| format!("calls: \" \"? args{i} \"}}\"\n");
    let spaced =
        |(i, name): (usize, &&str)| (format!("{{\"name\": \"{name}\", \"parameters\":"), true, rest(i));
    let dense = |(i, name): (usize, &&str)| (format!("{{\"name\":\"{name}\",\"parameters\":"), true, rest(i));
    let tagged = (TAG.to_owned(), false, format!("calls: body\n{}", body(w, names)));
    let all = names.iter().enumerate();
    all.clone().map(spaced).chain(all.map(dense)).chain([tagged]).collect()
}

/// Reads objects with semicolons between them.
struct Objects {
    names: Names,
    object: Option<Object>,
}

impl Reader for Objects {
    fn feed(&mut self, c: char, out: &mut Vec<Event>) -> Step {
        if let Some(object) = &mut self.object {
            let step = object.feed(c, out);
            if step != Step::Done {
                return step;
            }
            self.object = None;
            return Step::More;
        }
        match c {
            ';' => Step::More,
            c if c.is_ascii_whitespace() => Step::More,
            '{' => {
                let mut object = Object::new(&self.names, true);
                let step = object.feed(c, out);
                self.object = Some(object);
                step
            }
            _ => Step::Over,
        }
    }
}
