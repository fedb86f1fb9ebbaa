//! Arithmetic, indices and slices as Python has them.

use super::value::{Value, charge, lookup, walk, work};
use super::{Fault, Result, format};

fn undefined(a: &Value, b: &Value) -> Result<()> {
    match (a, b) {
        (Value::Undefined(name), _) | (_, Value::Undefined(name)) => {
            Fault::err(format!("'{name}' is undefined"))
        }
        _ => Ok(()),
    }
}

fn unsupported<T>(op: &str, a: &Value, b: &Value) -> Result<T> {
    Fault::err(format!("unsupported operand type(s) for {op}: '{}' and '{}'", a.kind(), b.kind()))
}

fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Int(i) => Some(*i),
        Value::Bool(b) => Some((*b).into()),
        _ => None,
    }
}

/// `a OP b`.
pub(super) fn binary(op: &str, a: &Value, b: &Value) -> Result<Value> {
    if let (Value::Str(text), "%") = (a, op) {
        if text.is_html() {
            return Fault::err("formatting a text that is HTML with % is not supported");
        }
        return Value::str(format::percent(text, b)?);
    }
    undefined(a, b)?;
    match (op, a, b) {
        ("+", Value::Str(x), Value::Str(y)) if x.is_html() || y.is_html() => {
            let part =
                |t: &super::value::Text| if t.is_html() { t.to_string() } else { super::show::escaped(t) };
            drop(charge(6 * (x.len() + y.len()))?);
            Value::text_of(part(x) + &part(y), true)
        }
        ("+", Value::Str(x), Value::Str(y)) => join(&[x, y]),
        ("+", Value::Str(_), other) => {
            Fault::err(format!("can only concatenate str (not \"{}\") to str", other.kind()))
        }
        ("+", Value::List(x), Value::List(y)) => Value::list(both(x, y)?),
        ("+", Value::Tuple(x), Value::Tuple(y)) => Value::tuple(both(x, y)?),
        ("*", Value::Str(text), n) | ("*", n, Value::Str(text)) if whole(n).is_some() => {
            let n = times(n, text.len())?;
            Value::str(text.repeat(n))
        }
        ("*", Value::List(items), n) | ("*", n, Value::List(items)) if whole(n).is_some() => {
            Value::list(repeated(items, n)?)
        }
        ("*", Value::Tuple(items), n) | ("*", n, Value::Tuple(items)) if whole(n).is_some() => {
            Value::tuple(repeated(items, n)?)
        }
        _ => arithmetic(op, a, b),
    }
}

fn both(a: &[Value], b: &[Value]) -> Result<Vec<Value>> {
    work(a.len() + b.len())?;
    drop(charge((a.len() + b.len()) * size_of::<Value>())?);
    Ok([a, b].concat())
}

/// How often something of `size` is repeated, where that can be paid.
fn times(n: &Value, size: usize) -> Result<usize> {
    let n = usize::try_from(whole(n).unwrap_or(0).max(0)).unwrap_or(usize::MAX);
    drop(charge(size.saturating_mul(n))?);
    Ok(n)
}

fn repeated(items: &[Value], n: &Value) -> Result<Vec<Value>> {
    let n = times(n, std::mem::size_of_val(items))?;
    work(items.len().saturating_mul(n))?;
    Ok(std::iter::repeat_n(items, n).flatten().cloned().collect())
}

/// Texts one after the other.
pub(super) fn join(parts: &[&str]) -> Result<Value> {
    let length = parts.iter().map(|p| p.len()).sum();
    drop(charge(length)?);
    let mut out = String::with_capacity(length);
    parts.iter().for_each(|p| out.push_str(p));
    Value::str(out)
}

fn arithmetic(op: &str, a: &Value, b: &Value) -> Result<Value> {
    let too_large = || Fault::Fail(0, "a number is larger than is supported here".to_owned());
    if let (Some(x), Some(y)) = (whole(a), whole(b)) {
        if y == 0 && ["/", "//", "%"].contains(&op) {
            return Fault::err("division by zero");
        }
        let result = match op {
            "+" => x.checked_add(y),
            "-" => x.checked_sub(y),
            "*" => x.checked_mul(y),
            "//" => Some(x.div_euclid(y) - i128::from(y < 0 && x.rem_euclid(y) != 0)),
            "%" => {
                let rest = x % y;
                Some(if rest != 0 && (rest < 0) != (y < 0) { rest + y } else { rest })
            }
            "/" => return Ok(Value::Float(x as f64 / y as f64)),
            _ if y < 0 && x == 0 => return Fault::err("0.0 cannot be raised to a negative power"),
            _ if y < 0 => return Ok(Value::Float((x as f64).powf(y as f64))),
            _ => match (x, u32::try_from(y)) {
                (0 | 1, _) => Some(if y == 0 { 1 } else { x }),
                (_, Ok(y)) => x.checked_pow(y),
                _ => None,
            },
        };
        let floor = |x: i128, y: i128| {
            let q = x / y;
            if x % y != 0 && ((x < 0) != (y < 0)) { q - 1 } else { q }
        };
        let result = if op == "//" { Some(floor(x, y)) } else { result };
        return result.map(Value::Int).ok_or_else(too_large);
    }
    let (Some(x), Some(y)) = (a.number(), b.number()) else {
        return unsupported(if op == "**" { "** or pow()" } else { op }, a, b);
    };
    if y == 0.0 && ["/", "//", "%"].contains(&op) {
        return Fault::err("float division by zero");
    }
    Ok(Value::Float(match op {
        "+" => x + y,
        "-" => x - y,
        "*" => x * y,
        "/" => x / y,
        "//" => (x / y).floor(),
        "%" => {
            let rest = x % y;
            if rest != 0.0 && (rest < 0.0) != (y < 0.0) { rest + y } else { rest }
        }
        _ => x.powf(y),
    }))
}

