//! HealthBench: a model answers, a judge says which criteria each answer meets.

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use weft_evals::ask::{Drawing, Generate};
use weft_evals::healthbench::{self, Clipped, Conversation};
use weft_evals::journal::{Journal, claim, write_text};
use weft_evals::judge::{self, Judged};
use weft_evals::{Job, hash};

use super::exam::{self, Switch};
use crate::answers::{self, Local};
use crate::{Error, Result, interrupt, output};

pub(super) fn run(f: &super::Flags) -> Result<()> {
    let e = &f.exam;
    let path = exam::data(f)?;
    let who_judges = e.judge.as_deref().ok_or_else(|| {
        Error::usage("--suite healthbench needs --judge, a model's file or http://HOST:PORT/v1")
    })?;
    let mut all = healthbench::read(path)?;
    all.sort_by_cached_key(|c| (hash::hash(c.id.as_bytes()), c.id.clone()));
    all.truncate(f.limit.map_or(usize::MAX, |n| n as usize));
    if let Some(shard) = e.shard {
        let mut i = 0;
        all.retain(|_| {
            i += 1;
            (i - 1) % shard.count == shard.index
        });
    }
    let job = Job {
        drawing: Drawing { temperature: e.temp, top_k: e.top_k, top_p: e.top_p, seed: f.seed as u32 },
        thinking: e.thinking.map(|s| s == Switch::On),
        ..Job::user("", f.n.unwrap_or(16_384))
    };
    let model = match &e.endpoint {
        Some(url) => json!({ "endpoint": url }),
        None => answers::identity(&f.model)?,
    };
    let bytes = std::fs::read(path).map_err(|err| Error::io(path, err))?;
    let settings = json!({
        "suite": "healthbench",
        "data": { "file": path.file_name().map(|n| n.to_string_lossy().into_owned()), "sha256": hash::sha256(&bytes) },
        "model": model,
        "adapters": answers::adapters(&f.lora)?,
        "cache": f.cache.cache_type.map(weft_models::CacheType::name),
        "temperature": e.temp,
        "top_k": e.top_k,
        "top_p": e.top_p,
        "max_tokens": job.max_tokens,
        "thinking": job.thinking,
        "seed": f.seed,
        "judge": who_judges,
        "limit": f.limit,
        "shard": e.shard.map(|s| format!("{}/{}", s.index + 1, s.count)),
    });
    let (mut answered, mut judged) = (Journal::in_memory(), Journal::in_memory());
    if let Some(folder) = &e.output {
        claim(folder, &settings)?;
        answered = Journal::open(&folder.join("answers.jsonl"), &judge::answer_key)?;
        judged = Journal::open(&folder.join("verdicts.jsonl"), &judge::verdict_key)?;
    }
    interrupt::install(2);
    let answers = answer(f, &all, &job, &mut answered)?;
    let criteria: usize = all.iter().map(|c| c.rubric.len()).sum();
    let bar =
        output::bar(criteria as u64, "judging {bar:30} {pos} of {len} criteria, {elapsed}, {eta} to go");
    let mut told = |n: usize| {
        bar.set_position(n as u64);
        if interrupt::asked() { Err(weft_evals::Error::Stopped) } else { Ok(()) }
    };
    let mut judging = match judged.len() < criteria {
        true => Some(answers::somebody(who_judges, &f.device, f.slots)?),
        false => None,
    };
    let mut nobody = exam::Nobody(who_judges.to_owned());
    let who: &mut dyn Generate = judging.as_mut().map_or(&mut nobody as _, |j| j.as_mut() as _);
    let verdicts = judge::judge(&all, &answers, who, &mut judged, &mut told);
    bar.finish_and_clear();
    let (met, unreadable) = verdicts?;
    tell(f, &(all, met, unreadable), settings)
}

