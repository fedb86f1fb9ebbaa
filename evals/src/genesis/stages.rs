//! The stages of a shard. Each has a file there, a line a question.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use super::prompts::{self, made, made_json};
use super::{Made, Passage, Settings, Teacher, Verdict, Wanted};
use crate::ask::extract::{self, Choice};
use crate::ask::{Answer, Generate, Job};
use crate::exam;
use crate::journal::Journal;
use crate::question::LETTERS;
use crate::{Error, Result};

/// How often a teacher may try a question.
pub const TRIES: u32 = 3;

/// The stages, in order, by the names of their files.
pub const STAGES: [&str; 5] = ["questions", "answers", "readings", "documents", "checks"];

/// Who does what.
pub struct Cast<'a> {
    /// Makes questions and writes documents.
    pub teacher: &'a mut dyn Teacher,
    /// Answers the questions.
    pub student: &'a mut dyn Generate,
    /// Reads what no rule can, and says whether a document answers its question; none leaves both out.
    pub judge: Option<&'a mut dyn Generate>,
}

/// What is told of a stage while it runs: its name, lines that are there, lines that there will be.
pub type Told<'a> = dyn FnMut(&str, usize, usize) -> Result<()> + 'a;

/// What a stage has taken in this process.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cost {
    /// By stage: tokens of prompts, tokens drawn, seconds.
    pub stages: Vec<(&'static str, u64, u64, f64)>,
}

fn key(line: &Value) -> Option<String> {
    line.get("id")?.as_str().map(str::to_owned)
}

/// The journal of a stage of a shard.
///
/// # Errors
/// As [`Journal::open`].
pub fn journal(folder: &Path, stage: &str) -> Result<Journal> {
    Journal::open(&folder.join(format!("{stage}.jsonl")), &key)
}

/// Runs every stage of a shard, as far as it is not done. Passages in `left_out` are near-duplicates of others.
///
/// # Errors
/// Whoever's of the cast, or the disk's; what is in the files stays.
pub fn run(
    s: &Settings,
    shard: usize,
    left_out: &dyn Fn(&str) -> bool,
    cast: &mut Cast<'_>,
    told: &mut Told<'_>,
) -> Result<Cost> {
    let folder = s.shard_folder(shard);
    std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
    let passages: Vec<Passage> = s.read_shard(shard)?.into_iter().filter(|p| !left_out(&p.id)).collect();
    let mut cost = Cost::default();
    let questions = questions(s, &folder, &passages, cast.teacher, told, &mut cost)?;
    let said = answers(s, &folder, &questions, cast.student, told, &mut cost)?;
    let judge: Option<&mut dyn Generate> = match &mut cast.judge {
        Some(judge) => Some(&mut **judge),
        None => None,
    };
    let verdicts = readings(&folder, &questions, &said, judge, &mut cost)?;
    let documents = documents(s, &folder, &questions, (&said, &verdicts), cast.teacher, told, &mut cost)?;
    if let Some(judge) = &mut cast.judge {
        checks(&folder, &questions, &documents, &mut **judge, told, &mut cost)?;
    }
    Ok(cost)
}

/// A question with its name and its passage.
type Asked<'p> = (String, &'p Passage, Made);

