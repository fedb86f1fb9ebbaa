//! `weft perplexity`: how well a model predicts a text.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::json;
use weft_models::Rows;

use crate::options::{CacheFlag, DeviceFlags, LoraFlag, ModelFlag, read_text};
use crate::{Error, Result, interrupt, output, report};

/// Measure how well a model predicts a text
///
/// The text is read in chunks, each from an empty cache, and the second half of each counts, as llama.cpp's
/// llama-perplexity counts it: perplexity is the exponential of the mean negative log-likelihood of a token. Lower is
/// better, and 1 is perfect. A rest shorter than a chunk is left out.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft perplexity -m model.gguf -f text.txt
  weft perplexity -m model-q4_k_m.gguf -f text.txt -c 2048 --chunks 20 --json")]
pub(super) struct Flags {
    #[command(flatten)]
    model: ModelFlag,
    #[command(flatten)]
    lora: LoraFlag,
    /// The text to read, UTF-8; "-" reads stdin
    #[arg(short, long = "file", value_name = "TEXT")]
    file: PathBuf,
    /// Tokens of a chunk
    #[arg(short, long = "ctx", alias = "ctx-size", value_name = "N", default_value_t = 512,
          value_parser = clap::value_parser!(u32).range(4..))]
    c: u32,
    /// Read only the first N chunks [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    chunks: Option<u32>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceFlags,
    #[command(flatten)]
    cache: CacheFlag,
}

/// Negative log-likelihoods, added up.
#[derive(Debug, Default)]
struct Sum {
    count: u64,
    sum: f64,
    squares: f64,
}

impl Sum {
    fn add(&mut self, x: f64) {
        self.count += 1;
        self.sum += x;
        self.squares += x * x;
    }

    fn mean(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }

    /// Perplexity with its standard error, as far as tokens are independent.
    fn perplexity(&self) -> (f64, f64) {
        let variance = (self.squares / self.count.max(1) as f64 - self.mean().powi(2)).max(0.0);
        let perplexity = self.mean().exp();
        (perplexity, perplexity * (variance / self.count.saturating_sub(1).max(1) as f64).sqrt())
    }
}

/// Minus the logarithm of the probability that `logits` give to `token`.
fn surprise(logits: &[f32], token: u32) -> f64 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mass: f64 = logits.iter().map(|v| f64::from(v - top).exp()).sum();
    mass.ln() - f64::from(logits[token as usize] - top)
}

pub(super) fn run(f: Flags) -> Result<()> {
    let text = read_text(&f.file)?;
    let tokenizer = f.model.open_tokenizer()?;
    let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
    let ids: Vec<u32> = bos.into_iter().chain(tokenizer.encode(&text, false)).collect();
    let size = f.c as usize;
    let chunks = (ids.len() / size).min(f.chunks.map_or(usize::MAX, |n| n as usize));
    if chunks == 0 {
        return Err(Error::input(format!(
            "{}: has {} tokens, less than one chunk of {size}; give more text or a smaller -c",
            f.file.display(),
            ids.len()
        )));
    }
    interrupt::install(2);
    let (model, _) = f.model.open(&f.device, None, Some(f.c), f.cache)?;
    crate::options::note_context(model.spec().context, f.c);
    let model = f.lora.apply(model)?;
    let mut session = model.session(f.c)?;
    let start = Instant::now();
    let bar =
        output::bar((chunks * size) as u64, "perplexity {bar:30} {pos} of {len} tokens, {msg}, {eta} to go");
    let mut sum = Sum::default();
    let mut read = || -> Result<()> {
        for (i, chunk) in ids.chunks_exact(size).take(chunks).enumerate() {
            let mut chunk = chunk.to_vec();
            if let Some(bos) = bos {
                chunk[0] = bos;
            }
            session.logits(&chunk, Rows::Prefill, &mut |position, row| {
                bar.set_position((i * size) as u64 + u64::from(position));
                let next = position as usize + 1;
                if next > size / 2 && next < size {
                    sum.add(surprise(row, chunk[next]));
                }
                interrupt::flow()
            })?;
            bar.set_message(format!("{:.4}", sum.perplexity().0));
            if interrupt::flow() == ControlFlow::Break(()) {
                return Err(Error::Interrupted);
            }
        }
        Ok(())
    };
    let done = read();
    bar.finish_and_clear();
    done?;
    let (perplexity, error) = sum.perplexity();
    let seconds = start.elapsed().as_secs_f64();
    if f.json {
        return output::json(&json!({
            "model": report::model_json(&f.model.name(), &model),
            "text": f.file.display().to_string(),
            "perplexity": perplexity,
            "error": error,
            "mean_nll": sum.mean(),
            "tokens": sum.count,
            "chunks": chunks,
            "chunk_size": size,
            "seconds": seconds,
            "device": report::caps_json(model.gpu().caps()),
        }));
    }
    output::line(&format!(
        "perplexity {perplexity:.4} +/- {error:.4} over {} tokens of {chunks} chunks of {size}, in {seconds:.1} s",
        sum.count
    ))
}

#[cfg(test)]
mod tests {
    use super::{Sum, surprise};

    #[test]
    fn an_even_guess_among_four_has_the_perplexity_four() {
        let mut sum = Sum::default();
        (0..4).for_each(|t| sum.add(surprise(&[1.5; 4], t)));
        assert!((sum.perplexity().0 - 4.0).abs() < 1e-9 && sum.perplexity().1 < 1e-6);
        assert!((surprise(&[0.0, 100.0], 0) - 100.0).abs() < 1e-6);
    }
}
