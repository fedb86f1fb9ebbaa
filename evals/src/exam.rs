//! A test set put to a model: every question in every run, a line each, and what the lines come to.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::ask::extract::{self, Choice};
use crate::ask::prompt::{Likelihood, Template};
use crate::ask::{Answer, Drawing, Generate, Job, Score, Turn};
use crate::hash::hash_all;
use crate::journal::Journal;
use crate::question::Question;
use crate::stats::{Interval, Paired, bootstrap, bootstrap_groups, mean, paired};
use crate::suites::Mean;
use crate::{Error, Result};

/// How texts are generated.
#[derive(Debug, Clone, PartialEq)]
pub struct Asking {
    /// How a question is put.
    pub template: Template,
    /// A system message.
    pub system: Option<String>,
    /// How tokens are drawn; each question and run has a seed that follows from this one.
    pub drawing: Drawing,
    /// Tokens of an answer at most.
    pub max_tokens: usize,
    /// Whether to think first, for models that can be told.
    pub thinking: Option<bool>,
    /// How often each question is asked.
    pub runs: usize,
}

/// The name of a line.
pub fn key(line: &Value) -> Option<String> {
    let run = line.get("run").and_then(Value::as_u64).unwrap_or(0);
    Some(name(line.get("subject")?.as_str()?, line.get("id")?.as_str()?, run as usize))
}

fn name(subject: &str, id: &str, run: usize) -> String {
    format!("{subject}/{id}/{run}")
}

fn keys(questions: &[Question], runs: usize) -> Vec<String> {
    let of_run = |run| questions.iter().map(move |q| name(&q.subject, &q.id, run));
    (0..runs).flat_map(of_run).collect()
}

/// Asks every question that the journal has not, and gives all lines in order. `told` gets how many lines there are, and may end it by an error.
///
/// # Errors
/// The model's, or the disk's; lines that were written stay.
pub fn generate(
    questions: &[Question],
    how: &Asking,
    who: &mut dyn Generate,
    journal: &mut Journal,
    times: &mut Journal,
    told: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Vec<Value>> {
    let mut asked: Vec<(&Question, usize)> = Vec::new();
    let mut jobs = Vec::new();
    for run in 0..how.runs {
        for q in questions {
            if journal.has(&name(&q.subject, &q.id, run)) {
                continue;
            }
            // From the question and the run, so that neither the order nor a shard changes it.
            let seed = hash_all(&[&q.subject, &q.id, &run.to_string(), &how.drawing.seed.to_string()]) as u32;
            asked.push((q, run));
            jobs.push(Job {
                turns: how.template.turns(q, how.system.as_deref()),
                drawing: Drawing { seed, ..how.drawing },
                max_tokens: how.max_tokens,
                thinking: how.thinking,
                schema: None,
            });
        }
    }
    told(journal.len())?;
    who.generate(&jobs, &mut |i, answer| {
        let (q, run) = asked[i];
        let key = name(&q.subject, &q.id, run);
        times
            .add(&key, json!({ "id": q.id, "subject": q.subject, "run": run, "seconds": answer.seconds }))?;
        journal.add(&key, line(q, run, &jobs[i], &answer))?;
        told(journal.len())?;
        Ok(())
    })?;
    times.finish(&keys(questions, how.runs))?;
    journal.finish(&keys(questions, how.runs))
}

/// The line of one answer. What changes from run to run, the time, is not in it.
fn line(q: &Question, run: usize, job: &Job, answer: &Answer) -> Value {
    let prompt = match job.turns.as_slice() {
        [one] => Value::from(one.content.as_str()),
        several => several.iter().map(|t| json!({ "role": t.role, "content": t.content })).collect(),
    };
    let (extracted, rule, right) = read(q, &answer.text);
    json!({
        "id": q.id,
        "subject": q.subject,
        "run": run,
        "prompt": prompt,
        "output": answer.text,
        "extracted": extracted,
        "rule": rule,
        "answer": q.right_label(),
        "right": right,
        "tokens": answer.tokens,
        "prompt_tokens": answer.prompt_tokens,
        "cut": answer.cut,
    })
}

/// What an answer names, by which rule, and whether that is right.
fn read(q: &Question, text: &str) -> (String, &'static str, bool) {
    if q.options.is_empty() {
        let given = extract::after_thinking(text).and_then(weft_curriculum::score::final_answer);
        let right = given.as_deref().is_some_and(|g| weft_curriculum::score::same(&q.answer, g));
        return match given.filter(|g| !g.is_empty()) {
            Some(given) => (given, "final answer", right),
            None => ("NO_ANSWER".to_owned(), "none", false),
        };
    }
    let reading = extract::choice(text, &q.options);
    (reading.label(), reading.rule, reading.choice == Choice::One(q.right))
}

/// Has a judge read the answers that the rules could not: it is told to extract, and is never shown the question.
/// Lines that it reads get the rule "judge".
///
/// # Errors
/// The judge's.
pub fn reread(questions: &[Question], lines: &mut [Value], judge: &mut dyn Generate) -> Result<usize> {
    let by_name: BTreeMap<(&str, &str), &Question> =
        questions.iter().map(|q| ((q.subject.as_str(), q.id.as_str()), q)).collect();
    let mut unread = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let of = |k: &str| line[k].as_str().unwrap_or_default();
        let q = by_name.get(&(of("subject"), of("id")));
        if let Some(q) = q.filter(|q| of("extracted") == "NO_ANSWER" && !q.options.is_empty()) {
            unread.push((i, *q));
        }
    }
    let jobs: Vec<Job> = unread.iter().map(|(i, q)| extraction(q, &lines[*i])).collect();
    let mut read = 0;
    judge.generate(&jobs, &mut |n, answer| {
        let (i, q) = unread[n];
        let text = extract::after_thinking(&answer.text).unwrap_or("").trim().to_uppercase();
        let letters = crate::question::LETTERS[..q.options.len()].iter().position(|l| text == l.to_string());
        if let Some(letter) = letters {
            lines[i]["extracted"] = text.into();
            lines[i]["rule"] = "judge".into();
            lines[i]["right"] = (letter == q.right).into();
            read += 1;
        }
        Ok(())
    })?;
    Ok(read)
}

