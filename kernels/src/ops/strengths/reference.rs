//! `t[row, r] strengths[first + row * step, owners[r]]`

use super::Shape;

/// Elementwise.
pub fn strengths(t: &[f32], strengths: &[f32], owners: &[u32], s: &Shape) -> Vec<f64> {
    let (rank, adapters) = (s.rank as usize, s.adapters as usize);
    let mut out = Vec::with_capacity(t.len());
    for (row, values) in t.chunks(rank).enumerate() {
        let of = s.first as usize + row * s.step as usize;
        for (v, &owner) in values.iter().zip(owners) {
            out.push(f64::from(*v) * f64::from(strengths[of * adapters + owner as usize]));
        }
    }
    out
}
