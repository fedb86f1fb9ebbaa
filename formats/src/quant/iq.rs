//! Vectors from a code book with signs and scales beside them: IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS,
//! IQ2_S, IQ3_XXS, IQ3_S. All are super-blocks of 256 values.

use super::{f16_at, grids};

pub(super) const LEVELS_2: [f32; 4] = [8.0, 25.0, 43.0, 0.0]; // a code of 3 does not occur
pub(super) const LEVELS_3_XXS: [f32; 8] = [4.0, 12.0, 20.0, 28.0, 36.0, 44.0, 52.0, 62.0];
pub(super) const LEVELS_3_S: [f32; 8] = [1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0];
pub(super) const DELTA_1: f32 = 0.125;

fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

/// Nibble i of the bytes, low nibbles first.
fn nibble(b: &[u8], i: usize) -> u8 {
    b[i / 2] >> (i % 2 * 4) & 15
}

/// Eight signs from seven bits: the eighth makes the number of minus signs even.
fn even_signs(bits: u32) -> u8 {
    let seven = (bits & 127) as u8;
    seven | (seven.count_ones() as u8 & 1) << 7
}

/// y = scale level(entry), negative where the bit of `signs` is set. `BITS` of the entry a value.
fn signed<const BITS: usize>(y: &mut [f32], entry: u16, levels: &[f32], signs: u8, scale: f32) {
    for (i, y) in y.iter_mut().enumerate() {
        let level = scale * levels[usize::from(entry >> (BITS * i)) & (levels.len() - 1)];
        *y = if signs >> i & 1 == 1 { -level } else { level };
    }
}

/// `{ d: f16, [{ index: [u8; 4], u32 }; 8] }`, each u32 four times seven signs and a scale s of
/// four bits: x = d (1/2 + s) / 4 · ± level.
pub(super) fn iq2_xxs(b: &[u8], y: &mut [f32]) {
    let d = f16_at(b, 0);
    for (l, y) in y.chunks_exact_mut(8).enumerate() {
        let group = 2 + l / 4 * 8;
        let rest = u32_at(b, group + 4);
        let scale = d * (0.5 + (rest >> 28) as f32) * 0.25;
        let entry = grids::IQ2_XXS[usize::from(b[group + l % 4])];
        signed::<2>(y, entry, &LEVELS_2, even_signs(rest >> (l % 4 * 7)), scale);
    }
}

/// `{ d: f16, qs: [u16; 32], scales: [u8; 8] }`, each u16 an index of nine bits and seven signs;
/// four bits of scale for 16 values: x = d (1/2 + s) / 4 · ± level.
pub(super) fn iq2_xs(b: &[u8], y: &mut [f32]) {
    let d = f16_at(b, 0);
    for (l, y) in y.chunks_exact_mut(8).enumerate() {
        let code = u16_at(b, 2 + 2 * l);
        let scale = d * (0.5 + f32::from(nibble(&b[66..], l / 2))) * 0.25;
        let entry = grids::IQ2_XS[usize::from(code & 511)];
        signed::<2>(y, entry, &LEVELS_2, even_signs(u32::from(code >> 9)), scale);
    }
}

/// `{ d: f16, qs: [u8; 32], signs: [u8; 32], qh: [u8; 8], scales: [u8; 8] }`: IQ2_XS with an
/// index of ten bits, two of them in `qh`, and all eight signs.
pub(super) fn iq2_s(b: &[u8], y: &mut [f32]) {
    let d = f16_at(b, 0);
    for (l, y) in y.chunks_exact_mut(8).enumerate() {
        let high = b[66 + l / 4] >> (l % 4 * 2) & 3;
        let scale = d * (0.5 + f32::from(nibble(&b[74..], l / 2))) * 0.25;
        let entry = grids::IQ2_S[usize::from(b[2 + l]) | usize::from(high) << 8];
        signed::<2>(y, entry, &LEVELS_2, b[34 + l], scale);
    }
}

