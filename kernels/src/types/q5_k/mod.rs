//! x = d * sc * q - dmin * m, q of 5 bits, 8 sub-blocks of 32 with 6-bit sc and m in a block of 256:
//! {d, dmin: f16, scales: [u8; 12], qh: [u8; 32], qs: [u8; 128]}.

use super::q4_k::{header_k, nibbles_k};
use super::{Layout, eight_of, load8, pack};

pub(super) const LAYOUT: Layout = Layout {
    name: "Q5_K",
    block: 256,
    bytes: 176,
    planes: &[128, 32, 16],
    repack,
    table: &[],
    dequant: &[
        super::PAIRS,
        include_str!("../q4_k/header_k.wgsl"),
        include_str!("ints.wgsl"),
        super::FROM_INTS,
    ],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    nibbles_k(&block[48..176], planes[0]);
    let high = &block[16..48];
    pack(|e| load8(high, e % 4 * 8) >> (e / 4) & eight_of(1), 1, planes[1]);
    header_k(block, planes[2]);
}
