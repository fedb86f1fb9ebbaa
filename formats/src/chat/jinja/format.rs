//! `text % values` and `text.format(values)`.

use super::show::{Out, float, repr, text};
use super::value::{Value, charge};
use super::{Fault, Result, ops};

/// The longest field that a number of digits can ask for.
const MAX_WIDTH: usize = 1 << 20;

/// How a value is laid out: `[[fill]align][sign][#][0][width][,][.precision][type]`.
#[derive(Debug, Default, Clone)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    alternate: bool,
    zero: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
    ty: Option<char>,
}

/// `template % values`.
pub(super) fn percent(template: &str, values: &Value) -> Result<String> {
    let positional = match values {
        Value::Tuple(items) => items.to_vec(),
        other => vec![other.clone()],
    };
    let mut rest = positional.iter();
    let (mut out, mut used_key) = (Out::default(), false);
    let mut chars = template.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.char(c)?;
            continue;
        }
        let mut key = None;
        if chars.peek() == Some(&'(') {
            chars.next();
            key = Some(chars.by_ref().take_while(|c| *c != ')').collect::<String>());
            used_key = true;
        }
        let mut spec = Spec::default();
        while let Some(flag) = chars.next_if(|c| "#0- +".contains(*c)) {
            match flag {
                '#' => spec.alternate = true,
                '0' => spec.zero = true,
                '-' => spec.align = Some('<'),
                sign if spec.sign != Some('+') => spec.sign = Some(sign),
                _ => {}
            }
        }
        spec.width = size(&mut chars, &mut rest)?.unwrap_or(0);
        // A point without digits behind it is none of them.
        if chars.next_if_eq(&'.').is_some() {
            spec.precision = size(&mut chars, &mut rest)?.or(Some(0));
        }
        while chars.next_if(|c| "hlL".contains(*c)).is_some() {}
        let Some(ty) = chars.next() else { return Fault::err("incomplete format") };
        if ty == '%' {
            out.push("%")?;
            continue;
        }
        let value = match key {
            Some(key) => keyed(values, &key)?,
            None => rest.next().ok_or_else(few)?.clone(),
        };
        out.push(&converted(&value, ty, spec)?)?;
    }
    let left = rest.next().is_some() && !used_key;
    match left && !matches!(values, Value::Dict(_) | Value::List(_)) {
        true => Fault::err("not all arguments converted during string formatting"),
        false => Ok(out.done()),
    }
}

/// A width or a number of digits: written out, or `*` for the next value.
fn size(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    rest: &mut std::slice::Iter<'_, Value>,
) -> Result<Option<usize>> {
    if chars.next_if_eq(&'*').is_some() {
        let n = rest.next().ok_or_else(few)?.index()?;
        return Ok(Some(n.clamp(0, MAX_WIDTH as i128) as usize));
    }
    let mut n = None;
    while let Some(d) = chars.peek().and_then(|c| c.to_digit(10)) {
        chars.next();
        n = Some((n.unwrap_or(0) * 10 + d as usize).min(MAX_WIDTH));
    }
    Ok(n)
}

fn few() -> Fault {
    Fault::Fail(0, "not enough arguments for format string".to_owned())
}

fn keyed(values: &Value, key: &str) -> Result<Value> {
    match values {
        Value::Dict(d) => {
            d.text(key).cloned().ok_or_else(|| Fault::Fail(0, format!("there is no key {key:?} to format")))
        }
        _ => Fault::err("format requires a mapping"),
    }
}

