//! `weft inspect`: what is in a file, and what it would take to run it.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value as Json, json};
use weft_formats::gguf::{Array, File, Value};
use weft_models::engine::{self, MAX_SLOTS};
use weft_models::train::{AdapterShape, Checkpointing, MAX_RANK, Target, TrainOptions, TrainPlan};
use weft_models::{FileSampling, MemoryPlan, Options, Spec, plan};
use weft_runtime::{Budget, Caps, DeviceKind, human};

use crate::options::{CacheFlag, DeviceFlags, ModelFlag};
use crate::{Error, Result, output, report};

/// Show a file's metadata and tensors, and the memory it would take
///
/// Works on any GGUF file, also one that cannot be run: then it says why. Without a GPU the plan is made for
/// the limits that every WebGPU device has.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft inspect model.gguf
  weft inspect -m model.gguf -c 32768 --limits mali
  weft inspect model.gguf -c 8192 --slots 16
  weft inspect model.gguf --finetune 1x128 --rank 8 --limits adreno --stream-weights
  weft inspect model.gguf --json | jq .plan")]
pub(super) struct Flags {
    #[command(flatten)]
    model: ModelFlag,
    /// Context in tokens for the memory plan; 0 is all that the model was trained for [default: that, at
    /// most 4096]
    #[arg(short, long = "ctx", alias = "ctx-size", value_name = "CTX")]
    c: Option<u32>,
    /// Answers at a time, each of up to CTX tokens: what `weft serve` and `weft batch` would take [default: none]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SLOTS)))]
    slots: Option<u32>,
    /// Plan `weft finetune` in place of an answer: BATCH sequences of up to CTX tokens, such as 4x512
    #[arg(long, value_name = "BATCHxCTX", value_parser = batch, conflicts_with_all = ["c", "slots", "cache_type"])]
    finetune: Option<[u32; 2]>,
    /// Rank of the adapter on all matrices, as `weft finetune` has it
    #[arg(long, value_name = "R", default_value_t = 16, requires = "finetune", value_parser = clap::value_parser!(u32).range(1..=MAX_RANK as i64))]
    rank: u32,
    /// Keep all activations, as `weft finetune` has it
    #[arg(long, requires = "finetune")]
    no_checkpointing: bool,
    /// Keep the activations of as many layers as fit, as `weft finetune` has it
    #[arg(long, value_name = "BYTES", value_parser = super::split::bytes, requires = "finetune", conflicts_with = "no_checkpointing")]
    memory: Option<u64>,
    /// Keep one layer's weights at a time, as `weft finetune` has it
    #[arg(long, requires = "finetune")]
    stream_weights: bool,
    #[command(flatten)]
    device: DeviceFlags,
    #[command(flatten)]
    cache: CacheFlag,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// The file, as with -m
    #[arg(value_name = "FILE", conflicts_with = "model")]
    file: Option<PathBuf>,
}

/// `BATCHxCTX`.
fn batch(text: &str) -> std::result::Result<[u32; 2], String> {
    let numbers = text.split_once('x').and_then(|(n, ctx)| Some([n.parse().ok()?, ctx.parse().ok()?]));
    match numbers {
        Some([n, ctx]) if n >= 1 && ctx >= 2 => Ok([n, ctx]),
        _ => Err("not BATCHxCTX, such as 4x512, of at least one sequence of 2 tokens".into()),
    }
}

/// The memory plan and what it was made for.
struct Planned {
    context: u32,
    plan: MemoryPlan,
    /// With --finetune, what training takes in place of it.
    training: Option<TrainPlan>,
    /// With --slots, how many answers there are at a time, and what they take in place of a session.
    engine: Option<(u32, engine::Plan)>,
    device: Option<Caps>,
    budget: Budget,
}

