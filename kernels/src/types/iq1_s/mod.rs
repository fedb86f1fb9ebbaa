//! x = d * (2 s + 1) * (t ± 1/8), t of -1, 0 or 1 by eights from a code book of 2048, 8 sub-blocks of 32
//! in a block of 256: {d: f16, qs: [u8; 32], qh: [u16; 8]}, a u16 four times three upper bits of an
//! index, s of 3 bits, and the sign of the shift.

use super::{Layout, grids};

/// The code book shared by the IQ1 types.
pub(super) const TABLE: &[u32] = &const { grids::nibbles(&grids::IQ1_S) };

pub(super) const LAYOUT: Layout = Layout {
    name: "IQ1_S",
    block: 256,
    bytes: 50,
    planes: &[32, 16, 2],
    repack,
    table: TABLE,
    dequant: &[super::PAIRS, super::GRID, include_str!("ints.wgsl"), super::FROM_INTS],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    planes[0].copy_from_slice(&block[2..34]);
    planes[1].copy_from_slice(&block[34..50]);
    planes[2].copy_from_slice(&block[..2]);
}