/// Asks which letter an output ends at, without the question, so that nothing can be solved.
fn extraction(q: &Question, line: &Value) -> Job {
    let output = extract::after_thinking(line["output"].as_str().unwrap_or_default()).unwrap_or("");
    let options: Vec<String> =
        q.options.iter().zip(crate::question::LETTERS).map(|(o, l)| format!("{l}. {o}")).collect();
    let system = "You read which option a text chose. You never solve anything and never say which option is \
                  right. If the text corrects itself, its last choice counts. Reply with one letter; reply NO_ANSWER \
                  if it chooses none, and MULTIPLE_ANSWERS if it chooses several.";
    let user =
        format!("Options:\n{}\n\nText:\n{output}\n\nWhich option did the text choose?", options.join("\n"));
    Job {
        turns: vec![Turn::new("system", system), Turn::new("user", user)],
        thinking: Some(false),
        ..Job::user("", 16)
    }
}

/// Scores every question's options by likelihood, as far as the journal has not.
///
/// # Errors
/// The model's, or the disk's; an open question, which has no options.
pub fn likelihoods(
    questions: &[Question],
    template: &Template,
    kind: Likelihood,
    who: &mut dyn Score,
    journals: (&mut Journal, &mut Journal),
    told: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Vec<Value>> {
    let (journal, times) = journals;
    if let Some(q) = questions.iter().find(|q| q.options.is_empty()) {
        return Err(Error::input(format!(
            "question {} has no options to compare; use --mode generate",
            q.id
        )));
    }
    let asked: Vec<&Question> =
        questions.iter().filter(|q| !journal.has(&name(&q.subject, &q.id, 0))).collect();
    let items: Vec<_> = asked.iter().map(|q| template.item(q, kind)).collect();
    told(journal.len())?;
    who.score(&items, &mut |i, scored| {
        let q = asked[i];
        let key = name(&q.subject, &q.id, 0);
        let picked = kind.pick(&scored.loglikelihoods, &q.options);
        times.add(&key, json!({ "id": q.id, "subject": q.subject, "run": 0, "seconds": scored.seconds }))?;
        let extracted = picked.map(|p| crate::question::LETTERS[p].to_string());
        journal.add(
            &key,
            json!({
                "id": q.id,
                "subject": q.subject,
                "prompt": items[i].prompt,
                "endings": items[i].endings,
                "loglikelihoods": scored.loglikelihoods,
                "extracted": extracted,
                "answer": q.right_label(),
                "right": picked == Some(q.right),
                "tokens": scored.tokens,
            }),
        )?;
        told(journal.len())?;
        Ok(())
    })?;
    times.finish(&keys(questions, 1))?;
    journal.finish(&keys(questions, 1))
}

/// What the lines of a run come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The score of the whole.
    pub all: Interval,
    /// By subject, in the order of their names.
    pub subjects: Vec<(String, Interval)>,
    /// The score of each run.
    pub runs: Vec<f64>,
    /// Share of answers that name one option.
    pub readable: Interval,
    /// Share of answers that were cut at their most tokens.
    pub cut: f64,
    /// Tokens of an answer, on average.
    pub tokens: f64,
    /// How often each rule read an answer.
    pub rules: BTreeMap<String, u64>,
}

/// Each question's subject and id with the share of its runs that are right, in order.
pub fn scores(lines: &[Value]) -> BTreeMap<(String, String), f64> {
    by_question(lines, &|l| l["right"] == true)
}

