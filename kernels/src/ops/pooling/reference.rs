//! Pooling and L2 normalisation in f64.

use super::Pooling;

/// x `[tokens, width]`; of each sequence the first token and one past its last; gives `[sequences, width]`.
pub fn pool(x: &[f32], bounds: &[[u32; 2]], width: usize, pooling: Pooling) -> Vec<f64> {
    let row = |t: u32| x[t as usize * width..][..width].iter().map(|&v| f64::from(v));
    let one = |&[first, end]: &[u32; 2]| -> Vec<f64> {
        match pooling {
            Pooling::First => row(first).collect(),
            Pooling::Last => row(end - 1).collect(),
            Pooling::Mean => {
                let mut sum = vec![0.0; width];
                (first..end).for_each(|t| sum.iter_mut().zip(row(t)).for_each(|(s, v)| *s += v));
                sum.iter().map(|s| s / f64::from(end - first)).collect()
            }
        }
    };
    bounds.iter().flat_map(one).collect()
}

/// x `[rows, cols]`, each row divided by its length.
pub fn normalize(x: &[f32], cols: usize) -> Vec<f64> {
    let one = |row: &[f32]| -> Vec<f64> {
        let length = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt().max(1e-12);
        row.iter().map(|&v| f64::from(v) / length).collect()
    };
    x.chunks_exact(cols).flat_map(one).collect()
}
