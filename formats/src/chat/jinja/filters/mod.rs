//! Filters: what stands behind `|`.

mod lists;
mod shown;
mod texts;
mod wrap;

use super::call::{Given, true_or, whole_or};
use super::show::{self, Out, Style};
use super::value::{Value, View, work};
use super::{Fault, Result, ops};

/// Those that Jinja has and this does not.
const MISSING: [&str; 2] = ["random", "urlize"];

/// Filters that take what lists hold.
const LISTS: [&str; 20] = [
    "batch",
    "dictsort",
    "first",
    "groupby",
    "items",
    "join",
    "last",
    "list",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "reverse",
    "select",
    "selectattr",
    "slice",
    "sort",
    "sum",
    "unique",
];
/// Filters that take texts.
const TEXTS: [&str; 18] = [
    "capitalize",
    "center",
    "e",
    "escape",
    "forceescape",
    "format",
    "indent",
    "lower",
    "replace",
    "safe",
    "striptags",
    "title",
    "trim",
    "truncate",
    "upper",
    "urlencode",
    "wordcount",
    "string",
];
/// Filters that show a value in a form of its own.
const SHOWN: [&str; 3] = ["filesizeformat", "pprint", "xmlattr"];
const OTHERS: [&str; 11] =
    ["abs", "attr", "count", "d", "default", "float", "int", "length", "round", "tojson", "wordwrap"];

pub(super) fn exists(name: &str) -> bool {
    [&LISTS[..], &TEXTS[..], &SHOWN[..], &OTHERS[..]].iter().any(|all| all.contains(&name))
}

/// `value | NAME(given)`.
pub(super) fn apply(value: &Value, name: &str, given: &Given) -> Result<Value> {
    work(1)?;
    if LISTS.contains(&name) {
        return lists::apply(value, name, given);
    }
    if TEXTS.contains(&name) {
        return texts::apply(value, name, given);
    }
    if SHOWN.contains(&name) {
        return shown::apply(value, name, given);
    }
    match name {
        "abs" => match value {
            Value::Int(i) => Ok(Value::Int(i.abs())),
            Value::Bool(_) => Ok(Value::Int(value.index()?)),
            Value::Float(x) => Ok(Value::Float(x.abs())),
            other => Fault::err(format!("bad operand type for abs(): '{}'", other.kind())),
        },
        "attr" => {
            let [name] = given.take(["name"])?;
            let name = name.unwrap_or(Value::None);
            field(value, name.text()?)
        }
        "length" | "count" => Ok(Value::Int(value.len()? as i128)),
        "default" | "d" => {
            let [default, boolean] = given.take(["default_value", "boolean"])?;
            let missing = matches!(value, Value::Undefined(_));
            match missing || (true_or(boolean.as_ref(), false) && !value.is_true()) {
                true => default.map_or_else(|| Value::str(""), Ok),
                false => Ok(value.clone()),
            }
        }
        "int" => int(value, given),
        "float" => {
            let [default] = given.take(["default"])?;
            let parsed = match value {
                Value::Undefined(name) => return Fault::err(format!("'{name}' is undefined")),
                Value::Str(s) => s.trim().replace('_', "").parse().ok().map(Value::Float),
                other => other.number().map(Value::Float),
            };
            Ok(parsed.or(default).unwrap_or(Value::Float(0.0)))
        }
        "round" => round(value, given),
        "tojson" => tojson(value, given),
        "wordwrap" => wrap::apply(value, given),
        name if MISSING.contains(&name) => Fault::err(format!("the filter '{name}' is not supported")),
        name => Fault::err(format!("there is no filter '{name}'")),
    }
}

/// A field as `attr` finds it: not a key.
fn field(value: &Value, name: &str) -> Result<Value> {
    if super::methods::has(value, name)? {
        let method = super::value::Callable::Method(Box::new(value.clone()), name.to_owned());
        return Ok(Value::Callable(method));
    }
    match value {
        Value::Namespace(_) | Value::Loop(_) => super::eval::field(value, name),
        Value::Undefined(missing) => Fault::err(format!("'{missing}' is undefined")),
        _ => Ok(Value::undefined(name)),
    }
}