/// Each question's subject and id with the share of its runs of which something is true, in order.
fn by_question(lines: &[Value], is: &dyn Fn(&Value) -> bool) -> BTreeMap<(String, String), f64> {
    let mut all: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
    for line in lines {
        let of = |k: &str| line[k].as_str().unwrap_or_default().to_owned();
        all.entry((of("subject"), of("id"))).or_default().push(f64::from(u8::from(is(line))));
    }
    all.into_iter().map(|(k, v)| (k, mean(&v))).collect()
}

/// Two runs on the questions that both answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compared {
    /// The first one's score.
    pub first: Interval,
    /// The second one's.
    pub second: Interval,
    /// How they differ.
    pub paired: Paired,
}

/// Compares the lines of two runs, question by question; scores are made as those of either run are. `None` where they
/// have no question in common.
pub fn compare(first: &[Value], second: &[Value], over: Mean) -> Option<Compared> {
    let (a, b) = (scores(first), scores(second));
    let mut subjects: BTreeMap<&str, [Vec<f64>; 2]> = BTreeMap::new();
    for ((key, score), other) in a.iter().filter_map(|one| Some((one, b.get(one.0)?))) {
        let subject = match over {
            Mean::Subjects => key.0.as_str(),
            Mean::Questions => "",
        };
        let [x, y] = subjects.entry(subject).or_default();
        x.push(*score);
        y.push(*other);
    }
    let of = |i: usize| -> Vec<&[f64]> { subjects.values().map(|s| s[i].as_slice()).collect() };
    (!subjects.is_empty()).then(|| Compared {
        first: bootstrap_groups(&of(0)),
        second: bootstrap_groups(&of(1)),
        paired: paired(&of(0), &of(1)),
    })
}

/// Adds up the lines of a run.
pub fn result(lines: &[Value], over: Mean) -> Outcome {
    let scores = scores(lines);
    let mut subjects: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for ((subject, _), score) in &scores {
        subjects.entry(subject).or_default().push(*score);
    }
    let groups: Vec<&[f64]> = subjects.values().map(Vec::as_slice).collect();
    let every: Vec<f64> = scores.values().copied().collect();
    let share = |f: &dyn Fn(&Value) -> bool| -> Vec<f64> {
        lines.iter().map(|l| f64::from(u8::from(f(l)))).collect()
    };
    // Runs of one question are no questions of their own.
    let readable = by_question(lines, &|l| {
        l["extracted"].as_str().is_some_and(|e| e != "NO_ANSWER" && e != "MULTIPLE_ANSWERS")
    });
    let readable: Vec<f64> = readable.into_values().collect();
    let mut rules = BTreeMap::new();
    for rule in lines.iter().filter_map(|l| l["rule"].as_str()) {
        *rules.entry(rule.to_owned()).or_default() += 1;
    }
    let runs = 1 + lines.iter().filter_map(|l| l["run"].as_u64()).max().unwrap_or(0);
    let of_run = |run: u64| {
        let mine = |l: &&Value| l["run"].as_u64().unwrap_or(0) == run;
        whole(&lines.iter().filter(mine).cloned().collect::<Vec<_>>(), over)
    };
    let all = match over {
        Mean::Questions => bootstrap(&every),
        Mean::Subjects => bootstrap_groups(&groups),
    };
    Outcome {
        runs: if runs == 1 { vec![all.mean] } else { (0..runs).map(of_run).collect() },
        all,
        subjects: subjects.iter().map(|(name, s)| ((*name).to_owned(), bootstrap(s))).collect(),
        readable: bootstrap(&readable),
        cut: mean(&share(&|l| l["cut"] == true)),
        tokens: mean(&lines.iter().filter_map(|l| l["tokens"].as_f64()).collect::<Vec<_>>()),
        rules,
    }
}

/// The score of some lines.
fn whole(lines: &[Value], over: Mean) -> f64 {
    let scores = scores(lines);
    let mut subjects: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for ((subject, _), score) in &scores {
        subjects.entry(subject).or_default().push(*score);
    }
    match over {
        Mean::Questions => mean(&scores.values().copied().collect::<Vec<_>>()),
        Mean::Subjects => mean(&subjects.values().map(|s| mean(s)).collect::<Vec<_>>()),
    }
}

/// The lines of a folder that a run has left.
///
/// # Errors
/// A folder without finished results.
pub fn lines(folder: &Path) -> Result<Vec<Value>> {
    let path = folder.join("answers.jsonl");
    let mut all = Vec::new();
    crate::records::read(&path, true, &mut |place, record| {
        let line = Value::Object(record);
        let wrong = || Error::Row {
            file: path.display().to_string(),
            place: place.to_owned(),
            what: "is no result of ours".to_owned(),
        };
        key(&line).ok_or_else(wrong)?;
        all.push(line);
        Ok(())
    })?;
    Ok(all)
}
