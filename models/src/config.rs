//! What a model is, read from its metadata and tensor table alone.
//!
//! Llama, Qwen2 and Qwen3 are one graph with three switches: how RoPE pairs dimensions, whether Q, K
//! and V have biases (their tensors say so), and whether heads are normalised before RoPE (likewise).
//! A new family of this kind is one line in [`FAMILIES`].

use weft_formats::gguf::{Array, File, Metadata, Value};
use weft_kernels::ops::rope::{Pairing, Rotation, Scaling};

use crate::{Error, Result};

/// Architectures that load, with how their files pair dimensions for RoPE.
const FAMILIES: [(&str, Pairing); 3] =
    [("llama", Pairing::Adjacent), ("qwen2", Pairing::HalfSplit), ("qwen3", Pairing::HalfSplit)];

/// Names of the architectures that load.
pub const SUPPORTED: [&str; 3] = ["llama", "qwen2", "qwen3"];

/// Hyper-parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`, where given.
    pub name: Option<String>,
    /// Layers.
    pub layers: u32,
    /// Width of the residual stream.
    pub width: u32,
    /// Width of the feed-forward block.
    pub feed_forward: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Size of a head, which need not be width / heads.
    pub head_dim: u32,
    /// Tokens.
    pub vocabulary: u32,
    /// Positions the model was trained for.
    pub context: u32,
    /// Epsilon of the norms.
    pub eps: f32,
    /// Rotary embedding.
    pub rotation: Rotation,
    /// The output head is the token embedding.
    pub tied: bool,
    /// Heads are normalised before RoPE.
    pub qk_norm: bool,
    /// Q, K and V have biases.
    pub biases: bool,
}

/// Largest numbers that are believed: far above any model, far below overflow.
const MAX_VALUE: u64 = 1 << 24;

struct Reader<'a> {
    file: String,
    meta: &'a Metadata,
    arch: String,
}

impl Reader<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.arch)
    }

    fn bad(&self, key: String, value: impl ToString, why: &str) -> Error {
        Error::BadKey { file: self.file.clone(), key, value: value.to_string(), why: why.into() }
    }

    /// A count from 1 to `MAX_VALUE`; arrays must repeat one value (per-layer sizes are another graph).
    fn count(&self, name: &str) -> Result<Option<u32>> {
        let key = self.key(name);
        let value = match self.meta.get(&key) {
            None => return Ok(None),
            Some(Value::Array(a)) => {
                let all: Vec<u64> = match a {
                    Array::U32(v) => v.iter().map(|&x| x.into()).collect(),
                    Array::I32(v) => v.iter().map(|&x| x.max(0) as u64).collect(),
                    Array::U64(v) => v.clone(),
                    _ => Vec::new(),
                };
                match all.first() {
                    Some(&first) if all.iter().all(|&x| x == first) => Some(first),
                    _ => return Err(self.bad(key, "an array", "differs from layer to layer")),
                }
            }
            Some(_) => self.meta.u64(&key),
        };
        match value {
            Some(v @ 1..=MAX_VALUE) => Ok(Some(v as u32)),
            Some(v) => Err(self.bad(key, v, "is out of range")),
            None => Err(self.bad(key, "of another type", "is not a count")),
        }
    }

    fn required(&self, name: &str) -> Result<u32> {
        self.count(name)?.ok_or_else(|| Error::MissingKey { file: self.file.clone(), key: self.key(name) })
    }

    fn float(&self, name: &str) -> Result<Option<f32>> {
        let key = self.key(name);
        match self.meta.get(&key) {
            None => Ok(None),
            Some(_) => match self.meta.f32(&key) {
                Some(v) if v.is_finite() => Ok(Some(v)),
                _ => Err(self.bad(key, "of another type", "is not a finite number")),
            },
        }
    }
}

impl Config {
    /// The context that is used where none is asked for: the model's own, at most 4,096.
    pub fn default_context(&self) -> u32 {
        self.context.min(4096)
    }

