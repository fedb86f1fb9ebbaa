//! `o[t, h, :] = sum_j softmax_j(scale q[t, h] . k[j, h / G]) v[j, h / G]`, j up to the token's position

/// q `[tokens, heads, head_dim]`; k, v `[positions, kv_heads, head_dim]`; the first token at `position`.
pub fn attention(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    position: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
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
