//! Adapters in effect while a model runs: y += B (A x) behind the products of the matrices they sit on.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};
use weft_formats::adapter::{Adapter, Base, Pair};
use weft_formats::hex;
use weft_kernels::ops::matmul::{Columns, Epilogue, Input, linear};
use weft_kernels::ops::strengths::{Shape, Strengths};
use weft_kernels::{Weight, WeightShape, WeightType};
use weft_runtime::{Gpu, Pool, Recorder, Slice};

use crate::sites::{Group, Target};
use crate::{Error, Result, Spec};

/// The adapters of one matrix, as one: ranks follow each other, scales are multiplied into B.
struct Site {
    /// `[rank, in]`.
    a: Weight,
    /// `[out, rank]`.
    b: Weight,
    /// `[rank]` u32: the adapter that each rank is of, where each has a strength of its own.
    owners: Option<Slice>,
}

/// All adapters of a model.
pub(crate) struct Lora {
    sites: BTreeMap<(u32, Target), Site>,
    /// The largest rank of a site.
    rank: u32,
    /// The SHA-256 of what it adds.
    identity: String,
    /// Adapters.
    count: u32,
}

/// Adapters as a program applies them.
#[derive(Clone, Copy)]
pub(crate) struct Applied<'a> {
    pub(crate) lora: &'a Lora,
    /// Room for what lies between their products.
    pub(crate) between: &'a Slice,
    /// Where each has a strength of its own for each row: `[all, adapters]` f32, the row of it that the first row takes,
    /// and 1 where each row takes the next one, 0 where all take the same.
    pub(crate) strengths: Option<(&'a Slice, u32, u32)>,
}

/// Ranks are padded to what a weight's rows must be a multiple of.
const STEP: usize = 16;

impl Lora {
    /// The adapters, each with a factor on its own scale, in memory.
    ///
    /// # Errors
    /// An adapter of another model; memory.
    pub(crate) fn new(gpu: &Gpu, spec: &Spec, adapters: &[(&Adapter, f32)]) -> Result<Lora> {
        Lora::build(gpu, spec, adapters, false)
    }

    /// The adapters, each on its own scale, in memory; each row of a batch has strengths of its own for them
    /// ([`Applied::strengths`]).
    ///
    /// # Errors
    /// As [`Lora::new`].
    pub(crate) fn apart(gpu: &Gpu, spec: &Spec, adapters: &[&Adapter]) -> Result<Lora> {
        let adapters: Vec<_> = adapters.iter().map(|a| (*a, 1.0)).collect();
        Lora::build(gpu, spec, &adapters, true)
    }

    fn build(gpu: &Gpu, spec: &Spec, adapters: &[(&Adapter, f32)], apart: bool) -> Result<Lora> {
        let mut pairs: BTreeMap<(u32, Target), Vec<(&Pair, f32, u32)>> = BTreeMap::new();
        for (owner, (adapter, strength)) in (0..).zip(adapters) {
            for pair in &adapter.pairs {
                let at = site(spec, &pair.tensor).ok_or_else(|| Error::Adapter {
                    what: format!("it adapts {}, which the model lacks", pair.tensor),
                })?;
                pairs.entry(at).or_default().push((pair, strength * adapter.scale(pair), owner));
            }
        }
        let count = adapters.len() as u32;
        let mut lora = Lora { sites: BTreeMap::new(), rank: 0, identity: String::new(), count };
        let mut sum = Sha256::new();
        for (at, pairs) in pairs {
            let rank = pairs.iter().map(|(p, ..)| p.rank).sum::<usize>().next_multiple_of(STEP);
            let (rows, cols) = (pairs[0].0.rows, pairs[0].0.cols);
            let mut a = vec![0.0f32; rank * cols];
            let mut b = vec![0.0f32; rows * rank];
            let mut owners = vec![0u32; rank];
            let mut first = 0;
            for (p, scale, owner) in pairs {
                owners[first..][..p.rank].fill(owner);
                a[first * cols..][..p.a.len()].copy_from_slice(&p.a);
                for (row, from) in b.chunks_exact_mut(rank).zip(p.b.chunks_exact(p.rank)) {
                    row[first..][..p.rank].iter_mut().zip(from).for_each(|(b, v)| *b = scale * v);
                }
                first += p.rank;
            }
            if b.iter().any(|v| !v.is_finite()) {
                let what = "times its strength it is beyond what 32 bits hold; give it less".to_owned();
                return Err(Error::Adapter { what });
            }
            sum.update(format!("{at:?} {rank} {rows} {cols};"));
            [&a, &b].iter().for_each(|m| sum.update(bytemuck::cast_slice(m)));
            let upload = |values: &[f32], rows: usize, cols: usize| {
                let shape = WeightShape::new(WeightType::F32, rows as u32, cols as u32, gpu.budget())?;
                Weight::upload(gpu, shape, &[bytemuck::cast_slice(values)], "adapter")
            };
            let owners = apart
                .then(|| gpu.alloc_init(Pool::State, bytemuck::cast_slice(&owners), "adapters of ranks"))
                .transpose()?;
            let site = Site { a: upload(&a, rank, cols)?, b: upload(&b, rows, rank)?, owners };
            lora.sites.insert(at, site);
            lora.rank = lora.rank.max(rank as u32);
        }
        lora.identity = hex(&sum.finalize());
        Ok(lora)
    }

