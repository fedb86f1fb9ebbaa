//! x = d * (q - 16), q of 5 bits, blocks of 32: {d: f16, qh: u32, qs: [u8; 16]}.

use super::Layout;
use super::{nibble32, pack_pairs};

pub(super) const LAYOUT: Layout = Layout {
    name: "Q5_0",
    block: 32,
    bytes: 22,
    planes: &[16, 4, 2],
    repack,
    table: &[],
    dequant: &[super::PAIRS, include_str!("ints.wgsl"), super::FROM_INTS],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    pack_pairs(nibble32(&block[6..22]), 32, 4, planes[0]);
    let high = u32::from_le_bytes(block[2..6].try_into().unwrap());
    pack_pairs(|i| (high >> i & 1) as u8, 32, 1, planes[1]);
    planes[2].copy_from_slice(&block[..2]);
}
