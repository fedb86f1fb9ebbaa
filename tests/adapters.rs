//! `--lora` and `weft merge`, on weft-mini.

use std::path::Path;

use serde_json::Value;
use weft_formats::adapter::{Adapter, Base, Pair};
use weft_formats::gguf::File;

use crate::support::cli::{fails, file, folder, json, misused, ok};
use crate::support::golden_model::nmse;

pub(crate) const F16: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/assets/weft-mini-f16.gguf");

/// An adapter of weft-mini on three matrices of each layer.
pub(crate) fn write_adapter(path: &Path, seed: u32, rank: usize) -> String {
    let model = File::open(Path::new(F16)).expect("weft-mini");
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let mut pairs = Vec::new();
    for t in model.tensors() {
        if !["attn_k.weight", "attn_output.weight", "ffn_gate.weight"].iter().any(|p| t.name.ends_with(p)) {
            continue;
        }
        let (cols, rows) = (t.shape[0] as usize, t.shape[1] as usize);
        let a = (0..rank * cols).map(|_| next() * 0.2).collect();
        let b = (0..rows * rank).map(|_| next() * 0.2).collect();
        pairs.push(Pair { tensor: t.name.clone(), rank, rows, cols, a, b });
    }
    let base = Base { architecture: "qwen3".to_owned(), heads: 1, kv_heads: 1 };
    Adapter { alpha: rank as f32, rslora: false, pairs }.write_gguf(path, &base, "test").expect("an adapter");
    path.to_str().expect("UTF-8").to_owned()
}

pub(crate) fn logits(folder: &Path, args: &[&str]) -> Vec<f32> {
    let ids = file(folder, "ids.json", b"[1, 5, 9, 200, 42, 7, 300, 3]");
    let out = folder.join("out.safetensors");
    let mut all = vec!["logits", "--tokens", &ids, "-o", out.to_str().expect("UTF-8")];
    all.extend(args);
    ok(&all);
    let bytes = std::fs::read(&out).expect("logits");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    file.tensor("logits")
        .expect("logits")
        .data()
        .as_chunks()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect()
}

#[test]
fn merged_is_what_runs_unmerged() {
    let folder = folder("adapters");
    let a = write_adapter(&folder.join("a.gguf"), 1, 4);
    let b = format!("{}:-0.5", write_adapter(&folder.join("b.gguf"), 2, 20));
    let merged = folder.join("merged.gguf");
    let merged = merged.to_str().expect("UTF-8");
    let report =
        json(&["merge", "-m", F16, "--lora", &a, "--lora", &b, "-o", merged, "--type", "F32", "--json"]);
    assert!(report["changed"].as_u64().expect("a count") >= 12, "{report}");
    let plain = logits(&folder, &["-m", F16]);
    let ran = logits(&folder, &["-m", F16, "--lora", &a, "--lora", &b]);
    let want = logits(&folder, &["-m", merged]);
    let (e, far) = (nmse(&ran, &want), nmse(&plain, &want));
    // The merged file keeps its cache in f32, the other in f16.
    assert!(e < 1e-6 && far > 1e-2, "NMSE {e:e}, without adapters {far:e}");

    // Each tensor as it is: what an adapter leaves alone is copied.
    ok(&["merge", "-m", F16, "--lora", &a, "-o", merged]);
    let (before, after) = (File::open(Path::new(F16)).expect("a"), File::open(Path::new(merged)).expect("b"));
    let mut same = 0;
    for (x, y) in before.tensors().iter().zip(after.tensors()) {
        assert_eq!((&x.name, &x.shape, x.ty), (&y.name, &y.shape, y.ty));
        let changed = ["attn_k.weight", "attn_output.weight", "ffn_gate.weight"];
        let equal = before.bytes(x) == after.bytes(y);
        assert_eq!(equal, !changed.iter().any(|c| x.name.ends_with(c)), "{}", x.name);
        same += usize::from(equal);
    }
    assert!(same > 10);
    let e = nmse(&logits(&folder, &["-m", merged]), &logits(&folder, &["-m", F16, "--lora", &a]));
    assert!(e < 1e-5, "NMSE {e:e}");

    let run = |args: &[&str]| -> Value {
        let mut all = vec!["run", "-n", "12", "--temp", "0", "--json", "What is 17 + 25?"];
        all.extend(args);
        json(&all)["ids"].clone()
    };
    let strong = format!("{a}:20");
    assert_ne!(run(&["-m", F16]), run(&["-m", F16, "--lora", &strong]));
    let none = format!("{a}:0");
    assert_eq!(run(&["-m", F16]), run(&["-m", F16, "--lora", &none]));
    assert_eq!(run(&["-m", merged]), run(&["-m", F16, "--lora", &a]));
}

