//! What tokenizer.json does to a text before its model sees it, as far as GGUF can say it.

use serde_json::Value as Json;

use super::Error;
use super::json::{Object, clip};
use crate::base64;

const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT2: &str = "byte-level";
const DIGITS: &str = "digits";

/// What a byte-level pre-tokenizer does, pass by pass, whether words of the vocabulary are taken whole, and
/// the name that GGUF has for both.
const PRE: [(&[&str], bool, &str); 6] = [
    (&[QWEN2], false, "qwen2"),
    (&[LLAMA3], true, "llama-bpe"),
    (&[LLAMA3], false, "smaug-bpe"),
    (&[QWEN35], false, "qwen35"),
    (&[DIGITS, GPT2], false, "smollm"),
    (&[GPT2], false, "gpt-2"),
];

/// The steps of a normaliser or pre-tokenizer, sequences taken apart.
fn steps<'a>(file: &'a Object, key: &str) -> Vec<&'a Json> {
    fn add<'a>(step: &'a Json, depth: usize, out: &mut Vec<&'a Json>) {
        let inner = ["normalizers", "pretokenizers"].iter().find_map(|k| step.get(*k)?.as_array());
        match inner {
            Some(inner) if depth < 8 => inner.iter().for_each(|s| add(s, depth + 1, out)),
            _ => out.push(step),
        }
    }
    let mut out = Vec::new();
    if let Some(step) = file.get(key) {
        add(step, 0, &mut out);
    }
    out
}

fn kind(step: &Json) -> &str {
    step.get("type").and_then(Json::as_str).unwrap_or("without a type")
}

fn flag(step: &Json, key: &str, default: bool) -> bool {
    step.get(key).and_then(Json::as_bool).unwrap_or(default)
}

fn text<'a>(step: &'a Json, key: &str) -> Option<&'a str> {
    step.get(key).and_then(Json::as_str)
}

/// A pattern, as an expression or as a plain text.
fn pattern(step: &Json) -> Option<&str> {
    let pattern = step.get("pattern")?;
    pattern.get("Regex").or(pattern.get("String"))?.as_str()
}

fn refused(file: &Object, what: &str, step: &Json) -> Error {
    file.unsupported(format!("the {what} {}", clip(&step.to_string())))
}

/// Whether the step writes every space as `▁`.
fn escapes(step: &Json) -> bool {
    kind(step) == "Replace" && pattern(step) == Some(" ") && text(step, "content") == Some("▁")
}

/// The pre-tokenizer of a byte-level vocabulary, by GGUF's name; `asked` takes its place.
pub(super) fn byte_level(
    file: &Object,
    ignores_merges: bool,
    asked: Option<&str>,
    warnings: &mut Vec<String>,
) -> Result<String, Error> {
    for step in steps(file, "normalizer") {
        match kind(step) {
            // Every Qwen has it, and text is nearly always composed already.
            "NFC" => warnings.push(format!(
                "{}: the normalizer NFC has no key in GGUF: text in decomposed form (rare) gets other tokens",
                file.file
            )),
            _ => return Err(refused(file, "normalizer", step)),
        }
    }
    let passes = passes(file)?;
    if let Some(name) = asked {
        return Ok(name.to_owned());
    }
    let shown = || clip(&passes.join(", "));
    let mut named = PRE.iter().filter(|(p, ..)| *p == passes).peekable();
    if named.peek().is_none() {
        let mut known: Vec<_> = PRE.iter().map(|(_, _, name)| *name).collect();
        known.sort_unstable();
        return Err(file.unsupported(format!(
            "the pre-tokenizer {} (known: {}; --pre NAME takes another at your word)",
            shown(),
            known.join(", ")
        )));
    }
    let found =
        named.find(|(_, ignores, _)| *ignores == ignores_merges).map(|(_, _, name)| (*name).to_owned());
    found.ok_or_else(|| {
        file.unsupported(format!("ignore_merges {ignores_merges} with the pre-tokenizer {}", shown()))
    })
}

