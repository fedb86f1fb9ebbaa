//! Reading and writing on disk: the fixtures, split files, and what is wrong with wrong ones.

use std::path::{Path, PathBuf};

use weft_formats::gguf::{Array, Error, File, Metadata, TensorInfo, Value, Writer};
use weft_formats::quant::Type;

fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(path);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not here", path.display());
    None
}

/// A folder of its own for each test, emptied first.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// A header by hand, so that it can be wrong.
struct Raw(Vec<u8>);

impl Raw {
    fn new(version: u32, tensors: u64, keys: u64) -> Raw {
        Raw(b"GGUF".to_vec()).u32(version).u64(tensors).u64(keys)
    }

    fn bytes(mut self, b: &[u8]) -> Raw {
        self.0.extend(b);
        self
    }

    fn u32(self, v: u32) -> Raw {
        self.bytes(&v.to_le_bytes())
    }

    fn u64(self, v: u64) -> Raw {
        self.bytes(&v.to_le_bytes())
    }

    fn str(self, s: &str) -> Raw {
        self.u64(s.len() as u64).bytes(s.as_bytes())
    }

    fn tensor(self, name: &str, shape: &[u64], ty: u32, offset: u64) -> Raw {
        let raw = self.str(name).u32(shape.len() as u32);
        shape.iter().fold(raw, |r, d| r.u64(*d)).u32(ty).u64(offset)
    }

    /// Padded to 32 bytes, then `n` bytes of data.
    fn data(mut self, n: usize) -> Raw {
        self.0.resize(self.0.len().next_multiple_of(32) + n, 1);
        self
    }

    /// The error it gives, without the file's name.
    fn error(self) -> String {
        let message = File::from_bytes(self.0).unwrap_err().to_string();
        assert!(!message.contains('\n'), "{message}");
        message.strip_prefix("(memory): ").unwrap().to_owned()
    }
}

#[test]
fn shared_vocabularies_open() {
    let Some(folder) = shared("fixtures/vocab") else { return };
    for (name, model, tokens) in [
        ("ggml-vocab-qwen2.gguf", "gpt2", 151_936),
        ("ggml-vocab-llama-bpe.gguf", "gpt2", 128_256),
        ("ggml-vocab-llama-spm.gguf", "llama", 32_000),
        ("ggml-vocab-bert-bge.gguf", "bert", 30_522),
    ] {
        let file = File::open(&folder.join(name)).unwrap();
        assert!(file.tensors().is_empty());
        assert_eq!(file.metadata().str("tokenizer.ggml.model"), Some(model));
        assert_eq!(file.metadata().strs("tokenizer.ggml.tokens").unwrap().len(), tokens);
        assert_eq!(file.size(), std::fs::metadata(folder.join(name)).unwrap().len());
    }
}

#[test]
fn wrong_starts() {
    let error = |b: &[u8]| Raw(b.to_vec()).error();
    assert_eq!(error(b""), "the file is empty");
    assert_eq!(error(b"GG"), "truncated: the magic needs 4 bytes at byte 0 but the file has 2 bytes");
    assert_eq!(error(b"hello world"), "not a GGUF file (starts with \"hello wo\")");
    assert_eq!(error(&[0, 1, 2]), "not a GGUF file (starts with bytes 00 01 02)");
    assert_eq!(
        error(b"PK\x03\x04...."),
        "not a GGUF file (starts with bytes 50 4b 03 04 2e 2e 2e 2e, a zip file such as a PyTorch checkpoint)"
    );
    assert_eq!(
        error(b"version https://git-lfs"),
        "not a GGUF file (starts with \"version \", a Git LFS pointer: fetch the file itself)"
    );
    assert!(error(b"tjgg\x01\0\0\0").contains("a ggml file from before GGUF"));
    assert!(error(b"\x40\0\0\0\0\0\0\0{\"a\"").contains("a safetensors file"));
    assert!(Raw::new(1, 0, 0).error().starts_with("GGUF version 1, which is no longer read; convert"));
    assert!(Raw::new(3u32.swap_bytes(), 0, 0).error().starts_with("big-endian GGUF; make it little-endian"));
    assert_eq!(Raw::new(4, 0, 0).error(), "GGUF version 4; this reader knows 2 and 3");
    assert_eq!(Raw::new(0, 0, 0).error(), "GGUF version 0; this reader knows 2 and 3");
    for version in [2, 3] {
        let file = File::from_bytes(Raw::new(version, 0, 0).0).unwrap();
        assert_eq!((file.version(), file.metadata().iter().len(), file.tensors().len()), (version, 0, 0));
    }
}

