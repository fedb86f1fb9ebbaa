//! `y[i] = f16(x[i])`, and back

/// What f16 keeps of x.
pub fn rounded(x: &[f32]) -> Vec<f64> {
    let near = |&v: &f32| half::f16::from_f32(v.clamp(-65_504.0, 65_504.0));
    x.iter().map(|v| f64::from(near(v).to_f32())).collect()
}
