//! Hugging Face folders: what a small one becomes, and what is refused. That the logits stay those of
//! transformers is checked by tests/reference/convert_check.py.

use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::{Value as Json, json};
use weft_formats::gguf::Value;
use weft_formats::hf::{Conversion, Options};
use weft_formats::names::{self, Bias, Place, Sizes};
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
    t["model"]["type"] = json!("WordLevel");
    write(&path, "tokenizer.json", &t);
    assert!(open(&path).unwrap_err().contains("\"WordLevel\""));
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
    fails("vocabulary", &with("vocab_size", json!(2_000_000_000)), &["vocab_size", "2000000000"]);
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

/// The tensors that a checkpoint of this class has for these sizes, named with the first of its prefixes.
fn tensors_of(class: &str, sizes: &Sizes, skip: usize) -> Vec<(usize, String, Vec<usize>)> {
    let a = names::of_class(class).unwrap();
    let mut all = Vec::new();
    for m in a.modules() {
        let name = a.hf_name(m, a.prefixes[0], 0);
        let mut shape: Vec<usize> = m.shape.iter().map(|s| sizes.of(*s)).collect();
        if m.gguf == "position_embd" {
            shape[0] += skip;
        }
        match m.place {
            Place::Experts => (0..sizes.experts).for_each(|e| {
                all.push((format!("{}.weight", name.replace("{}", &e.to_string())), shape.clone()))
            }),
            _ if m.gguf == "output" => {}
            _ => all.push((format!("{name}.weight"), shape.clone())),
        }
        if m.bias == Bias::Always {
            all.push((format!("{name}.bias"), shape[..1].to_vec()));
        }
    }
    all.into_iter().enumerate().map(|(i, (n, s))| (i, n, s)).collect()
}

/// A folder of this class with one layer, `config` over what all have.
fn folder_of(name: &str, class: &str, config: &Json, sizes: &Sizes, skip: usize) -> PathBuf {
    let path = folder(name);
    let mut all = json!({
        "architectures": [class], "hidden_size": WIDTH, "intermediate_size": FF, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": VOCAB, "tie_word_embeddings": true,
    });
    for (key, value) in config.as_object().unwrap() {
        all[key] = value.clone();
    }
    write(&path, "config.json", &all);
    write(&path, "tokenizer.json", &tokenizer());
    save(&path.join("model.safetensors"), &tensors_of(class, sizes, skip));
    path
}

fn sizes() -> Sizes {
    Sizes {
        width: WIDTH,
        vocabulary: VOCAB,
        heads: 2,
        kv_heads: 1,
        head: HEAD,
        feed_forward: FF,
        ..Sizes::default()
    }
}

/// The number that [`tensors_of`] gives a tensor, and with it its values.
fn number(class: &str, sizes: &Sizes, name: &str) -> usize {
    tensors_of(class, sizes, 0)
        .into_iter()
        .find(|(_, n, _)| n == name)
        .unwrap_or_else(|| panic!("no {name}"))
        .0
}

