//! `weft quantize`: a model in a smaller type.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use regex::Regex;
use serde_json::{Value as Json, json};
use weft_formats::gguf::{File, Metadata, TensorInfo, Value, Writer};
use weft_formats::imatrix::Imatrix;
use weft_formats::quant::{self, ENCODES, Type, convert_rows};
use weft_formats::recipe::{self, Choice, Model, RECIPES, Recipe, Wishes};
use weft_runtime::human;

use crate::options::check_gguf;
use crate::{Error, Result, interrupt, output};

/// Write a model in a smaller type
///
/// TYPE names a mixture: most tensors get the type in the name, those where errors cost most a larger one, as
/// llama.cpp mixes them. Rows that are no whole blocks fall back to a type that fits. Norms and biases stay as
/// they are. IQ1_*, IQ2_*, IQ3_XXS and IQ3_XS need an importance matrix (`weft imatrix`). Needs no GPU.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft quantize model-f16.gguf model-q4_k_m.gguf Q4_K_M
  weft quantize model-f16.gguf small.gguf IQ3_M --imatrix imatrix.gguf
  weft quantize model-f16.gguf mixed.gguf Q4_0 --tensor 'attn_(q|k)=Q8_0' --keep-output
  weft quantize model-q8_0.gguf model-q4_0.gguf Q4_0 --requantize")]
pub(super) struct Flags {
    /// The model to read: F32, F16 or BF16
    #[arg(value_name = "IN.gguf")]
    input: PathBuf,
    /// The file to write
    #[arg(value_name = "OUT.gguf")]
    output: PathBuf,
    /// The mixture, such as Q4_K_M; an unknown one lists all
    #[arg(value_name = "TYPE")]
    to: String,
    /// Importance matrix, which says where errors cost most: GGUF or the older .dat
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Leave the output head (or the embedding that serves as one) as it is
    #[arg(long)]
    keep_output: bool,
    /// Give tensors whose name matches this type; may be repeated, the first match counts
    #[arg(long, value_name = "REGEX=TYPE")]
    tensor: Vec<String>,
    /// Allow a source that is quantised already, which costs more quality than starting from F16
    #[arg(long)]
    requantize: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Values encoded between two looks at Ctrl-C and the bar: a second or so.
const STEP: u64 = 1 << 22;

/// Is told the tensor that is written, and how many of its values were; what it gives ends the work.
pub(super) type Told<'a> = &'a mut dyn FnMut(&str, u64) -> Result<()>;

/// A file, and what becomes of each tensor.
struct Prepared<'a> {
    file: &'a File,
    recipe: Recipe,
    choices: Vec<Choice>,
    importance: Vec<Option<&'a [f32]>>,
    writer: Writer,
}

fn parse_recipe(name: &str) -> Result<Recipe> {
    Recipe::parse(name).ok_or_else(|| {
        let known: Vec<_> = RECIPES.iter().map(|r| r.name).collect();
        Error::usage(format!("unknown type {name:?}; known: {}", known.join(", ")))
    })
}

fn choices(file: &File, recipe: Recipe, wishes: &Wishes) -> Vec<Choice> {
    let tensors: Vec<_> =
        file.tensors().iter().map(|t| recipe::Tensor { name: &t.name, shape: &t.shape, ty: t.ty }).collect();
    recipe::choose(recipe, &Model::read(file.metadata()), wishes, &tensors)
}

fn writer(metadata: &Metadata, file: &File, choices: &[Choice]) -> Result<Writer> {
    let table = file.tensors().iter().zip(choices).map(|(t, c)| (t.name.clone(), t.shape.clone(), c.ty));
    Ok(Writer::new(metadata, table)?)
}

impl Flags {
    /// The flags for what a server is asked for.
    pub(super) fn of(input: PathBuf, output: PathBuf, to: &str, requantize: bool) -> Flags {
        let (imatrix, tensor) = (None, Vec::new());
        Flags { input, output, to: to.into(), imatrix, keep_output: false, tensor, requantize, json: false }
    }

    /// Refuses to write over what is read, or over a file of another kind.
    fn check_output(&self, file: &File) -> Result<()> {
        let inputs: Vec<_> = self.imatrix.iter().cloned().chain(file.paths()).collect();
        check_gguf(&self.output, &inputs, "model")
    }

