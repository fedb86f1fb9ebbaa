//! Files that a graph would get wrong are refused in one line, by key or tensor, before anything is uploaded.

use weft_formats::gguf::{Array, File, Metadata, Value, Writer};
use weft_models::{Model, Options, Spec};

use crate::golden_model::build;

/// Why a case does not open with other metadata, and with one tensor more or less.
fn refusal(case: &str, key: Option<(&str, Value)>, add: Option<&str>, without: Option<&str>) -> String {
    let file = File::from_bytes(build(case)).unwrap();
    let mut metadata: Metadata = file.metadata().clone();
    if let Some((key, value)) = key {
        metadata.set(key, value);
    }
    let kept = || file.tensors().iter().filter(|t| Some(t.name.as_str()) != without);
    let more = file.tensor("output_norm.weight").unwrap();
    let table = kept().map(|t| (t.name.clone(), t.shape.clone(), t.ty));
    let table = table.chain(add.map(|name| (name.to_owned(), more.shape.clone(), more.ty)));
    let data: Vec<Vec<u8>> = kept().chain(add.map(|_| more)).map(|t| file.bytes(t).to_vec()).collect();
    let bytes = Writer::new(&metadata, table).unwrap().to_bytes(&data).unwrap();
    let error = Model::begin(bytes, &Options::default()).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

#[test]
fn keys_that_make_no_model() {
    let pattern = "gemma3.attention.sliding_window_pattern";
    for (case, key, value, parts) in [
        ("gemma3-f32", "gemma3.attention.sliding_window", Value::U32(0), ["sliding_window", "out of range"]),
        ("gemma3-f32", pattern, Value::Array(Array::Bool(vec![true; 3])), [pattern, "each layer"]),
        ("gemma3-f32", "gemma3.attn_logit_softcapping", Value::F32(50.0), ["softcapping", "scores"]),
        ("qwen3-f32", "qwen3.expert_count", Value::U32(8), ["expert_count", "mixture of experts"]),
        ("qwen3-f32", "qwen3.block_count", Value::U32(1 << 20), ["block_count", "more than"]),
        // With a factor of 1, or none, what such a scaling does is as little known.
        (
            "qwen3-f32",
            "qwen3.rope.scaling.type",
            Value::Str("ntk".into()),
            ["scaling.type", "linear or yarn"],
        ),
        ("qwen3-f32", "qwen3.rope.scaling.type", Value::U32(2), ["scaling.type", "is no name"]),
        ("qwen3-f32", "qwen3.rope.scaling.factor", Value::F32(-2.0), ["scaling.factor", "no rotation"]),
        (
            "llama3-f32",
            "llama.attention.head_count_kv",
            Value::Array(Array::U32(vec![1, 2])),
            ["head_count_kv", "differs from layer to layer"],
        ),
    ] {
        let error = refusal(case, Some((key, value)), None, None);
        assert!(parts.iter().all(|p| error.contains(p)), "{key}: {error}");
    }
}

/// What a reader of an architecture does not ask for is refused, unless it says what is done anyway.
#[test]
fn keys_that_nothing_honours() {
    let opens = |key: &str, value: Value| {
        let file = File::from_bytes(build("qwen3-f32")).unwrap();
        let mut metadata: Metadata = file.metadata().clone();
        metadata.set(key, value);
        let table = file.tensors().iter().map(|t| (t.name.clone(), t.shape.clone(), t.ty));
        let data: Vec<Vec<u8>> = file.tensors().iter().map(|t| file.bytes(t).to_vec()).collect();
        let bytes = Writer::new(&metadata, table).unwrap().to_bytes(&data).unwrap();
        Spec::read(&File::from_bytes(bytes).unwrap()).map(drop).map_err(|e| e.to_string())
    };
    for (name, value, shown) in [
        ("attention.sliding_window", Value::U32(4), "4"),
        ("final_logit_softcapping", Value::F32(30.0), "30"),
        ("logit_scale", Value::F32(0.5), "0.5"),
        ("attention.causal", Value::Bool(false), "false"),
        ("attention.clamp_kqv", Value::F32(8.0), "8"),
        ("use_parallel_residual", Value::Bool(true), "true"),
        ("rope.dimension_sections", Value::Array(Array::I32(vec![1, 2])), "of the type"),
        ("rope.scaling.attn_factor", Value::F32(1.2), "1.2"),
        ("rope.scaling.yarn_ext_factor", Value::F32(0.0), "0"),
        ("expert_count_of_some_kind", Value::U32(2), "2"),
        ("hidden_act", Value::Str("relu".into()), "relu"),
    ] {
        let key = format!("qwen3.{name}");
        let error = opens(&key, value).expect_err(&key);
        assert!(error.contains(&format!("\"{key}\"")) && error.contains(shown), "{error}");
        assert!(error.contains("asks for what this architecture does not do"), "{error}");
    }
    for (name, value) in [
        ("attention.sliding_window", Value::U32(0)),
        ("attention.sliding_window", Value::U32(1 << 20)),
        ("final_logit_softcapping", Value::F32(0.0)),
        ("logit_scale", Value::F32(1.0)),
        ("rope.scaling.attn_factor", Value::F32(1.0)),
        ("rope.scaling.yarn_ext_factor", Value::F32(1.0)),
        ("attention.causal", Value::Bool(true)),
        ("use_parallel_residual", Value::Bool(false)),
        ("vocab_size", Value::U32(7)),
        ("mm.tokens_per_image", Value::U32(256)),
        ("rope.scaling.original_context_length", Value::U32(64)),
    ] {
        opens(&format!("qwen3.{name}"), value).expect(name);
    }
    opens("llama.logit_scale", Value::F32(0.5)).expect("another architecture's key");
}

/// A list says layer by layer which have a window, whatever it holds; one number is a period.
#[test]
fn windows_layer_by_layer() {
    let file = File::from_bytes(build("gemma3-f32")).unwrap();
    let layers = file.metadata().u64("gemma3.block_count").unwrap() as usize;
    let masks = |pattern: Value| {
        let mut metadata: Metadata = file.metadata().clone();
        metadata.set("gemma3.attention.sliding_window_pattern", pattern);
        let table = file.tensors().iter().map(|t| (t.name.clone(), t.shape.clone(), t.ty));
        let data: Vec<Vec<u8>> = file.tensors().iter().map(|t| file.bytes(t).to_vec()).collect();
        let bytes = Writer::new(&metadata, table).unwrap().to_bytes(&data).unwrap();
        let spec = Spec::read(&File::from_bytes(bytes).unwrap()).unwrap();
        spec.blocks.iter().map(|b| b.attention.mask.window() > 0).collect::<Vec<_>>()
    };
    assert_eq!(masks(Value::Array(Array::U32(vec![1; layers]))), vec![true; layers]);
    assert_eq!(masks(Value::Array(Array::I32(vec![0; layers]))), vec![false; layers]);
    let some: Vec<bool> = (0..layers).map(|i| i % 2 == 0).collect();
    let numbers = some.iter().map(|local| u32::from(*local)).collect();
    assert_eq!(masks(Value::Array(Array::U32(numbers))), some);
    assert_eq!(masks(Value::U32(1)), vec![false; layers]);
}

#[test]
fn tensors_that_have_no_place() {
    for (case, name) in [
        ("qwen3-f32", "blk.0.attn_q.scale"),
        ("llama3-f32", "blk.1.attn_q_norm.weight"),
        ("llama3-f32", "blk.0.ffn_down.bias"),
        ("llama3-f32", "blk.0.post_attention_norm.weight"),
        ("gemma3-f32", "per_layer_token_embd.weight"),
    ] {
        let error = refusal(case, None, Some(name), None);
        assert!(error.contains(name) && error.contains("no place"), "{name}: {error}");
    }
    let norm = "blk.1.attn_k_norm.weight";
    assert!(refusal("qwen3-f32", None, None, Some(norm)).contains(&format!("\"{norm}\" is missing")));
}
