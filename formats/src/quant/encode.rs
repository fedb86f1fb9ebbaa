//! Encoders on searched scales, from `search.rs`: the K-quants and IQ4 always, blocks of 32 where an
//! importance matrix says what an error costs.
//!
//! Each takes one block, its weights, and appends the block's bytes. Scales are rounded as they
//! will be stored before the codes are chosen, so that a code is the best for the decoder.

use super::fourbit::IQ4_LEVELS;
use super::search::{self, Line, clamp, inverse, round};

/// Appends f16(v), never infinite, and says which value that is.
pub(super) fn put_f16(out: &mut Vec<u8>, v: f32) -> f32 {
    let v = half::f16::from_f32(v.clamp(-65504.0, 65504.0));
    out.extend(v.to_le_bytes());
    v.to_f32()
}

/// Codes 0 to 2 top − 1 for levels −top to top − 1.
fn symmetric(x: &[f32], w: &[f32], top: f32, out: &mut Vec<u8>) -> [u8; 32] {
    let nearest = |v: f32| round(clamp(v, -top, top - 1.0));
    let inverse = inverse(put_f16(out, search::scale(x, w, &[-top], 0.1, nearest)));
    std::array::from_fn(|i| (nearest(x[i] * inverse) + top) as u8)
}

fn asymmetric(x: &[f32], w: &[f32], top: f32, out: &mut Vec<u8>) -> [u8; 32] {
    let line = search::affine(x, w, top, false);
    let line = Line { scale: put_f16(out, line.scale), offset: put_f16(out, line.offset) };
    let inverse = inverse(line.scale);
    std::array::from_fn(|i| line.code(x[i], inverse, top) as u8)
}

/// The low nibbles of codes j and j + n / 2 in byte j.
pub(super) fn put_nibbles(codes: &[u8], out: &mut Vec<u8>) {
    let (low, high) = codes.split_at(codes.len() / 2);
    out.extend(low.iter().zip(high).map(|(l, h)| l & 15 | h << 4));
}

/// Bit 4 of each code.
pub(super) fn put_fifth_bits(codes: &[u8; 32], out: &mut Vec<u8>) {
    let bits = codes.iter().enumerate().fold(0, |b, (i, q)| b | u32::from(q >> 4) << i);
    out.extend(bits.to_le_bytes());
}

pub(super) fn q4_0(x: &[f32], w: &[f32], out: &mut Vec<u8>) {
    let codes = symmetric(x, w, 8.0, out);
    put_nibbles(&codes, out);
}

pub(super) fn q4_1(x: &[f32], w: &[f32], out: &mut Vec<u8>) {
    let codes = asymmetric(x, w, 15.0, out);
    put_nibbles(&codes, out);
}

pub(super) fn q5_0(x: &[f32], w: &[f32], out: &mut Vec<u8>) {
    let codes = symmetric(x, w, 16.0, out);
    put_fifth_bits(&codes, out);
    put_nibbles(&codes, out);
}

pub(super) fn q5_1(x: &[f32], w: &[f32], out: &mut Vec<u8>) {
    let codes = asymmetric(x, w, 31.0, out);
    put_fifth_bits(&codes, out);
    put_nibbles(&codes, out);
}

/// A super-block of x ≈ d s level, s an integer from `low` to −`low` − 1 for each sub-block of
/// `LEN` values: the stored d and the s.
fn signed_scales<const N: usize>(
    x: &[f32],
    w: &[f32],
    low: f32,
    extremes: &[f32],
    step: f32,
    nearest: impl Fn(f32) -> f32 + Copy,
) -> (half::f16, [i8; N]) {
    let len = x.len() / N;
    let part = |j: usize| (&x[j * len..][..len], &w[j * len..][..len]);
    let scales: [f32; N] = std::array::from_fn(|j| {
        let (x, w) = part(j);
        search::scale(x, w, extremes, step, nearest)
    });
    let stored = half::f16::from_f32((search::largest(&scales) / low).clamp(-65504.0, 65504.0));
    let d = stored.to_f32();
    let inverse = inverse(d);
    let scales = std::array::from_fn(|j| {
        let (x, w) = part(j);
        let middle = round((scales[j] * inverse).clamp(low, -low - 1.0));
        let error = |s: f32| search::scale_error(x, w, d * s, nearest);
        best([middle - 1.0, middle, middle + 1.0].map(|s| s.clamp(low, -low - 1.0)), error) as i8
    });
    (stored, scales)
}

