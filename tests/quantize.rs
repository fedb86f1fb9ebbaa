//! `weft quantize`, `convert`, `split` and `merge-splits` as a person runs them.

use std::path::{Path, PathBuf};

use weft_formats::gguf::{Array, File, Metadata, Value, Writer};
use weft_formats::quant::{Type, dequantize, quantize};
use weft_formats::recipe::RECIPES;

use crate::support::cli::{command, fails, file, folder, json, misused, ok, weft};

const F16: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/assets/weft-mini-f16.gguf");

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

/// Whether the folder holds exactly these files: nothing temporary, nothing half-written.
fn holds(folder: &Path, names: &[&str]) {
    let mut found: Vec<String> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    found.sort();
    assert_eq!(found, names);
}

/// A small model of made-up weights: two layers, `cols` columns.
fn small(cols: u64, ty: Type) -> Vec<u8> {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", Value::Str("llama".into()));
    metadata.set("llama.block_count", Value::U32(2));
    metadata.set("llama.attention.head_count", Value::U32(4));
    metadata.set("tokenizer.ggml.tokens", Value::Array(Array::Str(vec!["a".into(), "ä".into()])));
    let mut table = vec![("token_embd.weight".to_owned(), vec![cols, 64], ty)];
    for i in 0..2 {
        table.push((format!("blk.{i}.attn_norm.weight"), vec![cols], Type::F32));
        table.push((format!("blk.{i}.attn_v.weight"), vec![cols, 64], ty));
        table.push((format!("blk.{i}.ffn_down.weight"), vec![cols, 64], ty));
    }
    table.push(("output.weight".to_owned(), vec![cols, 64], ty));
    let data: Vec<Vec<u8>> = table
        .iter()
        .map(|(_, shape, ty)| {
            let values: Vec<f32> = (0..shape.iter().product::<u64>())
                .map(|i| ((i * 2_654_435_761) % 2003) as f32 / 1e3 - 1.0)
                .collect();
            let mut bytes = Vec::new();
            quantize(*ty, &values, None, &mut bytes).expect("an encoder");
            bytes
        })
        .collect();
    Writer::new(&metadata, table).expect("a header").to_bytes(&data).expect("a file")
}

/// An importance matrix for [`small`]: the first half of the columns matters a thousand times more.
fn importance(cols: u64) -> Vec<u8> {
    let mut metadata = Metadata::new();
    metadata.set("general.type", Value::Str("imatrix".into()));
    metadata.set("imatrix.datasets", Value::Array(Array::Str(vec!["made.txt".into()])));
    metadata.set("imatrix.chunk_count", Value::U32(3));
    let names = ["blk.0.attn_v", "blk.0.ffn_down", "blk.1.attn_v", "blk.1.ffn_down", "output"];
    let table = names.iter().flat_map(|n| {
        let tensor = |suffix, shape| (format!("{n}.weight.{suffix}"), shape, Type::F32);
        [tensor("in_sum2", vec![cols, 1]), tensor("counts", vec![1, 1])]
    });
    let sums: Vec<u8> =
        (0..cols).flat_map(|c| (if c < cols / 2 { 1e3f32 } else { 1.0 }).to_le_bytes()).collect();
    let data: Vec<Vec<u8>> = names.iter().flat_map(|_| [sums.clone(), 4f32.to_le_bytes().to_vec()]).collect();
    Writer::new(&metadata, table).expect("a header").to_bytes(&data).expect("a file")
}

