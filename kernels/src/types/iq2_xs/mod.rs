//! x = d * (1/2 + s) / 4 * ± level, levels of 8, 25 and 43 by eights from a code book of 512, 16
//! sub-blocks of 16 with 4-bit s in a block of 256: {d: f16, qs: [u16; 32], scales: [u8; 8]}, a u16 an
//! index of 9 bits and seven signs.

use super::iq2_xxs::all_signs;
use super::{Layout, grids};

pub(super) const LAYOUT: Layout = Layout {
    name: "IQ2_XS",
    block: 256,
    bytes: 74,
    planes: &[64, 12, 2],
    repack,
    table: &const { grids::levels::<512, 1024>(&grids::IQ2_XS) },
    dequant: &[super::PAIRS, super::SIGNS, include_str!("ints.wgsl"), super::FROM_INTS],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    let mut ninth = 0;
    for (k, (to, from)) in planes[0].chunks_exact_mut(8).zip(block[2..66].chunks_exact(8)).enumerate() {
        let mut signs = 0;
        for (i, code) in from.chunks_exact(2).enumerate() {
            let code = u32::from(u16::from_le_bytes([code[0], code[1]]));
            to[i] = code as u8;
            signs |= (code >> 9) << (7 * i);
            ninth |= (code >> 8 & 1) << (4 * k + i);
        }
        all_signs(signs, &mut to[4..]);
    }
    planes[1][..8].copy_from_slice(&block[66..74]);
    planes[1][8..].copy_from_slice(&ninth.to_le_bytes());
    planes[2].copy_from_slice(&block[..2]);
}
