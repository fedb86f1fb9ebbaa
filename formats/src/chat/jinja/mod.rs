//! Jinja as transformers sets it up, with bounds: a rendering ends in time and in memory that do not depend on what
//! the template wants.
//!
//! It is Jinja's language with Python's values: what an undefined name is, how a float prints, what `%` does, which
//! methods a text has. The sandbox holds: nothing changes a list or a dictionary, and nothing reaches outside.
//! Every node, every 16 bytes that an operation walks over and every item of a list costs work; every text and every
//! list asks for its memory before it is made. `formats/tests/data/chat/snippets.json` has what jinja2 gives.

mod ast;
mod call;
mod checks;
mod classes;
mod eval;
mod expressions;
mod filters;
mod format;
mod lexer;
mod methods;
mod ops;
mod parser;
mod reads;
mod run;
mod show;
mod value;

use serde_json::{Map, Value as Json};

pub(super) use reads::Reads;
use show::{Out, Style};
use value::Value;

/// Tells the time in a format of `strftime`.
type Clock<'a> = Option<&'a dyn Fn(&str) -> String>;

type Result<T> = std::result::Result<T, Fault>;

/// The largest source of a template.
const MAX_SOURCE: usize = 1 << 20;

/// Why there is no text; and what leaves a loop.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fault {
    Parse(usize, String),
    /// Line (0 while it is not known) and cause.
    Fail(usize, String),
    Raised(String),
    Endless,
    Memory,
    TooLong,
    Nested,
    Break,
    Continue,
}

impl Fault {
    fn parse(line: usize, what: impl Into<String>) -> Fault {
        Fault::Parse(line, what.into())
    }

    fn err<T>(what: impl Into<String>) -> Result<T> {
        Err(Fault::Fail(0, what.into()))
    }

    /// With a line, where it has none yet.
    fn at(self, line: usize) -> Fault {
        match self {
            Fault::Fail(0, what) => Fault::Fail(line, what),
            other => other,
        }
    }
}

/// A template that was parsed.
#[derive(Debug)]
pub(super) struct Program(Vec<ast::Node>);

impl Program {
    pub(super) fn parse(source: &str) -> Result<Program> {
        if source.len() > MAX_SOURCE {
            return Err(Fault::parse(1, format!("the template has more than {MAX_SOURCE} bytes")));
        }
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        parser::parse(source.strip_suffix('\n').unwrap_or(&source)).map(Program)
    }

    /// What it prints with these variables.
    pub(super) fn render(&self, variables: &Map<String, Json>, clock: Clock<'_>) -> Result<String> {
        value::reset();
        let mut names = Vec::new();
        for (name, json) in variables {
            names.push((name.clone(), Value::from_json(json)?));
        }
        let mut run = eval::Run::new(names, clock);
        run.nodes(&self.0)?;
        Ok(run.out.pop().unwrap_or_default().done())
    }
}

/// `json.dumps` of a value.
pub(super) fn json_text(json: &Json) -> String {
    let mut out = Out::default();
    value::reset();
    let done = Value::from_json(json).and_then(|v| show::json(&v, &Style::plain(), 0, &mut out));
    // What is too large to be printed as Python does is printed all the same.
    done.map_or_else(|_| json.to_string(), |()| out.done())
}
