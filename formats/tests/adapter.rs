//! Adapters: round trips through both formats, the order of Llama's rows, and what is refused.
//! `tests/reference/adapter_check.py` loads the same files with PEFT and llama.cpp.

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use weft_formats::adapter::{Adapter, Base, Pair};
use weft_formats::gguf::{File, Metadata, Value, Writer};
use weft_formats::quant::Type;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("weft-adapter-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn base(architecture: &str) -> Base {
    Base { architecture: architecture.to_owned(), heads: 2, kv_heads: 1 }
}

fn pair(tensor: &str, rank: usize, rows: usize, cols: usize) -> Pair {
    let values = |n: usize, step: f32| (0..n).map(|i| (i as f32 * step).sin()).collect();
    Pair {
        tensor: tensor.to_owned(),
        rank,
        rows,
        cols,
        a: values(rank * cols, 0.7),
        b: values(rows * rank, 1.3),
    }
}

fn adapter() -> Adapter {
    let mut pairs = Vec::new();
    for layer in [0, 2, 10] {
        for (part, rows, cols) in
            [("attn_k", 4, 6), ("attn_output", 6, 8), ("attn_q", 8, 6), ("ffn_down", 6, 10)]
        {
            pairs.push(pair(&format!("blk.{layer}.{part}.weight"), 3, rows, cols));
        }
    }
    Adapter { alpha: 6.0, rslora: false, pairs }
}

fn gguf_of(keys: &[(&str, Value)], tensors: &[(&str, [u64; 2])], path: &Path) {
    let mut metadata = Metadata::new();
    keys.iter().for_each(|(k, v)| metadata.set(*k, v.clone()));
    let table = tensors.iter().map(|(name, shape)| (*name, shape.to_vec(), Type::F32));
    let writer = Writer::new(&metadata, table).unwrap();
    let data: Vec<Vec<u8>> = tensors.iter().map(|(_, s)| vec![0; (s[0] * s[1] * 4) as usize]).collect();
    std::fs::write(path, writer.to_bytes(&data).unwrap()).unwrap();
}

fn lora_keys(architecture: &str) -> Vec<(&'static str, Value)> {
    vec![
        ("general.architecture", Value::Str(architecture.to_owned())),
        ("general.type", Value::Str("adapter".to_owned())),
        ("adapter.type", Value::Str("lora".to_owned())),
        ("adapter.lora.alpha", Value::F32(6.0)),
    ]
}

