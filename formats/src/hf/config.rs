//! config.json: hyper-parameters, to the keys of GGUF. Defaults are those of transformers'
//! configuration classes, which a saved file may leave out.

use serde_json::Value as Json;

use super::json::{Object, clip};
use super::{Error, decoder, encoder};
use crate::gguf::Value;
use crate::names::{self, Architecture, Sizes};

/// A configuration, read and checked.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) file: String,
    pub(super) architecture: &'static Architecture,
    pub(super) sizes: Sizes,
    pub(super) layers: usize,
    /// Whether the head is the embedding; `None` where only the tensors say.
    pub(super) tied: Option<bool>,
    /// GGUF's keys, without the architecture's name in front.
    pub(super) keys: Vec<(&'static str, Value)>,
    /// What each frequency is divided by, where that is a tensor.
    pub(super) rope_factors: Option<Vec<f32>>,
    /// First rows of the position embedding that no token reaches.
    pub(super) unused_positions: usize,
    /// Rows of the embedding behind the tokens of the vocabulary are cut.
    pub(super) cuts_vocabulary: bool,
    /// Token ids by name: `bos`, `eos`, `padding`.
    pub(super) ids: Vec<(&'static str, u32)>,
    /// Every id that ends a text.
    pub(super) ends: Vec<u32>,
    /// What could not be carried over and may matter a little.
    pub(super) warnings: Vec<String>,
}

/// Keys that say nothing about what a model computes.
const HARMLESS: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_name_or_path",
    "add_pooling_layer",
    "architectures",
    "attention_bias",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "auto_map",
    "begin_suppress_tokens",
    "boi_token_index",
    "cache_implementation",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "decoder_start_token_id",
    "dtype",
    "embd_pdrop",
    "eoi_token_index",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "fused_bias_fc",
    "fused_dropout_add_ln",
    "gradient_checkpointing",
    "hidden_dropout",
    "hidden_dropout_prob",
    "id2label",
    "image_token_index",
    "initializer_range",
    "keys_to_ignore_at_inference",
    "label2id",
    "max_trained_positions",
    "max_window_layers",
    "mlp_bias",
    "mm_tokens_per_image",
    "model_type",
    "n_ctx",
    "name_or_path",
    "no_rope_layer_interval",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_router_logits",
    "pad_vocab_size_multiple",
    "pretraining_tp",
    "problem_type",
    "resid_pdrop",
    "return_dict",
    "rotary_scaling_factor",
    "router_aux_loss_coef",
    "sbert_ce_default_activation_function",
    "sep_token_id",
    "sliding_window",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
    "use_flash_attn",
    "use_rms_norm",
    "use_xentropy",
    "vision_config",
];

/// Keys that change what a model computes, with what they are in the models that are supported.
fn neutral(key: &str, value: &Json) -> Option<bool> {
    let number = |n: f64| value.as_f64() == Some(n);
    let off = || matches!(value, Json::Bool(false)) || number(0.0);
    Some(match key {
        "residual_multiplier"
        | "embedding_multiplier"
        | "logit_scale"
        | "logits_scaling"
        | "partial_rotary_factor" => number(1.0),
        "position_embedding_type" => value.as_str() == Some("absolute"),
        "scale_attn_weights" => matches!(value, Json::Bool(true)),
        "use_sliding_window"
        | "use_bidirectional_attention"
        | "add_cross_attention"
        | "alibi"
        | "use_alibi"
        | "is_decoder"
        | "is_encoder_decoder"
        | "rope_interleaved"
        | "use_mrope"
        | "use_qk_norm"
        | "qk_layernorm"
        | "scale_attn_by_inverse_layer_idx"
        | "reorder_and_upcast_attn"
        | "parallel_block"
        | "shared_expert_intermediate_size"
        | "moe_every_n_layers" => off(),
        "attn_logit_softcapping"
        | "final_logit_softcapping"
        | "attention_multiplier"
        | "attention_chunk_size"
        | "clip_qkv"
        | "num_experts"
        | "num_local_experts"
        | "n_routed_experts"
        | "quantization_config" => false,
        _ => return None,
    })
}

impl Config {
    pub(super) fn read(o: &Object) -> Result<Config, Error> {
        let classes =
            o.get("architectures").and_then(Json::as_array).ok_or_else(|| o.missing("architectures"))?;
        let class = classes.first().and_then(Json::as_str).unwrap_or_default();
        let architecture = names::of_class(class).ok_or_else(|| Error::Architecture {
            file: o.file.clone(),
            found: clip(class),
            known: names::classes().collect::<Vec<_>>().join(", "),
        })?;
        if o.get("quantization_config").is_some() {
            return Err(o.unsupported("a quantised checkpoint (quantization_config)"));
        }
        // A model of pictures and text has its text part in an object of its own.
        let text = match o.get("text_config") {
            Some(_) => Some(o.object("text_config")?),
            None => None,
        };
        let inner = text.as_ref().unwrap_or(o);
        let mut config = match architecture.name {
            "bert" | "nomic-bert" => encoder::read(inner, architecture, class)?,
            _ => decoder::read(inner, architecture)?,
        };
        if config.layers > 1 << 16 {
            return Err(inner.wrong("num_hidden_layers", "at most 65536"));
        }
        if text.is_some() {
            config.warnings.push(format!("{}: only the text part is converted", o.file));
        }
        // The outer object names tokens as well.
        for (name, id) in ids(o) {
            if !config.ids.iter().any(|(n, _)| *n == name) {
                config.ids.push((name, id));
            }
        }
        let outer = token_ids(o, "eos_token_id");
        config.ends.extend(outer);
        refuse_unread(inner, &mut config.warnings)?;
        if text.is_some() {
            refuse_unread(o, &mut config.warnings)?;
        }
        Ok(config)
    }
}

/// Nothing that a configuration says is dropped in silence.
fn refuse_unread(o: &Object, warnings: &mut Vec<String>) -> Result<(), Error> {
    for (key, value) in o.unread() {
        if value.is_null() || HARMLESS.contains(&key) {
            continue;
        }
        match neutral(key, value) {
            Some(true) => {}
            Some(false) => return Err(o.unsupported(format!("{key} {}", clip(&value.to_string())))),
            None => warnings.push(format!("{}: key {key:?} is not known and is left out", o.file)),
        }
    }
    Ok(())
}

/// `num_key_value_heads`: null means as many as there are query heads, and what absent means the class says.
pub(super) fn or_default(o: &Object, key: &str, absent: Option<u32>, null: u32) -> Result<u32, Error> {
    let given = o.count(key)?;
    Ok(match (given, o.map.contains_key(key)) {
        (Some(n), _) => n,
        (None, true) => null,
        (None, false) => absent.unwrap_or(null),
    })
}

/// Special tokens by id; of a list the first.
pub(super) fn ids(o: &Object) -> Vec<(&'static str, u32)> {
    [("bos", "bos_token_id"), ("eos", "eos_token_id"), ("padding", "pad_token_id")]
        .into_iter()
        .filter_map(|(name, key)| Some((name, token_ids(o, key).first().copied()?)))
        .collect()
}

/// The id or the ids at `key`.
pub(super) fn token_ids(o: &Object, key: &str) -> Vec<u32> {
    let id = |v: &Json| v.as_u64().and_then(|v| u32::try_from(v).ok());
    match o.get(key) {
        Some(Json::Array(all)) => all.iter().filter_map(id).collect(),
        Some(one) => id(one).into_iter().collect(),
        None => Vec::new(),
    }
}
