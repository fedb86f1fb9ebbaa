//! config.json: hyper-parameters, to the keys of GGUF. Defaults are those of transformers'
//! configuration classes, which a saved file may leave out.

use serde_json::Value as Json;

use super::Error;
use super::json::Object;
use crate::gguf::{Metadata, Value};

/// An architecture that is known.
#[derive(Debug)]
pub(super) struct Family {
    /// GGUF's name for it.
    pub(super) name: &'static str,
    /// The class that config.json names.
    class: &'static str,
    /// Heads' dimensions are stored for rotation of the two halves, and GGUF wants adjacent pairs.
    pub(super) permutes: bool,
    context: u32,
    kv_heads: Option<u32>,
    head_dim: Option<u32>,
    /// Every feed-forward network is a mixture of experts.
    experts: bool,
}

static FAMILIES: [Family; 4] = [
    Family {
        name: "llama",
        class: "LlamaForCausalLM",
        permutes: true,
        context: 2048,
        kv_heads: None,
        head_dim: None,
        experts: false,
    },
    Family {
        name: "qwen2",
        class: "Qwen2ForCausalLM",
        permutes: false,
        context: 32768,
        kv_heads: Some(32),
        head_dim: None,
        experts: false,
    },
    Family {
        name: "qwen3",
        class: "Qwen3ForCausalLM",
        permutes: false,
        context: 32768,
        kv_heads: Some(32),
        head_dim: Some(128),
        experts: false,
    },
    Family {
        name: "qwen3moe",
        class: "Qwen3MoeForCausalLM",
        permutes: false,
        context: 32768,
        kv_heads: Some(4),
        head_dim: None,
        experts: true,
    },
];

/// A mixture of experts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Experts {
    pub(super) count: u32,
    pub(super) used: u32,
    /// Columns of each one's gate and up.
    pub(super) width: u32,
}

/// Reads what there is of experts; every layer must have them, and their weights must add up to one.
fn experts(o: &Object) -> Result<Experts, Error> {
    if o.count("decoder_sparse_step")?.is_some_and(|n| n != 1) {
        return Err(o.unsupported("layers without experts (decoder_sparse_step)"));
    }
    if o.get("mlp_only_layers").and_then(Json::as_array).is_some_and(|l| !l.is_empty()) {
        return Err(o.unsupported("layers without experts (mlp_only_layers)"));
    }
    // transformers takes false where the key is absent.
    if o.flag("norm_topk_prob")? != Some(true) {
        return Err(o.unsupported("experts whose weights are not divided by their sum (norm_topk_prob)"));
    }
    let count = match o.count("num_experts")? {
        Some(n) => n,
        None => o.need("num_local_experts")?,
    };
    let used = o.need("num_experts_per_tok")?;
    if used > count {
        return Err(o.wrong("num_experts_per_tok", "at most num_experts"));
    }
    if count > 1 << 16 {
        return Err(o.wrong("num_experts", "at most 65536"));
    }
    Ok(Experts { count, used, width: o.need("moe_intermediate_size")? })
}

/// How positions are stretched.
#[derive(Debug, PartialEq)]
enum Scaling {
    None,
    Linear {
        factor: f64,
    },
    Yarn {
        factor: f64,
        original: u32,
        attention: Option<f64>,
        fast: Option<f64>,
        slow: Option<f64>,
    },
    /// Its factors become a tensor.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: u32,
    },
}

