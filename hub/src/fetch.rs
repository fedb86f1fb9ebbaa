//! One file, written beside its place, gone on with where it broke off, hashed while it is written.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};
use crate::http::{self, Answer, Patience};
use crate::hub::{self, Remote};
use crate::pull::{Meter, Options, Stage};
use crate::{disk, human};

/// Bytes of the disk that are left to others.
pub(crate) const SLACK: u64 = 64 << 20;
/// Bytes that are read at once.
const PIECE: usize = 256 << 10;
/// How long a server may ask to be left alone; for longer the pull ends.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// What is known of a file by what the server said so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) etag: Option<String>,
    pub(crate) size: Option<u64>,
    pub(crate) sha256: Option<String>,
}

/// The file that is written.
struct Part {
    path: PathBuf,
    file: File,
    len: u64,
    hash: Sha256,
    /// Its first four bytes, as far as they are there.
    magic: Vec<u8>,
}

impl Part {
    /// Opens it, and reads what is there.
    fn open(path: &Path, meter: &mut Meter<'_>, patience: &Patience<'_>) -> Result<Part> {
        let io = |e: std::io::Error| Error::io(path, &e);
        let file =
            File::options().create(true).truncate(false).read(true).write(true).open(path).map_err(io)?;
        let mut part = Part { path: path.to_owned(), file, len: 0, hash: Sha256::new(), magic: Vec::new() };
        let mut piece = vec![0; PIECE];
        loop {
            let n = part.file.read(&mut piece).map_err(io)?;
            if n == 0 {
                return Ok(part);
            }
            patience.wait(Duration::ZERO)?;
            part.count(&piece[..n]);
            meter.at(Stage::Checking, part.len);
        }
    }

    fn count(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        let lacks = 4usize.saturating_sub(self.magic.len()).min(bytes.len());
        self.magic.extend_from_slice(&bytes[..lacks]);
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io(&self.path, &e))?;
        self.count(bytes);
        if self.magic.len() == 4 && self.magic != b"GGUF" {
            let begins = String::from_utf8_lossy(&self.magic).escape_debug().to_string();
            self.restart()?;
            return Err(Error::new(
                Kind::Format,
                format!("what comes is no GGUF file: it begins with \"{begins}\""),
            ));
        }
        Ok(())
    }

    /// Forgets all that is there.
    fn restart(&mut self) -> Result<()> {
        let io = |e: std::io::Error| Error::io(&self.path, &e);
        self.file.set_len(0).map_err(io)?;
        self.file.seek(SeekFrom::Start(0)).map_err(io)?;
        (self.len, self.hash) = (0, Sha256::new());
        self.magic.clear();
        Ok(())
    }
}

/// What fetching needs beside the file.
pub(crate) struct Fetching<'a, 'b> {
    pub(crate) options: &'a Options,
    pub(crate) token: Option<&'a str>,
    pub(crate) patience: &'a Patience<'a>,
    pub(crate) meter: &'a mut Meter<'b>,
    /// Keeps what is known, for a later call.
    pub(crate) save: &'a mut dyn FnMut(&Known) -> Result<()>,
}

/// A tag that is equal for equal bytes alone.
pub(crate) fn strong(answer: &Answer) -> Option<String> {
    let tag = answer.header("etag")?;
    (tag.starts_with('"') && tag.ends_with('"') && tag.len() > 2 && tag.len() < 512).then(|| tag.to_owned())
}

/// Whether a failed try may be followed by another, and after how long.
pub(crate) fn again(e: &Error, tries: u32, options: &Options) -> Option<Duration> {
    let pause = e.after.unwrap_or_else(|| options.pause.saturating_mul(1 << tries.min(6)));
    (e.is_passing() && tries < options.tries && pause <= LONGEST_PAUSE).then_some(pause)
}

impl Fetching<'_, '_> {
    /// Fetches `remote` into `path`; gives its size and its checksum.
    ///
    /// # Errors
    /// The file is not there, is not what was promised, or did not come; what came of it is kept unless it is wrong.
    pub(crate) fn file(&mut self, remote: &Remote, path: &Path, known: &mut Known) -> Result<(u64, String)> {
        let mut part = Part::open(path, self.meter, self.patience)?;
        known.sha256 = remote.sha256.clone().or(known.sha256.take());
        known.size = remote.size.or(known.size);
        let can_go_on = known.etag.is_some() || known.sha256.is_some();
        if part.len > 0 && (!can_go_on || known.size.is_some_and(|size| part.len > size)) {
            part.restart()?;
        }
        let (mut tries, mut most) = (0, part.len);
        while known.size.is_none_or(|size| part.len < size) {
            let Err(e) = self.once(remote, &mut part, known) else { continue };
            // One that breaks off each time a bit later gets there.
            if part.len > most {
                (most, tries) = (part.len, 0);
            }
            let Some(pause) = again(&e, tries, self.options) else { return Err(with_hint(e, &part, known)) };
            tries += 1;
            self.meter.note(&format!("{e}; trying again in {:.1} s", pause.as_secs_f32()));
            self.meter.at(Stage::Waiting, part.len);
            self.patience.wait(pause)?;
        }
        part.file.sync_all().map_err(|e| Error::io(path, &e))?;
        let found = weft_formats::hex(&part.hash.finalize());
        match &known.sha256 {
            Some(want) if *want != found => {
                drop(part.file);
                let _ = std::fs::remove_file(path);
                let line = format!(
                    "{}: its checksum is {found}, and should be {want}; what came was thrown away, the next call begins \
                     anew",
                    remote.file
                );
                Err(Error::new(Kind::Checksum, line))
            }
            _ => Ok((part.len, found)),
        }
    }

