//! The cache of keys and values, layer by layer: its shape follows from the layer's mask.

use weft_kernels::layout::{BLOCK, Pages};
use weft_kernels::ops::attention::{CacheShape, CacheType};
use weft_kernels::ops::sample::State;
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

/// A pool of blocks, which layers that see as far have in common: each has memory for all of its blocks, and sequences
/// have one table for all of these layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    /// Positions that a token sees; 0 for all.
    pub(crate) window: u32,
    /// How the pool is cut.
    pub(crate) pages: Pages,
}

/// What caches are for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Sequences.
    pub(crate) sequences: u32,
    /// Tables of blocks, where caches lie in blocks: one for each sequence, and more for rows that see what one of them
    /// has.
    pub(crate) rows: u32,
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
        Ok(Shapes { layers, windows: windows(spec), context: e.context })
    }

    /// Caches of a type in blocks, with a pool for each window that layers have. Those that see all have room for
    /// `positions` in all sequences together, and at least for one sequence; those with a window for as much as each
    /// sequence sees, and a batch. Where a binding holds fewer blocks than all sequences would begin with, there are as
    /// many as it holds.
    ///
    /// # Errors
    /// A head that a cache of this type cannot hold, a block or tables that no binding does.
    pub(crate) fn paged(
        spec: &Spec,
        ty: CacheType,
        e: Extent,
        positions: u64,
        budget: &Budget,
    ) -> std::result::Result<(Shapes, Vec<Group>), PlanError> {
        let windows = windows(spec);
        let mut kinds = windows.clone();
        kinds.sort_unstable();
        kinds.dedup();
        let state = (size_of::<State>() / 4) as u32;
        // A piece has a binding of its own, which begins at a multiple of 256 bytes in any case.
        let piece = (e.rows * state).next_multiple_of(64);
        let mixed = piece + 2 * state;
        let mut table = mixed + 2 * e.batch;
        let mut groups = Vec::new();
        for window in kinds {
            let blocks = spec.blocks.iter().filter(|b| b.attention.mask.window() == window);
            let most = blocks
                .map(|b| CacheShape::most_blocks(ty, b.attention.kv_heads, b.attention.head_dim, budget))
                .try_fold(u32::MAX, |a, b| b.map(|b| a.min(b)))?;
            let width = e.context.div_ceil(BLOCK);
            let (chunks, blocks) = cut(window, width, &e, positions, most);
            let pages = Pages { blocks, chunks, slots: e.rows, width, table, piece, mixed };
            table += e.rows * width;
            groups.push(Group { window, pages });
        }
        let shape = |b: &Block| {
            let (a, window) = (&b.attention, b.attention.mask.window());
            let group = groups.iter().find(|g| g.window == window).expect("one for each window");
            let cache = CacheShape::paged(ty, a.kv_heads, a.head_dim, group.pages, budget)?;
            let apart = cache.blocks() > 0 && spec.bias_comes_apart(b);
            Ok(if apart { cache.without_bias() } else { cache })
        };
        let layers = spec.blocks.iter().map(shape).collect::<std::result::Result<_, PlanError>>()?;
        Ok((Shapes { layers, windows, context: e.context }, groups))
    }

    /// No caches, for a model that reads whole sequences.
    pub(crate) fn none() -> Shapes {
        Shapes { layers: Vec::new(), windows: Vec::new(), context: 0 }
    }

    /// Positions of a sequence.
    pub(crate) fn context(&self) -> u32 {
        self.context
    }

    /// Where in the state buffer a prompt's piece has its state, in bytes, where caches lie in blocks.
    pub(crate) fn piece(&self) -> Option<u64> {
        let pages = self.layers.first()?.pages?;
        Some(u64::from(pages.piece) * 4)
    }

    /// Where in the state buffer tokens of any slots have their positions and slots, in bytes, where caches lie in blocks.
    pub(crate) fn mixed(&self) -> Option<u64> {
        let pages = self.layers.first()?.pages?;
        Some(u64::from(pages.mixed) * 4)
    }

    /// The shape of a layer's cache.
    pub(crate) fn layer(&self, layer: u32) -> &CacheShape {
        &self.layers[layer as usize]
    }

    /// Positions that attention of a layer goes through at most, of so many that a sequence has.
    pub(crate) fn held(&self, layer: u32, positions: u32) -> u32 {
        let (cache, window) = (self.layer(layer), self.windows[layer as usize]);
        match (cache.ring, cache.pages) {
            (Some(ring), _) => positions.min(ring.next_power_of_two()),
            (None, Some(_)) if window > 0 => positions.min((window + BLOCK).next_power_of_two()),
            _ => positions,
        }
    }

    /// Bytes of a block in all layers of a pool.
    pub(crate) fn block_bytes(&self, window: u32) -> u64 {
        let layers = self.layers.iter().zip(&self.windows).filter(|(_, w)| **w == window);
        layers.map(|(l, _)| 2 * l.ty.bytes(u64::from(BLOCK) * u64::from(l.kv_heads), l.head_dim)).sum()
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

/// The window that each layer sees; 0 for all.
fn windows(spec: &Spec) -> Vec<u32> {
    spec.blocks.iter().map(|b| b.attention.mask.window()).collect()
}

/// How many chunks a pool has, and blocks of each. Block b of every sequence lies in chunk `b % chunks`, so that short
/// sequences fill the first chunks before the others.
fn cut(window: u32, width: u32, e: &Extent, positions: u64, most: u32) -> (u32, u32) {
    let per = |chunks: u32| -> u64 {
        let of = |entries: u32| u64::from(entries.min(width).div_ceil(chunks));
        let slots = u64::from(e.sequences);
        match window {
            // All sequences in full, or as much as was asked for, and one sequence in full.
            0 => (slots * of(width)).min(positions.div_ceil(u64::from(BLOCK * chunks))).max(of(width)),
            // What a token sees may begin and end within a block; so may a batch.
            w => (slots * of(w.div_ceil(BLOCK) + 1) + of(e.batch.div_ceil(BLOCK) + 1)).min(slots * of(width)),
        }
    };
    let chunks = (1..width).find(|&n| per(n) <= u64::from(most)).unwrap_or(width);
    (chunks, per(chunks).min(u64::from(most)) as u32)
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

    /// The memory that holds a block of the pool of layers with this window: keys and values of each of them.
    #[cfg_attr(target_arch = "wasm32", allow(dead_code))] // for engine/prefix.rs
    pub(crate) fn block(&self, window: u32, chunk: usize, block: u32) -> Vec<Slice> {
        let layers = self.shapes.layers.iter().zip(&self.shapes.windows).zip(&self.layers);
        let of = |((shape, _), chunks): ((&CacheShape, &u32), &Vec<(Slice, Slice)>)| {
            let (keys, values) = chunks[chunk].clone();
            let parts = move |all: Slice| {
                let parts = shape.block_parts(chunk, block);
                parts.into_iter().map(move |p| all.range(p.start, p.end - p.start)).collect::<Vec<_>>()
            };
            [parts(keys), parts(values)].concat()
        };
        layers.filter(|((_, w), _)| **w == window).flat_map(of).collect()
    }

    /// The chunks of (keys, values) of a layer.
    pub(crate) fn layer(&self, layer: u32) -> &[(Slice, Slice)] {
        &self.layers[layer as usize]
    }
}
