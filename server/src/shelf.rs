//! Models that are opened when they are asked for, and closed when others need their room or nobody asks any more.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::app::Served;
use crate::engine::{Totals, Worker};
use crate::error::{ApiError, Result};

/// A model that was opened, and the thread that draws its answers, if it has one.
pub type Opened = (Served, Option<Worker>);

/// Why a model is not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unopened {
    /// The line for whoever asked; it names no path.
    pub why: String,
    /// Whether it may be opened another time, since what it lacked was room or a device.
    pub may_pass: bool,
}

impl From<String> for Unopened {
    fn from(why: String) -> Unopened {
        Unopened { why, may_pass: false }
    }
}

impl From<&str> for Unopened {
    fn from(why: &str) -> Unopened {
        why.to_owned().into()
    }
}

impl Unopened {
    fn told(self, name: &str) -> ApiError {
        let line = format!("\"{name}\" cannot be opened: {}", self.why);
        match self.may_pass {
            true => ApiError::unavailable("model_failed", line, 30),
            false => ApiError::broken_model(line),
        }
    }
}

/// What the lists tell of a model that need not be open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// What requests call it.
    pub name: String,
    /// Bytes of its files, where there are files of its own.
    pub size: Option<u64>,
    /// SHA-256 in hexadecimal digits of what tells versions of it apart.
    pub digest: Option<String>,
    /// When its files were written, in seconds since 1970.
    pub modified: Option<u64>,
}

/// Models that can be opened.
pub trait Library: Send + Sync {
    /// The models that there are now.
    fn list(&self) -> Vec<Listed>;

    /// Opens a model, which may take minutes.
    ///
    /// # Errors
    /// Why it cannot be opened.
    fn open(&self, name: &str) -> std::result::Result<Opened, Unopened>;

    /// Bytes of the device that a model takes once it is open.
    ///
    /// # Errors
    /// Why that is not known; the line names no path.
    fn bytes(&self, name: &str) -> std::result::Result<u64, String> {
        Err(format!("what \"{name}\" takes is not known before it is open"))
    }
}

/// Where models lie that are not asked for, and those that are open.
pub struct Shelf {
    library: Box<dyn Library>,
    /// How many may be open.
    room: usize,
    /// Bytes that those that are open may take together.
    memory: Option<u64>,
    /// How long one stays open that nobody asks for; None for ever.
    keep: Option<Duration>,
    /// How long one that is asked for waits until one that is open has answered what it was asked.
    patience: Duration,
    /// How many wait for one that is opened, or for room for it.
    waiting: AtomicUsize,
    open: Mutex<Vec<Open>>,
    /// What the engines of a name that were closed have counted; written while `open` is held.
    past: Mutex<BTreeMap<String, Arc<Totals>>>,
    /// Held while a model is opened: one at a time, and who waits for the same finds it open.
    opening: Mutex<()>,
}

struct Open {
    served: Arc<Served>,
    worker: Option<Worker>,
    /// What it takes, where that is counted.
    bytes: u64,
    last: Instant,
    /// Whether its room is wanted: it answers what it was asked, and who asks it now waits behind who wants the room.
    leaves: bool,
}

/// Requests that wait for a model at most.
const MOST: usize = 64;
/// How often is looked whether a model has become idle.
const LOOK: Duration = Duration::from_millis(10);

impl Open {
    fn is_idle(&self) -> bool {
        // Somebody who has it is about to ask it something.
        let busy = self.served.engine.as_ref().is_some_and(|e| e.load() != (0, 0));
        !busy && Arc::strong_count(&self.served) == 1
    }

    fn close(self) {
        if let Some(worker) = self.worker {
            worker.end(Instant::now());
        }
    }
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shelf(room for {})", self.room)
    }
}

impl Shelf {
    /// A shelf of which `room` models are open at a time, at least one.
    pub fn new(library: Box<dyn Library>, room: usize, keep: Option<Duration>) -> Shelf {
        let (open, past, opening) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (patience, waiting) = (Duration::ZERO, AtomicUsize::new(0));
        Shelf { library, room: room.max(1), memory: None, keep, patience, waiting, open, past, opening }
    }

    /// The same, where a model that is asked for waits so long until one that is open may be closed for it.
    #[must_use]
    pub fn patient(self, patience: Duration) -> Shelf {
        Shelf { patience, ..self }
    }

    /// The same, whose open models take so many bytes together at most.
    #[must_use]
    pub fn within(self, memory: Option<u64>) -> Shelf {
        Shelf { memory, ..self }
    }

    fn all(&self) -> MutexGuard<'_, Vec<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The models that there are.
    pub(crate) fn list(&self) -> Vec<Listed> {
        self.library.list()
    }

