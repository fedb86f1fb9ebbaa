//! `weft merge`: adapters added into the weights of a model.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use weft_formats::adapter::Pair;
use weft_formats::gguf::{File, TensorInfo, Value, Writer};
use weft_formats::quant::{self, ENCODES, Type, convert_rows};
use weft_formats::recipe::{self, Model, RECIPES, Recipe, Wishes};
use weft_models::{Spec, train::Target};
use weft_runtime::human;

use super::quantize::{differs, without_split};
use crate::options::{LoraFlag, ModelFlag};
use crate::{Error, Result, interrupt, output};

/// Add LoRA adapters into a model's weights, for tools that take whole models
///
/// Tensors that an adapter changes are dequantised, added to, and quantised again; the others are copied.
/// Needs no GPU. `weft run --lora` needs no merge, and loses nothing by quantising again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft merge -m model.gguf --lora adapter.gguf -o merged.gguf
  weft merge -m model.gguf --lora style.gguf:0.5 --lora facts.gguf -o merged.gguf
  weft merge -m model-f16.gguf --lora adapter.gguf -o merged.gguf --type Q4_K_M")]
pub(super) struct Flags {
    #[command(flatten)]
    model: ModelFlag,
    #[command(flatten)]
    lora: LoraFlag,
    /// The file to write
    #[arg(short, value_name = "OUT.gguf")]
    o: PathBuf,
    /// Write the whole model as this mixture, such as Q4_K_M [default: each tensor as it is]
    #[arg(long = "type", value_name = "T")]
    to: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Values held as f32 at a time.
const STEP: u64 = 1 << 22;

/// A pair, the scale of its product, and the first of the tensor's rows that it is added to.
type Part<'a> = (&'a Pair, f32, usize);

pub(super) fn run(f: Flags) -> Result<()> {
    let start = Instant::now();
    if f.lora.lora.is_empty() {
        return Err(Error::input("no adapter to merge; give one with --lora FILE"));
    }
    let recipe = f.to.as_deref().map(|name| {
        let known = || RECIPES.iter().map(|r| r.name).collect::<Vec<_>>().join(", ");
        Recipe::parse(name).ok_or_else(|| Error::input(format!("unknown type {name:?}; known: {}", known())))
    });
    let recipe = recipe.transpose()?;
    let file = f.model.open_file()?;
    if let Some(input) = &f.model.model {
        differs(&f.o, input)?;
    }
    let spec = Spec::read(&file)?;
    let adapters = f.lora.open(&spec)?;
    let mut changes: Vec<Vec<Part<'_>>> = vec![Vec::new(); file.tensors().len()];
    for (adapter, strength) in &adapters {
        for pair in &adapter.pairs {
            let (at, first) = place(&file, &spec, pair)?;
            changes[at].push((pair, strength * adapter.scale(pair), first));
        }
    }

    let types: Vec<Type> = match recipe {
        None => file.tensors().iter().map(|t| t.ty).collect(),
        Some(recipe) => {
            let all = file.tensors().iter();
            let all: Vec<_> =
                all.map(|t| recipe::Tensor { name: &t.name, shape: &t.shape, ty: t.ty }).collect();
            let wishes = Wishes::default();
            let choices = recipe::choose(recipe, &Model::read(file.metadata()), &wishes, &all);
            choices.iter().map(|c| c.ty).collect()
        }
    };
    for ((t, ty), changes) in file.tensors().iter().zip(&types).zip(&changes) {
        if (*ty != t.ty || !changes.is_empty()) && !ENCODES.contains(ty) {
            return Err(Error::input(format!(
                "{}: tensor {:?} is {ty}, which can be read and not written; choose another with --type",
                f.model.name(),
                t.name
            )));
        }
    }
    let mut metadata = without_split(file.metadata());
    if let Some(recipe) = recipe {
        metadata.set("general.file_type", Value::U32(recipe.file_type));
    }
    let table = file.tensors().iter().zip(&types).map(|(t, ty)| (t.name.clone(), t.shape.clone(), *ty));
    let writer = Writer::new(&metadata, table)?;
    let size = writer.size();

    interrupt::install(8);
    let total = file.tensors().iter().map(TensorInfo::elements).sum();
    let bar = output::bar(total, "merge {bar:30} {percent}% {msg}, {elapsed} of {duration}");
    let mut sources = file.tensors().iter().zip(&changes);
    let written = writer.write_to(&f.o, |to, out| -> Result<()> {
        let Some((from, changes)) = sources.next() else { return Ok(()) };
        bar.set_message(from.name.clone());
        merged(&file, from, to.ty, changes, out, &bar).map_err(|e| match e {
            None => Error::Interrupted,
            Some(e) => Error::input(format!("{}: tensor {:?}: {e}", f.model.name(), from.name)),
        })
    });
    bar.finish_and_clear();
    written?;
    let changed = changes.iter().filter(|c| !c.is_empty()).count();
    let seconds = start.elapsed().as_secs_f64();
    match f.json {
        true => output::json(&json!({
            "model": f.model.name(),
            "adapters": f.lora.lora,
            "output": f.o.display().to_string(),
            "type": recipe.map(|r| r.name),
            "tensors": file.tensors().len(),
            "changed": changed,
            "bytes": size,
            "seconds": seconds,
        })),
        false => output::line(&format!(
            "{}: {}, {changed} of {} tensors changed, in {seconds:.1} s",
            f.o.display(),
            human(size),
            file.tensors().len()
        )),
    }
}

