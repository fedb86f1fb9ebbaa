//! The numbers that cases are made of.

/// SplitMix64 (Steele, Lea and Flood 2014): the inputs of the cases.
pub struct Rng(u64);

impl Rng {
    /// A stream for `seed`.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// The stream of a case: what tells it from its neighbours, and the seed of all inputs. Seed 0
    /// leaves the first alone.
    pub(crate) fn seeded(case: u32, seed: u64) -> Rng {
        Rng(u64::from(case).wrapping_add(seed.wrapping_mul(0xd6e8_feb8_6659_fd93)))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, n).
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// About normal: the sum of twelve uniforms, less 6.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| (self.bits() >> 40) as f32 / 16_777_216.0).sum::<f32>() - 6.0
    }

    /// `n` values about normal; among them some ten times as large, some so small that they are not normal,
    /// and stretches of zeros.
    pub fn values(&mut self, n: usize) -> Vec<f32> {
        let mut values: Vec<f32> = (0..n).map(|_| self.normal()).collect();
        for at in 0..n {
            match self.below(97 * 8) {
                0..8 => values[at] *= 10.0,
                8..16 => values[at] *= 1e-39,
                16 => values[at..n.min(at + 40)].fill(0.0),
                _ => {}
            }
        }
        values
    }
}
