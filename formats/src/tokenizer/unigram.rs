//! Unigram language model (`tokenizer.ggml.model` = `t5`): the pieces whose scores sum to most (Kudo 2018;
//! google/sentencepiece, `unigram_model.cc` and `normalizer.cc`).

use super::charsmap::Charsmap;
use super::trie::{NONE, ROOT, Trie};
use super::vocab::{TokenKind, Vocab};
use super::{Error, flag};
use crate::gguf::Metadata;

/// Bytes of the longest piece. Every place of a text looks as far ahead as a piece may reach, so this bounds
/// the time; real pieces have at most 16 characters.
const MAX_PIECE: usize = 1024;

/// How much worse than the worst piece an unknown character is.
const UNKNOWN_PENALTY: f64 = 10.0;

#[derive(Debug)]
pub(super) struct Unigram {
    pieces: Trie,
    scores: Vec<f32>,
    unknown_score: f64,
    charsmap: Option<Charsmap>,
    /// A space is put before the text, and before what follows a special token.
    pub(super) add_space_prefix: bool,
    /// Runs of spaces become one; those at the ends go.
    remove_extra_whitespaces: bool,
}

/// The best way to one place of the text.
#[derive(Clone, Copy)]
struct Best {
    score: f64,
    /// Where the last piece starts.
    from: u32,
    /// The last piece, or [`NONE`] for an unknown character.
    id: u32,
}

impl Unigram {
    pub(super) fn from_metadata(meta: &Metadata, vocab: &Vocab) -> Result<Unigram, Error> {
        let mut scores = super::scores(meta, vocab)?;
        let mut worst = f32::INFINITY;
        let mut ids = Vec::new();
        for id in 0..vocab.len() as u32 {
            let (kind, len) = (vocab.kind(id), vocab.text(id).len());
            if !matches!(kind, TokenKind::Normal | TokenKind::UserDefined | TokenKind::Unused) || len == 0 {
                continue;
            }
            if len > MAX_PIECE {
                return Err(Error::Piece { id, len, most: MAX_PIECE });
            }
            let score = &mut scores[id as usize];
            match kind {
                TokenKind::UserDefined => *score = 0.0,
                _ if !score.is_finite() => return Err(Error::Score { id, score: *score }),
                TokenKind::Normal => worst = worst.min(*score),
                _ => {}
            }
            ids.push(id);
        }
        let worst = if worst.is_finite() { f64::from(worst) } else { 0.0 };
        let switch = |key, default| flag(meta, key).map(|v| v.unwrap_or(default));
        Ok(Unigram {
            pieces: Trie::new(ids.iter().map(|id| (vocab.text(*id).as_bytes(), *id))),
            scores,
            unknown_score: worst - UNKNOWN_PENALTY,
            charsmap: Charsmap::from_metadata(meta)?,
            add_space_prefix: switch("tokenizer.ggml.add_space_prefix", true)?,
            remove_extra_whitespaces: switch("tokenizer.ggml.remove_extra_whitespaces", false)?,
        })
    }

    /// Appends the ids of `text`, which holds no special tokens. Unknown characters that follow each other
    /// become one unknown token, or nothing where there is none.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, prefix: bool, out: &mut Vec<u32>) {
        let text = self.normalize(text, prefix);
        // Positions are 32 bits. No piece reaches over such a cut, which no real text has.
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(rest.floor_char_boundary(1 << 30));
            self.encode_normal(vocab, head, out);
            rest = tail;
        }
    }

    fn encode_normal(&self, vocab: &Vocab, text: &str, out: &mut Vec<u32>) {
        let unreached = Best { score: f64::NEG_INFINITY, from: 0, id: NONE };
        let mut best = vec![unreached; text.len() + 1];
        best[0].score = 0.0;
        for (at, c) in text.char_indices() {
            let score = best[at].score;
            let mut offer = |end: usize, gain: f64, id: u32| {
                if score + gain > best[end].score {
                    best[end] = Best { score: score + gain, from: at as u32, id };
                }
            };
            let mut single = false;
            self.pieces.prefixes(ROOT, &text.as_bytes()[at..], |len, id| {
                single |= len == c.len_utf8();
                offer(at + len, f64::from(self.scores[id as usize]), id);
            });
            if !single {
                offer(at + c.len_utf8(), self.unknown_score, NONE);
            }
        }
        let start = out.len();
        let (mut at, mut unknown) = (text.len(), false);
        while at > 0 {
            let Best { from, id, .. } = best[at];
            match id {
                NONE if unknown => {}
                NONE => out.extend(vocab.unk),
                id => out.push(id),
            }
            unknown = id == NONE;
            at = from as usize;
        }
        out[start..].reverse();
    }

    /// Characters replaced by the map, spaces by `▁`, as SentencePiece's normaliser leaves them.
    fn normalize(&self, text: &str, prefix: bool) -> String {
        let mut out = String::with_capacity(text.len() + text.len() / 4 + 3);
        // Whether a space is due before the next character that is none.
        let mut due = prefix;
        let mut in_word = false;
        let mut add = |c: char| {
            if c == ' ' {
                in_word = false;
                if !self.remove_extra_whitespaces {
                    out.push('▁');
                }
                return;
            }
            if !std::mem::replace(&mut in_word, true) && (due || self.remove_extra_whitespaces) {
                out.push('▁');
                due = false;
            }
            out.push(c);
        };
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let replaced = self.charsmap.as_ref().and_then(|m| m.replace(rest.as_bytes()));
            let len = match replaced {
                Some((len, with)) if rest.is_char_boundary(len) => {
                    with.chars().for_each(&mut add);
                    len
                }
                _ => {
                    add(c);
                    c.len_utf8()
                }
            };
            rest = &rest[len..];
        }
        out
    }
}
