//! All shards together: near-duplicates, overlaps and what fails the checks go, the rest is written with a manifest.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::minhash::Seen;
use super::prompts;
use super::stages::{STAGES, journal};
use super::{Settings, passages, write};
use crate::journal::write_text;
use crate::overlap::Index;
use crate::{Error, Result};

/// Why something was removed, and how often.
pub type Counts = BTreeMap<String, u64>;

/// What came of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Yield {
    /// Passages that were read.
    pub passages: u64,
    /// Passages that are near-duplicates of earlier ones.
    pub duplicate_passages: u64,
    /// Questions that were asked for.
    pub wanted: u64,
    /// Questions that a teacher did not make, by reason.
    pub rejected: Counts,
    /// Questions by outcome: right, wrong, unreadable.
    pub outcomes: Counts,
    /// Documents by kind and style.
    pub kinds: Counts,
    /// Documents removed, by reason.
    pub removed: Counts,
    /// Documents that are left.
    pub kept: u64,
    /// Tokens by stage: of prompts, and drawn.
    pub tokens: BTreeMap<String, (u64, u64)>,
}

/// The passages that are near-duplicates of earlier ones, each with that one; kept in the folder.
///
/// # Errors
/// As [`passages`]; two passages of one name.
pub fn duplicates(s: &Settings) -> Result<BTreeMap<String, String>> {
    let path = s.folder.join("duplicates.json");
    if path.exists() {
        let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, e))?;
        let map: BTreeMap<String, Value> = serde_json::from_slice::<Value>(&bytes)
            .ok()
            .and_then(|v| v.as_object().map(|o| o.clone().into_iter().collect()))
            .ok_or_else(|| Error::file(&path, "is no list of duplicates; remove it"))?;
        return Ok(map.into_iter().map(|(k, v)| (k, v.as_str().unwrap_or_default().to_owned())).collect());
    }
    let (mut seen, mut names, mut found) = (Seen::default(), Vec::new(), BTreeMap::new());
    let mut known = std::collections::BTreeSet::new();
    passages(&s.passages, &mut |p| {
        if !known.insert(p.id.clone()) {
            return Err(Error::file(&s.passages, format!("has two passages called {}", p.id)));
        }
        match seen.add(&p.text, s.alike) {
            Some(of) => {
                let of: &String = &names[of];
                found.insert(p.id, of.clone());
            }
            None => names.push(p.id),
        }
        Ok(())
    })?;
    write_text(&path, &format!("{:#}\n", json!(found)))?;
    Ok(found)
}

/// Reads all shards, removes, writes `data/part-*.jsonl`, the same as Parquet, and `manifest.json`. `about` says who
/// took part; `tests` are the test sets' indices by name.
///
/// # Errors
/// A shard that is not done, by its number; the disk's.
pub fn finish(s: &Settings, about: &Value, tests: &[(String, Index)]) -> Result<Yield> {
    let mut y = Yield::default();
    let duplicates = duplicates(s)?;
    y.duplicate_passages = duplicates.len() as u64;
    let mut seen = Seen::default();
    let data = s.folder.join("data");
    std::fs::create_dir_all(&data).map_err(|e| Error::io(&data, e))?;
    let mut parts: Vec<Value> = Vec::new();
    for shard in 0..s.shards()? {
        let mut rows = Vec::new();
        let ids: Vec<String> = s.read_shard(shard)?.into_iter().map(|p| p.id).collect();
        y.passages += ids.len() as u64;
        let ids: Vec<String> = ids.into_iter().filter(|id| !duplicates.contains_key(id)).collect();
        for row in shard_rows(s, shard, &ids, &mut y)? {
            match why_not(s, &row, &mut seen, tests) {
                Some(why) => *y.removed.entry(why).or_default() += 1,
                None => rows.push(row),
            }
        }
        y.kept += rows.len() as u64;
        parts.extend(write::part(&data, shard, &rows)?);
    }
    // Parts of an earlier run with more shards would be taken for data.
    write::remove_others(&data, &parts)?;
    write_text(&s.folder.join("manifest.json"), &format!("{:#}\n", manifest(s, about, tests, &y, &parts)))?;
    Ok(y)
}

