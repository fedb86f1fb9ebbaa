//! x = d * (1 + 2 s) * ± level, odd levels up to 15 by fours from a code book of 512, 8 sub-blocks of 32
//! with 4-bit s in a block of 256: {d: f16, qs: [u8; 64], qh: [u8; 8], signs: [u8; 32], scales: [u8; 4]},
//! the ninth bit of each index in `qh`.

use super::iq3_xxs::QUADS;
use super::{Layout, bits8, grids, pack};

pub(super) const LAYOUT: Layout = Layout {
    name: "IQ3_S",
    block: 256,
    bytes: 110,
    planes: &[64, 32, 12, 2],
    repack,
    table: &const { grids::bytes(&grids::IQ3_S, &[1, 3, 5, 7, 9, 11, 13, 15]) },
    dequant: &[super::PAIRS, super::SIGNS, QUADS, include_str!("ints.wgsl"), super::FROM_INTS],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    planes[0].copy_from_slice(&block[2..66]);
    pack(|e| bits8(block[74 + e]), 1, planes[1]);
    planes[2][..8].copy_from_slice(&block[66..74]);
    planes[2][8..].copy_from_slice(&block[106..110]);
    planes[3].copy_from_slice(&block[..2]);
}
