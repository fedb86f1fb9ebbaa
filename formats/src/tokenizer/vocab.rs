//! The token table of a file: texts, kinds, special ids.

use std::collections::HashMap;

use super::Error;
use crate::gguf::{Array, Metadata, Value};

/// `tokenizer.ggml.token_type`, with the values of GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// Names that end an answer whatever the metadata says of them.
const END_NAMES: &[&str] = &[
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|fim_pad|>",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<fim-pad>",
    "<fim_pad>",
    "<fim-repo>",
    "<reponame>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<turn|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "</s>",
    "<eos>",
    "<｜end▁of▁sentence｜>",
];

/// Fill-in-the-middle names that are control tokens whatever the metadata says.
const CONTROL_NAMES: &[&str] = &[
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<|fim_middle|>",
    "<fim-prefix>",
    "<fim-suffix>",
    "<fim-middle>",
    "<fim_prefix>",
    "<fim_suffix>",
    "<fim_middle>",
    "<｜fim▁begin｜>",
    "<｜fim▁hole｜>",
    "<｜fim▁end｜>",
];

/// Keys behind `tokenizer.ggml.` that are read, or that say what is known without them.
const KEYS: &[&str] = &[
    "add_bos_token",
    "add_eos_token",
    "add_sep_token",
    "add_space_prefix",
    "eog_token_ids",
    "merges",
    "model",
    "normalizer.lowercase",
    "normalizer.strip_accents",
    "pre",
    "precompiled_charsmap",
    "remove_extra_whitespaces",
    "scores",
    "token_type",
    "token_type_count",
    "tokens",
];

/// The keys of the tokenizer that nobody reads and that say something, one line each.
fn unread(meta: &Metadata) -> impl Iterator<Item = String> {
    let says = |value: &Value| match value {
        Value::Bool(on) => *on,
        Value::Str(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => true,
    };
    meta.iter().filter_map(move |(key, value)| {
        let name = key.strip_prefix("tokenizer.ggml.")?;
        let known = KEYS.contains(&name) || name.ends_with("_token_id");
        (!known && says(value)).then(|| format!("{key} is not known here and left out"))
    })
}

#[derive(Debug)]
pub(super) struct Vocab {
    tokens: Vec<String>,
    kinds: Vec<TokenKind>,
    ids: HashMap<String, u32>,
    ends: Vec<u32>,
    /// Bytes of the longest token.
    pub(super) longest: usize,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) unk: Option<u32>,
    pub(super) sep: Option<u32>,
    pub(super) cls: Option<u32>,
    /// Keys that name no token, one line each.
    pub(super) warnings: Vec<String>,
}

