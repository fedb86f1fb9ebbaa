//! What products read, and what is added to them.

use weft_runtime::Slice;

use super::low_rank::LowRank;
use crate::layout::Format;
use crate::ops::quantize::Quantized;
use crate::ops::rmsnorm::Norm;
use crate::params;

pub(super) const HAS_BIAS: u32 = 1;
pub(super) const ADD: u32 = 2;

params! {
    /// Parameters of the variants for a few tokens; `extent` is the folded grid.
    pub struct Params {
        pub planes: [u32; 4],
        pub row0: u32,
        pub rows: u32,
        pub units: u32,
        pub y_stride: u32,
        pub flags: u32,
        pub extent: u32,
        pub column: u32,
        pub eps: f32,
    }
}

/// What is added to a product `y[t, r] = x[t, :] . w[r, :]`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// `[rows]` f32.
    pub bias: Option<&'a Slice>,
    /// Add to what y holds: the residual.
    pub add: bool,
    /// An adapter's product.
    pub low: Option<LowRank<'a>>,
    /// Activations for the parts of a sum that workgroups share; without, they do not.
    pub scratch: Option<&'a Slice>,
    /// Whether a cooperative kernel has its parameters in its text ([`Gpu::specialised`](weft_runtime::Gpu::specialised)):
    /// for what is replayed often.
    pub specialised: bool,
    /// RMSNorm of all of y, the residual stream, once the product is added to it.
    pub norm: Option<Norm<'a>>,
}

/// The left side of a product: `[tokens, cols]`, and as integers where [`Variant::MatvecDot`](super::Variant::MatvecDot) or
/// [`Variant::TiledDot`](super::Variant::TiledDot) will read them.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The values.
    pub x: &'a Slice,
    /// The same, quantised: by [`quantize`](crate::ops::quantize::quantize) for a few tokens, by [`quantize8`](crate::ops::quantize::quantize8) for
    /// many.
    pub ints: Option<&'a Quantized>,
    /// How x lies in memory.
    pub format: Format,
}

impl<'a> Input<'a> {
    /// Values in f32.
    pub fn f32(x: &'a Slice) -> Input<'a> {
        Input { x, ints: None, format: Format::F32 }
    }
}
