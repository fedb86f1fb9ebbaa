//! Reads a JSON Schema and gives it back in the form that the compiler takes, or says which keyword cannot be enforced.
//!
//! llguidance enforces what it knows and refuses most of the rest, but it also passes over keywords that are misspelt, reads
//! `$ref` without the escapes of JSON pointers, rounds numbers to doubles and takes options from the schema itself. What
//! reaches it from here holds none of that.

use serde_json::{Map, Value, json};

use super::Refusal;
use super::ecma;
use super::limits::{self, Counter};
use super::refs::Refs;

/// How the value of a keyword is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Schema,
    /// `items` of old drafts may be a list.
    SchemaOrList,
    List,
    Map,
    Number,
    Count,
    Flag,
    Value,
    Values,
    Type,
    Names,
    Pattern,
    Format,
    Ref,
    /// Says nothing about what is valid.
    Annotation,
    /// Read where it is referred to.
    Definitions,
    /// Cannot be enforced while tokens are drawn, or not yet.
    Refused(&'static str),
}

const LATER: &str = "cannot be enforced while the answer is written";
const ELSEWHERE: &str = "cannot be enforced: only references inside the schema (#/…) are followed";

/// Every keyword of the drafts up to 2020-12, and what OpenAPI adds.
const KEYWORDS: &[(&str, Kind)] = &[
    ("$anchor", Kind::Annotation),
    ("$comment", Kind::Annotation),
    ("$defs", Kind::Definitions),
    ("$dynamicAnchor", Kind::Annotation),
    ("$dynamicRef", Kind::Refused(ELSEWHERE)),
    ("$id", Kind::Annotation),
    ("$recursiveAnchor", Kind::Annotation),
    ("$recursiveRef", Kind::Refused(ELSEWHERE)),
    ("$ref", Kind::Ref),
    ("$schema", Kind::Annotation),
    ("$vocabulary", Kind::Annotation),
    ("additionalItems", Kind::Schema),
    ("additionalProperties", Kind::Schema),
    ("allOf", Kind::List),
    ("anyOf", Kind::List),
    ("const", Kind::Value),
    ("contains", Kind::Refused(LATER)),
    ("contentEncoding", Kind::Annotation),
    ("contentMediaType", Kind::Annotation),
    ("contentSchema", Kind::Annotation),
    ("default", Kind::Annotation),
    ("definitions", Kind::Definitions),
    ("dependencies", Kind::Refused(LATER)),
    ("dependentRequired", Kind::Refused(LATER)),
    ("dependentSchemas", Kind::Refused(LATER)),
    ("deprecated", Kind::Annotation),
    ("description", Kind::Annotation),
    ("discriminator", Kind::Annotation),
    ("else", Kind::Refused(LATER)),
    ("enum", Kind::Values),
    ("example", Kind::Annotation),
    ("examples", Kind::Annotation),
    ("exclusiveMaximum", Kind::Number),
    ("exclusiveMinimum", Kind::Number),
    ("externalDocs", Kind::Annotation),
    ("format", Kind::Format),
    ("id", Kind::Annotation),
    ("if", Kind::Refused(LATER)),
    ("items", Kind::SchemaOrList),
    ("maxContains", Kind::Refused(LATER)),
    ("maxItems", Kind::Count),
    ("maxLength", Kind::Count),
    ("maxProperties", Kind::Count),
    ("maximum", Kind::Number),
    ("minContains", Kind::Refused(LATER)),
    ("minItems", Kind::Count),
    ("minLength", Kind::Count),
    ("minProperties", Kind::Count),
    ("minimum", Kind::Number),
    ("multipleOf", Kind::Number),
    ("not", Kind::Refused(LATER)),
    ("nullable", Kind::Refused("is OpenAPI's; JSON Schema writes a type as [\"string\", \"null\"]")),
    ("oneOf", Kind::List),
    ("pattern", Kind::Pattern),
    ("patternProperties", Kind::Map),
    ("prefixItems", Kind::List),
    ("properties", Kind::Map),
    ("propertyNames", Kind::Refused(LATER)),
    ("readOnly", Kind::Annotation),
    ("required", Kind::Names),
    ("then", Kind::Refused(LATER)),
    ("title", Kind::Annotation),
    ("type", Kind::Type),
    ("unevaluatedItems", Kind::Refused(LATER)),
    ("unevaluatedProperties", Kind::Refused(LATER)),
    ("uniqueItems", Kind::Flag),
    ("writeOnly", Kind::Annotation),
    ("xml", Kind::Annotation),
];

