//! `weft eval`: how good a model is, on questions with computed answers or beside another model.

mod divergence;
mod exam;
mod health;
pub(crate) mod questions;
mod results;
pub(super) mod typed;
mod types;

use clap::Args;
use weft_models::engine::MAX_SLOTS;

use crate::options::{CacheFlag, DeviceFlags, LoraFlag, ModelFlag};
use crate::{Error, Result};

/// Score a model on published test sets or computed questions, or measure how far it is from another
///
/// Published test sets (`--suite list` says which, and where to fetch each) and any file of questions: by generation,
/// where the model writes an answer out and rules read which option it names, or by likelihood, where the likeliest of
/// letters or options counts. With --output every answer is a line of a file, and a run that was stopped goes on.
/// HealthBench is answered and then judged, criterion by criterion.
///
/// Curriculum, its test split: each question is asked twice, openly, where the final answer is compared, and
/// with four options, where the letter is. Both times the model writes its answer out, by the likeliest token
/// each, many answers at a time. Shares come by domain with Wilson's 95 % intervals.
///
/// Divergence: both models read the same text, and their predictions of each next token are compared: the
/// Kullback-Leibler divergence from the other model's, how often the likeliest token is the same, the
/// normalised mean squared error of the logits, and the perplexities. This is what quantising a model costs.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft eval --suite list
  weft eval -m model.gguf --suite medqa --data phrases_no_exclude_test.jsonl --output results
  weft eval -m model.gguf --suite mmlu-health --data mmlu --mode letter --shots 5 --shots-data mmlu/dev.parquet
  weft eval -m model.gguf --suite file --data own.csv --columns question=stem,options=a+b+c+d,answer=key:letter
  weft eval -m model.gguf --suite healthbench --data hard.jsonl --judge http://localhost:8080/v1 --output health
  weft eval --compare results other-results
  weft eval -m model-f16.gguf --suite medqa --data test.jsonl --types q8_0,q4_k_m,iq4_xs -o sizes
  weft eval --suite medqa --data test.jsonl --contamination train.jsonl --exclude clean.jsonl
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
    /// In place of a file, a made-up model, as `weft bench` has it, to measure how fast test sets are scored: it has the
    /// tokens of -m
    #[arg(long, value_name = "SHAPE:TYPE", hide = true, conflicts_with_all = ["lora", "types"])]
    synthetic: Option<String>,
    /// What to measure: curriculum, divergence, file, healthbench, a published test set, or list, which lists these
    #[arg(long, value_name = "NAME", default_value = "curriculum", value_parser = suite)]
    suite: String,
    /// Only this domain; may be given again [default: all core ones]
    #[arg(long, value_name = "NAME")]
    domain: Vec<String>,
    /// Seed of the questions' draws
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = crate::sampling::whole_seed)]
    seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// How many questions [default: all of a test set, 100 of each kind of the curriculum]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Most tokens of an answer [default: 16384 of a test set, 512 of the curriculum]
    #[arg(
        short,
        long = "max-tokens",
        visible_alias = "n-predict",
        alias = "predict",
        value_name = "N",
        value_parser = crate::options::tokens
    )]
    n: Option<usize>,
    /// Answers at a time [default: 32; 4 on a software GPU]
    #[arg(long, alias = "streams", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SLOTS)))]
    slots: Option<u32>,
    /// Show each wrong answer on stderr
    #[arg(long, help_heading = "Curriculum")]
    wrong: bool,
    #[command(flatten)]
    exam: exam::Flags,
    #[command(flatten)]
    results: results::Flags,
    #[command(flatten)]
    divergence: divergence::Flags,
    #[command(flatten)]
    device: DeviceFlags,
    #[command(flatten)]
    cache: CacheFlag,
}

/// Suites that are no published test set.
const OWN: [(&str, &str); 5] = [
    ("list", "this list"),
    ("curriculum", "mathematics, physics, biology and medicine, from `weft curriculum --split test`"),
    ("divergence", "predictions of each next token beside those of the model in --against"),
    ("file", "questions in a file of your own; --columns says which column holds what"),
    (
        "healthbench",
        "conversations with rubrics, judged by --judge; themes and axes as its authors define them",
    ),
];

fn suite(name: &str) -> std::result::Result<String, String> {
    let published = weft_evals::suites::SUITES.iter().map(|s| s.name);
    let known: Vec<&str> = OWN.iter().map(|s| s.0).chain(published).collect();
    match known.contains(&name) {
        true => Ok(name.to_owned()),
        false => Err(format!("known: {}", known.join(", "))),
    }
}

pub(super) fn run(f: Flags) -> Result<()> {
    if results::run(&f)? {
        return Ok(());
    }
    match (f.suite.as_str(), &f.divergence.against) {
        ("divergence", Some(against)) => divergence::run(&f, against),
        ("divergence", None) => {
            Err(Error::usage("--suite divergence needs --against FILE, the model to compare with"))
        }
        (_, Some(_)) => Err(Error::usage("--against is for --suite divergence")),
        ("curriculum", None) => questions::run(&f),
        ("list", None) => exam::list(),
        ("healthbench", None) => health::run(&f),
        (_, None) if !f.exam.types.is_empty() => types::run(&f),
        (_, None) => exam::run(&f),
    }
}
