//! Training data and tuning files, mutated: no bytes make their readers panic, hang or take memory out of proportion.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use weft_formats::chat::Template;
use weft_formats::gguf::File;
use weft_formats::tokenizer::Tokenizer;
use weft_kernels::tuning::{self, Finding};
use weft_models::finetune::{Data, Reading};
use weft_runtime::{Budget, Caps, DeviceKind, Tuned};

use crate::support::{Random, fuzz, mutate, mutate_bytes, mutate_json, rounds};

fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fuzz").join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a folder");
    path
}

/// Lines of JSON, each changed by itself.
fn mutate_lines(good: &[u8], r: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in good.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
        bytes.extend(if r.below(3) == 0 { mutate_json(line, r) } else { line.to_vec() });
        bytes.push(b'\n');
    }
    if r.below(4) == 0 {
        mutate(&mut bytes, r);
    }
    bytes
}

/// A table of prompts and completions, and of conversations.
fn table(compression: Compression) -> Vec<u8> {
    let schema = "message m { OPTIONAL BYTE_ARRAY system (UTF8);
        REPEATED group messages { REQUIRED BYTE_ARRAY role (UTF8); OPTIONAL BYTE_ARRAY content (UTF8); } }";
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).expect("a writer");
    let mut group = writer.next_row_group().expect("a group");
    let texts = |all: &[&str]| all.iter().map(|t| ByteArray::from(*t)).collect::<Vec<_>>();
    // Two rows: one without a system text, and two messages each.
    let columns: [(Vec<ByteArray>, Option<&[i16]>, Option<&[i16]>); 3] = [
        (texts(&["be brief"]), Some(&[1, 0]), None),
        (texts(&["user", "assistant", "user", "assistant"]), Some(&[1, 1, 1, 1]), Some(&[0, 1, 0, 1])),
        (texts(&["a b c", "d", "a b c", "e"]), Some(&[2, 2, 2, 2]), Some(&[0, 1, 0, 1])),
    ];
    for (values, definition, repetition) in columns {
        let mut column = group.next_column().expect("a column").expect("a column");
        column.typed::<ByteArrayType>().write_batch(&values, definition, repetition).expect("values");
        column.close().expect("a column");
    }
    group.close().expect("a group");
    writer.into_inner().expect("a file")
}

fn read(path: &Path) -> impl Fn() -> Result<(), String> + '_ {
    let mini = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/weft-mini.gguf");
    let file = File::open(Path::new(mini)).expect("weft-mini");
    let tokenizer = Tokenizer::from_metadata(file.metadata()).expect("a tokenizer");
    let template = Template::from_metadata(file.metadata(), "", "<|im_end|>").expect("a template");
    move || {
        let how = Reading { context: 64, ..Reading::new(&tokenizer, &template) };
        Data::read(path, &how).map(drop).map_err(|e| e.to_string())
    }
}

#[test]
fn records() {
    let folder = folder("records");
    let lines = [
        r#"{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 1}], "tools": "[]"}"#,
        r#"{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "system": "s"}"#,
        r#"{"instruction": "a", "input": "b", "output": "c"}"#,
        r#"{"prompt": "a", "completion": "b"}"#,
        r#"{"text": "d e f"}"#,
    ];
    let path = folder.join("lines.jsonl");
    std::fs::write(&path, lines.join("\n")).expect("a file");
    let n = rounds(300);
    let opened = fuzz(&path, n, mutate_lines, &read(&path));
    assert!(opened > n / 50, "{opened} of {n}");
    let path = folder.join("array.json");
    std::fs::write(&path, format!("[{}]", lines.join(","))).expect("a file");
    let opened = fuzz(&path, n, mutate_json, &read(&path));
    assert!(opened > n / 100, "{opened} of {n}");
}

#[test]
fn tables() {
    let folder = folder("tables");
    for (name, compression) in
        [("plain", Compression::UNCOMPRESSED), ("snappy", Compression::SNAPPY), ("lz4", Compression::LZ4_RAW)]
    {
        let path = folder.join(format!("{name}.parquet"));
        std::fs::write(&path, table(compression)).expect("a file");
        let n = rounds(300);
        let opened = fuzz(&path, n, mutate_bytes, &read(&path));
        assert!(opened > n / 100, "{name}: {opened} of {n}");
    }
}

/// What a file has is taken only where a kernel can have it; all else that is in it is one line.
#[test]
fn tuning_files() {
    let caps = Caps { subgroups: Some((32, 32)), ..Caps::core(DeviceKind::Discrete, &Budget::WEBGPU) };
    let finding = |op: &str, ty: &str, shape: &[[u32; 2]]| {
        let constants = tuning::candidates(op, ty, &caps)[0];
        let tuned = Tuned { op: op.into(), ty: ty.into(), shape: shape.to_vec(), constants };
        Finding { tuned, us: [10.0, 9.0] }
    };
    let findings = [
        finding("matvec", "f16", &[[4000, 8000], [2000, 3000]]),
        finding("chain_residual", "q4_k", &[[2000, 3000], [3000, 5000]]),
        finding("attention_decode", "f16", &[[0, 512], [24, 42], [128, 128]]),
    ];
    let path = folder("tuning").join("tune.json");
    std::fs::write(&path, tuning::text(&caps, "2026-11-29", &findings)).expect("a file");
    let read = || {
        let found = tuning::read(&path, &caps);
        for e in &found.entries {
            assert!(tuning::candidates(&e.op, &e.ty, &caps).contains(&e.constants), "{e:?}");
            found.find(&e.op, &e.ty, &[u32::MAX, 0, 1]);
        }
        assert!(found.notes.len() <= 1, "{:?}", found.notes);
        found.notes.first().map_or(Ok(()), |note| Err(note.clone()))
    };
    let n = rounds(300);
    let opened = fuzz(&path, n, mutate_json, &read) + fuzz(&path, n, mutate_bytes, &read);
    assert!(opened > n / 50, "{opened} of {n}");
}
