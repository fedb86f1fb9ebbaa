//! `y[t, :] = w[ids[t], :]`

/// w `[rows, cols]`, y `[tokens, cols]`.
pub fn embed(w: &[f32], ids: &[u32], cols: usize) -> Vec<f64> {
    ids.iter().flat_map(|&id| w[id as usize * cols..][..cols].iter().map(|&v| f64::from(v))).collect()
}
