//! config.json of encoders, and how sentence-transformers makes one vector of their rows.

use std::path::Path;

use serde_json::Value as Json;

use super::Error;
use super::config::{Config, ids};
use super::json::{Object, clip};
use crate::gguf::{Array, Value};
use crate::names::{Architecture, Sizes};

/// `pooling_type`: scores of a classifier on the first row.
const RANK: u32 = 4;

pub(super) fn read(o: &Object, architecture: &'static Architecture, class: &str) -> Result<Config, Error> {
    match architecture.name {
        "nomic-bert" => nomic(o, architecture),
        _ => bert(o, architecture, class),
    }
}

fn bert(o: &Object, architecture: &'static Architecture, class: &str) -> Result<Config, Error> {
    // RoBERTa numbers positions from the padding token's id on, so that its first rows are never reached.
    let roberta = class.starts_with("XLMRoberta");
    let padding = o.get("pad_token_id").map_or(Some(1), Json::as_u64);
    let unused = match (roberta, padding) {
        (false, _) => 0,
        (true, Some(p)) if p < 1 << 16 => p as usize + 1,
        _ => return Err(o.wrong("pad_token_id", "a token id")),
    };
    match o.get("hidden_act") {
        None => {}
        Some(Json::String(name)) if ["gelu", "gelu_python"].contains(&name.as_str()) => {}
        Some(other) => return Err(o.unsupported(format!("hidden_act {}", clip(&other.to_string())))),
    }
    let heads = o.need("num_attention_heads")?;
    let width = o.need("hidden_size")?;
    if !width.is_multiple_of(heads) {
        return Err(o.wrong("num_attention_heads", "a divisor of hidden_size"));
    }
    let positions = o.count("max_position_embeddings")?.unwrap_or(512) as usize;
    if positions <= unused {
        return Err(o.wrong("max_position_embeddings", "more than the padding token's id and 1"));
    }
    let labels = if class.ends_with("ForSequenceClassification") { labels(o)? } else { Vec::new() };
    let sizes = Sizes {
        width: width as usize,
        vocabulary: o.need("vocab_size")? as usize,
        heads: heads as usize,
        kv_heads: heads as usize,
        head: (width / heads) as usize,
        feed_forward: o.need("intermediate_size")? as usize,
        positions: positions - unused,
        types: o.count("type_vocab_size")?.unwrap_or(2) as usize,
        labels: labels.len(),
        ..Sizes::default()
    };
    let mut config = encoder(o, architecture, sizes, o.need("num_hidden_layers")?)?;
    config.unused_positions = unused;
    config.keys.push(("context_length", Value::U32(config.sizes.positions as u32)));
    if !labels.is_empty() {
        config.keys.push(("classifier.output_labels", Value::Array(Array::Str(labels))));
        config.keys.push(("pooling_type", Value::U32(RANK)));
    }
    Ok(config)
}

/// What a classifier's scores are called, in their order.
fn labels(o: &Object) -> Result<Vec<String>, Error> {
    match o.get("id2label") {
        Some(Json::Object(map)) if !map.is_empty() => (0..map.len())
            .map(|i| {
                let name = map.get(&i.to_string()).and_then(Json::as_str).map(str::to_owned);
                name.ok_or_else(|| o.wrong("id2label", "names for 0, 1 and so on"))
            })
            .collect(),
        Some(_) => Err(o.wrong("id2label", "names by number")),
        None => Ok((0..o.count("num_labels")?.unwrap_or(2)).map(|i| format!("LABEL_{i}")).collect()),
    }
}

fn nomic(o: &Object, architecture: &'static Architecture) -> Result<Config, Error> {
    let off = |key: &str| match o.flag(key)? {
        Some(true) => Err(o.unsupported(format!("{key} true"))),
        _ => Ok(()),
    };
    for key in [
        "qkv_proj_bias",
        "mlp_fc1_bias",
        "mlp_fc2_bias",
        "causal",
        "prenorm",
        "rotary_emb_interleaved",
        "use_rms_norm",
    ] {
        off(key)?;
    }
    match o.get("activation_function") {
        Some(Json::String(name)) if name == "swiglu" => {}
        other => {
            let shown = other.map_or("absent".to_owned(), |v| clip(&v.to_string()));
            return Err(o.unsupported(format!("activation_function {shown}")));
        }
    }
    if o.float("rotary_emb_fraction")?.unwrap_or(1.0) != 1.0 {
        return Err(o.wrong("rotary_emb_fraction", "1"));
    }
    if let Some(scale) = o.float("rotary_emb_scale_base")? {
        return Err(o.unsupported(format!("rotary_emb_scale_base {scale}")));
    }
    let (width, heads) = (o.need("n_embd")?, o.need("n_head")?);
    if !width.is_multiple_of(heads) {
        return Err(o.wrong("n_head", "a divisor of n_embd"));
    }
    let sizes = Sizes {
        width: width as usize,
        vocabulary: o.need("vocab_size")? as usize,
        heads: heads as usize,
        kv_heads: heads as usize,
        head: (width / heads) as usize,
        feed_forward: o.need("n_inner")? as usize,
        types: o.count("type_vocab_size")?.unwrap_or(2) as usize,
        ..Sizes::default()
    };
    let mut config = encoder(o, architecture, sizes, o.need("n_layer")?)?;
    // What it was trained for. Beyond that the original stretches its rotation, for which GGUF has no key.
    let positions = o.count("n_positions")?.unwrap_or(2048);
    let trained = o.count("max_trained_positions")?.unwrap_or(2048).min(positions);
    if trained < positions {
        config.warnings.push(format!(
            "{}: a context of {trained}, not {positions}, which takes a rotation that GGUF cannot say",
            o.file
        ));
    }
    config.keys.push(("context_length", Value::U32(trained)));
    config.keys.push(("rope.freq_base", Value::F32(o.float("rotary_emb_base")?.unwrap_or(1e4) as f32)));
    Ok(config)
}

