//! Log-probabilities of tokens, computed where their logits are: some bytes come back of each in place of a vocabulary.

use weft_kernels::ops::cross_entropy::{CrossEntropy, IGNORED, STATS};
use weft_kernels::ops::gather::NONE;
use weft_runtime::{Gpu, Pool, Recorder, Slice};

use super::device::{Piece, padded};
use crate::Result;

/// The fewest tokens that a program tells of, those among them that are nobody's: each number has a program.
const LEAST: usize = 32;

/// Bytes that it takes to tell of at most so many tokens.
pub(super) fn told_bytes(most: u32) -> u64 {
    u64::from(most) * (8 + STATS) + 4
}

/// What programs of several prompts tell of.
pub(super) struct Told {
    most: usize,
    /// `[most]` u32: tokens of the program, and what follows each.
    rows: Slice,
    labels: Slice,
    /// `[most]` of [`Stats`](weft_kernels::ops::cross_entropy::Stats).
    stats: Slice,
    /// A factor of the gradient, which nobody wants: 0.
    scale: Slice,
}

impl Told {
    /// Room for at most so many tokens.
    pub(super) fn new(gpu: &Gpu, most: u32) -> Result<Told> {
        let alloc = |bytes: u64| gpu.alloc(Pool::State, bytes.max(4), "tokens that are told of");
        let words = u64::from(most) * 4;
        let scale = gpu.alloc_init(Pool::State, &[0; 4], "no gradient")?;
        let stats = alloc(u64::from(most) * STATS)?;
        Ok(Told { most: most as usize, rows: alloc(words)?, labels: alloc(words)?, stats, scale })
    }

    /// Which tokens of a program the logits are wanted of.
    pub(super) fn rows(&self) -> &Slice {
        &self.rows
    }

    /// Says what the next program tells of. Gives how many tokens these are, with those that are nobody's; 0 for none.
    pub(super) fn write(&self, gpu: &Gpu, pieces: &[Piece<'_>]) -> Result<u32> {
        let (mut rows, mut labels, mut end) = (Vec::new(), Vec::new(), 0);
        for p in pieces {
            end += padded(p.known.len() - p.from);
            rows.extend((end - p.next.len()..end).map(|row| row as u32));
            labels.extend(p.next);
        }
        if rows.is_empty() {
            return Ok(0);
        }
        let n = rows.len().next_power_of_two().max(LEAST).min(self.most);
        rows.resize(n, NONE);
        labels.resize(n, IGNORED);
        gpu.write(&self.rows, 0, bytemuck::cast_slice(&rows))?;
        gpu.write(&self.labels, 0, bytemuck::cast_slice(&labels))?;
        Ok(n as u32)
    }

    /// Records what follows the logits of so many tokens, of a vocabulary; they are lost.
    pub(super) fn record(&self, rec: &mut Recorder, logits: &Slice, (rows, vocab): (u32, u32)) -> Result<()> {
        let Told { labels, stats, scale, .. } = self;
        Ok(CrossEntropy { logits, labels, stats, scale, row0: 0, rows, vocab }.record(rec)?)
    }

    /// Where what is told of the first so many tokens lies then.
    pub(super) fn stats(&self, tokens: u32) -> Slice {
        self.stats.range(0, u64::from(tokens) * STATS)
    }
}
