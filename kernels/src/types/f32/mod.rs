//! IEEE 754 binary32, as stored.

use super::Layout;

pub(super) const LAYOUT: Layout = Layout {
    name: "F32",
    block: 16,
    bytes: 64,
    planes: &[64],
    repack,
    table: &[],
    dequant: &[include_str!("dequant.wgsl")],
};

fn repack(block: &[u8], planes: &mut [&mut [u8]]) {
    planes[0].copy_from_slice(block);
}