fn int(value: &Value, given: &Given) -> Result<Value> {
    let [default, base] = given.take(["default", "base"])?;
    let base = whole_or(base.as_ref(), 10)?;
    let parsed = match value {
        Value::Str(s) => {
            let text = s.trim().replace('_', "").to_lowercase();
            let (negative, digits) = match text.strip_prefix('-') {
                Some(digits) => (true, digits),
                None => (false, text.strip_prefix('+').unwrap_or(&text)),
            };
            let base = match (base, digits.get(..2)) {
                (0, Some("0x")) => 16,
                (0, Some("0o")) => 8,
                (0, Some("0b")) => 2,
                _ => base,
            };
            let digits = match base {
                16 => digits.strip_prefix("0x").unwrap_or(digits),
                8 => digits.strip_prefix("0o").unwrap_or(digits),
                2 => digits.strip_prefix("0b").unwrap_or(digits),
                _ => digits,
            };
            let radix = u32::try_from(base).ok().filter(|b| (2..=36).contains(b)).unwrap_or(10);
            let whole = i128::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with(['+', '-']));
            let float = || digits.parse::<f64>().ok().filter(|x| x.is_finite()).map(|x| x.trunc() as i128);
            whole.or_else(float).map(|i| if negative { -i } else { i })
        }
        Value::Float(x) if x.is_finite() => Some(x.trunc() as i128),
        Value::Int(_) | Value::Bool(_) | Value::Undefined(_) => Some(value.index()?),
        _ => None,
    };
    Ok(parsed.map(Value::Int).or(default).unwrap_or(Value::Int(0)))
}

fn round(value: &Value, given: &Given) -> Result<Value> {
    let [precision, method] = given.take(["precision", "method"])?;
    let precision = whole_or(precision.as_ref(), 0)?.clamp(-300, 300) as i32;
    let method = match &method {
        None => "common",
        Some(m) => m.text()?,
    };
    let Some(x) = value.number() else {
        return Fault::err(format!("type {} doesn't define __round__ method", value.kind()));
    };
    let scale = 10f64.powi(precision);
    let rounded = match method {
        "common" if precision >= 0 => format!("{x:.*}", precision as usize).parse().unwrap_or(x),
        // Python rounds halves to even.
        "common" => (x * scale).round_ties_even() / scale,
        "ceil" => (x * scale).ceil() / scale,
        "floor" => (x * scale).floor() / scale,
        other => return Fault::err(format!("method must be common, ceil or floor, not {other}")),
    };
    // A whole number stays one in Python.
    match (value, method) {
        (Value::Int(_) | Value::Bool(_), "common") => Ok(Value::Int(rounded as i128)),
        _ => Ok(Value::Float(rounded)),
    }
}

/// `tojson` as transformers defines it: `json.dumps` without escaping of other scripts.
fn tojson(value: &Value, given: &Given) -> Result<Value> {
    let [ascii, indent, separators, sort] =
        given.take(["ensure_ascii", "indent", "separators", "sort_keys"])?;
    let indent = match indent {
        None | Some(Value::None) => None,
        Some(Value::Str(text)) => Some(text.to_string()),
        Some(n) => Some(" ".repeat(n.index()?.clamp(0, 1 << 16) as usize)),
    };
    let mut style = Style::plain();
    if indent.is_some() {
        style.separators.0 = ",".to_owned();
    }
    if let Some(separators) = separators.filter(|s| !matches!(s, Value::None)) {
        match &separators.iter()?[..] {
            [item, key] => style.separators = (item.text()?.to_owned(), key.text()?.to_owned()),
            _ => return Fault::err("separators must be a pair"),
        }
    }
    style.indent = indent;
    style.ensure_ascii = true_or(ascii.as_ref(), false);
    style.sort_keys = true_or(sort.as_ref(), false);
    let mut out = Out::default();
    show::json(value, &style, 0, &mut out)?;
    Value::str(out.done())
}

/// The value at a path such as `a.b.0`, as `attribute` names it.
fn at_path(value: &Value, path: &Value, default: Option<&Value>) -> Result<Value> {
    let parts: Vec<Value> = match path {
        Value::Str(text) => text
            .split('.')
            .map(|p| match p.parse::<i128>() {
                Ok(i) if p.bytes().all(|b| b.is_ascii_digit()) => Ok(Value::Int(i)),
                _ => Value::str(p),
            })
            .collect::<Result<_>>()?,
        other => vec![other.clone()],
    };
    let mut found = value.clone();
    for part in &parts {
        found = super::eval::item(&found, part)?;
        if let (Value::Undefined(_), Some(default)) = (&found, default) {
            return Ok(default.clone());
        }
    }
    Ok(found)
}

/// A value as comparisons without case see it.
fn folded(value: Value, case_sensitive: bool) -> Result<Value> {
    match &value {
        Value::Str(s) if !case_sensitive => Value::str(s.to_lowercase()),
        _ => Ok(value),
    }
}

/// A mapping's pairs as lists.
fn pairs(value: &Value) -> Result<Vec<(Value, Value)>> {
    match value {
        Value::Dict(d) => Ok(d.to_vec()),
        Value::View(View::Items, d) => Ok(d.to_vec()),
        other => Fault::err(format!("'{}' object has no attribute 'items'", other.kind())),
    }
}

/// One value for another.
fn plus(a: &Value, b: &Value) -> Result<Value> {
    ops::binary("+", a, b)
}
