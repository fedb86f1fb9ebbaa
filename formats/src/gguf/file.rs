//! An open GGUF file, or all the shards of a split one.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Cause, Error};
use super::parse::{self, TensorInfo};
use super::value::Metadata;
use super::writer::Writer;
use crate::quant::Type;

/// An open file: its metadata, its checked tensor table, and the bytes, mapped and not read.
///
/// As with every memory map, a file that another process truncates while it is open ends this
/// process with a bus error on the next read past the new end.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    version: u32,
    alignment: u64,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
    shards: Vec<Data>,
}

/// Where the bytes of a file come from that is neither mapped nor whole in memory, such as one that somebody picked in
/// a browser.
pub trait Pieces: std::fmt::Debug + Send + Sync {
    /// How many bytes there are.
    fn size(&self) -> u64;

    /// Fills `into` with what lies at `at` and behind it, all of which is within the size.
    ///
    /// # Errors
    /// What keeps it from being read.
    fn read(&self, at: u64, into: &mut [u8]) -> std::io::Result<()>;
}

/// Bytes of a file in pieces that are read at first. Where its header goes on, twice as many are.
const FIRST: u64 = 4 << 20;

/// One shard, parsed.
struct Shard {
    name: String,
    data: Data,
    header: parse::Header,
}

impl File {
    /// Opens `path`. Where it is one shard of a split file (`PREFIX-00001-of-00003.gguf`), opens
    /// all of them: the metadata are those of the first, the tensors those of all.
    pub fn open(path: &Path) -> Result<File, Error> {
        let name = path.display().to_string();
        let shards = match split_name(path) {
            None => {
                let shard = open_shard(path)?;
                let number = shard.header.metadata.u64("split.no").unwrap_or(0);
                match shard.header.metadata.u64("split.count") {
                    // llama.cpp's merge leaves a count of 0.
                    None | Some(0 | 1) => vec![shard],
                    Some(count) => {
                        return Err(Cause::ShardName { no: number.saturating_add(1), count }.of(&name));
                    }
                }
            }
            Some(split) => open_split(path, &split)?,
        };
        Self::assemble(path, shards)
    }

