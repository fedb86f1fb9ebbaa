//! `weft imatrix`: which columns of a model's matrices matter most, for `weft quantize`.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::json;
use weft_formats::imatrix::Collected;
use weft_formats::tokenizer::Tokenizer;

use crate::options::{CacheFlag, DeviceFlags, ModelFlag, check_gguf, read_text};
use crate::{Error, Result, interrupt, output, report};

/// Collect an importance matrix from a text, for `weft quantize --imatrix`
///
/// The model reads the text in chunks, each from an empty cache; of what meets each column of each matrix the
/// squares are summed on the GPU. The file is llama.cpp's GGUF format, which its own llama-quantize reads too.
/// A few hundred chunks of text like what the model will see are plenty; a rest shorter than a chunk is left
/// out.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft imatrix -m model-f16.gguf -f text.txt -o imatrix.gguf
  weft imatrix -m model-f16.gguf -f chats.txt -o imatrix.gguf --parse-special --chunks 200
  weft quantize model-f16.gguf small.gguf Q2_K --imatrix imatrix.gguf")]
pub(super) struct Flags {
    #[command(flatten)]
    model: ModelFlag,
    /// The text to read, UTF-8; "-" reads stdin
    #[arg(short, long = "file", value_name = "TEXT")]
    file: PathBuf,
    /// The file to write
    #[arg(short, long = "output", value_name = "OUT.gguf")]
    o: PathBuf,
    /// Tokens of a chunk
    #[arg(short, long = "ctx", alias = "ctx-size", value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    c: u32,
    /// Read only the first N chunks [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    chunks: Option<u32>,
    /// Take marks such as <|im_start|> in the text as the tokens they name
    #[arg(long)]
    parse_special: bool,
    /// Collect for the output head as well
    #[arg(long)]
    process_output: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceFlags,
}

pub(super) fn run(f: Flags) -> Result<()> {
    let text = read_text(&f.file)?;
    let inputs: Vec<_> = f.model.model.iter().chain([&f.file]).cloned().collect();
    check_gguf(&f.o, &inputs, "imatrix")?;
    // Before the work, so that a file that cannot be written costs none.
    drop(weft_formats::AtomicFile::create(&f.o)?);
    interrupt::install(2);
    let (model, _) = f.model.open(&f.device, None, Some(f.c), CacheFlag::default())?;
    let ids = chunked(&f, model.tokenizer()?, &text)?;
    if f.process_output && model.spec().out.tied {
        output::note("warning: the output head is the token embedding, which importance matrices leave out");
    }

    let start = Instant::now();
    let mut importance = model.importance(f.c, f.process_output)?;
    let total: usize = ids.iter().map(Vec::len).sum();
    let bar = output::bar(total as u64, "imatrix {bar:30} {pos} of {len} tokens, {elapsed}, {eta} to go");
    let mut read = || -> Result<Vec<(String, weft_formats::imatrix::Sums)>> {
        for (i, chunk) in ids.iter().enumerate() {
            importance.read(chunk, &mut |done| {
                bar.set_position((i * chunk.len() + done) as u64);
                interrupt::flow()
            })?;
        }
        Ok(importance.sums()?)
    };
    let sums = read();
    bar.finish_and_clear();
    let collected = Collected {
        sums: sums?,
        datasets: vec![f.file.display().to_string()],
        chunks: ids.len().try_into().unwrap_or(u32::MAX),
        chunk_size: f.c,
    };
    if interrupt::flow() == (ControlFlow::Break(())) {
        return Err(Error::Interrupted);
    }
    collected.write(&f.o).map_err(|e| Error::input(e.to_string()))?;

    let seconds = start.elapsed().as_secs_f64();
    let rate = importance.tokens() as f64 / seconds;
    if f.json {
        return output::json(&json!({
            "model": report::model_json(&f.model.name(), &model),
            "text": f.file.display().to_string(),
            "output": f.o.display().to_string(),
            "tensors": collected.sums.len(),
            "chunks": collected.chunks,
            "chunk_size": collected.chunk_size,
            "tokens": importance.tokens(),
            "seconds": seconds,
            "tokens_per_s": rate,
            "device": report::caps_json(model.gpu().caps()),
        }));
    }
    output::line(&format!(
        "{}: {} tensors over {} chunks of {} tokens, in {seconds:.1} s ({rate:.0} t/s)",
        f.o.display(),
        collected.sums.len(),
        collected.chunks,
        collected.chunk_size,
    ))
}

/// The text in whole chunks of ids. Where the model wants a token that begins a text, each chunk has it in
/// place of its first.
fn chunked(f: &Flags, tokenizer: &Tokenizer, text: &str) -> Result<Vec<Vec<u32>>> {
    let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
    let ids: Vec<u32> = bos.into_iter().chain(tokenizer.encode(text, f.parse_special)).collect();
    let most = f.chunks.map_or(usize::MAX, |n| n as usize);
    let mut chunks: Vec<Vec<u32>> = ids.chunks_exact(f.c as usize).take(most).map(<[u32]>::to_vec).collect();
    if chunks.is_empty() {
        return Err(Error::input(format!(
            "{}: has {} tokens, less than one chunk of {}; give more text or a smaller -c",
            f.file.display(),
            ids.len(),
            f.c
        )));
    }
    if let Some(bos) = bos {
        chunks.iter_mut().for_each(|c| c[0] = bos);
    }
    Ok(chunks)
}
