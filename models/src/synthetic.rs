//! Models of real shapes with made-up weights, for measuring speed and memory without a file. The bytes that
//! are read and the work that is done are the real model's; what it says means nothing.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use weft_formats::gguf::{File, Metadata, Value};
use weft_formats::quant::Type;
use weft_formats::recipe::{self, Recipe, Wishes};
use weft_kernels::testing::Rng;
use weft_kernels::{Pattern, Weight, WeightShape, WeightType};
use weft_runtime::Gpu;

use crate::{Error, Result};

/// The shape of a model, as its metadata give it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ModelShape {
    name: &'static str,
    arch: &'static str,
    layers: u32,
    width: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    feed_forward: u32,
    vocabulary: u32,
    theta: f32,
    eps: f32,
    tied: bool,
    /// Positions that most layers of Gemma 3 see; 0 elsewhere.
    window: u32,
    /// Experts of a layer, of which feed_forward is one's width, and those that a token uses; 0 for none.
    experts: [u32; 2],
}

/// From the `config.json` of each model on Hugging Face.
const SHAPES: [ModelShape; 10] = [
    ModelShape { name: "qwen3-0.6b", width: 1024, heads: 16, feed_forward: 3072, ..QWEN3_1_7B },
    QWEN3_1_7B,
    ModelShape { name: "qwen3-4b", layers: 36, width: 2560, heads: 32, feed_forward: 9728, ..QWEN3_1_7B },
    ModelShape {
        name: "qwen3-8b",
        layers: 36,
        width: 4096,
        heads: 32,
        feed_forward: 12_288,
        tied: false,
        ..QWEN3_1_7B
    },
    ModelShape {
        name: "qwen3-30b-a3b",
        arch: "qwen3moe",
        layers: 48,
        heads: 32,
        kv_heads: 4,
        feed_forward: 768,
        tied: false,
        experts: [128, 8],
        ..QWEN3_1_7B
    },
    LLAMA_3_2_1B,
    ModelShape {
        name: "llama-3.1-8b",
        layers: 32,
        width: 4096,
        head_dim: 128,
        feed_forward: 14_336,
        tied: false,
        ..LLAMA_3_2_1B
    },
    ModelShape {
        name: "gemma-3-270m",
        layers: 18,
        width: 640,
        heads: 4,
        kv_heads: 1,
        feed_forward: 2048,
        window: 512,
        ..GEMMA_3_4B
    },
    ModelShape {
        name: "gemma-3-1b",
        layers: 26,
        width: 1152,
        heads: 4,
        kv_heads: 1,
        feed_forward: 6912,
        window: 512,
        ..GEMMA_3_4B
    },
    GEMMA_3_4B,
];

const GEMMA_3_4B: ModelShape = ModelShape {
    name: "gemma-3-4b",
    arch: "gemma3",
    layers: 34,
    width: 2560,
    heads: 8,
    kv_heads: 4,
    head_dim: 256,
    feed_forward: 10_240,
    vocabulary: 262_144,
    theta: 1e6,
    eps: 1e-6,
    tied: true,
    window: 1024,
    experts: [0, 0],
};

const QWEN3_1_7B: ModelShape = ModelShape {
    name: "qwen3-1.7b",
    arch: "qwen3",
    layers: 28,
    width: 2048,
    heads: 16,
    kv_heads: 8,
    head_dim: 128,
    feed_forward: 6144,
    vocabulary: 151_936,
    theta: 1e6,
    eps: 1e-6,
    tied: true,
    window: 0,
    experts: [0, 0],
};

const LLAMA_3_2_1B: ModelShape = ModelShape {
    name: "llama-3.2-1b",
    arch: "llama",
    layers: 16,
    width: 2048,
    heads: 32,
    kv_heads: 8,
    head_dim: 64,
    feed_forward: 8192,
    vocabulary: 128_256,
    theta: 5e5,
    eps: 1e-5,
    tied: true,
    window: 0,
    experts: [0, 0],
};

/// Recipes whose types have a made-up form.
const RECIPES: [&str; 5] = ["F16", "Q8_0", "Q4_0", "Q4_K_M", "Q6_K"];

