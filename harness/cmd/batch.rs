//! `weft batch`: many prompts from a file, one line out for each line in.

mod line;

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};
use weft_models::engine::{Engine, Event, Finish, Id, Options, Usage};
use weft_models::{Model, Sampling};
use weft_runtime::DeviceKind;

use crate::options::{CacheFlag, DeviceFlags, LoraFlag, ModelFlag, check_output, context};
use crate::sampling::SamplingFlags;
use crate::{Error, Result, answers, interrupt, output, report};

/// Answer many prompts at full speed
///
/// FILE has a JSON value a line: a text, or an object with "prompt" or "messages" and, if they differ from the
/// command line's, "max_tokens", "temperature", "top_k", "top_p", "min_p", "typical_p", "repeat_penalty",
/// "presence_penalty", "frequency_penalty", "seed" and "stop". OpenAI's batch lines ("custom_id", "body") are read as
/// well. OUT gets a line for each line, in the same order: its text, why it ended and what it took, or its error. The
/// same command after an end by Ctrl-C or a crash goes on behind the last line that is there; with another model or
/// other settings, which the first line of OUT has, or with other lines, it is refused.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft batch prompts.jsonl -o answers.jsonl
  weft batch -m model.gguf prompts.jsonl -o answers.jsonl -n 200 --temp 0
  weft batch -m model.gguf prompts.jsonl -o answers.jsonl --slots 64 -c 2048
  echo '{\"id\": \"a\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}' | weft batch - -o out.jsonl")]
pub(super) struct Flags {
    #[command(flatten)]
    model: ModelFlag,
    #[command(flatten)]
    lora: LoraFlag,
    /// The prompts, a JSON value a line; "-" reads stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the answers go; "-" is stdout
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Most tokens of an answer
    #[arg(
        short,
        long = "max-tokens",
        visible_alias = "n-predict",
        alias = "predict",
        value_name = "N",
        default_value_t = 512
    )]
    n: usize,
    /// Context of each answer in tokens, its prompt among them; 0 is all that the model was trained for [default:
    /// that, at most 4096]
    #[arg(short, long = "ctx", alias = "ctx-size", value_name = "N")]
    c: Option<u32>,
    /// Answers that are drawn at a time [default: 32, on a software GPU 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    slots: Option<u32>,
    /// Take prompts as they are, without the chat template
    #[arg(long)]
    raw: bool,
    /// Ask a model that can think to answer at once (the template's enable_thinking = false)
    #[arg(long)]
    no_think: bool,
    #[command(flatten)]
    sampling: SamplingFlags,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceFlags,
    #[command(flatten)]
    cache: CacheFlag,
}

/// An answer that is being drawn.
struct Pending {
    index: usize,
    name: Option<Value>,
    input: Value,
    text: String,
}

/// A line that was answered.
struct There {
    /// Its name.
    id: Option<Value>,
    /// What it read, as [`digest`] has it.
    input: Option<Value>,
}

/// Lines that are done, and those before which others are still missing.
struct Out {
    file: Box<dyn Write>,
    path: PathBuf,
    /// The lines that were there.
    there: Vec<There>,
    /// The settings of those lines, if the first one has them.
    had: Option<Value>,
    /// The settings of this run.
    settings: Value,
    next: usize,
    waiting: BTreeMap<usize, Value>,
    failed: usize,
}

