//! The store: one file (redb) with documents, passages and vectors. A document is in it whole or not at all, whenever the
//! process ends.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use half::f16;
use half::slice::HalfFloatSliceExt;
use redb::backends::InMemoryBackend;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::chunk::Chunk;
use crate::file::{open_file, plain};
use crate::index::Index;
use crate::models::About;
use crate::read::{Document, Kind};
use crate::{Error, Result};

/// What the whole file is: its version, its embedder.
const ABOUT: TableDefinition<'_, &str, &str> = TableDefinition::new("about");
const DOCUMENTS: TableDefinition<'_, u64, &str> = TableDefinition::new("documents");
/// A passage is found by its document and its place in that.
const PASSAGES: TableDefinition<'_, u64, &str> = TableDefinition::new("passages");
/// f16 in little-endian order.
const VECTORS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("vectors");

const VERSION: &str = "1";

/// Passages of a document at most: their numbers lie behind the document's.
const MOST_PASSAGES: u64 = 1 << 24;

/// A document in the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// How programs name it.
    pub id: String,
    /// The name of its file.
    pub name: String,
    /// What kind of file it was.
    pub kind: Kind,
    /// Bytes of the file.
    pub bytes: u64,
    /// Pages, where there are any.
    pub pages: Option<u32>,
    /// Passages.
    pub passages: u64,
    /// Tokens of all passages, what overlaps counted twice.
    pub tokens: u64,
    /// When it came, in seconds since 1970.
    pub created: u64,
    /// SHA-256 of the file.
    sha256: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Passage {
    start: usize,
    end: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<u32>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    heading: String,
    text: String,
}

impl Passage {
    fn searched(&self) -> String {
        format!("{}\n{}", self.heading, self.text)
    }
}

/// A passage that was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hit {
    /// The document's id.
    pub document: String,
    /// The document's name.
    pub name: String,
    /// Its place among the passages of the document, from 0 on.
    pub passage: u64,
    /// The page it begins on, where there are pages.
    pub page: Option<u32>,
    /// Its bytes in the document's text: from here.
    pub start: usize,
    /// To here.
    pub end: usize,
    /// The headings that it stands under.
    pub heading: String,
    /// What it says.
    pub text: String,
    /// What it is found by: its cosine and its words, each as a part of the best passage's.
    pub score: f32,
    /// The cosine of its vector and the question's, if there are vectors.
    pub cosine: Option<f32>,
    /// BM25, if it is among those whose words fit best.
    pub words: Option<f32>,
    /// What the reranker says.
    pub judged: Option<f32>,
}

/// The store.
pub struct Store {
    file: Database,
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    about: Option<About>,
    records: BTreeMap<u64, Record>,
    index: Index,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({} documents)", self.read().records.len())
    }
}

fn store(e: impl std::fmt::Display) -> Error {
    Error::Store(plain(&e))
}

fn json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(store)
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| Error::Store(format!("an entry cannot be read: {e}")))
}

