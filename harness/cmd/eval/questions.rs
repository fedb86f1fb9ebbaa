//! The curriculum's suite.

use std::time::Instant;

use serde_json::{Value, json};
use weft_models::engine::Request;
use weft_models::{Message, Model, Sampling};

use super::Flags;
use crate::answers::Local;
use crate::{Result, interrupt, output, report};
use weft_curriculum::score::{Scores, Tally, score_generation};
use weft_curriculum::{self as curriculum, Domain, Format, Sample, Split};

/// The two ways a question is asked.
const KINDS: [(&str, Format); 2] = [("generation", Format::Chat), ("multiple choice", Format::Mcq)];

/// Questions of each kind, and tokens of an answer, where nothing is said.
const LIMIT: u64 = 100;
const TOKENS: usize = 512;

pub(super) fn run(f: &Flags) -> Result<()> {
    let limit = f.limit.unwrap_or(LIMIT);
    let domains = crate::cmd::curriculum::domains(&f.domain)?;
    interrupt::install(2);
    let (model, _) = f.model.open(&f.device, None, None, f.cache)?;
    let model = f.lora.apply(model)?;
    // Before the first question, so that a file without a vocabulary is told as such.
    model.tokenizer()?;
    let start = Instant::now();
    let asked = asked(&model, f.seed, limit, &domains)?;
    let mut local = Local::new(model.clone(), f.model.name(), f.slots);
    let bar = output::bar(2 * limit, "{msg} {bar:30} {pos} of {len}, {elapsed}, {eta} to go");
    let mut scored = Vec::new();
    for (name, questions) in asked {
        bar.set_message(name);
        let scores = score(&mut local, questions, f.n.unwrap_or(TOKENS), &mut |sample, text, right| {
            if f.wrong && !right {
                bar.suspend(|| show(sample, text));
            }
            bar.inc(1);
            Ok(())
        });
        if scores.is_err() {
            bar.finish_and_clear();
        }
        scored.push((name, scores?));
    }
    bar.finish_and_clear();
    if f.json {
        let mut value = json!({
            "suite": "curriculum",
            "split": "test",
            "seed": f.seed,
            "limit": limit,
            "slots": local.slots(),
            "seconds": start.elapsed().as_secs_f64(),
            "model": report::model_json(&f.model.name(), &model),
            "device": report::caps_json(model.gpu().caps()),
        });
        for (name, scores) in &scored {
            value[name.replace(' ', "_")] = scores_json(scores);
        }
        return output::json(&value);
    }
    output::line(&format!("{}, curriculum, test split, {} questions of each kind", f.model.name(), limit))?;
    for (name, scores) in &scored {
        output::line(&format!("{name}\n{}", tally_line("all", scores.all)))?;
        for (domain, tally) in &scores.domains {
            output::line(&tally_line(domain, *tally))?;
        }
    }
    let device = report::device_line(model.gpu().caps());
    output::note(&format!("{:.0} s on {device}", start.elapsed().as_secs_f64()));
    Ok(())
}

/// A question's prompt, and the question.
type Question = (Vec<u32>, Sample);

/// The questions of the test split, so many of each kind.
///
/// # Errors
/// A model without a vocabulary or a template.
pub(crate) fn asked(
    model: &Model,
    seed: u64,
    limit: u64,
    domains: &[&'static Domain],
) -> Result<Vec<(&'static str, Vec<Question>)>> {
    let mut asked = Vec::new();
    for (name, format) in KINDS {
        let samples = curriculum::generate(seed, limit, Split::Test, format, domains.to_vec());
        let prompt = |s: Sample| Ok((model.chat(&[Message::new("user", s.prompt.as_str())], None)?, s));
        asked.push((name, samples.map(prompt).collect::<Result<Vec<_>>>()?));
    }
    Ok(asked)
}

/// Asks all of the questions, as many at a time as there are slots. `each` is told the answer to each and whether it is
/// right, and may end it.
///
/// # Errors
/// The model's; what `each` returns.
pub(crate) fn score(
    local: &mut Local,
    questions: Vec<Question>,
    most: usize,
    each: &mut dyn FnMut(&Sample, &str, bool) -> weft_evals::Result<()>,
) -> Result<Scores> {
    let mut scores = Scores::default();
    let (prompts, samples): (Vec<_>, Vec<_>) = questions.into_iter().unzip();
    let requests = prompts.into_iter().map(|p| Request::new(p, Sampling::greedy(), most)).collect();
    local.ask(requests, &mut |i, answer, _| {
        let right = score_generation(&samples[i], &answer.text);
        scores.add(&samples[i], right);
        each(&samples[i], &answer.text, right)
    })?;
    Ok(scores)
}

fn show(sample: &Sample, text: &str) {
    let want = sample.answer.as_str();
    output::note(&format!(
        "--- {}/{}\n{}\n{text}\n(right: {want})",
        sample.domain, sample.family, sample.prompt
    ));
}

fn tally_line(name: &str, t: Tally) -> String {
    let (low, high) = t.interval();
    format!(
        "  {name:<12} {:>5.1} %  [{:.1}, {:.1}]  {} of {}",
        100.0 * t.share(),
        100.0 * low,
        100.0 * high,
        t.right,
        t.total
    )
}

/// How many of how many, the share, and Wilson's interval.
pub(super) fn tally_json(t: Tally) -> Value {
    let (low, high) = t.interval();
    json!({ "right": t.right, "total": t.total, "share": t.share(), "low": low, "high": high })
}

fn scores_json(s: &Scores) -> Value {
    let mut value = tally_json(s.all);
    for (key, part) in [("domains", &s.domains), ("families", &s.families)] {
        let map: serde_json::Map<String, Value> =
            part.iter().map(|(k, t)| (k.clone(), tally_json(*t))).collect();
        value[key] = map.into();
    }
    value
}
