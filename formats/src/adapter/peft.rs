//! PEFT: `adapter_model.safetensors` with `base_model.model.NAME.lora_A.weight` `[rank, cols]` and
//! `.lora_B.weight` `[rows, rank]`, NAME being Hugging Face's for the matrix (`crate::names`), and
//! `adapter_config.json` beside it, whose keys are known or refused.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use ::safetensors::tensor::TensorView;
use ::safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value as Json, json};

use super::sites::Sites;
use super::{Adapter, Base, Error, Pair};
use crate::AtomicFile;
use crate::atomic_file::read_regular;
use crate::hf::{clip, permuted, unpermuted};
use crate::names::{self, Architecture, Module, Place};

pub(super) const WEIGHTS: &str = "adapter_model.safetensors";
const CONFIG: &str = "adapter_config.json";
/// What PEFT puts before every name of the model it wraps.
const PREFIX: &str = "base_model.model.";

/// Keys that change nothing of what an adapter's tensors mean.
const HARMLESS: [&str; 25] = [
    "arrow_config",
    "auto_mapping",
    "base_model_name_or_path",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "megatron_config",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
    // These two have values that are refused.
    "bias",
    "init_lora_weights",
];

/// Ways to start an adapter that leave the base as it is. Others (PiSSA, OLoRA, CorDA, LoftQ) take part of
/// the base out, so that their tensors belong to weights that nobody stores.
const INITS: [&str; 3] = ["gaussian", "orthogonal", "eva"];

