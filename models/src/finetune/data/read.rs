//! A file's records, whatever it is: looked into, since names mislead.

use std::io::Read;
use std::path::Path;

use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde_json::{Map, Value as Json};
use weft_formats::json::Strict;

use super::record::{Content, Record};
use super::{Counts, Data, DataError, Example, Learn, Reading};

/// The names of files that hold JSON, in lower case.
const JSON_NAMES: [&str; 4] = ["json", "jsonl", "ndjson", "jsonlines"];

/// What begins a file that is no text, what it is, and the way out.
const BINARY: [(&[u8], &str); 7] = [
    (b"\x1f\x8b", "is compressed (gzip); unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed (zstd); unpack it first"),
    (b"BZh", "is compressed (bzip2); unpack it first"),
    (b"\xfd7zXZ", "is compressed (xz); unpack it first"),
    (b"PK\x03\x04", "is a ZIP archive; unpack it first"),
    (b"ARROW1", "is an Arrow file; save it as Parquet or as lines of JSON"),
    (b"GGUF", "is a model, not training data"),
];

/// The records of a file as they come.
pub(super) struct Reader<'a> {
    file: String,
    pub(super) how: &'a Reading<'a>,
    pub(super) data: Data,
    /// What is wrong with records so far, and how many of these are gathered before one ends the reading.
    problems: Vec<DataError>,
    most: usize,
}

impl<'a> Reader<'a> {
    fn new(file: String, how: &'a Reading<'a>, most: usize) -> Reader<'a> {
        Reader { file, how, data: Data::default(), problems: Vec::new(), most }
    }
}

pub(super) fn file(
    path: &Path,
    how: &Reading<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Data, DataError> {
    let mut reader = Reader::new(path.display().to_string(), how, 0);
    let bytes = reader.bytes(path)?;
    let name = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    looked_into(&mut reader, &name, bytes, progress)?;
    reader.finish()
}

/// As [`file`], of bytes under a name; gives all that is wrong, up to `most` and one.
pub(super) fn check(
    name: &str,
    bytes: Vec<u8>,
    how: &Reading<'_>,
    most: usize,
) -> Result<Data, Vec<DataError>> {
    let mut reader = Reader::new(name.to_owned(), how, most);
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_lowercase()).unwrap_or_default();
    let read = looked_into(&mut reader, &ending, bytes, &mut |_, _| ());
    let mut problems = std::mem::take(&mut reader.problems);
    problems.extend(read.err());
    if !problems.is_empty() {
        return Err(problems);
    }
    reader.finish().map_err(|e| vec![e])
}

/// As [`file`], of bytes in memory under a name with this ending.
#[cfg(test)]
pub(super) fn bytes(file: &str, ending: &str, bytes: Vec<u8>, how: &Reading<'_>) -> Result<Data, DataError> {
    let mut reader = Reader::new(file.to_owned(), how, 0);
    looked_into(&mut reader, ending, bytes, &mut |_, _| ())?;
    reader.finish()
}

fn looked_into(
    reader: &mut Reader<'_>,
    name: &str,
    bytes: Vec<u8>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), DataError> {
    let file = reader.file.clone();
    if let Some((_, what)) = BINARY.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Err(DataError::File { file, what: (*what).to_owned() });
    }
    if bytes.starts_with(b"PAR1") {
        return reader.table(bytes, progress);
    }
    let text = reader.utf8(bytes)?;
    let text = text.trim_start_matches('\u{FEFF}');
    // A broken record is no plain text, whatever the file is called.
    let named = JSON_NAMES.contains(&name) || begins_as_json(text);
    match text.trim_start().chars().next() {
        None => {}
        Some('[') if named || is_array_of_records(text) => reader.array(text, progress)?,
        // One value over several lines, as programs print it.
        Some('{') if opens_a_record(text) && !whole_lines(text) => reader.values(text, progress)?,
        Some('{') if named || whole_lines(text) => reader.lines(text, progress)?,
        _ if named => reader.lines(text, progress)?,
        _ if ["csv", "tsv"].contains(&name) => {
            let what = "is a table of text, which would be learnt with its separators; save it as lines of JSON or \
                        as Parquet, or name it .txt";
            return Err(DataError::File { file, what: what.to_owned() });
        }
        Some(_) => {
            reader.data.counts.records += 1;
            reader.form("plain text");
            reader.text(text);
        }
    }
    Ok(())
}

/// Whether the text begins with an object's first key, alone or in a list.
fn begins_as_json(text: &str) -> bool {
    let text = text.trim_start();
    let text = text.strip_prefix('[').unwrap_or(text).trim_start();
    text.strip_prefix('{').is_some_and(|rest| rest.trim_start().starts_with('"'))
}

/// What keeps a record from being read: that it is no JSON, or that it says a thing twice.
fn unread(error: &serde_json::Error, text: String) -> String {
    if error.is_data() { format!("is not read: {text}") } else { format!("is not JSON ({text})") }
}

