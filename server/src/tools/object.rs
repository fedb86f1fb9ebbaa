//! A call that is written as a JSON object with a name and arguments.

use std::sync::Arc;

use super::json::{Json, Read, escaped};
use super::parser::{Event, Step};

/// The names of the tools.
pub(super) type Names = Arc<[String]>;

enum At {
    /// In front of `{`.
    Begin,
    KeyOrEnd,
    Key,
    Colon,
    Value(Field),
    Next,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Name,
    Arguments,
    Other,
}

/// Reads one object.
pub(super) struct Object {
    names: Names,
    /// Whether a field that no call has means that this is none.
    strict: bool,
    at: At,
    json: Json,
    /// What was read of a key, a name or a string.
    text: String,
    begun: bool,
    name: Option<String>,
    told: bool,
    /// Arguments that wait for the name.
    arguments: Option<String>,
    seen: bool,
}

impl Object {
    pub(super) fn new(names: &Names, strict: bool) -> Object {
        Object {
            names: names.clone(),
            strict,
            at: At::Begin,
            json: Json::new(),
            text: String::new(),
            begun: false,
            name: None,
            told: false,
            arguments: None,
            seen: false,
        }
    }

    /// Takes a letter; `Step::Done` with the last brace.
    pub(super) fn feed(&mut self, c: char, out: &mut Vec<Event>) -> Step {
        let space = c.is_ascii_whitespace();
        match self.at {
            At::Done => return Step::Broken,
            At::Key => return self.key(c),
            At::Value(field) => return self.value(field, c, out),
            _ if space => {}
            At::Begin if c == '{' => self.at = At::KeyOrEnd,
            At::KeyOrEnd if c == '"' => {
                self.begin();
                self.json.push(c);
                self.text.push(c);
                self.at = At::Key;
            }
            At::Colon if c == ':' => {
                let Some(field) = self.field() else { return Step::Broken };
                self.begin();
                self.at = At::Value(field);
            }
            At::Next if c == ',' => self.at = At::KeyOrEnd,
            At::Next | At::KeyOrEnd if c == '}' => return self.close(out),
            _ => return Step::Broken,
        }
        Step::More
    }

    fn begin(&mut self) {
        self.json = Json::new();
        self.text.clear();
        self.begun = false;
    }

    fn key(&mut self, c: char) -> Step {
        self.text.push(c);
        match self.json.push(c) {
            Read::More => {}
            Read::Last => self.at = At::Colon,
            Read::Raw | Read::Wrong => return Step::Broken,
        }
        Step::More
    }

    /// What the key that was read means here; None if no call has it.
    fn field(&self) -> Option<Field> {
        match self.text.trim_matches('"') {
            "name" if self.name.is_none() => Some(Field::Name),
            "arguments" | "parameters" if !self.seen => Some(Field::Arguments),
            "name" | "arguments" | "parameters" => None,
            "id" | "type" => Some(Field::Other),
            _ if self.strict => None,
            _ => Some(Field::Other),
        }
    }

    fn value(&mut self, field: Field, c: char, out: &mut Vec<Event>) -> Step {
        if !self.begun {
            if c.is_ascii_whitespace() {
                return Step::More;
            }
            self.begun = true;
            let fits = match field {
                Field::Name => c == '"',
                Field::Arguments => c == '{' || c == '"',
                // Numbers and words end with what follows them, which the checker of strings and objects does not see.
                Field::Other => matches!(c, '"' | '{' | '['),
            };
            if !fits {
                return Step::Broken;
            }
            if field == Field::Arguments && c == '{' {
                self.seen = true;
                self.tell(out);
            }
        }
        let raw = self.direct(field);
        let read = self.json.push(c);
        match read {
            Read::Wrong => return Step::Broken,
            Read::Raw if raw => self.argument(&escaped(c), out),
            Read::Raw => return Step::Broken,
            Read::More | Read::Last if raw => self.argument(c.encode_utf8(&mut [0; 4]), out),
            Read::More | Read::Last => self.text.push(c),
        }
        if read == Read::Last {
            self.at = At::Next;
            return self.end_of(field, out);
        }
        Step::More
    }

    /// Whether the value is an object of arguments, which is passed on as it is written.
    fn direct(&self, field: Field) -> bool {
        field == Field::Arguments && self.seen
    }

    fn argument(&mut self, text: &str, out: &mut Vec<Event>) {
        if self.told {
            out.push(Event::Arguments(text.to_owned()));
        } else {
            self.arguments.get_or_insert_default().push_str(text);
        }
    }

    fn end_of(&mut self, field: Field, out: &mut Vec<Event>) -> Step {
        match field {
            Field::Name => {
                let Ok(name) = serde_json::from_str::<String>(&self.text) else { return Step::Broken };
                if !self.names.contains(&name) {
                    return Step::Broken;
                }
                self.name = Some(name);
                if self.seen {
                    self.tell(out);
                }
            }
            Field::Arguments if !self.direct(field) => {
                // A string that holds an object.
                let inner = serde_json::from_str::<String>(&self.text).ok();
                let object = |t: &String| {
                    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(t).is_ok()
                };
                let Some(inner) = inner.filter(object) else { return Step::Broken };
                self.seen = true;
                self.tell(out);
                self.argument(&inner, out);
            }
            Field::Arguments | Field::Other => {}
        }
        Step::More
    }

    /// Tells the call, once its name is known.
    fn tell(&mut self, out: &mut Vec<Event>) {
        let Some(name) = &self.name else { return };
        if !std::mem::replace(&mut self.told, true) {
            out.push(Event::Call(name.clone()));
            if let Some(arguments) = self.arguments.take() {
                out.push(Event::Arguments(arguments));
            }
        }
    }

    fn close(&mut self, out: &mut Vec<Event>) -> Step {
        if self.name.is_none() {
            return Step::Broken;
        }
        if !self.seen {
            self.tell(out);
            out.push(Event::Arguments("{}".into()));
        }
        out.push(Event::End);
        self.at = At::Done;
        Step::Done
    }
}
