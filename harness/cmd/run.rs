//! `weft run`: one prompt, one answer.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use weft_models::engine::{Finish, Request};
use weft_models::{Loading, Message, Model, Sampling};
use weft_runtime::MemoryReport;

use super::draw::{Answer, DraftFlags, Drawer, PromptCache, most};
use crate::options::{self, CacheFlag, DeviceFlags, LoraFlag, ModelFlag, TemplateFlag, VariantFlag, context};
use crate::report::{self, Start, Timings};
use crate::sampling::SamplingFlags;
use crate::{Error, Result, interrupt, output};

/// Answer one prompt
///
/// The prompt comes from the command line, from a file or from stdin; what a pipe brings stands below what the
/// command line says. Text streams to stdout and nothing else does; progress and timings go to stderr. Ctrl-C stops
/// the answer (exit code 130).
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft run \"What is 17 + 25?\"
  weft run -m model.gguf -n 200 --temp 0.7 --seed 1 \"Tell a story\"
  weft run model.gguf \"Tell a story\"
  weft run -m model.gguf \"Summarise this:\" < report.txt
  weft run -m model.gguf --system \"Answer in French.\" < question.txt
  weft run -m model.gguf --lora adapter.gguf --lora style.gguf:0.5 \"Hello\"
  weft run -m model.gguf --raw -n 20 \"Once upon a time\"
  weft run -m model.gguf --draft ngram \"Rename x to y in this file:\" < main.rs
  weft run -m large.gguf --draft-model small.gguf \"Tell a story\"
  weft run -m model.gguf --prompt-cache book.kv -f book.txt \"Who is the murderer?\"
  weft run -m model.gguf --json \"Hello\" | jq -r .text
  weft run -m model.gguf --limits adreno --without f16,subgroups --explain \"Hello\"
  weft run -m model.gguf --variant tiled,rows --explain \"Hello\"")]
pub(super) struct Flags {
    #[command(flatten)]
    model: ModelFlag,
    #[command(flatten)]
    lora: LoraFlag,
    /// Most tokens to generate; -1 goes on until the model ends or the context is full
    #[arg(short, long = "max-tokens", visible_alias = "n-predict", alias = "predict", value_name = "N",
          default_value_t = -1, value_parser = clap::value_parser!(i64).range(-1..))]
    n: i64,
    /// Context in tokens; 0 is all that the model was trained for [default: that, at most 4096]
    #[arg(short, long = "ctx", alias = "ctx-size", value_name = "N")]
    c: Option<u32>,
    /// End the answer in front of this text; may be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    #[command(flatten)]
    sampling: SamplingFlags,
    #[command(flatten)]
    template: TemplateFlag,
    /// Take the prompt as it is, without the chat template
    #[arg(long, conflicts_with_all = ["system", "no_think", "chat_template"])]
    raw: bool,
    /// Text for the system's turn
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Ask a model that can think to answer at once (the template's enable_thinking = false)
    #[arg(long)]
    no_think: bool,
    #[command(flatten)]
    draft: DraftFlags,
    /// Keep the keys and values of the prompt in this file; where it is there already, what prompts begin with is taken
    /// from it. It is never changed: remove it to keep another prompt
    #[arg(long, value_name = "FILE")]
    prompt_cache: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceFlags,
    #[command(flatten)]
    variant: VariantFlag,
    #[command(flatten)]
    cache: CacheFlag,
    /// Tokens of a prefill batch [default: by device]
    #[arg(long, value_name = "N", help_heading = "Device", value_parser = clap::value_parser!(u32).range(1..))]
    chunk: Option<u32>,
    /// Say on stderr what ran: device, limits, kernels
    #[arg(long)]
    explain: bool,
    /// Print one JSON object in place of the text
    #[arg(long)]
    json: bool,
    /// The prompt, as an option
    #[arg(short, long = "prompt", value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// A file with the prompt, or with what it is about
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The prompt; without it, or with "-", it is read from stdin. A GGUF file in front of it is the model
    #[arg(value_name = "[MODEL] PROMPT")]
    words: Vec<String>,
}

fn stop_name(done: &Answer) -> &'static str {
    match done.finish {
        Some(Finish::StopString(_)) => "--stop",
        Some(Finish::EndOfText | Finish::StopToken(_)) => "end of text",
        Some(Finish::MaxTokens) => "max tokens",
        Some(Finish::Context) => "context full",
        None => "interrupted",
    }
}