/// Whether the first line that holds anything is a record by itself.
fn whole_lines(text: &str) -> bool {
    let first = text.lines().find(|l| !l.trim().is_empty()).unwrap_or("");
    matches!(serde_json::from_str(first), Ok(Json::Object(_)))
}

/// Whether the text begins with an object, however many lines that takes.
fn opens_a_record(text: &str) -> bool {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Json>();
    matches!(values.next(), Some(Ok(Json::Object(_))))
}

/// Whether the text begins as a list of objects; a text may begin with a bracket.
fn is_array_of_records(text: &str) -> bool {
    let Some(rest) = text.trim_start().strip_prefix('[') else { return false };
    match rest.trim_start() {
        rest if rest.starts_with('{') => opens_a_record(rest),
        rest => rest.trim_end() == "]",
    }
}

impl Reader<'_> {
    fn wrong(&self, place: &str, what: impl Into<String>) -> DataError {
        DataError::Record { file: self.file.clone(), place: place.to_owned(), what: what.into() }
    }

    /// All of the file. A device would never end.
    fn bytes(&self, path: &Path) -> Result<Vec<u8>, DataError> {
        let io = |cause| DataError::Io { file: self.file.clone(), cause };
        let mut opened = std::fs::File::open(path).map_err(io)?;
        let stat = opened.metadata().map_err(io)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::FileTypeExt;
            let kind = stat.file_type();
            if kind.is_char_device() || kind.is_block_device() {
                let what = "is a device, not a file".to_owned();
                return Err(DataError::File { file: self.file.clone(), what });
            }
        }
        let mut bytes = Vec::with_capacity(stat.len().try_into().unwrap_or(0));
        opened.read_to_end(&mut bytes).map_err(io)?;
        Ok(bytes)
    }

    fn utf8(&self, bytes: Vec<u8>) -> Result<String, DataError> {
        String::from_utf8(bytes).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            let line = e.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
            self.wrong(&format!("line {line}"), "is not UTF-8")
        })
    }

    /// A record a line.
    fn lines(&mut self, text: &str, progress: &mut dyn FnMut(u64, u64)) -> Result<(), DataError> {
        let mut done = 0;
        for (i, line) in text.split_inclusive('\n').enumerate() {
            done += line.len() as u64;
            if line.trim().is_empty() {
                continue;
            }
            let place = format!("line {}", i + 1);
            let read = match serde_json::from_str(line) {
                Ok(Strict(json)) => self.value(&place, json),
                Err(e) => Err(self.wrong(&place, unread(&e, at_column(&e)))),
            };
            self.gather(read)?;
            progress(done, text.len() as u64);
        }
        Ok(())
    }

    /// Records one after the other, each over as many lines as it likes.
    fn values(&mut self, text: &str, progress: &mut dyn FnMut(u64, u64)) -> Result<(), DataError> {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<Strict>();
        let mut number = 0;
        while let Some(json) = values.next() {
            number += 1;
            let place = format!("record {number}");
            let Strict(json) = json.map_err(|e| self.wrong(&place, unread(&e, e.to_string())))?;
            let read = self.value(&place, json);
            self.gather(read)?;
            progress(values.byte_offset() as u64, text.len() as u64);
        }
        Ok(())
    }

    /// One array of records.
    fn array(&mut self, text: &str, progress: &mut dyn FnMut(u64, u64)) -> Result<(), DataError> {
        struct Each<'r, 'a, 'p> {
            reader: &'r mut Reader<'a>,
            failed: &'r mut Option<DataError>,
            progress: &'p mut dyn FnMut(u64, u64),
            total: u64,
        }
        impl<'de> Visitor<'de> for Each<'_, '_, '_> {
            type Value = ();
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an array of records")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
                let mut number = 0;
                let mut done = 0;
                while let Some(Strict(json)) = seq.next_element()? {
                    number += 1;
                    // What a record takes as text, near enough for a bar.
                    done += json.to_string().len() as u64;
                    let read = self.reader.value(&format!("record {number}"), json);
                    if let Err(e) = self.reader.gather(read) {
                        *self.failed = Some(e);
                        return Err(serde::de::Error::custom(""));
                    }
                    (self.progress)(done.min(self.total), self.total);
                }
                Ok(())
            }
        }
        let mut failed = None;
        let mut json = serde_json::Deserializer::from_str(text);
        let each = Each { reader: self, failed: &mut failed, progress, total: text.len() as u64 };
        let done = json.deserialize_seq(each).and_then(|()| json.end());
        match (failed, done) {
            (Some(e), _) => Err(e),
            (None, Err(e)) => {
                let line = e.line();
                let what = unread(&e, at_column(&e)) + "; the file begins as an array of records";
                Err(self.wrong(&format!("line {line}"), what))
            }
            (None, Ok(())) => Ok(()),
        }
    }

    /// The rows of a Parquet file.
    #[cfg(not(target_arch = "wasm32"))]
    fn table(&mut self, bytes: Vec<u8>, progress: &mut dyn FnMut(u64, u64)) -> Result<(), DataError> {
        let size = bytes.len() as u64;
        let file = self.file.clone();
        let broken = |what: String| DataError::File { file: file.clone(), what };
        let table = weft_formats::table::Table::open(bytes).map_err(broken)?;
        let rows = table.rows();
        for (i, row) in table.iter().map_err(broken)?.enumerate() {
            let place = format!("row {}", i + 1);
            let row = row.map_err(|what| self.wrong(&place, what))?;
            let read = self.value(&place, row);
            self.gather(read)?;
            progress(size * (i as u64 + 1) / rows.max(1), size);
        }
        Ok(())
    }

    #[cfg(target_arch = "wasm32")]
    fn table(&mut self, _: Vec<u8>, _: &mut dyn FnMut(u64, u64)) -> Result<(), DataError> {
        let what = "is a Parquet file, which is not read here; save it as lines of JSON".to_owned();
        Err(DataError::File { file: self.file.clone(), what })
    }

    /// Keeps what is wrong with a record, as long as there is room for it.
    fn gather(&mut self, read: Result<(), DataError>) -> Result<(), DataError> {
        match read {
            Err(e) if self.problems.len() < self.most => {
                self.problems.push(e);
                Ok(())
            }
            read => read,
        }
    }

    fn value(&mut self, place: &str, json: Json) -> Result<(), DataError> {
        let Json::Object(map) = json else { return Err(self.wrong(place, "is not a JSON object")) };
        self.record(place, map)
    }

    fn record(&mut self, place: &str, map: Map<String, Json>) -> Result<(), DataError> {
        let record = Record::read(map, self.how).map_err(|what| self.wrong(place, what))?;
        self.data.counts.records += 1;
        self.data.counts.nulls += record.nulls;
        self.form(record.form);
        match record.content {
            Content::Text(text) => {
                self.text(&text);
                Ok(())
            }
            Content::Talk(talk) => self.talk(place, talk),
        }
    }

    /// Remembers what records were read as.
    fn form(&mut self, form: &'static str) {
        if !self.data.counts.forms.contains(&form) {
            self.data.counts.forms.push(form);
        }
    }

    /// A text to learn as a whole, with the end of the text behind it; cut where it is longer than the context.
    fn text(&mut self, text: &str) {
        let tokenizer = self.how.tokenizer;
        if text.trim().is_empty() {
            self.data.counts.unsupervised += 1;
            return;
        }
        let mut ids = tokenizer.encode_prompt(text);
        if let Some(eos) = tokenizer.eos().filter(|eos| ids.last() != Some(eos)) {
            ids.push(eos);
        }
        let tokens: Vec<_> = ids.into_iter().map(|id| (id, true)).collect();
        let context = self.how.context as usize;
        let mut start = 0;
        while start + 1 < tokens.len() {
            // One token more than the context: the label of the last.
            let end = (start + context + 1).min(tokens.len());
            self.push(&tokens[start..end]);
            start += context;
        }
    }

    fn talk(&mut self, place: &str, talk: super::record::Talk) -> Result<(), DataError> {
        use super::conversation::Fit;
        let fit = talk.fit(self.how).map_err(|e| self.wrong(place, e.to_string()))?;
        match fit {
            Fit::Whole(tokens) => self.push(&tokens),
            Fit::Truncated(tokens) => {
                self.data.counts.truncated += 1;
                self.push(&tokens);
            }
            Fit::Dropped => self.data.counts.dropped += 1,
            Fit::TooLong(tokens) => {
                let (file, place) = (self.file.clone(), place.to_owned());
                return Err(DataError::Overlong { file, place, tokens, context: self.how.context });
            }
        }
        Ok(())
    }

    fn push(&mut self, tokens: &[(u32, bool)]) {
        let example = Example::new(tokens);
        match example.supervised() {
            0 => self.data.counts.unsupervised += 1,
            _ => self.data.examples.push(example),
        }
    }

    fn finish(mut self) -> Result<Data, DataError> {
        self.data.count();
        let c = &self.data.counts;
        let (file, examples) = (self.file, c.records);
        match c {
            _ if c.examples > 0 => Ok(self.data),
            Counts { records: 0, .. } => Err(DataError::Empty { file }),
            Counts { dropped, .. } if *dropped == examples => {
                Err(DataError::AllDropped { file, examples, context: self.how.context })
            }
            _ => {
                let why = match self.how.learn {
                    Learn::Assistant => {
                        "no assistant message, or none that the template shows (--loss all learns every token)"
                    }
                    Learn::All => "they are empty",
                };
                Err(DataError::Unsupervised { file, examples, why })
            }
        }
    }
}

/// serde_json counts lines of its own.
fn at_column(e: &serde_json::Error) -> String {
    let text = e.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    format!("{what} at column {}", e.column())
}
