//! Pools of blocks of which slots have some, out of order.

use bytemuck::Zeroable;

use super::Rng;
use crate::layout::{BLOCK, CacheShape, CacheType, Pages, State, TOGETHER};
use crate::{PlanError, Result};
use weft_runtime::Budget;

/// Tokens of each slot that a mixed batch has at most.
pub(crate) const MIXED: u32 = 6;

/// The tables of slots.
pub(crate) struct Blocks {
    pages: Pages,
    /// By slot and block its place in its chunk.
    tables: Vec<Vec<u32>>,
}

impl Blocks {
    /// A pool in at least so many chunks for slots of so many positions, with a cache of that shape. Slots have the first
    /// `shared` blocks in common, as far as the last position of each lies behind them.
    pub(crate) fn new(
        (ty, kv_heads, head_dim): (CacheType, u32, u32),
        lengths: &[u32],
        (shared, chunks): (u32, u32),
        rng: &mut Rng,
        budget: &Budget,
    ) -> Result<(Blocks, CacheShape)> {
        let most = CacheShape::most_blocks(ty, kv_heads, head_dim, budget)?;
        let whole = |slot: usize, b: u32| lengths[slot] > (b + 1) * BLOCK;
        // The first blocks of all slots lie in the first chunk.
        let needed = lengths.iter().filter(|&&n| n > 0).count() as u32;
        if most < needed {
            let (needed, allowed) = (needed.into(), most.into());
            let what = "the blocks of slots";
            return Err(PlanError::DoesNotFit { op: "attention", what, needed, allowed }.into());
        }
        let owner = |slot: usize, b: u32| match b < shared && whole(slot, b) {
            true => (0..slot).find(|&s| whole(s, b)).unwrap_or(slot),
            false => slot,
        };
        let all = || {
            let of = |(slot, &n): (usize, &u32)| (0..n.div_ceil(BLOCK)).map(move |b| (slot, b));
            lengths.iter().enumerate().flat_map(of)
        };
        let needed =
            |chunk, chunks| all().filter(|&(s, b)| owner(s, b) == s && b % chunks == chunk).count() as u32;
        let per = |chunks| (0..chunks).map(|c| needed(c, chunks)).max().unwrap_or(0).max(1);
        let chunks = (chunks.max(1)..).find(|&n| per(n) <= most).expect("a block a chunk fits");
        let blocks = (per(chunks) + 2).min(most);
        let width = lengths.iter().max().map_or(1, |n| n.div_ceil(BLOCK)).max(1);
        let slots = lengths.len() as u32;
        // States of slots, of a piece, its slot; words that are nobody's; tokens of any slots, a few of each.
        let (piece, mixed) = (8 * slots, 8 * slots + 13);
        let table = mixed + 2 * MIXED.next_multiple_of(TOGETHER) * slots;
        let pages = Pages { blocks, chunks, slots, width, table, piece, mixed };
        let mut free: Vec<Vec<u32>> = (0..chunks)
            .map(|_| {
                let mut ids: Vec<u32> = (0..blocks).collect();
                (1..ids.len()).for_each(|i| ids.swap(i, rng.below(i + 1)));
                ids
            })
            .collect();
        // What is behind a slot's last block is some block's place.
        let mut tables = vec![vec![blocks - 1; width as usize]; lengths.len()];
        for (slot, b) in all() {
            let of = owner(slot, b);
            tables[slot][b as usize] = match of == slot {
                true => free[(b % chunks) as usize].pop().expect("enough"),
                false => tables[of][b as usize],
            };
        }
        let cache = CacheShape::paged(ty, kv_heads, head_dim, pages, budget)?;
        Ok((Blocks { pages, tables }, cache))
    }

    /// The same for one sequence, in slot 1, whose blocks lie between those of two others where a chunk holds so many.
    pub(crate) fn among(
        kind: (CacheType, u32, u32),
        length: u32,
        chunks: u32,
        rng: &mut Rng,
        budget: &Budget,
    ) -> Result<(Blocks, CacheShape)> {
        let (ty, kv_heads, head_dim) = kind;
        let others = CacheShape::most_blocks(ty, kv_heads, head_dim, budget)? >= 3;
        let lengths = if others { [70, length, 33] } else { [0, length, 0] };
        Blocks::new(kind, &lengths, (0, chunks), rng, budget)
    }

    /// Gives away the blocks of a slot that lie wholly before a position: the table names another's.
    pub(crate) fn release(&mut self, slot: usize, position: u32) {
        let last = self.tables[slot].last().copied().unwrap_or(0);
        self.tables[slot].iter_mut().take((position / BLOCK) as usize).for_each(|place| *place = last);
    }

    /// The place of a slot's position among those of all chunks.
    pub(crate) fn place(&self, slot: usize, position: u32) -> usize {
        let b = position / BLOCK;
        let first = b % self.pages.chunks * self.pages.positions();
        (first + self.tables[slot][b as usize] * BLOCK + position % BLOCK) as usize
    }

    /// The words of the state buffer, with a piece at a position of a slot.
    pub(crate) fn words(&self, positions: &[u32], (piece, slot): (u32, u32)) -> Vec<u32> {
        let state = |&position: &u32| State { position, ..State::zeroed() };
        let states: Vec<State> = positions.iter().chain([&piece]).map(state).collect();
        let mut words: Vec<u32> = bytemuck::cast_slice(&states).to_vec();
        words.push(slot);
        words.resize(self.pages.table as usize, 77);
        words.extend(self.tables.iter().flatten());
        words
    }

    /// The same with a mixed batch of these slots and positions.
    pub(crate) fn words_mixed(&self, tokens: &[(usize, u32)]) -> Vec<u32> {
        let mut words = self.words(&[], (77, 0));
        let to = words[self.pages.mixed as usize..].chunks_exact_mut(2);
        for (to, &(slot, position)) in to.zip(tokens) {
            to.copy_from_slice(&[position, slot as u32]);
        }
        words
    }
}