const TYPES: &[&str] = &["null", "boolean", "number", "integer", "string", "array", "object"];

/// Formats that are enforced as llguidance has them.
const FORMATS: &[&str] = &["duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

/// Formats that say nothing about the characters.
const FREE_FORMATS: &[&str] = &["password", "binary", "byte", "double", "float", "multiline"];

/// A day that exists, the 29th of February in leap years alone.
const DATE: &str = "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|\
                    02-(?:0[1-9]|1[0-9]|2[0-8]))|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579]\
                    [26])00)-02-29)";
const TIME: &str =
    "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";

/// A schema in the form that the compiler takes.
///
/// # Errors
/// The first keyword that cannot be enforced, or the limit that the schema passes.
pub(super) fn normalise(schema: &Value) -> Result<Value, Refusal> {
    let mut walk = Walk { root: schema, refs: Refs::default(), counter: Counter::default() };
    let mut root = walk.schema(schema, "#", 0)?;
    let mut definitions = Map::new();
    while let Some((name, path, target)) = walk.refs.next() {
        let read = walk.schema(target, &path, 0)?;
        definitions.insert(name, read);
    }
    if let (Value::Object(root), false) = (&mut root, definitions.is_empty()) {
        root.insert("$defs".into(), Value::Object(definitions));
    }
    super::refs::check_ends(&root)?;
    Ok(root)
}

struct Walk<'s> {
    root: &'s Value,
    refs: Refs<'s>,
    counter: Counter,
}

impl<'s> Walk<'s> {
    fn schema(&mut self, schema: &'s Value, path: &str, depth: usize) -> Result<Value, Refusal> {
        self.counter.schema(path, depth)?;
        let map = match schema {
            Value::Bool(_) => return Ok(schema.clone()),
            Value::Object(map) => map,
            _ => {
                return Err(Refusal::new(format!(
                    "the schema at {path} is neither an object nor true or false"
                )));
            }
        };
        let mut out = Map::new();
        let mut formats = None;
        for (keyword, value) in map {
            let Ok(at) = KEYWORDS.binary_search_by(|(name, _)| (*name).cmp(keyword)) else {
                self.unknown(keyword, path)?;
                continue;
            };
            let place = format!("{path}/{}", escape(keyword));
            let read = match KEYWORDS[at].1 {
                Kind::Annotation | Kind::Definitions => {
                    if keyword == "$id" && path != "#" {
                        let what =
                            "cannot be followed: a schema inside another has no address of its own here";
                        return Err(Refusal::keyword(keyword, &place, what));
                    }
                    continue;
                }
                Kind::Refused(why) => return Err(Refusal::keyword(keyword, &place, why)),
                Kind::Schema => self.schema(value, &place, depth + 1)?,
                Kind::SchemaOrList if value.is_array() => self.list(keyword, value, &place, depth)?,
                Kind::SchemaOrList => self.schema(value, &place, depth + 1)?,
                Kind::List => self.list(keyword, value, &place, depth)?,
                Kind::Map => self.map(keyword, value, &place, depth)?,
                Kind::Ref => json!({ "$ref": self.reference(value, &place)? })["$ref"].clone(),
                Kind::Flag => match value {
                    Value::Bool(false) => continue,
                    Value::Bool(true) => return Err(Refusal::keyword(keyword, &place, LATER)),
                    _ => return Err(wrong(keyword, &place, "true or false", value)),
                },
                Kind::Format => {
                    formats = Some((value, place));
                    continue;
                }
                kind => self.plain(kind, keyword, value, &place)?,
            };
            out.insert(keyword.clone(), read);
        }
        if let Some((value, place)) = formats {
            format(&mut out, value, &place)?;
        }
        Ok(Value::Object(out))
    }

