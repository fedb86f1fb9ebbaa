//! x = 2^(e - 127) * E2M1(q), blocks of 32: {e: u8, qs: [u8; 16]} (OCP Microscaling specification 1.0).

use super::{Layout, eight_of, nibble32, pack};

pub(super) const LAYOUT: Layout = Layout {
    name: "MXFP4",
    block: 32,
    bytes: 17,
    planes: &[16, 1],
    repack,
    table: &[],
    dequant: &[super::PAIRS, include_str!("e2m1.wgsl"), include_str!("ints.wgsl"), super::FROM_INTS],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    let nibble = nibble32(&block[1..17]);
    pack(|e| without_minus_zero(nibble(e)), 4, planes[0]);
    planes[1][0] = block[0];
}

/// Eight codes, where a zero has one code on the GPU: 8, minus zero, becomes 0.
#[inline(always)]
pub(super) fn without_minus_zero(codes: u64) -> u64 {
    let other = ((codes ^ eight_of(8)) + eight_of(15)) >> 4 & eight_of(1);
    codes & (other * 15)
}
