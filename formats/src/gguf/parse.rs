//! The header: from bytes to metadata and a checked tensor table.
//!
//! Layout (GGUF specification, ggml docs/gguf.md), all little-endian: "GGUF", u32 version,
//! u64 tensor count, u64 key count, the key-value pairs, the tensor infos, padding to the
//! alignment, then the tensor data.

use std::collections::HashSet;

use super::error::Cause;
use super::value::{Array, Metadata, Value};
use crate::quant::Type;

use What::{Named, Part};

/// What the specification and llama.cpp allow.
const MAX_KEY: u64 = 65535;
const MAX_NAME: u64 = 64;
const MAX_DIMS: u32 = 4;
const MAX_ALIGNMENT: u64 = 65536;
/// Ours: deeper nesting has no use and would recurse on the stack.
const MAX_DEPTH: u32 = 4;

/// The alignment of a file that names none.
const DEFAULT_ALIGNMENT: u64 = 32;

/// One entry of the tensor table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The tensor's name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// Dimensions in ggml's order: columns, which lie next to each other in memory, come first.
    pub shape: Vec<u64>,
    /// How its values are stored.
    pub ty: Type,
    /// Which file of a split one holds it; 0 otherwise.
    pub shard: usize,
    /// Where its bytes start in that file.
    pub offset: u64,
    /// How many bytes it takes.
    pub size: u64,
}

impl TensorInfo {
    /// How many values it holds.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// A parsed header. Offsets in `tensors` count from the start of the file.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) alignment: u64,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) data_start: u64,
}

/// Parses and checks everything but whether the tensor data is all there.
pub(super) fn header(bytes: &[u8]) -> Result<Header, Cause> {
    let mut r = Reader { bytes, at: 0 };
    let version = magic_and_version(&mut r)?;
    let n_tensors = r.u64(Part("the tensor count"))?;
    let n_keys = r.u64(Part("the key count"))?;
    // The shortest entries: an empty key with a one-byte value; a nameless tensor without dimensions.
    r.check_count("metadata keys", n_keys, 8 + 4 + 1)?;
    r.check_count("tensors", n_tensors, 8 + 4 + 4 + 8)?;

    let mut metadata = Metadata::new();
    for _ in 0..n_keys {
        let key = r.string(Part("a metadata key"), Some(("a metadata key", MAX_KEY)))?;
        if metadata.get(&key).is_some() {
            return Err(Cause::DuplicateKey(key));
        }
        let id = r.u32(Named(&key))?;
        let value = value(&mut r, &key, id)?;
        metadata.set(key, value);
    }
    let alignment = alignment(&metadata)?;

    let mut tensors = Vec::new();
    let mut names = HashSet::new();
    for _ in 0..n_tensors {
        let info = tensor(&mut r, alignment)?;
        if !names.insert(info.name.clone()) {
            return Err(Cause::DuplicateTensor(info.name));
        }
        tensors.push(info);
    }
    // `at` is at most the length of a slice, so rounding up cannot overflow 64 bits.
    let data_start = (r.at as u64).next_multiple_of(alignment);
    for t in &mut tensors {
        let end = data_start.checked_add(t.offset).and_then(|o| o.checked_add(t.size));
        if end.is_none() {
            return Err(Cause::Overflow { name: t.name.clone(), shape: t.shape.clone() });
        }
        t.offset += data_start;
    }
    check_places(&tensors, data_start, alignment)?;
    Ok(Header { version, alignment, metadata, tensors, data_start })
}

fn magic_and_version(r: &mut Reader) -> Result<u32, Cause> {
    if r.bytes.is_empty() {
        return Err(Cause::Empty);
    }
    let start = &r.bytes[..r.bytes.len().min(4)];
    if !b"GGUF".starts_with(start) {
        return Err(Cause::Magic(describe_start(r.bytes)));
    }
    r.u32(Part("the magic"))?;
    match r.u32(Part("the version"))? {
        1 => Err(Cause::Version1),
        v @ (2 | 3) => Ok(v),
        v if v != 0 && v & 0xffff == 0 => Err(Cause::BigEndian),
        v => Err(Cause::Version(v)),
    }
}

/// The first bytes for a person: as text where they are, in hexadecimal elsewhere; with a hint for
/// the mistakes that are common.
fn describe_start(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(8)];
    let hint = match start {
        [b'P', b'K', 3, 4, ..] => ", a zip file such as a PyTorch checkpoint",
        [b'l', b'm', b'g', b'g', ..] | [b'f', b'm', b'g', b'g', ..] | [b't', b'j', b'g', b'g', ..] => {
            ", a ggml file from before GGUF: convert the original model again"
        }
        [_, _, _, _, _, 0, 0, 0] if bytes.get(8) == Some(&b'{') => ", a safetensors file",
        _ if start.starts_with(b"version ") => ", a Git LFS pointer: fetch the file itself",
        _ if start.starts_with(b"<") => ", a web page",
        _ => "",
    };
    if start.iter().all(|b| (0x20..0x7f).contains(b)) {
        format!("{:?}{hint}", String::from_utf8_lossy(start))
    } else {
        let hex: Vec<String> = start.iter().map(|b| format!("{b:02x}")).collect();
        format!("bytes {}{hint}", hex.join(" "))
    }
}

