//! Cutting text at the tokens that stand for themselves: control and user-defined ones.

use aho_corasick::AhoCorasick;

use super::vocab::{Kind, Vocab};

/// A stretch of text still to be tokenized, or a token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fragment<'t> {
    Text(&'t str),
    Token(u32),
}

#[derive(Debug)]
struct Special {
    id: u32,
    text: String,
    /// Only matched where the caller wants special tokens parsed.
    guarded: bool,
    /// White space after it belongs to it.
    rstrip: bool,
}

/// The special tokens of a vocabulary, longest first.
#[derive(Debug)]
pub(super) struct Partitioner {
    specials: Vec<Special>,
    /// Finds which of them occur at all, in one sweep whatever their number.
    finder: AhoCorasick,
}

impl Partitioner {
    /// `rstrip` says which tokens take the white space that follows them.
    pub(super) fn new(
        vocab: &Vocab,
        rstrip: impl Fn(&str) -> bool,
    ) -> Result<Self, aho_corasick::BuildError> {
        let mut specials: Vec<Special> = (0..vocab.len() as u32)
            .filter(|&id| matches!(vocab.kind(id), Kind::Control | Kind::UserDefined | Kind::Unknown))
            .filter(|&id| !vocab.text(id).is_empty() && vocab.id(vocab.text(id)) == Some(id))
            .map(|id| Special {
                id,
                text: vocab.text(id).to_string(),
                guarded: vocab.kind(id) != Kind::UserDefined,
                rstrip: rstrip(vocab.text(id)),
            })
            .collect();
        specials.sort_by_key(|s| std::cmp::Reverse(s.text.len()));
        let finder = AhoCorasick::new(specials.iter().map(|s| &s.text))?;
        Ok(Partitioner { specials, finder })
    }

    /// Cuts `text` at its special tokens: each in turn, the longest first, takes all its
    /// occurrences in what the longer ones have left.
    pub(super) fn split<'t>(&self, text: &'t str, parse_special: bool) -> Vec<Fragment<'t>> {
        let mut fragments = vec![Fragment::Text(text)];
        let mut present = vec![false; self.specials.len()];
        let mut missing = present.len();
        for m in self.finder.find_overlapping_iter(text) {
            if missing == 0 {
                break;
            }
            missing -= usize::from(!std::mem::replace(&mut present[m.pattern().as_usize()], true));
        }
        for (special, _) in
            self.specials.iter().zip(present).filter(|&(s, p)| p && (parse_special || !s.guarded))
        {
            let mut next = Vec::with_capacity(fragments.len() + 2);
            for fragment in fragments {
                match fragment {
                    Fragment::Text(t) => special.cut(t, &mut next),
                    token => next.push(token),
                }
            }
            fragments = next;
        }
        fragments.retain(|f| *f != Fragment::Text(""));
        fragments
    }
}

impl Special {
    fn cut<'t>(&self, mut text: &'t str, out: &mut Vec<Fragment<'t>>) {
        while let Some(at) = text.find(&self.text) {
            if at > 0 {
                out.push(Fragment::Text(&text[..at]));
            }
            out.push(Fragment::Token(self.id));
            text = &text[at + self.text.len()..];
            if self.rstrip {
                text = text.trim_start_matches([' ', '\t', '\n', '\x0B', '\x0C', '\r']);
            }
        }
        if !text.is_empty() {
            out.push(Fragment::Text(text));
        }
    }
}
