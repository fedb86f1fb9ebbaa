//! x = d * (2 s + 1) * (t ± 1/8) with the code book of IQ1_S, 16 sub-blocks of 16 in a block of 256:
//! {qs: [u8; 32], qh: [u8; 16], scales: [u16; 4]}, a nibble of `qh` three upper bits of an index and the
//! sign of the shift of 8 values, a u16 of `scales` four s of 3 bits and a nibble of the f16 d.

use super::Layout;
use super::iq1_s::{EIGHTS, TABLE, put_indices};

pub(super) const LAYOUT: Layout = Layout {
    name: "IQ1_M",
    block: 256,
    bytes: 56,
    planes: &[32, 16, 8],
    repack,
    table: TABLE,
    dequant: &[super::PAIRS, EIGHTS, include_str!("ints.wgsl"), super::FROM_INTS],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    for k in 0..8 {
        let nibble = |i: usize| u32::from(block[32 + 2 * k + i / 2]) >> (4 * (i % 2)) & 15;
        let index = |i: usize| u32::from(block[4 * k + i]) | (nibble(i) & 7) << 8;
        let signs: u32 = (0..4).map(|i| nibble(i) >> 3 << (12 + i)).sum();
        put_indices(index, signs as u16, k, planes);
    }
    // Word 0: the lower two bits of the 16 s; word 1: their upper bits, then d.
    let (mut low, mut high) = (0u32, 0u32);
    for (i, field) in block[48..56].chunks_exact(2).enumerate() {
        let field = u32::from(u16::from_le_bytes([field[0], field[1]]));
        for j in 0..4 {
            let s = field >> (3 * j) & 7;
            low |= (s & 3) << (2 * (4 * i + j));
            high |= (s >> 2) << (4 * i + j);
        }
        high |= (field >> 12) << (16 + 4 * i);
    }
    planes[2][..4].copy_from_slice(&low.to_le_bytes());
    planes[2][4..].copy_from_slice(&high.to_le_bytes());
}
