//! Tokenizers against the reference implementations on small vocabularies of our own
//! (`tests/reference/tokenizers_vectors.py`), and against bad metadata.

use proptest::prelude::*;
use serde_json::Value as Json;
use weft_formats::gguf::{Array, Metadata, Value};
use weft_formats::tokenizer::{Error, Tokenizer};

fn data(name: &str) -> Json {
    let path = format!("{}/tests/data/tokenizer/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn value(json: &Json) -> Value {
    match json {
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => Value::U32(n.as_u64().unwrap() as u32),
        Json::String(s) => Value::Str(s.clone()),
        Json::Array(items) => Value::Array(match &items[0] {
            Json::String(_) => Array::Str(items.iter().map(|s| s.as_str().unwrap().into()).collect()),
            Json::Number(n) if n.is_f64() => {
                Array::F32(items.iter().map(|x| x.as_f64().unwrap() as f32).collect())
            }
            _ => Array::I32(items.iter().map(|x| x.as_i64().unwrap() as i32).collect()),
        }),
        other => panic!("{other}"),
    }
}

fn metadata(json: &Json) -> Metadata {
    let mut meta = Metadata::new();
    for (key, v) in json["metadata"].as_object().unwrap() {
        meta.set(key.as_str(), value(v));
    }
    meta
}

fn bpe(json: &Json, family: &str) -> Tokenizer {
    let mut meta = metadata(json);
    meta.set("tokenizer.ggml.pre", Value::Str(family.into()));
    Tokenizer::from_metadata(&meta).unwrap()
}

fn ids(json: &Json) -> Vec<u32> {
    json.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as u32).collect()
}

/// Compares each case and reports all that differ.
fn compare(name: &str, tok: &Tokenizer, texts: &Json, expected: &Json, special: bool) {
    let (texts, expected) = (texts.as_array().unwrap(), expected.as_array().unwrap());
    assert_eq!(texts.len(), expected.len());
    let mut wrong = Vec::new();
    for (text, want) in texts.iter().map(|t| t.as_str().unwrap()).zip(expected) {
        let got = tok.encode(text, special);
        if got != ids(want) {
            let show =
                |v: &[u32]| v.iter().map(|&i| tok.token_text(i).unwrap().to_string()).collect::<Vec<_>>();
            wrong.push(format!("{text:?}: got {:?}, want {:?}", show(&got), show(&ids(want))));
        } else if !text.contains('▁') {
            assert_eq!(tok.decode(&got, true), text, "{name}");
        }
    }
    assert!(wrong.is_empty(), "{name}: {} of {} differ\n{}", wrong.len(), texts.len(), wrong.join("\n"));
}

#[test]
fn byte_level_bpe_equals_tokenizers() {
    let json = data("byte_bpe.json");
    for (family, expected) in json["ids"].as_object().unwrap() {
        let tok = bpe(&json, family);
        compare(family, &tok, &json["texts"], &expected["plain"], false);
        compare(family, &tok, &json["special_texts"], &expected["special"], true);
    }
}

#[test]
fn sentencepiece_bpe_equals_sentencepiece() {
    for name in ["spm_prefix.json", "spm_user_defined.json"] {
        let json = data(name);
        let tok = Tokenizer::from_metadata(&metadata(&json)).unwrap();
        compare(name, &tok, &json["texts"], &json["ids"], false);
        assert!(tok.add_bos() && !tok.add_eos());
    }
}

/// The first of the texts whose ids differ.
fn first_difference(name: &str, tok: &Tokenizer, texts: &Json, expected: &Json) {
    let (texts, expected) = (texts.as_array().unwrap(), expected.as_array().unwrap());
    assert_eq!(texts.len(), expected.len());
    for (text, want) in texts.iter().map(|t| t.as_str().unwrap()).zip(expected) {
        assert_eq!(tok.encode(text, false), ids(want), "{name}: {text:?}");
    }
}

