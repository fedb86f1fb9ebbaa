//! How what several ops share lies in memory: activations, the KV cache, the state of a sampler.

mod cache;
mod pages;
mod state;
mod tiles;

pub use cache::{CacheShape, CacheType};
pub use pages::{BLOCK, Pages};
pub(crate) use state::STATE_BYTES;
pub use state::{IDLE, Sequences, State, TOGETHER};
pub use tiles::{rows, tiles};

use crate::{Budget, PlanError, split_rows};

/// How activations lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// f32.
    F32,
    /// f16: what cooperative products take, which would round f32 anyway.
    F16,
    /// f16 in tiles of `side` x `side`, `[rows / side, cols / side, side, side]`: what goes from memory straight
    /// into a matrix. Columns are a multiple of the side; the last tiles of rows are whole in memory, and what
    /// they hold past the last row counts for nothing.
    Tiles {
        /// Rows and columns of a tile, the side of the device's matrices: 8 or 16.
        side: u32,
    },
}

impl Format {
    /// Bytes of a value.
    pub fn bytes(self) -> u64 {
        match self {
            Format::F32 => 4,
            Format::F16 | Format::Tiles { .. } => 2,
        }
    }

    /// Rows of memory that `n` rows take.
    pub fn rows(self, n: u32) -> u64 {
        match self {
            Format::Tiles { side } => u64::from(n.next_multiple_of(side)),
            _ => u64::from(n),
        }
    }
}

impl Format {
    /// The fragment that writes activations so, and what it needs.
    pub(crate) fn out(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Format::F32 => (include_str!("../wgsl/out_f32.wgsl"), &[]),
            Format::F16 => (include_str!("../wgsl/out_f16.wgsl"), &["f16"]),
            Format::Tiles { side: 16 } => (include_str!("../wgsl/out_tiles16.wgsl"), &["f16"]),
            Format::Tiles { .. } => (include_str!("../wgsl/out_tiles8.wgsl"), &["f16"]),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::F32 => "f32",
            Format::F16 => "f16",
            Format::Tiles { side: 16 } => "tiles16",
            Format::Tiles { .. } => "tiles8",
        }
    }

    /// All that an op can write.
    pub(crate) const OUT: [Format; 4] =
        [Format::F32, Format::F16, Format::Tiles { side: 8 }, Format::Tiles { side: 16 }];
}

/// As [`split_rows`] for the rows of activations in a format: tiles are not cut.
pub(crate) fn split_tokens(
    op: &'static str,
    tokens: u32,
    row_bytes: &[u64],
    format: Format,
    budget: &Budget,
) -> std::result::Result<Vec<std::ops::Range<u32>>, PlanError> {
    let Format::Tiles { side } = format else { return split_rows(op, tokens, row_bytes, budget) };
    let tiles: Vec<u64> = row_bytes.iter().map(|&row| row * u64::from(side)).collect();
    let ranges = split_rows(op, tokens.div_ceil(side), &tiles, budget)?;
    Ok(ranges.into_iter().map(|r| r.start * side..(r.end * side).min(tokens)).collect())
}

/// Where a product goes in y: `stride` values a token, of which the first is at `column`. Several
/// products can share a y.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Columns {
    /// Values of a token in y.
    pub stride: u32,
    /// Column of row 0.
    pub column: u32,
}

impl Columns {
    /// All of y.
    pub fn all(rows: u32) -> Columns {
        Columns { stride: rows, column: 0 }
    }
}