/// `{ d: f16, qs: [u8; 64], [u32; 8] }`, each u32 as in IQ2_XXS; an index gives four values:
/// x = d (1/2 + s) / 2 · ± level.
pub(super) fn iq3_xxs(b: &[u8], y: &mut [f32]) {
    let d = f16_at(b, 0);
    for (l, y) in y.chunks_exact_mut(4).enumerate() {
        let rest = u32_at(b, 66 + l / 8 * 4);
        let scale = d * (0.5 + (rest >> 28) as f32) * 0.5;
        let signs = even_signs(rest >> (l % 8 / 2 * 7)) >> (l % 2 * 4);
        signed::<4>(y, grids::IQ3_XXS[usize::from(b[2 + l])], &LEVELS_3_XXS, signs, scale);
    }
}

/// `{ d: f16, qs: [u8; 64], qh: [u8; 8], signs: [u8; 32], scales: [u8; 4] }`, an index of nine
/// bits for four values, four bits of scale for 32: x = d (1 + 2 s) · ± level.
pub(super) fn iq3_s(b: &[u8], y: &mut [f32]) {
    let d = f16_at(b, 0);
    for (l, y) in y.chunks_exact_mut(4).enumerate() {
        let high = b[66 + l / 8] >> (l % 8) & 1;
        let scale = d * (1.0 + 2.0 * f32::from(nibble(&b[106..], l / 8)));
        let entry = grids::IQ3_S[usize::from(b[2 + l]) | usize::from(high) << 8];
        signed::<4>(y, entry, &LEVELS_3_S, b[74 + l / 2] >> (l % 2 * 4), scale);
    }
}

/// y = scale (level + delta), with levels of −1, 0 and 1.
fn ternary(y: &mut [f32], index: usize, delta: f32, scale: f32) {
    let entry = grids::IQ1_S[index];
    for (i, y) in y.iter_mut().enumerate() {
        *y = scale * (f32::from(entry >> (2 * i) & 3) - 1.0 + delta);
    }
}

/// `{ d: f16, qs: [u8; 32], qh: [u16; 8] }`, each u16 four times three high bits of an index, a
/// scale s of three bits, and the sign of the shift: x = d (2 s + 1) (level ± 1/8).
pub(super) fn iq1_s(b: &[u8], y: &mut [f32]) {
    let d = f16_at(b, 0);
    for (l, y) in y.chunks_exact_mut(8).enumerate() {
        let qh = u16_at(b, 34 + l / 4 * 2);
        let scale = d * f32::from(2 * (qh >> 12 & 7) + 1);
        let delta = if qh >> 15 == 1 { -DELTA_1 } else { DELTA_1 };
        let high = usize::from(qh >> (l % 4 * 3) & 7);
        ternary(y, usize::from(b[2 + l]) | high << 8, delta, scale);
    }
}

/// `{ qs: [u8; 32], qh: [u8; 16], scales: [u16; 4] }`, a nibble of `qh` three high bits of an
/// index and the sign of the shift; each u16 of scales four scales of three bits for 16 values,
/// and above them a nibble of the f16 d: x = d (2 s + 1) (level ± 1/8).
pub(super) fn iq1_m(b: &[u8], y: &mut [f32]) {
    let d = (0..4).fold(0, |d, i| d | (u16_at(b, 48 + 2 * i) >> 12) << (4 * i));
    let d = half::f16::from_bits(d).to_f32();
    for (l, y) in y.chunks_exact_mut(8).enumerate() {
        let high = nibble(&b[32..], l);
        let scale = u16_at(b, 48 + l / 8 * 2) >> (l / 2 % 4 * 3) & 7;
        let delta = if high & 8 != 0 { -DELTA_1 } else { DELTA_1 };
        let index = usize::from(b[l]) | usize::from(high & 7) << 8;
        ternary(y, index, delta, d * f32::from(2 * scale + 1));
    }
}
