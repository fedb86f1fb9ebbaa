//! Encoders that take the scale straight from the block's extremes, as ggml's own do without an
//! importance matrix. Bytes equal those of the `gguf` package (tests/reference/quant_encode.py).

use super::encode::{put_f16, put_fifth_bits, put_nibbles};
use super::fourbit::{E2M1_DOUBLED, e8m0_half};
use super::search::largest;

/// 1 / d, and 0 where d is 0 or so small that its inverse is infinite (it is stored as 0 then).
fn inverse(d: f32) -> f32 {
    let inverse = 1.0 / d;
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// d = amax / 127, x / d to the nearest, halves away from zero.
pub(super) fn q8_0(x: &[f32], out: &mut Vec<u8>) {
    let d = largest(x).abs() / 127.0;
    let inverse = inverse(d);
    put_f16(out, d);
    out.extend(x.iter().map(|x| (x * inverse).round() as i8 as u8));
}

/// The value of largest magnitude gets level −top; codes 0 to 2 top − 1.
fn symmetric(x: &[f32], top: f32, out: &mut Vec<u8>) -> [u8; 32] {
    let d = largest(x) / -top;
    let inverse = inverse(d);
    put_f16(out, d);
    std::array::from_fn(|i| ((x[i] * inverse + (top + 0.5)) as u8).min((2.0 * top - 1.0) as u8))
}

/// The smallest value gets code 0, the largest `top`.
fn asymmetric(x: &[f32], top: u8, out: &mut Vec<u8>) -> [u8; 32] {
    let low = x.iter().copied().fold(f32::INFINITY, f32::min);
    let high = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let d = (high - low) / f32::from(top);
    let inverse = inverse(d);
    put_f16(out, d);
    put_f16(out, low);
    std::array::from_fn(|i| (((x[i] - low) * inverse + 0.5) as u8).min(top))
}

pub(super) fn q4_0(x: &[f32], out: &mut Vec<u8>) {
    let codes = symmetric(x, 8.0, out);
    put_nibbles(&codes, out);
}

pub(super) fn q4_1(x: &[f32], out: &mut Vec<u8>) {
    let codes = asymmetric(x, 15, out);
    put_nibbles(&codes, out);
}

pub(super) fn q5_0(x: &[f32], out: &mut Vec<u8>) {
    let codes = symmetric(x, 16.0, out);
    put_fifth_bits(&codes, out);
    put_nibbles(&codes, out);
}

pub(super) fn q5_1(x: &[f32], out: &mut Vec<u8>) {
    let codes = asymmetric(x, 31, out);
    put_fifth_bits(&codes, out);
    put_nibbles(&codes, out);
}

/// d = amax, and the digits 0, 1, 2 for −d, 0, d.
fn ternary(x: &[f32]) -> (f32, [u8; 256]) {
    let d = largest(x).abs();
    let inverse = inverse(d);
    (d, std::array::from_fn(|i| ((x[i] * inverse).round() as i8 + 1) as u8))
}

/// Five base-3 digits, the first the highest, as a fraction of 256 rounded up: the decoder gets
/// digit n from the byte times 3^n.
fn five_digits(digits: [u8; 5]) -> u8 {
    let number = digits.iter().fold(0u16, |n, d| 3 * n + u16::from(*d));
    (number * 256).div_ceil(243) as u8
}

pub(super) fn tq1_0(x: &[f32], out: &mut Vec<u8>) {
    let (d, q) = ternary(x);
    out.extend((0..32).map(|l| five_digits(std::array::from_fn(|n| q[32 * n + l]))));
    out.extend((0..16).map(|l| five_digits(std::array::from_fn(|n| q[160 + 16 * n + l]))));
    out.extend((0..4).map(|l| five_digits([q[240 + l], q[244 + l], q[248 + l], q[252 + l], 0])));
    put_f16(out, d);
}

pub(super) fn tq2_0(x: &[f32], out: &mut Vec<u8>) {
    let (d, q) = ternary(x);
    super::encode::put_bit_pairs(&q, out);
    put_f16(out, d);
}

/// The power of two that gives the largest value the exponent of E2M1's largest, which is 2; then
/// the nearest level, the first of two equally near.
pub(super) fn mxfp4(x: &[f32], out: &mut Vec<u8>) {
    let amax = largest(x).abs();
    // Subnormal values have no exponent of their own; the smallest scale makes them 0 all the same.
    let exponent = (amax.to_bits() >> 23) as u8;
    let e = exponent.saturating_sub(2);
    let d = e8m0_half(e);
    let code = |x: f32| {
        let error = |q: usize| (d * f32::from(E2M1_DOUBLED[q]) - x).abs();
        (1..16).fold(0, |best, q| if error(q) < error(best) { q } else { best }) as u8
    };
    let codes: [u8; 32] = std::array::from_fn(|i| code(x[i]));
    out.push(e);
    put_nibbles(&codes, out);
}