/// One value of `%`.
fn converted(value: &Value, ty: char, mut spec: Spec) -> Result<String> {
    let right = |mut spec: Spec, body: String| {
        spec.align = spec.align.or(Some('>'));
        pad(&body, &spec)
    };
    match ty {
        's' | 'r' | 'a' => {
            let body = match ty {
                's' => text(value)?,
                'r' => repr_of(value)?,
                _ => ascii_of(value)?,
            };
            let body = match spec.precision {
                Some(n) => body.chars().take(n).collect(),
                None => body,
            };
            spec.zero = false;
            right(spec, body)
        }
        'c' => {
            let body = match value {
                Value::Str(s) if s.chars().count() == 1 => s.to_string(),
                Value::Int(i) => match u32::try_from(*i).ok().and_then(char::from_u32) {
                    Some(c) => c.to_string(),
                    None => return Fault::err("%c arg not in range"),
                },
                _ => return Fault::err("%c requires int or char"),
            };
            right(spec, body)
        }
        'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
            let whole = match (value, ty) {
                (Value::Float(x), 'd' | 'i' | 'u') if x.is_finite() => Value::Int(x.trunc() as i128),
                (Value::Int(_) | Value::Bool(_), _) => Value::Int(value.index()?),
                (other, _) => {
                    return Fault::err(format!("%{ty} format: a number is required, not {}", other.kind()));
                }
            };
            let digits = spec.precision.take().unwrap_or(0);
            spec.ty = Some(if matches!(ty, 'i' | 'u') { 'd' } else { ty });
            if digits > 0 {
                let inner = Spec { zero: true, width: digits, ..Spec::default() };
                let body = number(&whole, &Spec { ty: spec.ty, ..inner })?;
                return right(Spec { zero: false, ..spec }, body);
            }
            number(&whole, &spec)
        }
        'f' | 'F' | 'e' | 'E' | 'g' | 'G' => match value.number() {
            Some(x) => number(&Value::Float(x), &Spec { ty: Some(ty), ..spec }),
            None => Fault::err(format!("must be real number, not {}", value.kind())),
        },
        other => Fault::err(format!("unsupported format character '{other}'")),
    }
}

fn repr_of(value: &Value) -> Result<String> {
    let mut out = Out::default();
    repr(value, &mut out, 0)?;
    Ok(out.done())
}

/// `ascii(value)`.
fn ascii_of(value: &Value) -> Result<String> {
    let mut out = Out::default();
    for c in repr_of(value)?.chars() {
        match c as u32 {
            ..0x80 => out.char(c)?,
            code @ ..0x100 => out.push(&format!("\\x{code:02x}"))?,
            code @ ..0x10000 => out.push(&format!("\\u{code:04x}"))?,
            code => out.push(&format!("\\U{code:08x}"))?,
        }
    }
    Ok(out.done())
}

/// Which argument a field without a name takes.
#[derive(Default)]
struct Numbering {
    next: usize,
    /// A field has had a number.
    given: bool,
}

/// `template.format(*args, **named)`.
pub(super) fn braces(template: &str, args: &[Value], named: &[(String, Value)]) -> Result<String> {
    fields(template, args, named, &mut Numbering::default(), 0)
}

fn fields(
    template: &str,
    args: &[Value],
    named: &[(String, Value)],
    next: &mut Numbering,
    level: usize,
) -> Result<String> {
    if level > 2 {
        return Fault::err("Max string recursion exceeded");
    }
    let mut out = Out::default();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        out.push(&rest[..at])?;
        let mark = &rest[at..=at];
        rest = &rest[at + 1..];
        if rest.starts_with(mark) {
            out.push(mark)?;
            rest = &rest[1..];
            continue;
        }
        if mark == "}" {
            return Fault::err("Single '}' encountered in format string");
        }
        let mut depth = 1;
        let end = rest.char_indices().find(|(_, c)| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            depth == 0
        });
        let Some((end, _)) = end else { return Fault::err("expected '}' before end of string") };
        let field = &rest[..end];
        rest = &rest[end + 1..];
        let (name, spec) = field.split_once(':').unwrap_or((field, ""));
        let (name, conversion) = name.split_once('!').map_or((name, None), |(n, c)| (n, Some(c)));
        let value = argument(name, args, named, next)?;
        let spec = fields(spec, args, named, next, level + 1)?;
        let value = match conversion {
            None => value,
            Some("r") => Value::str(repr_of(&value)?)?,
            Some("a") => Value::str(ascii_of(&value)?)?,
            Some("s") => Value::str(text(&value)?)?,
            Some(_) => return Fault::err("Unknown conversion specifier"),
        };
        out.push(&formatted(&value, &spec)?)?;
    }
    out.push(rest)?;
    Ok(out.done())
}