/// Whether a word is a model's file, as `ollama run MODEL` has it.
fn names_model(word: &str) -> bool {
    let path = Path::new(word);
    let named = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
    let magic = || {
        let mut head = [0; 4];
        let file = std::fs::metadata(path).is_ok_and(|m| m.is_file()).then(|| std::fs::File::open(path).ok());
        file.flatten().is_some_and(|mut f| io::Read::read_exact(&mut f, &mut head).is_ok())
            && &head == b"GGUF"
    };
    named && !word.contains(char::is_whitespace) || magic()
}

/// Takes a model's file from the front of the words, where no other is given.
fn take_model(f: &mut Flags) -> Result<()> {
    let first = f.words.first().is_some_and(|w| names_model(w));
    if first && f.model.model.is_none() {
        f.model.model = Some(f.words.remove(0).into());
    }
    let given = usize::from(f.prompt.is_some()) + f.words.len();
    match f.words.first() {
        Some(word) if given > 1 => Err(Error::usage(format!(
            "more than one prompt was given, the last {:?}; put quotes around it (weft run -m model.gguf {word:?})",
            f.words.last().unwrap_or(word)
        ))),
        _ => Ok(()),
    }
}

/// Whether stdin brings something without being asked: a pipe or a file does, what a service gives does not.
fn stdin_brings() -> bool {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        use std::os::unix::fs::FileTypeExt;
        let file = io::stdin().as_fd().try_clone_to_owned().map(std::fs::File::from);
        let kind = file.and_then(|f| f.metadata()).map(|m| m.file_type());
        kind.is_ok_and(|k| k.is_fifo() || k.is_file())
    }
    #[cfg(not(unix))]
    false
}

/// The prompt: what the command line says, then a file's text, then what stdin brings.
fn prompt(f: &Flags) -> Result<String> {
    // A line feed that an editor or `echo` put at the end is not part of the question.
    let trimmed = |text: String| {
        text.strip_suffix('\n').map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t)).to_owned()
    };
    let word = f.prompt.as_ref().or(f.words.first()).filter(|w| *w != "-");
    let mut parts: Vec<String> = word.cloned().into_iter().collect();
    if let Some(path) = &f.file {
        parts.push(trimmed(options::read_text(path)?));
    }
    let asked = parts.is_empty();
    if asked && io::stdin().is_terminal() {
        output::note("type the prompt, then Ctrl-D (or give it on the command line; see weft run --help)");
    }
    if asked || stdin_brings() {
        let text = trimmed(output::stdin_text()?);
        if asked || !text.trim().is_empty() {
            parts.push(text);
        }
    }
    Ok(parts.join("\n\n"))
}

/// What `--explain` says of the device.
fn explain_device(model: &Model, flags: &DeviceFlags) {
    let gpu = model.gpu();
    output::note(&format!("device: {}, driver {}", report::device_line(gpu.caps()), gpu.caps().driver));
    output::note(&format!("features: {}", report::features_line(gpu.caps())));
    let profile = flags.limits.map_or("the device's own", |p| p.name());
    output::note(&format!("limits ({profile}): {}", report::budget_line(gpu.budget())));
    report::selection_lines(gpu.caps()).iter().for_each(|line| output::note(line));
}

/// The prompt as token ids.
fn encode(f: &Flags, loading: &Loading, prompt: &str) -> Result<Vec<u32>> {
    let tokenizer = loading.tokenizer()?;
    if f.raw {
        return Ok(tokenizer.encode_prompt(prompt));
    }
    let system = f.system.as_deref().map(|s| Message::new("system", s));
    let messages: Vec<Message> = system.into_iter().chain([Message::new("user", prompt)]).collect();
    let thinking = f.no_think.then_some(false);
    match f.template.open(tokenizer)? {
        Some(template) => f.template.encode(&template, tokenizer, &messages, thinking),
        None => Ok(loading.chat(&messages, thinking)?),
    }
}

/// Refuses a prompt that leaves no room for an answer.
fn check_room(prompt: usize, context: u32, most: usize) -> Result<()> {
    match prompt >= context as usize && most > 0 {
        true => Err(Error::input(format!(
            "the prompt has {prompt} tokens, which leaves no room for an answer in the context of {context}; raise it \
             with -c or shorten the prompt"
        ))),
        false => Ok(()),
    }
}

