//! `weft serve`: models behind HTTP.

mod documents;
mod exams;
mod open;
mod peers;
mod tasks;
mod tuning;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use weft_models::Pooling;
use weft_server::engine::Limits;
use weft_server::exams::Exams;
use weft_server::tasks::Tasks;
use weft_server::tuning::Jobs;
use weft_server::{App, Config, Keys, Pulls, Requests, Shelf, Told};

use crate::cmd::draw::Draft;
use crate::cmd::pull::store_of;
use crate::options::{self, CacheFlag, DeviceFlags, TemplateFlag, read_text};
use crate::sampling::SamplingFlags;
use crate::{Error, Result, error, interrupt, output};

/// Answer over HTTP, as OpenAI's clients ask
///
/// Without -m it serves weft-mini, the model on board. At its address a browser finds a page to chat with it. A field
/// of a request is honoured or refused by name; --lenient ignores those that are not known. Only programs of this
/// computer can ask, and pages of other sites cannot; other computers can with --host, and then a key is needed. SIGTERM,
/// SIGHUP and Ctrl-C let answers on their way finish, for 20 seconds at most.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  weft serve
  weft serve -m model.gguf --port 8000 --slots 8 -c 8192
  weft serve -m chat.gguf -m embedding.gguf --lora medical=adapter.gguf
  weft serve -m chat.gguf --documents documents.redb --embedder minilm.gguf
  weft serve -m large.gguf --draft-model small.gguf
  weft serve --models ~/models --max-models 2 --keep-alive 600
  weft serve --models --allow-pull --allow-quantize
  weft serve -m model.gguf --host 0.0.0.0 --api-key-file keys.txt
  weft serve -m model.gguf --allow-origin http://localhost:3000
  weft serve -m model.gguf --jobs ~/weft-jobs
  weft serve -m model.gguf --pair

Then, from another terminal:
  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{\"model\": \"weft-mini\", \"messages\": [{\"role\": \"user\", \"content\": \"What is 17 + 25?\"}]}'")]