/// What `0`, `name`, `0.field` or `name[key]` stands for.
fn argument(name: &str, args: &[Value], named: &[(String, Value)], next: &mut Numbering) -> Result<Value> {
    let end = name.find(['.', '[']).unwrap_or(name.len());
    let (first, mut path) = name.split_at(end);
    let number = first.parse::<usize>().ok();
    next.given |= number.is_some();
    if next.given && (first.is_empty() || next.next > 0 && number.is_some()) {
        return Fault::err("some fields to format have numbers and others have none");
    }
    let found = if first.is_empty() {
        next.next += 1;
        args.get(next.next - 1).cloned()
    } else if let Some(i) = number {
        args.get(i).cloned()
    } else {
        named.iter().find(|n| n.0 == first).map(|n| n.1.clone())
    };
    let missing = || Fault::Fail(0, format!("there is no argument {first:?} to format"));
    let mut value = found.ok_or_else(missing)?;
    while !path.is_empty() {
        let key;
        (key, path) = match path.strip_prefix('[') {
            Some(inner) => inner.split_once(']').ok_or_else(missing)?,
            None => {
                let inner = &path[1..];
                inner.split_at(inner.find(['.', '[']).unwrap_or(inner.len()))
            }
        };
        let index = match key.parse::<i128>() {
            Ok(i) => Value::Int(i),
            Err(_) => Value::str(key)?,
        };
        value = ops::item(&value, &index)?.ok_or_else(missing)?;
    }
    Ok(value)
}

/// `format(value, spec)`.
fn formatted(value: &Value, spec: &str) -> Result<String> {
    if spec.is_empty() {
        return text(value);
    }
    let parsed = parse(spec)?;
    match value {
        Value::Str(s) => match parsed.ty {
            None | Some('s') => {
                let body = match parsed.precision {
                    Some(n) => s.chars().take(n).collect(),
                    None => s.to_string(),
                };
                let fill = parsed.fill.or(parsed.zero.then_some('0'));
                pad(&body, &Spec { align: parsed.align.or(Some('<')), zero: false, fill, ..parsed })
            }
            Some(ty) => Fault::err(format!("Unknown format code '{ty}' for object of type 'str'")),
        },
        Value::Float(_) if parsed.ty.is_some_and(|ty| "bcdosxX".contains(ty)) => {
            let ty = parsed.ty.unwrap_or_default();
            Fault::err(format!("Unknown format code '{ty}' for object of type 'float'"))
        }
        Value::Int(_) | Value::Bool(_) | Value::Float(_) => number(value, &parsed),
        other => Fault::err(format!("unsupported format string passed to {}.__format__", other.kind())),
    }
}

fn parse(spec: &str) -> Result<Spec> {
    let chars: Vec<char> = spec.chars().collect();
    let mut at = 0;
    let mut out = Spec::default();
    let is_align = |c: Option<&char>| c.is_some_and(|c| "<>=^".contains(*c));
    if is_align(chars.get(1)) {
        (out.fill, out.align, at) = (Some(chars[0]), Some(chars[1]), 2);
    } else if is_align(chars.first()) {
        (out.align, at) = (Some(chars[0]), 1);
    }
    let mut take = |set: &str| {
        let c = chars.get(at).copied().filter(|c| set.contains(*c));
        at += usize::from(c.is_some());
        c
    };
    out.sign = take("+- ");
    out.alternate = take("#").is_some();
    out.zero = take("0").is_some();
    let digits = |take: &mut dyn FnMut(&str) -> Option<char>| {
        let mut n = None;
        while let Some(d) = take("0123456789").and_then(|c| c.to_digit(10)) {
            n = Some((n.unwrap_or(0) * 10 + d as usize).min(MAX_WIDTH));
        }
        n
    };
    out.width = digits(&mut take).unwrap_or(0);
    out.grouping = take(",_");
    if take(".").is_some() {
        out.precision = digits(&mut take);
    }
    out.ty = take("bcdeEfFgGnosxX%");
    match at == chars.len() {
        true => Ok(out),
        false => Fault::err("Invalid format specifier"),
    }
}

