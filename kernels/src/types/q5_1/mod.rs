//! x = d * q + m, q of 5 bits, blocks of 32: {d, m: f16, qh: u32, qs: [u8; 16]}.

use super::{Layout, bits8, nibble32, pack};

pub(super) const LAYOUT: Layout = Layout {
    name: "Q5_1",
    block: 32,
    bytes: 24,
    planes: &[16, 4, 4],
    repack,
    table: &[],
    dequant: &[super::PAIRS, include_str!("ints.wgsl"), super::FROM_INTS],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    pack(nibble32(&block[8..24]), 4, planes[0]);
    pack(|e| bits8(block[4 + e]), 1, planes[1]);
    planes[2].copy_from_slice(&block[..4]);
}
