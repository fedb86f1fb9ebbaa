//! tokenizer.json and its companions, to the keys `tokenizer.ggml.*`.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value as Json;

use super::Error;
use super::config::{Config, token_ids};
use super::json::{Object, clip};
use crate::gguf::{Array, Metadata, Value};

/// `tokenizer.ggml.token_type`.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT2: &str = "byte-level";
const DIGITS: &str = "digits";

/// What tokenizer.json's pre_tokenizer does, pass by pass, and the name that GGUF has for it.
const PRE: [(&[&str], &str); 5] = [
    (&[QWEN2], "qwen2"),
    (&[LLAMA3], "llama-bpe"),
    (&[QWEN35], "qwen35"),
    (&[DIGITS, GPT2], "smollm"),
    (&[GPT2], "gpt-2"),
];

/// Sets the keys of the tokenizer and the chat template.
pub(super) fn put(
    folder: &Path,
    config: &Config,
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
    let model = object(&file, "model")?;
    // Files from before `type` was written are BPE.
    match model.str("type").unwrap_or("BPE") {
        "BPE" => {}
        other => return Err(file.unsupported(format!("a tokenizer of type {other:?} (supported: BPE)"))),
    }
    let bytes = model.flag("byte_fallback")? == Some(true);
    let passes = passes(&file)?;
    let tokens = Tokens::read(&file, &model, config, bytes)?;
    if let Some(g) = &generation {
        put_sampling(g, metadata);
    }
    let merges = merges(&file, &model)?;
    let mut set = |key: &str, value| metadata.set(format!("tokenizer.ggml.{key}"), value);
    if bytes {
        if passes.iter().any(|p| p != "metaspace") {
            return Err(file
                .unsupported(format!("byte_fallback with the pre-tokenizer {}", clip(&passes.join(", ")))));
        }
        set("model", Value::Str("llama".to_owned()));
        set("pre", Value::Str("default".to_owned()));
        set("scores", Value::Array(Array::F32(scores(&tokens, &merges))));
        set("add_space_prefix", Value::Bool(prefixes_space(&file)));
    } else {
        let known: Vec<_> = PRE.iter().map(|(_, name)| *name).collect();
        let named = PRE.iter().find(|(p, _)| *p == passes).map(|(_, name)| *name);
        let name = pre.or(named).ok_or_else(|| {
            file.unsupported(format!(
                "the pre-tokenizer {} (known: {}; --pre NAME takes another at your word)",
                clip(&passes.join(", ")),
                known.join(", ")
            ))
        })?;
        set("model", Value::Str("gpt2".to_owned()));
        set("pre", Value::Str(name.to_owned()));
        set("merges", Value::Array(Array::Str(merges.iter().map(|(a, b)| format!("{a} {b}")).collect())));
    }
    for (name, id) in special_ids(settings.as_ref(), generation.as_ref(), config, &tokens) {
        set(&format!("{name}_token_id"), Value::U32(id));
    }
    let (bos, eos) = added(&file, settings.as_ref())?;
    set("add_bos_token", Value::Bool(bos));
    set("add_eos_token", Value::Bool(eos));
    set("tokens", Value::Array(Array::Str(tokens.texts)));
    set("token_type", Value::Array(Array::I32(tokens.kinds)));
    put_template(folder, settings.as_ref(), metadata)
}

fn object(file: &Object, key: &str) -> Result<Object, Error> {
    match file.get(key) {
        Some(Json::Object(map)) => Ok(Object { file: file.file.clone(), map: map.clone() }),
        Some(_) => Err(file.wrong(key, "an object")),
        None => Err(file.missing(key)),
    }
}

/// The pre-tokenizer's passes: patterns, or names for those that have none.
fn passes(file: &Object) -> Result<Vec<String>, Error> {
    let Some(pre) = file.get("pre_tokenizer") else { return Ok(Vec::new()) };
    let steps = match pre.get("pretokenizers").and_then(Json::as_array) {
        Some(steps) => steps.iter().collect(),
        None => vec![pre],
    };
    let mut passes = Vec::new();
    for step in steps {
        let flag = |key: &str, default| step.get(key).and_then(Json::as_bool).unwrap_or(default);
        match step.get("type").and_then(Json::as_str).unwrap_or("without a type") {
            "Split" => {
                let pattern = step.get("pattern").and_then(|p| p.get("Regex").or(p.get("String")));
                let pattern =
                    pattern.and_then(Json::as_str).ok_or_else(|| file.missing("pre_tokenizer.pattern"))?;
                passes.push(pattern.to_owned());
            }
            "ByteLevel" if flag("add_prefix_space", true) => {
                return Err(file.unsupported("a ByteLevel pre-tokenizer with add_prefix_space"));
            }
            "ByteLevel" if flag("use_regex", true) => passes.push(GPT2.to_owned()),
            "ByteLevel" => {}
            "Digits" if flag("individual_digits", false) => passes.push(DIGITS.to_owned()),
            "Metaspace" => passes.push("metaspace".to_owned()),
            other => passes.push(other.to_owned()),
        }
    }
    Ok(passes)
}

