//! IEEE 754 binary16, as stored.

use super::Layout;

pub(super) const LAYOUT: Layout = Layout {
    name: "F16",
    block: 16,
    bytes: 32,
    planes: &[32],
    repack,
    table: &[],
    dequant: &[include_str!("dequant.wgsl")],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    planes[0].copy_from_slice(block);
}
