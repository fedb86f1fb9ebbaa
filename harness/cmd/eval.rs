//! `weft eval`: how good a model is, on questions with computed answers or beside another model.

mod divergence;
mod questions;

use clap::{Args, ValueEnum};
use weft_models::MAX_SLOTS;

use crate::options::{CacheFlag, DeviceFlags, LoraFlag, ModelFlag};
use crate::{Error, Result};

/// Score a model on computed questions, or measure how far it is from another model
///
/// The curriculum's test split: each question is asked twice, openly, where the final answer is compared, and
/// with four options, where the letter is. Both times the model writes its answer out, by the likeliest token
/// each, many answers at a time. Shares come by domain with Wilson's 95 % intervals.
///
/// Divergence: both models read the same text, and their predictions of each next token are compared: the
/// Kullback-Leibler divergence from the other model's, how often the likeliest token is the same, the
/// normalised mean squared error of the logits, and the perplexities. This is what quantising a model costs.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft eval --suite curriculum --limit 100
  weft eval -m model.gguf --lora adapter.gguf --suite curriculum
  weft eval --domain chemistry --limit 40
  weft eval -m model.gguf --suite curriculum --json
  weft eval -m model-q4_k_m.gguf --suite divergence --against model-f16.gguf
  weft eval -m model-q4_k_m.gguf --suite divergence --against model-f16.gguf -f text.txt -c 512 --json")]
pub(super) struct Flags {
    #[command(flatten)]
    model: ModelFlag,
    #[command(flatten)]
    lora: LoraFlag,
    /// What to measure
    #[arg(long, value_enum, default_value = "curriculum")]
    suite: Suite,
    /// Only this domain; may be given again [default: all core ones]
    #[arg(long, value_name = "NAME")]
    domain: Vec<String>,
    /// Seed of the questions' draws
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// How many questions of each kind
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Curriculum")]
    limit: u64,
    /// Most tokens of an answer
    #[arg(
        short,
        long = "max-tokens",
        visible_alias = "n-predict",
        alias = "predict",
        value_name = "N",
        default_value_t = 512,
        help_heading = "Curriculum"
    )]
    n: usize,
    /// Answers at a time [default: 32; 4 on a software GPU]
    #[arg(long, alias = "streams", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SLOTS)), help_heading = "Curriculum")]
    slots: Option<u32>,
    /// Show each wrong answer on stderr
    #[arg(long, help_heading = "Curriculum")]
    wrong: bool,
    #[command(flatten)]
    divergence: divergence::Flags,
    #[command(flatten)]
    device: DeviceFlags,
    #[command(flatten)]
    cache: CacheFlag,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// Mathematics, physics, biology and medicine, from `weft curriculum --split test`
    Curriculum,
    /// Predictions of each next token beside those of the model in --against
    Divergence,
}

pub(super) fn run(f: Flags) -> Result<()> {
    match (f.suite, &f.divergence.against) {
        (Suite::Divergence, Some(against)) => divergence::run(&f, against),
        (Suite::Divergence, None) => {
            Err(Error::input("--suite divergence needs --against FILE, the model to compare with"))
        }
        (Suite::Curriculum, Some(_)) => Err(Error::input("--against is for --suite divergence")),
        (Suite::Curriculum, None) => questions::run(&f),
    }
}