    fn unknown(&self, keyword: &str, path: &str) -> Result<(), Refusal> {
        let place = format!("{path}/{}", escape(keyword));
        if keyword.starts_with("x-") && keyword != "x-guidance" {
            return Ok(());
        }
        let near = limits::nearest(keyword, KEYWORDS.iter().map(|(name, _)| *name));
        let hint = near.map(|n| format!(": is {n:?} meant?")).unwrap_or_default();
        Err(Refusal::keyword(keyword, &place, format!("is not a keyword of JSON Schema{hint}")))
    }

    fn list(&mut self, keyword: &str, value: &'s Value, path: &str, depth: usize) -> Result<Value, Refusal> {
        let list = value.as_array().ok_or_else(|| wrong(keyword, path, "a list of schemas", value))?;
        if list.is_empty() && keyword.ends_with("Of") {
            return Err(Refusal::keyword(keyword, path, "is empty"));
        }
        let each = |(i, s)| self.schema(s, &format!("{path}/{i}"), depth + 1);
        Ok(Value::Array(list.iter().enumerate().map(each).collect::<Result<_, _>>()?))
    }

    fn map(&mut self, keyword: &str, value: &'s Value, path: &str, depth: usize) -> Result<Value, Refusal> {
        let map = value.as_object().ok_or_else(|| wrong(keyword, path, "an object of schemas", value))?;
        let mut out = Map::new();
        for (name, schema) in map {
            let place = format!("{path}/{}", escape(name));
            let read = self.schema(schema, &place, depth + 1)?;
            let name = if keyword == "patternProperties" {
                ecma::translate(name).map_err(|why| Refusal::keyword(keyword, &place, why))?
            } else {
                name.clone()
            };
            out.insert(name, read);
        }
        Ok(Value::Object(out))
    }

    fn reference(&mut self, value: &Value, path: &str) -> Result<String, Refusal> {
        let text = value.as_str().ok_or_else(|| wrong("$ref", path, "a text", value))?;
        self.refs.name(self.root, text, path)
    }

    /// Keywords whose values hold no schemas.
    fn plain(&mut self, kind: Kind, keyword: &str, value: &Value, path: &str) -> Result<Value, Refusal> {
        match kind {
            Kind::Number => {
                // Draft 4 has a flag beside the bound.
                if value.is_boolean() && keyword.starts_with("exclusive") {
                    return Ok(value.clone());
                }
                let number = value.as_f64().ok_or_else(|| wrong(keyword, path, "a number", value))?;
                exact(keyword, path, value)?;
                if keyword == "multipleOf" && number <= 0.0 {
                    return Err(wrong(keyword, path, "a number above 0", value));
                }
                Ok(value.clone())
            }
            Kind::Count => {
                // 2.0 is an integer to JSON Schema.
                let whole = value
                    .as_u64()
                    .or_else(|| value.as_f64().filter(|v| v.fract() == 0.0 && *v >= 0.0).map(|v| v as u64));
                let count = whole.ok_or_else(|| wrong(keyword, path, "a whole number from 0 on", value))?;
                self.counter.count(keyword, path, count)?;
                Ok(count.into())
            }
            Kind::Value => {
                self.counter.value(keyword, path, value)?;
                exact(keyword, path, value)?;
                Ok(value.clone())
            }
            Kind::Values => {
                let list = value.as_array().ok_or_else(|| wrong(keyword, path, "a list", value))?;
                if list.is_empty() {
                    return Err(Refusal::keyword(keyword, path, "is empty"));
                }
                self.counter.value(keyword, path, value)?;
                exact(keyword, path, value)?;
                Ok(value.clone())
            }
            Kind::Type => {
                let names: Vec<&Value> = value.as_array().map_or_else(|| vec![value], |l| l.iter().collect());
                let known = |v: &&&Value| v.as_str().is_some_and(|t| TYPES.contains(&t));
                match names.iter().find(|v| !known(v)) {
                    None if !names.is_empty() => Ok(value.clone()),
                    _ => Err(wrong(keyword, path, &format!("one or several of {}", TYPES.join(", ")), value)),
                }
            }
            Kind::Names => {
                let all = value.as_array().is_some_and(|l| l.iter().all(Value::is_string));
                if all { Ok(value.clone()) } else { Err(wrong(keyword, path, "a list of names", value)) }
            }
            _ => {
                let text = value.as_str().ok_or_else(|| wrong(keyword, path, "a text", value))?;
                let text = ecma::translate(text).map_err(|why| Refusal::keyword(keyword, path, why))?;
                Ok(text.into())
            }
        }
    }
}

