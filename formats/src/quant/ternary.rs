//! Ternary weights −d, 0, d: TQ1_0 and TQ2_0.

use super::f16_at;

/// Digit n of a byte that holds five base-3 digits as the fraction byte / 256, scaled so that each
/// digit is the integer part of three times what the earlier ones left.
fn digit(byte: u8, n: u32) -> f32 {
    let rest = byte.wrapping_mul(3u8.pow(n));
    f32::from(((u16::from(rest) * 3) >> 8) as u8) - 1.0
}

/// `{ qs: [u8; 48], qh: [u8; 4], d: f16 }`: values 0 to 159 are the five digits of the first 32
/// bytes, digit by digit; 160 to 239 those of the next 16; 240 to 255 four digits of the last 4.
pub(super) fn tq1_0(b: &[u8], y: &mut [f32]) {
    let d = f16_at(b, 52);
    for (i, y) in y.iter_mut().enumerate() {
        let (byte, n) = match i {
            0..160 => (i % 32, i / 32),
            160..240 => (32 + i % 16, (i - 160) / 16),
            _ => (48 + i % 4, (i - 240) / 4),
        };
        *y = d * digit(b[byte], n as u32);
    }
}

/// `{ qs: [u8; 64], d: f16 }`, x = d (q − 1); each half of 128 values keeps its four runs of 32
/// in the bit pairs of the same 32 bytes.
pub(super) fn tq2_0(b: &[u8], y: &mut [f32]) {
    let d = f16_at(b, 64);
    for (i, y) in y.iter_mut().enumerate() {
        let q = b[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
        *y = d * (f32::from(q) - 1.0);
    }
}
