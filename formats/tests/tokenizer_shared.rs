//! Real vocabularies against llama.cpp's published vectors. They are not part of the
//! repository, so these tests need `shared/fixtures` next to it and pass without.

use std::path::PathBuf;
use std::time::Instant;

use proptest::prelude::*;
use weft_formats::gguf::File;
use weft_formats::tokenizer::Tokenizer;

fn fixture(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/vocab").join(name);
    if !path.exists() {
        eprintln!("skipped: shared/fixtures/vocab/{name} is not here");
        return None;
    }
    Some(path)
}

fn open(name: &str) -> Option<Tokenizer> {
    let file = File::open(&fixture(name)?).unwrap();
    Some(Tokenizer::from_metadata(file.metadata()).unwrap())
}

/// The `.inp` texts with the ids of `.out`.
fn vectors(name: &str) -> Vec<(String, Vec<u32>)> {
    let read = |suffix: &str| std::fs::read_to_string(fixture(&format!("{name}{suffix}")).unwrap()).unwrap();
    let (inp, out) = (read(".inp"), read(".out"));
    let texts: Vec<&str> = inp.split("\n__ggml_vocab_test__\n").collect();
    let lines: Vec<&str> = out.split('\n').collect();
    // Both files end with a separator: what follows it is not a case.
    assert_eq!((texts.len(), texts[46], lines.len(), lines[46]), (47, "", 47, ""));
    let ids = |line: &str| line.split_whitespace().map(|x| x.parse().unwrap()).collect();
    texts[..46].iter().zip(lines).map(|(t, l)| (t.to_string(), ids(l))).collect()
}

const SUPPORTED: [&str; 3] =
    ["ggml-vocab-qwen2.gguf", "ggml-vocab-llama-bpe.gguf", "ggml-vocab-llama-spm.gguf"];

#[test]
fn ids_equal_the_published_ones() {
    for name in SUPPORTED {
        let Some(tok) = open(name) else { continue };
        for (text, ids) in vectors(name) {
            assert_eq!(tok.encode(&text, false), ids, "{name}: {text:?}");
            assert_eq!(tok.decode(&ids, false), text, "{name}");
        }
    }
}

/// WordPiece: what it lowers and drops does not come back.
#[test]
fn ids_of_wordpiece_equal_the_published_ones() {
    let name = "ggml-vocab-bert-bge.gguf";
    let Some(tok) = open(name) else { return };
    for (text, ids) in vectors(name) {
        assert_eq!(tok.encode(&text, false), ids, "{text:?}");
    }
    assert_eq!(tok.encode_prompt("hello world"), [101, 7592, 2088, 102]);
    assert_eq!(tok.encode_pair("hello", "world"), (vec![101, 7592, 102, 2088, 102], 3));
    assert_eq!(tok.decode(&[101, 7592, 2088, 102], false), "hello world");
}

/// 500 texts of each vocabulary that tests/reference/tokenizers_real.py has written into a folder.
#[test]
fn ids_of_real_vocabularies_equal_those_of_tokenizers() {
    let Some(folder) = std::env::var_os("WEFT_TOKENIZERS").map(PathBuf::from) else {
        eprintln!("skipped: WEFT_TOKENIZERS names no folder");
        return;
    };
    for name in ["minilm", "e5-small-q4", "e5-small-enpt-q4"] {
        let file = File::open(&folder.join(format!("{name}.gguf"))).unwrap();
        let tok = Tokenizer::from_metadata(file.metadata()).unwrap();
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join(format!("{name}.json"))).unwrap()).unwrap();
        let texts: Vec<&str> =
            json["texts"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
        let ids = |key: &str, i: usize| -> Vec<u32> {
            json[key][i].as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as u32).collect()
        };
        let mut wrong = Vec::new();
        for (i, text) in texts.iter().enumerate() {
            let got = tok.encode(text, false);
            if got != ids("ids", i) {
                let show = |ids: &[u32]| {
                    ids.iter().map(|&i| tok.token_text(i).unwrap_or("?").to_owned()).collect::<Vec<_>>()
                };
                wrong.push(format!("{text:?}: {:?}, not {:?}", show(&got), show(&ids("ids", i))));
            }
        }
        eprintln!("{name}: {} of {} equal", texts.len() - wrong.len(), texts.len());
        assert!(wrong.is_empty(), "{name}: {} differ\n{}", wrong.len(), wrong.join("\n"));
        for i in 0..20 {
            assert_eq!(tok.encode_prompt(texts[i]), ids("whole", i), "{name}: {:?}", texts[i]);
            assert_eq!(tok.encode_pair(texts[i], texts[20 + i]).0, ids("pairs", i), "{name}: {:?}", texts[i]);
        }
    }
}

