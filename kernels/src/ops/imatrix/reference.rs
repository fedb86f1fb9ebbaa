//! `s[c] + Σ_t x[t, c]²`

/// x `[tokens, cols]` added to s `[cols]`.
pub fn accumulate<X: Copy + Into<f64>>(x: &[X], s: &[f32]) -> Vec<f64> {
    let mut sums: Vec<f64> = s.iter().map(|&v| v.into()).collect();
    for row in x.chunks_exact(s.len()) {
        sums.iter_mut().zip(row).for_each(|(s, &v)| *s += v.into() * v.into());
    }
    sums
}
