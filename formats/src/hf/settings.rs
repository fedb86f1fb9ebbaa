//! What the files beside tokenizer.json say: special tokens, what is added to a text, templates, sampling.

use std::path::Path;

use serde_json::Value as Json;

use super::Error;
use super::config::{Config, token_ids};
use super::json::{Object, clip};
use super::tokens::Tokens;
use crate::chat::Template;
use crate::gguf::{Array, Metadata, Value};

/// What the post-processor adds to a text, and to two.
#[derive(Debug, Default)]
pub(super) struct Added {
    pub(super) bos: bool,
    pub(super) eos: bool,
    /// A separator besides the end of the first text.
    pub(super) sep: bool,
    /// The ids that the template puts first and last.
    first: Option<u32>,
    last: Option<u32>,
}

/// The settings, else the template of the post-processor.
///
/// # Errors
/// A template that puts more than one token before a text or behind it.
pub(super) fn added(file: &Object, settings: Option<&Object>, tokens: &Tokens) -> Result<Added, Error> {
    const KNOWN: [&str; 5] =
        ["TemplateProcessing", "BertProcessing", "RobertaProcessing", "ByteLevel", "Sequence"];
    let post = file.get("post_processor");
    let steps = post.and_then(|p| p.get("processors")).and_then(Json::as_array);
    let mut all = post.into_iter().chain(steps.into_iter().flatten());
    let kind = |p: &Json| p.get("type").and_then(Json::as_str).unwrap_or_default().to_owned();
    if let Some(other) = all.clone().find(|p| !KNOWN.contains(&kind(p).as_str())) {
        return Err(file.unsupported(format!("the post-processor {}", clip(&other.to_string()))));
    }
    let mut found = Added::default();
    match all.find(|p| p.get("single").is_some() || p.get("sep").is_some()) {
        // BERT's and RoBERTa's own forms: a class token, a separator, in pairs of RoBERTa two.
        Some(p) if p.get("sep").is_some() => {
            let id = |key: &str| p.get(key)?.get(1)?.as_u64().and_then(|id| u32::try_from(id).ok());
            let sep = kind(p) == "RobertaProcessing";
            found = Added { bos: true, eos: true, sep, first: id("cls"), last: id("sep") };
        }
        Some(template) => {
            let single = template["single"].as_array().map_or(&[][..], Vec::as_slice);
            let Some(text) = single.iter().position(|item| item.get("Sequence").is_some()) else {
                return Err(file.unsupported("a post-processor that leaves the text out"));
            };
            let one = |items: &[Json]| match items {
                [] => Ok(None),
                [item] => special(file, template, item, tokens).map(Some),
                _ => Err(file.unsupported("a post-processor that puts several tokens on one side of a text")),
            };
            (found.first, found.last) = (one(&single[..text])?, one(&single[text + 1..])?);
            (found.bos, found.eos) = (found.first.is_some(), found.last.is_some());
            let pair = template.get("pair").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
            let at = |id: &str| pair.iter().position(|i| i["Sequence"]["id"] == id);
            if let (Some(a), Some(b)) = (at("A"), at("B")) {
                found.sep = b > a + 2;
            }
        }
        None => {}
    }
    let setting = |key: &str| settings.map_or(Ok(None), |s| s.flag(key));
    found.bos = setting("add_bos_token")?.unwrap_or(found.bos);
    found.eos = setting("add_eos_token")?.unwrap_or(found.eos);
    Ok(found)
}

/// The id of a special token that a post-processor's template names.
fn special(file: &Object, template: &Json, item: &Json, tokens: &Tokens) -> Result<u32, Error> {
    let name = item["SpecialToken"]["id"].as_str().unwrap_or_default();
    let ids = template["special_tokens"][name]["ids"].as_array().map_or(&[][..], Vec::as_slice);
    let id = match ids {
        [] => tokens.ids.get(name).copied(),
        [id] => id.as_u64().and_then(|id| u32::try_from(id).ok()),
        _ => None,
    };
    id.ok_or_else(|| file.unsupported(format!("the post-processor's {name:?}, which is not one token")))
}

