//! How config.json says that positions rotate: one object for all layers, or one for each kind of layer.

use serde_json::Value as Json;

use super::Error;
use super::json::Object;
use crate::gguf::Value;

/// The rotation of one kind of layer.
#[derive(Debug, PartialEq)]
pub(super) struct Rope {
    pub(super) theta: f64,
    pub(super) scaling: Scaling,
}

/// How positions are stretched.
#[derive(Debug, PartialEq)]
pub(super) enum Scaling {
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

impl Rope {
    /// The rotation of layers of kind `layer`, such as `full_attention`; `default` is the base where none is
    /// given.
    pub(super) fn read(o: &Object, layer: &str, default: f64) -> Result<Rope, Error> {
        let inner = object(o, layer)?;
        let theta = match inner.as_ref().map(|r| r.float("rope_theta")).transpose()?.flatten() {
            Some(theta) => theta,
            None => o.float("rope_theta")?.unwrap_or(default),
        };
        if theta <= 1.0 || !theta.is_finite() {
            return Err(o.wrong("rope_theta", "a number above 1"));
        }
        let Some(inner) = inner else { return Ok(Rope { theta, scaling: Scaling::None }) };
        let scaling = scaling(o, &inner)?;
        if let Some(partial) = inner.float("partial_rotary_factor")?.filter(|f| *f != 1.0) {
            return Err(o.unsupported(format!("partial_rotary_factor {partial}")));
        }
        if inner.flag("truncate")? == Some(false) {
            return Err(o.unsupported("truncate false (YaRN's bounds left unrounded)"));
        }
        if let Some((key, value)) = inner.unread().find(|(key, v)| !v.is_null() && *key != "finetuned") {
            let value = super::clip(&value.to_string());
            return Err(o.unsupported(format!("{key} {value} in rope_parameters")));
        }
        Ok(Rope { theta, scaling })
    }

    /// GGUF's keys, `base` being the one that holds the base.
    pub(super) fn keys(&self, base: &'static str, keys: &mut Vec<(&'static str, Value)>) {
        let mut set = |key, value: f64| keys.push((key, Value::F32(value as f32)));
        set(base, self.theta);
        match self.scaling {
            Scaling::None | Scaling::Llama3 { .. } => {}
            Scaling::Linear { factor } => {
                set("rope.scaling.factor", factor);
                keys.push(("rope.scaling.type", Value::Str("linear".to_owned())));
            }
            Scaling::Yarn { factor, original, attention, fast, slow } => {
                set("rope.scaling.factor", factor);
                if let Some(a) = attention {
                    // GGUF's factor multiplies the one that YaRN derives.
                    set("rope.scaling.attn_factor", a / (0.1 * factor.ln() + 1.0));
                }
                if let Some(v) = fast {
                    set("rope.scaling.yarn_beta_fast", v);
                }
                if let Some(v) = slow {
                    set("rope.scaling.yarn_beta_slow", v);
                }
                keys.push(("rope.scaling.type", Value::Str("yarn".to_owned())));
                keys.push(("rope.scaling.original_context_length", Value::U32(original)));
            }
        }
    }

    /// What each frequency of a head of `size` values is divided by, where the scaling is Llama 3's: long waves
    /// by the factor, short ones by 1, and a blend between (transformers, `_compute_llama3_parameters`).
    pub(super) fn factors(&self, size: usize) -> Option<Vec<f32>> {
        let Scaling::Llama3 { factor, low, high, original } = self.scaling else { return None };
        let original = f64::from(original);
        let (longest, shortest) = (original / low, original / high);
        let of = |i: usize| {
            let wave = std::f64::consts::TAU * self.theta.powf((2 * i) as f64 / size as f64);
            match () {
                () if wave < shortest => 1.0,
                () if wave > longest => factor,
                () => {
                    let smooth = (original / wave - low) / (high - low);
                    1.0 / ((1.0 - smooth) / factor + smooth)
                }
            }
        };
        Some((0..size / 2).map(|i| of(i) as f32).collect())
    }
}

/// The object that says how layers of this kind rotate, in newer files and in older ones.
fn object(o: &Object, layer: &str) -> Result<Option<Object>, Error> {
    let mut found = None;
    for key in ["rope_parameters", "rope_scaling"] {
        let Some(value) = o.get(key) else { continue };
        let Json::Object(map) = value else { return Err(o.wrong(key, "an object")) };
        let object = o.object(key)?;
        // By kind of layer, where every value is an object of its own.
        let nested = !map.is_empty() && map.values().all(Json::is_object);
        let object = if nested { object.object(layer)? } else { object };
        found = found.or(Some(object));
    }
    Ok(found)
}

fn scaling(o: &Object, r: &Object) -> Result<Scaling, Error> {
    // Older files have `type`, some both.
    let (newer, older) = (r.str("rope_type"), r.str("type"));
    let kind = newer.or(older).unwrap_or("default");
    let need = |key: &str| r.float(key)?.filter(|v| *v > 0.0).ok_or_else(|| r.missing(key));
    // Newer files may keep the original context beside the object.
    let (inside, beside) =
        (r.count("original_max_position_embeddings")?, o.count("original_max_position_embeddings")?);
    let original = inside.or(beside);
    Ok(match kind {
        "default" => Scaling::None,
        "linear" => Scaling::Linear { factor: need("factor")? },
        "yarn" => {
            let factor = need("factor")?;
            let (mscale, all) = (r.float("mscale")?, r.float("mscale_all_dim")?);
            let of = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
            // DeepSeek's two factors count together, as in transformers; one of them alone is ignored there.
            let both = mscale.zip(all).filter(|(m, a)| *m != 0.0 && *a != 0.0).map(|(m, a)| of(m) / of(a));
            Scaling::Yarn {
                factor,
                original: original.or(o.count("max_position_embeddings")?).unwrap_or(2048),
                attention: r.float("attention_factor")?.or(both),
                fast: r.float("beta_fast")?,
                slow: r.float("beta_slow")?,
            }
        }
        "llama3" => Scaling::Llama3 {
            factor: need("factor")?,
            low: need("low_freq_factor")?,
            high: need("high_freq_factor")?,
            original: original.ok_or_else(|| r.missing("original_max_position_embeddings"))?,
        },
        other => return Err(o.unsupported(format!("rope scaling {other:?}"))),
    })
}
