//! A model's vocabulary in the form that llguidance walks.

use toktrie::{TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use weft_formats::tokenizer::Tokenizer;

use super::Refusal;

/// The tokens as bytes, in a trie and in order.
pub(super) struct Vocabulary {
    trie: TokTrie,
    /// Ids of tokens that can be seen, by their bytes.
    sorted: Vec<u32>,
}

/// Tokens beyond this are no words; none is written under a grammar.
const LONGEST: usize = 1024;

impl Vocabulary {
    /// # Errors
    /// No token ends a text.
    pub(super) fn new(tokenizer: &Tokenizer) -> Result<Vocabulary, Refusal> {
        let n = tokenizer.vocab_size() as u32;
        let ends: Vec<u32> = (0..n).filter(|&id| tokenizer.is_eog(id)).collect();
        let Some(end) = tokenizer.eos().filter(|e| ends.contains(e)).or(ends.first().copied()) else {
            return Err(Refusal::new(
                "the model's vocabulary has no token that ends a text, so no grammar can end",
            ));
        };
        let words: Vec<Vec<u8>> = (0..n).map(|id| word(tokenizer, id)).collect();
        let trie = TokTrie::from(&TokRxInfo::new(n, end), &words).with_eos_tokens(&ends);
        let mut this = Vocabulary { trie, sorted: Vec::new() };
        let mut sorted: Vec<u32> = (0..n).filter(|&id| !this.bytes(id).is_empty()).collect();
        sorted.sort_by(|a, b| this.bytes(*a).cmp(this.bytes(*b)));
        this.sorted = sorted;
        Ok(this)
    }

    pub(super) fn len(&self) -> usize {
        self.trie.vocab_size()
    }

    /// The bytes of a token, the name of one that steers the model; empty for those that end a text.
    pub(super) fn bytes(&self, id: u32) -> &[u8] {
        if id as usize >= self.len() || self.trie.eos_tokens().contains(&id) {
            return &[];
        }
        let bytes = self.trie.token(id);
        bytes.strip_prefix(&[MARK]).unwrap_or(bytes)
    }

    /// The tokens that end a text.
    pub(super) fn ends(&self) -> &[u32] {
        self.trie.eos_tokens()
    }

    /// The tokens that begin with `start`.
    pub(super) fn starting_with<'v>(&'v self, start: &'v [u8]) -> impl Iterator<Item = u32> + 'v {
        let from = self.sorted.partition_point(|&id| self.bytes(id) < start);
        self.sorted[from..].iter().copied().take_while(move |&id| self.bytes(id).starts_with(start))
    }

    /// Tokens that together have these bytes; none if the vocabulary cannot spell them.
    pub(super) fn spell(&self, bytes: &[u8]) -> Option<Vec<TokenId>> {
        let tokens = self.trie.greedy_tokenize(bytes);
        let same = tokens.iter().map(|&t| self.bytes(t).len()).sum::<usize>() == bytes.len();
        same.then_some(tokens)
    }
}

/// What special tokens begin with: no UTF-8 does, so that no text of a grammar is ever one.
const MARK: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    if bytes.is_empty() || bytes.len() > LONGEST {
        return Vec::new();
    }
    if tokenizer.is_special(id) || tokenizer.is_eog(id) { [&[MARK], &bytes[..]].concat() } else { bytes }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.greedy_tokenize(bytes)
    }

    /// The model chooses how to spell what a grammar forces.
    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}