/// What all encoders have.
fn encoder(
    o: &Object,
    architecture: &'static Architecture,
    sizes: Sizes,
    layers: u32,
) -> Result<Config, Error> {
    let eps = match o.float("layer_norm_eps")? {
        Some(eps) => eps,
        None => o.float("layer_norm_epsilon")?.unwrap_or(1e-12),
    };
    let count = |n: usize| Value::U32(n as u32);
    Ok(Config {
        file: o.file.clone(),
        architecture,
        layers: layers as usize,
        tied: o.flag("tie_word_embeddings")?.and(None),
        keys: vec![
            ("block_count", Value::U32(layers)),
            ("embedding_length", count(sizes.width)),
            ("feed_forward_length", count(sizes.feed_forward)),
            ("attention.head_count", count(sizes.heads)),
            ("attention.layer_norm_epsilon", Value::F32(eps as f32)),
            ("attention.causal", Value::Bool(false)),
        ],
        sizes,
        rope_factors: None,
        unused_positions: 0,
        cuts_vocabulary: false,
        ids: ids(o),
        ends: Vec::new(),
        warnings: Vec::new(),
    })
}

/// What sentence-transformers does to a text before the tokenizer sees it, for which GGUF has no key.
///
/// # Errors
/// Letters that are made small, unless the tokenizer does it.
pub(super) fn before(folder: &Path, lowercase: bool, warnings: &mut Vec<String>) -> Result<(), Error> {
    if let Some(o) = Object::read_if(&folder.join("sentence_bert_config.json"))?
        && o.flag("do_lower_case")? == Some(true)
        && !lowercase
    {
        return Err(o.unsupported("do_lower_case true"));
    }
    if let Some(o) = Object::read_if(&folder.join("config_sentence_transformers.json"))?
        && let Some(name) = o.str("default_prompt_name")
    {
        let prompt = o.get("prompts").and_then(|p| p.get(name)).and_then(Json::as_str).unwrap_or(name);
        warnings.push(format!(
            "{}: default_prompt_name {:?} has no key in GGUF: put {:?} before a text yourself",
            o.file,
            clip(name),
            clip(prompt)
        ));
    }
    Ok(())
}

/// `pooling_type` of a folder that sentence-transformers wrote: 1 the mean, 2 the first row, 3 the last.
///
/// # Errors
/// Modules behind the model that GGUF has no place for, and other ways to pool.
pub(super) fn pooling(folder: &Path) -> Result<Option<u32>, Error> {
    let path = folder.join("modules.json");
    if path.exists() {
        let io = |cause| Error::Io { file: path.display().to_string(), cause };
        let bytes = crate::atomic_file::read_regular(&path).map_err(io)?;
        let modules: Json = serde_json::from_slice(&bytes)
            .map_err(|e| Error::Json { file: path.display().to_string(), cause: e.to_string() })?;
        for module in modules.as_array().into_iter().flatten() {
            let kind = module.get("type").and_then(Json::as_str).unwrap_or_default();
            let name = kind.rsplit('.').next().unwrap_or_default();
            if !["Transformer", "Pooling", "Normalize"].contains(&name) {
                let file = path.display().to_string();
                return Err(Error::Unsupported { file, what: format!("a module of type {:?}", clip(kind)) });
            }
        }
    }
    let Some(o) = Object::read_if(&folder.join("1_Pooling/config.json"))? else { return Ok(None) };
    let mut on: Vec<&str> = Vec::new();
    for (key, value) in o.map.iter().filter(|(key, _)| key.starts_with("pooling_mode")) {
        match value {
            Json::Bool(true) => on.push(key),
            // Newer files name the mode in one key.
            Json::String(mode) => on.push(mode),
            _ => {}
        }
    }
    match on[..] {
        ["pooling_mode_mean_tokens" | "mean"] => Ok(Some(1)),
        ["pooling_mode_cls_token" | "cls"] => Ok(Some(2)),
        ["pooling_mode_lasttoken" | "lasttoken"] => Ok(Some(3)),
        _ => Err(
            o.unsupported(format!("pooling by {} (supported: mean, cls, lasttoken)", clip(&on.join(", "))))
        ),
    }
}
