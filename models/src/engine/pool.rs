//! Who has which block of the cache. Blocks that hold the keys and values of the same tokens, behind the same tokens, are
//! one; those that nobody has are kept by name until their memory is needed, the least recently used first.
//!
//! Layers fall into groups by what they see: all positions, or a window. A group has a pool, and each sequence a table in
//! it, whose entry b is the block of positions `b * BLOCK ..`. Where a pool exceeds a binding it lies in several chunks,
//! and entry b is of chunk `b % chunks`, for all sequences. Tables of windows have holes where blocks are behind.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};

/// The pool of a group of layers, as a device has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group {
    /// Positions that a token sees; 0 for all.
    pub(super) window: u32,
    /// Chunks of the pool.
    pub(super) chunks: u32,
    /// Blocks of a chunk.
    pub(super) blocks: u32,
}

/// The number of an adapter, and its strength.
pub(super) type Adapted = (usize, f32);

/// What a block is named by: the tokens of it and of all before it, and whose they are.
type Name = u128;

#[derive(Debug, Default, Clone)]
struct Block {
    /// Sequences that have it.
    refs: u32,
    name: Option<Name>,
    /// When it was let go.
    freed: u64,
}

#[derive(Debug, Default)]
struct Chunk {
    blocks: Vec<Block>,
    free: Vec<u32>,
    /// Blocks with a name that nobody has, the least recently used first.
    kept: BTreeSet<(u64, u32)>,
}

#[derive(Debug)]
struct Pool {
    window: usize,
    chunks: Vec<Chunk>,
    named: HashMap<Name, (u32, u32)>,
}

impl Pool {
    fn new(g: &Group) -> Pool {
        let chunk = || Chunk {
            blocks: vec![Block::default(); g.blocks as usize],
            free: (0..g.blocks).rev().collect(),
            kept: BTreeSet::new(),
        };
        Pool {
            window: g.window as usize,
            chunks: (0..g.chunks).map(|_| chunk()).collect(),
            named: HashMap::new(),
        }
    }

    fn chunk_of(&self, entry: usize) -> usize {
        entry % self.chunks.len()
    }

    fn available(&self, chunk: usize) -> usize {
        self.chunks[chunk].free.len() + self.chunks[chunk].kept.len()
    }

    fn take(&mut self, chunk: usize) -> Option<u32> {
        let c = &mut self.chunks[chunk];
        let id = c.free.pop().or_else(|| {
            let (_, id) = c.kept.pop_first()?;
            let name = c.blocks[id as usize].name.take().expect("kept by its name");
            self.named.remove(&name);
            Some(id)
        })?;
        c.blocks[id as usize].refs = 1;
        Some(id)
    }

    fn share(&mut self, name: Name) -> Option<u32> {
        let &(chunk, id) = self.named.get(&name)?;
        let c = &mut self.chunks[chunk as usize];
        let block = &mut c.blocks[id as usize];
        if block.refs == 0 {
            c.kept.remove(&(block.freed, id));
        }
        block.refs += 1;
        Some(id)
    }

    fn release(&mut self, chunk: usize, id: u32, now: u64) {
        let c = &mut self.chunks[chunk];
        let block = &mut c.blocks[id as usize];
        block.refs -= 1;
        if block.refs > 0 {
            return;
        }
        if block.name.is_some() {
            block.freed = now;
            c.kept.insert((now, id));
        } else {
            c.free.push(id);
        }
    }

    fn name(&mut self, chunk: usize, id: u32, name: Name) {
        let block = &mut self.chunks[chunk].blocks[id as usize];
        if block.name.is_none() && !self.named.contains_key(&name) {
            block.name = Some(name);
            self.named.insert(name, (chunk as u32, id));
        }
    }

    fn forget(&mut self, chunk: usize, id: u32) {
        if let Some(name) = self.chunks[chunk].blocks[id as usize].name.take() {
            self.named.remove(&name);
        }
    }

    /// The first entry that a token at `position` sees.
    fn first_entry(&self, position: usize, block: usize) -> usize {
        if self.window == 0 { 0 } else { (position + 1).saturating_sub(self.window) / block }
    }
}

/// What a sequence has of the pools.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// By group, the ids of its blocks.
    tables: Vec<Vec<Option<u32>>>,
    /// Hashes of its full blocks, as far as they were asked for.
    names: Vec<Name>,
    /// How many of its blocks have been named.
    named: usize,
    salt: Name,
    /// Entries that were found in the cache.
    found: usize,
}