    /// A whole file in memory. Errors call it `(memory)`.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<File, Error> {
        let name = "(memory)";
        let shard = parse_shard(name.to_owned(), Data::Bytes(bytes))?;
        Self::assemble(Path::new(name), vec![shard])
    }

    /// A file that is read piece by piece: its header now, tensors when [`File::read`] asks for them. Errors call it
    /// `name`. A shard of a split file is refused.
    pub fn from_pieces(name: &str, pieces: Arc<dyn Pieces>) -> Result<File, Error> {
        let size = pieces.size();
        let mut bytes = Vec::new();
        let header = loop {
            let from = bytes.len();
            let most = size.min((2 * from as u64).max(FIRST));
            bytes.resize(usize::try_from(most).map_err(|_| too_long(name))?, 0);
            pieces.read(from as u64, &mut bytes[from..]).map_err(|e| Cause::io(e).of(name))?;
            match parse::header(&bytes) {
                Err(Cause::Truncated { .. } | Cause::Count { .. }) if most < size => {}
                done => break done.map_err(|c| c.of(name))?,
            }
        };
        if let Some(count @ 2..) = header.metadata.u64("split.count") {
            let no = header.metadata.u64("split.no").unwrap_or(0).saturating_add(1);
            return Err(Cause::LoneShard { no, count }.of(name));
        }
        let shard = Shard { name: name.to_owned(), data: Data::Pieces(pieces), header };
        shard.check_ends()?;
        Self::assemble(Path::new(name), vec![shard])
    }

    /// What a file of these metadata and tensors (name, shape with columns first, type) would say of itself,
    /// without their bytes: for models whose weights are made up. Refuses what [`File::open`] would refuse;
    /// errors call it `name`.
    pub fn outline<N: Into<String>>(
        name: &str,
        metadata: &Metadata,
        tensors: impl IntoIterator<Item = (N, Vec<u64>, Type)>,
    ) -> Result<File, Error> {
        let header = Writer::new(metadata, tensors)?.into_header();
        let header = Shard {
            name: name.to_owned(),
            header: parse::header(&header).map_err(|c| c.of(name))?,
            data: Data::Bytes(Vec::new()),
        };
        Self::assemble(Path::new(name), vec![header])
    }

    fn assemble(path: &Path, shards: Vec<Shard>) -> Result<File, Error> {
        let mut file = File {
            path: path.to_owned(),
            version: 0,
            alignment: 0,
            metadata: Metadata::new(),
            tensors: Vec::new(),
            by_name: HashMap::new(),
            shards: Vec::new(),
        };
        for (i, shard) in shards.into_iter().enumerate() {
            let header = shard.header;
            if i == 0 {
                file.version = header.version;
                file.alignment = header.alignment;
                file.metadata = header.metadata;
            }
            for mut t in header.tensors {
                t.shard = i;
                if file.by_name.insert(t.name.clone(), file.tensors.len()).is_some() {
                    return Err(Cause::DuplicateTensor(t.name).of(&shard.name));
                }
                file.tensors.push(t);
            }
            file.shards.push(shard.data);
        }
        Ok(file)
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All files that it is read from: the shards of a split one.
    pub fn paths(&self) -> Vec<PathBuf> {
        match split_name(&self.path) {
            Some(split) => (1..=split.count).map(|no| self.path.with_file_name(split.shard(no))).collect(),
            None => vec![self.path.clone()],
        }
    }

    /// The GGUF version, 2 or 3 (of the first shard).
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What tensor offsets are multiples of (in the first shard).
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// The key-value section.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tensor table in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of this name, if any.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|&i| &self.tensors[i])
    }

    /// How many files it is made of.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Bytes of all shards together.
    pub fn size(&self) -> u64 {
        self.shards.iter().map(Data::size).sum()
    }

    /// The bytes of one of this file's tensors, `tensor.size` of them.
    ///
    /// # Panics
    /// With an entry that is not from this file's table and lies outside it; on an outline; on a file that
    /// is read piece by piece, of which [`File::read`] gives the bytes.
    pub fn bytes(&self, tensor: &TensorInfo) -> &[u8] {
        // Checked against the length when the file was opened, so both fit usize.
        &self.shards[tensor.shard].bytes()[tensor.offset as usize..][..tensor.size as usize]
    }

    /// Whether it is read piece by piece, so that [`File::read`] gives what [`File::bytes`] cannot.
    pub fn is_in_pieces(&self) -> bool {
        self.shards.iter().any(|s| matches!(s, Data::Pieces(_)))
    }

    /// The bytes `part` of one of this file's tensors: as they lie in memory, or read where the file is in pieces.
    ///
    /// # Errors
    /// What keeps them from being read.
    ///
    /// # Panics
    /// With an entry that is not from this file's table, or a part that is not within it; on an outline.
    pub fn read(&self, tensor: &TensorInfo, part: Range<usize>) -> Result<Cow<'_, [u8]>, Error> {
        let Data::Pieces(pieces) = &self.shards[tensor.shard] else {
            return Ok(Cow::Borrowed(&self.bytes(tensor)[part]));
        };
        assert!(part.start <= part.end && part.end as u64 <= tensor.size, "{part:?} of {}", tensor.name);
        let mut bytes = vec![0; part.len()];
        let read = pieces.read(tensor.offset + part.start as u64, &mut bytes);
        read.map_err(|e| Cause::io(e).of(&self.path.display().to_string()))?;
        Ok(Cow::Owned(bytes))
    }

    /// All bytes of one of this file's tensors, as [`File::read`].
    ///
    /// # Errors
    /// The same.
    ///
    /// # Panics
    /// The same.
    pub fn read_all(&self, tensor: &TensorInfo) -> Result<Cow<'_, [u8]>, Error> {
        self.read(tensor, 0..tensor.size as usize)
    }

    /// Tells the kernel that the tensor's pages can leave memory, which keeps a process small that
    /// streams a model larger than it wants resident. Reading them again is right but slow.
    /// Does nothing for a file in memory, and outside Unix.
    pub fn release(&self, tensor: &TensorInfo) {
        self.release_part(tensor, 0..tensor.size as usize);
    }

    /// As [`File::release`], for the bytes `part` of the tensor.
    pub fn release_part(&self, tensor: &TensorInfo, part: std::ops::Range<usize>) {
        if let Some(shard) = self.shards.get(tensor.shard) {
            shard.release(tensor.offset as usize + part.start, part.len());
        }
    }
}

/// What a name of the form `PREFIX-00002-of-00005.gguf` says.
struct Split {
    prefix: String,
    no: u32,
    count: u32,
}

impl Split {
    fn shard(&self, no: u32) -> String {
        format!("{}-{no:05}-of-{:05}.gguf", self.prefix, self.count)
    }
}

fn split_name(path: &Path) -> Option<Split> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
    let (rest, count) = number(stem)?;
    let (prefix, no) = number(rest.strip_suffix("-of")?)?;
    (1 <= no && no <= count).then(|| Split { prefix: prefix.to_owned(), no, count })
}

/// Splits the five digits and the dash before them off the end.
fn number(s: &str) -> Option<(&str, u32)> {
    let (rest, digits) = s.rsplit_once('-')?;
    let five = digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit());
    Some((rest, five.then(|| digits.parse().ok())??))
}

