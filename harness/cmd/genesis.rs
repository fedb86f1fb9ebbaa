//! `weft genesis`: training data from what a student gets wrong.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};
use weft_evals::ask::Drawing;
use weft_evals::genesis::finish::{Yield, duplicates, finish};
use weft_evals::genesis::stages::{self, Cast, Cost};
use weft_evals::genesis::{Model, Rules, Settings, Style, Teacher};
use weft_evals::journal::claim;
use weft_evals::overlap::Index;
use weft_evals::{Generate, hash, suites};
use weft_models::engine::MAX_SLOTS;

use crate::answers;
use crate::options::{DeviceFlags, ModelFlag};
use crate::{Error, Result, interrupt, mini, output};

/// Make training data from what a student gets wrong
///
/// A teacher makes multiple-choice questions of passages, each wrong option with the misconception that leads to it. A
/// student answers them. Where its answer is wrong or cannot be read, the teacher writes a document on the failure, as a
/// textbook, questions and answers, an article or a dialogue; where it is right, one that weighs every option. Then
/// near-duplicates, overlaps with test sets (--test) and what fails the checks are removed.
///
/// Teacher, student and judge are each a model's file or an endpoint, http://HOST:PORT/v1, or
/// http://HOST:PORT/v1#MODEL where it has several.
/// The folder has a line a question and stage; what is there is never made again, so a run that was stopped goes on.
/// Its data/ has the documents as lines of JSON and as Parquet, manifest.json what became of everything, costs.jsonl
/// the tokens and seconds of each stage.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft genesis -d passages.jsonl -o genesis --teacher http://localhost:8080/v1 --student small.gguf
  weft genesis -d passages.jsonl -o genesis --teacher big.gguf --student small.gguf --judge other.gguf
  weft genesis -d passages.jsonl -o genesis --teacher rules --student small.gguf --test own.jsonl
  weft genesis -d passages.jsonl -o genesis --teacher big.gguf --student small.gguf --only 3
  weft genesis -d passages.jsonl -o genesis --teacher big.gguf --student small.gguf --finish")]
pub(super) struct Flags {
    /// Passages: records with `text`, and perhaps `id`
    #[arg(short, long = "data", value_name = "FILE")]
    data: PathBuf,
    /// Folder of the run
    #[arg(short, long = "output", value_name = "DIR")]
    output: PathBuf,
    /// Who makes questions and writes documents; `rules` does both without a model, from passages with `facts`
    #[arg(long, value_name = "MODEL|URL|rules")]
    teacher: String,
    /// Who answers; weft-mini is the model on board
    #[arg(long, value_name = "MODEL|URL", default_value = mini::NAME)]
    student: String,
    /// Who reads answers that no rule can, and says whether a document answers its question [default: nobody]
    #[arg(long, value_name = "MODEL|URL")]
    judge: Option<String>,
    /// Test set that no document may have a run of 13 words of: FILE, or SUITE:FILE for a published one; may be repeated
    #[arg(long, value_name = "[SUITE:]FILE")]
    test: Vec<String>,
    /// Questions of a passage
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    questions: u32,
    /// Styles of documents on failures, of textbook, questions, article, dialogue
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "textbook,questions,article,dialogue"
    )]
    styles: Vec<String>,
    /// Seed of all draws
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u32,
    /// Temperature of the student; 0 takes the likeliest token each
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temp: f32,
    /// Most tokens of the student's answer
    #[arg(short = 'n', long = "max-tokens", value_name = "N", default_value_t = 512)]
    n: u32,
    /// Passages of a shard, which is what one process works on
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    shard_size: u32,
    /// Work on this shard alone, 0 for the first, and do not finish
    #[arg(long, value_name = "N", conflicts_with = "finish")]
    only: Option<u32>,
    /// Put together shards that are done already, asking nobody
    #[arg(long)]
    finish: bool,
    /// Share of runs of five words from which documents are near-duplicates
    #[arg(long, value_name = "X", default_value_t = 0.8)]
    alike: f64,
    /// Take documents in any language
    #[arg(long)]
    any_language: bool,
    /// Answers at a time [default: 32; 4 on a software GPU; 8 requests to an endpoint]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SLOTS)))]
    slots: Option<u32>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceFlags,
}

