//! Blocks of 32 with one scale (and one minimum): Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.
//!
//! Value j of the lower 16 sits in the low nibble of byte j, value j + 16 in its high nibble.

use super::f16_at;

/// `{ d: f16, qs: [u8; 16] }`, x = d (q − 8).
pub(super) fn q4_0(b: &[u8], y: &mut [f32]) {
    let d = f16_at(b, 0);
    for (j, q) in b[2..18].iter().enumerate() {
        y[j] = d * (f32::from(q & 15) - 8.0);
        y[j + 16] = d * (f32::from(q >> 4) - 8.0);
    }
}

/// `{ d: f16, m: f16, qs: [u8; 16] }`, x = d q + m.
pub(super) fn q4_1(b: &[u8], y: &mut [f32]) {
    let (d, m) = (f16_at(b, 0), f16_at(b, 2));
    for (j, q) in b[4..20].iter().enumerate() {
        y[j] = d * f32::from(q & 15) + m;
        y[j + 16] = d * f32::from(q >> 4) + m;
    }
}

/// The 32 five-bit values of `{ qh: u32, qs: [u8; 16] }`: bit j of `qh` tops value j.
fn five_bits(b: &[u8]) -> [u8; 32] {
    let qh = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    std::array::from_fn(|i| {
        let low = (b[4 + i % 16] >> (4 * (i / 16))) & 15;
        low | ((qh >> i & 1) as u8) << 4
    })
}

/// `{ d: f16, qh: u32, qs: [u8; 16] }`, x = d (q − 16).
pub(super) fn q5_0(b: &[u8], y: &mut [f32]) {
    let d = f16_at(b, 0);
    for (y, q) in y.iter_mut().zip(five_bits(&b[2..])) {
        *y = d * (f32::from(q) - 16.0);
    }
}

/// `{ d: f16, m: f16, qh: u32, qs: [u8; 16] }`, x = d q + m.
pub(super) fn q5_1(b: &[u8], y: &mut [f32]) {
    let (d, m) = (f16_at(b, 0), f16_at(b, 2));
    for (y, q) in y.iter_mut().zip(five_bits(&b[4..])) {
        *y = d * f32::from(q) + m;
    }
}

/// `{ d: f16, qs: [i8; 32] }`, x = d q.
pub(super) fn q8_0(b: &[u8], y: &mut [f32]) {
    let d = f16_at(b, 0);
    for (y, &q) in y.iter_mut().zip(&b[2..34]) {
        *y = d * f32::from(q as i8);
    }
}