#[derive(Debug)]
pub(super) struct Config {
    pub(super) file: String,
    pub(super) family: &'static Family,
    pub(super) layers: u32,
    pub(super) width: u32,
    pub(super) feed_forward: u32,
    pub(super) experts: Option<Experts>,
    pub(super) heads: u32,
    pub(super) kv_heads: u32,
    pub(super) head_dim: u32,
    pub(super) vocabulary: u32,
    /// Whether the head is the embedding; `None` where only the tensors say.
    pub(super) tied: Option<bool>,
    context: u32,
    eps: f64,
    theta: f64,
    scaling: Scaling,
    /// Whether the file gives the size of a head, which need not be width / heads.
    own_head_dim: bool,
    /// Token ids by name: `bos`, `eos`, `padding`.
    pub(super) ids: Vec<(&'static str, u32)>,
}

impl Config {
    pub(super) fn read(o: &Object) -> Result<Config, Error> {
        let known = || FAMILIES.iter().map(|f| f.class).collect::<Vec<_>>().join(", ");
        let classes =
            o.get("architectures").and_then(Json::as_array).ok_or_else(|| o.missing("architectures"))?;
        let class = classes.first().and_then(Json::as_str).unwrap_or_default();
        let family = FAMILIES.iter().find(|f| f.class == class).ok_or_else(|| Error::Architecture {
            file: o.file.clone(),
            found: super::json::clip(class),
            known: known(),
        })?;
        if o.get("quantization_config").is_some() {
            return Err(o.unsupported("a quantised checkpoint (quantization_config)"));
        }
        if o.flag("use_sliding_window")? == Some(true) {
            return Err(o.unsupported("sliding-window attention (use_sliding_window)"));
        }
        match o.str("hidden_act") {
            None | Some("silu") => {}
            Some(other) => return Err(o.unsupported(format!("hidden_act {other:?}"))),
        }
        let width = o.need("hidden_size")?;
        let heads = o.need("num_attention_heads")?;
        let own = o.count("head_dim")?.or(family.head_dim);
        let config = Config {
            file: o.file.clone(),
            family,
            layers: o.need("num_hidden_layers")?,
            width,
            feed_forward: o.need("intermediate_size")?,
            experts: if family.experts { Some(experts(o)?) } else { None },
            heads,
            kv_heads: o.count("num_key_value_heads")?.or(family.kv_heads).unwrap_or(heads),
            head_dim: own.unwrap_or(width / heads),
            vocabulary: o.need("vocab_size")?,
            tied: o.flag("tie_word_embeddings")?,
            context: o.count("max_position_embeddings")?.unwrap_or(family.context),
            eps: o.float("rms_norm_eps")?.unwrap_or(1e-6),
            theta: theta(o)?,
            scaling: scaling(o)?,
            own_head_dim: own.is_some(),
            ids: ids(o),
        };
        if !config.heads.is_multiple_of(config.kv_heads) {
            return Err(o.wrong("num_key_value_heads", "a divisor of num_attention_heads"));
        }
        if config.head_dim == 0 || !config.head_dim.is_multiple_of(2) {
            return Err(o.wrong("head_dim", "an even number of at least 2"));
        }
        if config.layers > 1 << 16 {
            return Err(o.wrong("num_hidden_layers", "at most 65536"));
        }
        Ok(config)
    }

    /// Sets the hyper-parameters.
    pub(super) fn put(&self, metadata: &mut Metadata) {
        let arch = self.family.name;
        let mut set = |key: &str, value| metadata.set(format!("{arch}.{key}"), value);
        set("block_count", Value::U32(self.layers));
        set("context_length", Value::U32(self.context));
        set("embedding_length", Value::U32(self.width));
        set("feed_forward_length", Value::U32(self.feed_forward));
        set("attention.head_count", Value::U32(self.heads));
        set("attention.head_count_kv", Value::U32(self.kv_heads));
        set("rope.freq_base", Value::F32(self.theta as f32));
        set("attention.layer_norm_rms_epsilon", Value::F32(self.eps as f32));
        if let Some(e) = self.experts {
            set("expert_count", Value::U32(e.count));
            set("expert_used_count", Value::U32(e.used));
            set("expert_feed_forward_length", Value::U32(e.width));
        }
        if self.own_head_dim {
            set("attention.key_length", Value::U32(self.head_dim));
            set("attention.value_length", Value::U32(self.head_dim));
        }
        if arch == "llama" {
            set("vocab_size", Value::U32(self.vocabulary));
            set("rope.dimension_count", Value::U32(self.head_dim));
        }
        match self.scaling {
            Scaling::None | Scaling::Llama3 { .. } => {}
            Scaling::Linear { factor } => {
                set("rope.scaling.type", Value::Str("linear".to_owned()));
                set("rope.scaling.factor", Value::F32(factor as f32));
            }
            Scaling::Yarn { factor, original, attention, fast, slow } => {
                set("rope.scaling.type", Value::Str("yarn".to_owned()));
                set("rope.scaling.factor", Value::F32(factor as f32));
                set("rope.scaling.original_context_length", Value::U32(original));
                if let Some(a) = attention {
                    // GGUF's factor multiplies the one that YaRN derives.
                    set("rope.scaling.attn_factor", Value::F32((a / (0.1 * factor.ln() + 1.0)) as f32));
                }
                if let Some(v) = fast {
                    set("rope.scaling.yarn_beta_fast", Value::F32(v as f32));
                }
                if let Some(v) = slow {
                    set("rope.scaling.yarn_beta_slow", Value::F32(v as f32));
                }
            }
        }
    }

