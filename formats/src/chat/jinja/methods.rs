//! Methods of texts, lists, tuples, dictionaries and numbers. Those that change a value do not exist here: the
//! sandbox of transformers refuses them as well.

use super::call::{Given, whole_or};
use super::lexer::is_space;
use super::show::is_printable;
use super::value::{Dict, Value, View, charge, equal, lookup, walk, work};
use super::{Fault, Result, format, ops};

const TEXT: [&str; 44] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
];
/// Methods of texts that Python has and this does not.
const MISSING: [&str; 3] = ["encode", "maketrans", "translate"];
const DICT: [&str; 5] = ["items", "keys", "values", "get", "copy"];
/// What changes a list or a dictionary.
const CHANGES: [&str; 12] = [
    "append",
    "extend",
    "insert",
    "pop",
    "remove",
    "clear",
    "update",
    "setdefault",
    "popitem",
    "sort",
    "reverse",
    "add",
];

/// Whether a value has this method; one that would change it is an error.
pub(super) fn has(value: &Value, name: &str) -> Result<bool> {
    let found = match value {
        Value::Str(_) => TEXT.contains(&name) || MISSING.contains(&name),
        Value::List(_) => ["count", "index", "copy"].contains(&name),
        Value::Tuple(_) => ["count", "index"].contains(&name),
        Value::Dict(_) => DICT.contains(&name),
        Value::Float(_) => name == "is_integer",
        _ => false,
    };
    let changes = matches!(value, Value::List(_) | Value::Dict(_)) && CHANGES.contains(&name);
    match changes {
        true => Fault::err(format!("access to attribute '{name}' of '{}' object is unsafe", value.kind())),
        false => Ok(found),
    }
}

/// Calls a method that [`has`] found.
pub(super) fn call(value: &Value, name: &str, given: &Given) -> Result<Value> {
    match value {
        Value::Str(s) => {
            walk(s.len())?;
            if s.is_html() && ["format", "format_map", "join", "replace"].contains(&name) {
                return Fault::err(format!("the method '{name}' of a text that is HTML is not supported"));
            }
            let out = text(s, name, given)?;
            if s.is_html() { as_html(out) } else { Ok(out) }
        }
        Value::List(items) | Value::Tuple(items) => match name {
            "copy" => Ok(value.clone()),
            _ => sequence(items, name, given),
        },
        Value::Dict(dict) => mapping(value, dict, name, given),
        Value::Float(x) => Ok(Value::Bool(x.is_finite() && x.fract() == 0.0)),
        _ => Fault::err(format!("has no method '{name}'")),
    }
}

/// The same as HTML, which parts of HTML are.
fn as_html(value: Value) -> Result<Value> {
    match value {
        Value::Str(s) => Value::text_of(s.to_string(), true),
        Value::List(parts) => Value::list(parts.iter().cloned().map(as_html).collect::<Result<_>>()?),
        Value::Tuple(parts) => Value::tuple(parts.iter().cloned().map(as_html).collect::<Result<_>>()?),
        other => Ok(other),
    }
}

fn sequence(items: &[Value], name: &str, given: &Given) -> Result<Value> {
    let [wanted, from, to] = given.plain::<3>(1)?;
    let wanted = wanted.unwrap_or(Value::None);
    let (from, to) = bounds(items.len(), from.as_ref(), to.as_ref())?;
    let mut count = 0;
    for (i, item) in items.iter().enumerate() {
        if equal(item, &wanted)? && (name == "count" || (from..to).contains(&i)) {
            if name == "index" {
                return Ok(Value::Int(i as i128));
            }
            count += 1;
        }
    }
    if name == "index" { Fault::err("the value is not in the list") } else { Ok(Value::Int(count)) }
}

/// A range of positions as the last arguments of `find` and the like have it; it may begin behind the end.
fn bounds(len: usize, from: Option<&Value>, to: Option<&Value>) -> Result<(usize, usize)> {
    let n = len as i128;
    let at = |v: Option<&Value>, default: i128| -> Result<usize> {
        let i = match v {
            None | Some(Value::None) => default,
            Some(v) => v.index()?,
        };
        Ok(if i < 0 { (i + n).max(0) } else { i.min(n) } as usize)
    };
    let start = match from {
        None | Some(Value::None) => 0,
        Some(v) => v.index()?,
    };
    let start = if start < 0 { (start + n).max(0) } else { start };
    Ok((usize::try_from(start).unwrap_or(usize::MAX), at(to, n)?))
}