/// Puts a format into a schema that is otherwise read.
fn format(out: &mut Map<String, Value>, value: &Value, path: &str) -> Result<(), Refusal> {
    let name = value.as_str().ok_or_else(|| wrong("format", path, "a text", value))?;
    let both = |a: Value, out: &mut Map<String, Value>| {
        let mut all = out.remove("allOf").and_then(|v| v.as_array().cloned()).unwrap_or_default();
        all.push(a);
        out.insert("allOf".into(), all.into());
    };
    let pattern = |rx: String, out: &mut Map<String, Value>| match out.get("pattern") {
        None => drop(out.insert("pattern".into(), rx.into())),
        Some(_) => both(json!({ "pattern": rx }), out),
    };
    let range = |low: i64, high: i64, out: &mut Map<String, Value>| {
        both(json!({ "minimum": low, "maximum": high }), out);
    };
    match name {
        "date" => pattern(format!("^{DATE}$"), out),
        "time" => pattern(format!("^{TIME}$"), out),
        "date-time" => pattern(format!("^{DATE}T{TIME}$"), out),
        "int32" => range(i32::MIN.into(), i32::MAX.into(), out),
        "int64" => range(-limits::LARGEST_EXACT, limits::LARGEST_EXACT, out),
        _ if FREE_FORMATS.contains(&name) => {}
        _ if FORMATS.contains(&name) => drop(out.insert("format".into(), name.into())),
        _ => {
            let known = [&["date", "time", "date-time", "int32", "int64"], FORMATS].concat().join(", ");
            return Err(Refusal::keyword("format", path, format!("is {name:?}; enforced are {known}")));
        }
    }
    Ok(())
}

/// Numbers that a double does not hold exactly would be enforced wrongly.
fn exact(keyword: &str, path: &str, value: &Value) -> Result<(), Refusal> {
    match value {
        Value::Number(n) => {
            let large = n.as_f64().is_none_or(|v| v.abs() > limits::LARGEST_EXACT as f64);
            if large {
                return Err(Refusal::keyword(
                    keyword,
                    path,
                    format!("holds {n}, which is beyond ±(2^53 - 1)"),
                ));
            }
            Ok(())
        }
        Value::Array(list) => list.iter().try_for_each(|v| exact(keyword, path, v)),
        Value::Object(map) => map.values().try_for_each(|v| exact(keyword, path, v)),
        _ => Ok(()),
    }
}

fn wrong(keyword: &str, path: &str, want: &str, got: &Value) -> Refusal {
    let got: String = got.to_string().chars().take(60).collect();
    Refusal::keyword(keyword, path, format!("must be {want}, not {got}"))
}

/// A name as a part of a JSON pointer.
pub(super) fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The schemas directly inside a normalised one, each with its place below it.
pub(super) fn children(schema: &Value) -> Vec<(String, &Value)> {
    let mut all = Vec::new();
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        let Ok(at) = KEYWORDS.binary_search_by(|(name, _)| (*name).cmp(keyword)) else { continue };
        match (KEYWORDS[at].1, value) {
            (Kind::Schema | Kind::SchemaOrList, v) if !v.is_array() => all.push((keyword.clone(), v)),
            (Kind::List | Kind::SchemaOrList, Value::Array(list)) => {
                all.extend(list.iter().enumerate().map(|(i, v)| (format!("{keyword}/{i}"), v)));
            }
            (Kind::Map | Kind::Definitions, Value::Object(map)) => {
                all.extend(map.iter().map(|(name, v)| (format!("{keyword}/{}", escape(name)), v)));
            }
            _ => {}
        }
    }
    all
}

#[cfg(test)]
pub(super) fn keywords() -> impl Iterator<Item = &'static str> {
    KEYWORDS.iter().map(|(name, _)| *name)
}
