//! `weft eval`: how many questions of the curriculum's test split a model answers rightly.

use std::time::Instant;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use weft_models::{Message, Model, Sampling};

use crate::curriculum::score::{Scores, Tally, score_generation};
use crate::curriculum::{self, Domain, Format, Split};
use crate::options::{CacheFlag, DeviceFlags, LoraFlag, ModelFlag, context};
use crate::{Error, Result, interrupt, output, report};

/// Score a model on the curriculum's test split, by domain, with 95 % intervals
///
/// Each question is asked twice: openly, where the final answer is compared, and with four options, where the
/// letter is. Both times the model writes its answer out, by the likeliest token each. Intervals are Wilson's.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft eval --suite curriculum --limit 100
  weft eval -m model.gguf --lora adapter.gguf --suite curriculum
  weft eval --domain chemistry --limit 40
  weft eval -m model.gguf --suite curriculum --json")]
pub(super) struct Flags {
    #[command(flatten)]
    model: ModelFlag,
    #[command(flatten)]
    lora: LoraFlag,
    /// Which questions
    #[arg(long, value_enum, default_value = "curriculum")]
    suite: Suite,
    /// Only this domain; may be given again [default: all core ones]
    #[arg(long, value_name = "NAME")]
    domain: Vec<String>,
    /// How many questions of each kind
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Seed of the questions' draws
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Most tokens of an answer
    #[arg(short, value_name = "N", default_value_t = 512)]
    n: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Show each wrong answer on stderr
    #[arg(long)]
    wrong: bool,
    #[command(flatten)]
    device: DeviceFlags,
    #[command(flatten)]
    cache: CacheFlag,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Suite {
    /// Mathematics, physics, biology and medicine, from `weft curriculum --split test`
    Curriculum,
}

pub(super) fn run(f: Flags) -> Result<()> {
    let Suite::Curriculum = f.suite;
    let domains = super::curriculum::domains(&f.domain)?;
    interrupt::install(2);
    let (model, _) = f.model.open(&f.device, None, None, f.cache)?;
    let model = f.lora.apply(model)?;
    // Before the first question, so that a file without a vocabulary is told as such.
    model.tokenizer()?;
    let start = Instant::now();
    let bar = output::bar(2 * f.limit, "{msg} {bar:30} {pos} of {len}, {elapsed}, {eta} to go");
    let mut scored = Vec::new();
    for (name, format) in [("generation", Format::Chat), ("multiple choice", Format::Mcq)] {
        bar.set_message(name);
        match score(&f, &domains, &model, format, &bar) {
            Ok(scores) => scored.push((name, scores)),
            Err(e) => {
                bar.finish_and_clear();
                return Err(e);
            }
        }
    }
    bar.finish_and_clear();
    if f.json {
        let mut value = json!({
            "suite": "curriculum",
            "split": "test",
            "seed": f.seed,
            "limit": f.limit,
            "seconds": start.elapsed().as_secs_f64(),
            "model": report::model_json(&f.model.name(), &model),
            "device": report::caps_json(model.gpu().caps()),
        });
        for (name, scores) in &scored {
            value[name.replace(' ', "_")] = scores_json(scores);
        }
        return output::json(&value);
    }
    output::line(&format!("{}, curriculum, test split, {} questions of each kind", f.model.name(), f.limit))?;
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

fn score(
    f: &Flags,
    domains: &[&'static Domain],
    model: &Model,
    format: Format,
    bar: &indicatif::ProgressBar,
) -> Result<Scores> {
    let mut session = model.session(context(model.config(), None))?;
    let mut scores = Scores::default();
    for sample in curriculum::generate(f.seed, f.limit, Split::Test, format, domains.to_vec()) {
        let prompt = model.chat(&[Message::new("user", sample.prompt.as_str())], None)?;
        let mut generation =
            session.generate_with(&prompt, &Sampling::greedy(), f.n, &mut |_, _| interrupt::flow())?;
        let mut text = String::new();
        while let Some(part) = generation.next_text()? {
            text.push_str(&part);
            if interrupt::asked() {
                return Err(Error::Interrupted);
            }
        }
        let right = score_generation(&sample, &text);
        scores.add(&sample, right);
        if f.wrong && !right {
            bar.suspend(|| {
                let want = sample.answer.as_str();
                output::note(&format!(
                    "--- {}/{}\n{}\n{text}\n(right: {want})",
                    sample.domain, sample.family, sample.prompt
                ));
            });
        }
        bar.inc(1);
    }
    Ok(scores)
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

fn tally_json(t: Tally) -> Value {
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
