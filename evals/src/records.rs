//! Files of records as they are published: Parquet, lines of JSON, a JSON array or object, CSV and TSV. What a file
//! is shows in its first bytes, since names mislead; only CSV goes by its name.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use weft_formats::json::strict;
use weft_formats::read_regular;
use weft_formats::table::Table;

use crate::{Error, Result};

/// One record, by column.
pub type Record = Map<String, Value>;

/// The key under which a record of a JSON object of records has its own name there.
pub const KEY: &str = "_key";

/// Endings of files that hold records.
const ENDINGS: [&str; 7] = ["parquet", "jsonl", "ndjson", "jsonlines", "json", "csv", "tsv"];

/// Reads a file's records in order, each with its place, "line 3" or "row 7". A CSV file has the names of its columns
/// in the first line, unless `header` is false: then they are called 1, 2, 3.
///
/// # Errors
/// No such file; one that is nothing of the above, or breaks off; whatever `each` returns.
pub fn read(path: &Path, header: bool, each: &mut dyn FnMut(&str, Record) -> Result<()>) -> Result<()> {
    let mut start = [0u8; 4];
    let stat = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if !stat.is_file() {
        return Err(Error::file(path, "is not a regular file"));
    }
    let mut file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    let got = std::io::Read::read(&mut file, &mut start).map_err(|e| Error::io(path, e))?;
    drop(file);
    let packed: [(&[u8], &str); 4] =
        [(b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"PK\x03\x04", "ZIP"), (b"BZh", "bzip2")];
    if let Some((_, how)) = packed.iter().find(|(magic, _)| start[..got].starts_with(magic)) {
        return Err(Error::file(path, format!("is compressed ({how}); unpack it first")));
    }
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    match &start[..got] {
        b"PAR1" => parquet(path, each),
        _ if ending == "csv" => separated(path, b',', header, each),
        _ if ending == "tsv" => separated(path, b'\t', header, each),
        _ => json(path, each),
    }
}

/// The files that `path` names: itself, or all files of records below a folder, in order of their names, whose path
/// below it contains `word`.
///
/// # Errors
/// No such path; a folder without any such file.
pub fn files(path: &Path, word: Option<&str>) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        return Ok(vec![path.to_owned()]);
    }
    let (mut found, mut folders) = (Vec::new(), vec![path.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|e| Error::io(&folder, e))? {
            let here = entry.map_err(|e| Error::io(&folder, e))?.path();
            let below = here.strip_prefix(path).unwrap_or(&here).to_string_lossy().to_lowercase();
            let ending = here.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
            if here.is_dir() {
                folders.push(here);
            } else if ENDINGS.contains(&ending.as_str()) && word.is_none_or(|w| below.contains(w)) {
                found.push(here);
            }
        }
    }
    found.sort();
    match found.is_empty() {
        false => Ok(found),
        true => {
            let named = word.map_or_else(String::new, |w| format!(" with \"{w}\" in its name"));
            let what = format!(
                "holds no file of records{named}; known endings: {}; name the file",
                ENDINGS.join(", ")
            );
            Err(Error::file(path, what))
        }
    }
}

fn parquet(path: &Path, each: &mut dyn FnMut(&str, Record) -> Result<()>) -> Result<()> {
    let broken = |what: String| Error::file(path, what);
    let bytes = read_regular(path).map_err(|e| Error::io(path, e))?;
    let table = Table::open(bytes).map_err(broken)?;
    for (i, row) in table.iter().map_err(broken)?.enumerate() {
        let place = format!("row {}", i + 1);
        match row {
            Ok(Value::Object(record)) => each(&place, record)?,
            Ok(_) => return Err(Error::file(path, "has rows that are no records")),
            Err(what) => return Err(Error::Row { file: path.display().to_string(), place, what }),
        }
    }
    Ok(())
}

