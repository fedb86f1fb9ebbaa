//! x = d * (1/2 + s) / 4 * ± level, levels of 8, 25 and 43 by eights from a code book of 1024, 16
//! sub-blocks of 16 with 4-bit s in a block of 256: {d: f16, qs: [u8; 32], signs: [u8; 32], qh: [u8; 8],
//! scales: [u8; 8]}, two upper bits of each index in `qh`.

use super::{Layout, bits8, grids, pack};

pub(super) const LAYOUT: Layout = Layout {
    name: "IQ2_S",
    block: 256,
    bytes: 82,
    planes: &[64, 16, 2],
    repack,
    table: &const { grids::levels::<1024, 2048>(&grids::IQ2_S) },
    dequant: &[super::PAIRS, super::SIGNS, include_str!("ints.wgsl"), super::FROM_INTS],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    let (qs, signs, qh, scales) = (&block[2..34], &block[34..66], &block[66..74], &block[74..82]);
    for (k, to) in planes[0].chunks_exact_mut(8).enumerate() {
        to[..4].copy_from_slice(&qs[4 * k..][..4]);
        pack(|e| bits8(signs[4 * k + e]), 1, &mut to[4..]);
    }
    for (k, byte) in planes[1].iter_mut().enumerate() {
        let nibble = |b: &[u8]| b[k / 2] >> (4 * (k % 2)) & 15;
        *byte = nibble(scales) | nibble(qh) << 4;
    }
    planes[2].copy_from_slice(&block[..2]);
}
