//! POST /v1/completions

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::Value;
use weft_models::engine::{Logprobs, Usage};

use super::{Post, json};
use crate::app::{App, Served, no_room, now};
use crate::ask::refusal;
use crate::card::Card;
use crate::draw::{self, Draw, MOST_ANSWERS};
use crate::engine::Said;
use crate::error::{ApiError, Result};
use crate::fields::{Fields, missing, wrong};
use crate::said::{push_string, reason, usage_json};
use crate::shape::{self, Form};
use crate::stream::{self, Write};

/// Tokens of an answer where a request does not say, as OpenAI has it.
const DEFAULT_TOKENS: usize = 16;

const IGNORED: &[&str] = &["user", "metadata", "cache_prompt"];

struct Ask {
    prompts: Vec<Vec<u32>>,
    draw: Draw,
    /// The prompts' texts, which begin the answers.
    echo: Option<Vec<String>>,
    form: Option<Form>,
    stream: bool,
    usage: bool,
}

impl Ask {
    fn read(mut f: Fields, app: &App, card: &Card) -> Result<Ask> {
        let mut ignored = Vec::new();
        f.ignore(IGNORED)?;
        f.refuse(&[("suffix", "this server does not fill in the middle")])?;
        let prompts = prompts(f.need("prompt")?, card)?;
        let mut draw = Draw::read(&mut f, card, app.id())?;
        let echo = f.flag("echo")?.unwrap_or(false);
        // Who wants the prompt back may want nothing else.
        let none = echo && f.is("max_tokens", &0.into());
        draw.max_tokens = match none {
            true => f.whole("max_tokens", 0, 0)?.map(|_| 0),
            false => Some(draw::max_tokens(&mut f, &["max_tokens"])?.unwrap_or(DEFAULT_TOKENS)),
        };
        draw.logprobs = f.whole("logprobs", 0, 5)?.map(|n| n as usize);
        if let Some(best) = f.whole("best_of", 1, MOST_ANSWERS)?
            && best != u64::from(draw.n)
        {
            let line = "answers are not drawn to be thrown away here; \"best_of\" can only be what \"n\" is";
            return Err(ApiError::unsupported("best_of", line));
        }
        draw.prompt_logprobs = draw.logprobs.filter(|_| echo);
        let form = shape::form(&mut f)?;
        let (stream, usage) = draw::streaming(&mut f)?;
        f.finish(app.config.lenient.then_some(&mut ignored))?;
        app.log_ignored(&ignored);
        let answers = prompts.len() as u64 * u64::from(draw.n);
        if answers > MOST_ANSWERS {
            let line =
                format!("{} prompts of {} answers each are more than {MOST_ANSWERS}", prompts.len(), draw.n);
            return Err(ApiError::value("prompt", line));
        }
        let text = |ids: &Vec<u32>| card.tokenizer.decode(ids, false);
        let echo = echo.then(|| prompts.iter().map(text).collect());
        Ok(Ask { prompts, draw, echo, form, stream, usage })
    }
}

/// A prompt is a text or token ids, or an array of either.
fn prompts(value: Value, card: &Card) -> Result<Vec<Vec<u32>>> {
    const WANTED: &str = "a string, an array of token ids, or an array of either";
    let encode = |text: &str| card.tokenizer.encode_prompt(text);
    let ids = |list: &[Value]| -> Result<Vec<u32>> {
        list.iter().map(|v| draw::id(v, "prompt", card.vocabulary)).collect()
    };
    let all = match value {
        Value::String(text) => vec![encode(&text)],
        Value::Array(list) if list.is_empty() => {
            return Err(ApiError::value("prompt", "\"prompt\" is empty"));
        }
        Value::Array(list) if list[0].is_number() => vec![ids(&list)?],
        Value::Array(list) if list.len() as u64 > MOST_ANSWERS => {
            let line = format!("\"prompt\" has {} entries; at most {MOST_ANSWERS} are taken", list.len());
            return Err(ApiError::value("prompt", line));
        }
        Value::Array(list) => list
            .iter()
            .map(|one| match one {
                Value::String(text) => Ok(encode(text)),
                Value::Array(list) => ids(list),
                other => Err(wrong("prompt", WANTED, other)),
            })
            .collect::<Result<Vec<_>>>()?,
        Value::Null => return Err(missing("prompt")),
        other => return Err(wrong("prompt", WANTED, &other)),
    };
    all.iter().try_for_each(|p| card.check_length(p.len(), "prompt"))?;
    Ok(all)
}