pub(super) fn run(f: Flags) -> Result<()> {
    let model = ModelFlag { model: f.file.clone().or(f.model.model.clone()) };
    let file = model.open_file()?;
    let planned = planned(&f, &file);
    if f.json {
        return output::json(&as_json(&model.name(), &file, &planned));
    }
    let mut text = format!(
        "{}: GGUF {}, {}, {} tensors, {} metadata keys{}\n\nMetadata\n",
        model.name(),
        file.version(),
        human(file.size()),
        file.tensors().len(),
        file.metadata().iter().len(),
        if file.shards() > 1 { format!(", {} shards", file.shards()) } else { String::new() },
    );
    for (key, value) in file.metadata().iter() {
        text += &format!("  {} = {} ({})\n", printable(key), abbreviated(value), value.kind());
    }
    if !file.tensors().is_empty() {
        text += "\nTensors (shape with columns first, as in the file)\n";
    }
    let width = file.tensors().iter().map(|t| t.name.chars().count()).max().unwrap_or(0).min(48);
    for t in file.tensors() {
        let shape = t.shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" x ");
        text += &format!(
            "  {:<width$}  {:<8} {:>12}  {}\n",
            printable(&t.name),
            t.ty.name(),
            human(t.size),
            shape
        );
    }
    if !file.tensors().is_empty() {
        text += "\nTypes\n";
    }
    for (name, (count, bytes)) in types(&file) {
        text += &format!("  {name:<8} {count:>5} tensors {:>12}\n", human(bytes));
    }
    let sampling = FileSampling::read(file.metadata());
    if sampling != FileSampling::default() {
        text += "\nSampling, where neither a flag nor a request says another\n";
        text += &format!("  {}\n", sampling.words());
        sampling.warnings.iter().for_each(|line| text += &format!("  warning: {}\n", printable(line)));
    }
    text += "\nMemory plan\n";
    match &planned {
        Err(why) => text += &format!("  none: {}\n", crate::error::one_line(&why.to_string())),
        Ok(p) => text += &plan_text(p),
    }
    output::text(&text)
}

fn planned(f: &Flags, file: &File) -> Result<Planned> {
    let spec = Spec::read(file)?;
    let context = match f.c {
        Some(0) => spec.context,
        Some(n) => n,
        None => spec.context.min(4096),
    };
    // A profile alone needs no device.
    let (device, budget) = match (f.device.limits, &f.device.device) {
        (Some(profile), None) => (None, profile.budget()),
        (None, None) if pollster::block_on(weft_runtime::adapters()).is_empty() => (None, Budget::WEBGPU),
        _ => {
            let gpu = pollster::block_on(weft_kernels::open(&f.device.options()?))?;
            (Some(gpu.caps().clone()), gpu.budget().clone())
        }
    };
    let caps = device.clone().unwrap_or_else(|| Caps::core(DeviceKind::Other, &budget));
    let training = f.finetune.map(|[n, context]| {
        let tokens =
            n.checked_mul(context).ok_or_else(|| Error::usage("--finetune: too many tokens".to_owned()))?;
        let checkpointing = f.memory.map_or((!f.no_checkpointing).into(), Checkpointing::Within);
        let options = TrainOptions { tokens, context, checkpointing, ..TrainOptions::default() };
        let shape = AdapterShape::uniform(&spec, Target::of(&spec), f.rank);
        Ok::<_, Error>(TrainPlan::of_file((file, &spec), f.stream_weights, &shape, &options, &budget)?)
    });
    let training = training.transpose()?;
    let (plan, engine) = memory(file, &spec, (context, f.slots), f.cache, (&caps, &budget))?;
    Ok(Planned { context, plan, training, engine, device, budget })
}

/// Slots, and what they take in place of a session.
type Slots = Option<(u32, engine::Plan)>;

