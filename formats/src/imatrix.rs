//! Importance matrices: how large the activations are that meet each column of a weight.
//!
//! Two formats are read, and the first is written. GGUF: tensors `NAME.in_sum2` F32 [columns, matrices] (sums of squares) and
//! `NAME.counts` F32 [1, matrices], names in order, keys `general.type`, `imatrix.datasets`,
//! `imatrix.chunk_count` and `imatrix.chunk_size` (tokens). The older `.dat`,
//! little-endian: i32 entries; for each i32 length, name, i32 calls, i32 values, f32 values (mean squares
//! times calls); then, in later ones, i32 chunks, i32 length, data set. (llama.cpp, tools/imatrix.)

use std::collections::HashMap;
use std::path::Path;

use crate::gguf::{self, Array, File, Metadata, TensorInfo, Value, Writer};
use crate::quant::Type;

/// An importance matrix.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Imatrix {
    entries: HashMap<String, Entry>,
    /// The texts it was collected on, as it names them.
    pub datasets: Vec<String>,
    /// How many pieces of text it was collected on, where it says so.
    pub chunks: Option<u32>,
}

/// The importance of one weight's columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Mean squares, all finite and at least 0: for each matrix one value a column. A matrix that met no
    /// activations (an expert never used) has ones.
    pub values: Vec<f32>,
    /// Matrices in the weight: more than 1 for stacked experts.
    pub matrices: usize,
}

/// A file that is no importance matrix.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages are the documentation
pub enum Error {
    #[error(transparent)]
    File(#[from] gguf::Error),
    #[error("{file}: {cause}")]
    Io { file: String, cause: std::io::Error },
    #[error("{file}: general.type is {found:?}, not \"imatrix\"")]
    Kind { file: String, found: String },
    #[error("{file}: neither a GGUF nor an older .dat importance matrix ({cause})")]
    Legacy { file: String, cause: String },
    #[error("{file}: {tensor:?} is {ty} {shape:?}, not F32 [{expected}]")]
    Shape { file: String, tensor: String, ty: Type, shape: Vec<u64>, expected: &'static str },
    #[error("{file}: {tensor:?} has no {missing:?} beside it")]
    Pair { file: String, tensor: String, missing: String },
    #[error("{file}: value {index} of {tensor:?} is {value}, not a finite number of at least 0")]
    Value { file: String, tensor: String, index: usize, value: f32 },
    #[error("{file}: holds no importance of any tensor")]
    Empty { file: String },
}

impl Imatrix {
    /// Reads either format.
    ///
    /// # Errors
    /// The file cannot be read or is not an importance matrix: see [`Error`].
    pub fn open(path: &Path) -> Result<Imatrix, Error> {
        let file = path.display().to_string();
        let mut start = [0; 4];
        // A pipe would be waited for, a device read for ever.
        let read = match path.is_file() {
            true => std::fs::File::open(path).and_then(|mut f| std::io::Read::read(&mut f, &mut start)),
            false => Ok(0),
        };
        let imatrix = match read {
            // The GGUF reader has the better words for what is missing, a directory or a device.
            Ok(4) if start != *b"GGUF" => {
                let bytes = std::fs::read(path).map_err(|cause| Error::Io { file: file.clone(), cause })?;
                legacy(&bytes).map_err(|cause| Error::Legacy { file: file.clone(), cause })?
            }
            _ => from_gguf(&File::open(path)?, &file)?,
        };
        for (tensor, entry) in &imatrix.entries {
            if let Some(index) = entry.values.iter().position(|v| !(v.is_finite() && *v >= 0.0)) {
                let (tensor, value) = (tensor.clone(), entry.values[index]);
                return Err(Error::Value { file, tensor, index, value });
            }
        }
        match imatrix.entries.is_empty() {
            true => Err(Error::Empty { file }),
            false => Ok(imatrix),
        }
    }

    /// The importance of the tensor of this name.
    pub fn get(&self, tensor: &str) -> Option<&Entry> {
        self.entries.get(tensor)
    }

    /// How many tensors it knows of.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it knows of none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// What met the columns of a tensor, which has as many matrices as there are counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Sums {
    /// `[matrices, columns]` f32: sums of squares.
    pub squares: Vec<f32>,
    /// `[matrices]` f32: how many tokens the sums of each matrix are over.
    pub counts: Vec<f32>,
}

/// What was collected.
#[derive(Debug, Clone, PartialEq)]
pub struct Collected {
    /// What met the columns of each tensor.
    pub sums: Vec<(String, Sums)>,
    /// The texts.
    pub datasets: Vec<String>,
    /// Pieces of text.
    pub chunks: u32,
    /// Tokens of a piece.
    pub chunk_size: u32,
}

impl Collected {
    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// A sum that is no finite number of at least 0; a file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let mut sums: Vec<_> = self.sums.iter().collect();
        sums.sort_by(|a, b| a.0.cmp(&b.0));
        for (tensor, Sums { squares: values, .. }) in &sums {
            if let Some(index) = values.iter().position(|v| !(v.is_finite() && *v >= 0.0)) {
                let (file, tensor, value) = (path.display().to_string(), tensor.clone(), values[index]);
                return Err(Error::Value { file, tensor, index, value });
            }
        }
        let mut metadata = Metadata::new();
        metadata.set("general.type", Value::Str("imatrix".into()));
        metadata.set("imatrix.datasets", Value::Array(Array::Str(self.datasets.clone())));
        metadata.set("imatrix.chunk_count", Value::U32(self.chunks));
        metadata.set("imatrix.chunk_size", Value::U32(self.chunk_size));
        let table = sums.iter().flat_map(|(name, s)| {
            let matrices = s.counts.len().max(1) as u64;
            [("in_sum2", s.squares.len() as u64 / matrices), ("counts", 1)]
                .map(|(what, n)| (format!("{name}.{what}"), vec![n, matrices], Type::F32))
        });
        let mut data = sums.iter().flat_map(|(_, s)| [&s.squares[..], &s.counts]);
        Writer::new(&metadata, table)?.write_to(path, |_, out| {
            let values = data.next().unwrap_or_default();
            out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
            Ok::<(), Error>(())
        })
    }
}

fn from_gguf(file: &File, name: &str) -> Result<Imatrix, Error> {
    let metadata = file.metadata();
    let kind = metadata.str("general.type").unwrap_or("absent");
    if kind != "imatrix" {
        return Err(Error::Kind { file: name.to_owned(), found: kind.to_owned() });
    }
    let mut imatrix = Imatrix {
        datasets: metadata.strs("imatrix.datasets").unwrap_or_default().to_vec(),
        chunks: metadata.u32("imatrix.chunk_count"),
        ..Imatrix::default()
    };
    for sums in file.tensors() {
        let Some(tensor) = sums.name.strip_suffix(".in_sum2") else { continue };
        let counts = format!("{tensor}.counts");
        let Some(counts) = file.tensor(&counts) else {
            return Err(Error::Pair { file: name.to_owned(), tensor: sums.name.clone(), missing: counts });
        };
        let matrices: u64 = sums.shape.iter().skip(1).product();
        let shape = |t: &TensorInfo, expected| Error::Shape {
            file: name.to_owned(),
            tensor: t.name.clone(),
            ty: t.ty,
            shape: t.shape.clone(),
            expected,
        };
        if sums.ty != Type::F32 {
            return Err(shape(sums, "columns, matrices"));
        }
        if counts.ty != Type::F32 || counts.elements() != matrices {
            return Err(shape(counts, "1, matrices"));
        }
        let (sums_of, counts) = (floats(file.bytes(sums)), floats(file.bytes(counts)));
        let columns = sums.shape.first().map_or(1, |c| *c as usize);
        let means = sums_of.chunks_exact(columns).zip(&counts);
        let values =
            means.flat_map(|(s, n)| s.iter().map(move |s| if *n > 0.0 { s / n } else { 1.0 })).collect();
        imatrix.entries.insert(tensor.to_owned(), Entry { values, matrices: counts.len() });
    }
    Ok(imatrix)
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Takes `n` bytes off the front.
fn take<'a>(bytes: &mut &'a [u8], n: usize, what: &str) -> Result<&'a [u8], String> {
    let (head, rest) = bytes.split_at_checked(n).ok_or(format!("it ends in {what}"))?;
    *bytes = rest;
    Ok(head)
}

