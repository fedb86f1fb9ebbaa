//! Bad input: each is one line that names the file and the cause, and exit code 1.

use std::path::Path;

use weft_formats::gguf::{Array, File, Metadata, Value, Writer};
use weft_formats::quant::Type;

use crate::support::cli::{fails, file, folder, json, misused};

type Tensors = Vec<(String, Vec<u64>, Type, Vec<u8>)>;

/// The model on board.
fn mini() -> File {
    File::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/assets/weft-mini.gguf"))
        .expect("weft-mini")
}

/// The model on board with its first layer only, changed, as bytes. `change` gets the metadata as pairs.
pub(crate) fn changed(change: impl FnOnce(&mut Vec<(String, Value)>, &mut Tensors)) -> Vec<u8> {
    let mini = mini();
    let mut pairs: Vec<(String, Value)> =
        mini.metadata().iter().map(|(k, v)| (k.to_owned(), v.clone())).collect();
    set(&mut pairs, "qwen3.block_count", Value::U32(1));
    let mut tensors: Tensors = mini
        .tensors()
        .iter()
        .filter(|t| !t.name.starts_with("blk.") || t.name.starts_with("blk.0."))
        .map(|t| (t.name.clone(), t.shape.clone(), t.ty, mini.bytes(t).to_vec()))
        .collect();
    change(&mut pairs, &mut tensors);
    let mut metadata = Metadata::new();
    pairs.into_iter().for_each(|(k, v)| metadata.set(k, v));
    let writer = Writer::new(&metadata, tensors.iter().map(|(n, s, t, _)| (n.clone(), s.clone(), *t)))
        .expect("a header");
    writer.to_bytes(&tensors.iter().map(|t| &t.3).collect::<Vec<_>>()).expect("a file")
}

fn set(pairs: &mut [(String, Value)], key: &str, value: Value) {
    pairs.iter_mut().find(|(k, _)| k == key).unwrap_or_else(|| panic!("no {key}")).1 = value;
}

/// A header by hand, so that it can be wrong.
fn header(version: [u8; 4], tensors: u64, keys: u64, rest: &[u8]) -> Vec<u8> {
    [b"GGUF", &version[..], &tensors.to_le_bytes(), &keys.to_le_bytes(), rest].concat()
}

fn text(s: &str) -> Vec<u8> {
    [&(s.len() as u64).to_le_bytes(), s.as_bytes()].concat()
}

/// Every command that takes a model refuses `path` in the same way.
fn refused(path: &str, parts: &[&str]) {
    let parts: Vec<&str> = [path].into_iter().chain(parts.iter().copied()).collect();
    fails(&["run", "-m", path, "Hello"], &parts);
    fails(&["inspect", path], &parts);
    fails(&["tokenize", "-m", path, "Hello"], &parts);
}

#[test]
fn files_that_are_no_gguf() {
    let folder = folder("bad-files");
    let write = |name: &str, bytes: &[u8]| file(&folder, name, bytes);
    refused(folder.join("absent.gguf").to_str().expect("UTF-8"), &["no such file"]);
    refused(folder.to_str().expect("UTF-8"), &["directory"]);
    refused(&write("empty.gguf", b""), &["empty"]);
    refused(&write("magic.gguf", b"GGML\x03\0\0\0 and more of it"), &["not a GGUF file"]);
    refused(&write("one.gguf", &header([1, 0, 0, 0], 0, 0, b"")), &["version 1"]);
    refused(&write("big.gguf", &header([0, 0, 0, 3], 0, 0, b"")), &["big-endian"]);
    refused(&write("nine.gguf", &header([9, 0, 0, 0], 0, 0, b"")), &["version 9"]);
    refused(
        &write("many.gguf", &header([3, 0, 0, 0], 1 << 60, 0, &[0; 64])),
        &["truncated", "1152921504606846976"],
    );
    refused(&write("key.gguf", &header([3, 0, 0, 0], 0, 1, &[0xff; 32])), &["a metadata key is"]);
    let string = [text("k"), 8u32.to_le_bytes().to_vec(), (1u64 << 60).to_le_bytes().to_vec()].concat();
    refused(&write("string.gguf", &header([3, 0, 0, 0], 0, 1, &string)), &["truncated", "\"k\""]);
    let key = [text("k"), 99u32.to_le_bytes().to_vec(), vec![0; 16]].concat();
    refused(&write("value.gguf", &header([3, 0, 0, 0], 0, 1, &key)), &["value type 99"]);
    let tensor = |ty: u32, offset: u64| {
        let table = [text("t"), 1u32.to_le_bytes().to_vec(), 32u64.to_le_bytes().to_vec()].concat();
        let entry = [&table[..], &ty.to_le_bytes(), &offset.to_le_bytes()].concat();
        let mut bytes = header([3, 0, 0, 0], 1, 0, &entry);
        bytes.resize(bytes.len().next_multiple_of(32) + 128, 0);
        bytes
    };
    refused(&write("type.gguf", &tensor(777, 0)), &["\"t\"", "unknown type id 777"]);
    refused(&write("unaligned.gguf", &tensor(0, 4)), &["\"t\"", "offset 4"]);
    refused(&write("beyond.gguf", &tensor(0, 1 << 40)), &["belong to no tensor", "\"t\""]);
    refused(&write("overflow.gguf", &tensor(0, u64::MAX - 31)), &["\"t\""]);
}

