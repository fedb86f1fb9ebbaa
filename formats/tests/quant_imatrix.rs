//! Importance matrices: both formats, and what is no importance matrix.

use std::path::PathBuf;

use weft_formats::gguf::{Array, Metadata, Value, Writer};
use weft_formats::imatrix::{Collected, Entry, Imatrix, Sums};
use weft_formats::quant::Type;

fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("imatrix");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), bytes).unwrap();
    folder.join(name)
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A file of these tensors, all F32.
fn gguf(kind: &str, tensors: &[(&str, &[u64], &[f32])]) -> Vec<u8> {
    let mut metadata = Metadata::new();
    metadata.set("general.type", Value::Str(kind.into()));
    metadata.set("imatrix.datasets", Value::Array(Array::Str(vec!["a.txt".into()])));
    metadata.set("imatrix.chunk_count", Value::U32(7));
    metadata.set("imatrix.chunk_size", Value::U32(512));
    let table = tensors.iter().map(|(n, s, _)| (n.to_string(), s.to_vec(), Type::F32));
    let data: Vec<_> = tensors.iter().map(|t| floats(t.2)).collect();
    Writer::new(&metadata, table).unwrap().to_bytes(&data).unwrap()
}

#[test]
fn gguf_holds_sums_and_counts() {
    let bytes = gguf(
        "imatrix",
        &[
            ("w.in_sum2", &[2, 3], &[2.0, 4.0, 0.0, 9.0, 5.0, 6.0]),
            ("w.counts", &[1, 3], &[2.0, 3.0, 0.0]),
            ("v.in_sum2", &[2, 1], &[1.0, 3.0]),
            ("v.counts", &[1, 1], &[4.0]),
        ],
    );
    let i = Imatrix::open(&file("good.gguf", &bytes)).unwrap();
    assert_eq!(
        (i.len(), i.is_empty(), i.chunks, &i.datasets[..]),
        (2, false, Some(7), &["a.txt".to_owned()][..])
    );
    // The third matrix met nothing.
    let expected = Entry { values: vec![1.0, 2.0, 0.0, 3.0, 1.0, 1.0], matrices: 3 };
    assert_eq!(i.get("w"), Some(&expected));
    assert_eq!(i.get("v").unwrap().values, [0.25, 0.75]);
    assert_eq!(i.get("x"), None);
}

fn sums(squares: &[f32], counts: &[f32]) -> Sums {
    Sums { squares: squares.to_vec(), counts: counts.to_vec() }
}

#[test]
fn what_is_written_is_read() {
    let path = file("written.gguf", b"");
    let mut collected = Collected {
        sums: vec![
            ("b.weight".into(), sums(&[2.0, 4.0, 0.0], &[4.0])),
            ("a.weight".into(), sums(&[8.0], &[4.0])),
            // Two experts, the second of which met nothing.
            ("c_exps.weight".into(), sums(&[3.0, 6.0, 0.0, 0.0], &[3.0, 0.0])),
        ],
        datasets: vec!["a.txt".into()],
        chunks: 2,
        chunk_size: 2,
    };
    collected.write(&path).unwrap();
    let i = Imatrix::open(&path).unwrap();
    assert_eq!((i.len(), i.chunks, &i.datasets[..]), (3, Some(2), &["a.txt".to_owned()][..]));
    assert_eq!(i.get("c_exps.weight"), Some(&Entry { values: vec![1.0, 2.0, 1.0, 1.0], matrices: 2 }));
    assert_eq!(i.get("a.weight").unwrap(), &Entry { values: vec![2.0], matrices: 1 });
    assert_eq!(i.get("b.weight").unwrap().values, [0.5, 1.0, 0.0]);
    // As llama.cpp's own tool writes them: names in order, two dimensions, no architecture.
    let raw = weft_formats::gguf::File::open(&path).unwrap();
    let names: Vec<_> = raw.tensors().iter().map(|t| (t.name.as_str(), &t.shape[..])).collect();
    let expected: [(&str, &[u64]); 6] = [
        ("a.weight.in_sum2", &[1, 1]),
        ("a.weight.counts", &[1, 1]),
        ("b.weight.in_sum2", &[3, 1]),
        ("b.weight.counts", &[1, 1]),
        ("c_exps.weight.in_sum2", &[2, 2]),
        ("c_exps.weight.counts", &[1, 2]),
    ];
    assert_eq!(names, expected);
    let keys: Vec<_> = raw.metadata().iter().map(|(k, _)| k).collect();
    assert_eq!(keys, ["general.type", "imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"]);
    assert_eq!(raw.metadata().get("imatrix.chunk_size"), Some(&Value::U32(2)));

    // An activation that overflowed names its tensor, and the file that was there stays.
    collected.sums[1].1.squares[0] = f32::INFINITY;
    let line = collected.write(&path).unwrap_err().to_string();
    assert!(line.contains("\"a.weight\"") && line.contains("inf"), "{line}");
    assert_eq!(Imatrix::open(&path).unwrap(), i);
}

