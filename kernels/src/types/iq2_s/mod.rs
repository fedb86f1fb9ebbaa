//! x = d * (1/2 + s) / 4 * ± level, levels of 8, 25 and 43 by eights from a code book of 1024, 16
//! sub-blocks of 16 with 4-bit s in a block of 256: {d: f16, qs: [u8; 32], signs: [u8; 32], qh: [u8; 8],
//! scales: [u8; 8]}, two upper bits of each index in `qh`.

use super::{Layout, bits8, grids, pack, thirty_two};

pub(super) const LAYOUT: Layout = Layout {
    name: "IQ2_S",
    block: 256,
    bytes: 82,
    planes: &[64, 16, 2],
    repack,
    table: &const { grids::levels::<1024, 2048>(&grids::IQ2_S) },
    dequant: &[super::PAIRS, super::SIGNS, super::ODD, include_str!("ints.wgsl"), super::FROM_INTS_64],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    let (qs, signs, qh, scales) = (&block[2..34], &block[34..66], &block[66..74], &block[74..82]);
    let [codes, rest, d, ..] = planes else { unreachable!("three planes") };
    for (at, to) in codes.chunks_exact_mut(8).enumerate() {
        let k = thirty_two(at);
        let index = |i: usize| u32::from(qs[4 * k + i]) | u32::from(qh[k] >> (2 * i) & 3) << 8;
        let word = index(0) | index(1) << 10 | index(2) << 20 | index(3) << 30;
        to[..4].copy_from_slice(&word.to_le_bytes());
        pack(|e| bits8(signs[4 * k + e]), 1, &mut to[4..]);
        rest[at / 2 * 4 + at % 2] = scales[k];
        rest[at / 2 * 4 + at % 2 + 2] = (index(3) >> 2) as u8;
    }
    d.copy_from_slice(&block[..2]);
}
