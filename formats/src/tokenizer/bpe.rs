//! Byte-level BPE (`tokenizer.ggml.model` = `gpt2`): merges by rank inside pre-tokenized words.
//!
//! The vocabulary is written in the GPT-2 alphabet, one printable character for each byte
//! (openai/gpt-2, `bytes_to_unicode`).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::Error;
use super::merge::{Merger, NONE};
use super::pre::{PreTokenizer, known_names};
use super::vocab::Vocab;
use crate::gguf::Metadata;

/// Longest stretch merged as one; positions are 32 bits. No real word comes near.
const MAX_WORD: usize = 1 << 30;

/// Hashes the pair of ids that a merge joins: one multiplication, ids being small and dense.
#[derive(Default)]
struct PairHasher(u64);

impl Hasher for PairHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.write_u64(b.into());
        }
    }
    fn write_u64(&mut self, x: u64) {
        let mixed = (self.0 ^ x).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// Merge table: ids of left and right, to rank and merged id.
type Merges = HashMap<u64, (u32, u32), BuildHasherDefault<PairHasher>>;

fn pair_key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

pub(super) struct Bpe {
    pub(super) pre: PreTokenizer,
    byte_ids: Box<[u32; 256]>,
    merges: Merges,
}

impl std::fmt::Debug for Bpe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bpe({} merges)", self.merges.len())
    }
}

impl Bpe {
    pub(super) fn from_metadata(meta: &Metadata, vocab: &Vocab) -> Result<Self, Error> {
        // A file without the key predates it; llama.cpp reads it as "default" too.
        let name = match meta.get("tokenizer.ggml.pre") {
            None => "default",
            Some(_) => meta
                .str("tokenizer.ggml.pre")
                .ok_or_else(|| Error::Type { key: "tokenizer.ggml.pre".into(), expected: "a string" })?,
        };
        let pre = PreTokenizer::named(if name.is_empty() { "default" } else { name })
            .ok_or_else(|| Error::PreTokenizer { name: super::clip(name), known: known_names() })?;

        let key = "tokenizer.ggml.merges";
        let lines = meta.strs(key).ok_or_else(|| Error::absent(meta, key, "an array of strings"))?;
        let mut merges = Merges::with_capacity_and_hasher(lines.len(), Default::default());
        let mut joined = String::new();
        for (rank, line) in lines.iter().enumerate() {
            let bad = |cause: String| Error::Merge {
                index: rank,
                text: super::clip(line),
                cause: super::clip(&cause),
            };
            // The first character may itself be a space.
            let first = line.chars().next().map_or(0, char::len_utf8);
            let space = line[first..].find(' ').map(|i| i + first);
            let (left, right) = space
                .map(|i| (&line[..i], &line[i + 1..]))
                .ok_or_else(|| bad("there is no space between two tokens".into()))?;
            joined.clear();
            joined.push_str(left);
            joined.push_str(right);
            let id = |text: &str| vocab.id(text).ok_or_else(|| bad(format!("{text:?} is not a token")));
            let entry = (rank as u32, id(&joined)?);
            // The first of equal merges counts.
            merges.entry(pair_key(id(left)?, id(right)?)).or_insert(entry);
        }
        let byte_id = |b: usize| vocab.id(byte_to_char(b as u8).encode_utf8(&mut [0; 4])).unwrap_or(NONE);
        let byte_ids = Box::new(std::array::from_fn(byte_id));
        Ok(Bpe { pre, byte_ids, merges })
    }

    /// Appends the ids of `text`, which holds no special tokens. A byte that the vocabulary
    /// lacks is left out.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, out: &mut Vec<u32>) {
        let mut merger = Merger::default();
        let mut spelled = String::new();
        for (start, end) in self.pre.split(text) {
            let word = &text.as_bytes()[start..end];
            if let [byte] = word {
                out.extend(Some(self.byte_ids[*byte as usize]).filter(|&id| id != NONE));
                continue;
            }
            if self.pre.ignore_merges && word.len() <= vocab.longest {
                spelled.clear();
                spelled.extend(word.iter().map(|&b| byte_to_char(b)));
                if let Some(id) = vocab.id(&spelled) {
                    out.push(id);
                    continue;
                }
            }
            for chunk in word.chunks(MAX_WORD) {
                merger.clear();
                for (i, &b) in chunk.iter().enumerate() {
                    merger.push(self.byte_ids[b as usize], i as u32 + 1);
                }
                merger.run(|l, r| self.merges.get(&pair_key(l.id, r.id)).copied());
                out.extend(merger.result().map(|s| s.id).filter(|&id| id != NONE));
            }
        }
    }
}

/// Bytes that stand for themselves in the GPT-2 alphabet: the printable ones of Latin-1.
const fn is_printable(b: u8) -> bool {
    matches!(b, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The other 68 bytes, in order: U+0100 stands for the first.
const OTHERS: [u8; 68] = {
    let (mut table, mut n, mut b) = ([0; 68], 0, 0usize);
    while b < 256 {
        if !is_printable(b as u8) {
            table[n] = b as u8;
            n += 1;
        }
        b += 1;
    }
    table
};

const ALPHABET: [char; 256] = {
    let mut table = ['\0'; 256];
    let (mut b, mut n) = (0usize, 0u32);
    while b < 256 {
        let code = if is_printable(b as u8) {
            b as u32
        } else {
            n += 1;
            0xFF + n
        };
        table[b] = match char::from_u32(code) {
            Some(c) => c,
            None => unreachable!(),
        };
        b += 1;
    }
    table
};

/// The character that stands for a byte.
pub(super) fn byte_to_char(b: u8) -> char {
    ALPHABET[b as usize]
}

/// The byte that a character stands for.
pub(super) fn char_to_byte(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ 0..=0xFF => Some(code as u8).filter(|&b| is_printable(b)),
        code => OTHERS.get(code as usize - 0x100).copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_a_bijection() {
        for b in 0..=255u8 {
            assert_eq!(char_to_byte(byte_to_char(b)), Some(b));
        }
        assert_eq!((byte_to_char(b' '), byte_to_char(b'\n'), byte_to_char(b'a')), ('Ġ', 'Ċ', 'a'));
        assert_eq!([' ', '\u{ad}', '\u{144}', '你'].map(char_to_byte), [None; 4]);
    }
}
