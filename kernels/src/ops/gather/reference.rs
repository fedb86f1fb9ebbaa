//! `y[i, :] = x[rows[i], :]`, and `x[rows[i], :] += y[i, :]`

/// Zeros where there is no row.
pub fn gather(x: &[f32], rows: &[Option<usize>], width: usize) -> Vec<f64> {
    let row = |r: &Option<usize>| match r {
        Some(r) => x[r * width..][..width].iter().map(|&v| f64::from(v)).collect(),
        None => vec![0.0; width],
    };
    rows.iter().flat_map(row).collect()
}

/// Adds to what x holds, or overwrites it.
pub fn scatter(y: &[f32], rows: &[Option<usize>], x: &[f32], width: usize, add: bool) -> Vec<f64> {
    let mut x: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
    for (y, row) in y.chunks_exact(width).zip(rows) {
        let Some(row) = row else { continue };
        for (x, &y) in x[row * width..].iter_mut().zip(y) {
            *x = f64::from(y) + if add { *x } else { 0.0 };
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::{gather, scatter};

    /// <gather x, y> = <x, scatter y>: one is the gradient of the other.
    #[test]
    fn scatter_is_the_gradient_of_gather() {
        let x: Vec<f32> = (0..12).map(|i| (i * i % 7) as f32).collect();
        let y: Vec<f32> = (0..9).map(|i| (i * 5 % 11) as f32).collect();
        let rows = [Some(3), None, Some(0)];
        let dot = |a: &[f64], b: &[f32]| a.iter().zip(b).map(|(a, &b)| a * f64::from(b)).sum::<f64>();
        let back = scatter(&y, &rows, &[0.0; 12], 3, true);
        assert_eq!(dot(&gather(&x, &rows, 3), &y), dot(&back, &x));
        assert_ne!(dot(&back, &x), 0.0);
    }
}
