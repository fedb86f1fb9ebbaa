//! The vocabulary of tokenizer.json, one entry a row of the embedding.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::Error;
use super::config::Config;
use super::json::{Object, clip};

/// `tokenizer.ggml.token_type`.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Which model a vocabulary belongs to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum TokenizerKind {
    ByteLevel,
    SentencePiece,
    WordPiece,
    Unigram,
}

pub(super) struct Tokens {
    /// As GGUF writes them.
    pub(super) texts: Vec<String>,
    pub(super) kinds: Vec<i32>,
    /// By the text that tokenizer.json has.
    pub(super) ids: HashMap<String, u32>,
    /// A unigram model's, one a token.
    pub(super) scores: Vec<f32>,
    /// What stands for a text that has no tokens, where the model says so; a byte-level one needs none.
    pub(super) unknown: Option<u32>,
}

/// Texts and ids of the model's own vocabulary, and a unigram model's scores.
fn entries<'a>(
    file: &Object,
    model: &'a Object,
    kind: TokenizerKind,
) -> Result<Vec<(&'a str, Option<u64>, f32)>, Error> {
    let vocab = model.get("vocab").ok_or_else(|| file.missing("model.vocab"))?;
    match (kind, vocab) {
        (TokenizerKind::Unigram, Json::Array(list)) => list
            .iter()
            .enumerate()
            .map(|(i, entry)| {
                let text = entry.get(0).and_then(Json::as_str);
                let score = entry.get(1).and_then(Json::as_f64);
                let entry = text.zip(score).map(|(text, score)| (text, Some(i as u64), score as f32));
                entry.ok_or_else(|| {
                    file.unsupported(format!("entry {i} of model.vocab, which is no text and score"))
                })
            })
            .collect(),
        (_, Json::Object(map)) if kind != TokenizerKind::Unigram => {
            Ok(map.iter().map(|(text, id)| (text.as_str(), id.as_u64(), 0.0)).collect())
        }
        _ => Err(file.missing("model.vocab")),
    }
}

impl Tokens {
    pub(super) fn read(
        file: &Object,
        model: &Object,
        config: &mut Config,
        kind: TokenizerKind,
    ) -> Result<Tokens, Error> {
        let vocab = entries(file, model, kind)?;
        let added = file.get("added_tokens").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        let mut beyond = false;
        if config.cuts_vocabulary {
            // Rows behind the model's own pieces stand for pictures, or for nothing.
            let own = vocab.iter().filter_map(|(_, id, _)| *id).max().map_or(0, |id| id as usize + 1);
            beyond = own < config.sizes.vocabulary;
            config.sizes.vocabulary = own.min(config.sizes.vocabulary);
        }
        let size = config.sizes.vocabulary;
        // Rows that no token has are there to make the matrix a round size. Tokens are counted before
        // anything is allocated for the size that config.json claims.
        if size > 64 * (vocab.len() + added.len()) + (1 << 16) {
            return Err(Error::Key {
                file: config.file.clone(),
                key: "vocab_size".to_owned(),
                found: size.to_string(),
                expected: "near the number of tokens in tokenizer.json",
            });
        }
        let mut tokens = Tokens {
            texts: (0..size).map(|i| format!("[PAD{i}]")).collect(),
            kinds: vec![UNUSED; size],
            ids: HashMap::with_capacity(vocab.len()),
            scores: vec![0.0; if kind == TokenizerKind::Unigram { size } else { 0 }],
            unknown: None,
        };
        let unknown = match model.get("unk_id").and_then(Json::as_u64) {
            Some(id) => vocab.iter().find(|(_, i, _)| *i == Some(id)).map(|(text, ..)| *text),
            None => model.str("unk_token"),
        };
        let bytes = kind == TokenizerKind::SentencePiece;
        for (text, id, score) in vocab {
            let byte = text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
            let ty = match () {
                () if bytes && byte => BYTE,
                () if kind != TokenizerKind::ByteLevel && Some(text) == unknown => UNKNOWN,
                () => NORMAL,
            };
            let shown = match (kind, text.strip_prefix("##")) {
                (TokenizerKind::WordPiece, Some(rest)) => rest.to_owned(),
                (TokenizerKind::WordPiece, None) => format!("▁{text}"),
                _ => text.to_owned(),
            };
            let id = tokens.put(file, text, id, ty, shown)?;
            if let Some(slot) = tokens.scores.get_mut(id as usize) {
                *slot = score;
            }
        }
        let (mut strips, mut normalized) = (Vec::new(), Vec::new());
        for token in added {
            let text = token
                .get("content")
                .and_then(Json::as_str)
                .ok_or_else(|| file.missing("added_tokens.content"))?;
            let on = |key: &str| token.get(key).and_then(Json::as_bool).unwrap_or(false);
            let id = token.get("id").and_then(Json::as_u64);
            if beyond && id.is_some_and(|id| id >= size as u64) {
                config.warnings.push(format!(
                    "{}: token {:?} is left out, for the vocabulary is cut to {size} rows",
                    file.file,
                    clip(text)
                ));
                continue;
            }
            strips.extend(["lstrip", "rstrip", "single_word"].iter().filter(|k| on(k)).map(|k| (*k, text)));
            // Such a token is looked for in what the normalizer made of a text, GGUF's in the text.
            if on("normalized") && changes(file, kind, text) {
                normalized.push(text);
            }
            let special = on("special") || looks_special(text);
            let ty = match special {
                true if kind != TokenizerKind::ByteLevel && Some(text) == unknown => UNKNOWN,
                true => CONTROL,
                false => USER_DEFINED,
            };
            // llama.cpp's form: a user-defined token is matched against the text, where spaces are spaces.
            let shown = if special { text.to_owned() } else { text.replace('▁', " ") };
            tokens.put(file, text, id, ty, shown)?;
        }
        tokens.refuse_shared_ids(file)?;
        tokens.unknown = unknown
            .filter(|_| kind != TokenizerKind::ByteLevel)
            .and_then(|text| tokens.ids.get(text))
            .copied();
        let key = strips.first().map_or("", |(key, _)| key);
        let strips: Vec<&str> = strips.iter().map(|(_, text)| *text).collect();
        let found = "it is looked for in the text as it is written";
        config.warnings.extend(told(file, "normalized", &normalized, found));
        config.warnings.extend(told(file, key, &strips, "what stands beside it keeps its place in the text"));
        Ok(tokens)
    }

