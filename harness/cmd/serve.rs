//! `weft serve`: a model behind HTTP.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::{Map, json};
use weft_models::Model;
use weft_models::engine::{Engine, Options};
use weft_runtime::DeviceKind;
use weft_server::engine::{Backend, Limits, Start, Worker};
use weft_server::{App, Card, Config, Keys, Served};

use crate::options::{
    CacheFlag, DeviceFlags, LoraFlag, ModelFlag, SamplingFlags, TemplateFlag, context, read_text,
};
use crate::{Error, Result, error, interrupt, mini, output};

/// Answer over HTTP, as OpenAI's clients ask
///
/// Without -m it serves weft-mini, the model on board. A field of a request is honoured or refused by name; --lenient
/// ignores those that are not known. Only programs of this computer can ask, and web pages cannot; other computers can
/// with --host, and then a key is needed. SIGTERM and Ctrl-C let answers on their way finish, for 20 seconds at most.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft serve
  weft serve -m model.gguf --port 8000 --slots 8 -c 8192
  weft serve -m model.gguf --host 0.0.0.0 --api-key-file keys.txt
  weft serve -m model.gguf --allow-origin http://localhost:3000

Then, from another terminal:
  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{\"model\": \"weft-mini\", \"messages\": [{\"role\": \"user\", \"content\": \"What is 17 + 25?\"}]}'")]
pub(super) struct Flags {
    #[command(flatten)]
    model: ModelFlag,
    #[command(flatten)]
    lora: LoraFlag,
    #[command(flatten)]
    template: TemplateFlag,
    /// Name of the model in requests [default: its file's, without .gguf]
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
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
    /// Ignore fields of requests that are not known, and log them
    #[arg(long)]
    lenient: bool,
    /// Requests that may wait for a slot; further ones are told when to try again
    #[arg(long, value_name = "N", default_value_t = 128)]
    queue: u32,
    /// Seconds that a request may wait for a slot
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    queue_time: u32,
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
        Ok(Config {
            keys,
            lenient: self.lenient,
            hosts: self.allow_host.clone(),
            any_address: !self.host.is_loopback(),
            origins: self.allow_origin.clone(),
            limits: Limits { waiting: self.queue as usize, age: Duration::from_secs(self.queue_time.into()) },
            log: Arc::new(|line| output::note(&error::one_line(line))),
            ..Config::default()
        })
    }

    fn card(&self, model: &Model, context: u32, slots: u32) -> Result<Card> {
        let tokenizer = model.tokenizer()?.clone();
        let template = match self.template.open(&tokenizer)? {
            Some(template) => Ok(template),
            None => model.template().cloned().map_err(|e| e.to_string()),
        };
        let spec = model.spec();
        let mut facts = Map::new();
        facts.insert("architecture".into(), json!(spec.architecture));
        facts.insert("name".into(), json!(spec.name));
        if let Some(path) = &self.model.model
            && let Ok(file) = std::fs::metadata(path)
        {
            facts.insert("size".into(), json!(file.len()));
        }
        let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(Card {
            id: self.name(),
            tokenizer,
            template,
            context: context as usize,
            trained: spec.context as usize,
            slots: slots as usize,
            vocabulary: spec.vocabulary,
            sampling: self.sampling.sampling(&self.model),
            created,
            facts,
        })
    }

    fn name(&self) -> String {
        let stem = || self.model.model.as_ref()?.file_stem()?.to_str().map(str::to_owned);
        self.alias.clone().or_else(stem).unwrap_or_else(|| mini::NAME.to_owned())
    }
}

fn is_origin(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|r| !r.is_empty() && !r.contains(['/', ' ', '*']))
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

pub(super) fn run(f: Flags) -> Result<()> {
    let config = f.config()?;
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
    let (model, took) = f.model.open(&f.device, None, f.c, f.cache)?;
    let model = f.lora.apply(model)?;
    let software = model.gpu().caps().kind == DeviceKind::Cpu;
    let slots = f.slots.unwrap_or(if software { 4 } else { 16 });
    let context = context(model.spec(), f.c);
    crate::options::note_context(model.spec().context, context);
    let card = f.card(&model, context, slots)?;
    keep_serving();
    let (flag, lora, device, cache, c) = (f.model.clone(), f.lora.clone(), f.device.clone(), f.cache, f.c);
    let positions = f.cache_tokens;
    let mut first = Some(model);
    let start: Start = Box::new(move || {
        let model = match first.take() {
            Some(model) => Ok(model),
            // The device was lost, and all that was on it.
            None => flag.open(&device, None, c, cache).and_then(|(model, _)| lora.apply(model)),
        };
        let options = Options { slots, context: Some(context), positions };
        let engine = model.and_then(|m| Ok(Engine::new(&m, &options)?)).map_err(|e| e.to_string())?;
        Ok(Box::new(engine) as Box<dyn Backend>)
    });
    let worker = Worker::spawn(start, config.limits).map_err(Error::input)?;
    let name = card.id.clone();
    let app = App::new(config, vec![Served { card, engine: worker.handle() }]);
    let ready = |at: SocketAddr| {
        let each = format!("{slots} answers at a time, {context} tokens each");
        output::note(&format!(
            "{name} answers at http://{at}/v1 ({each}; loaded in {:.1} s)",
            took.as_secs_f64()
        ));
    };
    weft_server::serve(app, listener, ready, || interrupt::leave(130))
        .map_err(|e| Error::input(format!("the server cannot run: {e}")))?;
    worker.end(std::time::Instant::now());
    Ok(())
}
