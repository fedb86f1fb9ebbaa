//! `weft finetune`: a LoRA adapter trained on a quantised model.

mod show;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use weft_formats::gguf::File;
use weft_formats::tokenizer::Tokenizer;
use weft_models::finetune::{
    self, Data, Finetune, Learn, Length, Overlong, Reading, Recipe, Saving, Schedule, Settings, State, Warmup,
};
use weft_models::train::{AdamW, Checkpointing, MAX_RANK, Target};
use weft_models::{AdapterFile, Options, Spec};

use crate::options::{self, DeviceFlags, ModelFlag, TemplateFlag, read_text};
use crate::{Error, Result, interrupt, output};

/// Train a LoRA adapter on a model of any weight type
///
/// DATA is plain text, or records: lines of JSON, one array of JSON, or a Parquet table. A record has "messages"
/// (roles system, user, assistant, tool), "conversations" as ShareGPT has them, "prompt" and "completion",
/// "instruction", "input" and "output" as Alpaca has them, or "text"; beside them it can have "system" and "tools".
/// A message with "weight": 0 or "train": false is not learnt. Any other key is an error. Conversations are rendered with the model's own chat template, and what the
/// assistant says is learnt. DIR gets the adapter as GGUF and as PEFT's safetensors, checkpoints, metrics.jsonl
/// and loss.svg. Ctrl-C (and SIGTERM) finishes the step and saves, with exit code 130; again, it ends at once. The same
/// command with --resume goes on, bit for bit.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft finetune -m model.gguf -d train.jsonl -o tuned
  weft finetune -m model.gguf -d train.jsonl -o tuned --resume
  weft finetune -m model.gguf -d train.jsonl -o tuned --val 0.05 --eval-every 50 --epochs 3 --lr 1e-4
  weft finetune -m model.gguf -d train.jsonl -o tuned --rank 8 --batch 1 --ctx 128 --limits adreno --stream-weights
  weft finetune -m model.gguf -d train.jsonl -o tuned --batch 8 --memory 6G
  weft finetune -m model.gguf -d train.jsonl -o tuned --show-batch
  weft run -m model.gguf --lora tuned/adapter.gguf \"Hello\"")]