impl Vocab {
    /// Reads the table. `defaults` are the beginning, end, unknown and separator ids of a file that
    /// names none.
    pub(super) fn from_metadata(meta: &Metadata, defaults: [Option<u32>; 4]) -> Result<Self, Error> {
        let key = "tokenizer.ggml.tokens";
        let tokens = meta.strs(key).ok_or_else(|| Error::absent(meta, key, "an array of strings"))?.to_vec();
        if tokens.is_empty() || tokens.len() >= u32::MAX as usize {
            return Err(Error::Size(tokens.len()));
        }
        let n = tokens.len();
        let mut kinds = read_kinds(meta, n)?;
        let mut ids = HashMap::with_capacity(n);
        for (id, text) in tokens.iter().enumerate().rev() {
            // The first of equal texts keeps its id.
            ids.insert(text.clone(), id as u32);
        }

        let mut warnings: Vec<String> = unread(meta).collect();
        let mut special = |name: &str, default: Option<u32>| -> Result<Option<u32>, Error> {
            let key = format!("tokenizer.ggml.{name}_token_id");
            if meta.get(&key).is_none() {
                return Ok(default.filter(|&id| (id as usize) < n));
            }
            match meta.u64(&key) {
                Some(id) if id < n as u64 => Ok(Some(id as u32)),
                Some(id) => {
                    // -1 and the like stand for none in files that other tools load.
                    warnings.push(format!("{key} is {id}, outside the vocabulary of {n} tokens: ignored"));
                    Ok(None)
                }
                None if matches!(
                    meta.get(&key),
                    Some(Value::I8(_) | Value::I16(_) | Value::I32(_) | Value::I64(_))
                ) =>
                {
                    warnings.push(format!("{key} is negative: ignored"));
                    Ok(None)
                }
                None => Err(Error::Type { key, expected: "a token id" }),
            }
        };
        let bos = special("bos", defaults[0])?;
        let eos = special("eos", defaults[1])?;
        let unk = special("unknown", defaults[2])?;
        let sep = special("seperator", defaults[3])?;
        let cls = special("cls", None)?;
        let mut ends: Vec<u32> = eos.into_iter().collect();
        ends.extend(special("eot", None)?);
        ends.extend(special("eom", None)?);
        for name in ["padding", "mask"] {
            special(name, None)?;
        }
        // A list of our own: checkpoints name any number of ends, and GGUF has three keys.
        let key = "tokenizer.ggml.eog_token_ids";
        match (meta.get(key), meta.array(key)) {
            (None, _) => {}
            (_, Some(Array::U32(ids))) => ends.extend(ids.iter().filter(|id| (**id as usize) < n)),
            _ => return Err(Error::Type { key: key.into(), expected: "an array of u32" }),
        }
        for name in END_NAMES {
            if let Some(&id) = ids.get(*name) {
                ends.push(id);
                kinds[id as usize] = TokenKind::Control;
            }
        }
        ends.sort_unstable();
        ends.dedup();
        for name in CONTROL_NAMES {
            if let Some(&id) = ids.get(*name) {
                kinds[id as usize] = TokenKind::Control;
            }
        }
        let longest = tokens.iter().map(String::len).max().unwrap_or(0);
        Ok(Vocab { tokens, kinds, ids, ends, longest, bos, eos, unk, sep, cls, warnings })
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The raw text of a valid id.
    pub(super) fn text(&self, id: u32) -> &str {
        &self.tokens[id as usize]
    }

    pub(super) fn kind(&self, id: u32) -> TokenKind {
        self.kinds[id as usize]
    }

    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    pub(super) fn is_end(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    /// The tokens that stand for single bytes, `<0x00>` to `<0xFF>`, where there are such.
    pub(super) fn byte_fallback(&self) -> Box<[Option<u32>; 256]> {
        Box::new(std::array::from_fn(|b| {
            let ascii = || self.id(char::from_u32(b as u32).filter(char::is_ascii)?.encode_utf8(&mut [0; 4]));
            self.id(&format!("<0x{b:02X}>")).or_else(ascii)
        }))
    }
}

/// The byte that a token text like `<0x0A>` names.
pub(super) fn named_byte(text: &str) -> Option<u8> {
    let hex = text.strip_prefix("<0x")?.strip_suffix('>')?;
    if hex.len() == 2 { u8::from_str_radix(hex, 16).ok() } else { None }
}

fn read_kinds(meta: &Metadata, n: usize) -> Result<Vec<TokenKind>, Error> {
    let key = "tokenizer.ggml.token_type";
    let wrong = || Error::Type { key: key.into(), expected: "an array of integers" };
    let types: Vec<i64> = match meta.get(key) {
        None => return Ok(vec![TokenKind::Normal; n]),
        Some(_) => match meta.array(key).ok_or_else(wrong)? {
            Array::U8(v) => v.iter().map(|&x| x.into()).collect(),
            Array::I8(v) => v.iter().map(|&x| x.into()).collect(),
            Array::U16(v) => v.iter().map(|&x| x.into()).collect(),
            Array::I16(v) => v.iter().map(|&x| x.into()).collect(),
            Array::U32(v) => v.iter().map(|&x| x.into()).collect(),
            Array::I32(v) => v.iter().map(|&x| x.into()).collect(),
            Array::I64(v) => v.clone(),
            _ => return Err(wrong()),
        },
    };
    if types.len() != n {
        return Err(Error::Length { key: key.into(), got: types.len(), tokens: n });
    }
    // A type that GGUF does not define is shown and matched like an unused token.
    let kind = |&t: &i64| match t {
        1 => TokenKind::Normal,
        2 => TokenKind::Unknown,
        3 => TokenKind::Control,
        4 => TokenKind::UserDefined,
        6 => TokenKind::Byte,
        _ => TokenKind::Unused,
    };
    Ok(types.iter().map(kind).collect())
}
