//! Four-bit codes into a table of values: IQ4_NL, IQ4_XS, MXFP4, NVFP4.

use super::f16_at;

/// The non-uniform levels of IQ4_NL and IQ4_XS (`kvalues_iq4nl` in ggml-common.h).
pub(super) const IQ4_LEVELS: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Twice the values of the four-bit float E2M1 (OCP Microscaling specification 1.0).
pub(super) const E2M1_DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Value j from the low nibbles, j + n from the high ones, n the number of bytes.
fn nibbles(qs: &[u8], levels: &[i8; 16], scale: f32, y: &mut [f32]) {
    for (j, q) in qs.iter().enumerate() {
        y[j] = scale * f32::from(levels[usize::from(q & 15)]);
        y[j + qs.len()] = scale * f32::from(levels[usize::from(q >> 4)]);
    }
}

/// `{ d: f16, qs: [u8; 16] }`, x = d level(q).
pub(super) fn iq4_nl(b: &[u8], y: &mut [f32]) {
    nibbles(&b[2..18], &IQ4_LEVELS, f16_at(b, 0), y);
}

/// `{ d: f16, scales_h: u16, scales_l: [u8; 4], qs: [u8; 128] }`, 8 sub-blocks of 32 values:
/// x = d (s − 32) level(q), s of four bits from nibble j of `scales_l` and two from bit pair j of
/// `scales_h`.
pub(super) fn iq4_xs(b: &[u8], y: &mut [f32]) {
    let d = f16_at(b, 0);
    let high = u16::from_le_bytes([b[2], b[3]]);
    for (j, y) in y.chunks_exact_mut(32).enumerate() {
        let scale = b[4 + j / 2] >> (j % 2 * 4) & 15 | ((high >> (2 * j) & 3) as u8) << 4;
        let scale = d * (f32::from(scale) - 32.0);
        nibbles(&b[8 + 16 * j..24 + 16 * j], &IQ4_LEVELS, scale, y);
    }
}

/// `{ e: u8, qs: [u8; 16] }`, x = 2^(e − 127) E2M1(q). The scale is halved because the table is
/// doubled; its two smallest values are subnormal.
pub(super) fn mxfp4(b: &[u8], y: &mut [f32]) {
    nibbles(&b[1..17], &E2M1_DOUBLED, e8m0_half(b[0]), y);
}

/// 2^(e − 128).
pub(super) fn e8m0_half(e: u8) -> f32 {
    let e = u32::from(e);
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (e - 1) << 23 })
}

/// `{ d: [u8; 4], qs: [u8; 32] }`, 4 sub-blocks of 16 values: x = UE4M3(d) E2M1(q).
pub(super) fn nvfp4(b: &[u8], y: &mut [f32]) {
    for (j, y) in y.chunks_exact_mut(16).enumerate() {
        nibbles(&b[4 + 8 * j..12 + 8 * j], &E2M1_DOUBLED, 0.5 * ue4m3(b[j]), y);
    }
}

/// The unsigned 8-bit float of 4 exponent and 3 mantissa bits, bias 7. ggml reads 0x7f (NaN) as 0.
fn ue4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    match (byte, exponent) {
        (0x7f, _) => 0.0,
        (_, 0) => mantissa * (0.125 / 64.0),
        _ => (1.0 + mantissa / 8.0) * ((exponent - 7) as f32).exp2(),
    }
}
