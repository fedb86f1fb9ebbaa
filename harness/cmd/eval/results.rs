//! What is done with results and data without asking a model: comparing, merging, agreement, contamination.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use weft_evals::{exam, judge, overlap, report, stats, suites};

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

fn compare(f: &super::Flags, first: &Path, second: &Path) -> Result<()> {
    let (a, b) = (exam::scores(&exam::lines(first)?), exam::scores(&exam::lines(second)?));
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for (key, score) in &a {
        if let Some(other) = b.get(key) {
            x.push(*score);
            y.push(*other);
        }
    }
    if x.is_empty() {
        return Err(Error::input(format!(
            "{} and {} have no question in common",
            first.display(),
            second.display()
        )));
    }
    let paired = stats::paired(&x, &y);
    if f.json {
        let mut value = report::paired_json(&paired);
        value["first"] = report::interval_json(stats::bootstrap(&x));
        value["second"] = report::interval_json(stats::bootstrap(&y));
        return output::json(&value);
    }
    let names = [first, second].map(|p| p.display().to_string());
    output::text(&report::paired_text(&names[0], &names[1], x.len(), &paired))
}

fn merge(f: &super::Flags, folders: &[PathBuf]) -> Result<()> {
    let mut lines = Vec::new();
    let mut suite = None;
    for folder in folders {
        lines.extend(exam::lines(folder)?);
        let path = folder.join("settings.json");
        let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, e))?;
        let settings: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|e| Error::input(format!("{}: {e}", path.display())))?;
        let mut same = settings.clone();
        same["shard"] = serde_json::Value::Null;
        if suite.as_ref().is_some_and(|s| *s != same) {
            return Err(Error::input(format!(
                "{}: was asked in another way than {}",
                folder.display(),
                folders[0].display()
            )));
        }
        suite = Some(same);
    }
    let name = suite.as_ref().and_then(|s| s["suite"].as_str()).unwrap_or_default();
    let mean = suites::find(name).map_or(suites::Mean::Questions, |s| s.mean);
    let mut keys: Vec<String> = lines.iter().filter_map(exam::key).collect();
    keys.sort();
    if keys.windows(2).any(|w| w[0] == w[1]) {
        return Err(Error::input(
            "two of the folders have a question in common; merge different parts of a set",
        ));
    }
    let outcome = exam::result(&lines, mean);
    if f.json {
        return output::json(&report::outcome_json(&outcome));
    }
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
