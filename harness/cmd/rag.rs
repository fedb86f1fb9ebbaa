//! `weft rag`: documents kept with their vectors, and passages that answer a question.

use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use weft_documents::{Added, Hit, Options, Record, Rerank, Store, pdf};
use weft_models::Pooling;

use crate::documents::{Judge, Local, bound_this_process, read_pdf};
use crate::options::{CacheFlag, DeviceFlags, ModelFlag};
use crate::{Error, Result, interrupt, output};

/// Keep documents, and find the passages that answer a question
///
/// Text, Markdown and PDF are cut into passages, whose vectors an embedding model makes (MiniLM, bge, nomic-embed,
/// Qwen3-Embedding; see `weft embed`). Passages are found by vectors and by words together, and named with document and
/// page. All of it is one file, which `weft serve --documents` serves too.
#[derive(Debug, Args)]
#[command(subcommand_required = true)]
#[command(after_help = "Examples:
  weft rag add -m minilm.gguf notes.md handbook.pdf
  weft rag search -m minilm.gguf \"How long is the guarantee?\"
  weft rag search -m minilm.gguf --reranker bge-reranker.gguf --top 3 --json \"guarantee\"
  weft rag list
  weft rag remove handbook.pdf")]
pub(super) struct Flags {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Add(AddFlags),
    Search(SearchFlags),
    List(ListFlags),
    Remove(RemoveFlags),
    /// Reads a PDF on stdin, and prints its pages as JSON
    #[command(hide = true)]
    ReadPdf,
}

#[derive(Debug, Args)]
struct StoreFlag {
    /// The file with documents and vectors
    #[arg(long, value_name = "FILE", default_value = "documents.redb")]
    store: PathBuf,
}

impl StoreFlag {
    /// The store, which is there.
    fn open(&self) -> Result<Store> {
        match self.store.exists() {
            true => Store::open(&self.store).map_err(refused),
            false => Err(Error::input(format!(
                "{}: there is no store of documents yet; `weft rag add` begins one, --store names another",
                self.store.display()
            ))),
        }
    }
}

#[derive(Debug, Args)]
struct EmbedderFlags {
    #[command(flatten)]
    model: ModelFlag,
    /// How the tokens of a text become one vector: mean, cls (the first) or last [default: what the file says]
    #[arg(long, value_name = "HOW", value_parser = super::embed::pooling)]
    pooling: Option<Pooling>,
    #[command(flatten)]
    device: DeviceFlags,
}

impl EmbedderFlags {
    fn open(&self) -> Result<Local> {
        let (model, _) = self.model.open(&self.device, None, None, CacheFlag::default())?;
        Local::new(&self.model, model.embedder(self.pooling, None)?)
    }
}

/// Add files: text, Markdown, PDF
///
/// A file that is there already is left as it is, and one that has changed takes the place of the older one of its
/// name. Each is kept whole or not at all.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft rag add -m minilm.gguf notes.md handbook.pdf
  weft rag add -m nomic.gguf --store work.redb --json report.pdf")]
struct AddFlags {
    #[command(flatten)]
    store: StoreFlag,
    #[command(flatten)]
    embedder: EmbedderFlags,
    /// Print a JSON object for each file
    #[arg(long)]
    json: bool,
    /// The files
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// Find the passages that answer a question best
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft rag search -m minilm.gguf \"How long is the guarantee?\"
  weft rag search -m minilm.gguf --reranker bge-reranker.gguf --top 3 --json \"guarantee\"")]
struct SearchFlags {
    #[command(flatten)]
    store: StoreFlag,
    #[command(flatten)]
    embedder: EmbedderFlags,
    /// GGUF file of a reranker, which orders what is found
    #[arg(long, value_name = "FILE")]
    reranker: Option<PathBuf>,
    /// Passages at most
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    top: u32,
    /// Print a JSON object for each passage
    #[arg(long)]
    json: bool,
    /// The question
    #[arg(value_name = "QUESTION")]
    question: String,
}

/// List the documents
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft rag list
  weft rag list --store work.redb --json")]
struct ListFlags {
    #[command(flatten)]
    store: StoreFlag,
    /// Print a JSON object for each document
    #[arg(long)]
    json: bool,
}

/// Remove documents
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft rag remove handbook.pdf
  weft rag remove --store work.redb doc-0123456789abcdef")]
struct RemoveFlags {
    #[command(flatten)]
    store: StoreFlag,
    /// Print a JSON object for each document
    #[arg(long)]
    json: bool,
    /// Names or ids, as `weft rag list` has them
    #[arg(value_name = "DOCUMENT", required = true)]
    documents: Vec<String>,
}

fn refused(e: weft_documents::Error) -> Error {
    match e {
        weft_documents::Error::Cancelled => Error::Interrupted,
        e => Error::input(e.to_string()),
    }
}

pub(super) fn run(f: Flags) -> Result<()> {
    match f.what {
        What::Add(f) => add(&f),
        What::Search(f) => search(&f),
        What::List(f) => list(&f),
        What::Remove(f) => remove(&f),
        What::ReadPdf => read(),
    }
}