fn mapping(value: &Value, dict: &Dict, name: &str, given: &Given) -> Result<Value> {
    let view = |view| {
        given.plain::<0>(0)?;
        Ok(Value::View(view, dict.clone()))
    };
    match name {
        "items" => view(View::Items),
        "keys" => view(View::Keys),
        "values" => view(View::Values),
        "copy" => Ok(value.clone()),
        _ => {
            let [key, default] = given.plain::<2>(1)?;
            let found = lookup(dict, &key.unwrap_or(Value::None))?;
            Ok(found.or(default).unwrap_or(Value::None))
        }
    }
}

fn text(s: &str, name: &str, given: &Given) -> Result<Value> {
    if name.starts_with("is") {
        given.plain::<0>(0)?;
        return Ok(Value::Bool(is(s, name)));
    }
    match name {
        name if MISSING.contains(&name) => {
            Fault::err(format!("the method '{name}' of texts is not supported"))
        }
        "find" | "rfind" | "index" | "rindex" | "count" => search(s, name, given),
        "startswith" | "endswith" => {
            let [affix, from, to] = given.plain::<3>(1)?;
            let part = part(s, from.as_ref(), to.as_ref())?;
            let one = |affix: &Value| -> Result<bool> {
                let affix = affix.text()?;
                let has =
                    |p: &str| if name == "startswith" { p.starts_with(affix) } else { p.ends_with(affix) };
                Ok(part.is_some_and(has))
            };
            let found = match affix.unwrap_or(Value::None) {
                Value::Tuple(all) => all.iter().map(one).collect::<Result<Vec<_>>>()?.contains(&true),
                one_affix => one(&one_affix)?,
            };
            Ok(Value::Bool(found))
        }
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = given.plain::<1>(0)?;
            strip(s, name, chars.as_ref())
        }
        "split" | "rsplit" => {
            let [sep, most] = given.take(["sep", "maxsplit"])?;
            split(s, name == "rsplit", sep.as_ref(), whole_or(most.as_ref(), -1)?)
        }
        "splitlines" => {
            let [keep] = given.take(["keepends"])?;
            lines(s, keep.is_some_and(|k| k.is_true()))
        }
        "partition" | "rpartition" => {
            let [sep] = given.plain::<1>(1)?;
            let sep = sep.unwrap_or(Value::None);
            let sep = sep.text()?;
            if sep.is_empty() {
                return Fault::err("empty separator");
            }
            let parts = match name {
                "partition" => s.split_once(sep).map_or([s, "", ""], |(a, b)| [a, sep, b]),
                _ => s.rsplit_once(sep).map_or(["", "", s], |(a, b)| [a, sep, b]),
            };
            Value::tuple(parts.into_iter().map(Value::str).collect::<Result<_>>()?)
        }
        "replace" => {
            let [old, new, count] = given.take(["old", "new", "count"])?;
            let (old, new) = (old.unwrap_or(Value::None), new.unwrap_or(Value::None));
            replace(s, old.text()?, new.text()?, whole_or(count.as_ref(), -1)?)
        }
        "join" => {
            let [items] = given.plain::<1>(1)?;
            let items = items.unwrap_or(Value::None).iter()?;
            let parts = items.iter().map(Value::text).collect::<Result<Vec<_>>>()?;
            joined(&parts, s)
        }
        "format" => Value::str(format::braces(s, &given.positional, &given.named)?),
        "format_map" => {
            let [map] = given.plain::<1>(1)?;
            let Some(Value::Dict(map)) = map else { return Fault::err("format_map() takes a mapping") };
            let named: Vec<_> =
                map.iter().filter_map(|(k, v)| Some((k.text().ok()?.to_owned(), v.clone()))).collect();
            Value::str(format::braces(s, &[], &named)?)
        }
        "center" | "ljust" | "rjust" | "zfill" | "expandtabs" => padded(s, name, given),
        "removeprefix" | "removesuffix" => {
            let [affix] = given.plain::<1>(1)?;
            let affix = affix.unwrap_or(Value::None);
            let affix = affix.text()?;
            let cut = if name == "removeprefix" { s.strip_prefix(affix) } else { s.strip_suffix(affix) };
            Value::str(cut.unwrap_or(s))
        }
        _ => {
            given.plain::<0>(0)?;
            work(s.len() / 4)?;
            drop(charge(3 * s.len())?);
            Value::str(cased(s, name))
        }
    }
}

