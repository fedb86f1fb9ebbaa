//! A model, from its name to its place.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use weft_formats::gguf;

use crate::error::{Error, Kind, Result};
use crate::fetch::{self, Fetching, Known};
use crate::http::{self, Patience};
use crate::hub::{self, Remote};
use crate::name::{Name, is_name, split, stem};
use crate::store::{Entry, Record, Store, is_file, read_json, write_json};
use crate::url::Url;

/// How a pull goes about it.
#[derive(Debug, Clone)]
pub struct Options {
    /// The hub that names are of.
    pub endpoint: Url,
    /// What opens private repositories of the hub; it goes to the hub alone, and only where nobody can read along.
    pub token: Option<String>,
    /// What the model is called here, in place of its file's name.
    pub rename: Option<String>,
    /// The checksum that a file of an address has to have.
    pub sha256: Option<String>,
    /// A file of further authorities whose certificates are trusted, in PEM.
    pub authorities: Option<PathBuf>,
    /// How often a connection that fails is tried again without getting further.
    pub tries: u32,
    /// How long the first of these pauses is; each is twice the one before.
    pub pause: Duration,
    /// How long a server may be silent.
    pub stall: Duration,
}

impl Options {
    /// Pulls from this hub, without a token.
    pub fn new(endpoint: Url) -> Options {
        Options {
            endpoint,
            token: None,
            rename: None,
            sha256: None,
            authorities: None,
            tries: 5,
            pause: Duration::from_secs(1),
            stall: Duration::from_secs(30),
        }
    }
}

/// What a pull does at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It reads what an earlier call left.
    Checking,
    /// Bytes come.
    Pulling,
    /// It waits to try again.
    Waiting,
}

/// How far a pull is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// What it does.
    pub stage: Stage,
    /// The file that it is at.
    pub file: &'a str,
    /// The number of that, from 1 on, and how many there are.
    pub place: (usize, usize),
    /// Bytes that are there, of all files.
    pub done: u64,
    /// Bytes of all files, where they are known.
    pub total: Option<u64>,
    /// Bytes a second, lately.
    pub rate: f64,
    /// How long it will take yet.
    pub left: Option<Duration>,
    /// Something that happened, for people; told once.
    pub note: Option<&'a str>,
}

/// A model that is there.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// What it is called, and its files.
    pub entry: Entry,
    /// Whether it was there before.
    pub was_there: bool,
}

/// Counts bytes, and tells about them ten times a second.
pub(crate) struct Meter<'a> {
    told: &'a mut dyn FnMut(&Progress<'_>),
    file: String,
    place: (usize, usize),
    /// Bytes of the files before this one.
    before: u64,
    /// Sizes of all files, where they are known.
    sizes: Vec<Option<u64>>,
    samples: VecDeque<(Instant, u64)>,
    last: Option<Instant>,
    note: Option<String>,
}

/// How far back the rate looks.
const LATELY: Duration = Duration::from_secs(5);
/// How often it tells.
const BEAT: Duration = Duration::from_millis(100);

impl Meter<'_> {
    fn next(&mut self, file: &str) {
        self.before = self.sizes.iter().take(self.place.0).flatten().sum();
        self.place.0 += 1;
        self.file = file.to_owned();
        self.last = None;
    }

    /// The size of the file that it is at.
    pub(crate) fn size(&mut self, size: u64) {
        self.sizes[self.place.0 - 1] = Some(size);
    }

    /// Something to tell with the next word.
    pub(crate) fn note(&mut self, text: &str) {
        self.note = Some(text.to_owned());
        self.last = None;
    }

    /// So many bytes of the file are there.
    pub(crate) fn at(&mut self, stage: Stage, bytes: u64) {
        let now = Instant::now();
        let done = self.before + bytes;
        if self.last.is_some_and(|last| now - last < BEAT) {
            return;
        }
        self.last = Some(now);
        if stage != Stage::Pulling || self.samples.back().is_some_and(|s| s.1 > done) {
            self.samples.clear();
        }
        if stage == Stage::Pulling {
            self.samples.push_back((now, done));
            while self.samples.len() > 2 && now - self.samples[0].0 > LATELY {
                self.samples.pop_front();
            }
        }
        let rate = self.samples.front().map_or(0.0, |first| {
            let time = (now - first.0).as_secs_f64();
            if time > 0.0 { (done - first.1) as f64 / time } else { 0.0 }
        });
        let total = self.sizes.iter().copied().sum::<Option<u64>>();
        let left = total.filter(|_| rate > 1.0).map(|t| t.saturating_sub(done) as f64 / rate);
        let left = left.and_then(|s| Duration::try_from_secs_f64(s).ok());
        let note = self.note.take();
        let (file, place) = (self.file.as_str(), self.place);
        (self.told)(&Progress { stage, file, place, done, total, rate, left, note: note.as_deref() });
    }
}

