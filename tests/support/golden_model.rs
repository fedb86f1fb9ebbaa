//! The models of `tests/golden`: rebuilds a case's GGUF file from its specification, and reads
//! what transformers computed for it (`tests/reference/golden_models.py` wrote both).
//!
//! No weights are stored: a tensor's bytes follow from its name by integer arithmetic, and a
//! checksum for each shows drift between this file and the script. The GGUF container is
//! written by hand here, so that the reader under test does not read its own writer.
//!
//! ```ignore
//! let case = golden_model::load("qwen3-f32");
//! std::fs::write(&path, golden_model::build("qwen3-f32"))?;
//! let logits: Vec<f32> = /* run case.tokens: [tokens, vocabulary] */;
//! assert!(golden_model::logits_nmse(&case, &logits) <= 1e-6);
//! ```

#![allow(dead_code, unreachable_pub)]

use half::{bf16, f16};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use weft_models::{DeviceOptions, Without};

/// Without what rounds activations: whatever kernels then run, they give the same values.
pub fn exact() -> DeviceOptions {
    DeviceOptions {
        without: Without { f16: true, dot: true, coop: true, ..Without::default() },
        ..Default::default()
    }
}

/// One case: its prompt and what transformers computed in float64, stored as f32.
///
/// Shapes are row-major; `T` tokens, `V` vocabulary, `L` layers, `d` width, `P` positions.
#[derive(Debug)]
pub struct Case {
    /// File name without its ending, such as `qwen3-q4_k_m`.
    pub name: String,
    /// The prompt, `T` ids.
    pub tokens: Vec<u32>,
    /// Vocabulary entries stored for every position.
    pub columns: Vec<usize>,
    /// Positions whose whole row of logits is stored.
    pub rows: Vec<usize>,
    /// The `P` positions whose activations are stored.
    pub positions: Vec<usize>,
    /// Size `V` of the vocabulary.
    pub vocabulary: usize,
    /// Size `d` of the residual stream.
    pub width: usize,
    /// Number `L` of layers.
    pub layers: usize,
    /// NMSE of torch's own float32 logits.
    pub noise_f32: f64,
    /// NMSE of float64 logits with keys and values rounded to f16: about what a f16 cache costs.
    pub noise_f16_cache: f64,
    /// `[T, columns]`
    pub logits_columns: Vec<f32>,
    /// `[rows, V]`
    pub logits_rows: Vec<f32>,
    /// `[L + 1, P, d]`: the embedding, then the residual stream after each layer.
    pub residual: Vec<f32>,
    /// `[L, P, d]`: the residual stream after attention, before the feed-forward part.
    pub mid: Vec<f32>,
    /// `[P, d]`: after the output norm.
    pub last: Vec<f32>,
}

/// The folder `tests/golden`, from the root package or from a crate one level below.
pub fn folder() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = if here.join("tests/golden").is_dir() { here } else { here.parent().unwrap() };
    root.join("tests/golden")
}

/// The names of all cases, sorted; with `WEFT_CASES=gemma3,qwen3-f32` of those alone that begin with one of these.
pub fn cases() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .expect("tests/golden")
        .filter_map(|e| e.unwrap().file_name().to_str()?.strip_suffix(".json").map(String::from))
        .collect();
    if let Ok(wanted) = std::env::var("WEFT_CASES") {
        names.retain(|n| wanted.split(',').any(|w| n.starts_with(w)));
    }
    names.sort();
    assert!(!names.is_empty(), "tests/golden holds no such case");
    names
}

/// What the script wrote besides arrays.
pub fn specification(case: &str) -> Json {
    let path = folder().join(format!("{case}.json"));
    let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

fn integers(json: &Json) -> Vec<usize> {
    json.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as usize).collect()
}