/// The candidate of least error.
fn best<T: Copy, const N: usize>(candidates: [T; N], error: impl Fn(T) -> f32) -> T {
    let mut best = (candidates[0], error(candidates[0]));
    for &c in &candidates[1..] {
        let e = error(c);
        if e < best.1 {
            best = (c, e);
        }
    }
    best.0
}

/// The codes of a super-block with signed scales, each `nearest` shifted by `shift`.
fn signed_codes(
    x: &[f32],
    d: half::f16,
    scales: &[i8],
    shift: f32,
    nearest: impl Fn(f32) -> f32,
) -> [u8; 256] {
    let len = x.len() / scales.len();
    std::array::from_fn(|i| {
        let scale = d.to_f32() * f32::from(scales[i / len]);
        (nearest(x[i] * inverse(scale)) + shift) as u8
    })
}

pub(super) fn q6_k(x: &[f32], w: &[f32], out: &mut Vec<u8>) {
    let nearest = |v: f32| round(clamp(v, -32.0, 31.0));
    let (d, scales) = signed_scales::<16>(x, w, -128.0, &[-32.0], 0.1, nearest);
    let codes = signed_codes(x, d, &scales, 32.0, nearest);
    for half in codes.chunks_exact(128) {
        out.extend((0..64).map(|i| half[i] & 15 | (half[i + 64] & 15) << 4));
    }
    for half in codes.chunks_exact(128) {
        out.extend((0..32).map(|l| (0..4).fold(0, |b, run| b | half[run * 32 + l] >> 4 << (2 * run))));
    }
    out.extend(scales.iter().map(|s| *s as u8));
    out.extend(d.to_le_bytes());
}

/// Two low bits of 256 codes: run r of 32 in each half of 128 in bit pair r of its 32 bytes.
pub(super) fn put_bit_pairs(codes: &[u8; 256], out: &mut Vec<u8>) {
    for half in codes.chunks_exact(128) {
        out.extend((0..32).map(|l| (0..4).fold(0, |b, run| b | (half[run * 32 + l] & 3) << (2 * run))));
    }
}

pub(super) fn q3_k(x: &[f32], w: &[f32], out: &mut Vec<u8>) {
    let nearest = |v: f32| round(clamp(v, -4.0, 3.0));
    let (d, scales) = signed_scales::<16>(x, w, -32.0, &[-4.0], 0.1, nearest);
    let codes = signed_codes(x, d, &scales, 4.0, nearest);
    out.extend((0..32).map(|l| (0..8).fold(0, |b, bit| b | codes[bit * 32 + l] >> 2 << bit)));
    put_bit_pairs(&codes, out);
    let mut packed = [0u8; 12];
    for (k, s) in scales.iter().enumerate() {
        let s = (s + 32) as u8;
        packed[k % 8] |= (s & 15) << (k / 8 * 4);
        packed[8 + k % 4] |= s >> 4 << (k / 4 * 2);
    }
    out.extend(packed);
    out.extend(d.to_le_bytes());
}

/// A super-block of x ≈ d s q − dmin m, s and m integers from 0 to `limit` for each sub-block.
struct Affine<const N: usize> {
    d: half::f16,
    dmin: half::f16,
    scales: [u8; N],
    mins: [u8; N],
    codes: [u8; 256],
}

fn affine<const N: usize>(x: &[f32], w: &[f32], top: f32, limit: f32) -> Affine<N> {
    let len = x.len() / N;
    let part = |j: usize| (&x[j * len..][..len], &w[j * len..][..len]);
    let lines: [Line; N] = std::array::from_fn(|j| {
        let (x, w) = part(j);
        search::affine(x, w, top, true)
    });
    let largest = |f: fn(&Line) -> f32| lines.iter().map(f).fold(0.0, f32::max);
    let stored = |v: f32| half::f16::from_f32((v / limit).min(65504.0));
    let (d, dmin) = (stored(largest(|l| l.scale)), stored(largest(|l| -l.offset)));
    let (df, dminf) = (d.to_f32(), dmin.to_f32());

    let line = |(s, m): (f32, f32)| Line { scale: df * s, offset: -dminf * m };
    let chosen: [(f32, f32); N] = std::array::from_fn(|j| {
        let (x, w) = part(j);
        let s = round((lines[j].scale * inverse(df)).clamp(0.0, limit));
        let m = round((-lines[j].offset * inverse(dminf)).clamp(0.0, limit));
        // Both are rounded: the best pair may be a neighbour.
        let candidates: [(f32, f32); 9] = std::array::from_fn(|k| {
            let near = |v: f32, k: usize| (v + [0.0, -1.0, 1.0][k]).clamp(0.0, limit);
            (near(s, k % 3), near(m, k / 3))
        });
        best(candidates, |c| line(c).error(x, w, top))
    });
    let codes = std::array::from_fn(|i| {
        let line = line(chosen[i / len]);
        line.code(x[i], inverse(line.scale), top) as u8
    });
    Affine { d, dmin, scales: chosen.map(|c| c.0 as u8), mins: chosen.map(|c| c.1 as u8), codes }
}

