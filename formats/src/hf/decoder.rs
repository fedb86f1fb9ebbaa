//! config.json of decoders.

use serde_json::Value as Json;

use super::Error;
use super::config::{Config, ids, or_default, token_ids};
use super::json::Object;
use super::rope::{Rope, Scaling};
use crate::gguf::{Array, Value};
use crate::names::{Architecture, Sizes};

/// What transformers' configuration class has where a file says nothing.
struct Defaults {
    context: u32,
    kv_heads: Option<u32>,
    head: Option<u32>,
    eps: f64,
    theta: f64,
}

fn defaults(architecture: &str) -> Defaults {
    let base = Defaults { context: 32768, kv_heads: Some(32), head: None, eps: 1e-6, theta: 1e4 };
    match architecture {
        "llama" => Defaults { context: 2048, kv_heads: None, ..base },
        "qwen3" => Defaults { head: Some(128), ..base },
        "qwen3moe" => Defaults { kv_heads: Some(4), ..base },
        "olmoe" => Defaults { context: 4096, kv_heads: None, eps: 1e-5, ..base },
        "smollm3" => Defaults { kv_heads: Some(4), theta: 2e6, ..base },
        "gemma3" => Defaults { context: 131_072, kv_heads: Some(4), head: Some(256), theta: 1e6, ..base },
        _ => base,
    }
}

pub(super) fn read(o: &Object, architecture: &'static Architecture) -> Result<Config, Error> {
    let name = architecture.name;
    let gemma = name == "gemma3";
    let d = defaults(name);
    activation(o, gemma)?;
    // Gemma's text part leaves out what its class has.
    let or = |key: &str, default: u32| match o.count(key)? {
        Some(n) => Ok(n),
        None if gemma => Ok(default),
        None => Err(o.missing(key)),
    };
    let width = or("hidden_size", 2304)?;
    let heads = or("num_attention_heads", 8)?;
    let layers = or("num_hidden_layers", 26)?;
    let head_given = o.get("head_dim").is_some() || d.head.is_some();
    let head = or_default(o, "head_dim", d.head, width / heads)?;
    let kv_heads = or_default(o, "num_key_value_heads", d.kv_heads, heads)?;
    if !heads.is_multiple_of(kv_heads) {
        return Err(o.wrong("num_key_value_heads", "a divisor of num_attention_heads"));
    }
    if head == 0 || !head.is_multiple_of(2) {
        return Err(o.wrong("head_dim", "an even number of at least 2"));
    }
    let feed_forward = or("intermediate_size", 9216)?;
    let vocabulary = or("vocab_size", 262_208)?;
    let context = o.count("max_position_embeddings")?.unwrap_or(d.context);
    let eps = o.float("rms_norm_eps")?.unwrap_or(d.eps);
    if eps < 0.0 {
        return Err(o.wrong("rms_norm_eps", "a number of at least 0"));
    }
    let mut keys = vec![
        ("block_count", Value::U32(layers)),
        ("context_length", Value::U32(context)),
        ("embedding_length", Value::U32(width)),
        ("feed_forward_length", Value::U32(feed_forward)),
        ("attention.head_count", Value::U32(heads)),
        ("attention.head_count_kv", Value::U32(kv_heads)),
        ("attention.layer_norm_rms_epsilon", Value::F32(eps as f32)),
    ];
    if head_given {
        keys.push(("attention.key_length", Value::U32(head)));
        keys.push(("attention.value_length", Value::U32(head)));
    }
    if architecture.permutes {
        keys.push(("vocab_size", Value::U32(vocabulary)));
        keys.push(("rope.dimension_count", Value::U32(head)));
    }
    let rope = Rope::read(o, "full_attention", d.theta)?;
    rope.keys("rope.freq_base", &mut keys);
    let mut sizes = Sizes {
        width: width as usize,
        vocabulary: vocabulary as usize,
        heads: heads as usize,
        kv_heads: kv_heads as usize,
        head: head as usize,
        feed_forward: feed_forward as usize,
        ..Sizes::default()
    };
    match name {
        "gemma3" => windows(o, layers, &sizes, &mut keys)?,
        _ => whole_attention(o)?,
    }
    match name {
        "qwen3moe" | "olmoe" => experts(o, name, &mut sizes, &mut keys)?,
        "smollm3" => rotated_layers(o, layers)?,
        _ => {}
    }
    Ok(Config {
        file: o.file.clone(),
        architecture,
        layers: layers as usize,
        tied: o.flag("tie_word_embeddings")?,
        rope_factors: rope.factors(sizes.head),
        sizes,
        keys,
        unused_positions: 0,
        cuts_vocabulary: gemma,
        ids: ids(o),
        ends: token_ids(o, "eos_token_id"),
        warnings: Vec::new(),
    })
}