impl Sequence {
    /// The blocks that it has of a group's pool: (entry, id).
    #[cfg_attr(target_arch = "wasm32", allow(dead_code))] // for prefix.rs
    pub(super) fn entries(&self, group: usize) -> impl Iterator<Item = (usize, u32)> {
        self.tables[group].iter().enumerate().filter_map(|(e, id)| Some((e, (*id)?)))
    }

    /// Counts what was found in the cache as what was computed: [`Blocks::forget`] takes the names of all.
    pub(super) fn distrust(&mut self) {
        self.found = 0;
    }
}

/// Entries of a table that changed: group, first entry, ids.
pub(super) type Change = (usize, usize, Vec<u32>);

/// The pools of all groups.
#[derive(Debug)]
pub(super) struct Blocks {
    pools: Vec<Pool>,
    /// Positions of a block.
    block: usize,
    now: u64,
    hashers: [RandomState; 2],
}

impl Blocks {
    pub(super) fn new(groups: &[Group], block: usize) -> Blocks {
        let pools = groups.iter().map(Pool::new).collect();
        Blocks { pools, block, now: 0, hashers: [RandomState::new(), RandomState::new()] }
    }

    /// Positions of a block.
    #[cfg_attr(target_arch = "wasm32", allow(dead_code))] // for prefix.rs
    pub(super) fn block(&self) -> usize {
        self.block
    }

    /// What the layers of each pool see, 0 for all positions.
    #[cfg_attr(target_arch = "wasm32", allow(dead_code))] // for prefix.rs
    pub(super) fn windows(&self) -> impl Iterator<Item = usize> {
        self.pools.iter().map(|p| p.window)
    }

    /// The chunk of a pool in which an entry of each table lies.
    #[cfg_attr(target_arch = "wasm32", allow(dead_code))] // for prefix.rs
    pub(super) fn chunk_of(&self, group: usize, entry: usize) -> usize {
        self.pools[group].chunk_of(entry)
    }

    /// The most positions that one sequence can have.
    pub(super) fn most_positions(&self) -> usize {
        let of = |p: &Pool| p.chunks.len() * p.chunks[0].blocks.len() * self.block;
        self.pools.iter().filter(|p| p.window == 0).map(of).min().unwrap_or(usize::MAX)
    }

    fn names(&self, seq: &mut Sequence, tokens: &[u32], entries: usize) {
        for e in seq.names.len()..entries {
            let before = seq.names.last().copied().unwrap_or(seq.salt);
            let piece = &tokens[e * self.block..(e + 1) * self.block];
            let [a, b] = [0, 1].map(|i| u128::from(self.hashers[i].hash_one((before, e, piece))));
            seq.names.push(a << 64 | b);
        }
    }

    /// What tells the blocks of those apart who have a salt and adapters.
    pub(super) fn salt(&self, salt: u64, adapters: &[Adapted]) -> Name {
        if adapters.is_empty() {
            return salt.into();
        }
        let adapters: Vec<_> =
            adapters.iter().map(|(number, strength)| (number, strength.to_bits())).collect();
        let [a, b] = [0, 1].map(|i| u128::from(self.hashers[i].hash_one((salt, &adapters))));
        a << 64 | b
    }

    /// A sequence that has the blocks of as much of `tokens` as is in the cache, but not of the last token, which has to
    /// be computed; how many tokens these are; and the entries of its tables.
    pub(super) fn open(&mut self, tokens: &[u32], salt: Name) -> (Sequence, usize, Vec<Change>) {
        self.find(tokens, (tokens.len() - 1) / self.block, salt)
    }

    /// As [`Blocks::open`], of the blocks of no more than the first `most` tokens.
    pub(super) fn open_before(
        &mut self,
        tokens: &[u32],
        most: usize,
        salt: Name,
    ) -> (Sequence, usize, Vec<Change>) {
        self.find(tokens, most / self.block, salt)
    }

    /// As [`Blocks::open`], with the block of the last token where that is full.
    #[cfg_attr(target_arch = "wasm32", allow(dead_code))] // for prefix.rs
    pub(super) fn held(&mut self, tokens: &[u32], salt: Name) -> (Sequence, usize) {
        let (seq, found, _) = self.find(tokens, tokens.len() / self.block, salt);
        (seq, found)
    }

