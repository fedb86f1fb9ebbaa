//! x = d * (1 + 2 s) * ± level, odd levels up to 15 by fours from a code book of 512, 8 sub-blocks of 32
//! with 4-bit s in a block of 256: {d: f16, qs: [u8; 64], qh: [u8; 8], signs: [u8; 32], scales: [u8; 4]},
//! the ninth bit of each index in `qh`.

use super::{Layout, four_nines, grids, thirty_two};

pub(super) const LAYOUT: Layout = Layout {
    name: "IQ3_S",
    block: 256,
    bytes: 110,
    planes: &[64, 32, 12, 2],
    repack,
    table: &const { grids::spread(&grids::IQ3_S) },
    dequant: &[super::PAIRS, super::NINES, super::ODD, include_str!("ints.wgsl"), super::FROM_INTS_64],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    let mut rests = 0u64;
    for (at, to) in planes[0].chunks_exact_mut(4).enumerate() {
        let u = 2 * thirty_two(at / 2) + at % 2;
        let ninth = |i: usize| u32::from(block[66 + u / 2] >> (4 * (u % 2) + i) & 1);
        let (word, rest) = four_nines(|i| u32::from(block[2 + 4 * u + i]) | ninth(i) << 8);
        to.copy_from_slice(&word.to_le_bytes());
        rests |= u64::from(rest) << (4 * at);
    }
    let mut scales = 0u32;
    for (at, to) in planes[1].chunks_exact_mut(4).enumerate() {
        let k = thirty_two(at);
        let signs = (0..4).fold(0, |word, i| word | NIBBLES[block[74 + 4 * k + i] as usize] << i);
        to.copy_from_slice(&signs.to_le_bytes());
        scales |= u32::from(block[106 + k / 2] >> (4 * (k % 2)) & 15) << (4 * at);
    }
    planes[2][..8].copy_from_slice(&rests.to_le_bytes());
    planes[2][8..].copy_from_slice(&scales.to_le_bytes());
    planes[3].copy_from_slice(&block[..2]);
}

/// The eight bits of a byte, each lowest in a nibble: groups 0 and 1 are the low and high nibbles of bytes.
const NIBBLES: [u32; 256] = {
    let mut all = [0; 256];
    let mut at = 0;
    while at < 256 * 8 {
        let (byte, bit) = (at / 8, at % 8);
        let (group, to) = super::place(bit);
        all[byte] |= (byte as u32 >> bit & 1) << (8 * to + 4 * group);
        at += 1;
    }
    all
};
