//! x = d * sc * q - dmin * m, q of 2 bits, 16 sub-blocks of 16 with 4-bit sc and m in a block of 256:
//! {scales: [u8; 16], qs: [u8; 64], d, dmin: f16}.

use super::{Layout, eight_of, load8, pack};

pub(super) const LAYOUT: Layout = Layout {
    name: "Q2_K",
    block: 256,
    bytes: 84,
    planes: &[64, 16, 4],
    repack,
    table: &[],
    dequant: &[super::PAIRS, include_str!("ints.wgsl"), super::FROM_INTS],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    pack(crumbs_k(&block[16..80]), 2, planes[0]);
    planes[1].copy_from_slice(&block[..16]);
    planes[2].copy_from_slice(&block[80..84]);
}

/// The 2-bit fields of 256 weights: each 32 bytes hold four runs of 32, lowest bits first.
#[inline(always)]
pub(super) fn crumbs_k(qs: &[u8]) -> impl Fn(usize) -> u64 + '_ {
    |e| load8(qs, e / 16 * 32 + e % 4 * 8) >> (2 * (e % 16 / 4)) & eight_of(3)
}