/// A file that is to come, and what it will be called here.
struct Item {
    remote: Remote,
    source: String,
    local: String,
}

/// Pulls a model into a folder. `stop` is asked often whether it should end; what there is then is kept.
///
/// # Errors
/// Anything that keeps the model from being there whole. The next call goes on where this one ended.
pub fn pull(
    store: &Store,
    name: &Name,
    options: &Options,
    stop: &dyn Fn() -> bool,
    told: &mut dyn FnMut(&Progress<'_>),
) -> Result<Pulled> {
    let patience = Patience { authorities: options.authorities.as_deref(), stall: options.stall, stop };
    let token = options
        .token
        .as_deref()
        .filter(|_| options.endpoint.is_private() && matches!(name, Name::Hub { .. }));
    let (remotes, revision) = find(name, options, token, &patience)?;
    let (model, items) = places(name, remotes, options)?;
    let _lock = store.lock(&model)?;
    if let Some(entry) = there(store, &model, &items, token, &patience)? {
        return Ok(Pulled { entry, was_there: true });
    }
    let mut known = pending(store, &model, &items);
    let there = |i: &Item| is_file(&store.part_path(&i.local)).unwrap_or(0);
    let needed = items.iter().filter_map(|i| Some(i.remote.size?.saturating_sub(there(i)))).sum();
    fetch::room(store.folder(), needed)?;
    let sizes = items.iter().zip(&known).map(|(i, k)| i.remote.size.or(k.size)).collect();
    let mut meter = Meter {
        told,
        file: String::new(),
        place: (0, items.len()),
        before: 0,
        sizes,
        samples: VecDeque::new(),
        last: None,
        note: None,
    };
    let asked = name.to_string();
    let mut files = Vec::new();
    for (i, item) in items.iter().enumerate() {
        meter.next(&item.local);
        let mut one = known[i].clone();
        let mut save = |now: &Known| {
            known[i] = now.clone();
            write_json(&store.pending_path(&model), &pending_json(&asked, &items, &known))
        };
        let mut fetching =
            Fetching { options, token, patience: &patience, meter: &mut meter, save: &mut save };
        let path = store.part_path(&item.local);
        let fetched = fetching.file(&item.remote, &path, &mut one).and_then(|told| {
            check(store, item, (i, items.len()))?;
            Ok(told)
        });
        let (size, sha256) = fetched.inspect_err(|_| tidy(store, &model, &items))?;
        files.push((item.local.clone(), size, sha256));
    }
    let pulled = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (source, etag) = (items[0].source.clone(), known[0].etag.clone());
    let record = Record { name: asked, source, revision, etag, files, pulled };
    finish(store, &model, &items, &record)
}

/// Leaves nothing behind where nothing came.
fn tidy(store: &Store, model: &str, items: &[Item]) {
    let mut some = false;
    for path in items.iter().map(|i| store.part_path(&i.local)) {
        match is_file(&path) {
            Some(0) => drop(std::fs::remove_file(path)),
            Some(_) => some = true,
            None => {}
        }
    }
    if !some {
        let _ = std::fs::remove_file(store.pending_path(model));
    }
}

/// All is there and right: the files get their names.
fn finish(store: &Store, model: &str, items: &[Item], record: &Record) -> Result<Pulled> {
    place(store, items)?;
    write_json(&store.record_path(model), &record.json())?;
    let _ = std::fs::remove_file(store.pending_path(model));
    let entry = store.list().into_iter().find(|e| e.name == model);
    let entry =
        entry.ok_or_else(|| Error::new(Kind::Io, format!("{model}: somebody took its files away")))?;
    Ok(Pulled { entry, was_there: false })
}

/// The files that a name means.
fn find(
    name: &Name,
    options: &Options,
    token: Option<&str>,
    patience: &Patience<'_>,
) -> Result<(Vec<Remote>, Option<String>)> {
    let url = match name {
        Name::Url(url) => url,
        Name::Hub { repo, which } => {
            let mut tries = 0;
            loop {
                let found = hub::files(&options.endpoint, (repo, which), token, patience);
                let Err(e) = &found else { return found };
                let Some(pause) = fetch::again(e, tries, options) else { return found };
                tries += 1;
                patience.wait(pause)?;
            }
        }
    };
    let file = url.path().rsplit('/').next().unwrap_or_default();
    let remote = |url: Url, file: &str| Remote { url, file: file.to_owned(), size: None, sha256: None };
    let Some((base, _, count)) = stem(file).and_then(split) else {
        let sha256 = options.sha256.clone();
        return Ok((vec![Remote { sha256, ..remote(url.clone(), file) }], None));
    };
    if options.sha256.is_some() {
        return Err(Error::new(
            Kind::Name,
            format!("{file}: a split model has a checksum for each file, not one"),
        ));
    }
    let parts = (1..=count).map(|no| {
        let part = format!("{base}-{no:05}-of-{count:05}.gguf");
        let target = url.target.replacen(file, &part, 1);
        remote(Url { target, ..url.clone() }, &part)
    });
    Ok((parts.collect(), None))
}

/// What a model and its files are called here.
fn places(name: &Name, remotes: Vec<Remote>, options: &Options) -> Result<(String, Vec<Item>)> {
    let first = stem(&remotes[0].file).unwrap_or_default();
    let own = split(first).map_or(first, |s| s.0).to_owned();
    let model = options.rename.clone().unwrap_or(own);
    if !is_name(&model) || split(&model).is_some() {
        let line = match &options.rename {
            Some(_) => format!("--as {model:?}: a name has letters, digits, '-', '_' and '.'"),
            None => format!("{name}: what it names is no file NAME.gguf; give it a name by --as"),
        };
        return Err(Error::new(Kind::Name, line));
    }
    let count = remotes.len();
    let item = |(i, remote): (usize, Remote)| Item {
        source: match name {
            Name::Url(_) => remote.url.to_string(),
            Name::Hub { repo, .. } => options.endpoint.below(&format!("{repo}/{}", remote.file)).to_string(),
        },
        local: match split(stem(&remote.file).unwrap_or_default()) {
            Some(_) => format!("{model}-{:05}-of-{count:05}.gguf", i + 1),
            None => format!("{model}.gguf"),
        },
        remote,
    };
    Ok((model.clone(), remotes.into_iter().enumerate().map(item).collect()))
}

/// The model, if what is there is what there is to pull.
fn there(
    store: &Store,
    model: &str,
    items: &[Item],
    token: Option<&str>,
    patience: &Patience<'_>,
) -> Result<Option<Entry>> {
    let Some(entry) = store.list().into_iter().find(|e| e.name == model) else { return Ok(None) };
    let taken = |from: &str| {
        let line = format!(
            "{model} is there already, {from}; give this one another name by --as, or remove that one first"
        );
        Err(Error::new(Kind::Taken, line))
    };
    let Some(record) = &entry.record else { return taken("and was not pulled") };
    if record.source != items[0].source {
        return taken(&format!("from {}", record.source));
    }
    let same_sizes = entry.files.iter().zip(&record.files).all(|(path, f)| is_file(path) == Some(f.1));
    if !same_sizes || record.files.len() != items.len() {
        return Ok(None);
    }
    let same = match items.iter().map(|i| i.remote.sha256.as_ref()).collect::<Option<Vec<_>>>() {
        Some(sums) => sums.into_iter().zip(&record.files).all(|(sum, f)| *sum == f.2),
        // Without a checksum to compare, the tag says whether it is still the same.
        None if items.len() == 1 && record.etag.is_some() => {
            let answer = http::get(&items[0].remote.url, &[], token, patience)?;
            answer.status == 200
                && fetch::strong(&answer) == record.etag
                && answer.length() == Some(record.files[0].1)
        }
        None => false,
    };
    Ok(same.then_some(entry))
}

/// What an earlier call left; what is of other files is thrown away.
fn pending(store: &Store, model: &str, items: &[Item]) -> Vec<Known> {
    let told = read_json(&store.pending_path(model)).unwrap_or_default();
    let text = |v: &Value| v.as_str().map(str::to_owned);
    let one = |(i, item): (usize, &Item)| {
        let left = &told["files"][i];
        let same = left["source"].as_str() == Some(&item.source)
            && left["file"].as_str() == Some(&item.local)
            && (item.remote.sha256.is_none() || item.remote.sha256 == text(&left["sha256"]));
        if same {
            return Known {
                etag: text(&left["etag"]),
                size: left["size"].as_u64(),
                sha256: text(&left["sha256"]),
            };
        }
        let _ = std::fs::remove_file(store.part_path(&item.local));
        Known::default()
    };
    items.iter().enumerate().map(one).collect()
}

fn pending_json(asked: &str, items: &[Item], known: &[Known]) -> Value {
    let one = |(item, known): (&Item, &Known)| {
        json!({ "file": item.local, "source": item.source, "etag": known.etag,
                "size": item.remote.size.or(known.size), "sha256": item.remote.sha256.as_ref().or(known.sha256.as_ref()) })
    };
    json!({ "name": asked, "files": items.iter().zip(known).map(one).collect::<Vec<_>>() })
}

/// Refuses what is no model file, before it has a model's name.
fn check(store: &Store, item: &Item, (i, count): (usize, usize)) -> Result<()> {
    let path = store.part_path(&item.local);
    let bad = |why: String| {
        // It would be no other the next time.
        let _ = std::fs::remove_file(&path);
        Err(Error::new(Kind::Format, format!("{}: {why}", item.remote.file)))
    };
    let (no, of) = match gguf::File::open(&path) {
        Ok(_) => (1, 1),
        // Its own header and tensors are checked by then; the others lie under other names yet.
        Err(gguf::Error { cause: gguf::Cause::ShardName { no, count }, .. }) => (no, count),
        Err(e) => return bad(e.cause.to_string()),
    };
    match no == i as u64 + 1 && of == count as u64 {
        true => Ok(()),
        false => bad(format!("it says that it is file {no} of {of}, and is {} of {count}", i + 1)),
    }
}

/// Gives the files their names: the first last, since it is what others are found by.
fn place(store: &Store, items: &[Item]) -> Result<()> {
    for item in items.iter().rev() {
        let path = store.folder().join(&item.local);
        std::fs::rename(store.part_path(&item.local), &path).map_err(|e| Error::io(&path, &e))?;
    }
    sync(store.folder());
    let first = store.folder().join(&items[0].local);
    gguf::File::open(&first).map(drop).map_err(|e| {
        items.iter().for_each(|i| drop(std::fs::remove_file(store.folder().join(&i.local))));
        Error::new(Kind::Format, e.cause.to_string())
    })
}

/// Puts the names on the disk; a system that cannot do that does it by itself.
fn sync(folder: &Path) {
    if let Ok(folder) = std::fs::File::open(folder) {
        let _ = folder.sync_all();
    }
}
