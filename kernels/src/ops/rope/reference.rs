//! `(a, b) -> (a cos θ - b sin θ, a sin θ + b cos θ) * mscale`

use super::{Pairing, Rotation};

/// x `[tokens, heads, head_dim]`, the first token at `position`.
pub fn rope(x: &[f32], position: u32, heads: usize, head_dim: usize, r: &Rotation) -> Vec<f64> {
    rope_f64(x.iter().map(|&v| f64::from(v)).collect(), position, heads, head_dim, r)
}

/// The same on f64.
pub fn rope_f64(mut y: Vec<f64>, position: u32, heads: usize, head_dim: usize, r: &Rotation) -> Vec<f64> {
    let pairs = r.frequencies.len();
    for (h, head) in y.chunks_exact_mut(head_dim).enumerate() {
        let p = f64::from(position) + (h / heads) as f64;
        for (i, f) in r.frequencies.iter().enumerate() {
            let (a, b) = match r.pairing {
                Pairing::Adjacent => (2 * i, 2 * i + 1),
                Pairing::HalfSplit => (i, i + pairs),
            };
            let (sin, cos) = (p * f).sin_cos();
            let (u, v) = (head[a], head[b]);
            head[a] = (u * cos - v * sin) * f64::from(r.mscale);
            head[b] = (u * sin + v * cos) * f64::from(r.mscale);
        }
    }
    y
}
