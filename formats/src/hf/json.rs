//! JSON objects whose errors name the file and the key.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;

use serde_json::{Map, Value};

use super::Error;
use crate::atomic_file::read_regular;

/// An object and the file it is from.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) file: String,
    pub(super) map: Map<String, Value>,
    /// Keys that were asked for.
    read: RefCell<HashSet<String>>,
}

impl Object {
    fn new(file: String, map: Map<String, Value>) -> Object {
        Object { file, map, read: RefCell::default() }
    }

    /// The object at `key`.
    pub(super) fn object(&self, key: &str) -> Result<Object, Error> {
        match self.get(key) {
            Some(Value::Object(map)) => Ok(Object::new(self.file.clone(), map.clone())),
            Some(_) => Err(self.wrong(key, "an object")),
            None => Err(self.missing(key)),
        }
    }

    /// What nobody has asked for.
    pub(super) fn unread(&self) -> impl Iterator<Item = (&str, &Value)> {
        let read = self.read.borrow().clone();
        self.map.iter().filter(move |(key, _)| !read.contains(*key)).map(|(k, v)| (k.as_str(), v))
    }

    pub(super) fn read(path: &Path) -> Result<Object, Error> {
        let file = path.display().to_string();
        let failed = |cause| Error::Io { file: file.clone(), cause };
        let bytes = read_regular(path).map_err(failed)?;
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(map)) => Ok(Object::new(file, map)),
            Ok(_) => Err(Error::Json { file, cause: "not an object".to_owned() }),
            Err(e) => Err(Error::Json { file, cause: e.to_string() }),
        }
    }

    /// The file at `path`, where there is one.
    pub(super) fn read_if(path: &Path) -> Result<Option<Object>, Error> {
        if path.exists() { Object::read(path).map(Some) } else { Ok(None) }
    }

    /// What is at `key`; null counts as nothing.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        if self.map.contains_key(key) {
            self.read.borrow_mut().insert(key.to_owned());
        }
        self.map.get(key).filter(|v| !v.is_null())
    }

    pub(super) fn missing(&self, key: &str) -> Error {
        Error::Missing { file: self.file.clone(), key: key.to_owned() }
    }

    pub(super) fn wrong(&self, key: &str, expected: &'static str) -> Error {
        let found = self.map.get(key).map_or("absent".to_owned(), |v| clip(&v.to_string()));
        Error::Key { file: self.file.clone(), key: key.to_owned(), found, expected }
    }

    pub(super) fn unsupported(&self, what: impl Into<String>) -> Error {
        Error::Unsupported { file: self.file.clone(), what: what.into() }
    }

    /// A whole number from 1 to 2^31 − 1.
    pub(super) fn count(&self, key: &str) -> Result<Option<u32>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_u64().filter(|n| (1..=i32::MAX as u64).contains(n));
        number.map(|n| Some(n as u32)).ok_or_else(|| self.wrong(key, "a whole number of at least 1"))
    }

    pub(super) fn need(&self, key: &str) -> Result<u32, Error> {
        self.count(key)?.ok_or_else(|| self.missing(key))
    }

    pub(super) fn float(&self, key: &str) -> Result<Option<f64>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| self.wrong(key, "a number"))
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(key, "true or false"))
    }

    pub(super) fn str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }
}

/// Shortens text for an error.
pub(crate) fn clip(text: &str) -> String {
    match text.char_indices().nth(120) {
        Some((i, _)) => format!("{}…", &text[..i]),
        None => text.to_owned(),
    }
}