/// The memory of a model with a context, and with slots where there are to be some.
pub(super) fn memory(
    file: &File,
    spec: &Spec,
    (context, slots): (u32, Option<u32>),
    cache: CacheFlag,
    device: (&Caps, &Budget),
) -> Result<(MemoryPlan, Slots)> {
    let options = Options { cache: cache.cache_type, ..Options::default() };
    let plan = plan(file, spec, context, &options, device)?;
    let Some(slots) = slots else { return Ok((plan, None)) };
    let room = engine::Options { slots, context: Some(context), ..Default::default() };
    let e = engine::plan(file, spec, &options, &room, device)?;
    let engine::Plan { cache: kv_cache, activations, state, chunk, .. } = e;
    Ok((MemoryPlan { kv_cache, activations, state, chunk, ..plan }, Some((slots, e))))
}

fn plan_text(p: &Planned) -> String {
    let mut text = match &p.device {
        Some(caps) => format!("  on {}\n", report::device_line(caps)),
        None => String::new(),
    };
    text += &format!("  limits       {}\n", report::budget_line(&p.budget));
    if let Some(plan) = &p.training {
        plan.to_string().lines().for_each(|line| text += &format!("  {line}\n"));
        return text + &verdict(p, plan.total());
    }
    for (what, bytes) in [
        ("weights", p.plan.weights),
        ("KV cache", p.plan.kv_cache),
        ("activations", p.plan.activations),
        ("state", p.plan.state),
        ("in all", p.plan.total()),
    ] {
        let note = match what {
            "KV cache" => match &p.engine {
                None => format!("   for a context of {}", p.context),
                Some((slots, e)) => format!(
                    "   for {slots} slots of {} tokens, in blocks of {} ({})",
                    p.context,
                    e.block,
                    human(e.block_bytes)
                ),
            },
            "activations" => format!("   for prefill batches of {}", p.plan.chunk),
            _ => String::new(),
        };
        text += &format!("  {what:<12} {:>10}{note}\n", human(bytes));
    }
    text + &verdict(p, p.plan.total())
}

/// Whether so many bytes fit the device, as a line where it says how much it has.
fn verdict(p: &Planned, total: u64) -> String {
    let line = |memory: u64| {
        let verdict = if total <= memory { "fits" } else { "does not fit" };
        format!("  {verdict} the device's {}\n", human(memory))
    };
    p.device.as_ref().and_then(|d| d.memory).map_or_else(String::new, line)
}

