//! AdamW in f64.

use super::Settings;

/// `sqrt(sum g²)`
pub fn norm(gradient: &[f32]) -> f64 {
    gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt()
}

/// Parameter and moments after a step, from `[w, g, m, v]`.
pub fn step([w, g, m, v]: [f32; 4], norm: f64, s: &Settings) -> [f64; 3] {
    let [lr, beta1, beta2, eps, decay, c1, c2, clip, scale] =
        [s.lr, s.beta1, s.beta2, s.eps, s.weight_decay, s.correction1, s.correction2, s.clip, s.scale]
            .map(f64::from);
    let clipped = if clip > 0.0 { (clip / (norm * scale + 1e-6)).min(1.0) } else { 1.0 };
    let g = f64::from(g) * scale * clipped;
    let m = beta1 * f64::from(m) + (1.0 - beta1) * g;
    let v = beta2 * f64::from(v) + (1.0 - beta2) * g * g;
    let w = f64::from(w);
    [w - lr * decay * w - lr * (m / c1) / ((v / c2).sqrt() + eps), m, v]
}
