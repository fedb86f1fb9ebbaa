//! What is searched, in memory: the vectors of all passages, and their words.

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use crate::words::Words;

/// Vectors that a thread looks at before it asks for more work.
const BLOCK: usize = 2048;

/// A passage as the index knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// Its number in the store.
    pub(crate) chunk: u64,
    /// Its document's.
    pub(crate) document: u64,
    alive: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    width: usize,
    vectors: Vec<f16>,
    entries: Vec<Entry>,
    words: Words,
}

impl Index {
    pub(crate) fn new(width: usize) -> Index {
        Index { width, ..Index::default() }
    }

    /// Adds a passage; `searched` is what its words are taken from.
    pub(crate) fn add(&mut self, chunk: u64, document: u64, vector: &[f16], searched: &str) {
        self.words.add(self.entries.len() as u32, searched);
        self.vectors.extend_from_slice(vector);
        self.entries.push(Entry { chunk, document, alive: true });
    }

    /// Takes the passages of a document away; `searched` gives the text of one.
    pub(crate) fn remove(&mut self, document: u64, searched: impl Fn(u64) -> String) {
        for (i, entry) in self.entries.iter_mut().enumerate() {
            if entry.document == document && entry.alive {
                entry.alive = false;
                self.words.remove(i as u32, &searched(entry.chunk));
            }
        }
    }

    pub(crate) fn entry(&self, number: u32) -> Entry {
        self.entries[number as usize]
    }

    /// The `top` passages whose vectors are nearest, the nearest first, with their cosines: all are looked at.
    pub(crate) fn nearest(&self, query: &[f32], top: usize) -> Vec<(u32, f32)> {
        if self.width == 0 || query.len() != self.width {
            return Vec::new();
        }
        let block = |(b, rows): (usize, &[f16])| {
            let mut row = vec![0.0_f32; self.width];
            let mut best: Vec<(u32, f32)> = Vec::new();
            for (i, vector) in rows.chunks_exact(self.width).enumerate() {
                let number = b * BLOCK + i;
                if !self.entries[number].alive {
                    continue;
                }
                vector.convert_to_f32_slice(&mut row);
                best.push((number as u32, dot(&row, query)));
                if best.len() >= 4 * top.max(64) {
                    keep(&mut best, top);
                }
            }
            keep(&mut best, top);
            best
        };
        let mut all: Vec<(u32, f32)> =
            self.vectors.par_chunks(BLOCK * self.width).enumerate().flat_map_iter(block).collect();
        keep(&mut all, top);
        all
    }

    /// The cosine of a passage and the question; None where there are no vectors.
    pub(crate) fn cosine(&self, query: &[f32], number: u32) -> Option<f32> {
        let start = number as usize * self.width;
        let vector = self.vectors.get(start..start + self.width)?;
        (self.width != 0 && query.len() == self.width).then(|| dot(&vector.to_f32_vec(), query))
    }

    /// The `top` passages whose words fit best.
    pub(crate) fn by_words(&self, query: &str, top: usize) -> Vec<(u32, f32)> {
        self.words.search(query, top)
    }
}

/// Sixteen sums, which a compiler puts side by side.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 16];
    let (a16, a1) = a.as_chunks::<16>();
    let (b16, b1) = b.as_chunks::<16>();
    for (x, y) in a16.iter().zip(b16) {
        for i in 0..16 {
            sums[i] += x[i] * y[i];
        }
    }
    sums.iter().sum::<f32>() + a1.iter().zip(b1).map(|(x, y)| x * y).sum::<f32>()
}

/// The best `top`, in order; equal ones by their number.
pub(crate) fn keep(all: &mut Vec<(u32, f32)>, top: usize) {
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if top < all.len() {
        // All of them in order would be most of a search where a word is in every passage.
        all.select_nth_unstable_by(top, order);
        all.truncate(top);
    }
    all.sort_unstable_by(order);
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::Index;

    #[test]
    fn the_scan_is_exact() {
        const WIDTH: usize = 37;
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let mut index = Index::new(WIDTH);
        let rows: Vec<Vec<f16>> =
            (0..5000).map(|_| (0..WIDTH).map(|_| f16::from_f32(random())).collect()).collect();
        for (i, row) in rows.iter().enumerate() {
            index.add(i as u64, i as u64 / 10, row, "");
        }
        let query: Vec<f32> = (0..WIDTH).map(|_| random()).collect();
        index.remove(7, |_| String::new());
        let mut want: Vec<(u32, f64)> = (0..5000_u32)
            .filter(|i| i / 10 != 7)
            .map(|i| {
                let row = &rows[i as usize];
                (i, row.iter().zip(&query).map(|(a, b)| f64::from(a.to_f32()) * f64::from(*b)).sum())
            })
            .collect();
        want.sort_by(|a, b| b.1.total_cmp(&a.1));
        let got = index.nearest(&query, 300);
        assert_eq!(got.len(), 300);
        for ((n, x), (m, y)) in got.iter().zip(&want) {
            assert!((f64::from(*x) - y).abs() < 1e-4 && (n == m || (f64::from(*x) - y).abs() < 1e-5));
        }
        assert!(index.nearest(&query[1..], 3).is_empty());
    }
}
