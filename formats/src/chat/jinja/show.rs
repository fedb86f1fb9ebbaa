//! `str`, `repr` and `json.dumps` of values as Python prints them.

use std::fmt::Write;
use std::sync::LazyLock;

use regex::Regex;

use super::value::{Charge, Dict, Value, charge, walk, work};
use super::{Fault, Result};

/// Deepest nesting printed; namespaces can hold themselves.
const MAX_DEPTH: usize = 100;

/// Text that grows as far as memory is given.
#[derive(Default)]
pub(super) struct Out {
    text: String,
    /// What it may grow to.
    room: usize,
    charge: Option<Charge>,
}

impl Out {
    pub(super) fn push(&mut self, part: &str) -> Result<()> {
        if self.text.len() + part.len() > self.room {
            // A text doubles where it grows.
            let room = (2 * (self.text.len() + part.len())).max(256);
            self.charge = None;
            self.charge = Some(charge(room)?);
            self.room = room;
        }
        walk(part.len())?;
        self.text.push_str(part);
        Ok(())
    }

    pub(super) fn char(&mut self, c: char) -> Result<()> {
        self.push(c.encode_utf8(&mut [0; 4]))
    }

    pub(super) fn done(self) -> String {
        self.text
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }
}

/// `str(value)`.
pub(super) fn text(value: &Value) -> Result<String> {
    let mut out = Out::default();
    write(value, &mut out)?;
    Ok(out.done())
}

/// Appends `str(value)`.
pub(super) fn write(value: &Value, out: &mut Out) -> Result<()> {
    match value {
        Value::Str(s) => out.push(s),
        Value::Undefined(_) => Ok(()),
        other => repr(other, out, 0),
    }
}

/// Appends `repr(value)`.
pub(super) fn repr(value: &Value, out: &mut Out, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Fault::Nested);
    }
    work(1)?;
    let list = |out: &mut Out, open: &str, items: &[Value], close: &str| {
        out.push(open)?;
        for (i, item) in items.iter().enumerate() {
            out.push(if i > 0 { ", " } else { "" })?;
            repr(item, out, depth + 1)?;
        }
        out.push(close)
    };
    match value {
        Value::Undefined(_) => out.push("Undefined"),
        Value::None => out.push("None"),
        Value::Bool(b) => out.push(if *b { "True" } else { "False" }),
        Value::Int(i) => out.push(&i.to_string()),
        Value::Float(x) => out.push(&float(*x)),
        Value::Str(s) if s.is_html() => {
            out.push("Markup(")?;
            quote(s, out)?;
            out.push(")")
        }
        Value::Str(s) => quote(s, out),
        Value::List(items) => list(out, "[", items, "]"),
        Value::Tuple(items) => list(out, "(", items, if items.len() == 1 { ",)" } else { ")" }),
        Value::Dict(dict) => pairs(dict, out, depth),
        Value::View(..) => {
            out.push(value.kind())?;
            list(out, "([", &value.iter()?, "])")
        }
        Value::Range(start, n, step) => {
            let stop = start + *n as i128 * step;
            let step = if *step == 1 { String::new() } else { format!(", {step}") };
            out.push(&format!("range({start}, {stop}{step})"))
        }
        Value::Namespace(ns) => {
            out.push("<Namespace {")?;
            for (i, (key, value)) in ns.borrow().iter().enumerate() {
                out.push(if i > 0 { ", " } else { "" })?;
                quote(key, out)?;
                out.push(": ")?;
                repr(value, out, depth + 1)?;
            }
            out.push("}>")
        }
        other => Fault::err(format!("printing a {} is not supported", other.kind())),
    }
}

fn pairs(dict: &Dict, out: &mut Out, depth: usize) -> Result<()> {
    out.push("{")?;
    for (i, (key, value)) in dict.iter().enumerate() {
        out.push(if i > 0 { ", " } else { "" })?;
        repr(key, out, depth + 1)?;
        out.push(": ")?;
        repr(value, out, depth + 1)?;
    }
    out.push("}")
}

/// A text as HTML has it.
pub(super) fn escaped(text: &str) -> String {
    let pairs = [("&", "&amp;"), (">", "&gt;"), ("<", "&lt;"), ("'", "&#39;"), ("\"", "&#34;")];
    pairs.iter().fold(text.to_owned(), |text, (c, name)| text.replace(c, name))
}

/// Whether Python prints a character as it is.
pub(super) fn is_printable(c: char) -> bool {
    static HIDDEN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[\p{C}\p{Z}]$").ok());
    match c {
        ' '..='~' => true,
        c if c.is_ascii() => false,
        c => !HIDDEN.as_ref().is_some_and(|h| h.is_match(c.encode_utf8(&mut [0; 4]))),
    }
}

