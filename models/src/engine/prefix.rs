//! Keys and values of what a prompt begins with, in a file: a later process need not compute them again.
//!
//! A file has a line of JSON (the header), the tokens as u32, then the blocks of each group of layers as they lie in
//! memory, and at its end the SHA-256 of all that. The header names the model, its adapters and the type of cache: what
//! another of them computed is of no use and is refused. Blocks get their names only once the sum is known to be right.

use std::io::{BufRead, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use weft_formats::AtomicFile;

use super::Engine;
use super::pool::Sequence;
use crate::{Error, Result};

/// The most bytes of a header.
const HEADER: u64 = 64 << 10;
const SUM: usize = 32;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    format: String,
    model: String,
    adapters: Option<String>,
    cache: String,
    /// Positions of a block.
    block: usize,
    tokens: usize,
    groups: Vec<Stored>,
}

/// What a file has of a group of layers.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    /// Positions that the layers see, 0 for all.
    window: usize,
    /// The first entry of the table that is stored; the others go on to the last token.
    first: usize,
    /// Bytes of a block in all layers.
    block: u64,
}

const FORMAT: &str = "weft-prefix-2"; // 1 had another zero point in blocks of q4_0

/// Sums what goes through it.
struct Summed<T> {
    inner: T,
    sum: Sha256,
}

impl<T: Read> Read for Summed<T> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(to)?;
        self.sum.update(&to[..n]);
        Ok(n)
    }
}

impl<T: Write> Write for Summed<T> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.sum.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

impl Engine {
    /// Writes what the cache has of the beginning of `tokens`, behind `salt` and without adapters of requests, to a file that appears whole or not at all;
    /// how many tokens these are, a multiple of a block. Without any, no file is written.
    ///
    /// # Errors
    /// A file that cannot be written; a fault of the device.
    pub fn save_prefix(&mut self, path: &Path, tokens: &[u32], salt: u64) -> Result<usize> {
        let (seq, found) = self.scheduler.blocks.held(tokens, salt.into());
        let saved = match found {
            0 => Ok(()),
            n => self.write_prefix(path, &tokens[..n], &seq),
        };
        self.scheduler.blocks.close(seq);
        saved.map(|()| found)
    }

    fn header(&self, tokens: usize, first: impl Fn(usize) -> usize) -> Header {
        let device = &self.scheduler.device;
        let groups = self.scheduler.blocks.windows().enumerate();
        let stored = |(g, window)| Stored { window, first: first(g), block: device.block_bytes(g) };
        Header {
            format: FORMAT.into(),
            model: self.model.identity(),
            adapters: self.model.1.as_deref().map(|l| l.identity().to_owned()),
            cache: self.model.0.cache.name().into(),
            block: self.scheduler.blocks.block(),
            tokens,
            groups: groups.map(stored).collect(),
        }
    }

    fn write_prefix(&self, path: &Path, tokens: &[u32], seq: &Sequence) -> Result<()> {
        let file = AtomicFile::create(path)?;
        let mut to = Summed { inner: file, sum: Sha256::new() };
        let failed = |e: std::io::Error| refused(path, format!("cannot be written: {e}"));
        let header = self.header(tokens.len(), |g| seq.entries(g).next().map_or(0, |(e, _)| e));
        let line = serde_json::to_string(&header).expect("plain values") + "\n";
        to.write_all(line.as_bytes()).map_err(failed)?;
        to.write_all(bytemuck::cast_slice(tokens)).map_err(failed)?;
        let device = &self.scheduler.device;
        for group in 0..header.groups.len() {
            for (entry, id) in seq.entries(group) {
                // All copies of a block are asked for before the first is waited for.
                let parts = device.block(group, self.scheduler.blocks.chunk_of(group, entry), id);
                let copies: Vec<_> = parts.iter().map(|p| self.model.gpu().read(p)).collect();
                for copy in copies {
                    to.write_all(&copy.wait()?).map_err(failed)?;
                }
            }
        }
        let sum = to.sum.finalize();
        to.inner.write_all(&sum).map_err(failed)?;
        Ok(to.inner.finish()?)
    }