fn questions<'p>(
    s: &Settings,
    folder: &Path,
    passages: &'p [Passage],
    teacher: &mut dyn Teacher,
    told: &mut Told<'_>,
    cost: &mut Cost,
) -> Result<Vec<Asked<'p>>> {
    let start = Instant::now();
    let mut journal = journal(folder, "questions")?;
    let names: Vec<(String, &Passage, usize)> = passages
        .iter()
        .flat_map(|p| (0..s.questions).map(move |n| (format!("{}/{n}", p.id), p, n)))
        .collect();
    let mut tokens = (0, 0);
    for attempt in 0..TRIES {
        let open: Vec<_> = names.iter().filter(|n| !journal.has(&n.0)).collect();
        let ask =
            |n: &&(String, &Passage, usize)| Wanted::Question { passage: n.1.clone(), number: n.2, attempt };
        let wanted: Vec<Wanted> = open.iter().map(ask).collect();
        told("questions", journal.len(), names.len())?;
        teacher.teach(&wanted, s.seed, &mut |i, answer| {
            tokens = (tokens.0 + answer.prompt_tokens, tokens.1 + answer.tokens);
            let id = &open[i].0;
            let spent = json!([answer.prompt_tokens, answer.tokens]);
            match made(&answer.text) {
                Ok(m) => {
                    let mut line = json!({ "id": id, "passage": open[i].1.id });
                    line["made"] = made_json(&m);
                    line["tries"] = (attempt + 1).into();
                    line["tokens"] = spent;
                    journal.add(id, line)?;
                }
                Err(why) if attempt + 1 == TRIES => {
                    let line = json!({ "id": id, "passage": open[i].1.id, "rejected": why, "tokens": spent });
                    journal.add(id, line)?;
                }
                Err(_) => {}
            }
            told("questions", journal.len(), names.len())
        })?;
    }
    let keys: Vec<String> = names.iter().map(|n| n.0.clone()).collect();
    journal.finish(&keys)?;
    cost.stages.push(("questions", tokens.0, tokens.1, start.elapsed().as_secs_f64()));
    let read = |(id, p, _): &(String, &'p Passage, usize)| {
        let line = journal.get(id)?;
        Some((id.clone(), *p, made(&line.get("made")?.to_string()).ok()?))
    };
    Ok(names.iter().filter_map(read).collect())
}

