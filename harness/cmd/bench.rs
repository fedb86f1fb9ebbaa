//! `weft bench`: how fast a model runs, beside what the device could do.

mod arrivals;
mod profile;
mod table;
mod url;

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;
use weft_kernels::perf::{Effort, copy_rate, matrix_rate};
use weft_models::engine::{Engine, Event, Id, Options as Room, Request};
use weft_models::{Model, Sampling, Session, Source, Synthetic};
use weft_runtime::{DeviceKind, Replay};

use crate::options::{self, CacheFlag, DeviceFlags, ModelFlag, VariantFlag};
use crate::{Error, Result, interrupt, output};
use table::{Format, Row, Rows, Subject};

/// Measure how fast a model runs
///
/// Prefill (pp: a prompt of so many tokens), decode (tg: so many tokens one by one) and decode of several
/// slots at a time, from an empty cache and at depth. Each test is repeated after a warm-up; what is printed
/// is the mean of tokens a second and their standard deviation, and what that is of the device's own ceilings:
/// of the bytes a second of a copy, and of the operations a second of its fastest matrix product.
/// For decode, bytes are those of all matrices and of the cache so far; for prefill, operations are those of
/// all products and of the attention.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft bench                                       the model on board
  weft bench -m model.gguf                         pp512 and tg128, 5 times each
  weft bench -m model.gguf -p 512,2048 -n 128 -d 0,16384
  weft bench -m model.gguf -p 0 -n 64 -b 1,8,32    decode only, of 1, 8 and 32 slots
  weft bench --synthetic qwen3-4b:q4_k_m           made-up weights of a real shape; needs no file
  weft bench --synthetic qwen3-8b:q8_0 --layers 4  its first 4 layers only
  weft bench -m model.gguf -p 2048 -n 16 --profile  time by kernel; weft-trace.json for ui.perfetto.dev
  weft bench --url http://127.0.0.1:8080 --clients 32 -p 1000 -n 200    a server, as its clients see it
  weft bench -m model.gguf --arrivals 4 --requests 200 -b 32 -p 1000 -n 200  as a server has it
  weft bench -m model.gguf --without coop -o json | jq '.[] | {test, avg_ts}'")]
pub(super) struct Flags {
    #[command(flatten)]
    model: ModelFlag,
    /// In place of a file, a real shape with made-up weights: qwen3-0.6b, -1.7b, -4b or -8b, llama-3.2-1b,
    /// llama-3.1-8b, gemma-3-270m, -1b or -4b, as f16, q8_0, q4_0, q4_k_m or q6_k
    #[arg(long, value_name = "SHAPE:TYPE", conflicts_with = "model")]
    synthetic: Option<String>,
    /// Only the first N layers of the synthetic model
    #[arg(long, value_name = "N", requires = "synthetic")]
    layers: Option<u32>,
    /// Prompts to measure, in tokens; 0 for none
    #[arg(short = 'p', long, value_name = "N,...", value_delimiter = ',', default_value = "512")]
    n_prompt: Vec<u32>,
    /// Tokens to decode; 0 for none
    #[arg(short = 'n', long, value_name = "N,...", value_delimiter = ',', default_value = "128")]
    n_gen: Vec<u32>,
    /// Tokens that the cache holds before
    #[arg(
        short = 'd',
        long,
        value_name = "N,...",
        value_delimiter = ',',
        default_value = "0",
        conflicts_with = "asked"
    )]
    n_depth: Vec<u32>,
    /// Slots that decode at a time, up to 256
    #[arg(short = 'b', long, alias = "streams", value_name = "N,...", value_delimiter = ',', default_value = "1", conflicts_with = "url",
          value_parser = clap::value_parser!(u32).range(1..=weft_models::engine::MAX_SLOTS as i64))]
    slots: Vec<u32>,
    /// In place of tests, requests that arrive in time, RATE a second on average (inf: all at once), each with a
    /// prompt of -p and an answer of -n tokens, on -b slots: how long first tokens take, and how evenly others come
    #[arg(long, value_name = "RATE", group = "asked", conflicts_with_all = ["profile", "output_err"],
          value_parser = rate)]
    arrivals: Option<f64>,
    /// How many requests arrive, with --arrivals or --url
    #[arg(long, value_name = "N", default_value_t = 100, requires = "asked",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    requests: u32,
    /// One more request arrives with a prompt of N tokens once all other slots decode
    #[arg(long, value_name = "N", requires = "arrivals", value_parser = clap::value_parser!(u32).range(1..))]
    long: Option<u32>,
    /// How often each test is repeated
    #[arg(short, long, value_name = "N", default_value_t = 5, conflicts_with = "asked",
          value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// Time by kernel as well, in a replay of its own: each dispatch alone between two time stamps, which is
    /// slower than together; and a trace for chrome://tracing or ui.perfetto.dev
    #[arg(long)]
    profile: bool,
    /// Where that trace goes
    #[arg(long, value_name = "FILE", requires = "profile", default_value = "weft-trace.json")]
    trace: PathBuf,
    /// Begin to measure at once, with clocks down and nothing compiled
    #[arg(long)]
    no_warmup: bool,
    #[command(flatten)]
    device: DeviceFlags,
    #[command(flatten)]
    variant: VariantFlag,
    #[command(flatten)]
    cache: CacheFlag,
    /// Tokens of a prefill batch [default: by device]
    #[arg(long, value_name = "N", help_heading = "Device", value_parser = clap::value_parser!(u32).range(1..))]
    chunk: Option<u32>,
    #[command(flatten)]
    server: url::Flags,
    /// The form of the table on stdout
    #[arg(short, long, value_name = "FORMAT", default_value = "md")]
    output: Format,
    /// The same once more on stderr, in another format
    #[arg(long, value_name = "FORMAT")]
    output_err: Option<Format>,
}

