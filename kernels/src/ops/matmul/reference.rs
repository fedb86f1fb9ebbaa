//! `y[t, r] = sum_c x[t, c] w[r, c] + bias[r] + y[t, r]`

/// x `[tokens, cols]`, w `[rows, cols]`; `bias` `[rows]` and `add` `[tokens, rows]` where given.
pub fn linear<X: Copy + Into<f64>>(
    x: &[X],
    w: &[f32],
    cols: usize,
    bias: Option<&[f32]>,
    add: Option<&[f32]>,
) -> Vec<f64> {
    let rows = w.len() / cols;
    let mut y = Vec::with_capacity(x.len() / cols * rows);
    for x in x.chunks_exact(cols) {
        for (r, w) in w.chunks_exact(cols).enumerate() {
            let sum: f64 = x.iter().zip(w).map(|(&a, &b)| a.into() * f64::from(b)).sum();
            let at = y.len();
            y.push(sum + bias.map_or(0.0, |b| f64::from(b[r])) + add.map_or(0.0, |a| f64::from(a[at])));
        }
    }
    y
}

/// `dx[t, c] = sum_r dy[t, r] w[r, c] + dx[t, c]`: dy `[tokens, stride]` of which `rows` columns from
/// `column` on count, w `[rows, cols]`, `add` `[tokens, cols]` where given.
pub fn gradient(
    dy: &[f32],
    (stride, column): (usize, usize),
    w: &[f32],
    cols: usize,
    add: Option<&[f32]>,
) -> Vec<f64> {
    let rows = w.len() / cols;
    let mut dx = Vec::with_capacity(dy.len() / stride * cols);
    for (t, dy) in dy.chunks_exact(stride).enumerate() {
        let mut sums: Vec<f64> = (0..cols).map(|c| add.map_or(0.0, |a| f64::from(a[t * cols + c]))).collect();
        for (&d, w) in dy[column..column + rows].iter().zip(w.chunks_exact(cols)) {
            sums.iter_mut().zip(w).for_each(|(s, &w)| *s += f64::from(d) * f64::from(w));
        }
        dx.extend(sums);
    }
    dx
}