#[test]
fn wrong_metadata() {
    assert_eq!(
        Raw::new(3, 0, 1 << 60).error(),
        "truncated: 1152921504606846976 metadata keys cannot fit in the 0 bytes after byte 24"
    );
    assert_eq!(
        Raw::new(3, 0, 1).u64(1 << 40).bytes(&[0; 50]).error(),
        "a metadata key is 1099511627776 bytes long, more than the 65535 allowed"
    );
    assert_eq!(
        Raw::new(3, 0, 1).u64(60).bytes(&[b'k'; 50]).error(),
        "truncated: a metadata key needs 60 bytes at byte 32 but the file has 82 bytes"
    );
    assert_eq!(
        Raw::new(3, 0, 1).str("a\nb").u32(8).u64(u64::MAX).error(),
        "truncated: \"a\\nb\" needs 18446744073709551615 bytes at byte 47 but the file has 47 bytes"
    );
    let twice = Raw::new(3, 0, 2).str("k").u32(0).bytes(&[1]).str("k").u32(0).bytes(&[1]);
    assert_eq!(twice.error(), "metadata key \"k\" appears twice");
    assert_eq!(
        Raw::new(3, 0, 1).str("k").u32(13).u64(0).error(),
        "metadata key \"k\" has the unknown value type 13"
    );
    assert_eq!(
        Raw::new(3, 0, 1).str("k").u32(7).bytes(&[2]).error(),
        "metadata key \"k\" holds the byte 2 as a boolean, which must be 0 or 1"
    );
    assert_eq!(
        Raw::new(3, 0, 1).str("k").u32(8).u64(2).bytes(&[0xff, 0xfe]).error(),
        "the string of \"k\" at byte 45 is not UTF-8"
    );
    let deep = (0..5).fold(Raw::new(3, 0, 1).str("k").u32(9), |r, _| r.u32(9).u64(1)).u32(0).u64(0);
    assert_eq!(deep.error(), "metadata key \"k\" nests arrays more than 4 deep");
    for (id, what) in [(6, "values of \"k\""), (8, "strings of \"k\""), (9, "arrays of \"k\"")] {
        let error = Raw::new(3, 0, 1).str("k").u32(9).u32(id).u64(1 << 60).bytes(&[0; 64]).error();
        assert_eq!(
            error,
            format!("truncated: 1152921504606846976 {what} cannot fit in the 64 bytes after byte 49")
        );
    }
    for a in [0u32, 1, 4, 24, 33, 1 << 17] {
        let error = Raw::new(3, 0, 1).str("general.alignment").u32(4).u32(a).error();
        assert_eq!(error, format!("general.alignment is {a}, not a power of two from 8 to 65536"));
    }
    let error = Raw::new(3, 0, 1).str("general.alignment").u32(8).str("32").error();
    assert_eq!(error, "general.alignment is of type string, not a power of two from 8 to 65536");
}