    /// Looks at everything that can be wrong before the work.
    fn prepare<'a>(&self, file: &'a File, imatrix: Option<&'a Imatrix>) -> Result<Prepared<'a>> {
        let recipe = parse_recipe(&self.to)?;
        let overrides = self.tensor.iter().map(|t| parse_override(t)).collect::<Result<_>>()?;
        self.check_output(file)?;
        let wishes = Wishes { keep_output: self.keep_output, overrides, importance: imatrix.is_some() };
        if file.tensors().is_empty() {
            return Err(Error::input(format!("{}: holds no tensors", self.input.display())));
        }
        let unused = |o: &&(Regex, Type)| !file.tensors().iter().any(|t| o.0.is_match(&t.name));
        if let Some((pattern, _)) = wishes.overrides.iter().find(unused) {
            return Err(Error::input(format!(
                "--tensor {:?}: {} has no tensor with such a name",
                pattern.as_str(),
                self.input.display()
            )));
        }
        let choices = choices(file, recipe, &wishes);
        check_source(self, file, &choices)?;
        let importance = importance(self, file, &choices, imatrix)?;
        let writer = writer(&metadata(self, file, recipe, imatrix), file, &choices)?;
        Ok(Prepared { file, recipe, choices, importance, writer })
    }

    /// Writes the file.
    fn write(&self, p: Prepared<'_>, told: Told<'_>) -> Result<()> {
        let mut sources = p.file.tensors().iter().zip(&p.importance);
        p.writer.write_to(&self.output, |to, out| -> Result<()> {
            // The writer asks in the order of the table, which is the source's.
            let Some((from, importance)) = sources.next() else { return Ok(()) };
            let input = self.input.display().to_string();
            encode((p.file, &input), from, to.ty, *importance, out, told)
        })
    }

    /// Everything that is wrong, and the size of what would be written.
    ///
    /// # Errors
    /// That.
    pub(super) fn check(&self) -> Result<u64> {
        Ok(self.prepare(&File::open(&self.input)?, None)?.writer.size())
    }

    /// Does it; tells `told` of each part, and first how many values there are in all. Gives the sizes before and after.
    ///
    /// # Errors
    /// What is wrong, or what `told` gives.
    pub(super) fn work(&self, told: &mut dyn FnMut(&str, u64, u64) -> Result<()>) -> Result<(u64, u64)> {
        let file = File::open(&self.input)?;
        let prepared = self.prepare(&file, None)?;
        let (size, total) = (prepared.writer.size(), values(&file));
        self.write(prepared, &mut |name, n| told(name, n, total))?;
        Ok((file.size(), size))
    }
}

fn values(file: &File) -> u64 {
    file.tensors().iter().map(TensorInfo::elements).sum()
}

/// What a file would be in a type.
pub(super) struct Size {
    pub(super) name: &'static str,
    /// Bytes of the file.
    pub(super) bytes: u64,
    /// Bits a weight.
    pub(super) bits: f64,
    /// Whether it is of little use without an importance matrix.
    pub(super) needs_importance: bool,
}

/// The size of a file in each type, the smallest first.
///
/// # Errors
/// It has no tensors, or some that cannot be written.
pub(super) fn sizes(file: &File) -> Result<Vec<Size>> {
    let weights = values(file).max(1) as f64;
    let metadata = without_split(file.metadata());
    let one = |recipe: &Recipe| {
        let choices = choices(file, *recipe, &Wishes::default());
        let pairs = || file.tensors().iter().zip(&choices);
        let bytes: u64 = pairs().map(|(t, c)| tensor_bytes(t, c.ty)).sum();
        let bare = |(t, c): (&TensorInfo, &Choice)| t.ty != c.ty && recipe::needs_importance(&t.name, c.ty);
        let size = writer(&metadata, file, &choices)?.size();
        let (name, bits) = (recipe.name, bytes as f64 * 8.0 / weights);
        Ok(Size { name, bytes: size, bits, needs_importance: pairs().any(bare) })
    };
    let mut all = RECIPES.iter().map(one).collect::<Result<Vec<_>>>()?;
    all.sort_by_key(|s| s.bytes);
    Ok(all)
}

