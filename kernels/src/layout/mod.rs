//! How what several ops share lies in memory: activations, the KV cache, the state of a sampler.

mod cache;
mod state;

pub use cache::{CacheShape, CacheType, Moved};
pub(crate) use state::STATE_BYTES;
pub use state::{IDLE, Sequences, State};

/// How activations lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// f32.
    F32,
    /// f16: what cooperative products take, which would round f32 anyway.
    F16,
}

impl Format {
    /// Bytes of a value.
    pub fn bytes(self) -> u64 {
        match self {
            Format::F32 => 4,
            Format::F16 => 2,
        }
    }
}

impl Format {
    /// The fragment that writes activations so, and what it needs.
    pub(crate) fn out(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Format::F32 => (include_str!("../wgsl/out_f32.wgsl"), &[]),
            Format::F16 => (include_str!("../wgsl/out_f16.wgsl"), &["f16"]),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::F32 => "f32",
            Format::F16 => "f16",
        }
    }
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