pub(super) struct Flags {
    #[command(flatten)]
    model: ModelFlag,
    /// Training data: lines of JSON, a JSON array, Parquet, or plain text
    #[arg(short, long = "data", value_name = "DATA")]
    d: PathBuf,
    /// The folder for adapter, checkpoints, metrics and curve
    #[arg(short, long = "output", value_name = "DIR", required_unless_present = "show_batch")]
    o: Option<PathBuf>,
    /// Validation data: a file, or the share of DATA that is held out
    #[arg(long, value_name = "FILE|FRACTION", help_heading = "Data")]
    val: Option<String>,
    /// Which tokens are learnt
    #[arg(long, value_enum, default_value = "assistant", help_heading = "Data")]
    loss: Loss,
    /// Conversations longer than the context: lose their oldest exchanges, are left out, or are an error
    #[arg(long, value_enum, default_value = "truncate", help_heading = "Data")]
    overlong: Long,
    /// Keys of records and messages to leave out; any other that nothing reads is an error
    #[arg(long, value_name = "KEY,...", value_delimiter = ',', help_heading = "Data")]
    ignore_keys: Vec<String>,
    #[command(flatten)]
    template: TemplateFlag,
    /// Print the first batch, what is learnt in ⟦ ⟧, and end
    #[arg(long, help_heading = "Data")]
    show_batch: bool,
    /// Rank of the adapter [default: 16]
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..=MAX_RANK as i64), help_heading = "Adapter")]
    rank: Option<u32>,
    /// Its scale, times the rank [default: 32]
    #[arg(long, value_name = "A", value_parser = positive, help_heading = "Adapter")]
    alpha: Option<f32>,
    /// Which matrices: attn, mlp, all, or a list of q,k,v,o,gate,up,down [default: all]
    #[arg(long, value_name = "LIST", value_parser = targets, help_heading = "Adapter")]
    targets: Option<Targets>,
    /// Probability that a value of an adapter's input is dropped
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability, help_heading = "Adapter")]
    dropout: f32,
    /// Scale by the root of the rank instead of the rank (rsLoRA)
    #[arg(long, help_heading = "Adapter")]
    rslora: bool,
    /// Go on training this adapter, GGUF or PEFT's, on this data
    #[arg(long, value_name = "FILE", help_heading = "Adapter")]
    lora: Option<PathBuf>,
    /// Peak learning rate
    #[arg(long, value_name = "X", default_value_t = 2e-4, value_parser = positive, help_heading = "Training")]
    lr: f32,
    /// How the learning rate falls
    #[arg(long, value_enum, default_value = "cosine", help_heading = "Training")]
    schedule: Fall,
    /// Steps in which the learning rate rises: a count, or a part of all steps such as 0.1
    #[arg(long, value_name = "RATIO|STEPS", default_value = "0", value_parser = warmup, help_heading = "Training")]
    warmup: Warmup,
    /// Decoupled weight decay
    #[arg(long, value_name = "X", default_value_t = 0.01, value_parser = not_negative, help_heading = "Training")]
    weight_decay: f32,
    /// Largest norm of the gradient; 0 does not clip
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = not_negative, help_heading = "Training")]
    clip: f32,
    /// Times through the data [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "steps", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Training")]
    epochs: Option<u64>,
    /// Updates, in place of epochs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Training")]
    steps: Option<u64>,
    /// Sequences of a batch
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Training")]
    batch: u32,
    /// Batches of a step
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Training")]
    accumulate: u32,
    /// Most tokens of a sequence
    #[arg(short, long, alias = "ctx-size", value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(2..), help_heading = "Training")]
    ctx: u32,
    /// Fill each batch up to BATCH times CTX tokens with as many sequences as fit
    #[arg(long, help_heading = "Training")]
    pack: bool,
    /// The seed of the adapter's first values, the shuffling and the dropout
    #[arg(long, value_name = "S", default_value_t = 42, help_heading = "Training", value_parser = crate::sampling::whole_seed)]
    seed: u64,
    /// Keep all activations instead of computing them again: faster, much more memory
    #[arg(long, help_heading = "Training")]
    no_checkpointing: bool,
    /// Keep the activations of as many layers as fit when training takes so much GPU memory in all, with K, M or G for
    /// 1000, 1000² or 1000³, and compute those of the others again: the plan says how many
    #[arg(long, value_name = "BYTES", value_parser = super::split::bytes, conflicts_with = "no_checkpointing", help_heading = "Training")]
    memory: Option<u64>,
    /// Read the layers' weights from the file whenever they are needed instead of keeping them in GPU memory, which
    /// then holds one layer: slower, the same bits
    #[arg(long, help_heading = "Training")]
    stream_weights: bool,
    /// Steps between checkpoints; 0 for one at the end
    #[arg(long, value_name = "N", default_value_t = 100, help_heading = "Saving")]
    save_every: u64,
    /// How many checkpoints stay
    #[arg(long, value_name = "K", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Saving")]
    keep: u64,
    /// Steps between validations, besides the end of each epoch; 0 for those only
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Saving")]
    eval_every: u64,
    /// Go on from the last checkpoint in -o DIR, or from this one; all other options must be the same
    #[arg(long, value_name = "CHECKPOINT", help_heading = "Saving")]
    resume: Option<Option<PathBuf>>,
    #[command(flatten)]
    device: DeviceFlags,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Loss {
    /// What the assistant says
    Assistant,
    /// Everything
    All,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Long {
    Truncate,
    Drop,
    Error,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Fall {
    Constant,
    Cosine,
    Linear,
}

/// A set, for clap's parser.
#[derive(Debug, Clone)]
struct Targets(BTreeSet<Target>);

fn targets(text: &str) -> std::result::Result<Targets, String> {
    Recipe::parse_targets(text).map(Targets)
}

fn number(text: &str) -> std::result::Result<f32, String> {
    match text.parse::<f32>() {
        Ok(v) if v.is_finite() => Ok(v),
        _ => Err("not a number".to_owned()),
    }
}

fn positive(text: &str) -> std::result::Result<f32, String> {
    number(text).and_then(|v| if v > 0.0 { Ok(v) } else { Err("must be more than 0".to_owned()) })
}

fn not_negative(text: &str) -> std::result::Result<f32, String> {
    number(text).and_then(|v| if v >= 0.0 { Ok(v) } else { Err("must not be negative".to_owned()) })
}

fn probability(text: &str) -> std::result::Result<f32, String> {
    let inside =
        |v: f32| if (0.0..1.0).contains(&v) { Ok(v) } else { Err("must be from 0 to below 1".into()) };
    number(text).and_then(inside)
}

fn warmup(text: &str) -> std::result::Result<Warmup, String> {
    if let Ok(steps) = text.parse::<u64>() {
        return Ok(Warmup::Steps(steps));
    }
    match text.parse::<f64>() {
        Ok(r) if (0.0..=1.0).contains(&r) => Ok(Warmup::Ratio(r)),
        _ => Err("neither a number of steps nor a part from 0 to 1".to_owned()),
    }
}

pub(super) fn run(f: Flags) -> Result<()> {
    let start = Instant::now();
    let file = f.model.open_file()?;
    let spec = Spec::read(&file)?;
    if f.ctx > spec.context {
        return Err(Error::input(format!(
            "--ctx {} is longer than the context of {}, which is {}; lower it",
            f.ctx,
            f.model.name(),
            spec.context
        )));
    }
    let folder = f.o.clone().unwrap_or_default();
    let resume = f.resume.as_ref().map(|r| r.clone().unwrap_or_else(|| folder.clone()));
    if resume.is_none() && !f.show_batch {
        finetune::check_free(&folder)?;
    }
    // The data must give the same tokens again, though a template may print the date.
    let now = match &resume {
        Some(path) => finetune::checkpoint_time(path)?,
        None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64),
    };
    let (tokenizer, data, val) = data(&f, &file, now)?;
    if f.show_batch {
        return show::batch(&data.first_batch(&recipe(&f).settings(&file, &spec, now), &tokenizer));
    }
    let (settings, adapter) = settings(&f, &file, &spec, now)?;
    let saving = Saving {
        folder,
        every: f.save_every,
        keep: f.keep as usize,
        eval_every: f.eval_every,
        base_name: spec.name.clone().unwrap_or_else(|| f.model.name()),
    };
    drop(file);
    interrupt::install_with(2, || output::note("(finishing the step, then saving; once more ends at once)"));
    let options = Options {
        device: f.device.options()?,
        // No cache is needed to train.
        chunk: Some(1),
        context: Some(1),
        stream_weights: f.stream_weights,
        ..Options::default()
    };
    let begun = options::begin_with(f.model.source(), &options).map_err(|e| room(&f, e))?;
    let (model, _) = begun.finish()?;
    let mut run = Finetune::new(&model, adapter.as_ref(), settings, data, val, saving)?;
    if let Some(path) = &resume {
        let step = run.resume(path)?;
        output::note(&format!("going on after step {step} of {}", run.steps()));
    }
    output::note(&run.plan().to_string());
    let mut shown = show::Progress::new(run.steps(), run.done());
    let handle = run.handle();
    let ended = run.run(&mut |event| {
        if interrupt::asked() {
            handle.cancel();
        }
        shown.event(event);
    });
    shown.finish();
    let ended = ended?;
    show::result(&f, &run, &model, &shown, ended, start.elapsed().as_secs_f64())?;
    if ended == State::Completed { Ok(()) } else { Err(Error::Interrupted) }
}

/// The error of a model that does not fit, with the way out that training has.
fn room(f: &Flags, e: Error) -> Error {
    match e {
        Error::Model(weft_models::Error::TooLarge { .. }) if !f.stream_weights => {
            Error::input(format!("{e}; or --stream-weights, which keeps one layer's weights at a time"))
        }
        e => e,
    }
}

/// What the flags ask for.
fn recipe(f: &Flags) -> Recipe {
    let plain = Recipe::default();
    Recipe {
        learn: match f.loss {
            Loss::Assistant => Learn::Assistant,
            Loss::All => Learn::All,
        },
        overlong: match f.overlong {
            Long::Truncate => Overlong::Truncate,
            Long::Drop => Overlong::Drop,
            Long::Error => Overlong::Error,
        },
        ignore_keys: f.ignore_keys.clone(),
        targets: f.targets.as_ref().map(|t| t.0.clone()),
        rank: f.rank.unwrap_or(plain.rank),
        alpha: f.alpha.unwrap_or(plain.alpha),
        rslora: f.rslora,
        dropout: f.dropout,
        optimiser: AdamW { lr: f.lr, weight_decay: f.weight_decay, clip: f.clip, ..plain.optimiser },
        schedule: match f.schedule {
            Fall::Constant => Schedule::Constant,
            Fall::Cosine => Schedule::Cosine,
            Fall::Linear => Schedule::Linear,
        },
        warmup: f.warmup,
        length: f.steps.map_or(Length::Epochs(f.epochs.unwrap_or(1)), Length::Steps),
        batch: f.batch,
        accumulate: f.accumulate,
        context: f.ctx,
        pack: f.pack,
        seed: f.seed,
        checkpointing: f.memory.map_or((!f.no_checkpointing).into(), Checkpointing::Within),
    }
}

/// The tokenizer, and training and validation data.
fn data(f: &Flags, file: &File, now: i64) -> Result<(Tokenizer, Data, Option<Data>)> {
    let source = f.template.chat_template.as_deref().map(read_text).transpose()?;
    let (tokenizer, template) = finetune::tokenizer_and_template(file, source.as_deref()).map_err(|e| {
        match &f.template.chat_template {
            Some(path) => Error::input(e.to_string().replace("(memory)", &path.display().to_string())),
            None => e.into(),
        }
    })?;
    let recipe = recipe(f);
    let how = recipe.reading(&tokenizer, &template, now);
    let (data, val) = read(f, &how)?;
    output::note(&format!("data: {}", data.counts));
    if let Some(val) = &val {
        output::note(&format!("validation: {}", val.counts));
    }
    Ok((tokenizer, data, val))
}

/// Training and validation data.
fn read(f: &Flags, how: &Reading<'_>) -> Result<(Data, Option<Data>)> {
    let data = read_with_bar(&f.d, how)?;
    let Some(val) = &f.val else { return Ok((data, None)) };
    match val.parse::<f64>() {
        Ok(share) if share > 0.0 && share < 1.0 => {
            if data.examples.len() < 2 {
                return Err(Error::input(format!(
                    "{}: one example cannot be split into training and validation data",
                    f.d.display()
                )));
            }
            let (data, val) = data.split(share, f.seed);
            Ok((data, Some(val)))
        }
        Ok(share) => Err(Error::usage(format!("--val {share}: a share must be between 0 and 1"))),
        Err(_) => {
            let val = read_with_bar(Path::new(val), how)?;
            Ok((data, Some(val)))
        }
    }
}

fn read_with_bar(path: &Path, how: &Reading<'_>) -> Result<Data> {
    let bar = output::bar(0, "reading the data {bar:30} {bytes} of {total_bytes}, {elapsed}");
    let data = Data::read_with(path, how, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    Ok(data.map_err(weft_models::Error::from)?)
}

/// The settings, and the adapter to go on with.
fn settings(f: &Flags, file: &File, spec: &Spec, now: i64) -> Result<(Settings, Option<AdapterFile>)> {
    let mut settings = recipe(f).settings(file, spec, now);
    let mut adapter = None;
    if let Some(path) = &f.lora {
        let read = weft_models::open_adapter(path, spec)?;
        let wrong = |what: String| Error::input(format!("{}: {what}", path.display()));
        let own = finetune::from_file(&read).map_err(|e| wrong(e.to_string()))?;
        let first = read.pairs.first().map_or("", |p| &p.tensor);
        if let Some(rank) = f.rank.filter(|r| *r != own.rank) {
            let what =
                format!("tensor \"{first}.lora_a\" has the rank {}, and --rank asks for {rank}", own.rank);
            return Err(wrong(what));
        }
        if let Some(alpha) = f.alpha.filter(|a| *a != own.alpha) {
            return Err(wrong(format!("its alpha is {}, and --alpha asks for {alpha}", own.alpha)));
        }
        if f.targets.is_some() && own.shape() != settings.shape {
            let missing = settings.shape.sites.symmetric_difference(&own.shape().sites).next().copied();
            let (layer, target) = missing.unwrap_or((0, Target::Q));
            let (adapts, asks) = match own.shape().sites.contains(&(layer, target)) {
                true => ("adapts", "leaves it out"),
                false => ("does not adapt", "asks for it"),
            };
            return Err(wrong(format!("{adapts} {}, and --targets {asks}", target.tensor(layer))));
        }
        settings = Settings { shape: own.shape(), alpha: own.alpha, rslora: own.rslora, ..settings };
        adapter = Some(read);
    }
    Ok((settings, adapter))
}
