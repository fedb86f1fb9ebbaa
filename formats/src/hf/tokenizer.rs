//! tokenizer.json and its companions, to the keys `tokenizer.ggml.*`.

use std::path::Path;

use serde_json::Value as Json;

use super::config::Config;
use super::json::{Object, clip};
use super::tokens::{TokenizerKind, Tokens};
use super::{Error, settings, steps};
use crate::gguf::{Array, Metadata, Value};

/// Sets the keys of the tokenizer and the chat template; the size of `config`'s vocabulary becomes that of the
/// rows that are kept.
pub(super) fn put(
    folder: &Path,
    config: &mut Config,
    pre: Option<&str>,
    metadata: &mut Metadata,
) -> Result<(), Error> {
    let path = folder.join("tokenizer.json");
    if !path.exists() && folder.join("tokenizer.model").exists() {
        let what = "tokenizer.model without a tokenizer.json beside it (save the tokenizer with transformers to get one)";
        return Err(Error::Unsupported { file: folder.display().to_string(), what: what.to_owned() });
    }
    let file = Object::read(&path)?;
    let settings = Object::read_if(&folder.join("tokenizer_config.json"))?;
    let generation = Object::read_if(&folder.join("generation_config.json"))?;
    let specials = Object::read_if(&folder.join("special_tokens_map.json"))?;
    let model = file.object("model")?;
    let bytes = model.flag("byte_fallback")? == Some(true);
    // Files from before `type` was written are BPE.
    let kind = match model.str("type").unwrap_or("BPE") {
        "BPE" if bytes => TokenizerKind::SentencePiece,
        "BPE" => TokenizerKind::ByteLevel,
        "WordPiece" => TokenizerKind::WordPiece,
        "Unigram" if bytes => return Err(file.unsupported("byte_fallback in a Unigram tokenizer")),
        "Unigram" => TokenizerKind::Unigram,
        other => {
            let what = format!("a tokenizer of type {other:?} (supported: BPE, WordPiece, Unigram)");
            return Err(file.unsupported(what));
        }
    };
    refuse_variants(&file, &model, kind)?;
    let tokens = Tokens::read(&file, &model, config, kind)?;
    let mut set = |key: &str, value| metadata.set(format!("tokenizer.ggml.{key}"), value);
    let mut name = |model: &str, pre: &str| {
        set("model", Value::Str(model.to_owned()));
        set("pre", Value::Str(pre.to_owned()));
    };
    match kind {
        TokenizerKind::ByteLevel => {
            let ignores = model.flag("ignore_merges")? == Some(true);
            // In transformers it counts more than what the pre-tokenizer says.
            if let Some(settings) =
                settings.as_ref().filter(|s| s.get("add_prefix_space") == Some(&Json::Bool(true)))
            {
                return Err(settings.unsupported("add_prefix_space true with a byte-level vocabulary"));
            }
            name("gpt2", &steps::byte_level(&file, ignores, pre, &mut config.warnings)?);
            let merges = merges(&file, &model)?.iter().map(|(a, b)| format!("{a} {b}")).collect();
            set("merges", Value::Array(Array::Str(merges)));
        }
        TokenizerKind::SentencePiece => {
            name("llama", "default");
            let prefix = steps::sentencepiece(&file, &mut config.warnings)?;
            set("add_space_prefix", Value::Bool(prefix));
            set("scores", Value::Array(Array::F32(scores(&tokens, &merges(&file, &model)?))));
        }
        TokenizerKind::WordPiece => {
            name("bert", "default");
            let (lowercase, strip_accents) = steps::wordpiece(&file, settings.as_ref())?;
            set("normalizer.lowercase", Value::Bool(lowercase));
            set("normalizer.strip_accents", Value::Bool(strip_accents));
        }
        TokenizerKind::Unigram => {
            name("t5", "default");
            let steps = steps::unigram(&file, &mut config.warnings)?;
            set("scores", Value::Array(Array::F32(tokens.scores.clone())));
            set("add_space_prefix", Value::Bool(steps.add_space_prefix));
            set("remove_extra_whitespaces", Value::Bool(steps.remove_extra_whitespaces));
            if let Some(map) = steps.charsmap {
                set("precompiled_charsmap", Value::Array(Array::U8(map)));
            }
        }
    }
    let added = settings::added(&file, settings.as_ref(), &tokens)?;
    set("add_bos_token", Value::Bool(added.bos));
    set("add_eos_token", Value::Bool(added.eos));
    if kind == TokenizerKind::Unigram {
        set("add_sep_token", Value::Bool(added.sep));
    }
    let named = [settings.as_ref(), specials.as_ref()];
    settings::put_special(named, generation.as_ref(), config, &tokens, &added, metadata);
    if let Some(g) = &generation {
        settings::put_sampling(g, metadata, &mut config.warnings)?;
    }
    metadata.set("tokenizer.ggml.tokens", Value::Array(Array::Str(tokens.texts)));
    metadata.set("tokenizer.ggml.token_type", Value::Array(Array::I32(tokens.kinds)));
    settings::put_template(folder, settings.as_ref(), metadata, &mut config.warnings)
}

/// Refuses what makes other tokens of a text and has no key.
fn refuse_variants(file: &Object, model: &Object, kind: TokenizerKind) -> Result<(), Error> {
    for (key, own) in [("continuing_subword_prefix", "##"), ("end_of_word_suffix", "")] {
        let own = if kind == TokenizerKind::WordPiece { own } else { "" };
        if let Some(given) = model.str(key).filter(|given| *given != own) {
            return Err(file.unsupported(format!("{key} {:?}", clip(given))));
        }
    }
    if let Some(dropout) = model.float("dropout")?.filter(|d| *d != 0.0) {
        return Err(file.unsupported(format!("dropout {dropout} in the tokenizer")));
    }
    if kind != TokenizerKind::ByteLevel && model.flag("ignore_merges")? == Some(true) {
        return Err(file.unsupported("ignore_merges in a tokenizer that is not byte-level"));
    }
    let most = model.count("max_input_chars_per_word")?;
    if kind == TokenizerKind::WordPiece && most.is_some_and(|n| n != 100) {
        return Err(model.wrong("max_input_chars_per_word", "100"));
    }
    Ok(())
}

fn merges(file: &Object, model: &Object) -> Result<Vec<(String, String)>, Error> {
    let list = model.get("merges").and_then(Json::as_array).ok_or_else(|| file.missing("model.merges"))?;
    let pair = |m: &Json| {
        let (a, b) = match m {
            Json::String(s) => s.split_once(' ')?,
            Json::Array(v) => match v.as_slice() {
                [a, b] => (a.as_str()?, b.as_str()?),
                _ => return None,
            },
            _ => return None,
        };
        Some((a.to_owned(), b.to_owned()))
    };
    list.iter()
        .map(|m| pair(m).ok_or_else(|| file.unsupported(format!("the merge {}", clip(&m.to_string())))))
        .collect()
}

/// SentencePiece merges by the score of the result. tokenizer.json has the order of the merges
/// instead, which is the order of those scores: what the first merge makes has the highest.
fn scores(tokens: &Tokens, merges: &[(String, String)]) -> Vec<f32> {
    let mut scores = vec![-1e9; tokens.texts.len()];
    for (rank, (a, b)) in merges.iter().enumerate().rev() {
        if let Some(id) = tokens.ids.get(&format!("{a}{b}")) {
            scores[*id as usize] = -(rank as f32);
        }
    }
    scores
}
