//! The commands. Adding one: a file here with its flags and a `run`, and a line in each list below.

mod batch;
mod bench;
mod chat;
mod convert;
mod curriculum;
mod devices;
mod draw;
mod embed;
mod eval;
mod finetune;
mod genesis;
mod imatrix;
mod inspect;
mod kernels;
mod logits;
mod merge;
mod models;
mod pair;
mod perplexity;
mod pull;
mod quantize;
mod rag;
mod rerank;
mod run;
mod serve;
mod split;
mod tokenize;
mod tune;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::one_line;
use crate::{Error, Result, interrupt};

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
    Rag(rag::Flags),
    Batch(batch::Flags),
    Serve(Box<serve::Flags>),
    Pull(pull::Flags),
    Models(models::Flags),
    Pair(pair::Flags),
    Bench(bench::Flags),
    Eval(Box<eval::Flags>),
    Perplexity(perplexity::Flags),
    Finetune(finetune::Flags),
    Genesis(genesis::Flags),
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

/// What the commands are for, as `weft --help` groups them. One that is missing here is listed at the end.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Use a model", &["run", "chat", "batch", "serve", "pair", "embed", "rerank", "rag"]),
    ("Get models", &["pull", "models"]),
    ("Make models", &["convert", "quantize", "imatrix", "merge", "split", "merge-splits"]),
    ("Train", &["finetune", "genesis", "curriculum"]),
    ("Measure", &["eval", "perplexity", "bench", "logits"]),
    ("Look inside, and set up", &["devices", "inspect", "tokenize", "kernels", "tune"]),
];

/// The list of commands, in groups.
fn list(command: &clap::Command) -> String {
    let all: Vec<_> = command.get_subcommands().filter(|c| !c.is_hide_set()).collect();
    let known = |name: &str| GROUPS.iter().any(|g| g.1.contains(&name));
    let rest: Vec<&str> = all.iter().map(|c| c.get_name()).filter(|n| !known(n)).collect();
    let mut text = String::new();
    for (title, names) in GROUPS.into_iter().chain([("More", &rest[..])]) {
        let here: Vec<_> = names.iter().filter_map(|n| all.iter().find(|c| c.get_name() == *n)).collect();
        if !here.is_empty() {
            text += &format!("{title}:\n");
            for c in here {
                let about = c.get_about().map(ToString::to_string).unwrap_or_default();
                text += &format!("  {:<13} {about}\n", c.get_name());
            }
            text += "\n";
        }
    }
    text + "`weft COMMAND --help` says what a command takes."
}

/// What was typed, with the words of other programs that mean something here.
fn words() -> Vec<std::ffi::OsString> {
    // llama.cpp's one flag of several letters behind one dash.
    std::env::args_os().map(|a| if a == "-ngl" { "--n-gpu-layers".into() } else { a }).collect()
}

/// Parses the command line; ends the process where it is wrong, or asks for help.
///
/// # Errors
/// A flag that what is asked for does not read.
pub fn parse() -> Result<Cli> {
    // A number below zero is a value, and what it is given to says why not.
    let mut command = Cli::command().mut_subcommands(|c| c.allow_negative_numbers(true));
    let groups = list(&command);
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{groups}\n\nOptions:\n{{options}}{{after-help}}"
    );
    command = command.help_template(template);
    let matches = command.try_get_matches_from_mut(words()).map_err(|e| misused(&command, &e))?;
    if let (Some(("eval", m)), Some(eval)) = (matches.subcommand(), command.find_subcommand("eval")) {
        eval::typed::check(m, eval)?;
    }
    Cli::from_arg_matches(&matches).map_err(|e| misused(&command, &e))
}

/// What clap says of a command line that makes no sense, in one line that ends with the way to help. Help that was asked
/// for is printed as it is, which ends the process.
fn misused(command: &clap::Command, e: &clap::Error) -> Error {
    use clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand as NothingTyped;
    if !e.use_stderr() {
        return match e.print().and_then(|()| std::io::Write::flush(&mut std::io::stdout())) {
            Ok(()) => interrupt::leave(0),
            Err(source) => Error::stdout(source),
        };
    }
    if e.kind() == NothingTyped {
        e.exit();
    }
    let (mut here, mut name) = (command, "weft".to_owned());
    for word in words().into_iter().skip(1) {
        let Some(next) = word.to_str().and_then(|w| here.find_subcommand(w)) else { break };
        name += &format!(" {}", next.get_name());
        here = next;
    }
    let text = e.to_string();
    // Usage, and the way to help as clap says it, are what is left out.
    let end = ["\n\nUsage:", "\n\nFor more information"].iter().filter_map(|mark| text.find(mark)).min();
    let said = text[..end.unwrap_or(text.len())].trim_start_matches("error: ");
    let said = said.replace("\n\n  tip: ", "; ").replace("\n  tip: ", "; ");
    Error::usage(format!("{}; see {name} --help", one_line(&said)))
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
        Command::Rag(f) => rag::run(f),
        Command::Batch(f) => batch::run(f),
        Command::Serve(f) => serve::run(*f),
        Command::Pull(f) => pull::run(f),
        Command::Models(f) => models::run(f),
        Command::Pair(f) => pair::run(f),
        Command::Bench(f) => bench::run(f),
        Command::Eval(f) => eval::run(*f),
        Command::Perplexity(f) => perplexity::run(f),
        Command::Finetune(f) => finetune::run(f),
        Command::Genesis(f) => genesis::run(f),
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
