//! What evaluates for `weft serve`: the code of `weft eval`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use weft_evals::ask::Drawing;
use weft_evals::ask::prompt::{Likelihood, Template};
use weft_evals::columns::Columns;
use weft_evals::exam::{self, Asking};
use weft_evals::journal::Journal;
use weft_evals::question::{Question, Shard, choose};
use weft_evals::stats::Interval;
use weft_evals::suites::{Mean, Set};
use weft_models::Model;
use weft_server::exams::{Exam, Examiner, Score, Suite};
use weft_server::tuning::{Stop, Text};

use super::tuning::Bases;
use crate::answers::Local;
use crate::cmd::eval::questions;
use crate::options::LoraFlag;

/// Answers at a time, beside those of the server.
const SLOTS: u32 = 4;

type Told<T> = std::result::Result<T, String>;

fn row(kind: &str, part: &str, total: u64, share: f64, interval: (f64, f64)) -> Score {
    Score { kind: kind.to_owned(), part: part.to_owned(), total, share, interval }
}

/// Endings by which files of questions are read; any other is read by its content.
const ENDINGS: [&str; 5] = ["csv", "tsv", "json", "jsonl", "parquet"];

/// A file of its own, in a folder that nobody else can look into, removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(data: &Text) -> std::io::Result<Scratch> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let folder = std::env::temp_dir().join(format!("weft-eval-{}-{n}-{time:x}", std::process::id()));
        #[cfg_attr(not(unix), allow(unused_mut))]
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        // It fails where there is one already: what somebody else put there is not written to.
        builder.create(&folder)?;
        let scratch = Scratch(folder);
        std::fs::write(scratch.file(data), &data.bytes)?;
        Ok(scratch)
    }

    fn file(&self, data: &Text) -> PathBuf {
        let ending = data.name.rsplit_once('.').map(|(_, e)| e.to_lowercase());
        let ending = ending.filter(|e| ENDINGS.contains(&e.as_str()));
        self.0.join(format!("questions.{}", ending.as_deref().unwrap_or("jsonl")))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The questions of a file.
fn read(data: &Text, columns: Option<&str>) -> Told<Vec<Question>> {
    let columns = columns.map(Columns::parse).transpose().map_err(|e| e.to_string())?.unwrap_or_default();
    let scratch = Scratch::new(data)
        .map_err(|_| "there is no room for the questions in the system's temporary folder")?;
    let path = scratch.file(data);
    let set = Set::read(&path, None, "file", &[columns], &[]);
    Ok(set.map_err(|e| e.to_string().replace(&path.display().to_string(), &data.name))?.questions)
}

impl Bases {
    fn examinee(&self, exam: &Exam) -> Told<Model> {
        let (name, lora) = match &exam.adapter {
            None => (exam.model.as_str(), None),
            Some((base, file)) => (base.as_str(), Some(file.display().to_string())),
        };
        if let Some(adapted) = self.adapted.iter().find(|a| a.name == name) {
            let plain = |e: crate::Error| adapted.plain(&e);
            return adapted.lora.apply(adapted.model.clone()).map_err(plain);
        }
        let flag = self.flag(name)?;
        let (model, _) = self.model(name, &flag).map_err(|e| self.plain(name, &flag, e))?;
        LoraFlag { lora: lora.into_iter().collect() }.apply(model).map_err(|e| self.plain(name, &flag, e))
    }

    fn curriculum(
        &self,
        exam: &Exam,
        domains: &[String],
        stop: &Stop,
        each: &mut dyn FnMut(u64, u64),
    ) -> Told<Vec<Score>> {
        let plain = |e: crate::Error| e.to_string();
        let model = self.examinee(exam)?;
        let domains = crate::cmd::curriculum::domains(domains).map_err(plain)?;
        let asked = questions::asked(&model, exam.seed, exam.limit, &domains).map_err(plain)?;
        let total: u64 = asked.iter().map(|(_, q)| q.len() as u64).sum();
        let mut local = Local::new(model, exam.model.clone(), Some(SLOTS));
        let (mut done, mut all) = (0, Vec::new());
        each(0, total);
        for (kind, questions) in asked {
            let scores = questions::score(&mut local, questions, exam.max_tokens, &mut |_, _, _| {
                done += 1;
                each(done, total);
                if stop.asked() { Err(weft_evals::Error::Stopped) } else { Ok(()) }
            });
            let scores = scores.map_err(plain)?;
            let mut add = |part: &str, t: weft_curriculum::score::Tally| {
                all.push(row(kind, part, t.total, t.share(), t.interval()));
            };
            add("all", scores.all);
            scores.domains.iter().for_each(|(domain, t)| add(domain, *t));
        }
        Ok(all)
    }

    fn file(
        &self,
        exam: &Exam,
        (data, columns, letters): (&Text, Option<&str>, bool),
        stop: &Stop,
        each: &mut dyn FnMut(u64, u64),
    ) -> Told<Vec<Score>> {
        let plain = |e: weft_evals::Error| e.to_string();
        let questions = choose(read(data, columns)?, Some(exam.limit as usize), Shard::ALL);
        let total = questions.len() as u64;
        let mut local = Local::new(self.examinee(exam)?, exam.model.clone(), Some(SLOTS));
        each(0, total);
        let mut told = |done: usize| {
            each(done as u64, total);
            if stop.asked() { Err(weft_evals::Error::Stopped) } else { Ok(()) }
        };
        let (mut journal, mut times) = (Journal::in_memory(), Journal::in_memory());
        let open = questions.first().is_some_and(|q| q.options.is_empty());
        let named = |name: &str| Template::named(name).map_err(plain);
        let lines = match letters {
            true => {
                let both = (&mut journal, &mut times);
                exam::likelihoods(
                    &questions,
                    &named("plain")?,
                    Likelihood::Letter,
                    &mut local,
                    both,
                    &mut told,
                )
            }
            false => {
                let asking = Asking {
                    template: named(if open { "open" } else { "instruct" })?,
                    system: None,
                    drawing: Drawing { temperature: 0.0, top_k: 0, top_p: 1.0, seed: exam.seed as u32 },
                    max_tokens: exam.max_tokens,
                    thinking: None,
                    runs: 1,
                };
                exam::generate(&questions, &asking, &mut local, &mut journal, &mut times, &mut told)
            }
        };
        let outcome = exam::result(&lines.map_err(plain)?, Mean::Questions);
        let kind = if letters { "likeliest letter" } else { "written answers" };
        let line = |part: &str, i: &Interval| row(kind, part, i.n as u64, i.mean, (i.low, i.high));
        let mut all = vec![line("all", &outcome.all)];
        if outcome.subjects.len() > 1 {
            all.extend(outcome.subjects.iter().map(|(name, i)| line(name, i)));
        }
        if !letters {
            all.push(line("answers that name one option", &outcome.readable));
        }
        Ok(all)
    }
}

impl Examiner for Bases {
    fn examinees(&self) -> Vec<String> {
        use weft_server::tuning::Tuner;
        self.bases().into_iter().chain(self.adapted.iter().map(|a| a.name.clone())).collect()
    }

    fn check(&self, exam: &Exam) -> Told<()> {
        match &exam.suite {
            Suite::Curriculum(domains) => {
                crate::cmd::curriculum::domains(domains).map(|_| ()).map_err(|e| e.to_string())
            }
            Suite::File { data, columns, letters } => {
                let questions = read(data, columns.as_deref())?;
                match questions.iter().find(|q| *letters && q.options.is_empty()) {
                    Some(q) => {
                        Err(format!("question {} has no options whose letters could be compared", q.id))
                    }
                    None if questions.is_empty() => Err(format!("{}: holds no questions", data.name)),
                    None => Ok(()),
                }
            }
        }
    }

    fn examine(&self, exam: &Exam, stop: &Stop, each: &mut dyn FnMut(u64, u64)) -> Told<Vec<Score>> {
        match &exam.suite {
            Suite::Curriculum(domains) => self.curriculum(exam, domains, stop, each),
            Suite::File { data, columns, letters } => {
                self.file(exam, (data, columns.as_deref(), *letters), stop, each)
            }
        }
    }
}
