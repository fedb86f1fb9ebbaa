//! The cache of keys and values, layer by layer: its shape follows from the layer's mask.

use weft_kernels::ops::attention::{CacheShape, CacheType};
use weft_kernels::{Budget, PlanError};
use weft_runtime::{Gpu, Pool, Slice};

use crate::Result;
use crate::spec::{Block, Mask, Spec};

/// The shapes of all layers' caches.
#[derive(Debug, Clone)]
pub(crate) struct Shapes {
    /// By layer.
    layers: Vec<CacheShape>,
    /// By layer the window that it sees; 0 for all.
    windows: Vec<u32>,
    context: u32,
}

/// What caches are for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Sequences, which lie one after the other.
    pub(crate) sequences: u32,
    /// Positions of each.
    pub(crate) context: u32,
    /// The most tokens of a sequence that are written before the first of them looks.
    pub(crate) batch: u32,
}

impl Shapes {
    /// Caches of a type: of every position, or in layers with a window a ring of what it and a batch take.
    ///
    /// # Errors
    /// A head that a cache of this type cannot hold, or that no binding does.
    pub(crate) fn new(
        spec: &Spec,
        ty: CacheType,
        e: Extent,
        budget: &Budget,
    ) -> std::result::Result<Shapes, PlanError> {
        let shape = |b: &Block| {
            let a = &b.attention;
            let ring = match a.mask {
                Mask::Window(window) => Some(CacheShape::ring_capacity(window, e.batch)),
                _ => None,
            };
            let new = |each: u32| -> std::result::Result<CacheShape, PlanError> {
                let cache = CacheShape::new(ty, e.sequences * each, a.kv_heads, a.head_dim, budget)?;
                // Values that share a scale are rounded as coarsely as the largest asks, and a bias of keys is the largest.
                let apart = cache.blocks() > 0 && spec.bias_comes_apart(b);
                Ok(if apart { cache.without_bias() } else { cache })
            };
            Ok(match ring.filter(|&r| r < e.context) {
                Some(ring) => new(ring)?.as_ring(ring),
                None => new(e.context)?,
            })
        };
        let layers = spec.blocks.iter().map(shape).collect::<std::result::Result<_, PlanError>>()?;
        let windows = spec.blocks.iter().map(|b| b.attention.mask.window()).collect();
        Ok(Shapes { layers, windows, context: e.context })
    }

    /// No caches, for a model that reads whole sequences.
    pub(crate) fn none() -> Shapes {
        Shapes { layers: Vec::new(), windows: Vec::new(), context: 0 }
    }

    /// Positions of a sequence.
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

    /// Whether a sequence of which `written` positions were ever written still has all that the token at `position`
    /// sees: a ring keeps the last of them alone.
    pub(crate) fn holds(&self, position: usize, written: usize) -> bool {
        self.layers.iter().zip(&self.windows).all(|(layer, &window)| {
            layer.ring.is_none_or(|ring| position + ring as usize + 1 >= written + window as usize)
        })
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

    /// What to copy where so that sequence `to` of `other` has the keys and values of the first `positions` positions.
    pub(crate) fn copies(&self, positions: u32, other: &Cache, to: u32) -> Vec<(Slice, Slice)> {
        let mut all = Vec::new();
        for (i, shape) in self.shapes.layers.iter().enumerate() {
            let target = &other.shapes.layers[i];
            let first = to * target.ring.unwrap_or(other.shapes.context);
            for m in shape.copies(0..positions, target, first) {
                let (from, to) = (&self.layers[i][m.chunks.0], &other.layers[i][m.chunks.1]);
                all.push((from.0.range(m.from, m.bytes), to.0.range(m.to, m.bytes)));
                all.push((from.1.range(m.from, m.bytes), to.1.range(m.to, m.bytes)));
            }
        }
        all
    }
}