/// The pre-tokenizer's passes: patterns, or names for those that have none.
fn passes(file: &Object) -> Result<Vec<String>, Error> {
    let mut passes = Vec::new();
    let all = steps(file, "pre_tokenizer");
    // The vocabulary is one of bytes, and patterns are matched before these are made.
    let levels = all.iter().filter(|step| kind(step) == "ByteLevel").count();
    if levels != 1 || all.last().is_none_or(|step| kind(step) != "ByteLevel") {
        let shown: Vec<&str> = all.iter().map(|step| kind(step)).collect();
        let shown = clip(&shown.join(", "));
        return Err(file
            .unsupported(format!("the pre-tokenizer [{shown}], which has not ByteLevel as its last step")));
    }
    for step in all {
        match kind(step) {
            "Split" => {
                let pattern = pattern(step).ok_or_else(|| file.missing("pre_tokenizer.pattern"))?;
                // Matches and gaps are words; the known patterns leave no gaps.
                let (behavior, invert) =
                    (text(step, "behavior").unwrap_or("Isolated"), flag(step, "invert", false));
                let covers = || PRE.iter().any(|(p, ..)| *p == [pattern]);
                if (behavior, invert) != ("Isolated", false)
                    && !((behavior, invert) == ("Removed", true) && covers())
                {
                    let what =
                        format!("a Split pre-tokenizer with behavior {}, invert {invert}", clip(behavior));
                    return Err(file.unsupported(what));
                }
                passes.push(pattern.to_owned());
            }
            "ByteLevel" if flag(step, "add_prefix_space", true) => {
                return Err(file.unsupported("a ByteLevel pre-tokenizer with add_prefix_space"));
            }
            "ByteLevel" if flag(step, "use_regex", true) => passes.push(GPT2.to_owned()),
            "ByteLevel" => {}
            "Digits" if flag(step, "individual_digits", false) => passes.push(DIGITS.to_owned()),
            _ => passes.push(step.to_string()),
        }
    }
    Ok(passes)
}

/// Whether SentencePiece BPE puts a space before a text.
pub(super) fn sentencepiece(file: &Object, warnings: &mut Vec<String>) -> Result<bool, Error> {
    let (mut escaped, mut prefixed) = (false, false);
    for step in steps(file, "normalizer") {
        match kind(step) {
            "Prepend" if text(step, "prepend") == Some("▁") && !escaped => prefixed = true,
            "Replace" if escapes(step) => escaped = true,
            _ => return Err(refused(file, "normalizer", step)),
        }
    }
    for step in steps(file, "pre_tokenizer") {
        match kind(step) {
            "Metaspace" => {
                prefixed |= metaspace(file, step, warnings)?;
                if prefixed {
                    warn_doubled(file, warnings);
                }
            }
            // Nothing is left of the spaces that it looks for.
            "Split" if escaped && pattern(step) == Some(" ") => {}
            _ => return Err(refused(file, "pre-tokenizer", step)),
        }
    }
    Ok(prefixed)
}

/// Whether a Metaspace step puts a space before a text.
fn metaspace(file: &Object, step: &Json, warnings: &mut Vec<String>) -> Result<bool, Error> {
    if text(step, "replacement").is_some_and(|r| r != "▁") {
        return Err(refused(file, "pre-tokenizer", step));
    }
    match text(step, "prepend_scheme") {
        Some("never") => Ok(false),
        None if !flag(step, "add_prefix_space", true) => Ok(false),
        None | Some("always") => Ok(true),
        Some("first") => {
            warnings.push(format!(
                "{}: Metaspace with prepend_scheme first has no key in GGUF: text behind a special token gets a space in front, as at the start",
                file.file
            ));
            Ok(true)
        }
        Some(_) => Err(refused(file, "pre-tokenizer", step)),
    }
}

