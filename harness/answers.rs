//! Who answers questions: a model of ours, or an endpoint. The only place where `weft-evals` meets a device.

use std::collections::HashMap;
use std::io::Read;

use serde_json::{Value, json};
use weft_evals::ask::{Drawing, Turn};
use weft_evals::endpoint::Endpoint;
use weft_evals::{Answer, Generate, Item, Job, Score, Scored};
use weft_models::engine::{Engine, Event, Finish, Id, Options, Request, side_by_side};
use weft_models::{Message, Model, Sampling, Synthetic};
use weft_runtime::DeviceKind;

use crate::options::{self, CacheFlag, DeviceFlags, LoraFlag, ModelFlag};
use crate::{Error, Result, interrupt, output};

/// A model on this machine.
pub struct Local {
    model: Model,
    name: String,
    slots: u32,
    /// Kept from call to call while it is large enough.
    engine: Option<Engine>,
}

/// What an engine tells besides an answer, where a request asks for it.
#[derive(Default)]
pub struct Told {
    /// The log-probabilities of the first token, as the request asks for them.
    pub first: Vec<(u32, f32)>,
    /// The log-probabilities of the prompt's tokens, added up.
    pub prompt: f64,
}

impl Local {
    /// Opens a model for so many answers at a time [default: 32; 4 on a software GPU].
    ///
    /// # Errors
    /// As [`ModelFlag::open`].
    pub fn open(
        model: &ModelFlag,
        device: &DeviceFlags,
        cache: CacheFlag,
        lora: &LoraFlag,
        slots: Option<u32>,
    ) -> Result<Local> {
        let (opened, _) = model.open(device, None, None, cache)?;
        let opened = lora.apply(opened)?;
        // Before the first question, so that a file without a vocabulary is told as such.
        opened.tokenizer()?;
        let mut name = model.name();
        lora.lora.iter().for_each(|l| name += &format!(" + {l}"));
        Ok(Local::new(opened, name, slots))
    }

    /// A made-up model, `SHAPE:TYPE`, that has the tokens of a file: what it answers means nothing, and takes as long as
    /// a real one's answers.
    ///
    /// # Errors
    /// A shape or a type that is not known; as [`ModelFlag::open`].
    pub fn made_up(
        text: &str,
        words: &ModelFlag,
        device: &DeviceFlags,
        cache: CacheFlag,
        slots: Option<u32>,
    ) -> Result<Local> {
        let made = Synthetic::parse(text, None);
        let made = made.map_err(|line| Error::usage(format!("--synthetic: {line}")))?;
        let made = made.with_words_of(words.open_file()?.metadata());
        let (model, _) = options::begin(made.into(), device, None, None, cache)?.finish()?;
        model.tokenizer()?;
        Ok(Local::new(model, text.to_owned(), slots))
    }