    /// The models that are open.
    pub(crate) fn opened(&self) -> Vec<Arc<Served>> {
        self.all().iter().map(|o| o.served.clone()).collect()
    }

    /// The models that are open, and what those of a name that were closed have counted. Both are of one moment, so that
    /// nothing is counted twice or not at all.
    pub(crate) fn watched(&self) -> (Vec<Arc<Served>>, BTreeMap<String, Arc<Totals>>) {
        let all = self.all();
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (all.iter().map(|o| o.served.clone()).collect(), past)
    }

    /// Keeps what those counted that leave the shelf, while it is held: a counter never goes back.
    fn remember(&self, leaving: &[Open]) {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        for totals in leaving.iter().filter_map(|o| Some((&o.served.card.id, o.served.totals()?))) {
            match past.get(totals.0) {
                Some(sum) => sum.absorb(totals.1),
                None => _ = past.insert(totals.0.clone(), totals.1.clone()),
            }
        }
    }

    fn find(&self, name: &str) -> Option<Arc<Served>> {
        let mut all = self.all();
        let found = all.iter_mut().find(|o| o.served.card.id == name && !o.leaves)?;
        found.last = Instant::now();
        Some(found.served.clone())
    }

    /// The model of a name, opened where it is not; None where there is none.
    ///
    /// # Errors
    /// It cannot be opened, or all that are open are busy.
    pub(crate) fn get(&self, name: &str) -> Option<Result<Arc<Served>>> {
        if let Some(found) = self.find(name) {
            return Some(Ok(found));
        }
        if !self.list().iter().any(|listed| listed.name == name) {
            return None;
        }
        let others = self.waiting.fetch_add(1, Ordering::SeqCst);
        let got = match others < MOST {
            true => {
                let _one = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
                // Somebody else may have opened it meanwhile.
                self.find(name).map_or_else(|| self.open(name), Ok)
            }
            false => {
                let line = format!("\"{name}\" is not open, and {others} requests wait for models");
                Err(ApiError::unavailable("overloaded", line, 5))
            }
        };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        Some(got)
    }

    /// What a model takes, where that is counted.
    fn needs(&self, name: &str) -> Result<u64> {
        let Some(memory) = self.memory else { return Ok(0) };
        let failed = |why: String| Unopened::from(why).told(name);
        match self.library.bytes(name).map_err(failed)? {
            bytes if bytes > memory => {
                Err(failed(format!("it takes {bytes} bytes, and models on demand may take {memory}")))
            }
            bytes => Ok(bytes),
        }
    }

    fn open(&self, name: &str) -> Result<Arc<Served>> {
        let bytes = self.needs(name)?;
        let until = Instant::now() + self.patience;
        let made = loop {
            let made = self.room_for(bytes);
            if made.is_some() || Instant::now() >= until {
                break made;
            }
            // Where requests come without a pause none is ever idle: the one that was not asked for longest answers
            // what it has, and nothing new before who waits here.
            let mut all = self.all();
            let enough = all.iter().any(|o| o.leaves && !o.is_idle());
            let oldest = all.iter_mut().filter(|o| !o.leaves && !enough).min_by_key(|o| o.last);
            oldest.into_iter().for_each(|o| o.leaves = true);
            drop(all);
            std::thread::sleep(LOOK);
        };
        self.all().iter_mut().for_each(|o| o.leaves = false);
        let Some(closing) = made else {
            let n = self.all().len();
            let line = format!("\"{name}\" is not open, and all {n} models that are have work to do");
            return Err(ApiError::unavailable("overloaded", line, 5));
        };
        closing.into_iter().for_each(Open::close);
        let (served, worker) = self.library.open(name).map_err(|e| e.told(name))?;
        let served = Arc::new(served);
        self.all().push(Open { served: served.clone(), worker, bytes, last: Instant::now(), leaves: false });
        Ok(served)
    }

    /// Takes off the shelf what has to be closed for a model that takes so much; None where that has work to do.
    fn room_for(&self, bytes: u64) -> Option<Vec<Open>> {
        let mut all = self.all();
        let mut closing = Vec::new();
        let used = |all: &[Open]| all.iter().map(|o| o.bytes).sum::<u64>();
        while all.len() >= self.room || self.memory.is_some_and(|m| used(&all).saturating_add(bytes) > m) {
            let oldest = (0..all.len()).filter(|i| all[*i].is_idle()).min_by_key(|i| all[*i].last);
            let Some(oldest) = oldest else {
                all.extend(closing);
                return None;
            };
            closing.push(all.swap_remove(oldest));
        }
        self.remember(&closing);
        Some(closing)
    }