/// The type of most of a file's weights, and whether any are in blocks already.
pub(super) fn own_type(file: &File) -> (&'static str, bool) {
    let mut types: BTreeMap<&'static str, u64> = BTreeMap::new();
    file.tensors().iter().for_each(|t| *types.entry(t.ty.name()).or_default() += t.elements());
    let most = types.into_iter().max_by_key(|t| t.1).map_or("", |t| t.0);
    (most, file.tensors().iter().any(|t| is_small(t.ty)))
}

pub(super) fn run(f: Flags) -> Result<()> {
    let start = Instant::now();
    // A type that is not known is said before a file is opened.
    parse_recipe(&f.to)?;
    let file = File::open(&f.input)?;
    // Whatever is in an importance file, it is not written over.
    f.check_output(&file)?;
    let imatrix = f.imatrix.as_deref().map(|p| Imatrix::open(p).map_err(|e| Error::input(e.to_string())));
    let imatrix = imatrix.transpose()?;
    let prepared = f.prepare(&file, imatrix.as_ref())?;
    let (recipe, choices, size) = (prepared.recipe, prepared.choices.clone(), prepared.writer.size());
    let used = prepared.importance.iter().filter(|i| i.is_some()).count();
    interrupt::install(8);
    let bar = output::bar(values(&file), "quantise {bar:30} {percent}% {msg}, {elapsed} of {duration}");
    let written = f.write(prepared, &mut |name, n| {
        bar.set_message(name.to_owned());
        bar.inc(n);
        if interrupt::asked() { Err(Error::Interrupted) } else { Ok(()) }
    });
    bar.finish_and_clear();
    written?;
    let report =
        Report { recipe, file: &file, choices: &choices, size, used, seconds: start.elapsed().as_secs_f64() };
    match f.json {
        true => output::json(&report.json(&f)),
        false => output::text(&report.text(&f)),
    }
}

/// `REGEX=TYPE`.
fn parse_override(text: &str) -> Result<(Regex, Type)> {
    let wrong = |why: String| Error::usage(format!("--tensor {text:?}: {}", crate::error::one_line(&why)));
    let (pattern, ty) = text.rsplit_once('=').ok_or_else(|| wrong("expected REGEX=TYPE".to_owned()))?;
    let ty = Type::parse(ty).filter(|t| ENCODES.contains(t)).ok_or_else(|| {
        let known: Vec<_> = ENCODES.iter().map(|t| t.name()).collect();
        wrong(format!("unknown type {ty:?}; known: {}", known.join(", ")))
    })?;
    Ok((Regex::new(pattern).map_err(|e| wrong(format!("not a regular expression ({e})")))?, ty))
}

fn is_small(ty: Type) -> bool {
    ty.block_len() > 1
}

/// A quantised source has lost already what the target could have kept.
fn check_source(f: &Flags, file: &File, choices: &[Choice]) -> Result<()> {
    let mut small = file.tensors().iter().zip(choices).filter(|(t, c)| is_small(t.ty) && t.ty != c.ty);
    let Some((t, _)) = small.next() else { return Ok(()) };
    let what = format!("{}: tensor {:?} is {} already", f.input.display(), t.name, t.ty);
    if !f.requantize {
        return Err(Error::input(format!(
            "{what}; quantising it again costs quality: start from F16, BF16 or F32, or pass --requantize"
        )));
    }
    output::note(&format!("warning: {what}, and {} more; what it lost stays lost", small.count()));
    Ok(())
}

