//! Gemma's notation of values, as JSON: keys are bare, texts stand between two tokens, the rest is JSON.

use serde_json::{Map, Value};

use super::formats::{Format, Writer};
use super::json::escaped;
use super::parser::Step;
use crate::grammar::Refusal;

enum At {
    Value,
    /// Behind `[`.
    First,
    /// Behind `{`.
    KeyOrEnd,
    Key,
    Next,
    Text,
    /// A number or a word.
    Word,
    Done,
}

/// A value that is being read.
pub(super) struct Native {
    quote: &'static str,
    open: Vec<char>,
    at: At,
    /// What was read of a key, a word, or of what may be a quote.
    held: String,
}

impl Native {
    pub(super) fn new(quote: &'static str) -> Native {
        Native { quote, open: Vec::new(), at: At::Value, held: String::new() }
    }

    /// Takes a letter and appends the JSON that it makes; `Step::Done` with the last of the value.
    pub(super) fn push(&mut self, c: char, out: &mut String) -> Step {
        let space = c.is_ascii_whitespace();
        match self.at {
            At::Done => return Step::Broken,
            At::Text => return self.text(c, out),
            At::Word => return self.word(c, out),
            At::Value | At::First | At::KeyOrEnd | At::Next if space && self.held.is_empty() => {}
            At::First if c == ']' => return self.close(c, out),
            At::KeyOrEnd if c == '}' => return self.close(c, out),
            At::Value | At::First => return self.value(c, out),
            At::KeyOrEnd => {
                self.at = At::Key;
                return self.key(c, out);
            }
            At::Key => return self.key(c, out),
            At::Next => return self.next(c, out),
        }
        Step::More
    }

    /// A bare key, or one between quotes.
    fn key(&mut self, c: char, out: &mut String) -> Step {
        if c != ':' || (self.held.starts_with(self.quote) && !self.quoted()) {
            self.held.push(c);
            return if self.held.len() > 1024 { Step::Broken } else { Step::More };
        }
        let held = std::mem::take(&mut self.held);
        let mut key = held.trim();
        for quote in [self.quote, "\""] {
            let inner = key.strip_prefix(quote).and_then(|k| k.strip_suffix(quote));
            key = inner.unwrap_or(key);
        }
        if key.is_empty() || key.contains(['{', '}', '<']) {
            return Step::Broken;
        }
        out.push('"');
        key.chars().for_each(|c| out.push_str(&escaped(c)));
        out.push_str("\":");
        self.at = At::Value;
        Step::More
    }

    fn quoted(&self) -> bool {
        self.held.len() >= 2 * self.quote.len() && self.held.ends_with(self.quote)
    }

    fn value(&mut self, c: char, out: &mut String) -> Step {
        self.held.push(c);
        if self.held == self.quote {
            self.held.clear();
            out.push('"');
            self.at = At::Text;
            return Step::More;
        }
        if self.quote.starts_with(&self.held) {
            return Step::More;
        }
        match c {
            _ if self.held.chars().count() > 1 => return Step::Broken,
            '{' | '[' if self.open.len() < 256 => {
                self.held.clear();
                self.open.push(c);
                out.push(c);
                self.at = if c == '{' { At::KeyOrEnd } else { At::First };
            }
            c if c.is_ascii_alphanumeric() || c == '-' => self.at = At::Word,
            _ => return Step::Broken,
        }
        Step::More
    }

    fn text(&mut self, c: char, out: &mut String) -> Step {
        self.held.push(c);
        if self.held == self.quote {
            self.held.clear();
            out.push('"');
            self.at = At::Next;
            return Step::More;
        }
        // What is no quote is text, up to where a quote may begin again.
        while !self.quote.starts_with(&self.held) {
            let first = self.held.remove(0);
            out.push_str(&escaped(first));
        }
        Step::More
    }

    fn word(&mut self, c: char, out: &mut String) -> Step {
        if !matches!(c, ',' | '}' | ']') {
            self.held.push(c);
            return if self.held.len() > 64 { Step::Broken } else { Step::More };
        }
        let word = std::mem::take(&mut self.held);
        let word = word.trim();
        match serde_json::from_str::<serde_json::Value>(word) {
            Ok(v) if !v.is_string() => out.push_str(word),
            // A text that lacks its quotes.
            _ if !word.contains(['<', '{', '"', ':']) => {
                out.push_str(&serde_json::to_string(word).unwrap_or_default());
            }
            _ => return Step::Broken,
        }
        self.next(c, out)
    }

