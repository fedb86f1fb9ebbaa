//! `o[t, h, :] = sum_j softmax_j(scale q[t, h] . k[j, h / G]) v[j, h / G]`, j up to the token's position

use std::ops::Range;

use super::Mask;

/// q `[tokens, heads, head_dim]`; k, v `[positions, kv_heads, head_dim]`; the first token at `position`.
pub fn attention(
    [q, k, v]: [&[f32]; 3],
    position: usize,
    [heads, kv_heads, head_dim]: [usize; 3],
    scale: f64,
    window: usize,
) -> Vec<f64> {
    let mut o = Vec::with_capacity(q.len());
    for (i, q) in q.chunks_exact(head_dim).enumerate() {
        let (p, kv) = (position + i / heads, i % heads / (heads / kv_heads));
        let first = if window == 0 { 0 } else { (p + 1).saturating_sub(window) };
        let at = |x: &[f32], j: usize, d: usize| f64::from(x[(j * kv_heads + kv) * head_dim + d]);
        let scores: Vec<f64> = (first..=p)
            .map(|j| scale * (0..head_dim).map(|d| f64::from(q[d]) * at(k, j, d)).sum::<f64>())
            .collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
        let sum: f64 = weights.iter().sum();
        for d in 0..head_dim {
            o.push(weights.iter().enumerate().map(|(j, w)| w * at(v, first + j, d)).sum::<f64>() / sum);
        }
    }
    o
}

/// The keys that each token of packed sequences sees; of each the first token of its sequence, and one past its last.
pub fn seen(spans: &[[u32; 2]], mask: Mask) -> Vec<Range<usize>> {
    let of = |(t, s): (usize, &[u32; 2])| {
        let (first, end) = (s[0] as usize, s[1] as usize);
        match mask {
            Mask::Causal { window: 0 } => first..t + 1,
            Mask::Causal { window } => first.max((t + 1).saturating_sub(window as usize))..t + 1,
            Mask::Full { window: 0 } => first..end,
            Mask::Full { window } => {
                first.max(t.saturating_sub(window as usize))..end.min(t + window as usize + 1)
            }
        }
    };
    spans.iter().enumerate().map(of).collect()
}

/// A batch's shape: sequences one after the other, each token seeing some of its own.
#[derive(Debug, Clone, Copy)]
pub struct Packed<'a> {
    /// The keys that each token sees.
    pub keys: &'a [Range<usize>],
    /// Query heads.
    pub heads: usize,
    /// KV heads.
    pub kv_heads: usize,
    /// Size of a head.
    pub head_dim: usize,
    /// Scale of the scores.
    pub scale: f64,
}

impl Packed<'_> {
    /// For each token and query head: the probability of each key it sees, first to last, and the
    /// log-sum-exp of their scores.
    fn probabilities(&self, q: &[f64], k: &[f64]) -> Vec<(Vec<f64>, f64)> {
        let (h, hd) = (self.heads, self.head_dim);
        (0..self.keys.len() * h)
            .map(|row| {
                let keys = self.keys[row / h].clone();
                let score = |j| self.scale * dot(&q[row * hd..][..hd], &k[self.kv(j, row)..][..hd]);
                let scores: Vec<f64> = keys.map(score).collect();
                let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = scores.iter().map(|s| (s - top).exp()).sum();
                (scores.iter().map(|s| (s - top).exp() / sum).collect(), top + sum.ln())
            })
            .collect()
    }

    /// Where the key or value j of the row's KV head begins.
    fn kv(&self, j: usize, row: usize) -> usize {
        (j * self.kv_heads + row % self.heads / (self.heads / self.kv_heads)) * self.head_dim
    }

    /// o `[tokens, heads, head_dim]` and lse `[tokens, heads]`.
    pub fn forward(&self, q: &[f64], k: &[f64], v: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let mut o = vec![0.0; q.len()];
        let rows = self.probabilities(q, k);
        for (row, (weights, _)) in rows.iter().enumerate() {
            for (i, w) in weights.iter().enumerate() {
                let at = self.kv(self.keys[row / self.heads].start + i, row);
                let o = &mut o[row * self.head_dim..][..self.head_dim];
                o.iter_mut().zip(&v[at..]).for_each(|(o, v)| *o += w * v);
            }
        }
        (o, rows.into_iter().map(|r| r.1).collect())
    }

    /// Gradients (dq, dk, dv) of a loss whose gradient with respect to o is g, by the chain rule through
    /// `o = p v`, `p = softmax(s)`, `s = scale q k`.
    pub fn backward(&self, q: &[f64], k: &[f64], v: &[f64], g: &[f64]) -> [Vec<f64>; 3] {
        let hd = self.head_dim;
        let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
        for (row, (weights, _)) in self.probabilities(q, k).iter().enumerate() {
            let (q, g) = (&q[row * hd..][..hd], &g[row * hd..][..hd]);
            let first = self.keys[row / self.heads].start;
            let dp: Vec<f64> =
                (0..weights.len()).map(|i| dot(g, &v[self.kv(first + i, row)..][..hd])).collect();
            let mean = dot(weights, &dp);
            for (i, p) in weights.iter().enumerate() {
                let (at, ds) = (self.kv(first + i, row), p * (dp[i] - mean) * self.scale);
                for d in 0..hd {
                    dq[row * hd + d] += ds * k[at + d];
                    dk[at + d] += ds * q[d];
                    dv[at + d] += p * g[d];
                }
            }
        }
        [dq, dk, dv]
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::Packed;
    use crate::testing::{Rng, assert_gradient};

    /// The loss is g . o for a random g.
    #[test]
    fn gradients_are_those_of_finite_differences() {
        for (heads, kv_heads, head_dim) in [(1, 1, 4), (4, 2, 3), (3, 1, 2)] {
            let keys = [0..1, 0..2, 1..3, 3..4, 4..5, 4..6];
            let s = Packed { keys: &keys, heads, kv_heads, head_dim, scale: 0.7 };
            let mut rng = Rng::new(heads as u64);
            let mut random = |heads| -> Vec<f64> {
                (0..keys.len() * heads * head_dim).map(|_| f64::from(rng.normal())).collect()
            };
            let [q, g, k, v] = [heads, heads, kv_heads, kv_heads].map(&mut random);
            let [dq, dk, dv] = s.backward(&q, &k, &v, &g);
            let loss = |q: &[f64], k: &[f64], v: &[f64]| super::dot(&s.forward(q, k, v).0, &g);
            assert_gradient(&q, &dq, |q| loss(q, &k, &v));
            assert_gradient(&k, &dk, |k| loss(&q, k, &v));
            assert_gradient(&v, &dv, |v| loss(&q, &k, v));
        }
    }
}