/// Whether a space is put before the text: by the normaliser, or by the pre-tokenizer.
fn prefixes_space(file: &Object) -> bool {
    fn any(value: &Json, test: &dyn Fn(&Json) -> bool) -> bool {
        let list =
            ["normalizers", "pretokenizers"].iter().find_map(|k| value.get(*k)).and_then(Json::as_array);
        test(value) || list.is_some_and(|steps| steps.iter().any(test))
    }
    let kind = |v: &Json, name| v.get("type").and_then(Json::as_str) == Some(name);
    let prepends = |v: &Json| kind(v, "Prepend") && v.get("prepend").and_then(Json::as_str) == Some("▁");
    let metaspace =
        |v: &Json| kind(v, "Metaspace") && v.get("prepend_scheme").and_then(Json::as_str) != Some("never");
    file.get("normalizer").is_some_and(|n| any(n, &prepends))
        || file.get("pre_tokenizer").is_some_and(|p| any(p, &metaspace))
}

/// The vocabulary, one entry a row of the embedding.
struct Tokens {
    texts: Vec<String>,
    kinds: Vec<i32>,
    ids: HashMap<String, u32>,
}

impl Tokens {
    fn read(file: &Object, model: &Object, config: &Config, bytes: bool) -> Result<Tokens, Error> {
        let size = config.vocabulary as usize;
        let vocab =
            model.get("vocab").and_then(Json::as_object).ok_or_else(|| file.missing("model.vocab"))?;
        // Rows that no token has are there to make the matrix a round size. Tokens are counted before
        // anything is allocated for the size that config.json claims.
        let added = file.get("added_tokens").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        if size > 64 * (vocab.len() + added.len()) + (1 << 16) {
            return Err(Error::Key {
                file: config.file.clone(),
                key: "vocab_size".to_owned(),
                found: size.to_string(),
                expected: "near the number of tokens in tokenizer.json",
            });
        }
        let mut texts: Vec<String> = (0..size).map(|i| format!("[PAD{i}]")).collect();
        let mut kinds = vec![UNUSED; size];
        let mut ids = HashMap::with_capacity(vocab.len());
        let unknown = model.str("unk_token");
        let mut put = |text: &str, id: Option<u64>, kind: i32, shown: &str| -> Result<(), Error> {
            let id = id.filter(|id| *id < size as u64).ok_or_else(|| {
                file.unsupported(format!(
                    "token {:?} with an id outside the {size} of config.json",
                    clip(text)
                ))
            })?;
            texts[id as usize] = shown.to_owned();
            kinds[id as usize] = kind;
            ids.insert(text.to_owned(), id as u32);
            Ok(())
        };
        for (text, id) in vocab {
            let byte = text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
            let kind = match () {
                () if bytes && byte => BYTE,
                () if bytes && Some(text.as_str()) == unknown => UNKNOWN,
                () => NORMAL,
            };
            put(text, id.as_u64(), kind, text)?;
        }
        for token in added {
            let text = token
                .get("content")
                .and_then(Json::as_str)
                .ok_or_else(|| file.missing("added_tokens.content"))?;
            let special =
                token.get("special").and_then(Json::as_bool).unwrap_or(false) || looks_special(text);
            let kind = match special {
                true if bytes && Some(text) == unknown => UNKNOWN,
                true => CONTROL,
                false => USER_DEFINED,
            };
            // llama.cpp's form: a user-defined token is matched against the text, where spaces are spaces.
            let shown = if special { text.to_owned() } else { text.replace('▁', " ") };
            put(text, token.get("id").and_then(Json::as_u64), kind, &shown)?;
        }
        Ok(Tokens { texts, kinds, ids })
    }
}