/// What most weights are within of zero: with it, layers add about as much as is there.
const DEVIATION: f32 = 0.02;

/// A model of a real shape with made-up weights.
#[derive(Debug, Clone)]
pub struct Synthetic {
    shape: ModelShape,
    recipe: Recipe,
    layers: u32,
    /// What a file says of its tokens and its chat template.
    words: Vec<(String, Value)>,
}

impl Synthetic {
    /// Reads `SHAPE:TYPE`, such as `qwen3-4b:q4_k_m`, with the first `layers` layers only if given.
    ///
    /// # Errors
    /// A line that lists what is known, or says how many layers there are.
    pub fn parse(text: &str, layers: Option<u32>) -> std::result::Result<Synthetic, String> {
        let shapes = || SHAPES.map(|s| s.name).join(", ");
        let types = || RECIPES.map(str::to_lowercase).join(", ");
        let Some((shape, ty)) = text.split_once(':') else {
            return Err(format!("\"{text}\" is not SHAPE:TYPE (shapes: {}; types: {})", shapes(), types()));
        };
        let found = SHAPES.iter().find(|s| s.name.eq_ignore_ascii_case(shape));
        let shape = *found.ok_or_else(|| format!("unknown shape \"{shape}\" (known: {})", shapes()))?;
        let known = RECIPES.iter().any(|r| r.eq_ignore_ascii_case(ty));
        let recipe = Recipe::parse(ty).filter(|_| known);
        let recipe = recipe.ok_or_else(|| format!("unknown type \"{ty}\" (known: {})", types()))?;
        let layers = layers.unwrap_or(shape.layers);
        if layers == 0 || layers > shape.layers {
            return Err(format!("{} has from 1 to {} layers, not {layers}", shape.name, shape.layers));
        }
        Ok(Synthetic { shape, recipe, layers, words: Vec::new() })
    }

    /// The same model with the tokens and the chat template of a file, so that it reads texts and writes some.
    pub fn with_words_of(mut self, file: &Metadata) -> Synthetic {
        let words = file.iter().filter(|(key, _)| key.starts_with("tokenizer."));
        self.words = words.map(|(key, value)| (key.to_owned(), value.clone())).collect();
        self
    }

    /// `SHAPE:TYPE`.
    pub fn name(&self) -> String {
        format!("{}:{}", self.shape.name, self.recipe.name.to_lowercase())
    }

