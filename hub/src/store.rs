//! The folder where models lie. What is known of those that were pulled lies in `.weft/` within it: where they are from
//! and what their files' checksums are. Files that somebody else put there are models too.

use std::fs::{File, TryLockError};
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};
use crate::name::{split, stem};

/// Bytes of a record at most.
const RECORD: u64 = 1 << 20;

/// A folder of models.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// What is known of a model that was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// As it was asked for.
    pub name: String,
    /// The address of its first file, without a query.
    pub source: String,
    /// The revision of the repository, if there is one.
    pub revision: Option<String>,
    /// The first file's tag, where the server gave one that tells versions apart.
    pub etag: Option<String>,
    /// Files with their sizes and checksums.
    pub files: Vec<(String, u64, String)>,
    /// When, in seconds since 1970.
    pub pulled: u64,
}

/// A model that is there.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What requests and commands call it.
    pub name: String,
    /// Its files, the first first.
    pub files: Vec<PathBuf>,
    /// Bytes of all of them.
    pub size: u64,
    /// What is known of it, if it was pulled.
    pub record: Option<Record>,
}

/// A model of which a part is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partial {
    /// What it will be called.
    pub name: String,
    /// As it was asked for.
    pub asked: String,
    /// Bytes that are there.
    pub done: u64,
    /// Bytes that it will have, if they are known.
    pub total: Option<u64>,
}

/// What a check of a model's files said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All bytes are those that were pulled.
    Right,
    /// The files are whole GGUF files; nobody has told their checksums.
    Whole,
}

