//! x = 2^(e - 127) * E2M1(q), blocks of 32: {e: u8, qs: [u8; 16]} (OCP Microscaling specification 1.0).

use super::Layout;
use super::{nibble32, pack_pairs};

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
    pack_pairs(|i| without_minus_zero(nibble(i)), 32, 4, planes[0]);
    planes[1][0] = block[0];
}

/// A zero has one code on the GPU.
pub(super) fn without_minus_zero(code: u8) -> u8 {
    if code == 8 { 0 } else { code }
}
