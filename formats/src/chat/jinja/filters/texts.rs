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
        "string" => {
            given.plain::<0>(0)?;
            if let Value::Str(_) = value { Ok(value.clone()) } else { Value::str(text) }
        }
        "safe" => {
            given.plain::<0>(0)?;
            Value::text_of(text, true)
        }
        "upper" | "lower" | "capitalize" => {
            given.plain::<0>(0)?;
            Value::text_of(methods::cased(&text, name), value.is_html())
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
            let out = methods::strip(&text, "strip", chars.as_ref())?;
            if value.is_html() { Value::text_of(show::text(&out)?, true) } else { Ok(out) }
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
        // What is no text cannot have a line feed put behind it.
        "indent" => Value::text_of(indent(value.text()?, given)?, value.is_html()),
        "truncate" => truncate(value, given),
        "wordcount" => {
            let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|w| !w.is_empty());
            Ok(Value::Int(words.count() as i128))
        }
        "format" if value.is_html() => Fault::err("formatting a text that is HTML is not supported"),
        "format" => match (given.positional.is_empty(), given.named.is_empty()) {
            (false, false) => Fault::err("can't handle positional and keyword arguments at the same time"),
            (_, true) => Value::str(format::percent(&text, &Value::tuple(given.positional.clone())?)?),
            (true, false) => {
                let pair = |(k, v): &(String, Value)| Ok((Value::str(k.as_str())?, v.clone()));
                let named = Value::dict(given.named.iter().map(pair).collect::<Result<_>>()?)?;
                Value::str(format::percent(&text, &named)?)
            }
        },
        "e" | "escape" if value.is_html() => Ok(value.clone()),
        "e" | "escape" | "forceescape" => {
            drop(charge(6 * text.len())?);
            Value::text_of(show::escaped(&text), true)
        }
        "striptags" => {
            let mut out = String::new();
            let mut rest = text.as_str();
            while let Some(at) = rest.find('<') {
                let close = if rest[at..].starts_with("<!--") { "-->" } else { ">" };
                let Some(end) = rest[at..].find(close) else { break };
                out.push_str(&rest[..at]);
                rest = &rest[at + end + close.len()..];
            }
            out.push_str(rest);
            let words: Vec<&str> = out.split(is_space).filter(|w| !w.is_empty()).collect();
            Value::str(unescaped(&words.join(" ")))
        }
        _ => urlencode(value, &text),
    }
}

/// A text without the names and numbers that stand for characters.
fn unescaped(text: &str) -> String {
    const NAMES: [(&str, char); 6] =
        [("amp", '&'), ("lt", '<'), ("gt", '>'), ("quot", '"'), ("apos", '\''), ("nbsp", '\u{a0}')];
    let mut parts = text.split('&');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let found = part.split_once(';').and_then(|(name, rest)| {
            let named = NAMES.iter().find(|(n, _)| *n == name).map(|(_, c)| *c);
            let number = name.strip_prefix('#').and_then(|n| match n.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok(),
                None => n.parse().ok(),
            });
            Some((named.or_else(|| number.and_then(char::from_u32))?, rest))
        });
        match found {
            Some((c, rest)) => {
                out.push(c);
                out.push_str(rest);
            }
            None => {
                out.push('&');
                out.push_str(part);
            }
        }
    }
    out
}

/// A text as part of an address, or pairs as what stands behind its question mark.
fn urlencode(value: &Value, text: &str) -> Result<Value> {
    let quoted = |text: &str, query: bool| -> Result<String> {
        drop(charge(3 * text.len())?);
        let mut out = String::new();
        for b in text.bytes() {
            match b {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(b.into()),
                b'/' if !query => out.push('/'),
                b' ' if query => out.push('+'),
                _ => out.push_str(&format!("%{b:02X}")),
            }
        }
        Ok(out)
    };
    let pairs = match value {
        Value::Dict(pairs) => pairs.to_vec(),
        Value::List(_) | Value::Tuple(_) | Value::View(..) | Value::Range(..) | Value::Generator(_) => {
            let pair = |item: Value| match &item.iter()?[..] {
                [key, value] => Ok((key.clone(), value.clone())),
                other => Fault::err(format!("a pair was expected to encode, not {} values", other.len())),
            };
            value.iter()?.into_iter().map(pair).collect::<Result<_>>()?
        }
        _ => return Value::str(quoted(text, false)?),
    };
    let one = |(key, value): &(Value, Value)| {
        Ok(format!("{}={}", quoted(&show::text(key)?, true)?, quoted(&show::text(value)?, true)?))
    };
    Value::str(pairs.iter().map(one).collect::<Result<Vec<_>>>()?.join("&"))
}

fn indent(text: &str, given: &Given) -> Result<String> {
    let [width, first, blank] = given.take(["width", "first", "blank"])?;
    let by = match width {
        Some(Value::Str(s)) => s.to_string(),
        width => {
            let n = usize::try_from(whole_or(width.as_ref(), 4)?).unwrap_or(0);
            drop(charge(n)?);
            " ".repeat(n)
        }
    };
    // A line feed at the end begins one more line.
    let text = format!("{text}\n");
    let lines = methods::split_lines(&text, false);
    drop(charge(by.len().saturating_mul(lines.len()))?);
    walk(by.len().saturating_mul(lines.len()))?;
    let blank = true_or(blank.as_ref(), false);
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
    Ok(out)
}

fn truncate(value: &Value, given: &Given) -> Result<Value> {
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
    // What is short enough stays what it is, a list for instance.
    if value.len()? <= length.saturating_add(leeway) {
        return Ok(value.clone());
    }
    let text = value.text()?;
    let kept: String = text.chars().take(length - end.chars().count()).collect();
    match true_or(kill.as_ref(), false) {
        true => Value::str(kept + &end),
        false => Value::str(kept.rsplit_once(' ').map_or(kept.as_str(), |k| k.0).to_owned() + &end),
    }
}
