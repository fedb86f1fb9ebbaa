//! x = d * (q - 1), q of 2 bits, blocks of 256: {qs: [u8; 64], d: f16}.

use super::q2_k::crumbs_k;
use super::{Layout, pack};

pub(super) const LAYOUT: Layout = Layout {
    name: "TQ2_0",
    block: 256,
    bytes: 66,
    planes: &[64, 2],
    repack,
    table: &[],
    dequant: &[super::PAIRS, include_str!("ints.wgsl"), super::FROM_INTS],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    pack(crumbs_k(&block[..64]), 2, planes[0]);
    planes[1].copy_from_slice(&block[64..66]);
}
