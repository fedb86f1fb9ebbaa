//! Hugging Face folders: what a small one becomes, and what is refused. That the logits stay those of
//! transformers is checked by tests/reference/convert_check.py.

use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::{Value as Json, json};
use weft_formats::gguf::Value;
use weft_formats::hf::{Conversion, Options};
use weft_formats::quant::Type;
use weft_formats::tokenizer::Tokenizer;

const WIDTH: usize = 8;
const HEAD: usize = 4;
const FF: usize = 6;
const VOCAB: usize = 270;
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("hf").join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn write(folder: &Path, name: &str, value: &Json) {
    std::fs::write(folder.join(name), value.to_string()).unwrap();
}

fn config(class: &str) -> Json {
    json!({
        "architectures": [class], "hidden_size": WIDTH, "intermediate_size": FF, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": HEAD, "vocab_size": VOCAB,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 5000.0, "hidden_act": "silu",
        "tie_word_embeddings": false, "bos_token_id": 256, "eos_token_id": [257, 258],
    })
}

/// The 256 characters that stand for bytes in byte-level BPE (GPT-2's `bytes_to_unicode`).
fn byte_characters() -> Vec<char> {
    let printable = |b: u32| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let mut extra = 256..;
    (0..256).map(|b| char::from_u32(if printable(b) { b } else { extra.next().unwrap() }).unwrap()).collect()
}

fn tokenizer() -> Json {
    let mut vocab = serde_json::Map::new();
    for (i, c) in byte_characters().iter().enumerate() {
        vocab.insert(c.to_string(), json!(i));
    }
    vocab.insert("th".into(), json!(259));
    vocab.insert("the".into(), json!(260));
    let added =
        |id: u32, content: &str, special: bool| json!({"id": id, "content": content, "special": special});
    json!({
        "added_tokens": [
            added(256, "<|endoftext|>", true), added(257, "<|im_end|>", true), added(258, "<|eot_id|>", true),
            added(261, "<think>", false),
        ],
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]},
        "post_processor": null,
        "model": {"type": "BPE", "vocab": vocab, "merges": ["t h", ["th", "e"]]},
    })
}

/// Every tensor of one layer, with its number in the list and its index in each value.
fn tensors() -> Vec<(String, Vec<usize>)> {
    let layer = |name: &str, shape: &[usize]| (format!("model.layers.0.{name}.weight"), shape.to_vec());
    vec![
        ("model.embed_tokens.weight".into(), vec![VOCAB, WIDTH]),
        ("model.norm.weight".into(), vec![WIDTH]),
        ("lm_head.weight".into(), vec![VOCAB, WIDTH]),
        layer("input_layernorm", &[WIDTH]),
        layer("self_attn.q_proj", &[2 * HEAD, WIDTH]),
        layer("self_attn.k_proj", &[HEAD, WIDTH]),
        layer("self_attn.v_proj", &[HEAD, WIDTH]),
        layer("self_attn.o_proj", &[WIDTH, 2 * HEAD]),
        layer("post_attention_layernorm", &[WIDTH]),
        layer("mlp.gate_proj", &[FF, WIDTH]),
        layer("mlp.up_proj", &[FF, WIDTH]),
        layer("mlp.down_proj", &[WIDTH, FF]),
    ]
}

fn values(number: usize, shape: &[usize]) -> Vec<f32> {
    (0..shape.iter().product::<usize>()).map(|i| number as f32 + i as f32 / 4096.0).collect()
}

fn save(path: &Path, tensors: &[(usize, String, Vec<usize>)]) {
    let data: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(n, _, s)| values(*n, s).iter().flat_map(|v| v.to_le_bytes()).collect())
        .collect();
    let views = tensors
        .iter()
        .zip(&data)
        .map(|((_, name, shape), d)| (name.clone(), TensorView::new(Dtype::F32, shape.clone(), d).unwrap()));
    serialize_to_file(views, None, path).unwrap();
}

fn numbered() -> Vec<(usize, String, Vec<usize>)> {
    tensors().into_iter().enumerate().map(|(i, (n, s))| (i, n, s)).collect()
}

/// A whole folder of this class.
fn whole(name: &str, class: &str) -> PathBuf {
    let path = folder(name);
    write(&path, "config.json", &config(class));
    write(&path, "tokenizer.json", &tokenizer());
    save(&path.join("model.safetensors"), &numbered());
    path
}

fn open(path: &Path) -> Result<Conversion, String> {
    Conversion::open(path, &Options::default()).map_err(|e| e.to_string())
}

