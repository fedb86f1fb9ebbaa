//! x = d * sc * q - dmin * m, q of 5 bits, 8 sub-blocks of 32 with 6-bit sc and m in a block of 256:
//! {d, dmin: f16, scales: [u8; 12], qh: [u8; 32], qs: [u8; 128]}.

use super::Layout;
use super::pack_pairs;
use super::q4_k::{header_k, nibbles_k};

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
    pack_pairs(|i| high[i % 32] >> (i / 32) & 1, 256, 1, planes[1]);
    header_k(block, planes[2]);
}