/// The answers of whoever is asked.
fn answer(f: &super::Flags, all: &[Conversation], job: &Job, journal: &mut Journal) -> Result<Vec<String>> {
    let bar = output::bar(all.len() as u64, "answering {bar:30} {pos} of {len}, {elapsed}, {eta} to go");
    let mut told = |n: usize| {
        bar.set_position(n as u64);
        if interrupt::asked() { Err(weft_evals::Error::Stopped) } else { Ok(()) }
    };
    let mut who: Box<dyn Generate> = match &f.exam.endpoint {
        Some(url) => Box::new(answers::endpoint(url, f.slots)?),
        None if journal.len() >= all.len() => Box::new(exam::Nobody(f.model.name())),
        None => Box::new(Local::open(&f.model, &f.device, f.cache, &f.lora, f.slots)?),
    };
    let answers = judge::answers(all, job, who.as_mut(), journal, &mut told);
    bar.finish_and_clear();
    Ok(answers?)
}

/// What runs on parts of the set have left.
///
/// # Errors
/// A conversation that two of them have.
pub(super) fn parts(folders: &[PathBuf]) -> Result<Judged> {
    let (mut all, mut met, mut unreadable) = (Vec::new(), Vec::new(), 0);
    for folder in folders {
        let (some, verdicts, unread) = judge::judged(folder)?;
        all.extend(some);
        met.extend(verdicts);
        unreadable += unread;
    }
    let mut ids: Vec<&str> = all.iter().map(|c| c.id.as_str()).collect();
    ids.sort_unstable();
    if ids.windows(2).any(|w| w[0] == w[1]) {
        return Err(Error::input(super::results::TWICE));
    }
    Ok((all, met, unreadable))
}

/// Scores by theme and axis, on stdout and in the folder.
pub(super) fn tell(f: &super::Flags, (all, met, unreadable): &Judged, settings: Value) -> Result<()> {
    let (whole, tags) = healthbench::scores(all, met);
    let one = |c: Clipped| json!({ "score": c.mean, "error": c.error, "n": c.n });
    let by_tag: Map<String, Value> = tags.iter().map(|(t, c)| (t.clone(), one(*c))).collect();
    let value = json!({ "score": one(whole), "tags": by_tag, "unreadable_verdicts": unreadable, "settings": settings });
    let shown = |t: &str| t.starts_with("theme:") || t.starts_with("axis:");
    let model = &value["settings"]["model"];
    let who = model["file"].as_str().or(model["endpoint"].as_str()).unwrap_or_default();
    let title =
        format!("{who}, HealthBench, judged by {}", value["settings"]["judge"].as_str().unwrap_or_default());
    let unread =
        format!("{unreadable} verdicts could not be read after {} tries and count as not met", judge::TRIES);
    if let Some(folder) = &f.exam.output {
        let mut table =
            format!("# {title}\n\n- {unread}\n\n| | score | error | conversations |\n|---|---:|---:|---:|\n");
        let row = |name: &str, c: Clipped| {
            format!("| {name} | {:.2} | {:.2} | {} |\n", 100.0 * c.mean, 100.0 * c.error, c.n)
        };
        table += &row("**all**", whole);
        tags.iter().filter(|(t, _)| shown(t)).for_each(|(t, c)| table += &row(t, *c));
        write_text(&folder.join("result.md"), &table)?;
        write_text(&folder.join("result.json"), &format!("{value:#}\n"))?;
    }
    if f.json {
        return output::json(&value);
    }
    let line = |name: &str, c: Clipped| {
        format!("  {name:<44} {:>6.2} ± {:.2} %  of {}", 100.0 * c.mean, 100.0 * c.error, c.n)
    };
    output::line(&title)?;
    output::line(&line("all", whole))?;
    for (tag, c) in tags.iter().filter(|(t, _)| shown(t)) {
        output::line(&line(tag, *c))?;
    }
    if *unreadable > 0 {
        output::note(&unread);
    }
    Ok(())
}
