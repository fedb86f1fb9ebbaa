//! x = d * (2 s + 1) * (t ± 1/8) with the code book of IQ1_S, 16 sub-blocks of 16 in a block of 256:
//! {qs: [u8; 32], qh: [u8; 16], scales: [u16; 4]}, a nibble of `qh` three upper bits of an index and the
//! sign of the shift of 8 values, a u16 of `scales` four s of 3 bits and a nibble of the f16 d.

use super::iq1_s::{EIGHTS, TABLE};
use super::{Layout, thirty_two};

pub(super) const LAYOUT: Layout = Layout {
    name: "IQ1_M",
    block: 256,
    bytes: 56,
    planes: &[64],
    repack,
    table: TABLE,
    dequant: &[super::ODD, EIGHTS, include_str!("ints.wgsl"), super::FROM_INTS_64],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    let field = |i: usize| u32::from(u16::from_le_bytes([block[48 + 2 * i], block[49 + 2 * i]]));
    let s = |u: usize| field(u / 4) >> (3 * (u % 4)) & 7;
    let d: u32 = (0..4).map(|i| field(i) >> 12 << (4 * i)).sum();
    for (j, out) in planes[0].chunks_exact_mut(16).enumerate() {
        let mut words = [0, 0, 0, d];
        for i in 0..2 {
            let k = thirty_two(2 * j + i);
            let nibble = |i: usize| u32::from(block[32 + 2 * k + i / 2]) >> (4 * (i % 2)) & 15;
            // The sign is set where the shift is negative.
            let code =
                |i: usize| (u32::from(block[4 * k + i]) | (nibble(i) & 7) << 8) << 1 | (nibble(i) >> 3 ^ 1);
            words[i] = code(0) | code(1) << 12 | code(2) << 24;
            words[2] |= (code(3) | code(2) >> 8 << 12) << (16 * i);
            words[3] |= (s(2 * k) | s(2 * k + 1) << 3) << (20 + 6 * i);
        }
        out.iter_mut().zip(words.iter().flat_map(|w| w.to_le_bytes())).for_each(|(o, b)| *o = b);
    }
}
