//! `weft merge`: adapters added into the weights of a model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde_json::{Value as Json, json};
use weft_formats::adapter::{Adapter, Base};
use weft_formats::gguf::{File, TensorInfo, Value, Writer};
use weft_formats::merge::{Change, Measured, Rounding, place};
use weft_formats::quant::{self, ENCODES, Grid, Type, convert_rows};
use weft_formats::recipe::{self, Model, RECIPES, Recipe, Wishes};
use weft_models::{Spec, adapter_base};
use weft_runtime::human;

use super::quantize::{Told, without_split};
use crate::options::{LoraFlag, ModelFlag, check_gguf, path_and_scale};
use crate::{Error, Result, interrupt, output};

/// Add LoRA adapters into a model's weights, for tools that take whole models
///
/// What an adapter changes is often less than half a step of a small type, and would round back to what was
/// there before, so the share of the change that is left is measured, on up to 64 rows of each tensor. A tensor
/// whose own type keeps less than 90 % becomes Q8_0, F16 or F32, the first that keeps as much. With
/// --same-types nothing grows: where less than 90 % is left, changed tensors keep their scales, and what a value lacks
/// of a whole step is carried along its row. That keeps the adapter, and adds some noise. `weft run --lora` needs no
/// merge and loses nothing. Needs no GPU.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft merge -m model.gguf --lora adapter.gguf -o merged.gguf
  weft merge -m model.gguf --lora style.gguf:0.5 --lora facts.gguf -o merged.gguf
  weft merge -m model-f16.gguf --lora adapter.gguf -o merged.gguf --type Q4_K_M
  weft merge -m model-q4_k_m.gguf --lora adapter.gguf -o merged.gguf --same-types")]
pub(super) struct Flags {
    #[command(flatten)]
    model: ModelFlag,
    #[command(flatten)]
    lora: LoraFlag,
    /// The file to write
    #[arg(short, long = "output", value_name = "OUT.gguf")]
    o: PathBuf,
    /// Write the whole model as this mixture, such as Q4_K_M [default: each tensor in its own type, or in the
    /// smallest that keeps the adapter]
    #[arg(long = "type", value_name = "T")]
    to: Option<String>,
    /// Leave every tensor in its own type
    #[arg(long, conflicts_with = "to")]
    same_types: bool,
    /// With --type and --same-types: refuse where less of a tensor's change is left, from 0 to 1 [default: 0.8]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    min_share: Option<f32>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn share(text: &str) -> std::result::Result<f32, String> {
    let value = text.parse().ok().filter(|v| (0.0..=1.0).contains(v));
    value.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

/// Values held as f32 at a time.
const STEP: u64 = 1 << 22;

/// What a type has to keep of a change to be taken without being asked for.
const KEEPS: f32 = 0.9;

/// How a tensor is written.
#[derive(Clone, Copy)]
struct Target {
    ty: Type,
    rounding: Rounding,
    /// What is left of the change; 1 without one.
    share: f32,
    /// What its own type would have kept, where another was taken.
    own: Option<f32>,
}

/// What was written.
struct Written {
    recipe: Option<Recipe>,
    size: u64,
    targets: Vec<Target>,
    /// Which tensors have a change.
    changed: Vec<bool>,
}

impl Flags {
    /// The flags for what a server is asked for.
    pub(super) fn of(model: ModelFlag, adapter: String, output: PathBuf) -> Flags {
        let lora = LoraFlag { lora: vec![adapter] };
        Flags { model, lora, o: output, to: None, same_types: false, min_share: None, json: false }
    }