/// An adapter whose changes are far below the steps of small types is not lost: changed tensors take a type that
/// keeps it, or, where the types must stay, move the codes that it takes.
#[test]
fn small_changes_survive_a_merge() {
    let folder = folder("adapters-small");
    let text = |name: &str| folder.join(name).display().to_string();
    // A hundredth of what the other test adds.
    let a = format!("{}:0.05", write_adapter(&folder.join("a.gguf"), 3, 4));
    let merged = text("merged.gguf");
    for ty in ["Q4_1", "Q4_K_M", "IQ4_XS", "Q8_0"] {
        let model = text(&format!("{ty}.gguf"));
        ok(&["quantize", F16, &model, ty]);
        let plain = logits(&folder, &["-m", &model]);
        let want = logits(&folder, &["-m", &model, "--lora", &a]);
        let far = nmse(&plain, &want);
        let merge = |more: &[&str]| {
            json(&[&["merge", "-m", &model, "--lora", &a, "-o", &merged, "--json"], more].concat())
        };
        let written = |report: &Value, key: &str| -> Vec<Value> {
            report["written"].as_array().expect("tensors").iter().map(|t| t[key].clone()).collect()
        };
        let report = merge(&[]);
        assert!(
            written(&report, "share").iter().all(|s| (0.9..=1.1).contains(&s.as_f64().expect("a number")))
        );
        let own = written(&report, "share_in_own_type");
        assert!(ty == "Q8_0" || own.iter().filter_map(Value::as_f64).any(|s| s < 0.3), "{ty}: {own:?}");
        assert!(written(&report, "type").iter().all(|t| t == "Q8_0" || t == "F16" || t == "F32"), "{report}");
        let e = nmse(&logits(&folder, &["-m", &merged]), &want);
        assert!(e < far / 2.0, "{ty}: NMSE {e:e}, of the adapter itself {far:e}");
        let report = merge(&["--same-types"]);
        assert_eq!(written(&report, "type"), written(&report, "from"));
        assert!(
            written(&report, "share").iter().all(|s| s.as_f64().expect("a number") > 0.9),
            "{ty}: {report}"
        );
        let (before, after) =
            (File::open(Path::new(&model)).expect("a"), File::open(Path::new(&merged)).expect("b"));
        for (x, y) in before.tensors().iter().zip(after.tensors()) {
            assert_eq!((&x.name, &x.shape, x.ty), (&y.name, &y.shape, y.ty));
        }
    }
    // A type without codes to move keeps nothing, which is refused unless it is asked for.
    let (ternary, out) = (text("ternary.gguf"), text("out.gguf"));
    ok(&["quantize", F16, &ternary, "TQ2_0"]);
    let args = ["merge", "-m", &ternary, "--lora", &a, "-o", &out, "--same-types"];
    fails(&args, &["TQ2_0 keeps 0 %", "--min-share 0.8", "merge without --same-types"]);
    assert!(!Path::new(&out).exists());
    ok(&[&args[..], &["--min-share", "0"]].concat());
    // Where every tensor gets the type that it needs, nothing would read it.
    misused(
        &["merge", "-m", &ternary, "--lora", &a, "-o", &out, "--min-share", "0.9"],
        &["--min-share", "--same-types"],
    );
}

#[test]
fn adapters_that_do_not_fit_are_refused() {
    let folder = folder("adapters-refused");
    let a = write_adapter(&folder.join("a.gguf"), 1, 4);
    let out = folder.join("out.gguf");
    let out = out.to_str().expect("UTF-8");
    let short = file(&folder, "short.gguf", &std::fs::read(&a).expect("a")[..3000]);
    fails(&["run", "--lora", &short, "Hello"], &[&short, "truncated"]);
    fails(&["run", "--lora", F16, "Hello"], &[F16, "general.type", "not adapter"]);
    fails(&["run", "--lora", "absent.gguf:2", "Hello"], &["absent.gguf: no such file"]);
    fails(&["run", "--lora", "absent.gguf:x", "Hello"], &["absent.gguf:x: no such file"]);
    fails(
        &["eval", "--limit", "1", "--lora", folder.to_str().expect("UTF-8")],
        &["adapter_model.safetensors"],
    );
    misused(&["run", "--lora", &format!("{a}:nan"), "Hello"], &["\"nan\" behind the file is no strength"]);
    misused(&["merge", "--lora", &format!("{a}:"), "-o", out], &["is no strength", "a.gguf:0.5"]);
    misused(&["merge", "-o", out], &["--lora"]);
    let nowhere = folder.join("nowhere/out.gguf");
    fails(
        &["merge", "--lora", &a, "-o", nowhere.to_str().expect("UTF-8")],
        &["out.gguf", "folder does not exist"],
    );
    // A socket stands for a device, which the merged file must not replace.
    #[cfg(unix)]
    {
        let socket = folder.join("socket");
        std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        fails(&["merge", "--lora", &a, "-o", socket.to_str().expect("UTF-8")], &["a pipe or a device"]);
        assert!(!socket.is_file());
    }
    fails(&["merge", "-m", F16, "--lora", &a, "-o", F16], &["is the file to read"]);
    misused(&["merge", "-m", F16, "--lora", &a, "-o", out, "--type", "Q9"], &["Q9", "Q4_K_M"]);
    let base = Base { architecture: "qwen3".to_owned(), heads: 1, kv_heads: 1 };
    let mut wide = Adapter::open(Path::new(&a), &base).expect("an adapter");
    // A strength beyond the numbers there are: an answer of nothing, or a file that none could use.
    let (strong, path) = (Adapter { alpha: 100.0, ..wide.clone() }, folder.join("strong.gguf"));
    strong.write_gguf(&path, &base, "test").expect("an adapter");
    let strong = format!("{}:3e38", path.to_str().expect("UTF-8"));
    fails(&["run", "--lora", &strong, "Hello"], &["beyond what 32 bits hold"]);
    fails(&["merge", "--lora", &strong, "-o", out], &["with the adapters added", "less strength"]);
    assert!(!Path::new(out).exists());
    let p = &mut wide.pairs[1];
    (p.rows, p.b) = (p.rows + 1, [p.b.clone(), vec![0.0; p.rank]].concat());
    let (name, path) = (format!("{}.lora_b", p.tensor), folder.join("wide.gguf"));
    wide.write_gguf(&path, &base, "test").expect("an adapter");
    let path = path.to_str().expect("UTF-8");
    fails(&["run", "--lora", path, "Hello"], &[path, &name, "another model"]);
    fails(&["merge", "-m", F16, "--lora", path, "-o", out], &[path, &name, "another model"]);
    assert!(!Path::new(out).exists());
}
