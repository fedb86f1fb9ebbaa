//! A small validator of JSON Schema for the keywords that are enforced, which the published suite checks in turn.

use serde_json::{Map, Value};

/// Whether a value is valid. References are inside the schema.
pub(crate) fn is_valid(root: &Value, value: &Value) -> bool {
    valid(root, root, value)
}

fn valid(root: &Value, schema: &Value, value: &Value) -> bool {
    let Some(map) = schema.as_object() else { return schema == &Value::Bool(true) };
    map.iter().all(|(keyword, want)| holds(root, map, keyword, want, value))
}

fn holds(root: &Value, map: &Map<String, Value>, keyword: &str, want: &Value, value: &Value) -> bool {
    let sub = |s: &Value, v: &Value| valid(root, s, v);
    let list = || want.as_array().expect("a list").iter();
    let number = want.as_f64().unwrap_or(0.0);
    match (keyword, value) {
        ("$ref", _) => {
            let pointer = want
                .as_str()
                .expect("a text")
                .strip_prefix('#')
                .expect("inside")
                .replace("%25", "%")
                .replace("%22", "\"");
            sub(root.pointer(&pointer).expect("a target"), value)
        }
        ("allOf", _) => list().all(|s| sub(s, value)),
        ("anyOf", _) => list().any(|s| sub(s, value)),
        ("oneOf", _) => list().filter(|s| sub(s, value)).count() == 1,
        ("const", _) => same(want, value),
        ("enum", _) => list().any(|v| same(v, value)),
        ("type", _) => match want {
            Value::Array(types) => types.iter().any(|t| is_type(t.as_str().expect("a type"), value)),
            one => is_type(one.as_str().expect("a type"), value),
        },
        ("minimum", Value::Number(n)) => n.as_f64().expect("finite") >= number,
        ("maximum", Value::Number(n)) => n.as_f64().expect("finite") <= number,
        ("exclusiveMinimum", Value::Number(n)) => n.as_f64().expect("finite") > number,
        ("exclusiveMaximum", Value::Number(n)) => n.as_f64().expect("finite") < number,
        ("multipleOf", Value::Number(n)) => {
            let times = n.as_f64().expect("finite") / number;
            (times - times.round()).abs() < 1e-9
        }
        ("minLength", Value::String(s)) => s.chars().count() as f64 >= number,
        ("maxLength", Value::String(s)) => s.chars().count() as f64 <= number,
        ("pattern", Value::String(s)) => matches(want.as_str().expect("a text"), s),
        ("format", Value::String(s)) => super::formats::is_valid(want.as_str().expect("a text"), s),
        ("minItems", Value::Array(l)) => l.len() as f64 >= number,
        ("maxItems", Value::Array(l)) => l.len() as f64 <= number,
        ("prefixItems", Value::Array(l)) => list().zip(l).all(|(s, v)| sub(s, v)),
        ("items", Value::Array(l)) => {
            let skip = map.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
            l.iter().skip(skip).all(|v| sub(want, v))
        }
        ("minProperties", Value::Object(o)) => o.len() as f64 >= number,
        ("maxProperties", Value::Object(o)) => o.len() as f64 <= number,
        ("required", Value::Object(o)) => list().all(|n| o.contains_key(n.as_str().expect("a name"))),
        ("properties", Value::Object(o)) => {
            want.as_object().expect("a map").iter().all(|(n, s)| o.get(n).is_none_or(|v| sub(s, v)))
        }
        ("patternProperties", Value::Object(o)) => want
            .as_object()
            .expect("a map")
            .iter()
            .all(|(p, s)| o.iter().filter(|(n, _)| matches(p, n)).all(|(_, v)| sub(s, v))),
        ("additionalProperties", Value::Object(o)) => {
            let named = map.get("properties").and_then(Value::as_object);
            let patterns = map.get("patternProperties").and_then(Value::as_object);
            let known = |n: &str| {
                named.is_some_and(|m| m.contains_key(n))
                    || patterns.is_some_and(|m| m.keys().any(|p| matches(p, n)))
            };
            o.iter().filter(|(n, _)| !known(n)).all(|(_, v)| sub(want, v))
        }
        _ => true,
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    regex::Regex::new(pattern).expect("a pattern").is_match(text)
}

fn is_type(name: &str, value: &Value) -> bool {
    match (name, value) {
        ("null", Value::Null) | ("boolean", Value::Bool(_)) | ("number", Value::Number(_)) => true,
        ("integer", Value::Number(n)) => n.as_f64().is_some_and(|v| v.fract() == 0.0),
        ("string", Value::String(_)) | ("array", Value::Array(_)) | ("object", Value::Object(_)) => true,
        _ => false,
    }
}

/// Equality of JSON Schema: 1 and 1.0 are the same.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(n, v)| b.get(n).is_some_and(|w| same(v, w)))
        }
        _ => a == b,
    }
}