    /// A sequence that has as many of the first `most` blocks of `tokens` as are in the cache.
    fn find(&mut self, tokens: &[u32], most: usize, salt: Name) -> (Sequence, usize, Vec<Change>) {
        let mut seq = Sequence { tables: vec![Vec::new(); self.pools.len()], salt, ..Sequence::default() };
        // Without pools there is nothing to be found.
        let most = if self.pools.is_empty() { 0 } else { most };
        self.names(&mut seq, tokens, most);
        let has = |p: &Pool, e: usize| p.named.contains_key(&seq.names[e]);
        let whole = |n: &usize| self.pools.iter().filter(|p| p.window == 0).all(|p| has(p, *n));
        let whole = (0..most).take_while(whole).count();
        // With a window the blocks that the next token sees are enough.
        let windows = |&n: &usize| {
            let needed = |p: &Pool| (p.first_entry(n * self.block, self.block)..n).all(|e| has(p, e));
            self.pools.iter().filter(|p| p.window > 0).all(needed)
        };
        let found = (0..=whole).rev().find(windows).unwrap_or(0);
        let mut changes = Vec::new();
        for (g, pool) in self.pools.iter_mut().enumerate() {
            let first = pool.first_entry(found * self.block, self.block).min(found);
            let ids: Vec<u32> =
                (first..found).map(|e| pool.share(seq.names[e]).expect("it was there")).collect();
            seq.tables[g] = vec![None; first];
            seq.tables[g].extend(ids.iter().copied().map(Some));
            if !ids.is_empty() {
                changes.push((g, first, ids));
            }
        }
        seq.named = found;
        seq.found = found;
        (seq, found * self.block, changes)
    }

    /// Gives a sequence, of which the first `from` tokens are computed, the blocks behind them that are in the cache by
    /// now, of no more than the first `most` tokens, in place of its own; how many tokens are computed then, and the
    /// entries of its tables that changed.
    pub(super) fn catch_up(
        &mut self,
        seq: &mut Sequence,
        tokens: &[u32],
        from: usize,
        most: usize,
    ) -> (usize, Vec<Change>) {
        let (first, most) = (from / self.block, most / self.block);
        // Without pools there is nothing to be found.
        if self.pools.is_empty() || most <= first {
            return (from, Vec::new());
        }
        self.names(seq, tokens, most);
        let has = |e: &usize| self.pools.iter().all(|p| p.named.contains_key(&seq.names[*e]));
        let found = first + (first..most).take_while(has).count();
        if found == first {
            return (from, Vec::new());
        }
        let mut changes = Vec::new();
        for (g, (pool, table)) in self.pools.iter_mut().zip(&mut seq.tables).enumerate() {
            table.resize(table.len().max(found), None);
            let mut ids = Vec::new();
            for (e, entry) in table.iter_mut().enumerate().take(found).skip(first) {
                let id = pool.share(seq.names[e]).expect("it is there");
                if let Some(own) = entry.replace(id) {
                    pool.release(pool.chunk_of(e), own, self.now);
                }
                ids.push(id);
            }
            changes.push((g, first, ids));
        }
        seq.named = seq.named.max(found);
        if seq.found == first {
            seq.found = found;
        }
        (found * self.block, changes)
    }

    /// Makes sure that a sequence has blocks for what tokens at `from..to` write and see; all of them or none. None where
    /// a pool has too few left.
    pub(super) fn grow(&mut self, seq: &mut Sequence, from: usize, to: usize) -> Option<Vec<Change>> {
        self.take(seq, from, to, |_| true)
    }

    /// As [`Blocks::grow`], in the groups that see all positions: so much a prompt keeps to its end.
    pub(super) fn reserve(&mut self, seq: &mut Sequence, from: usize, to: usize) -> Option<Vec<Change>> {
        self.take(seq, from, to, |p| p.window == 0)
    }

    fn take(
        &mut self,
        seq: &mut Sequence,
        from: usize,
        to: usize,
        which: impl Fn(&Pool) -> bool,
    ) -> Option<Vec<Change>> {
        let entries = to.div_ceil(self.block);
        for (pool, table) in self.pools.iter().zip(&seq.tables).filter(|(p, _)| which(p)) {
            let first = table.len().max(pool.first_entry(from, self.block));
            let mut needed = vec![0; pool.chunks.len()];
            (first..entries).for_each(|e| needed[pool.chunk_of(e)] += 1);
            if needed.iter().enumerate().any(|(c, &n)| n > pool.available(c)) {
                return None;
            }
        }
        let mut changes = Vec::new();
        for (g, (pool, table)) in self.pools.iter_mut().zip(&mut seq.tables).enumerate() {
            if !which(pool) {
                continue;
            }
            let first = table.len().max(pool.first_entry(from, self.block));
            table.resize(table.len().max(first.min(entries)), None);
            let start = table.len();
            for e in start..entries {
                let chunk = pool.chunk_of(e);
                table.push(Some(pool.take(chunk).expect("counted before")));
            }
            if table.len() > start {
                changes.push((g, start, table[start..].iter().flatten().copied().collect()));
            }
        }
        Some(changes)
    }