#[test]
fn truncated_files() {
    let folder = folder("bad-truncated");
    let bytes = changed(|_, _| {});
    // Everywhere in the header is the reader's own test; here the kinds of places.
    for len in [1, 3, 7, 12, 20, 30, 1000, 20_000, bytes.len() / 2, bytes.len() - 40] {
        let path = file(&folder, "short.gguf", &bytes[..len]);
        fails(&["run", "-m", &path, "Hello"], &[&path]);
        fails(&["inspect", &path], &[&path]);
    }
}

#[test]
fn shards_that_are_missing() {
    let folder = folder("bad-shards");
    let bytes = changed(|pairs, _| {
        pairs.push(("split.no".into(), Value::U16(0)));
        pairs.push(("split.count".into(), Value::U16(3)));
    });
    let path = file(&folder, "m-00001-of-00003.gguf", &bytes);
    for args in [&["run", "-m", &path, "Hello"][..], &["inspect", &path]] {
        fails(args, &["m-00002-of-00003.gguf", "missing"]);
    }
    let path = file(&folder, "renamed.gguf", &bytes);
    refused(&path, &["shard 1", "of 3"]);
}

#[test]
fn models_that_are_not_whole() {
    let folder = folder("bad-models");
    let run = |name: &str, bytes: Vec<u8>, parts: &[&str]| {
        let path = file(&folder, name, &bytes);
        let parts: Vec<&str> = [path.as_str()].into_iter().chain(parts.iter().copied()).collect();
        fails(&["run", "-m", &path, "-c", "128", "Hello"], &parts);
    };
    run(
        "arch.gguf",
        changed(|p, _| set(p, "general.architecture", Value::Str("mamba".into()))),
        &["\"mamba\"", "not supported", "qwen3"],
    );
    run(
        "no-arch.gguf",
        changed(|p, _| p.retain(|(k, _)| k != "general.architecture")),
        &["general.architecture", "missing"],
    );
    for key in
        ["embedding_length", "block_count", "feed_forward_length", "attention.head_count", "context_length"]
    {
        let key = format!("qwen3.{key}");
        run("key.gguf", changed(|p, _| p.retain(|(k, _)| *k != key)), &[&key, "missing"]);
    }
    run("zero.gguf", changed(|p, _| set(p, "qwen3.attention.head_count", Value::U32(0))), &["head_count"]);
    run("text.gguf", changed(|p, _| set(p, "qwen3.block_count", Value::Str("one".into()))), &["block_count"]);
    run("layers.gguf", changed(|p, _| set(p, "qwen3.block_count", Value::U32(2))), &["blk.1.", "missing"]);
    for name in ["token_embd.weight", "output_norm.weight", "blk.0.attn_q.weight", "blk.0.ffn_down.weight"] {
        run("tensor.gguf", changed(|_, t| t.retain(|t| t.0 != name)), &[name, "missing"]);
    }
    let misshapen = changed(|_, t| {
        let t = t.iter_mut().find(|t| t.0 == "blk.0.ffn_up.weight").expect("the tensor");
        t.1[1] /= 2;
        t.3.truncate(t.3.len() / 2);
    });
    run("shape.gguf", misshapen, &["blk.0.ffn_up.weight", "[256, 384]", "[256, 768]"]);
    let unread = changed(|_, t| {
        let t = t.iter_mut().find(|t| t.0 == "blk.0.ffn_up.weight").expect("the tensor");
        t.2 = Type::parse("I32").expect("a type");
        t.3 = vec![0; t.2.row_bytes(t.1[0]).expect("rows") as usize * t.1[1] as usize];
    });
    run("integers.gguf", unread, &["blk.0.ffn_up.weight", "I32", "not supported", "Q4_K"]);
}