/// The tensor that holds a pair's matrix, and its first row there.
fn place(file: &File, spec: &Spec, pair: &Pair) -> Result<(usize, usize)> {
    let at = |name: &str| file.tensors().iter().position(|t| t.name == name);
    if let Some(i) = at(&pair.tensor) {
        return Ok((i, 0));
    }
    // Newer files may hold Q, K and V as one tensor.
    let fused = Target::ALL.into_iter().find_map(|t| {
        let (head, _) = pair.tensor.rsplit_once(".attn_")?;
        let layer = head.strip_prefix("blk.")?.parse().ok()?;
        (t.tensor(layer) == pair.tensor).then_some(())?;
        Some((at(&format!("{head}.attn_qkv.weight"))?, t.column(spec) as usize))
    });
    fused.ok_or_else(|| {
        Error::input(format!("{}: tensor {:?} is missing", file.path().display(), pair.tensor))
    })
}

/// One tensor with its changes, as `to`. `None` is Ctrl-C.
fn merged(
    file: &File,
    t: &TensorInfo,
    to: Type,
    changes: &[Part<'_>],
    out: &mut Vec<u8>,
    bar: &ProgressBar,
) -> std::result::Result<(), Option<quant::Error>> {
    let cols = t.shape[0] as usize;
    let row = t.ty.row_bytes(t.shape[0]).unwrap_or(t.size) as usize;
    let step = (STEP / t.shape[0]).max(1) as usize;
    for (i, part) in file.bytes(t).chunks(step * row).enumerate() {
        if interrupt::asked() {
            return Err(None);
        }
        let (first, count) = (i * step, part.len() / row);
        if changes.is_empty() {
            convert_rows(t.ty, part, to, cols, None, out).map_err(Some)?;
        } else {
            let mut bytes = Vec::with_capacity(count * cols * 4);
            convert_rows(t.ty, part, Type::F32, cols, None, &mut bytes).map_err(Some)?;
            let mut values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
            for (pair, scale, at) in changes {
                let (from, end) = (first.max(*at), (first + count).min(at + pair.rows));
                if from < end {
                    let rows = &mut values[(from - first) * cols..(end - first) * cols];
                    pair.add_to(*scale, from - at, rows);
                }
            }
            convert_rows(Type::F32, bytemuck::cast_slice(&values), to, cols, None, out).map_err(Some)?;
        }
        let done = i * step * row;
        file.release_part(t, done..done + part.len());
        bar.inc((count * cols) as u64);
    }
    Ok(())
}
