//! Requests that arrive in time, as a server has them: how long the first token of each takes, and how evenly the others
//! come.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weft_kernels::testing::Rng;
use weft_models::engine::{Engine, Event, Id, Options as Room, Request};
use weft_models::{Model, Sampling};

use super::{Flags, Ids, check};
use crate::{Result, interrupt, output, report};

/// What is known of a request.
struct Asked {
    at: Instant,
    /// Tokens of its prompt that were in the cache.
    cached: usize,
    /// When each token came.
    tokens: Vec<Instant>,
}

/// All requests of a run, and one that came among them.
struct Run {
    asked: HashMap<Id, Asked>,
    long: Option<Id>,
    took: Duration,
}

/// Times between arrivals, exponentially distributed: a Poisson process of `rate` requests a second; all at once where
/// that is infinite.
pub(super) fn arrivals(rate: f64, requests: u32, rng: &mut Rng) -> Vec<Duration> {
    let mut at = 0.0;
    let mut next = || {
        let uniform = (rng.below(1 << 24) as f64 + 1.0) / f64::from(1 << 24);
        at += if rate.is_finite() { -uniform.ln() / rate } else { 0.0 };
        Duration::from_secs_f64(at)
    };
    (0..requests).map(|_| next()).collect()
}

fn request(ids: &mut Ids, prompt: u32, answer: u32) -> Request {
    let sampling = Sampling { ignore_eos: true, ..Sampling::greedy() };
    Request::new(ids.take(prompt), sampling, answer as usize)
}

/// Has an engine answer requests as they arrive. One with a prompt of `long` tokens arrives when all slots but its own
/// decode.
fn serve(engine: &mut Engine, f: &Flags, (rate, long): (f64, Option<u32>), ids: &mut Ids) -> Result<Run> {
    let (prompt, answer) = (f.n_prompt[0].max(1), f.n_gen[0].max(1));
    let mut waiting = arrivals(rate, f.requests, &mut ids.rng).into_iter().peekable();
    let mut run = Run { asked: HashMap::new(), long: None, took: Duration::ZERO };
    let start = Instant::now();
    let mut begun = 0;
    loop {
        check(&interrupt::asked)?;
        while waiting.next_if(|at| *at <= start.elapsed()).is_some() {
            let id = engine.submit(request(ids, prompt, answer))?;
            run.asked.insert(id, Asked { at: Instant::now(), cached: 0, tokens: Vec::new() });
        }
        if let Some(tokens) = long.filter(|_| run.long.is_none() && begun + 1 >= engine.slots()) {
            let id = engine.submit(request(ids, tokens, 1))?;
            run.asked.insert(id, Asked { at: Instant::now(), cached: 0, tokens: Vec::new() });
            run.long = Some(id);
        }
        let events = engine.step()?;
        let now = Instant::now();
        if events.is_empty() {
            match waiting.peek() {
                Some(at) => std::thread::sleep(at.saturating_sub(start.elapsed())),
                None => break,
            }
        }
        for event in events {
            let Some(asked) = run.asked.get_mut(&event.id()) else { continue };
            match event {
                Event::Started { cached, .. } => asked.cached = cached,
                Event::Token { .. } => {
                    begun += usize::from(asked.tokens.is_empty());
                    asked.tokens.push(now);
                }
                Event::Failed { error, .. } => return Err(error.into()),
                _ => {}
            }
        }
    }
    run.took = start.elapsed();
    Ok(run)
}