    /// Lets go what no token from `position` on sees.
    pub(super) fn leave_behind(&mut self, seq: &mut Sequence, position: usize) {
        self.now += 1;
        for (pool, table) in self.pools.iter_mut().zip(&mut seq.tables) {
            let end = pool.first_entry(position, self.block).min(table.len());
            for e in (0..end).rev() {
                let Some(id) = table[e].take() else { break };
                pool.release(pool.chunk_of(e), id, self.now);
            }
        }
    }

    /// Says that the first `computed` tokens of a sequence have their keys and values: full blocks get their names.
    pub(super) fn computed(&mut self, seq: &mut Sequence, tokens: &[u32], computed: usize) {
        let entries = computed.min(tokens.len()) / self.block;
        self.names(seq, tokens, entries);
        for e in seq.named..entries {
            for (pool, table) in self.pools.iter_mut().zip(&seq.tables) {
                if let Some(Some(id)) = table.get(e) {
                    pool.name(pool.chunk_of(e), *id, seq.names[e]);
                }
            }
        }
        seq.named = seq.named.max(entries);
    }

    /// Takes the names from the blocks that a sequence did not find in the cache: what they hold is not to be used.
    pub(super) fn forget(&mut self, seq: &Sequence) {
        for (pool, table) in self.pools.iter_mut().zip(&seq.tables) {
            for (e, id) in table.iter().enumerate().skip(seq.found) {
                if let Some(id) = id {
                    pool.forget(pool.chunk_of(e), *id);
                }
            }
        }
    }

    /// Lets go all blocks of a sequence, so that the last are the first to be used again.
    pub(super) fn close(&mut self, seq: Sequence) {
        for (pool, table) in self.pools.iter_mut().zip(&seq.tables) {
            for (e, id) in table.iter().enumerate().rev() {
                self.now += 1;
                if let Some(id) = id {
                    pool.release(pool.chunk_of(e), *id, self.now);
                }
            }
        }
    }

    /// Blocks that sequences have, and all there are, of the pools together.
    pub(super) fn used(&self) -> (usize, usize) {
        let all = |p: &Pool| p.chunks.iter().map(|c| c.blocks.len()).sum::<usize>();
        let free = |p: &Pool| (0..p.chunks.len()).map(|c| p.available(c)).sum::<usize>();
        let total: usize = self.pools.iter().map(all).sum();
        (total - self.pools.iter().map(free).sum::<usize>(), total)
    }
}

#[cfg(test)]
mod tests {
    use super::{Blocks, Group};

    const FULL: Group = Group { window: 0, chunks: 1, blocks: 8 };

    #[test]
    fn what_was_computed_is_found_and_only_that() {
        let mut b = Blocks::new(&[FULL], 4);
        let tokens: Vec<u32> = (0..14).collect();
        let (mut seq, cached, changes) = b.open(&tokens, 7);
        assert_eq!((cached, changes.len()), (0, 0));
        assert_eq!(b.grow(&mut seq, 0, 14).unwrap()[0].2.len(), 4);
        b.computed(&mut seq, &tokens, 9);
        // While it is still there, and after it is gone.
        for _ in 0..2 {
            let (other, cached, changes) = b.open(&tokens, 7);
            assert_eq!((cached, changes[0].2.len()), (8, 2));
            b.close(other);
            let (stranger, cached, _) = b.open(&tokens, 8);
            assert_eq!(cached, 0, "another salt");
            b.close(stranger);
            b.close(std::mem::take(&mut seq));
            seq.tables = vec![Vec::new()];
        }
        // The last token has to be computed, though its block is there.
        let (other, cached, _) = b.open(&tokens[..8], 7);
        assert_eq!(cached, 4);
        b.close(other);
        assert_eq!(b.used(), (0, 8));
    }