#[test]
fn a_vocabulary_alone_tokenizes_and_does_not_run() {
    let path = file(&folder("bad-vocabulary"), "vocab.gguf", &changed(|_, t| t.clear()));
    let ids = json(&["tokenize", "-m", &path, "--json", "What is 17 + 25?"]);
    assert_eq!(ids, json(&["tokenize", "--json", "What is 17 + 25?"]));
    fails(&["run", "-m", &path, "Hello"], &[&path, "no tensors"]);
    let all = json(&["inspect", &path, "--json"]);
    assert!(all["cannot_run"].as_str().expect("a reason").contains("no tensors") && all["plan"].is_null());
}

#[test]
fn a_file_without_a_vocabulary() {
    let bytes = changed(|p, _| p.retain(|(k, _)| !k.starts_with("tokenizer.")));
    let path = file(&folder("bad-tokenizer"), "mute.gguf", &bytes);
    fails(&["run", "-m", &path, "Hello"], &[&path, "tokenizer.ggml."]);
    fails(&["tokenize", "-m", &path, "Hello"], &[&path, "tokenizer.ggml."]);
    let merges = changed(|p, _| set(p, "tokenizer.ggml.merges", Value::Array(Array::Str(vec!["x".into()]))));
    let path = file(&folder("bad-merges"), "merges.gguf", &merges);
    fails(&["tokenize", "-m", &path, "Hello"], &[&path]);
}

#[test]
fn prompts_and_ids_out_of_range() {
    let folder = folder("bad-prompts");
    let long = "seventeen and twenty-five ".repeat(50);
    fails(&["run", "-c", "2000000000", "Hello"], &["weft-mini: needs", "would fit"]);
    fails(&["run", "-c", "64", &long], &["prompt has", "context of 64", "-c"]);
    fails(&["run", ""], &["prompt is empty"]);
    fails(&["run", "-"], &["prompt is empty"]);
    misused(&["run", "--top-p", "2", "--temp", "1", "Hello"], &["top-p", "2"]);
    misused(&["run", "--temp", "-1", "Hello"], &["the temperature", "-1"]);
    fails(&["tokenize", "--decode", "2048"], &["2048", "out of range"]);
    misused(&["tokenize", "--decode", "seven"], &["\"seven\"", "not a token id"]);
    let logits = |name: &str, content: &str, parts: &[&str]| {
        let path = file(&folder, name, content.as_bytes());
        let out = folder.join("out.safetensors");
        let parts: Vec<&str> = [path.as_str()].into_iter().chain(parts.iter().copied()).collect();
        fails(&["logits", "--tokens", &path, "-o", out.to_str().expect("UTF-8")], &parts);
        assert!(!out.exists());
    };
    logits("range.json", "[1, 2048]", &["2048", "out of range"]);
    logits("negative.json", "[1, -2]", &["-2", "not a token id"]);
    logits("object.json", "{}", &["array"]);
    logits("broken.json", "[1,", &["not JSON"]);
    logits("none.json", "[]", &["no token ids"]);
    let path = file(&folder, "ids.json", b"[1]");
    let gone = folder.join("absent").join("out.safetensors");
    fails(
        &["logits", "--tokens", &path, "-o", gone.to_str().expect("UTF-8")],
        &["out.safetensors", "folder does not exist"],
    );
    fails(&["logits", "--tokens", &gone.display().to_string(), "-o", "x"], &["no such file"]);
}

#[test]
fn devices_that_are_not_there() {
    fails(&["run", "--device", "Voodoo", "Hello"], &["no adapter matches \"Voodoo\"", "0: "]);
    fails(&["run", "--device", "99", "Hello"], &["no adapter matches \"99\""]);
    misused(&["kernels", "test", "--op", "fft"], &["no op matches", "matmul"]);
    for mode in ["list", "grad", "perf", "support"] {
        misused(&["kernels", mode, "--op", "fft"], &["no op matches", "matmul_dx"]);
        misused(&["kernels", mode, "--type", "q9_k"], &["no type matches", "Q4_K"]);
        misused(&["kernels", mode, "--variant", "fast"], &["no variant matches", "tiled"]);
    }
    misused(&["curriculum", "--domain", "alchemy"], &["\"alchemy\"", "physics"]);
}