    /// The file that such a model would be, without its weights.
    pub(crate) fn outline(&self) -> Result<File> {
        let s = &self.shape;
        let mut meta = Metadata::new();
        meta.set("general.architecture", Value::Str(s.arch.into()));
        meta.set("general.name", Value::Str(format!("{} with made-up weights", s.name)));
        meta.set("general.file_type", Value::U32(self.recipe.file_type));
        let [experts, used] = s.experts;
        let mut counts = vec![
            ("block_count", self.layers),
            ("context_length", 40_960),
            ("embedding_length", s.width),
            ("feed_forward_length", s.feed_forward),
            ("attention.head_count", s.heads),
            ("attention.head_count_kv", s.kv_heads),
            ("attention.key_length", s.head_dim),
            ("attention.value_length", s.head_dim),
            ("vocab_size", s.vocabulary),
        ];
        if experts > 0 {
            counts.extend([("expert_count", experts), ("expert_used_count", used)]);
            counts.push(("expert_feed_forward_length", s.feed_forward));
        }
        counts.iter().for_each(|(key, n)| meta.set(format!("{}.{key}", s.arch), Value::U32(*n)));
        meta.set(format!("{}.rope.freq_base", s.arch), Value::F32(s.theta));
        meta.set(format!("{}.attention.layer_norm_rms_epsilon", s.arch), Value::F32(s.eps));

        if s.window > 0 {
            meta.set(format!("{}.attention.sliding_window", s.arch), Value::U32(s.window));
        }

        self.words.iter().for_each(|(key, value)| meta.set(key.clone(), value.clone()));
        let (q, kv) = (s.heads * s.head_dim, s.kv_heads * s.head_dim);
        let mut tensors: Vec<(String, Vec<u64>)> = Vec::new();
        let mut add = |name: String, shape: &[u32]| {
            tensors.push((name, shape.iter().map(|&d| d.into()).collect()));
        };
        add("token_embd.weight".into(), &[s.width, s.vocabulary]);
        if !s.tied {
            add("output.weight".into(), &[s.width, s.vocabulary]);
        }
        add("output_norm.weight".into(), &[s.width]);
        for i in 0..self.layers {
            let mut add = |name: &str, shape: &[u32]| add(format!("blk.{i}.{name}.weight"), shape);
            add("attn_norm", &[s.width]);
            if s.arch.starts_with("qwen3") || s.arch == "gemma3" {
                add("attn_q_norm", &[s.head_dim]);
                add("attn_k_norm", &[s.head_dim]);
            }
            add("attn_q", &[s.width, q]);
            add("attn_k", &[s.width, kv]);
            add("attn_v", &[s.width, kv]);
            add("attn_output", &[q, s.width]);
            if s.arch == "gemma3" {
                add("post_attention_norm", &[s.width]);
                add("post_ffw_norm", &[s.width]);
            }
            add("ffn_norm", &[s.width]);
            if experts > 0 {
                add("ffn_gate_inp", &[s.width, experts]);
                add("ffn_gate_exps", &[s.width, s.feed_forward, experts]);
                add("ffn_up_exps", &[s.width, s.feed_forward, experts]);
                add("ffn_down_exps", &[s.feed_forward, s.width, experts]);
                continue;
            }
            add("ffn_gate", &[s.width, s.feed_forward]);
            add("ffn_up", &[s.width, s.feed_forward]);
            add("ffn_down", &[s.feed_forward, s.width]);
        }
        let all: Vec<recipe::Tensor<'_>> =
            tensors.iter().map(|(name, shape)| recipe::Tensor { name, shape, ty: Type::F32 }).collect();
        let choices = recipe::choose(self.recipe, &recipe::Model::read(&meta), &Wishes::default(), &all);
        let typed = tensors.iter().zip(&choices).map(|((n, shape), c)| (n.clone(), shape.clone(), c.ty));
        Ok(File::outline(&self.name(), &meta, typed)?)
    }
}

/// Made-up weights of each type that was asked for.
#[derive(Default)]
pub(crate) struct Patterns(HashMap<WeightType, Pattern>);

impl Patterns {
    /// A matrix of them.
    pub(crate) fn weight(&mut self, gpu: &Gpu, shape: WeightShape, label: &str) -> Result<Weight> {
        let pattern = match self.0.entry(shape.ty) {
            Entry::Occupied(e) => e.into_mut(),
            Entry::Vacant(e) => {
                let blocks = blocks(shape.ty).ok_or_else(|| Error::TensorType {
                    file: "made-up weights".into(),
                    name: label.into(),
                    ty: shape.ty.name().into(),
                    supported: RECIPES.join(", "),
                })?;
                e.insert(Pattern::new(gpu, shape.ty, &blocks)?)
            }
        };
        Ok(pattern.weight(gpu, shape, label)?)
    }
}

