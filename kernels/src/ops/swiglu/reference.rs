//! `gate / (1 + exp(-gate)) * up`

/// Elementwise.
pub fn swiglu<X: Copy + Into<f64>>(gate: &[X], up: &[X]) -> Vec<f64> {
    let pairs = gate.iter().zip(up).map(|(&g, &u)| (g.into(), u.into()));
    pairs.map(|(g, u): (f64, f64)| g / (1.0 + (-g).exp()) * u).collect()
}

/// The gradients with respect to gate and up.
pub fn backward(gate: &[f64], up: &[f64], dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let pairs = gate.iter().zip(up).zip(dy).map(|((&g, &u), &d)| {
        let s = 1.0 / (1.0 + (-g).exp());
        // 1 - s without cancellation.
        let rest = 1.0 / (1.0 + g.exp());
        (d * u * s * (1.0 + g * rest), d * g * s)
    });
    pairs.unzip()
}

#[cfg(test)]
mod tests {
    use super::{backward, swiglu};
    use crate::testing::{Rng, assert_gradient};

    /// The loss is the sum of d silu(gate) up for random d.
    #[test]
    fn gradients_are_those_of_finite_differences() {
        let mut rng = Rng::new(1);
        let mut random = || -> Vec<f64> { (0..20).map(|_| f64::from(rng.normal())).collect() };
        let (gate, up, d) = (random(), random(), random());
        let loss = |gate: &[f64], up: &[f64]| swiglu(gate, up).iter().zip(&d).map(|(y, d)| y * d).sum();
        let (dg, du) = backward(&gate, &up, &d);
        assert_gradient(&gate, &dg, |g| loss(g, &up));
        assert_gradient(&up, &du, |u| loss(&gate, u));
    }
}