#[test]
fn wrong_tensors() {
    let one = |shape: &[u64], ty: u32, offset: u64| {
        Raw::new(3, 1, 0).tensor("w", shape, ty, offset).data(64).error()
    };
    assert_eq!(
        Raw::new(3, 1 << 60, 0).error(),
        "truncated: 1152921504606846976 tensors cannot fit in the 0 bytes after byte 24"
    );
    assert_eq!(
        Raw::new(3, 1, 0).tensor(&"n".repeat(65), &[1], 0, 0).error(),
        "a tensor name is 65 bytes long, more than the 64 allowed"
    );
    assert_eq!(one(&[1; 5], 0, 0), "tensor \"w\" has 5 dimensions, more than 4");
    assert_eq!(one(&[4, 0], 0, 0), "tensor \"w\" has the shape [4, 0], with a dimension of 0");
    assert_eq!(one(&[4], 99, 0), "tensor \"w\" has the unknown type id 99");
    assert_eq!(
        one(&[4], 31, 0),
        "tensor \"w\" has the unknown type id 31 (removed from ggml; quantise the model again)"
    );
    assert_eq!(
        one(&[100], 12, 0),
        "tensor \"w\" has rows of 100 values, not a whole number of Q4_K blocks of 256"
    );
    let big = 1 << 32;
    assert_eq!(
        one(&[big, big], 0, 0),
        "tensor \"w\" has the shape [4294967296, 4294967296], more bytes than 64 bits can count"
    );
    // 2^63 values of half a byte fit 64 bits as bytes, but not after the offset.
    assert!(one(&[1 << 63], 2, u64::MAX - 31).ends_with("more bytes than 64 bits can count"));
    assert_eq!(one(&[4], 0, 8), "tensor \"w\" is at offset 8, not a multiple of the alignment 32");
    assert_eq!(one(&[17], 0, 0), "truncated: tensor \"w\" ends at byte 132 but the file has 128 bytes");
    assert_eq!(
        one(&[4], 0, 1 << 60),
        "1152921504606846976 bytes before tensor \"w\" belong to no tensor, so that a type, a shape or an offset of the \
         header is wrong"
    );
    let two = |a, b, offset| Raw::new(3, 2, 0).tensor(a, &[8], 0, 0).tensor(b, &[9], 0, offset).data(96);
    assert_eq!(two("w", "w", 32).error(), "tensor \"w\" appears twice");
    assert_eq!(two("v", "w", 0).error(), "tensors \"v\" and \"w\" overlap");
    // Out of order is unusual, but every tensor has its own bytes.
    let late = |offset| Raw::new(3, 2, 0).tensor("a", &[8], 0, offset).tensor("b", &[], 0, 0).data(96);
    assert_eq!(File::from_bytes(late(32).0).unwrap().tensor("b").unwrap().elements(), 1);
    // This is what a header gives that says F16 where the data is F32: what is left over belongs to nobody, and llama.cpp
    // refuses it too.
    assert!(late(64).error().starts_with("60 bytes before tensor \"a\" belong to no tensor"));
    assert!(one(&[8], 0, 32).starts_with("32 bytes before tensor \"w\" belong to no tensor"));
}

#[test]
fn paths_that_are_no_files() {
    let folder = folder("paths");
    let error = |name: &str| File::open(&folder.join(name)).unwrap_err().to_string();
    let at = |name: &str| folder.join(name).display().to_string();
    std::fs::write(folder.join("empty.gguf"), b"").unwrap();
    std::fs::create_dir(folder.join("folder.gguf")).unwrap();
    assert_eq!(error("empty.gguf"), format!("{}: the file is empty", at("empty.gguf")));
    assert_eq!(error("none.gguf"), format!("{}: no such file", at("none.gguf")));
    assert_eq!(error("folder.gguf"), format!("{}: is a directory, not a GGUF file", at("folder.gguf")));
    #[cfg(unix)]
    assert!(File::open(Path::new("/dev/null")).unwrap_err().to_string().contains("is a pipe or a device"));
}

fn metadata(entries: &[(&str, Value)]) -> Metadata {
    let mut m = Metadata::new();
    entries.iter().for_each(|(k, v)| m.set(*k, v.clone()));
    m
}

/// A small file whose tensor `i` is filled with the byte `first + i`.
fn write(path: &Path, metadata: &Metadata, first: u8, names: &[&str]) {
    let tensors = names.iter().map(|n| (*n, vec![32, 2], Type::Q8_0));
    let mut fill = first;
    let data = |t: &TensorInfo, out: &mut Vec<u8>| {
        out.resize(t.size as usize, fill);
        fill += 1;
        Ok::<(), Error>(())
    };
    Writer::new(metadata, tensors).unwrap().write_to(path, data).unwrap();
}

/// The three shards of `m`, with what each says of itself.
fn write_split(folder: &Path, counts: [u16; 3], numbers: [u16; 3], total: i32) {
    for i in 0..3 {
        let mut m = metadata(&[("split.no", Value::U16(numbers[i])), ("split.count", Value::U16(counts[i]))]);
        m.set("split.tensors.count", Value::I32(total));
        if i == 0 {
            m.set("general.architecture", Value::Str("qwen3".into()));
        }
        let names = [["a", "b"], ["c", "d"], ["e", "f"]][i];
        write(&folder.join(format!("m-{:05}-of-00003.gguf", i + 1)), &m, 10 * i as u8, &names);
    }
}

