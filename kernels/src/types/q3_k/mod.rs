//! x = d * (sc - 32) * (q - 4), q of 3 bits, 16 sub-blocks of 16 with 6-bit sc in a block of 256:
//! {hmask: [u8; 32], qs: [u8; 64], scales: [u8; 12], d: f16}.

use super::q2_k::crumbs_k;
use super::{Layout, eight_of, load8, pack};

pub(super) const LAYOUT: Layout = Layout {
    name: "Q3_K",
    block: 256,
    bytes: 110,
    planes: &[64, 32, 12, 2],
    repack,
    table: &[],
    dequant: &[super::PAIRS, include_str!("ints.wgsl"), super::FROM_INTS],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    let hmask = &block[..32];
    pack(crumbs_k(&block[32..96]), 2, planes[0]);
    pack(|e| load8(hmask, e % 4 * 8) >> (e / 4) & eight_of(1), 1, planes[1]);
    // Words 0 and 1: low nibbles of scales 0-7 and 8-15; word 2: their upper two bits, in order.
    let s = &block[96..108];
    let mut words = [0u32; 3];
    for k in 0..16 {
        let low = if k < 8 { s[k] & 15 } else { s[k - 8] >> 4 };
        let high = s[8 + k % 4] >> (2 * (k / 4)) & 3;
        words[k / 8] |= u32::from(low) << (4 * (k % 8));
        words[2] |= u32::from(high) << (2 * k);
    }
    for (out, w) in planes[2].chunks_exact_mut(4).zip(words) {
        out.copy_from_slice(&w.to_le_bytes());
    }
    planes[3].copy_from_slice(&block[108..110]);
}
