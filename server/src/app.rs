//! What all connections share: the models, who may ask, and how strict to be.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::card::Card;
use crate::documents::Documents;
use crate::engine::{Full, Handle, Limits, Totals, VectorHandle};
use crate::error::{ApiError, Result};
use crate::exams::Exams;
use crate::grammar::Grammars;
use crate::guard::Keys;
use crate::peers::Peers;
use crate::pulls::Pulls;
use crate::resume::Streams;
use crate::shelf::{Listed, Shelf};
use crate::store::Store;
use crate::tasks::Tasks;
use crate::tuning::Jobs;

/// Takes lines for whoever runs the server: faults, what was ignored. They hold no prompts and no keys.
pub type Log = Arc<dyn Fn(&str) + Send + Sync>;

/// A request that was answered. It holds no prompt and no key.
#[derive(Debug)]
pub struct Told<'a> {
    /// The number that its answer has.
    pub id: &'a str,
    /// Its method.
    pub method: &'a str,
    /// Its path, without a query.
    pub path: &'a str,
    /// The status of its answer.
    pub status: u16,
    /// How long it took until the answer began.
    pub took: Duration,
    /// The number of its key in the file of keys; 0 where there is none.
    pub key: u64,
}

/// Hears of every request that was answered.
pub type Requests = Arc<dyn Fn(&Told<'_>) + Send + Sync>;

/// How a server behaves.
#[derive(Clone)]
pub struct Config {
    /// The keys that open it; none: it is open.
    pub keys: Keys,
    /// Whether unknown fields are logged and ignored.
    pub lenient: bool,
    /// Names that `Host` may have, beside those of this machine's loopback.
    pub hosts: Vec<String>,
    /// Whether `Host` may be any number of an address: off loopback nobody can point a name here.
    pub any_address: bool,
    /// Origins of web pages that may ask, such as `http://localhost:3000`.
    pub origins: Vec<String>,
    /// The queue of each model.
    pub limits: Limits,
    /// Bytes of a body at most.
    pub body: usize,
    /// Connections at a time.
    pub connections: usize,
    /// How long a client may take for its headers, and for its body.
    pub read_timeout: Duration,
    /// How long answers may go on once the server was asked to end.
    pub grace: Duration,
    /// Whether SIGHUP asks the server to end; not where whoever started it has switched that off, as `nohup` does.
    pub hangup: bool,
    /// A comment is sent on a stream that is silent for so long.
    pub ping: Duration,
    /// Where requests may pull models to, and remove them from; None where they may not.
    pub pulls: Option<Arc<Pulls>>,
    /// What the engines compute on, as `/props` tells it.
    pub device: serde_json::Value,
    /// Where lines go.
    pub log: Log,
    /// Who hears of requests, if anybody does.
    pub requests: Option<Requests>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            keys: Keys::default(),
            lenient: false,
            hosts: Vec::new(),
            any_address: false,
            origins: Vec::new(),
            limits: Limits::default(),
            body: 16 << 20,
            connections: 512,
            read_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(20),
            hangup: true,
            ping: Duration::from_secs(15),
            pulls: None,
            device: serde_json::Value::Null,
            log: Arc::new(|_| ()),
            requests: None,
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Config(lenient: {}, {:?})", self.lenient, self.limits)
    }
}

/// A model that answers.
pub struct Served {
    /// What is known of it.
    pub card: Card,
    /// What draws its answers, if it writes text.
    pub engine: Option<Handle>,
    /// What turns texts into vectors or scores, if it does.
    pub vectors: Option<VectorHandle>,
    grammars: OnceLock<std::result::Result<Grammars, String>>,
    /// The model that this is another name of, with adapters in effect: its engine answers.
    of: Option<Arc<Served>>,
}

impl Served {
    /// A model that writes text.
    pub fn text(card: Card, engine: Handle) -> Served {
        Served { card, engine: Some(engine), vectors: None, grammars: OnceLock::new(), of: None }
    }

    /// A model that gives vectors or scores.
    pub fn vectors(card: Card, vectors: VectorHandle) -> Served {
        Served { card, engine: None, vectors: Some(vectors), grammars: OnceLock::new(), of: None }
    }

    /// The same model with adapters in effect, under a name of its own.
    fn adapted(of: &Arc<Served>, id: String, adapted: Vec<(usize, f32)>) -> Served {
        let (card, engine) = (Card { id, adapted, ..of.card.clone() }, of.engine.clone());
        Served { card, engine, vectors: None, grammars: OnceLock::new(), of: Some(of.clone()) }
    }

    /// Whether another name is that of its engine.
    pub(crate) fn is_adapted(&self) -> bool {
        self.of.is_some()
    }

    /// What was done for it since it was opened.
    pub(crate) fn totals(&self) -> Option<&Arc<Totals>> {
        self.engine.as_ref().map(|e| &e.totals).or(self.vectors.as_ref().map(VectorHandle::totals))
    }

