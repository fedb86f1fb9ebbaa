//! Results a line each, in a file that any kill leaves readable and any later run goes on from.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;
use weft_formats::{AtomicFile, read_regular};

use crate::{Error, Result};

/// Lines of JSON, each under a key of its own. While a run lasts they are written in whatever order they come; once
/// all are there they are put in theirs, so that the file is the same however often the run was stopped.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Option<File>,
    lines: BTreeMap<String, Value>,
}

impl Journal {
    /// Opens the journal at `path`, or begins it. `key` names a line; a line that a kill left half-written at the end
    /// is removed.
    ///
    /// # Errors
    /// A file that holds anything else, or cannot be written.
    pub fn open(path: &Path, key: &dyn Fn(&Value) -> Option<String>) -> Result<Journal> {
        let mut lines = BTreeMap::new();
        let mut whole = 0;
        if path.exists() {
            let bytes = read_regular(path).map_err(|e| Error::io(path, e))?;
            for (i, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
                let parsed = line.ends_with(b"\n").then(|| serde_json::from_slice::<Value>(line));
                let wrong = |what: String| Error::Row {
                    file: path.display().to_string(),
                    place: format!("line {}", i + 1),
                    what: format!("{what}; move the file away to begin anew"),
                };
                match parsed {
                    // Only the end can be half a line.
                    None => break,
                    Some(Err(e)) => return Err(wrong(format!("is no JSON ({e})"))),
                    Some(Ok(value)) => {
                        let name = key(&value).ok_or_else(|| wrong("is no result of ours".to_owned()))?;
                        lines.insert(name, value);
                    }
                }
                whole += line.len() as u64;
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(|e| Error::io(path, e))?;
        file.set_len(whole).map_err(|e| Error::io(path, e))?;
        Ok(Journal { path: path.to_owned(), file: Some(file), lines })
    }

    /// A journal in memory alone.
    pub fn in_memory() -> Journal {
        Journal { path: PathBuf::new(), file: None, lines: BTreeMap::new() }
    }

    /// Whether the key has its line.
    pub fn has(&self, key: &str) -> bool {
        self.lines.contains_key(key)
    }

    /// The line of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.lines.get(key)
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Adds a line, which is in the file before this returns.
    ///
    /// # Errors
    /// A full disk and the like.
    pub fn add(&mut self, key: &str, value: Value) -> Result<()> {
        if let Some(file) = &mut self.file {
            // One write a line, so that a kill leaves at most the last one unfinished.
            let text = format!("{value}\n");
            file.write_all(text.as_bytes()).map_err(|e| Error::io(&self.path, e))?;
        }
        self.lines.insert(key.to_owned(), value);
        Ok(())
    }

    /// Puts the lines in the order of `keys`, in the file too, and drops any others.
    ///
    /// # Errors
    /// A full disk and the like; the file is then as it was.
    pub fn finish(&mut self, keys: &[String]) -> Result<Vec<Value>> {
        let lines: Vec<Value> = keys.iter().filter_map(|k| self.lines.get(k)).cloned().collect();
        if self.file.take().is_some() {
            write_lines(&self.path, &lines)?;
        }
        Ok(lines)
    }
}

/// Writes lines of JSON to a file that appears whole or not at all.
///
/// # Errors
/// A folder that is missing, a full disk.
pub fn write_lines(path: &Path, lines: &[Value]) -> Result<()> {
    let mut out = AtomicFile::create(path)?;
    for line in lines {
        out.write_all(format!("{line}\n").as_bytes()).map_err(|e| Error::io(path, e))?;
    }
    Ok(out.finish()?)
}

/// Writes a text to a file that appears whole or not at all.
///
/// # Errors
/// A folder that is missing, a full disk.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    let mut out = AtomicFile::create(path)?;
    out.write_all(text.as_bytes()).map_err(|e| Error::io(path, e))?;
    Ok(out.finish()?)
}

/// Makes `folder` the place of a run with these settings: writes them there, or compares them with the ones that are.
///
/// # Errors
/// A folder of other settings, with the first key that differs.
pub fn claim(folder: &Path, settings: &Value) -> Result<()> {
    if folder.exists() && !folder.is_dir() {
        return Err(Error::file(folder, "is no folder; give the name of one"));
    }
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    let path = folder.join("settings.json");
    // What ended before its first answer, over a mistake perhaps, may begin again in another way.
    if !path.exists() || !is_begun(folder, &path).map_err(|e| Error::io(folder, e))? {
        return write_text(&path, &format!("{settings:#}\n"));
    }
    let bytes = read_regular(&path).map_err(|e| Error::io(&path, e))?;
    let have: Value = serde_json::from_slice(&bytes)
        .map_err(|e| Error::file(&path, format!("is no JSON ({e}); give another folder")))?;
    if !have.is_object() {
        return Err(Error::file(&path, "is no settings of ours; give another folder"));
    }
    match difference("", &have, settings) {
        None => Ok(()),
        Some((key, have, want)) => {
            let what = format!("was begun with {key} {have}, and this run has {want}; give another folder");
            Err(Error::file(folder, what))
        }
    }
}

/// Whether a folder holds anything beside the settings.
fn is_begun(folder: &Path, settings: &Path) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let empty = match path.is_dir() {
            true => std::fs::read_dir(&path)?.next().is_none(),
            false => path == settings || path.metadata()?.len() == 0,
        };
        if !empty {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The first key whose values differ, by its path, and both.
pub fn difference(at: &str, have: &Value, want: &Value) -> Option<(String, String, String)> {
    if have == want {
        return None;
    }
    if let (Some(a), Some(b)) = (have.as_object(), want.as_object()) {
        let path = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
        return b.keys().chain(a.keys()).find_map(|k| {
            difference(&path(k), a.get(k).unwrap_or(&Value::Null), b.get(k).unwrap_or(&Value::Null))
        });
    }
    let show = |v: &Value| {
        let text = v.to_string();
        let short: String = text.chars().take(80).collect();
        if short.len() < text.len() { format!("{short}...") } else { short }
    };
    Some((at.to_owned(), show(have), show(want)))
}