#[test]
fn wordpiece_equals_tokenizers() {
    let json = data("wordpiece.json");
    for (name, expected) in json["ids"].as_object().unwrap() {
        let mut meta = metadata(&json);
        let (lower, accents) = name.split_once(' ').unwrap();
        meta.set("tokenizer.ggml.normalizer.lowercase", Value::Bool(lower == "true"));
        if accents != "none" {
            meta.set("tokenizer.ggml.normalizer.strip_accents", Value::Bool(accents == "true"));
        }
        let tok = Tokenizer::from_metadata(&meta).unwrap();
        first_difference(name, &tok, &json["texts"], expected);
        // The class token before, the separator behind; in pairs between the two as well.
        let one = tok.encode("a b", false);
        assert_eq!(tok.encode_prompt("a b"), [&[2], &one[..], &[3]].concat());
        let (pair, first) = tok.encode_pair("a b", "a b");
        assert_eq!(pair, [&[2], &one[..], &[3], &one[..], &[3]].concat());
        assert_eq!((first, tok.decode(&pair, false).as_str()), (one.len() + 2, "a b a b"));
    }
}

#[test]
fn unigram_equals_sentencepiece() {
    let json = data("unigram.json");
    let mut meta = metadata(&json);
    let bytes = json["metadata"]["tokenizer.ggml.precompiled_charsmap"].as_array().unwrap();
    let bytes = bytes.iter().map(|b| b.as_u64().unwrap() as u8).collect();
    meta.set("tokenizer.ggml.precompiled_charsmap", Value::Array(Array::U8(bytes)));
    let tok = Tokenizer::from_metadata(&meta).unwrap();
    first_difference("unigram", &tok, &json["texts"], &json["ids"]);
    let (bos, eos) = (tok.bos().unwrap(), tok.eos().unwrap());
    let one = tok.encode("a b", false);
    assert_eq!(tok.encode_prompt("a b"), [&[bos], &one[..], &[eos]].concat());
    let (pair, first) = tok.encode_pair("a b", "a b");
    assert_eq!(pair, [&[bos], &one[..], &[eos, eos], &one[..], &[eos]].concat());
    assert_eq!(first, one.len() + 2);
}

/// A score or a length that no piece can have; a map of characters that is none.
#[test]
fn bad_unigram_tables_are_refused() {
    let json = data("unigram.json");
    let with = |key: &str, value: Value| {
        let mut meta = metadata(&json);
        meta.set("tokenizer.ggml.precompiled_charsmap", Value::Array(Array::U8(Vec::new())));
        meta.set(format!("tokenizer.ggml.{key}"), value);
        Tokenizer::from_metadata(&meta).unwrap_err().to_string()
    };
    let n = json["metadata"]["tokenizer.ggml.tokens"].as_array().unwrap().len();
    let mut tokens: Vec<String> = (0..n).map(|i| i.to_string()).collect();
    tokens[9] = "x".repeat(1 << 20);
    assert!(with("tokens", Value::Array(Array::Str(tokens))).contains("token 9 has 1048576 bytes"));
    let scores = vec![f32::NAN; n];
    assert!(with("scores", Value::Array(Array::F32(scores))).contains("is NaN, not a finite number"));
    assert!(with("scores", Value::Array(Array::F32(vec![0.0]))).contains("1 entries"));
    for bytes in [vec![1, 2, 3], vec![255; 8], [&[0, 0, 0, 0][..], &[b'a'; 200]].concat()] {
        assert!(with("precompiled_charsmap", Value::Array(Array::U8(bytes))).contains("a map of characters"));
    }
}

