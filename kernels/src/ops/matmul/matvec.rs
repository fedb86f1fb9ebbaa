//! The kernels for a few tokens (decode), bound by the weights' bytes: their constants and shaders.

use weft_runtime::{Access, Shader};

use super::Variant;
use crate::ops::{WEIGHT, with_dequant};
use crate::{WeightType, compose};

/// Up to this many tokens, each weight is read once and multiplied with all of them in registers;
/// past it the tiled kernels win although they compute whole tiles.
pub const MATVEC_TOKENS: u32 = 8;

/// How the matvec kernels spread their work; constants of the shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matvec {
    /// Invocations.
    pub wg: u32,
    /// Invocations that share a row.
    pub lanes: u32,
    /// Rows of each group of lanes.
    pub rows: u32,
    /// Tokens.
    pub tokens: u32,
}

impl Matvec {
    /// In f32, x costs more loads than w, so lanes take two rows. In integers it does not: one row,
    /// and as many lanes as walk it in a few rounds, because a chain of dispatches waits for the
    /// slowest lane.
    pub fn pick(variant: Variant, rows: u32, cols: u32, tokens: u32) -> Matvec {
        let units = cols / 16;
        if variant == Variant::MatvecDot {
            let (wg, lanes) = match units {
                0..=63 => (128, 8),
                64..=127 => (128, 16),
                _ if rows > 32_768 => (128, 16),
                128..=383 => (128, 32),
                _ => (256, 64),
            };
            return Matvec { wg, lanes, rows: 1, tokens };
        }
        let lanes = match units {
            0..=31 => 8,
            32..=127 => 16,
            _ => 32,
        };
        Matvec { wg: 128, lanes, rows: if tokens <= 2 { 2 } else { 1 }, tokens }
    }

    /// The pipeline's name.
    pub(super) fn name(self, variant: Variant, ty: WeightType) -> String {
        format!("{}_l{}_t{}_{ty}", variant.name(), self.lanes, self.tokens)
    }

    /// The shader of [`Variant::Matvec`] or [`Variant::MatvecDot`].
    pub(super) fn shader(self, variant: Variant, ty: WeightType) -> Shader {
        let constants =
            [("WG", self.wg), ("LANES", self.lanes), ("ROWS", self.rows), ("TOKENS", self.tokens)];
        // x, or its integers and their scales, and y.
        let (text, operands) = match variant {
            Variant::MatvecDot => (include_str!("matvec_dot.wgsl"), 3),
            _ => (include_str!("matvec.wgsl"), 2),
        };
        let mut parts = with_dequant(ty, text);
        parts.push(include_str!("matvec_store.wgsl"));
        Shader {
            name: self.name(variant, ty),
            source: compose(&[], &constants, &parts),
            bindings: [&WEIGHT[..], &[Access::Read], &vec![Access::ReadWrite; operands]].concat(),
        }
    }

    /// Rows of a workgroup.
    pub fn rows_per_group(self) -> u32 {
        self.wg / self.lanes * self.rows
    }
}
