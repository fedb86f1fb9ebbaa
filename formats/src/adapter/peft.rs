//! PEFT: `adapter_model.safetensors` with `base_model.model.model.layers.N.MODULE.lora_A.weight`
//! `[rank, cols]` and `.lora_B.weight` `[rows, rank]`, and `adapter_config.json` beside it.

use std::collections::BTreeMap;
use std::path::Path;

use ::safetensors::tensor::TensorView;
use ::safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value as Json, json};

use super::{Adapter, Base, Error, Pair};
use crate::hf::{permuted, unpermuted};

pub(super) const WEIGHTS: &str = "adapter_model.safetensors";
const CONFIG: &str = "adapter_config.json";
const PREFIX: &str = "base_model.model.model.layers.";

/// Names of the matrices in GGUF and in Hugging Face's models.
const MODULES: [(&str, &str); 7] = [
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

pub(super) fn read(path: &Path, base: &Base) -> Result<Adapter, Error> {
    let config_path = path.with_file_name(CONFIG);
    let io = |path: &Path, cause| Error::Io { file: path.display().to_string(), cause };
    let bytes = std::fs::read(path).map_err(|e| io(path, e))?;
    let text = std::fs::read(&config_path).map_err(|e| io(&config_path, e))?;
    let config_name = config_path.display().to_string();
    let config = match serde_json::from_slice(&text) {
        Ok(Json::Object(map)) => map,
        Ok(_) => return Err(Error::Json { file: config_name, cause: "not an object".to_owned() }),
        Err(e) => return Err(Error::Json { file: config_name, cause: e.to_string() }),
    };
    let (alpha, rslora) = settings(&config, &config_name)?;

    let file = path.display().to_string();
    let bad = |cause: String| Error::Safetensors { file: file.clone(), cause };
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| bad(e.to_string()))?;
    let wrong = |name: &str, why: String| Error::Tensor { file: file.clone(), name: name.to_owned(), why };
    let mut halves: BTreeMap<(u32, &str), [Option<(String, TensorView<'_>)>; 2]> = BTreeMap::new();
    for (name, view) in tensors.tensors() {
        let Some((layer, part, half)) = parse(&name) else {
            return Err(wrong(
                &name,
                "is not LoRA of a layer's matrix, which is all that is supported".into(),
            ));
        };
        if view.shape().len() != 2 || view.shape().contains(&0) {
            return Err(wrong(&name, format!("has the shape {:?}, not that of a matrix", view.shape())));
        }
        halves.entry((layer, part)).or_default()[half] = Some((name, view));
    }
    let mut pairs = Vec::new();
    for ((layer, part), pair) in halves {
        let (a, b) = match pair {
            [Some(a), Some(b)] => (a, b),
            [Some((name, _)), None] => return Err(wrong(&name, "has no lora_B beside it".into())),
            [None, Some((name, _))] => return Err(wrong(&name, "has no lora_A beside it".into())),
            [None, None] => continue,
        };
        let (rank, cols, rows) = (a.1.shape()[0], a.1.shape()[1], b.1.shape()[0]);
        if b.1.shape()[1] != rank {
            return Err(wrong(&b.0, format!("has the rank {}, its lora_A {rank}", b.1.shape()[1])));
        }
        let values = |(name, view): &(String, TensorView<'_>)| {
            let bytes = view.data();
            Ok(match view.dtype() {
                Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
                Dtype::F16 => {
                    bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect()
                }
                Dtype::BF16 => {
                    bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect()
                }
                other => return Err(wrong(name, format!("is {other:?}, not F32, F16 or BF16"))),
            })
        };
        let mut b_values: Vec<f32> = values(&b)?;
        if let Some(heads) = base.permuted_heads(part) {
            if rows % (2 * heads) != 0 {
                return Err(wrong(&b.0, format!("has {rows} rows, not {heads} heads of an even size")));
            }
            b_values = reordered(&b_values, |bytes| permuted(bytes, rows, heads));
        }
        let tensor = format!("blk.{layer}.{part}.weight");
        pairs.push(Pair { tensor, rank, rows, cols, a: values(&a)?, b: b_values });
    }
    Ok(Adapter { alpha, rslora, pairs })
}

/// Layer, GGUF's part, and 0 for A or 1 for B of a tensor's name.
fn parse(name: &str) -> Option<(u32, &'static str, usize)> {
    let (layer, rest) = name.strip_prefix(PREFIX)?.split_once('.')?;
    let (module, half) = match rest.strip_suffix(".weight")? {
        r if r.ends_with(".lora_A") => (r.strip_suffix(".lora_A")?, 0),
        r => (r.strip_suffix(".lora_B")?, 1),
    };
    let part = MODULES.iter().find(|(_, hf)| *hf == module)?.0;
    // A number spelt in one way only, so that no two names mean one matrix.
    let number: u32 = layer.parse().ok()?;
    (number.to_string() == layer).then_some((number, part, half))
}

fn settings(config: &Map<String, Json>, file: &str) -> Result<(f32, bool), Error> {
    let unsupported = |what: String| Error::Unsupported { file: file.to_owned(), what };
    let set = |key: &str| match config.get(key) {
        None | Some(Json::Null | Json::Bool(false)) => false,
        Some(Json::Object(o)) => !o.is_empty(),
        Some(Json::Array(a)) => !a.is_empty(),
        Some(_) => true,
    };
    match config.get("peft_type").and_then(Json::as_str) {
        None | Some("LORA") => {}
        Some(other) => return Err(unsupported(format!("peft_type {other:?}"))),
    }
    for key in ["use_dora", "fan_in_fan_out", "alpha_pattern", "modules_to_save", "lora_bias"] {
        if set(key) {
            return Err(unsupported(key.to_owned()));
        }
    }
    if let Some(bias) = config.get("bias").and_then(Json::as_str).filter(|b| *b != "none") {
        return Err(unsupported(format!("bias {bias:?}")));
    }
    let alpha = config.get("lora_alpha").and_then(Json::as_f64).filter(|a| a.is_finite());
    let alpha = alpha.ok_or_else(|| Error::Key {
        file: file.to_owned(),
        key: "lora_alpha",
        found: config.get("lora_alpha").map_or("absent".to_owned(), Json::to_string),
        expected: "a number",
    })?;
    Ok((alpha as f32, set("use_rslora")))
}

/// Rows of `values` moved by a function on their bytes.
fn reordered(values: &[f32], by: impl Fn(&[u8]) -> Vec<u8>) -> Vec<f32> {
    by(bytemuck::cast_slice(values)).as_chunks().0.iter().map(|b| f32::from_ne_bytes(*b)).collect()
}

pub(super) fn write(adapter: &Adapter, folder: &Path, base: &Base, model: &str) -> Result<(), Error> {
    let shown = |name: &str| folder.join(name).display().to_string();
    let mut tensors = Vec::new();
    let (mut modules, mut rank) = (Vec::new(), 0);
    for p in &adapter.pairs {
        let unknown = || Error::Tensor {
            file: shown(WEIGHTS),
            name: p.tensor.clone(),
            why: "has no name in PEFT's files".to_owned(),
        };
        let rest = p.tensor.strip_prefix("blk.").and_then(|t| t.strip_suffix(".weight"));
        let (layer, part) = rest.and_then(|r| r.split_once('.')).ok_or_else(unknown)?;
        let (_, module) = MODULES.iter().find(|(gguf, _)| *gguf == part).ok_or_else(unknown)?;
        let b = match base.permuted_heads(part) {
            Some(heads) => reordered(&p.b, |bytes| unpermuted(bytes, p.rows, heads)),
            None => p.b.clone(),
        };
        let last = module.rsplit('.').next().unwrap_or(module);
        if !modules.contains(&last) {
            modules.push(last);
        }
        rank = p.rank;
        let bytes = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let name = format!("{PREFIX}{layer}.{module}");
        tensors.push((format!("{name}.lora_A.weight"), vec![p.rank, p.cols], bytes(&p.a)));
        tensors.push((format!("{name}.lora_B.weight"), vec![p.rows, p.rank], bytes(&b)));
    }
    // PEFT has one rank and a table of exceptions.
    let exceptions: Map<String, Json> = adapter
        .pairs
        .iter()
        .filter(|p| p.rank != rank)
        .filter_map(|p| {
            let (layer, part) = p.tensor.strip_prefix("blk.")?.strip_suffix(".weight")?.split_once('.')?;
            let module = MODULES.iter().find(|(gguf, _)| *gguf == part)?.1;
            Some((format!("layers.{layer}.{module}"), p.rank.into()))
        })
        .collect();
    let config = json!({
        "alpha_pattern": {},
        "base_model_name_or_path": model,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": number(adapter.alpha),
        "lora_dropout": 0.0,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": exceptions,
        "target_modules": modules,
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": adapter.rslora,
    });
    let views: Result<Vec<_>, _> = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect();
    let meta = Some([("format".to_owned(), "pt".to_owned())].into());
    let bytes = views
        .and_then(|views| ::safetensors::serialize(views, meta))
        .map_err(|e| Error::Safetensors { file: shown(WEIGHTS), cause: e.to_string() })?;
    whole(&folder.join(WEIGHTS), &bytes)?;
    whole(&folder.join(CONFIG), format!("{config:#}\n").as_bytes())
}

/// Whole numbers without a point: PEFT's own are integers.
fn number(x: f32) -> Json {
    if x.fract() == 0.0 && x.abs() < 1e9 { json!(x as i64) } else { json!(x) }
}

/// A file that appears whole or not at all.
fn whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let temporary = path.with_file_name(name);
    let done = std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path));
    done.map_err(|cause| {
        let _ = std::fs::remove_file(&temporary);
        Error::Io { file: path.display().to_string(), cause }
    })
}