/// `general.alignment`, checked.
pub(super) fn alignment(metadata: &Metadata) -> Result<u64, Cause> {
    let Some(value) = metadata.get("general.alignment") else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    match metadata.u64("general.alignment") {
        Some(a) if a.is_power_of_two() && (8..=MAX_ALIGNMENT).contains(&a) => Ok(a),
        Some(a) => Err(Cause::Alignment(a.to_string())),
        None => Err(Cause::Alignment(format!("of type {}", value.kind()))),
    }
}

fn tensor(r: &mut Reader, alignment: u64) -> Result<TensorInfo, Cause> {
    let name = r.string(Part("a tensor name"), Some(("a tensor name", MAX_NAME)))?;
    let dims = r.u32(Named(&name))?;
    if dims > MAX_DIMS {
        return Err(Cause::Dimensions { name, dims });
    }
    let shape = (0..dims).map(|_| r.u64(Named(&name))).collect::<Result<Vec<_>, _>>()?;
    let id = r.u32(Named(&name))?;
    let offset = r.u64(Named(&name))?;
    let Some(ty) = Type::from_id(id) else {
        return Err(Cause::UnknownType { name, id });
    };
    let size = tensor_size(&name, &shape, ty)?;
    if !offset.is_multiple_of(alignment) {
        return Err(Cause::Unaligned { name, offset, alignment });
    }
    Ok(TensorInfo { name, shape, ty, shard: 0, offset, size })
}

/// Bytes of a tensor, once its shape is known to be sound.
pub(super) fn tensor_size(name: &str, shape: &[u64], ty: Type) -> Result<u64, Cause> {
    let (name, shape) = (name.to_owned(), shape.to_owned());
    if shape.contains(&0) {
        return Err(Cause::ZeroDimension { name, shape });
    }
    let cols = shape.first().copied().unwrap_or(1);
    if !cols.is_multiple_of(ty.block_len() as u64) {
        return Err(Cause::Block { name, cols, ty });
    }
    // The element count must fit too: callers multiply the shape out.
    let elements = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
    let size = shape.iter().skip(1).try_fold(ty.row_bytes(cols), |n, d| Some(n?.checked_mul(*d)));
    match (elements, size) {
        (Some(_), Some(Some(size))) => Ok(size),
        _ => Err(Cause::Overflow { name, shape }),
    }
}

/// Two tensors that share bytes are a damaged table, and would let a small file stand for a large model. Bytes between
/// two that are more than padding belong to a tensor whose size is told wrong, as llama.cpp has it.
fn check_places(tensors: &[TensorInfo], data_start: u64, alignment: u64) -> Result<(), Cause> {
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.sort_by_key(|t| t.offset);
    if let Some(w) = order.windows(2).find(|w| w[0].offset + w[0].size > w[1].offset) {
        return Err(Cause::Overlap { first: w[0].name.clone(), second: w[1].name.clone() });
    }
    let mut end = data_start;
    for tensor in order {
        if tensor.offset - end >= alignment {
            return Err(Cause::Gap { name: tensor.name.clone(), bytes: tensor.offset - end });
        }
        end = tensor.offset + tensor.size;
    }
    Ok(())
}

fn value(r: &mut Reader, key: &str, id: u32) -> Result<Value, Cause> {
    let k = Named(key);
    Ok(match id {
        0 => Value::U8(r.array::<1>(k)?[0]),
        1 => Value::I8(i8::from_le_bytes(r.array(k)?)),
        2 => Value::U16(u16::from_le_bytes(r.array(k)?)),
        3 => Value::I16(i16::from_le_bytes(r.array(k)?)),
        4 => Value::U32(u32::from_le_bytes(r.array(k)?)),
        5 => Value::I32(i32::from_le_bytes(r.array(k)?)),
        6 => Value::F32(f32::from_le_bytes(r.array(k)?)),
        7 => Value::Bool(boolean(key, r.array::<1>(k)?[0])?),
        8 => Value::Str(r.string(k, None)?),
        9 => Value::Array(array(r, key, 1)?),
        10 => Value::U64(u64::from_le_bytes(r.array(k)?)),
        11 => Value::I64(i64::from_le_bytes(r.array(k)?)),
        12 => Value::F64(f64::from_le_bytes(r.array(k)?)),
        _ => return Err(Cause::ValueType { key: key.to_owned(), id }),
    })
}