/// The documents of a shard with all that is known of each.
fn shard_rows(s: &Settings, shard: usize, passages: &[String], y: &mut Yield) -> Result<Vec<Value>> {
    let folder = s.shard_folder(shard);
    let missing = |stage: &str| {
        let what = format!("shard {shard} lacks {stage}; run `weft genesis` on it again");
        Error::file(&s.folder, what)
    };
    let mut stages = Vec::new();
    for stage in STAGES {
        let path: PathBuf = folder.join(format!("{stage}.jsonl"));
        if !path.exists() && stage != "checks" {
            return Err(missing(stage));
        }
        stages.push(if path.exists() { Some(journal(&folder, stage)?) } else { None });
    }
    let mut rows = Vec::new();
    for id in passages.iter().flat_map(|p| (0..s.questions).map(move |n| format!("{p}/{n}"))) {
        let lines: Vec<Option<&Value>> = stages.iter().map(|j| j.as_ref().and_then(|j| j.get(&id))).collect();
        let question = lines[0].ok_or_else(|| missing("questions"))?;
        y.wanted += 1;
        for (stage, line) in STAGES.iter().zip(&lines) {
            let spent = y.tokens.entry((*stage).to_owned()).or_default();
            let of = |i: usize| line.and_then(|l| l["tokens"][i].as_u64()).unwrap_or(0);
            *spent = (spent.0 + of(0), spent.1 + of(1));
        }
        if let Some(why) = question["rejected"].as_str() {
            *y.rejected.entry(why.to_owned()).or_default() += 1;
            continue;
        }
        let reading = lines[2].ok_or_else(|| missing("readings"))?;
        let document = lines[3].ok_or_else(|| missing("documents"))?;
        let outcome = reading["outcome"].as_str().unwrap_or_default();
        *y.outcomes.entry(outcome.to_owned()).or_default() += 1;
        let kind = document["kind"].as_str().unwrap_or_default();
        let style = document["style"].as_str().map_or_else(String::new, |s| format!(", {s}"));
        *y.kinds.entry(format!("{kind}{style}")).or_default() += 1;
        let made = &question["made"];
        rows.push(json!({
            "id": id,
            "text": document["text"],
            "kind": kind,
            "style": document["style"],
            "question": made["question"],
            "options": made["options"],
            "answer": made["answer"],
            "student": reading["extracted"],
            "passage": question["passage"],
            "cut": document["cut"],
            "answerable": lines[4].map(|l| l["answerable"].clone()),
        }));
    }
    Ok(rows)
}

/// Why a document is removed; `None` where it stays.
fn why_not(s: &Settings, row: &Value, seen: &mut Seen, tests: &[(String, Index)]) -> Option<String> {
    let of = |key: &str| row[key].as_str().unwrap_or_default();
    let text = of("text");
    let length = text.chars().count();
    if row["cut"] == true {
        return Some("format: cut at its most tokens".to_owned());
    }
    if length < s.length.0 || length > s.length.1 {
        return Some(format!("length: {}", if length < s.length.0 { "too short" } else { "too long" }));
    }
    let right = row["options"][of("answer")].as_str().unwrap_or_default();
    if !text.to_lowercase().contains(&right.to_lowercase()) {
        return Some("format: lacks the right answer".to_owned());
    }
    if s.english && !is_english(text) {
        return Some("language: not English".to_owned());
    }
    if row["answerable"] == false {
        return Some("answerability: the judge found another answer".to_owned());
    }
    let options: Vec<&str> = row["options"]
        .as_object()
        .map(|o| o.values().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let all = format!("{} {} {text}", of("question"), options.join(" "));
    if let Some((name, _)) = tests.iter().find(|(_, index)| !index.look_up(&all).is_empty()) {
        return Some(format!("overlap: {name}"));
    }
    seen.add(text, s.alike).map(|_| "near-duplicate".to_owned())
}

/// Whether a text is English, by its letters and its small words.
pub fn is_english(text: &str) -> bool {
    const SMALL: [&str; 24] = [
        "the", "of", "and", "to", "in", "is", "a", "that", "it", "for", "as", "with", "was", "on", "are",
        "by", "be", "this", "which", "or", "an", "at", "from", "not",
    ];
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    let latin = text.chars().filter(char::is_ascii_alphabetic).count();
    let words: Vec<String> =
        text.split(|c: char| !c.is_alphabetic()).filter(|w| !w.is_empty()).map(str::to_lowercase).collect();
    let small = words.iter().filter(|w| SMALL.contains(&w.as_str())).count();
    letters > 0 && latin * 10 >= letters * 9 && small * 10 >= words.len()
}

fn manifest(s: &Settings, about: &Value, tests: &[(String, Index)], y: &Yield, parts: &[Value]) -> Value {
    let made: u64 = y.outcomes.values().sum();
    let rate = |n: u64, of: u64| if of == 0 { 0.0 } else { n as f64 / of as f64 };
    let removed: u64 = y.removed.values().sum();
    let prompts: serde_json::Map<String, Value> =
        prompts::hashes().into_iter().map(|(name, sha)| (name.to_owned(), sha.into())).collect();
    json!({
        "about": about,
        "prompts": prompts,
        "seed": s.seed,
        "passages": y.passages,
        "duplicate_passages": y.duplicate_passages,
        "questions": { "wanted": y.wanted, "made": made, "rejected": y.rejected },
        "outcomes": y.outcomes,
        "documents": { "written": y.kinds, "removed": y.removed, "kept": y.kept },
        "rates": {
            "made": rate(made, y.wanted),
            "right": rate(y.outcomes.get("right").copied().unwrap_or(0), made),
            "unreadable": rate(y.outcomes.get("unreadable").copied().unwrap_or(0), made),
            "removed": rate(removed, made),
            "kept": rate(y.kept, made),
        },
        "tokens": y.tokens.iter().map(|(k, v)| (k.clone(), json!({ "prompt": v.0, "drawn": v.1 }))).collect::<serde_json::Map<_, _>>(),
        "test_sets": tests.iter().map(|t| t.0.as_str()).collect::<Vec<_>>(),
        "parts": parts,
    })
}