/// A number of requests a second.
fn rate(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 => Ok(rate),
        _ => Err("it must be a number above 0, or inf".into()),
    }
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Test {
    /// Tokens of a prompt, or 0.
    prompt: u32,
    /// Tokens to decode, or 0.
    decode: u32,
    depth: u32,
    slots: u32,
}

impl Test {
    fn name(&self) -> String {
        let what = match self.prompt {
            0 => format!("tg{}", self.decode),
            n => format!("pp{n}"),
        };
        let slots = if self.slots > 1 { format!(" x {}", self.slots) } else { String::new() };
        let depth = if self.depth > 0 { format!(" @ d{}", self.depth) } else { String::new() };
        format!("{what}{slots}{depth}")
    }

    /// Tokens of a repetition.
    fn tokens(&self) -> u32 {
        (self.prompt + self.decode) * self.slots
    }

    /// Positions that a slot needs: those that count, and some for the steps that are timed by the device.
    fn context(&self) -> u32 {
        let spare = SPARE + 3 * self.slots;
        self.depth.saturating_add(self.prompt).saturating_add(self.decode).saturating_add(spare)
    }
}

/// Steps of slots that are timed by the device, after the others.
const SPARE: u32 = 8;

/// All tests, in llama-bench's order.
fn tests(f: &Flags) -> Vec<Test> {
    let mut all = Vec::new();
    for &depth in &f.n_depth {
        let prompts = f.n_prompt.iter().filter(|&&n| n > 0);
        all.extend(prompts.map(|&prompt| Test { prompt, decode: 0, depth, slots: 1 }));
        for &slots in &f.slots {
            let answers = f.n_gen.iter().filter(|&&n| n > 0);
            all.extend(answers.map(|&decode| Test { prompt: 0, decode, depth, slots }));
        }
    }
    all.dedup();
    all
}

/// What a device can do at best, as far as it could be measured.
#[derive(Debug, Clone, Copy, Default)]
struct Ceilings {
    /// Bytes a second that a copy reads and writes.
    copy: Option<f64>,
    /// Operations a second of the fastest product.
    matrix: Option<f64>,
}

fn ceilings(model: &Model) -> Ceilings {
    let gpu = model.gpu();
    let effort = Effort::of(gpu.caps().kind, true);
    // A device that the model has filled has no room for them, which is no reason to measure nothing.
    let copy = copy_rate(gpu, &effort).ok();
    Ceilings { copy, matrix: matrix_rate(gpu, &effort).ok().map(|(rate, _)| rate) }
}

/// Random ids: no prompt is the beginning of another one.
struct Ids {
    rng: weft_kernels::testing::Rng,
    vocabulary: usize,
}

impl Ids {
    fn take(&mut self, n: u32) -> Vec<u32> {
        (0..n).map(|_| self.rng.below(self.vocabulary) as u32).collect()
    }
}

/// Whether somebody asked a bench to end.
type Stopped<'a> = &'a dyn Fn() -> bool;

fn check(stopped: Stopped<'_>) -> Result<()> {
    if stopped() { Err(Error::Interrupted) } else { Ok(()) }
}