fn legacy(trailer: bool) -> Vec<u8> {
    let mut bytes = 2i32.to_le_bytes().to_vec();
    for (name, calls, values) in [("w", 2i32, [2.0f32, 4.0]), ("v", 0, [3.0, 5.0])] {
        bytes.extend((name.len() as i32).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(calls.to_le_bytes());
        bytes.extend(2i32.to_le_bytes());
        bytes.extend(floats(&values));
    }
    if trailer {
        bytes.extend(9i32.to_le_bytes());
        bytes.extend(5i32.to_le_bytes());
        bytes.extend(b"b.txt");
    }
    bytes
}

#[test]
fn the_older_format() {
    let i = Imatrix::open(&file("old.dat", &legacy(true))).unwrap();
    assert_eq!((i.chunks, &i.datasets[..]), (Some(9), &["b.txt".to_owned()][..]));
    assert_eq!(i.get("w").unwrap().values, [1.0, 2.0]);
    assert_eq!(i.get("v").unwrap().values, [3.0, 5.0]);
    let i = Imatrix::open(&file("older.dat", &legacy(false))).unwrap();
    assert_eq!((i.len(), i.chunks), (2, None));
}

#[test]
fn what_is_no_importance_matrix() {
    let fails = |name: &str, bytes: &[u8], part: &str| {
        let path = file(name, bytes);
        let line = Imatrix::open(&path).unwrap_err().to_string();
        assert!(line.contains(part) && line.contains(name) && !line.contains('\n'), "{line}");
    };
    fails("model.gguf", &gguf("model", &[]), "\"model\"");
    fails("empty.gguf", &gguf("imatrix", &[]), "holds no importance");
    fails("pair.gguf", &gguf("imatrix", &[("w.in_sum2", &[1, 1], &[1.0])]), "w.counts");
    let counts: (&str, &[u64], &[f32]) = ("w.counts", &[1, 2], &[1.0, 1.0]);
    fails("shape.gguf", &gguf("imatrix", &[("w.in_sum2", &[1, 1], &[1.0]), counts]), "w.counts");
    let one: (&str, &[u64], &[f32]) = ("w.counts", &[1, 1], &[1.0]);
    for (name, bad) in [("nan.gguf", f32::NAN), ("negative.gguf", -1.0), ("infinite.gguf", f32::INFINITY)] {
        fails(name, &gguf("imatrix", &[("w.in_sum2", &[2, 1], &[1.0, bad]), one]), "value 1 of \"w\"");
    }
    fails("text.dat", b"this is not an importance matrix", "neither");
    fails("none.dat", b"", "empty");
    fails("tail.dat", &[&legacy(true)[..], &[0; 3]].concat()[..legacy(true).len() - 2], "it ends in");
    // Every prefix is an error or a shorter whole, never a panic or a huge allocation.
    let whole = legacy(true);
    for len in 0..whole.len() {
        let _ = Imatrix::open(&file("prefix.dat", &whole[..len]));
    }
    fails("huge.dat", &[1i32.to_le_bytes(), i32::MAX.to_le_bytes()].concat(), "it ends in");
    let line = Imatrix::open(&PathBuf::from("/no/such/imatrix")).unwrap_err().to_string();
    assert!(line.contains("no such file"), "{line}");
}