impl Out {
    /// Opens OUT behind its last whole line; stdout, a pipe and a device have none.
    fn open(path: &Path) -> Result<Out> {
        let io = |e| Error::io(path, e);
        let new = |file| Out {
            file,
            path: path.to_owned(),
            there: Vec::new(),
            had: None,
            settings: Value::Null,
            next: 0,
            waiting: BTreeMap::new(),
            failed: 0,
        };
        if path == Path::new("-") {
            return Ok(new(Box::new(std::io::stdout())));
        }
        if std::fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir()) {
            return Ok(new(Box::new(OpenOptions::new().write(true).open(path).map_err(io)?)));
        }
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        // Two that write one file would mix their lines. Where a file system has no locks nobody is kept out.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(Error::input(format!("{}: another `weft batch` writes it just now", path.display())));
        }
        let (mut there, mut had, mut failed, mut whole) = (Vec::new(), None, 0, 0);
        let mut reader = BufReader::new(&mut file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let n = reader.read_until(b'\n', &mut line).map_err(io)?;
            if n == 0 || line.last() != Some(&b'\n') {
                break;
            }
            let mut value: Value = serde_json::from_slice(&line).unwrap_or_default();
            if value["index"].as_u64() != Some(there.len() as u64) {
                return Err(Error::input(format!(
                    "{}: line {} is none that `weft batch` wrote; give another name for the answers",
                    path.display(),
                    there.len() + 1
                )));
            }
            failed += usize::from(!value["error"].is_null());
            let mut take = |key: &str| value.as_object_mut().and_then(|line| line.remove(key));
            had = had.or(take("settings"));
            there.push(There { id: take("id"), input: take("input") });
            whole += n as u64;
        }
        drop(reader);
        // A line that was cut off is written again.
        file.set_len(whole).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        Ok(Out { next: there.len(), there, had, failed, ..new(Box::new(file)) })
    }

    /// Refuses to go on behind the answers to other lines than these.
    fn check(&self, index: usize, line: &[u8]) -> Result<()> {
        let Some(there) = self.there.get(index) else { return Ok(()) };
        let (path, no) = (self.path.display(), index + 1);
        if there.id != line::name(line) {
            return Err(Error::input(format!(
                "{path}: line {no} answers {}, and the input has {} there; give another name for the answers",
                named(there.id.as_ref()),
                named(line::name(line).as_ref())
            )));
        }
        if there.input.as_ref().is_some_and(|input| *input != digest(line)) {
            return Err(Error::input(format!(
                "{path}: line {no} of the input is not what it was when it was answered; give another name for the \
                 answers, or remove this one and those behind it"
            )));
        }
        Ok(())
    }

    /// Refuses to go on behind answers that were drawn in another way, and notes how these are.
    fn settle(&mut self, settings: Value) -> Result<()> {
        let path = self.path.display();
        let differs = self.had.as_ref().and_then(|had| weft_evals::journal::difference("", had, &settings));
        if let Some((key, had, has)) = differs {
            return Err(Error::input(format!(
                "{path}: was begun with {key} {had}, and this run has {has}; give the same again, or another name for \
                 the answers"
            )));
        }
        if self.next > 0 && self.had.is_none() {
            output::note(&format!("warning: {path}: does not say with what settings it was begun"));
        }
        self.settings = settings;
        Ok(())
    }

    /// Takes the answer of a line, and writes what has its turn.
    fn put(&mut self, index: usize, mut value: Value) -> Result<()> {
        if index == 0 {
            value["settings"] = self.settings.clone();
        }
        self.failed += usize::from(!value["error"].is_null());
        self.waiting.insert(index, value);
        let mut text = String::new();
        while let Some(value) = self.waiting.remove(&self.next) {
            text += &format!("{value}\n");
            self.next += 1;
        }
        self.file.write_all(text.as_bytes()).and_then(|()| self.file.flush()).map_err(|e| match e.kind() {
            // Who reads a pipe has seen enough.
            std::io::ErrorKind::BrokenPipe => Error::StdoutClosed,
            _ => Error::io(&self.path, e),
        })
    }
}

/// What tells a line of the input from one that was changed since: the beginning of its SHA-256.
fn digest(line: &[u8]) -> Value {
    weft_evals::hash::sha256(line.trim_ascii())[..16].into()
}

/// A line's name in a sentence.
fn named(name: Option<&Value>) -> String {
    name.map_or("a line without an id".to_owned(), |name| format!("the id {name}"))
}

/// The lines of the input, read ahead of the answers by a bounded number.
struct Lines {
    from: Box<dyn BufRead>,
    name: String,
    index: usize,
}

impl Lines {
    fn open(path: &Path) -> Result<Lines> {
        let (from, name): (Box<dyn Read>, _) = match path == Path::new("-") {
            true => (Box::new(std::io::stdin()), "stdin".to_owned()),
            false => {
                let file = File::open(path).map_err(|e| Error::io(path, e))?;
                (Box::new(file), path.display().to_string())
            }
        };
        Ok(Lines { from: Box::new(BufReader::new(from)), name, index: 0 })
    }

    /// The next line with its index; one of white space alone counts as none.
    fn next(&mut self) -> Result<Option<(usize, Vec<u8>)>> {
        loop {
            let mut line = Vec::new();
            let n = self
                .from
                .read_until(b'\n', &mut line)
                .map_err(|source| Error::Io { file: self.name.clone(), source })?;
            if n == 0 {
                return Ok(None);
            }
            if !line.trim_ascii().is_empty() {
                self.index += 1;
                return Ok(Some((self.index - 1, line)));
            }
        }
    }
}