/// The importance of each tensor's columns, matrix after matrix, where there is any to use.
fn importance<'a>(
    f: &Flags,
    file: &File,
    choices: &[Choice],
    imatrix: Option<&'a Imatrix>,
) -> Result<Vec<Option<&'a [f32]>>> {
    let of = |t: &TensorInfo, c: &Choice| {
        let Some(entry) = imatrix.filter(|_| is_small(c.ty) && c.ty != t.ty).and_then(|i| i.get(&t.name))
        else {
            return Ok(None);
        };
        let columns = t.shape.first().map_or(1, |c| *c as usize);
        let matrices: u64 = t.shape.iter().skip(2).product();
        let expected = columns.checked_mul(matrices as usize);
        match Some(entry.values.len()) == expected {
            true => Ok(Some(entry.values.as_slice())),
            // Some collectors count tokens there.
            false if t.name == "token_embd.weight" => Ok(None),
            false => Err(Error::input(format!(
                "{}: has {} values for tensor {:?}, which has {columns} columns and {matrices} matrices; it is of another model",
                f.imatrix.as_deref().unwrap_or(Path::new("")).display(),
                entry.values.len(),
                t.name,
            ))),
        }
    };
    let all = file.tensors().iter().zip(choices).map(|(t, c)| of(t, c)).collect::<Result<Vec<_>>>()?;
    check_importance(f, file, choices, &all)?;
    if let Some(i) = imatrix {
        let without = file
            .tensors()
            .iter()
            .zip(choices)
            .zip(&all)
            .filter(|((t, c), w)| {
                is_small(c.ty) && c.ty != t.ty && w.is_none() && t.name != "token_embd.weight"
            })
            .count();
        if without > 0 {
            output::note(&format!(
                "warning: the importance matrix knows {} tensors, but {without} of those to quantise are not among them",
                i.len()
            ));
        }
    }
    Ok(all)
}

/// Types that are of no use without an importance matrix are refused where there is none.
fn check_importance(f: &Flags, file: &File, choices: &[Choice], importance: &[Option<&[f32]>]) -> Result<()> {
    let mut bare = file
        .tensors()
        .iter()
        .zip(choices)
        .zip(importance)
        .filter(|((t, c), w)| t.ty != c.ty && w.is_none() && recipe::needs_importance(&t.name, c.ty));
    let Some(((t, c), _)) = bare.next() else { return Ok(()) };
    let tensor = &t.name;
    let what = match &f.imatrix {
        Some(path) => format!("{} has nothing for tensor {tensor:?}, and {}", path.display(), c.ty),
        None => format!("tensor {tensor:?} would be {}, which", c.ty),
    };
    let model = f.input.display();
    Err(Error::input(format!(
        "{what} is of little use without importance: weft imatrix -m {model} -f TEXT -o imatrix.gguf collects it for --imatrix; Q2_K, Q3_K_S and IQ3_S need none"
    )))
}

/// The source's, with what llama.cpp's own tool adds.
fn metadata(f: &Flags, file: &File, recipe: Recipe, imatrix: Option<&Imatrix>) -> Metadata {
    let mut metadata = without_split(file.metadata());
    metadata.set("general.quantization_version", Value::U32(2));
    metadata.set("general.file_type", Value::U32(recipe.file_type));
    if let (Some(i), Some(path)) = (imatrix, &f.imatrix) {
        metadata.set("quantize.imatrix.file", Value::Str(path.display().to_string()));
        if let Some(dataset) = i.datasets.first() {
            metadata.set("quantize.imatrix.dataset", Value::Str(dataset.clone()));
        }
        metadata.set("quantize.imatrix.entries_count", Value::U32(i.len().try_into().unwrap_or(u32::MAX)));
        if let Some(chunks) = i.chunks {
            metadata.set("quantize.imatrix.chunks_count", Value::U32(chunks));
        }
    }
    metadata
}

/// `metadata` without the keys of a split file.
pub(super) fn without_split(metadata: &Metadata) -> Metadata {
    let mut out = Metadata::new();
    metadata
        .iter()
        .filter(|(key, _)| !["split.no", "split.count", "split.tensors.count"].contains(key))
        .for_each(|(key, value)| out.set(key, value.clone()));
    out
}

