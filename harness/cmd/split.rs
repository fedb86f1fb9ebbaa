//! `weft split` and `weft merge-splits`: a model in several files, and back.

use std::path::{Path, PathBuf};

use clap::Args;
use weft_formats::gguf::{self, File, Metadata, TensorInfo, Value, Writer};
use weft_runtime::human;

use super::quantize::without_split;
use crate::options::check_gguf;
use crate::{Error, Result, interrupt, output};

/// Split a model into files of at most a size
///
/// Writes PREFIX-00001-of-0000N.gguf and so on, as llama.cpp's gguf-split does. Any command takes any one of
/// them as the model. A tensor is never cut, so one that is larger than the size gets a file of its own.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft split model.gguf shards/model --max-size 2G
  weft split model.gguf model --max-tensors 128")]
pub(super) struct Flags {
    /// The model to split
    #[arg(value_name = "IN.gguf")]
    input: PathBuf,
    /// How the files' names start
    #[arg(value_name = "PREFIX")]
    prefix: PathBuf,
    /// Most bytes of tensors in a file, with K, M or G for 1000, 1000² or 1000³ [default: 2G]
    #[arg(long, value_name = "SIZE", conflicts_with = "max_tensors")]
    max_size: Option<String>,
    /// Most tensors in a file
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_tensors: Option<u64>,
}

/// Join the files of a split model
///
/// The result is the file that was split.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft merge-splits model-00001-of-00003.gguf model.gguf")]
pub(super) struct MergeFlags {
    /// Any one of the files; the others lie beside it
    #[arg(value_name = "SHARD.gguf")]
    input: PathBuf,
    /// The file to write
    #[arg(value_name = "OUT.gguf")]
    output: PathBuf,
}

/// "500M" in bytes.
fn size(text: &str) -> Option<u64> {
    let (digits, unit) = match text.char_indices().next_back() {
        Some((i, 'k' | 'K')) => (&text[..i], 1000),
        Some((i, 'm' | 'M')) => (&text[..i], 1_000_000),
        Some((i, 'g' | 'G')) => (&text[..i], 1_000_000_000),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).filter(|n| *n > 0)
}

/// The same, for clap's parser.
pub(super) fn bytes(text: &str) -> std::result::Result<u64, String> {
    size(text).ok_or_else(|| "expected bytes, or 500M, or 8G".into())
}

fn parse_size(text: &str) -> Result<u64> {
    size(text).ok_or_else(|| {
        Error::usage(format!("--max-size {text:?} is not a size; expected bytes, or 500M, or 2G"))
    })
}

/// The tensors of each file, as ranges of the table.
fn cut(tensors: &[TensorInfo], size: u64, count: u64) -> Vec<std::ops::Range<usize>> {
    let mut shards = Vec::new();
    let (mut start, mut bytes) = (0, 0u64);
    for (i, t) in tensors.iter().enumerate() {
        let padded = t.size.next_multiple_of(32);
        if i > start && (bytes.saturating_add(padded) > size || (i - start) as u64 == count) {
            shards.push(start..i);
            (start, bytes) = (i, 0);
        }
        bytes += padded;
    }
    shards.push(start..tensors.len());
    shards
}

pub(super) fn run(f: Flags) -> Result<()> {
    let (size, count) = match (&f.max_size, f.max_tensors) {
        (_, Some(n)) => (u64::MAX, n),
        (size, None) => (parse_size(size.as_deref().unwrap_or("2G"))?, u64::MAX),
    };
    let file = File::open(&f.input)?;
    let shards = cut(file.tensors(), size, count);
    let total = u16::try_from(shards.len()).map_err(|_| {
        Error::input(format!("that makes {} files, more than the 65535 that can be numbered", shards.len()))
    })?;
    let Some(name) = f.prefix.file_name() else {
        return Err(Error::usage(format!("{}: not the start of a file name", f.prefix.display())));
    };
    let path = |i: usize| {
        let mut name = name.to_owned();
        name.push(format!("-{:05}-of-{total:05}.gguf", i + 1));
        f.prefix.with_file_name(name)
    };
    for i in 0..shards.len() {
        check_gguf(&path(i), &file.paths(), "model")?;
    }
    interrupt::install(8);
    let bar = copying(&file);
    let mut text = String::new();
    for (i, range) in shards.iter().enumerate() {
        let mut metadata = if i == 0 { without_split(file.metadata()) } else { Metadata::new() };
        metadata.set("split.no", Value::U16(i as u16));
        metadata.set("split.count", Value::U16(total));
        metadata.set("split.tensors.count", Value::I32(file.tensors().len().try_into().unwrap_or(i32::MAX)));
        let tensors = &file.tensors()[range.clone()];
        let written = copy(&file, &metadata, tensors, &path(i), &bar);
        if let Err(e) = written {
            // A part of a split model is of no use.
            (0..i).for_each(|i| drop(std::fs::remove_file(path(i))));
            return Err(e);
        }
        text += &format!("{}: {} tensors, {}\n", path(i).display(), tensors.len(), human(written?));
    }
    bar.finish_and_clear();
    output::text(&text)
}

pub(super) fn merge(f: MergeFlags) -> Result<()> {
    let file = File::open(&f.input)?;
    if file.metadata().get("split.count").is_none() {
        return Err(Error::input(format!("{}: is not a part of a split model", f.input.display())));
    }
    check_gguf(&f.output, &file.paths(), "model")?;
    interrupt::install(8);
    let bar = copying(&file);
    let size = copy(&file, &without_split(file.metadata()), file.tensors(), &f.output, &bar)?;
    bar.finish_and_clear();
    let (shards, tensors) = (file.shards(), file.tensors().len());
    output::line(&format!("{}: {tensors} tensors of {shards} files, {}", f.output.display(), human(size)))
}

fn copying(file: &File) -> indicatif::ProgressBar {
    let bytes = file.tensors().iter().map(|t| t.size).sum();
    output::bar(bytes, "copy {bar:30} {bytes} of {total_bytes}, {elapsed}")
}

/// Writes a file of these tensors as they are; gives its size.
fn copy(
    file: &File,
    metadata: &Metadata,
    tensors: &[TensorInfo],
    path: &Path,
    bar: &indicatif::ProgressBar,
) -> Result<u64> {
    let table = tensors.iter().map(|t| (t.name.clone(), t.shape.clone(), t.ty));
    let writer =
        Writer::new(metadata, table).map_err(|e| gguf::Error { file: path.display().to_string(), ..e })?;
    let size = writer.size();
    let mut out = writer.create(path)?;
    for t in tensors {
        if interrupt::asked() {
            return Err(Error::Interrupted);
        }
        out.next_tensor(file.bytes(t))?;
        file.release(t);
        bar.inc(t.size);
    }
    out.finish()?;
    Ok(size)
}