#[test]
fn gemma_3() {
    let class = "Gemma3ForCausalLM";
    let text = json!({
        "num_key_value_heads": 1, "head_dim": HEAD, "query_pre_attn_scalar": HEAD, "sliding_window": 32,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "hidden_activation": "gelu_pytorch_tanh",
    });
    let path = folder_of("gemma3", class, &text, &sizes(), 0);
    let c = open(&path).unwrap();
    let m = c.metadata();
    let key = |name: &str| format!("gemma3.{name}");
    assert_eq!(m.u64(&key("attention.sliding_window")), Some(32));
    assert_eq!(m.u64(&key("attention.sliding_window_pattern")), Some(2));
    assert_eq!((m.f32(&key("rope.freq_base")), m.f32(&key("rope.freq_base_swa"))), (Some(1e6), Some(1e4)));
    assert_eq!(
        (m.str(&key("rope.scaling.type")), m.f32(&key("rope.scaling.factor"))),
        (Some("linear"), Some(8.0))
    );
    // Rows behind the vocabulary's own pieces are cut, and norms are stored with the 1 that is added to them.
    let rows = m.strs("tokenizer.ggml.tokens").unwrap().len();
    assert_eq!(rows, 261);
    assert_eq!(floats(&c, "token_embd.weight"), (vec![8, 261], values(0, &[261, WIDTH])));
    assert!(c.warnings().iter().any(|w| w.contains("<think>")), "{:?}", c.warnings());
    let plus_one = |name: &str, shape: &[usize]| -> Vec<f32> {
        values(number(class, &sizes(), name), shape).iter().map(|v| v + 1.0).collect()
    };
    let layer = "model.layers.0";
    for (gguf, hf, len) in [
        ("blk.0.attn_norm", "input_layernorm", WIDTH),
        ("blk.0.post_attention_norm", "post_attention_layernorm", WIDTH),
        ("blk.0.ffn_norm", "pre_feedforward_layernorm", WIDTH),
        ("blk.0.post_ffw_norm", "post_feedforward_layernorm", WIDTH),
        ("blk.0.attn_q_norm", "self_attn.q_norm", HEAD),
    ] {
        let want = plus_one(&format!("{layer}.{hf}.weight"), &[len]);
        assert_eq!(floats(&c, &format!("{gguf}.weight")).1, want, "{gguf}");
    }

    // As the text part of a model of pictures, with defaults left out and rotations by kind of layer.
    let mut inner = text.clone();
    for (key, value) in [("hidden_size", WIDTH), ("intermediate_size", FF), ("num_hidden_layers", 1)] {
        inner[key] = json!(value);
    }
    for (key, value) in [("num_attention_heads", 2), ("vocab_size", VOCAB)] {
        inner[key] = json!(value);
    }
    inner.as_object_mut().unwrap().remove("rope_scaling");
    inner["layer_types"] = json!(["full_attention"]);
    inner["rope_parameters"] = json!({"full_attention": {"rope_type": "default", "rope_theta": 7e5},
        "sliding_attention": {"rope_type": "default", "rope_theta": 2e4}});
    let whole = json!({"architectures": ["Gemma3ForConditionalGeneration"], "text_config": inner,
        "vision_config": {}, "eos_token_id": [257, 258], "mm_tokens_per_image": 256});
    write(&path, "config.json", &whole);
    let renamed: Vec<_> = tensors_of(class, &sizes(), 0)
        .into_iter()
        .map(|(i, n, s)| (i, n.replace("model.", "model.language_model."), s))
        .chain([(90, "model.vision_tower.x.weight".to_owned(), vec![2])])
        .collect();
    save(&path.join("model.safetensors"), &renamed);
    let c = open(&path).unwrap();
    assert_eq!(c.metadata().f32(&key("rope.freq_base")), Some(7e5));
    assert_eq!(c.metadata().u64(&key("attention.sliding_window")), None);
    assert_eq!(c.metadata().u64("tokenizer.ggml.eos_token_id"), Some(257));
    assert_eq!(floats(&c, "blk.0.attn_q.weight").0, [8, 8]);
}

#[test]
fn experts_are_stacked() {
    let sizes = Sizes { experts: 3, expert_feed_forward: 2, ..sizes() };
    let config = json!({"num_key_value_heads": 1, "head_dim": HEAD, "num_experts": 3, "num_experts_per_tok": 2,
        "moe_intermediate_size": 2, "norm_topk_prob": true});
    let class = "Qwen3MoeForCausalLM";
    let path = folder_of("qwen3moe", class, &config, &sizes, 0);
    let c = open(&path).unwrap();
    let n = |key: &str| c.metadata().u64(&format!("qwen3moe.{key}"));
    assert_eq!(
        (n("expert_count"), n("expert_used_count"), n("expert_feed_forward_length")),
        (Some(3), Some(2), Some(2))
    );
    let (shape, got) = floats(&c, "blk.0.ffn_down_exps.weight");
    assert_eq!(shape, [2, 8, 3]);
    let expert = |e: usize| {
        let name = format!("model.layers.0.mlp.experts.{e}.down_proj.weight");
        values(number(class, &sizes, &name), &[WIDTH, 2])
    };
    assert_eq!(got, [expert(0), expert(1), expert(2)].concat());
    assert_eq!(floats(&c, "blk.0.ffn_gate_inp.weight").0, [8, 3]);
    for (key, value, part) in [
        ("norm_topk_prob", json!(false), "norm_topk_prob"),
        ("mlp_only_layers", json!([0]), "mlp_only_layers"),
        ("num_experts_per_tok", json!(4), "num_experts_per_tok"),
        ("num_experts", json!(4), "mlp.gate.weight"),
    ] {
        let mut changed = config.clone();
        changed[key] = value;
        let path = folder_of("qwen3moe-bad", class, &changed, &sizes, 0);
        assert!(open(&path).unwrap_err().contains(part), "{key}");
    }
    // OLMoE's norms run over all heads, and its experts' width is the configuration's only one.
    let sizes = Sizes { experts: 3, expert_feed_forward: FF, kv_heads: 2, ..sizes };
    let config = json!({"num_experts": 3, "num_experts_per_tok": 2, "norm_topk_prob": false});
    let c = open(&folder_of("olmoe", "OlmoeForCausalLM", &config, &sizes, 0)).unwrap();
    assert_eq!(floats(&c, "blk.0.attn_k_norm.weight").0, [8]);
    assert_eq!(floats(&c, "blk.0.ffn_up_exps.weight").0, [8, 6, 3]);
}

