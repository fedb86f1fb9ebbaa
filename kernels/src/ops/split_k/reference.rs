//! The sum of parts, in f64.

/// `parts` `[count, n]`: n values.
pub fn sum(parts: &[f32], n: usize, scale: f64) -> Vec<f64> {
    (0..n).map(|i| scale * parts.iter().skip(i).step_by(n).map(|&v| f64::from(v)).sum::<f64>()).collect()
}
