//! WordPiece (`tokenizer.ggml.model` = `bert`): the longest piece from the left of each word (Wu et al.
//! 2016; google-research/bert, `tokenization.py`).
//!
//! GGUF marks the pieces that start a word with `▁` where vocab.txt marks the others with `##`.

use unicode_normalization::UnicodeNormalization;

use super::trie::{ROOT, Trie};
use super::unicode::{MARKS, OTHER, PUNCTUATION};
use super::vocab::{TokenKind, Vocab};
use super::{Error, flag};
use crate::gguf::Metadata;

/// Characters of the longest word that is cut into pieces; a longer one is unknown.
const MAX_WORD: usize = 100;

/// What a piece starts with that starts a word.
const START: &str = "▁";

#[derive(Debug)]
pub(super) struct WordPiece {
    pieces: Trie,
    /// Where a word's walk starts: behind [`START`]. `None` where no piece starts a word.
    start: Option<u32>,
    lowercase: bool,
    strip_accents: bool,
}

impl WordPiece {
    pub(super) fn from_metadata(meta: &Metadata, vocab: &Vocab) -> Result<WordPiece, Error> {
        let ids = (0..vocab.len() as u32)
            .filter(|&id| !matches!(vocab.kind(id), TokenKind::Control | TokenKind::Unknown))
            .filter(|&id| !vocab.text(id).is_empty());
        let pieces = Trie::new(ids.map(|id| (vocab.text(id).as_bytes(), id)));
        let start = START.bytes().try_fold(ROOT, |node, byte| pieces.child(node, byte));
        let lowercase = flag(meta, "tokenizer.ggml.normalizer.lowercase")?.unwrap_or(true);
        let strip_accents = flag(meta, "tokenizer.ggml.normalizer.strip_accents")?.unwrap_or(lowercase);
        Ok(WordPiece { pieces, start, lowercase, strip_accents })
    }

    /// Appends the ids of `text`, which holds no special tokens. A word that the pieces do not cover becomes
    /// the unknown token, or nothing where there is none.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, out: &mut Vec<u32>) {
        let kept = text
            .chars()
            .filter(|&c| matches!(c, '\t' | '\n' | '\r') || !(c == '\0' || c == '\u{FFFD}' || OTHER.has(c)));
        let mut word = Word::default();
        let mut add = |c: char| {
            if c.is_whitespace() {
                return self.finish(vocab, &mut word, out);
            }
            let alone = is_punctuation(c) || is_ideograph(c);
            if alone {
                self.finish(vocab, &mut word, out);
            }
            word.push(c);
            if alone {
                self.finish(vocab, &mut word, out);
            }
        };
        let mut lower = |c: char| match self.lowercase {
            true => c.to_lowercase().for_each(&mut add),
            false => add(c),
        };
        match self.strip_accents {
            true => kept.nfd().filter(|&c| !MARKS.has(c)).for_each(&mut lower),
            false => kept.for_each(&mut lower),
        }
        self.finish(vocab, &mut word, out);
    }

    /// Appends the ids of a word, and clears it.
    fn finish(&self, vocab: &Vocab, word: &mut Word, out: &mut Vec<u32>) {
        if word.count == 0 {
            return;
        }
        let before = out.len();
        let mut rest = word.text.as_bytes();
        let mut node = self.start.filter(|_| word.count <= MAX_WORD);
        while let (Some(from), false) = (node, rest.is_empty()) {
            let mut longest = None;
            // A mark of GGUF in the text is no start of a word.
            if from == ROOT && rest.starts_with(START.as_bytes()) {
                node = None;
                break;
            }
            self.pieces.prefixes(from, rest, |len, id| longest = Some((len, id)));
            node = longest.map(|(len, id)| {
                out.push(id);
                rest = &rest[len..];
                ROOT
            });
        }
        if node.is_none() {
            out.truncate(before);
            out.extend(vocab.unk);
        }
        word.text.clear();
        word.count = 0;
    }
}

/// The word that is being read.
#[derive(Default)]
struct Word {
    text: String,
    /// Characters, counted beyond what is kept.
    count: usize,
}

impl Word {
    fn push(&mut self, c: char) {
        self.count += 1;
        if self.count <= MAX_WORD {
            self.text.push(c);
        }
    }
}

/// Unicode's punctuation, and every sign of ASCII.
fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || PUNCTUATION.has(c)
}

/// The blocks of Chinese characters, which are words of their own.
fn is_ideograph(c: char) -> bool {
    matches!(u32::from(c), 0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F
        | 0x2B740..=0x2B81F | 0x2B820..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
}
