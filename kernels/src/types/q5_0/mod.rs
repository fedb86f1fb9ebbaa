//! x = d * (q - 16), q of 5 bits, blocks of 32: {d: f16, qh: u32, qs: [u8; 16]}.

use super::{Layout, bits8, nibble32, pack};

pub(super) const LAYOUT: Layout = Layout {
    name: "Q5_0",
    block: 32,
    bytes: 22,
    planes: &[16, 4, 2],
    repack,
    table: &[],
    dequant: &[super::PAIRS, include_str!("ints.wgsl"), super::FROM_INTS],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    pack(nibble32(&block[6..22]), 4, planes[0]);
    pack(|e| bits8(block[2 + e]), 1, planes[1]);
    planes[2].copy_from_slice(&block[..2]);
}
