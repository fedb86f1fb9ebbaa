//! `weft rerank`: documents in the order in which they answer a query.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::options::{CacheFlag, DeviceFlags, ModelFlag, read_text};
use crate::{Error, Result, interrupt, options, output};

/// Order documents by how well they answer a query
///
/// Takes rerankers: cross-encoders of BERT and XLM-RoBERTa (bge-reranker, ms-marco-MiniLM), and Qwen3-Reranker. Each
/// document is a line; those that answer best come first, with their score and the number of their line. A
/// cross-encoder's score is any number, Qwen3-Reranker's lies between 0 and 1.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft rerank -m bge-reranker.gguf --query \"What is a vector?\" documents.txt
  grep -h vector notes/*.txt | weft rerank -m bge-reranker.gguf --query \"What is a vector?\" --top 5
  weft rerank -m qwen3-reranker.gguf --query \"capital of France\" --json - < documents.txt")]
pub(super) struct Flags {
    #[command(flatten)]
    model: ModelFlag,
    /// What the documents should answer
    #[arg(long, value_name = "TEXT")]
    query: String,
    /// Print only the N best
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// The most tokens of query and document together; 0 is all that the model was trained for [default: that, at most
    /// 4096]
    #[arg(short, long = "ctx", value_name = "CTX")]
    c: Option<u32>,
    /// Print a JSON object a line: index, relevance_score, document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceFlags,
    /// The documents, one a line; "-" or nothing reads stdin
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) fn run(f: Flags) -> Result<()> {
    let text = match &f.file {
        Some(path) => read_text(path)?,
        None => output::stdin_text()?,
    };
    let documents: Vec<&str> = text.lines().collect();
    if documents.is_empty() {
        return Err(Error::input("there are no documents to order"));
    }
    interrupt::install(2);
    let (model, _) = f.model.open(&f.device, None, f.c, CacheFlag::default())?;
    let mut reranker = model.reranker(f.c.map(|_| options::context(model.spec(), f.c)))?;
    let pairs =
        documents.iter().map(|d| reranker.pair(&f.query, d)).collect::<std::result::Result<Vec<_>, _>>()?;
    let bar = output::bar(pairs.len() as u64, "reranking {bar:30} {pos} of {len} documents, {elapsed}");
    let scores = reranker.score(&pairs, &mut |done| {
        bar.set_position(done as u64);
        interrupt::flow()
    });
    bar.finish_and_clear();
    let mut ranks: Vec<(usize, f32)> = scores?.into_iter().enumerate().collect();
    // Equal scores stay in the documents' order.
    ranks.sort_by(|a, b| b.1.total_cmp(&a.1));
    for (index, score) in ranks.into_iter().take(f.top.unwrap_or(usize::MAX)) {
        let document = documents[index];
        output::line(&match f.json {
            true => json!({ "index": index, "relevance_score": score, "document": document }).to_string(),
            false => format!("{score:.4}\t{}\t{document}", index + 1),
        })?;
    }
    Ok(())
}