fn array(r: &mut Reader, key: &str, depth: u32) -> Result<Array, Cause> {
    if depth > MAX_DEPTH {
        return Err(Cause::Depth { key: key.to_owned(), max: MAX_DEPTH });
    }
    let k = Named(key);
    let id = r.u32(k)?;
    let n = r.u64(k)?;
    Ok(match id {
        0 => Array::U8(r.numbers(k, n, u8::from_le_bytes)?),
        1 => Array::I8(r.numbers(k, n, i8::from_le_bytes)?),
        2 => Array::U16(r.numbers(k, n, u16::from_le_bytes)?),
        3 => Array::I16(r.numbers(k, n, i16::from_le_bytes)?),
        4 => Array::U32(r.numbers(k, n, u32::from_le_bytes)?),
        5 => Array::I32(r.numbers(k, n, i32::from_le_bytes)?),
        6 => Array::F32(r.numbers(k, n, f32::from_le_bytes)?),
        7 => {
            let bytes: Vec<u8> = r.numbers(k, n, u8::from_le_bytes)?;
            Array::Bool(bytes.into_iter().map(|b| boolean(key, b)).collect::<Result<_, _>>()?)
        }
        8 => {
            r.check_count(&format!("strings of {key:?}"), n, 8)?;
            Array::Str((0..n).map(|_| r.string(k, None)).collect::<Result<_, _>>()?)
        }
        9 => {
            r.check_count(&format!("arrays of {key:?}"), n, 12)?;
            Array::Nested((0..n).map(|_| array(r, key, depth + 1)).collect::<Result<_, _>>()?)
        }
        10 => Array::U64(r.numbers(k, n, u64::from_le_bytes)?),
        11 => Array::I64(r.numbers(k, n, i64::from_le_bytes)?),
        12 => Array::F64(r.numbers(k, n, f64::from_le_bytes)?),
        _ => return Err(Cause::ValueType { key: key.to_owned(), id }),
    })
}

fn boolean(key: &str, byte: u8) -> Result<bool, Cause> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Cause::Bool { key: key.to_owned(), byte }),
    }
}

/// A cursor. Every read is checked against the bytes that are there before anything is allocated.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    /// The next `n` bytes, which belong to `what` (for the error).
    fn take(&mut self, what: What, n: u64) -> Result<&'a [u8], Cause> {
        if n > self.left() {
            let (at, len) = (self.at as u64, self.bytes.len() as u64);
            return Err(Cause::Truncated { what: what.to_string(), at, needed: n, len });
        }
        let bytes = &self.bytes[self.at..self.at + n as usize];
        self.at += n as usize;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: What) -> Result<[u8; N], Cause> {
        let bytes = self.take(what, N as u64)?;
        Ok(std::array::from_fn(|i| bytes[i]))
    }

    fn u32(&mut self, what: What) -> Result<u32, Cause> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: What) -> Result<u64, Cause> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn string(&mut self, what: What, max: Option<(&'static str, u64)>) -> Result<String, Cause> {
        let len = self.u64(what)?;
        if let Some((what, max)) = max
            && len > max
        {
            return Err(Cause::TooLong { what, len, max });
        }
        let at = self.at;
        let bytes = self.take(what, len)?;
        match std::str::from_utf8(bytes) {
            Ok(s) => Ok(s.to_owned()),
            Err(_) => Err(Cause::Utf8 { what: format!("the string of {what} at byte {at}") }),
        }
    }

    /// `n` numbers of `N` bytes each.
    fn numbers<T, const N: usize>(
        &mut self,
        what: What,
        n: u64,
        from: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, Cause> {
        self.check_count(&format!("values of {what}"), n, N as u64)?;
        let bytes = self.take(what, n * N as u64)?;
        Ok(bytes.chunks_exact(N).map(|c| from(std::array::from_fn(|i| c[i]))).collect())
    }

    /// Refuses a count whose entries, of at least `each` bytes, cannot be in the file.
    fn check_count(&self, what: &str, count: u64, each: u64) -> Result<(), Cause> {
        let left = self.left();
        if count > left / each {
            return Err(Cause::Count { what: what.to_owned(), count, at: self.at as u64, left });
        }
        Ok(())
    }
}

/// What a read is for, as an error names it.
#[derive(Clone, Copy)]
enum What<'a> {
    /// A part of the header, in words of ours.
    Part(&'static str),
    /// A metadata key or tensor name from the file: quoted, so that it stays on one line.
    Named(&'a str),
}

impl std::fmt::Display for What<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            What::Part(s) => f.write_str(s),
            What::Named(s) => write!(f, "{s:?}"),
        }
    }
}