/// Refuses an activation that the graph does not have; some have several names.
fn activation(o: &Object, gemma: bool) -> Result<(), Error> {
    // Gemma's newer key counts where both are there.
    let (newer, older) = (o.get("hidden_activation"), o.get("hidden_act"));
    let key = if newer.is_some() { "hidden_activation" } else { "hidden_act" };
    let known: &[&str] = match gemma {
        true => &["gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu_accurate"],
        false => &["silu", "swish"],
    };
    match newer.or(older) {
        None => Ok(()),
        Some(Json::String(name)) if known.contains(&name.as_str()) => Ok(()),
        Some(other) => Err(o.unsupported(format!("{key} {}", super::clip(&other.to_string())))),
    }
}

/// The kinds of the layers, where the file lists them.
fn layer_types(o: &Object, layers: u32) -> Result<Option<Vec<&str>>, Error> {
    let Some(value) = o.get("layer_types") else { return Ok(None) };
    let wrong = || o.wrong("layer_types", "a list of one name for each layer");
    let types: Option<Vec<&str>> = value.as_array().and_then(|l| l.iter().map(Json::as_str).collect());
    let types = types.filter(|t| t.len() == layers as usize).ok_or_else(wrong)?;
    Ok(Some(types))
}

/// Every layer sees all that came before.
fn whole_attention(o: &Object) -> Result<(), Error> {
    if o.flag("use_sliding_window")? == Some(true) {
        return Err(o.unsupported("sliding-window attention (use_sliding_window)"));
    }
    let types = o.get("layer_types").and_then(Json::as_array).into_iter().flatten();
    match types.into_iter().find(|t| t.as_str() != Some("full_attention")) {
        Some(other) => {
            Err(o.unsupported(format!("layer type {} (layer_types)", super::clip(&other.to_string()))))
        }
        None => Ok(()),
    }
}

