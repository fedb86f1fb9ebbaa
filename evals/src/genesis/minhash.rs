//! Near-duplicates by MinHash: texts whose runs of five words are mostly the same.

use std::collections::HashMap;

use crate::hash::mix;
use crate::overlap::words;

/// Words of a run.
const RUN: usize = 5;

/// Hashes of a signature: 32 bands of 4.
const HASHES: usize = 128;
const ROWS: usize = 4;

/// The smallest value of each of 128 hashes over a text's runs.
pub fn signature(text: &str) -> Vec<u32> {
    let words = words(text);
    let mut smallest = vec![u32::MAX; HASHES];
    for run in words.windows(RUN.min(words.len()).max(1)) {
        let mut h = run.iter().fold(0, |h, w| mix(h ^ w));
        for s in &mut smallest {
            h = mix(h);
            *s = (*s).min((h >> 32) as u32);
        }
    }
    smallest
}

/// The share of runs that two texts have in common, as their signatures say: within 0.1 nineteen times of twenty.
pub fn alike(a: &[u32], b: &[u32]) -> f64 {
    a.iter().zip(b).filter(|(x, y)| x == y).count() as f64 / HASHES as f64
}

/// What was seen so far. A text costs 512 bytes and its place in 32 bands.
#[derive(Debug, Default)]
pub struct Seen {
    signatures: Vec<Vec<u32>>,
    bands: HashMap<(usize, u64), Vec<u32>>,
}

impl Seen {
    /// The number of an earlier text that is as alike as `least`, the first of them; otherwise remembers this one and
    /// gives `None`. Texts that share 0.8 of their runs are missed once in five million.
    pub fn add(&mut self, text: &str, least: f64) -> Option<usize> {
        let signature = signature(text);
        let band = |i: usize| {
            let rows = &signature[i * ROWS..(i + 1) * ROWS];
            (i, rows.iter().fold(0, |h, r| mix(h ^ u64::from(*r))))
        };
        let keys: Vec<_> = (0..HASHES / ROWS).map(band).collect();
        let mut near: Vec<u32> = keys.iter().filter_map(|k| self.bands.get(k)).flatten().copied().collect();
        near.sort_unstable();
        near.dedup();
        let found = near.into_iter().find(|n| alike(&self.signatures[*n as usize], &signature) >= least);
        if let Some(found) = found {
            return Some(found as usize);
        }
        let number = self.signatures.len() as u32;
        for key in keys {
            self.bands.entry(key).or_default().push(number);
        }
        self.signatures.push(signature);
        None
    }
}