    /// One request, and as much of the file as it brings.
    fn once(&mut self, remote: &Remote, part: &mut Part, known: &mut Known) -> Result<()> {
        let mut headers = Vec::new();
        if part.len > 0 {
            headers.push(("Range".to_owned(), format!("bytes={}-", part.len)));
            headers.extend(known.etag.iter().map(|tag| ("If-Range".to_owned(), tag.clone())));
        }
        let mut answer = http::get(&remote.url, &headers, self.token, self.patience)?;
        let total = self.begin(remote, part, known, &answer)?;
        let mut piece = vec![0; PIECE];
        loop {
            let n = answer.read(&mut piece, self.patience)?;
            if n == 0 {
                break;
            }
            if part.len + n as u64 > total {
                part.restart()?;
                return Err(odd(remote, format!("more comes than the {total} bytes that it should have")));
            }
            part.write(&piece[..n]).map_err(|e| Error { line: format!("{}: {e}", remote.file), ..e })?;
            self.meter.at(Stage::Pulling, part.len);
            if (self.patience.stop)() {
                return Err(Error::stopped());
            }
        }
        match part.len < total {
            true => {
                Err(Error::new(Kind::Network, format!("{}: the connection ended early", remote.url.host)))
            }
            false => Ok(()),
        }
    }

    /// Looks at the head of an answer: whether it goes on where the file ends, or begins it anew. Gives the length that
    /// the file will have.
    fn begin(&mut self, remote: &Remote, part: &mut Part, known: &mut Known, answer: &Answer) -> Result<u64> {
        let tag = strong(answer);
        let total = match answer.status {
            200 => {
                if part.len > 0 {
                    self.meter.note(&format!(
                        "{}: it is another file now, or cannot be gone on with; it begins anew",
                        remote.file
                    ));
                    part.restart()?;
                }
                let told = answer.length().or(remote.size);
                told.ok_or_else(|| odd(remote, "the server does not say how long it is".into()))?
            }
            206 if part.len > 0 => {
                let (from, to, total) = answer
                    .header("content-range")
                    .and_then(range)
                    .ok_or_else(|| odd(remote, "the server sends a part, and does not say which".into()))?;
                let other =
                    known.etag.is_some() && tag.is_some() && tag != known.etag && known.sha256.is_none();
                if from != part.len || other || known.size.is_some_and(|size| size != total) {
                    part.restart()?;
                    let line = format!("{}: the server sends another part than was asked for", remote.file);
                    return Err(Error::new(Kind::Network, line));
                }
                if answer.length().is_some_and(|n| n != to - from + 1) {
                    return Err(odd(remote, "the server sends another length than it says".into()));
                }
                total
            }
            416 => {
                part.restart()?;
                return Err(Error::new(
                    Kind::Network,
                    format!("{}: it is shorter there than here", remote.file),
                ));
            }
            201..=299 => return Err(odd(remote, format!("the server answers with {}", answer.status))),
            _ => return Err(hub::refused(answer, &remote.file, self.token.is_some())),
        };
        let linked = answer.first_header("x-linked-size").and_then(|v| v.parse().ok());
        if let Some(size) = remote.size.or(linked).filter(|size| *size != total) {
            return Err(odd(remote, format!("it should have {size} bytes, and the server has {total}")));
        }
        if known.sha256.is_none() {
            known.sha256 = answer.first_header("x-linked-etag").and_then(hub::sha256);
        }
        (known.size, known.etag) = (Some(total), tag);
        room(part.path.parent().unwrap_or(Path::new(".")), total - part.len)?;
        self.meter.size(total);
        (self.save)(known)?;
        Ok(total)
    }
}

/// Refuses what the disk has no room for.
pub(crate) fn room(folder: &Path, needed: u64) -> Result<()> {
    match disk::free(folder) {
        Some(free) if needed.saturating_add(SLACK) > free => {
            let line = format!(
                "{}: {} are needed, and the disk has {} left; make room, or name another folder by WEFT_MODELS",
                folder.display(),
                human(needed),
                human(free)
            );
            Err(Error::new(Kind::Space, line))
        }
        _ => Ok(()),
    }
}

fn odd(remote: &Remote, why: String) -> Error {
    Error::new(Kind::Protocol, format!("{}: {why}", remote.file))
}

/// `bytes 10-19/20`.
fn range(text: &str) -> Option<(u64, u64, u64)> {
    let (span, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, to) = span.split_once('-')?;
    let (from, to, total) = (from.parse().ok()?, to.parse().ok()?, total.parse().ok()?);
    (from <= to && to < total).then_some((from, to, total))
}

fn with_hint(e: Error, part: &Part, known: &Known) -> Error {
    if !e.is_passing() || part.len == 0 {
        return e;
    }
    let total = known.size.map_or(String::new(), |size| format!(" of {}", human(size)));
    let line = format!("{e}; {}{total} are kept, and the same call goes on from there", human(part.len));
    Error { line, ..e }
}