fn reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::EndOfText | Finish::StopString(_) | Finish::StopToken(_) => "stop",
        Finish::MaxTokens => "length",
        Finish::Context => "context",
    }
}

/// The beginning of the line of an answer, or of an error.
fn begin(index: usize, name: Option<Value>, input: Value) -> Value {
    let mut value = json!({ "index": index });
    if let Some(name) = name {
        value["id"] = name;
    }
    value["input"] = input;
    value
}

fn answer(p: Pending, finish: &Finish, usage: &Usage) -> Value {
    let mut value = begin(p.index, p.name, p.input);
    value["text"] = p.text.into();
    value["finish_reason"] = reason(finish).into();
    value["usage"] = json!({
        "prompt_tokens": usage.prompt, "cached_tokens": usage.cached, "completion_tokens": usage.generated,
    });
    value
}

fn failure(p: Pending, why: &str) -> Value {
    let mut value = begin(p.index, p.name, p.input);
    value["error"] = why.into();
    value
}

/// Tokens of all answers of this run.
#[derive(Default)]
struct Sums {
    prompt: usize,
    cached: usize,
    generated: usize,
}

struct Run<'a> {
    f: &'a Flags,
    model: &'a Model,
    engine: Engine,
    lines: Lines,
    out: Out,
    pending: HashMap<Id, Pending>,
    sums: Sums,
    bar: indicatif::ProgressBar,
}

impl Run<'_> {
    /// Reads lines while there is room for their answers; false at the end of the input.
    fn read(&mut self, sampling: &Sampling) -> Result<bool> {
        let slots = self.engine.slots();
        // A long answer holds back those behind it, in memory, so they are bounded as well.
        while self.pending.len() < 2 * slots && self.out.waiting.len() < 64 * slots {
            let Some((index, line)) = self.lines.next()? else { return Ok(false) };
            if index < self.out.next {
                self.out.check(index, &line)?;
                continue;
            }
            let seed = sampling.seed.wrapping_add(index as u32);
            let defaults = line::Defaults {
                sampling: Sampling { seed, ..*sampling },
                max_tokens: self.f.n,
                raw: self.f.raw,
                thinking: self.f.no_think.then_some(false),
            };
            let (name, request) = line::read(&line, self.model, &defaults);
            let pending = Pending { index, name, input: digest(&line), text: String::new() };
            match request.and_then(|r| self.engine.submit(r).map_err(|e| e.to_string())) {
                Ok(id) => {
                    self.pending.insert(id, pending);
                }
                Err(why) => {
                    self.out.put(index, failure(pending, &why))?;
                    self.bar.inc(1);
                }
            }
        }
        Ok(true)
    }

    fn note(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Token { id, text, .. } => {
                self.sums.generated += 1;
                if let Some(p) = self.pending.get_mut(&id) {
                    p.text += &text;
                }
            }
            Event::Finished { id, reason, text, usage } => {
                if let Some(mut p) = self.pending.remove(&id) {
                    p.text += &text;
                    self.sums.prompt += usage.prompt;
                    self.sums.cached += usage.cached;
                    self.out.put(p.index, answer(p, &reason, &usage))?;
                    self.bar.inc(1);
                }
            }
            Event::Failed { id, error } => {
                if let Some(p) = self.pending.remove(&id) {
                    self.out.put(p.index, failure(p, &error.to_string()))?;
                    self.bar.inc(1);
                }
            }
            Event::Started { .. } | Event::Progress { .. } | Event::Prompt { .. } => {}
        }
        Ok(())
    }

    fn go(&mut self, sampling: &Sampling) -> Result<()> {
        let start = Instant::now();
        loop {
            self.read(sampling)?;
            let events = self.engine.step()?;
            if events.is_empty() && self.pending.is_empty() {
                return Ok(());
            }
            for event in events {
                self.note(event)?;
            }
            let rate = self.sums.generated as f64 / start.elapsed().as_secs_f64().max(1e-9);
            self.bar.set_message(format!("{rate:.0} tokens/s"));
            if interrupt::asked() {
                return Err(Error::Interrupted);
            }
        }
    }
}