/// `upper`, `lower` and their like.
pub(super) fn cased(s: &str, name: &str) -> String {
    match name {
        "upper" => s.to_uppercase(),
        "lower" => s.to_lowercase(),
        // The small letters of the capitals; one small letter has a capital that is another's.
        "casefold" => s
            .chars()
            .flat_map(|c| {
                if c == 'ı' { vec![c] } else { c.to_uppercase().flat_map(char::to_lowercase).collect() }
            })
            .collect(),
        "capitalize" => {
            let mut chars = s.chars();
            let first = chars.next().map(title).unwrap_or_default();
            first + &chars.as_str().to_lowercase()
        }
        "swapcase" => s
            .chars()
            .flat_map(|c| {
                if c.is_uppercase() {
                    c.to_lowercase().collect::<Vec<_>>()
                } else {
                    c.to_uppercase().collect()
                }
            })
            .collect(),
        _ => {
            let mut inside = false;
            let mut out = String::with_capacity(s.len());
            for c in s.chars() {
                if inside {
                    out.extend(c.to_lowercase())
                } else {
                    out.push_str(&title(c))
                }
                inside = c.is_alphabetic();
            }
            out
        }
    }
}

/// A character at the beginning of a word: where its capital is two, only the first of them is one.
fn title(c: char) -> String {
    let mut upper = c.to_uppercase();
    upper.next().into_iter().chain(upper.flat_map(char::to_lowercase)).collect()
}

fn is(s: &str, name: &str) -> bool {
    let all = |f: fn(char) -> bool| !s.is_empty() && s.chars().all(f);
    match name {
        "isascii" => s.is_ascii(),
        "isalnum" | "isalpha" | "isdecimal" | "isdigit" | "isnumeric" | "isidentifier" => {
            super::classes::is(s, name)
        }
        "islower" => s.chars().any(char::is_lowercase) && !s.chars().any(char::is_uppercase),
        "isupper" => s.chars().any(char::is_uppercase) && !s.chars().any(char::is_lowercase),
        "isprintable" => s.chars().all(is_printable),
        "isspace" => all(is_space),
        _ => {
            // Capitals begin words, and nothing else does.
            let (mut inside, mut any) = (false, false);
            for c in s.chars() {
                if c.is_uppercase() && inside || c.is_lowercase() && !inside {
                    return false;
                }
                inside = c.is_uppercase() || c.is_lowercase();
                any |= inside;
            }
            any
        }
    }
}

/// The characters from one position to another; `None` where the first is behind the other, where not even an empty
/// text is found.
fn part<'s>(s: &'s str, from: Option<&Value>, to: Option<&Value>) -> Result<Option<&'s str>> {
    if from.is_none() && to.is_none() {
        return Ok(Some(s));
    }
    let (from, to) = bounds(s.chars().count(), from, to)?;
    let byte = |n: usize| s.char_indices().nth(n).map_or(s.len(), |(i, _)| i);
    Ok((from <= to).then(|| &s[byte(from)..byte(to)]))
}

fn search(s: &str, name: &str, given: &Given) -> Result<Value> {
    let [wanted, from, to] = given.plain::<3>(1)?;
    let wanted = wanted.unwrap_or(Value::None);
    let wanted = wanted.text()?;
    let part = part(s, from.as_ref(), to.as_ref())?;
    if name == "count" {
        let places =
            |p: &str| if wanted.is_empty() { p.chars().count() + 1 } else { p.matches(wanted).count() };
        return Ok(Value::Int(part.map_or(0, places) as i128));
    }
    let found = part.and_then(|p| {
        let at = if name.starts_with('r') { p.rfind(wanted) } else { p.find(wanted) };
        Some(p[..at?].chars().count())
    });
    let skipped = bounds(s.chars().count(), from.as_ref(), None)?.0;
    match found {
        Some(at) => Ok(Value::Int((skipped + at) as i128)),
        None if name.ends_with("find") => Ok(Value::Int(-1)),
        None => Fault::err("substring not found"),
    }
}

/// `strip`, `lstrip` and `rstrip`, of white space or of these characters.
pub(super) fn strip(s: &str, name: &str, chars: Option<&Value>) -> Result<Value> {
    let set: Option<Vec<char>> = match chars {
        None | Some(Value::None) => None,
        Some(v) => Some(v.text()?.chars().collect()),
    };
    let out = |c: char| set.as_ref().map_or_else(|| is_space(c), |set| set.contains(&c));
    let s = if name == "rstrip" { s } else { s.trim_start_matches(out) };
    Value::str(if name == "lstrip" { s } else { s.trim_end_matches(out) })
}

fn split(s: &str, right: bool, sep: Option<&Value>, most: i128) -> Result<Value> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut parts: Vec<&str> = match sep {
        None | Some(Value::None) => return split_blank(s, right, most),
        Some(sep) => {
            let sep = sep.text()?;
            if sep.is_empty() {
                return Fault::err("empty separator");
            }
            let n = most.saturating_add(1);
            if right { s.rsplitn(n, sep).collect() } else { s.splitn(n, sep).collect() }
        }
    };
    if right {
        parts.reverse();
    }
    texts(&parts)
}

