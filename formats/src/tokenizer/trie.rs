//! Texts of a vocabulary by their bytes, in memory proportional to their length.

/// No token ends at this node.
pub(super) const NONE: u32 = u32::MAX;

/// Where a walk starts.
pub(super) const ROOT: u32 = 0;

/// A trie whose nodes lie level by level, so that the children of one follow those of the one before.
pub(super) struct Trie {
    /// The byte that leads to each node.
    labels: Vec<u8>,
    /// The first child of each node, and one more: the end of the last.
    children: Vec<u32>,
    /// The value of the text that ends at each node, or [`NONE`].
    values: Vec<u32>,
}

impl std::fmt::Debug for Trie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trie({} nodes)", self.len())
    }
}

impl Trie {
    /// `texts` with their values; of equal texts the first counts. No text is empty, and all together are
    /// shorter than 2^32 bytes.
    pub(super) fn new<'t>(texts: impl Iterator<Item = (&'t [u8], u32)>) -> Trie {
        let mut texts: Vec<(&[u8], u32)> = texts.collect();
        texts.sort_by_key(|t| t.0);
        let mut trie = Trie { labels: vec![0], children: Vec::new(), values: vec![NONE] };
        // The texts that go through each node, and how many of their bytes led there.
        let mut ranges = vec![(0u32, texts.len() as u32, 0u32)];
        let mut node = 0;
        while let Some(&(start, end, depth)) = ranges.get(node) {
            trie.children.push(ranges.len() as u32);
            let byte = |i: u32| texts[i as usize].0.get(depth as usize).copied();
            let mut at = start;
            while at < end {
                let Some(label) = byte(at) else {
                    // Shorter texts come first: this one ends here.
                    if trie.values[node] == NONE {
                        trie.values[node] = texts[at as usize].1;
                    }
                    at += 1;
                    continue;
                };
                let first = at;
                while at < end && byte(at) == Some(label) {
                    at += 1;
                }
                trie.labels.push(label);
                trie.values.push(NONE);
                ranges.push((first, at, depth + 1));
            }
            node += 1;
        }
        trie.children.push(ranges.len() as u32);
        trie
    }

    /// How many nodes there are; a child has a larger number than its parent.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The children of `node`, each with its byte.
    pub(super) fn children(&self, node: u32) -> impl Iterator<Item = (u8, u32)> {
        let all = self.children[node as usize]..self.children[node as usize + 1];
        all.map(|c| (self.labels[c as usize], c))
    }

    /// The child of `node` that `byte` leads to.
    pub(super) fn child(&self, node: u32, byte: u8) -> Option<u32> {
        let (first, end) = (self.children[node as usize], self.children[node as usize + 1]);
        let labels = &self.labels[first as usize..end as usize];
        let at = match labels.len() {
            0..=8 => labels.iter().position(|l| *l == byte)?,
            _ => labels.binary_search(&byte).ok()?,
        };
        Some(first + at as u32)
    }

    /// The value of the text that ends at `node`, or [`NONE`].
    pub(super) fn value(&self, node: u32) -> u32 {
        self.values[node as usize]
    }

    /// Tells `found` every text that `bytes` begin with, from `node` on: its length and its value, the
    /// shortest first.
    pub(super) fn prefixes(&self, mut node: u32, bytes: &[u8], mut found: impl FnMut(usize, u32)) {
        for (i, byte) in bytes.iter().enumerate() {
            match self.child(node, *byte) {
                Some(child) => node = child,
                None => return,
            }
            if self.value(node) != NONE {
                found(i + 1, self.value(node));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_is_found_once() {
        let texts = ["a", "ab", "abc", "b", "bca", "ab", "é"];
        let trie = Trie::new(texts.iter().enumerate().map(|(i, t)| (t.as_bytes(), i as u32)));
        let found = |text: &str| {
            let mut all = Vec::new();
            trie.prefixes(ROOT, text.as_bytes(), |len, value| all.push((len, value)));
            all
        };
        assert_eq!(found("abcd"), [(1, 0), (2, 1), (3, 2)]);
        assert_eq!(found("bc"), [(1, 3)]);
        assert_eq!((found("ét"), found("xa"), found("")), (vec![(2, 6)], vec![], vec![]));
        assert_eq!(trie.len(), 1 + 3 + 3 + 2);
    }
}
