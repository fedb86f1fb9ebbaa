//! Tensors: names, shapes, the order of the rows, the types.

use std::collections::BTreeSet;
use std::ops::Range;

use super::config::{Config, Experts};
use super::weights::{Stored, Weights};
use super::{Error, Tensor};
use crate::quant::Type;

/// Where a tensor's bytes come from.
#[derive(Debug)]
pub(super) enum Source {
    /// A stored tensor; its rows are reordered where `heads` says of how many heads they are.
    Stored {
        at: Stored,
        heads: Option<usize>,
    },
    /// Bytes of stored tensors, one after the other.
    Pieces(Vec<(Stored, Range<usize>)>),
    Made(Vec<u8>),
}

/// Both names of a layer's tensors, the rows first in `shape`, and whether it may be absent.
struct Row {
    hf: &'static str,
    gguf: &'static str,
    shape: fn(&Config) -> Vec<usize>,
    heads: fn(&Config) -> Option<usize>,
    optional: bool,
}

const fn row(hf: &'static str, gguf: &'static str, shape: fn(&Config) -> Vec<usize>) -> Row {
    Row { hf, gguf, shape, heads: |_| None, optional: false }
}

const fn rotated(row: Row, heads: fn(&Config) -> Option<usize>) -> Row {
    Row { heads, ..row }
}

const fn optional(row: Row) -> Row {
    Row { optional: true, ..row }
}

fn width(c: &Config) -> usize {
    c.width as usize
}

fn q_rows(c: &Config) -> usize {
    c.heads as usize * c.head_dim as usize
}

fn kv_rows(c: &Config) -> usize {
    c.kv_heads as usize * c.head_dim as usize
}

fn ff(c: &Config) -> usize {
    c.feed_forward as usize
}

fn q_heads(c: &Config) -> Option<usize> {
    c.family.permutes.then_some(c.heads as usize)
}

fn k_heads(c: &Config) -> Option<usize> {
    c.family.permutes.then_some(c.kv_heads as usize)
}

static LAYER: [Row; 14] = [
    row("input_layernorm.weight", "attn_norm.weight", |c| vec![width(c)]),
    rotated(row("self_attn.q_proj.weight", "attn_q.weight", |c| vec![q_rows(c), width(c)]), q_heads),
    optional(rotated(row("self_attn.q_proj.bias", "attn_q.bias", |c| vec![q_rows(c)]), q_heads)),
    rotated(row("self_attn.k_proj.weight", "attn_k.weight", |c| vec![kv_rows(c), width(c)]), k_heads),
    optional(rotated(row("self_attn.k_proj.bias", "attn_k.bias", |c| vec![kv_rows(c)]), k_heads)),
    row("self_attn.v_proj.weight", "attn_v.weight", |c| vec![kv_rows(c), width(c)]),
    optional(row("self_attn.v_proj.bias", "attn_v.bias", |c| vec![kv_rows(c)])),
    row("self_attn.o_proj.weight", "attn_output.weight", |c| vec![width(c), q_rows(c)]),
    optional(row("self_attn.q_norm.weight", "attn_q_norm.weight", |c| vec![c.head_dim as usize])),
    optional(row("self_attn.k_norm.weight", "attn_k_norm.weight", |c| vec![c.head_dim as usize])),
    row("post_attention_layernorm.weight", "ffn_norm.weight", |c| vec![width(c)]),
    row("mlp.gate_proj.weight", "ffn_gate.weight", |c| vec![ff(c), width(c)]),
    row("mlp.up_proj.weight", "ffn_up.weight", |c| vec![ff(c), width(c)]),
    row("mlp.down_proj.weight", "ffn_down.weight", |c| vec![width(c), ff(c)]),
];

/// A layer's tensors that hold a matrix of each expert: names, shape with rows first, and where their bytes are.
struct Stack {
    /// Of the stored tensors.
    hf: Vec<String>,
    gguf: String,
    shape: Vec<usize>,
    pieces: Vec<(Stored, Range<usize>)>,
}