#[test]
fn smollm_3_rotates_three_layers_of_four() {
    let config =
        json!({"num_key_value_heads": 1, "head_dim": HEAD, "no_rope_layers": [1], "rope_theta": 5e6});
    let c = open(&folder_of("smollm3", "SmolLM3ForCausalLM", &config, &sizes(), 0)).unwrap();
    assert_eq!(c.metadata().f32("smollm3.rope.freq_base"), Some(5e6));
    // As Llama's, the rows of a head become pairs.
    let q = floats(&c, "blk.0.attn_q.weight").1;
    let source =
        values(number("SmolLM3ForCausalLM", &sizes(), "model.layers.0.self_attn.q_proj.weight"), &[8, 8]);
    assert_eq!(q[WIDTH..2 * WIDTH], source[2 * WIDTH..3 * WIDTH]);
    let mut other = config.clone();
    other["no_rope_layers"] = json!([0]);
    let path = folder_of("smollm3-bad", "SmolLM3ForCausalLM", &other, &sizes(), 0);
    assert!(open(&path).unwrap_err().contains("no_rope_layers"));
}

fn bert_tokenizer() -> Json {
    let mut vocab = serde_json::Map::new();
    for (i, t) in ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "##re", "a"].iter().enumerate() {
        vocab.insert((*t).into(), json!(i));
    }
    let special = |id: u32, content: &str| json!({"id": id, "content": content, "special": true});
    let one = |t: &str| json!({"SpecialToken": {"id": t, "type_id": 0}});
    let seq = |t: &str| json!({"Sequence": {"id": t, "type_id": 0}});
    json!({
        "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"), special(3, "[SEP]")],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": [one("[CLS]"), seq("A"), one("[SEP]")],
            "pair": [one("[CLS]"), seq("A"), one("[SEP]"), seq("B"), one("[SEP]")]},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab},
    })
}

