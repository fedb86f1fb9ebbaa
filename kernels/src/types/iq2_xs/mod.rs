//! x = d * (1/2 + s) / 4 * ± level, levels of 8, 25 and 43 by eights from a code book of 512, 16
//! sub-blocks of 16 with 4-bit s in a block of 256: {d: f16, qs: [u16; 32], scales: [u8; 8]}, a u16 an
//! index of 9 bits and seven signs.

use super::iq2_xxs::LEVELS;
use super::{Layout, grids};

pub(super) const LAYOUT: Layout = Layout {
    name: "IQ2_XS",
    block: 256,
    bytes: 74,
    planes: &[64, 8, 2],
    repack,
    table: &const { grids::pairs::<512, 256>(&grids::IQ2_XS) },
    dequant: &[super::PAIRS, super::GRID, LEVELS, include_str!("dequant.wgsl")],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    planes[0].copy_from_slice(&block[2..66]);
    planes[1].copy_from_slice(&block[66..74]);
    planes[2].copy_from_slice(&block[..2]);
}
