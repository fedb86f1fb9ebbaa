//! `loss = log sum_i exp(x[i]) - x[label]`

/// Loss of each row of `[rows, vocab]`, 0 where there is no label.
pub fn losses(logits: &[f64], labels: &[Option<usize>]) -> Vec<f64> {
    let rows = logits.chunks_exact(logits.len() / labels.len());
    rows.zip(labels).map(|(x, &label)| label.map_or(0.0, |l| log_sum(x) - x[l])).collect()
}

fn log_sum(x: &[f64]) -> f64 {
    let m = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    m + x.iter().map(|v| (v - m).exp()).sum::<f64>().ln()
}

/// Gradient of `scale` times the sum of the losses.
pub fn gradient(logits: &[f64], labels: &[Option<usize>], scale: f64) -> Vec<f64> {
    let mut all = Vec::with_capacity(logits.len());
    for (x, &label) in logits.chunks_exact(logits.len() / labels.len()).zip(labels) {
        let Some(label) = label else {
            all.extend(x.iter().map(|_| 0.0));
            continue;
        };
        let l = log_sum(x);
        all.extend(x.iter().enumerate().map(|(i, v)| {
            // p - 1 of the label from the others, without cancellation.
            let others = || x.iter().enumerate().filter(|o| o.0 != i).map(|o| (o.1 - l).exp()).sum::<f64>();
            scale * if i == label { -others() } else { (v - l).exp() }
        }));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{gradient, losses};
    use crate::testing::{Rng, assert_gradient};

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let mut rng = Rng::new(1);
        let x: Vec<f64> = (0..21).map(|_| f64::from(rng.normal())).collect();
        let labels = [Some(2), None, Some(6)];
        let loss = |x: &[f64]| 1.5 * losses(x, &labels).iter().sum::<f64>();
        assert_gradient(&x, &gradient(&x, &labels, 1.5), loss);
    }
}
