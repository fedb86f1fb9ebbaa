//! Models that are pulled because a request asks for it, where whoever runs the server allows that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::watch;
use weft_hub::{Kind, Name, Options, Progress, Stage, Store};

use crate::error::{ApiError, Result};

/// Pulls at a time.
const AT_ONCE: usize = 2;
/// Pulls that are over and still told about.
const TOLD: usize = 16;

/// Where models are pulled to, and from which hub.
pub struct Pulls {
    pub(crate) store: Store,
    options: Options,
    jobs: Mutex<Vec<Arc<Job>>>,
}

impl std::fmt::Debug for Pulls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pulls({} from {})", self.store.folder().display(), self.options.endpoint)
    }
}

/// How far a pull is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Now {
    pub(crate) stage: Option<Stage>,
    pub(crate) file: String,
    pub(crate) done: u64,
    pub(crate) total: Option<u64>,
    rate: f64,
    left: Option<Duration>,
    note: Option<String>,
    /// How it ended: the name of the model, or why there is none.
    pub(crate) over: Option<std::result::Result<String, ApiError>>,
}

/// A pull on its way, or one that is over.
pub(crate) struct Job {
    /// As it was asked for.
    pub(crate) asked: String,
    pub(crate) now: watch::Sender<Now>,
    stop: AtomicBool,
    /// Connections that wait for it.
    watchers: AtomicUsize,
    /// Whether it goes on with nobody watching.
    stays: AtomicBool,
}

/// Somebody watches as long as this lives.
pub(crate) struct Watching(Arc<Job>);

impl Drop for Watching {
    fn drop(&mut self) {
        if self.0.watchers.fetch_sub(1, Ordering::SeqCst) == 1 && !self.0.stays.load(Ordering::SeqCst) {
            self.0.stop();
        }
    }
}

impl Job {
    /// Ends it soon; what came is kept.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub(crate) fn watch(self: &Arc<Job>) -> Watching {
        self.watchers.fetch_add(1, Ordering::SeqCst);
        Watching(self.clone())
    }

    pub(crate) fn is_over(&self) -> bool {
        self.now.borrow().over.is_some()
    }

    fn is_running(&self) -> bool {
        !self.is_over() && !self.stop.load(Ordering::SeqCst)
    }

    /// Waits until it is over.
    pub(crate) async fn end(&self) -> std::result::Result<String, ApiError> {
        let mut now = self.now.subscribe();
        let over = now.wait_for(|n| n.over.is_some()).await.ok().and_then(|n| n.over.clone());
        over.unwrap_or_else(|| Err(ApiError::fault("the pull is gone")))
    }

    fn hear(&self, p: &Progress<'_>) {
        self.now.send_modify(|now| {
            now.stage = Some(p.stage);
            p.file.clone_into(&mut now.file);
            (now.done, now.total, now.rate, now.left) = (p.done, p.total, p.rate, p.left);
            if let Some(note) = p.note {
                now.note = Some(note.to_owned());
            }
        });
    }

    /// As a program reads it.
    pub(crate) fn json(&self) -> Value {
        let now = self.now.borrow();
        let status = match (&now.over, now.stage) {
            (Some(Ok(_)), _) => "done",
            (Some(Err(e)), _) if e.code == Kind::Stopped.code() => "stopped",
            (Some(Err(_)), _) => "failed",
            _ if self.stop.load(Ordering::SeqCst) => "stopping",
            (None, None) => "starting",
            (None, Some(Stage::Checking)) => "checking",
            (None, Some(Stage::Pulling)) => "pulling",
            (None, Some(Stage::Waiting)) => "waiting",
        };
        let (model, error) = match &now.over {
            Some(Ok(model)) => (Some(model), None),
            Some(Err(e)) => (None, Some(json!({ "message": e.message, "code": e.code }))),
            None => (None, None),
        };
        json!({
            "id": self.asked, "object": "model.pull", "status": status, "model": model, "file": now.file,
            "completed": now.done, "total": now.total, "rate": now.rate as u64,
            "seconds_left": now.left.map(|l| l.as_secs()), "note": now.note, "error": error,
        })
    }
}

