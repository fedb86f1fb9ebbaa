//! Text to token ids and back, from the metadata of a GGUF file alone.
//!
//! Four kinds are read: `gpt2` (byte-level BPE; GPT-2, Llama 3, Qwen, SmolLM, …), `llama`
//! (SentencePiece BPE; Llama 2, Gemma, …), `bert` (WordPiece; BERT, bge, nomic, …) and `t5` (unigram;
//! XLM-RoBERTa, multilingual e5, …). Results follow llama.cpp, whose published vectors the tests compare
//! with, and for the last two Hugging Face's tokenizers, which their models were trained with.

mod bpe;
mod charsmap;
mod merge;
mod pre;
mod special;
mod spm;
mod stream;
mod trie;
mod unicode;
mod unigram;
mod vocab;
mod wordpiece;

use std::sync::Arc;

pub use stream::StreamDecoder;

use crate::gguf::{Array, Metadata, Value};
use special::{Fragment, Partitioner};
use vocab::{TokenKind, Vocab};

/// Why a vocabulary cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Error {
    #[error("metadata key {0} is missing: the file has no usable tokenizer")]
    Missing(String),
    #[error("metadata key {key} must hold {expected}")]
    Type { key: String, expected: &'static str },
    #[error("tokenizer model {0:?} is not supported (supported: gpt2, llama, bert, t5)")]
    Model(String),
    #[error("pre-tokenizer {name:?} is not known (known: {known})")]
    PreTokenizer { name: String, known: String },
    #[error("a vocabulary of {0} tokens cannot be used")]
    Size(usize),
    #[error("{key} has {got} entries for {tokens} tokens")]
    Length { key: String, got: usize, tokens: usize },
    #[error("merge {index} {text:?} cannot be used: {cause}")]
    Merge { index: usize, text: String, cause: String },
    #[error("{0} is true but the file names no such token")]
    NoToken(&'static str),
    #[error("token {id} has {len} bytes, and a piece of a unigram vocabulary at most {most}")]
    Piece { id: u32, len: usize, most: usize },
    #[error("the score of token {id} is {score}, not a finite number")]
    Score { id: u32, score: f32 },
}

impl Error {
    /// The error for a key that is absent, or present with another type.
    fn absent(meta: &Metadata, key: &str, expected: &'static str) -> Self {
        match meta.get(key) {
            None => Error::Missing(key.into()),
            Some(_) => Error::Type { key: key.into(), expected },
        }
    }
}

/// Shortens text from a file for an error message.
fn clip(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((i, _)) => format!("{}…", &text[..i]),
        None => text.to_string(),
    }
}

/// An optional boolean.
fn flag(meta: &Metadata, key: &str) -> Result<Option<bool>, Error> {
    match meta.get(key) {
        None => Ok(None),
        Some(Value::Bool(b)) => Ok(Some(*b)),
        Some(_) => Err(Error::Type { key: key.into(), expected: "a boolean" }),
    }
}

/// `tokenizer.ggml.scores`, one a token.
fn scores(meta: &Metadata, vocab: &Vocab) -> Result<Vec<f32>, Error> {
    let (key, expected) = ("tokenizer.ggml.scores", "an array of numbers");
    let scores: Vec<f32> = match meta.array(key).ok_or_else(|| Error::absent(meta, key, expected))? {
        Array::F32(v) => v.clone(),
        Array::F64(v) => v.iter().map(|&x| x as f32).collect(),
        Array::I32(v) => v.iter().map(|&x| x as f32).collect(),
        _ => return Err(Error::Type { key: key.into(), expected }),
    };
    if scores.len() != vocab.len() {
        return Err(Error::Length { key: key.into(), got: scores.len(), tokens: vocab.len() });
    }
    Ok(scores)
}

#[derive(Debug)]
enum Model {
    Bpe(bpe::Bpe),
    Spm(spm::Spm),
    WordPiece(wordpiece::WordPiece),
    Unigram(unigram::Unigram),
}

#[derive(Debug)]
struct Inner {
    vocab: Vocab,
    model: Model,
    partitioner: Partitioner,
    add_bos: bool,
    add_eos: bool,
    add_sep: bool,
}

