//! x = d * (q - 8), q of 4 bits, blocks of 32: {d: f16, qs: [u8; 16]}.

use super::{Layout, nibble32, pack};

pub(super) const LAYOUT: Layout = Layout {
    name: "Q4_0",
    block: 32,
    bytes: 18,
    planes: &[16, 2],
    repack,
    table: &[],
    dequant: &[super::PAIRS, include_str!("ints.wgsl"), super::FROM_INTS],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    pack(nibble32(&block[2..18]), 4, planes[0]);
    planes[1].copy_from_slice(&block[..2]);
}