    /// Closes a model that is open.
    ///
    /// # Errors
    /// It answers somebody.
    pub(crate) fn close(&self, name: &str) -> Result<()> {
        let found = {
            let mut all = self.all();
            match all.iter().position(|o| o.served.card.id == name) {
                Some(at) if !all[at].is_idle() => {
                    let line = format!("\"{name}\" answers somebody just now");
                    return Err(ApiError::unavailable("busy", line, 5));
                }
                at => {
                    let found: Vec<Open> = at.map(|at| all.swap_remove(at)).into_iter().collect();
                    self.remember(&found);
                    found
                }
            }
        };
        found.into_iter().for_each(Open::close);
        Ok(())
    }

    /// Closes what nobody has asked for in a while.
    pub(crate) fn sweep(&self) {
        let Some(keep) = self.keep else { return };
        let old: Vec<Open> = {
            let mut all = self.all();
            let (old, stay): (Vec<Open>, _) =
                std::mem::take(&mut *all).into_iter().partition(|o| o.is_idle() && o.last.elapsed() >= keep);
            *all = stay;
            self.remember(&old);
            old
        };
        old.into_iter().for_each(Open::close);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Barrier};
    use std::time::Duration;

    use weft_formats::gguf::File;
    use weft_formats::tokenizer::Tokenizer;
    use weft_models::Sampling;

    use super::{Library, Listed, Opened, Shelf, Unopened};
    use crate::engine::fake::Fake;
    use crate::engine::{Backend, Limits, Start, Worker};
    use crate::{Card, Served};

    struct Three {
        tokenizer: Tokenizer,
        opened: Arc<AtomicUsize>,
    }

    impl Library for Three {
        fn list(&self) -> Vec<Listed> {
            let one = |name: &str| Listed { name: name.into(), ..Listed::default() };
            ["a", "b", "c", "broken", "crowded"].map(one).to_vec()
        }

        fn bytes(&self, name: &str) -> Result<u64, String> {
            Ok(match name {
                "a" => 10,
                "b" => 20,
                _ => 40,
            })
        }