fn open_split(path: &Path, split: &Split) -> Result<Vec<Shard>, Error> {
    // What is wrong with the named file itself comes before what is missing beside it.
    let mut named = Some(open_shard(path)?);
    let mut shards = Vec::new();
    for no in 1..=split.count {
        let shard = match named.take_if(|_| no == split.no) {
            Some(shard) => shard,
            None => match open_shard(&path.with_file_name(split.shard(no))) {
                Err(Error { file, cause: Cause::NotFound }) => {
                    return Err(Cause::MissingShard { no, opened: path.display().to_string() }.of(&file));
                }
                other => other?,
            },
        };
        check_shard(&shard, no, split.count)?;
        shards.push(shard);
    }
    let found = shards.iter().map(|s| s.header.tensors.len() as u64).sum();
    match shards.first().and_then(|s| s.header.metadata.u64("split.tensors.count")) {
        Some(expected) if expected != found => {
            Err(Cause::SplitTensors { expected, found }.of(&path.display().to_string()))
        }
        _ => Ok(shards),
    }
}

/// What the GGUF file at `path` is (`general.type`, a model's where it says nothing); `None` for what is no GGUF
/// file. Other shards of a split one are not looked for.
pub fn kind_of(path: &Path) -> Option<String> {
    let shard = open_shard(path).ok()?;
    Some(shard.header.metadata.str("general.type").unwrap_or("model").to_owned())
}

/// The metadata of shard `no` of `count` must say what the name says. A lone shard may say nothing.
fn check_shard(shard: &Shard, no: u32, count: u32) -> Result<(), Error> {
    let metadata = &shard.header.metadata;
    let said = |key| metadata.u64(key).map_or("nothing".to_owned(), |v| v.to_string());
    let found = metadata.u64("split.count");
    if found != Some(count.into()) && !(count == 1 && matches!(found, None | Some(0))) {
        return Err(Cause::SplitCount { no, count, found: said("split.count") }.of(&shard.name));
    }
    let found = metadata.u64("split.no");
    if found != Some(u64::from(no) - 1) && !(count == 1 && found.is_none()) {
        return Err(Cause::SplitNo { no, found: said("split.no") }.of(&shard.name));
    }
    Ok(())
}

fn open_shard(path: &Path) -> Result<Shard, Error> {
    let name = path.display().to_string();
    let data = Data::open(path).map_err(|c| c.of(&name))?;
    parse_shard(name, data)
}

fn parse_shard(name: String, data: Data) -> Result<Shard, Error> {
    let header = parse::header(data.bytes()).map_err(|c| c.of(&name))?;
    let shard = Shard { name, data, header };
    shard.check_ends()?;
    Ok(shard)
}

impl Shard {
    /// All tensors must end within the file.
    fn check_ends(&self) -> Result<(), Error> {
        let len = self.data.size();
        match self.header.tensors.iter().find(|t| t.offset + t.size > len) {
            Some(t) => {
                Err(Cause::TensorEnd { name: t.name.clone(), end: t.offset + t.size, len }.of(&self.name))
            }
            None => Ok(()),
        }
    }
}

/// A header that is longer than what this machine can address.
fn too_long(name: &str) -> Error {
    Cause::Io(std::io::Error::other("the header is longer than memory")).of(name)
}

/// The bytes of one shard.
#[derive(Debug)]
enum Data {
    Bytes(Vec<u8>),
    Pieces(Arc<dyn Pieces>),
    #[cfg(not(target_arch = "wasm32"))]
    Map(memmap2::Mmap),
}

impl Data {
    #[cfg(not(target_arch = "wasm32"))]
    fn open(path: &Path) -> Result<Data, Cause> {
        // Looked at before it is opened, because opening a pipe waits for its writer.
        let stat = std::fs::metadata(path).map_err(Cause::io)?;
        match () {
            _ if stat.is_dir() => Err(Cause::Directory),
            _ if !stat.is_file() => Err(Cause::NotRegular),
            // An empty file cannot be mapped everywhere.
            _ if stat.len() == 0 => Err(Cause::Empty),
            _ => {
                let file = std::fs::File::open(path).map_err(Cause::io)?;
                // SAFETY: the map is read-only. A file that another process changes while it is
                // open can give other bytes or, truncated, a bus error; `File` says so.
                Ok(Data::Map(unsafe { memmap2::Mmap::map(&file) }.map_err(Cause::io)?))
            }
        }
    }

    #[cfg(target_arch = "wasm32")]
    fn open(path: &Path) -> Result<Data, Cause> {
        std::fs::read(path).map(Data::Bytes).map_err(Cause::io)
    }

    fn size(&self) -> u64 {
        match self {
            Data::Pieces(p) => p.size(),
            whole => whole.bytes().len() as u64,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Data::Bytes(v) => v,
            Data::Pieces(_) => panic!("a file in pieces has no bytes in memory"),
            #[cfg(not(target_arch = "wasm32"))]
            Data::Map(m) => m,
        }
    }

    #[cfg(unix)]
    fn release(&self, offset: usize, size: usize) {
        let Data::Map(map) = self else { return };
        if size == 0 || offset.checked_add(size).is_none_or(|end| end > map.len()) {
            return;
        }
        // SAFETY: the pages are clean, read-only and backed by the file, so that dropping them only
        // means that the next read maps them again. A failure costs memory and nothing else.
        let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, size) };
    }

    #[cfg(not(unix))]
    fn release(&self, _offset: usize, _size: usize) {}
}
