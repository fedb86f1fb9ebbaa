//! `y[t, :] = scale w[ids[t], :]`, and `y[t, :] += scale w[ids[t], :]`

/// w `[rows, cols]`, y `[tokens, cols]`; before, what y held, is empty where nothing is added to.
pub fn embed(w: &[f32], ids: &[u32], cols: usize, scale: f32, before: &[f32]) -> Vec<f64> {
    let values = ids.iter().flat_map(|&id| &w[id as usize * cols..][..cols]);
    let at = |i: usize| before.get(i).map_or(0.0, |&b| f64::from(b));
    values.enumerate().map(|(i, &v)| f64::from(scale) * f64::from(v) + at(i)).collect()
}