    #[test]
    fn blocks_run_out_and_the_least_recently_used_go_first() {
        let mut b = Blocks::new(&[FULL], 4);
        let prompt = |n: u32| (0..9).map(|i| 100 * n + i).collect::<Vec<u32>>();
        for n in 0..3 {
            let (mut seq, ..) = b.open(&prompt(n), 0);
            assert!(b.grow(&mut seq, 0, 9).is_some());
            b.computed(&mut seq, &prompt(n), 9);
            b.close(seq);
        }
        // 3 x 2 blocks are kept by name; the third prompt's last block took a free one.
        let found = |b: &mut Blocks, n| {
            let (seq, cached, _) = b.open(&prompt(n), 0);
            b.close(seq);
            cached
        };
        assert_eq!([0, 1, 2].map(|n| found(&mut b, n)), [8, 8, 8]);
        let (mut big, ..) = b.open(&(900..930).collect::<Vec<u32>>(), 0);
        assert!(b.grow(&mut big, 0, 40).is_none(), "ten blocks of eight");
        assert!(b.grow(&mut big, 0, 20).is_some());
        // Two were free, the tail and then the head of the oldest prompt went, and the tail of the next.
        assert_eq!([0, 1, 2].map(|n| found(&mut b, n)), [0, 4, 8]);
        b.close(big);
        assert_eq!(b.used(), (0, 8));
    }

    #[test]
    fn windows_let_go_and_are_found_by_their_last_blocks() {
        let groups = [FULL, Group { window: 5, chunks: 2, blocks: 2 }];
        let mut b = Blocks::new(&groups, 4);
        let tokens: Vec<u32> = (0..29).collect();
        let (mut seq, ..) = b.open(&tokens, 0);
        for from in (0..28).step_by(4) {
            assert!(b.grow(&mut seq, from, from + 4).is_some(), "at {from}");
            b.computed(&mut seq, &tokens, from + 4);
            b.leave_behind(&mut seq, from + 4);
        }
        b.close(seq);
        assert_eq!(b.used().0, 0);
        // The window's pool holds 4 blocks: the last of the prompt. The first 12 tokens are not found there.
        let (seq, cached, changes) = b.open(&tokens, 0);
        assert_eq!(cached, 28);
        assert_eq!(changes[1].1, 6, "only what the next token sees");
        b.close(seq);
        let (seq, cached, _) = b.open(&tokens[..13], 0);
        assert_eq!(cached, 0);
        b.close(seq);
    }

    /// Two that begin alike at the same time: what one computes, the other takes in place of its own blocks, the one that
    /// it had begun among them, and lets those go.
    #[test]
    fn what_others_compute_meanwhile_is_found() {
        let groups = [FULL, Group { window: 5, chunks: 2, blocks: 4 }];
        let mut b = Blocks::new(&groups, 4);
        let tokens: Vec<u32> = (0..14).collect();
        let open = |b: &mut Blocks| {
            let (mut seq, cached, _) = b.open(&tokens, 0);
            assert_eq!(cached, 0);
            b.grow(&mut seq, 0, 2).unwrap();
            b.reserve(&mut seq, 0, 14).unwrap();
            seq
        };
        let (mut one, mut two) = (open(&mut b), open(&mut b));
        assert_eq!(b.catch_up(&mut two, &tokens, 2, 13), (2, Vec::new()));
        b.grow(&mut one, 2, 13).unwrap();
        b.computed(&mut one, &tokens, 13);
        let (before, _) = b.used();
        let (computed, changes) = b.catch_up(&mut two, &tokens, 2, 9);
        assert_eq!(computed, 8, "whole blocks before the ninth token");
        let same = |g: usize| one.entries(g).take(2).eq(two.entries(g).take(2));
        assert!(same(0) && same(1));
        assert_eq!(changes.iter().map(|c| (c.0, c.1, c.2.len())).collect::<Vec<_>>(), [(0, 0, 2), (1, 0, 2)]);
        assert_eq!(b.used().0, before - 3, "two of its blocks for all positions, and one of the window's");
        b.close(one);
        b.close(two);
        assert_eq!(b.used().0, 0);
    }

    #[test]
    fn what_is_forgotten_is_not_found() {
        let mut b = Blocks::new(&[FULL], 4);
        let tokens: Vec<u32> = (0..9).collect();
        let (mut first, ..) = b.open(&tokens[..5], 0);
        b.grow(&mut first, 0, 5).unwrap();
        b.computed(&mut first, &tokens, 5);
        let (mut seq, cached, _) = b.open(&tokens, 0);
        assert_eq!(cached, 4);
        b.grow(&mut seq, 4, 9).unwrap();
        b.computed(&mut seq, &tokens, 9);
        b.forget(&seq);
        b.close(seq);
        let (seq, cached, _) = b.open(&tokens, 0);
        assert_eq!(cached, 4, "what was found before stays");
        b.close(seq);
        b.close(first);
        assert_eq!(b.used().0, 0);
    }
}