/// Number and bytes of the tensors of each type, most bytes first.
fn types(file: &File) -> Vec<(&'static str, (usize, u64))> {
    let mut all: Vec<(&'static str, (usize, u64))> = Vec::new();
    for t in file.tensors() {
        match all.iter_mut().find(|(name, _)| *name == t.ty.name()) {
            Some((_, (count, bytes))) => {
                *count += 1;
                *bytes += t.size;
            }
            None => all.push((t.ty.name(), (1, t.size))),
        }
    }
    all.sort_by_key(|(_, (_, bytes))| std::cmp::Reverse(*bytes));
    all
}

/// Text from a file, without what would steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// How much of a long string or array is shown.
const SHOWN: usize = 6;
const SHOWN_CHARS: usize = 100;

fn quoted(text: &str) -> String {
    let count = text.chars().count();
    if count <= SHOWN_CHARS {
        return format!("{text:?}");
    }
    let head: String = text.chars().take(SHOWN_CHARS).collect();
    format!("{head:?}... ({count} characters)")
}

fn abbreviated(value: &Value) -> String {
    match value {
        Value::U8(v) => v.to_string(),
        Value::I8(v) => v.to_string(),
        Value::U16(v) => v.to_string(),
        Value::I16(v) => v.to_string(),
        Value::U32(v) => v.to_string(),
        Value::I32(v) => v.to_string(),
        Value::F32(v) => v.to_string(),
        Value::Bool(v) => v.to_string(),
        Value::Str(v) => quoted(v),
        Value::Array(a) => {
            let (shown, len) = items(a);
            let more = if len > SHOWN { format!(", ... {len} in all") } else { String::new() };
            format!("[{}{more}]", shown.join(", "))
        }
        Value::U64(v) => v.to_string(),
        Value::I64(v) => v.to_string(),
        Value::F64(v) => v.to_string(),
    }
}

/// The first items of an array as text, and how many there are.
fn items(a: &Array) -> (Vec<String>, usize) {
    fn some<T>(v: &[T], show: impl Fn(&T) -> String) -> (Vec<String>, usize) {
        (v.iter().take(SHOWN).map(show).collect(), v.len())
    }
    match a {
        Array::U8(v) => some(v, u8::to_string),
        Array::I8(v) => some(v, i8::to_string),
        Array::U16(v) => some(v, u16::to_string),
        Array::I16(v) => some(v, i16::to_string),
        Array::U32(v) => some(v, u32::to_string),
        Array::I32(v) => some(v, i32::to_string),
        Array::F32(v) => some(v, f32::to_string),
        Array::Bool(v) => some(v, bool::to_string),
        Array::Str(v) => some(v, |s| quoted(s)),
        Array::Nested(v) => some(v, |a| format!("[{} of {}]", items(a).1, a.kind())),
        Array::U64(v) => some(v, u64::to_string),
        Array::I64(v) => some(v, i64::to_string),
        Array::F64(v) => some(v, f64::to_string),
    }
}

fn value_json(value: &Value) -> Json {
    match value {
        Value::U8(v) => (*v).into(),
        Value::I8(v) => (*v).into(),
        Value::U16(v) => (*v).into(),
        Value::I16(v) => (*v).into(),
        Value::U32(v) => (*v).into(),
        Value::I32(v) => (*v).into(),
        Value::F32(v) => (*v).into(),
        Value::Bool(v) => (*v).into(),
        Value::Str(v) => v.as_str().into(),
        Value::Array(a) => {
            let (first, len) = items(a);
            json!({ "array": a.kind(), "length": len, "first": first })
        }
        Value::U64(v) => (*v).into(),
        Value::I64(v) => (*v).into(),
        Value::F64(v) => (*v).into(),
    }
}

fn as_json(name: &str, file: &File, planned: &Result<Planned>) -> Json {
    let metadata: Map<String, Json> =
        file.metadata().iter().map(|(k, v)| (k.to_owned(), value_json(v))).collect();
    let tensors: Vec<Json> = file
        .tensors()
        .iter()
        .map(|t| {
            json!({
                "name": t.name,
                "type": t.ty.name(),
                "shape": t.shape,
                "shard": t.shard,
                "offset": t.offset,
                "bytes": t.size,
            })
        })
        .collect();
    let (plan, error) = match planned {
        Err(e) => (Json::Null, Json::from(crate::error::one_line(&e.to_string()))),
        Ok(p) => {
            let total = p.training.map_or(p.plan.total(), |t| t.total());
            let plan = json!({
                "context": p.context,
                "chunk": p.plan.chunk,
                "weights": p.plan.weights,
                "kv_cache": p.plan.kv_cache,
                "activations": p.plan.activations,
                "state": p.plan.state,
                "total": p.plan.total(),
                "training": p.training.as_ref().map(report::train_plan_json),
                "slots": p.engine.map(|(slots, e)| json!({
                    "count": slots,
                    "positions": e.positions,
                    "block": e.block,
                    "block_bytes": e.block_bytes,
                })),
                "device": p.device.as_ref().map(report::caps_json),
                "budget": report::budget_json(&p.budget),
                "fits": p.device.as_ref().and_then(|d| d.memory).map(|m| total <= m),
            });
            (plan, Json::Null)
        }
    };
    json!({
        "file": name,
        "version": file.version(),
        "alignment": file.alignment(),
        "bytes": file.size(),
        "shards": file.shards(),
        "metadata": metadata,
        "tensors": tensors,
        "plan": plan,
        "cannot_run": error,
    })
}