    fn next(&mut self, c: char, out: &mut String) -> Step {
        match (c, self.open.last()) {
            (',', Some('{')) => self.at = At::Key,
            (',', Some(_)) => self.at = At::Value,
            ('}', Some('{')) | (']', Some('[')) => return self.close(c, out),
            _ => return Step::Broken,
        }
        out.push(',');
        Step::More
    }

    fn close(&mut self, c: char, out: &mut String) -> Step {
        self.open.pop();
        out.push(c);
        self.at = if self.open.is_empty() { At::Done } else { At::Next };
        if self.open.is_empty() { Step::Done } else { Step::More }
    }
}

/// Rules in Lark for values of a schema in this notation, of which the one named `root` is the whole.
///
/// # Errors
/// A keyword that cannot be enforced in it.
pub(super) fn rules(w: &Writer, format: &Format, schema: &Value, root: &str) -> Result<String, Refusal> {
    let schema = crate::grammar::read_schema(schema)?;
    let quote = format.tags.last().copied().unwrap_or_default();
    let tag = w.tag(quote);
    // Text between quotes that are tokens of their own ends where one comes; else it runs up to the letters of one.
    let text = match tag.starts_with("<[") {
        true => format!("{root}_text: {tag} (/(?s:.+)/)? {tag}\n"),
        false => format!("{root}_text: {tag} {root}_rest\n{root}_rest[lazy]: /(?s:.*){}/\n", literal(quote)),
    };
    let mut rules = Rules { w, root, tag, out: text, count: 0 };
    let whole = rules.value(&schema, "#")?;
    let mut out = format!("{root}: {whole}\n");
    for (name, definition) in schema.get("$defs").and_then(Value::as_object).into_iter().flatten() {
        let value = rules.value(definition, &format!("#/$defs/{name}"))?;
        out += &format!("{root}_{name}: {value}\n");
    }
    out += &rules.out;
    let any = format!(
        "{root}_any: {root}_text | {NUMBER} | \"true\" | \"false\" | \"null\" | {root}_list | {root}_map\n"
    );
    let list = format!("{root}_list: \"[\" ({root}_any (\",\" {root}_any)*)? \"]\"\n");
    let pair = format!("{root}_pair: /[a-zA-Z_][a-zA-Z0-9_]{{0,40}}/ \":\" {root}_any\n");
    let map = format!("{root}_map: \"{{\" ({root}_pair (\",\" {root}_pair)*)? \"}}\"\n");
    Ok(out + &any + &list + &pair + &map)
}

const INTEGER: &str = "/-?(0|[1-9][0-9]{0,15})/";
const NUMBER: &str = "/-?(0|[1-9][0-9]{0,15})(\\.[0-9]{1,15})?/";

/// A text as a regular expression.
fn literal(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_string() } else { format!("\\x{{{:X}}}", u32::from(c)) })
        .collect()
}

struct Rules<'r> {
    w: &'r Writer<'r>,
    root: &'r str,
    tag: String,
    out: String,
    count: usize,
}