pub(super) async fn completions(State(app): State<Arc<App>>, post: Post) -> Result<Response> {
    let mut f = Fields::body(post.body)?;
    let name = draw::model_name(&mut f, app.config.lenient)?;
    let served = app.model(name.as_deref())?;
    let resumable = app.streams.asked(&mut f, post.who)?;
    let ask = Ask::read(f, &app, &served.card)?;
    let mut requests: Vec<_> = ask
        .prompts
        .iter()
        .flat_map(|p| ask.draw.requests(p, served.card.context - p.len(), post.who.0))
        .collect();
    let n = requests.len() as u32;
    if let Some((source, param)) = &ask.form {
        tokio::task::block_in_place(|| -> Result<()> {
            let grammars = served.grammars()?;
            for request in &mut requests {
                request.mask = Some(grammars.mask(source, None).map_err(|why| refusal(why, param))?);
            }
            Ok(())
        })?;
    }
    let said = served.engine()?.submit(requests, post.who.0).map_err(no_room)?;
    let id = format!("cmpl-{:016x}", app.id());
    let mut open =
        format!("{{\"id\":\"{id}\",\"object\":\"text_completion\",\"created\":{},\"model\":", now())
            .into_bytes();
    push_string(&mut open, &served.card.id);
    open.extend_from_slice(b",\"choices\":[");
    if ask.stream {
        let choices = (0..n).map(|_| Tokens::default()).collect();
        let writer = Chunks { open, served, choices, all: Vec::new(), ask };
        return stream::events(&app, said, n, writer, (resumable.then_some(id), post.who)).await;
    }
    let whole = stream::collect(said, n).await?;
    let mut to = open;
    for (i, w) in whole.iter().enumerate() {
        let mut tokens = Tokens::default();
        if i > 0 {
            to.push(b',');
        }
        if ask.draw.prompt_logprobs.is_some() {
            tokens.push_prompt(&served.card, &ask.prompts[i / ask.draw.n as usize], 0, &w.prompt);
        }
        for t in &w.tokens {
            if let Some(l) = &t.logprobs {
                tokens.push(&served.card, t.id, l);
            }
        }
        let before = ask.echo.as_ref().map_or("", |e| &e[i / ask.draw.n as usize]);
        let logprobs = ask.draw.logprobs.is_some().then_some(&mut tokens);
        push_choice(&mut to, i as u32, &[before, &w.text()], logprobs, Some(reason(&w.reason)));
    }
    let usage: Vec<Usage> = whole.iter().map(|w| w.usage).collect();
    to.extend_from_slice(format!("],\"usage\":{}}}", usage_json(&total(&ask, &usage), 0)).as_bytes());
    Ok(json(to))
}

/// What all answers took: each prompt counts once.
fn total(ask: &Ask, all: &[Usage]) -> Usage {
    let prompt = ask.prompts.iter().map(Vec::len).sum();
    Usage { prompt, ..crate::said::sum(all) }
}

/// The older shape of log-probabilities: arrays side by side.
#[derive(Default)]
struct Tokens {
    tokens: Vec<String>,
    logprobs: Vec<Option<f32>>,
    top: Vec<String>,
    offsets: Vec<usize>,
    /// Characters of all tokens so far.
    at: usize,
}

impl Tokens {
    fn push(&mut self, card: &Card, token: u32, l: &Logprobs) {
        self.push_token(card, token);
        self.logprobs.push(Some(l.logprob.max(-9999.0)));
        let mut top = serde_json::Map::new();
        for (id, logprob) in &l.top {
            top.insert(card.token(*id).0, logprob.max(-9999.0).into());
        }
        self.top.push(Value::from(top).to_string());
    }

    fn push_token(&mut self, card: &Card, token: u32) {
        let text = card.token(token).0;
        self.offsets.push(self.at);
        self.at += text.chars().count();
        self.tokens.push(text);
    }

    /// The tokens of a prompt from `first` on, and where that is 0 its first token, which nothing stands before.
    fn push_prompt(&mut self, card: &Card, prompt: &[u32], first: usize, logprobs: &[Logprobs]) {
        if first == 0 {
            self.push_token(card, prompt[0]);
            self.logprobs.push(None);
            self.top.push("null".into());
        }
        for (&token, l) in prompt[first.max(1)..].iter().zip(logprobs) {
            self.push(card, token, l);
        }
    }

