//! Contamination: what of a test set stands in training data. Words are compared in lower case without marks; what
//! counts is a run of 13 words that both have, and how long the longest such run is.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::hash::{hash, mix};
use crate::question::Question;
use crate::records::{self, Record};
use crate::{Error, Result};

/// Words of a run that counts.
pub const RUN: usize = 13;

/// The words of a text, each as a hash.
pub fn words(text: &str) -> Vec<u64> {
    let mut out = Vec::new();
    let mut word = String::new();
    for c in text.chars().chain([' ']) {
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        } else if !word.is_empty() {
            out.push(hash(word.as_bytes()));
            word.clear();
        }
    }
    out
}

/// The hash of each run of `n` words, in order.
fn runs(words: &[u64], n: usize) -> impl Iterator<Item = u64> {
    words.windows(n).map(|w| w.iter().fold(0, |h, word| mix(h ^ word)))
}

/// What of a question was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Words of the question with its options.
    pub words: usize,
    /// Its runs of 13 words, or of all its words where it has fewer.
    pub runs: usize,
    /// Those of them that stand in the training data.
    pub seen: usize,
    /// Words of the longest run that both have.
    pub longest: usize,
    /// Records of the training data that have any of its runs, the first few.
    pub places: Vec<String>,
    /// How many such records there are.
    pub records: usize,
}

impl Found {
    /// Whether anything was found.
    pub fn is_hit(&self) -> bool {
        self.seen > 0
    }
}

/// A test set's runs, to look training data up in. Memory is that of the test set alone.
#[derive(Debug)]
pub struct Index {
    texts: Vec<Vec<u64>>,
    /// Where each run is: the text and its word. Texts shorter than a run are under their own length.
    places: HashMap<u64, Vec<(u32, u32)>>,
    /// The lengths of runs that are in use.
    lengths: Vec<usize>,
}

impl Index {
    /// An index of the questions' texts: what is asked, with the options in their order.
    pub fn new(questions: &[Question]) -> Index {
        let text = |q: &Question| {
            let mut all = vec![q.context.as_deref().unwrap_or(""), q.text.as_str()];
            all.extend(q.options.iter().map(String::as_str));
            all.join(" ")
        };
        Index::of(&questions.iter().map(text).collect::<Vec<_>>())
    }

    /// An index of these texts.
    pub fn of(texts: &[String]) -> Index {
        let texts: Vec<Vec<u64>> = texts.iter().map(|t| words(t)).collect();
        let mut places: HashMap<u64, Vec<(u32, u32)>> = HashMap::new();
        let mut lengths = Vec::new();
        for (t, words) in texts.iter().enumerate().filter(|(_, w)| !w.is_empty()) {
            let n = words.len().min(RUN);
            if !lengths.contains(&n) {
                lengths.push(n);
            }
            for (at, run) in runs(words, n).enumerate() {
                places.entry(run).or_default().push((t as u32, at as u32));
            }
        }
        Index { texts, places, lengths }
    }

    /// What of each text stands in `text`: the text's number, its words that begin a run found here, the longest match.
    pub fn look_up(&self, text: &str) -> Vec<(usize, Vec<u32>, usize)> {
        let have = words(text);
        let mut found: HashMap<u32, (Vec<u32>, usize)> = HashMap::new();
        for &n in &self.lengths {
            for (here, run) in runs(&have, n).enumerate() {
                for &(t, at) in self.places.get(&run).map_or(&[][..], Vec::as_slice) {
                    let mine = &self.texts[t as usize];
                    if mine.len().min(RUN) != n {
                        continue;
                    }
                    let entry = found.entry(t).or_default();
                    entry.0.push(at);
                    // Only a run that the word before does not lengthen is followed to its end.
                    let (at, longest) = (at as usize, &mut entry.1);
                    if at == 0 || here == 0 || mine[at - 1] != have[here - 1] {
                        let same = mine[at..].iter().zip(&have[here..]).take_while(|(a, b)| a == b).count();
                        *longest = (*longest).max(same);
                    }
                }
            }
        }
        let mut all: Vec<_> = found.into_iter().map(|(t, (at, longest))| (t as usize, at, longest)).collect();
        all.sort_unstable();
        all
    }
}

/// Every text of a record, one after the other.
pub fn text_of(record: &Record) -> String {
    fn walk(value: &Value, out: &mut String) {
        match value {
            Value::String(s) => {
                out.push_str(s);
                out.push('\n');
            }
            Value::Array(all) => all.iter().for_each(|v| walk(v, out)),
            Value::Object(map) => map.values().for_each(|v| walk(v, out)),
            _ => {}
        }
    }
    let mut out = String::new();
    record.values().for_each(|v| walk(v, &mut out));
    out
}

/// Looks for the questions in a file of training data: what was found of each question, and the records that have any.
///
/// # Errors
/// The file's.
pub fn search(questions: &[Question], training: &Path) -> Result<(Vec<Found>, Vec<usize>)> {
    let index = Index::new(questions);
    let count = |t: &Vec<u64>| if t.is_empty() { 0 } else { t.len() + 1 - t.len().min(RUN) };
    let mut all: Vec<Found> =
        index.texts.iter().map(|t| Found { words: t.len(), runs: count(t), ..Found::default() }).collect();
    let mut seen: Vec<Vec<bool>> = all.iter().map(|f| vec![false; f.runs]).collect();
    let (mut records, mut hit) = (0, Vec::new());
    records::read(training, true, &mut |place, record| {
        let found = index.look_up(&text_of(&record));
        if !found.is_empty() {
            hit.push(records);
        }
        records += 1;
        for (t, starts, longest) in found {
            let f = &mut all[t];
            f.longest = f.longest.max(longest);
            f.records += 1;
            if f.places.len() < 3 {
                f.places.push(place.to_owned());
            }
            starts.iter().for_each(|at| seen[t][*at as usize] = true);
        }
        Ok(())
    })?;
    for (f, seen) in all.iter_mut().zip(&seen) {
        f.seen = seen.iter().filter(|s| **s).count();
    }
    Ok((all, hit))
}

/// The lines of a report: one for each question of which something was found.
pub fn report(questions: &[Question], found: &[Found]) -> Vec<Value> {
    let hits = questions.iter().zip(found).filter(|(_, f)| f.is_hit());
    hits.map(|(q, f)| {
        json!({
            "id": q.id,
            "subject": q.subject,
            "question": q.text,
            "words": f.words,
            "runs": f.runs,
            "runs_seen": f.seen,
            "share": f.seen as f64 / f.runs.max(1) as f64,
            "longest": f.longest,
            "records": f.records,
            "places": f.places,
        })
    })
    .collect()
}

/// Writes the records of `training` that have nothing of the test set, as lines of JSON. Returns how many there are.
///
/// # Errors
/// The files'; `out` that is `training`.
pub fn exclude(training: &Path, hit: &[usize], out: &Path) -> Result<usize> {
    let same = |p: &Path| std::fs::canonicalize(p).ok();
    if same(out).is_some() && same(out) == same(training) {
        return Err(Error::file(out, "is the training data itself; give another file"));
    }
    let (mut at, mut next, mut kept) = (0, hit.iter().peekable(), Vec::new());
    records::read(training, true, &mut |_, record| {
        match next.next_if(|h| **h == at) {
            Some(_) => {}
            None => kept.push(Value::Object(record)),
        }
        at += 1;
        Ok(())
    })?;
    crate::journal::write_lines(out, &kept)?;
    Ok(kept.len())
}
