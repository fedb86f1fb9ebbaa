//! x = d * sc * q - dmin * m, q of 4 bits, 8 sub-blocks of 32 with 6-bit sc and m in a block of 256:
//! {d, dmin: f16, scales: [u8; 12], qs: [u8; 128]}.

use super::{Layout, eight_of, load8, pack};

pub(super) const LAYOUT: Layout = Layout {
    name: "Q4_K",
    block: 256,
    bytes: 144,
    planes: &[128, 16],
    repack,
    table: &[],
    dequant: &[super::PAIRS, include_str!("header_k.wgsl"), include_str!("ints.wgsl"), super::FROM_INTS],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    nibbles_k(&block[16..144], planes[0]);
    header_k(block, planes[1]);
}

/// The 4-bit fields of 256 weights: each 32 bytes hold two sub-blocks, low nibbles first.
pub(super) fn nibbles_k(qs: &[u8], out: &mut [u8]) {
    pack(|e| load8(qs, e / 8 * 32 + e % 4 * 8) >> (4 * (e / 4 % 2)) & eight_of(15), 4, out);
}

/// {d, dmin} and the eight (sc, m) of a Q4_K or Q5_K block, so that no branch is needed to read them:
/// word 0: {d, dmin}; words 1 and 2: low nibbles of sc and of m; word 3: their upper two bits,
/// `sc >> 4 | (m >> 4) << 2` in a nibble for each sub-block.
pub(super) fn header_k(block: &[u8], out: &mut [u8]) {
    let s = &block[4..16];
    let (mut lo_sc, mut lo_m, mut hi) = (0u32, 0u32, 0u32);
    for j in 0..8 {
        let (sc, m) = if j < 4 {
            (s[j] & 63, s[j + 4] & 63)
        } else {
            (s[j + 4] & 15 | s[j - 4] >> 6 << 4, s[j + 4] >> 4 | s[j] >> 6 << 4)
        };
        lo_sc |= u32::from(sc & 15) << (4 * j);
        lo_m |= u32::from(m & 15) << (4 * j);
        hi |= u32::from(sc >> 4 | m >> 4 << 2) << (4 * j);
    }
    out[..4].copy_from_slice(&block[..4]);
    out[4..8].copy_from_slice(&lo_sc.to_le_bytes());
    out[8..12].copy_from_slice(&lo_m.to_le_bytes());
    out[12..16].copy_from_slice(&hi.to_le_bytes());
}