#[test]
fn encoders() {
    let sizes = Sizes { kv_heads: 2, positions: 16, types: 2, ..sizes() };
    let config = json!({"max_position_embeddings": 16, "type_vocab_size": 2, "hidden_act": "gelu"});
    let names =
        json!({"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"});
    let path = folder_of("bert", "BertModel", &config, &sizes, 0);
    write(&path, "tokenizer.json", &bert_tokenizer());
    write(&path, "tokenizer_config.json", &names);
    std::fs::create_dir_all(path.join("1_Pooling")).unwrap();
    write(
        &path,
        "1_Pooling/config.json",
        &json!({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": false}),
    );
    let c = open(&path).unwrap();
    let m = c.metadata();
    assert_eq!((m.u64("bert.pooling_type"), m.bool("bert.attention.causal")), (Some(1), Some(false)));
    assert_eq!((m.u64("bert.context_length"), m.u64("tokenizer.ggml.token_type_count")), (Some(16), Some(2)));
    assert_eq!(m.u64("tokenizer.ggml.cls_token_id"), Some(2));
    assert_eq!(floats(&c, "position_embd.weight").0, [8, 16]);
    assert_eq!(floats(&c, "blk.0.layer_output_norm.bias").0, [8]);
    let t = Tokenizer::from_metadata(m).unwrap();
    assert_eq!(t.encode_prompt("There \u{c1}"), [2, 4, 5, 6, 3]);
    assert_eq!(t.encode_pair("the", "a"), (vec![2, 4, 3, 6, 3], 3));
    write(&path, "1_Pooling/config.json", &json!({"pooling_mode_max_tokens": true}));
    assert!(open(&path).unwrap_err().contains("pooling by pooling_mode_max_tokens"));
    std::fs::remove_dir_all(path.join("1_Pooling")).unwrap();
    write(&path, "modules.json", &json!([{"type": "sentence_transformers.models.Dense"}]));
    assert!(open(&path).unwrap_err().contains("models.Dense"));

    // A classifier: the pooler is its first matrix.
    let labelled = Sizes { labels: 1, ..sizes };
    let mut scored = config.clone();
    scored["id2label"] = json!({"0": "score"});
    let path = folder_of("bert-cls", "BertForSequenceClassification", &scored, &labelled, 0);
    write(&path, "tokenizer.json", &bert_tokenizer());
    let c = open(&path).unwrap();
    assert_eq!(c.metadata().u64("bert.pooling_type"), Some(4));
    assert_eq!(c.metadata().strs("bert.classifier.output_labels").unwrap(), ["score"]);
    assert_eq!((floats(&c, "cls.weight").0, floats(&c, "cls.output.weight").0), (vec![8, 8], vec![8, 1]));

    // RoBERTa's first rows belong to no position.
    let config = json!({"max_position_embeddings": 18, "type_vocab_size": 1, "pad_token_id": 1});
    let sizes = Sizes { types: 1, ..sizes };
    let path = folder_of("xlmr", "XLMRobertaModel", &config, &sizes, 2);
    let special = |id: u32, content: &str| json!({"id": id, "content": content, "special": true});
    let one = |t: &str| json!({"SpecialToken": {"id": t, "type_id": 0}});
    let seq = |t: &str| json!({"Sequence": {"id": t, "type_id": 0}});
    write(
        &path,
        "tokenizer.json",
        &json!({
            "added_tokens": [special(0, "<s>"), special(1, "<pad>"), special(2, "</s>"), special(3, "<unk>")],
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"},
                {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}]},
            "post_processor": {"type": "TemplateProcessing", "single": [one("<s>"), seq("A"), one("</s>")],
                "pair": [one("<s>"), seq("A"), one("</s>"), one("</s>"), seq("B"), one("</s>")]},
            "model": {"type": "Unigram", "unk_id": 3, "vocab": [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0],
                ["<unk>", 0.0], ["▁", -3.5], ["▁a", -2.5], ["b", -4.0]]},
        }),
    );
    write(
        &path,
        "tokenizer_config.json",
        &json!({"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "unk_token": "<unk>"}),
    );
    let c = open(&path).unwrap();
    let number = number("XLMRobertaModel", &sizes, "embeddings.position_embeddings.weight");
    assert_eq!(
        floats(&c, "position_embd.weight"),
        (vec![8, 16], values(number, &[18, WIDTH])[2 * WIDTH..].to_vec())
    );
    assert_eq!(c.metadata().u64("bert.context_length"), Some(16));
    let t = Tokenizer::from_metadata(c.metadata()).unwrap();
    assert_eq!(t.encode_prompt("ab  b?"), [0, 5, 6, 4, 6, 3, 2]);
    assert_eq!(t.encode_pair("a", "b").0, [0, 5, 2, 2, 4, 6, 2]);

    let config = json!({"n_embd": WIDTH, "n_head": 2, "n_inner": FF, "n_layer": 1, "n_positions": 8192,
        "rotary_emb_base": 1000, "activation_function": "swiglu", "qkv_proj_bias": false, "causal": false});
    let sizes = Sizes { types: 2, ..sizes };
    let path = folder_of("nomic", "NomicBertModel", &config, &sizes, 0);
    write(&path, "tokenizer.json", &bert_tokenizer());
    let c = open(&path).unwrap();
    let m = c.metadata();
    assert_eq!(
        (m.f32("nomic-bert.rope.freq_base"), m.u64("nomic-bert.context_length")),
        (Some(1000.0), Some(2048))
    );
    assert_eq!(
        (floats(&c, "blk.0.attn_qkv.weight").0, floats(&c, "blk.0.ffn_gate.weight").0),
        (vec![8, 24], vec![8, 6])
    );
}

/// An embedding model ends its texts with a token that is not the one that ends an answer.
#[test]
fn a_decoder_with_pooling_ends_its_texts() {
    let path = whole("embedding", "Qwen3ForCausalLM");
    std::fs::create_dir_all(path.join("1_Pooling")).unwrap();
    write(
        &path,
        "1_Pooling/config.json",
        &json!({"pooling_mode_lasttoken": true, "pooling_mode_mean_tokens": false}),
    );
    write(&path, "tokenizer_config.json", &json!({"eos_token": "<|im_end|>"}));
    let mut t = tokenizer();
    t["post_processor"] = json!({"type": "TemplateProcessing", "single": [
        {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}]});
    write(&path, "tokenizer.json", &t);
    let c = open(&path).unwrap();
    assert_eq!(c.metadata().u64("qwen3.pooling_type"), Some(3));
    let t = Tokenizer::from_metadata(c.metadata()).unwrap();
    assert_eq!(t.encode_prompt("the"), [260, 256]);
    assert!(t.is_eog(257) && t.is_eog(256));
}

/// What tokenizer.json or config.json says and GGUF cannot is refused by name or told.
#[test]
fn nothing_is_dropped_in_silence() {
    let with = |name: &str, file: &str, change: &dyn Fn(&mut Json)| {
        let path = whole(name, "Qwen2ForCausalLM");
        let mut json = if file == "tokenizer.json" { tokenizer() } else { config("Qwen2ForCausalLM") };
        change(&mut json);
        write(&path, file, &json);
        open(&path).map(|c| c.warnings().join("\n"))
    };
    let normalizer =
        |value: Json| with("normalizer", "tokenizer.json", &move |t| t["normalizer"] = value.clone());
    for name in ["Lowercase", "NFKC", "NFKD", "NFD", "Nmt", "StripAccents", "Strip", "Replace", "Prepend"] {
        for value in [
            json!({"type": name}),
            json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": name}]}),
        ] {
            let line = normalizer(value).unwrap_err();
            assert!(line.contains("normalizer") && line.contains(name), "{line}");
        }
    }
    assert!(normalizer(json!({"type": "NFC"})).unwrap().contains("NFC"));
    for (key, value) in [
        ("ignore_merges", json!(true)),
        ("end_of_word_suffix", json!("</w>")),
        ("continuing_subword_prefix", json!("##")),
        ("dropout", json!(0.1)),
    ] {
        let line = with("model", "tokenizer.json", &|t| t["model"][key] = value.clone()).unwrap_err();
        assert!(line.contains(key), "{line}");
    }
    for key in ["lstrip", "rstrip", "single_word"] {
        let told = with("strip", "tokenizer.json", &|t| t["added_tokens"][3][key] = json!(true)).unwrap();
        assert!(told.contains(key) && told.contains("<think>"), "{told}");
    }
    let split = |key: &str, value: Json| {
        with("split", "tokenizer.json", &|t| t["pre_tokenizer"]["pretokenizers"][0][key] = value.clone())
    };
    assert!(split("behavior", json!("MergedWithNext")).unwrap_err().contains("MergedWithNext"));
    assert!(split("invert", json!(true)).unwrap_err().contains("invert"));
    let set = |key: &str, value: Json| with("config", "config.json", &|c| c[key] = value.clone());
    for (key, value) in [
        ("final_logit_softcapping", json!(30.0)),
        ("residual_multiplier", json!(0.22)),
        ("partial_rotary_factor", json!(0.5)),
        ("num_experts", json!(8)),
        ("layer_types", json!(["sliding_attention"])),
        ("use_sliding_window", json!(true)),
        ("attn_logit_softcapping", json!(50.0)),
        ("hidden_act", json!("relu")),
        ("rope_scaling", json!({"rope_type": "linear", "factor": 2.0, "mrope_section": [1]})),
        ("rope_parameters", json!({"sliding_attention": {"rope_theta": 1e4}})),
    ] {
        let line = set(key, value).unwrap_err();
        let named = if key == "rope_scaling" {
            "mrope_section"
        } else if key == "rope_parameters" {
            "full_attention"
        } else {
            key
        };
        assert!(line.contains(named) && !line.contains('\n'), "{key}: {line}");
    }
    assert!(set("some_new_key", json!(3)).unwrap().contains("some_new_key"));
    for (key, value) in [
        ("hidden_act", json!("swish")),
        ("some_new_key", json!(null)),
        ("use_sliding_window", json!(false)),
        ("residual_multiplier", json!(1.0)),
        ("rope_theta", json!(null)),
        ("rope_scaling", json!(null)),
        ("layer_types", json!(["full_attention"])),
        ("torch_dtype", json!("bfloat16")),
    ] {
        assert_eq!(set(key, value).unwrap(), "", "{key}");
    }
    // Both of YaRN's factors count together, as in transformers.
    let path = whole("mscale", "Qwen2ForCausalLM");
    let mut all = config("Qwen2ForCausalLM");
    all["num_key_value_heads"] = json!(1);
    all["rope_scaling"] = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16,
        "mscale": 1.0, "mscale_all_dim": 0.5});
    write(&path, "config.json", &all);
    let factor = open(&path).unwrap().metadata().f32("qwen2.rope.scaling.attn_factor").unwrap();
    assert!((factor - 1.0 / (0.05 * 4f32.ln() + 1.0)).abs() < 1e-6);
}