    /// Does it; tells `told` of each part, and first how many values there are in all. Gives the size of the file.
    ///
    /// # Errors
    /// What is wrong, or what `told` gives.
    pub(super) fn work(&self, told: &mut dyn FnMut(&str, u64, u64) -> Result<()>) -> Result<u64> {
        let file = self.model.open_file()?;
        let total = values(&file);
        Ok(write(self, &file, &mut |name, n| told(name, n, total))?.size)
    }
}

fn values(file: &File) -> u64 {
    file.tensors().iter().map(TensorInfo::elements).sum()
}

fn write(f: &Flags, file: &File, told: Told<'_>) -> Result<Written> {
    let recipe = f.to.as_deref().map(|name| {
        let known = || RECIPES.iter().map(|r| r.name).collect::<Vec<_>>().join(", ");
        Recipe::parse(name).ok_or_else(|| Error::usage(format!("unknown type {name:?}; known: {}", known())))
    });
    let recipe = recipe.transpose()?;
    let mut sources = file.paths();
    for text in &f.lora.lora {
        sources.push(PathBuf::from(path_and_scale(text)?.0));
    }
    check_gguf(&f.o, &sources, "model")?;
    // A path that cannot be written is said before the work, not after it.
    drop(weft_formats::AtomicFile::create(&f.o)?);
    let base = adapter_base(&Spec::read(file)?);
    let adapters = open_adapters(f, file, &base)?;
    let mut changes: Vec<Change<'_>> = vec![Change::default(); file.tensors().len()];
    for (adapter, strength) in &adapters {
        for pair in &adapter.pairs {
            // Checked when the adapter was opened.
            if let Some((at, first, ..)) = place(file, &base, &pair.tensor) {
                changes[at].parts.push((pair, strength * adapter.scale(pair), first));
            }
        }
    }
    let targets = targets(f, file, recipe, &changes, told)?;
    let mut metadata = without_split(file.metadata());
    if let Some(file_type) = recipe.map(|r| r.file_type).or_else(|| file_type(file, &targets)) {
        metadata.set("general.file_type", Value::U32(file_type));
    }
    let table = file.tensors().iter().zip(&targets).map(|(t, to)| (t.name.clone(), t.shape.clone(), to.ty));
    let writer = Writer::new(&metadata, table)?;
    let size = writer.size();
    let mut sources = file.tensors().iter().zip(changes.iter().zip(&targets));
    writer.write_to(&f.o, |_, out| -> Result<()> {
        let Some((from, (change, to))) = sources.next() else { return Ok(()) };
        merged((file, &f.model.name()), from, to, change, out, told)
    })?;
    let changed = changes.iter().map(|c| !c.is_empty()).collect();
    Ok(Written { recipe, size, targets, changed })
}

pub(super) fn run(f: Flags) -> Result<()> {
    let start = Instant::now();
    if f.lora.lora.is_empty() {
        return Err(Error::usage("no adapter to merge; give one with --lora FILE"));
    }
    if f.min_share.is_some() && f.to.is_none() && !f.same_types {
        return Err(Error::usage(
            "--min-share is for --type and --same-types; without them every tensor gets a type that keeps the adapter",
        ));
    }
    let file = f.model.open_file()?;
    interrupt::install(8);
    let bar = output::bar(values(&file), "merge {bar:30} {percent}% {msg}, {elapsed} of {duration}");
    let written = write(&f, &file, &mut |name, n| {
        bar.set_message(name.to_owned());
        bar.inc(n);
        if interrupt::asked() { Err(Error::Interrupted) } else { Ok(()) }
    });
    bar.finish_and_clear();
    let w = written?;
    let changed = w.changed.iter().filter(|c| **c).count();
    let seconds = start.elapsed().as_secs_f64();
    match f.json {
        true => output::json(&json!({
            "model": f.model.name(),
            "adapters": f.lora.lora,
            "output": f.o.display().to_string(),
            "type": w.recipe.map(|r| r.name),
            "tensors": file.tensors().len(),
            "changed": changed,
            "bytes": w.size,
            "seconds": seconds,
            "written": written_json(&file, &w),
        })),
        false => output::text(&format!(
            "{}: {}, {changed} of {} tensors changed, in {seconds:.1} s\n{}",
            f.o.display(),
            human(w.size),
            file.tensors().len(),
            written_text(&file, &w)
        )),
    }
}

/// What `general.file_type` says of a file most of whose weights got another type.
fn file_type(file: &File, targets: &[Target]) -> Option<u32> {
    let all = || file.tensors().iter().zip(targets);
    let weights = |ty: Type| all().filter(|(_, to)| to.ty == ty).map(|(t, _)| t.elements()).sum::<u64>();
    all().any(|(t, to)| t.ty != to.ty).then_some(())?;
    // llama.cpp's numbers.
    let kinds = [(Type::F32, 0), (Type::F16, 1), (Type::Q8_0, 7)];
    let rest: u64 = all().map(|(t, _)| t.elements()).sum();
    kinds.into_iter().find(|(ty, _)| 2 * weights(*ty) > rest).map(|(_, number)| number)
}

/// The adapters with their strengths, checked against the tensors of the file.
fn open_adapters(f: &Flags, file: &File, base: &Base) -> Result<Vec<(Adapter, f32)>> {
    let one = |text: &String| {
        let (path, strength) = path_and_scale(text)?;
        let wrong = |e: weft_formats::adapter::Error| Error::input(e.to_string());
        let adapter = Adapter::open(Path::new(path), base).map_err(wrong)?;
        let head = "output.weight";
        if adapter.pairs.iter().any(|p| p.tensor == head) && place(file, base, head).is_none() {
            let why =
                "adapts output.weight, and this model's head is its embedding, which adapters leave alone";
            return Err(Error::input(format!("{path}: {why}")));
        }
        let shape = |name: &str| place(file, base, name).map(|(_, _, rows, cols)| (rows, cols));
        adapter.check(path, &shape).map_err(wrong)?;
        Ok((adapter, strength))
    };
    f.lora.lora.iter().map(one).collect()
}

/// The type that each tensor is asked to have.
fn asked(file: &File, recipe: Option<Recipe>) -> Vec<Type> {
    let own = file.tensors().iter();
    let Some(recipe) = recipe else { return own.map(|t| t.ty).collect() };
    let all: Vec<_> = own.map(|t| recipe::Tensor { name: &t.name, shape: &t.shape, ty: t.ty }).collect();
    let choices = recipe::choose(recipe, &Model::read(file.metadata()), &Wishes::default(), &all);
    choices.iter().map(|c| c.ty).collect()
}

/// How each tensor is written; refuses what would lose an adapter.
fn targets(
    f: &Flags,
    file: &File,
    recipe: Option<Recipe>,
    changes: &[Change<'_>],
    told: Told<'_>,
) -> Result<Vec<Target>> {
    let fixed = recipe.is_some() || f.same_types;
    let least = f.min_share.unwrap_or(0.8);
    let mut worst: Option<(&TensorInfo, Target)> = None;
    let mut lost = 0;
    let mut all = Vec::new();
    for ((t, ty), change) in file.tensors().iter().zip(asked(file, recipe)).zip(changes) {
        told(&t.name, 0)?;
        let line = |e: String| Error::input(format!("{}: tensor {:?}: {e}", f.model.name(), t.name));
        let kept = ty == t.ty && (change.is_empty() || Grid::has(ty) || !fixed);
        if !kept && !writable(ty) {
            let way_out = if f.same_types {
                "leave --same-types away"
            } else {
                "choose another with --type, such as F16 for weft quantize --imatrix"
            };
            return Err(line(format!(
                "is {ty}, which a merge cannot write, for want of importance or of an encoder; {way_out}"
            )));
        }
        let target = match (change.is_empty(), fixed) {
            (true, _) => Target { ty, rounding: Rounding::Nearest, share: 1.0, own: None },
            (_, true) => match in_type(file, t, change, ty) {
                Ok(target) if is_kept(target.share) => target,
                Ok(_) => {
                    let m = measured(file, t, change, ty, Rounding::Kept).map_err(|e| line(e.to_string()))?;
                    Target { ty, rounding: Rounding::Kept, share: m.share, own: None }
                }
                Err(e) => return Err(line(e.to_string())),
            },
            _ => smallest(file, t, change).map_err(|e| line(e.to_string()))?,
        };
        if target.share.max(0.0) < least {
            lost += 1;
            if worst.is_none_or(|(_, w)| target.share < w.share) {
                worst = Some((t, target));
            }
        }
        all.push(target);
    }
    match worst.filter(|_| fixed) {
        None => Ok(all),
        Some((t, target)) => Err(Error::input(format!(
            "{}: {lost} tensors keep less of the adapter than --min-share {}: {:?} as {} keeps {}; merge without {}, \
             which takes larger types where they are needed, or lower --min-share",
            f.model.name(),
            least,
            t.name,
            target.ty,
            percent(target.share),
            if f.same_types { "--same-types" } else { "--type" },
        ))),
    }
}

/// Whether a type can be written where nothing is known of importance.
fn writable(ty: Type) -> bool {
    ENCODES.contains(&ty) && !recipe::needs_importance("", ty)
}

fn measured(
    file: &File,
    t: &TensorInfo,
    change: &Change<'_>,
    to: Type,
    rounding: Rounding,
) -> std::result::Result<Measured, quant::Error> {
    let measured = change.measure(t.ty, file.bytes(t), t.shape[0] as usize, to, rounding);
    file.release(t);
    measured
}

/// A tensor as `ty`, rounded so that it errs least: in its own type on its own grid, or with scales made anew.
fn in_type(
    file: &File,
    t: &TensorInfo,
    change: &Change<'_>,
    ty: Type,
) -> std::result::Result<Target, quant::Error> {
    let as_rounded = |rounding| {
        let m = measured(file, t, change, ty, rounding)?;
        Ok((m, Target { ty, rounding, share: m.share, own: None }))
    };
    let nearest = as_rounded(Rounding::Nearest)?;
    if ty != t.ty || !Grid::has(ty) || !writable(ty) {
        return Ok(nearest.1);
    }
    let fresh = as_rounded(Rounding::Fresh)?;
    let better = match (is_kept(nearest.0.share), is_kept(fresh.0.share)) {
        (true, true) => fresh.0.error < nearest.0.error,
        (_, kept) => kept,
    };
    Ok(if better { fresh.1 } else { nearest.1 })
}

/// The smallest type that keeps a change, no smaller than the tensor's own.
fn smallest(file: &File, t: &TensorInfo, change: &Change<'_>) -> std::result::Result<Target, quant::Error> {
    let bits = |ty: Type| ty.block_bytes() * 8 * 256 / ty.block_len();
    let mut own = None;
    for ty in [t.ty, Type::Q8_0, Type::F16, Type::F32] {
        let fits = t.shape[0].is_multiple_of(ty.block_len() as u64);
        if !fits || (ty != t.ty && bits(ty) <= bits(t.ty)) || !(writable(ty) || Grid::has(ty)) {
            continue;
        }
        let target = match in_type(file, t, change, ty) {
            Ok(target) => target,
            Err(quant::Error::Range { .. }) => continue,
            Err(e) => return Err(e),
        };
        if is_kept(target.share) {
            return Ok(Target { own: own.filter(|_| ty != t.ty), ..target });
        }
        own = own.or(Some(target.share));
    }
    Ok(Target { ty: Type::F32, rounding: Rounding::Nearest, share: 1.0, own })
}

/// Whether so much of a change is enough; more than all of it is no better than less.
fn is_kept(share: f32) -> bool {
    (share - 1.0).abs() <= 1.0 - KEEPS
}

fn percent(share: f32) -> String {
    format!("{:.0} %", f64::from(share.max(0.0)) * 100.0)
}

/// What became of the changed tensors, a line for each pair of types.
fn written_text(file: &File, w: &Written) -> String {
    let mut kinds: BTreeMap<(&str, &str), (usize, f32, f32)> = BTreeMap::new();
    for ((t, to), _) in file.tensors().iter().zip(&w.targets).zip(&w.changed).filter(|(_, c)| **c) {
        let kind = kinds.entry((t.ty.name(), to.ty.name())).or_insert((0, f32::INFINITY, f32::INFINITY));
        kind.0 += 1;
        kind.1 = kind.1.min(to.share);
        kind.2 = kind.2.min(to.own.unwrap_or(f32::INFINITY));
    }
    let mut text = String::new();
    for ((from, to), (n, worst, own)) in kinds {
        text += &format!("  {n} tensors of {from} as {to} keep at least {} of the change", percent(worst));
        if own.is_finite() {
            text += &format!("; {from} would keep {}", percent(own));
        }
        text.push('\n');
    }
    text
}

fn written_json(file: &File, w: &Written) -> Json {
    let changed = file.tensors().iter().zip(&w.targets).zip(&w.changed).filter(|(_, c)| **c);
    let one = |((t, to), _): ((&TensorInfo, &Target), _)| {
        json!({"tensor": t.name, "from": t.ty.name(), "type": to.ty.name(), "share": to.share,
            "share_in_own_type": to.own})
    };
    changed.map(one).collect()
}

/// One tensor with its changes, as `ty`.
fn merged(
    (file, name): (&File, &str),
    t: &TensorInfo,
    to: &Target,
    change: &Change<'_>,
    out: &mut Vec<u8>,
    told: Told<'_>,
) -> Result<()> {
    let ty = to.ty;
    if t.shape.is_empty() || (ty == t.ty && change.is_empty()) {
        out.extend(file.bytes(t));
        file.release(t);
        return told(&t.name, t.elements());
    }
    let cols = t.shape[0] as usize;
    let row = t.ty.row_bytes(t.shape[0]).unwrap_or(t.size) as usize;
    let step = (STEP / t.shape[0]).max(1) as usize;
    told(&t.name, 0)?;
    for (i, part) in file.bytes(t).chunks(step * row).enumerate() {
        let written = match change.is_empty() {
            true => convert_rows(t.ty, part, ty, cols, None, out),
            false => change.write(i * step, t.ty, part, cols, (ty, to.rounding), out),
        };
        let count = |e| match e {
            quant::Error::Range { ty, index, value } => {
                quant::Error::Range { ty, index: i * step * cols + index, value }
            }
            other => other,
        };
        let (at, way_out) = match (&written, change.is_empty()) {
            (Err(quant::Error::Range { .. }), false) => {
                (" with the adapters added", "; give them less strength (--lora FILE:SCALE)")
            }
            _ => ("", ""),
        };
        let line = |e| format!("{name}: tensor {:?}{at}: {}{way_out}", t.name, count(e));
        written.map_err(|e| Error::input(line(e)))?;
        let done = i * step * row;
        file.release_part(t, done..done + part.len());
        told(&t.name, (part.len() / row * cols) as u64)?;
    }
    Ok(())
}