/// Metaspace puts a space before a text that has none there; who reads GGUF puts one before every text.
fn warn_doubled(file: &Object, warnings: &mut Vec<String>) {
    warnings.push(format!(
        "{}: Metaspace leaves a text that begins with a space as it is, for which GGUF has no key: such a text gets another one in front",
        file.file
    ));
}

/// How a unigram vocabulary's text is normalised.
#[derive(Debug, Default)]
pub(super) struct Unigram {
    pub(super) charsmap: Option<Vec<u8>>,
    pub(super) add_space_prefix: bool,
    pub(super) remove_extra_whitespaces: bool,
}

pub(super) fn unigram(file: &Object, warnings: &mut Vec<String>) -> Result<Unigram, Error> {
    let mut found = Unigram::default();
    // Spaces in a row become one; those at the end go; all white space parts words.
    let (mut joins, mut strips, mut splits) = (false, false, false);
    for step in steps(file, "normalizer") {
        match kind(step) {
            "Precompiled" if found.charsmap.is_none() => {
                let map = text(step, "precompiled_charsmap").and_then(base64::decode);
                found.charsmap = Some(map.ok_or_else(|| file.missing("normalizer.precompiled_charsmap"))?);
            }
            "Replace"
                if pattern(step) == Some(" {2,}")
                    && [Some(" "), Some("▁")].contains(&text(step, "content")) =>
            {
                joins = true;
            }
            "Replace" if escapes(step) => {}
            "Strip" if flag(step, "strip_right", true) => strips = true,
            _ => return Err(refused(file, "normalizer", step)),
        }
    }
    for step in steps(file, "pre_tokenizer") {
        match kind(step) {
            "WhitespaceSplit" => splits = true,
            "Metaspace" => found.add_space_prefix |= metaspace(file, step, warnings)?,
            _ => return Err(refused(file, "pre-tokenizer", step)),
        }
    }
    found.remove_extra_whitespaces = joins || strips || splits;
    if !found.remove_extra_whitespaces && found.add_space_prefix {
        warn_doubled(file, warnings);
    }
    let half = match (splits, joins, strips) {
        (true, ..) if found.charsmap.is_none() => {
            Some("WhitespaceSplit parts words at line feeds and tabs as well")
        }
        (false, true, false) => Some("the normalizer leaves a space at the end of a text"),
        (false, false, true) => Some("the normalizer leaves spaces that follow each other"),
        _ => None,
    };
    if let Some(half) = half {
        warnings.push(format!(
            "{}: {half}, for which GGUF has no key: of spaces in a row one is kept, and none at the ends",
            file.file
        ));
    }
    Ok(found)
}

/// Whether WordPiece's text is lower-cased, and whether it loses its accents. What tokenizer_config.json says of the
/// same counts more in transformers, and has to agree.
pub(super) fn wordpiece(file: &Object, settings: Option<&Object>) -> Result<(bool, bool), Error> {
    let mut found = None;
    for step in steps(file, "normalizer") {
        let whole = flag(step, "clean_text", true) && flag(step, "handle_chinese_chars", true);
        match kind(step) {
            "BertNormalizer" if whole && found.is_none() => {
                let lower = flag(step, "lowercase", true);
                found = Some((lower, flag(step, "strip_accents", lower)));
            }
            _ => return Err(refused(file, "normalizer", step)),
        }
    }
    for step in steps(file, "pre_tokenizer") {
        if kind(step) != "BertPreTokenizer" {
            return Err(refused(file, "pre-tokenizer", step));
        }
    }
    let found = found.ok_or_else(|| file.unsupported("a WordPiece tokenizer without BertNormalizer"))?;
    if let Some(settings) = settings {
        for (key, own) in
            [("do_lower_case", found.0), ("strip_accents", found.1), ("tokenize_chinese_chars", true)]
        {
            if let Some(given) = settings.flag(key)?.filter(|given| *given != own) {
                let what = format!("{key} {given} beside a normalizer in tokenizer.json that says {own}");
                return Err(settings.unsupported(what));
            }
        }
    }
    Ok(found)
}
