//! How much memory a model takes before any of it is taken.

use weft_formats::gguf::{File, TensorInfo};
use weft_kernels::ops::attention::{CacheShape, CacheType};
use weft_kernels::{Budget, WeightShape, WeightType};

use crate::decoder::{Buffers, Job};
use crate::{Error, Result, Spec};

/// Bytes of GPU memory, by pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Weights, repacked.
    pub weights: u64,
    /// KV cache of the whole context.
    pub kv_cache: u64,
    /// Activations of one prefill chunk.
    pub activations: u64,
    /// Sampler state, token history, rotary table.
    pub state: u64,
}

impl MemoryPlan {
    /// Bytes in all.
    pub fn total(&self) -> u64 {
        self.weights + self.kv_cache + self.activations + self.state
    }
}

/// The weight type of a tensor, or an error that lists what is read.
pub(crate) fn weight_type(file: &File, t: &TensorInfo) -> Result<WeightType> {
    WeightType::parse(t.ty.name()).ok_or_else(|| Error::TensorType {
        file: file.path().display().to_string(),
        name: t.name.clone(),
        ty: t.ty.name().into(),
        supported: WeightType::ALL.iter().map(|t| t.name()).collect::<Vec<_>>().join(", "),
    })
}

/// How the KV cache of `file` is stored: f16, but f32 where every matrix is f32, whose owner asked for
/// precision rather than speed.
pub(crate) fn cache_type(file: &File) -> CacheType {
    let precise = |t: &TensorInfo| t.shape.len() < 2 || t.ty == weft_formats::quant::Type::F32;
    if file.tensors().iter().all(precise) { CacheType::F32 } else { CacheType::F16 }
}

/// Plans the memory of `file` for a context and a prefill chunk, with the KV cache stored as `cache`, or
/// as the file suggests.
///
/// # Errors
/// A tensor type that is not read, a shape that no split fits into the budget.
pub fn plan(
    file: &File,
    spec: &Spec,
    context: u32,
    chunk: u32,
    cache: Option<CacheType>,
    budget: &Budget,
) -> Result<MemoryPlan> {
    let mut weights = 0;
    for t in file.tensors() {
        weights += match t.shape.as_slice() {
            [cols, rows] if *cols <= u64::from(u32::MAX) && *rows <= u64::from(u32::MAX) => {
                let ty = weight_type(file, t)?;
                WeightShape::new(ty, *rows as u32, *cols as u32, budget)?.bytes(budget)
            }
            _ => t.size.next_multiple_of(budget.align),
        };
    }
    let ty = cache.unwrap_or_else(|| cache_type(file));
    let cache = CacheShape::new(ty, context, spec.kv_heads(), spec.head_dim(), budget)?;
    let table = u64::from(128 + context.div_ceil(128)) * u64::from(spec.rotation().pairs()) * 8;
    Ok(MemoryPlan {
        weights,
        kv_cache: cache.bytes(budget) * u64::from(spec.layers()),
        activations: Buffers::most(spec, &cache, Job::one(chunk), budget),
        state: table + u64::from(context) * 4 + u64::from(chunk) * 4 + 4 * budget.align,
    })
}
