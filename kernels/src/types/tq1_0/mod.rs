//! x = d * t, t of -1, 0 or 1, blocks of 256: {qs: [u8; 48], qh: [u8; 4], d: f16}. A byte holds five
//! base-3 digits as the fraction byte / 256: digit n is the integer part of three times what the first n
//! leave. Values 0-159 are the five digits of bytes 0-31, digit by digit; 160-239 those of bytes 32-47;
//! 240-255 four digits of `qh`.
//!
//! On the GPU it is a TQ2_0: a fifth more bytes, and no arithmetic in base 3, which made it the slowest of
//! all types.

use super::{Layout, pack};

pub(super) const LAYOUT: Layout = Layout {
    name: "TQ1_0",
    block: 256,
    bytes: 54,
    planes: &[64, 2],
    repack,
    table: &[],
    dequant: &[super::PAIRS, include_str!("../tq2_0/ints.wgsl"), super::FROM_INTS],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
    let digit = |byte: u8, n: usize| (u16::from(byte.wrapping_mul(POWERS[n])) * 3 / 256) as u8;
    let value = |i: usize| match i {
        0..160 => digit(block[i % 32], i / 32),
        160..240 => digit(block[32 + i % 16], (i - 160) / 16),
        _ => digit(block[48 + i % 4], (i - 240) / 4),
    };
    pack(|e| u64::from_le_bytes(std::array::from_fn(|k| value(8 * e + k))), 2, planes[0]);
    planes[1].copy_from_slice(&block[52..54]);
}
