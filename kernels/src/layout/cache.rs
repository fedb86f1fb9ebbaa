//! The KV cache: how it stores values and how it is cut.

use std::ops::Range;

use weft_runtime::Budget;

use super::{BLOCK as PAGE, Pages, Sequences};
use crate::error::PlanError;

const MAX_HEAD: u32 = 256;

/// How the cache stores a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[allow(missing_docs)]
pub enum CacheType {
    F32,
    #[default]
    F16,
    Q8_0,
    Q4_0,
}

/// Values that share a scale in the quantised types.
const BLOCK: u32 = 32;

impl CacheType {
    /// All of them.
    pub const ALL: [CacheType; 4] = [CacheType::F32, CacheType::F16, CacheType::Q8_0, CacheType::Q4_0];

    /// The name used on the command line.
    pub fn name(self) -> &'static str {
        match self {
            CacheType::F32 => "f32",
            CacheType::F16 => "f16",
            CacheType::Q8_0 => "q8_0",
            CacheType::Q4_0 => "q4_0",
        }
    }

    /// The type called `name`.
    pub fn parse(name: &str) -> Option<CacheType> {
        CacheType::ALL.into_iter().find(|t| t.name() == name)
    }

    /// Bits of a value, scales not counted.
    fn bits(self) -> u64 {
        match self {
            CacheType::F32 => 32,
            CacheType::F16 => 16,
            CacheType::Q8_0 => 8,
            CacheType::Q4_0 => 4,
        }
    }

    /// Blocks of 32 values, each with a scale, in a head of `head_dim`; 0 for types without scales.
    pub(crate) fn blocks(self, head_dim: u32) -> u32 {
        if self.bits() < 16 { head_dim / BLOCK } else { 0 }
    }

    /// The side of the Hadamard matrix by whose blocks queries, keys and values are turned before a cache with scales
    /// takes them, and what attention gives is turned back: the largest power of two that divides a head. 0 for types
    /// that round each value by itself.
    pub(crate) fn spread(self, head_dim: u32) -> u32 {
        if self.blocks(head_dim) > 0 { 1 << head_dim.trailing_zeros() } else { 0 }
    }

    /// Bytes of the values of `rows` heads of `head_dim`, which their scales follow.
    pub(crate) fn value_bytes(self, rows: u64, head_dim: u32) -> u64 {
        rows * u64::from(head_dim) * self.bits() / 8
    }

    /// Bytes of `rows` heads of `head_dim`: whole vec4.
    pub fn bytes(self, rows: u64, head_dim: u32) -> u64 {
        let scales = rows * 4 * u64::from(self.blocks(head_dim).div_ceil(2));
        (self.value_bytes(rows, head_dim) + scales).next_multiple_of(16)
    }

    /// The element of the bindings of a cache.
    pub(crate) fn word(self) -> &'static str {
        match self {
            CacheType::F32 | CacheType::F16 => "alias Word = vec4<u32>;",
            CacheType::Q8_0 => "alias Word = vec2<u32>;",
            CacheType::Q4_0 => "alias Word = u32;",
        }
    }

    /// The fragment that loads from the cache.
    pub(crate) fn loads(self) -> &'static str {
        match self {
            CacheType::F32 => concat!(include_str!("cache_f32.wgsl"), "\n", include_str!("cache_whole.wgsl")),
            CacheType::F16 => concat!(include_str!("cache_f16.wgsl"), "\n", include_str!("cache_whole.wgsl")),
            CacheType::Q8_0 => {
                concat!(include_str!("cache_q8_0.wgsl"), "\n", include_str!("cache_scaled.wgsl"))
            }
            CacheType::Q4_0 => {
                concat!(include_str!("cache_q4_0.wgsl"), "\n", include_str!("cache_scaled.wgsl"))
            }
        }
    }

    /// The fragment that has values as integers, for types with scales.
    pub(crate) fn integers(self) -> &'static str {
        match self {
            CacheType::F32 | CacheType::F16 => "",
            CacheType::Q8_0 => include_str!("integers_q8_0.wgsl"),
            CacheType::Q4_0 => include_str!("integers_q4_0.wgsl"),
        }
    }

    /// The function that narrows what was loaded to f16, for cooperative matrices.
    pub(crate) fn halves(self) -> &'static str {
        match self {
            CacheType::F16 => {
                "fn halves(h: Held) -> mat2x4<f16> {
                    return mat2x4<f16>(
                        vec4<f16>(vec2<f16>(unpack2x16float(h.x)), vec2<f16>(unpack2x16float(h.y))),
                        vec4<f16>(vec2<f16>(unpack2x16float(h.z)), vec2<f16>(unpack2x16float(h.w))));
                }"
            }
            _ => {
                "fn halves(h: Held) -> mat2x4<f16> {
                    let x = wide(h);
                    return mat2x4<f16>(vec4<f16>(x[0]), vec4<f16>(x[1]));
                }"
            }
        }
    }

    /// The function that gives values as they will come back from the cache; it needs both fragments.
    pub(crate) fn kept(self) -> &'static str {
        match self {
            CacheType::F32 => "fn kept(x: mat2x4<f32>, block: u32) -> mat2x4<f32> { return x; }",
            CacheType::F16 => {
                "fn kept(x: mat2x4<f32>, block: u32) -> mat2x4<f32> { return wide(narrow(x)); }"
            }
            CacheType::Q8_0 | CacheType::Q4_0 => {
                "fn kept(x: mat2x4<f32>, block: u32) -> mat2x4<f32> {
                    return wide(Held(narrow(x, block), scale_for(extremes[block])));
                }"
            }
        }
    }

    /// The fragment that stores to the cache.
    pub(crate) fn stores(self) -> &'static str {
        match self {
            CacheType::F32 => include_str!("store_f32.wgsl"),
            CacheType::F16 => include_str!("store_f16.wgsl"),
            CacheType::Q8_0 => include_str!("store_q8_0.wgsl"),
            CacheType::Q4_0 => include_str!("store_q4_0.wgsl"),
        }
    }
}

