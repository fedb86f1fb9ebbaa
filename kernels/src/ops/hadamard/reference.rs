//! `x[b, i] = sum_j (-1)^(bits of i & j) x[b, j] / sqrt(side)`

use crate::layout::CacheType;

/// Blocks of `side` values, turned.
pub fn hadamard(x: &[f64], side: usize) -> Vec<f64> {
    let sign = |i: usize, j: usize| if (i & j).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
    let turned = |block: &[f64], i: usize| -> f64 {
        block.iter().enumerate().map(|(j, x)| sign(i, j) * x).sum::<f64>() / (side as f64).sqrt()
    };
    x.chunks_exact(side).flat_map(|block| (0..side).map(|i| turned(block, i))).collect()
}

/// Heads as a cache of a type takes them: turned where it has scales. The same turns back what attention gives.
pub(crate) fn spread(heads: &[f64], ty: CacheType, head_dim: usize) -> Vec<f64> {
    match ty.spread(head_dim as u32) {
        0 => heads.to_vec(),
        side => hadamard(heads, side as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::hadamard;

    #[test]
    fn turning_twice_gives_what_was_there_and_keeps_the_length() {
        let x: Vec<f64> = (0..64).map(|i| f64::from(i * i % 37) - 11.0).collect();
        for side in [1, 2, 16, 32] {
            let y = hadamard(&x, side);
            let square = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>();
            assert!((square(&x) - square(&y)).abs() < 1e-9);
            assert!(side == 1 || x.iter().zip(&y).any(|(x, y)| (x - y).abs() > 1.0));
            assert!(hadamard(&y, side).iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-12));
        }
    }
}
