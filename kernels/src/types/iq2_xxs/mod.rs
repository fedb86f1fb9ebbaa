//! x = d * (1/2 + s) / 4 * ± level, levels of 8, 25 and 43 by eights from a code book of 256, blocks of
//! 256: {d: f16, [{index: [u8; 4], signs and s: u32}; 8]}, a u32 four times seven signs and s of 4 bits.

use super::{Layout, grids, pack_pairs};

/// WGSL shared by the IQ2 types.
pub(super) const LEVELS: &str = include_str!("levels.wgsl");

pub(super) const LAYOUT: Layout = Layout {
    name: "IQ2_XXS",
    block: 256,
    bytes: 66,
    planes: &[64, 2],
    repack,
    table: &const { grids::nibbles(&grids::IQ2_XXS) },
    dequant: &[super::PAIRS, super::GRID, LEVELS, include_str!("ints.wgsl"), super::FROM_INTS],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    for (to, from) in planes[0].chunks_exact_mut(8).zip(block[2..66].chunks_exact(8)) {
        to[..4].copy_from_slice(&from[..4]);
        implied_signs(u32::from_le_bytes(from[4..].try_into().unwrap()), &mut to[4..]);
    }
    planes[1].copy_from_slice(&block[..2]);
}

/// Four times seven signs and above them four bits, as a word of signs in group order in which the
/// four bits take the places of the eighth signs, which follow from the others.
pub(super) fn implied_signs(word: u32, out: &mut [u8]) {
    let bit = |i: usize| match i % 8 {
        7 => word >> (28 + i / 8) & 1,
        k => word >> (7 * (i / 8) + k) & 1,
    };
    pack_pairs(|i| bit(i) as u8, 32, 1, out);
}
