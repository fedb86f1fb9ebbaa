//! A list of calls, `[{"name": …, "arguments": {…}}, …]`, which several formats have.

use crate::tools::object::{Names, Object};
use crate::tools::parser::{Event, Reader, Step};

enum At {
    /// In front of `[`.
    Begin,
    Object(Box<Object>),
    /// Behind an object.
    Next,
    /// Behind a comma.
    Again,
}

/// Reads such a list.
pub(super) struct List {
    names: Names,
    at: At,
}

impl List {
    pub(super) fn new(names: &Names) -> List {
        List { names: names.clone(), at: At::Begin }
    }
}

impl Reader for List {
    fn feed(&mut self, c: char, out: &mut Vec<Event>) -> Step {
        match &mut self.at {
            At::Object(object) => {
                let step = object.feed(c, out);
                if step != Step::Done {
                    return step;
                }
                self.at = At::Next;
            }
            _ if c.is_ascii_whitespace() => {}
            At::Begin if c == '[' => self.at = At::Object(Box::new(Object::new(&self.names, true))),
            At::Next if c == ',' => self.at = At::Again,
            At::Next if c == ']' => return Step::Done,
            At::Again if c == '{' => {
                let mut object = Object::new(&self.names, true);
                object.feed(c, out);
                self.at = At::Object(Box::new(object));
            }
            At::Begin | At::Next | At::Again => return Step::Broken,
        }
        Step::More
    }
}
