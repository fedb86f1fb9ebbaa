//! `y[p, r] = sum_c x[row of p, c] w[expert of p, r, c]`, `out[t, :] = sum_j weights[t, j] y[position of (t, j), :]`

/// The choices by expert, those of an expert in their order: the choice at each position.
pub fn order(ids: &[u32]) -> Vec<usize> {
    let mut choices: Vec<usize> = (0..ids.len()).collect();
    choices.sort_by_key(|&s| ids[s]);
    choices
}

/// x has a row for each of `experts`, which say whose matrix in w `[.., rows, cols]` it meets.
pub fn product<X: Copy + Into<f64>>(
    x: &[X],
    experts: &[u32],
    w: &[f32],
    [rows, cols]: [usize; 2],
) -> Vec<f64> {
    let one = |(x, &e): (&[X], &u32)| -> Vec<f64> {
        let matrix = w[e as usize * rows * cols..][..rows * cols].chunks_exact(cols);
        matrix.map(|w| x.iter().zip(w).map(|(&x, &w)| x.into() * f64::from(w)).sum()).collect()
    };
    x.chunks_exact(cols).zip(experts).flat_map(one).collect()
}

/// `dx[p, c] = sum_r dy[p, r] w[expert of p, r, c]`
pub fn input_gradient(dy: &[f64], experts: &[u32], w: &[f32], [rows, cols]: [usize; 2]) -> Vec<f64> {
    let one = |(dy, &e): (&[f64], &u32)| -> Vec<f64> {
        let mut dx = vec![0.0; cols];
        for (d, w) in dy.iter().zip(w[e as usize * rows * cols..].chunks_exact(cols)) {
            dx.iter_mut().zip(w).for_each(|(x, &w)| *x += d * f64::from(w));
        }
        dx
    };
    dy.chunks_exact(rows).zip(experts).flat_map(one).collect()
}

/// y `[choices, width]` in the order of choices, weights `[tokens, used]`.
pub fn combine(y: &[f64], weights: &[f64], used: usize, width: usize) -> Vec<f64> {
    let token = |(y, w): (&[f64], &[f64])| -> Vec<f64> {
        (0..width).map(|c| w.iter().zip(y.chunks_exact(width)).map(|(w, y)| w * y[c]).sum()).collect()
    };
    y.chunks_exact(used * width).zip(weights.chunks_exact(used)).flat_map(token).collect()
}

/// The squares of x `[.., cols]`, of the row that each choice has, added to `before` by the expert of the choice, and the
/// numbers of choices behind them.
pub fn imatrix(x: &[f32], ids: &[u32], row_of: &[usize], before: &[f32], cols: usize) -> Vec<f64> {
    let mut sums: Vec<f64> = before.iter().map(|&v| v.into()).collect();
    let experts = before.len() / (cols + 1);
    for (&e, &row) in ids.iter().zip(row_of) {
        let e = e as usize;
        let of = &mut sums[e * cols..][..cols];
        of.iter_mut().zip(&x[row * cols..]).for_each(|(s, &v)| *s += f64::from(v) * f64::from(v));
        sums[experts * cols + e] += 1.0;
    }
    sums
}
