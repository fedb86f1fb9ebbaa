//! x = d * (1/2 + s) / 2 * ± level, levels by fours from a code book of 256, blocks of 256:
//! {d: f16, qs: [u8; 64], [u32; 8]}, a u32 four times seven signs and s of 4 bits for 32 values.

use super::iq2_xxs::all_signs;
use super::{Layout, grids, thirty_two};

pub(super) const LAYOUT: Layout = Layout {
    name: "IQ3_XXS",
    block: 256,
    bytes: 98,
    planes: &[64, 32, 4, 2],
    repack,
    table: &const { grids::bytes(&grids::IQ3_XXS, &[4, 12, 20, 28, 36, 44, 52, 62]) },
    dequant: &[
        super::PAIRS,
        super::SIGNS,
        super::ODD,
        include_str!("quads.wgsl"),
        include_str!("ints.wgsl"),
        super::FROM_INTS_64,
    ],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    let mut s = 0;
    for at in 0..8 {
        let k = thirty_two(at);
        planes[0][8 * at..][..8].copy_from_slice(&block[2 + 8 * k..][..8]);
        let word = u32::from_le_bytes(block[66 + 4 * k..][..4].try_into().unwrap());
        all_signs(word, &mut planes[1][4 * at..][..4]);
        s |= word >> 28 << (4 * at);
    }
    planes[2].copy_from_slice(&s.to_le_bytes());
    planes[3].copy_from_slice(&block[..2]);
}