/// A tokenizer. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Tokenizer(Arc<Inner>);

impl Tokenizer {
    /// Reads the keys `tokenizer.ggml.*`.
    ///
    /// # Errors
    /// A key is missing or of the wrong type, the kind is not supported, or the tables do not
    /// fit each other: see [`Error`].
    pub fn from_metadata(meta: &Metadata) -> Result<Tokenizer, Error> {
        let key = "tokenizer.ggml.model";
        let name = meta.str(key).ok_or_else(|| Error::absent(meta, key, "a string"))?;
        let defaults = match name {
            "llama" => [Some(1), Some(2), Some(0), None],
            "gpt2" => [None; 4],
            "bert" => [None, None, Some(100), Some(102)],
            "t5" => [None, Some(1), Some(2), None],
            _ => return Err(Error::Model(clip(name))),
        };
        let mut vocab = Vocab::from_metadata(meta, defaults)?;
        let model = match name {
            "llama" => Model::Spm(spm::Spm::from_metadata(meta, &vocab)?),
            "bert" => {
                // BERT's files have a class token where others have one that begins a text, and a separator
                // where others have one that ends it.
                vocab.bos = vocab.bos.or(vocab.cls).or(Some(101).filter(|id| (*id as usize) < vocab.len()));
                vocab.eos = vocab.eos.or(vocab.sep);
                Model::WordPiece(wordpiece::WordPiece::from_metadata(meta, &vocab)?)
            }
            "t5" => {
                vocab.bos = vocab.bos.or(vocab.cls);
                Model::Unigram(unigram::Unigram::from_metadata(meta, &vocab)?)
            }
            _ => Model::Bpe(bpe::Bpe::from_metadata(meta, &vocab)?),
        };

        let add = |key: &'static str, id: Option<u32>, default: bool| match flag(meta, key)? {
            Some(true) if id.is_none() => Err(Error::NoToken(key)),
            wanted => Ok(wanted.unwrap_or(default) && id.is_some()),
        };
        let [bos, eos, sep] = match &model {
            Model::Bpe(bpe) => [bpe.pre.add_bos, false, false],
            Model::Spm(_) => [true, false, false],
            Model::WordPiece(_) => [true, true, false],
            // Old files of XLM-RoBERTa have the tokens and lack the switches.
            Model::Unigram(_) => [true; 3],
        };
        let add_bos = add("tokenizer.ggml.add_bos_token", vocab.bos, bos)?;
        let add_eos = add("tokenizer.ggml.add_eos_token", vocab.eos, eos)?;
        let add_sep = add("tokenizer.ggml.add_sep_token", vocab.sep, sep)?;

