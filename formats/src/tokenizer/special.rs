//! Cutting text at the tokens that stand for themselves: control and user-defined ones.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::trie::{NONE, ROOT, Trie};
use super::vocab::{TokenKind, Vocab};

/// A stretch of text still to be tokenized, or a token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fragment<'t> {
    Text(&'t str),
    Token(u32),
}

#[derive(Debug)]
struct Special {
    id: u32,
    len: usize,
    /// Only matched where the caller wants special tokens parsed.
    guarded: bool,
    /// White space after it belongs to it.
    rstrip: bool,
}

/// The special tokens of a vocabulary, longest first.
///
/// An automaton (Aho and Corasick 1975) over the reversed texts reads a text from its end and knows at each
/// byte which tokens start there. Its memory is proportional to the length of the tokens, its time to that
/// of the text.
#[derive(Debug)]
pub(super) struct Partitioner {
    specials: Vec<Special>,
    /// Reversed texts; values are indices of `specials`.
    trie: Trie,
    /// The node of the longest text that each node's ends in, without being it.
    fails: Vec<u32>,
    /// The nearest node at which a token ends, from each along `fails`, itself left out; or [`NONE`].
    shorter: Vec<u32>,
}

impl Partitioner {
    /// `rstrip` says which tokens take the white space that follows them.
    pub(super) fn new(vocab: &Vocab, rstrip: impl Fn(&str) -> bool) -> Partitioner {
        let mut specials: Vec<Special> = (0..vocab.len() as u32)
            .filter(|&id| {
                matches!(vocab.kind(id), TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown)
            })
            .filter(|&id| !vocab.text(id).is_empty() && vocab.id(vocab.text(id)) == Some(id))
            .map(|id| Special {
                id,
                len: vocab.text(id).len(),
                guarded: vocab.kind(id) != TokenKind::UserDefined,
                rstrip: rstrip(vocab.text(id)),
            })
            .collect();
        specials.sort_by_key(|s| Reverse(s.len));
        let reversed: Vec<Vec<u8>> =
            specials.iter().map(|s| vocab.text(s.id).bytes().rev().collect()).collect();
        let trie = Trie::new(reversed.iter().enumerate().map(|(i, t)| (&t[..], i as u32)));
        let mut fails = vec![ROOT; trie.len()];
        let mut shorter = vec![NONE; trie.len()];
        // Parents come before their children, and a node's fail is shorter than the node.
        for node in 0..trie.len() as u32 {
            for (byte, child) in trie.children(node) {
                let fail = if node == ROOT { ROOT } else { step(&trie, &fails, fails[node as usize], byte) };
                fails[child as usize] = fail;
                shorter[child as usize] =
                    if trie.value(fail) != NONE { fail } else { shorter[fail as usize] };
            }
        }
        Partitioner { specials, trie, fails, shorter }
    }

    /// The longest token that starts where `node` was reached, of those up to `limit` bytes; and its node.
    fn longest(&self, mut node: u32, limit: usize, parse_special: bool) -> Option<(u32, u32)> {
        loop {
            let rank = self.trie.value(node);
            if rank != NONE {
                let special = &self.specials[rank as usize];
                if special.len <= limit && (parse_special || !special.guarded) {
                    return Some((rank, node));
                }
            }
            node = self.shorter[node as usize];
            if node == NONE {
                return None;
            }
        }
    }

    /// Cuts `text` at its special tokens: each in turn, the longest first, takes all its
    /// occurrences in what the longer ones have left.
    pub(super) fn split<'t>(&self, text: &'t str, parse_special: bool) -> Vec<Fragment<'t>> {
        // The longest token at each place. A token that is taken can only shorten those that reach into it,
        // which are no longer than itself, so the heap sees at most two entries a byte.
        let mut waiting = Vec::new();
        let mut node = ROOT;
        for (at, byte) in text.bytes().enumerate().rev() {
            node = step(&self.trie, &self.fails, node, byte);
            if node != ROOT
                && let Some((rank, node)) = self.longest(node, usize::MAX, parse_special)
            {
                waiting.push(Reverse((rank, at, node)));
            }
        }
        let mut waiting = BinaryHeap::from(waiting);
        // Start to end and token of what is taken.
        let mut taken: BTreeMap<usize, (usize, u32)> = BTreeMap::new();
        while let Some(Reverse((rank, at, node))) = waiting.pop() {
            if taken.range(..=at).next_back().is_some_and(|(_, (end, _))| *end > at) {
                continue;
            }
            let next = taken.range(at..).next().map_or(text.len(), |(start, _)| *start);
            let special = &self.specials[rank as usize];
            if special.len > next - at {
                if let Some((rank, node)) = self.longest(node, next - at, parse_special) {
                    waiting.push(Reverse((rank, at, node)));
                }
                continue;
            }
            let mut end = at + special.len;
            if special.rstrip {
                let rest = &text[end..next];
                end = next - rest.trim_start_matches([' ', '\t', '\n', '\x0B', '\x0C', '\r']).len();
            }
            taken.insert(at, (end, special.id));
        }
        let mut fragments = Vec::with_capacity(2 * taken.len() + 1);
        let mut done = 0;
        for (start, (end, id)) in taken {
            if start > done {
                fragments.push(Fragment::Text(&text[done..start]));
            }
            fragments.push(Fragment::Token(id));
            done = end;
        }
        if done < text.len() {
            fragments.push(Fragment::Text(&text[done..]));
        }
        fragments
    }
}

/// The node of the longest text in the trie that what led to `node`, and then `byte`, ends in.
fn step(trie: &Trie, fails: &[u32], mut node: u32, byte: u8) -> u32 {
    loop {
        match trie.child(node, byte) {
            Some(child) => return child,
            None if node == ROOT => return ROOT,
            None => node = fails[node as usize],
        }
    }
}