pub(super) struct Flags {
    /// GGUF file, any shard of a split one, or the name of a model that was pulled; may be repeated. Without it,
    /// weft-mini, the model on board
    #[arg(short, long = "model", value_name = "FILE", value_parser = options::model_file())]
    model: Vec<PathBuf>,
    /// The same, without -m
    #[arg(value_name = "MODEL", value_parser = options::model_file())]
    files: Vec<PathBuf>,
    /// Folder of GGUF files, which are opened when they are asked for by name, without .gguf; without DIR, the folder
    /// that `weft pull` fills
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "", value_parser = folder(), help_heading = "Models on demand")]
    models: Option<PathBuf>,
    /// Let requests pull models into the folder, and remove those that were pulled
    #[arg(long, requires = "models", help_heading = "Models on demand")]
    allow_pull: bool,
    /// Let requests write models of the folder in smaller types beside them, as `weft quantize` does
    #[arg(long, requires = "models", help_heading = "Models on demand")]
    allow_quantize: bool,
    /// The hub that these are of [default: HF_ENDPOINT, else https://huggingface.co]
    #[arg(long, value_name = "URL", requires = "allow_pull", help_heading = "Models on demand")]
    endpoint: Option<String>,
    /// How many of these are open at a time; the one that was not asked for longest is closed for
    /// another, once it has answered what it was asked
    #[arg(long, value_name = "N", default_value_t = 1, requires = "models", help_heading = "Models on demand",
          value_parser = clap::value_parser!(u32).range(1..))]
    max_models: u32,
    /// Bytes of the device that those which are open may take together, with K, M or G for 1000, 1000² or 1000³; the one
    /// that was not asked for longest is closed for another
    #[arg(long, value_name = "BYTES", requires = "models", value_parser = super::split::bytes, help_heading = "Models on demand")]
    memory: Option<u64>,
    /// Seconds after which one of these is closed that nobody asks for; 0 keeps it open
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 300,
        requires = "models",
        help_heading = "Models on demand"
    )]
    keep_alive: u32,
    /// A made-up model, as `weft bench` has it, to measure a server with: its texts are made of weft-mini's tokens
    #[arg(long, value_name = "SHAPE:TYPE", conflicts_with = "model", hide = true)]
    synthetic: Option<String>,
    /// LoRA adapter of the first model, which answers as MODEL+NAME, or MODEL+NAME:STRENGTH in place of SCALE, or with
    /// several as MODEL+NAME+NAME; may be repeated
    #[arg(long, value_name = "NAME=FILE[:SCALE]", value_parser = named)]
    lora: Vec<(String, String)>,
    #[command(flatten)]
    template: TemplateFlag,
    /// Name of a model in requests, in the order of -m; may be repeated [default: its file's, without .gguf]
    #[arg(long, value_name = "NAME", value_parser = alias)]
    alias: Vec<String>,
    /// Answer /metrics, which is always on: llama.cpp has it as a flag
    #[arg(long = "metrics", hide = true)]
    _metrics: bool,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port to listen on; 0 takes one that is free and prints it
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
    /// Answers that are drawn at a time [default: 16, on a software GPU 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    slots: Option<u32>,
    /// Context of each answer in tokens, its prompt among them; 0 is all that the model was trained for [default:
    /// that, at most 4096]
    #[arg(short, long = "ctx", alias = "ctx-size", value_name = "N")]
    c: Option<u32>,
    /// Tokens that the KV cache holds, those of all answers together [default: the context of every slot]
    #[arg(long, value_name = "N")]
    cache_tokens: Option<u64>,
    /// Guess what comes next, and verify several guesses in one step. Answers are the same; they come faster where they
    /// repeat what was said before, as an edit of code does
    #[arg(long, value_name = "HOW")]
    draft: Option<Draft>,
    /// Have a smaller model of the same vocabulary guess what comes next, for every -m that writes text and not for models
    /// on demand, with a context for each slot. The answers are the same
    #[arg(long, value_name = "FILE", conflicts_with_all = ["draft", "synthetic"], value_parser = options::model_file())]
    draft_model: Option<PathBuf>,
    /// File with the keys that open the server, one a line
    #[arg(long, value_name = "FILE", help_heading = "Access")]
    api_key_file: Option<PathBuf>,
    /// Listen on an address that other computers reach, without a key
    #[arg(long, help_heading = "Access")]
    allow_unauthenticated: bool,
    /// A name of this server that requests may use as their Host; may be repeated
    #[arg(long, value_name = "NAME", help_heading = "Access")]
    allow_host: Vec<String>,
    /// Origin of web pages that may ask, such as http://localhost:3000; may be repeated
    #[arg(long, value_name = "ORIGIN", help_heading = "Access")]
    allow_origin: Vec<String>,
    /// Folder where answers of /v1/responses are kept for 30 days [default: in memory, until the server ends]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Folder of fine-tuning: uploaded data, jobs with their checkpoints, and adapters. It switches fine-tuning on, in
    /// the page and at /v1/fine_tuning; jobs go on after a restart
    #[arg(long, value_name = "DIR", conflicts_with = "synthetic")]
    jobs: Option<PathBuf>,
    /// File with documents that can be asked about, as `weft rag` keeps them; it is made where it is not there
    #[arg(long, value_name = "FILE", requires = "embedder", help_heading = "Documents")]
    documents: Option<PathBuf>,
    /// GGUF file of the model that makes their vectors
    #[arg(long, value_name = "FILE", requires = "documents", help_heading = "Documents")]
    embedder: Option<PathBuf>,
    /// How the embedder's tokens become one vector: mean, cls or last [default: what its file says]
    #[arg(long, value_name = "HOW", requires = "embedder", value_parser = super::embed::pooling, help_heading = "Documents")]
    pooling: Option<Pooling>,
    /// GGUF file of a reranker, which orders the passages that are found
    #[arg(long, value_name = "FILE", requires = "documents", help_heading = "Documents")]
    reranker: Option<PathBuf>,
    /// Ignore fields of requests that are not known, and log them
    #[arg(long)]
    lenient: bool,
    /// Log every request on stderr as a line of text or of JSON: what was asked for, by which key of the file, and how it
    /// ended; never prompts, answers or keys
    #[arg(long, value_name = "FORMAT")]
    log: Option<LogFormat>,
    /// Requests that may wait for a slot; further ones are told when to try again
    #[arg(long, value_name = "N", default_value_t = 128)]
    queue: u32,
    /// Seconds that a request may wait for a slot
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    queue_time: u32,
    #[command(flatten)]
    peers: peers::PeerFlags,
    #[command(flatten)]
    sampling: SamplingFlags,
    #[command(flatten)]
    device: DeviceFlags,
    #[command(flatten)]
    cache: CacheFlag,
}

