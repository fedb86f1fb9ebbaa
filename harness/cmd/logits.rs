//! `weft logits`: the logits of every position, as a safetensors file.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use weft_models::Rows;

use crate::options::{
    CacheFlag, DeviceFlags, LoraFlag, ModelFlag, VariantFlag, check_output, ids_from_json, read_text,
};
use crate::{Error, Result, interrupt, output};

/// Write the logits of every position to a safetensors file
///
/// The file holds one tensor, `logits`, F32 [tokens, vocabulary], row-major. It is written as it is computed
/// and gets its name when it is whole.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  echo '[1, 2, 3]' > ids.json
  weft logits -m model.gguf --tokens ids.json -o logits.safetensors
  weft logits -m model.gguf --tokens ids.json -o decode.safetensors --decode
  weft logits -m model.gguf --tokens ids.json -o chunks.safetensors --chunk 7 --limits webgpu
  weft logits -m model.gguf --tokens ids.json -o integers.safetensors --decode --variant chain")]
pub(super) struct Flags {
    #[command(flatten)]
    model: ModelFlag,
    #[command(flatten)]
    lora: LoraFlag,
    /// A JSON array of token ids, taken as they are; "-" reads stdin
    #[arg(long, value_name = "IDS.json")]
    tokens: PathBuf,
    /// The file to write
    #[arg(short, long = "output", value_name = "OUT.safetensors")]
    o: PathBuf,
    /// Compute one token at a time, as generation does, in place of prefill batches
    #[arg(long)]
    decode: bool,
    /// Context in tokens [default: as many as there are ids]
    #[arg(short, long = "ctx", alias = "ctx-size", value_name = "N")]
    c: Option<u32>,
    #[command(flatten)]
    device: DeviceFlags,
    #[command(flatten)]
    variant: VariantFlag,
    #[command(flatten)]
    cache: CacheFlag,
    /// Tokens of a prefill batch [default: by device]
    #[arg(long, value_name = "N", help_heading = "Device", value_parser = clap::value_parser!(u32).range(1..))]
    chunk: Option<u32>,
}

pub(super) fn run(f: Flags) -> Result<()> {
    let file = f.tokens.display().to_string();
    let ids = ids_from_json(&read_text(&f.tokens)?, &file)?;
    if ids.is_empty() {
        return Err(Error::input(format!("{file}: holds no token ids")));
    }
    let inputs = [Some(f.tokens.as_path()), f.model.model.as_deref()];
    check_output(&f.o, &inputs, "a safetensors file of logits", |head| {
        head.get(8..).is_some_and(|json| json.starts_with(b"{\"logits\""))
    })?;
    interrupt::install(2);
    let context = f.c.unwrap_or(ids.len().try_into().unwrap_or(u32::MAX));
    let device = DeviceFlags { variants: f.variant.variant, ..f.device };
    let (model, _) = f.model.open(&device, f.chunk, Some(context), f.cache)?;
    let model = f.lora.apply(model)?;
    let vocabulary = model.spec().vocabulary;
    if let Some(id) = ids.iter().find(|&&id| id >= vocabulary) {
        return Err(Error::input(format!(
            "{file}: token id {id} is out of range: the vocabulary has {vocabulary} tokens"
        )));
    }
    let mut session = model.session(crate::options::context(model.spec(), Some(context)))?;
    let mut out = weft_formats::AtomicFile::create(&f.o)?;
    let failed = |e| Error::io(&f.o, e);
    out.write_all(&header(ids.len() as u64, vocabulary.into())).map_err(failed)?;
    let rows = if f.decode { Rows::Decode } else { Rows::Prefill };
    let bar = output::bar(ids.len() as u64, "logits {bar:30} {pos} of {len} tokens, {elapsed}");
    let mut written = Ok(());
    let done = session.logits(&ids, rows, &mut |position, row| {
        bar.set_position(u64::from(position) + 1);
        // safetensors is little-endian.
        let bytes: Vec<u8> = row.iter().flat_map(|v| v.to_le_bytes()).collect();
        written = out.write_all(&bytes);
        if written.is_err() { ControlFlow::Break(()) } else { interrupt::flow() }
    });
    bar.finish_and_clear();
    written.map_err(failed)?;
    done?;
    out.finish()?;
    output::note(&format!("{}: logits F32 [{}, {vocabulary}]", f.o.display(), ids.len()));
    Ok(())
}

/// Length and JSON of a safetensors header for the one tensor, padded to 8 bytes
/// (<https://github.com/huggingface/safetensors#format>).
fn header(rows: u64, columns: u64) -> Vec<u8> {
    let end = rows * columns * 4;
    let mut json =
        format!(r#"{{"logits":{{"dtype":"F32","shape":[{rows},{columns}],"data_offsets":[0,{end}]}}}}"#);
    while !json.len().is_multiple_of(8) {
        json.push(' ');
    }
    let mut out = (json.len() as u64).to_le_bytes().to_vec();
    out.extend(json.as_bytes());
    out
}
