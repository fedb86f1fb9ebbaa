//! Tensors: names, shapes, the order of the rows, the types.

use std::collections::BTreeSet;

use super::config::Config;
use super::weights::{Stored, Weights};
use super::{Error, Tensor};
use crate::names::{Bias, Module, Place};
use crate::quant::Type;

/// Where a tensor's bytes come from.
#[derive(Debug)]
pub(super) enum Source {
    /// A stored tensor, or several that follow each other: one for each expert.
    Stored {
        parts: Vec<Stored>,
        change: Change,
    },
    Made(Vec<u8>),
}

/// What is done to the values on the way.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Change {
    /// The rows of so many heads go from halves to pairs.
    pub(super) heads: Option<usize>,
    /// 1 is added to every value.
    pub(super) plus_one: bool,
    /// Rows left out at the front.
    pub(super) skip: usize,
}

/// The plan of one conversion while it is made.
struct Plan<'a> {
    config: &'a Config,
    weights: &'a Weights,
    /// What stands before the names of the body.
    prefix: &'static str,
    ty: Type,
    used: BTreeSet<String>,
    tensors: Vec<Tensor>,
}

/// The tensors of the new file, and the type of its matrices.
pub(super) fn plan(
    config: &Config,
    weights: &Weights,
    ty: Option<Type>,
) -> Result<(Vec<Tensor>, Type), Error> {
    let a = config.architecture;
    let missing = |name: String| Error::NoTensor { file: weights.folder.clone(), name };
    let embedding = a.module("token_embd").map_or("", |m| m.hf);
    let at = |prefix: &str| weights.tensors.get(&format!("{prefix}{embedding}.weight"));
    let found = a.prefixes.iter().find_map(|prefix| Some((*prefix, at(prefix)?)));
    let (prefix, stored) = found.ok_or_else(|| missing(format!("{}{embedding}.weight", a.prefixes[0])))?;
    let stored = stored.ty.ok_or_else(|| weights.dtype(&format!("{prefix}{embedding}.weight")))?;
    let ty = ty.unwrap_or(stored);
    let mut plan = Plan { config, weights, prefix, ty, used: BTreeSet::new(), tensors: Vec::new() };
    let body = |m: &&Module| matches!(m.place, Place::Body | Place::Beside);
    // The head of a decoder stands behind its layers.
    let (head, first): (Vec<_>, Vec<_>) =
        a.modules().filter(body).partition(|m| m.gguf.starts_with("output") || m.gguf.starts_with("cls"));
    first.into_iter().try_for_each(|m| plan.module(m, 0))?;
    for layer in 0..config.layers {
        a.modules().filter(|m| !body(m)).try_for_each(|m| plan.module(m, layer))?;
    }
    head.into_iter().try_for_each(|m| plan.module(m, 0))?;
    plan.check_optional()?;
    let Plan { used, mut tensors, .. } = plan;
    // A tied head is the embedding, whether a copy of it is stored or not.
    let tied = |name: &str| name == "lm_head.weight" && config.tied == Some(true);
    let unused = weights.tensors.keys().find(|name| {
        !used.contains(name.as_str()) && !tied(name) && !a.unused.iter().any(|part| name.contains(part))
    });
    if let Some(name) = unused {
        let what = format!("tensor {name:?} in a {} model", a.name);
        return Err(Error::Unsupported { file: weights.folder.clone(), what });
    }
    if let Some(factors) = &config.rope_factors {
        tensors.push(Tensor {
            name: "rope_freqs.weight".to_owned(),
            shape: vec![factors.len() as u64],
            ty: Type::F32,
            source: Source::Made(factors.iter().flat_map(|f| f.to_le_bytes()).collect()),
        });
    }
    Ok((tensors, ty))
}