/// What the files beside config.json say of tokens, templates and sampling is carried, refused by name or told.
#[test]
fn what_stands_beside_the_weights_is_carried_or_told() {
    let with = |file: &str, value: Json| {
        let path = whole("beside", "Qwen2ForCausalLM");
        write(&path, file, &value);
        open(&path)
    };
    let tokens = |change: &dyn Fn(&mut Json)| {
        let mut json = tokenizer();
        change(&mut json);
        with("tokenizer.json", json).map(|_| ()).unwrap_err()
    };
    // Two texts of one id: one of them would be lost.
    let line = tokens(&|t| t["model"]["vocab"]["zz"] = json!(0));
    assert!(line.contains("the id 0 of both") && line.contains("zz"), "{line}");
    let other = tokens(&|t| t["post_processor"] = json!({ "type": "Reverse" }));
    assert!(other.contains("post-processor") && other.contains("Reverse"), "{other}");
    let settings = |value: Json| with("tokenizer_config.json", value);
    for wrong in [json!(3), json!([{ "template": "x" }]), json!({ "default": "x" })] {
        let line = settings(json!({ "chat_template": wrong })).map(|_| ()).unwrap_err();
        assert!(line.contains("chat_template") && line.contains("list of templates"), "{line}");
    }
    let told = |c: Result<Conversion, String>| c.expect("a conversion").warnings().join("\n");
    assert!(told(settings(json!({ "chat_template": "{% for %}" }))).contains("does not parse"));
    let named = json!({ "chat_template": [{ "name": "a b", "template": "x" }] });
    assert!(told(settings(named)).contains("\"a b\" is left out"));
    assert!(told(settings(json!({ "eos_token": "nothing" }))).contains("eos_token \"nothing\" is no token"));
    assert_eq!(told(settings(json!({ "eos_token": { "content": "<|im_end|>" } }))), "");
    let sampling = |value: Json| with("generation_config.json", value);
    assert!(told(sampling(json!({ "eos_token_id": [1, 99_999] }))).contains("token 99999 is outside"));
    for (key, value) in [
        ("temperature", json!("hot")),
        ("temperature", json!(-1)),
        ("top_p", json!(1.5)),
        ("top_k", json!(-3)),
        ("do_sample", json!("no")),
    ] {
        let mut all = json!({});
        all[key] = value;
        let line = sampling(all).map(|_| ()).unwrap_err();
        assert!(line.contains("generation_config.json") && line.contains(key), "{line}");
    }
    // Off is said too, and no sampling at all is temperature 0.
    let c = sampling(json!({ "top_k": 0, "temperature": 0.6 })).expect("a conversion");
    assert_eq!(c.metadata().get("general.sampling.top_k"), Some(&Value::I32(0)));
    let c = sampling(json!({ "do_sample": false, "temperature": 0.6, "top_p": 0.9 })).expect("a conversion");
    assert_eq!(c.metadata().f32("general.sampling.temp"), Some(0.0));
    assert_eq!(c.metadata().get("general.sampling.top_p"), None);
    // Norms of queries without those of keys: a model that no graph runs.
    let path = whole("half-norms", "Qwen3ForCausalLM");
    let mut all = numbered();
    let at = all.len();
    all.push((at, "model.layers.0.self_attn.q_norm.weight".into(), vec![4]));
    save(&path.join("model.safetensors"), &all);
    let line = open(&path).map(|_| ()).unwrap_err();
    assert!(line.contains("self_attn.k_norm.weight") && line.contains("missing"), "{line}");
}