/// Ids outside the vocabulary are told and not used.
#[test]
fn special_ids_that_name_no_token_are_warnings() {
    let json = data("byte_bpe.json");
    let mut meta = metadata(&json);
    for name in ["padding", "eot", "eom", "unknown", "seperator"] {
        meta.set(format!("tokenizer.ggml.{name}_token_id"), Value::U32(u32::MAX));
    }
    meta.set("tokenizer.ggml.bos_token_id", Value::I32(-1));
    meta.set("tokenizer.ggml.eog_token_ids", Value::Array(Array::U32(vec![3, 70_000])));
    let tok = Tokenizer::from_metadata(&meta).unwrap();
    assert_eq!(tok.bos(), None);
    assert!(tok.is_eog(3) && !tok.is_eog(70_000));
    assert_eq!(tok.warnings().len(), 6);
    assert!(tok.warnings().iter().any(|w| w.contains("padding_token_id is 4294967295")));
}

/// What another tool reads and this one does not is told, unless it says nothing.
#[test]
fn keys_that_nobody_reads_are_warnings() {
    let mut meta = metadata(&data("byte_bpe.json"));
    meta.set("tokenizer.ggml.add_space_prefix", Value::Bool(true));
    meta.set("tokenizer.ggml.fim_pre_token_id", Value::U32(1));
    meta.set("tokenizer.ggml.escape_whitespaces", Value::Bool(false));
    meta.set("tokenizer.ggml.some_texts", Value::Str(String::new()));
    assert!(Tokenizer::from_metadata(&meta).unwrap().warnings().is_empty());
    meta.set("tokenizer.ggml.suppress_tokens", Value::Array(Array::I32(vec![3])));
    let tok = Tokenizer::from_metadata(&meta).unwrap();
    assert!(matches!(tok.warnings(), [line] if line.contains("suppress_tokens")), "{:?}", tok.warnings());
}

/// Tokens that overlap: each in turn, the longest first and of equals the first, takes what is left of the
/// text from the left. Compared with doing just that.
#[test]
fn special_tokens_are_taken_longest_first() {
    let json = data("byte_bpe.json");
    let specials = ["aab", "ab", "aaa", "ba", "bb", "abab", "b", "aaaaa", "caa", "éa", "aé"];
    let mut meta = metadata(&json);
    let mut tokens = meta.strs("tokenizer.ggml.tokens").unwrap().to_vec();
    let first = tokens.len();
    tokens.extend(specials.iter().map(|s| (*s).to_owned()));
    let mut kinds = vec![1; first];
    kinds.extend(vec![4; specials.len()]);
    // A text that the vocabulary has already keeps its id: these must be new.
    let new = |t: &str| !tokens[..first].iter().any(|o| o == t);
    let mut ranked: Vec<&str> = specials.into_iter().filter(|s| new(s)).collect();
    ranked.sort_by_key(|s| std::cmp::Reverse(s.len()));
    meta.set("tokenizer.ggml.tokens", Value::Array(Array::Str(tokens.clone())));
    meta.set("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds)));
    meta.set("tokenizer.ggml.pre", Value::Str("gpt-2".into()));
    let tok = Tokenizer::from_metadata(&meta).unwrap();
    let mut state = 7u64;
    for _ in 0..2000 {
        let text: String = (0..24)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                ['a', 'a', 'a', 'b', 'b', 'c', 'é'][(state >> 33) as usize % 7]
            })
            .collect();
        let mut parts = vec![(text.clone(), false)];
        for special in &ranked {
            parts = parts
                .into_iter()
                .flat_map(|(t, done)| {
                    let mut out = Vec::new();
                    if done {
                        return vec![(t, true)];
                    }
                    for (i, piece) in t.split(special).enumerate() {
                        if i > 0 {
                            out.push(((*special).to_owned(), true));
                        }
                        out.push((piece.to_owned(), false));
                    }
                    out
                })
                .collect();
        }
        let want: Vec<String> = parts.into_iter().filter(|(_, done)| *done).map(|(t, _)| t).collect();
        let got: Vec<String> = tok
            .encode(&text, false)
            .into_iter()
            .filter(|id| *id as usize >= first)
            .map(|id| tok.token_text(id).unwrap().to_owned())
            .collect();
        assert_eq!(got, want, "{text}");
    }
}

