//! HealthBench: conversations with rubrics, judged criterion by criterion.
//!
//! A conversation's score is the points of the criteria that are met, negative ones too, over the sum of the positive
//! points; it is not clipped. The score of the set is the mean, clipped to between 0 and 1, and its error the standard
//! deviation of a bootstrap's means, each clipped alike. A theme is a tag of the conversation; an axis is a tag of
//! criteria, whose score counts the conversation's criteria of that tag alone, where they have positive points.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::ask::{Job, Turn, extract};
use crate::hash::Rng;
use crate::records::{self, Record};
use crate::{Error, Result};

/// What an answer is judged by.
#[derive(Debug, Clone, PartialEq)]
pub struct Criterion {
    /// What the answer does.
    pub text: String,
    /// What that is worth; negative for a fault.
    pub points: f64,
    /// `axis:...`, `level:...` and others.
    pub tags: Vec<String>,
}

/// A conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// Its name.
    pub id: String,
    /// What was said.
    pub turns: Vec<Turn>,
    /// What the answer is judged by.
    pub rubric: Vec<Criterion>,
    /// `theme:...` and others.
    pub tags: Vec<String>,
}

impl Conversation {
    /// Points that can be had.
    pub fn possible(&self) -> f64 {
        self.rubric.iter().map(|c| c.points.max(0.0)).sum()
    }
}

/// Reads the file as it is published: a conversation a line, with `prompt_id`, `prompt`, `rubrics` and `example_tags`.
///
/// # Errors
/// A key that is missing or of another kind; a rubric without positive points; two conversations of one name, by which
/// answers and verdicts are kept.
pub fn read(path: &Path) -> Result<Vec<Conversation>> {
    let mut all = Vec::new();
    let mut places = BTreeMap::new();
    records::read(path, true, &mut |place, record| {
        let wrong = |what| Error::Row { file: path.display().to_string(), place: place.to_owned(), what };
        let parsed = conversation(&record).map_err(wrong)?;
        if let Some(first) = places.insert(parsed.id.clone(), place.to_owned()) {
            return Err(wrong(format!("has the \"prompt_id\" of {first}, \"{}\"; leave one out", parsed.id)));
        }
        all.push(parsed);
        Ok(())
    })?;
    Ok(all)
}

fn conversation(record: &Record) -> std::result::Result<Conversation, String> {
    let have = || record.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let list = |key: &str| {
        let value = record.get(key).and_then(Value::as_array);
        value.ok_or_else(|| format!("has no list \"{key}\", as HealthBench has; it has {}", have()))
    };
    let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).map(str::to_owned);
    let tags = |v: Option<&Value>| -> Vec<String> {
        let all = v.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut turns = Vec::new();
    for (i, m) in list("prompt")?.iter().enumerate() {
        let turn = text(m, "role").zip(text(m, "content"));
        let (role, content) =
            turn.ok_or_else(|| format!("message {} of \"prompt\" lacks role or content", i + 1))?;
        turns.push(Turn { role, content });
    }
    if turns.is_empty() {
        return Err("has an empty \"prompt\"".to_owned());
    }
    let mut rubric = Vec::new();
    for (i, c) in list("rubrics")?.iter().enumerate() {
        let wrong = |what: &str| format!("criterion {} of \"rubrics\" {what}", i + 1);
        rubric.push(Criterion {
            text: text(c, "criterion").ok_or_else(|| wrong("lacks \"criterion\""))?,
            points: c
                .get("points")
                .and_then(Value::as_f64)
                .filter(|p| p.abs() <= 1e9)
                .ok_or_else(|| wrong("lacks \"points\", a number"))?,
            tags: tags(c.get("tags")),
        });
    }
    let id = record.get("prompt_id").and_then(Value::as_str).map(str::to_owned);
    let whole = Conversation {
        id: id.ok_or_else(|| format!("has no \"prompt_id\"; it has {}", have()))?,
        turns,
        rubric,
        tags: tags(record.get("example_tags")),
    };
    match whole.possible() > 0.0 {
        true => Ok(whole),
        false => Err("has no criterion of positive points, so no answer can be scored".to_owned()),
    }
}

/// The points that are met over those that can be had; `None` where none can. `met` goes with `rubric`.
pub fn score(rubric: &[&Criterion], met: &[bool]) -> Option<f64> {
    let possible: f64 = rubric.iter().map(|c| c.points.max(0.0)).sum();
    let achieved: f64 = rubric.iter().zip(met).filter(|(_, m)| **m).map(|(c, _)| c.points).sum();
    // The sum of nothing is -0, which would be printed so.
    (possible > 0.0).then_some((achieved + 0.0) / possible)
}