        fn open(&self, name: &str) -> Result<Opened, Unopened> {
            match name {
                "broken" => return Err("it is no model".into()),
                "crowded" => return Err(Unopened { why: "no memory is left".into(), may_pass: true }),
                _ => {}
            }
            self.opened.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(20));
            let tokenizer = self.tokenizer.clone();
            let fake: Start =
                Box::new(move || Ok(Box::new(Fake::new(tokenizer.clone(), 1, 64)) as Box<dyn Backend>));
            let worker = Worker::spawn(fake, Limits::default())?;
            let card = Card {
                id: name.into(),
                tokenizer: self.tokenizer.clone(),
                template: Err("none".into()),
                context: 64,
                trained: 64,
                slots: 1,
                vocabulary: 10,
                sampling: Sampling::default(),
                created: 0,
                adapters: Vec::new(),
                adapted: Vec::new(),
                facts: Default::default(),
            };
            Ok((Served::text(card, worker.handle()), Some(worker)))
        }
    }

    fn shelf(keep: Option<Duration>) -> (Shelf, Arc<AtomicUsize>) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/assets/weft-mini.gguf");
        let file = File::open(&path).expect("weft-mini");
        let opened = Arc::new(AtomicUsize::new(0));
        let three =
            Three { tokenizer: Tokenizer::from_metadata(file.metadata()).unwrap(), opened: opened.clone() };
        (Shelf::new(Box::new(three), 2, keep), opened)
    }

    fn open(shelf: &Shelf) -> Vec<String> {
        let mut all: Vec<_> = shelf.opened().iter().map(|s| s.card.id.clone()).collect();
        all.sort();
        all
    }

    #[test]
    fn the_one_that_was_not_asked_for_longest_is_closed() {
        let (shelf, opened) = shelf(None);
        for name in ["a", "b", "a", "c"] {
            assert_eq!(shelf.get(name).unwrap().unwrap().card.id, name);
        }
        assert_eq!((open(&shelf), opened.load(Ordering::SeqCst)), (vec!["a".into(), "c".into()], 3));
        assert!(shelf.get("d").is_none());
        // What no repetition mends is not asked for one.
        let error = shelf.get("broken").unwrap().unwrap_err();
        assert!(error.status == 500 && error.message.contains("it is no model"), "{error:?}");
        assert!(error.lasts && error.retry_after.is_none(), "{error:?}");
        let error = shelf.get("crowded").unwrap().unwrap_err();
        assert!(error.status == 503 && error.message.contains("no memory is left"), "{error:?}");
        assert!(!error.lasts && error.retry_after.is_some(), "{error:?}");
    }

    #[test]
    fn those_that_are_open_keep_to_the_memory() {
        let (shelf, _) = shelf(None);
        let shelf = Shelf { room: 9, ..shelf.within(Some(50)) };
        for name in ["a", "b"] {
            shelf.get(name).unwrap().unwrap();
        }
        assert_eq!(open(&shelf), ["a", "b"]);
        // The one that was not asked for longest goes, and no more than has to.
        shelf.get("a").unwrap().unwrap();
        shelf.get("c").unwrap().unwrap();
        assert_eq!(open(&shelf), ["a", "c"]);
        let (shelf, _) = self::shelf(None);
        let error = shelf.within(Some(39)).get("c").unwrap().unwrap_err();
        assert!(error.message.contains("takes 40 bytes") && error.message.contains("39"), "{error:?}");
        assert!(error.status == 500 && error.lasts, "{error:?}");
    }

    /// What was counted stays counted while a model is closed, and where it is opened again.
    #[test]
    fn counts_outlive_what_is_closed() {
        let (shelf, _) = shelf(None);
        let counted = |shelf: &Shelf| {
            let (open, past) = shelf.watched();
            let open = open.iter().find(|m| m.card.id == "a").map(|m| m.totals().unwrap().clone());
            open.iter().chain(past.get("a")).map(|t| t.refused.load(Ordering::Relaxed)).sum::<u64>()
        };
        for round in 1..=3 {
            let a = shelf.get("a").unwrap().unwrap();
            a.totals().unwrap().refused.fetch_add(2, Ordering::Relaxed);
            assert_eq!(counted(&shelf), 2 * round);
            drop(a);
            match round {
                1 => shelf.close("a").unwrap(),
                // Those that make room for others are remembered as well.
                _ => ["b", "c"].iter().for_each(|name| drop(shelf.get(name).unwrap().unwrap())),
            }
            assert!(!open(&shelf).contains(&"a".to_owned()));
            assert_eq!(counted(&shelf), 2 * round);
        }
    }

    #[test]
    fn what_is_in_use_stays_open() {
        let (shelf, _) = shelf(Some(Duration::ZERO));
        let (a, b) = (shelf.get("a").unwrap().unwrap(), shelf.get("b").unwrap().unwrap());
        assert_eq!(shelf.get("c").unwrap().unwrap_err().code, "overloaded");
        assert_eq!(shelf.close("a").unwrap_err().code, "busy");
        shelf.sweep();
        assert_eq!(open(&shelf), ["a", "b"]);
        drop((a, b));
        assert!(shelf.close("a").is_ok() && shelf.close("d").is_ok());
        assert_eq!(open(&shelf), ["b"]);
        shelf.sweep();
        assert_eq!(open(&shelf), [""; 0]);
    }

    #[test]
    fn many_who_ask_for_one_wait_for_one_opening() {
        let (shelf, opened) = shelf(None);
        let all = Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    all.wait();
                    assert_eq!(shelf.get("a").unwrap().unwrap().card.id, "a");
                });
            }
        });
        assert_eq!(opened.load(Ordering::SeqCst), 1);
    }

    /// Where all that are open are asked without a pause, one that is not open has its turn.
    #[test]
    fn one_that_is_asked_for_waits_for_room() {
        let (shelf, _) = shelf(None);
        let shelf = shelf.patient(Duration::from_secs(60));
        let stop = std::sync::atomic::AtomicBool::new(false);
        let (shelf, stop) = (&shelf, &stop);
        std::thread::scope(|scope| {
            for name in ["a", "b"] {
                // Two who take turns, so that at any time somebody has it.
                for _ in 0..2 {
                    scope.spawn(move || {
                        while !stop.load(Ordering::SeqCst) {
                            let held = shelf.get(name).unwrap().unwrap();
                            assert_eq!(held.card.id, name);
                            std::thread::sleep(Duration::from_millis(15));
                        }
                    });
                }
            }
            for _ in 0..3 {
                assert_eq!(shelf.get("c").unwrap().unwrap().card.id, "c");
                std::thread::sleep(Duration::from_millis(40));
            }
            stop.store(true, Ordering::SeqCst);
        });
        assert_eq!(open(shelf).len(), 2);
    }

    /// Who cannot be waited for any longer is left as it was.
    #[test]
    fn patience_has_an_end() {
        let (shelf, _) = shelf(None);
        let shelf = shelf.patient(Duration::from_millis(30));
        let (a, b) = (shelf.get("a").unwrap().unwrap(), shelf.get("b").unwrap().unwrap());
        assert_eq!(shelf.get("c").unwrap().unwrap_err().code, "overloaded");
        assert_eq!(shelf.get("a").unwrap().unwrap().card.id, "a");
        drop((a, b));
    }
}