#[test]
fn a_split_file_opens_by_any_shard() {
    let folder = folder("split");
    let shard = |i: u32| folder.join(format!("m-{i:05}-of-00003.gguf"));
    write_split(&folder, [3; 3], [0, 1, 2], 6);
    for i in 1..=3 {
        let file = File::open(&shard(i)).unwrap();
        assert_eq!(file.path(), shard(i));
        assert_eq!(file.shards(), 3);
        assert_eq!(file.metadata().str("general.architecture"), Some("qwen3"));
        let names: Vec<&str> = file.tensors().iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "d", "e", "f"]);
        for (name, of, byte) in [("a", 0, 0), ("d", 1, 11), ("f", 2, 21)] {
            let t = file.tensor(name).unwrap();
            assert_eq!(t.shard, of);
            assert!(file.bytes(t).iter().all(|b| *b == byte));
            file.release(t);
            assert!(file.bytes(t).iter().all(|b| *b == byte), "released, then read again");
        }
        assert_eq!(file.size(), (1..=3).map(|i| std::fs::metadata(shard(i)).unwrap().len()).sum::<u64>());
    }
    let error = |path: &Path| File::open(path).unwrap_err().to_string();
    let tail = |e: String| e.rsplit_once(".gguf: ").unwrap().1.to_owned();

    write_split(&folder, [3; 3], [0, 1, 2], 7);
    assert_eq!(tail(error(&shard(1))), "split.tensors.count is 7, but the shards hold 6 tensors");
    write_split(&folder, [3, 4, 3], [0, 1, 2], 6);
    let expected = format!("{}: is named as shard 2 of 3, but its split.count says 4", shard(2).display());
    assert_eq!(error(&shard(1)), expected);
    write_split(&folder, [3; 3], [0, 2, 1], 6);
    let expected = "is named as shard 2, but its split.no says 2 (counted from 0)";
    assert_eq!(tail(error(&shard(1))), expected);

    write_split(&folder, [3; 3], [0, 1, 2], 6);
    let m = metadata(&[("split.no", Value::U16(1)), ("split.count", Value::U16(3))]);
    write(&shard(2), &m, 0, &["c", "a"]);
    assert_eq!(error(&shard(1)), format!("{}: tensor \"a\" appears twice", shard(2).display()));

    std::fs::rename(shard(2), folder.join("other.gguf")).unwrap();
    let expected =
        format!("{}: missing: shard 2 of the split file {}", shard(2).display(), shard(3).display());
    assert_eq!(error(&shard(3)), expected);
    assert_eq!(
        tail(error(&folder.join("other.gguf"))),
        "is shard 2 of a split file of 3, but is not named PREFIX-00001-of-00003.gguf; give the shards their original names"
    );
    write(&shard(1), &Metadata::new(), 0, &["a"]);
    assert_eq!(tail(error(&shard(1))), "is named as shard 1 of 3, but its split.count says nothing");
}

#[test]
fn a_lone_file_may_be_named_as_one_of_one() {
    let folder = folder("lone");
    let path = folder.join("m-00001-of-00001.gguf");
    write(&path, &Metadata::new(), 0, &["a"]);
    assert_eq!(File::open(&path).unwrap().shards(), 1);
    // What llama.cpp's merge leaves.
    write(&folder.join("merged.gguf"), &metadata(&[("split.count", Value::U16(0))]), 0, &["a"]);
    assert_eq!(File::open(&folder.join("merged.gguf")).unwrap().shards(), 1);
}

