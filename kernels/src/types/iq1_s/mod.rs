//! x = d * (2 s + 1) * (t ± 1/8), t of -1, 0 or 1 by eights from a code book of 2048, 8 sub-blocks of 32
//! in a block of 256: {d: f16, qs: [u8; 32], qh: [u16; 8]}, a u16 four times three upper bits of an
//! index, s of 3 bits, and the sign of the shift.

use super::{Layout, grids, thirty_two};

/// WGSL shared by the IQ1 types.
pub(super) const EIGHTS: &str = include_str!("eights.wgsl");

/// The code book shared by the IQ1 types.
pub(super) const TABLE: &[u32] = &const { grids::nibbles(&grids::IQ1_S) };

pub(super) const LAYOUT: Layout = Layout {
    name: "IQ1_S",
    block: 256,
    bytes: 50,
    planes: &[48, 2],
    repack,
    table: TABLE,
    dequant: &[super::PAIRS, super::ODD, EIGHTS, include_str!("ints.wgsl"), super::FROM_INTS_64],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    for (j, out) in planes[0].chunks_exact_mut(12).enumerate() {
        let mut halves = 0u32;
        for i in 0..2 {
            let k = thirty_two(2 * j + i);
            let h = u32::from(u16::from_le_bytes([block[34 + 2 * k], block[35 + 2 * k]]));
            let index = |i: usize| u32::from(block[2 + 4 * k + i]) | (h >> (3 * i) & 7) << 8;
            let word = index(0) | index(1) << 11 | index(2) << 22;
            out[4 * i..][..4].copy_from_slice(&word.to_le_bytes());
            halves |= (index(3) | index(2) >> 10 << 11 | h & 0xf000) << (16 * i);
        }
        out[8..].copy_from_slice(&halves.to_le_bytes());
    }
    planes[1].copy_from_slice(&block[..2]);
}
