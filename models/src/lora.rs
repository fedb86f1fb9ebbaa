//! Adapters in effect while a model runs: y += B (A x) behind the products of the matrices they sit on.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};
use weft_formats::adapter::{Adapter, Base, Pair};
use weft_formats::hex;
use weft_kernels::ops::matmul::{Columns, Epilogue, Input, linear};
use weft_kernels::{Weight, WeightShape, WeightType};
use weft_runtime::{Gpu, Recorder, Slice};

use crate::sites::{Group, Target};
use crate::{Error, Result, Spec};

/// The adapters of one matrix, as one: ranks follow each other, scales are multiplied into B.
struct Site {
    /// `[rank, in]`.
    a: Weight,
    /// `[out, rank]`.
    b: Weight,
}

/// All adapters of a model.
pub(crate) struct Lora {
    sites: BTreeMap<(u32, Target), Site>,
    /// The largest rank of a site.
    rank: u32,
    /// The SHA-256 of what it adds.
    identity: String,
}

/// Ranks are padded to what a weight's rows must be a multiple of.
const STEP: usize = 16;

impl Lora {
    /// The adapters, each with a factor on its own scale, in memory.
    ///
    /// # Errors
    /// An adapter of another model; memory.
    pub(crate) fn new(gpu: &Gpu, spec: &Spec, adapters: &[(&Adapter, f32)]) -> Result<Lora> {
        let mut pairs: BTreeMap<(u32, Target), Vec<(&Pair, f32)>> = BTreeMap::new();
        for (adapter, strength) in adapters {
            for pair in &adapter.pairs {
                let at = site(spec, &pair.tensor).ok_or_else(|| Error::Adapter {
                    what: format!("it adapts {}, which the model lacks", pair.tensor),
                })?;
                pairs.entry(at).or_default().push((pair, strength * adapter.scale(pair)));
            }
        }
        let mut lora = Lora { sites: BTreeMap::new(), rank: 0, identity: String::new() };
        let mut sum = Sha256::new();
        for (at, pairs) in pairs {
            let rank = pairs.iter().map(|(p, _)| p.rank).sum::<usize>().next_multiple_of(STEP);
            let (rows, cols) = (pairs[0].0.rows, pairs[0].0.cols);
            let mut a = vec![0.0f32; rank * cols];
            let mut b = vec![0.0f32; rows * rank];
            let mut first = 0;
            for (p, scale) in pairs {
                a[first * cols..][..p.a.len()].copy_from_slice(&p.a);
                for (row, from) in b.chunks_exact_mut(rank).zip(p.b.chunks_exact(p.rank)) {
                    row[first..][..p.rank].iter_mut().zip(from).for_each(|(b, v)| *b = scale * v);
                }
                first += p.rank;
            }
            sum.update(format!("{at:?} {rank} {rows} {cols};"));
            [&a, &b].iter().for_each(|m| sum.update(bytemuck::cast_slice(m)));
            let upload = |values: &[f32], rows: usize, cols: usize| {
                let shape = WeightShape::new(WeightType::F32, rows as u32, cols as u32, gpu.budget())?;
                Weight::upload(gpu, shape, &[bytemuck::cast_slice(values)], "adapter")
            };
            let site = Site { a: upload(&a, rank, cols)?, b: upload(&b, rows, rank)? };
            lora.sites.insert(at, site);
            lora.rank = lora.rank.max(rank as u32);
        }
        lora.identity = hex(&sum.finalize());
        Ok(lora)
    }

    /// Differs between adapters that compute different things.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// Bytes between A and B for a batch of `tokens`.
    pub(crate) fn scratch_bytes(&self, tokens: u32) -> u64 {
        u64::from(tokens) * u64::from(self.rank) * 4
    }

    /// Whether it adapts a matrix of this group.
    pub(crate) fn adapts(&self, layer: u32, group: Group) -> bool {
        group.targets().iter().any(|&t| self.sites.contains_key(&(layer, t)))
    }

    /// y[:, columns of each target] += B (A x), by way of `between`.
    pub(crate) fn add(
        &self,
        rec: &mut Recorder,
        (layer, group): (u32, Group),
        x: Input<'_>,
        y: &Slice,
        between: &Slice,
        (spec, tokens): (&Spec, u32),
    ) -> std::result::Result<(), weft_kernels::Error> {
        let targets = group.targets();
        let stride = targets.iter().map(|t| t.outputs(spec)).sum();
        for target in targets {
            let Some(site) = self.sites.get(&(layer, *target)) else { continue };
            let rank = site.a.shape.rows;
            let t = between.range(0, u64::from(tokens) * u64::from(rank) * 4);
            linear(rec, &site.a, x, (&t, Columns::all(rank)), tokens, Epilogue::default())?;
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
