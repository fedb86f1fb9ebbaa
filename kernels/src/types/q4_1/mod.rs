//! x = d * q + m, q of 4 bits, blocks of 32: {d, m: f16, qs: [u8; 16]}.

use super::{Layout, nibble32, pack};

pub(super) const LAYOUT: Layout = Layout {
    name: "Q4_1",
    block: 32,
    bytes: 20,
    planes: &[16, 4],
    repack,
    table: &[],
    dequant: &[super::PAIRS, include_str!("ints.wgsl"), super::FROM_INTS],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    pack(nibble32(&block[4..20]), 4, planes[0]);
    planes[1].copy_from_slice(&block[..4]);
}