#[test]
fn every_token_survives_a_round_trip() {
    for name in SUPPORTED {
        let Some(tok) = open(name) else { continue };
        let mut checked = 0;
        for id in 0..tok.vocab_size() as u32 {
            let bytes = tok.token_bytes(id).unwrap();
            let Ok(text) = String::from_utf8(bytes.clone()) else { continue };
            let ids = tok.encode(&text, true);
            let back: Vec<u8> = ids.iter().flat_map(|&i| tok.token_bytes(i).unwrap()).collect();
            let back = back.strip_prefix(b" ").filter(|_| !text.starts_with(' ')).unwrap_or(&back);
            let back = if name.contains("spm") && text.starts_with(' ') { &back[1..] } else { back };
            assert_eq!(back, bytes, "{name}: token {id} {text:?} became {ids:?}");
            checked += 1;
        }
        assert!(checked > 31_000, "{name}: only {checked} tokens are text");
    }
}

#[test]
fn special_tokens() {
    if let Some(tok) = open("ggml-vocab-qwen2.gguf") {
        let text = "<|im_start|>user\nhi<|im_end|>";
        let ids = tok.encode(text, true);
        assert_eq!((ids[0], *ids.last().unwrap()), (151644, 151645));
        assert!(tok.is_eog(151645) && tok.is_eog(151643) && !tok.is_eog(151644));
        assert!(tok.is_control(151644));
        assert_eq!(tok.decode(&ids, true), text);
        assert_eq!(tok.decode(&ids, false), "user\nhi");
        let plain = tok.encode(text, false);
        assert!(!plain.contains(&151644) && tok.decode(&plain, false) == text);
        assert_eq!((tok.add_bos(), tok.add_eos()), (false, false));
        assert_eq!(tok.encode_prompt("Hello world"), tok.encode("Hello world", true));
    }
    if let Some(tok) = open("ggml-vocab-llama-bpe.gguf") {
        assert_eq!(tok.encode_prompt("<|eot_id|>"), [128000, 128009]);
        assert!(tok.add_bos() && tok.is_eog(128009) && tok.is_eog(128001));
        assert_eq!((tok.bos(), tok.token_id("<|begin_of_text|>")), (Some(128000), Some(128000)));
    }
    if let Some(tok) = open("ggml-vocab-llama-spm.gguf") {
        assert_eq!(tok.encode_prompt("Hello"), [1, 15043]);
        assert_eq!(tok.decode(&[1, 15043], false), "Hello");
        assert_eq!(tok.encode("a<s>b</s>", true), [263, 1, 289, 2]);
        assert!(!tok.encode("<s>", false).contains(&1));
        assert!(tok.is_eog(2));
        let mut stream = tok.stream(false).continuing();
        assert_eq!(stream.push(15043), " Hello");
    }
}

#[test]
fn long_runs_take_bounded_time() {
    for name in SUPPORTED {
        let Some(tok) = open(name) else { continue };
        for unit in [" ", "a", "\n", " \t", "a1", "<|im_end|>", "<s>", "é", "'", "\u{301}", " a"] {
            let text = unit.repeat(1_000_000 / unit.len());
            let start = Instant::now();
            let ids = tok.encode(&text, true);
            let seconds = start.elapsed().as_secs_f64();
            println!("{name} {unit:?}: {} ids in {seconds:.3} s", ids.len());
            // About a second in this profile; a quadratic path would take many minutes.
            assert!(seconds < 30.0, "{name}: 1 MB of {unit:?} took {seconds} s");
            assert!(tok.decode(&ids, true).len() >= text.len());
        }
    }
}

#[test]
fn random_text_survives_a_round_trip() {
    for name in SUPPORTED {
        let Some(tok) = open(name) else { continue };
        let mut runner = proptest::test_runner::TestRunner::default();
        runner
            .run(&"(?s:.{0,60}|[ \\t\\n\\r.,'0-9a-zA-Zé你🦙\u{301}]{0,60})", |text| {
                prop_assume!(!(name.contains("spm") && text.contains('▁')));
                prop_assert_eq!(tok.decode(&tok.encode(&text, false), true), text);
                Ok(())
            })
            .unwrap();
    }
}
