//! x = d * codebook[q], q of 4 bits, blocks of 32: {d: f16, qs: [u8; 16]}.

use super::{Layout, grids, nibble32, pack};

/// The code book shared by the IQ4 types.
pub(super) const BOOK: &[u32] = &const {
    grids::nibble_pairs(&[-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113])
};

pub(super) const LAYOUT: Layout = Layout {
    name: "IQ4_NL",
    block: 32,
    bytes: 18,
    planes: &[16, 2],
    repack,
    table: BOOK,
    dequant: &[super::PAIRS, include_str!("codebook.wgsl"), include_str!("ints.wgsl"), super::FROM_INTS],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    pack(nibble32(&block[2..18]), 4, planes[0]);
    planes[1].copy_from_slice(&block[..2]);
}