/// Reads a case's prompt and expected values.
pub fn load(case: &str) -> Case {
    let json = specification(case);
    let bytes = std::fs::read(folder().join(format!("{case}.safetensors"))).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |name: &str| {
        let view = file.tensor(name).unwrap();
        assert_eq!(view.dtype(), safetensors::Dtype::F32, "{case}: {name}");
        let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        (view.shape().to_vec(), values.collect::<Vec<f32>>())
    };
    let (rows_shape, logits_rows) = tensor("logits.rows");
    let (residual_shape, residual) = tensor("residual");
    Case {
        name: case.to_string(),
        tokens: integers(&json["tokens"]).iter().map(|&id| id as u32).collect(),
        columns: integers(&json["columns"]),
        rows: integers(&json["rows"]),
        positions: integers(&json["positions"]),
        vocabulary: rows_shape[1],
        width: residual_shape[2],
        layers: residual_shape[0] - 1,
        noise_f32: json["noise"]["f32"].as_f64().unwrap(),
        noise_f16_cache: json["noise"]["f16_cache"].as_f64().unwrap(),
        logits_columns: tensor("logits.columns").1,
        logits_rows,
        residual,
        mid: tensor("mid").1,
        last: tensor("final").1,
    }
}

/// Normalised mean square error: sum (got - want)^2 / sum want^2. Panics on unequal lengths.
pub fn nmse(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let square = |x: f64| x * x;
    let error: f64 = got.iter().zip(want).map(|(&g, &w)| square(g as f64 - w as f64)).sum();
    error / want.iter().map(|&w| square(w as f64)).sum::<f64>()
}

/// The larger NMSE of the two stored subsets of the logits; `logits` is `[T, V]`.
///
/// NaN in `logits` gives NaN, which fails `nmse <= bound`.
pub fn logits_nmse(case: &Case, logits: &[f32]) -> f64 {
    let v = case.vocabulary;
    assert_eq!(logits.len(), case.tokens.len() * v, "{}: logits", case.name);
    let columns: Vec<f32> =
        logits.chunks_exact(v).flat_map(|row| case.columns.iter().map(|&c| row[c])).collect();
    let rows: Vec<f32> = case.rows.iter().flat_map(|&r| logits[r * v..(r + 1) * v].iter().copied()).collect();
    let (a, b) = (nmse(&columns, &case.logits_columns), nmse(&rows, &case.logits_rows));
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// The median over tokens of the NMSE of the stored columns of their logits; `logits` is `[T, V]`.
pub fn median_logits_nmse(case: &Case, logits: &[f32]) -> f64 {
    let rows = logits.chunks_exact(case.vocabulary).zip(case.logits_columns.chunks_exact(case.columns.len()));
    let row = |(row, want): (&[f32], &[f32])| {
        let got: Vec<f32> = case.columns.iter().map(|&c| row[c]).collect();
        nmse(&got, want)
    };
    let mut all: Vec<f64> = rows.map(row).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// NMSE of the residual stream before layer `layer` (or, for `layer == case.layers`, after the
/// last); `x` is `[T, d]`, all positions.
pub fn residual_nmse(case: &Case, layer: usize, x: &[f32]) -> f64 {
    nmse(&at_positions(case, x), slab(case, &case.residual, layer))
}

/// NMSE of the residual stream inside layer `layer`, after attention; `x` is `[T, d]`.
pub fn mid_nmse(case: &Case, layer: usize, x: &[f32]) -> f64 {
    nmse(&at_positions(case, x), slab(case, &case.mid, layer))
}

fn slab<'a>(case: &Case, values: &'a [f32], i: usize) -> &'a [f32] {
    let n = case.positions.len() * case.width;
    &values[i * n..(i + 1) * n]
}

fn at_positions(case: &Case, x: &[f32]) -> Vec<f32> {
    assert_eq!(x.len(), case.tokens.len() * case.width, "{}: activations", case.name);
    let d = case.width;
    case.positions.iter().flat_map(|&p| x[p * d..(p + 1) * d].iter().copied()).collect()
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |h, &b| (h ^ b as u64).wrapping_mul(0x100_0000_01B3))
}

