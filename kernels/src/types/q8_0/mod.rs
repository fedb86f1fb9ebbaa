//! x = d * q, q of 8 bits, blocks of 32: {d: f16, qs: [i8; 32]}.

use super::{Layout, pack_bytes};

pub(super) const LAYOUT: Layout = Layout {
    name: "Q8_0",
    block: 32,
    bytes: 34,
    planes: &[32, 2],
    repack,
    table: &[],
    dequant: &[super::PAIRS, include_str!("ints.wgsl"), super::FROM_INTS],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    pack_bytes(&block[2..34], planes[0]);
    planes[1].copy_from_slice(&block[..2]);
}
