//! Activation functions and their slopes in f64.

use super::Activation;

/// `act(v)`.
pub fn act(f: Activation, v: f64) -> f64 {
    match f {
        Activation::Silu => v / (1.0 + (-v).exp()),
        Activation::GeluTanh => 0.5 * v * (1.0 + inner(v).tanh()),
        Activation::GeluErf => 0.5 * v * erfc(-v / std::f64::consts::SQRT_2),
        Activation::Relu => v.max(0.0),
        Activation::Tanh => v.tanh(),
    }
}

/// Its derivative at v.
pub fn slope(f: Activation, v: f64) -> f64 {
    match f {
        Activation::Silu => {
            // The second is 1 less the first without cancellation.
            let (s, rest) = (1.0 / (1.0 + (-v).exp()), 1.0 / (1.0 + v.exp()));
            s * (1.0 + v * rest)
        }
        Activation::GeluTanh => {
            let t = inner(v).tanh();
            let steep = (1.0 - t * t) * (2.0 / std::f64::consts::PI).sqrt() * (1.0 + 3.0 * 0.044_715 * v * v);
            0.5 * (1.0 + t) + if steep == 0.0 { 0.0 } else { 0.5 * v * steep }
        }
        Activation::GeluErf => {
            let bell = (-0.5 * v * v).exp() / (2.0 * std::f64::consts::PI).sqrt();
            0.5 * erfc(-v / std::f64::consts::SQRT_2) + v * bell
        }
        Activation::Relu => f64::from(u8::from(v > 0.0)),
        Activation::Tanh => 1.0 - v.tanh().powi(2),
    }
}

fn inner(v: f64) -> f64 {
    (2.0 / std::f64::consts::PI).sqrt() * (v + 0.044_715 * v.powi(3))
}

/// The complementary error function: by its power series near 0, by its continued fraction beyond.
fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    if x < 2.0 {
        // erf(x) = 2 / sqrt(pi) exp(-x^2) sum_n 2^n x^(2 n + 1) / (1 3 5 .. (2 n + 1))
        let (mut term, mut sum) = (x, x);
        for n in 1..80 {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
        }
        return 1.0 - std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum;
    }
    // erfc(x) = exp(-x^2) / sqrt(pi) / (x + (1/2) / (x + (2/2) / (x + (3/2) / ...)))
    let fraction = (1..=120).rev().fold(x, |below, k| x + f64::from(k) / 2.0 / below);
    (-x * x).exp() / std::f64::consts::PI.sqrt() / fraction
}

#[cfg(test)]
mod tests {
    use super::{act, erfc, slope};
    use crate::ops::activation::Activation;

    /// Values of the error function from tables (Abramowitz and Stegun 7.1), and where the two ways meet.
    #[test]
    fn erfc_is_that_of_tables() {
        for (x, erf) in [(0.0, 0.0), (0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (2.0, 0.995_322_265_0)] {
            assert!((1.0 - erfc(x) - erf).abs() < 1e-10, "{x}");
            assert!((erfc(-x) - 1.0 - erf).abs() < 1e-10, "-{x}");
        }
        assert!((erfc(1.999_999_999) / erfc(2.000_000_001) - 1.0).abs() < 1e-7);
        assert!((erfc(5.0) / 1.537_459_794_4e-12 - 1.0).abs() < 1e-9);
    }

    #[test]
    fn slopes_are_those_of_finite_differences() {
        for f in Activation::ALL {
            for v in [-7.0, -2.0, -0.3, 1e-3, 0.4, 1.7, 6.0] {
                let step = 1e-5;
                let difference = (act(f, v + step) - act(f, v - step)) / (2.0 * step);
                assert!((difference - slope(f, v)).abs() < 1e-9, "{f:?} at {v}");
            }
        }
    }
}
