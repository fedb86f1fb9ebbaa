//! Answers of /v1/responses, kept so that a conversation can go on from them.
//!
//! They lie in one file that its owner alone can read, or in memory where the server was given no folder. A bound on their
//! number, their bytes and their age keeps it small; the oldest go first.

use std::path::Path;
use std::time::Duration;

use redb::backends::InMemoryBackend;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Records by id.
const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("responses");
/// Ids by the order in which they came.
const ORDER: TableDefinition<'_, u64, &str> = TableDefinition::new("order");
/// Totals.
const BYTES: TableDefinition<'_, &str, u64> = TableDefinition::new("bytes");

/// Records at most, their bytes, and their age.
const MOST: u64 = 10_000;
const MOST_BYTES: u64 = 256 << 20;
const OLDEST: Duration = Duration::from_secs(30 * 86_400);

/// An answer and what led to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Who may read it.
    pub(crate) owner: String,
    /// When it was made, in seconds since 1970.
    pub(crate) created: u64,
    /// The conversation before the answer, as items.
    pub(crate) before: Vec<Value>,
    /// What this request added to it.
    pub(crate) input: Vec<Value>,
    /// The answer, as its client was told.
    pub(crate) response: Value,
    /// Its place among all.
    order: u64,
}

impl Record {
    pub(crate) fn new(
        owner: String,
        created: u64,
        before: Vec<Value>,
        input: Vec<Value>,
        response: Value,
    ) -> Record {
        Record { owner, created, before, input, response, order: 0 }
    }

    /// The same with the answer.
    pub(crate) fn with(self, response: Value) -> Record {
        Record { response, ..self }
    }
}

/// The store.
pub(crate) struct Store(Database);

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

fn line(e: impl std::fmt::Display) -> String {
    format!("the store of responses: {e}")
}

impl Store {
    /// A store in memory, which ends with the server.
    ///
    /// # Errors
    /// There is no memory.
    pub(crate) fn in_memory() -> Result<Store, String> {
        Builder::new().create_with_backend(InMemoryBackend::new()).map(Store).map_err(line)
    }

    /// The store in a file, which is made if it is not there.
    ///
    /// # Errors
    /// It cannot be opened, is none, or another server has it.
    pub(crate) fn open(path: &Path) -> Result<Store, String> {
        weft_documents::open_file(path, |file| Ok(Store(file))).map_err(line)
    }

    /// Keeps a record, and drops the oldest where there are too many.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn put(&self, id: &str, mut record: Record) -> Result<(), String> {
        let oldest = record.created.saturating_sub(OLDEST.as_secs());
        let write = self.0.begin_write().map_err(line)?;
        {
            let mut records = write.open_table(RECORDS).map_err(line)?;
            let mut order = write.open_table(ORDER).map_err(line)?;
            let mut totals = write.open_table(BYTES).map_err(line)?;
            let mut bytes = totals.get("all").map_err(line)?.map_or(0, |v| v.value());
            record.order = order.last().map_err(line)?.map_or(0, |(n, _)| n.value() + 1);
            let text = serde_json::to_vec(&record).map_err(line)?;
            bytes += text.len() as u64;
            records.insert(id, text.as_slice()).map_err(line)?;
            order.insert(record.order, id).map_err(line)?;
            loop {
                let Some((n, first)) =
                    order.first().map_err(line)?.map(|(n, id)| (n.value(), id.value().to_owned()))
                else {
                    break;
                };
                let known = records.get(first.as_str()).map_err(line)?.map(|v| {
                    let text = v.value();
                    let created = serde_json::from_slice::<Record>(text).map_or(0, |r| r.created);
                    (text.len() as u64, created)
                });
                let (size, created) = known.unwrap_or((0, 0));
                let many = records.len().map_err(line)? > MOST || bytes > MOST_BYTES;
                if first == id || !(many || created < oldest || known.is_none()) {
                    break;
                }
                records.remove(first.as_str()).map_err(line)?;
                order.remove(n).map_err(line)?;
                bytes = bytes.saturating_sub(size);
            }
            totals.insert("all", bytes).map_err(line)?;
        }
        write.commit().map_err(line)
    }

    /// The record of this id, if it is this owner's.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn get(&self, id: &str, owner: &str) -> Result<Option<Record>, String> {
        let read = self.0.begin_read().map_err(line)?;
        let records = match read.open_table(RECORDS) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            other => other.map_err(line)?,
        };
        let Some(text) = records.get(id).map_err(line)? else { return Ok(None) };
        let record: Record = serde_json::from_slice(text.value()).map_err(line)?;
        Ok(Some(record).filter(|r| r.owner == owner))
    }

    /// Drops a record; whether it was there and this owner's.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn remove(&self, id: &str, owner: &str) -> Result<bool, String> {
        let Some(record) = self.get(id, owner)? else { return Ok(false) };
        let write = self.0.begin_write().map_err(line)?;
        {
            let mut records = write.open_table(RECORDS).map_err(line)?;
            let size = records.remove(id).map_err(line)?.map_or(0, |v| v.value().len() as u64);
            write.open_table(ORDER).map_err(line)?.remove(record.order).map_err(line)?;
            let mut totals = write.open_table(BYTES).map_err(line)?;
            let bytes = totals.get("all").map_err(line)?.map_or(0, |v| v.value());
            totals.insert("all", bytes.saturating_sub(size)).map_err(line)?;
        }
        write.commit().map_err(line)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Record, Store};

    fn record(created: u64, text: &str) -> Record {
        Record::new("k".into(), created, Vec::new(), vec![json!({ "a": 1 })], json!({ "text": text }))
    }

    #[test]
    fn what_is_kept_is_there_after_the_file_is_opened_again() {
        let path = std::env::temp_dir().join(format!("weft-store-{}.redb", std::process::id()));
        let store = Store::open(&path).expect("a store");
        assert_eq!(store.get("a", "k"), Ok(None));
        store.put("a", record(100, "x")).expect("kept");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert!(Store::open(&path).is_err(), "one server at a time");
        drop(store);
        let store = Store::open(&path).expect("a store");
        assert_eq!(store.get("a", "k").expect("readable").expect("there").response, json!({ "text": "x" }));
        assert_eq!(store.get("a", "l"), Ok(None), "another key's");
        assert_eq!(
            (store.remove("a", "l"), store.remove("a", "k"), store.remove("a", "k")),
            (Ok(false), Ok(true), Ok(false))
        );
        drop(store);
        std::fs::write(&path, b"no store").expect("written");
        assert!(Store::open(&path).is_err());
        std::fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn the_oldest_go_first() {
        let store = Store::in_memory().expect("a store");
        let old = 40 * 86_400;
        store.put("old", record(0, "x")).expect("kept");
        store.put("new", record(old, "x")).expect("kept");
        assert_eq!(store.get("old", "k"), Ok(None), "too old");
        let large = "x".repeat(100 << 20);
        for id in ["a", "b", "c"] {
            store.put(id, record(old, &large)).expect("kept");
        }
        assert_eq!(store.get("new", "k"), Ok(None));
        assert_eq!(store.get("a", "k"), Ok(None), "too many bytes");
        assert!(store.get("c", "k").is_ok_and(|r| r.is_some()));
    }
}
