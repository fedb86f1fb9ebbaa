//! `weft run`: one prompt, one answer.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use weft_models::{Message, Model, Sampling, Session, Stop};

use crate::options::{CacheFlag, DeviceFlags, LoraFlag, ModelFlag, SamplingFlags, VariantFlag, context};
use crate::report::{self, Start, Timings};
use crate::{Error, Result, interrupt, output};

/// Answer one prompt
///
/// Text streams to stdout and nothing else does; progress and timings go to stderr. Ctrl-C stops the answer
/// (exit code 130).
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft run \"What is 17 + 25?\"
  weft run -m model.gguf -n 200 --temp 0.7 --seed 1 \"Tell a story\"
  weft run -m model.gguf --system \"Answer in French.\" < question.txt
  weft run -m model.gguf --lora adapter.gguf --lora style.gguf:0.5 \"Hello\"
  weft run -m model.gguf --raw -n 20 \"Once upon a time\"
  weft run -m model.gguf --json \"Hello\" | jq -r .text
  weft run -m model.gguf --limits adreno --without f16,subgroups --explain \"Hello\"
  weft run -m model.gguf --variant tiled,rows --explain \"Hello\"")]
pub(super) struct Flags {
    #[command(flatten)]
    model: ModelFlag,
    #[command(flatten)]
    lora: LoraFlag,
    /// Most tokens to generate; -1 goes on until the model ends or the context is full
    #[arg(short, value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    n: i64,
    /// Context in tokens; 0 is all that the model was trained for [default: that, at most 4096]
    #[arg(short, value_name = "CTX")]
    c: Option<u32>,
    #[command(flatten)]
    sampling: SamplingFlags,
    /// Take the prompt as it is, without the chat template
    #[arg(long, conflicts_with_all = ["system", "no_think"])]
    raw: bool,
    /// Text for the system's turn
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Ask a model that can think to answer at once (the template's enable_thinking = false)
    #[arg(long)]
    no_think: bool,
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
    /// The prompt; without it, or with "-", it is read from stdin
    prompt: Option<String>,
}

/// One answer, as it came.
pub(super) struct Answer {
    /// The ids, without the one that ended the text.
    pub(super) ids: Vec<u32>,
    pub(super) text: String,
    pub(super) timings: Timings,
    /// Why it ended; `None` after Ctrl-C.
    pub(super) stop: Option<Stop>,
    pub(super) prompt_tokens: usize,
    pub(super) reused: usize,
}

/// `-n`: negative is no bound.
pub(super) fn most(n: i64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// Draws an answer, giving each piece of text to `each` as it comes, until its end or Ctrl-C.
pub(super) fn answer(
    session: &mut Session,
    prompt: &[u32],
    sampling: &Sampling,
    most: usize,
    stream: &mut weft_formats::tokenizer::StreamDecoder,
    each: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<Answer> {
    let bar =
        output::bar(prompt.len() as u64, "reading the prompt {bar:30} {pos} of {len} tokens, {elapsed}");
    let start = Instant::now();
    let begun = session.generate_with(prompt, sampling, most, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
        interrupt::flow()
    });
    let (mut ids, mut text, mut first) = (Vec::new(), String::new(), None);
    let mut generation = match begun {
        Ok(g) => g,
        Err(e) => {
            bar.finish_and_clear();
            return Err(e.into());
        }
    };
    let mut piece = |part: &str| -> Result<()> {
        text.push_str(part);
        if part.is_empty() { Ok(()) } else { each(part) }
    };
    while !interrupt::asked() {
        let token = generation.next_token()?;
        if first.is_none() {
            bar.finish_and_clear();
            first = Some(Instant::now());
        }
        let Some(token) = token else { break };
        ids.push(token);
        piece(&stream.push(token))?;
    }
    bar.finish_and_clear();
    piece(&stream.finish())?;
    let end = Instant::now();
    let first = first.unwrap_or(end);
    Ok(Answer {
        ids,
        text,
        timings: Timings {
            load: Duration::ZERO,
            prefill: first - start,
            first: report::since_start(first),
            decode: end - first,
            prompt_tokens: generation.prompt_tokens() - generation.reused_tokens(),
            generated: generation.generated(),
        },
        stop: generation.stop(),
        prompt_tokens: generation.prompt_tokens(),
        reused: generation.reused_tokens(),
    })
}

fn stop_name(stop: Option<Stop>) -> &'static str {
    match stop {
        Some(Stop::EndOfText) => "end of text",
        Some(Stop::MaxTokens) => "max tokens",
        Some(Stop::Context) => "context full",
        None => "interrupted",
    }
}

/// The prompt from the command line or stdin.
fn prompt(given: Option<&str>) -> Result<String> {
    match given {
        Some(text) if text != "-" => Ok(text.to_owned()),
        _ => {
            if io::stdin().is_terminal() {
                output::note(
                    "type the prompt, then Ctrl-D (or give it on the command line; see weft run --help)",
                );
            }
            let text = output::stdin_text()?;
            // A line feed that an editor or `echo` put at the end is not part of the question.
            Ok(text
                .strip_suffix('\n')
                .map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t))
                .to_owned())
        }
    }
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