/// The matrices of a layer's experts: gate, up, down. Older checkpoints have a tensor for each, newer ones two tensors
/// of all of them, where gate and up of an expert follow each other.
fn expert_stacks(config: &Config, e: &Experts, weights: &Weights, layer: u32) -> Result<Vec<Stack>, Error> {
    let (count, wide) = (e.count as usize, e.width as usize);
    let base = format!("model.layers.{layer}.mlp.experts");
    let stored = |name: &str, shape: &[usize]| -> Result<Stored, Error> {
        let missing = || Error::NoTensor { file: weights.folder.clone(), name: name.to_owned() };
        let at = weights.tensors.get(name).ok_or_else(missing)?;
        if at.shape != shape {
            let (file, name, expected) = (weights.folder.clone(), name.to_owned(), shape.to_vec());
            return Err(Error::Shape { file, name, shape: at.shape.clone(), expected });
        }
        Ok(at.clone())
    };
    let stacked = weights.tensors.contains_key(&format!("{base}.down_proj"));
    let mut stacks = Vec::new();
    for (part, rows, cols) in
        [("gate", wide, width(config)), ("up", wide, width(config)), ("down", width(config), wide)]
    {
        // Of a stacked tensor: its name, the matrices of an expert, and which of them this is.
        let (name, matrices, which) = match part {
            "gate" => ("gate_up_proj", 2, 0),
            "up" => ("gate_up_proj", 2, 1),
            _ => ("down_proj", 1, 0),
        };
        let (mut hf, mut pieces) = (Vec::new(), Vec::new());
        for expert in 0..count {
            let (name, at, range) = if stacked {
                let name = format!("{base}.{name}");
                let at = stored(&name, &[count, matrices * rows, cols])?;
                let bytes = weights.bytes(&at).len() / count / matrices;
                let first = (expert * matrices + which) * bytes;
                (name, at, first..first + bytes)
            } else {
                let name = format!("{base}.{expert}.{part}_proj.weight");
                let at = stored(&name, &[rows, cols])?;
                let bytes = weights.bytes(&at).len();
                (name, at, 0..bytes)
            };
            hf.push(name);
            pieces.push((at, range));
        }
        let gguf = format!("blk.{layer}.ffn_{part}_exps.weight");
        stacks.push(Stack { hf, gguf, shape: vec![count, rows, cols], pieces });
    }
    Ok(stacks)
}

