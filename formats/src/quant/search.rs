//! Choosing scales: weighted least squares over a handful of candidate roundings.
//!
//! Rounding x / d to codes and then fitting d to those codes can only lower the error, and the best
//! d is not the one that just reaches the largest value. So several scales around that one are
//! tried; each gives codes, the codes give the best scale (and offset) for them in closed form,
//! and the least weighted error wins. (The idea of `make_qx_quants` in ggml-quants.c.)

/// Ranges below this are all zero once stored as f16.
const TINY: f32 = 1e-20;

/// Rounds to the nearest integer, |v| < 2^22. Without SSE4.1 `f32::round` is a call; this is two
/// additions.
pub(super) fn round(v: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0;
    (v + MAGIC) - MAGIC
}

/// `f32::clamp` without its check of the bounds, which keeps loops from becoming vector code.
pub(super) fn clamp(v: f32, low: f32, high: f32) -> f32 {
    let v = if v < low { low } else { v };
    if v > high { high } else { v }
}

/// Σ f(x, w), K sums at once. Eight lanes, because the compiler may not reorder a float sum itself;
/// sub-blocks are multiples of eight long.
fn sums<const K: usize>(x: &[f32], w: &[f32], f: impl Fn(f32, f32) -> [f32; K]) -> [f32; K] {
    let mut lanes = [[0.0; 8]; K];
    for (x, w) in x.chunks_exact(8).zip(w.chunks_exact(8)) {
        for i in 0..8 {
            let terms = f(x[i], w[i]);
            for k in 0..K {
                lanes[k][i] += terms[k];
            }
        }
    }
    lanes.map(|l| l.iter().sum())
}

/// How much an error at each value matters: more at large values, which the scale must serve, and
/// in proportion to the importance of its column. `w` has the length of `x`.
pub(super) fn weights(x: &[f32], importance: Option<&[f32]>, w: &mut [f32]) {
    let mean_square = x.iter().map(|v| v * v).sum::<f32>() / x.len() as f32;
    for (w, v) in w.iter_mut().zip(x) {
        *w = (mean_square + v * v).sqrt();
    }
    let Some(importance) = importance else { return };
    let mean = importance.iter().sum::<f32>() / importance.len() as f32;
    if mean > 0.0 {
        // A floor, so that columns that were never active still get a sensible value.
        w.iter_mut().zip(importance).for_each(|(w, i)| *w *= i / mean + 1e-3);
    }
}

/// Σ w (x − d level)², where `level` is the nearest one to x / d.
pub(super) fn scale_error(x: &[f32], w: &[f32], d: f32, nearest: impl Fn(f32) -> f32) -> f32 {
    let inverse = inverse(d);
    let [error] = sums(x, w, |x, w| {
        let e = x - d * nearest(x * inverse);
        [w * e * e]
    });
    error
}

/// 1 / d, and 0 for 0.
pub(super) fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The d for x ≈ d level. `nearest` maps to a level; the largest value gets about one of the levels
/// `extremes`; `step` is how far apart the candidates put it.
pub(super) fn scale(x: &[f32], w: &[f32], extremes: &[f32], step: f32, nearest: impl Fn(f32) -> f32) -> f32 {
    let max = largest(x);
    if max.abs() < TINY {
        return 0.0;
    }
    let mut best = (0.0, 0.0);
    for (k, extreme) in (-9..=9).flat_map(|k| extremes.iter().map(move |e| (k, e))) {
        let inverse = (extreme + step * k as f32) / max;
        let [xl, ll] = sums(x, w, |x, w| {
            let level = nearest(x * inverse);
            [w * x * level, w * level * level]
        });
        // With d = xl / ll the error is Σ w x² − xl² / ll.
        if ll > 0.0 && xl * xl > best.0 * ll {
            best = (xl * xl / ll, xl / ll);
        }
    }
    best.1
}

/// The value of largest magnitude, with its sign.
pub(super) fn largest(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |m: f32, &v| if v.abs() > m.abs() { v } else { m })
}

/// What [`affine`] finds: x ≈ scale q + offset.
#[derive(Clone, Copy)]
pub(super) struct Line {
    pub(super) scale: f32,
    pub(super) offset: f32,
}

impl Line {
    /// The code of x, from 0 to `top`.
    pub(super) fn code(self, x: f32, inverse: f32, top: f32) -> f32 {
        round(clamp((x - self.offset) * inverse, 0.0, top))
    }

    /// Σ w (x − scale q − offset)² with the nearest codes.
    pub(super) fn error(self, x: &[f32], w: &[f32], top: f32) -> f32 {
        let inverse = inverse(self.scale);
        let [error] = sums(x, w, |x, w| {
            let e = x - self.scale * self.code(x, inverse, top) - self.offset;
            [w * e * e]
        });
        error
    }
}

/// The line for x ≈ scale q + offset with q from 0 to `top`; where `nonpositive`, the offset is at
/// most 0, as the K-quants need.
pub(super) fn affine(x: &[f32], w: &[f32], top: f32, nonpositive: bool) -> Line {
    let mut low = x.iter().copied().fold(f32::INFINITY, f32::min);
    let high = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if nonpositive {
        low = low.min(0.0);
    }
    if high - low < TINY {
        return Line { scale: 0.0, offset: low };
    }
    let mut best = Line { scale: (high - low) / top, offset: low };
    let mut least = best.error(x, w, top);
    let [w1, wx] = sums(x, w, |x, w| [w, w * x]);
    for k in -10..=10 {
        let inverse = (top + 0.1 * k as f32) / (high - low);
        let start = Line { scale: 0.0, offset: low };
        let [wq, wqq, wqx] = sums(x, w, |x, w| {
            let q = start.code(x, inverse, top);
            [w * q, w * q * q, w * q * x]
        });
        let determinant = w1 * wqq - wq * wq;
        if determinant <= 0.0 {
            continue;
        }
        let mut line =
            Line { scale: (w1 * wqx - wx * wq) / determinant, offset: (wqq * wx - wq * wqx) / determinant };
        if nonpositive && line.offset > 0.0 {
            line = Line { scale: wqx / wqq, offset: 0.0 };
        }
        let error = line.error(x, w, top);
        if line.scale > 0.0 && error < least {
            (best, least) = (line, error);
        }
    }
    best
}
