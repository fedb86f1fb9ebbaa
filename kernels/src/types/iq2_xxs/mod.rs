//! x = d * (1/2 + s) / 4 * ± level, levels of 8, 25 and 43 by eights from a code book of 256, blocks of
//! 256: {d: f16, [{index: [u8; 4], signs and s: u32}; 8]}, a u32 four times seven signs and s of 4 bits.

use super::{Layout, bits8, grids, pack, thirty_two};

pub(super) const LAYOUT: Layout = Layout {
    name: "IQ2_XXS",
    block: 256,
    bytes: 66,
    planes: &[64, 4, 2],
    repack,
    table: &const { grids::levels::<256, 512>(&grids::IQ2_XXS) },
    dequant: &[super::PAIRS, super::SIGNS, super::ODD, include_str!("ints.wgsl"), super::FROM_INTS_64],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    let mut s = 0;
    for (at, to) in planes[0].chunks_exact_mut(8).enumerate() {
        let from = &block[2 + 8 * thirty_two(at)..][..8];
        to[..4].copy_from_slice(&from[..4]);
        let word = u32::from_le_bytes(from[4..].try_into().unwrap());
        all_signs(word, &mut to[4..]);
        s |= word >> 28 << (4 * at);
    }
    planes[1].copy_from_slice(&s.to_le_bytes());
    planes[2].copy_from_slice(&block[..2]);
}

/// Four times seven signs, from the lowest on, as four times eight in group order: the eighth makes the
/// number of minus signs even. Working that out for each product would take as long as the rest of it.
pub(super) fn all_signs(word: u32, out: &mut [u8]) {
    let eight = |e: usize| {
        let seven = word >> (7 * e) & 127;
        bits8((seven | seven.count_ones() << 7) as u8)
    };
    pack(eight, 1, out);
}
