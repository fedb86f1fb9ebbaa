//! Files other than models, mutated: no bytes of an adapter, an importance matrix, tokenizer.json, config.json or a
//! safetensors header make their readers panic, hang or take memory out of proportion.

use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::json;
use support::{Counting, Random, fuzz, mutate_bytes, mutate_json, mutate_safetensors, rounds};
use weft_formats::adapter::{Adapter, Base, Pair};
use weft_formats::gguf::{Array, File, Metadata, Value, Writer};
use weft_formats::hf::{Conversion, Options};
use weft_formats::imatrix::{Collected, Imatrix, Sums};
use weft_formats::merge::place;
use weft_formats::quant::Type;
use weft_formats::tokenizer::Tokenizer;

#[path = "support/fuzz.rs"]
#[allow(dead_code)]
mod support;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fuzz").join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// A GGUF file whose keys and shapes are changed, so that its structure is sound.
fn mutate_gguf(good: &[u8], r: &mut Random) -> Vec<u8> {
    if r.below(2) == 0 {
        return mutate_bytes(good, r);
    }
    let file = File::from_bytes(good.to_vec()).unwrap();
    let mut metadata = file.metadata().clone();
    let keys: Vec<String> = metadata.iter().map(|(k, _)| k.to_owned()).collect();
    for _ in 0..r.below(3) {
        let value = match r.below(8) {
            0 => Value::F32([f32::NAN, f32::INFINITY, -1.0, 0.0, 1e30][r.below(5)]),
            1 => Value::U32(u32::MAX),
            2 => Value::I64(i64::MIN),
            3 => Value::Str("x".repeat(r.below(3000))),
            4 => Value::Array(Array::Str(vec![String::new(); r.below(9)])),
            5 => Value::Bool(true),
            6 => Value::F64(f64::MAX),
            _ => Value::U64(1 << r.below(64)),
        };
        metadata.set(keys[r.below(keys.len())].clone(), value);
    }
    let mut tensors: Vec<(String, Vec<u64>, Type)> =
        file.tensors().iter().map(|t| (t.name.clone(), t.shape.clone(), t.ty)).collect();
    for _ in 0..r.below(3) {
        let at = r.below(tensors.len());
        let other = tensors[r.below(tensors.len())].clone();
        let types = [Type::F16, Type::BF16, Type::I8, Type::Q8_0, Type::Q4_K, Type::F64, Type::IQ2_S];
        match r.below(5) {
            0 => tensors[at].1 = other.1,
            1 => tensors[at].0 = format!("{}x", other.0),
            2 => tensors[at].1.push(1 + r.below(3) as u64),
            3 => drop(tensors[at].1.pop()),
            _ => tensors[at].2 = types[r.below(types.len())],
        }
    }
    let Ok(writer) = Writer::new(&metadata, tensors) else { return mutate_bytes(good, r) };
    let fill = [0, 0x3f, 0x7f, 0xff][r.below(4)];
    let data: Vec<Vec<u8>> = writer.tensors().iter().map(|t| vec![fill; t.size as usize]).collect();
    writer.to_bytes(&data).unwrap()
}

#[test]
fn adapters() {
    let path = folder("adapters");
    let base = Base { architecture: "llama".to_owned(), heads: 2, kv_heads: 1 };
    let pair = |part: &str, rows: usize| Pair {
        tensor: format!("blk.0.{part}.weight"),
        rank: 2,
        rows,
        cols: 8,
        a: vec![0.5; 16],
        b: vec![0.25; 2 * rows],
    };
    let adapter = Adapter { alpha: 4.0, rslora: false, pairs: vec![pair("attn_q", 8), pair("ffn_up", 6)] };
    adapter.write_gguf(&path.join("a.gguf"), &base, "a").unwrap();
    adapter.write_peft(&path, &base, "model").unwrap();
    let table =
        [("blk.0.attn_q.weight", vec![8, 8], Type::F32), ("blk.0.ffn_up.weight", vec![8, 6], Type::F32)];
    let model =
        Writer::new(&Metadata::new(), table).unwrap().to_bytes(&[vec![0; 256], vec![0; 192]]).unwrap();
    let model = File::from_bytes(model).unwrap();
    let read = |name: &'static str| {
        let (path, base, model) = (path.join(name), &base, &model);
        move || {
            let adapter = Adapter::open(&path, base).map_err(|e| e.to_string())?;
            let shape = |name: &str| place(model, base, name).map(|(_, _, rows, cols)| (rows, cols));
            adapter.check("a", &shape).map_err(|e| e.to_string())?;
            for p in &adapter.pairs {
                p.add_to(adapter.scale(p), 0, &mut vec![0.0; p.rows * p.cols]);
            }
            Ok(())
        }
    };
    let n = rounds(400);
    let gguf = fuzz(&path.join("a.gguf"), n, mutate_gguf, &read("a.gguf"));
    let config = fuzz(&path.join("adapter_config.json"), n, mutate_json, &read("adapter_model.safetensors"));
    let weights = fuzz(
        &path.join("adapter_model.safetensors"),
        n,
        mutate_safetensors,
        &read("adapter_model.safetensors"),
    );
    assert!(gguf > n / 50 && config > n / 50 && weights > n / 100, "{gguf} {config} {weights} of {n}");
}