/// An importance matrix for all matrices of a model, whose columns matter about alike.
fn importance_of(model: &File) -> Vec<u8> {
    let mut metadata = Metadata::new();
    metadata.set("general.type", Value::Str("imatrix".into()));
    let matrices: Vec<_> =
        model.tensors().iter().filter(|t| t.shape.len() == 2).map(|t| (&t.name, t.shape[0])).collect();
    let table = matrices.iter().flat_map(|(name, cols)| {
        let tensor = |suffix, columns| (format!("{name}.{suffix}"), vec![columns, 1], Type::F32);
        [tensor("in_sum2", *cols), tensor("counts", 1)]
    });
    let sums = |cols: u64| (0..cols).flat_map(|c| (1.0 + (c % 7) as f32 / 8.0).to_le_bytes()).collect();
    let data: Vec<Vec<u8>> =
        matrices.iter().flat_map(|(_, cols)| [sums(*cols), 1f32.to_le_bytes().to_vec()]).collect();
    Writer::new(&metadata, table).expect("a header").to_bytes(&data).expect("a file")
}

fn values(file: &File, name: &str) -> Vec<f32> {
    let t = file.tensor(name).unwrap_or_else(|| panic!("no {name}"));
    let mut out = vec![0.0; t.elements() as usize];
    dequantize(t.ty, file.bytes(t), &mut out).expect("a decoder");
    out
}

#[test]
fn weft_mini_at_every_type() {
    let folder = folder("quantize-all");
    let out = text(&folder.join("out.gguf"));
    let source = File::open(Path::new(F16)).expect("weft-mini");
    let energy: f64 = values(&source, "blk.1.ffn_up.weight").iter().map(|v| f64::from(v * v)).sum();
    let mut last = 0;
    let imatrix = file(&folder, "imatrix.gguf", &importance_of(&source));
    for r in RECIPES {
        let report = json(&["quantize", F16, &out, r.name, "--imatrix", &imatrix, "--json"]);
        let size = std::fs::metadata(&out).expect("the file").len();
        assert_eq!(report["bytes_after"].as_u64(), Some(size), "{}", r.name);
        let made = File::open(Path::new(&out)).expect("a GGUF");
        let tensors = made.tensors().len();
        let counted: u64 =
            report["types"].as_object().expect("types").values().filter_map(|t| t["tensors"].as_u64()).sum();
        assert_eq!((counted, tensors), (tensors as u64, source.tensors().len()), "{}", r.name);
        assert_eq!(made.metadata().u64("general.file_type"), Some(r.file_type.into()));
        assert_eq!(made.metadata().u64("general.quantization_version"), Some(2));
        assert_eq!(
            made.metadata().strs("tokenizer.ggml.merges"),
            source.metadata().strs("tokenizer.ggml.merges")
        );
        assert_eq!(made.tensor("output_norm.weight").map(|t| t.ty), Some(Type::F32));
        // The layers in the middle of IQ3_XS are smaller than its base.
        let wide = if r.name == "IQ3_XS" { Type::IQ3_XXS } else { r.base };
        assert_eq!(made.tensor("blk.1.ffn_up.weight").map(|t| t.ty), Some(wide), "{}", r.name);
        let pairs =
            values(&source, "blk.1.ffn_up.weight").into_iter().zip(values(&made, "blk.1.ffn_up.weight"));
        let error = pairs.map(|(a, b)| f64::from((a - b) * (a - b))).sum::<f64>() / energy;
        let bound = match r.name.get(..3) {
            Some("TQ1" | "TQ2") => 0.9,
            Some("IQ1") => 0.28,
            Some("IQ2") => 0.15,
            _ => 0.12,
        };
        assert!(error < bound, "{}: {error}", r.name);
        // The list is in the order of the sizes, but for neighbours of the same base.
        assert!(size > last * 97 / 100, "{}: {size} after {last}", r.name);
        last = size;
    }
    holds(&folder, &["imatrix.gguf", "out.gguf"]);
    ok(&["quantize", F16, &out, "F16"]);
    assert!(
        std::fs::read(&out).expect("the file") == std::fs::read(F16).expect("weft-mini"),
        "F16 of F16 is a copy"
    );
}