#[test]
fn writing_is_all_or_nothing() {
    let folder = folder("writing");
    let path = folder.join("new.gguf");
    let writer = || Writer::new(&Metadata::new(), [("a", vec![8], Type::F32), ("b", vec![3, 2], Type::F16)]);
    let files = || std::fs::read_dir(&folder).unwrap().count();

    let mut output = writer().unwrap().create(&path).unwrap();
    assert_eq!(output.due().unwrap().name, "a");
    output.next_tensor(&[1; 32]).unwrap();
    let error = output.next_tensor(&[1; 13]).unwrap_err().to_string();
    assert_eq!(error, format!("{}: tensor \"b\" takes 12 bytes, not 13", path.display()));
    assert_eq!(files(), 1, "the temporary file");
    let error = output.finish().unwrap_err().to_string();
    assert_eq!(error, format!("{}: 1 of 2 tensors were given", path.display()));
    assert_eq!(files(), 0);

    drop(writer().unwrap().create(&path).unwrap());
    assert_eq!(files(), 0);

    let mut output = writer().unwrap().create(&path).unwrap();
    output.next_tensor(&[1; 32]).unwrap();
    output.next_tensor(&[2; 12]).unwrap();
    assert!(output.due().is_none());
    assert!(output.next_tensor(&[]).unwrap_err().to_string().ends_with("the header lists 2"));
    output.finish().unwrap();
    assert_eq!(files(), 1);
    let file = File::open(&path).unwrap();
    assert_eq!(file.bytes(file.tensor("a").unwrap()), [1; 32]);
    assert_eq!(file.bytes(file.tensor("b").unwrap()), [2; 12]);
    assert_eq!(file.size(), writer().unwrap().size());

    let failed = writer().unwrap().write_to(&path, |t, out| {
        out.resize(t.size as usize, 9);
        if t.name == "b" { Err(Failure::Other) } else { Ok(()) }
    });
    assert!(matches!(failed, Err(Failure::Other)));
    assert_eq!(files(), 1);
    let file = File::open(&path).unwrap();
    assert_eq!(file.bytes(file.tensor("a").unwrap()), [1; 32], "the old file is still there");

    let error = writer().unwrap().create(&folder.join("none/new.gguf")).unwrap_err().to_string();
    assert!(error.ends_with("none/new.gguf: its folder does not exist"), "{error}");
    assert!(writer().unwrap().create(&folder).unwrap_err().to_string().contains("is a directory"));
}

#[derive(Debug)]
enum Failure {
    Other,
    #[allow(dead_code)]
    Gguf(Error),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        Failure::Gguf(e)
    }
}

#[test]
fn a_writer_refuses_what_a_reader_would() {
    let error = |m: &Metadata, t: &[(&str, Vec<u64>, Type)]| {
        Writer::new(m, t.iter().cloned()).unwrap_err().to_string()
    };
    let none = Metadata::new();
    let row = |n: u64, ty| ("w", vec![n], ty);
    assert_eq!(
        error(&none, &[row(100, Type::Q4_K)]),
        "(new file): tensor \"w\" has rows of 100 values, not a whole number of Q4_K blocks of 256"
    );
    assert!(error(&none, &[row(1, Type::F32), row(1, Type::F32)]).contains("appears twice"));
    assert!(error(&none, &[row(1 << 62, Type::F32)]).contains("more bytes than 64 bits can count"));
    assert!(error(&none, &[row(u64::MAX, Type::I8)]).contains("more bytes than 64 bits can count"));
    assert!(error(&none, &[("w", vec![1; 5], Type::F32)]).contains("5 dimensions"));
    let odd = metadata(&[("general.alignment", Value::U32(12))]);
    assert!(error(&odd, &[]).contains("general.alignment is 12"));
    let mut deep = Array::U8(vec![]);
    for _ in 0..5 {
        deep = Array::Nested(vec![deep]);
    }
    assert!(error(&metadata(&[("k", Value::Array(deep))]), &[]).contains("nests arrays"));
}

/// What this process keeps in memory of mapped files, in bytes.
#[cfg(target_os = "linux")]
fn resident_file_pages() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("RssFile:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[cfg(target_os = "linux")]
#[test]
fn released_tensors_leave_memory() {
    let path = folder("release").join("big.gguf");
    let names: Vec<String> = (0..16).map(|i| format!("t{i}")).collect();
    let tensors = names.iter().map(|n| (n.as_str(), vec![1 << 20, 4], Type::I8));
    let fill = |t: &TensorInfo, out: &mut Vec<u8>| {
        out.resize(t.size as usize, 1);
        Ok::<(), Error>(())
    };
    Writer::new(&Metadata::new(), tensors).unwrap().write_to(&path, fill).unwrap();
    let file = File::open(&path).unwrap();
    let before = resident_file_pages();
    for t in file.tensors() {
        assert_eq!(file.bytes(t).iter().map(|b| u64::from(*b)).sum::<u64>(), 4 << 20);
        file.release(t);
    }
    let kept = resident_file_pages().saturating_sub(before);
    assert!(kept < 16 << 20, "{kept} bytes of a file of 64 MiB stayed resident");
    std::fs::remove_file(&path).unwrap();
}