        // Phi-3 was trained with white space after its special tokens removed; GGUF has no key
        // for it, so the model's name decides, as in llama.cpp.
        let title = meta.str("general.name").unwrap_or_default().to_lowercase();
        let phi3 = title.contains("phi-3") || title.contains("phi3");
        let rstrip = |text: &str| phi3 && !matches!(text, "<unk>" | "<s>" | "<|endoftext|>");
        let partitioner = Partitioner::new(&vocab, rstrip);
        Ok(Tokenizer(Arc::new(Inner { vocab, model, partitioner, add_bos, add_eos, add_sep })))
    }

    /// The ids of `text`, with no beginning or end token added.
    ///
    /// User-defined tokens in the text are always matched; control tokens only with
    /// `parse_special`, so pass `false` for text that is not trusted to open a turn.
    pub fn encode(&self, text: &str, parse_special: bool) -> Vec<u32> {
        let mut out = Vec::with_capacity(text.len() / 3);
        self.encode_into(text, parse_special, &mut out);
        out
    }

    /// The ids of a whole prompt: special tokens are parsed, and the beginning and end tokens
    /// are added as the file asks.
    pub fn encode_prompt(&self, text: &str) -> Vec<u32> {
        let mut out = Vec::with_capacity(text.len() / 3 + 2);
        out.extend(self.bos().filter(|_| self.0.add_bos));
        self.encode_into(text, true, &mut out);
        out.extend(self.eos().filter(|_| self.0.add_eos));
        out
    }

    /// The ids of two texts for a model that judges them together (a reranker: query and document), and how
    /// many of them belong to the first. `[CLS] first [SEP] second [SEP]` for BERT, `<s> first </s></s> second
    /// </s>` for XLM-RoBERTa, otherwise what the file's switches say. No special token in the texts is parsed.
    pub fn encode_pair(&self, first: &str, second: &str) -> (Vec<u32>, usize) {
        let mut out = Vec::with_capacity((first.len() + second.len()) / 3 + 4);
        let end = self.eos().filter(|_| self.0.add_eos);
        let between =
            self.0.vocab.sep.filter(|_| self.0.add_sep && !matches!(self.0.model, Model::WordPiece(_)));
        out.extend(self.bos().filter(|_| self.0.add_bos));
        self.encode_into(first, false, &mut out);
        out.extend(end);
        let boundary = out.len();
        out.extend(between);
        self.encode_into(second, false, &mut out);
        out.extend(end);
        (out, boundary)
    }

    /// What the file says of its tokens that cannot be meant so and was left out, one line each.
    pub fn warnings(&self) -> &[String] {
        &self.0.vocab.warnings
    }

    /// The ids of `text` as [`Tokenizer::encode`] gives them, special tokens parsed, in pieces: no token
    /// reaches over one of the byte offsets `cuts`, which ascend and lie between characters. A prompt and its
    /// answer, cut where the answer starts, become the tokens that the two have when a model is run.
    pub fn encode_cut(&self, text: &str, cuts: &[usize]) -> Vec<Vec<u32>> {
        let mut after_token = true;
        let mut start = 0;
        let ends = cuts.iter().copied().chain([text.len()]);
        ends.map(|end| {
            let piece = &text[start..end];
            start = end;
            let mut out = Vec::with_capacity(piece.len() / 3);
            self.encode_piece(piece, true, &mut after_token, &mut out);
            out
        })
        .collect()
    }

    fn encode_into(&self, text: &str, parse_special: bool, out: &mut Vec<u32>) {
        self.encode_piece(text, parse_special, &mut true, out);
    }

    /// `after_token` says whether `text` follows a special token or nothing, and is left saying it of what
    /// follows.
    fn encode_piece(&self, text: &str, parse_special: bool, after_token: &mut bool, out: &mut Vec<u32>) {
        let Inner { vocab, model, partitioner, .. } = &*self.0;
        for fragment in partitioner.split(text, parse_special) {
            match (fragment, model) {
                (Fragment::Token(id), _) => out.push(id),
                (Fragment::Text(t), Model::Bpe(bpe)) => bpe.encode(vocab, t, out),
                (Fragment::Text(t), Model::Spm(spm)) => {
                    spm.encode(vocab, t, spm.add_space_prefix && *after_token, out);
                }
                (Fragment::Text(t), Model::WordPiece(w)) => w.encode(vocab, t, out),
                (Fragment::Text(t), Model::Unigram(u)) => {
                    u.encode(vocab, t, u.add_space_prefix && *after_token, out);
                }
            }
            *after_token = matches!(fragment, Fragment::Token(_));
        }
    }

    /// The text of `ids`. Control and unknown tokens appear only with `special`. Bytes that
    /// are not UTF-8 become U+FFFD; ids outside the vocabulary add nothing.
    ///
    /// Where encoding puts a space before the text, the first text loses it again, so
    /// `decode(encode(text)) == text` for any text that the vocabulary can spell.
    pub fn decode(&self, ids: &[u32], special: bool) -> String {
        let mut bytes = Vec::new();
        let mut at_start = self.drops_first_space();
        for &id in ids {
            self.append_piece(id, special, &mut at_start, &mut bytes);
        }
        match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
        }
    }

    /// A decoder for ids that come one at a time; `special` as in [`Tokenizer::decode`].
    pub fn stream(&self, special: bool) -> StreamDecoder {
        StreamDecoder::new(self.clone(), special)
    }

    /// Whether [`Tokenizer::encode_prompt`] puts the beginning token first.
    pub fn add_bos(&self) -> bool {
        self.0.add_bos
    }

    /// Whether [`Tokenizer::encode_prompt`] puts the end token last.
    pub fn add_eos(&self) -> bool {
        self.0.add_eos
    }

    /// The beginning-of-sequence token; BERT's class token.
    pub fn bos(&self) -> Option<u32> {
        self.0.vocab.bos
    }

    /// The token between two texts of a pair.
    pub fn sep(&self) -> Option<u32> {
        self.0.vocab.sep
    }

    /// The end-of-sequence token; BERT's separator.
    pub fn eos(&self) -> Option<u32> {
        self.0.vocab.eos
    }

    /// Whether a model that emits `id` is done: the end of sequence, turn or message, from the
    /// metadata or by a well-known name.
    pub fn is_eog(&self, id: u32) -> bool {
        self.0.vocab.is_end(id)
    }

    /// Number of tokens; ids are below it.
    pub fn vocab_size(&self) -> usize {
        self.0.vocab.len()
    }

    /// The token's text as the file writes it: for byte-level BPE in the GPT-2 alphabet, for
    /// SentencePiece with `▁` for a space.
    pub fn token_text(&self, id: u32) -> Option<&str> {
        ((id as usize) < self.vocab_size()).then(|| self.0.vocab.text(id))
    }

    /// The bytes that the token stands for, its name for a special one; not always whole
    /// characters.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let text = self.token_text(id)?;
        let kind = self.0.vocab.kind(id);
        Some(match (kind, &self.0.model) {
            (TokenKind::Control | TokenKind::Unknown, _) => text.into(),
            (TokenKind::Unused, _) => Vec::new(),
            (TokenKind::Byte, _) => named_or_raw(text),
            (_, Model::Spm(_) | Model::WordPiece(_) | Model::Unigram(_)) => {
                text.replace('▁', " ").into_bytes()
            }
            (TokenKind::UserDefined, Model::Bpe(_)) => text.into(),
            (TokenKind::Normal, Model::Bpe(_)) => {
                let mut bytes = Vec::with_capacity(text.len());
                for c in text.chars() {
                    match bpe::char_to_byte(c) {
                        Some(b) => bytes.push(b),
                        None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    }
                }
                bytes
            }
        })
    }

    /// The id whose text is exactly `text`, written as the file writes it.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.0.vocab.id(text)
    }

    /// Whether the token steers the model rather than standing for text.
    pub fn is_control(&self, id: u32) -> bool {
        (id as usize) < self.vocab_size() && self.0.vocab.kind(id) == TokenKind::Control
    }

    /// Whether the token is no text: [`Tokenizer::decode`] shows it only where special tokens are asked for.
    pub fn is_special(&self, id: u32) -> bool {
        let kind = |id| self.0.vocab.kind(id);
        (id as usize) < self.vocab_size() && matches!(kind(id), TokenKind::Control | TokenKind::Unknown)
    }

    fn drops_first_space(&self) -> bool {
        match &self.0.model {
            Model::Bpe(_) => false,
            Model::Spm(spm) => spm.add_space_prefix,
            Model::WordPiece(_) => true,
            Model::Unigram(u) => u.add_space_prefix,
        }
    }

    /// Appends what one id adds to the decoded bytes; `at_start` falls with the first of them.
    fn append_piece(&self, id: u32, special: bool, at_start: &mut bool, out: &mut Vec<u8>) {
        let Some(bytes) = self.token_bytes(id) else { return };
        let hidden = matches!(self.0.vocab.kind(id), TokenKind::Control | TokenKind::Unknown);
        if bytes.is_empty() || (hidden && !special) {
            return;
        }
        let skip = std::mem::take(at_start) && !hidden && bytes[0] == b' ';
        out.extend_from_slice(&bytes[usize::from(skip)..]);
    }
}

fn named_or_raw(text: &str) -> Vec<u8> {
    vocab::named_byte(text).map_or_else(|| text.into(), |b| vec![b])
}