/// Where no driver is installed.
#[cfg(target_os = "linux")]
#[test]
fn no_adapter() {
    for args in [&["run", "Hello"][..], &["devices"], &["devices", "--json"]] {
        let out = crate::support::cli::command(args)
            .env("VK_DRIVER_FILES", "/nowhere.json")
            .env("VK_ICD_FILENAMES", "/nowhere.json")
            .output()
            .expect("weft starts");
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!((out.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
        assert!(stderr.starts_with("error: no GPU adapter found") && out.stdout.is_empty(), "{stderr}");
    }
    // What needs no GPU works without one.
    let out = crate::support::cli::command(&["inspect"])
        .env("VK_DRIVER_FILES", "/nowhere.json")
        .env("VK_ICD_FILENAMES", "/nowhere.json")
        .output()
        .expect("weft starts");
    assert!(out.status.success() && String::from_utf8_lossy(&out.stdout).contains("in all"));
}

/// A header that promises half a terabyte, in a sparse file.
#[cfg(target_os = "linux")]
#[test]
fn a_model_larger_than_the_device() {
    let string = |key: &str, v: &str| [text(key), 8u32.to_le_bytes().to_vec(), text(v)].concat();
    let number =
        |key: &str, v: u32| [text(key), 4u32.to_le_bytes().to_vec(), v.to_le_bytes().to_vec()].concat();
    let float =
        |key: &str, v: f32| [text(key), 6u32.to_le_bytes().to_vec(), v.to_le_bytes().to_vec()].concat();
    const WIDTH: u64 = 16_384;
    const FORWARD: u64 = 1 << 20;
    const LAYERS: u32 = 5;
    let keys = [
        string("general.architecture", "llama"),
        number("llama.context_length", 1024),
        number("llama.embedding_length", WIDTH as u32),
        number("llama.block_count", LAYERS),
        number("llama.feed_forward_length", FORWARD as u32),
        number("llama.attention.head_count", 128),
        float("llama.attention.layer_norm_rms_epsilon", 1e-6),
    ];
    let mut tensors = vec![("token_embd".to_owned(), vec![WIDTH, 64]), ("output_norm".into(), vec![WIDTH])];
    for layer in 0..LAYERS {
        let norms = ["attn_norm", "ffn_norm"].map(|n| (n, vec![WIDTH]));
        let square = ["attn_q", "attn_k", "attn_v", "attn_output"].map(|n| (n, vec![WIDTH, WIDTH]));
        let wide =
            [("ffn_gate", [WIDTH, FORWARD]), ("ffn_up", [WIDTH, FORWARD]), ("ffn_down", [FORWARD, WIDTH])];
        let all = norms.into_iter().chain(square).chain(wide.map(|(n, s)| (n, s.to_vec())));
        tensors.extend(all.map(|(n, s)| (format!("blk.{layer}.{n}"), s)));
    }
    let (mut table, mut end) = (Vec::new(), 0u64);
    for (name, shape) in &tensors {
        // Vectors are f32, matrices f16.
        let (ty, bytes) = if shape.len() == 1 { (0u32, 4) } else { (1, 2) };
        table.extend(text(&format!("{name}.weight")));
        table.extend((shape.len() as u32).to_le_bytes());
        shape.iter().for_each(|n| table.extend(n.to_le_bytes()));
        table.extend(ty.to_le_bytes());
        table.extend(end.to_le_bytes());
        end += shape.iter().product::<u64>() * bytes;
    }
    let rest = [keys.concat(), table].concat();
    let bytes = header([3, 0, 0, 0], tensors.len() as u64, keys.len() as u64, &rest);
    let size = (bytes.len() as u64).next_multiple_of(32) + end;
    let path = file(&folder("bad-large"), "large.gguf", &bytes);
    let sparse = std::fs::OpenOptions::new().write(true).open(&path).and_then(|f| f.set_len(size));
    if let Err(e) = sparse {
        println!("skipped: no sparse file of {size} bytes here ({e})");
        return;
    }
    fails(&["run", "-m", &path, "Hello"], &[&path, "490.00 GiB of weights", "would fit"]);
    assert_eq!(json(&["inspect", &path, "--json"])["plan"]["fits"], false);
    let _ = std::fs::remove_file(path);
}