/// One tensor as `to`.
fn encode(
    (file, name): (&File, &str),
    t: &TensorInfo,
    to: Type,
    importance: Option<&[f32]>,
    out: &mut Vec<u8>,
    told: Told<'_>,
) -> Result<()> {
    let bytes = file.bytes(t);
    // A number alone has no rows to encode.
    let Some(&first) = t.shape.first() else {
        out.extend(bytes);
        return told(&t.name, 1);
    };
    let columns = first as usize;
    let rows = t.shape.get(1).map_or(1, |r| *r as usize);
    // The reader has checked that rows are whole blocks and that there is no dimension of 0.
    let row = t.ty.row_bytes(t.shape[0]).unwrap_or(t.size) as usize;
    let step = (STEP / t.shape[0]).max(1) as usize * row;
    let mut at = 0;
    told(&t.name, 0)?;
    for (m, matrix) in bytes.chunks(rows * row).enumerate() {
        let importance = importance.map(|w| &w[m * columns..][..columns]);
        for part in matrix.chunks(step) {
            let first = at / row * columns;
            convert_rows(t.ty, part, to, columns, importance, out).map_err(|e| {
                let e = match e {
                    quant::Error::Range { ty, index, value } => {
                        quant::Error::Range { ty, index: first + index, value }
                    }
                    other => other,
                };
                Error::input(format!("{name}: tensor {:?}: {e}", t.name))
            })?;
            file.release_part(t, at..at + part.len());
            at += part.len();
            told(&t.name, (part.len() / row * columns) as u64)?;
        }
    }
    Ok(())
}

fn tensor_bytes(t: &TensorInfo, ty: Type) -> u64 {
    let columns = t.shape.first().copied().unwrap_or(1);
    ty.row_bytes(columns).unwrap_or(0) * t.shape.iter().skip(1).product::<u64>()
}

/// What was done.
struct Report<'a> {
    recipe: Recipe,
    file: &'a File,
    choices: &'a [Choice],
    size: u64,
    used: usize,
    seconds: f64,
}

impl Report<'_> {
    fn pairs(&self) -> impl Iterator<Item = (&TensorInfo, &Choice)> {
        self.file.tensors().iter().zip(self.choices)
    }

    /// Bits a weight, before and after.
    fn bits(&self) -> (f64, f64) {
        let weights: u64 = self.pairs().map(|(t, _)| t.elements()).sum();
        let bits = |bytes: u64| bytes as f64 * 8.0 / weights as f64;
        (
            bits(self.pairs().map(|(t, _)| t.size).sum()),
            bits(self.pairs().map(|(t, c)| tensor_bytes(t, c.ty)).sum()),
        )
    }

    /// Tensors and bytes of each type.
    fn types(&self) -> BTreeMap<&'static str, (u64, u64)> {
        let mut types = BTreeMap::new();
        for (t, c) in self.pairs() {
            let entry: &mut (u64, u64) = types.entry(c.ty.name()).or_default();
            entry.0 += 1;
            entry.1 += tensor_bytes(t, c.ty);
        }
        types
    }

    fn text(&self, f: &Flags) -> String {
        let (before, after) = self.bits();
        let mut text = format!(
            "{}: {} in {:.1} s\n{} -> {} ({:.1}%), {before:.2} -> {after:.2} bits per weight\n",
            f.output.display(),
            self.recipe.name,
            self.seconds,
            human(self.file.size()),
            human(self.size),
            self.size as f64 * 100.0 / self.file.size() as f64,
        );
        for (name, (count, bytes)) in self.types() {
            text += &format!("  {name:<8} {count:>5} tensors {:>12}\n", human(bytes));
        }
        if f.imatrix.is_some() {
            text += &format!("importance used for {} tensors\n", self.used);
        }
        for (t, c) in self.pairs() {
            if let Some(wanted) = c.instead_of {
                let cols = t.shape[0];
                text += &format!("  {}: {} instead of {wanted}, rows have {cols} values\n", t.name, c.ty);
            }
        }
        text
    }

    fn json(&self, f: &Flags) -> Json {
        let (before, after) = self.bits();
        let types: serde_json::Map<_, _> = self
            .types()
            .into_iter()
            .map(|(name, (tensors, bytes))| (name.to_owned(), json!({"tensors": tensors, "bytes": bytes})))
            .collect();
        let fallbacks: Vec<_> = self
            .pairs()
            .filter_map(|(t, c)| Some((t, c, c.instead_of?)))
            .map(|(t, c, wanted)| json!({"tensor": t.name, "wanted": wanted.name(), "type": c.ty.name()}))
            .collect();
        json!({
            "input": f.input.display().to_string(),
            "output": f.output.display().to_string(),
            "type": self.recipe.name,
            "bytes_before": self.file.size(),
            "bytes_after": self.size,
            "bits_per_weight_before": before,
            "bits_per_weight_after": after,
            "types": types,
            "fallbacks": fallbacks,
            "importance_used": self.used,
            "seconds": self.seconds,
        })
    }
}
