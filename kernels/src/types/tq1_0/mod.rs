//! x = d * t, t of -1, 0 or 1, blocks of 256: {qs: [u8; 48], qh: [u8; 4], d: f16}. A byte holds five
//! base-3 digits as the fraction byte / 256: digit n is the integer part of three times what the first n
//! leave. Values 0-159 are the five digits of bytes 0-31, digit by digit; 160-239 those of bytes 32-47;
//! 240-255 four digits of `qh`.

use super::{Layout, pack_bytes};

pub(super) const LAYOUT: Layout = Layout {
    name: "TQ1_0",
    block: 256,
    bytes: 54,
    planes: &[48, 4, 2],
    repack,
    table: &[],
    dequant: &[super::PAIRS, include_str!("ints.wgsl"), super::FROM_INTS],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    pack_bytes(&block[..48], planes[0]);
    planes[1].copy_from_slice(&block[48..52]);
    planes[2].copy_from_slice(&block[52..54]);
}
