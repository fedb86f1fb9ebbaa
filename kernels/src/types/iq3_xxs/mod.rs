//! x = d * (1/2 + s) / 2 * ± level, levels by fours from a code book of 256, blocks of 256:
//! {d: f16, qs: [u8; 64], [u32; 8]}, a u32 four times seven signs and s of 4 bits for 32 values.

use super::iq2_xxs::all_signs;
use super::{Layout, grids};

/// WGSL shared by the IQ3 types.
pub(super) const QUADS: &str = include_str!("quads.wgsl");

pub(super) const LAYOUT: Layout = Layout {
    name: "IQ3_XXS",
    block: 256,
    bytes: 98,
    planes: &[64, 32, 4, 2],
    repack,
    table: &const { grids::bytes(&grids::IQ3_XXS, &[4, 12, 20, 28, 36, 44, 52, 62]) },
    dequant: &[super::PAIRS, super::SIGNS, QUADS, include_str!("ints.wgsl"), super::FROM_INTS],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    planes[0].copy_from_slice(&block[2..66]);
    let mut s = 0;
    for (k, (to, from)) in planes[1].chunks_exact_mut(4).zip(block[66..98].chunks_exact(4)).enumerate() {
        let word = u32::from_le_bytes(from.try_into().unwrap());
        all_signs(word, to);
        s |= word >> 28 << (4 * k);
    }
    planes[2].copy_from_slice(&s.to_le_bytes());
    planes[3].copy_from_slice(&block[..2]);
}