#[test]
fn both_formats_give_back_what_was_written() {
    let folder = Folder::new("round");
    for architecture in ["llama", "qwen3"] {
        let (base, want) = (base(architecture), adapter());
        want.write_gguf(&folder.at("a.gguf"), &base, "test").unwrap();
        assert_eq!(Adapter::open(&folder.at("a.gguf"), &base).unwrap(), want);
        want.write_peft(&folder.0, &base, "model").unwrap();
        assert_eq!(Adapter::open(&folder.0, &base).unwrap(), want);
        assert_eq!(Adapter::open(&folder.at("adapter_model.safetensors"), &base).unwrap(), want);
    }
    let left: Vec<_> = std::fs::read_dir(&folder.0).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn gguf_has_llama_cpps_names_and_shapes() {
    let folder = Folder::new("names");
    adapter().write_gguf(&folder.at("a.gguf"), &base("qwen3"), "test").unwrap();
    let file = File::open(&folder.at("a.gguf")).unwrap();
    assert_eq!(file.metadata().str("general.type"), Some("adapter"));
    assert_eq!(file.metadata().str("adapter.type"), Some("lora"));
    assert_eq!(file.metadata().f32("adapter.lora.alpha"), Some(6.0));
    assert_eq!(file.metadata().str("general.architecture"), Some("qwen3"));
    assert_eq!(file.tensor("blk.2.attn_q.weight.lora_a").unwrap().shape, [6, 3]);
    assert_eq!(file.tensor("blk.2.attn_q.weight.lora_b").unwrap().shape, [3, 8]);
}

/// Hugging Face has a head's rows as two halves, GGUF's Llama as pairs: row 2i + j there is row i + j * half.
#[test]
fn llamas_queries_and_keys_change_their_order() {
    let folder = Folder::new("order");
    let q = Pair { b: (0..8).map(|r| r as f32).collect(), ..pair("blk.0.attn_q.weight", 1, 8, 6) };
    let v = Pair { b: (0..8).map(|r| r as f32).collect(), ..pair("blk.0.attn_v.weight", 1, 8, 6) };
    let adapter = Adapter { alpha: 1.0, rslora: true, pairs: vec![q, v] };
    adapter.write_peft(&folder.0, &base("llama"), "model").unwrap();
    let bytes = std::fs::read(folder.at("adapter_model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let rows = |name: &str| -> Vec<f32> {
        let t =
            file.tensor(&format!("base_model.model.model.layers.0.self_attn.{name}.lora_B.weight")).unwrap();
        assert_eq!(t.shape(), [8, 1]);
        t.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    assert_eq!(rows("q_proj"), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    assert_eq!(rows("v_proj"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    let config: Json =
        serde_json::from_slice(&std::fs::read(folder.at("adapter_config.json")).unwrap()).unwrap();
    assert_eq!(config["target_modules"], json!(["q_proj", "v_proj"]));
    assert_eq!((&config["r"], &config["lora_alpha"]), (&json!(1), &json!(1)));
    assert_eq!((&config["use_rslora"], &config["peft_type"]), (&json!(true), &json!("LORA")));
}

#[test]
fn a_scale_by_the_root_of_the_rank_survives_gguf() {
    let folder = Folder::new("rslora");
    let want = Adapter { alpha: 8.0, rslora: true, pairs: vec![pair("blk.0.attn_q.weight", 4, 8, 6)] };
    assert_eq!(want.scale(&want.pairs[0]), 4.0);
    want.write_gguf(&folder.at("a.gguf"), &base("qwen3"), "test").unwrap();
    let got = Adapter::open(&folder.at("a.gguf"), &base("qwen3")).unwrap();
    assert_eq!((got.scale(&got.pairs[0]), got.rslora), (4.0, false));
}

#[test]
fn a_product_is_added_row_by_row() {
    let p = pair("blk.0.attn_q.weight", 3, 8, 6);
    let mut rows = vec![1.0; 4 * 6];
    p.add_to(0.5, 2, &mut rows);
    for r in 0..4 {
        for c in 0..6 {
            let product: f64 =
                (0..3).map(|k| f64::from(p.b[(r + 2) * 3 + k]) * f64::from(p.a[k * 6 + c])).sum();
            let want = 1.0 + 0.5 * product;
            assert!((f64::from(rows[r * 6 + c]) - want).abs() < 1e-6);
        }
    }
}

/// The error of opening `path` as an adapter of a qwen3 model, in one line.
fn refusal(path: &Path) -> String {
    let line = Adapter::open(path, &base("qwen3")).unwrap_err().to_string();
    assert!(!line.contains('\n') && line.contains(path.file_name().unwrap().to_str().unwrap()), "{line}");
    line
}

#[test]
fn gguf_files_that_are_no_adapter_are_refused() {
    let folder = Folder::new("refused");
    let path = folder.at("a.gguf");
    assert!(refusal(&path).ends_with("no such file"));
    gguf_of(&[("general.architecture", Value::Str("qwen3".into()))], &[("x", [2, 2])], &path);
    assert!(refusal(&path).contains("general.type is absent, not adapter"));
    gguf_of(&lora_keys("llama"), &[("blk.0.attn_q.weight.lora_a", [2, 2])], &path);
    assert!(refusal(&path).contains("architecture \"llama\", the model is \"qwen3\""));
    let keys = lora_keys("qwen3");
    gguf_of(&keys, &[], &path);
    assert!(refusal(&path).contains("holds no adapter tensors"));
    gguf_of(&keys, &[("blk.0.attn_q.weight.lora_a", [6, 3])], &path);
    assert!(refusal(&path).contains("\"blk.0.attn_q.weight.lora_b\" is missing"));
    gguf_of(&keys, &[("blk.0.attn_q.weight", [6, 3])], &path);
    assert!(refusal(&path).contains("\"blk.0.attn_q.weight\" is neither"));
    let halves = [("blk.0.attn_q.weight.lora_a", [6, 3]), ("blk.0.attn_q.weight.lora_b", [2, 8])];
    gguf_of(&keys, &halves, &path);
    assert!(refusal(&path).contains("lora_b\" has the rank 2, its .lora_a 3"));
    let embedding = [("token_embd.weight.lora_a", [3, 6]), ("token_embd.weight.lora_b", [3, 8])];
    gguf_of(&keys, &embedding, &path);
    assert!(refusal(&path).contains("adapts the embedding, which is not supported"));
    for key in ["adapter.alora.invocation_tokens", "adapter.lora.something"] {
        let mut more = keys.clone();
        more.push((key, Value::U32(1)));
        gguf_of(&more, &halves, &path);
        assert!(refusal(&path).contains(key));
    }
    gguf_of(&keys[..3], &halves, &path);
    assert!(refusal(&path).contains("adapter.lora.alpha is absent"));
}

/// What becomes of a PEFT folder whose configuration says otherwise at one key.
fn changed(folder: &Folder, good: &Json, key: &str, value: Json) -> Result<Adapter, String> {
    let mut config = good.clone();
    config[key] = value;
    std::fs::write(folder.at("adapter_config.json"), config.to_string()).unwrap();
    Adapter::open(&folder.0, &base("qwen3")).map_err(|e| e.to_string())
}

#[test]
fn peft_folders_that_are_broken_are_refused() {
    let folder = Folder::new("peft");
    let (weights, config) = (folder.at("adapter_model.safetensors"), folder.at("adapter_config.json"));
    adapter().write_peft(&folder.0, &base("qwen3"), "model").unwrap();
    let good: Json = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    let with = |key: &str, value: Json| changed(&folder, &good, key, value).unwrap_err();
    assert!(with("use_dora", json!(true)).contains("use_dora true is not supported"));
    assert!(with("bias", json!("all")).contains("bias \"all\""));
    assert!(with("peft_type", json!("IA3")).contains("peft_type \"IA3\""));
    assert!(with("alpha_pattern", json!({"q_proj": 3})).contains("alpha_pattern"));
    // Keys of adapters that are no plain LoRA, known to us by name or not.
    for (key, value) in [
        ("init_lora_weights", json!("pissa")),
        ("init_lora_weights", json!("pissa_niter_16")),
        ("init_lora_weights", json!("olora")),
        ("init_lora_weights", json!("loftq")),
        ("init_lora_weights", json!(3)),
        ("layer_replication", json!([[0, 1], [0, 1]])),
        ("alora_invocation_tokens", json!([1, 2])),
        ("trainable_token_indices", json!([7])),
        ("target_parameters", json!(["mlp.experts"])),
        ("modules_to_save", json!(["lm_head"])),
        ("corda_config", json!({"a": 1})),
        ("use_something_new", json!(true)),
    ] {
        let line = with(key, value);
        assert!(line.contains(key) && line.contains("not supported") && !line.contains('\n'), "{line}");
    }
    for (key, value) in [("init_lora_weights", json!("gaussian")), ("use_something_new", json!(false))] {
        changed(&folder, &good, key, value).unwrap();
    }
    // The strength is lora_alpha by a rank that is not there.
    let line = with("r", json!(64));
    assert!(line.contains("has the rank 3, where r and rank_pattern say 64"), "{line}");
    assert!(with("lora_alpha", json!("x")).contains("lora_alpha is \"x\", not a number"));
    std::fs::write(&config, "[]").unwrap();
    assert!(Adapter::open(&folder.0, &base("qwen3")).unwrap_err().to_string().contains("not an object"));
    std::fs::remove_file(&config).unwrap();
    assert!(
        Adapter::open(&folder.0, &base("qwen3")).unwrap_err().to_string().contains("adapter_config.json")
    );
    std::fs::write(&config, good.to_string()).unwrap();
    let bytes = std::fs::read(&weights).unwrap();
    for cut in [0, 7, 100, bytes.len() - 1] {
        std::fs::write(&weights, &bytes[..cut]).unwrap();
        assert!(refusal(&weights).contains("not a safetensors file"), "cut at {cut}");
    }
    let mut nan = bytes.clone();
    let end = nan.len();
    nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&weights, nan).unwrap();
    assert!(refusal(&weights).contains("holds NaN"));
}

/// PEFT makes adapters where the configuration says and of the ranks that it says; other tensors it leaves out.
#[test]
fn a_configuration_and_its_tensors_have_to_agree() {
    let folder = Folder::new("agree");
    let config = folder.at("adapter_config.json");
    adapter().write_peft(&folder.0, &base("qwen3"), "model").unwrap();
    let good: Json = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    let with = |key: &str, value: Json| changed(&folder, &good, key, value);
    let every = ["k_proj", "o_proj", "q_proj", "down_proj"];
    for (key, value) in [
        ("target_modules", json!("all-linear")),
        ("target_modules", Json::Null),
        ("target_modules", json!(r".*\.(self_attn|mlp)\.(k|o|q|down)_proj")),
        // Python's, which is not read here.
        ("target_modules", json!(r"^(?!.*visual).*proj")),
        ("exclude_modules", json!(["lm_head", "v_proj", "other_q_proj"])),
        ("exclude_modules", json!([])),
        ("layers_to_transform", json!([0, 1, 2, 10])),
        ("layers_to_transform", json!([])),
        ("rank_pattern", json!({"v_proj": 64})),
        ("rank_pattern", json!({"(self_attn|mlp)\\.[kqod].*": 3})),
        ("lora_alpha", json!(-2.5)),
    ] {
        assert!(with(key, value.clone()).is_ok(), "{key} {value}");
    }
    for (key, value, part) in [
        ("target_modules", json!(["q_proj", "v_proj"]), "target_modules"),
        ("target_modules", json!(r".*\.self_attn\.[kqo]_proj"), "mlp.down_proj"),
        ("target_modules", json!("q_proj"), "PEFT would leave it out"),
        ("target_modules", json!(5), "target_modules is 5, not names of modules"),
        ("target_modules", json!([1]), "target_modules is [1], not names of modules"),
        ("exclude_modules", json!(["self_attn.k_proj"]), "exclude_modules"),
        ("layers_to_transform", json!([0, 2]), "layers.10."),
        ("layers_to_transform", json!("0"), "layers_to_transform is \"0\", not numbers"),
        ("rank_pattern", json!({"q_proj": 64}), "has the rank 3, where r and rank_pattern say 64"),
        ("rank_pattern", json!([3]), "rank_pattern is [3]"),
        ("r", json!("3"), "r is \"3\", not a whole number above 0"),
        ("r", json!(3.5), "r is 3.5"),
        ("r", json!(0), "r is 0"),
        ("peft_type", json!(5), "peft_type 5 is not supported"),
        ("lora_alpha", json!(0), "lora_alpha is 0, not a strength that leaves anything"),
        ("lora_alpha", json!(1e39), "not a number that 32 bits hold"),
    ] {
        let line = with(key, value.clone()).expect_err(key);
        assert!(line.contains(part) && !line.contains('\n'), "{key} {value}: {line}");
    }
    assert_eq!(good["target_modules"], json!(every));
    // A rank of 64 that r alone speaks of, where the tensors have the exception's.
    let mut changed = good.clone();
    changed["r"] = json!(64);
    changed["rank_pattern"] = json!({"q_proj": 3});
    std::fs::write(&config, changed.to_string()).unwrap();
    let line = Adapter::open(&folder.0, &base("qwen3")).unwrap_err().to_string();
    assert!(line.contains("has the rank 3, where r and rank_pattern say 64"), "{line}");
    std::fs::rename(folder.at("adapter_model.safetensors"), folder.at("adapter_model.bin")).unwrap();
    let line = Adapter::open(&folder.0, &base("qwen3")).unwrap_err().to_string();
    assert!(line.contains("adapter_model.bin: the pickled form"), "{line}");
}

#[test]
fn an_adapter_of_another_model_is_told_with_its_tensor() {
    let shape = |rows: usize| {
        move |name: &str| match name {
            _ if name.contains("blk.10.") => None,
            _ if name.contains("attn_k") => Some((4, 6)),
            _ if name.contains("attn_output") => Some((6, 8)),
            _ if name.contains("attn_q") => Some((rows, 6)),
            _ => Some((6, 10)),
        }
    };
    let line = adapter().check("a.gguf", &shape(8)).unwrap_err().to_string();
    assert!(line.contains("\"blk.10.attn_k.weight.lora_a\" has no matrix in this model"), "{line}");
    let line = adapter().check("a.gguf", &shape(12)).unwrap_err().to_string();
    assert!(
        line.contains("\"blk.0.attn_q.weight.lora_b\" has 8 rows where the model's matrix has 12"),
        "{line}"
    );
}

/// A head's adapter has PEFT's and GGUF's names; that a model cannot take it while it runs is said as such.
#[test]
fn an_adapter_of_the_head_is_read_and_told_apart() {
    let folder = Folder::new("head");
    let want = Adapter { alpha: 2.0, rslora: false, pairs: vec![pair("output.weight", 2, 9, 6)] };
    want.write_peft(&folder.0, &base("llama"), "model").unwrap();
    let bytes = std::fs::read(folder.at("adapter_model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert!(file.tensor("base_model.model.lm_head.lora_A.weight").is_ok());
    assert_eq!(Adapter::open(&folder.0, &base("llama")).unwrap(), want);
    let line = want.check("a.gguf", &|_| None).unwrap_err().to_string();
    assert!(line.contains("output.weight") && line.contains("not supported while a model runs"), "{line}");
}

/// Names that other ways of saving a model give to the same matrix, and two names for one.
#[test]
fn prefixes_of_a_body_are_all_known() {
    let folder = Folder::new("prefixes");
    let want = Adapter { alpha: 2.0, rslora: false, pairs: vec![pair("blk.1.ffn_up.weight", 2, 8, 6)] };
    want.write_peft(&folder.0, &base("gemma3"), "model").unwrap();
    let weights = folder.at("adapter_model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let save = |prefixes: &[&str]| {
        let views = prefixes.iter().flat_map(|p| {
            file.tensors().into_iter().map(move |(n, v)| {
                (n.replace("base_model.model.model.", &format!("base_model.model.{p}")), v)
            })
        });
        safetensors::serialize_to_file(views.collect::<Vec<_>>(), None, &weights).unwrap();
    };
    for prefix in ["", "model.language_model.", "language_model.model."] {
        save(&[prefix]);
        assert_eq!(Adapter::open(&folder.0, &base("gemma3")).unwrap(), want, "{prefix}");
    }
    save(&["", "model."]);
    let line = Adapter::open(&folder.0, &base("gemma3")).unwrap_err().to_string();
    assert!(line.contains("means the same matrix as"), "{line}");
}

#[cfg(unix)]
#[test]
fn files_that_are_none_are_refused_before_they_are_read() {
    let folder = Folder::new("device");
    adapter().write_peft(&folder.0, &base("qwen3"), "model").unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        let kept = std::fs::read(folder.at(name)).unwrap();
        std::fs::remove_file(folder.at(name)).unwrap();
        std::os::unix::fs::symlink("/dev/zero", folder.at(name)).unwrap();
        let line = Adapter::open(&folder.0, &base("qwen3")).unwrap_err().to_string();
        assert!(line.contains(name) && line.contains("not a regular file"), "{line}");
        std::fs::remove_file(folder.at(name)).unwrap();
        std::fs::write(folder.at(name), kept).unwrap();
    }
}