/// Names and ids of special tokens: those of tokenizer_config.json, or else of special_tokens_map.json, by text, then
/// config.json's; and all ids that end a text, config.json's and generation_config.json's.
pub(super) fn put_special(
    settings: [Option<&Object>; 2],
    generation: Option<&Object>,
    config: &mut Config,
    tokens: &Tokens,
    added: &Added,
    metadata: &mut Metadata,
) {
    const KEYS: [(&str, &str); 7] = [
        ("bos", "bos_token"),
        ("eos", "eos_token"),
        ("unknown", "unk_token"),
        ("seperator", "sep_token"),
        ("padding", "pad_token"),
        ("cls", "cls_token"),
        ("mask", "mask_token"),
    ];
    let size = tokens.texts.len();
    warn_of_unknown(settings, generation, config, tokens, &KEYS);
    let mut ids: Vec<(&'static str, u32)> = Vec::new();
    let mut add = |name: &'static str, id: Option<u32>| {
        if let Some(id) = id.filter(|id| (*id as usize) < size)
            && !ids.iter().any(|(n, _)| *n == name)
        {
            ids.push((name, id));
        }
    };
    // What the template begins and ends a text with is what has to be added, whatever it is called.
    let named = |key: &str| {
        let value = settings.iter().flatten().find_map(|s| s.get(key));
        let text = value.and_then(|v| v.as_str().or(v.get("content").and_then(Json::as_str)))?;
        tokens.ids.get(text).copied()
    };
    let mut ends = Vec::new();
    if added.bos {
        add("bos", added.first);
    }
    // It is the model that takes it.
    add("unknown", tokens.unknown);
    if let (true, Some(last)) = (added.eos, added.last) {
        add("eos", Some(last));
        ends.extend(named("eos_token"));
    }
    for (name, key) in KEYS {
        add(name, named(key));
    }
    config.ids.iter().for_each(|(name, id)| add(name, Some(*id)));
    ends.append(&mut config.ends);
    ends.extend(generation.map(|g| token_ids(g, "eos_token_id")).unwrap_or_default());
    ends.retain(|id| (*id as usize) < size);
    add("eos", ends.first().copied());
    let eos = ids.iter().find(|(name, _)| *name == "eos").map(|(_, id)| *id);
    let mut seen: Vec<u32> = eos.into_iter().collect();
    ends.retain(|id| {
        let new = !seen.contains(id);
        seen.push(*id);
        new
    });
    // Two more have keys. Names that say which is which count first.
    let place = |names: &[&str], ends: &mut Vec<u32>| {
        let of = |name: &&str| ends.iter().position(|id| tokens.ids.get(*name) == Some(id));
        names.iter().find_map(of).map(|at| ends.remove(at))
    };
    let eom = place(&["<|eom_id|>"], &mut ends);
    let eot = place(&["<|eot_id|>", "<|im_end|>", "<end_of_turn>"], &mut ends);
    let mut rest = ends.into_iter();
    let eot = eot.or_else(|| rest.next());
    let eom = eom.or_else(|| rest.next());
    ids.extend(eot.map(|id| ("eot", id)));
    ids.extend(eom.map(|id| ("eom", id)));
    for (name, id) in ids {
        metadata.set(format!("tokenizer.ggml.{name}_token_id"), Value::U32(id));
    }
    let rest: Vec<u32> = rest.collect();
    if !rest.is_empty() {
        config.warnings.push(format!(
            "{}: {} tokens end a text; llama.cpp reads the first three, Weft all",
            config.file,
            rest.len() + 3
        ));
        metadata.set("tokenizer.ggml.eog_token_ids", Value::Array(Array::U32(rest)));
    }
}

/// Says which special tokens are none of the vocabulary.
fn warn_of_unknown(
    settings: [Option<&Object>; 2],
    generation: Option<&Object>,
    config: &mut Config,
    tokens: &Tokens,
    keys: &[(&str, &str)],
) {
    let size = tokens.texts.len();
    let mut told = Vec::new();
    for (_, key) in keys {
        let from = settings.iter().flatten().find_map(|s| Some((s, s.get(key)?)));
        let Some((file, value)) = from else { continue };
        let text = value.as_str().or(value.get("content").and_then(Json::as_str)).unwrap_or_default();
        if !text.is_empty() && !tokens.ids.contains_key(text) {
            told.push(format!("{}: {key} {:?} is no token, and is left out", file.file, clip(text)));
        }
    }
    let ends = generation.map(|g| (g.file.clone(), token_ids(g, "eos_token_id")));
    let own =
        (config.file.clone(), config.ids.iter().map(|(_, id)| *id).chain(config.ends.clone()).collect());
    for (file, ids) in ends.into_iter().chain([own]) {
        let mut beyond: Vec<u32> = ids.into_iter().filter(|id| *id as usize >= size).collect();
        beyond.dedup();
        told.extend(beyond.iter().map(|id| {
            format!(
                "{file}: the special token {id} is outside the {size} tokens that there are, and is left out"
            )
        }));
    }
    config.warnings.extend(told);
}