    /// Refuses two texts of one id, of which a file has room for one.
    fn refuse_shared_ids(&self, file: &Object) -> Result<(), Error> {
        if self.ids.len() <= self.kinds.iter().filter(|k| **k != UNUSED).count() {
            return Ok(());
        }
        let mut all: Vec<(u32, &str)> = self.ids.iter().map(|(text, id)| (*id, text.as_str())).collect();
        all.sort_unstable();
        let Some(two) = all.windows(2).find(|two| two[0].0 == two[1].0) else { return Ok(()) };
        let (id, first, second) = (two[0].0, clip(two[0].1), clip(two[1].1));
        Err(file.unsupported(format!("the id {id} of both {first:?} and {second:?}")))
    }

    fn put(
        &mut self,
        file: &Object,
        text: &str,
        id: Option<u64>,
        kind: i32,
        shown: String,
    ) -> Result<u32, Error> {
        let size = self.texts.len();
        let id = id.filter(|id| *id < size as u64).ok_or_else(|| {
            file.unsupported(format!("token {:?} with an id outside the {size} of config.json", clip(text)))
        })?;
        self.texts[id as usize] = shown;
        self.kinds[id as usize] = kind;
        self.ids.insert(text.to_owned(), id as u32);
        Ok(id as u32)
    }
}

/// A warning of added tokens that say something for which GGUF has no key.
fn told(file: &Object, key: &str, texts: &[&str], what: &str) -> Option<String> {
    let first = clip(texts.first()?);
    let more = if texts.len() > 1 { format!(" and {} more", texts.len() - 1) } else { String::new() };
    Some(format!("{}: {key} of the added token {first:?}{more} has no key in GGUF: {what}", file.file))
}

/// Whether the file's normalizer may make another text of an added token.
fn changes(file: &Object, kind: TokenizerKind, text: &str) -> bool {
    match kind {
        _ if file.get("normalizer").is_none() => false,
        // No other normalizer than NFC is taken.
        TokenizerKind::ByteLevel => !text.is_ascii(),
        TokenizerKind::WordPiece => !text.is_ascii() || text.bytes().any(|b| b.is_ascii_uppercase()),
        TokenizerKind::SentencePiece | TokenizerKind::Unigram => true,
    }
}

/// Names that are control tokens whatever the file says, as in llama.cpp's converter.
fn looks_special(text: &str) -> bool {
    let within = |open, close| text.starts_with(open) && text.ends_with(close);
    ["<pad>", "<mask>", "<2mass>", "[@BOS@]"].contains(&text) || within("<|", "|>") || within("<｜", "｜>")
}