#[test]
fn a_quantised_model_still_computes() {
    let folder = folder("quantize-run");
    let out = text(&folder.join("q4_k_m.gguf"));
    let shown = ok(&["quantize", F16, &out, "q4_k_m"]);
    assert!(
        shown.contains("Q4_K_M") && shown.contains("bits per weight") && shown.contains("Q6_K"),
        "{shown}"
    );
    let answer = ok(&["run", "-m", &out, "--temp", "0", "-n", "4", "17 + 25"]);
    assert!(!answer.trim().is_empty());
}

#[test]
fn fallbacks_overrides_and_kept_heads() {
    let folder = folder("quantize-mixed");
    let source = file(&folder, "in.gguf", &small(96, Type::F32));
    let out = text(&folder.join("out.gguf"));
    let args =
        ["quantize", &source, &out, "Q4_K_M", "--json", "--tensor", r"blk\.1\.attn_v=Q8_0", "--keep-output"];
    let report = json(&args);
    let fallbacks = report["fallbacks"].as_array().expect("a list");
    assert_eq!(fallbacks.len(), 4, "{report:#}");
    let made = File::open(Path::new(&out)).expect("a GGUF");
    let ty = |name: &str| made.tensor(name).expect("the tensor").ty;
    assert_eq!((ty("token_embd.weight"), ty("output.weight")), (Type::Q5_0, Type::F32));
    // Layer 1 of 2 is in the last eighth, and would get Q6_K.
    assert_eq!((ty("blk.1.attn_v.weight"), ty("blk.1.ffn_down.weight")), (Type::Q8_0, Type::Q8_0));
    let other = text(&folder.join("other.gguf"));
    fails(
        &["quantize", &source, &other, "Q4_0", "--tensor", "attn_z=Q8_0"],
        &["--tensor \"attn_z\"", "has no tensor with such a name"],
    );
    let shown = ok(&args.iter().filter(|a| **a != "--json").copied().collect::<Vec<_>>());
    assert!(shown.contains("token_embd.weight: Q5_0 instead of Q4_K"), "{shown}");
}

#[test]
fn importance_is_used_and_named() {
    let folder = folder("quantize-imatrix");
    let source = file(&folder, "in.gguf", &small(256, Type::F32));
    let imatrix = file(&folder, "i.gguf", &importance(256));
    let (with, without) = (text(&folder.join("with.gguf")), text(&folder.join("without.gguf")));
    ok(&["quantize", &source, &without, "Q4_0"]);
    let report = json(&["quantize", &source, &with, "Q4_0", "--imatrix", &imatrix, "--json"]);
    assert_eq!(report["importance_used"], 5);
    let (source, with, without) = (open(&source), open(&with), open(&without));
    let m = with.metadata();
    assert_eq!(m.str("quantize.imatrix.file"), Some(imatrix.as_str()));
    assert_eq!(m.str("quantize.imatrix.dataset"), Some("made.txt"));
    assert_eq!(m.get("quantize.imatrix.entries_count"), Some(&Value::U32(5)));
    assert_eq!(m.get("quantize.imatrix.chunks_count"), Some(&Value::U32(3)));
    assert_eq!(without.metadata().get("quantize.imatrix.file"), None);
    let error = |made: &File| {
        let pairs =
            values(&source, "blk.1.attn_v.weight").into_iter().zip(values(made, "blk.1.attn_v.weight"));
        pairs
            .enumerate()
            .filter(|(i, _)| i % 256 < 128)
            .map(|(_, (a, b))| f64::from((a - b) * (a - b)))
            .sum::<f64>()
    };
    assert!(error(&with) < error(&without));
}