/// The default template, and others by name.
pub(super) fn put_template(
    folder: &Path,
    settings: Option<&Object>,
    metadata: &mut Metadata,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    const WANTED: &str = "a text, or a list of templates with names";
    let path = folder.join("chat_template.jinja");
    let mut default = None;
    let mut named = Vec::new();
    let from = settings.and_then(|s| Some((s, s.get("chat_template")?)));
    match from {
        None => {}
        Some((_, Json::String(text))) => default = Some(text.clone()),
        Some((settings, Json::Array(all))) => {
            for t in all {
                let text = |key: &str| t.get(key).and_then(Json::as_str).map(str::to_owned);
                match (text("name"), text("template")) {
                    (Some(name), Some(template)) if name == "default" => default = Some(template),
                    (Some(name), Some(template)) => named.push((name, template)),
                    _ => return Err(settings.wrong("chat_template", WANTED)),
                }
            }
        }
        Some((settings, _)) => return Err(settings.wrong("chat_template", WANTED)),
    }
    if path.exists() {
        let text = crate::atomic_file::read_regular(&path)
            .and_then(|b| String::from_utf8(b).map_err(|_| std::io::Error::other("is not UTF-8")));
        default = Some(text.map_err(|cause| Error::Io { file: path.display().to_string(), cause })?);
    }
    let file = folder.display();
    if let Some(text) = default {
        if let Err(e) = Template::new(&text, "", "") {
            warnings.push(format!("{file}: {e}; it is written as it is, and another is needed to chat"));
        }
        metadata.set("tokenizer.chat_template", Value::Str(text));
    }
    let plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if let Some((name, _)) = named.iter().find(|(name, _)| !plain(name)) {
        warnings.push(format!(
            "{file}: the chat template {:?} is left out, for its name makes no key",
            clip(name)
        ));
    }
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
///
/// # Errors
/// A value that no sampling has.
pub(super) fn put_sampling(
    generation: &Object,
    metadata: &mut Metadata,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    // What has no key, with the value that says nothing.
    const OTHERS: [(&str, f64); 12] = [
        ("bad_words_ids", 0.0),
        ("begin_suppress_tokens", 0.0),
        ("encoder_repetition_penalty", 1.0),
        ("epsilon_cutoff", 0.0),
        ("eta_cutoff", 0.0),
        ("forced_bos_token_id", 0.0),
        ("forced_eos_token_id", 0.0),
        ("min_new_tokens", 0.0),
        ("no_repeat_ngram_size", 0.0),
        ("num_beams", 1.0),
        ("suppress_tokens", 0.0),
        ("typical_p", 1.0),
    ];
    let said = |(key, none): &&(&str, f64)| {
        let value = generation.get(key).filter(|v| v.as_array().is_none_or(|list| !list.is_empty()));
        value.is_some_and(|v| v.as_f64() != Some(*none) || key.starts_with("forced"))
    };
    let left: Vec<&str> = OTHERS.iter().filter(said).map(|(key, _)| *key).collect();
    if !left.is_empty() {
        warnings.push(format!("{}: GGUF has no key for {}", generation.file, left.join(", ")));
    }
    // Then the likeliest token is taken, whatever the others say.
    let greedy = generation.flag("do_sample")? == Some(false);
    for (key, name, most) in [
        ("temperature", "temp", f64::INFINITY),
        ("top_p", "top_p", 1.0),
        ("min_p", "min_p", 1.0),
        ("repetition_penalty", "penalty_repeat", f64::INFINITY),
    ] {
        let Some(v) = generation.float(key)? else { continue };
        if !(0.0..=most).contains(&v) || !(v as f32).is_finite() {
            return Err(generation.wrong(key, "within its bounds"));
        }
        if !greedy || key == "repetition_penalty" {
            metadata.set(format!("general.sampling.{name}"), Value::F32(v as f32));
        }
    }
    if greedy {
        metadata.set("general.sampling.temp", Value::F32(0.0));
    }
    if let Some(value) = generation.get("top_k") {
        let k = value.as_u64().and_then(|k| i32::try_from(k).ok());
        let k = k.ok_or_else(|| generation.wrong("top_k", "a whole number from 0 on"))?;
        if !greedy {
            metadata.set("general.sampling.top_k", Value::I32(k));
        }
    }
    Ok(())
}