    /// A model that is open already.
    pub fn new(model: Model, name: String, slots: Option<u32>) -> Local {
        let software = model.gpu().caps().kind == DeviceKind::Cpu;
        Local { slots: slots.unwrap_or(if software { 4 } else { 32 }), model, name, engine: None }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Answers at a time.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// The engine, with room for so many positions of an answer; with fewer slots where memory has no more.
    fn engine(&mut self, context: u32) -> weft_evals::Result<&mut Engine> {
        if self.engine.as_ref().is_none_or(|e| e.context() < context as usize) {
            self.engine = None;
            let mut slots = self.slots;
            self.engine = loop {
                match Engine::new(
                    &self.model,
                    &Options { slots, context: Some(context), ..Options::default() },
                ) {
                    Ok(engine) => break Some(engine),
                    Err(weft_models::Error::Gpu(_)) if slots > 1 => slots /= 2,
                    Err(e) => return Err(wrong(&self.name, e)),
                }
            };
        }
        self.engine.as_mut().ok_or(weft_evals::Error::Stopped)
    }

    /// Has requests answered, telling `done` (number, answer) as each ends, and what else they ask for.
    ///
    /// # Errors
    /// A context for which there is no memory, what a request says is wrong with it, a fault of the device, Ctrl-C.
    pub fn ask(
        &mut self,
        requests: Vec<Request>,
        done: &mut dyn FnMut(usize, Answer, Told) -> weft_evals::Result<()>,
    ) -> weft_evals::Result<()> {
        let room = requests.iter().map(|r| r.prompt.len() + r.max_tokens).max().unwrap_or(1);
        let longest = requests.iter().map(|r| r.prompt.len()).max().unwrap_or(1);
        // Never beyond what the model was trained for, unless a prompt is.
        let context = room.min((self.model.spec().context as usize).max(longest + 1)) as u32;
        let name = self.name.clone();
        let engine = self.engine(context)?;
        let asked = all_of(engine, &name, requests, done);
        if asked.is_err() {
            // What is still in it is nobody's any more.
            self.engine = None;
        }
        asked
    }
}

/// Has an engine answer requests, until all of them are.
fn all_of(
    engine: &mut Engine,
    name: &str,
    requests: Vec<Request>,
    done: &mut dyn FnMut(usize, Answer, Told) -> weft_evals::Result<()>,
) -> weft_evals::Result<()> {
    let mut open: HashMap<Id, (usize, String, Told)> = HashMap::new();
    for (i, request) in requests.into_iter().enumerate() {
        let id = engine.submit(request).map_err(|e| wrong(name, e))?;
        open.insert(id, (i, String::new(), Told::default()));
    }
    while !open.is_empty() {
        for event in engine.step().map_err(|e| wrong(name, e))? {
            match event {
                Event::Token { id, text, logprobs, .. } => {
                    let Some((_, so_far, told)) = open.get_mut(&id) else { continue };
                    so_far.push_str(&text);
                    if let Some(logprobs) = logprobs.filter(|_| told.first.is_empty()) {
                        told.first = logprobs.top;
                    }
                }
                Event::Finished { id, reason, text, usage } => {
                    let Some((i, so_far, told)) = open.remove(&id) else { continue };
                    let answer = Answer {
                        text: so_far + &text,
                        prompt_tokens: usage.prompt as u64,
                        tokens: usage.generated as u64,
                        cut: matches!(reason, Finish::MaxTokens | Finish::Context),
                        seconds: (usage.prefill + usage.decode).as_secs_f64(),
                    };
                    done(i, answer, told)?;
                }
                Event::Failed { error, .. } => return Err(wrong(name, error)),
                Event::Prompt { id, logprobs, .. } => {
                    if let Some((_, _, told)) = open.get_mut(&id) {
                        told.prompt += logprobs.iter().map(|l| f64::from(l.logprob)).sum::<f64>();
                    }
                }
                Event::Started { .. } | Event::Progress { .. } => {}
            }
        }
        if interrupt::asked() {
            return Err(weft_evals::Error::Stopped);
        }
    }
    Ok(())
}

impl Generate for Local {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn generate(
        &mut self,
        jobs: &[Job],
        done: &mut dyn FnMut(usize, Answer) -> weft_evals::Result<()>,
    ) -> weft_evals::Result<()> {
        let model = &self.model;
        let request = |job: &Job| {
            let message = |t: &Turn| Message::new(t.role.as_str(), t.content.as_str());
            let messages: Vec<Message> = job.turns.iter().map(message).collect();
            let prompt = model.chat(&messages, job.thinking)?;
            Ok(Request::new(prompt, sampling(&job.drawing), job.max_tokens))
        };
        // The device waits for the texts, so all cores make tokens of them.
        let requests = side_by_side(jobs.iter().collect(), request);
        let requests = requests.into_iter().collect::<weft_models::Result<Vec<_>>>();
        let requests = requests.map_err(|e| wrong(&self.name, e))?;
        match requests.is_empty() {
            true => Ok(()),
            false => self.ask(requests, &mut |i, answer, _| done(i, answer)),
        }
    }
}

/// A model's error, with whose it is.
fn wrong(name: &str, e: weft_models::Error) -> weft_evals::Error {
    match e {
        weft_models::Error::Cancelled => weft_evals::Error::Stopped,
        e => {
            let what = e.to_string();
            // Many say themselves which file they are about.
            let what = what.strip_prefix(&format!("{name}: ")).map_or(what.clone(), str::to_owned);
            weft_evals::Error::Model { who: name.to_owned(), what }
        }
    }
}

fn sampling(d: &Drawing) -> Sampling {
    Sampling {
        temperature: d.temperature,
        top_k: d.top_k,
        top_p: d.top_p,
        min_p: 0.0,
        seed: d.seed,
        ..Sampling::default()
    }
}

/// A prompt's ids and those of each ending behind it.
struct Tokens {
    prompt: usize,
    wholes: Vec<Vec<u32>>,
}

impl Tokens {
    /// Tokens of the prompt and of all endings.
    fn count(&self) -> u64 {
        let beyond = |w: &Vec<u32>| w.len().saturating_sub(self.prompt);
        (self.prompt + self.wholes.iter().map(beyond).sum::<usize>()) as u64
    }

