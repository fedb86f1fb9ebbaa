//! `act(gate) * up`

use crate::ops::activation::{Activation, reference};

/// Elementwise.
pub fn glu<X: Copy + Into<f64>>(act: Activation, gate: &[X], up: &[X]) -> Vec<f64> {
    gate.iter().zip(up).map(|(&g, &u)| reference::act(act, g.into()) * u.into()).collect()
}

/// The gradients with respect to gate and up.
pub fn backward(act: Activation, gate: &[f64], up: &[f64], dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let pairs = gate.iter().zip(up).zip(dy);
    pairs.map(|((&g, &u), &d)| (d * u * reference::slope(act, g), d * reference::act(act, g))).unzip()
}

#[cfg(test)]
mod tests {
    use super::{backward, glu};
    use crate::ops::activation::Activation;
    use crate::testing::{Rng, assert_gradient};

    /// The loss is the sum of d act(gate) up for random d.
    #[test]
    fn gradients_are_those_of_finite_differences() {
        let mut rng = Rng::new(1);
        let mut random = || -> Vec<f64> { (0..20).map(|_| f64::from(rng.normal())).collect() };
        let (gate, up, d) = (random(), random(), random());
        for act in [Activation::Silu, Activation::GeluTanh, Activation::GeluErf] {
            let loss = |gate: &[f64], up: &[f64]| glu(act, gate, up).iter().zip(&d).map(|(y, d)| y * d).sum();
            let (dg, du) = backward(act, &gate, &up, &d);
            assert_gradient(&gate, &dg, |g| loss(g, &up));
            assert_gradient(&up, &du, |u| loss(&gate, u));
        }
    }
}