/// The value below which so large a part of the values lies, in milliseconds.
fn percentile(sorted: &[f64], part: f64) -> f64 {
    let at = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

fn figures(mut values: Vec<f64>) -> Value {
    values.sort_by(f64::total_cmp);
    json!({
        "p50": percentile(&values, 0.5),
        "p99": percentile(&values, 0.99),
        "most": values.last().copied().unwrap_or(f64::NAN),
    })
}

fn ms(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}

fn as_json(run: &Run) -> Value {
    let others = || run.asked.iter().filter(|(id, _)| Some(**id) != run.long).map(|(_, a)| a);
    let first = others().filter_map(|a| Some(ms(*a.tokens.first()? - a.at))).collect();
    let between = |a: &Asked| a.tokens.windows(2).map(|w| (w[1], ms(w[1] - w[0]))).collect::<Vec<_>>();
    let all: Vec<(Instant, f64)> = others().flat_map(between).collect();
    let tokens: usize = others().map(|a| a.tokens.len()).sum();
    let mut value = json!({
        "requests": others().count(),
        "seconds": run.took.as_secs_f64(),
        "tokens_per_s": tokens as f64 / run.took.as_secs_f64(),
        "first_token_ms": figures(first),
        "between_tokens_ms": figures(all.iter().map(|x| x.1).collect()),
        "cached_tokens": others().map(|a| a.cached).sum::<usize>(),
    });
    if let Some(long) = run.long.and_then(|id| run.asked.get(&id)) {
        let end = long.tokens.first().copied().unwrap_or(long.at);
        // A gap that ends while the long prompt is computed, or spans its end.
        let during =
            all.iter().filter(|(at, gap)| *at > long.at && ms(at.saturating_duration_since(end)) < *gap);
        value["long_prompt"] = json!({
            "first_token_ms": ms(end - long.at),
            "between_tokens_ms_of_others": figures(during.map(|x| x.1).collect()),
        });
    }
    value
}

fn line(what: &str, v: &Value) -> String {
    let at = |key: &str| v[key].as_f64().unwrap_or(f64::NAN);
    format!("  {what:<28} p50 {:>9.2}   p99 {:>9.2}   most {:>9.2} ms", at("p50"), at("p99"), at("most"))
}

pub(super) fn run(f: &Flags, model: &Model, file: &str, rate: f64) -> Result<()> {
    let slots = f.slots[0];
    let most = f.n_prompt[0].max(f.long.unwrap_or(0)) + f.n_gen[0] + 1;
    let room = Room { slots, context: Some(most), ..Room::default() };
    let mut engine = Engine::new(model, &room)?;
    let mut ids = Ids { rng: Rng::new(1), vocabulary: model.spec().vocabulary as usize };
    if !f.no_warmup {
        // What is compiled for the first of its kind would be counted as waiting.
        serve(&mut engine, f, (f64::INFINITY, f.long), &mut ids)?;
    }
    let run = serve(&mut engine, f, (rate, f.long), &mut ids)?;
    let mut value = as_json(&run);
    value["slots"] = slots.into();
    value["prompt_tokens"] = f.n_prompt[0].into();
    value["answer_tokens"] = f.n_gen[0].into();
    value["long_tokens"] = f.long.into();
    value["rate"] = if rate.is_finite() { rate.into() } else { Value::Null };
    value["model"] = file.into();
    value["device"] = report::caps_json(model.gpu().caps());
    if f.output == super::Format::Json {
        return output::json(&value);
    }
    let rate = if rate.is_finite() { format!("{rate} a second") } else { "all at once".into() };
    output::line(&format!(
        "{file}: {} requests, {rate}, {slots} slots, prompts of {}, answers of {} tokens",
        f.requests, f.n_prompt[0], f.n_gen[0]
    ))?;
    output::line(&format!(
        "  {:.1} tokens a second for {:.2} s",
        value["tokens_per_s"].as_f64().unwrap_or(0.0),
        run.took.as_secs_f64()
    ))?;
    output::line(&line("first token after", &value["first_token_ms"]))?;
    output::line(&line("between tokens", &value["between_tokens_ms"]))?;
    if let Some(long) = value.get("long_prompt") {
        let first = long["first_token_ms"].as_f64().unwrap_or(f64::NAN);
        output::line(&format!(
            "  a prompt of {} tokens: its first token after {first:.0} ms",
            f.long.unwrap_or(0)
        ))?;
        output::line(&line("between tokens meanwhile", &long["between_tokens_ms_of_others"]))?;
    }
    Ok(())
}
