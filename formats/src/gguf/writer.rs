//! Writing GGUF version 3: the header first, then the tensors one at a time.

use std::io::Write as _;
use std::path::Path;

use super::error::{Cause, Error};
use super::parse::{self, TensorInfo};
use super::value::{Array, Metadata, Value};
use crate::AtomicFile;
use crate::quant::Type;

/// A header ready to be written, from which every offset is known.
#[derive(Debug)]
pub struct Writer {
    header: Vec<u8>,
    tensors: Vec<TensorInfo>,
    /// Bytes up to the end of the last tensor's padding.
    size: u64,
    alignment: u64,
}

impl Writer {
    /// Lays out a file of these metadata and tensors (name, shape with columns first, type), in
    /// this order. `general.alignment`, where it is set, is obeyed. Refuses whatever [`super::File`]
    /// would refuse to read, with the same errors, under the name `(new file)`.
    pub fn new<N: Into<String>>(
        metadata: &Metadata,
        tensors: impl IntoIterator<Item = (N, Vec<u64>, Type)>,
    ) -> Result<Writer, Error> {
        let alignment = parse::alignment(metadata).map_err(new_file)?;
        let mut infos = Vec::new();
        let mut offset = 0u64;
        for (name, shape, ty) in tensors {
            let name = name.into();
            let size = parse::tensor_size(&name, &shape, ty).map_err(new_file)?;
            infos.push((name, shape, ty, offset));
            let end = offset.checked_add(size).and_then(|end| end.checked_next_multiple_of(alignment));
            let Some(end) = end else {
                let (name, shape, ..) = infos.swap_remove(infos.len() - 1);
                return Err(new_file(Cause::Overflow { name, shape }));
            };
            offset = end;
        }

        let mut header = Vec::new();
        header.extend(b"GGUF");
        header.extend(3u32.to_le_bytes());
        header.extend((infos.len() as u64).to_le_bytes());
        header.extend((metadata.iter().len() as u64).to_le_bytes());
        for (key, value) in metadata.iter() {
            put_str(&mut header, key);
            put_value(&mut header, value);
        }
        for (name, shape, ty, offset) in &infos {
            put_str(&mut header, name);
            header.extend((shape.len() as u32).to_le_bytes());
            shape.iter().for_each(|d| header.extend(d.to_le_bytes()));
            header.extend(ty.id().to_le_bytes());
            header.extend(offset.to_le_bytes());
        }
        // The reader's checks, names and nesting included, are the writer's.
        let parsed = parse::header(&header).map_err(new_file)?;
        header.resize(parsed.data_start as usize, 0);
        Ok(Writer { tensors: parsed.tensors, size: parsed.data_start + offset, header, alignment })
    }

    pub(super) fn into_header(self) -> Vec<u8> {
        self.header
    }

    /// The tensor table, with offsets from the start of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// How many bytes the file will have.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Starts `path` under a temporary name beside it; [`Output::finish`] gives it its name, so
    /// that a half-written file never has it.
    pub fn create(self, path: &Path) -> Result<Output, Error> {
        let mut output = Output { writer: self, given: 0, file: AtomicFile::create(path)? };
        let header = std::mem::take(&mut output.writer.header);
        output.write(&header)?;
        Ok(output)
    }

    /// Writes the whole file: `data` fills the buffer, empty when it is called, with one tensor's
    /// bytes, in table order. An error of `data` leaves no file behind.
    pub fn write_to<E: From<Error>>(
        self,
        path: &Path,
        mut data: impl FnMut(&TensorInfo, &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut output = self.create(path)?;
        let mut buffer = Vec::new();
        for i in 0..output.writer.tensors.len() {
            buffer.clear();
            data(&output.writer.tensors[i], &mut buffer)?;
            output.next_tensor(&buffer)?;
        }
        Ok(output.finish()?)
    }

    /// The whole file in memory; `data` has each tensor's bytes in table order.
    pub fn to_bytes(&self, data: &[impl AsRef<[u8]>]) -> Result<Vec<u8>, Error> {
        let mut out = self.header.clone();
        for (i, bytes) in data.iter().enumerate() {
            let bytes = bytes.as_ref();
            self.check(i, bytes).map_err(new_file)?;
            out.extend(bytes);
            out.resize(out.len().next_multiple_of(self.alignment as usize), 0);
        }
        if data.len() < self.tensors.len() {
            return Err(new_file(Cause::Unfinished { given: data.len(), total: self.tensors.len() }));
        }
        Ok(out)
    }

    fn check(&self, i: usize, bytes: &[u8]) -> Result<(), Cause> {
        let total = self.tensors.len();
        let Some(t) = self.tensors.get(i) else {
            return Err(Cause::Surplus { given: i + 1, total });
        };
        let (expected, found) = (t.size, bytes.len() as u64);
        if expected != found {
            return Err(Cause::Data { name: t.name.clone(), expected, found });
        }
        Ok(())
    }
}

/// A file being written. Dropped before [`Output::finish`], it is removed.
#[derive(Debug)]
pub struct Output {
    writer: Writer,
    given: usize,
    file: AtomicFile,
}

impl Output {
    /// The table entry of the tensor that is due, or `None` when all were given.
    pub fn due(&self) -> Option<&TensorInfo> {
        self.writer.tensors.get(self.given)
    }

