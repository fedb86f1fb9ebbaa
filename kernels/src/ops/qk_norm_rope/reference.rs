//! `q = rope(norm(q))`, `k_cache[position] = rope(norm(k))`, `v_cache[position] = v`

use crate::ops::rope::reference::rope_f64;
use crate::ops::rope::{Pairing, Rotation};

/// x `[tokens, heads, head_dim]` from `position` on, normed with `norm` where given, and rotated.
pub fn turned(
    x: &[f32],
    norm: Option<&[f32]>,
    eps: f64,
    position: u32,
    heads: usize,
    head_dim: usize,
    r: &Rotation,
) -> Vec<f64> {
    let x = x.iter().map(|&v| f64::from(v)).collect();
    turned_f64(x, norm, eps, position, heads, head_dim, r)
}

/// The same on f64.
pub fn turned_f64(
    mut x: Vec<f64>,
    norm: Option<&[f32]>,
    eps: f64,
    position: u32,
    heads: usize,
    head_dim: usize,
    r: &Rotation,
) -> Vec<f64> {
    if let Some(w) = norm {
        for x in x.chunks_exact_mut(head_dim) {
            let mean = x.iter().map(|x| x * x).sum::<f64>() / head_dim as f64;
            x.iter_mut().zip(w).for_each(|(x, &w)| *x *= f64::from(w) / (mean + eps).sqrt());
        }
    }
    rope_f64(x, position, heads, head_dim, r)
}

/// What follows the turned queries `[heads, head_dim]` of a token where keys lie without their bias `[kv_heads,
/// head_dim]`: the coefficients `A_i` and `B_i` of `q . R(n) b = sum_i A_i cos(n w_i) + B_i sin(n w_i)`, four of each at
/// a time.
pub fn coefficients(q: &[f64], bias: &[f32], head_dim: usize, r: &Rotation) -> Vec<f64> {
    let (heads, kv_heads) = (q.len() / head_dim, bias.len() / head_dim);
    let mut all = vec![0.0; q.len()];
    for (h, (q, all)) in q.chunks_exact(head_dim).zip(all.chunks_exact_mut(head_dim)).enumerate() {
        let bias = &bias[h / (heads / kv_heads) * head_dim..][..head_dim];
        for i in 0..head_dim / 2 {
            let (a, b) = match r.pairing {
                Pairing::Adjacent => (2 * i, 2 * i + 1),
                Pairing::HalfSplit => (i, i + head_dim / 2),
            };
            let [x, y] = [a, b].map(|d| f64::from(bias[d]) * f64::from(r.mscale));
            all[i / 4 * 8 + i % 4] = q[a] * x + q[b] * y;
            all[i / 4 * 8 + i % 4 + 4] = q[b] * x - q[a] * y;
        }
    }
    all
}

/// Gradient of [`turned`] with respect to x, given that with respect to its result: the rotation is undone
/// by turning the other way, then the chain rule through `y = x w / sqrt(mean(x^2) + eps)`.
pub fn turned_backward(
    [x, dy]: [&[f64]; 2],
    norm: Option<&[f32]>,
    eps: f64,
    position: u32,
    [heads, head_dim]: [usize; 2],
    r: &Rotation,
) -> Vec<f64> {
    let back = Rotation { frequencies: r.frequencies.iter().map(|f| -f).collect(), ..r.clone() };
    let mut dx = rope_f64(dy.to_vec(), position, heads, head_dim, &back);
    let Some(w) = norm else { return dx };
    for (x, u) in x.chunks_exact(head_dim).zip(dx.chunks_exact_mut(head_dim)) {
        let s = 1.0 / (x.iter().map(|x| x * x).sum::<f64>() / head_dim as f64 + eps).sqrt();
        u.iter_mut().zip(w).for_each(|(u, &w)| *u *= f64::from(w));
        let mean = u.iter().zip(x).map(|(u, x)| u * x).sum::<f64>() / head_dim as f64;
        u.iter_mut().zip(x).for_each(|(u, x)| *u = s * (*u - x * s * s * mean));
    }
    dx
}

#[cfg(test)]
mod tests {
    use super::{Pairing, Rotation, coefficients, turned_backward, turned_f64};
    use crate::ops::rope::Scaling;
    use crate::testing::{Rng, assert_gradient};

    #[test]
    fn coefficients_give_the_score_of_a_turned_bias() {
        for pairing in [Pairing::Adjacent, Pairing::HalfSplit] {
            let mut r = Rotation::new(16, 100.0, None, Scaling::None, pairing);
            r.mscale = 1.25;
            let mut rng = Rng::new(3);
            let q: Vec<f64> = (0..4 * 16).map(|_| f64::from(rng.normal())).collect();
            let bias: Vec<f32> = (0..2 * 16).map(|_| rng.normal()).collect();
            let all = coefficients(&q, &bias, 16, &r);
            for n in [0, 1, 77] {
                let wide = bias.iter().map(|&b| f64::from(b)).collect();
                let b = turned_f64(wide, None, 0.0, n, 2, 16, &r);
                for h in 0..4 {
                    let want: f64 = (0..16).map(|d| q[h * 16 + d] * b[h / 2 * 16 + d]).sum();
                    let angle = |i: usize| f64::from(n) * r.frequencies[i];
                    let of = |i: usize| {
                        let at = h * 16 + i / 4 * 8 + i % 4;
                        all[at] * angle(i).cos() + all[at + 4] * angle(i).sin()
                    };
                    assert!((want - (0..8).map(of).sum::<f64>()).abs() < 1e-9);
                }
            }
        }
    }

    /// The loss is g . y for a random g.
    #[test]
    fn gradients_are_those_of_finite_differences() {
        let (heads, head_dim, position) = (3, 8, 5);
        for pairing in [Pairing::Adjacent, Pairing::HalfSplit] {
            let mut rotation = Rotation::new(6, 100.0, None, Scaling::None, pairing);
            rotation.mscale = 1.25;
            let mut rng = Rng::new(1);
            let w: Vec<f32> = (0..head_dim).map(|_| rng.normal()).collect();
            let mut random =
                || -> Vec<f64> { (0..2 * heads * head_dim).map(|_| f64::from(rng.normal())).collect() };
            let (x, g) = (random(), random());
            for norm in [None, Some(&w[..])] {
                let dx = turned_backward([&x, &g], norm, 1e-2, position, [heads, head_dim], &rotation);
                assert_gradient(&x, &dx, |x| {
                    let y = turned_f64(x.to_vec(), norm, 1e-2, position, heads, head_dim, &rotation);
                    y.iter().zip(&g).map(|(y, g)| y * g).sum()
                });
            }
        }
    }
}
