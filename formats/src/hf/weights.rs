//! The safetensors of a folder: one file, or several and an index.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use ::safetensors::{Dtype, SafeTensors};

use super::Error;
use super::json::Object;
use crate::quant::Type;

/// All tensors of all files.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) folder: String,
    files: Vec<Data>,
    pub(super) tensors: BTreeMap<String, Stored>,
}

/// Where a tensor is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stored {
    file: usize,
    bytes: Range<usize>,
    /// Rows first.
    pub(super) shape: Vec<usize>,
    /// `None` for integers and the like, which no weight is.
    pub(super) ty: Option<Type>,
    dtype: Dtype,
}

impl Stored {
    /// The `i`th of `count` equal parts of its bytes, a tensor of `shape`.
    pub(super) fn part(&self, count: usize, i: usize, shape: &[usize]) -> Stored {
        let size = self.bytes.len() / count;
        let start = self.bytes.start + i * size;
        Stored { bytes: start..start + size, shape: shape.to_vec(), ..self.clone() }
    }
}

impl Weights {
    pub(super) fn open(folder: &Path) -> Result<Weights, Error> {
        let shown = folder.display().to_string();
        let index = folder.join("model.safetensors.index.json");
        let single = folder.join("model.safetensors");
        let names: BTreeSet<String> = if single.exists() {
            ["model.safetensors".to_owned()].into()
        } else if let Some(index) = Object::read_if(&index)? {
            let map = index
                .get("weight_map")
                .and_then(|m| m.as_object())
                .ok_or_else(|| index.missing("weight_map"))?;
            let file = |v: &serde_json::Value| {
                // A plain name: an index must not lead out of its folder.
                let name = v.as_str().filter(|n| Path::new(n).file_name().is_some_and(|f| f == *n));
                name.map(str::to_owned).ok_or_else(|| index.wrong("weight_map", "a map to file names"))
            };
            map.values().map(file).collect::<Result<_, _>>()?
        } else {
            return Err(Error::NoWeights { file: shown });
        };
        let mut weights = Weights { folder: shown, files: Vec::new(), tensors: BTreeMap::new() };
        for name in names {
            weights.add(&folder.join(name))?;
        }
        Ok(weights)
    }

    fn add(&mut self, path: &Path) -> Result<(), Error> {
        let file = path.display().to_string();
        let data = Data::open(path).map_err(|cause| Error::Io { file: file.clone(), cause })?;
        let bytes = data.bytes();
        let bad = |cause: String| Error::Safetensors { file: file.clone(), cause };
        let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| bad(e.to_string()))?;
        for (name, info) in metadata.tensors() {
            // Judged when it is needed: buffers of other types and shapes lie beside the weights.
            let ty = match info.dtype {
                Dtype::F32 => Some(Type::F32),
                Dtype::F16 => Some(Type::F16),
                Dtype::BF16 => Some(Type::BF16),
                _ => None,
            };
            let range = info.data_offsets.0 + 8 + header..info.data_offsets.1 + 8 + header;
            if bytes.get(range.clone()).is_none() {
                return Err(bad(format!("tensor {name:?} has the shape {:?} at {range:?}", info.shape)));
            }
            let (shape, dtype) = (info.shape.clone(), info.dtype);
            let stored = Stored { file: self.files.len(), bytes: range, shape, ty, dtype };
            if self.tensors.insert(name.clone(), stored).is_some() {
                return Err(bad(format!("tensor {name:?} is in another file too")));
            }
        }
        self.files.push(data);
        Ok(())
    }

    /// The error of a tensor whose type no weight has.
    pub(super) fn dtype(&self, name: &str) -> Error {
        let dtype = self.tensors.get(name).map_or(String::new(), |t| format!("{:?}", t.dtype));
        Error::Dtype { file: self.folder.clone(), name: name.to_owned(), dtype }
    }

    /// What very old checkpoints call a LayerNorm's tensors, where they have no others.
    pub(super) fn older_name(&self, name: &str) -> String {
        let older =
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        if self.tensors.contains_key(name) || !self.tensors.contains_key(&older) {
            return name.to_owned();
        }
        older
    }

    pub(super) fn bytes(&self, at: &Stored) -> &[u8] {
        // Checked when the file was opened.
        &self.files[at.file].bytes()[at.bytes.clone()]
    }
}

/// The bytes of one file.
#[derive(Debug)]
enum Data {
    #[cfg(target_arch = "wasm32")]
    Bytes(Vec<u8>),
    #[cfg(not(target_arch = "wasm32"))]
    Map(memmap2::Mmap),
    #[cfg(not(target_arch = "wasm32"))]
    Empty,
}

impl Data {
    #[cfg(not(target_arch = "wasm32"))]
    fn open(path: &Path) -> std::io::Result<Data> {
        // Looked at before it is opened, because opening a pipe waits for its writer.
        let stat = std::fs::metadata(path)?;
        if !stat.is_file() {
            return Err(std::io::Error::other("is not a regular file"));
        }
        if stat.len() == 0 {
            return Ok(Data::Empty);
        }
        let file = std::fs::File::open(path)?;
        // SAFETY: the map is read-only. A file that another process changes while it is open can give
        // other bytes or, truncated, a bus error, as with every memory map.
        Ok(Data::Map(unsafe { memmap2::Mmap::map(&file) }?))
    }

    #[cfg(target_arch = "wasm32")]
    fn open(path: &Path) -> std::io::Result<Data> {
        std::fs::read(path).map(Data::Bytes)
    }

    fn bytes(&self) -> &[u8] {
        match self {
            #[cfg(target_arch = "wasm32")]
            Data::Bytes(v) => v,
            #[cfg(not(target_arch = "wasm32"))]
            Data::Map(m) => m,
            #[cfg(not(target_arch = "wasm32"))]
            Data::Empty => &[],
        }
    }
}