    /// Puts what a file of [`Engine::save_prefix`] has into the cache, where prompts of this `salt` that begin with the
    /// same tokens find it; how many tokens the file has. Where memory gets short it is let go again, as all that nobody
    /// uses.
    ///
    /// # Errors
    /// No such file, one that is damaged or of another model, adapter or type of cache; fewer free blocks than it needs.
    pub fn restore_prefix(&mut self, path: &Path, salt: u64) -> Result<usize> {
        let failed = |e: std::io::Error| refused(path, e.to_string());
        let bytes = std::fs::metadata(path).map_err(failed)?;
        if !bytes.is_file() {
            return Err(refused(path, "is not a regular file".into()));
        }
        let bytes = bytes.len();
        let file = std::fs::File::open(path).map_err(failed)?;
        let mut from = Summed { inner: std::io::BufReader::with_capacity(1 << 20, file), sum: Sha256::new() };
        let (header, line) = self.read_header(path, &mut from)?;
        let stored = |s: &Stored| (header.tokens / header.block - s.first) as u64 * s.block;
        let blocks: u64 = header.groups.iter().map(stored).sum();
        let needed = (line + 4 * header.tokens + SUM) as u64 + blocks;
        if bytes != needed {
            return Err(refused(path, format!("has {bytes} bytes where its header asks for {needed}")));
        }
        let mut tokens = vec![0u32; header.tokens];
        from.read_exact(bytemuck::cast_slice_mut(&mut tokens)).map_err(failed)?;
        self.model.check_ids(&tokens)?;
        let (mut seq, found) = self.scheduler.blocks.held(&tokens, salt.into());
        let read =
            if found == tokens.len() { Ok(()) } else { self.read_blocks(path, &mut from, &header, &mut seq) };
        if read.is_ok() {
            self.scheduler.blocks.computed(&mut seq, &tokens, tokens.len());
        }
        self.scheduler.blocks.close(seq);
        read.map(|()| tokens.len())
    }

    /// The header of a file, and how many bytes it has.
    fn read_header(&self, path: &Path, from: &mut Summed<impl BufRead>) -> Result<(Header, usize)> {
        let mut line = Vec::new();
        from.inner
            .by_ref()
            .take(HEADER)
            .read_until(b'\n', &mut line)
            .map_err(|e| refused(path, e.to_string()))?;
        from.sum.update(&line);
        let header: Header = serde_json::from_slice(&line)
            .map_err(|_| refused(path, "is no file of a prompt's keys and values".into()))?;
        let ours = self.header(header.tokens, |g| header.groups.get(g).map_or(0, |s| s.first));
        let why = if header.format != ours.format {
            format!("is of the format {:?}, and {FORMAT} is read", header.format)
        } else if header.model != ours.model {
            "is of another model".into()
        } else if header.adapters != ours.adapters {
            "is of this model with other adapters".into()
        } else if header.cache != ours.cache {
            format!("is of a cache in {}, and this one is in {} (--cache-type)", header.cache, ours.cache)
        } else if header != ours {
            "was written by another version of weft".into()
        } else if header.tokens == 0 || !header.tokens.is_multiple_of(header.block) {
            format!("has {} tokens, which are not whole blocks", header.tokens)
        } else if header.tokens > self.context() {
            format!("has {} tokens, more than the context of {} (-c)", header.tokens, self.context())
        } else if header.groups.iter().any(|g| g.first > header.tokens / header.block) {
            "is damaged".into()
        } else {
            return Ok((header, line.len()));
        };
        Err(refused(path, format!("{why}; remove it, or name another file")))
    }

    /// Takes blocks for what the cache lacks, and fills them.
    fn read_blocks(
        &mut self,
        path: &Path,
        from: &mut Summed<impl Read>,
        header: &Header,
        seq: &mut Sequence,
    ) -> Result<()> {
        let scheduler = &mut self.scheduler;
        scheduler.blocks.leave_behind(seq, header.tokens);
        let Some(taken) = scheduler.blocks.grow(seq, header.tokens, header.tokens) else {
            return Err(Error::PoolFull { tokens: header.tokens });
        };
        let gpu = self.model.gpu();
        let mut bytes = Vec::new();
        for (g, stored) in header.groups.iter().enumerate() {
            let (first, ids) = taken.iter().find(|t| t.0 == g).map_or((0, &[][..]), |(_, e, ids)| (*e, ids));
            for entry in stored.first..header.tokens / header.block {
                bytes.resize(stored.block as usize, 0);
                from.read_exact(&mut bytes).map_err(|e| refused(path, e.to_string()))?;
                // What lies before those that were taken is in the cache.
                let Some(&id) = entry.checked_sub(first).and_then(|n| ids.get(n)) else { continue };
                let mut rest = &bytes[..];
                for part in scheduler.device.block(g, scheduler.blocks.chunk_of(g, entry), id) {
                    let (now, later) = rest.split_at(part.size() as usize);
                    gpu.write(&part, 0, now)?;
                    rest = later;
                }
            }
        }
        let mut sum = [0; SUM];
        from.inner.read_exact(&mut sum).map_err(|e| refused(path, e.to_string()))?;
        match from.sum.clone().finalize()[..] == sum {
            true => Ok(()),
            false => Err(refused(path, "is damaged: its checksum is wrong; remove it".into())),
        }
    }
}

fn refused(path: &Path, what: String) -> Error {
    Error::Prefix { file: path.display().to_string(), what }
}