pub(super) fn run(f: Flags) -> Result<()> {
    let prompt = prompt(f.prompt.as_deref())?;
    if prompt.is_empty() {
        return Err(Error::input("the prompt is empty; give it as an argument or on stdin"));
    }
    interrupt::install(2);
    let sampling = f.sampling.sampling(&f.model);
    let device = DeviceFlags { variants: f.variant.variant.clone(), ..f.device.clone() };
    let mut started = f.model.begin(&device, f.chunk, f.c, f.cache)?;
    let loading = &started.loading;
    let tokenizer = loading.tokenizer()?;
    let mut stream = tokenizer.stream(false).continuing();
    let ids = match f.raw {
        true => tokenizer.encode_prompt(&prompt),
        false => {
            let system = f.system.as_deref().map(|s| Message::new("system", s));
            let messages: Vec<Message> =
                system.into_iter().chain([Message::new("user", prompt.as_str())]).collect();
            loading.chat(&messages, f.no_think.then_some(false))?
        }
    };
    let context = context(loading.spec(), f.c);
    started.loading.prepare(context, ids.len() as u32)?;
    let (model, load) = started.finish()?;
    let model = f.lora.apply(model)?;
    let mut session = model.session(context)?;
    if f.explain {
        explain_device(&model, &f.device);
    }
    let done = answer(&mut session, &ids, &sampling, most(f.n), &mut stream, &mut |part| match f.json {
        true => Ok(()),
        false => output::text(part),
    })?;
    let timings = Timings { load, ..done.timings };
    let opening = Start { opening: model.opening(), compiled: model.gpu().compiled(), first: timings.first };
    if f.json {
        output::json(&json!({
            "text": done.text,
            "ids": done.ids,
            "prompt_ids": ids,
            "stop": stop_name(done.stop),
            "seed": sampling.seed,
            "temperature": sampling.temperature,
            "context": context,
            "prompt_tokens": done.prompt_tokens,
            "timings": timings.json(),
            "start": opening.json(),
            "memory": report::memory_json(&model.gpu().memory()),
            "model": report::model_json(&f.model.name(), &model),
            "device": device_json(&model),
        }))?;
    } else {
        // Piped text stays as it is; where both streams go to one place, the line feed is stderr's.
        match done.text.ends_with('\n') {
            true => {}
            false if output::to_terminal() => output::line("")?,
            false => output::note(""),
        }
        output::note(&timings.line());
        output::note(&report::memory_line(&model.gpu().memory()));
        let seed =
            if sampling.temperature > 0.0 { format!(", seed {}", sampling.seed) } else { String::new() };
        output::note(&format!(
            "{} on {}; stopped by {}{seed}",
            f.model.name(),
            report::device_line(model.gpu().caps()),
            stop_name(done.stop)
        ));
    }
    if f.explain {
        output::note(&opening.line());
        for line in session.explain() {
            output::note(&line);
        }
    }
    if done.stop.is_none() { Err(Error::Interrupted) } else { Ok(()) }
}

fn device_json(model: &Model) -> Value {
    let mut value = report::caps_json(model.gpu().caps());
    value["budget"] = report::budget_json(model.gpu().budget());
    value
}
