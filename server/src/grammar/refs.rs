//! References inside a schema, and whether every schema has a finite value.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::Refusal;

/// The schemas that are referred to. Each is read once and gets a plain name.
#[derive(Default)]
pub(super) struct Refs<'s> {
    names: HashMap<String, String>,
    waiting: Vec<(String, String, &'s Value)>,
}

impl<'s> Refs<'s> {
    /// The reference to what `text` names, in the form that the compiler reads.
    ///
    /// # Errors
    /// It names something outside of the schema, or nothing.
    pub(super) fn name(&mut self, root: &'s Value, text: &str, path: &str) -> Result<String, Refusal> {
        let outside = || {
            let what = format!("is {text:?}, and only references inside the schema (#/…) are followed");
            Refusal::keyword("$ref", path, what)
        };
        let fragment = text.strip_prefix('#').ok_or_else(outside)?;
        if !fragment.is_empty() && !fragment.starts_with('/') {
            return Err(outside());
        }
        let pointer = decode(fragment).ok_or_else(outside)?;
        // Some tools write the root as `#/`.
        let pointer = if pointer == "/" && root.get("").is_none() { String::new() } else { pointer };
        if let Some(name) = self.names.get(&pointer) {
            return Ok(format!("#/$defs/{name}"));
        }
        let target = root.pointer(&pointer).ok_or_else(|| {
            Refusal::keyword("$ref", path, format!("is {text:?}, and the schema has nothing there"))
        })?;
        let name = format!("r{}", self.names.len());
        self.names.insert(pointer.clone(), name.clone());
        self.waiting.push((name.clone(), format!("#{pointer}"), target));
        Ok(format!("#/$defs/{name}"))
    }

    /// The next schema to read: its name, its place and itself.
    pub(super) fn next(&mut self) -> Option<(String, String, &'s Value)> {
        self.waiting.pop()
    }
}

/// Undoes the percent signs of a URI's fragment.
fn decode(fragment: &str) -> Option<String> {
    let bytes = fragment.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i] == b'%' {
            let hex = fragment.get(i + 1..i + 3)?;
            out.push(u8::from_str_radix(hex, 16).ok()?);
            i += 3;
        } else {
            out.push(bytes[i]);
            i += 1;
        }
    }
    String::from_utf8(out).ok()
}

/// Checks that the schema has a value that ends: one that must hold itself has none.
///
/// # Errors
/// It has none.
pub(super) fn check_ends(root: &Value) -> Result<(), Refusal> {
    let definitions = root.get("$defs").and_then(Value::as_object);
    let mut ends: HashSet<String> = HashSet::new();
    loop {
        let more: Vec<String> = definitions
            .into_iter()
            .flatten()
            .filter(|(name, schema)| !ends.contains(*name) && has_end(schema, &ends))
            .map(|(name, _)| name.clone())
            .collect();
        if more.is_empty() {
            break;
        }
        ends.extend(more);
    }
    if has_end(root, &ends) {
        return Ok(());
    }
    Err(Refusal::new("the schema refers to itself in such a way that no value of it ever ends"))
}

/// Whether a schema has a finite value, as far as references tell, those of `ends` having one.
fn has_end(schema: &Value, ends: &HashSet<String>) -> bool {
    let Some(map) = schema.as_object() else { return true };
    let of = |s: &Value| has_end(s, ends);
    let all = |key: &str| map.get(key).and_then(Value::as_array).is_none_or(|l| l.iter().all(of));
    let any = |key: &str| map.get(key).and_then(Value::as_array).is_none_or(|l| l.iter().any(of));
    let reference = map.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix("#/$defs/"));
    if reference.is_some_and(|name| !ends.contains(name)) || !all("allOf") || !any("anyOf") || !any("oneOf") {
        return false;
    }
    let may = |wanted: &str| match map.get("type") {
        None => true,
        Some(Value::Array(types)) => types.iter().any(|t| t != wanted),
        Some(one) => one != wanted,
    };
    let object = {
        let required = map.get("required").and_then(Value::as_array).into_iter().flatten();
        let properties = map.get("properties").and_then(Value::as_object);
        let value = |name: &Value| properties.and_then(|p| p.get(name.as_str()?));
        required.filter_map(value).all(of)
    };
    let items = map.get("minItems").and_then(Value::as_u64).unwrap_or(0);
    let array = items == 0 || map.get("items").is_none_or(|i| i.is_array() || of(i));
    (object || may("object")) && (array || may("array"))
}
