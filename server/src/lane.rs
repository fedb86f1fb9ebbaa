//! Work that takes its turn: one piece at a time, on a thread of its own. It is in memory alone, so that a server that
//! ends forgets it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::app::now;
use crate::error::{ApiError, Result};
use crate::tuning::Stop;

/// How many pieces are remembered.
const MOST: usize = 32;

/// How many may wait.
const WAITING: usize = 8;

/// Is told how far a piece is: what is done, out of how much, and what it is at.
pub type Each<'a> = &'a mut dyn FnMut(u64, u64, &str);

/// What does a piece of work, or says why it ended.
type Run<T, D> = Box<dyn Fn(&T, &Stop, Each<'_>) -> std::result::Result<D, String> + Send + Sync>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Queued,
    Running,
    Completed,
    Failed,
    Cancelled,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Status::Queued => "queued",
            Status::Running => "running",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
        }
    }

    fn is_over(self) -> bool {
        !matches!(self, Status::Queued | Status::Running)
    }
}

/// A piece of work.
pub(crate) struct Turn<T, D> {
    id: String,
    owner: String,
    pub(crate) what: Arc<T>,
    created: u64,
    finished: Option<u64>,
    status: Status,
    /// What is done, out of how much.
    pub(crate) at: (u64, u64),
    /// What it is at.
    pub(crate) word: String,
    /// What came of it.
    pub(crate) done: Option<D>,
    error: Option<String>,
    stop: Stop,
}

/// What pieces of one kind are called.
pub(crate) struct Kind<T, D> {
    /// In messages.
    pub(crate) noun: &'static str,
    /// Before the number, in an id.
    pub(crate) prefix: &'static str,
    /// The code of an error where there is none of an id.
    pub(crate) missing: &'static str,
    /// What is told of one, besides what is told of all.
    pub(crate) json: fn(&Turn<T, D>) -> Value,
}

impl<T, D> Kind<T, D> {
    fn told(&self, turn: &Turn<T, D>) -> Value {
        let mut all = json!({
            "id": turn.id, "created_at": turn.created, "finished_at": turn.finished, "status": turn.status.name(),
            "error": turn.error,
        });
        if let (Value::Object(all), Value::Object(own)) = (&mut all, (self.json)(turn)) {
            all.extend(own);
        }
        all
    }
}

struct State<T, D> {
    all: Vec<Turn<T, D>>,
    ending: bool,
}

struct Shared<T, D> {
    kind: Kind<T, D>,
    run: Run<T, D>,
    state: Mutex<State<T, D>>,
    wake: Condvar,
}

/// All pieces of one kind, and the thread that does them.
pub(crate) struct Lane<T, D>(Arc<Shared<T, D>>);

impl<T, D> std::fmt::Debug for Lane<T, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lane({})", self.0.state().all.len())
    }
}

impl<T: Send + Sync + 'static, D: Send + 'static> Lane<T, D> {
    /// None yet.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn new(name: &str, kind: Kind<T, D>, run: Run<T, D>) -> std::io::Result<Lane<T, D>> {
        let state = Mutex::new(State { all: Vec::new(), ending: false });
        let shared = Arc::new(Shared { kind, run, state, wake: Condvar::new() });
        let own = shared.clone();
        std::thread::Builder::new().name(name.into()).spawn(move || own.work())?;
        Ok(Lane(shared))
    }

    /// Ends the one that runs as soon as it looks, and begins none any more.
    pub(crate) fn end(&self) {
        let mut state = self.0.state();
        state.ending = true;
        state.all.iter().for_each(|one| one.stop.ask());
        self.0.wake.notify_all();
    }

    pub(crate) fn create(&self, owner: &str, what: T, id: u64) -> Result<Value> {
        let mut state = self.0.state();
        if state.all.iter().filter(|one| one.status == Status::Queued).count() >= WAITING {
            let line = format!("{WAITING} wait already, which is as many as may; try again later");
            return Err(ApiError::too_many(line, 60));
        }
        if state.all.len() >= MOST
            && let Some(old) = state.all.iter().position(|one| one.status.is_over())
        {
            state.all.remove(old);
        }
        let one = Turn {
            id: format!("{}-{id:016x}", self.0.kind.prefix),
            owner: owner.to_owned(),
            what: Arc::new(what),
            created: now(),
            finished: None,
            status: Status::Queued,
            at: (0, 0),
            word: String::new(),
            done: None,
            error: None,
            stop: Stop::default(),
        };
        let told = self.0.kind.told(&one);
        state.all.push(one);
        self.0.wake.notify_all();
        Ok(told)
    }

    /// Those of an owner, the newest first.
    pub(crate) fn list(&self, owner: &str) -> Vec<Value> {
        let own = |one: &&Turn<T, D>| one.owner == owner;
        self.0.state().all.iter().rev().filter(own).map(|one| self.0.kind.told(one)).collect()
    }

    pub(crate) fn find(&self, owner: &str, id: &str) -> Result<Value> {
        Ok(self.0.kind.told(self.0.find(&mut self.0.state(), owner, id)?))
    }

    pub(crate) fn cancel(&self, owner: &str, id: &str) -> Result<Value> {
        let mut state = self.0.state();
        let one = self.0.find(&mut state, owner, id)?;
        match one.status {
            Status::Queued => {
                one.status = Status::Cancelled;
                one.finished = Some(now());
            }
            Status::Running => one.stop.ask(),
            over => {
                let line = format!("the {} is {} and cannot be cancelled", self.0.kind.noun, over.name());
                return Err(ApiError::bad("invalid_state", line));
            }
        }
        Ok(self.0.kind.told(one))
    }
}

impl<T, D> Shared<T, D> {
    fn state(&self) -> MutexGuard<'_, State<T, D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find<'a>(&self, state: &'a mut State<T, D>, owner: &str, id: &str) -> Result<&'a mut Turn<T, D>> {
        let found = state.all.iter_mut().find(|one| one.id == id && one.owner == owner);
        found.ok_or_else(|| {
            let shown: String = id.chars().take(80).collect();
            let noun = self.kind.noun;
            let line =
                format!("there is no {noun} \"{shown}\": the server forgot it, or it is another key's");
            ApiError::missing(self.kind.missing, line)
        })
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Turn<T, D>)) {
        if let Some(one) = self.state().all.iter_mut().find(|one| one.id == id) {
            change(one);
        }
    }

    fn next(&self) -> Option<(String, Arc<T>, Stop)> {
        let mut state = self.state();
        loop {
            if state.ending {
                return None;
            }
            if let Some(one) = state.all.iter_mut().find(|one| one.status == Status::Queued) {
                one.status = Status::Running;
                return Some((one.id.clone(), one.what.clone(), one.stop.clone()));
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self) {
        while let Some((id, what, stop)) = self.next() {
            let mut each = |done, of, word: &str| {
                self.change(&id, |one| {
                    one.at = (done, of);
                    word.clone_into(&mut one.word);
                });
            };
            let ran = catch_unwind(AssertUnwindSafe(|| (self.run)(&what, &stop, &mut each)));
            let ran = ran.unwrap_or_else(|_| Err(format!("the {} met a bug of its own", self.kind.noun)));
            self.change(&id, |one| {
                one.finished = Some(now());
                match ran {
                    // What is whole is there, whatever was asked meanwhile.
                    Ok(done) => (one.status, one.done) = (Status::Completed, Some(done)),
                    Err(_) if stop.asked() => one.status = Status::Cancelled,
                    Err(why) => (one.status, one.error) = (Status::Failed, Some(why)),
                }
            });
        }
    }
}
