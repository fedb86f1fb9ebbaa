//! `y[i] = f16(x[i])`, and back

/// What f16 keeps of x.
pub fn rounded(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| half::f16::from_f32(v).to_f64()).collect()
}
