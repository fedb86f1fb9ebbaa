//! Adapters by request: names such as `base+medical`, `base+medical:0.5+brief`, and the field `lora`.

use serde_json::Value;

use crate::card::Card;
use crate::error::{ApiError, Result};
use crate::fields::{Fields, wrong};

/// Entries of `lora` at most, and adapters in a name.
const MOST: usize = 64;

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

fn known(card: &Card) -> String {
    match card.adapters.is_empty() {
        true => format!("\"{}\" has none here; the server's --lora gives it some", card.id),
        false => {
            let names: Vec<&str> = card.adapters.iter().map(|(name, _)| name.as_str()).collect();
            format!("known: {}", names.join(", "))
        }
    }
}

/// What follows the name of a model, such as `+medical:0.5+brief`, as adapters of its card.
///
/// # Errors
/// An adapter that is not known, or a strength that is no number.
pub(crate) fn parse(card: &Card, parts: &str) -> Result<Vec<(usize, f32)>> {
    let mut all = Vec::new();
    for part in parts.split('+').skip(1) {
        let number = |name: &str| card.adapters.iter().position(|(known, _)| known == name);
        let (name, strength) = match (number(part), part.rsplit_once(':')) {
            (None, Some((name, strength))) => (name, Some(strength)),
            _ => (part, None),
        };
        let Some(number) = number(name) else {
            let line = format!("there is no adapter \"{}\" of \"{}\"; {}", shown(name), card.id, known(card));
            return Err(ApiError::missing("model_not_found", line).at("model"));
        };
        let strength = match strength {
            None => card.adapters[number].1,
            Some(text) => text.parse().ok().filter(|s: &f32| s.is_finite()).ok_or_else(|| {
                let line = format!(
                    "the strength of \"{name}\" in \"model\" must be a number, not \"{}\"",
                    shown(text)
                );
                ApiError::value("model", line)
            })?,
        };
        set(&mut all, number, strength);
    }
    if all.len() > MOST {
        return Err(ApiError::value("model", format!("at most {MOST} adapters are taken")));
    }
    Ok(all)
}

fn set(all: &mut Vec<(usize, f32)>, number: usize, strength: f32) {
    match all.iter_mut().find(|(other, _)| *other == number) {
        Some(found) => found.1 = strength,
        None => all.push((number, strength)),
    }
}

/// The adapters of a request: those that the name of its model says, changed by `lora`, a list of `{"name" or "id",
/// "scale"}`.
///
/// # Errors
/// An adapter that is not known, a scale that is no number.
pub(crate) fn read(f: &mut Fields, card: &Card) -> Result<Vec<(usize, f32)>> {
    let mut all = card.adapted.clone();
    for (i, entry) in f.list("lora", MOST)?.unwrap_or_default().into_iter().enumerate() {
        let mut entry = Fields::inner(entry, &format!("lora[{i}]"))?;
        let path = entry.path("name");
        let number = match (entry.text("name")?, entry.take("id")) {
            (Some(name), None) => card.adapters.iter().position(|(known, _)| *known == name),
            (None, Some(Value::Number(id))) => {
                id.as_u64().and_then(|id| usize::try_from(id).ok()).filter(|id| *id < card.adapters.len())
            }
            (None, Some(other)) => return Err(wrong(&entry.path("id"), "a whole number", &other)),
            _ => {
                let line = format!(
                    "\"lora[{i}]\" must have a \"name\", or as its \"id\" a place among the adapters"
                );
                return Err(ApiError::value(&path, line));
            }
        };
        let Some(number) = number else {
            let line = format!("\"lora[{i}]\" names no adapter of \"{}\"; {}", card.id, known(card));
            return Err(ApiError::value(&path, line));
        };
        let scale = entry.number("scale", -100.0, 100.0)?.unwrap_or(card.adapters[number].1);
        entry.finish(None)?;
        set(&mut all, number, scale);
    }
    Ok(all)
}