#[test]
fn importance_matrices() {
    let folder = folder("imatrix");
    let path = folder.join("i.gguf");
    let collected = Collected {
        sums: vec![
            ("blk.0.attn_q.weight".to_owned(), Sums { squares: vec![1.0; 32], counts: vec![64.0; 1] }),
            ("blk.0.ffn_up_exps.weight".to_owned(), Sums { squares: vec![1.0; 16], counts: vec![8.0; 2] }),
            ("output.weight".to_owned(), Sums { squares: vec![0.5; 8], counts: vec![64.0; 1] }),
        ],
        datasets: vec!["text".to_owned()],
        chunks: 1,
        chunk_size: 64,
    };
    collected.write(&path).unwrap();
    let n = rounds(400);
    let gguf = fuzz(&path, n, mutate_gguf, &|| Imatrix::open(&path).map(drop).map_err(|e| e.to_string()));
    // The older form: entries of name, calls and values; chunks and the text's name at the end.
    let path = folder.join("i.dat");
    let mut old = 1u32.to_le_bytes().to_vec();
    old.extend(13u32.to_le_bytes());
    old.extend(b"output.weight");
    old.extend(2u32.to_le_bytes());
    old.extend(8u32.to_le_bytes());
    (0..8).for_each(|i| old.extend((i as f32).to_le_bytes()));
    old.extend(1u32.to_le_bytes());
    old.extend(4u32.to_le_bytes());
    old.extend(b"text");
    std::fs::write(&path, old).unwrap();
    let dat = fuzz(&path, n, mutate_bytes, &|| Imatrix::open(&path).map(drop).map_err(|e| e.to_string()));
    assert!(gguf > n / 50 && dat > n / 50, "{gguf} {dat} of {n}");
}

/// What a conversion reads of a folder, to the end: tensors as bytes, and a tokenizer that works.
fn convert(path: &Path) -> Result<(), String> {
    let c = Conversion::open(path, &Options::default()).map_err(|e| e.to_string())?;
    for t in c.tensors() {
        c.bytes(t, &mut Vec::new()).map_err(|e| e.to_string())?;
    }
    let tokenizer = Tokenizer::from_metadata(c.metadata()).map_err(|e| e.to_string())?;
    let ids = tokenizer.encode_prompt("ab the <s> a\u{301}b é 漢字 <|im_end|>  12");
    assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_size()));
    tokenizer.decode(&ids, true);
    let table = c.tensors().iter().map(|t| (t.name.clone(), t.shape.clone(), t.ty));
    Writer::new(c.metadata(), table).map(drop).map_err(|e| e.to_string())
}

fn save(path: &Path, tensors: &[(String, Vec<usize>)]) {
    let data: Vec<Vec<u8>> =
        tensors.iter().map(|(_, s)| vec![0u8; 4 * s.iter().product::<usize>()]).collect();
    let views = tensors
        .iter()
        .zip(&data)
        .map(|((name, shape), d)| (name.clone(), TensorView::new(Dtype::F32, shape.clone(), d).unwrap()));
    serialize_to_file(views, None, &path.join("model.safetensors")).unwrap();
}

fn fuzz_folder(path: &Path) {
    let n = rounds(300);
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        let read = fuzz(&path.join(name), n, mutate_json, &|| convert(path));
        assert!(read > n / 50, "{name}: {read} of {n}");
    }
    let read = fuzz(&path.join("model.safetensors"), n, mutate_safetensors, &|| convert(path));
    assert!(read > 0, "safetensors: {read} of {n}");
}