/// A layer's cache: `[positions, kv_heads, head_dim]`, for keys and for values, cut by positions
/// into chunks that each fit a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheShape {
    /// How values are stored.
    pub ty: CacheType,
    /// Positions in all.
    pub context: u32,
    /// KV heads.
    pub kv_heads: u32,
    /// Size of a head.
    pub head_dim: u32,
    /// Positions of a chunk (the last may have fewer).
    pub per_chunk: u32,
    /// Places of a ring, for layers that see a window alone: position n lies at n mod this. One sequence has the whole
    /// context is a ring; several slots have one each, one after the other. None where every position has its
    /// place.
    pub ring: Option<u32>,
    /// How it is cut into blocks, where slots have blocks of it by their tables. None where positions lie in their order.
    pub pages: Option<Pages>,
    /// Whether keys lie without the bias that was added to them, see [`CacheShape::without_bias`].
    pub apart: bool,
}

impl CacheShape {
    /// Refuses slots of a cache that is not in blocks, for `op`.
    pub(crate) fn check(&self, op: &'static str, sequences: Sequences) -> std::result::Result<(), PlanError> {
        match sequences == Sequences::One || self.pages.is_some() {
            true => Ok(()),
            false => Err(PlanError::Shape { op, what: "slots of a cache that is not in blocks".into() }),
        }
    }

