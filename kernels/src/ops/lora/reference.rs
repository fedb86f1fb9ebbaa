//! The products of an adapter, over dense operands.

/// `y[i, j] = scale sum_k x[i, k] m[k, j]`: x `[rows, inner]`, m `[inner, columns]`.
pub fn product(x: &[f64], m: &[f64], inner: usize, scale: f64) -> Vec<f64> {
    let columns = m.len() / inner;
    let row = |x: &[f64]| -> Vec<f64> {
        let at =
            |j: usize| scale * x.iter().zip(m[j..].iter().step_by(columns)).map(|(x, m)| x * m).sum::<f64>();
        (0..columns).map(at).collect()
    };
    x.chunks_exact(inner).flat_map(row).collect()
}

/// `[columns, rows]` of x `[rows, columns]`.
pub fn transposed(x: &[f64], columns: usize) -> Vec<f64> {
    (0..columns).flat_map(|j| x[j..].iter().step_by(columns).copied()).collect()
}

/// `t = x A^T`: x `[tokens, width]`, a `[rank, width]`.
pub fn down(x: &[f64], a: &[f64], width: usize) -> Vec<f64> {
    product(x, &transposed(a, width), width, 1.0)
}

/// `y = scale t B^T`: t `[tokens, rank]`, b `[out, rank]`.
pub fn up(t: &[f64], b: &[f64], rank: usize, scale: f64) -> Vec<f64> {
    product(t, &transposed(b, rank), rank, scale)
}

/// `dt = scale dy B`
pub fn grad_t(dy: &[f64], b: &[f64], out: usize, scale: f64) -> Vec<f64> {
    product(dy, b, out, scale)
}

/// `db = scale dy^T t`
pub fn grad_b(dy: &[f64], t: &[f64], out: usize, scale: f64) -> Vec<f64> {
    product(&transposed(dy, out), t, dy.len() / out, scale)
}

/// `da = dt^T x`
pub fn grad_a(dt: &[f64], x: &[f64], rank: usize) -> Vec<f64> {
    product(&transposed(dt, rank), x, dt.len() / rank, 1.0)
}

/// `dx = dt A`
pub fn grad_x(dt: &[f64], a: &[f64], rank: usize) -> Vec<f64> {
    product(dt, a, rank, 1.0)
}

#[cfg(test)]
mod tests {
    use super::{down, grad_a, grad_b, grad_t, grad_x, up};
    use crate::testing::{Rng, assert_gradient};

    /// The loss is g . y for a random g.
    #[test]
    fn gradients_are_those_of_finite_differences() {
        let (tokens, width, out, rank, scale) = (5, 6, 7, 3, 1.5);
        let mut rng = Rng::new(1);
        let mut random = |n: usize| -> Vec<f64> { (0..n).map(|_| f64::from(rng.normal())).collect() };
        let (x, a, b, g) =
            (random(tokens * width), random(rank * width), random(out * rank), random(tokens * out));
        let loss = |x: &[f64], a: &[f64], b: &[f64]| {
            let y = up(&down(x, a, width), b, rank, scale);
            assert_eq!(y.len(), g.len());
            y.iter().zip(&g).map(|(y, g)| y * g).sum()
        };
        let dt = grad_t(&g, &b, out, scale);
        assert_gradient(&x, &grad_x(&dt, &a, rank), |x| loss(x, &a, &b));
        assert_gradient(&a, &grad_a(&dt, &x, rank), |a| loss(&x, a, &b));
        assert_gradient(&b, &grad_b(&g, &down(&x, &a, width), out, scale), |b| loss(&x, &a, b));
    }
}