/// Two digits for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl Store {
    /// A store in memory.
    ///
    /// # Errors
    /// There is no memory.
    pub fn in_memory() -> Result<Store> {
        Store::over(Builder::new().create_with_backend(InMemoryBackend::new()).map_err(store)?)
    }

    /// The store in a file, which is made where it is not there, and which its owner alone can read.
    ///
    /// # Errors
    /// It cannot be opened, is no store of documents, or another program has it open.
    pub fn open(path: &Path) -> Result<Store> {
        let made = open_file(path, |file| {
            Store::over(file).map_err(|e| match e {
                Error::Store(why) => why,
                e => e.to_string(),
            })
        });
        made.map_err(|why| Error::Store(format!("{}: {why}", path.display())))
    }

    fn over(file: Database) -> Result<Store> {
        let write = file.begin_write().map_err(store)?;
        {
            let mut about = write.open_table(ABOUT).map_err(store)?;
            let version = about.get("version").map_err(store)?.map(|v| v.value().to_owned());
            match version.as_deref() {
                None => drop(about.insert("version", VERSION).map_err(store)?),
                Some(VERSION) => {}
                Some(other) => {
                    return Err(Error::Store(format!(
                        "it has version {other}, and this program knows {VERSION}"
                    )));
                }
            }
            write.open_table(DOCUMENTS).map_err(store)?;
            write.open_table(PASSAGES).map_err(store)?;
            write.open_table(VECTORS).map_err(store)?;
        }
        write.commit().map_err(store)?;
        let inner = Inner::load(&file)?;
        Ok(Store { file, inner: RwLock::new(inner) })
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The embedder whose vectors it holds, if it holds any.
    pub fn about(&self) -> Option<About> {
        self.read().about.clone()
    }

    /// Whether an embedder's vectors can be compared with those in here.
    ///
    /// # Errors
    /// [`Error::OtherEmbedder`].
    pub fn check(&self, given: &About) -> Result<()> {
        match &self.read().about {
            // A file that was moved is the same model.
            Some(stored) if (stored.width, &stored.mark) != (given.width, &given.mark) => {
                Err(Error::OtherEmbedder { stored: stored.to_string(), given: given.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// Notes whose vectors it holds, before there are any.
    ///
    /// # Errors
    /// [`Error::OtherEmbedder`]; the file cannot be written.
    pub fn set_about(&self, given: &About) -> Result<()> {
        self.check(given)?;
        let mut inner = self.write();
        if inner.about.is_none() {
            let write = self.file.begin_write().map_err(store)?;
            write.open_table(ABOUT).map_err(store)?.insert("embedder", &*json(given)?).map_err(store)?;
            write.commit().map_err(store)?;
            inner.index = Index::new(given.width);
            inner.about = Some(given.clone());
        }
        Ok(())
    }

    /// All documents, in the order in which they came.
    pub fn list(&self) -> Vec<Record> {
        self.read().records.values().cloned().collect()
    }

    /// The document of an id.
    pub fn get(&self, id: &str) -> Option<Record> {
        self.read().records.values().find(|r| r.id == id).cloned()
    }

    /// The document of this name and these bytes, if it is there.
    pub fn known(&self, name: &str, bytes: &[u8]) -> Option<Record> {
        let sha256 = hex(&Sha256::digest(bytes));
        self.read().records.values().find(|r| r.name == name && r.sha256 == sha256).cloned()
    }

    /// Keeps a document with its passages and their vectors; one of its name goes.
    ///
    /// # Errors
    /// The file cannot be written; vectors that do not fit.
    pub fn put(
        &self,
        name: &str,
        bytes: &[u8],
        document: &Document,
        chunks: &[Chunk],
        vectors: &[Vec<f32>],
    ) -> Result<Record> {
        let mut inner = self.write();
        let width = inner.about.as_ref().map_or(0, |a| a.width);
        let fit = vectors.len() == chunks.len() && vectors.iter().all(|v| v.len() == width);
        if !fit || chunks.len() as u64 > MOST_PASSAGES {
            return Err(Error::Store("the vectors do not fit the passages".into()));
        }
        let sha256 = Sha256::digest(bytes);
        let id = Sha256::new().chain_update(name).chain_update([0]).chain_update(sha256).finalize();
        let record = Record {
            id: format!("doc-{}", &hex(&id)[..16]),
            name: name.into(),
            kind: document.kind,
            bytes: bytes.len() as u64,
            pages: (document.kind == Kind::Pdf).then_some(document.pages.len() as u32),
            passages: chunks.len() as u64,
            tokens: chunks.iter().map(|c| c.tokens as u64).sum(),
            created: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            sha256: hex(&sha256),
        };
        let old: Vec<u64> =
            inner.records.iter().filter(|(_, r)| r.name == name).map(|(number, _)| *number).collect();
        let number = inner.records.last_key_value().map_or(0, |(n, _)| n + 1);
        let passage = |c: &Chunk| Passage {
            start: c.start,
            end: c.end,
            page: c.page,
            heading: c.heading.clone(),
            text: document.text[c.start..c.end].to_owned(),
        };
        let halves: Vec<Vec<f16>> = vectors
            .iter()
            .map(|v| {
                let mut to = vec![f16::ZERO; v.len()];
                to.convert_from_f32_slice(v);
                to
            })
            .collect();
        let write = self.file.begin_write().map_err(store)?;
        let mut gone = Vec::new();
        for old in &old {
            gone.push((*old, take(&write, *old, inner.records[old].passages)?));
        }
        {
            let mut documents = write.open_table(DOCUMENTS).map_err(store)?;
            documents.insert(number, &*json(&record)?).map_err(store)?;
            let mut passages = write.open_table(PASSAGES).map_err(store)?;
            let mut table = write.open_table(VECTORS).map_err(store)?;
            for (i, (chunk, vector)) in chunks.iter().zip(&halves).enumerate() {
                let key = number * MOST_PASSAGES + i as u64;
                passages.insert(key, &*json(&passage(chunk))?).map_err(store)?;
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                table.insert(key, &*bytes).map_err(store)?;
            }
        }
        write.commit().map_err(store)?;
        for (old, texts) in gone {
            inner.forget(old, &texts);
        }
        for (i, (chunk, vector)) in chunks.iter().zip(&halves).enumerate() {
            let key = number * MOST_PASSAGES + i as u64;
            inner.index.add(key, number, vector, &passage(chunk).searched());
        }
        inner.records.insert(number, record.clone());
        Ok(record)
    }

    /// Takes the document of an id away; None where there is none.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn remove(&self, id: &str) -> Result<Option<Record>> {
        let mut inner = self.write();
        let Some((number, record)) =
            inner.records.iter().find(|(_, r)| r.id == id).map(|(n, r)| (*n, r.clone()))
        else {
            return Ok(None);
        };
        let write = self.file.begin_write().map_err(store)?;
        let texts = take(&write, number, record.passages)?;
        write.commit().map_err(store)?;
        inner.forget(number, &texts);
        Ok(Some(record))
    }

    /// The passages that are best by vectors and words together.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn search(&self, vector: &[f32], query: &str, top: usize) -> Result<Vec<Hit>> {
        let inner = self.read();
        let wide = (4 * top).max(50);
        let near = inner.index.nearest(vector, wide);
        let words = inner.index.by_words(query, wide);
        let read = self.file.begin_read().map_err(store)?;
        let passages = read.open_table(PASSAGES).map_err(store)?;
        let mut hits = Vec::new();
        let found = fuse(&near, &words, |number| inner.index.cosine(vector, number));
        for Fused { number, score, cosine, words } in found.into_iter().take(top) {
            let entry = inner.index.entry(number);
            let record = inner.records.get(&entry.document);
            let (Some(record), Some(text)) = (record, passages.get(entry.chunk).map_err(store)?) else {
                return Err(Error::Store("a passage is missing".into()));
            };
            let passage: Passage = parse(text.value())?;
            hits.push(Hit {
                document: record.id.clone(),
                name: record.name.clone(),
                passage: entry.chunk % MOST_PASSAGES,
                page: passage.page,
                start: passage.start,
                end: passage.end,
                heading: passage.heading,
                text: passage.text,
                score,
                cosine,
                words,
                judged: None,
            });
        }
        Ok(hits)
    }
}

/// Takes a document out of the tables; gives the texts that its words were taken from.
fn take(write: &WriteTransaction, number: u64, count: u64) -> Result<BTreeMap<u64, String>> {
    let mut texts = BTreeMap::new();
    let mut passages = write.open_table(PASSAGES).map_err(store)?;
    let mut vectors = write.open_table(VECTORS).map_err(store)?;
    for key in (0..count).map(|i| number * MOST_PASSAGES + i) {
        if let Some(text) = passages.remove(key).map_err(store)? {
            texts.insert(key, parse::<Passage>(text.value())?.searched());
        }
        vectors.remove(key).map_err(store)?;
    }
    write.open_table(DOCUMENTS).map_err(store)?.remove(number).map_err(store)?;
    Ok(texts)
}

/// A passage that vectors or words found.
struct Fused {
    number: u32,
    score: f32,
    cosine: Option<f32>,
    words: Option<f32>,
}

/// The passages of both lists by what they have of the best cosine and of the best words, the cosine counting twice. Ranks
/// alone would say nothing of how far the first is before the second: a passage that is merely near the top of both lists
/// would come before the one that a question is plainly about.
fn fuse(near: &[(u32, f32)], words: &[(u32, f32)], cosine: impl Fn(u32) -> Option<f32>) -> Vec<Fused> {
    let best = |list: &[(u32, f32)]| list.first().map_or(1.0, |(_, s)| s.max(f32::MIN_POSITIVE));
    let (nearest, fittest) = (best(near), best(words));
    let words: BTreeMap<u32, f32> = words.iter().copied().collect();
    let numbers: BTreeSet<u32> = near.iter().map(|(n, _)| *n).chain(words.keys().copied()).collect();
    let one = |number| {
        let (cosine, words) = (cosine(number), words.get(&number).copied());
        let part = |of: Option<f32>, best: f32| of.unwrap_or(0.0).max(0.0) / best;
        let score = (2.0 * part(cosine, nearest) + part(words, fittest)) / 3.0;
        Fused { number, score, cosine, words }
    };
    let mut all: Vec<Fused> = numbers.into_iter().map(one).collect();
    all.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.number.cmp(&b.number)));
    all
}

impl Inner {
    fn load(file: &Database) -> Result<Inner> {
        let read = file.begin_read().map_err(store)?;
        let about = read.open_table(ABOUT).map_err(store)?;
        let about: Option<About> =
            about.get("embedder").map_err(store)?.map(|v| parse(v.value())).transpose()?;
        let width = about.as_ref().map_or(0, |a| a.width);
        let mut inner = Inner { about, records: BTreeMap::new(), index: Index::new(width) };
        let documents = read.open_table(DOCUMENTS).map_err(store)?;
        for entry in documents.iter().map_err(store)? {
            let (number, text) = entry.map_err(store)?;
            inner.records.insert(number.value(), parse(text.value())?);
        }
        let passages = read.open_table(PASSAGES).map_err(store)?;
        let vectors = read.open_table(VECTORS).map_err(store)?;
        let (mut count, mut vector) = (0, Vec::new());
        for entry in passages.iter().map_err(store)? {
            let (key, text) = entry.map_err(store)?;
            let key = key.value();
            let passage: Passage = parse(text.value())?;
            let bytes = vectors.get(key).map_err(store)?;
            vector.clear();
            if let Some(bytes) = bytes {
                let (pairs, _) = bytes.value().as_chunks::<2>();
                vector.extend(pairs.iter().map(|pair| f16::from_le_bytes(*pair)));
            }
            let document = key / MOST_PASSAGES;
            if vector.len() != width || !inner.records.contains_key(&document) {
                return Err(Error::Store(format!("passage {key} is damaged")));
            }
            inner.index.add(key, document, &vector, &passage.searched());
            count += 1;
        }
        match count == inner.records.values().map(|r| r.passages).sum::<u64>() {
            true => Ok(inner),
            false => Err(Error::Store("passages are missing".into())),
        }
    }

    fn forget(&mut self, number: u64, texts: &BTreeMap<u64, String>) {
        self.records.remove(&number);
        self.index.remove(number, |key| texts.get(&key).cloned().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::fuse;

    #[test]
    fn a_passage_that_is_plainly_near_comes_first() {
        let order = |near: &[(u32, f32)], words: &[(u32, f32)], far: f32| {
            let cosine = |n| Some(near.iter().find(|(m, _)| *m == n).map_or(far, |(_, c)| *c));
            fuse(near, words, cosine).iter().map(|f| f.number).collect::<Vec<_>>()
        };
        // Ranks would put the second and the third first, since these are in both lists.
        let near = [(0, 0.4), (1, 0.15), (2, 0.14)];
        assert_eq!(order(&near, &[(1, 6.0), (2, 5.9), (3, 5.0)], 0.1), [0, 1, 2, 3]);
        // One that has a rare word counts, however many passages are nearer.
        assert_eq!(order(&[(0, 0.3), (1, 0.29)], &[(9, 8.0)], 0.25)[0], 9);
        assert_eq!(order(&[], &[(4, 2.0), (5, 1.0)], 0.0), [4, 5]);
        assert_eq!(order(&[(6, -0.1), (7, -0.2)], &[], 0.0), [6, 7]);
    }
}