fn answers(
    s: &Settings,
    folder: &Path,
    questions: &[Asked<'_>],
    student: &mut dyn Generate,
    told: &mut Told<'_>,
    cost: &mut Cost,
) -> Result<Vec<String>> {
    let job = |q: &Asked<'_>| prompts::student(&q.2, &q.0, s.student, s.student_tokens, s.seed);
    let line = |id: &str, a: &Answer| json!({ "id": id, "output": a.text, "cut": a.cut, "tokens": [a.prompt_tokens, a.tokens] });
    let lines = texts(folder, "answers", questions, &job, &line, student, told, cost)?;
    Ok(lines.iter().map(|l| l["output"].as_str().unwrap_or_default().to_owned()).collect())
}

/// A stage of one text a question.
#[allow(clippy::too_many_arguments)]
fn texts(
    folder: &Path,
    stage: &'static str,
    questions: &[Asked<'_>],
    job: &dyn Fn(&Asked<'_>) -> Job,
    line: &dyn Fn(&str, &Answer) -> Value,
    who: &mut dyn Generate,
    told: &mut Told<'_>,
    cost: &mut Cost,
) -> Result<Vec<Value>> {
    let start = Instant::now();
    let mut journal = journal(folder, stage)?;
    let open: Vec<&Asked<'_>> = questions.iter().filter(|q| !journal.has(&q.0)).collect();
    let jobs: Vec<Job> = open.iter().map(|q| job(q)).collect();
    let mut tokens = (0, 0);
    told(stage, journal.len(), questions.len())?;
    who.generate(&jobs, &mut |i, answer| {
        tokens = (tokens.0 + answer.prompt_tokens, tokens.1 + answer.tokens);
        journal.add(&open[i].0, line(&open[i].0, &answer))?;
        told(stage, journal.len(), questions.len())
    })?;
    cost.stages.push((stage, tokens.0, tokens.1, start.elapsed().as_secs_f64()));
    journal.finish(&questions.iter().map(|q| q.0.clone()).collect::<Vec<_>>())
}

fn readings(
    folder: &Path,
    questions: &[Asked<'_>],
    said: &[String],
    judge: Option<&mut dyn Generate>,
    cost: &mut Cost,
) -> Result<Vec<Verdict>> {
    let start = Instant::now();
    let mut journal = journal(folder, "readings")?;
    let mut lines: Vec<Value> = Vec::new();
    for (q, text) in questions.iter().zip(said) {
        lines.push(match journal.get(&q.0) {
            Some(line) => line.clone(),
            None => {
                let r = extract::choice(text, &q.2.options);
                json!({ "id": q.0, "subject": "genesis", "output": text, "extracted": r.label(), "rule": r.rule })
            }
        });
    }
    let fresh: Vec<usize> = (0..lines.len()).filter(|i| !journal.has(&questions[*i].0)).collect();
    if let Some(judge) = judge.filter(|_| !fresh.is_empty()) {
        let mut open: Vec<Value> = fresh.iter().map(|i| lines[*i].clone()).collect();
        let asked: Vec<_> = fresh.iter().map(|i| questions[*i].2.question(&questions[*i].0)).collect();
        exam::reread(&asked, &mut open, judge)?;
        fresh.iter().zip(open).for_each(|(i, line)| lines[*i] = line);
    }
    let mut verdicts = Vec::new();
    for (q, line) in questions.iter().zip(&lines) {
        let label = line["extracted"].as_str().unwrap_or_default();
        let chosen = LETTERS.iter().position(|l| label == l.to_string());
        let verdict = match chosen {
            Some(i) if i == q.2.right => Verdict::Right,
            Some(i) => Verdict::Wrong(i),
            None => Verdict::Unreadable,
        };
        verdicts.push(verdict);
        if !journal.has(&q.0) {
            let outcome = match verdict {
                Verdict::Right => "right",
                Verdict::Wrong(_) => "wrong",
                Verdict::Unreadable => "unreadable",
            };
            let line = json!({ "id": q.0, "extracted": label, "rule": line["rule"], "outcome": outcome });
            journal.add(&q.0, line)?;
        }
    }
    journal.finish(&questions.iter().map(|q| q.0.clone()).collect::<Vec<_>>())?;
    cost.stages.push(("readings", 0, 0, start.elapsed().as_secs_f64()));
    Ok(verdicts)
}

fn documents(
    s: &Settings,
    folder: &Path,
    questions: &[Asked<'_>],
    (said, verdicts): (&[String], &[Verdict]),
    teacher: &mut dyn Teacher,
    told: &mut Told<'_>,
    cost: &mut Cost,
) -> Result<Vec<String>> {
    let start = Instant::now();
    let mut journal = journal(folder, "documents")?;
    let mut tokens = (0, 0);
    let open: Vec<usize> = (0..questions.len()).filter(|i| !journal.has(&questions[*i].0)).collect();
    let wanted: Vec<Wanted> = open
        .iter()
        .map(|&i| Wanted::Document {
            passage: questions[i].1.clone(),
            question: questions[i].2.clone(),
            verdict: verdicts[i],
            said: said[i].clone(),
            style: s.style(&questions[i].0),
        })
        .collect();
    told("documents", journal.len(), questions.len())?;
    teacher.teach(&wanted, s.seed, &mut |n, answer| {
        tokens = (tokens.0 + answer.prompt_tokens, tokens.1 + answer.tokens);
        let id = &questions[open[n]].0;
        let right = verdicts[open[n]] == Verdict::Right;
        let text = extract::after_thinking(&answer.text).unwrap_or("").trim();
        let line = json!({
            "id": id,
            "kind": if right { "option-level" } else { "failure-analysis" },
            "style": (!right).then(|| s.style(id).name()),
            "text": text,
            "cut": answer.cut,
            "tokens": [answer.prompt_tokens, answer.tokens],
        });
        journal.add(id, line)?;
        told("documents", journal.len(), questions.len())
    })?;
    cost.stages.push(("documents", tokens.0, tokens.1, start.elapsed().as_secs_f64()));
    let lines = journal.finish(&questions.iter().map(|q| q.0.clone()).collect::<Vec<_>>())?;
    Ok(lines.iter().map(|l| l["text"].as_str().unwrap_or_default().to_owned()).collect())
}

fn checks(
    folder: &Path,
    questions: &[Asked<'_>],
    documents: &[String],
    judge: &mut dyn Generate,
    told: &mut Told<'_>,
    cost: &mut Cost,
) -> Result<()> {
    let at = |id: &str| questions.iter().position(|q| q.0 == id).unwrap_or(0);
    let job = |q: &Asked<'_>| prompts::answerable(&q.2, &documents[at(&q.0)]);
    let line = |id: &str, a: &Answer| {
        let q = &questions[at(id)].2;
        let r = extract::choice(&a.text, &q.options);
        let answerable = r.choice == Choice::One(q.right);
        json!({ "id": id, "answer": r.label(), "answerable": answerable, "tokens": [a.prompt_tokens, a.tokens] })
    };
    texts(folder, "checks", questions, &job, &line, judge, told, cost)?;
    Ok(())
}