/// What a fault of a pull is for a client.
fn refused(e: weft_hub::Error) -> ApiError {
    let code = e.kind.code();
    let status = match e.kind {
        Kind::Name => StatusCode::BAD_REQUEST,
        Kind::Missing => StatusCode::NOT_FOUND,
        Kind::Denied => StatusCode::FORBIDDEN,
        Kind::Busy | Kind::Taken | Kind::Stopped => StatusCode::CONFLICT,
        Kind::Space => StatusCode::INSUFFICIENT_STORAGE,
        Kind::Io => StatusCode::INTERNAL_SERVER_ERROR,
        Kind::Limited | Kind::Network | Kind::Protocol | Kind::Tls | Kind::Checksum | Kind::Format => {
            StatusCode::BAD_GATEWAY
        }
    };
    // Where the folder lies is nobody's business who asks.
    let line = match e.kind {
        Kind::Io => "the folder of models cannot be written".to_owned(),
        Kind::Space => "the disk has no room for it".to_owned(),
        _ => e.line,
    };
    ApiError::http(status, code, line)
}

impl Pulls {
    /// Pulls into this folder.
    pub fn new(store: Store, options: Options) -> Pulls {
        Pulls { store, options, jobs: Mutex::default() }
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a pull, or finds the one of this name that is on its way. With `stays` it goes on when nobody watches.
    ///
    /// # Errors
    /// It is no name of the hub's, or too many are on their way.
    pub(crate) fn start(&self, text: &str, stays: bool) -> Result<Arc<Job>> {
        let name = Name::parse(text).map_err(|e| refused(e).at("model"))?;
        if matches!(name, Name::Url(_)) {
            let line = "a request names a model of the hub, as ORG/REPO:QUANT, and no address";
            return Err(ApiError::unsupported("model", line));
        }
        let asked = name.to_string();
        let mut all = self.all();
        if let Some(job) = all.iter().find(|j| j.asked == asked && j.is_running()) {
            job.stays.fetch_or(stays, Ordering::SeqCst);
            return Ok(job.clone());
        }
        if all.iter().filter(|j| !j.is_over()).count() >= AT_ONCE {
            let line = format!("{AT_ONCE} models are being pulled, and no more at a time");
            return Err(ApiError::too_many(line, 60));
        }
        all.retain(|j| j.asked != asked || !j.is_over());
        while all.len() >= TOLD {
            let Some(oldest) = all.iter().position(|j| j.is_over()) else { break };
            all.remove(oldest);
        }
        let job = Arc::new(Job {
            asked,
            now: watch::Sender::default(),
            stop: AtomicBool::new(false),
            watchers: AtomicUsize::new(0),
            stays: AtomicBool::new(stays),
        });
        all.push(job.clone());
        drop(all);
        let (store, options, its) = (self.store.clone(), self.options.clone(), job.clone());
        let work = move || {
            let stop = || its.stop.load(Ordering::SeqCst);
            let pull = || weft_hub::pull(&store, &name, &options, &stop, &mut |p| its.hear(p));
            let over = match catch_unwind(AssertUnwindSafe(pull)) {
                Ok(Ok(pulled)) => Ok(pulled.entry.name),
                Ok(Err(e)) => Err(refused(e)),
                Err(_) => Err(ApiError::fault("a bug in the server ended this pull")),
            };
            its.now.send_modify(|now| now.over = Some(over));
        };
        let spawned = std::thread::Builder::new().name("pull".into()).spawn(work);
        if spawned.is_err() {
            let fault = ApiError::fault("the system gives no more threads");
            job.now.send_modify(|now| now.over = Some(Err(fault)));
        }
        Ok(job)
    }

    /// The pulls that are on their way, and those that were.
    pub(crate) fn jobs(&self) -> Vec<Arc<Job>> {
        self.all().clone()
    }

    /// Forgets one that is over.
    pub(crate) fn forget(&self, job: &Arc<Job>) {
        self.all().retain(|j| !Arc::ptr_eq(j, job));
    }

    /// Ends all soon; what came is kept.
    pub(crate) fn stop(&self) {
        self.all().iter().for_each(|j| j.stop());
    }

    /// Drops what there is of a model that was not pulled whole; false where there is none.
    pub(crate) fn discard(&self, asked: &str) -> Result<bool> {
        match self.store.partial().iter().any(|p| p.asked == asked) {
            true => self.store.discard(asked).map(|_| true).map_err(refused),
            false => Ok(false),
        }
    }

    /// Removes a model's files.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        self.store.remove(name).map(drop).map_err(refused)
    }
}