    /// Writes what came since the last time.
    fn write(&mut self, to: &mut Vec<u8>) {
        let tokens = Value::from(std::mem::take(&mut self.tokens));
        let logprobs = Value::from(std::mem::take(&mut self.logprobs));
        let offsets = Value::from(std::mem::take(&mut self.offsets));
        let top = std::mem::take(&mut self.top).join(",");
        let text = format!(
            "{{\"tokens\":{tokens},\"token_logprobs\":{logprobs},\"top_logprobs\":[{top}],\"text_offset\":{offsets}}}"
        );
        to.extend_from_slice(text.as_bytes());
    }
}

fn push_choice(
    to: &mut Vec<u8>,
    index: u32,
    text: &[&str],
    logprobs: Option<&mut Tokens>,
    reason: Option<&str>,
) {
    to.extend_from_slice(b"{\"text\":");
    match text {
        ["", one] | [one] => push_string(to, one),
        several => push_string(to, &several.concat()),
    }
    to.extend_from_slice(format!(",\"index\":{index},\"logprobs\":").as_bytes());
    match logprobs {
        Some(tokens) => tokens.write(to),
        None => to.extend_from_slice(b"null"),
    }
    match reason {
        Some(reason) => to.extend_from_slice(format!(",\"finish_reason\":\"{reason}\"}}").as_bytes()),
        None => to.extend_from_slice(b",\"finish_reason\":null}"),
    }
}

/// Writes chunks.
struct Chunks {
    open: Vec<u8>,
    served: Arc<Served>,
    choices: Vec<Tokens>,
    all: Vec<Usage>,
    ask: Ask,
}

impl Chunks {
    fn chunk(&mut self, index: u32, text: &str, reason: Option<&str>, to: &mut Vec<u8>) {
        to.extend_from_slice(b"data: ");
        to.extend_from_slice(&self.open);
        let logprobs = self.ask.draw.logprobs.is_some();
        let tokens = Some(&mut self.choices[index as usize]).filter(|t| logprobs && !t.tokens.is_empty());
        push_choice(to, index, &[text], tokens, reason);
        to.extend_from_slice(if self.ask.usage { b"],\"usage\":null}\n\n" } else { b"]}\n\n" });
    }
}

impl Write for Chunks {
    fn write(&mut self, index: u32, said: Said, to: &mut Vec<u8>) -> Result<()> {
        match said {
            Said::Started { .. } => {
                let of = index as usize / self.ask.draw.n as usize;
                let scored = self.ask.draw.prompt_logprobs.is_some();
                if scored {
                    let prompt = &self.ask.prompts[of];
                    self.choices[index as usize].push_prompt(&self.served.card, prompt, 0, &[]);
                }
                // With log-probabilities it comes once all of them are there.
                if let Some(echo) =
                    self.ask.echo.as_ref().filter(|_| !scored || self.ask.prompts[of].len() == 1)
                {
                    let text = echo[of].clone();
                    self.chunk(index, &text, None, to);
                }
            }
            Said::Prompt { first, logprobs } => {
                let of = index as usize / self.ask.draw.n as usize;
                let prompt = &self.ask.prompts[of];
                let last = first + logprobs.len() == prompt.len();
                self.choices[index as usize].push_prompt(&self.served.card, prompt, first, &logprobs);
                if let Some(echo) = self.ask.echo.as_ref().filter(|_| last) {
                    let text = echo[of].clone();
                    self.chunk(index, &text, None, to);
                }
            }
            Said::Token { token, text, logprobs } => {
                if let Some(l) = logprobs {
                    self.choices[index as usize].push(&self.served.card, token, &l);
                }
                if !text.is_empty() {
                    self.chunk(index, &text, None, to);
                }
            }
            Said::Finished { reason: finish, text, usage } => {
                self.chunk(index, &text, Some(reason(&finish)), to);
                self.all.push(usage);
            }
            Said::Progress { .. } | Said::Failed(_) => {}
        }
        Ok(())
    }

    fn end(&mut self, to: &mut Vec<u8>) {
        if self.ask.usage {
            to.extend_from_slice(b"data: ");
            to.extend_from_slice(&self.open);
            let usage = usage_json(&total(&self.ask, &self.all), 0);
            to.extend_from_slice(format!("],\"usage\":{usage}}}\n\n").as_bytes());
        }
        to.extend_from_slice(b"data: [DONE]\n\n");
    }
}