/// Collected from a text, and used.
#[test]
fn an_importance_matrix_of_one_s_own() {
    let folder = folder("quantize-imatrix-own");
    let chats = "<|im_start|>user\nWhat is 17 + 25?<|im_end|>\n".repeat(4);
    let chats = file(&folder, "chats.txt", chats.as_bytes());
    let out = text(&folder.join("imatrix.gguf"));
    let args = ["imatrix", "-m", F16, "-f", &chats, "-o", &out, "-c", "16"];
    let report = json(&[&args[..], &["--chunks", "2", "--parse-special", "--json"]].concat());
    let numbers = ["tokens", "chunks", "chunk_size", "tensors"].map(|k| report[k].as_u64());
    assert_eq!(numbers, [32, 2, 16, 63].map(Some), "{report:#}");
    let made = open(&out);
    let m = made.metadata();
    assert_eq!((m.str("general.type"), m.str("general.architecture")), (Some("imatrix"), None));
    assert_eq!(m.strs("imatrix.datasets"), Some(&[chats.clone()][..]));
    assert_eq!(values(&made, "blk.3.ffn_down.weight.counts"), [32.0]);
    let sums = values(&made, "blk.3.ffn_down.weight.in_sum2");
    assert!(sums.len() == 768 && sums.iter().all(|v| *v > 0.0 && v.is_finite()), "{sums:?}");
    // What enters one product enters its neighbours.
    let q = values(&made, "blk.0.attn_q.weight.in_sum2");
    assert!(q == values(&made, "blk.0.attn_v.weight.in_sum2") && q.len() == 256);
    assert_ne!(q, values(&made, "blk.0.ffn_up.weight.in_sum2"));

    let small = text(&folder.join("q2_k.gguf"));
    let used = json(&["quantize", F16, &small, "Q2_K", "--imatrix", &out, "--json"]);
    assert_eq!(used["importance_used"], 63);
    assert_eq!(open(&small).metadata().get("quantize.imatrix.chunks_count"), Some(&Value::U32(2)));

    // The marks are text where they are not asked for; a head that is the embedding is left out.
    let ran = weft(&[&args[..], &["--process-output", "--chunks", "1"]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("token embedding") && ran.stdout.contains("63 tensors over 1 chunks"));
    holds(&folder, &["chats.txt", "imatrix.gguf", "q2_k.gguf"]);
}

#[test]
fn importance_that_cannot_be_collected() {
    let folder = folder("quantize-imatrix-bad");
    let out = text(&folder.join("out.gguf"));
    let short = file(&folder, "short.txt", b"Too short.");
    let fails_with = |args: &[&str], parts: &[&str]| {
        fails(&[&["imatrix", "-o", &out], args].concat(), parts);
        assert!(!Path::new(&out).exists());
    };
    fails_with(&["-f", "/no/such/text"], &["/no/such/text", "no such file"]);
    fails_with(&["-f", &short], &[&short, "less than one chunk of 512", "-c"]);
    fails_with(&["-f", &file(&folder, "bytes.txt", b"a\xffb")], &["bytes.txt", "UTF-8", "byte 1"]);
    fails_with(&["-f", &short, "-m", "/no/such/model"], &["/no/such/model"]);
    let nowhere = text(&folder.join("absent/out.gguf"));
    fails(&["imatrix", "-f", &short, "-o", &nowhere], &[&nowhere, "folder does not exist"]);
    fails(&["imatrix", "-f", &short, "-o", &text(&folder)], &["directory"]);
    assert_eq!(weft(&["imatrix", "-f", &short, "-o", &out, "-c", "0"]).code, Some(2));
    holds(&folder, &["bytes.txt", "short.txt"]);
}

/// A model that has one of the matrices of [`small`].
fn half_of(folder: &Path) -> String {
    let table = [("blk.0.attn_v.weight".to_owned(), vec![256, 64], Type::F32)];
    let bytes = Writer::new(&Metadata::new(), table).expect("a header").to_bytes(&[vec![0u8; 256 * 64 * 4]]);
    file(folder, "part.gguf", &bytes.expect("a file"))
}

fn open(path: &str) -> File {
    File::open(Path::new(path)).expect("a GGUF")
}

#[test]
fn what_cannot_be_quantised() {
    let folder = folder("quantize-bad");
    let source = file(&folder, "in.gguf", &small(256, Type::F16));
    let out = text(&folder.join("out.gguf"));
    let quantize = |more: &[&str], parts: &[&str]| {
        let args: Vec<&str> = ["quantize", &source, &out].iter().chain(more).copied().collect();
        fails(&args, parts);
        assert!(!Path::new(&out).exists());
    };
    let mistyped = |more: &[&str], parts: &[&str]| {
        misused(&[&["quantize", &source, &out], more].concat(), parts);
        assert!(!Path::new(&out).exists());
    };
    mistyped(&["Q4_X"], &["\"Q4_X\"", "known: ", "Q4_K_M", "TQ1_0", "MXFP4"]);
    let way_out = ["blk.0.ffn_down.weight", "IQ2_XXS", "weft imatrix -m", "--imatrix", "Q2_K"];
    quantize(&["IQ2_XXS"], &way_out);
    let half = file(&folder, "half.gguf", &importance_of(&open(&half_of(&folder))));
    quantize(&["IQ2_XXS", "--imatrix", &half], &["half.gguf has nothing for tensor", "IQ2_XXS"]);
    quantize(&["Q4_0", "--tensor", "ffn_down=IQ1_M"], &["blk.0.ffn_down.weight", "IQ1_M"]);
    mistyped(&["Q4_0", "--tensor", "attn=Q9"], &["\"attn=Q9\"", "known: ", "Q8_0"]);
    mistyped(&["Q4_0", "--tensor", "attn"], &["REGEX=TYPE"]);
    mistyped(&["Q4_0", "--tensor", "(=Q8_0"], &["regular expression"]);
    quantize(&["Q4_0", "--imatrix", "/no/such/file"], &["/no/such/file", "no such file"]);
    quantize(&["Q4_0", "--imatrix", F16], &["weft-mini-f16.gguf", "imatrix"]);
    let other = file(&folder, "other.gguf", &importance(512));
    quantize(&["Q4_0", "--imatrix", &other], &[&other, "512", "blk.0.attn_v.weight", "256 columns"]);
    fails(&["quantize", "/no/such/model", &out, "Q4_0"], &["/no/such/model", "no such file"]);
    fails(&["quantize", &source, &source, "Q4_0"], &[&source, "is the file to read"]);
    fails(&["quantize", &source, &text(&folder), "Q4_0"], &["directory"]);
    let nowhere = text(&folder.join("absent/out.gguf"));
    fails(&["quantize", &source, &nowhere, "Q4_0"], &[&nowhere, "its folder does not exist"]);
    fails(&["quantize", &source, &format!("{source}/out.gguf"), "Q4_0"], &["out.gguf"]);
    let truncated = file(&folder, "short.gguf", &small(256, Type::F16)[..9000]);
    fails(&["quantize", &truncated, &out, "Q4_0"], &[&truncated, "truncated"]);
    let mut nan = small(256, Type::F32);
    let at = nan.len() - 400;
    nan[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let nan = file(&folder, "nan.gguf", &nan);
    fails(&["quantize", &nan, &out, "Q4_0"], &[&nan, "\"output.weight\"", "NaN", "value "]);
    let vocabulary = {
        let mut m = Metadata::new();
        m.set("general.architecture", Value::Str("llama".into()));
        Writer::new(&m, Vec::<(String, Vec<u64>, Type)>::new())
            .expect("a header")
            .to_bytes(&[[0u8; 0]; 0])
            .expect("a file")
    };
    fails(&["quantize", &file(&folder, "none.gguf", &vocabulary), &out, "Q4_0"], &["no tensors"]);
    let left = ["half.gguf", "in.gguf", "nan.gguf", "none.gguf", "other.gguf", "part.gguf", "short.gguf"];
    holds(&folder, &left);
}

#[test]
fn a_small_source_needs_to_be_asked_for() {
    let folder = folder("quantize-again");
    let source = file(&folder, "in.gguf", &small(256, Type::Q8_0));
    let out = text(&folder.join("out.gguf"));
    fails(&["quantize", &source, &out, "Q4_0"], &[&source, "token_embd.weight", "Q8_0", "--requantize"]);
    let ran = weft(&["quantize", &source, &out, "Q4_0", "--requantize"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.starts_with("warning: ") && ran.stderr.contains("Q8_0"), "{}", ran.stderr);
    // What stays as it is loses nothing.
    ok(&["quantize", &source, &out, "Q8_0"]);
}

/// A write that fails midway, as on a full disk: the shell limits the size of files.
#[cfg(unix)]
#[test]
fn a_full_disk() {
    let folder = folder("quantize-full");
    let out = text(&folder.join("out.gguf"));
    let run = |args: &str| {
        let script = format!("trap '' XFSZ; ulimit -f 2000; exec \"$WEFT\" {args}");
        let done = std::process::Command::new("sh")
            .args(["-c", &script])
            .env("WEFT", env!("CARGO_BIN_EXE_weft"))
            .output()
            .expect("a shell");
        let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!((done.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains("out"), "{stderr}");
        holds(&folder, &[]);
    };
    run(&format!("quantize '{F16}' '{out}' Q8_0"));
    run(&format!("split '{F16}' '{out}' --max-size 6M"));
}

/// Ctrl-C in the middle, and the end without warning.
#[cfg(unix)]
#[test]
fn an_interrupted_run() {
    let folder = folder("quantize-interrupted");
    let cols = 4096u64;
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", Value::Str("llama".into()));
    let table = (0..24).map(|i| (format!("blk.{i}.ffn_up.weight"), vec![cols, 512], Type::F16));
    let data: Vec<u8> = (0..cols * 512)
        .flat_map(|i| (0x2c00 | (((i * 2_654_435_761) >> 7) as u16 & 0x83ff)).to_le_bytes())
        .collect();
    let source = folder.join("in.gguf");
    let written = Writer::new(&metadata, table).expect("a header").write_to(&source, |_, out| {
        out.extend(&data);
        Ok::<(), weft_formats::gguf::Error>(())
    });
    written.expect("a file");
    let out = folder.join("out.gguf");
    // A killed run cannot clean up, but what it leaves does not have the name.
    for (signal, code) in [("-INT", Some(130)), ("-KILL", None)] {
        let mut child =
            command(&["quantize", &text(&source), &text(&out), "IQ4_XS"]).spawn().expect("weft starts");
        let begun = || std::fs::read_dir(&folder).expect("a folder").count() > 1;
        let start = std::time::Instant::now();
        while !begun() && start.elapsed().as_secs() < 60 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let kill = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(kill.expect("kill").success());
        assert_eq!(child.wait().expect("weft ends").code(), code);
        if code.is_some() {
            holds(&folder, &["in.gguf"]);
        }
        assert!(!out.exists(), "{signal}");
    }
    let _ = std::fs::remove_file(source);
}

#[test]
fn split_and_merged_a_file_is_what_it_was() {
    let folder = folder("split");
    let whole = std::fs::read(F16).expect("weft-mini");
    let out = text(&folder.join("whole.gguf"));
    for (flag, n) in [(["--max-size", "4M"], 4), (["--max-tensors", "30"], 4), (["--max-size", "1G"], 1)] {
        ok(&["split", F16, &text(&folder.join("part")), flag[0], flag[1]]);
        let path = |i: usize| folder.join(format!("part-{i:05}-of-{n:05}.gguf"));
        let first = open(&text(&path(1)));
        assert_eq!(first.metadata().get("split.count"), Some(&Value::U16(n)));
        assert_eq!(first.metadata().get("split.no"), Some(&Value::U16(0)));
        assert_eq!(first.metadata().get("split.tensors.count"), Some(&Value::I32(101)));
        if flag[1] == "4M" {
            for i in 1..=4 {
                assert!(std::fs::metadata(path(i)).expect("a shard").len() < 4_200_000);
            }
        }
        ok(&["merge-splits", &text(&path(usize::from(n))), &out]);
        assert!(std::fs::read(&out).expect("the file") == whole, "{flag:?}");
        // A part is as good as the whole to every command.
        let report = json(&["quantize", &text(&path(1)), &out, "Q8_0", "--json"]);
        assert!(report["bytes_after"].as_u64().is_some_and(|b| b > 8_000_000));
        assert_eq!(open(&out).metadata().get("split.count"), None);
        (1..=usize::from(n)).for_each(|i| std::fs::remove_file(path(i)).expect("a shard"));
    }
    holds(&folder, &["whole.gguf"]);
}

#[test]
fn what_cannot_be_split_or_merged() {
    let folder = folder("split-bad");
    let prefix = text(&folder.join("part"));
    misused(&["split", F16, &prefix, "--max-size", "many"], &["\"many\"", "500M"]);
    misused(&["split", F16, &prefix, "--max-size", "0"], &["\"0\""]);
    misused(&["split", F16, &prefix, "--max-size", "99999999999999999999G"], &["--max-size"]);
    fails(&["split", "/no/such/model", &prefix], &["no such file"]);
    fails(&["split", F16, &text(&folder.join("absent/part"))], &["absent/part", "its folder does not exist"]);
    fails(&["merge-splits", F16, &prefix], &["not a part of a split model"]);
    ok(&["split", F16, &prefix, "--max-tensors", "60"]);
    let part = |i: usize| text(&folder.join(format!("part-0000{i}-of-00002.gguf")));
    fails(&["merge-splits", &part(1), &part(1)], &["is the file to read"]);
    std::fs::remove_file(part(2)).expect("a shard");
    fails(
        &["merge-splits", &part(1), &text(&folder.join("whole.gguf"))],
        &["part-00002-of-00002.gguf", "missing"],
    );
    holds(&folder, &["part-00001-of-00002.gguf"]);
}

#[test]
fn folders_that_cannot_be_converted() {
    let folder = folder("convert-bad");
    let out = text(&folder.join("out.gguf"));
    let source: PathBuf = folder.join("model");
    std::fs::create_dir_all(&source).expect("a folder");
    let path = text(&source);
    fails(&["convert", "/no/such/folder", &out], &["/no/such/folder", "no such file"]);
    fails(&["convert", F16, &out], &["config.json"]);
    misused(&["convert", &path, &out, "--type", "Q4_K"], &["\"Q4_K\"", "known: F32, F16, BF16, Q8_0"]);
    fails(&["convert", &path, &out], &["config.json", "no such file"]);
    file(&source, "config.json", br#"{"architectures": ["FalconForCausalLM"]}"#);
    let known = ["LlamaForCausalLM", "Gemma3ForCausalLM", "BertModel"];
    fails(&["convert", &path, &out], &[&["\"FalconForCausalLM\""][..], &known].concat());
    holds(&folder, &["model"]);
}

#[cfg(unix)]
#[test]
fn what_a_killed_run_left_goes_with_the_next() {
    let folder = folder("quantize-killed");
    let out = text(&folder.join("out.gguf"));
    let mut slow = command(&["quantize", F16, &out, "q4_k_m"]).spawn().expect("a process");
    let begun = || std::fs::read_dir(&folder).expect("a folder").count() > 0;
    let start = std::time::Instant::now();
    while !begun() {
        assert!(
            start.elapsed().as_secs() < 60 && slow.try_wait().expect("a state").is_none(),
            "it never began"
        );
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    slow.kill().expect("killed");
    slow.wait().expect("gone");
    assert!(begun(), "nothing was left, so that nothing is shown");
    let other = text(&folder.join("other.gguf"));
    ok(&["quantize", F16, &other, "q8_0"]);
    holds(&folder, &["other.gguf"]);
}