pub(super) fn read(path: &Path, base: &Base) -> Result<Adapter, Error> {
    let config_path = path.with_file_name(CONFIG);
    let io = |path: &Path, cause| Error::Io { file: path.display().to_string(), cause };
    let pickled = path.with_file_name("adapter_model.bin");
    if !path.exists() && pickled.is_file() {
        let what = format!("the pickled form (PEFT writes {WEIGHTS} where safe_serialization is True)");
        return Err(Error::Unsupported { file: pickled.display().to_string(), what });
    }
    let bytes = read_regular(path).map_err(|e| io(path, e))?;
    let text = read_regular(&config_path).map_err(|e| io(&config_path, e))?;
    let config_name = config_path.display().to_string();
    let config = match serde_json::from_slice(&text) {
        Ok(Json::Object(map)) => map,
        Ok(_) => return Err(Error::Json { file: config_name, cause: "not an object".to_owned() }),
        Err(e) => return Err(Error::Json { file: config_name, cause: e.to_string() }),
    };
    let (alpha, rslora) = settings(&config, &config_name)?;
    let architecture = architecture(base, &config_name)?;
    let sites = Sites::read(&config).map_err(|(key, found, expected)| Error::Key {
        file: config_name.clone(),
        key,
        found: clip(&found),
        expected,
    })?;

    let file = path.display().to_string();
    let bad = |cause: String| Error::Safetensors { file: file.clone(), cause };
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| bad(e.to_string()))?;
    let wrong = |name: &str, why: String| Error::Tensor { file: file.clone(), name: name.to_owned(), why };
    let mut halves: BTreeMap<(String, &str), [Option<(String, TensorView<'_>)>; 2]> = BTreeMap::new();
    for (name, view) in tensors.tensors() {
        let Some((layer, module, half)) = parse(architecture, &name) else {
            let why = match name.contains("lora_embedding") {
                true => "adapts the embedding, which is not supported",
                false if name.ends_with(".weight") && name.contains(".lora_") => {
                    "is LoRA of no matrix of this architecture by a name that PEFT writes \
                     (base_model.model.MODULE.lora_A.weight)"
                }
                false => "is not LoRA of a matrix, which is all that is supported",
            };
            return Err(wrong(&name, why.into()));
        };
        if view.shape().len() != 2 || view.shape().contains(&0) {
            return Err(wrong(&name, format!("has the shape {:?}, not that of a matrix", view.shape())));
        }
        if let Some(key) = sites.leave_out(module_of(&name)) {
            let why = format!("is not among what {key} of {CONFIG} names, so PEFT would leave it out");
            return Err(wrong(&name, why));
        }
        let at = (module.gguf_name(layer), module.gguf);
        if let Some((other, _)) = &halves.entry(at.clone()).or_default()[half] {
            return Err(wrong(&name, format!("means the same matrix as {other:?}")));
        }
        halves.entry(at).or_default()[half] = Some((name, view));
    }
    let mut pairs = Vec::new();
    for ((tensor, part), pair) in halves {
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
        // What the strength is divided by has to be what the tensors have.
        let ranks = sites.ranks(module_of(&a.0));
        if !ranks.is_empty() && !ranks.contains(&(rank as u64)) {
            let said: Vec<String> = ranks.iter().map(u64::to_string).collect();
            let why = format!("has the rank {rank}, where r and rank_pattern say {}", said.join(", "));
            return Err(wrong(&a.0, why));
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
        pairs.push(Pair { tensor, rank, rows, cols, a: values(&a)?, b: b_values });
    }
    Ok(Adapter { alpha, rslora, pairs })
}

fn architecture(base: &Base, file: &str) -> Result<&'static Architecture, Error> {
    names::of_gguf(&base.architecture).ok_or_else(|| Error::Unsupported {
        file: file.to_owned(),
        what: format!("PEFT's form of an adapter for the architecture {:?}", base.architecture),
    })
}

/// PEFT's name of the module that a tensor's name says, without what PEFT puts around it.
fn module_of(name: &str) -> &str {
    let rest = name.strip_prefix(PREFIX).unwrap_or(name);
    rest.split_once(".lora_").map_or(rest, |(module, _)| module)
}

/// Layer, module, and 0 for A or 1 for B of a tensor's name.
fn parse(architecture: &Architecture, name: &str) -> Option<(usize, &'static Module, usize)> {
    let rest = name.strip_prefix(PREFIX)?.strip_suffix(".weight")?;
    let (module, half) = match rest.strip_suffix(".lora_A") {
        Some(module) => (module, 0),
        None => (rest.strip_suffix(".lora_B")?, 1),
    };
    let (layer, module) = architecture.of_hf_name(module)?;
    // Norms are vectors, and an embedding's adapter has names of its own.
    (module.shape.len() == 2 && module.gguf != "token_embd").then_some((layer, module, half))
}

fn settings(config: &Map<String, Json>, file: &str) -> Result<(f32, bool), Error> {
    let unsupported = |what: String| Error::Unsupported { file: file.to_owned(), what };
    let set = |key: &str| match config.get(key) {
        None | Some(Json::Null | Json::Bool(false)) => false,
        Some(Json::Object(o)) => !o.is_empty(),
        Some(Json::String(s)) => !s.is_empty(),
        Some(Json::Array(a)) => !a.is_empty(),
        Some(_) => true,
    };
    match config.get("peft_type").filter(|t| !t.is_null()) {
        Some(other) if other != "LORA" => {
            return Err(unsupported(format!("peft_type {}", clip(&other.to_string()))));
        }
        _ => {}
    }
    match config.get("init_lora_weights") {
        None | Some(Json::Null | Json::Bool(_)) => {}
        Some(Json::String(name)) if INITS.contains(&name.as_str()) => {}
        Some(other) => {
            return Err(unsupported(format!(
                "init_lora_weights {} (the base of such an adapter is not the model as published)",
                clip(&other.to_string())
            )));
        }
    }
    if let Some(bias) = config.get("bias").filter(|b| !b.is_null() && b.as_str() != Some("none")) {
        return Err(unsupported(format!("bias {}", clip(&bias.to_string()))));
    }
    // What is not known and set may change what the tensors mean: DoRA, activated LoRA, layers doubled.
    if let Some(key) = config.keys().find(|key| !HARMLESS.contains(&key.as_str()) && set(key)) {
        return Err(unsupported(format!("{} {}", clip(key), clip(&config[key].to_string()))));
    }
    let found = config.get("lora_alpha");
    let wrong = |expected| Error::Key {
        file: file.to_owned(),
        key: "lora_alpha",
        found: found.map_or("absent".to_owned(), |v| clip(&v.to_string())),
        expected,
    };
    let alpha = found.and_then(Json::as_f64).ok_or_else(|| wrong("a number"))? as f32;
    match alpha {
        // In GGUF an alpha of 0 means a scale of 1; PEFT multiplies by it.
        0.0 => Err(wrong("a strength that leaves anything of the adapter")),
        _ if !alpha.is_finite() => Err(wrong("a number that 32 bits hold")),
        _ => Ok((alpha, set("use_rslora"))),
    }
}

/// Rows of `values` moved by a function on their bytes.
fn reordered(values: &[f32], by: impl Fn(&[u8]) -> Vec<u8>) -> Vec<f32> {
    by(bytemuck::cast_slice(values)).as_chunks().0.iter().map(|b| f32::from_ne_bytes(*b)).collect()
}

pub(super) fn write(adapter: &Adapter, folder: &Path, base: &Base, model: &str) -> Result<(), Error> {
    let shown = |name: &str| folder.join(name).display().to_string();
    let mut tensors = Vec::new();
    let mut modules = Vec::new();
    let rank = adapter.pairs.last().map_or(0, |p| p.rank);
    let architecture = architecture(base, &shown(CONFIG))?;
    let prefix = architecture.prefixes[0];
    let mut exceptions = Map::new();
    for p in &adapter.pairs {
        let (layer, part) = architecture
            .of_gguf_name(&p.tensor)
            .filter(|(_, m)| m.shape.len() == 2 && m.place != Place::Experts && m.gguf != "token_embd")
            .ok_or_else(|| Error::Tensor {
                file: shown(WEIGHTS),
                name: p.tensor.clone(),
                why: "has no name in PEFT's files".to_owned(),
            })?;
        let module = architecture.hf_name(part, prefix, layer);
        let b = match base.permuted_heads(part.gguf) {
            Some(heads) => reordered(&p.b, |bytes| unpermuted(bytes, p.rows, heads)),
            None => p.b.clone(),
        };
        let last = part.hf.rsplit('.').next().unwrap_or(part.hf);
        if !modules.contains(&last) {
            modules.push(last);
        }
        // PEFT has one rank and a table of exceptions.
        if p.rank != rank {
            exceptions.insert(module.strip_prefix(prefix).unwrap_or(&module).to_owned(), p.rank.into());
        }
        let bytes = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let name = format!("{PREFIX}{module}");
        tensors.push((format!("{name}.lora_A.weight"), vec![p.rank, p.cols], bytes(&p.a)));
        tensors.push((format!("{name}.lora_B.weight"), vec![p.rows, p.rank], bytes(&b)));
    }
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

fn whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes).map_err(|cause| Error::Io { file: path.display().to_string(), cause })?;
    Ok(file.finish()?)
}
