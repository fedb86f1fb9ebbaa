//! Merging of adjacent symbols, best pair first: the core of both kinds of BPE.
//!
//! Symbols form a linked list and candidate pairs a heap, so n symbols take O(n log n)
//! whatever the text.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

pub(super) const NONE: u32 = u32::MAX;

/// One symbol: bytes `start..end` of the word, a token id or [`NONE`], and its neighbours.
/// A symbol merged into its left neighbour has `start == end`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Symbol {
    pub(super) id: u32,
    pub(super) start: u32,
    pub(super) end: u32,
    prev: u32,
    next: u32,
}

struct Pair {
    /// Smaller merges first.
    key: u32,
    left: u32,
    right: u32,
    end: u32,
    id: u32,
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        // BinaryHeap pops the greatest: the smallest key, then the leftmost.
        other.key.cmp(&self.key).then(other.left.cmp(&self.left))
    }
}
impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Pair {}

/// Working memory, kept between words.
#[derive(Default)]
pub(super) struct Merger {
    symbols: Vec<Symbol>,
    heap: BinaryHeap<Pair>,
}

impl Merger {
    /// Starts a word.
    pub(super) fn clear(&mut self) {
        self.symbols.clear();
        self.heap.clear();
    }

    /// Adds the next symbol, ending at byte `end` of the word (positions fit 32 bits).
    pub(super) fn push(&mut self, id: u32, end: u32) {
        let i = self.symbols.len() as u32;
        let start = self.symbols.last().map_or(0, |s| s.end);
        if let Some(last) = self.symbols.last_mut() {
            last.next = i;
        }
        self.symbols.push(Symbol { id, start, end, prev: i.wrapping_sub(1), next: NONE });
    }

    /// Merges until `pair(left, right)` knows no more pairs. It gives the order (smaller
    /// first) and the merged token.
    pub(super) fn run(&mut self, pair: impl Fn(&Symbol, &Symbol) -> Option<(u32, u32)>) {
        for i in 1..self.symbols.len() as u32 {
            self.consider(i - 1, i, &pair);
        }
        while let Some(p) = self.heap.pop() {
            let (l, r) = (self.symbols[p.left as usize], self.symbols[p.right as usize]);
            // Out of date: one of the two went into another symbol, or grew.
            if l.start == l.end || r.start == r.end || l.next != p.right || r.end != p.end {
                continue;
            }
            self.symbols[p.right as usize].start = r.end;
            let left = &mut self.symbols[p.left as usize];
            (left.id, left.end, left.next) = (p.id, r.end, r.next);
            if r.next != NONE {
                self.symbols[r.next as usize].prev = p.left;
            }
            if l.prev != NONE {
                self.consider(l.prev, p.left, &pair);
            }
            if r.next != NONE {
                self.consider(p.left, r.next, &pair);
            }
        }
    }

    fn consider(&mut self, left: u32, right: u32, pair: &impl Fn(&Symbol, &Symbol) -> Option<(u32, u32)>) {
        let (l, r) = (&self.symbols[left as usize], &self.symbols[right as usize]);
        if let Some((key, id)) = pair(l, r) {
            self.heap.push(Pair { key, left, right, end: r.end, id });
        }
    }

    /// What is left, in order.
    pub(super) fn result(&self) -> impl Iterator<Item = &Symbol> {
        self.symbols.iter().filter(|s| s.start != s.end)
    }
}