    /// Differs between adapters that compute different things.
    #[cfg_attr(target_arch = "wasm32", allow(dead_code))] // for engine/prefix.rs
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// Adapters.
    pub(crate) fn count(&self) -> usize {
        self.count as usize
    }

    /// Bytes between A and B for a batch of `tokens`.
    pub(crate) fn scratch_bytes(&self, tokens: u32) -> u64 {
        u64::from(tokens) * u64::from(self.rank) * 4
    }

    /// Whether it adapts a matrix of this group.
    pub(crate) fn adapts(&self, layer: u32, group: Group) -> bool {
        group.targets().iter().any(|&t| self.sites.contains_key(&(layer, t)))
    }
}

impl Applied<'_> {
    /// y[:, columns of each target] += B (A x), by way of `between`.
    pub(crate) fn add(
        &self,
        rec: &mut Recorder,
        (layer, group): (u32, Group),
        x: Input<'_>,
        y: &Slice,
        (spec, tokens): (&Spec, u32),
    ) -> std::result::Result<(), weft_kernels::Error> {
        let targets = group.targets();
        let stride = targets.iter().map(|t| t.outputs(spec)).sum();
        for target in targets {
            let Some(site) = self.lora.sites.get(&(layer, *target)) else { continue };
            let rank = site.a.shape.rows;
            let t = self.between.range(0, u64::from(tokens) * u64::from(rank) * 4);
            linear(rec, &site.a, x, (&t, Columns::all(rank)), tokens, Epilogue::default())?;
            if let (Some((strengths, first, step)), Some(owners)) = (self.strengths, &site.owners) {
                let shape = Shape { rows: tokens, rank, adapters: self.lora.count, first, step };
                Strengths { t: &t, strengths, owners, shape }.record(rec)?;
            }
            let columns = Columns { stride, column: target.column(spec) };
            let add = Epilogue { add: true, ..Epilogue::default() };
            linear(rec, &site.b, Input::f32(&t), (y, columns), tokens, add)?;
        }
        Ok(())
    }
}

/// The layer and the matrix of this name.
fn site(spec: &Spec, tensor: &str) -> Option<(u32, Target)> {
    let layer = tensor.strip_prefix("blk.")?.split('.').next()?.parse().ok()?;
    let target = Target::ALL.into_iter().find(|t| t.tensor(layer) == tensor)?;
    (layer < spec.layers() && target.exists(spec, layer)).then_some((layer, target))
}

/// What files of adapters for such a model depend on.
pub fn adapter_base(spec: &Spec) -> Base {
    Base {
        architecture: spec.architecture.clone(),
        heads: spec.heads() as usize,
        kv_heads: spec.kv_heads() as usize,
    }
}

/// Reads an adapter for such a model: GGUF, or PEFT's safetensors or folder.
///
/// # Errors
/// The file is no adapter, or one of another model; the first tensor that does not fit is named.
pub fn open_adapter(path: &Path, spec: &Spec) -> Result<Adapter> {
    let adapter = Adapter::open(path, &adapter_base(spec))?;
    adapter.check(&path.display().to_string(), &|tensor| {
        let (_, target) = site(spec, tensor)?;
        Some((target.outputs(spec) as usize, target.inputs(spec) as usize))
    })?;
    Ok(adapter)
}