/// Lines of a file that have something, of which `out` may have answers; None for stdin and pipes, which are read once.
fn count(path: &Path, out: &Out) -> Result<Option<u64>> {
    if path == Path::new("-") || !std::fs::metadata(path).is_ok_and(|m| m.is_file()) {
        return Ok(None);
    }
    let mut lines = Lines::open(path)?;
    while let Some((index, line)) = lines.next()? {
        out.check(index, &line)?;
    }
    if lines.index < out.next {
        return Err(Error::input(format!(
            "{}: has {} answers, and {} has {} lines; give another name for the answers",
            out.path.display(),
            out.next,
            path.display(),
            lines.index
        )));
    }
    Ok(Some(lines.index as u64))
}

/// What makes an answer what it is, beside its line.
fn settings(f: &Flags, s: &Sampling, context: u32) -> Result<Value> {
    // It is told as it was typed: 0.95, not 0.949999988079071.
    let typed = |x: f32| x.to_string().parse::<f64>().unwrap_or(x.into());
    Ok(json!({
        "model": answers::identity(&f.model)?,
        "adapters": answers::adapters(&f.lora)?,
        "max_tokens": f.n,
        "context": context,
        "raw": f.raw,
        "thinking": !f.no_think,
        "cache": f.cache.cache_type.map(weft_models::CacheType::name),
        "temperature": typed(s.temperature),
        "top_k": s.top_k,
        "top_p": typed(s.top_p),
        "min_p": typed(s.min_p),
        "repeat_penalty": typed(s.repeat_penalty),
        "repeat_last_n": s.repeat_last_n,
        "seed": s.seed,
    }))
}

pub(super) fn run(f: Flags) -> Result<()> {
    f.sampling.check()?;
    let ours = |head: &[u8]| head.starts_with(b"{\"index\":");
    check_output(&f.output, &[Some(&f.file), f.model.model.as_deref()], "a file of answers", ours)?;
    if f.json && f.output == Path::new("-") {
        return Err(Error::usage(
            "--json prints to stdout, where --output - has the answers; give them a file",
        ));
    }
    // Opened once: what is read of a pipe is gone.
    let lines = Lines::open(&f.file)?;
    let mut out = Out::open(&f.output)?;
    let total = count(&f.file, &out)?;
    interrupt::install(2);
    let (model, _) = f.model.open(&f.device, None, f.c, f.cache)?;
    let model = f.lora.apply(model)?;
    model.tokenizer()?;
    let software = model.gpu().caps().kind == DeviceKind::Cpu;
    let slots = f.slots.unwrap_or(if software { 4 } else { 32 });
    let context = context(model.spec(), f.c);
    crate::options::note_context(model.spec().context, context);
    let engine = Engine::new(&model, &Options { slots, context: Some(context), ..Options::default() })?;
    // Without a seed of its own each line has one from its number: the same file gives the same answers.
    let drawn = f.sampling.sampling(&f.model, model.metadata());
    let sampling = Sampling { seed: f.sampling.seed.unwrap_or(0), ..drawn };
    out.settle(settings(&f, &sampling, context)?)?;
    if out.next > 0 {
        output::note(&format!("{}: goes on behind {} lines", f.output.display(), out.next));
    }
    let bar = output::bar(total.unwrap_or(0), "{bar:30} {pos} of {len} lines, {msg}, {elapsed}, {eta} to go");
    bar.set_position(out.next as u64);
    let start = Instant::now();
    let mut run =
        Run { f: &f, model: &model, engine, lines, out, pending: HashMap::new(), sums: Sums::default(), bar };
    let done = run.go(&sampling);
    run.bar.finish_and_clear();
    let (sums, out) = (&run.sums, &run.out);
    if matches!(done, Err(Error::Interrupted)) {
        output::note(&format!("{} lines are done; the same command goes on there", out.next));
    }
    done?;
    let seconds = start.elapsed().as_secs_f64();
    let rate = sums.generated as f64 / seconds.max(1e-9);
    if f.json {
        output::json(&json!({
            "model": report::model_json(&f.model.name(), &model),
            "lines": out.next,
            "failed": out.failed,
            "prompt_tokens": sums.prompt,
            "cached_tokens": sums.cached,
            "completion_tokens": sums.generated,
            "seconds": seconds,
            "tokens_per_second": rate,
            "device": report::caps_json(model.gpu().caps()),
        }))?;
    } else {
        output::note(&format!(
            "{} lines in {}; {} tokens drawn in {seconds:.1} s ({rate:.0} t/s)",
            out.next,
            f.output.display(),
            sums.generated
        ));
    }
    match out.failed {
        0 => Ok(()),
        n => Err(Error::input(format!(
            "{}: {n} of {} lines have an \"error\" that says what is wrong with their input",
            f.output.display(),
            out.next
        ))),
    }
}