pub(super) fn q2_k(x: &[f32], w: &[f32], out: &mut Vec<u8>) {
    let a = affine::<16>(x, w, 3.0, 15.0);
    out.extend(a.scales.iter().zip(&a.mins).map(|(s, m)| s | m << 4));
    put_bit_pairs(&a.codes, out);
    out.extend(a.d.to_le_bytes());
    out.extend(a.dmin.to_le_bytes());
}

fn put_scales_and_mins(a: &Affine<8>, out: &mut Vec<u8>) {
    let mut packed = [0u8; 12];
    for j in 0..4 {
        packed[j] = a.scales[j] | a.scales[j + 4] >> 4 << 6;
        packed[j + 4] = a.mins[j] | a.mins[j + 4] >> 4 << 6;
        packed[j + 8] = a.scales[j + 4] & 15 | (a.mins[j + 4] & 15) << 4;
    }
    out.extend(a.d.to_le_bytes());
    out.extend(a.dmin.to_le_bytes());
    out.extend(packed);
}

pub(super) fn q4_k(x: &[f32], w: &[f32], out: &mut Vec<u8>) {
    let a = affine(x, w, 15.0, 63.0);
    put_scales_and_mins(&a, out);
    a.codes.chunks_exact(64).for_each(|pair| put_nibbles(pair, out));
}

pub(super) fn q5_k(x: &[f32], w: &[f32], out: &mut Vec<u8>) {
    let a = affine(x, w, 31.0, 63.0);
    put_scales_and_mins(&a, out);
    out.extend((0..32).map(|l| (0..8).fold(0, |b, j| b | a.codes[j * 32 + l] >> 4 << j)));
    a.codes.chunks_exact(64).for_each(|pair| put_nibbles(pair, out));
}

/// The largest value goes to the end that reaches further, or, where others weigh more, to the other,
/// where it is clipped.
const IQ4_EXTREMES: [f32; 2] = [-127.0, 127.0];

/// Which of the IQ4 levels is nearest.
fn iq4_code(v: f32) -> usize {
    IQ4_LEVELS.windows(2).filter(|l| v > 0.5 * (f32::from(l[0]) + f32::from(l[1]))).count()
}

fn iq4_nearest(v: f32) -> f32 {
    f32::from(IQ4_LEVELS[iq4_code(v)])
}

pub(super) fn iq4_nl(x: &[f32], w: &[f32], out: &mut Vec<u8>) {
    let inverse = inverse(put_f16(out, search::scale(x, w, &IQ4_EXTREMES, 1.0, iq4_nearest)));
    let codes: [u8; 32] = std::array::from_fn(|i| iq4_code(x[i] * inverse) as u8);
    put_nibbles(&codes, out);
}

pub(super) fn iq4_xs(x: &[f32], w: &[f32], out: &mut Vec<u8>) {
    let (d, scales) = signed_scales::<8>(x, w, -32.0, &IQ4_EXTREMES, 1.0, iq4_nearest);
    out.extend(d.to_le_bytes());
    let stored = scales.map(|s| (s + 32) as u8);
    let high = stored.iter().enumerate().fold(0u16, |b, (j, s)| b | u16::from(s >> 4) << (2 * j));
    out.extend(high.to_le_bytes());
    out.extend(stored.chunks_exact(2).map(|s| s[0] & 15 | s[1] << 4));
    for (x, s) in x.chunks_exact(32).zip(scales) {
        let inverse = inverse(d.to_f32() * f32::from(s));
        let codes: [u8; 32] = std::array::from_fn(|i| iq4_code(x[i] * inverse) as u8);
        put_nibbles(&codes, out);
    }
}