impl Rules<'_> {
    /// What a value of a schema looks like.
    fn value(&mut self, schema: &Value, path: &str) -> Result<String, Refusal> {
        let map = match schema {
            Value::Bool(true) => return Ok(format!("{}_any", self.root)),
            Value::Object(map) => map,
            _ => return Err(Refusal::new(format!("the schema at {path} allows no value"))),
        };
        const KNOWN: &[&str] = &[
            "type",
            "properties",
            "required",
            "additionalProperties",
            "items",
            "minItems",
            "maxItems",
            "enum",
            "const",
            "anyOf",
            "$ref",
            "$defs",
        ];
        if let Some(other) = map.keys().find(|k| !KNOWN.contains(&k.as_str())) {
            let what = "cannot be enforced in the notation of this model's calls";
            return Err(Refusal::keyword(other, &format!("{path}/{other}"), what));
        }
        if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(|r| r.rsplit('/').next()) {
            return Ok(format!("{}_{name}", self.root));
        }
        if let Some(all) = map.get("enum").and_then(Value::as_array) {
            let all = all.iter().map(|v| self.constant(v, path)).collect::<Result<Vec<_>, _>>()?;
            return Ok(format!("({})", all.join(" | ")));
        }
        if let Some(value) = map.get("const") {
            return self.constant(value, path);
        }
        if let Some(all) = map.get("anyOf").and_then(Value::as_array) {
            let each = |(i, s)| self.value(s, &format!("{path}/anyOf/{i}"));
            let all = all.iter().enumerate().map(each).collect::<Result<Vec<_>, _>>()?;
            return Ok(format!("({})", all.join(" | ")));
        }
        match map.get("type") {
            Some(Value::String(kind)) => self.kind(kind, map, path),
            Some(Value::Array(kinds)) => {
                let each = |k: &Value| self.kind(k.as_str().unwrap_or_default(), map, path);
                Ok(format!("({})", kinds.iter().map(each).collect::<Result<Vec<_>, _>>()?.join(" | ")))
            }
            _ if map.contains_key("properties") => self.kind("object", map, path),
            _ => Ok(format!("{}_any", self.root)),
        }
    }

    fn constant(&self, value: &Value, path: &str) -> Result<String, Refusal> {
        match value {
            Value::String(text) if text.is_empty() => Ok(format!("({0} {0})", self.tag)),
            Value::String(text) => Ok(format!("({0} {1} {0})", self.tag, self.w.text(text))),
            Value::Array(_) | Value::Object(_) => {
                let what = "holds a list or an object, which cannot be enforced in the notation of this model's calls";
                Err(Refusal::keyword("enum", &format!("{path}/enum"), what))
            }
            other => Ok(self.w.text(&other.to_string())),
        }
    }

    fn kind(&mut self, kind: &str, map: &Map<String, Value>, path: &str) -> Result<String, Refusal> {
        let root = self.root;
        match kind {
            "string" => Ok(format!("{root}_text")),
            "integer" => Ok(INTEGER.into()),
            "number" => Ok(NUMBER.into()),
            "boolean" => Ok("(\"true\" | \"false\")".into()),
            "null" => Ok("\"null\"".into()),
            "array" => {
                let item = match map.get("items") {
                    None => format!("{root}_any"),
                    Some(items) => self.value(items, &format!("{path}/items"))?,
                };
                let (low, high) = (
                    map.get("minItems").and_then(Value::as_u64),
                    map.get("maxItems").and_then(Value::as_u64),
                );
                let low = low.unwrap_or(0);
                let more = match high {
                    Some(high) if high < low => {
                        return Err(Refusal::keyword("maxItems", path, "is below minItems"));
                    }
                    Some(0) => return Ok("\"[]\"".into()),
                    Some(high) => format!("{{{},{}}}", low.saturating_sub(1), high - 1),
                    None => format!("{{{},}}", low.saturating_sub(1)),
                };
                let items = format!("{item} (\",\" {item}){more}");
                Ok(if low == 0 {
                    format!("(\"[\" ({items})? \"]\")")
                } else {
                    format!("(\"[\" {items} \"]\")")
                })
            }
            _ => self.object(map, path),
        }
    }

    /// Its properties in their order, those that are not required left out or not.
    fn object(&mut self, map: &Map<String, Value>, path: &str) -> Result<String, Refusal> {
        let root = self.root;
        let closed = map.get("additionalProperties") == Some(&Value::Bool(false));
        let empty = Map::new();
        let properties = map.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let required: Vec<&str> = map
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if let Some(name) = required.iter().find(|n| !properties.contains_key(**n)) {
            let what = format!("names {name:?}, which is no property");
            return Err(Refusal::keyword("required", &format!("{path}/required"), what));
        }
        if properties.is_empty() {
            return Ok(if closed { "\"{}\"".into() } else { format!("{root}_map") });
        }
        let number = self.count;
        self.count += 1;
        let mut rules = String::new();
        for (i, (name, schema)) in properties.iter().enumerate() {
            if name.is_empty() || name.contains([':', '<', '{', '}', ',', '"']) {
                let what = "is a name that the notation of this model's calls does not have";
                return Err(Refusal::keyword(name, &format!("{path}/properties/{name}"), what));
            }
            let value = self.value(schema, &format!("{path}/properties/{name}"))?;
            let key = self.w.text(&format!("{name}:"));
            let next = i + 1;
            for (kind, comma) in [("first", ""), ("rest", "\",\" ")] {
                let skip = if required.contains(&name.as_str()) {
                    String::new()
                } else {
                    format!(" | {root}_{number}_{kind}_{next}")
                };
                rules += &format!(
                    "{root}_{number}_{kind}_{i}: {comma}{key} {value} {root}_{number}_rest_{next}{skip}\n"
                );
            }
        }
        for kind in ["first", "rest"] {
            rules += &format!("{root}_{number}_{kind}_{}: \"\"\n", properties.len());
        }
        self.out += &rules;
        Ok(format!("(\"{{\" {root}_{number}_first_0 \"}}\")"))
    }
}
