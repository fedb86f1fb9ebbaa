//! The commands. Adding one: a file here with its flags and a `run`, and a line in each list below.

mod bench;
mod chat;
mod convert;
mod curriculum;
mod devices;
mod embed;
mod eval;
mod finetune;
mod imatrix;
mod inspect;
mod kernels;
mod logits;
mod merge;
mod quantize;
mod rerank;
mod run;
mod split;
mod tokenize;
mod tune;

use clap::{Parser, Subcommand};

use crate::Result;

/// Runs GGUF language models on any GPU, with kernels of its own.
#[derive(Debug, Parser)]
#[command(name = "weft", version, propagate_version = true, subcommand_required = true)]
#[command(after_help = "Examples:
  weft run \"What is 17 + 25?\"            ask the model on board
  weft run -m model.gguf \"Tell a story\"  ask a model of your own
  weft chat -m model.gguf                talk with it
  weft devices                           see what GPUs there are")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Flags),
    Chat(chat::Flags),
    Tokenize(tokenize::Flags),
    Inspect(inspect::Flags),
    Devices(devices::Flags),
    Logits(logits::Flags),
    Embed(embed::Flags),
    Rerank(rerank::Flags),
    Bench(bench::Flags),
    Eval(eval::Flags),
    Finetune(finetune::Flags),
    Curriculum(curriculum::Flags),
    Kernels(kernels::Flags),
    Tune(tune::Flags),
    Convert(convert::Flags),
    Quantize(quantize::Flags),
    Imatrix(imatrix::Flags),
    Merge(merge::Flags),
    Split(split::Flags),
    MergeSplits(split::MergeFlags),
}

/// Runs one command.
///
/// # Errors
/// Whatever ends it early.
pub fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Run(f) => run::run(f),
        Command::Chat(f) => chat::run(f),
        Command::Tokenize(f) => tokenize::run(f),
        Command::Inspect(f) => inspect::run(f),
        Command::Devices(f) => devices::run(f),
        Command::Logits(f) => logits::run(f),
        Command::Embed(f) => embed::run(f),
        Command::Rerank(f) => rerank::run(f),
        Command::Bench(f) => bench::run(f),
        Command::Eval(f) => eval::run(f),
        Command::Finetune(f) => finetune::run(f),
        Command::Curriculum(f) => curriculum::run(f),
        Command::Kernels(f) => kernels::run(f),
        Command::Tune(f) => tune::run(f),
        Command::Convert(f) => convert::run(f),
        Command::Quantize(f) => quantize::run(f),
        Command::Imatrix(f) => imatrix::run(f),
        Command::Merge(f) => merge::run(f),
        Command::Split(f) => split::run(f),
        Command::MergeSplits(f) => split::merge(f),
    }
}
