//! x = UE4M3(d) * E2M1(q), 4 sub-blocks of 16 with their own d in a block of 64:
//! {d: [u8; 4], qs: [u8; 32]}.

use super::mxfp4::without_minus_zero;
use super::{Layout, eight_of, load8, pack};

pub(super) const LAYOUT: Layout = Layout {
    name: "NVFP4",
    block: 64,
    bytes: 36,
    planes: &[32, 4],
    repack,
    table: &[],
    dequant: &[super::PAIRS, include_str!("../mxfp4/e2m1.wgsl"), include_str!("ints.wgsl"), super::FROM_INTS],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    // Each sub-block has values 0-7 in the low nibbles of its 8 bytes, 8-15 in the high ones.
    let nibble = |e: usize| load8(block, 4 + e / 2 * 8) >> (4 * (e % 2)) & eight_of(15);
    pack(|e| without_minus_zero(nibble(e)), 4, planes[0]);
    planes[1].copy_from_slice(&block[..4]);
}