fn number(bytes: &mut &[u8], what: &str) -> Result<usize, String> {
    let value = take(bytes, 4, what)?.iter().rev().fold(0u32, |n, b| n << 8 | u32::from(*b)) as i32;
    usize::try_from(value).map_err(|_| format!("{what} is {value}"))
}

fn string(bytes: &mut &[u8], what: &str) -> Result<String, String> {
    let len = number(bytes, what)?;
    let text = take(bytes, len, what)?.to_vec();
    String::from_utf8(text).map_err(|_| format!("{what} is not UTF-8"))
}

fn legacy(mut bytes: &[u8]) -> Result<Imatrix, String> {
    let bytes = &mut bytes;
    let mut imatrix = Imatrix::default();
    for i in 0..number(bytes, "the number of entries")? {
        let name = string(bytes, &format!("the name of entry {i}"))?;
        let calls = number(bytes, "the number of calls")?.max(1) as f32;
        let len = number(bytes, "the number of values")?;
        let size = len.checked_mul(4).ok_or("it ends in the values")?;
        let values = floats(take(bytes, size, "the values")?).iter().map(|v| v / calls).collect();
        imatrix.entries.insert(name, Entry { values, matrices: 1 });
    }
    if !bytes.is_empty() {
        imatrix.chunks = number(bytes, "the number of chunks")?.try_into().ok();
        imatrix.datasets = vec![string(bytes, "the name of the data set")?];
    }
    Ok(imatrix)
}
