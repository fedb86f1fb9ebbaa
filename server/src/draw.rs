//! How tokens are drawn: the fields that all routes of text share, turned into what the engine takes.

use serde_json::Value;
use weft_models::Sampling;
use weft_models::engine::Request;

use crate::card::Card;
use crate::error::{ApiError, Result};
use crate::fields::{Fields, missing, wrong};

/// Answers to one prompt at most, and prompts times answers.
pub(crate) const MOST_ANSWERS: u64 = 128;
/// Stop strings at most, and bytes of one.
const MOST_STOPS: usize = 32;
const LONGEST_STOP: usize = 1024;
/// Entries of `logit_bias` at most.
const MOST_BIASES: usize = 4096;

/// How an answer is drawn.
#[derive(Debug, Clone)]
pub(crate) struct Draw {
    pub(crate) sampling: Sampling,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) stop: Vec<String>,
    pub(crate) stop_tokens: Vec<u32>,
    pub(crate) logit_bias: Vec<(u32, f32)>,
    /// How many of the likeliest tokens are told with each, if log-probabilities are asked for.
    pub(crate) logprobs: Option<usize>,
    /// The same for the tokens of the prompt.
    pub(crate) prompt_logprobs: Option<usize>,
    pub(crate) n: u32,
    /// Adapters, by their places among those of the model.
    pub(crate) adapters: Vec<(usize, f32)>,
}

/// What clients of other local servers send and this one does not do.
const ELSEWHERE: &[(&str, &str)] = &[
    ("mirostat", "there is no Mirostat here; use min_p or typical_p"),
    ("xtc_probability", "there is no XTC here; use min_p or typical_p"),
    ("dry_sequence_breakers", "DRY looks at tokens alone here"),
    ("dynatemp_range", "the temperature is fixed here"),
    ("tfs_z", "there is no tail-free sampling here; use min_p or typical_p"),
    ("top_a", "use min_p or typical_p"),
    ("min_tokens", "forbid the token that ends the text by logit_bias, or set ignore_eos"),
    ("n_probs", "use logprobs and top_logprobs"),
    ("id_slot", "slots are given by the server"),
    ("use_beam_search", "tokens are drawn one by one; use n for several answers"),
    ("length_penalty", "tokens are drawn one by one; use n for several answers"),
];

/// How these would do it, which matters only where they are switched on.
const HOW: &[&str] = &["mirostat_tau", "mirostat_eta", "xtc_threshold", "dynatemp_exponent"];

impl Draw {
    /// Takes the fields that all routes share.
    pub(crate) fn read(f: &mut Fields, card: &Card, new_seed: u64) -> Result<Draw> {
        let mut s = card.sampling;
        let set = |to: &mut f32, value: Option<f32>| *to = value.unwrap_or(*to);
        set(&mut s.temperature, f.number("temperature", 0.0, 2.0)?);
        set(&mut s.top_p, f.number("top_p", 0.0, 1.0)?);
        set(&mut s.min_p, f.number("min_p", 0.0, 1.0)?);
        set(&mut s.typical_p, f.number("typical_p", 0.0, 1.0)?);
        set(&mut s.presence_penalty, f.number("presence_penalty", -2.0, 2.0)?);
        set(&mut s.frequency_penalty, f.number("frequency_penalty", -2.0, 2.0)?);
        set(&mut s.repeat_penalty, f.number("repeat_penalty", 0.01, 100.0)?);
        set(&mut s.dry.multiplier, f.number("dry_multiplier", 0.0, 100.0)?);
        set(&mut s.dry.base, f.number("dry_base", 1.0, 100.0)?);
        let whole = |to: &mut u32, value: Option<u64>| *to = value.map_or(*to, |n| n as u32);
        whole(&mut s.top_k, f.whole_or_all("top_k", u64::from(u32::MAX))?);
        whole(&mut s.repeat_last_n, f.whole("repeat_last_n", 0, 1 << 20)?);
        whole(&mut s.dry.allowed, f.whole("dry_allowed_length", 1, 1 << 20)?);
        whole(&mut s.dry.last_n, f.whole("dry_penalty_last_n", 0, 1 << 20)?);
        s.ignore_eos = f.flag("ignore_eos")?.unwrap_or(s.ignore_eos);
        s.seed = fold(seed(f)?.unwrap_or(new_seed));
        f.refuse(ELSEWHERE)?;
        f.ignore(HOW)?;
        Ok(Draw {
            sampling: s,
            max_tokens: None,
            stop: stops(f)?,
            stop_tokens: ids(f, "stop_token_ids", card.vocabulary)?.unwrap_or_default(),
            logit_bias: bias(f, card.vocabulary)?,
            logprobs: None,
            prompt_logprobs: None,
            adapters: crate::adapters::read(f, card)?,
            n: f.whole("n", 1, MOST_ANSWERS)?.unwrap_or(1) as u32,
        })
    }

    /// The requests to the engine: `n` answers to a prompt, each with a seed of its own.
    pub(crate) fn requests(&self, prompt: &[u32], room: usize, salt: u64) -> Vec<Request> {
        let max_tokens = self.max_tokens.unwrap_or(usize::MAX).min(room);
        let request = |i: u32| Request {
            logit_bias: self.logit_bias.clone(),
            stop: self.stop.clone(),
            stop_tokens: self.stop_tokens.clone(),
            logprobs: self.logprobs,
            prompt_logprobs: self.prompt_logprobs,
            adapters: self.adapters.clone(),
            salt,
            ..Request::new(
                prompt.to_vec(),
                Sampling { seed: self.sampling.seed.wrapping_add(i), ..self.sampling },
                max_tokens,
            )
        };
        (0..self.n).map(request).collect()
    }
}

