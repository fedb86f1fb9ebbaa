//! x = d * sc * (q - 32), q of 6 bits, 16 sub-blocks of 16 with signed 8-bit sc in a block of 256:
//! {ql: [u8; 128], qh: [u8; 64], scales: [i8; 16], d: f16}.

use super::Layout;
use super::pack_pairs;

pub(super) const LAYOUT: Layout = Layout {
    name: "Q6_K",
    block: 256,
    bytes: 210,
    planes: &[128, 64, 16, 2],
    repack,
    table: &[],
    dequant: &[super::PAIRS, include_str!("ints.wgsl"), super::FROM_INTS],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    let (ql, qh) = (&block[..128], &block[128..192]);
    // Each half of 128 weights is four runs of 32: run k has its low nibbles in bytes 32 (k % 2) on,
    // lower halves first, and its upper two bits at 2 k of 32 shared bytes.
    let low = |i: usize| {
        let (half, k, l) = (i / 128, i % 128 / 32, i % 32);
        ql[64 * half + 32 * (k % 2) + l] >> (4 * (k / 2)) & 15
    };
    let high = |i: usize| {
        let (half, k, l) = (i / 128, i % 128 / 32, i % 32);
        qh[32 * half + l] >> (2 * k) & 3
    };
    pack_pairs(low, 256, 4, planes[0]);
    pack_pairs(high, 256, 2, planes[1]);
    planes[2].copy_from_slice(&block[192..208]);
    planes[3].copy_from_slice(&block[208..210]);
}