/// Long and many special tokens cost time in proportion to their length.
#[test]
fn special_tokens_of_a_megabyte_take_seconds_at_the_most() {
    let json = data("byte_bpe.json");
    let run = |specials: Vec<String>, text: &str| {
        let mut meta = metadata(&json);
        let mut tokens = meta.strs("tokenizer.ggml.tokens").unwrap().to_vec();
        let mut kinds = vec![1; tokens.len()];
        kinds.extend(vec![4; specials.len()]);
        tokens.extend(specials);
        meta.set("tokenizer.ggml.tokens", Value::Array(Array::Str(tokens)));
        meta.set("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds)));
        let start = std::time::Instant::now();
        let n = Tokenizer::from_metadata(&meta).unwrap().encode(text, true).len();
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
        n
    };
    run(vec!["<".repeat(1 << 20)], &"<".repeat(1 << 20));
    let marks: Vec<String> = (0..60_000).map(|i| format!("<|{i:05}|>")).collect();
    assert_eq!(run(marks.clone(), &marks.join("~")), 2 * 60_000 - 1);
    let nested: Vec<String> = (2..2000).map(|n| "a".repeat(n)).collect();
    run(nested, &"a".repeat(1_000_000));
}

#[test]
fn user_defined_tokens_match_without_parsing_and_control_tokens_do_not() {
    let json = data("byte_bpe.json");
    let tok = bpe(&json, "qwen2");
    let (call, end) = (tok.token_id("<tool_call>").unwrap(), tok.token_id("<|im_end|>").unwrap());
    let ids = tok.encode("<tool_call><|im_end|>", false);
    assert!(ids[0] == call && !ids.contains(&end));
    assert_eq!(tok.encode("<tool_call><|im_end|>", true), [call, end]);
    assert_eq!(tok.decode(&[call, end], false), "<tool_call>");
    assert_eq!(tok.decode(&[call, end], true), "<tool_call><|im_end|>");
    assert!(tok.is_control(end) && tok.is_eog(end) && !tok.is_control(call) && !tok.is_eog(call));
    assert_eq!(tok.token_bytes(tok.token_id("Ġ").unwrap()), Some(b" ".to_vec()));
    let beyond = tok.vocab_size() as u32;
    assert_eq!(
        (tok.token_text(beyond), tok.token_bytes(beyond), tok.decode(&[beyond], true)),
        (None, None, "".into())
    );
    assert!(!tok.is_control(beyond) && !tok.is_eog(beyond));
}

#[test]
fn beginning_and_end_follow_the_file() {
    let json = data("byte_bpe.json");
    let mut meta = metadata(&json);
    let token = |meta: &Metadata| Tokenizer::from_metadata(meta).unwrap();
    meta.set("tokenizer.ggml.pre", Value::Str("qwen2".into()));
    let plain = token(&meta).encode("a", true);
    assert_eq!(token(&meta).encode_prompt("a"), plain);
    meta.set("tokenizer.ggml.add_bos_token", Value::Bool(true));
    assert_eq!(
        Tokenizer::from_metadata(&meta).unwrap_err().to_string(),
        "tokenizer.ggml.add_bos_token is true but the file names no such token"
    );
    meta.set("tokenizer.ggml.bos_token_id", Value::U32(7));
    meta.set("tokenizer.ggml.add_eos_token", Value::Bool(true));
    let tok = token(&meta);
    assert_eq!(tok.encode_prompt("a"), [&[7][..], &plain, &[tok.eos().unwrap()]].concat());
    // Llama 3 adds its beginning unless the file says otherwise.
    meta.set("tokenizer.ggml.pre", Value::Str("llama-bpe".into()));
    meta.set("tokenizer.ggml.add_bos_token", Value::Bool(false));
    assert!(!token(&meta).add_bos());
}

#[test]
fn bad_metadata_gives_one_line() {
    let bpe = metadata(&data("byte_bpe.json"));
    let spm = metadata(&data("spm_prefix.json"));
    let with = |base: &Metadata, key: &str, v: Option<Value>| {
        let mut meta = Metadata::new();
        for (k, old) in base.iter().filter(|(k, _)| *k != key) {
            meta.set(k, old.clone());
        }
        if let Some(v) = v {
            meta.set(key, v);
        }
        let error = Tokenizer::from_metadata(&meta).unwrap_err();
        assert!(!error.to_string().contains('\n'), "{error}");
        error.to_string()
    };
    let s = |t: &str| Some(Value::Str(t.into()));
    let strs = |t: &[&str]| Some(Value::Array(Array::Str(t.iter().map(|x| x.to_string()).collect())));
    let key = |k: &str| format!("tokenizer.ggml.{k}");

    for (base, missing) in
        [(&bpe, "model"), (&bpe, "tokens"), (&bpe, "merges"), (&spm, "tokens"), (&spm, "scores")]
    {
        let text = with(base, &key(missing), None);
        assert!(text.starts_with(&format!("metadata key tokenizer.ggml.{missing} is missing")), "{text}");
        let text = with(base, &key(missing), Some(Value::U8(1)));
        assert!(text.contains("must hold"), "{text}");
    }
    assert_eq!(
        with(&bpe, &key("model"), s("rwkv")),
        "tokenizer model \"rwkv\" is not supported (supported: gpt2, llama, bert, t5)"
    );
    let text = with(&bpe, &key("pre"), s("no\nsuch"));
    assert!(text.starts_with("pre-tokenizer \"no\\nsuch\" is not known (known: qwen2, "), "{text}");
    assert!(with(&bpe, &key("tokens"), strs(&[])).contains("0 tokens"));
    let short = Some(Value::Array(Array::I32(vec![1; 3])));
    assert!(with(&bpe, &key("token_type"), short).contains("has 3 entries for"));
    let short = Some(Value::Array(Array::F32(vec![0.0; 3])));
    assert!(with(&spm, &key("scores"), short).contains("has 3 entries for"));
    let text = with(&bpe, &key("merges"), strs(&["a b", "Qx Zy"]));
    assert!(text.contains("is not a token"), "{text}");
    let text = with(&bpe, &key("merges"), strs(&["", " ", "ab"]));
    assert!(text.starts_with("merge 0 \"\" cannot be used"), "{text}");
    assert!(with(&bpe, &key("eos_token_id"), Some(Value::Str("2".into()))).contains("must hold a token id"));
    assert!(with(&bpe, &key("add_bos_token"), Some(Value::U8(1))).contains("must hold a boolean"));
}

#[test]
fn absurd_vocabularies_do_not_panic() {
    let base = data("spm_prefix.json");
    let mut meta = metadata(&base);
    // No piece for anything, no byte tokens, scores that are not numbers.
    meta.set(
        "tokenizer.ggml.tokens",
        Value::Array(Array::Str(vec!["".into(), "▁".into(), "<0xZZ>".into(), "▁".into()])),
    );
    meta.set("tokenizer.ggml.token_type", Value::Array(Array::I32(vec![3, 1, 6, -7])));
    meta.set("tokenizer.ggml.scores", Value::Array(Array::F32(vec![f32::NAN, f32::NAN, f32::INFINITY, 0.0])));
    let tok = Tokenizer::from_metadata(&meta).unwrap();
    assert_eq!(tok.encode(" é", false), [1, 1, 0, 0]);
    assert_eq!(tok.decode(&[0, 1, 2, 3, 9], true), "<0xZZ>");

    meta.set("tokenizer.ggml.model", Value::Str("gpt2".into()));
    meta.set("tokenizer.ggml.merges", Value::Array(Array::Str(vec![])));
    let tok = Tokenizer::from_metadata(&meta).unwrap();
    assert!(tok.encode("what is this?", true).is_empty());
    assert_eq!(tok.decode(&[1, 2], true), "▁<0xZZ>");
    assert!(matches!(
        Tokenizer::from_metadata(&Metadata::new()),
        Err(Error::Missing(key)) if key == "tokenizer.ggml.model"
    ));
}

#[test]
fn no_pre_tokenizer_is_quadratic() {
    let json = data("byte_bpe.json");
    // One name of each family.
    let names = "qwen2 qwen35 llama-bpe gpt-2 smollm falcon default deepseek-llm deepseek-coder \
                 deepseek-v3 tekken gpt-4o seed-coder bloom viking";
    let mut toks: Vec<(String, Tokenizer)> =
        names.split_whitespace().map(|name| (name.to_string(), bpe(&json, name))).collect();
    for name in ["spm_prefix.json", "spm_user_defined.json"] {
        toks.push((name.into(), Tokenizer::from_metadata(&metadata(&data(name))).unwrap()));
    }
    for unit in
        [" ", "a", "A", "1", "'", "\n", " \t", "\n ", "a ", "Aa1 ", "é", "\u{301}", "🦙", "<|im_end|>"]
    {
        let text = unit.repeat(100_000 / unit.len());
        for (name, tok) in &toks {
            let start = std::time::Instant::now();
            let ids = tok.encode(&text, true);
            let seconds = start.elapsed().as_secs_f64();
            // Some hundredths of a second; a quadratic path takes minutes.
            assert!(seconds < 10.0, "{name}: 100 kB of {unit:?} took {seconds} s");
            assert_eq!(tok.decode(&ids, true), text, "{name}");
        }
    }
}

fn check_stream(tok: &Tokenizer, ids: &[u32], special: bool) -> Result<(), TestCaseError> {
    let mut stream = tok.stream(special);
    let mut text: String = ids.iter().map(|&id| stream.push(id)).collect();
    text += &stream.finish();
    prop_assert_eq!(text, tok.decode(ids, special));
    Ok(())
}

/// Any text, and text dense in what tokenizers treat specially.
const TEXT: &str = "(?s:.{0,40})|(?s:[ \\t\\n\\r.,'/0-9a-zA-Zé你🦙\u{301}\u{a0}]{0,40})";

proptest! {
    #[test]
    fn text_survives_and_streams(text in TEXT) {
        let json = data("byte_bpe.json");
        for family in ["gpt-2", "qwen2", "llama-bpe", "smollm", "falcon", "deepseek-llm", "default", "bloom"] {
            let tok = bpe(&json, family);
            let ids = tok.encode(&text, false);
            prop_assert_eq!(&tok.decode(&ids, true), &text, "{}", family);
            // Whole text comes out in pieces without a replacement character of our making.
            let mut stream = tok.stream(true);
            let pieces: String = ids.iter().map(|&id| stream.push(id)).collect();
            prop_assert_eq!(&pieces, &text);
            prop_assert_eq!(stream.finish(), "");
        }
        for name in ["spm_prefix.json", "spm_user_defined.json"] {
            let tok = Tokenizer::from_metadata(&metadata(&data(name))).unwrap();
            let ids = tok.encode(&text, false);
            prop_assert_eq!(tok.decode(&ids, true), text.replace('▁', " "));
            check_stream(&tok, &ids, true)?;
        }
    }

    #[test]
    fn any_ids_stream_as_they_decode(ids in prop::collection::vec(0u32..800, 0..60), special: bool) {
        check_stream(&bpe(&data("byte_bpe.json"), "qwen2"), &ids, special)?;
        for name in ["spm_prefix.json", "spm_user_defined.json"] {
            check_stream(&Tokenizer::from_metadata(&metadata(&data(name))).unwrap(), &ids, special)?;
        }
    }
}
