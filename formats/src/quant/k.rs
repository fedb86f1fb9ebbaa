//! Super-blocks of 256 with quantised sub-block scales: Q2_K to Q6_K.

use super::f16_at;

/// `{ scales: [u8; 16], qs: [u8; 64], d: f16, dmin: f16 }`, 16 sub-blocks of 16 values:
/// x = d (s & 15) q − dmin (s >> 4). Each half of 128 values keeps its four runs of 32 in the
/// bit pairs of the same 32 bytes.
pub(super) fn q2_k(b: &[u8], y: &mut [f32]) {
    let (d, dmin) = (f16_at(b, 80), f16_at(b, 82));
    for (i, y) in y.iter_mut().enumerate() {
        let scale = b[i / 16];
        let q = b[16 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
        *y = d * f32::from(scale & 15) * f32::from(q) - dmin * f32::from(scale >> 4);
    }
}

/// The 16 six-bit scales of Q3_K from their 12 bytes: four low bits in bytes 0 to 7 (low nibbles
/// first), two high bits in bytes 8 to 11. Stored with an offset of 32.
fn q3_k_scales(s: &[u8]) -> [i8; 16] {
    std::array::from_fn(|k| {
        let low = s[k % 8] >> (k / 8 * 4) & 15;
        let high = s[8 + k % 4] >> (k / 4 * 2) & 3;
        (low | high << 4) as i8 - 32
    })
}

/// `{ hmask: [u8; 32], qs: [u8; 64], scales: [u8; 12], d: f16 }`, 16 sub-blocks of 16 values:
/// x = d s (q − 4), q of two low bits laid out as in Q2_K and a third from bit i / 32 of
/// `hmask[i % 32]`.
pub(super) fn q3_k(b: &[u8], y: &mut [f32]) {
    let d = f16_at(b, 108);
    let scales = q3_k_scales(&b[96..108]);
    for (i, y) in y.iter_mut().enumerate() {
        let low = b[32 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
        let high = b[i % 32] >> (i / 32) & 1;
        *y = d * f32::from(scales[i / 16]) * (f32::from(low | high << 2) - 4.0);
    }
}

/// Scale and minimum of sub-block j of Q4_K and Q5_K, six bits each, from their 12 bytes.
fn scale_min(s: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = if j < 4 {
        (s[j] & 63, s[j + 4] & 63)
    } else {
        (s[j + 4] & 15 | s[j - 4] >> 6 << 4, s[j + 4] >> 4 | s[j] >> 6 << 4)
    };
    (f32::from(scale), f32::from(min))
}

/// `{ d: f16, dmin: f16, scales: [u8; 12], qs: [u8; 128] }`, 8 sub-blocks of 32 values:
/// x = d s q − dmin m. Sub-blocks 2p and 2p + 1 are the low and the high nibbles of the same
/// 32 bytes.
pub(super) fn q4_k(b: &[u8], y: &mut [f32]) {
    let (d, dmin) = (f16_at(b, 0), f16_at(b, 2));
    for (j, y) in y.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_min(&b[4..16], j);
        let (scale, min) = (d * scale, dmin * min);
        for (l, y) in y.iter_mut().enumerate() {
            let q = b[16 + j / 2 * 32 + l] >> (j % 2 * 4) & 15;
            *y = scale * f32::from(q) - min;
        }
    }
}

/// `{ d: f16, dmin: f16, scales: [u8; 12], qh: [u8; 32], qs: [u8; 128] }`: Q4_K with a fifth
/// bit for value l of sub-block j in bit j of `qh[l]`.
pub(super) fn q5_k(b: &[u8], y: &mut [f32]) {
    let (d, dmin) = (f16_at(b, 0), f16_at(b, 2));
    for (j, y) in y.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_min(&b[4..16], j);
        let (scale, min) = (d * scale, dmin * min);
        for (l, y) in y.iter_mut().enumerate() {
            let low = b[48 + j / 2 * 32 + l] >> (j % 2 * 4) & 15;
            let high = b[16 + l] >> j & 1;
            *y = scale * f32::from(low | high << 4) - min;
        }
    }
}

/// `{ ql: [u8; 128], qh: [u8; 64], scales: [i8; 16], d: f16 }`, 16 sub-blocks of 16 values:
/// x = d s (q − 32). In each half of 128 values, the four runs of 32 take their low nibbles from
/// `ql` (run r: bytes 32 (r % 2) on, high nibbles for r ≥ 2) and two high bits from bit pair r
/// of `qh`.
pub(super) fn q6_k(b: &[u8], y: &mut [f32]) {
    let d = f16_at(b, 208);
    for (i, y) in y.iter_mut().enumerate() {
        let (half, run, l) = (i / 128, i % 128 / 32, i % 32);
        let low = b[half * 64 + run % 2 * 32 + l] >> (run / 2 * 4) & 15;
        let high = b[128 + half * 32 + l] >> (run * 2) & 3;
        let scale = b[192 + i / 16] as i8;
        *y = d * f32::from(scale) * (f32::from(low | high << 4) - 32.0);
    }
}
