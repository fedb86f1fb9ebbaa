//! SentencePiece BPE (`tokenizer.ggml.model` = `llama`): merges by score over the whole text,
//! and bytes for what no piece covers (google/sentencepiece, `bpe_model.cc`).

use super::Error;
use super::merge::{Merger, NONE};
use super::vocab::{TokenKind, Vocab};
use crate::gguf::Metadata;

/// Longest stretch merged as one; positions are 32 bits.
const MAX_TEXT: usize = 1 << 30;

#[derive(Debug)]
pub(super) struct Spm {
    /// One key a token, smaller for a higher score.
    keys: Vec<u32>,
    byte_ids: Box<[Option<u32>; 256]>,
    /// A space is put before the text, and before what follows a special token.
    pub(super) add_space_prefix: bool,
}

impl Spm {
    pub(super) fn from_metadata(meta: &Metadata, vocab: &Vocab) -> Result<Self, Error> {
        let scores = super::scores(meta, vocab)?;
        Ok(Spm {
            keys: scores.into_iter().map(descending_key).collect(),
            byte_ids: vocab.byte_fallback(),
            add_space_prefix: super::flag(meta, "tokenizer.ggml.add_space_prefix")?.unwrap_or(true),
        })
    }

    /// Appends the ids of `text`, which holds no special tokens. A byte with no token of its
    /// own becomes the unknown token, or nothing where there is none.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, prefix: bool, out: &mut Vec<u32>) {
        let mut escaped = String::with_capacity(text.len() + text.len() / 4 + 3);
        if prefix {
            escaped.push('▁');
        }
        escaped.extend(text.chars().map(|c| if c == ' ' { '▁' } else { c }));
        let mut rest = escaped.as_str();
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(rest.floor_char_boundary(MAX_TEXT));
            self.encode_escaped(vocab, head, out);
            rest = tail;
        }
    }

    fn encode_escaped(&self, vocab: &Vocab, text: &str, out: &mut Vec<u32>) {
        // Text never spells a control or byte token.
        let piece = |start: u32, end: u32| {
            let text = &text[start as usize..end as usize];
            let id = if text.len() <= vocab.longest { vocab.id(text)? } else { return None };
            (!matches!(vocab.kind(id), TokenKind::Control | TokenKind::Unknown | TokenKind::Byte))
                .then_some(id)
        };
        let mut merger = Merger::default();
        for (i, c) in text.char_indices() {
            let end = (i + c.len_utf8()) as u32;
            merger.push(piece(i as u32, end).unwrap_or(NONE), end);
        }
        merger.run(|l, r| piece(l.start, r.end).map(|id| (self.keys[id as usize], id)));
        for symbol in merger.result() {
            if symbol.id != NONE {
                out.push(symbol.id);
                continue;
            }
            let bytes = &text.as_bytes()[symbol.start as usize..symbol.end as usize];
            out.extend(bytes.iter().filter_map(|&b| self.byte_ids[b as usize].or(vocab.unk)));
        }
    }
}

/// Maps floats to integers in the opposite order, equal zeros to equal integers.
fn descending_key(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    !ascending
}

#[cfg(test)]
mod tests {
    use super::descending_key;

    #[test]
    fn keys_fall_as_scores_rise() {
        let scores = [f32::NEG_INFINITY, -2.0, -1.5, -0.0, 1e-9, 3.0, f32::INFINITY];
        assert!(scores.windows(2).all(|w| descending_key(w[0]) > descending_key(w[1])));
        assert_eq!(descending_key(-0.0), descending_key(0.0));
    }
}
