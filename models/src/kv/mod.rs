//! The cache of keys and values, layer by layer: its shape follows from the layer's mask.

use weft_kernels::ops::attention::{CacheShape, CacheType};
use weft_kernels::{Budget, PlanError};
use weft_runtime::{Gpu, Pool, Slice};

use crate::Result;
use crate::spec::Spec;

/// The shapes of all layers' caches.
#[derive(Debug, Clone)]
pub(crate) struct Shapes {
    /// By layer.
    layers: Vec<CacheShape>,
    context: u32,
}

impl Shapes {
    /// Caches for `context` positions.
    ///
    /// # Errors
    /// A head that a cache of this type cannot hold, or that no binding does.
    pub(crate) fn new(
        spec: &Spec,
        ty: CacheType,
        context: u32,
        budget: &Budget,
    ) -> std::result::Result<Shapes, PlanError> {
        let shape = |b: &crate::spec::Block| {
            CacheShape::new(ty, context, b.attention.kv_heads, b.attention.head_dim, budget)
        };
        let layers = spec.blocks.iter().map(shape).collect::<std::result::Result<_, _>>()?;
        Ok(Shapes { layers, context })
    }

    /// Positions of the context.
    pub(crate) fn context(&self) -> u32 {
        self.context
    }

    /// The shape of a layer's cache.
    pub(crate) fn layer(&self, layer: u32) -> &CacheShape {
        &self.layers[layer as usize]
    }

    /// Bytes of all layers.
    pub(crate) fn bytes(&self, budget: &Budget) -> u64 {
        self.layers.iter().map(|s| s.bytes(budget)).sum()
    }
}

/// Keys and values on a device.
pub(crate) struct Cache {
    pub(crate) shapes: Shapes,
    /// For each layer the chunks of (keys, values).
    layers: Vec<Vec<(Slice, Slice)>>,
}

impl Cache {
    /// Takes memory from `pool`.
    ///
    /// # Errors
    /// More memory than the device has left.
    pub(crate) fn new(gpu: &Gpu, shapes: Shapes, pool: Pool, label: &str) -> Result<Cache> {
        gpu.reserve(pool, shapes.bytes(gpu.budget()));
        let chunk = |bytes| Ok((gpu.alloc(pool, bytes, label)?, gpu.alloc(pool, bytes, label)?));
        let layer =
            |s: &CacheShape| (0..s.chunks()).map(|i| chunk(s.chunk_bytes(i))).collect::<Result<Vec<_>>>();
        let layers = shapes.layers.iter().map(layer).collect::<Result<_>>()?;
        Ok(Cache { shapes, layers })
    }

    /// The chunks of (keys, values) of a layer.
    pub(crate) fn layer(&self, layer: u32) -> &[(Slice, Slice)] {
        &self.layers[layer as usize]
    }

    /// What to copy where so that `other` has the keys and values of the first `positions` positions from its position
    /// `to` on.
    pub(crate) fn copies(&self, positions: u32, other: &Cache, to: u32) -> Vec<(Slice, Slice)> {
        let mut all = Vec::new();
        for (i, shape) in self.shapes.layers.iter().enumerate() {
            for m in shape.copies(0..positions, &other.shapes.layers[i], to) {
                let (from, to) = (&self.layers[i][m.chunks.0], &other.layers[i][m.chunks.1]);
                all.push((from.0.range(m.from, m.bytes), to.0.range(m.to, m.bytes)));
                all.push((from.1.range(m.from, m.bytes), to.1.range(m.to, m.bytes)));
            }
        }
        all
    }
}