/// `-a` and `+a`.
pub(super) fn sign(value: &Value, negative: bool) -> Result<Value> {
    match (value, whole(value)) {
        (_, Some(i)) => Ok(Value::Int(if negative { -i } else { i })),
        (Value::Float(x), _) => Ok(Value::Float(if negative { -x } else { *x })),
        (Value::Undefined(name), _) => Fault::err(format!("'{name}' is undefined")),
        (other, _) => {
            let op = if negative { '-' } else { '+' };
            Fault::err(format!("bad operand type for unary {op}: '{}'", other.kind()))
        }
    }
}

/// Position `index` of `len`, from the end where it is negative.
fn position(index: i128, len: usize) -> Option<usize> {
    let at = if index < 0 { index + len as i128 } else { index };
    usize::try_from(at).ok().filter(|at| *at < len)
}

/// `value[index]` of what has positions or keys; `None` where there is no such item.
pub(super) fn item(value: &Value, index: &Value) -> Result<Option<Value>> {
    match (value, whole(index)) {
        (Value::Dict(dict), _) => lookup(dict, index),
        (Value::List(items) | Value::Tuple(items), Some(i)) => {
            Ok(position(i, items.len()).map(|at| items[at].clone()))
        }
        (Value::Str(text), Some(i)) => {
            if text.is_ascii() {
                return position(i, text.len()).map(|at| Value::str(&text[at..=at])).transpose();
            }
            walk(text.len())?;
            let count = text.chars().count();
            position(i, count).and_then(|at| text.chars().nth(at)).map(Value::str).transpose()
        }
        (Value::Range(start, n, step), Some(i)) => {
            Ok(position(i, *n).map(|at| Value::Int(start + at as i128 * step)))
        }
        _ => Ok(None),
    }
}

/// The positions that `[start:stop:step]` takes of `len`.
fn positions(len: usize, parts: [Option<i128>; 3]) -> Result<Vec<usize>> {
    let step = parts[2].unwrap_or(1);
    if step == 0 {
        return Fault::err("slice step cannot be zero");
    }
    let n = len as i128;
    let bound = |v: Option<i128>, default: i128| match v {
        None => default,
        Some(v) if v < 0 => (v + n).max(if step < 0 { -1 } else { 0 }),
        Some(v) => v.min(if step < 0 { n - 1 } else { n }),
    };
    let (start, stop) = match step > 0 {
        true => (bound(parts[0], 0), bound(parts[1], n)),
        false => (bound(parts[0], n - 1), bound(parts[1], -1)),
    };
    let mut out = Vec::new();
    let mut at = start;
    while (step > 0 && at < stop) || (step < 0 && at > stop) {
        out.push(at as usize);
        at = at.saturating_add(step);
    }
    work(out.len())?;
    Ok(out)
}

/// `value[start:stop:step]`.
pub(super) fn slice(value: &Value, parts: &[Value; 3]) -> Result<Value> {
    let bound = |v: &Value| match v {
        Value::None => Ok(None),
        v => v.index().map(Some),
    };
    let parts = [bound(&parts[0])?, bound(&parts[1])?, bound(&parts[2])?];
    match value {
        Value::Str(text) => {
            walk(text.len())?;
            // Characters, positions, and what is taken of them.
            drop(charge(16 * text.len())?);
            let chars: Vec<char> = text.chars().collect();
            let taken: String = positions(chars.len(), parts)?.into_iter().map(|at| chars[at]).collect();
            Value::str(taken)
        }
        Value::List(items) | Value::Tuple(items) => {
            drop(charge(items.len() * (size_of::<Value>() + 8))?);
            let taken = positions(items.len(), parts)?.into_iter().map(|at| items[at].clone()).collect();
            if matches!(value, Value::List(_)) { Value::list(taken) } else { Value::tuple(taken) }
        }
        Value::Range(start, n, step) => {
            let taken = positions(*n, parts)?;
            let each = |at: usize| start + at as i128 * step;
            let first = taken.first().map_or(*start, |at| each(*at));
            Ok(Value::Range(first, taken.len(), step * parts[2].unwrap_or(1)))
        }
        Value::Undefined(name) => Fault::err(format!("'{name}' is undefined")),
        other => Fault::err(format!("'{}' object is not subscriptable", other.kind())),
    }
}
