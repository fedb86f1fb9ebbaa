//! `y[r, i] = x[r, i] * w[i] / sqrt(mean_i(x[r, i]^2) + eps)`

/// x `[rows, cols]`, w `[cols]`.
pub fn rmsnorm(x: &[f32], w: &[f32], eps: f64) -> Vec<f64> {
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks_exact(w.len()) {
        let mean = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / w.len() as f64;
        let scale = 1.0 / (mean + eps).sqrt();
        y.extend(row.iter().zip(w).map(|(&v, &w)| f64::from(v) * scale * f64::from(w)));
    }
    y
}
