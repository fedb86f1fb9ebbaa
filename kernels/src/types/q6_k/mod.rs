//! x = d * sc * (q - 32), q of 6 bits, 16 sub-blocks of 16 with signed 8-bit sc in a block of 256:
//! {ql: [u8; 128], qh: [u8; 64], scales: [i8; 16], d: f16}.

use super::{Layout, eight_of, load8, pack};

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
    let at = |e: usize| (e / 16, e % 16 / 4, e % 4 * 8);
    let low = |e: usize| {
        let (half, k, l) = at(e);
        load8(ql, 64 * half + 32 * (k % 2) + l) >> (4 * (k / 2)) & eight_of(15)
    };
    let high = |e: usize| {
        let (half, k, l) = at(e);
        load8(qh, 32 * half + l) >> (2 * k) & eight_of(3)
    };
    pack(low, 4, planes[0]);
    pack(high, 2, planes[1]);
    planes[2].copy_from_slice(&block[192..208]);
    planes[3].copy_from_slice(&block[208..210]);
}
