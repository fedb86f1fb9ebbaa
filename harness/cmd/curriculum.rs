//! `weft curriculum`: questions with computed answers.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::{Error, Result};
use weft_curriculum::{self as curriculum, DOMAINS, Domain};

/// Generate questions whose answers are computed, as JSON lines
///
/// The same seed gives the same bytes everywhere. Train and test never share a question.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft curriculum --count 3
  weft curriculum --seed 7 --count 100000 --split train --format chat -o train.jsonl
  weft curriculum --split test --format mcq --count 10 --domain physics")]
pub(super) struct Flags {
    /// Seed of the draws
    #[arg(long, value_name = "S", default_value_t = 0, value_parser = crate::sampling::whole_seed)]
    seed: u64,
    /// How many records
    #[arg(long, value_name = "N", default_value_t = 10)]
    count: u64,
    /// Which side of the split: nine questions in ten are train, one is test
    #[arg(long, value_enum, default_value = "train")]
    split: Split,
    /// How a question is written
    #[arg(long, value_enum, default_value = "chat")]
    format: Format,
    /// Only this domain; may be given again [default: all core ones]
    #[arg(long, value_name = "NAME")]
    domain: Vec<String>,
    /// The file to write; "-" is stdout [default: stdout]
    #[arg(short, long = "output", value_name = "FILE.jsonl")]
    o: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Split {
    Train,
    Test,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// A question; worked steps in <think>, then the answer
    Chat,
    /// With four options; the answer is a letter
    Mcq,
    /// A text with the answer and why each wrong option is wrong
    Document,
}

/// The domains of these names, or the core ones.
pub(super) fn domains(names: &[String]) -> Result<Vec<&'static Domain>> {
    curriculum::select(names).map_err(|unknown| {
        let known: Vec<_> = DOMAINS.iter().map(|d| d.name).collect();
        Error::usage(format!("there is no domain {unknown:?} (known: {})", known.join(", ")))
    })
}

pub(super) fn run(f: Flags) -> Result<()> {
    let domains = domains(&f.domain)?;
    let split = match f.split {
        Split::Train => curriculum::Split::Train,
        Split::Test => curriculum::Split::Test,
    };
    let format = match f.format {
        Format::Chat => curriculum::Format::Chat,
        Format::Mcq => curriculum::Format::Mcq,
        Format::Document => curriculum::Format::Document,
    };
    let samples = curriculum::generate(f.seed, f.count, split, format, domains);
    match f.o.as_deref().filter(|path| *path != Path::new("-")) {
        Some(path) => {
            crate::options::check_output(path, &[], "a file of weft curriculum", |head| {
                let line = head.split(|b| *b == b'\n').next().unwrap_or_default();
                let record = serde_json::from_slice::<serde_json::Value>(line);
                record.is_ok_and(|r| r["domain"].is_string() && r["key"].is_string())
            })?;
            crate::interrupt::install(2);
            let mut out = weft_formats::AtomicFile::create(path)?;
            let samples = samples.take_while(|_| !crate::interrupt::asked());
            curriculum::write_jsonl(samples, &mut out).map_err(|e| Error::io(path, e))?;
            match crate::interrupt::asked() {
                true => Err(Error::Interrupted),
                false => Ok(out.finish()?),
            }
        }
        None => {
            let mut out = BufWriter::new(io::stdout().lock());
            curriculum::write_jsonl(samples, &mut out).and_then(|()| out.flush()).map_err(Error::stdout)
        }
    }
}