    /// Cuts a cache for `budget`.
    ///
    /// # Errors
    /// A head size the kernel does not take, or a position that exceeds a binding.
    pub fn new(
        ty: CacheType,
        context: u32,
        kv_heads: u32,
        head_dim: u32,
        budget: &Budget,
    ) -> std::result::Result<CacheShape, PlanError> {
        if head_dim == 0 || !head_dim.is_multiple_of(8) || head_dim > MAX_HEAD {
            let what = format!("head size {head_dim} (multiples of 8 up to {MAX_HEAD} are supported)");
            return Err(PlanError::Shape { op: "attention", what });
        }
        if ty.bits() < 16 && !head_dim.is_multiple_of(BLOCK) {
            let what = format!(
                "a cache of {} needs heads of a multiple of {BLOCK}, this model's have {head_dim} \
                 (f16 and f32 caches take it)",
                ty.name()
            );
            return Err(PlanError::Shape { op: "attention", what });
        }
        // Bytes are rounded up to 16 once a chunk.
        let row = ty.bytes(4 * u64::from(kv_heads), head_dim).div_ceil(4);
        let fits = ((budget.max_binding & !15) / row).min(u64::from(u32::MAX)) as u32;
        if fits == 0 {
            return Err(PlanError::DoesNotFit {
                op: "attention",
                what: "a position of the cache",
                needed: row,
                allowed: budget.max_binding,
            });
        }
        let chunks = context.div_ceil(fits).max(1);
        Ok(CacheShape {
            ty,
            context,
            kv_heads,
            head_dim,
            per_chunk: context.div_ceil(chunks),
            ring: None,
            pages: None,
            apart: false,
        })
    }

    /// The least places of a ring in which every token of a batch finds its window: `window + batch - 1`, for the
    /// batch is stored before its first token looks. A multiple of 32.
    pub fn ring_capacity(window: u32, batch: u32) -> u32 {
        (window + batch - 1).next_multiple_of(32)
    }

    /// The most blocks of positions that a binding holds.
    ///
    /// # Errors
    /// As [`CacheShape::new`]; a block that exceeds a binding.
    pub fn most_blocks(
        ty: CacheType,
        kv_heads: u32,
        head_dim: u32,
        budget: &Budget,
    ) -> std::result::Result<u32, PlanError> {
        CacheShape::new(ty, PAGE, kv_heads, head_dim, budget)?;
        let block = ty.bytes(u64::from(PAGE) * u64::from(kv_heads), head_dim);
        match (budget.max_binding / block).min(u64::from(u32::MAX / PAGE)) as u32 {
            0 => Err(PlanError::DoesNotFit {
                op: "attention",
                what: "a block of the cache",
                needed: block,
                allowed: budget.max_binding,
            }),
            most => Ok(most),
        }
    }

    /// A pool of blocks for slots.
    ///
    /// # Errors
    /// As [`CacheShape::most_blocks`]; chunks or tables that exceed a binding.
    pub fn paged(
        ty: CacheType,
        kv_heads: u32,
        head_dim: u32,
        pages: Pages,
        budget: &Budget,
    ) -> std::result::Result<CacheShape, PlanError> {
        let most = CacheShape::most_blocks(ty, kv_heads, head_dim, budget)?;
        let fits = |what, needed, allowed| match needed > allowed {
            true => Err(PlanError::DoesNotFit { op: "attention", what, needed, allowed }),
            false => Ok(()),
        };
        fits("the blocks of a chunk", pages.blocks.into(), most.into())?;
        fits("the tables of blocks", pages.state_bytes(), budget.max_binding)?;
        let (context, per_chunk) = (pages.chunks * pages.positions(), pages.positions());
        let pages = Some(pages);
        Ok(CacheShape { ty, context, kv_heads, head_dim, per_chunk, ring: None, pages, apart: false })
    }

    /// The same memory as one ring, or as several of `capacity` places each.
    ///
    /// # Panics
    /// If the rings are not whole.
    pub fn as_ring(self, capacity: u32) -> CacheShape {
        assert!(
            capacity > 0 && self.context.is_multiple_of(capacity),
            "rings of {capacity} in {}",
            self.context
        );
        CacheShape { ring: Some(capacity), ..self }
    }

