//! `weft pull`: a model from a hub or an address.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use weft_hub::{Entry, Name, Options, Progress, Stage, Store, Url};
use weft_runtime::human;

use crate::{Error, Result, interrupt, output};

/// Get a model from a hub, or from an address
///
/// A name is ORG/REPO:QUANT, ORG/REPO/FILE.gguf, or an address of http or https; hf.co/ may stand in front. Without QUANT
/// it is Q4_K_M, or the only model that there is. Files of a split model come together. A model is there whole or not at
/// all: what was stopped, or broke off, goes on with the same command, and checksums are compared as the hub tells them.
/// It lies in the folder of WEFT_MODELS, or where the system keeps a user's data (~/.local/share/weft/models), and other
/// commands take its name as -m. A token for private models comes from HF_TOKEN, another hub from HF_ENDPOINT, authorities
/// of certificates beside Mozilla's from the file of SSL_CERT_FILE, a proxy from https_proxy.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft pull hf.co/Qwen/Qwen3-4B-GGUF:Q4_K_M
  weft pull Qwen/Qwen3-0.6B-GGUF/Qwen3-0.6B-Q8_0.gguf --as small
  weft pull https://example.org/models/model.gguf
  weft pull --endpoint http://hub.lan:8000 org/repo:Q8_0

Then:
  weft run -m Qwen3-4B-Q4_K_M \"Tell a story\"
  weft serve --models")]
pub(super) struct Flags {
    /// What to get
    #[arg(value_name = "NAME|URL")]
    name: String,
    /// The hub that names are of [default: HF_ENDPOINT, else https://huggingface.co]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// What the model is called here [default: its file's name, without .gguf]
    #[arg(long = "as", value_name = "NAME")]
    rename: Option<String>,
    /// The checksum that the file of an address must have
    #[arg(long, value_name = "HEX", value_parser = checksum)]
    sha256: Option<String>,
    /// Folder to put it in [default: WEFT_MODELS, else the system's folder of data]
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn checksum(text: &str) -> std::result::Result<String, String> {
    let is = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    is.then(|| text.to_ascii_lowercase()).ok_or_else(|| "a SHA-256 has 64 hexadecimal digits".into())
}

/// The folder of models: one that was named, or the usual one.
///
/// # Errors
/// The environment does not say where that is.
pub(super) fn store_of(folder: Option<&Path>) -> Result<Store> {
    match folder.filter(|f| !f.as_os_str().is_empty()) {
        Some(folder) => Ok(Store::at(folder)),
        None => Ok(Store::standard()?),
    }
}

/// How to pull, by the environment.
///
/// # Errors
/// An endpoint that is no address.
pub(super) fn options(endpoint: Option<&str>) -> Result<Options> {
    let of = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let endpoint = endpoint.map(str::to_owned).or_else(|| of("HF_ENDPOINT"));
    let endpoint = endpoint.as_deref().unwrap_or(weft_hub::ENDPOINT);
    let endpoint = Url::parse(endpoint).map_err(|e| Error::usage(e.line))?;
    Ok(Options {
        token: of("HF_TOKEN"),
        authorities: of("SSL_CERT_FILE").map(PathBuf::from),
        ..Options::new(endpoint)
    })
}

/// A model as `--json` shows it.
pub(super) fn entry_json(entry: &Entry) -> Value {
    let files: Vec<String> = entry.files.iter().map(|f| f.display().to_string()).collect();
    json!({ "name": entry.name, "size": entry.size, "files": files, "pulled": entry.record.as_ref().map(|r| r.json()) })
}

/// Seconds as people read them.
fn time(left: Duration) -> String {
    match left.as_secs() {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} min {} s", s / 60, s % 60),
        s => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

fn line(p: &Progress<'_>) -> String {
    let total = p.total.map_or(String::new(), |t| format!(" of {}", human(t)));
    let left = p.left.map_or(String::new(), |left| format!(", {} left", time(left)));
    let rate = if p.rate > 0.0 { format!(", {}/s", human(p.rate as u64)) } else { String::new() };
    match p.stage {
        Stage::Checking => format!("checking what is there, {}{total}", human(p.done)),
        Stage::Pulling => format!("{}{total}{rate}{left}", human(p.done)),
        Stage::Waiting => format!("{}{total}, waiting to try again", human(p.done)),
    }
}

pub(super) fn run(f: Flags) -> Result<()> {
    let name = Name::parse(&f.name).map_err(|e| Error::usage(e.line))?;
    let store = store_of(f.models.as_deref())?;
    if f.sha256.is_some() && !matches!(name, Name::Url(_)) {
        return Err(Error::usage("--sha256 is for an address; the hub tells the checksums of its files"));
    }
    let options = Options { rename: f.rename, sha256: f.sha256, ..options(f.endpoint.as_deref())? };
    interrupt::install(2);
    let bar = output::bar(0, "{bar:30} {msg}");
    let mut told = None::<Instant>;
    let mut tell = |p: &Progress<'_>| {
        let say = |text: &str| match bar.is_hidden() {
            true => output::note(text),
            false => bar.println(text),
        };
        if let Some(note) = p.note {
            say(note);
        }
        let line = match p.place {
            (_, 1) => line(p),
            (i, n) => format!("file {i} of {n}: {}", line(p)),
        };
        bar.set_length(p.total.unwrap_or(0));
        bar.set_position(p.done);
        bar.set_message(line.clone());
        // Where nobody sees the bar, a line now and then.
        if bar.is_hidden() && told.is_none_or(|t| t.elapsed() > Duration::from_secs(10)) {
            told = Some(Instant::now());
            output::note(&format!("{}: {line}", p.file));
        }
    };
    let pulled = weft_hub::pull(&store, &name, &options, &interrupt::asked, &mut tell);
    bar.finish_and_clear();
    let pulled = pulled.inspect_err(|e| {
        if e.kind == weft_hub::Kind::Stopped {
            output::note("stopped; what came is kept, and the same command goes on from there");
        }
    })?;
    let entry = &pulled.entry;
    if f.json {
        let mut shown = entry_json(entry);
        shown["was_there"] = pulled.was_there.into();
        return output::json(&shown);
    }
    let how = if pulled.was_there { "was there already" } else { "is there" };
    output::line(&format!("{} {how}: {}, {}", entry.name, entry.files[0].display(), human(entry.size)))
}
