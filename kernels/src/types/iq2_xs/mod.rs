//! x = d * (1/2 + s) / 4 * ± level, levels of 8, 25 and 43 by eights from a code book of 512, 16
//! sub-blocks of 16 with 4-bit s in a block of 256: {d: f16, qs: [u16; 32], scales: [u8; 8]}, a u16 an
//! index of 9 bits and seven signs.

use super::iq2_xxs::all_signs;
use super::{Layout, four_nines, grids, thirty_two};

pub(super) const LAYOUT: Layout = Layout {
    name: "IQ2_XS",
    block: 256,
    bytes: 74,
    planes: &[64, 12, 2],
    repack,
    table: &const { grids::levels::<512, 1024>(&grids::IQ2_XS) },
    dequant: &[
        super::PAIRS,
        super::NINES,
        super::SIGNS,
        super::ODD,
        include_str!("ints.wgsl"),
        super::FROM_INTS_64,
    ],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    let mut rests = 0;
    let [codes, scales, d, ..] = planes else { unreachable!("three planes") };
    for (at, to) in codes.chunks_exact_mut(8).enumerate() {
        let k = thirty_two(at);
        let from = &block[2 + 8 * k..][..8];
        let code = |i: usize| u32::from(u16::from_le_bytes([from[2 * i], from[2 * i + 1]]));
        let (word, rest) = four_nines(|i| code(i) & 511);
        to[..4].copy_from_slice(&word.to_le_bytes());
        all_signs((0..4).map(|i| code(i) >> 9 << (7 * i)).sum(), &mut to[4..]);
        rests |= rest << (4 * at);
        scales[at] = block[66 + k];
    }
    scales[8..].copy_from_slice(&rests.to_le_bytes());
    d.copy_from_slice(&block[..2]);
}