/// Gemma's local layers: their window, which they are, their rotation, and the scale of attention.
fn windows(
    o: &Object,
    layers: u32,
    sizes: &Sizes,
    keys: &mut Vec<(&'static str, Value)>,
) -> Result<(), Error> {
    let pattern = o.count("sliding_window_pattern")?.or(o.count("_sliding_window_pattern")?);
    let types = layer_types(o, layers)?;
    let local = |i: usize| match &types {
        Some(types) => types[i] == "sliding_attention",
        None => !(i + 1).is_multiple_of(pattern.unwrap_or(6) as usize),
    };
    if let Some(other) = types.iter().flatten().find(|t| !["sliding_attention", "full_attention"].contains(t))
    {
        return Err(o.unsupported(format!("layer type {other:?} (layer_types)")));
    }
    let local: Vec<bool> = (0..layers as usize).map(local).collect();
    if local.contains(&true) {
        let window = or_default(o, "sliding_window", Some(4096), 4096)?;
        keys.push(("attention.sliding_window", Value::U32(window)));
        let every = |p: usize| local.iter().enumerate().all(|(i, l)| *l != (i + 1).is_multiple_of(p));
        keys.push(match (1..=local.len() + 1).find(|p| every(*p)) {
            Some(p) => ("attention.sliding_window_pattern", Value::U32(p as u32)),
            None => ("attention.sliding_window_pattern", Value::Array(Array::Bool(local))),
        });
        let base = o.float("rope_local_base_freq")?.unwrap_or(1e4);
        let mut inner = Rope { theta: base, scaling: Scaling::None };
        let nested = ["rope_parameters", "rope_scaling"]
            .iter()
            .any(|k| o.get(k).is_some_and(|v| v.get("sliding_attention").is_some()));
        if nested {
            inner = Rope::read(o, "sliding_attention", base)?;
        }
        if inner.scaling != Scaling::None {
            return Err(o.unsupported("a rope scaling of the layers with a window"));
        }
        inner.keys("rope.freq_base_swa", keys);
    }
    // GGUF has no key for the scale: readers take the size of a head, and of 62 layers width / heads.
    let scaled = if layers == 62 { sizes.width / sizes.heads } else { sizes.head };
    if let Some(given) = o.float("query_pre_attn_scalar")?.filter(|s| *s != scaled as f64) {
        return Err(o.unsupported(format!("query_pre_attn_scalar {given} (supported here: {scaled})")));
    }
    if let Some(cap) = o.float("final_logit_softcapping")? {
        keys.push(("final_logit_softcapping", Value::F32(cap as f32)));
    }
    Ok(())
}

fn experts(
    o: &Object,
    name: &str,
    sizes: &mut Sizes,
    keys: &mut Vec<(&'static str, Value)>,
) -> Result<(), Error> {
    let qwen = name == "qwen3moe";
    let given = o.count("num_experts")?.or(o.count("num_local_experts")?);
    let count = given.unwrap_or(if qwen { 128 } else { 64 });
    if count > 1 << 16 {
        return Err(o.wrong("num_experts", "at most 65536"));
    }
    let used = o.count("num_experts_per_tok")?.unwrap_or(8);
    if used > count {
        return Err(o.wrong("num_experts_per_tok", "at most num_experts"));
    }
    // Each graph has one of the two.
    if o.flag("norm_topk_prob")?.unwrap_or(false) != qwen {
        return Err(o.unsupported(format!("norm_topk_prob {} in a {name} model", !qwen)));
    }
    if o.count("decoder_sparse_step")?.unwrap_or(1) != 1 {
        return Err(o.unsupported("decoder_sparse_step other than 1 (layers without experts)"));
    }
    if o.get("mlp_only_layers").is_some_and(|v| v.as_array().is_none_or(|l| !l.is_empty())) {
        return Err(o.unsupported("mlp_only_layers (layers without experts)"));
    }
    sizes.experts = count as usize;
    sizes.expert_feed_forward = match qwen {
        true => o.count("moe_intermediate_size")?.unwrap_or(768) as usize,
        false => sizes.feed_forward,
    };
    keys.push(("expert_count", Value::U32(count)));
    keys.push(("expert_used_count", Value::U32(used)));
    if qwen {
        keys.push(("expert_feed_forward_length", Value::U32(sizes.expert_feed_forward as u32)));
    }
    Ok(())
}

/// SmolLM3 leaves the rotation out in every fourth layer, and GGUF has no key for other patterns.
fn rotated_layers(o: &Object, layers: u32) -> Result<(), Error> {
    let interval = o.count("no_rope_layer_interval")?.unwrap_or(4);
    let given = o.get("no_rope_layers");
    let same = match given.and_then(Json::as_array) {
        Some(list) => {
            list.len() == layers as usize
                && list.iter().enumerate().all(|(i, r)| r.as_u64() == Some(u64::from((i + 1) % 4 != 0)))
        }
        None => given.is_none() && interval == 4,
    };
    match same {
        true => Ok(()),
        false => Err(o.unsupported("no_rope_layers other than every fourth")),
    }
}