/// Some 4 MiB of blocks of a type, their values with a mean of about 0 and a deviation of [`DEVIATION`]:
/// random bits under scales that are all the same.
fn blocks(ty: WeightType) -> Option<Vec<u8>> {
    // f16 scales: where they lie in a block, and by how much the deviation of values is larger; Q4_K takes
    // away the mean of one with the other.
    let scales: &[(usize, f32)] = match ty {
        WeightType::F32 | WeightType::F16 => &[],
        WeightType::Q8_0 => &[(0, 74.0)],
        WeightType::Q4_0 => &[(0, 4.6)],
        // Where a width is no multiple of 256, K-quants fall back to it.
        WeightType::Q5_0 => &[(0, 9.2)],
        WeightType::Q4_K => &[(0, 258.0), (2, 258.0 / 7.5)],
        WeightType::Q6_K => &[(208, 1365.0)],
        _ => return None,
    };
    let each = ty.layout().bytes;
    // No multiple of what rows have, so that few rows are the same.
    let count = ((4 << 20) / each / 8) * 8 + 4;
    let mut rng = Rng::new(1);
    if ty == WeightType::F32 {
        // Routers.
        return Some((0..count * each / 4).flat_map(|_| (rng.normal() * DEVIATION).to_le_bytes()).collect());
    }
    if ty == WeightType::F16 {
        let one = |_| half::f16::from_f32(rng.normal() * DEVIATION).to_le_bytes();
        return Some((0..count * each / 2).flat_map(one).collect());
    }
    let mut bytes: Vec<u8> = (0..(count * each).div_ceil(8)).flat_map(|_| rng.bits().to_le_bytes()).collect();
    bytes.truncate(count * each);
    for block in bytes.chunks_exact_mut(each) {
        for &(at, deviation) in scales {
            let scale = half::f16::from_f32(DEVIATION / deviation);
            block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{DEVIATION, RECIPES, SHAPES, Synthetic, blocks};
    use weft_formats::quant::{Type, dequantize};
    use weft_kernels::WeightType;

    #[test]
    fn made_up_weights_are_finite_and_about_normal() {
        for (ty, from) in [
            (WeightType::F32, Type::F32),
            (WeightType::F16, Type::F16),
            (WeightType::Q8_0, Type::Q8_0),
            (WeightType::Q4_0, Type::Q4_0),
            (WeightType::Q5_0, Type::Q5_0),
            (WeightType::Q4_K, Type::Q4_K),
            (WeightType::Q6_K, Type::Q6_K),
        ] {
            let bytes = blocks(ty).expect("made up");
            let mut values = vec![0.0; bytes.len() / ty.layout().bytes * ty.layout().block];
            dequantize(from, &bytes, &mut values).expect("blocks");
            let n = values.len() as f64;
            let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
            let square = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
            let deviation = (square - mean * mean).sqrt() / f64::from(DEVIATION);
            assert!((0.9..1.1).contains(&deviation), "{ty}: {deviation}");
            assert!(mean.abs() < 0.15 * f64::from(DEVIATION), "{ty}: {mean}");
        }
    }

    /// Against sizes of real files: https://huggingface.co/Qwen/Qwen3-4B-GGUF and others round theirs.
    #[test]
    fn outlines_have_the_size_of_real_files() {
        for (name, gib, billions) in [
            ("qwen3-4b:q4_k_m", 2.32, 4.02),
            ("qwen3-4b:q8_0", 3.98, 4.02),
            ("qwen3-4b:f16", 7.49, 4.02),
            ("qwen3-1.7b:q4_k_m", 1.03, 1.72),
            ("llama-3.2-1b:q4_k_m", 0.74, 1.24),
            ("qwen3-8b:q4_k_m", 4.68, 8.19),
            ("gemma-3-4b:q4_k_m", 2.31, 3.88),
            ("qwen3-30b-a3b:q4_k_m", 17.28, 30.53),
        ] {
            let file = Synthetic::parse(name, None).and_then(|s| s.outline().map_err(|e| e.to_string()));
            let file = file.expect("an outline");
            let bytes: u64 = file.tensors().iter().map(|t| t.size).sum();
            let elements: u64 = file.tensors().iter().map(|t| t.elements()).sum();
            let found = (bytes as f64 / f64::from(1 << 30), elements as f64 / 1e9);
            assert!((found.0 - gib).abs() < 0.02 && (found.1 - billions).abs() < 0.01, "{name}: {found:?}");
        }
    }

    #[test]
    fn every_name_is_read_and_others_list_them() {
        for s in SHAPES {
            for r in RECIPES {
                let name = format!("{}:{}", s.name, r.to_lowercase());
                assert_eq!(Synthetic::parse(&name, None).map(|m| m.name()), Ok(name.clone()));
                assert!(Synthetic::parse(&name, Some(2)).is_ok_and(|m| m.outline().is_ok()), "{name}");
            }
        }
        let error = |text, layers| Synthetic::parse(text, layers).expect_err(text);
        assert!(error("qwen3-4b", None).contains("qwen3-4b, qwen3-8b"));
        assert!(error("qwen9:q4_k_m", None).contains("llama-3.2-1b"));
        assert!(error("qwen3-4b:iq9", None).contains("q8_0, q4_0, q4_k_m"));
        assert!(error("qwen3-4b:q8_0", Some(37)).contains("36"));
    }
}
