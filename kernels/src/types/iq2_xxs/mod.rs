//! x = d * (1/2 + s) / 4 * ± level, levels of 8, 25 and 43 by eights from a code book of 256, blocks of
//! 256: {d: f16, [{index: [u8; 4], signs and s: u32}; 8]}, a u32 four times seven signs and s of 4 bits.

use super::{Layout, grids};

/// WGSL shared by the IQ2 types.
pub(super) const LEVELS: &str = include_str!("levels.wgsl");

pub(super) const LAYOUT: Layout = Layout {
    name: "IQ2_XXS",
    block: 256,
    bytes: 66,
    planes: &[64, 2],
    repack,
    table: &const { grids::pairs::<256, 128>(&grids::IQ2_XXS) },
    dequant: &[super::PAIRS, super::GRID, LEVELS, include_str!("dequant.wgsl")],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    planes[0].copy_from_slice(&block[2..66]);
    planes[1].copy_from_slice(&block[..2]);
}