fn separated(
    path: &Path,
    separator: u8,
    header: bool,
    each: &mut dyn FnMut(&str, Record) -> Result<()>,
) -> Result<()> {
    let wrong = |e: csv::Error| {
        let line = e.position().map_or(0, csv::Position::line);
        let what = e.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Error::Row { file: path.display().to_string(), place: format!("line {line}"), what }
    };
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    let mut reader = csv::ReaderBuilder::new().delimiter(separator).has_headers(header).from_reader(file);
    let names: Vec<String> = match header {
        true => {
            let names = reader.headers().map_err(wrong)?;
            names.iter().map(|n| n.trim().trim_start_matches('\u{FEFF}').to_owned()).collect()
        }
        false => Vec::new(),
    };
    let twice = names.iter().enumerate().find(|(i, name)| !name.is_empty() && names[..*i].contains(name));
    if let Some((_, name)) = twice {
        return Err(Error::file(path, format!("has two columns \"{name}\"")));
    }
    for row in reader.records() {
        let row = row.map_err(wrong)?;
        let line = row.position().map_or(0, csv::Position::line);
        let name = |i: usize| names.get(i).cloned().unwrap_or_else(|| (i + 1).to_string());
        let record = row.iter().enumerate().map(|(i, text)| (name(i), Value::from(text))).collect();
        each(&format!("line {line}"), record)?;
    }
    Ok(())
}

/// Lines of JSON, read one by one; or one value over several lines: an array of records, or an object of records by name.
fn json(path: &Path, each: &mut dyn FnMut(&str, Record) -> Result<()>) -> Result<()> {
    let row = |place: &str, what: &str| Error::Row {
        file: path.display().to_string(),
        place: place.to_owned(),
        what: what.to_owned(),
    };
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    let mut lines = BufReader::new(file).split(b'\n').enumerate();
    let mut any = false;
    for (i, line) in &mut lines {
        let line = line.map_err(|e| Error::io(path, e))?;
        let line = line.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(&line);
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let place = format!("line {}", i + 1);
        match strict(line) {
            // An object of records by name, in one line.
            Ok(Value::Object(all)) if !any && by_name(&all) => return values(path, each),
            Ok(Value::Object(record)) => each(&place, record)?,
            Ok(_) | Err(_) if !any => return values(path, each),
            Ok(_) => return Err(row(&place, "is no JSON object")),
            Err(e) => return Err(row(&place, &format!("is no JSON ({e})"))),
        }
        any = true;
    }
    if any { Ok(()) } else { Err(Error::file(path, "holds no records")) }
}

fn by_name(all: &Record) -> bool {
    !all.is_empty() && all.values().all(|v| v.as_object().is_some_and(|r| r.len() > 1))
}

/// A file that is one JSON value.
fn values(path: &Path, each: &mut dyn FnMut(&str, Record) -> Result<()>) -> Result<()> {
    let bytes = read_regular(path).map_err(|e| Error::io(path, e))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::file(path, "is not UTF-8"))?;
    let text = text.trim_start_matches('\u{FEFF}');
    if !text.trim_start().starts_with(['{', '[']) {
        return Err(Error::file(
            path,
            "is no file of records: neither Parquet nor JSON, nor named .csv or .tsv",
        ));
    }
    let value = strict(text.as_bytes()).map_err(|e| Error::file(path, format!("is no JSON ({e})")))?;
    match value {
        Value::Array(all) => {
            for (i, value) in all.into_iter().enumerate() {
                let place = format!("record {}", i + 1);
                let Value::Object(record) = value else {
                    let (file, what) = (path.display().to_string(), "is no JSON object".to_owned());
                    return Err(Error::Row { file, place, what });
                };
                each(&place, record)?;
            }
            Ok(())
        }
        Value::Object(all) if by_name(&all) => {
            for (name, value) in all {
                let Value::Object(mut record) = value else { continue };
                let place = format!("record \"{name}\"");
                record.insert(KEY.to_owned(), name.into());
                each(&place, record)?;
            }
            Ok(())
        }
        Value::Object(record) => each("record 1", record),
        _ => Err(Error::file(path, "is no file of records")),
    }
}