    /// The first token of an ending; one that merges with the prompt's last token begins there.
    fn from(&self, ending: usize) -> usize {
        self.prompt.min(self.wholes[ending].len().saturating_sub(1)).max(1)
    }

    /// Whether an ending is there and has tokens to be told of.
    fn wants(&self, ending: usize) -> bool {
        self.wholes.get(ending).is_some_and(|w| self.from(ending) < w.len())
    }

    /// Whether all endings are one token behind the same prompt, as letters are: then one row of logits has them all.
    fn one_row(&self) -> bool {
        let n = self.prompt;
        n > 0 && self.wholes.iter().all(|w| w.len() == n + 1 && w[..n] == self.wholes[0][..n])
    }
}

/// Which endings of which questions are asked for: those of a question one behind the other, so that they share a program
/// and what they begin with.
fn in_order(open: &[usize], all: &[Tokens]) -> Vec<(usize, usize)> {
    let of = |&i: &usize| (0..all[i].wholes.len()).map(move |e| (i, e));
    open.iter().flat_map(of).filter(|&(i, e)| all[i].wants(e)).collect()
}

impl Score for Local {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn score(
        &mut self,
        items: &[Item],
        done: &mut dyn FnMut(usize, Scored) -> weft_evals::Result<()>,
    ) -> weft_evals::Result<()> {
        let name = self.name.clone();
        let model = self.model.clone();
        let tokenizer = model.tokenizer().map_err(|e| wrong(&name, e))?;
        // Text as it is: what looks like a special token in a question is none.
        let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
        let encode =
            |text: &str| -> Vec<u32> { bos.into_iter().chain(tokenizer.encode(text, false)).collect() };
        // An ending's tokens are those that the whole has beyond the prompt's own.
        let tokens = |item: &Item| Tokens {
            prompt: encode(&item.prompt).len(),
            wholes: item.endings.iter().map(|e| encode(&format!("{}{e}", item.prompt))).collect(),
        };
        let all: Vec<Tokens> = side_by_side(items.iter().collect(), tokens);
        let letters: Vec<usize> = (0..all.len()).filter(|i| all[*i].one_row()).collect();
        if !letters.is_empty() {
            let request = |i: &usize| {
                let Tokens { prompt, wholes } = &all[*i];
                let endings = wholes.iter().map(|w| w[*prompt]).collect();
                let prompt = wholes[0][..*prompt].to_vec();
                // A token that ends a text would come without being told of.
                let sampling = Sampling { ignore_eos: true, ..Sampling::greedy() };
                let asked = Request::new(prompt, sampling, 1);
                Request { logprobs: Some(0), logprobs_of: endings, ..asked }
            };
            self.ask(letters.iter().map(request).collect(), &mut |n, answer, told| {
                let i = letters[n];
                let loglikelihoods = told.first.iter().map(|t| f64::from(t.1)).collect();
                done(i, Scored { loglikelihoods, tokens: all[i].count(), seconds: answer.seconds })
            })?;
        }
        // Each ending is a prompt whose tokens are told of from where it begins, and a question is done with its last.
        let open: Vec<usize> = (0..all.len()).filter(|i| !all[*i].one_row()).collect();
        let asked = in_order(&open, &all);
        let mut scores: HashMap<usize, (Vec<f64>, usize, f64)> = HashMap::new();
        for &i in &open {
            let none = vec![0.0; all[i].wholes.len()];
            match (0..none.len()).filter(|&e| all[i].wants(e)).count() {
                0 => done(i, Scored { loglikelihoods: none, tokens: all[i].count(), seconds: 0.0 })?,
                n => drop(scores.insert(i, (none, n, 0.0))),
            }
        }
        if asked.is_empty() {
            return Ok(());
        }
        let request = |&(i, e): &(usize, usize)| Request {
            prompt_logprobs: Some(0),
            prompt_logprobs_from: all[i].from(e),
            ..Request::new(all[i].wholes[e].clone(), Sampling::greedy(), 0)
        };
        self.ask(asked.iter().map(request).collect(), &mut |n, answer, told| {
            let (i, ending) = asked[n];
            let Some((loglikelihoods, left, seconds)) = scores.get_mut(&i) else { return Ok(()) };
            loglikelihoods[ending] = told.prompt;
            *seconds += answer.seconds;
            *left -= 1;
            match *left {
                0 => {
                    let (loglikelihoods, seconds) = (std::mem::take(loglikelihoods), *seconds);
                    done(i, Scored { loglikelihoods, tokens: all[i].count(), seconds })
                }
                _ => Ok(()),
            }
        })
    }
}

/// Somebody by name: `http://...` is an endpoint, anything else a file.
///
/// # Errors
/// As [`Endpoint::parse`] and [`Local::open`].
pub fn somebody(name: &str, device: &DeviceFlags, slots: Option<u32>) -> Result<Box<dyn Generate>> {
    if name.contains("://") {
        return Ok(Box::new(endpoint(name, slots)?));
    }
    let flag = ModelFlag { model: Some(name.into()) };
    Ok(Box::new(Local::open(&flag, device, CacheFlag::default(), &LoraFlag::default(), slots)?))
}

/// The model on board.
///
/// # Errors
/// As [`Local::open`].
pub fn mini(device: &DeviceFlags, slots: Option<u32>) -> Result<Box<dyn Generate>> {
    let flag = ModelFlag { model: None };
    Ok(Box::new(Local::open(&flag, device, CacheFlag::default(), &LoraFlag::default(), slots)?))
}

/// An endpoint that so many requests go to at a time.
///
/// # Errors
/// As [`Endpoint::parse`] and [`Endpoint::settle`].
pub fn endpoint(url: &str, parallel: Option<u32>) -> Result<Endpoint> {
    let mut endpoint = Endpoint::parse(url)?;
    endpoint.notice = output::note;
    let mut endpoint = endpoint.settle()?;
    endpoint.parallel = parallel.map_or(endpoint.parallel, |n| n as usize);
    Ok(endpoint)
}

/// What tells a model's file from another: its name, its size, and the SHA-256 of its first 4 MiB, which hold the
/// metadata and the places of all tensors, and of its last.
///
/// # Errors
/// A file that cannot be read.
pub fn identity(model: &ModelFlag) -> Result<Value> {
    match &model.model {
        Some(path) => identity_of(path),
        None => Ok(json!({ "file": model.name(), "sha256": weft_evals::hash::sha256(crate::mini::GGUF) })),
    }
}

/// The same of adapters, each with its strength.
///
/// # Errors
/// A file that cannot be read.
pub fn adapters(lora: &LoraFlag) -> Result<Value> {
    let one = |text: &String| {
        let (path, strength) = options::path_and_scale(text)?;
        let path = std::path::Path::new(path);
        // As `Adapter::open` finds what a folder holds.
        let inside = ["adapter_model.safetensors", "adapter.gguf"].map(|name| path.join(name));
        let inside = inside.iter().find(|file| file.exists()).unwrap_or(&inside[0]);
        let mut value = identity_of(if path.is_dir() { inside } else { path })?;
        value["strength"] = strength.into();
        Ok(value)
    };
    lora.lora.iter().map(one).collect()
}

fn identity_of(path: &std::path::Path) -> Result<Value> {
    const PART: u64 = 4 << 20;
    let io = |e| Error::io(path, e);
    let mut file = std::fs::File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let mut bytes = Vec::new();
    (&mut file).take(PART).read_to_end(&mut bytes).map_err(io)?;
    std::io::Seek::seek(
        &mut file,
        std::io::SeekFrom::Start(size.saturating_sub(PART).max(bytes.len() as u64)),
    )
    .map_err(io)?;
    file.take(PART).read_to_end(&mut bytes).map_err(io)?;
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
    Ok(json!({ "file": name, "bytes": size, "sha256_of_ends": weft_evals::hash::sha256(&bytes) }))
}

#[cfg(test)]
mod tests {
    use super::{Tokens, in_order};

    #[test]
    fn endings_without_tokens_are_not_asked_for() {
        let question = |endings: usize| Tokens { prompt: 2, wholes: vec![vec![1, 2, 3, 4]; endings] };
        // An ending without a token of its own has nothing to be told of.
        let empty = Tokens { prompt: 1, wholes: vec![vec![1], vec![1, 2]] };
        let all = [question(2), question(3), empty];
        assert_eq!(in_order(&[0, 2], &all), [(0, 0), (0, 1), (2, 1)]);
    }
}