    /// What each frequency is divided by, where the scaling is Llama 3's: long waves by the factor,
    /// short ones by 1, and a blend between (transformers, `_compute_llama3_parameters`).
    pub(super) fn rope_factors(&self) -> Option<Vec<f32>> {
        let Scaling::Llama3 { factor, low, high, original } = self.scaling else { return None };
        let original = f64::from(original);
        let (longest, shortest) = (original / low, original / high);
        let of = |i: u32| {
            let wave = std::f64::consts::TAU * self.theta.powf(f64::from(2 * i) / f64::from(self.head_dim));
            match () {
                () if wave < shortest => 1.0,
                () if wave > longest => factor,
                () => {
                    let smooth = (original / wave - low) / (high - low);
                    1.0 / ((1.0 - smooth) / factor + smooth)
                }
            }
        };
        Some((0..self.head_dim / 2).map(|i| of(i) as f32).collect())
    }
}

/// The object that says how positions rotate, in newer files and in older ones.
fn rope(o: &Object) -> Result<Option<Object>, Error> {
    for key in ["rope_parameters", "rope_scaling"] {
        match o.get(key) {
            None => {}
            Some(Json::Object(map)) => return Ok(Some(Object { file: o.file.clone(), map: map.clone() })),
            Some(_) => return Err(o.wrong(key, "an object")),
        }
    }
    Ok(None)
}

fn theta(o: &Object) -> Result<f64, Error> {
    let inner = rope(o)?.map(|r| r.float("rope_theta")).transpose()?.flatten();
    let theta = inner.or(o.float("rope_theta")?).unwrap_or(10000.0);
    if theta > 0.0 { Ok(theta) } else { Err(o.wrong("rope_theta", "a positive number")) }
}

fn scaling(o: &Object) -> Result<Scaling, Error> {
    let Some(r) = rope(o)? else { return Ok(Scaling::None) };
    let kind = r.str("rope_type").or(r.str("type")).unwrap_or("default");
    let need = |key: &str| r.float(key)?.filter(|v| *v > 0.0).ok_or_else(|| r.missing(key));
    // Newer files may keep the original context beside the object.
    let original = || match r.count("original_max_position_embeddings")? {
        Some(n) => Ok(Some(n)),
        None => o.count("original_max_position_embeddings"),
    };
    Ok(match kind {
        "default" => Scaling::None,
        "linear" => Scaling::Linear { factor: need("factor")? },
        "yarn" => Scaling::Yarn {
            factor: need("factor")?,
            original: original()?.or(o.count("max_position_embeddings")?).unwrap_or(2048),
            attention: r.float("attention_factor")?,
            fast: r.float("beta_fast")?,
            slow: r.float("beta_slow")?,
        },
        "llama3" => Scaling::Llama3 {
            factor: need("factor")?,
            low: need("low_freq_factor")?,
            high: need("high_freq_factor")?,
            original: original()?.ok_or_else(|| r.missing("original_max_position_embeddings"))?,
        },
        other => return Err(o.unsupported(format!("rope scaling {other:?}"))),
    })
}

/// Special tokens by id; of a list the first.
fn ids(o: &Object) -> Vec<(&'static str, u32)> {
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