/// Words, as `split()` without a separator finds them.
fn split_blank(s: &str, right: bool, most: usize) -> Result<Value> {
    let mut parts = Vec::new();
    let mut rest = s.trim_matches(is_space);
    while !rest.is_empty() {
        let cut = match (parts.len() < most, right) {
            (false, _) => None,
            (true, false) => {
                rest.find(is_space).map(|at| (&rest[..at], rest[at..].trim_start_matches(is_space)))
            }
            (true, true) => rest.rfind(is_space).map(|at| {
                let width = rest[at..].chars().next().map_or(1, char::len_utf8);
                (&rest[at + width..], rest[..at].trim_end_matches(is_space))
            }),
        };
        let (part, left) = cut.unwrap_or((rest, ""));
        parts.push(part);
        rest = left;
    }
    // What is left over keeps the white space on its far side.
    if parts.len() > most
        && let Some(last) = parts.last_mut()
    {
        let at = last.as_ptr() as usize - s.as_ptr() as usize;
        *last = if right { s[..at + last.len()].trim_end_matches(is_space) } else { &s[at..] };
    }
    if right {
        parts.reverse();
    }
    texts(&parts)
}

fn texts(parts: &[&str]) -> Result<Value> {
    drop(charge(parts.len() * 2 * size_of::<Value>())?);
    Value::list(parts.iter().map(|p| Value::str(*p)).collect::<Result<_>>()?)
}

fn lines(s: &str, keep: bool) -> Result<Value> {
    texts(&split_lines(s, keep))
}

/// The lines of a text, with what ends them where that is asked for.
pub(super) fn split_lines(s: &str, keep: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = s;
    let ends = ['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    while !rest.is_empty() {
        let at = rest.find(ends).unwrap_or(rest.len());
        let width = match &rest[at..] {
            tail if tail.starts_with("\r\n") => 2,
            tail => tail.chars().next().map_or(0, char::len_utf8),
        };
        parts.push(&rest[..if keep { at + width } else { at }]);
        rest = &rest[at + width..];
    }
    parts
}

/// `replace`, of at most so many places where the number is not negative.
pub(super) fn replace(s: &str, old: &str, new: &str, count: i128) -> Result<Value> {
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    let places = if old.is_empty() { s.chars().count() + 1 } else { s.matches(old).count() }.min(most);
    drop(charge(s.len().saturating_add(places.saturating_mul(new.len())))?);
    walk(s.len() + places * new.len())?;
    Value::str(s.replacen(old, new, most))
}

/// Texts with another between them.
pub(super) fn joined(parts: &[&str], between: &str) -> Result<Value> {
    let total = parts.iter().map(|p| p.len()).sum::<usize>() + between.len().saturating_mul(parts.len());
    drop(charge(total)?);
    Value::str(parts.join(between))
}

fn padded(s: &str, name: &str, given: &Given) -> Result<Value> {
    if name == "expandtabs" {
        let [size] = given.take(["tabsize"])?;
        let size = whole_or(size.as_ref(), 8)?.clamp(0, 1 << 16) as usize;
        drop(charge(s.matches('\t').count().saturating_mul(size))?);
        let (mut out, mut column) = (String::new(), 0);
        for c in s.chars() {
            match c {
                '\t' if size > 0 => {
                    let n = size - column % size;
                    out.extend(std::iter::repeat_n(' ', n));
                    column += n;
                }
                '\t' => {}
                c => {
                    out.push(c);
                    column = if c == '\n' || c == '\r' { 0 } else { column + 1 };
                }
            }
        }
        return Value::str(out);
    }
    let [width, fill] = given.plain::<2>(1)?;
    let width = usize::try_from(whole_or(width.as_ref(), 0)?).unwrap_or(0);
    let fill = match &fill {
        None => ' ',
        Some(v) => match v.text()?.chars().collect::<Vec<_>>()[..] {
            [c] => c,
            _ => return Fault::err("The fill character must be exactly one character long"),
        },
    };
    let missing = width.saturating_sub(s.chars().count());
    drop(charge(missing.saturating_mul(fill.len_utf8()))?);
    let run = |n: usize, c: char| std::iter::repeat_n(c, n).collect::<String>();
    match name {
        "ljust" => ops::join(&[s, &run(missing, fill)]),
        "rjust" => ops::join(&[&run(missing, fill), s]),
        "zfill" => {
            let (sign, digits) = s.split_at(usize::from(s.starts_with(['+', '-'])));
            ops::join(&[sign, &run(missing, '0'), digits])
        }
        _ => {
            // Python puts the odd one to the left where the width is odd.
            let left = missing / 2 + (missing & width & 1);
            ops::join(&[&run(left, fill), s, &run(missing - left, fill)])
        }
    }
}
