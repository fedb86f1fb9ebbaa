//! Hashes that must be the same on every machine and in every version: SHA-256 names files and prompts, a hash of
//! 64 bits orders questions, and a generator draws for the bootstrap.

use std::fmt::Write as _;

/// SHA-256 of some bytes, as 64 hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    let mut h = first_words(2, 0x6A09_E667);
    let k = first_words(3, 0x428A_2F98);
    debug_assert_eq!((h.len(), k.len()), (8, 64));
    let mut message = bytes.to_vec();
    message.push(0x80);
    message.resize((bytes.len() + 9).div_ceil(64) * 64, 0);
    let end = message.len();
    message[end - 8..].copy_from_slice(&(bytes.len() as u64 * 8).to_be_bytes());
    for block in message.chunks_exact(64) {
        compress(&mut h, &k, block);
    }
    h.iter().fold(String::new(), |mut out, word| {
        let _ = write!(out, "{word:08x}");
        out
    })
}

/// The standard's constants: the first 32 bits of the fractional parts of the square roots (of 8 primes) or of the
/// cube roots (of 64 primes); `check` is the first of them.
fn first_words(root: u32, check: u32) -> Vec<u32> {
    let count = if root == 2 { 8 } else { 64 };
    let primes = (2u128..).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0));
    let words: Vec<u32> = primes.take(count).map(|p| fraction(p, root)).collect();
    debug_assert_eq!(words[0], check);
    words
}

/// The first 32 bits behind the point of the square or cube root of `p`: the integer root of `p << 32 root`, by bits.
fn fraction(p: u128, root: u32) -> u32 {
    let target = p << (32 * root);
    let mut found: u128 = 0;
    for bit in (0..40).rev() {
        let tried = found | 1 << bit;
        if tried.pow(root) <= target {
            found = tried;
        }
    }
    found as u32
}

fn compress(h: &mut [u32], k: &[u32], block: &[u8]) {
    let mut w = [0u32; 64];
    for (word, bytes) in w.iter_mut().zip(block.chunks_exact(4)) {
        *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    for i in 16..64 {
        let (a, b) = (w[i - 15], w[i - 2]);
        let s0 = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
        let s1 = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
        w[i] = w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1);
    }
    let mut v: [u32; 8] = std::array::from_fn(|i| h[i]);
    for i in 0..64 {
        let [a, b, c, d, e, f, g, last] = v;
        let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let choice = (e & f) ^ (!e & g);
        let t1 = last.wrapping_add(s1).wrapping_add(choice).wrapping_add(k[i]).wrapping_add(w[i]);
        let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let majority = (a & b) ^ (a & c) ^ (b & c);
        v = [t1.wrapping_add(s0.wrapping_add(majority)), a, b, c, d.wrapping_add(t1), e, f, g];
    }
    for (word, v) in h.iter_mut().zip(v) {
        *word = word.wrapping_add(v);
    }
}

/// A hash of 64 bits over bytes: FNV-1a, then mixed so that near texts lie far apart.
pub fn hash(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01B3)))
}

/// [`hash`] of several texts in order, which no other cut of the same letters gives.
pub fn hash_all(parts: &[&str]) -> u64 {
    parts.iter().fold(0, |h, part| mix(h ^ hash(part.as_bytes())))
}

/// A bijection of 64 bits whose outputs look random.
pub fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Random numbers that follow from a seed.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A stream of numbers for this seed.
    pub fn new(seed: u64) -> Rng {
        Rng(mix(seed))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// Shuffles a list in place.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for i in (1..list.len()).rev() {
            let j = self.below(i + 1);
            list.swap(i, j);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::sha256;

    #[test]
    fn sha256_of_the_standard_s_examples() {
        let long = "a".repeat(1_000_000);
        for (text, want) in [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
            (&long, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
        ] {
            assert_eq!(sha256(text.as_bytes()), want, "{} bytes", text.len());
        }
    }
}