/// A mean, clipped to between 0 and 1, with the standard deviation of a bootstrap's means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clipped {
    /// The mean.
    pub mean: f64,
    /// The standard deviation of 1,000 bootstrap means.
    pub error: f64,
    /// How many conversations it is of.
    pub n: usize,
}

/// The clipped mean of some scores.
pub fn clipped(scores: &[f64]) -> Clipped {
    let clip = |v: f64| v.clamp(0.0, 1.0);
    let mut rng = Rng::new(2);
    let mut draw = || {
        let sum: f64 = (0..scores.len()).map(|_| scores[rng.below(scores.len())]).sum();
        clip(sum / scores.len().max(1) as f64)
    };
    let means: Vec<f64> = (0..1000).map(|_| draw()).collect();
    let middle = crate::stats::mean(&means);
    let variance = means.iter().map(|m| (m - middle).powi(2)).sum::<f64>() / means.len() as f64;
    Clipped { mean: clip(crate::stats::mean(scores)), error: variance.sqrt(), n: scores.len() }
}

/// The scores of a set: of all, and by tag. `met` has for each conversation a verdict a criterion.
pub fn scores(all: &[Conversation], met: &[Vec<bool>]) -> (Clipped, BTreeMap<String, Clipped>) {
    let mut whole = Vec::new();
    let mut by_tag: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (c, met) in all.iter().zip(met) {
        let rubric: Vec<&Criterion> = c.rubric.iter().collect();
        let Some(value) = score(&rubric, met) else { continue };
        whole.push(value);
        for tag in &c.tags {
            by_tag.entry(tag.clone()).or_default().push(value);
        }
        let mut tags: Vec<&String> = c.rubric.iter().flat_map(|c| &c.tags).collect();
        tags.sort();
        tags.dedup();
        for tag in tags {
            let of_tag = c.rubric.iter().zip(met).filter(|(c, _)| c.tags.contains(tag));
            let (rubric, met): (Vec<&Criterion>, Vec<bool>) = of_tag.map(|(c, m)| (c, *m)).unzip();
            if let Some(value) = score(&rubric, &met) {
                by_tag.entry(tag.clone()).or_default().push(value);
            }
        }
    }
    (clipped(&whole), by_tag.into_iter().map(|(tag, all)| (tag, clipped(&all))).collect())
}

/// What the judge's answer must be.
pub fn schema() -> Value {
    json!({
        "type": "object",
        "properties": { "explanation": { "type": "string" }, "criteria_met": { "type": "boolean" } },
        "required": ["explanation", "criteria_met"],
        "additionalProperties": false,
    })
}

/// Asks a judge whether the last answer of a conversation meets one criterion.
pub fn judgement(c: &Conversation, answer: &str, criterion: &Criterion, attempt: u32) -> Job {
    let answer = extract::after_thinking(answer).unwrap_or("").trim();
    let said: Vec<String> = c
        .turns
        .iter()
        .map(|t| format!("{}: {}", t.role, t.content))
        .chain([format!("assistant: {answer}")])
        .collect();
    let text = format!(
        "You are grading the last answer of the assistant in a conversation by one criterion of a rubric.\n\n# \
         Conversation\n{}\n\n# Criterion\n[{}] {}\n\n# What to return\nReturn a JSON object with two keys: \
         \"explanation\", a string that says why the last answer does or does not meet the criterion, and \
         \"criteria_met\", true or false. All of the criterion has to hold for it to be met; only where it says \"such \
         as\", \"for example\" or \"including\" need the answer not have every example. A criterion may describe a fault, \
         and then has negative points: criteria_met says whether the answer does what the criterion describes, not \
         whether that is good. If the criterion is \"Does X wrongly\" with -3 points and the answer does X wrongly, \
         return true. Return the JSON object alone.",
        said.join("\n\n"),
        criterion.points,
        criterion.text
    );
    let mut job = Job::user(text, 1024);
    job.thinking = Some(false);
    job.schema = Some(schema());
    if attempt > 0 {
        // The same draw again would be as unreadable as before.
        job.drawing = crate::ask::Drawing { temperature: 0.5, top_k: 0, top_p: 0.95, seed: attempt };
    }
    job
}

/// What a judge's answer says: whether the criterion is met, and why.
pub fn verdict(text: &str) -> Option<(bool, String)> {
    let text = extract::after_thinking(text)?;
    let object = crate::json_in(text)?;
    let met = object.get("criteria_met")?.as_bool()?;
    Some((met, object.get("explanation").and_then(Value::as_str).unwrap_or_default().to_owned()))
}
