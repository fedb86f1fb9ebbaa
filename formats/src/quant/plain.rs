//! Types without blocks. These take all values at once.

/// y = f(b), N bytes a value.
fn each<const N: usize>(b: &[u8], y: &mut [f32], f: impl Fn([u8; N]) -> f32) {
    for (b, y) in b.as_chunks().0.iter().zip(y) {
        *y = f(*b);
    }
}

pub(super) fn f32(b: &[u8], y: &mut [f32]) {
    each(b, y, f32::from_le_bytes);
}

pub(super) fn f16(b: &[u8], y: &mut [f32]) {
    each(b, y, |b| half::f16::from_le_bytes(b).to_f32());
}

pub(super) fn bf16(b: &[u8], y: &mut [f32]) {
    each(b, y, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16));
}

pub(super) fn f64(b: &[u8], y: &mut [f32]) {
    each(b, y, |b| f64::from_le_bytes(b) as f32);
}
