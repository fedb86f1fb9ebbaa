//! `y[i] = kept(i) ? x[i] / (1 - p) : 0`

use super::Mask;

/// Whether each of `n` values is kept.
pub fn kept(n: u32, seed: [u32; 2], m: Mask) -> impl Iterator<Item = bool> {
    let key = mixed(mixed(mixed(m.salt) ^ seed[0]).wrapping_add(seed[1]));
    let dropped = f64::from(m.probability) * 2f64.powi(32);
    (0..n).map(move |i| f64::from(mixed(mixed(i) ^ key)) >= dropped.floor())
}

/// The finaliser of MurmurHash3, after an odd constant.
fn mixed(v: u32) -> u32 {
    let mut h = v.wrapping_add(0x9e37_79b9);
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

/// What becomes of f32 values.
pub fn dropout(x: &[f32], seed: [u32; 2], m: Mask) -> Vec<f64> {
    let factor = 1.0 / (1.0 - f64::from(m.probability));
    let kept = kept(x.len() as u32, seed, m);
    x.iter().zip(kept).map(|(&v, keep)| if keep { f64::from(v) * factor } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::{Mask, kept};

    /// As many are dropped as should be; masks of other salts, seeds and steps, and of a shifted index,
    /// agree as often as independent ones.
    #[test]
    fn masks_are_random_and_independent() {
        let n = 1 << 18;
        let mask =
            |seed, probability, salt| -> Vec<bool> { kept(n, seed, Mask { probability, salt }).collect() };
        // Within five standard deviations.
        let near = |count: usize, p: f64| {
            let (n, count) = (f64::from(n), count as f64);
            assert!((count - n * p).abs() < 5.0 * (n * p * (1.0 - p)).sqrt(), "{count} of {n} at {p}");
        };
        assert!(mask([1, 2], 0.0, 3).into_iter().all(|k| k));
        for probability in [0.05f32, 0.5, 0.9] {
            let p = f64::from(probability);
            let one = mask([7, 0], probability, 1);
            near(one.iter().filter(|k| !**k).count(), p);
            let both = p * p + (1.0 - p) * (1.0 - p);
            for other in
                [mask([7, 0], probability, 2), mask([8, 0], probability, 1), mask([7, 1], probability, 1)]
            {
                near(one.iter().zip(&other).filter(|(a, b)| a == b).count(), both);
            }
            for shift in [1, 32, 4096] {
                let mut moved = one.clone();
                moved.rotate_left(shift);
                near(one.iter().zip(&moved).filter(|(a, b)| a == b).count(), both);
            }
        }
    }
}
