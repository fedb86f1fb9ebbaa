//! What is done with results and data without asking a model: comparing, merging, agreement, contamination.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use weft_evals::question::Shard;
use weft_evals::suites::{self, Mean};
use weft_evals::{exam, judge, overlap, report};

use crate::{Error, Result, output};

#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Results and data")]
pub(super) struct Flags {
    /// Compare two folders of results, question by question
    #[arg(long, value_name = "DIR", num_args = 2)]
    compare: Option<Vec<PathBuf>>,
    /// Add up the folders of a set's parts, as --shard made them
    #[arg(long, value_name = "DIR", num_args = 1..)]
    merge: Option<Vec<PathBuf>>,
    /// How far two judges agree: the folders, or verdicts.jsonl, of the same answers judged twice
    #[arg(long, value_name = "DIR", num_args = 2)]
    kappa: Option<Vec<PathBuf>>,
    /// Say what of the test set in --data stands in this training data: runs of 13 words
    #[arg(long, value_name = "FILE")]
    contamination: Option<PathBuf>,
    /// Write the training data without the records that have any of it, as lines of JSON
    #[arg(long, value_name = "FILE", requires = "contamination")]
    exclude: Option<PathBuf>,
}

/// Does what was asked for; whether it was any of this.
pub(super) fn run(f: &super::Flags) -> Result<bool> {
    let r = &f.results;
    if let Some([a, b]) = r.compare.as_deref() {
        compare(f, a, b)?;
    } else if let Some(folders) = &r.merge {
        merge(f, folders)?;
    } else if let Some([a, b]) = r.kappa.as_deref() {
        kappa(f, a, b)?;
    } else if r.contamination.is_some() {
        contamination(f)?;
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// What is wrong with parts that overlap.
pub(super) const TWICE: &str = "two of the folders have a question in common; merge different parts of a set";

/// What a folder of results says of how it was asked.
fn settings(folder: &Path) -> Result<Value> {
    let path = folder.join("settings.json");
    let bytes = weft_formats::read_regular(&path).map_err(|e| Error::io(&path, e))?;
    serde_json::from_slice(&bytes).map_err(|e| Error::input(format!("{}: {e}", path.display())))
}

/// How the scores of a suite are made.
fn mean(settings: &Value) -> Mean {
    suites::find(settings["suite"].as_str().unwrap_or_default()).map_or(Mean::Questions, |s| s.mean)
}

/// Whether the run of a folder came to its end.
fn is_whole(folder: &Path) -> bool {
    folder.join("result.json").is_file()
}

fn compare(f: &super::Flags, first: &Path, second: &Path) -> Result<()> {
    let over = match [settings(first), settings(second)] {
        [Ok(a), Ok(b)] if a["suite"] == b["suite"] => mean(&a),
        _ => Mean::Questions,
    };
    for folder in [first, second].into_iter().filter(|folder| !is_whole(folder)) {
        output::note(&format!(
            "{}: this run is not at its end; what it has answered is compared",
            folder.display()
        ));
    }
    let compared = exam::compare(&exam::lines(first)?, &exam::lines(second)?, over).ok_or_else(|| {
        let (first, second) = (first.display(), second.display());
        Error::input(format!("{first} and {second} have no question in common"))
    })?;
    if f.json {
        return output::json(&report::paired_json(&compared));
    }
    let names = [first, second].map(|p| p.display().to_string());
    output::text(&report::paired_text(&names[0], &names[1], &compared, over))
}

/// Refuses parts of different divisions: what they have together is no part of anything.
fn check_division(shards: &[(Shard, &Path)]) -> Result<()> {
    let Some((one, place)) = shards.first() else { return Ok(()) };
    match shards.iter().find(|s| s.0.count != one.count) {
        None => Ok(()),
        Some((other, there)) => Err(Error::input(format!(
            "{} is a part of {} and {} one of {}; merge parts of one division",
            place.display(),
            one.count,
            there.display(),
            other.count
        ))),
    }
}

/// Says which parts of a set are not among the folders.
fn note_missing(shards: &[(Shard, &Path)]) {
    let count = shards.first().map_or(0, |s| s.0.count);
    let missing = (0..count).filter(|i| shards.iter().all(|s| s.0.index != *i));
    let missing: Vec<String> = missing.map(|i| format!("{}/{count}", i + 1)).collect();
    if !missing.is_empty() {
        output::note(&format!(
            "warning: the parts {} are not among the folders, so that this is no score of the whole",
            missing.join(", ")
        ));
    }
}

fn merge(f: &super::Flags, folders: &[PathBuf]) -> Result<()> {
    let mut lines = Vec::new();
    let mut all: Option<Value> = None;
    let mut shards = Vec::new();
    for folder in folders {
        let mut same = settings(folder)?;
        let wrong = |what: &str| Error::input(format!("{}: {what}", folder.display()));
        if !is_whole(folder) {
            return Err(wrong("this run is not at its end; the command that began it goes on"));
        }
        if same["suite"] != "healthbench" {
            lines.extend(exam::lines(folder)?);
        }
        shards.push((same["shard"].as_str().map_or(Ok(Shard::ALL), Shard::parse)?, folder.as_path()));
        same["shard"] = Value::Null;
        if all.as_ref().is_some_and(|s| *s != same) {
            let first = folders[0].display();
            return Err(wrong(&format!("was asked in another way than {first}")));
        }
        all = Some(same);
    }
    check_division(&shards)?;
    let all = all.unwrap_or_default();
    if all["suite"] == "healthbench" {
        let judged = super::health::parts(folders)?;
        note_missing(&shards);
        return super::health::tell(f, &judged, all);
    }
    let mut keys: Vec<String> = lines.iter().filter_map(exam::key).collect();
    keys.sort();
    if keys.windows(2).any(|w| w[0] == w[1]) {
        return Err(Error::input(TWICE));
    }
    note_missing(&shards);
    let outcome = exam::result(&lines, mean(&all));
    if f.json {
        return output::json(&report::outcome_json(&outcome));
    }
    let name = all["suite"].as_str().unwrap_or_default();
    output::line(&format!("{name}, {} answers of {} folders", lines.len(), folders.len()))?;
    output::text(&report::outcome_text(&outcome, lines.iter().any(|l| l["output"].is_string())))
}

fn kappa(f: &super::Flags, first: &Path, second: &Path) -> Result<()> {
    let a = judge::agreement(first, second)?;
    if f.json {
        return output::json(&json!({
            "verdicts": a.n, "agree": a.agree, "met_first": a.met.0, "met_second": a.met.1, "kappa": a.kappa,
        }));
    }
    let kappa = a.kappa.map_or_else(|| "undefined: chance explains all".to_owned(), |k| format!("{k:.4}"));
    output::line(&format!(
        "{} verdicts: {:.2} % agree, met {:.2} % and {:.2} %, kappa {kappa}",
        a.n,
        100.0 * a.agree,
        100.0 * a.met.0,
        100.0 * a.met.1
    ))
}

fn contamination(f: &super::Flags) -> Result<()> {
    let Some(training) = &f.results.contamination else { return Ok(()) };
    let set = super::exam::read(f, super::exam::data(f)?)?;
    let (found, hit) = overlap::search(&set.questions, training)?;
    let lines = overlap::report(&set.questions, &found);
    let kept = match &f.results.exclude {
        Some(out) => Some(overlap::exclude(training, &hit, out)?),
        None => None,
    };
    if f.json {
        return output::json(&json!({
            "questions": set.questions.len(), "found": lines.len(), "records": hit.len(), "kept": kept,
            "run": overlap::RUN, "by_question": lines,
        }));
    }
    output::line(&format!(
        "{} of {} questions have a run of {} words in {}, in {} of its records",
        lines.len(),
        set.questions.len(),
        overlap::RUN,
        training.display(),
        hit.len()
    ))?;
    for l in &lines {
        let text: String = l["question"].as_str().unwrap_or_default().chars().take(70).collect();
        output::line(&format!(
            "  {}  {:.0} % of its runs, the longest match has {} words, {} records, first {}  {text}",
            l["id"].as_str().unwrap_or_default(),
            100.0 * l["share"].as_f64().unwrap_or(0.0),
            l["longest"],
            l["records"],
            l["places"][0].as_str().unwrap_or_default(),
        ))?;
    }
    if let (Some(kept), Some(out)) = (kept, &f.results.exclude) {
        output::note(&format!("{}: {kept} records without any of it", out.display()));
    }
    Ok(())
}