/// Held as long as somebody writes or removes a model.
pub(crate) struct Lock(#[allow(dead_code)] File);

impl Record {
    fn read(path: &Path) -> Option<Record> {
        let told = read_json(path)?;
        let text = |name: &str| told[name].as_str().map(str::to_owned);
        let file = |f: &Value| {
            let name = f["file"].as_str()?;
            Some((name.to_owned(), f["size"].as_u64()?, f["sha256"].as_str()?.to_owned()))
        };
        Some(Record {
            name: text("name")?,
            source: text("source")?,
            revision: text("revision"),
            etag: text("etag"),
            files: told["files"].as_array()?.iter().map(file).collect::<Option<_>>()?,
            pulled: told["pulled"].as_u64()?,
        })
    }

    /// As it is written and shown.
    pub fn json(&self) -> Value {
        let file = |(file, size, sha256): &(String, u64, String)| json!({ "file": file, "size": size, "sha256": sha256 });
        json!({
            "name": self.name, "source": self.source, "revision": self.revision, "etag": self.etag,
            "files": self.files.iter().map(file).collect::<Vec<_>>(), "pulled": self.pulled,
        })
    }
}

pub(crate) fn read_json(path: &Path) -> Option<Value> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(RECORD).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Writes a small file whole.
pub(crate) fn write_json(path: &Path, value: &Value) -> Result<()> {
    let beside = path.with_extension("new");
    let write = || {
        std::fs::write(&beside, format!("{value:#}\n"))?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|e| Error::io(path, &e))
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

/// Where this system keeps a user's data.
fn data() -> Option<PathBuf> {
    if cfg!(windows) {
        return variable("LOCALAPPDATA");
    }
    if cfg!(target_os = "macos") {
        return Some(variable("HOME")?.join("Library/Application Support"));
    }
    variable("XDG_DATA_HOME")
        .filter(|p| p.is_absolute())
        .or_else(|| Some(variable("HOME")?.join(".local/share")))
}

impl Store {
    /// The models of a folder, which need not be there yet.
    pub fn at(folder: impl Into<PathBuf>) -> Store {
        Store { folder: folder.into() }
    }

    /// The folder of `WEFT_MODELS`, else `weft/models` where the system keeps a user's data.
    ///
    /// # Errors
    /// The environment does not say where that is.
    pub fn standard() -> Result<Store> {
        let folder = variable("WEFT_MODELS").or_else(|| Some(data()?.join("weft").join("models")));
        let line = "where models lie is not known: neither WEFT_MODELS nor HOME is set";
        folder.map(Store::at).ok_or_else(|| Error::new(Kind::Io, line))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn notes(&self) -> PathBuf {
        self.folder.join(".weft")
    }

    pub(crate) fn record_path(&self, name: &str) -> PathBuf {
        self.notes().join(format!("{name}.json"))
    }

    pub(crate) fn pending_path(&self, name: &str) -> PathBuf {
        self.notes().join(format!("{name}.pending"))
    }

    /// Makes the folder.
    pub(crate) fn prepare(&self) -> Result<()> {
        let notes = self.notes();
        std::fs::create_dir_all(&notes).map_err(|e| Error::io(&notes, &e))
    }

    /// Keeps others from writing a model of this name.
    pub(crate) fn lock(&self, name: &str) -> Result<Lock> {
        self.prepare()?;
        let path = self.notes().join(format!("{name}.lock"));
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|e| Error::io(&path, &e))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => Err(Error::new(
                Kind::Busy,
                format!("{name}: it is being pulled already, by this weft or another"),
            )),
            Err(TryLockError::Error(e)) => Err(Error::io(&path, &e)),
        }
    }

    /// The models that are there, by name. A split one of which a file is missing is none.
    pub fn list(&self) -> Vec<Entry> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return Vec::new() };
        let mut all: Vec<Entry> = Vec::new();
        for entry in entries.filter_map(|e| e.ok()) {
            let path = entry.path();
            let Some(file) = path.file_name().and_then(|n| n.to_str()) else { continue };
            let Some(stem) = stem(file) else { continue };
            let (name, files) = match split(stem) {
                None => (stem, vec![path.clone()]),
                Some((name, 1, count)) => {
                    let part = |no| self.folder.join(format!("{name}-{no:05}-of-{count:05}.gguf"));
                    (name, (1..=count).map(part).collect())
                }
                Some(_) => continue,
            };
            let sizes: Option<Vec<u64>> = files.iter().map(|f| is_file(f)).collect();
            let Some(sizes) = sizes else { continue };
            let record = Record::read(&self.record_path(name));
            all.push(Entry { name: name.to_owned(), files, size: sizes.iter().sum(), record });
        }
        all.sort_by(|a, b| (&a.name, a.files.len()).cmp(&(&b.name, b.files.len())));
        all.dedup_by(|b, a| a.name == b.name);
        all
    }

    /// The model of a name: what it is called, its file's name, or what it was pulled as.
    pub fn find(&self, name: &str) -> Option<Entry> {
        let all = self.list();
        let bare = stem(name).unwrap_or(name);
        let asked = ["hf.co/", "huggingface.co/"].iter().find_map(|p| name.strip_prefix(p)).unwrap_or(name);
        let pulled = |e: &&Entry| e.record.as_ref().is_some_and(|r| r.name == asked);
        let file = |e: &&Entry| e.files.iter().any(|f| f.file_stem().is_some_and(|s| s == bare));
        all.iter()
            .find(|e| e.name == bare)
            .or_else(|| all.iter().find(file))
            .or_else(|| all.iter().find(pulled))
            .cloned()
    }

    fn need(&self, name: &str) -> Result<Entry> {
        self.find(name).ok_or_else(|| {
            let shown: String = name.chars().take(120).collect();
            let mut known: Vec<String> = self.list().into_iter().map(|e| e.name).collect();
            if known.is_empty() {
                known.push("none".into());
            }
            Error::new(Kind::Missing, format!("there is no model {shown:?}; there are: {}", known.join(", ")))
        })
    }

    /// The models of which a part was pulled.
    pub fn partial(&self) -> Vec<Partial> {
        let Ok(entries) = std::fs::read_dir(self.notes()) else { return Vec::new() };
        let mut all: Vec<Partial> = entries
            .filter_map(|e| {
                let path = e.ok()?.path();
                let name = path.file_name()?.to_str()?.strip_suffix(".pending")?.to_owned();
                let told = read_json(&path)?;
                let files = told["files"].as_array()?;
                let there = |f: &Value| {
                    let file = f["file"].as_str().filter(|f| crate::is_name(f));
                    file.and_then(|f| is_file(&self.part_path(f)))
                };
                let done = files.iter().filter_map(there).sum();
                let total: Option<Vec<u64>> = files.iter().map(|f| f["size"].as_u64()).collect();
                let asked = told["name"].as_str()?.to_owned();
                Some(Partial { name, asked, done, total: total.map(|t| t.iter().sum()) })
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    pub(crate) fn part_path(&self, file: &str) -> PathBuf {
        self.folder.join(format!("{file}.part"))
    }

    /// Reads all of a model's files and compares them with what was pulled. `told` hears how many bytes were read.
    ///
    /// # Errors
    /// No such model, or one that is not what it was.
    pub fn verify(&self, name: &str, told: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<Verdict> {
        let entry = self.need(name)?;
        let bad = |line: String| Error::new(Kind::Checksum, format!("{}: {line}", entry.name));
        let Some(record) = &entry.record else {
            weft_formats::gguf::File::open(&entry.files[0])
                .map_err(|e| Error::new(Kind::Format, e.to_string()))?;
            return Ok(Verdict::Whole);
        };
        for (file, size, sha256) in &record.files {
            let path = self.folder.join(file);
            let found = is_file(&path).ok_or_else(|| bad(format!("{file} is gone")))?;
            if found != *size {
                return Err(bad(format!(
                    "{file} has {found} bytes, and had {size}; remove it and pull it again"
                )));
            }
            let mut hash = Sha256::new();
            read(&path, &mut |bytes| {
                hash.update(bytes);
                told(bytes.len() as u64)
            })?;
            if weft_formats::hex(&hash.finalize()) != *sha256 {
                return Err(bad(format!("{file} is not what was pulled; remove it and pull it again")));
            }
        }
        weft_formats::gguf::File::open(&entry.files[0])
            .map_err(|e| Error::new(Kind::Format, e.to_string()))?;
        Ok(Verdict::Right)
    }

    /// Removes a model, or what there is of one that was not pulled whole; gives the bytes that are free now.
    ///
    /// # Errors
    /// No such model, or one that is being pulled.
    pub fn remove(&self, name: &str) -> Result<u64> {
        let entry = match self.find(name) {
            Some(entry) => entry,
            None if self.partial().iter().any(|p| p.name == name || p.asked == name) => {
                return self.discard(name);
            }
            None => self.need(name)?,
        };
        let _lock = self.lock(&entry.name)?;
        // The first last: without it the others are no model.
        for path in entry.files.iter().rev() {
            std::fs::remove_file(path).map_err(|e| Error::io(path, &e))?;
        }
        let _ = std::fs::remove_file(self.record_path(&entry.name));
        Ok(entry.size)
    }

    /// Drops what there is of a model that was asked for so and was not pulled whole; gives the bytes that are free now.
    ///
    /// # Errors
    /// None such, or one that is being pulled.
    pub fn discard(&self, asked: &str) -> Result<u64> {
        let part = self.partial().into_iter().find(|p| p.asked == asked || p.name == asked);
        let part = part.ok_or_else(|| Error::new(Kind::Missing, "no part of such a model is there"))?;
        self.clear(&part.name)?;
        Ok(part.done)
    }

    /// Drops a model of which a part is there.
    fn clear(&self, name: &str) -> Result<()> {
        let _lock = self.lock(name)?;
        let path = self.pending_path(name);
        let files = read_json(&path).unwrap_or_default();
        for file in files["files"].as_array().into_iter().flatten().filter_map(|f| f["file"].as_str()) {
            if crate::is_name(file) {
                let _ = std::fs::remove_file(self.part_path(file));
            }
        }
        std::fs::remove_file(&path).map_err(|e| Error::io(&path, &e))
    }
}

/// The size of a regular file.
pub(crate) fn is_file(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().filter(|m| m.is_file()).map(|m| m.len())
}

/// Hands the bytes of a file to `take`, until it breaks.
pub(crate) fn read(path: &Path, take: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> Result<()> {
    let mut file = File::open(path).map_err(|e| Error::io(path, &e))?;
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece).map_err(|e| Error::io(path, &e))? {
            0 => return Ok(()),
            n => {
                if take(&piece[..n]).is_break() {
                    return Err(Error::stopped());
                }
            }
        }
    }
}