/// Names that are control tokens whatever the file says, as in llama.cpp's converter.
fn looks_special(text: &str) -> bool {
    let within = |open, close| text.starts_with(open) && text.ends_with(close);
    ["<pad>", "<mask>", "<2mass>", "[@BOS@]"].contains(&text) || within("<|", "|>") || within("<｜", "｜>")
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

/// Names and ids of special tokens: tokenizer_config.json's by text, then config.json's, then the
/// further ends of a turn of generation_config.json.
fn special_ids(
    settings: Option<&Object>,
    generation: Option<&Object>,
    config: &Config,
    tokens: &Tokens,
) -> Vec<(&'static str, u32)> {
    const KEYS: [(&str, &str); 7] = [
        ("bos", "bos_token"),
        ("eos", "eos_token"),
        ("unknown", "unk_token"),
        ("seperator", "sep_token"),
        ("padding", "pad_token"),
        ("cls", "cls_token"),
        ("mask", "mask_token"),
    ];
    let mut ids: Vec<(&'static str, u32)> = Vec::new();
    let mut add = |name: &'static str, id: Option<u32>| {
        if let Some(id) = id.filter(|id| (*id as usize) < tokens.texts.len())
            && !ids.iter().any(|(n, _)| *n == name)
        {
            ids.push((name, id));
        }
    };
    for (name, key) in KEYS {
        let value = settings.and_then(|s| s.get(key));
        let text = value.and_then(|v| v.as_str().or(v.get("content").and_then(Json::as_str)));
        add(name, text.and_then(|t| tokens.ids.get(t)).copied());
    }
    config.ids.iter().for_each(|(name, id)| add(name, Some(*id)));
    let ends = generation.map(|g| token_ids(g, "eos_token_id")).unwrap_or_default();
    add("eos", ends.first().copied());
    let id = |text: &str| tokens.ids.get(text).copied().filter(|id| ends.contains(id));
    add("eot", ["<|eot_id|>", "<|im_end|>", "<end_of_turn>"].into_iter().find_map(id));
    add("eom", id("<|eom_id|>"));
    ids
}

/// Whether the beginning and end tokens are added to a text: the settings, else the template of the
/// post-processor.
fn added(file: &Object, settings: Option<&Object>) -> Result<(bool, bool), Error> {
    let post = file.get("post_processor");
    let steps = post.and_then(|p| p.get("processors")).and_then(Json::as_array);
    let template = post.into_iter().chain(steps.into_iter().flatten()).find(|p| p.get("single").is_some());
    let single = template.and_then(|t| t["single"].as_array());
    let special = |item: Option<&Json>| item.is_some_and(|i| i.get("SpecialToken").is_some());
    let has = |item: Option<&Json>| special(item) && single.is_some_and(|s| s.len() > 1);
    let (bos, eos) = (has(single.and_then(|s| s.first())), has(single.and_then(|s| s.last())));
    let setting = |key: &str| settings.map_or(Ok(None), |s| s.flag(key));
    Ok((setting("add_bos_token")?.unwrap_or(bos), setting("add_eos_token")?.unwrap_or(eos)))
}

/// The default template, and others by name.
fn put_template(folder: &Path, settings: Option<&Object>, metadata: &mut Metadata) -> Result<(), Error> {
    let path = folder.join("chat_template.jinja");
    let mut default = None;
    let mut named = Vec::new();
    match settings.and_then(|s| s.get("chat_template")) {
        Some(Json::String(text)) => default = Some(text.clone()),
        Some(Json::Array(all)) => {
            for t in all {
                let text = |key: &str| t.get(key).and_then(Json::as_str).map(str::to_owned);
                match (text("name"), text("template")) {
                    (Some(name), Some(template)) if name == "default" => default = Some(template),
                    (Some(name), Some(template)) => named.push((name, template)),
                    _ => {}
                }
            }
        }
        _ => {}
    }
    if path.exists() {
        let text = std::fs::read(&path)
            .and_then(|b| String::from_utf8(b).map_err(|_| std::io::Error::other("is not UTF-8")));
        default = Some(text.map_err(|cause| Error::Io { file: path.display().to_string(), cause })?);
    }
    if let Some(text) = default {
        metadata.set("tokenizer.chat_template", Value::Str(text));
    }
    let plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    named.retain(|(name, _)| plain(name));
    if !named.is_empty() {
        let names = named.iter().map(|(n, _)| n.clone()).collect();
        metadata.set("tokenizer.chat_templates", Value::Array(Array::Str(names)));
    }
    for (name, template) in named {
        metadata.set(format!("tokenizer.chat_template.{name}"), Value::Str(template));
    }
    Ok(())
}

/// How the model's makers draw tokens.
fn put_sampling(generation: &Object, metadata: &mut Metadata) {
    for (key, name) in [("temperature", "temp"), ("top_p", "top_p"), ("min_p", "min_p")] {
        if let Ok(Some(v)) = generation.float(key) {
            metadata.set(format!("general.sampling.{name}"), Value::F32(v as f32));
        }
    }
    if let Ok(Some(k)) = generation.count("top_k") {
        metadata.set("general.sampling.top_k", Value::I32(k as i32));
    }
}
