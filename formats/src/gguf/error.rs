//! What can be wrong with a file, in one line each.

use crate::quant::Type;

/// A file that cannot be read or written: which one, and why.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {cause}")]
pub struct Error {
    /// The file as the caller named it (for a split file, the shard at fault).
    pub file: String,
    /// What is wrong with it.
    pub cause: Cause,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages are the documentation
pub enum Cause {
    #[error("no such file")]
    NotFound,
    #[error("is a directory, not a GGUF file")]
    Directory,
    #[error("is a pipe or a device; a GGUF file is read by mapping a regular file")]
    NotRegular,
    #[error("is {0}; give the name of a file")]
    NoFile(&'static str),
    #[error("its folder does not exist")]
    NoFolder,
    #[error("{}", .0.to_string().split(" (os error").next().unwrap_or_default().to_lowercase())]
    Io(std::io::Error),
    #[error("the file is empty")]
    Empty,
    #[error("not a GGUF file (starts with {0})")]
    Magic(String),
    #[error(
        "GGUF version 1, which is no longer read; convert the original model again with a current converter"
    )]
    Version1,
    #[error("big-endian GGUF; make it little-endian with `gguf-convert-endian` of the Python package gguf")]
    BigEndian,
    #[error("GGUF version {0}; this reader knows 2 and 3")]
    Version(u32),
    #[error("truncated: {what} needs {needed} bytes at byte {at} but the file has {len} bytes")]
    Truncated { what: String, at: u64, needed: u64, len: u64 },
    #[error("truncated: {count} {what} cannot fit in the {left} bytes after byte {at}")]
    Count { what: String, count: u64, at: u64, left: u64 },
    #[error("truncated: tensor {name:?} ends at byte {end} but the file has {len} bytes")]
    TensorEnd { name: String, end: u64, len: u64 },
    #[error("{what} is not UTF-8")]
    Utf8 { what: String },
    #[error("{what} is {len} bytes long, more than the {max} allowed")]
    TooLong { what: &'static str, len: u64, max: u64 },
    #[error("metadata key {0:?} appears twice")]
    DuplicateKey(String),
    #[error("metadata key {key:?} has the unknown value type {id}")]
    ValueType { key: String, id: u32 },
    #[error("metadata key {key:?} holds the byte {byte} as a boolean, which must be 0 or 1")]
    Bool { key: String, byte: u8 },
    #[error("metadata key {key:?} nests arrays more than {max} deep")]
    Depth { key: String, max: u32 },
    #[error("general.alignment is {0}, not a power of two from 8 to 65536")]
    Alignment(String),
    #[error("tensor {0:?} appears twice")]
    DuplicateTensor(String),
    #[error("tensor {name:?} has {dims} dimensions, more than 4")]
    Dimensions { name: String, dims: u32 },
    #[error("tensor {name:?} has the shape {shape:?}, with a dimension of 0")]
    ZeroDimension { name: String, shape: Vec<u64> },
    #[error("tensor {name:?} has the shape {shape:?}, more bytes than 64 bits can count")]
    Overflow { name: String, shape: Vec<u64> },
    #[error("tensor {name:?} has rows of {cols} values, not a whole number of {ty} blocks of {}", ty.block_len())]
    Block { name: String, cols: u64, ty: Type },
    #[error("tensor {name:?} has the unknown type id {id}{}", if is_removed(*id) { " (removed from ggml; quantise the model again)" } else { "" })]
    UnknownType { name: String, id: u32 },
    #[error("tensor {name:?} is at offset {offset}, not a multiple of the alignment {alignment}")]
    Unaligned { name: String, offset: u64, alignment: u64 },
    #[error(
        "{bytes} bytes before tensor {name:?} belong to no tensor, so that a type, a shape or an offset of the header is wrong"
    )]
    Gap { name: String, bytes: u64 },
    #[error("tensors {first:?} and {second:?} overlap")]
    Overlap { first: String, second: String },
    #[error("missing: shard {no} of the split file {opened}")]
    MissingShard { no: u32, opened: String },
    #[error(
        "is shard {no} of a split file of {count}, but is not named PREFIX-00001-of-{count:05}.gguf; give the shards their original names"
    )]
    ShardName { no: u64, count: u64 },
    #[error("is shard {no} of a split file of {count}; join them with `weft merge-splits` first")]
    LoneShard { no: u64, count: u64 },
    #[error("is named as shard {no} of {count}, but its split.count says {found}")]
    SplitCount { no: u32, count: u32, found: String },
    #[error("is named as shard {no}, but its split.no says {found} (counted from 0)")]
    SplitNo { no: u32, found: String },
    #[error("split.tensors.count is {expected}, but the shards hold {found} tensors")]
    SplitTensors { expected: u64, found: u64 },
    #[error("tensor {name:?} takes {expected} bytes, not {found}")]
    Data { name: String, expected: u64, found: u64 },
    #[error("{given} of {total} tensors were given")]
    Unfinished { given: usize, total: usize },
    #[error("{given} tensors were given, but the header lists {total}")]
    Surplus { given: usize, total: usize },
}

fn is_removed(id: u32) -> bool {
    matches!(id, 4 | 5 | 31..=33 | 36..=38)
}

impl Cause {
    pub(crate) fn of(self, file: &str) -> Error {
        Error { file: file.to_owned(), cause: self }
    }

    /// The plain causes among the operating system's errors.
    pub(crate) fn io(error: std::io::Error) -> Cause {
        match error.kind() {
            std::io::ErrorKind::NotFound => Cause::NotFound,
            std::io::ErrorKind::IsADirectory => Cause::Directory,
            _ => Cause::Io(error),
        }
    }
}
