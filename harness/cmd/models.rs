//! `weft models`: the models that were pulled.

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use weft_hub::{Entry, Store, Verdict};
use weft_runtime::human;

use super::pull::{entry_json, store_of};
use crate::{Error, Result, interrupt, output};

/// List, check and remove the models that were pulled
///
/// They lie in the folder of WEFT_MODELS, or where the system keeps a user's data. Without a command it lists them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft models
  weft models list --json
  weft models verify
  weft models remove Qwen3-4B-Q4_K_M")]
pub(super) struct Flags {
    #[command(subcommand)]
    command: Option<Command>,
    /// Folder of the models [default: WEFT_MODELS, else the system's folder of data]
    #[arg(long, value_name = "DIR", global = true)]
    models: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the models, and those of which a part is there
    #[command(after_help = "Examples:\n  weft models list")]
    List,
    /// Show where a model is from, and its files' checksums
    #[command(after_help = "Examples:\n  weft models show Qwen3-4B-Q4_K_M")]
    Show {
        /// The model
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Read the files again and compare them with their checksums
    #[command(after_help = "Examples:\n  weft models verify\n  weft models verify Qwen3-4B-Q4_K_M")]
    Verify {
        /// The models [default: all]
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Remove models, or what there is of those that were not pulled whole
    #[command(after_help = "Examples:\n  weft models remove Qwen3-4B-Q4_K_M")]
    Remove {
        /// The models
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
}

pub(super) fn run(f: Flags) -> Result<()> {
    let store = store_of(f.models.as_deref())?;
    match f.command.unwrap_or(Command::List) {
        Command::List => list(&store, f.json),
        Command::Show { name } => show(&store, &name, f.json),
        Command::Verify { names } => verify(&store, names, f.json),
        Command::Remove { names } => remove(&store, &names, f.json),
    }
}

fn list(store: &Store, as_json: bool) -> Result<()> {
    let (all, partial) = (store.list(), store.partial());
    if as_json {
        let part = |p: &weft_hub::Partial| json!({ "name": p.name, "pull": p.asked, "done": p.done, "size": p.total });
        return output::json(&json!({
            "folder": store.folder().display().to_string(),
            "models": all.iter().map(entry_json).collect::<Vec<_>>(),
            "partial": partial.iter().map(part).collect::<Vec<_>>(),
        }));
    }
    if all.is_empty() && partial.is_empty() {
        return output::line(&none(store));
    }
    let width =
        all.iter().map(|e| e.name.len()).chain(partial.iter().map(|p| p.name.len())).max().unwrap_or(0);
    let mut text = String::new();
    for e in &all {
        let from = e.record.as_ref().map_or("", |r| r.name.as_str());
        text += format!("{:width$}  {:>10}  {from}", e.name, human(e.size)).trim_end();
        text += "\n";
    }
    for p in &partial {
        let total = p.total.map_or(String::new(), |t| format!(" of {}", human(t)));
        text +=
            &format!("{:width$}  {:>10}{total} are there; weft pull {}\n", p.name, human(p.done), p.asked);
    }
    output::text(&text)
}

fn none(store: &Store) -> String {
    format!("{}: no models; `weft pull` gets one", store.folder().display())
}

fn found(store: &Store, name: &str) -> Result<Entry> {
    store.find(name).ok_or_else(|| {
        Error::input(format!(
            "{}: there is no model {name:?}; `weft models` lists them",
            store.folder().display()
        ))
    })
}

fn show(store: &Store, name: &str, as_json: bool) -> Result<()> {
    let entry = found(store, name)?;
    if as_json {
        return output::json(&entry_json(&entry));
    }
    let mut text = format!("{}, {}\n", entry.name, human(entry.size));
    match &entry.record {
        None => entry.files.iter().for_each(|f| text += &format!("  {}\n", f.display())),
        Some(r) => {
            text += &format!("  pulled as {} from {}\n", r.name, r.source);
            text += &r.revision.as_ref().map_or(String::new(), |r| format!("  revision {r}\n"));
            for ((_, size, sum), path) in r.files.iter().zip(&entry.files) {
                text += &format!("  {}, {}, SHA-256 {sum}\n", path.display(), human(*size));
            }
        }
    }
    output::text(&text)
}

fn verify(store: &Store, names: Vec<String>, as_json: bool) -> Result<()> {
    let entries: Vec<Entry> = match names.is_empty() {
        true => store.list(),
        false => names.iter().map(|n| found(store, n)).collect::<Result<_>>()?,
    };
    if entries.is_empty() && !as_json {
        return output::line(&none(store));
    }
    interrupt::install(2);
    let bar =
        output::bar(entries.iter().map(|e| e.size).sum(), "{bar:30} {bytes} of {total_bytes}, {eta} left");
    let (mut text, mut told, mut failed) = (String::new(), Vec::new(), 0);
    for entry in &entries {
        let mut read = |bytes| {
            bar.inc(bytes);
            if interrupt::asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let (word, line) = match store.verify(&entry.name, &mut read) {
            Ok(Verdict::Right) => ("right", format!("{}: its bytes are those that were pulled", entry.name)),
            Ok(Verdict::Whole) => {
                ("whole", format!("{}: a whole file; nobody told its checksum", entry.name))
            }
            Err(e) if e.kind == weft_hub::Kind::Stopped => return Err(e.into()),
            Err(e) => {
                failed += 1;
                ("wrong", e.line)
            }
        };
        text += &format!("{line}\n");
        told.push(json!({ "name": entry.name, "verdict": word, "line": line }));
    }
    bar.finish_and_clear();
    match as_json {
        true => output::json(&json!({ "models": told }))?,
        false => output::text(&text)?,
    }
    match failed {
        0 => Ok(()),
        n => Err(Error::input(format!("{n} of {} models are not what they were", entries.len()))),
    }
}

fn remove(store: &Store, names: &[String], as_json: bool) -> Result<()> {
    let mut told = Vec::new();
    for name in names {
        let bytes = store.remove(name)?;
        told.push(json!({ "name": name, "bytes": bytes }));
        if !as_json {
            output::line(&format!("{name} is removed, {} are free", human(bytes)))?;
        }
    }
    if as_json { output::json(&json!({ "removed": told })) } else { Ok(()) }
}
