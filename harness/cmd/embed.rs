//! `weft embed`: texts to vectors.

use clap::Args;
use serde_json::json;
use weft_models::Pooling;

use crate::options::{CacheFlag, DeviceFlags, ModelFlag};
use crate::{Error, Result, interrupt, options, output};

/// Turn texts into vectors of length 1
///
/// Takes models of embeddings: BERT and its like (MiniLM, bge, e5), nomic-embed, Qwen3-Embedding. Each text gives
/// one line of numbers; texts are computed many at a time. The closer two texts are in meaning, the larger the sum
/// of the products of their numbers, which is 1 at most. Some models want a word before the text, such as
/// "query: " or "search_document: ": their authors say which.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft embed -m minilm.gguf \"hello world\"
  weft embed -m minilm.gguf --json \"first text\" \"second text\"
  weft embed -m nomic.gguf \"search_query: what is a vector?\"
  weft embed -m e5.gguf - < lines.txt > vectors.txt
  weft embed -m qwen3.gguf --pooling last \"hello world\"")]
pub(super) struct Flags {
    #[command(flatten)]
    model: ModelFlag,
    /// How the tokens of a text become one vector: mean, cls (the first) or last [default: what the file says]
    #[arg(long, value_name = "HOW", value_parser = pooling)]
    pooling: Option<Pooling>,
    /// The most tokens of a text; 0 is all that the model was trained for [default: that, at most
    /// 4096]
    #[arg(short, long = "ctx", value_name = "CTX")]
    c: Option<u32>,
    /// Print a JSON object a line: index, tokens, embedding
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceFlags,
    /// The texts; "-" or nothing reads stdin, each line of which is one
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
}

pub(super) fn pooling(name: &str) -> std::result::Result<Pooling, String> {
    Pooling::parse(name).ok_or_else(|| {
        let known: Vec<_> = Pooling::ALL.iter().map(|p| p.name()).collect();
        format!("known: {}", known.join(", "))
    })
}

pub(super) fn run(f: Flags) -> Result<()> {
    if f.texts.len() > 1 && f.texts.iter().any(|t| t == "-") {
        return Err(Error::usage("\"-\" reads the texts from stdin; leave the others out, or leave it out"));
    }
    let texts = match f.texts.is_empty() || f.texts == ["-"] {
        true => output::stdin_text()?.lines().map(str::to_owned).collect(),
        false => f.texts,
    };
    if texts.is_empty() {
        return Err(Error::input("there is no text to embed"));
    }
    interrupt::install(2);
    let (model, _) = f.model.open(&f.device, None, f.c, CacheFlag::default())?;
    let mut embedder = model.embedder(f.pooling, f.c.map(|_| options::context(model.spec(), f.c)))?;
    let sequences = texts.iter().map(|t| embedder.sequence(t)).collect::<std::result::Result<Vec<_>, _>>()?;
    let bar = output::bar(texts.len() as u64, "embedding {bar:30} {pos} of {len} texts, {elapsed}");
    let vectors = embedder.embed(&sequences, &mut |done| {
        bar.set_position(done as u64);
        interrupt::flow()
    });
    bar.finish_and_clear();
    for (index, (vector, sequence)) in vectors?.iter().zip(&sequences).enumerate() {
        if f.json {
            let line = json!({ "index": index, "tokens": sequence.ids.len(), "embedding": vector });
            output::line(&line.to_string())?;
        } else {
            let numbers: Vec<String> = vector.iter().map(f32::to_string).collect();
            output::line(&numbers.join(" "))?;
        }
    }
    Ok(())
}
