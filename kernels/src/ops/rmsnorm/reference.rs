//! `y[r, i] = x[r, i] * w[i] / sqrt(mean_i(x[r, i]^2) + eps)`

/// x `[rows, cols]`, w `[cols]`.
pub fn rmsnorm(x: &[f32], w: &[f32], eps: f64) -> Vec<f64> {
    rmsnorm_f64(&x.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), w, eps)
}

/// The same on f64.
pub fn rmsnorm_f64(x: &[f64], w: &[f32], eps: f64) -> Vec<f64> {
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks_exact(w.len()) {
        let scale = scale_of(row, eps);
        y.extend(row.iter().zip(w).map(|(&v, &w)| v * scale * f64::from(w)));
    }
    y
}

fn scale_of(row: &[f64], eps: f64) -> f64 {
    1.0 / (row.iter().map(|v| v * v).sum::<f64>() / row.len() as f64 + eps).sqrt()
}

/// Gradient of [`rmsnorm_f64`] with respect to x, given that with respect to its result.
pub fn backward(x: &[f64], w: &[f32], dy: &[f64], eps: f64) -> Vec<f64> {
    let mut dx = Vec::with_capacity(x.len());
    for (row, dy) in x.chunks_exact(w.len()).zip(dy.chunks_exact(w.len())) {
        let s = scale_of(row, eps);
        let u: Vec<f64> = dy.iter().zip(w).map(|(d, &w)| d * f64::from(w)).collect();
        let mean = u.iter().zip(row).map(|(u, v)| u * v).sum::<f64>() / w.len() as f64;
        dx.extend(u.iter().zip(row).map(|(u, v)| s * (u - v * s * s * mean)));
    }
    dx
}

#[cfg(test)]
mod tests {
    use super::{backward, rmsnorm_f64};
    use crate::testing::{Rng, assert_gradient};

    /// The loss is g . y for a random g.
    #[test]
    fn gradients_are_those_of_finite_differences() {
        let mut rng = Rng::new(1);
        let w: Vec<f32> = (0..7).map(|_| rng.normal()).collect();
        let mut random = || -> Vec<f64> { (0..21).map(|_| f64::from(rng.normal())).collect() };
        let (x, g) = (random(), random());
        assert_gradient(&x, &backward(&x, &w, &g, 1e-2), |x| {
            rmsnorm_f64(x, &w, 1e-2).iter().zip(&g).map(|(y, g)| y * g).sum()
        });
    }
}
