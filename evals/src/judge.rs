//! A judge's verdicts on answers to HealthBench, a line a criterion, and how far two judges agree.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::ask::{Generate, Job};
use crate::healthbench::{Conversation, Criterion, judgement, verdict};
use crate::journal::Journal;
use crate::{Error, Result, records, stats};

/// How often a criterion is asked about before its verdict counts as unreadable.
pub const TRIES: u32 = 3;

/// The name of an answer's line.
pub fn answer_key(line: &Value) -> Option<String> {
    line.get("output")?;
    line.get("id")?.as_str().map(str::to_owned)
}

/// The name of a verdict's line.
pub fn verdict_key(line: &Value) -> Option<String> {
    line.get("met")?;
    Some(format!("{}/{}", line.get("id")?.as_str()?, line.get("criterion")?.as_u64()?))
}

/// Has `who` answer every conversation that the journal has not, by jobs made like `job`; gives each answer's text.
///
/// # Errors
/// The model's, or the disk's.
pub fn answers(
    all: &[Conversation],
    job: &Job,
    who: &mut dyn Generate,
    journal: &mut Journal,
    told: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Vec<String>> {
    let asked: Vec<&Conversation> = all.iter().filter(|c| !journal.has(&c.id)).collect();
    let jobs: Vec<Job> = asked.iter().map(|c| Job { turns: c.turns.clone(), ..job.clone() }).collect();
    told(journal.len())?;
    who.generate(&jobs, &mut |i, answer| {
        let id = &asked[i].id;
        journal.add(
            id,
            json!({
                "id": id, "output": answer.text, "tokens": answer.tokens, "prompt_tokens": answer.prompt_tokens,
                "cut": answer.cut, "tags": asked[i].tags,
            }),
        )?;
        told(journal.len())?;
        Ok(())
    })?;
    let keys: Vec<String> = all.iter().map(|c| c.id.clone()).collect();
    let lines = journal.finish(&keys)?;
    Ok(lines.iter().map(|l| l["output"].as_str().unwrap_or_default().to_owned()).collect())
}

/// Verdicts on all criteria, one call each, as far as the journal has not: for each conversation one a criterion, and
/// how many stayed unreadable after [`TRIES`], which count as not met.
///
/// # Errors
/// The judge's, or the disk's.
pub fn judge(
    all: &[Conversation],
    answers: &[String],
    who: &mut dyn Generate,
    journal: &mut Journal,
    told: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<(Vec<Vec<bool>>, usize)> {
    let every = || all.iter().zip(answers).flat_map(|(c, a)| (0..c.rubric.len()).map(move |i| (c, a, i)));
    let key = |c: &Conversation, i: usize| format!("{}/{i}", c.id);
    let line = |c: &Conversation, i: usize, met: Option<bool>, why: &str, tries: u32| {
        let Criterion { points, text, tags } = &c.rubric[i];
        json!({
            "id": c.id, "criterion": i, "text": text, "points": points, "tags": tags, "met": met,
            "explanation": why, "tries": tries,
        })
    };
    for attempt in 0..TRIES {
        let open: Vec<_> = every().filter(|(c, _, i)| !journal.has(&key(c, *i))).collect();
        let jobs: Vec<Job> = open.iter().map(|(c, a, i)| judgement(c, a, &c.rubric[*i], attempt)).collect();
        told(journal.len())?;
        who.generate(&jobs, &mut |n, answer| {
            let (c, _, i) = open[n];
            match verdict(&answer.text) {
                Some((met, why)) => journal.add(&key(c, i), line(c, i, Some(met), &why, attempt + 1))?,
                None if attempt + 1 == TRIES => {
                    journal.add(&key(c, i), line(c, i, None, &answer.text, TRIES))?;
                }
                None => {}
            }
            told(journal.len())?;
            Ok(())
        })?;
    }
    let keys: Vec<String> = every().map(|(c, _, i)| key(c, i)).collect();
    let lines = journal.finish(&keys)?;
    let unreadable = lines.iter().filter(|l| l["met"].is_null()).count();
    let mut met = lines.iter().map(|l| l["met"] == true);
    let of = |c: &Conversation| met.by_ref().take(c.rubric.len()).collect();
    Ok((all.iter().map(of).collect(), unreadable))
}

/// Conversations as far as scores need them, with a verdict a criterion, and how many verdicts were unreadable.
pub type Judged = (Vec<Conversation>, Vec<Vec<bool>>, usize);

/// What a run has left in its folder: its conversations without what was said.
///
/// # Errors
/// No such files, or lines that name no tags, as those of older versions.
pub fn judged(folder: &Path) -> Result<Judged> {
    let (mut all, mut met, mut unreadable) = (Vec::new(), Vec::new(), 0);
    let mut places = BTreeMap::new();
    let read = |name: &str, each: &mut dyn FnMut(&Value, Vec<String>) -> Option<()>| {
        let path = folder.join(name);
        records::read(&path, true, &mut |place, record| {
            let line = Value::Object(record);
            let tags = line["tags"].as_array().map(|t| t.iter().filter_map(Value::as_str));
            let tags = tags.map(|t| t.map(str::to_owned).collect());
            tags.and_then(|tags| each(&line, tags)).ok_or_else(|| Error::Row {
                file: path.display().to_string(),
                place: place.to_owned(),
                what:
                    "is no line of HealthBench with \"tags\", which older versions did not write; judge in a \
                       new folder"
                        .to_owned(),
            })
        })
    };
    read("answers.jsonl", &mut |line, tags| {
        let id = line["id"].as_str()?.to_owned();
        places.insert(id.clone(), all.len());
        all.push(Conversation { id, turns: Vec::new(), rubric: Vec::new(), tags });
        met.push(Vec::new());
        Some(())
    })?;
    read("verdicts.jsonl", &mut |line, tags| {
        let at = *places.get(line["id"].as_str()?)?;
        let (text, points) = (line["text"].as_str()?.to_owned(), line["points"].as_f64()?);
        all[at].rubric.push(Criterion { text, points, tags });
        met[at].push(line["met"] == true);
        unreadable += usize::from(line["met"].is_null());
        Some(())
    })?;
    Ok((all, met, unreadable))
}

/// How far two files of verdicts agree.
#[derive(Debug, Clone, PartialEq)]
pub struct Agreement {
    /// Verdicts that both have.
    pub n: usize,
    /// The share on which they agree.
    pub agree: f64,
    /// The share that the first and the second call met.
    pub met: (f64, f64),
    /// Cohen's kappa; `None` where chance explains everything.
    pub kappa: Option<f64>,
}

/// Compares the verdicts in two files, or in the folders that runs leave.
///
/// # Errors
/// A file without verdicts; two files without one in common.
pub fn agreement(first: &Path, second: &Path) -> Result<Agreement> {
    let read = |path: &Path| -> Result<BTreeMap<String, bool>> {
        let path = if path.is_dir() { path.join("verdicts.jsonl") } else { path.to_owned() };
        let mut all = BTreeMap::new();
        records::read(&path, true, &mut |place, record| {
            let line = Value::Object(record);
            let wrong = || Error::Row {
                file: path.display().to_string(),
                place: place.to_owned(),
                what: "is no verdict of a judge".to_owned(),
            };
            let name = verdict_key(&line).ok_or_else(wrong)?;
            if let Some(met) = line["met"].as_bool() {
                all.insert(name, met);
            }
            Ok(())
        })?;
        Ok(all)
    };
    let (a, b) = (read(first)?, read(second)?);
    let pairs: Vec<(bool, bool)> = a.iter().filter_map(|(k, m)| Some((*m, *b.get(k)?))).collect();
    if pairs.is_empty() {
        return Err(Error::file(first, format!("has no verdict in common with {}", second.display())));
    }
    let n = pairs.len() as f64;
    let share = |f: &dyn Fn(&(bool, bool)) -> bool| pairs.iter().filter(|p| f(p)).count() as f64 / n;
    Ok(Agreement {
        n: pairs.len(),
        agree: share(&|p| p.0 == p.1),
        met: (share(&|p| p.0), share(&|p| p.1)),
        kappa: stats::kappa(&pairs),
    })
}