/// A number with sign, digits and padding.
fn number(value: &Value, spec: &Spec) -> Result<String> {
    let (negative, mut digits, prefix) = match (value, spec.ty) {
        (Value::Int(_) | Value::Bool(_), None | Some('d' | 'n' | 'x' | 'X' | 'o' | 'b' | 'c')) => {
            let i = value.index()?;
            let n = i.unsigned_abs();
            let (digits, prefix) = match spec.ty {
                Some('x') => (format!("{n:x}"), "0x"),
                Some('X') => (format!("{n:X}"), "0X"),
                Some('o') => (format!("{n:o}"), "0o"),
                Some('b') => (format!("{n:b}"), "0b"),
                Some('c') => return pad(&char_of(i)?, spec),
                _ => (n.to_string(), ""),
            };
            (i < 0, digits, if spec.alternate { prefix } else { "" })
        }
        _ => {
            let x = value.number().unwrap_or(f64::NAN);
            (x.is_sign_negative() && !x.is_nan(), real(x.abs(), spec), "")
        }
    };
    let sign = match (negative, spec.sign) {
        (true, _) => "-",
        (false, Some('+')) => "+",
        (false, Some(' ')) => " ",
        _ => "",
    };
    if let Some(mark) = spec.grouping {
        let (each, base) = if spec.ty.is_some_and(|ty| "xXob".contains(ty)) { (4, 16) } else { (3, 10) };
        let whole = digits.find(|c: char| !c.is_digit(base)).unwrap_or(digits.len());
        let tail = digits.split_off(whole);
        if spec.zero && spec.align.is_none() {
            // Zeros are grouped as well, and no mark begins a number.
            let room = spec.width.saturating_sub(sign.len() + prefix.len() + tail.len());
            let own = digits.len();
            let wanted = (own.max(1)..).find(|n| n + (n - 1) / each >= room).unwrap_or(own);
            digits.insert_str(0, &"0".repeat(wanted - own));
        }
        let mut at = digits.len();
        while at > each {
            at -= each;
            digits.insert(at, mark);
        }
        digits.push_str(&tail);
    }
    let length = sign.len() + prefix.len() + digits.len();
    if (spec.zero && spec.align.is_none()) || spec.align == Some('=') {
        let fill = spec.fill.unwrap_or(if spec.zero { '0' } else { ' ' });
        let zeros: String = std::iter::repeat_n(fill, spec.width.saturating_sub(length)).collect();
        return Ok(format!("{sign}{prefix}{zeros}{digits}"));
    }
    pad(&format!("{sign}{prefix}{digits}"), &Spec { align: spec.align.or(Some('>')), ..spec.clone() })
}

fn char_of(i: i128) -> Result<String> {
    match u32::try_from(i).ok().and_then(char::from_u32) {
        Some(c) => Ok(c.to_string()),
        None => Fault::err("%c arg not in range"),
    }
}

/// A float that is not negative, as its type says.
fn real(x: f64, spec: &Spec) -> String {
    let precision = spec.precision.unwrap_or(6).min(1000);
    let exponent = |text: String| {
        let (digits, e) = text.split_once('e').unwrap_or((&text, "0"));
        let e: i32 = e.parse().unwrap_or(0);
        format!("{digits}e{}{:02}", if e < 0 { '-' } else { '+' }, e.abs())
    };
    if !x.is_finite() {
        return float(x);
    }
    let body = match spec.ty {
        None if spec.precision.is_none() => float(x),
        Some('f' | 'F') => format!("{x:.precision$}"),
        Some('%') => format!("{:.precision$}%", x * 100.0),
        Some('e' | 'E') => exponent(format!("{x:.precision$e}")),
        _ => {
            // As many digits as asked for, without an exponent where it is small.
            let precision = precision.max(1);
            let scientific = format!("{x:.*e}", precision - 1);
            let e: i32 = scientific.split_once('e').and_then(|p| p.1.parse().ok()).unwrap_or(0);
            let limit = if spec.ty.is_none() { precision as i32 - 1 } else { precision as i32 };
            let body = match (-4..limit.max(1)).contains(&e) {
                true => format!("{x:.*}", (precision as i32 - 1 - e).max(0) as usize),
                false => exponent(scientific),
            };
            let (digits, tail) = body.split_at(body.find('e').unwrap_or(body.len()));
            let trimmed = match digits.contains('.') && !spec.alternate {
                true => digits.trim_end_matches('0').trim_end_matches('.'),
                false => digits,
            };
            let point =
                if spec.ty.is_none() && tail.is_empty() && !trimmed.contains('.') { ".0" } else { "" };
            format!("{trimmed}{point}{tail}")
        }
    };
    if matches!(spec.ty, Some('E' | 'F' | 'G')) { body.to_uppercase() } else { body }
}

/// A body as wide as the field.
fn pad(body: &str, spec: &Spec) -> Result<String> {
    let length = body.chars().count();
    let missing = spec.width.saturating_sub(length);
    let fill = spec.fill.unwrap_or(' ');
    drop(charge(missing * fill.len_utf8())?);
    let run = |n: usize| std::iter::repeat_n(fill, n).collect::<String>();
    Ok(match spec.align {
        Some('>' | '=') => format!("{}{body}", run(missing)),
        Some('^') => format!("{}{body}{}", run(missing / 2), run(missing - missing / 2)),
        _ => format!("{body}{}", run(missing)),
    })
}