    /// Reads the hyper-parameters of `file`.
    ///
    /// # Errors
    /// An unsupported architecture, a missing or senseless key, a missing token embedding.
    pub fn read(file: &File) -> Result<Config> {
        let name = file.path().display().to_string();
        let meta = file.metadata();
        let missing = |key: &str| Error::MissingKey { file: name.clone(), key: key.into() };
        let arch = meta.str("general.architecture").ok_or_else(|| missing("general.architecture"))?;
        if let Some(kind @ ("adapter" | "imatrix" | "mmproj")) = meta.str("general.type") {
            return Err(Error::NotAModel { file: name, kind: format!("of type \"{kind}\"") });
        }
        let Some(&(_, pairing)) = FAMILIES.iter().find(|f| f.0 == arch) else {
            return Err(Error::Architecture { file: name, arch: arch.into() });
        };
        if file.tensors().is_empty() {
            return Err(Error::NoTensors { file: name });
        }
        let r = Reader { file: name.clone(), meta, arch: arch.into() };
        let (width, heads) = (r.required("embedding_length")?, r.required("attention.head_count")?);
        let kv_heads = r.count("attention.head_count_kv")?.unwrap_or(heads);
        let head_dim = r.count("attention.key_length")?.unwrap_or(width / heads);
        let value_dim = r.count("attention.value_length")?.unwrap_or(head_dim);
        if value_dim != head_dim {
            return Err(r.bad(r.key("attention.value_length"), value_dim, "differs from the key length"));
        }
        if heads % kv_heads != 0 {
            return Err(r.bad(r.key("attention.head_count_kv"), kv_heads, "does not divide the head count"));
        }
        if r.count("expert_count").ok().flatten().is_some() {
            return Err(r.bad(r.key("expert_count"), "set", "asks for a mixture of experts"));
        }
        let eps = r
            .float("attention.layer_norm_rms_epsilon")?
            .ok_or_else(|| missing(&r.key("attention.layer_norm_rms_epsilon")))?;
        let embedding = file
            .tensor("token_embd.weight")
            .ok_or_else(|| Error::MissingTensor { file: name.clone(), name: "token_embd.weight".into() })?;
        let vocabulary = match embedding.shape.as_slice() {
            [_, v @ 1..=MAX_VALUE] => *v as u32,
            found => {
                return Err(Error::TensorShape {
                    file: name,
                    name: "token_embd.weight".into(),
                    found: found.to_vec(),
                    expected: vec![width.into(), 0],
                });
            }
        };
        let context = r.required("context_length")?;
        let rotation = rotation(file, &r, head_dim, context, pairing)?;
        Ok(Config {
            architecture: arch.into(),
            name: meta.str("general.name").map(str::to_owned),
            layers: r.required("block_count")?,
            width,
            feed_forward: r.required("feed_forward_length")?,
            heads,
            kv_heads,
            head_dim,
            vocabulary,
            context,
            eps,
            rotation,
            tied: file.tensor("output.weight").is_none(),
            qk_norm: file.tensor("blk.0.attn_q_norm.weight").is_some(),
            biases: file.tensor("blk.0.attn_q.bias").is_some()
                || file.tensor("blk.0.attn_qkv.bias").is_some(),
        })
    }
}

/// The rotary embedding with whatever scaling the file asks for.
fn rotation(file: &File, r: &Reader<'_>, head_dim: u32, context: u32, pairing: Pairing) -> Result<Rotation> {
    let dims = r.count("rope.dimension_count")?.unwrap_or(head_dim);
    if dims > head_dim || dims % 2 != 0 {
        return Err(r.bad(r.key("rope.dimension_count"), dims, "is odd or more than a head has"));
    }
    let base = f64::from(r.float("rope.freq_base")?.unwrap_or(10_000.0));
    let factor = match r.float("rope.scaling.factor")? {
        Some(f) => Some(f),
        None => r.float("rope.scale_linear")?,
    };
    let factor = f64::from(factor.unwrap_or(1.0));
    if base <= 1.0 || factor < 0.0 {
        return Err(r.bad(r.key("rope.freq_base"), base, "makes no rotation"));
    }
    let kind = r.meta.str(&r.key("rope.scaling.type")).unwrap_or("linear");
    let scaling = match kind {
        _ if factor == 1.0 || factor == 0.0 => Scaling::None,
        "none" => Scaling::None,
        "linear" => Scaling::Linear { factor },
        "yarn" => Scaling::Yarn {
            factor,
            original_context: r.count("rope.scaling.original_context_length")?.unwrap_or(context).into(),
            beta_fast: r.float("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0).into(),
            beta_slow: r.float("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0).into(),
            attention: (1.0 + 0.1 * factor.ln())
                * f64::from(r.float("rope.scaling.attn_factor")?.unwrap_or(1.0)),
        },
        other => return Err(r.bad(r.key("rope.scaling.type"), other, "is not none, linear or yarn")),
    };
    let mut factors = None;
    if let Some(t) = file.tensor("rope_freqs.weight") {
        let expected = vec![u64::from(dims / 2)];
        if t.shape != expected || t.ty != weft_formats::quant::Type::F32 {
            return Err(Error::TensorShape {
                file: r.file.clone(),
                name: t.name.clone(),
                found: t.shape.clone(),
                expected,
            });
        }
        factors = Some(bytemuck::pod_collect_to_vec::<u8, f32>(file.bytes(t)));
    }
    Ok(Rotation::new(dims, base, factors.as_deref(), scaling, pairing))
}