    /// Writes the bytes of the tensor that is due.
    pub fn next_tensor(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.writer.check(self.given, bytes).map_err(|c| self.error(c))?;
        self.write(bytes)?;
        let padding = bytes.len().next_multiple_of(self.writer.alignment as usize) - bytes.len();
        self.write(&vec![0; padding])?;
        self.given += 1;
        Ok(())
    }

    /// Completes the file and gives it its name. An error where tensors are still due.
    pub fn finish(self) -> Result<(), Error> {
        let (given, total) = (self.given, self.writer.tensors.len());
        if given < total {
            return Err(self.error(Cause::Unfinished { given, total }));
        }
        self.file.finish()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|e| self.error(Cause::io(e)))
    }

    fn error(&self, cause: Cause) -> Error {
        cause.of(&self.file.path().display().to_string())
    }
}

fn new_file(cause: Cause) -> Error {
    cause.of("(new file)")
}

fn put_str(out: &mut Vec<u8>, s: &str) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut put = |id: u32, bytes: &[u8]| {
        out.extend(id.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        Value::U8(v) => put(0, &v.to_le_bytes()),
        Value::I8(v) => put(1, &v.to_le_bytes()),
        Value::U16(v) => put(2, &v.to_le_bytes()),
        Value::I16(v) => put(3, &v.to_le_bytes()),
        Value::U32(v) => put(4, &v.to_le_bytes()),
        Value::I32(v) => put(5, &v.to_le_bytes()),
        Value::F32(v) => put(6, &v.to_le_bytes()),
        Value::Bool(v) => put(7, &[u8::from(*v)]),
        Value::Str(v) => {
            put(8, &[]);
            put_str(out, v);
        }
        Value::Array(v) => {
            put(9, &[]);
            put_array(out, v);
        }
        Value::U64(v) => put(10, &v.to_le_bytes()),
        Value::I64(v) => put(11, &v.to_le_bytes()),
        Value::F64(v) => put(12, &v.to_le_bytes()),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    fn put<T: Copy, const N: usize>(out: &mut Vec<u8>, id: u32, values: &[T], bytes: fn(T) -> [u8; N]) {
        out.extend(id.to_le_bytes());
        out.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|v| out.extend(bytes(*v)));
    }
    match array {
        Array::U8(v) => put(out, 0, v, u8::to_le_bytes),
        Array::I8(v) => put(out, 1, v, i8::to_le_bytes),
        Array::U16(v) => put(out, 2, v, u16::to_le_bytes),
        Array::I16(v) => put(out, 3, v, i16::to_le_bytes),
        Array::U32(v) => put(out, 4, v, u32::to_le_bytes),
        Array::I32(v) => put(out, 5, v, i32::to_le_bytes),
        Array::F32(v) => put(out, 6, v, f32::to_le_bytes),
        Array::Bool(v) => put(out, 7, v, |b| [u8::from(b)]),
        Array::Str(v) => {
            put(out, 8, &vec![(); v.len()], |()| []);
            v.iter().for_each(|s| put_str(out, s));
        }
        Array::Nested(v) => {
            put(out, 9, &vec![(); v.len()], |()| []);
            v.iter().for_each(|a| put_array(out, a));
        }
        Array::U64(v) => put(out, 10, v, u64::to_le_bytes),
        Array::I64(v) => put(out, 11, v, i64::to_le_bytes),
        Array::F64(v) => put(out, 12, v, f64::to_le_bytes),
    }
}
