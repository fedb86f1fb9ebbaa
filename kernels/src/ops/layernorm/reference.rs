//! `y = (v - mean v) / sqrt(var v + eps) * w + b`

/// v `[rows, cols]`, w and b `[cols]`.
pub fn layernorm(v: &[f64], w: &[f32], b: &[f32], eps: f64) -> Vec<f64> {
    let mut y = Vec::with_capacity(v.len());
    for row in v.chunks_exact(w.len()) {
        let n = row.len() as f64;
        let mean = row.iter().sum::<f64>() / n;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        let scale = 1.0 / (variance + eps).sqrt();
        y.extend(
            row.iter()
                .zip(w.iter().zip(b))
                .map(|(&v, (&w, &b))| (v - mean) * scale * f64::from(w) + f64::from(b)),
        );
    }
    y
}
