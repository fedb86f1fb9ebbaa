//! `weft convert`: from a Hugging Face folder to GGUF.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use weft_formats::gguf::Writer;
use weft_formats::hf::{Conversion, Options, TYPES};
use weft_formats::quant::Type;
use weft_runtime::human;

use crate::options::check_gguf;
use crate::{Error, Result, interrupt, output};

/// Make a GGUF file from a Hugging Face folder
///
/// Reads config.json, tokenizer.json, tokenizer_config.json, generation_config.json and safetensors (one file
/// or several) of Llama, Qwen2, Qwen3, Qwen3-MoE, OLMoE, SmolLM3 and Gemma 3 (of models with pictures the text
/// part), and of the encoders BERT, XLM-RoBERTa and nomic, with the pooling that sentence-transformers noted
/// and the classifier of a reranker. Norms and biases become F32. What the folder says and GGUF cannot is
/// refused by name, or told in a warning where it may matter a little. Needs no GPU and no Python.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft convert Qwen3-0.6B qwen3-0.6b-bf16.gguf
  weft convert Qwen3-0.6B qwen3-0.6b-q8_0.gguf --type Q8_0")]
pub(super) struct Flags {
    /// The folder, as downloaded
    #[arg(value_name = "HF_DIR")]
    folder: PathBuf,
    /// The file to write
    #[arg(value_name = "OUT.gguf")]
    output: PathBuf,
    /// Type of the matrices: F32, F16, BF16 or Q8_0 [default: as they are stored]
    #[arg(long = "type", value_name = "TYPE")]
    to: Option<String>,
    /// Name of the pre-tokenizer, where tokenizer.json has one that is not known
    #[arg(long, value_name = "NAME")]
    pre: Option<String>,
}

pub(super) fn run(f: Flags) -> Result<()> {
    let start = Instant::now();
    let ty = f.to.as_deref().map(|name| {
        Type::parse(name).filter(|t| TYPES.contains(t)).ok_or_else(|| {
            let known: Vec<_> = TYPES.iter().map(|t| t.name()).collect();
            Error::usage(format!("unknown type {name:?}; known: {}", known.join(", ")))
        })
    });
    check_gguf(&f.output, &[], "model")?;
    let failed = |e: weft_formats::hf::Error| Error::input(e.to_string());
    let source = Conversion::open(&f.folder, &Options { ty: ty.transpose()?, pre: f.pre }).map_err(failed)?;
    source.warnings().iter().for_each(|w| output::note(&format!("warning: {}", crate::error::one_line(w))));
    // What is written must be read again.
    weft_formats::tokenizer::Tokenizer::from_metadata(source.metadata())
        .map_err(|source| Error::Tokenizer { file: f.folder.display().to_string(), source })?;
    let table = source.tensors().iter().map(|t| (t.name.clone(), t.shape.clone(), t.ty));
    let writer = Writer::new(source.metadata(), table)?;
    let size = writer.size();

    interrupt::install(8);
    let bar = output::bar(size, "convert {bar:30} {bytes} of {total_bytes}, {elapsed}");
    let mut tensors = source.tensors().iter();
    let written = writer.write_to(&f.output, |info, out| {
        if interrupt::asked() {
            return Err(Error::Interrupted);
        }
        // The writer asks in the order of the table.
        tensors.next().map_or(Ok(()), |t| source.bytes(t, out)).map_err(failed)?;
        bar.inc(info.size);
        Ok(())
    });
    bar.finish_and_clear();
    written?;
    output::line(&format!(
        "{}: {} tensors, {}, in {:.1} s",
        f.output.display(),
        source.tensors().len(),
        human(size),
        start.elapsed().as_secs_f64()
    ))
}