/// An encoder of one layer with a unigram vocabulary.
#[test]
fn folders_of_an_encoder() {
    let path = folder("encoder");
    let mut tensors: Vec<(String, Vec<usize>)> = vec![
        ("embeddings.word_embeddings.weight".into(), vec![6, 4]),
        ("embeddings.token_type_embeddings.weight".into(), vec![1, 4]),
        ("embeddings.position_embeddings.weight".into(), vec![10, 4]),
        ("embeddings.LayerNorm.weight".into(), vec![4]),
        ("embeddings.LayerNorm.bias".into(), vec![4]),
    ];
    for (name, shape) in [
        ("attention.self.query", vec![4, 4]),
        ("attention.self.key", vec![4, 4]),
        ("attention.self.value", vec![4, 4]),
        ("attention.output.dense", vec![4, 4]),
        ("attention.output.LayerNorm", vec![4]),
        ("intermediate.dense", vec![6, 4]),
        ("output.dense", vec![4, 6]),
        ("output.LayerNorm", vec![4]),
    ] {
        tensors.push((format!("encoder.layer.0.{name}.bias"), shape[..1].to_vec()));
        tensors.push((format!("encoder.layer.0.{name}.weight"), shape));
    }
    save(&path, &tensors);
    let write =
        |name: &str, value: &serde_json::Value| std::fs::write(path.join(name), value.to_string()).unwrap();
    write(
        "config.json",
        &json!({
            "architectures": ["XLMRobertaModel"], "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 6, "vocab_size": 6, "max_position_embeddings": 10, "type_vocab_size": 1,
            "pad_token_id": 1, "layer_norm_eps": 1e-5, "hidden_act": "gelu", "eos_token_id": [2, 3],
        }),
    );
    write(
        "tokenizer.json",
        &json!({
            "added_tokens": [{"id": 0, "content": "<s>", "special": true}, {"id": 2, "content": "</s>", "special": true}],
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Precompiled", "precompiled_charsmap": "CAAAAAAAAAAAAAAAYQA="},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
            "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
            "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]},
            "model": {"type": "Unigram", "unk_id": 3, "vocab": [["<s>", 0], ["<pad>", 0], ["</s>", 0], ["<unk>", 0],
                ["▁a", -1.5], ["b", -2.5]]},
        }),
    );
    write(
        "tokenizer_config.json",
        &json!({"model_max_length": 512, "pad_token": "<pad>", "bos_token": "<s>",
        "eos_token": "</s>"}),
    );
    write("generation_config.json", &json!({"eos_token_id": 2}));
    fuzz_folder(&path);
}

/// A decoder of one layer with byte-level BPE.
#[test]
fn folders_of_a_decoder() {
    let path = folder("decoder");
    let layer = |name: &str, shape: &[usize]| (format!("model.layers.0.{name}.weight"), shape.to_vec());
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![262, 8]),
        ("model.norm.weight".to_owned(), vec![8]),
        layer("input_layernorm", &[8]),
        layer("self_attn.q_proj", &[8, 8]),
        layer("self_attn.k_proj", &[4, 8]),
        layer("self_attn.v_proj", &[4, 8]),
        layer("self_attn.o_proj", &[8, 8]),
        layer("post_attention_layernorm", &[8]),
        layer("mlp.gate_proj", &[6, 8]),
        layer("mlp.up_proj", &[6, 8]),
        layer("mlp.down_proj", &[8, 6]),
    ];
    for (name, rows) in [("q", 8), ("k", 4), ("v", 4)] {
        tensors.push((format!("model.layers.0.self_attn.{name}_proj.bias"), vec![rows]));
    }
    save(&path, &tensors);
    let write =
        |name: &str, value: &serde_json::Value| std::fs::write(path.join(name), value.to_string()).unwrap();
    write(
        "config.json",
        &json!({
            "architectures": ["Qwen2ForCausalLM"], "hidden_size": 8, "intermediate_size": 6, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 262, "max_position_embeddings": 64,
            "rms_norm_eps": 1e-5, "rope_theta": 5000.0, "hidden_act": "silu", "tie_word_embeddings": true,
            "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
            "bos_token_id": 256, "eos_token_id": [257, 258], "torch_dtype": "float32", "use_sliding_window": false,
        }),
    );
    let printable = |b: u32| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let mut extra = 256..;
    let mut vocab = serde_json::Map::new();
    for b in 0..256 {
        let c = char::from_u32(if printable(b) { b } else { extra.next().unwrap() }).unwrap();
        vocab.insert(c.to_string(), json!(b));
    }
    vocab.insert("th".into(), json!(259));
    vocab.insert("the".into(), json!(260));
    let added = |id: u32, content: &str, special: bool| {
        json!({"id": id, "content": content, "special": special, "lstrip": false, "rstrip": false,
            "single_word": false, "normalized": false})
    };
    const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    write(
        "tokenizer.json",
        &json!({
            "added_tokens": [added(256, "<|endoftext|>", true), added(257, "<|im_end|>", true),
                added(258, "<|eot_id|>", true), added(261, "<think>", false)],
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": false},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]},
            "post_processor": null,
            "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
            "model": {"type": "BPE", "vocab": vocab, "merges": ["t h", ["th", "e"]], "ignore_merges": false,
                "byte_fallback": false, "continuing_subword_prefix": "", "end_of_word_suffix": ""},
        }),
    );
    write(
        "tokenizer_config.json",
        &json!({"add_bos_token": false, "eos_token": "<|im_end|>", "pad_token": {"content": "<|endoftext|>"},
            "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}", "tokenizer_class": "Qwen2Tokenizer"}),
    );
    write("generation_config.json", &json!({"eos_token_id": [257, 258], "temperature": 0.6, "top_k": 20}));
    fuzz_folder(&path);
}