/// Word `i` of the stream `seed`: SplitMix64 of a counter.
fn word(seed: u64, i: usize) -> u64 {
    let z = seed.wrapping_add((i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A block type: name, GGUF id, elements and bytes a block, f16 fields as
/// (byte offset, factor, random sign).
type Block = (&'static str, u32, usize, usize, &'static [(usize, f32, bool)]);

const BLOCKS: &[Block] = &[
    ("F32", 0, 1, 4, &[]),
    ("F16", 1, 1, 2, &[]),
    ("BF16", 30, 1, 2, &[]),
    ("Q4_0", 2, 32, 18, &[(0, 1.0, true)]),
    ("Q4_1", 3, 32, 20, &[(0, 1.0, false), (2, -7.5, false)]),
    ("Q5_0", 6, 32, 22, &[(0, 1.0, true)]),
    ("Q5_1", 7, 32, 24, &[(0, 1.0, false), (2, -15.5, false)]),
    ("Q8_0", 8, 32, 34, &[(0, 1.0, true)]),
    ("Q2_K", 10, 256, 84, &[(80, 1.0, false), (82, 1.5, false)]),
    ("Q3_K", 11, 256, 110, &[(108, 1.0, true)]),
    ("Q4_K", 12, 256, 144, &[(0, 1.0, false), (2, 7.5, false)]),
    ("Q5_K", 13, 256, 176, &[(0, 1.0, false), (2, 15.5, false)]),
    ("Q6_K", 14, 256, 210, &[(208, 1.0, true)]),
    ("IQ4_NL", 20, 32, 18, &[(0, 1.0, true)]),
    ("IQ4_XS", 23, 256, 136, &[(0, 1.0, true)]),
];

fn block(kind: &str) -> &'static Block {
    BLOCKS.iter().find(|b| b.0 == kind).unwrap_or_else(|| panic!("type {kind}"))
}

/// Element `i` of a plain tensor: `offset + scale * (sum of four u16, centred)`, one rounding
/// for the product and one for the sum.
fn normal_like(seed: u64, i: usize, offset: f32, scale: f32) -> f32 {
    let w = word(seed, i);
    let sum: i64 = (0..4).map(|k| ((w >> (16 * k)) & 0xFFFF) as i64).sum();
    (sum - 2 * 65535) as f32 * scale + offset
}

/// The bytes of one tensor, checked against the checksum in the specification.
fn tensor_bytes(case: &str, tensor: &Json) -> Vec<u8> {
    let name = tensor["name"].as_str().unwrap();
    let number = |key: &str| tensor[key].as_f64().unwrap_or(0.0) as f32;
    let (offset, scale) = (number("offset"), number("scale"));
    let seed = fnv1a(format!("{case}/{name}").as_bytes());
    let &(kind, _, elements, size, fields) = block(tensor["type"].as_str().unwrap());
    let n: usize = integers(&tensor["shape"]).iter().product();
    let plain = (0..n).map(|i| normal_like(seed, i, offset, scale));
    let bytes: Vec<u8> = if let Some(values) = tensor["values"].as_array() {
        assert_eq!(values.len(), n, "{case}: {name}");
        values.iter().flat_map(|v| (v.as_f64().unwrap() as f32).to_le_bytes()).collect()
    } else {
        match kind {
            "F32" => plain.flat_map(f32::to_le_bytes).collect(),
            "F16" => plain.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect(),
            "BF16" => plain.flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect(),
            _ => block_bytes(seed, kind, n / elements, size, fields, scale),
        }
    };
    let want = tensor["fnv"].as_str().unwrap();
    assert_eq!(format!("{:016x}", fnv1a(&bytes)), want, "{case}: bytes of {name}");
    bytes
}

/// `n` blocks of random bytes, the f16 fields then set to 0.75..1.25 of `scale * factor`.
fn block_bytes(
    seed: u64,
    kind: &str,
    n: usize,
    size: usize,
    fields: &[(usize, f32, bool)],
    scale: f32,
) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..(n * size).div_ceil(8)).flat_map(|i| word(seed, i).to_le_bytes()).collect();
    bytes.truncate(n * size);
    for (b, block) in bytes.chunks_exact_mut(size).enumerate() {
        // Real minima follow their scales; without that a sub-block is a constant plus a ripple.
        match kind {
            "Q4_K" | "Q5_K" => (4..8).for_each(|i| block[i + 4] = block[i] ^ (block[i + 4] & 7)),
            "Q2_K" => block[..16].iter_mut().for_each(|s| {
                let low = *s & 15;
                *s = low | ((low ^ ((*s >> 4) & 3)) << 4);
            }),
            _ => {}
        }
        for (i, &(at, factor, signed)) in fields.iter().enumerate() {
            let w = word(!seed, b * fields.len() + i);
            let d = (1536 + (w & 1023)) as f32 / 2048.0 * (scale * factor);
            let d = if signed && w & 1024 != 0 { -d } else { d };
            block[at..at + 2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
        }
    }
    bytes
}

/// `n` values of a tensor that no file holds, such as an adapter's.
pub fn values(case: &str, name: &str, n: usize, scale: f32) -> Vec<f32> {
    let seed = fnv1a(format!("{case}/{name}").as_bytes());
    (0..n).map(|i| normal_like(seed, i, 0.0, scale)).collect()
}

/// The GGUF file (version 3, alignment 32) of a case.
pub fn build(case: &str) -> Vec<u8> {
    // Tests open some of them a hundred times, and to make one takes longer than to open it.
    static MADE: Mutex<BTreeMap<String, Vec<u8>>> = Mutex::new(BTreeMap::new());
    let made = || MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(bytes) = made().get(case) {
        return bytes.clone();
    }
    let bytes = make(case);
    made().insert(case.to_owned(), bytes.clone());
    bytes
}

fn make(case: &str) -> Vec<u8> {
    let json = specification(case);
    let (tensors, metadata) = (json["tensors"].as_array().unwrap(), json["metadata"].as_array().unwrap());
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    let string = |out: &mut Vec<u8>, s: &str| {
        out.extend((s.len() as u64).to_le_bytes());
        out.extend(s.as_bytes());
    };
    for row in metadata {
        string(&mut out, row[0].as_str().unwrap());
        match row[1].as_str().unwrap() {
            "u32" => {
                out.extend(4u32.to_le_bytes());
                out.extend((row[2].as_u64().unwrap() as u32).to_le_bytes());
            }
            "f32" => {
                out.extend(6u32.to_le_bytes());
                out.extend((row[2].as_f64().unwrap() as f32).to_le_bytes());
            }
            "str" => {
                out.extend(8u32.to_le_bytes());
                string(&mut out, row[2].as_str().unwrap());
            }
            "bool" => {
                out.extend(7u32.to_le_bytes());
                out.push(u8::from(row[2].as_bool().unwrap()));
            }
            "strs" => {
                let values = row[2].as_array().unwrap();
                out.extend(9u32.to_le_bytes());
                out.extend(8u32.to_le_bytes());
                out.extend((values.len() as u64).to_le_bytes());
                values.iter().for_each(|v| string(&mut out, v.as_str().unwrap()));
            }
            "bools" => {
                let values = row[2].as_array().unwrap();
                out.extend(9u32.to_le_bytes());
                out.extend(7u32.to_le_bytes());
                out.extend((values.len() as u64).to_le_bytes());
                out.extend(values.iter().map(|v| u8::from(v.as_bool().unwrap())));
            }
            other => panic!("{case}: metadata type {other}"),
        }
    }
    let mut offset = 0usize;
    let data: Vec<Vec<u8>> = tensors.iter().map(|t| tensor_bytes(case, t)).collect();
    for (tensor, bytes) in tensors.iter().zip(&data) {
        let &(_, id, elements, size, _) = block(tensor["type"].as_str().unwrap());
        let shape = integers(&tensor["shape"]);
        let n: usize = shape.iter().product();
        assert!(shape[0].is_multiple_of(elements) && bytes.len() == n / elements * size);
        string(&mut out, tensor["name"].as_str().unwrap());
        out.extend((shape.len() as u32).to_le_bytes());
        shape.iter().for_each(|&dim| out.extend((dim as u64).to_le_bytes()));
        out.extend(id.to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset += bytes.len().next_multiple_of(32);
    }
    for bytes in &data {
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(bytes);
    }
    out.resize(out.len().next_multiple_of(32), 0);
    out
}

/// Writes the GGUF file of a case to `path`.
pub fn write(case: &str, path: &Path) {
    std::fs::write(path, build(case)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