/// What the progress of a prompt is answered with: it breaks off once it was asked to stop.
fn flow(stopped: Stopped<'_>) -> ControlFlow<()> {
    if stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Requests of a bench do not fail.
fn failed(events: &[Event]) -> Result<()> {
    match events.iter().find(|e| matches!(e, Event::Failed { .. })) {
        Some(Event::Failed { error, .. }) => Err(Error::input(format!("a slot failed: {error}"))),
        _ => Ok(()),
    }
}

/// Steps until so many tokens have come.
fn tokens(engine: &mut Engine, wanted: u32, stopped: Stopped<'_>) -> Result<()> {
    let mut come = 0;
    while come < wanted {
        check(stopped)?;
        for event in engine.step()? {
            match event {
                Event::Token { .. } => come += 1,
                Event::Failed { error, .. } => return Err(error.into()),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Seconds of each repetition, with what the device says of one.
struct Measured {
    seconds: Vec<f64>,
    replay: Option<Replay>,
    /// One with every dispatch apart.
    apart: Option<Replay>,
}

/// One test on one model.
struct Run<'a> {
    flags: &'a Flags,
    model: &'a Model,
    test: Test,
    ids: &'a mut Ids,
    sampling: Sampling,
    stopped: Stopped<'a>,
}

impl Run<'_> {
    fn software(&self) -> bool {
        self.model.gpu().caps().kind == DeviceKind::Cpu
    }

    /// Repeats `once` until clocks are up, then as often as asked.
    fn repeat(&self, once: &mut dyn FnMut() -> Result<Duration>, done: &mut dyn FnMut()) -> Result<Vec<f64>> {
        if !self.flags.no_warmup {
            let start = Instant::now();
            // A software GPU has no clocks that rise; once compiles what there is to compile.
            let enough = if self.software() { Duration::ZERO } else { Duration::from_millis(600) };
            loop {
                once()?;
                if start.elapsed() >= enough {
                    break;
                }
            }
        }
        let mut seconds = Vec::new();
        for _ in 0..self.flags.repetitions {
            seconds.push(once()?.as_secs_f64());
            done();
        }
        Ok(seconds)
    }

    /// A cache that holds `depth` tokens.
    fn session(&mut self) -> Result<(Session, Vec<u32>)> {
        let mut session = self.model.session(self.test.context())?;
        let before = self.ids.take(self.test.depth);
        if !before.is_empty() {
            session.generate_with(&before, &self.sampling, 0, &mut |_, _| flow(self.stopped))?;
            self.model.gpu().sync()?;
        }
        Ok((session, before))
    }

    fn prefill(&mut self, done: &mut dyn FnMut()) -> Result<Measured> {
        let stopped = self.stopped;
        let (mut session, before) = self.session()?;
        // Each prompt begins with another token, so that nothing of it is in the cache.
        let mut rounds = 0;
        let (test, sampling, vocabulary) = (self.test, self.sampling, self.ids.vocabulary as u32);
        let base: Vec<u32> = before.iter().copied().chain(self.ids.take(test.prompt)).collect();
        let mut once = || {
            let mut prompt = base.clone();
            let first = &mut prompt[test.depth as usize];
            *first = (*first + rounds) % vocabulary;
            rounds += 1;
            let start = Instant::now();
            let mut answer = session.generate_with(&prompt, &sampling, 1, &mut |_, _| flow(stopped))?;
            answer.next_token()?;
            Ok(start.elapsed())
        };
        let seconds = self.repeat(&mut once, done)?;
        let (replay, apart) =
            self.replays(&mut |apart| Ok(Some(session.replay(test.prompt, test.depth, apart)?)))?;
        Ok(Measured { seconds, replay, apart })
    }

    fn decode(&mut self, done: &mut dyn FnMut()) -> Result<Measured> {
        let stopped = self.stopped;
        let (mut session, mut prompt) = self.session()?;
        // The first of the steps computes the last token of this; what is before it stays in the cache.
        prompt.extend(self.ids.take(1));
        let (test, sampling) = (self.test, self.sampling);
        let mut once = || {
            let start = Instant::now();
            let mut answer =
                session.generate_with(&prompt, &sampling, test.decode as usize, &mut |_, _| flow(stopped))?;
            for _ in 0..test.decode {
                check(stopped)?;
                answer.next_token()?;
            }
            Ok(start.elapsed())
        };
        let seconds = self.repeat(&mut once, done)?;
        let middle = test.depth + test.decode / 2;
        let (replay, apart) = self.replays(&mut |apart| Ok(Some(session.replay(1, middle, apart)?)))?;
        Ok(Measured { seconds, replay, apart })
    }

    fn slots(&mut self, done: &mut dyn FnMut()) -> Result<Measured> {
        let (test, stopped) = (self.test, self.stopped);
        let room = Room { slots: test.slots, context: Some(test.context()), ..Room::default() };
        let mut engine = Engine::new(self.model, &room)?;
        let before = self.ids.take(test.depth);
        let last = self.ids.take(test.slots);
        let sampling = self.sampling;
        let request = |slot: usize, id: u32, most: u32| {
            let prompt: Vec<u32> = before.iter().copied().chain([id]).collect();
            // Slots share nothing, since the keys of one prompt for all would be read from memory once.
            Request { salt: slot as u64, ..Request::new(prompt, sampling, most as usize) }
        };
        // What is before counts for nothing, and is in the cache from here on.
        for (slot, &id) in last.iter().enumerate() {
            engine.submit(request(slot, id, 1))?;
        }
        while engine.load() != (0, 0) {
            check(stopped)?;
            failed(&engine.step()?)?;
        }
        let mut ids: Vec<Id> = Vec::new();
        let mut once = || {
            ids.drain(..).for_each(|id| _ = engine.cancel(id));
            for (slot, &id) in last.iter().enumerate() {
                // Those that begin first are ahead of the others, and still on their way when the last has all of its
                // tokens.
                ids.push(engine.submit(request(slot, id, test.decode + 2 * test.slots + SPARE))?);
            }
            let mut begun: HashSet<Id> = HashSet::new();
            while begun.len() < last.len() {
                check(stopped)?;
                let events = engine.step()?;
                failed(&events)?;
                let tokens = events.iter().filter(|e| matches!(e, Event::Token { .. }));
                begun.extend(tokens.map(Event::id));
            }
            // A round in which all take part.
            tokens(&mut engine, 2 * test.slots, stopped)?;
            let start = Instant::now();
            tokens(&mut engine, test.decode * test.slots, stopped)?;
            Ok(start.elapsed())
        };
        let seconds = self.repeat(&mut once, done)?;
        let (replay, apart) = self.replays(&mut |apart| Ok(engine.replay(apart)?))?;
        Ok(Measured { seconds, replay, apart })
    }

    /// The median of some replays, with the longest submit of all, and one with its dispatches apart.
    fn replays(
        &self,
        once: &mut dyn FnMut(bool) -> Result<Option<Replay>>,
    ) -> Result<(Option<Replay>, Option<Replay>)> {
        let times = if self.software() {
            1
        } else if self.test.prompt > 0 {
            3
        } else {
            SPARE / 2
        };
        let mut all = Vec::new();
        for _ in 0..times {
            check(self.stopped)?;
            all.extend(once(false)?);
        }
        let longest = all.iter().map(|r| r.longest_submit).fold(0.0, f64::max);
        all.sort_by(|a, b| a.busy.unwrap_or(0.0).total_cmp(&b.busy.unwrap_or(0.0)));
        let middle = all.len() / 2;
        let replay = all.into_iter().nth(middle).map(|r| Replay { longest_submit: longest, ..r });
        let apart = if self.flags.profile { once(true)? } else { None };
        Ok((replay, apart))
    }

    fn measure(&mut self, done: &mut dyn FnMut()) -> Result<Measured> {
        match self.test {
            Test { prompt: 1.., .. } => self.prefill(done),
            Test { slots: 2.., .. } => self.slots(done),
            _ => self.decode(done),
        }
    }
}

fn source(f: &Flags) -> Result<Source> {
    match &f.synthetic {
        None => Ok(f.model.source()),
        Some(text) => {
            let made = Synthetic::parse(text, f.layers);
            Ok(made.map_err(|line| Error::usage(format!("--synthetic: {line}")))?.into())
        }
    }
}

/// The command's own defaults, for who gives no flags.
#[derive(clap::Parser)]
struct Plain {
    #[command(flatten)]
    flags: Flags,
}

/// What `weft bench` measures of a model, for a server: a prompt and an answer, three times each. Tells `told` of each.
///
/// # Errors
/// A fault of the device, or what `told` gives; `stopped` ends it.
pub(super) fn of(
    model: &Model,
    name: &str,
    told: &mut dyn FnMut(&str, u64, u64) -> Result<()>,
    stopped: &dyn Fn() -> bool,
) -> Result<Value> {
    let plain = <Plain as clap::Parser>::try_parse_from(["bench", "--repetitions", "3"]);
    let f = plain.map_err(|e| Error::usage(e.to_string()))?.flags;
    let tests = tests(&f);
    let total = (tests.len() * f.repetitions as usize) as u64;
    told("the device's own ceilings", 0, total)?;
    let (file, load, ceilings) = (name.to_owned(), Duration::ZERO, ceilings(model));
    let subject = Subject { file, synthetic: false, model, flags: &f, load, ceilings };
    let vocabulary = model.spec().vocabulary as usize;
    let mut ids = Ids { rng: weft_kernels::testing::Rng::new(1), vocabulary };
    let sampling = Sampling { ignore_eos: true, ..Sampling::greedy() };
    let mut rows = Vec::new();
    for test in tests {
        told(&test.name(), 0, total)?;
        let mut run = Run { flags: &f, model, test, ids: &mut ids, sampling, stopped };
        let mut failed = None;
        let measured = run.measure(&mut || {
            failed = failed.take().or(told(&test.name(), 1, total).err());
        })?;
        if let Some(e) = failed {
            return Err(e);
        }
        rows.push(Row::new(&subject, test, &measured).json(&subject));
    }
    Ok(Value::Array(rows))
}

pub(super) fn run(f: Flags) -> Result<()> {
    if f.arrivals.is_some() || f.server.is_asked() {
        for (flag, list) in [("-p", &f.n_prompt), ("-n", &f.n_gen), ("-b", &f.slots)] {
            if list.len() > 1 {
                return Err(Error::usage(format!("--arrivals and --url take one number as {flag}")));
            }
        }
        if f.output == Format::Csv {
            return Err(Error::usage(
                "--arrivals and --url have no table of tests; --output can be md or json",
            ));
        }
    }
    if f.server.is_asked() {
        return url::run(&f.server, f.requests, (f.n_prompt[0], f.n_gen[0]), f.output);
    }
    let source = source(&f)?;
    let tests = tests(&f);
    if f.arrivals.is_none() && tests.is_empty() {
        return Err(Error::usage("nothing to measure: give -p or -n a number of tokens above 0"));
    }
    // Ctrl-C ends the process at once, in the middle of a load or a measurement: there is nothing to save.
    interrupt::install(1);
    if f.profile {
        // A path that cannot be written is said before the work, not after it.
        options::check_output(&f.trace, &[f.model.model.as_deref()], "a trace", |head| {
            head.trim_ascii_start().starts_with(b"{\"traceEvents\"")
        })?;
        drop(weft_formats::AtomicFile::create(&f.trace)?);
    }
    let device = DeviceFlags { variants: f.variant.variant.clone(), ..f.device.clone() };
    let context = tests.iter().map(Test::context).max();
    let (model, load) = options::begin(source, &device, f.chunk, context, f.cache)?.finish()?;
    if f.profile && !model.gpu().caps().timestamps {
        return Err(Error::input("--profile: this device gives no time stamps"));
    }
    let file = f.synthetic.clone().unwrap_or_else(|| f.model.name());
    if let Some(rate) = f.arrivals {
        return arrivals::run(&f, &model, &file, rate);
    }
    let subject = Subject {
        file,
        synthetic: f.synthetic.is_some(),
        model: &model,
        flags: &f,
        load,
        ceilings: ceilings(&model),
    };
    let mut tables = vec![Rows::new(f.output, output::line, &subject)?];
    if let Some(format) = f.output_err {
        tables.push(Rows::new(format, table::to_stderr, &subject)?);
    }
    let mut profiles = Vec::new();
    let vocabulary = model.spec().vocabulary as usize;
    let mut ids = Ids { rng: weft_kernels::testing::Rng::new(1), vocabulary };
    let bar = output::bar(tests.len() as u64 * u64::from(f.repetitions), "{bar:30} {msg}, {elapsed}");
    for test in tests {
        bar.set_message(test.name());
        let sampling = Sampling { ignore_eos: true, ..Sampling::greedy() };
        let mut run =
            Run { flags: &f, model: &model, test, ids: &mut ids, sampling, stopped: &interrupt::asked };
        let measured = run.measure(&mut || bar.inc(1));
        match measured {
            Ok(m) => {
                let row = Row::new(&subject, test, &m);
                bar.suspend(|| tables.iter_mut().try_for_each(|t| t.push(&row)))?;
                profiles.extend(m.apart.map(|apart| (test.name(), apart, m.replay.and_then(|r| r.busy))));
            }
            Err(e) => {
                bar.finish_and_clear();
                return Err(e);
            }
        }
    }
    bar.finish_and_clear();
    tables.into_iter().try_for_each(Rows::finish)?;
    if f.profile {
        if f.output == Format::Md {
            let mut lines =
                profiles.iter().flat_map(|(name, apart, whole)| profile::lines(name, apart, *whole));
            lines.try_for_each(|line| output::line(&line))?;
        }
        profile::write_trace(&f.trace, &profiles)?;
        output::note(&format!("{}: a trace for chrome://tracing or ui.perfetto.dev", f.trace.display()));
    }
    Ok(())
}