    /// The grammars of its vocabulary. The first call prepares them, which takes a second.
    pub(crate) fn grammars(&self) -> Result<&Grammars> {
        if let Some(of) = &self.of {
            return of.grammars();
        }
        let made = self.grammars.get_or_init(|| Grammars::new(&self.card.tokenizer).map_err(|e| e.message));
        made.as_ref()
            .map_err(|why| ApiError::fault(format!("this vocabulary cannot be held to grammars: {why}")))
    }

    /// What draws answers.
    pub(crate) fn engine(&self) -> Result<&Handle> {
        self.engine.as_ref().ok_or_else(|| {
            let does = match self.vectors.as_ref().is_some_and(|v| v.is_reranker) {
                true => "is a reranker; ask it at /v1/rerank",
                false => "gives vectors; ask it at /v1/embeddings",
            };
            ApiError::unsupported("model", format!("\"{}\" {does}", self.card.id))
        })
    }
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Served({})", self.card.id)
    }
}

/// What all requests share.
#[derive(Debug)]
pub struct App {
    pub(crate) config: Config,
    pub(crate) models: Vec<Arc<Served>>,
    pub(crate) shelves: Vec<Shelf>,
    /// Fine-tuning, where it is switched on.
    pub(crate) jobs: Option<Arc<Jobs>>,
    /// Evaluations, where somebody asks the questions.
    pub(crate) exams: Option<Arc<Exams>>,
    /// What is done with models and the device on request.
    pub(crate) tasks: Option<Arc<Tasks>>,
    pub(crate) ending: AtomicBool,
    /// The answers that conversations can go on from.
    pub(crate) store: Option<Store>,
    /// The other machines.
    pub(crate) peers: Option<Peers>,
    /// Streams that can be taken up again.
    pub(crate) streams: Streams,
    /// The documents that can be asked about.
    pub(crate) documents: Option<Arc<Documents>>,
    /// When it began, in seconds since 1970.
    pub(crate) since: u64,
    ids: AtomicU64,
    id_base: u64,
}