/// Seeds have 32 bits here; the rest is folded in.
fn fold(seed: u64) -> u32 {
    (seed ^ (seed >> 32)) as u32
}

fn seed(f: &mut Fields) -> Result<Option<u64>> {
    let Some(value) = f.take("seed") else { return Ok(None) };
    let path = f.path("seed");
    match (value.as_u64(), value.as_i64()) {
        (Some(n), _) => Ok(Some(n)),
        // llama.cpp's clients send -1 for a random one.
        (_, Some(-1)) => Ok(None),
        (_, Some(n)) => Ok(Some(n as u64)),
        _ => Err(wrong(&path, "a whole number", &value)),
    }
}

fn stops(f: &mut Fields) -> Result<Vec<String>> {
    let path = f.path("stop");
    let all = match f.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(all)) => all
            .into_iter()
            .map(|v| match v {
                Value::String(text) => Ok(text),
                other => Err(wrong(&path, "a string or an array of strings", &other)),
            })
            .collect::<Result<Vec<_>>>()?,
        Some(other) => return Err(wrong(&path, "a string or an array of strings", &other)),
    };
    let line = match () {
        () if all.len() > MOST_STOPS => {
            format!("\"{path}\" has {} strings; at most {MOST_STOPS} are taken", all.len())
        }
        () if all.iter().any(String::is_empty) => format!("a string of \"{path}\" is empty"),
        () if all.iter().any(|s| s.len() > LONGEST_STOP) => {
            format!("a string of \"{path}\" is longer than {LONGEST_STOP} bytes")
        }
        () => return Ok(all),
    };
    Err(ApiError::value(path, line))
}

fn bias(f: &mut Fields, vocabulary: u32) -> Result<Vec<(u32, f32)>> {
    let path = f.path("logit_bias");
    let map = match f.take("logit_bias") {
        None => return Ok(Vec::new()),
        Some(Value::Object(map)) if map.len() <= MOST_BIASES => map,
        Some(Value::Object(map)) => {
            let line = format!("\"{path}\" has {} entries; at most {MOST_BIASES} are taken", map.len());
            return Err(ApiError::value(path, line));
        }
        Some(other) => return Err(wrong(&path, "an object of token ids and numbers", &other)),
    };
    map.into_iter()
        .map(|(id, by)| {
            let shown: String = id.chars().take(40).collect();
            let id = id.parse().ok().filter(|id| *id < vocabulary).ok_or_else(|| {
                let line = format!("\"{shown}\" in \"{path}\" is no token id from 0 to {}", vocabulary - 1);
                ApiError::value(&path, line)
            })?;
            match by.as_f64() {
                // OpenAI's -100 forbids the token.
                Some(-100.0) => Ok((id, f32::NEG_INFINITY)),
                Some(by) if (-100.0..=100.0).contains(&by) => Ok((id, by as f32)),
                _ => {
                    let line =
                        format!("the value of \"{shown}\" in \"{path}\" must be a number from -100 to 100");
                    Err(ApiError::value(&path, line))
                }
            }
        })
        .collect()
}

/// A list of token ids.
pub(crate) fn ids(f: &mut Fields, name: &'static str, vocabulary: u32) -> Result<Option<Vec<u32>>> {
    let path = f.path(name);
    let Some(list) = f.list(name, 1 << 22)? else { return Ok(None) };
    list.iter().map(|v| id(v, &path, vocabulary)).collect::<Result<Vec<_>>>().map(Some)
}

/// A token id.
pub(crate) fn id(value: &Value, path: &str, vocabulary: u32) -> Result<u32> {
    match value.as_u64() {
        Some(id) if id < u64::from(vocabulary) => Ok(id as u32),
        _ if value.is_number() => Err(ApiError::value(
            path,
            format!("{value} in \"{path}\" is no token id; they are from 0 to {}", vocabulary - 1),
        )),
        _ => Err(wrong(path, "an array of token ids", value)),
    }
}

/// The most tokens of an answer, by any of these names.
pub(crate) fn max_tokens(f: &mut Fields, names: &[&'static str]) -> Result<Option<usize>> {
    let mut found: Option<(&str, u64)> = None;
    for name in names {
        let Some(n) = f.whole(name, 1, 1 << 31)? else { continue };
        match found {
            Some((other, m)) if m != n => {
                let line = format!("\"{other}\" and \"{name}\" say different things; give one of them");
                return Err(ApiError::value(*name, line));
            }
            _ => found = Some((name, n)),
        }
    }
    Ok(found.map(|(_, n)| n as usize))
}

/// `stream`, and whether usage comes at its end.
pub(crate) fn streaming(f: &mut Fields) -> Result<(bool, bool)> {
    let stream = f.flag("stream")?.unwrap_or(false);
    let Some(mut options) = f.object("stream_options")? else { return Ok((stream, false)) };
    if !stream {
        return Err(ApiError::value("stream_options", "\"stream_options\" needs \"stream\": true"));
    }
    let usage = options.flag("include_usage")?.unwrap_or(false);
    if options.flag("include_obfuscation")? == Some(true) {
        let line = "chunks are not padded here; \"include_obfuscation\" can be false alone";
        return Err(ApiError::unsupported("stream_options.include_obfuscation", line));
    }
    options.finish(None)?;
    Ok((stream, usage))
}

/// The name of the model, which a request must say.
pub(crate) fn model_name(f: &mut Fields, lenient: bool) -> Result<Option<String>> {
    match f.text("model")? {
        Some(name) => Ok(Some(name)),
        None if lenient => Ok(None),
        None => {
            let mut error = missing("model");
            error.message += "; GET /v1/models lists what is here";
            Err(error)
        }
    }
}