/// Tensors beside the weights are judged by name; ends of a text beyond GGUF's three keys have one of ours.
/// What stands around a text is what the post-processor says, whatever the tokens are called elsewhere; what is
/// unknown is what the model says.
#[test]
fn tokens_around_a_text_and_for_the_unknown() {
    let path = whole("around", "Qwen2ForCausalLM");
    let around = |before: &[&str], behind: &[&str], settings: Json| {
        let special = |name: &&str| json!({"SpecialToken": {"id": name, "type_id": 0}});
        let text = json!({"Sequence": {"id": "A", "type_id": 0}});
        let single: Vec<Json> =
            before.iter().map(special).chain([text]).chain(behind.iter().map(special)).collect();
        let mut t = tokenizer();
        t["post_processor"] = json!({"type": "TemplateProcessing", "single": single, "special_tokens": {
            "two": {"id": "two", "ids": [256, 257], "tokens": ["<|endoftext|>", "<|im_end|>"]},
            "other": {"id": "other", "ids": [258], "tokens": ["<|eot_id|>"]}}});
        write(&path, "tokenizer.json", &t);
        write(&path, "tokenizer_config.json", &settings);
        open(&path).map(|c| Tokenizer::from_metadata(c.metadata()).unwrap().encode_prompt("a"))
    };
    let a = tokenizer()["model"]["vocab"]["a"].as_u64().unwrap() as u32;
    assert_eq!(around(&["<|im_end|>"], &[], json!({})).unwrap(), [257, a]);
    assert_eq!(
        around(&["other"], &["<|im_end|>"], json!({"bos_token": "<|endoftext|>"})).unwrap(),
        [258, a, 257]
    );
    for (before, behind) in
        [(&["<|im_end|>", "other"][..], &[][..]), (&[], &["other", "other"]), (&["two"], &[])]
    {
        let line = around(before, behind, json!({})).unwrap_err();
        assert!(line.contains("post-processor"), "{line}");
    }
    let mut t = tokenizer();
    t["post_processor"] =
        json!({"type": "BertProcessing", "sep": ["<|im_end|>", 257], "cls": ["<|eot_id|>", 258]});
    write(&path, "tokenizer.json", &t);
    let m = open(&path).unwrap();
    assert_eq!(Tokenizer::from_metadata(m.metadata()).unwrap().encode_prompt("a"), [258, a, 257]);
    // Names that tokenizer_config.json has not.
    write(&path, "tokenizer.json", &tokenizer());
    write(
        &path,
        "special_tokens_map.json",
        &json!({"eos_token": {"content": "<|eot_id|>"}, "pad_token": "<|im_end|>"}),
    );
    let m = open(&path).unwrap();
    let id = |name: &str| m.metadata().u64(&format!("tokenizer.ggml.{name}_token_id"));
    assert_eq!((id("eos"), id("padding")), (Some(258), Some(257)));

    let sizes = Sizes { kv_heads: 2, positions: 16, types: 2, ..sizes() };
    let bert = json!({"max_position_embeddings": 16, "type_vocab_size": 2, "hidden_act": "gelu"});
    let path = folder_of("unknown", "BertModel", &bert, &sizes, 0);
    let mut t = bert_tokenizer();
    t["model"]["unk_token"] = json!("[SEP]");
    write(&path, "tokenizer.json", &t);
    write(&path, "tokenizer_config.json", &json!({}));
    let m = open(&path).unwrap();
    assert_eq!(m.metadata().u64("tokenizer.ggml.unknown_token_id"), Some(3));
    assert_eq!(Tokenizer::from_metadata(m.metadata()).unwrap().encode_prompt("a zoo"), [2, 6, 3, 3]);
}