fn read() -> Result<()> {
    bound_this_process();
    let mut bytes = Vec::new();
    let most = weft_documents::MOST_BYTES as u64 + 1;
    std::io::stdin().take(most).read_to_end(&mut bytes).map_err(|e| Error::io(Path::new("stdin"), e))?;
    // A panic of the reader is caught there, and is no bug to report.
    let pages = weft_formats::guard::guard(|| pdf::pages(&bytes, pdf::Limits::default()));
    let pages = pages.unwrap_or_else(|| Err("it cannot be read".into())).map_err(Error::input)?;
    output::line(&json!(pages).to_string())
}

fn add(f: &AddFlags) -> Result<()> {
    interrupt::install(2);
    // What cannot be read is said before a model is opened.
    for path in &f.files {
        let meta = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        if !meta.is_file() {
            return Err(Error::input(format!("{}: it is no file; name the files in it", path.display())));
        }
    }
    let open = || Store::open(&f.store.store).map_err(refused);
    let there = f.store.store.exists().then(open).transpose()?;
    let mut embedder = f.embedder.open()?;
    // A store is not begun for a model that cannot be opened.
    let store = there.map_or_else(open, Ok)?;
    for path in &f.files {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bar = output::bar(
            0,
            &format!("{} {{bar:30}} {{pos}} of {{len}} passages, {{elapsed}}", name.replace(['{', '}'], "")),
        );
        let mut progress = |done: usize, all: usize| -> ControlFlow<()> {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
            interrupt::flow()
        };
        let added = weft_documents::add(&store, &mut embedder, &name, &bytes, &read_pdf, &mut progress);
        bar.finish_and_clear();
        let added = added.map_err(|e| match e {
            weft_documents::Error::Store(why) => Error::input(format!("{}: {why}", f.store.store.display())),
            e => refused(e),
        })?;
        let known = matches!(added, Added::Known(_));
        if f.json {
            let mut line = json!(added.record());
            line["known"] = known.into();
            output::line(&line.to_string())?;
        } else {
            let what = if known { "was there already" } else { "added" };
            output::line(&format!("{}: {what}", row(added.record())))?;
        }
    }
    Ok(())
}

fn row(record: &Record) -> String {
    let count = |n: u64, noun: &str| format!(", {n} {noun}{}", if n == 1 { "" } else { "s" });
    let pages = record.pages.map_or_else(String::new, |n| count(n.into(), "page"));
    let passages = count(record.passages, "passage");
    format!("{}  {} ({}{pages}{passages})", record.id, record.name, record.kind.name())
}

fn search(f: &SearchFlags) -> Result<()> {
    interrupt::install(2);
    let store = f.store.open()?;
    let mut embedder = f.embedder.open()?;
    let mut judge = match &f.reranker {
        None => None,
        Some(path) => {
            let flag = ModelFlag { model: Some(path.clone()) };
            let (model, _) = flag.open(&f.embedder.device, None, None, CacheFlag::default())?;
            Some(Judge(model.reranker(None)?))
        }
    };
    let options = Options { top: f.top as usize, ..Options::default() };
    let judge = judge.as_mut().map(|j| j as &mut dyn Rerank);
    let hits = weft_documents::find(&store, &mut embedder, judge, &f.question, options).map_err(refused)?;
    if hits.is_empty() {
        output::note(&format!(
            "{}: no passage is found; `weft rag list` lists the documents",
            f.store.store.display()
        ));
    }
    for (i, hit) in hits.iter().enumerate() {
        match f.json {
            true => output::line(&json!(hit).to_string())?,
            false => output::text(&format!(
                "{}[{}] {}\n{}\n",
                if i > 0 { "\n" } else { "" },
                i + 1,
                place(hit),
                hit.text
            ))?,
        }
    }
    Ok(())
}

/// Where a passage stands, and how well it fits.
fn place(hit: &Hit) -> String {
    let mut line = hit.name.clone();
    if let Some(page) = hit.page {
        line += &format!(", page {page}");
    }
    if !hit.heading.is_empty() {
        line += &format!(", {}", hit.heading);
    }
    for (what, value) in [("cosine", hit.cosine), ("words", hit.words), ("reranker", hit.judged)] {
        if let Some(value) = value {
            line += &format!("  {what} {value:.3}");
        }
    }
    line
}

fn list(f: &ListFlags) -> Result<()> {
    let store = f.store.open()?;
    for record in store.list() {
        output::line(&if f.json { json!(record).to_string() } else { row(&record) })?;
    }
    Ok(())
}

fn remove(f: &RemoveFlags) -> Result<()> {
    let store = f.store.open()?;
    let all = store.list();
    let named: Vec<&Record> = f
        .documents
        .iter()
        .map(|d| {
            all.iter().find(|r| r.id == *d || r.name == *d).ok_or_else(|| {
                Error::input(format!("there is no document \"{d}\"; `weft rag list` lists them"))
            })
        })
        .collect::<Result<_>>()?;
    for record in named {
        store.remove(&record.id).map_err(refused)?;
        output::line(&if f.json { json!(record).to_string() } else { format!("{}: removed", row(record)) })?;
    }
    Ok(())
}