impl Flags {
    fn config(&self) -> Result<Config> {
        let keys = match &self.api_key_file {
            None => Keys::default(),
            Some(path) => Keys::parse(&read_text(path)?)
                .map_err(|why| Error::input(format!("{}: {why}", path.display())))?,
        };
        if !self.host.is_loopback() && keys.is_empty() && !self.allow_unauthenticated {
            return Err(Error::usage(format!(
                "--host {} lets other computers ask; give --api-key-file FILE, or --allow-unauthenticated if they may \
                 all",
                self.host
            )));
        }
        if let Some(origin) = self.allow_origin.iter().find(|o| !is_origin(o)) {
            return Err(Error::usage(format!(
                "--allow-origin {origin}: an origin is a scheme, a host and perhaps a port, such as \
                 http://localhost:3000"
            )));
        }
        [&self.cache_dir, &self.jobs]
            .into_iter()
            .flatten()
            .try_for_each(|folder| options::check_folder(folder))?;
        if let Some(host) = self.allow_host.iter().find(|h| !is_host(h)) {
            return Err(Error::usage(format!(
                "--allow-host {host}: a host is a name or an address, without scheme, port and path, such as box.lan"
            )));
        }
        Ok(Config {
            keys,
            lenient: self.lenient,
            hosts: self.allow_host.clone(),
            any_address: !self.host.is_loopback(),
            origins: self.allow_origin.clone(),
            limits: Limits { waiting: self.queue as usize, age: Duration::from_secs(self.queue_time.into()) },
            log: {
                let format = self.log.unwrap_or(LogFormat::Text);
                Arc::new(move |line| format.line(line))
            },
            requests: self
                .log
                .map(|format| Arc::new(move |told: &Told<'_>| format.request(told)) as Requests),
            hangup: interrupt::hears_hangup(),
            ..Config::default()
        })
    }
}

/// A folder; what clap has for paths refuses the empty one, which stands for that of `weft pull`.
fn folder() -> impl clap::builder::TypedValueParser<Value = PathBuf> {
    use clap::builder::TypedValueParser;
    clap::builder::OsStringValueParser::new().map(PathBuf::from)
}

/// How requests are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LogFormat {
    /// Lines to read.
    Text,
    /// Objects, one a line.
    Json,
}

/// Seconds since 1970.
fn clock() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

impl LogFormat {
    fn request(self, told: &Told<'_>) {
        let ms = (told.took.as_secs_f64() * 1e4).round() / 10.0;
        let Told { id, method, path, status, key, .. } = told;
        output::note(&match self {
            LogFormat::Text => error::one_line(&format!("{id} {method} {path}: {status}, {ms} ms, key {key}")),
            LogFormat::Json => serde_json::json!({
                "time": clock(), "id": id, "method": method, "path": path, "status": status, "ms": ms, "key": key,
            })
            .to_string(),
        });
    }

    fn line(self, line: &str) {
        output::note(&match self {
            LogFormat::Text => error::one_line(line),
            LogFormat::Json => serde_json::json!({ "time": clock(), "message": line }).to_string(),
        });
    }
}

fn named(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, file)) if weft_hub::is_name(name) && !file.is_empty() => Ok((name.into(), file.into())),
        _ => {
            Err("an adapter has a name of letters, digits, '-', '_' and '.', such as medical=adapter.gguf"
                .into())
        }
    }
}

fn is_origin(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|r| !r.is_empty() && !r.contains(['/', ' ', '*']))
}

/// Whether a request's Host can be this, once its port is off.
fn is_host(text: &str) -> bool {
    let known = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    text.parse::<std::net::IpAddr>().is_ok() || (!text.is_empty() && text.chars().all(known))
}

/// A panic ends what it happened in, not the server.
fn keep_serving() {
    std::panic::set_hook(Box::new(|info| {
        if weft_formats::guard::is_guarded() {
            return;
        }
        let what = info.payload_as_str().unwrap_or("unknown cause");
        let place = info.location().map_or_else(String::new, |l| format!(" ({}:{})", l.file(), l.line()));
        output::note(&error::one_line(&format!("this is a bug in weft, please report it: {what}{place}")));
    }));
}

/// A name that a request can say: adapters are behind a "+" in it, and machines behind an "@".
fn alias(name: &str) -> std::result::Result<String, String> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '+' || c == '@';
    match name.is_empty() || name.contains(odd) {
        true => Err("a name has at least one character, and no space, \"+\" or \"@\"".into()),
        false => Ok(name.to_owned()),
    }
}