/// Steps in another order, and settings beside tokenizer.json that transformers heeds more.
#[test]
fn steps_and_settings_that_gguf_cannot_say() {
    let path = whole("steps", "Qwen2ForCausalLM");
    let with = |change: &dyn Fn(&mut Vec<Json>)| {
        let mut t = tokenizer();
        change(t["pre_tokenizer"]["pretokenizers"].as_array_mut().unwrap());
        write(&path, "tokenizer.json", &t);
        open(&path).map(|_| ())
    };
    with(&|_| {}).unwrap();
    let changes: [&dyn Fn(&mut Vec<Json>); 3] =
        [&|steps| drop(steps.pop()), &|steps| steps.reverse(), &|steps| steps.push(steps[1].clone())];
    for change in changes {
        let line = with(change).unwrap_err();
        assert!(line.contains("ByteLevel"), "{line}");
    }
    write(&path, "tokenizer.json", &tokenizer());
    write(&path, "tokenizer_config.json", &json!({"add_prefix_space": true}));
    assert!(open(&path).unwrap_err().contains("add_prefix_space"));
    write(&path, "tokenizer_config.json", &json!({}));
    let drawn = json!({"repetition_penalty": 1.25, "no_repeat_ngram_size": 3, "num_beams": 1, "typical_p": 1.0, "suppress_tokens": []});
    write(&path, "generation_config.json", &drawn);
    let c = open(&path).unwrap();
    assert_eq!(c.metadata().f32("general.sampling.penalty_repeat"), Some(1.25));
    let told = c.warnings().join("\n");
    assert!(told.contains("no_repeat_ngram_size") && !told.contains("num_beams"), "{told}");

    let sizes = Sizes { kv_heads: 2, positions: 16, types: 2, ..sizes() };
    let bert = json!({"max_position_embeddings": 16, "type_vocab_size": 2, "hidden_act": "gelu"});
    let path = folder_of("cases", "BertModel", &bert, &sizes, 0);
    let mut t = bert_tokenizer();
    let lower = t["normalizer"]["lowercase"].as_bool().unwrap();
    write(&path, "tokenizer.json", &t);
    for (key, value) in
        [("do_lower_case", !lower), ("tokenize_chinese_chars", false), ("strip_accents", !lower)]
    {
        write(&path, "tokenizer_config.json", &json!({key: value}));
        let line = open(&path).unwrap_err();
        assert!(line.contains(key), "{line}");
    }
    write(&path, "tokenizer_config.json", &json!({"do_lower_case": lower, "strip_accents": null}));
    write(&path, "sentence_bert_config.json", &json!({"do_lower_case": true}));
    write(
        &path,
        "config_sentence_transformers.json",
        &json!({"prompts": {"query": "ask: "}, "default_prompt_name": "query"}),
    );
    t["added_tokens"][2]["normalized"] = json!(true);
    write(&path, "tokenizer.json", &t);
    write(&path, "tokenizer_config.json", &json!({}));
    let told = open(&path).unwrap().warnings().join("\n");
    assert!(told.contains("ask: ") && told.contains("normalized"), "{told}");
    t["normalizer"]["lowercase"] = json!(false);
    write(&path, "tokenizer.json", &t);
    assert!(open(&path).unwrap_err().contains("do_lower_case"));
}

#[test]
fn odd_tensors_and_many_ends() {
    let path = whole("odd", "Qwen2ForCausalLM");
    for (name, shape) in [("model.steps", vec![]), ("model.cache", vec![0, 4])] {
        let mut all = numbered();
        all.push((50, name.to_owned(), shape));
        save(&path.join("model.safetensors"), &all);
        let line = open(&path).unwrap_err();
        assert!(line.contains(&format!("{name:?} in a qwen2 model is not supported")), "{line}");
    }
    let bare: Vec<_> = numbered().into_iter().map(|(i, n, s)| (i, n.replace("model.", ""), s)).collect();
    save(&path.join("model.safetensors"), &bare);
    write(&path, "generation_config.json", &json!({"eos_token_id": [257, 259, 258, 260, 200]}));
    let c = open(&path).unwrap();
    let t = Tokenizer::from_metadata(c.metadata()).unwrap();
    assert!([257, 258, 259, 260, 200].iter().all(|id| t.is_eog(*id)) && !t.is_eog(201));
    assert!(c.warnings().iter().any(|w| w.contains("5 tokens end a text")), "{:?}", c.warnings());
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

/// A folder of a mixture of experts: with a tensor for each expert's matrices, or two of all of them.
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
