//! x = d * (2 s + 1) * (t ± 1/8), t of -1, 0 or 1 by eights from a code book of 2048, 8 sub-blocks of 32
//! in a block of 256: {d: f16, qs: [u8; 32], qh: [u16; 8]}, a u16 four times three upper bits of an
//! index, s of 3 bits, and the sign of the shift.

use super::{Layout, grids};

/// WGSL shared by the IQ1 types.
pub(super) const EIGHTS: &str = include_str!("eights.wgsl");

/// The code book shared by the IQ1 types.
pub(super) const TABLE: &[u32] = &const { grids::nibbles(&grids::IQ1_S) };

pub(super) const LAYOUT: Layout = Layout {
    name: "IQ1_S",
    block: 256,
    bytes: 50,
    planes: &[32, 16, 2],
    repack,
    table: TABLE,
    dequant: &[super::PAIRS, EIGHTS, include_str!("ints.wgsl"), super::FROM_INTS],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    for k in 0..8 {
        let h = u16::from_le_bytes([block[34 + 2 * k], block[35 + 2 * k]]);
        let index = |i: usize| u32::from(block[2 + 4 * k + i]) | u32::from(h >> (3 * i) & 7) << 8;
        put_indices(index, h & 0xf000, k, planes);
    }
    planes[2].copy_from_slice(&block[..2]);
}

/// The four indices of 32 weights, the `k`th of a block, as `eights.wgsl` reads them, with the upper four
/// bits of the half.
pub(super) fn put_indices(index: impl Fn(usize) -> u32, upper: u16, k: usize, planes: &mut [&mut [u8]]) {
    let word = index(0) | index(1) << 11 | index(2) << 22;
    let half = upper | (index(2) >> 10 << 11 | index(3)) as u16;
    planes[0][4 * k..][..4].copy_from_slice(&word.to_le_bytes());
    planes[1][2 * k..][..2].copy_from_slice(&half.to_le_bytes());
}
