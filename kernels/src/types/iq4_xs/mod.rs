//! x = d * (ls - 32) * codebook[q], q of 4 bits, 8 sub-blocks of 32 with 6-bit ls in a block of 256:
//! {d: f16, scales_h: u16, scales_l: [u8; 4], qs: [u8; 128]}.

use super::iq4_nl::BOOK;
use super::{Layout, nibble32, pack};

pub(super) const LAYOUT: Layout = Layout {
    name: "IQ4_XS",
    block: 256,
    bytes: 136,
    planes: &[128, 8],
    repack,
    table: BOOK,
    dequant: &[
        super::PAIRS,
        include_str!("../iq4_nl/codebook.wgsl"),
        include_str!("ints.wgsl"),
        super::FROM_INTS,
    ],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    let qs = &block[8..136];
    for sub in 0..8 {
        pack(nibble32(&qs[16 * sub..][..16]), 4, &mut planes[0][16 * sub..][..16]);
    }
    planes[1].copy_from_slice(&block[..8]);
}