    /// The same cache, whose keys lie without the bias that their projection added. A bias of Qwen 2 is up to a hundred
    /// times what differs from key to key, and what rounds with it loses the rest. Its part of a score,
    /// `q . R(position) b`, takes no key: queries carry its coefficients ([`CacheShape::q_row`]). Heads must be turned
    /// as a whole.
    pub fn without_bias(self) -> CacheShape {
        CacheShape { apart: true, ..self }
    }

    /// Blocks of values with one scale in a head; 0 where each value is rounded by itself.
    pub fn blocks(&self) -> u32 {
        self.ty.blocks(self.head_dim)
    }

    /// Values of a head of a query: those of the head, and where keys lie without their bias as many coefficients of
    /// the bias's part of a score.
    pub fn q_row(&self) -> u32 {
        if self.apart { 2 * self.head_dim } else { self.head_dim }
    }

    /// Number of chunks.
    pub fn chunks(&self) -> usize {
        self.context.div_ceil(self.per_chunk) as usize
    }

    /// Positions of chunk `i`.
    pub fn chunk(&self, i: usize) -> Range<u32> {
        let start = i as u32 * self.per_chunk;
        start..(start + self.per_chunk).min(self.context)
    }

    /// Bytes of a layer's cache on the GPU: keys and values of all chunks, each aligned for binding.
    pub fn bytes(&self, budget: &Budget) -> u64 {
        (0..self.chunks()).map(|i| 2 * self.chunk_bytes(i).next_multiple_of(budget.align)).sum()
    }

    /// Where a block of positions lies in chunk `i` of a pool, in bytes: its values, and its scales where there are any.
    pub fn block_parts(&self, i: usize, block: u32) -> Vec<Range<u64>> {
        let r = self.chunk(i);
        let (heads, rows) = (u64::from(self.kv_heads), u64::from(PAGE) * u64::from(self.kv_heads));
        let all = self.ty.value_bytes(u64::from(r.end - r.start) * heads, self.head_dim);
        let part =
            |start: u64, bytes: u64| start + u64::from(block) * bytes..start + (u64::from(block) + 1) * bytes;
        let scales = rows * 4 * u64::from(self.blocks().div_ceil(2));
        let parts = [part(0, self.ty.value_bytes(rows, self.head_dim)), part(all, scales)];
        parts.into_iter().filter(|p| !p.is_empty()).collect()
    }

    /// Bytes of chunk `i` of the keys, and of the values.
    pub fn chunk_bytes(&self, i: usize) -> u64 {
        let r = self.chunk(i);
        self.ty.bytes(u64::from(r.end - r.start) * u64::from(self.kv_heads), self.head_dim)
    }
}

#[cfg(test)]
mod tests {
    use super::{CacheShape, CacheType};
    use crate::Budget;

    #[test]
    fn quantised_caches_refuse_heads_that_no_block_divides() {
        let new = |ty, head| CacheShape::new(ty, 100, 2, head, &Budget::WEBGPU);
        let why = new(CacheType::Q8_0, 80).unwrap_err().to_string();
        assert!(why.contains("80") && why.contains("f16"), "{why}");
        assert!(new(CacheType::F16, 80).is_ok() && new(CacheType::Q4_0, 96).is_ok());
    }

    #[test]
    fn every_chunk_fits_and_the_bytes_are_those_of_all() {
        for ty in CacheType::ALL {
            let budget = Budget { max_binding: 10_000, ..Budget::WEBGPU };
            let cache = CacheShape::new(ty, 301, 3, 96, &budget).unwrap();
            assert!(cache.chunks() >= 3);
            assert!((0..cache.chunks()).all(|i| cache.chunk_bytes(i) <= budget.max_binding));
            let heads = 301 * 3;
            let scales = if ty.blocks(96) > 0 { heads * 2 * 4 } else { 0 };
            let bytes: u64 = (0..cache.chunks()).map(|i| cache.chunk_bytes(i)).sum();
            let want = ty.value_bytes(heads, 96) + scales;
            assert!((want..want + 16 * cache.chunks() as u64).contains(&bytes));
        }
    }
}
