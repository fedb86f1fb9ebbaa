//! Filters of texts. What is no text is taken as `str` prints it.

use super::super::call::{Given, true_or, whole_or};
use super::super::lexer::is_space;
use super::super::value::{Value, charge, walk, work};
use super::super::{Fault, Result, format, methods, show};

pub(super) fn apply(value: &Value, name: &str, given: &Given) -> Result<Value> {
    let text = show::text(value)?;
    // Several copies may be made of it.
    drop(charge(4 * text.len())?);
    work(text.len() / 4)?;
    match name {
        "string" | "safe" => {
            given.plain::<0>(0)?;
            if let Value::Str(_) = value { Ok(value.clone()) } else { Value::str(text) }
        }
        "upper" | "lower" | "capitalize" => {
            given.plain::<0>(0)?;
            Value::str(methods::cased(&text, name))
        }
        "title" => {
            let mut out = String::with_capacity(text.len());
            for word in text.split_inclusive(|c: char| is_space(c) || "-({[<".contains(c)) {
                out.push_str(&methods::cased(word, "capitalize"));
            }
            Value::str(out)
        }
        "trim" => {
            let [chars] = given.take(["chars"])?;
            methods::strip(&text, "strip", chars.as_ref())
        }
        "replace" => {
            let [old, new, count] = given.take(["old", "new", "count"])?;
            let (Some(old), Some(new)) = (old, new) else { return Fault::err("replace needs two texts") };
            let count = match &count {
                None | Some(Value::None) => -1,
                Some(n) => n.index()?,
            };
            methods::replace(&text, &show::text(&old)?, &show::text(&new)?, count)
        }
        "center" => {
            let [width] = given.take(["width"])?;
            let given = Given { positional: vec![width.unwrap_or(Value::Int(80))], named: Vec::new() };
            methods::call(&Value::str(text)?, "center", &given)
        }
        "indent" => indent(text, given),
        "truncate" => truncate(&text, given),
        "wordcount" => {
            let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|w| !w.is_empty());
            Ok(Value::Int(words.count() as i128))
        }
        "format" => match (given.positional.is_empty(), given.named.is_empty()) {
            (false, false) => Fault::err("can't handle positional and keyword arguments at the same time"),
            (_, true) => Value::str(format::percent(&text, &Value::tuple(given.positional.clone())?)?),
            (true, false) => {
                let pair = |(k, v): &(String, Value)| Ok((Value::str(k.as_str())?, v.clone()));
                let named = Value::dict(given.named.iter().map(pair).collect::<Result<_>>()?)?;
                Value::str(format::percent(&text, &named)?)
            }
        },
        "e" | "escape" | "forceescape" => {
            drop(charge(6 * text.len())?);
            let pairs = [("&", "&amp;"), (">", "&gt;"), ("<", "&lt;"), ("'", "&#39;"), ("\"", "&#34;")];
            Value::str(pairs.iter().fold(text, |text, (c, name)| text.replace(c, name)))
        }
        "striptags" => {
            let mut out = String::new();
            let mut rest = text.as_str();
            while let Some(at) = rest.find('<') {
                let Some(end) = rest[at..].find('>') else { break };
                out.push_str(&rest[..at]);
                rest = &rest[at + end + 1..];
            }
            out.push_str(rest);
            let words: Vec<&str> = out.split(is_space).filter(|w| !w.is_empty()).collect();
            Value::str(words.join(" "))
        }
        _ => {
            drop(charge(3 * text.len())?);
            let mut out = String::new();
            for b in text.bytes() {
                match b {
                    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                        out.push(b.into())
                    }
                    _ => out.push_str(&format!("%{b:02X}")),
                }
            }
            Value::str(out)
        }
    }
}

fn indent(mut text: String, given: &Given) -> Result<Value> {
    let [width, first, blank] = given.take(["width", "first", "blank"])?;
    let by = match width {
        Some(Value::Str(s)) => s.to_string(),
        width => {
            let n = usize::try_from(whole_or(width.as_ref(), 4)?).unwrap_or(0);
            let lines = text.matches('\n').count() + 1;
            drop(charge(n.saturating_mul(lines))?);
            " ".repeat(n)
        }
    };
    drop(charge(by.len().saturating_mul(text.matches('\n').count() + 1))?);
    walk(by.len().saturating_mul(text.matches('\n').count() + 1))?;
    // A line feed at the end begins one more line.
    text.push('\n');
    let blank = true_or(blank.as_ref(), false);
    let lines: Vec<&str> = text.strip_suffix('\n').unwrap_or(&text).split('\n').collect();
    let mut out = String::new();
    for (i, line) in lines.iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        if (i > 0 && (blank || !line.is_empty())) || (i == 0 && true_or(first.as_ref(), false)) {
            out.push_str(&by);
        }
        out.push_str(line);
    }
    Value::str(out)
}

fn truncate(text: &str, given: &Given) -> Result<Value> {
    let [length, kill, end, leeway] = given.take(["length", "killwords", "end", "leeway"])?;
    let length = whole_or(length.as_ref(), 255)?.max(0) as usize;
    let end = end.map_or_else(|| Ok("...".to_owned()), |e| show::text(&e))?;
    let leeway = match &leeway {
        None | Some(Value::None) => 5,
        Some(n) => n.index()?.max(0) as usize,
    };
    if length < end.chars().count() {
        return Fault::err(format!("expected length >= {}, got {length}", end.chars().count()));
    }
    if text.chars().count() <= length.saturating_add(leeway) {
        return Value::str(text);
    }
    let kept: String = text.chars().take(length - end.chars().count()).collect();
    match true_or(kill.as_ref(), false) {
        true => Value::str(kept + &end),
        false => Value::str(kept.rsplit_once(' ').map_or(kept.as_str(), |k| k.0).to_owned() + &end),
    }
}