pub(super) fn run(f: Flags) -> Result<()> {
    let s = settings(&f)?;
    let tests = tests(&f)?;
    let bytes = std::fs::read(&f.data).map_err(|e| Error::io(&f.data, e))?;
    let who = |name: &str| -> Result<Value> {
        match name.contains("://") || name == "rules" || name == mini::NAME {
            true => Ok(name.into()),
            false => answers::identity(&ModelFlag { model: Some(name.into()) }),
        }
    };
    let about = json!({
        "passages": { "sha256": hash::sha256(&bytes), "bytes": bytes.len() },
        "teacher": who(&f.teacher)?,
        "student": who(&f.student)?,
        "judge": f.judge.as_deref().map(who).transpose()?,
        "tests": f.test,
        "questions": s.questions,
        "styles": f.styles,
        "seed": s.seed,
        "temperature": f.temp,
        "max_tokens": f.n,
        "shard_size": s.shard,
        "alike": s.alike,
        "english": s.english,
    });
    drop(bytes);
    claim(&s.folder, &about)?;
    interrupt::install(2);
    let start = Instant::now();
    let duplicates = duplicates(&s)?;
    if !f.finish {
        let all: Vec<usize> = match f.only {
            Some(n) if (n as usize) < s.shards()? => vec![n as usize],
            Some(n) => {
                return Err(Error::input(format!("there is no shard {n}; the last is {}", s.shards()? - 1)));
            }
            None => (0..s.shards()?).collect(),
        };
        work(&f, &s, &all, &|id| duplicates.contains_key(id))?;
    }
    if f.only.is_some() {
        return Ok(());
    }
    let y = finish(&s, &about, &tests)?;
    if f.json {
        let path = s.folder.join("manifest.json");
        let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&path, e))?;
        return output::text(&text);
    }
    output::text(&summary(&y))?;
    output::note(&format!(
        "{:.0} s; data and manifest.json are in {}",
        start.elapsed().as_secs_f64(),
        s.folder.display()
    ));
    Ok(())
}

fn settings(f: &Flags) -> Result<Settings> {
    let style = |name: &String| {
        let known = Style::ALL.map(Style::name).join(", ");
        Style::parse(name).ok_or_else(|| Error::usage(format!("--styles has no \"{name}\"; known: {known}")))
    };
    Ok(Settings {
        passages: f.data.clone(),
        folder: f.output.clone(),
        shard: f.shard_size as usize,
        questions: f.questions as usize,
        styles: f.styles.iter().map(style).collect::<Result<_>>()?,
        seed: f.seed,
        student: Drawing { temperature: f.temp, top_k: 20, top_p: 0.95, seed: f.seed },
        student_tokens: f.n as usize,
        alike: f.alike,
        length: (80, 20_000),
        english: !f.any_language,
    })
}

/// The test sets, ready to look documents up in.
fn tests(f: &Flags) -> Result<Vec<(String, Index)>> {
    let one = |text: &String| -> Result<(String, Index)> {
        let (suite, path) = match text.split_once(':') {
            Some((name, path)) if suites::find(name).is_some() => (suites::find(name), path),
            _ => (None, text.as_str()),
        };
        let path = PathBuf::from(path);
        let set = match suite {
            Some(suite) => suite.read(&path)?,
            None => suites::Set::read(&path, None, "test", &[weft_evals::columns::Columns::default()], &[])?,
        };
        Ok((text.clone(), Index::new(&set.questions)))
    };
    f.test.iter().map(one).collect()
}

