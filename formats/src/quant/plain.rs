//! Types without blocks.

pub(super) fn f32(b: &[u8], y: &mut [f32]) {
    y[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
}

pub(super) fn f16(b: &[u8], y: &mut [f32]) {
    y[0] = super::f16_at(b, 0);
}

pub(super) fn bf16(b: &[u8], y: &mut [f32]) {
    y[0] = f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16);
}

pub(super) fn f64(b: &[u8], y: &mut [f32]) {
    y[0] = f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32;
}