impl App {
    /// Serves these models, the first of which is the one that is meant where none is named; and each with each of its
    /// adapters.
    pub fn new(config: Config, models: Vec<Served>) -> App {
        let mut models: Vec<Arc<Served>> = models.into_iter().map(Arc::new).collect();
        for of in models.clone() {
            for (i, (name, strength)) in of.card.adapters.iter().enumerate() {
                let id = format!("{}+{name}", of.card.id);
                models.push(Arc::new(Served::adapted(&of, id, vec![(i, *strength)])));
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        App {
            config,
            models,
            shelves: Vec::new(),
            jobs: None,
            exams: None,
            tasks: None,
            ending: AtomicBool::new(false),
            store: Store::in_memory().ok(),
            peers: None,
            streams: Streams::default(),
            documents: None,
            since: now.as_secs(),
            ids: AtomicU64::new(0),
            id_base: now.as_nanos() as u64,
        }
    }

    /// Keeps the answers of /v1/responses in this file, which outlives the server, in place of its memory.
    ///
    /// # Errors
    /// It cannot be opened, or another server has it.
    pub fn keep_in(self, path: &std::path::Path) -> std::result::Result<App, String> {
        Ok(App { store: Some(Store::open(path)?), ..self })
    }

    /// The same, with models beside those that are opened when they are asked for.
    #[must_use]
    pub fn with_shelf(mut self, shelf: Shelf) -> App {
        self.shelves.push(shelf);
        self
    }

    /// The same with fine-tuning, and with a shelf of the models that come of it: two of them are open at a time, and
    /// each for five minutes after it was asked.
    #[must_use]
    pub fn with_jobs(mut self, jobs: Arc<Jobs>) -> App {
        self.shelves.push(Shelf::new(Box::new(jobs.library()), 2, Some(Duration::from_secs(300))));
        self.jobs = Some(jobs);
        self
    }

    /// The same, with other machines: those that this one uses, and those that use it.
    #[must_use]
    pub fn with_peers(self, peers: Peers) -> App {
        App { peers: Some(peers), ..self }
    }

    /// The same with evaluations.
    #[must_use]
    pub fn with_exams(self, exams: Arc<Exams>) -> App {
        App { exams: Some(exams), ..self }
    }

    /// The same, with what can be done with models and the device.
    #[must_use]
    pub fn with_tasks(self, tasks: Arc<Tasks>) -> App {
        App { tasks: Some(tasks), ..self }
    }

    /// The same, with documents.
    #[must_use]
    pub fn with_documents(self, documents: Documents) -> App {
        App { documents: Some(Arc::new(documents)), ..self }
    }

    /// What is known of the models that are opened when they are asked for, whether they are open or not.
    pub(crate) fn shelved(&self) -> Vec<Listed> {
        let mut all: Vec<Listed> = Vec::new();
        for listed in self.shelves.iter().flat_map(Shelf::list) {
            let known = self.models.iter().any(|m| m.card.id == listed.name);
            if !known && !all.iter().any(|l| l.name == listed.name) {
                all.push(listed);
            }
        }
        all
    }

    /// The names of all models.
    pub(crate) fn names(&self) -> Vec<String> {
        let own = self.models.iter().map(|m| m.card.id.clone());
        own.chain(self.shelved().into_iter().map(|listed| listed.name)).collect()
    }

    /// Whether a request can name this model, or adapters of it.
    pub fn has(&self, name: &str) -> bool {
        self.names().iter().any(|known| {
            name.strip_prefix(known.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('+'))
        })
    }

    /// The models that are open, and by name what was counted for those that were closed.
    pub(crate) fn watched(&self) -> (Vec<Arc<Served>>, BTreeMap<String, Totals>) {
        let (mut open, mut past) = (self.models.clone(), BTreeMap::<String, Totals>::new());
        for (models, closed) in self.shelves.iter().map(Shelf::watched) {
            open.extend(models);
            closed.iter().for_each(|(name, totals)| past.entry(name.clone()).or_default().absorb(totals));
        }
        (open, past)
    }

    /// The models that are open.
    pub(crate) fn open_models(&self) -> Vec<Arc<Served>> {
        let shelf = self.shelves.iter().flat_map(Shelf::opened);
        self.models.iter().cloned().chain(shelf).collect()
    }

    /// The model of this name. One from the shelf is opened, which takes the time that it takes.
    pub(crate) fn model(&self, name: Option<&str>) -> Result<Arc<Served>> {
        let Some(name) = name else {
            return match self.models.first() {
                Some(first) if self.config.lenient || self.models.len() == 1 => Ok(first.clone()),
                _ => Err(crate::fields::missing("model")),
            };
        };
        if let Some(found) = self.named(name) {
            return found;
        }
        if let Some((of, parts)) = self.split(name) {
            let of = of?;
            let adapted = crate::adapters::parse(&of.card, parts)?;
            return Ok(Arc::new(Served::adapted(&of, name.to_owned(), adapted)));
        }
        let shown: String = name.chars().take(80).collect();
        let line = format!("there is no model \"{shown}\" here; known: {}", self.names().join(", "));
        Err(ApiError::missing("model_not_found", line).at("model"))
    }

    /// The model that has this very name.
    fn named(&self, name: &str) -> Option<Result<Arc<Served>>> {
        if let Some(found) = self.models.iter().find(|m| m.card.id == name) {
            return Some(Ok(found.clone()));
        }
        self.shelves.iter().find_map(|s| tokio::task::block_in_place(|| s.get(name)))
    }

    /// The model that a name begins with, and the adapters behind it. One that came of a job has its adapter in its own
    /// name, behind which there may be a strength.
    fn split<'a>(&self, name: &'a str) -> Option<(Result<Arc<Served>>, &'a str)> {
        let names = self.names();
        let known = |name: &str| names.iter().any(|n| n == name);
        let own = name.rsplit_once(':').filter(|(own, _)| known(own) && own.contains('+'));
        let at = match own {
            Some((own, _)) if !self.models.iter().any(|m| m.card.id == own) => {
                own.rfind('+').map(|at| (at, own))
            }
            _ => None,
        };
        if let Some((at, own)) = at {
            return Some((self.named(own)?, &name[at..]));
        }
        let at = name.match_indices('+').map(|(at, _)| at).find(|at| known(&name[..*at]))?;
        Some((self.named(&name[..at])?, &name[at..]))
    }

    /// A number that no other of this server has, and that says nothing of how many there were.
    pub(crate) fn id(&self) -> u64 {
        // The finaliser of splitmix64 is a bijection, so that distinct counts stay distinct.
        let mut z = self
            .id_base
            .wrapping_add(self.ids.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Logs what was ignored.
    pub(crate) fn log_ignored(&self, ignored: &[String]) {
        if !ignored.is_empty() {
            let names: Vec<String> = ignored.iter().map(|n| n.chars().take(80).collect()).collect();
            (self.config.log)(&format!("ignored, because of --lenient: {}", names.join(", ")));
        }
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// What a client is told where a queue has no room.
pub(crate) fn no_room(full: Full) -> ApiError {
    match full {
        Full::Share { retry_after } => {
            let line = "half of the queue is yours and others wait too; try again later";
            ApiError::too_many(line, retry_after)
        }
        Full::Queue { retry_after } => {
            ApiError::unavailable("overloaded", "the queue is full; try again later", retry_after)
        }
        Full::Closed => ApiError::unavailable("ending", "the server is ending", 10),
    }
}
