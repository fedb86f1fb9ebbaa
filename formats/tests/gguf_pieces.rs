//! A file that is read piece by piece: the same as one in memory, and never much of it at once.

use std::io::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use weft_formats::gguf::{Array, File, Metadata, Pieces, Value, Writer};
use weft_formats::quant::Type;

/// Counts what is asked for.
#[derive(Debug, Default)]
struct Slices {
    bytes: Vec<u8>,
    read: AtomicU64,
    gone: AtomicBool,
}

impl Slices {
    fn new(bytes: Vec<u8>) -> Arc<Slices> {
        Arc::new(Slices { bytes, ..Slices::default() })
    }
}

impl Pieces for Slices {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        if self.gone.load(Ordering::Relaxed) {
            return Err(Error::other("it was moved"));
        }
        self.read.fetch_add(into.len() as u64, Ordering::Relaxed);
        into.copy_from_slice(&self.bytes[at as usize..][..into.len()]);
        Ok(())
    }
}

/// A header of about `header` bytes and two tensors of 1 MiB.
fn file(header: usize) -> Vec<u8> {
    let mut metadata = Metadata::new();
    let tokens = (0..header / 32).map(|i| format!("{i:024}")).collect();
    metadata.set("tokenizer.ggml.tokens", Value::Array(Array::Str(tokens)));
    let tensors = [("a", vec![512, 512], Type::F32), ("b", vec![512, 512], Type::F32)];
    let data = [1u8, 2].map(|v| (0..1 << 20).map(|i: u32| (i as u8).wrapping_mul(v)).collect::<Vec<u8>>());
    Writer::new(&metadata, tensors).unwrap().to_bytes(&data).unwrap()
}

#[test]
fn pieces_give_what_memory_gives() {
    // A header within the first piece, and one that needs three.
    for header in [1 << 10, 9 << 20] {
        let bytes = file(header);
        let whole = File::from_bytes(bytes.clone()).unwrap();
        let slices = Slices::new(bytes);
        let pieces = File::from_pieces("some.gguf", slices.clone()).unwrap();
        assert!(pieces.is_in_pieces() && !whole.is_in_pieces());
        assert_eq!(pieces.size(), whole.size());
        assert_eq!(pieces.tensors(), whole.tensors());
        assert_eq!(pieces.metadata(), whole.metadata());
        let before = slices.read.load(Ordering::Relaxed);
        assert!(
            before <= whole.size().min((2 * header as u64).max(4 << 20)),
            "{before} bytes for the header"
        );
        for t in whole.tensors() {
            assert_eq!(*pieces.read_all(t).unwrap(), *whole.bytes(t));
            assert_eq!(*pieces.read(t, 100..228).unwrap(), whole.bytes(t)[100..228]);
            assert_eq!(*whole.read(t, 100..228).unwrap(), whole.bytes(t)[100..228]);
        }
        assert_eq!(slices.read.load(Ordering::Relaxed) - before, 2 * ((1 << 20) + 128));
    }
}

#[test]
fn what_is_wrong_with_pieces_names_the_file() {
    let error = |bytes: &[u8]| {
        let error = File::from_pieces("some.gguf", Slices::new(bytes.to_vec())).unwrap_err().to_string();
        error.strip_prefix("some.gguf: ").expect(&error).to_owned()
    };
    let bytes = file(9 << 20);
    assert_eq!(error(b""), "the file is empty");
    assert!(error(b"hello world").starts_with("not a GGUF file"));
    for cut in [20, 5 << 20, 9 << 20, bytes.len() - 1] {
        assert!(error(&bytes[..cut]).starts_with("truncated"), "{cut}");
    }
    let mut metadata = Metadata::new();
    metadata.set("split.count", Value::U16(3));
    metadata.set("split.no", Value::U16(1));
    let shard =
        Writer::new(&metadata, [("a", vec![32], Type::F32)]).unwrap().to_bytes(&[vec![0; 128]]).unwrap();
    assert_eq!(error(&shard), "is shard 2 of a split file of 3; join them with `weft merge-splits` first");
    let slices = Slices::new(bytes);
    let open = File::from_pieces("some.gguf", slices.clone()).unwrap();
    slices.gone.store(true, Ordering::Relaxed);
    assert_eq!(open.read_all(&open.tensors()[0]).unwrap_err().to_string(), "some.gguf: it was moved");
    assert_eq!(File::from_pieces("some.gguf", slices).unwrap_err().to_string(), "some.gguf: it was moved");
}