/// `repr` of a string: single quotes unless it holds some and no double ones.
fn quote(text: &str, out: &mut Out) -> Result<()> {
    let mark = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(mark);
    for c in text.chars() {
        match c {
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\\' => quoted.push_str("\\\\"),
            c if c == mark => quoted.extend(['\\', c]),
            c if is_printable(c) => quoted.push(c),
            c => {
                let _ = match c as u32 {
                    code @ ..0x100 => write!(quoted, "\\x{code:02x}"),
                    code @ ..0x10000 => write!(quoted, "\\u{code:04x}"),
                    code => write!(quoted, "\\U{code:08x}"),
                };
            }
        }
    }
    quoted.push(mark);
    out.push(&quoted)
}

/// `repr` of a float: the shortest digits, with an exponent below 1e-4 and from 1e16 on.
pub(super) fn float(x: f64) -> String {
    if !x.is_finite() {
        let inf = if x > 0.0 { "inf" } else { "-inf" };
        return if x.is_nan() { "nan" } else { inf }.to_owned();
    }
    let short = format!("{x:e}");
    let (digits, exponent) = short.split_once('e').unwrap_or((&short, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if x == 0.0 || (-4..16).contains(&exponent) {
        format!("{x:?}")
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{digits}e{sign}{:02}", exponent.abs())
    }
}

/// How [`json`] lays a value out: the parameters of `json.dumps`.
pub(super) struct Style {
    /// What a level is indented by.
    pub(super) indent: Option<String>,
    pub(super) separators: (String, String),
    pub(super) ensure_ascii: bool,
    pub(super) sort_keys: bool,
}

impl Style {
    /// As `json.dumps` does without arguments, but for other scripts, which stay.
    pub(super) fn plain() -> Style {
        let separators = (", ".to_owned(), ": ".to_owned());
        Style { indent: None, separators, ensure_ascii: false, sort_keys: false }
    }
}

/// Appends `json.dumps(value)`.
pub(super) fn json(value: &Value, style: &Style, level: usize, out: &mut Out) -> Result<()> {
    if level > MAX_DEPTH {
        return Err(Fault::Nested);
    }
    work(1)?;
    match value {
        Value::None => out.push("null"),
        Value::Bool(b) => out.push(if *b { "true" } else { "false" }),
        Value::Int(i) => out.push(&i.to_string()),
        Value::Float(x) => out.push(&json_float(*x)),
        Value::Str(s) => json_string(s, style.ensure_ascii, out),
        Value::List(items) | Value::Tuple(items) => {
            let write = |i: usize, out: &mut Out| json(&items[i], style, level + 1, out);
            bracketed("[", "]", items.len(), style, level, out, &write)
        }
        Value::Dict(dict) => {
            let mut entries: Vec<(String, &Value)> = Vec::new();
            for (key, value) in dict.iter() {
                entries.push((json_key(key)?, value));
            }
            if style.sort_keys {
                entries.sort_by(|a, b| a.0.cmp(&b.0));
            }
            let write = |i: usize, out: &mut Out| {
                json_string(&entries[i].0, style.ensure_ascii, out)?;
                out.push(&style.separators.1)?;
                json(entries[i].1, style, level + 1, out)
            };
            bracketed("{", "}", entries.len(), style, level, out, &write)
        }
        other => Fault::err(format!("Object of type {} is not JSON serializable", other.kind())),
    }
}

/// Items between brackets, on lines of their own where the style has an indent.
fn bracketed(
    open: &str,
    close: &str,
    count: usize,
    style: &Style,
    level: usize,
    out: &mut Out,
    write: &dyn Fn(usize, &mut Out) -> Result<()>,
) -> Result<()> {
    let newline = |out: &mut Out, level: usize| match &style.indent {
        None => Ok(()),
        Some(indent) => {
            out.push("\n")?;
            (0..level).try_for_each(|_| out.push(indent))
        }
    };
    out.push(open)?;
    for i in 0..count {
        out.push(if i > 0 { &style.separators.0 } else { "" })?;
        newline(out, level + 1)?;
        write(i, out)?;
    }
    if count > 0 {
        newline(out, level)?;
    }
    out.push(close)
}

fn json_float(x: f64) -> String {
    match float(x).as_str() {
        "nan" => "NaN".to_owned(),
        "inf" => "Infinity".to_owned(),
        "-inf" => "-Infinity".to_owned(),
        text => text.to_owned(),
    }
}

fn json_key(key: &Value) -> Result<String> {
    Ok(match key {
        Value::Str(s) => s.to_string(),
        Value::None => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Float(x) => json_float(*x),
        other => {
            return Fault::err(format!("keys must be str, int, float, bool or None, not {}", other.kind()));
        }
    })
}

fn json_string(text: &str, ensure_ascii: bool, out: &mut Out) -> Result<()> {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            c if c < ' ' || (ensure_ascii && c > '~') => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(quoted, "\\u{unit:04x}");
                }
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    out.push(&quoted)
}
