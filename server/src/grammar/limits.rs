//! How large and how deep what a caller sends may be. Compilers recurse, so depth is bounded before they run.

use serde_json::Value;

use super::{Refusal, Source, gbnf};

/// Levels of schemas in schemas.
const DEPTH: usize = 64;
/// Schemas in a schema.
const SCHEMAS: usize = 20_000;
/// Values in `enum` and `const`, and their levels.
const VALUES: usize = 20_000;
const VALUE_DEPTH: usize = 32;
/// What `maxItems`, `minLength` and the like may say.
const COUNT: u64 = 1_000_000;
/// Bytes of a regular expression or a grammar, and brackets inside brackets.
const TEXT: usize = 64 << 10;
const BRACKETS: usize = 100;
/// The largest whole number up to which a double holds each one.
pub(super) const LARGEST_EXACT: i64 = (1 << 53) - 1;

/// What was read of a schema so far.
#[derive(Default)]
pub(super) struct Counter {
    schemas: usize,
    values: usize,
}

impl Counter {
    pub(super) fn schema(&mut self, path: &str, depth: usize) -> Result<(), Refusal> {
        self.schemas += 1;
        if self.schemas > SCHEMAS {
            return Err(Refusal::new(format!("the schema holds more than {SCHEMAS} schemas")));
        }
        if depth > DEPTH {
            let path: String = path.chars().take(100).collect();
            return Err(Refusal::new(format!("the schema nests more than {DEPTH} levels at {path}…")));
        }
        Ok(())
    }

    pub(super) fn count(&self, keyword: &str, path: &str, count: u64) -> Result<(), Refusal> {
        if count > COUNT {
            return Err(Refusal::keyword(keyword, path, format!("is {count}, and may be at most {COUNT}")));
        }
        Ok(())
    }

    pub(super) fn value(&mut self, keyword: &str, path: &str, value: &Value) -> Result<(), Refusal> {
        let mut open = vec![(value, 0)];
        while let Some((value, depth)) = open.pop() {
            self.values += 1;
            if self.values > VALUES || depth > VALUE_DEPTH {
                let what = format!("holds more than {VALUES} values or {VALUE_DEPTH} levels");
                return Err(Refusal::keyword(keyword, path, what));
            }
            match value {
                Value::Array(list) => open.extend(list.iter().map(|v| (v, depth + 1))),
                Value::Object(map) => open.extend(map.values().map(|v| (v, depth + 1))),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Checks a regular expression or a grammar before a parser that recurses reads it.
///
/// # Errors
/// It is too long or nests too deeply.
pub(super) fn text(what: &str, text: &str) -> Result<(), Refusal> {
    if text.trim().is_empty() {
        return Err(Refusal::new(format!("the {what} is empty")));
    }
    if text.len() > TEXT {
        return Err(Refusal::new(format!(
            "the {what} has {} bytes, and may have at most {TEXT}",
            text.len()
        )));
    }
    let (mut depth, mut tildes) = (0usize, 0usize);
    for c in text.chars() {
        tildes = if c == '~' { tildes + 1 } else { 0 };
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > BRACKETS || tildes > BRACKETS {
            return Err(Refusal::new(format!("the {what} nests more than {BRACKETS} brackets")));
        }
    }
    Ok(())
}

/// A caller's regular expression or grammar in Lark, checked.
///
/// # Errors
/// It passes a limit, or is wrong.
pub(super) fn as_lark(source: &Source) -> Result<String, Refusal> {
    match source {
        Source::Regex(regex) => {
            text("regular expression", regex)?;
            Ok(format!("start: /{}/\n", llguidance::regex_to_lark(regex, "")))
        }
        Source::Gbnf(grammar) => {
            text("grammar", grammar)?;
            gbnf::to_lark(grammar)
        }
        Source::Lark(grammar) => {
            text("grammar", grammar)?;
            if grammar.contains("x-guidance") {
                return Err(Refusal::new("the grammar holds x-guidance, which is not for requests"));
            }
            Ok(grammar.clone())
        }
        _ => Err(Refusal::new("this is no grammar in text")),
    }
}

/// The name that is spelt most like a word, if one is close.
pub(crate) fn nearest<'n>(word: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    if word.len() > 64 {
        return None;
    }
    let far = (word.chars().count() / 3).max(1);
    names.map(|n| (distance(word, n), n)).filter(|(d, _)| *d <= far).min().map(|(_, n)| n)
}

/// Letters to change, add or take away, without regard to case (Levenshtein 1966).
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let new = (diagonal + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], new);
        }
    }
    row[b.len()]
}