/// The tensors of the new file, and the type of its matrices.
pub(super) fn plan(
    config: &Config,
    weights: &Weights,
    ty: Option<Type>,
) -> Result<(Vec<Tensor>, Type), Error> {
    let missing = |name: &str| Error::NoTensor { file: weights.folder.clone(), name: name.to_owned() };
    let embedding = "model.embed_tokens.weight";
    let stored = weights.tensors.get(embedding).ok_or_else(|| missing(embedding))?.ty;
    let ty = ty.unwrap_or(stored);
    let mut used = BTreeSet::new();
    let mut tensors = Vec::new();
    let mut add = |hf: String, gguf: String, shape: Vec<usize>, heads: Option<usize>, optional: bool| {
        let Some((name, at)) = weights.tensors.get_key_value(&hf) else {
            return if optional { Ok(()) } else { Err(missing(&hf)) };
        };
        used.insert(name.as_str());
        if at.shape != shape {
            let (file, shape_found) = (weights.folder.clone(), at.shape.clone());
            return Err(Error::Shape { file, name: hf, shape: shape_found, expected: shape });
        }
        let columns_first: Vec<u64> = shape.iter().rev().map(|d| *d as u64).collect();
        let ty = type_of(&gguf, &columns_first, ty);
        let source = Source::Stored { at: at.clone(), heads };
        tensors.push(Tensor { name: gguf, shape: columns_first, ty, source });
        Ok(())
    };
    let vocabulary = config.vocabulary as usize;
    add(embedding.to_owned(), "token_embd.weight".to_owned(), vec![vocabulary, width(config)], None, false)?;
    for i in 0..config.layers {
        if let Some(e) = &config.experts {
            let (hf, gguf) =
                (format!("model.layers.{i}.mlp.gate.weight"), format!("blk.{i}.ffn_gate_inp.weight"));
            add(hf, gguf, vec![e.count as usize, width(config)], None, false)?;
        }
        // Experts have the place of the feed-forward network.
        let dense = |r: &&Row| config.experts.is_none() || !r.hf.starts_with("mlp.");
        for r in LAYER.iter().filter(dense) {
            let (hf, gguf) = (format!("model.layers.{i}.{}", r.hf), format!("blk.{i}.{}", r.gguf));
            add(hf, gguf, (r.shape)(config), (r.heads)(config), r.optional)?;
        }
    }
    add("model.norm.weight".to_owned(), "output_norm.weight".to_owned(), vec![width(config)], None, false)?;
    // A tied head is the embedding, whether a copy of it is stored or not.
    if config.tied != Some(true) {
        let optional = config.tied.is_none();
        let shape = vec![vocabulary, width(config)];
        add("lm_head.weight".to_owned(), "output.weight".to_owned(), shape, None, optional)?;
    }
    for (layer, e) in (0..config.layers).flat_map(|i| config.experts.iter().map(move |e| (i, e))) {
        for stack in expert_stacks(config, e, weights, layer)? {
            let names = stack.hf.iter().filter_map(|n| weights.tensors.get_key_value(n));
            used.extend(names.map(|(name, _)| name.as_str()));
            let shape: Vec<u64> = stack.shape.iter().rev().map(|d| *d as u64).collect();
            let ty = type_of(&stack.gguf, &shape, ty);
            tensors.push(Tensor { name: stack.gguf, shape, ty, source: Source::Pieces(stack.pieces) });
        }
    }
    // Older checkpoints keep a table of frequencies, which config.json says as well.
    let unused = weights.tensors.keys().find(|name| {
        !used.contains(name.as_str()) && *name != "lm_head.weight" && !name.ends_with("rotary_emb.inv_freq")
    });
    if let Some(name) = unused {
        let what = format!("tensor {name:?} in a {} model", config.family.name);
        return Err(Error::Unsupported { file: weights.folder.clone(), what });
    }
    if let Some(factors) = config.rope_factors() {
        tensors.push(Tensor {
            name: "rope_freqs.weight".to_owned(),
            shape: vec![factors.len() as u64],
            ty: Type::F32,
            source: Source::Made(factors.iter().flat_map(|f| f.to_le_bytes()).collect()),
        });
    }
    Ok((tensors, ty))
}

/// Vectors and what experts are chosen by are F32; a matrix whose rows are no whole blocks is F16.
fn type_of(name: &str, shape: &[u64], ty: Type) -> Type {
    match shape {
        [_] => Type::F32,
        _ if name.ends_with("ffn_gate_inp.weight") => Type::F32,
        [cols, ..] if !cols.is_multiple_of(ty.block_len() as u64) => Type::F16,
        _ => ty,
    }
}

/// The rows of each head from pairs back to halves: what [`permuted`] undoes.
pub(crate) fn unpermuted(bytes: &[u8], rows: usize, heads: usize) -> Vec<u8> {
    let row = bytes.len() / rows;
    let half = rows / heads / 2;
    let mut out = Vec::with_capacity(bytes.len());
    for head in 0..heads {
        for j in 0..2 {
            for i in 0..half {
                let at = head * 2 * half + 2 * i + j;
                out.extend(&bytes[at * row..][..row]);
            }
        }
    }
    out
}

/// The rows of each head from halves (0, 1, …, h/2, h/2 + 1, …) to pairs (0, h/2, 1, h/2 + 1, …).
pub(crate) fn permuted(bytes: &[u8], rows: usize, heads: usize) -> Vec<u8> {
    let row = bytes.len() / rows;
    let half = rows / heads / 2;
    let mut out = Vec::with_capacity(bytes.len());
    for head in 0..heads {
        for i in 0..half {
            for j in 0..2 {
                let at = head * 2 * half + j * half + i;
                out.extend(&bytes[at * row..][..row]);
            }
        }
    }
    out
}