pub(super) fn run(mut f: Flags) -> Result<()> {
    take_model(&mut f)?;
    f.sampling.check()?;
    if f.stop.iter().any(String::is_empty) {
        return Err(Error::usage("--stop: the text is empty"));
    }
    let prompt_cache = f.prompt_cache.as_deref().map(PromptCache::new).transpose()?;
    let prompt = prompt(&f)?;
    if prompt.is_empty() {
        return Err(Error::input("the prompt is empty; give it as an argument or on stdin"));
    }
    interrupt::install(2);
    let device = DeviceFlags { variants: f.variant.variant.clone(), ..f.device.clone() };
    let mut started = f.model.begin(&device, f.chunk, f.c, f.cache)?;
    let ids = encode(&f, &started.loading, &prompt)?;
    let trained = started.loading.spec().context;
    let context = context(started.loading.spec(), f.c);
    check_room(ids.len(), context, most(f.n))?;
    f.draft.prepare(&mut started.loading, context, ids.len())?;
    let (model, load) = started.finish()?;
    options::note_context(trained, context);
    let sampling = f.sampling.sampling(&f.model, model.metadata());
    let model = f.lora.apply(model)?;
    if f.explain {
        explain_device(&model, &f.device);
    }
    let mut show = |part: &str| match f.json {
        true => Ok(()),
        false => output::text(part),
    };
    let mut drawer = Drawer::new(&model, context, &f.draft, (&f.device, f.chunk, f.cache))?;
    prompt_cache.iter().try_for_each(|kept| kept.restore(&mut drawer.engine))?;
    let request = Request { stop: f.stop.clone(), ..Request::new(ids.clone(), sampling, most(f.n)) };
    let done = drawer.answer(request, &mut show)?;
    let kept = prompt_cache.map(|kept| kept.save(&mut drawer.engine, &ids, &done)).transpose()?;
    let lines: Vec<String> = kept.into_iter().chain(done.drafts()).collect();
    let (ran, memory) = (drawer.engine.explain(), model.gpu().memory());
    let timings = Timings { load, ..done.timings };
    let opening = Start { opening: model.opening(), compiled: model.gpu().compiled(), first: timings.first };
    match f.json {
        true => output::json(&json!({
            "text": done.text,
            "ids": done.ids,
            "prompt_ids": ids,
            "stop": stop_name(&done),
            "seed": sampling.seed,
            "temperature": sampling.temperature,
            "context": context,
            "prompt_tokens": done.prompt_tokens,
            "cached_tokens": done.reused,
            "drafts": done.guesses.map(|(made, right)| json!({ "made": made, "right": right })),
            "timings": timings.json(),
            "start": opening.json(),
            "memory": report::memory_json(&memory),
            "model": report::model_json(&f.model.name(), &model),
            "device": device_json(&model),
        }))?,
        false => notes(&f, &model, (&done, &memory, &lines), &timings, &sampling)?,
    }
    if f.explain {
        output::note(&opening.line());
        ran.iter().for_each(|line| output::note(line));
    }
    if done.finish.is_none() { Err(Error::Interrupted) } else { Ok(()) }
}

/// What stands below the answer, on stderr.
fn notes(
    f: &Flags,
    model: &Model,
    (done, memory, lines): (&Answer, &MemoryReport, &[String]),
    timings: &Timings,
    sampling: &Sampling,
) -> Result<()> {
    // Piped text stays as it is; where both streams go to one place, the line feed is stderr's.
    match done.text.ends_with('\n') {
        true => {}
        false if output::to_terminal() => output::line("")?,
        false => output::note(""),
    }
    output::note(&timings.line());
    lines.iter().for_each(|line| output::note(line));
    output::note(&report::memory_line(memory));
    let seed = if sampling.temperature > 0.0 { format!(", seed {}", sampling.seed) } else { String::new() };
    output::note(&format!(
        "{} on {}; stopped by {}{seed}",
        f.model.name(),
        report::device_line(model.gpu().caps()),
        stop_name(done)
    ));
    Ok(())
}

fn device_json(model: &Model) -> Value {
    let mut value = report::caps_json(model.gpu().caps());
    value["budget"] = report::budget_json(model.gpu().budget());
    value
}
