//! Filters that show a value in a form of its own.

use super::super::call::{Given, true_or};
use super::super::lexer::is_space;
use super::super::show::{self, Out};
use super::super::value::Value;
use super::super::{Fault, Result};
use super::pairs;

pub(super) fn apply(value: &Value, name: &str, given: &Given) -> Result<Value> {
    match name {
        "filesizeformat" => {
            let [binary] = given.take(["binary"])?;
            Value::str(file_size(value, true_or(binary.as_ref(), false))?)
        }
        "xmlattr" => {
            let [autospace] = given.take(["autospace"])?;
            Value::str(attributes(value, true_or(autospace.as_ref(), true))?)
        }
        _ => {
            given.plain::<0>(0)?;
            pretty(value)
        }
    }
}

/// A number of bytes for people.
fn file_size(value: &Value, binary: bool) -> Result<String> {
    let bytes = match value {
        Value::Str(s) => s.trim().replace('_', "").parse().ok(),
        other => other.number(),
    };
    let Some(bytes) = bytes.filter(|b: &f64| !b.is_nan()) else {
        return Fault::err(format!("filesizeformat takes a number, not '{}'", value.kind()));
    };
    let (base, unit) = if binary { (1024f64, "iB") } else { (1000f64, "B") };
    if bytes == 1.0 {
        return Ok("1 Byte".to_owned());
    }
    if bytes < base {
        return Ok(format!("{} Bytes", bytes as i128));
    }
    let letters = if binary { "KMGTPEZY" } else { "kMGTPEZY" };
    let (mut text, mut size) = (String::new(), base);
    for letter in letters.chars() {
        size *= base;
        text = format!("{:.1} {letter}{unit}", base * bytes / size);
        if bytes < size {
            break;
        }
    }
    Ok(text)
}

/// A mapping as attributes of XML; what is none or undefined is left out.
fn attributes(value: &Value, space: bool) -> Result<String> {
    let mut out = Out::default();
    for (key, value) in pairs(value)? {
        if matches!(value, Value::None | Value::Undefined(_)) {
            continue;
        }
        let key = key.text()?;
        if key.contains(|c: char| c.is_ascii() && is_space(c) || "/>=".contains(c)) {
            return Fault::err(format!("invalid character in attribute name: '{key}'"));
        }
        if space || out.len() > 0 {
            out.push(" ")?;
        }
        let text = show::text(&value)?;
        let text = if value.is_html() { text } else { show::escaped(&text) };
        out.push(&show::escaped(key))?;
        out.push("=\"")?;
        out.push(&text)?;
        out.push("\"")?;
    }
    Ok(out.done())
}

/// Columns of a line of Python's `pprint`.
const WIDTH: usize = 80;

/// What `pprint.pformat` gives, where that is one line: keys in order.
fn pretty(value: &Value) -> Result<Value> {
    let mut out = Out::default();
    show::repr(&sorted(value, 0)?, &mut out, 0)?;
    let text = out.done();
    match text.chars().count() > WIDTH && !matches!(value, Value::Int(_) | Value::Float(_)) {
        true => Fault::err(format!("pprint of more than {WIDTH} columns is not supported")),
        false => Value::str(text),
    }
}

/// A value whose mappings are in the order of their keys.
fn sorted(value: &Value, depth: usize) -> Result<Value> {
    if depth > 50 {
        return Fault::err("pprint of so deep a value is not supported");
    }
    match value {
        Value::Dict(d) => {
            let mut all: Vec<(Value, Value)> = Vec::new();
            for (key, value) in d.iter() {
                if !matches!(key, Value::Str(_)) && d.len() > 1 {
                    return Fault::err("pprint of keys that are no texts is not supported");
                }
                all.push((key.clone(), sorted(value, depth + 1)?));
            }
            all.sort_by(|a, b| a.0.text().unwrap_or_default().cmp(b.0.text().unwrap_or_default()));
            Value::dict(all)
        }
        Value::List(items) => {
            let items: Result<Vec<Value>> = items.iter().map(|v| sorted(v, depth + 1)).collect();
            Value::list(items?)
        }
        Value::Tuple(items) => {
            let items: Result<Vec<Value>> = items.iter().map(|v| sorted(v, depth + 1)).collect();
            Value::tuple(items?)
        }
        other => Ok(other.clone()),
    }
}