impl Plan<'_> {
    /// Refuses what a layer may lack, as norms of queries and keys, where some of it is there: no graph has such a layer.
    fn check_optional(&self) -> Result<(), Error> {
        let Config { architecture: a, layers, .. } = self.config;
        let all = || a.modules().filter(|m| m.optional && m.place == Place::Layer);
        let has = |m: &Module, layer: usize| {
            let name = m.gguf_name(layer);
            self.tensors.iter().any(|t| t.name == name)
        };
        let lacking: Vec<_> = (0..*layers)
            .flat_map(|layer| all().map(move |m| (m, layer)))
            .filter(|(m, layer)| !has(m, *layer))
            .collect();
        if lacking.len() == *layers * all().count() {
            return Ok(());
        }
        lacking.first().map_or(Ok(()), |&(m, layer)| {
            let name = format!("{}.weight", a.hf_name(m, self.prefix, layer));
            Err(Error::NoTensor { file: self.weights.folder.clone(), name })
        })
    }

    /// Adds a module's weight and bias.
    fn module(&mut self, m: &'static Module, layer: usize) -> Result<(), Error> {
        let Config { architecture, sizes, .. } = self.config;
        if m.gguf == "output" && self.config.tied == Some(true) {
            return Ok(());
        }
        // Where the configuration says neither, the tensors say whether a head is tied.
        let optional = m.optional && !(m.gguf == "output" && self.config.tied == Some(false));
        let name = architecture.hf_name(m, self.prefix, layer);
        let shape: Vec<usize> = m.shape.iter().map(|s| sizes.of(*s)).collect();
        let change = Change {
            heads: architecture.permuted(m, sizes.heads, sizes.kv_heads),
            plus_one: architecture.norms_less_one && m.is_norm(),
            skip: if m.gguf == "position_embd" { self.config.unused_positions } else { 0 },
        };
        let gguf = m.gguf_name(layer);
        if m.place == Place::Experts {
            return self.experts(&name, gguf, &shape);
        }
        self.add(vec![format!("{name}.weight")], gguf.clone(), shape.clone(), change, optional)?;
        if m.bias != Bias::Never {
            let gguf = format!("{}.bias", gguf.trim_end_matches(".weight"));
            let change = Change { plus_one: false, ..change };
            self.add(
                vec![format!("{name}.bias")],
                gguf,
                shape[..1].to_vec(),
                change,
                m.bias == Bias::Optional,
            )?;
        }
        Ok(())
    }

    /// Adds a matrix of every expert as one tensor. Older checkpoints have a tensor for each, newer ones two
    /// tensors of all, where gate and up of an expert follow each other.
    fn experts(&mut self, name: &str, gguf: String, shape: &[usize]) -> Result<(), Error> {
        let count = self.config.sizes.experts;
        let (base, part) = name.split_once(".{}.").unwrap_or((name, ""));
        if !self.weights.tensors.contains_key(&format!("{base}.down_proj")) {
            let names = (0..count).map(|e| format!("{}.weight", name.replace("{}", &e.to_string())));
            return self.add(names.collect(), gguf, shape.to_vec(), Change::default(), false);
        }
        // The tensor, how many of an expert's matrices it holds, and which of them this is.
        let (stored, matrices, which) = match part {
            "gate_proj" => ("gate_up_proj", 2, 0),
            "up_proj" => ("gate_up_proj", 2, 1),
            _ => ("down_proj", 1, 0),
        };
        let name = format!("{base}.{stored}");
        let file = || self.weights.folder.clone();
        let Some(at) = self.weights.tensors.get(&name) else {
            return Err(Error::NoTensor { file: file(), name });
        };
        let expected = vec![count, matrices * shape[0], shape[1]];
        if at.shape != expected {
            return Err(Error::Shape { file: file(), name, shape: at.shape.clone(), expected });
        }
        if at.ty.is_none() {
            return Err(self.weights.dtype(&name));
        }
        let parts = (0..count).map(|e| at.part(count * matrices, e * matrices + which, shape)).collect();
        let columns_first = vec![shape[1] as u64, shape[0] as u64, count as u64];
        let ty = type_of(&gguf, &columns_first, self.ty);
        let source = Source::Stored { parts, change: Change::default() };
        self.tensors.push(Tensor { name: gguf, shape: columns_first, ty, source });
        self.used.insert(name);
        Ok(())
    }

    /// Adds the tensors `names` as one, named `gguf`; each has `shape`, rows first.
    fn add(
        &mut self,
        names: Vec<String>,
        gguf: String,
        shape: Vec<usize>,
        change: Change,
        optional: bool,
    ) -> Result<(), Error> {
        let file = || self.weights.folder.clone();
        let mut parts = Vec::with_capacity(names.len());
        for name in &names {
            let name = self.weights.older_name(name);
            let Some(at) = self.weights.tensors.get(&name) else {
                return if optional { Ok(()) } else { Err(Error::NoTensor { file: file(), name }) };
            };
            let mut expected = shape.clone();
            expected[0] += change.skip;
            let cut = gguf == "token_embd.weight" || gguf == "output.weight";
            let longer = self.config.cuts_vocabulary && cut && at.shape.len() == expected.len();
            let fits = at.shape == expected
                || (longer && at.shape[1..] == expected[1..] && at.shape[0] > expected[0]);
            if !fits {
                return Err(Error::Shape { file: file(), name, shape: at.shape.clone(), expected });
            }
            if at.ty.is_none() {
                return Err(self.weights.dtype(&name));
            }
            parts.push(at.clone());
            self.used.insert(name);
        }
        let mut columns_first: Vec<u64> = shape.iter().rev().map(|d| *d as u64).collect();
        if names.len() > 1 || gguf.contains("_exps.") {
            columns_first.push(names.len() as u64);
        }
        let ty = type_of(&gguf, &columns_first, self.ty);
        self.tensors.push(Tensor {
            name: gguf,
            shape: columns_first,
            ty,
            source: Source::Stored { parts, change },
        });
        Ok(())
    }
}

/// Vectors are F32, and so are the small matrices that decide much; a matrix whose rows are no whole blocks
/// is F16.
fn type_of(name: &str, shape: &[u64], ty: Type) -> Type {
    const EXACT: [&str; 3] = ["ffn_gate_inp.weight", "token_types.weight", "position_embd.weight"];
    match shape {
        [_] => Type::F32,
        _ if EXACT.iter().any(|e| name.ends_with(e)) => Type::F32,
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