/// Runs the shards, one after the other.
fn work(f: &Flags, s: &Settings, shards: &[usize], left_out: &dyn Fn(&str) -> bool) -> Result<()> {
    // Whoever is the same is opened once.
    let open = |name: &str| -> Result<Box<dyn Generate>> {
        match name {
            name if name == mini::NAME => answers::mini(&f.device, f.slots),
            name => answers::somebody(name, &f.device, f.slots),
        }
    };
    let mut rules = (f.teacher == "rules").then(|| Rules::new(&f.data)).transpose()?;
    let mut teacher = if rules.is_none() { Some(open(&f.teacher)?) } else { None };
    let mut student = open(&f.student)?;
    let mut judge = f.judge.as_deref().map(open).transpose()?;
    for &shard in shards {
        let bar = output::bar(0, "{msg} {bar:30} {pos} of {len}, {elapsed}");
        let mut told = |stage: &str, n: usize, of: usize| {
            bar.set_message(format!("shard {} of {}, {stage}", shard + 1, s.shards().unwrap_or(shard + 1)));
            bar.set_length(of as u64);
            bar.set_position(n as u64);
            if interrupt::asked() { Err(weft_evals::Error::Stopped) } else { Ok(()) }
        };
        let mut model;
        let teacher: &mut dyn Teacher = match (&mut rules, &mut teacher) {
            (Some(rules), _) => rules,
            (None, Some(t)) => {
                model = Model(t.as_mut());
                &mut model
            }
            (None, None) => return Err(Error::usage("there is no teacher")),
        };
        let mut cast = Cast {
            teacher,
            student: student.as_mut(),
            judge: judge.as_mut().map(|j| j.as_mut() as &mut dyn Generate),
        };
        let cost = stages::run(s, shard, left_out, &mut cast, &mut told);
        bar.finish_and_clear();
        costs(s, shard, &cost?)?;
    }
    Ok(())
}

/// Adds what a shard took in this process to the costs, which are no part of the result.
fn costs(s: &Settings, shard: usize, cost: &Cost) -> Result<()> {
    let path = s.folder.join("costs.jsonl");
    let mut file =
        std::fs::OpenOptions::new().create(true).append(true).open(&path).map_err(|e| Error::io(&path, e))?;
    let mut text = String::new();
    for (stage, prompt, drawn, seconds) in &cost.stages {
        text +=
            &json!({ "shard": shard, "stage": stage, "prompt": prompt, "drawn": drawn, "seconds": seconds })
                .to_string();
        text.push('\n');
    }
    file.write_all(text.as_bytes()).map_err(|e| Error::io(&path, e))?;
    let (tokens, seconds) = cost.stages.iter().fold((0, 0.0), |(t, s), c| (t + c.1 + c.2, s + c.3));
    output::note(&format!("shard {}: {tokens} tokens in {seconds:.1} s", shard + 1));
    Ok(())
}

/// The yield of each step, in lines.
fn summary(y: &Yield) -> String {
    let made: u64 = y.outcomes.values().sum();
    let percent = |n: u64, of: u64| if of == 0 { 0.0 } else { 100.0 * n as f64 / of as f64 };
    let line = |what: &str, n: u64, of: u64| format!("  {what:<44} {n:>8}  {:>6.2} %\n", percent(n, of));
    let mut text = format!("{} passages\n", y.passages);
    text += &line("near-duplicates among passages", y.duplicate_passages, y.passages);
    text += &line("questions made", made, y.wanted);
    y.rejected.iter().for_each(|(why, n)| text += &line(&format!("rejected: {why}"), *n, y.wanted));
    y.outcomes.iter().for_each(|(what, n)| text += &line(&format!("the student's answer: {what}"), *n, made));
    y.kinds.iter().for_each(|(kind, n)| text += &line(&format!("documents: {kind}"), *n, made));
    y.removed.iter().for_each(|(why, n)| text += &line(&format!("removed, {why}"), *n, made));
    text += &line("documents kept", y.kept, made);
    let (prompt, drawn) = y.tokens.values().fold((0, 0), |(p, d), t| (p + t.0, d + t.1));
    text + &format!("  {prompt} tokens read, {drawn} written\n")
}