pub(super) fn run(mut f: Flags) -> Result<()> {
    interrupt::loading();
    f.model.append(&mut f.files);
    f.sampling.check()?;
    let mut config = f.config()?;
    let address = SocketAddr::new(f.host, f.port);
    let listener = TcpListener::bind(address).map_err(|source| {
        let way_out = match source.kind() {
            std::io::ErrorKind::AddrInUse => "; another program listens there, --port names another port",
            std::io::ErrorKind::PermissionDenied => "; ports below 1024 need rights that this user has not",
            _ => "",
        };
        match Error::io(std::path::Path::new(&address.to_string()), source) {
            Error::Io { file, source } => Error::input(format!("{}{way_out}", Error::Io { file, source })),
            other => other,
        }
    })?;
    let (peers, told) = f.peers.open()?;
    if let Some(folder) = &f.models {
        let store = store_of(Some(folder))?;
        if f.allow_pull || f.allow_quantize || folder.as_os_str().is_empty() {
            std::fs::create_dir_all(store.folder()).map_err(|e| Error::io(store.folder(), e))?;
        }
        let pulls = f.allow_pull.then(|| crate::cmd::pull::options(f.endpoint.as_deref())).transpose()?;
        config.pulls = pulls.map(|options| Arc::new(Pulls::new(store, options)));
    }
    let opened = open::all(&f)?;
    let kept = documents::open(&f, &opened)?;
    config.device = opened.first().map(open::Opened::device).unwrap_or_default();
    keep_serving();
    let bases = Arc::new(bases(&f, &opened)?);
    let jobs = f.jobs.as_deref().map(|folder| begin_jobs(folder, bases.clone())).transpose()?;
    let thread = |e: std::io::Error| Error::input(format!("the system gives no thread: {e}"));
    let exams = Exams::new(bases.clone()).map_err(thread)?;
    let tasks = Tasks::new(bases).map_err(thread)?;
    let (mut served, mut workers, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for one in opened {
        let start = one.start(&f, config.limits)?;
        lines.push(start.line);
        served.push(start.served);
        workers.extend(start.worker);
    }
    let documents = match kept {
        None => None,
        Some(kept) => {
            let (documents, more, line) = kept.start(&f)?;
            lines.push(line);
            served.extend(more);
            Some(documents)
        }
    };
    let mut app = App::new(config, served).with_exams(Arc::new(exams)).with_tasks(Arc::new(tasks));
    if let Some(documents) = documents {
        app = app.with_documents(documents);
    }
    if let Some(folder) = &f.cache_dir {
        let file = folder.join("responses.redb");
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        app = app.keep_in(&file).map_err(|why| Error::input(format!("{}: {why}", file.display())))?;
    }
    if let Some(folder) = &f.models {
        let keep = (f.keep_alive > 0).then(|| Duration::from_secs(f.keep_alive.into()));
        let store = store_of(Some(folder))?;
        let library = open::Folder::new(&store, f.clone())?;
        lines.push(format!(
            "{}: {} models, opened when they are asked for",
            store.folder().display(),
            library.count()
        ));
        let shelf = Shelf::new(Box::new(library), f.max_models as usize, keep).within(f.memory);
        app = app.with_shelf(shelf.patient(Duration::from_secs(f.queue_time.into())));
    }
    if let Some(jobs) = &jobs {
        match jobs.waiting() {
            0 => lines.push("fine-tuning is on".into()),
            n => lines.push(format!("fine-tuning is on; {n} jobs go on")),
        }
        app = app.with_jobs(jobs.clone());
    }
    if let Some(peers) = peers {
        app = app.with_peers(peers);
    }
    if let Some(name) = f.peers.fallback.as_deref().filter(|name| !app.has(name)) {
        return Err(Error::usage(format!("--fallback {name}: there is no such model on this machine")));
    }
    let ready = |at: SocketAddr| {
        interrupt::loaded();
        lines.iter().chain(&told).for_each(|line| output::note(line));
        output::note(&format!("a page to chat is at http://{at}/"));
        output::note(&format!("listening at http://{at}/v1"));
    };
    weft_server::serve(app, listener, ready, || interrupt::leave(130))
        .map_err(|e| Error::input(format!("the server cannot run: {e}")))?;
    if jobs.is_some_and(|jobs| !jobs.wait(Duration::from_secs(20))) {
        output::note("a fine-tuning step took too long to wait for; it goes on from its last checkpoint");
        interrupt::leave(0);
    }
    workers.into_iter().for_each(|w| w.end(std::time::Instant::now()));
    Ok(())
}

/// What can be trained and asked, besides what is asked by chat.
fn bases(f: &Flags, opened: &[open::Opened]) -> Result<tuning::Bases> {
    let folder = match &f.models {
        Some(models) => Some(open::Folder::new(&store_of(Some(models))?, f.clone())?),
        None => None,
    };
    let open = opened.iter().filter_map(open::Opened::base).collect();
    let adapted = opened.iter().flat_map(open::Opened::with_adapters).collect();
    Ok(tuning::Bases { open, adapted, folder, flags: f.clone() })
}

/// Takes up the jobs of a folder.
fn begin_jobs(folder: &std::path::Path, bases: Arc<tuning::Bases>) -> Result<Arc<Jobs>> {
    let jobs = Jobs::open(folder, bases);
    Ok(Arc::new(jobs.map_err(|why| Error::input(format!("{}: {why}", folder.display())))?))
}