fn floats(c: &Conversion, name: &str) -> (Vec<u64>, Vec<f32>) {
    let t = c.tensors().iter().find(|t| t.name == name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(t.ty, Type::F32);
    let mut bytes = Vec::new();
    c.bytes(t, &mut bytes).unwrap();
    (t.shape.clone(), bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
}

#[test]
fn keys_and_tensors_of_a_qwen2() {
    let path = whole("qwen2", "Qwen2ForCausalLM");
    write(
        &path,
        "generation_config.json",
        &json!({"eos_token_id": [257, 258], "temperature": 0.6, "top_k": 20}),
    );
    std::fs::write(path.join("chat_template.jinja"), "{{ messages }}").unwrap();
    let c = open(&path).unwrap();
    let m = c.metadata();
    assert_eq!(m.str("general.architecture"), Some("qwen2"));
    assert_eq!(m.str("general.name"), Some("qwen2"));
    let number = |key: &str| m.u64(&format!("qwen2.{key}"));
    assert_eq!(number("block_count"), Some(1));
    assert_eq!((number("attention.head_count"), number("attention.head_count_kv")), (Some(2), Some(1)));
    assert_eq!((number("attention.key_length"), number("context_length")), (Some(4), Some(64)));
    assert_eq!((m.f32("qwen2.rope.freq_base"), m.f32("general.sampling.temp")), (Some(5000.0), Some(0.6)));
    assert_eq!(m.str("tokenizer.chat_template"), Some("{{ messages }}"));
    assert_eq!(m.str("tokenizer.ggml.pre"), Some("qwen2"));
    assert_eq!(m.strs("tokenizer.ggml.merges").unwrap(), ["t h", "th e"]);
    let id = |name: &str| m.u64(&format!("tokenizer.ggml.{name}_token_id"));
    assert_eq!((id("bos"), id("eos"), id("eot"), id("unknown")), (Some(256), Some(257), Some(258), None));
    let tokens = m.strs("tokenizer.ggml.tokens").unwrap();
    assert_eq!((tokens.len(), &*tokens[260], &*tokens[262]), (VOCAB, "the", "[PAD262]"));
    let Some(Value::Array(weft_formats::gguf::Array::I32(kinds))) = m.get("tokenizer.ggml.token_type") else {
        panic!("no types")
    };
    assert_eq!(kinds[255..263], [1, 3, 3, 3, 1, 1, 4, 5]);
    let t = Tokenizer::from_metadata(m).unwrap();
    assert_eq!(t.encode("the th", false), [260, 32, 259]);

    assert_eq!(floats(&c, "token_embd.weight"), (vec![8, 270], values(0, &[VOCAB, WIDTH])));
    assert_eq!(floats(&c, "blk.0.attn_q.weight"), (vec![8, 8], values(4, &[2 * HEAD, WIDTH])));
    assert_eq!(floats(&c, "blk.0.ffn_down.weight"), (vec![6, 8], values(11, &[WIDTH, FF])));
    assert_eq!(c.tensors().len(), 12);
    // Matrices become the type that is asked for, vectors do not; a row of 8 is no block of Q8_0.
    for (asked, matrix) in [(Type::BF16, Type::BF16), (Type::Q8_0, Type::F16)] {
        let c = Conversion::open(&path, &Options { ty: Some(asked), pre: None }).unwrap();
        let ty = |name: &str| c.tensors().iter().find(|t| t.name == name).unwrap().ty;
        assert_eq!((ty("output.weight"), ty("output_norm.weight")), (matrix, Type::F32));
    }
}

#[test]
fn llama_rotates_pairs_and_scales_frequencies() {
    let path = whole("llama", "LlamaForCausalLM");
    let mut all = config("LlamaForCausalLM");
    all["rope_scaling"] = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64});
    write(&path, "config.json", &all);
    let c = open(&path).unwrap();
    // Rows 0 1 2 3 of a head, halves (0, 1) and (2, 3), become the pairs (0, 2), (1, 3).
    let source = values(4, &[2 * HEAD, WIDTH]);
    let rows = |order: &[usize]| {
        order.iter().flat_map(|r| source[r * WIDTH..][..WIDTH].to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(floats(&c, "blk.0.attn_q.weight").1, rows(&[0, 2, 1, 3, 4, 6, 5, 7]));
    assert_eq!(floats(&c, "blk.0.attn_v.weight").1, values(6, &[HEAD, WIDTH]));
    // Waves of 2π and of 2π √5000 = 444 positions: the first is below 64 / 4, the second above 64.
    assert_eq!(floats(&c, "rope_freqs.weight"), (vec![2], vec![1.0, 8.0]));
    assert_eq!(c.metadata().u64("llama.rope.dimension_count"), Some(4));
    assert_eq!(c.metadata().get("llama.rope.scaling.type"), None);
}

#[test]
fn shards_and_tied_heads() {
    let path = whole("shards", "Qwen3ForCausalLM");
    std::fs::remove_file(path.join("model.safetensors")).unwrap();
    let (a, b) = numbered().into_iter().partition::<Vec<_>, _>(|t| t.0 % 2 == 0);
    save(&path.join("a.safetensors"), &a);
    save(&path.join("b.safetensors"), &b);
    let index = |file: &str| json!({"weight_map": {"one": "a.safetensors", "two": file}});
    write(&path, "model.safetensors.index.json", &index("b.safetensors"));
    assert_eq!(open(&path).unwrap().tensors().len(), 12);
    let mut tied = config("Qwen3ForCausalLM");
    tied["tie_word_embeddings"] = json!(true);
    write(&path, "config.json", &tied);
    assert!(!open(&path).unwrap().tensors().iter().any(|t| t.name == "output.weight"));
    for (file, part) in [("../b.safetensors", "weight_map"), ("gone.safetensors", "no such file")] {
        write(&path, "model.safetensors.index.json", &index(file));
        assert!(open(&path).unwrap_err().contains(part), "{file}");
    }
    write(&path, "model.safetensors.index.json", &json!({"weight_map": {"x": "a.safetensors"}}));
    assert!(open(&path).unwrap_err().contains("is missing"));
}

#[test]
fn sentencepiece_in_tokenizer_json() {
    let path = whole("spm", "LlamaForCausalLM");
    let mut vocab = serde_json::Map::new();
    for (i, t) in ["<unk>", "<s>", "</s>"].iter().enumerate() {
        vocab.insert((*t).into(), json!(i));
    }
    (0..256).for_each(|b| drop(vocab.insert(format!("<0x{b:02X}>"), json!(3 + b))));
    for (i, t) in ["▁", "a", "b", "ab", "▁ab", "▁a"].iter().enumerate() {
        vocab.insert((*t).into(), json!(259 + i));
    }
    let special = |id: u32, content: &str| json!({"id": id, "content": content, "special": true});
    let mut t = json!({
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null,
        "post_processor": {"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]},
        "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "vocab": vocab,
            "merges": ["a b", "▁ ab", "▁ a"]},
    });
    write(&path, "tokenizer.json", &t);
    write(&path, "tokenizer_config.json", &json!({"bos_token": {"content": "<s>"}, "eos_token": "</s>"}));
    let c = open(&path).unwrap();
    let m = c.metadata();
    assert_eq!(
        (m.str("tokenizer.ggml.model"), m.bool("tokenizer.ggml.add_bos_token")),
        (Some("llama"), Some(true))
    );
    assert_eq!(m.u64("tokenizer.ggml.bos_token_id"), Some(1));
    let tokenizer = Tokenizer::from_metadata(m).unwrap();
    assert_eq!(tokenizer.encode_prompt("ab a é"), [1, 263, 264, 259, 3 + 0xc3, 3 + 0xa9]);
    t["model"]["type"] = json!("Unigram");
    write(&path, "tokenizer.json", &t);
    assert!(open(&path).unwrap_err().contains("\"Unigram\""));
}

#[test]
fn what_is_refused() {
    let fails = |name: &str, change: &dyn Fn(&Path), parts: &[&str]| {
        let path = whole(name, "LlamaForCausalLM");
        change(&path);
        let line = open(&path).unwrap_err();
        assert!(!line.contains('\n'), "{line}");
        for part in parts {
            assert!(line.contains(part), "{name}: no {part:?} in {line:?}");
        }
    };
    let with = |key: &str, value: Json| {
        let key = key.to_owned();
        move |path: &Path| {
            let mut c = config("LlamaForCausalLM");
            c[&key] = value.clone();
            write(path, "config.json", &c);
        }
    };
    let remove = |file: &'static str| move |path: &Path| std::fs::remove_file(path.join(file)).unwrap();
    let text = |file: &'static str, text: &'static str| {
        move |path: &Path| std::fs::write(path.join(file), text).unwrap()
    };
    let architectures = json!(["MambaForCausalLM"]);
    fails(
        "arch",
        &with("architectures", architectures),
        &["MambaForCausalLM", "LlamaForCausalLM", "Qwen3ForCausalLM"],
    );
    fails("no-arch", &with("architectures", json!(null)), &["architectures", "missing"]);
    fails("no-width", &with("hidden_size", json!(null)), &["hidden_size", "missing"]);
    fails("negative", &with("num_hidden_layers", json!(-3)), &["num_hidden_layers", "-3"]);
    fails("text", &with("num_attention_heads", json!("two")), &["num_attention_heads", "two"]);
    fails("odd", &with("head_dim", json!(5)), &["head_dim", "even"]);
    fails("heads", &with("num_key_value_heads", json!(3)), &["num_key_value_heads"]);
    fails("layers", &with("num_hidden_layers", json!(2)), &["model.layers.1.", "missing"]);
    fails("layer-count", &with("num_hidden_layers", json!(2_000_000_000)), &["num_hidden_layers"]);
    fails("vocabulary", &with("vocab_size", json!(2_000_000_000)), &["embed_tokens", "shape"]);
    fails("gelu", &with("hidden_act", json!("gelu")), &["gelu"]);
    fails("quantised", &with("quantization_config", json!({})), &["quantised"]);
    fails("rope", &with("rope_scaling", json!({"rope_type": "longrope"})), &["longrope"]);
    fails("rope-factor", &with("rope_scaling", json!({"rope_type": "linear"})), &["factor", "missing"]);
    fails("shape", &with("intermediate_size", json!(7)), &["mlp.gate_proj", "[6, 8]", "[7, 8]"]);
    fails("config", &remove("config.json"), &["config.json", "no such file"]);
    fails("weights", &remove("model.safetensors"), &["no model.safetensors"]);
    fails("tokenizer", &remove("tokenizer.json"), &["tokenizer.json", "no such file"]);
    let only_model = |path: &Path| {
        std::fs::rename(path.join("tokenizer.json"), path.join("tokenizer.model")).unwrap();
    };
    fails("model", &only_model, &["tokenizer.model", "tokenizer.json"]);
    fails("json", &text("config.json", "{\"a\": "), &["config.json", "not JSON"]);
    fails("list", &text("config.json", "[]"), &["config.json", "not JSON"]);
    fails("deep", &|p| std::fs::write(p.join("config.json"), "[".repeat(100_000)).unwrap(), &["not JSON"]);
    for (name, bytes) in
        [("none", ""), ("short", "abc"), ("long", "\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}{}")]
    {
        fails(name, &text("model.safetensors", bytes), &["model.safetensors", "not a safetensors file"]);
    }
    let extra = |path: &Path| {
        let mut all = numbered();
        all.push((12, "model.layers.0.mlp.gate_proj.bias".into(), vec![FF]));
        save(&path.join("model.safetensors"), &all);
    };
    fails("extra", &extra, &["mlp.gate_proj.bias", "not supported"]);
    let pattern = |path: &Path| {
        let mut t = tokenizer();
        t["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!("\\w+|.");
        write(path, "tokenizer.json", &t);
    };
    fails("pattern", &pattern, &["\\w+|.", "smollm", "--pre"]);
    let id = |path: &Path| {
        let mut t = tokenizer();
        t["model"]["vocab"]["zzz"] = json!(9999);
        write(path, "tokenizer.json", &t);
    };
    fails("id", &id, &["\"zzz\"", "270"]);
    for (name, merge) in
        [("merge", json!("ab")), ("merge-three", json!(["a", "b", "c"])), ("merge-one", json!(1))]
    {
        let change = |path: &Path| {
            let mut t = tokenizer();
            t["model"]["merges"] = json!([merge]);
            write(path, "tokenizer.json", &t);
        };
        fails(name, &change, &["merge"]);
    }
}

/// Whatever is cut off or replaced in one of the files, an answer comes.
#[test]
fn damaged_files_give_errors() {
    let path = whole("damaged", "Qwen2ForCausalLM");
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let file = path.join(name);
        let good = std::fs::read(&file).unwrap();
        let step = (good.len() / 60).max(1);
        for at in (0..good.len()).step_by(step) {
            std::fs::write(&file, &good[..at]).unwrap();
            assert!(open(&path).is_err(), "{name} cut at {at}");
            let mut bad = good.clone();
            bad[at] ^= 0x15;
            std::fs::write(&file, &bad).unwrap();
            let _ = open(&path);
        }
        std::fs::write(&file, &good).unwrap();
    }
    open(&path).unwrap();
}

/// Of a mixture of experts: with a tensor for each expert's matrices, or two of all of them.
fn mixture(name: &str, stacked: bool) -> PathBuf {
    const EXPERTS: usize = 3;
    let path = folder(name);
    let mut json = config("Qwen3MoeForCausalLM");
    json["num_experts"] = json!(EXPERTS);
    json["num_experts_per_tok"] = json!(2);
    json["moe_intermediate_size"] = json!(FF);
    json["norm_topk_prob"] = json!(true);
    write(&path, "config.json", &json);
    write(&path, "tokenizer.json", &tokenizer());
    let mut all = numbered();
    all.retain(|(_, name, _)| !name.contains(".mlp."));
    let base = "model.layers.0.mlp";
    all.push((50, format!("{base}.gate.weight"), vec![EXPERTS, WIDTH]));
    if stacked {
        all.push((60, format!("{base}.experts.gate_up_proj"), vec![EXPERTS, 2 * FF, WIDTH]));
        all.push((70, format!("{base}.experts.down_proj"), vec![EXPERTS, WIDTH, FF]));
    } else {
        for e in 0..EXPERTS {
            let matrix = |n: usize, part: &str, shape: [usize; 2]| {
                (n + e, format!("{base}.experts.{e}.{part}_proj.weight"), shape.to_vec())
            };
            all.push(matrix(60, "gate", [FF, WIDTH]));
            all.push(matrix(70, "up", [FF, WIDTH]));
            all.push(matrix(80, "down", [WIDTH, FF]));
        }
    }
    save(&path.join("model.safetensors"), &all);
    path
}

#[test]
fn experts_become_tensors_of_three_dimensions() {
    let apart = open(&mixture("qwen3moe", false)).unwrap();
    let m = apart.metadata();
    for (key, n) in [("expert_count", 3), ("expert_used_count", 2), ("expert_feed_forward_length", 6)] {
        assert_eq!(m.get(&format!("qwen3moe.{key}")), Some(&Value::U32(n)), "{key}");
    }
    let all = |numbers: [usize; 3], shape: &[usize]| numbers.map(|n| values(n, shape)).concat();
    let (shape, gate) = floats(&apart, "blk.0.ffn_gate_exps.weight");
    assert_eq!((shape, gate), (vec![8, 6, 3], all([60, 61, 62], &[FF, WIDTH])));
    assert_eq!(floats(&apart, "blk.0.ffn_up_exps.weight").1, all([70, 71, 72], &[FF, WIDTH]));
    let (shape, down) = floats(&apart, "blk.0.ffn_down_exps.weight");
    assert_eq!((shape, down), (vec![6, 8, 3], all([80, 81, 82], &[WIDTH, FF])));
    assert_eq!(floats(&apart, "blk.0.ffn_gate_inp.weight").0, [8, 3]);
    assert!(apart.tensors().iter().all(|t| !t.name.contains("ffn_gate.") && !t.name.contains("ffn_down.")));

    // Gate and up of an expert follow each other in a stacked checkpoint.
    let stacked = open(&mixture("qwen3moe-stacked", true)).unwrap();
    let both = values(60, &[3, 2 * FF, WIDTH]);
    let halves = |first: usize| both.chunks(FF * WIDTH).skip(first).step_by(2).collect::<Vec<_>>().concat();
    assert_eq!(floats(&stacked, "blk.0.ffn_gate_exps.weight").1, halves(0));
    assert_eq!(floats(&stacked, "blk.0.ffn_up_exps.weight").1, halves(1));
    assert_eq!(floats(&stacked, "blk.0.ffn_down_exps.weight").1, values(70, &[3, WIDTH, FF]));
}

#[test]
fn experts_that_cannot_be_are_refused() {
    let path = mixture("qwen3moe-refused", false);
    let with = |key: &str, value: Json| {
        let mut json: Json =
            serde_json::from_str(&std::fs::read_to_string(path.join("config.json")).unwrap()).unwrap();
        let before = json.to_string();
        json[key] = value;
        write(&path, "config.json", &json);
        let error = open(&path).unwrap_err();
        std::fs::write(path.join("config.json"), before).unwrap();
        error
    };
    assert!(with("norm_topk_prob", json!(false)).contains("norm_topk_prob"));
    assert!(with("mlp_only_layers", json!([0])).contains("mlp_only_layers"));
    assert!(with("num_experts_per_tok", json!(4)).contains("at most num_experts"));
    assert!(with("num_experts", json!(4)).contains("mlp.gate.weight"));
    assert!(with("moe_intermediate_size", json!(4)).contains("experts.0.gate_proj.weight"));
}
