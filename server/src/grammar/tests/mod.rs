//! Whatever the logits, what is written under a grammar is what the grammar says.

mod formats;
mod suite;
pub(crate) mod validate;

use serde_json::{Value, json};
use weft_formats::gguf::{Array, Metadata, Value as Meta};
use weft_formats::tokenizer::Tokenizer;
use weft_models::engine::Mask;

use super::{Entry, Grammars, Refusal, Source, Think, Trigger};

/// The characters of byte-level vocabularies that stand for bytes.
fn letter(byte: u8) -> char {
    let plain = |b: u32| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let b = u32::from(byte);
    if plain(b) {
        return char::from(byte);
    }
    let before = (0..b).filter(|&x| !plain(x)).count() as u32;
    char::from_u32(256 + before).expect("a letter")
}

/// A vocabulary of all bytes, some longer words, and tokens that steer: `controls` last of all.
pub(crate) fn tokenizer(words: &[&str], controls: &[&str]) -> Tokenizer {
    let mut tokens: Vec<String> = (0..=255).map(|b| letter(b).to_string()).collect();
    let common = [
        "\":",
        "\",",
        "{\"",
        "\"}",
        "},",
        "}}",
        "[\"",
        "\"]",
        "\n  ",
        "  ",
        ": ",
        ", \"",
        "123",
        "00",
        "true",
        "null",
        "e+",
        ".5",
        "the ",
        "name",
        "},\n",
        "\\\"",
        "\\n",
        "\u{e9}",
        "\u{1f600}",
        ">\n",
        ">\n\n",
        "}\n",
        "\n\n",
    ];
    tokens.extend(common.iter().chain(words).map(|w| w.bytes().map(letter).collect::<String>()));
    let mut kinds = vec![1; tokens.len()];
    for control in ["<|im_end|>", "<|endoftext|>", "<|im_start|>"].iter().chain(controls) {
        tokens.push((*control).to_owned());
        kinds.push(3);
    }
    let end = tokens.iter().position(|t| t == "<|im_end|>").expect("an end") as u32;
    let mut meta = Metadata::new();
    meta.set("tokenizer.ggml.model", Meta::Str("gpt2".into()));
    meta.set("tokenizer.ggml.pre", Meta::Str("qwen2".into()));
    meta.set("tokenizer.ggml.tokens", Meta::Array(Array::Str(tokens)));
    meta.set("tokenizer.ggml.token_type", Meta::Array(Array::I32(kinds)));
    meta.set("tokenizer.ggml.merges", Meta::Array(Array::Str(Vec::new())));
    meta.set("tokenizer.ggml.eos_token_id", Meta::U32(end));
    Tokenizer::from_metadata(&meta).expect("a tokenizer")
}

/// Numbers of splitmix64; the seed is the case.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % below as u64) as usize
    }
}

/// Draws allowed tokens until the text ends; None where it does not within `most`.
pub(crate) fn write(
    mask: &mut dyn Mask,
    tokenizer: &Tokenizer,
    dice: &mut Dice,
    most: usize,
) -> Option<String> {
    let mut ids = Vec::new();
    for step in 0..most {
        let mut bits = vec![0; tokenizer.vocab_size().div_ceil(32)];
        mask.allowed(&mut bits).expect("a mask");
        let all: Vec<u32> = (0..tokenizer.vocab_size() as u32)
            .filter(|&t| bits[t as usize / 32] >> (t % 32) & 1 == 1)
            .collect();
        assert!(!all.is_empty(), "no token after {:?}", tokenizer.decode(&ids, true));
        // Text that ends soon, after a while.
        let closes = |t: &&u32| {
            let bytes = tokenizer.token_bytes(**t).unwrap_or_default();
            tokenizer.is_eog(**t)
                || bytes.starts_with(b"\"")
                || bytes.starts_with(b"}")
                || bytes.starts_with(b"]")
        };
        let closing: Vec<u32> = all.iter().filter(closes).copied().collect();
        let from = if !closing.is_empty() && dice.roll(60) < step { &closing } else { &all };
        let token = from[dice.roll(from.len())];
        if tokenizer.is_eog(token) {
            return Some(tokenizer.decode(&ids, true));
        }
        mask.accept(token).unwrap_or_else(|e| panic!("{e} after {:?}", tokenizer.decode(&ids, true)));
        ids.push(token);
    }
    None
}

/// Whether a text may be written from here, to its end.
pub(crate) fn takes(mask: &mut dyn Mask, tokenizer: &Tokenizer, text: &str) -> bool {
    let mut bits = vec![0; tokenizer.vocab_size().div_ceil(32)];
    for token in tokenizer.encode(text, true) {
        bits.fill(0);
        if mask.allowed(&mut bits).is_err() || bits[token as usize / 32] >> (token % 32) & 1 == 0 {
            return false;
        }
        mask.accept(token).expect("an allowed token");
    }
    bits.fill(0);
    let end = tokenizer.eos().expect("an end");
    mask.allowed(&mut bits).is_ok() && bits[end as usize / 32] >> (end % 32) & 1 == 1
}

fn refusal(grammars: &Grammars, source: &Source) -> Refusal {
    match grammars.compile(source) {
        Ok(_) => panic!("{source:?} was compiled"),
        Err(e) => e,
    }
}

#[test]
fn random_logits_write_valid_json() {
    let t = tokenizer(&[], &[]);
    let g = Grammars::new(&t).expect("grammars");
    let person = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "score": {"type": "number"},
            "tags": {"type": "array", "items": {"enum": ["a", "b", 3, null]}, "minItems": 1, "maxItems": 3},
            "when": {"type": "string", "format": "date-time"},
            "kind": {"oneOf": [{"type": "object", "properties": {"t": {"const": "x"}}, "required": ["t"], "additionalProperties": false},
                               {"type": "object", "properties": {"t": {"const": "y"}, "z": {"type": "boolean"}}, "required": ["t", "z"], "additionalProperties": false}]},
            "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
            "code": {"type": "string", "pattern": "^[A-Z]{2}-\\d+$"},
            "free": {},
        },
        "required": ["name", "age", "score", "tags", "when", "kind", "next", "code"],
        "additionalProperties": false,
    });
    let schemas = [
        person,
        json!({"type": "integer"}),
        json!({"type": "array", "items": {"type": "number", "multipleOf": 0.25}}),
        json!(true),
    ];
    for schema in schemas {
        let mut whole = 0;
        for seed in 0..60 {
            let mut mask = g.mask(&Source::JsonSchema(schema.clone()), None).expect("a mask");
            if let Some(text) = write(&mut *mask, &t, &mut Dice(seed), 3000) {
                let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
                assert!(validate::is_valid(&schema, &value), "{schema} {text}");
                whole += 1;
            }
        }
        assert!(whole >= 50, "{schema}: only {whole} answers ended");
    }
    for seed in 0..60 {
        let mut mask = g.mask(&Source::JsonObject, None).expect("a mask");
        let text = write(&mut *mask, &t, &mut Dice(seed), 3000).expect("an end");
        assert!(serde_json::from_str::<Value>(&text).is_ok_and(|v| v.is_object()), "{text}");
    }
}

/// A model that only ever wants to write one thing is held inside the bounds.
#[test]
fn no_digits_until_the_context_is_full() {
    let t = tokenizer(&[], &[]);
    let g = Grammars::new(&t).expect("grammars");
    let stubborn = |schema: Value, start: &str, wish: &str| -> usize {
        let mut mask = g.mask(&Source::JsonSchema(schema), None).expect("a mask");
        t.encode(start, false).into_iter().for_each(|id| mask.accept(id).expect("a start"));
        let wish = t.encode(wish, false)[0];
        let mut bits = vec![0; t.vocab_size().div_ceil(32)];
        (0..100_000)
            .find(|_| {
                bits.fill(0);
                mask.allowed(&mut bits).expect("a mask");
                let may = bits[wish as usize / 32] >> (wish % 32) & 1 == 1;
                if may {
                    mask.accept(wish).expect("an allowed token");
                }
                !may
            })
            .expect("an end")
    };
    assert_eq!(stubborn(json!({"type": "integer"}), "", "7"), 20);
    assert_eq!(stubborn(json!({"type": "number"}), "-0.", "7"), 20);
    assert_eq!(stubborn(json!({"type": "number"}), "1e", "7"), 2);
    assert_eq!(stubborn(json!({"type": "object"}), "{\"a\": ", "7"), 20);
    assert_eq!(stubborn(json!({"type": "object"}), "{", "\n"), 1);
    assert_eq!(stubborn(json!({"type": "object"}), "{", " "), 2);
    assert_eq!(stubborn(json!({"type": "object"}), "{\n", " "), 4);
    assert_eq!(stubborn(json!({}), "", "["), 100);
    assert_eq!(stubborn(json!({"type": "string"}), "\"", "a"), 513);
    // A schema that wants more gets more.
    let long = json!({"type": "string", "minLength": 600, "pattern": "^a*$"});
    assert!(stubborn(long, "\"", "a") >= 600);
}

#[test]
fn what_cannot_be_enforced_is_named() {
    let t = tokenizer(&[], &[]);
    let g = Grammars::new(&t).expect("grammars");
    let inner = |s: Value| json!({"type": "object", "properties": {"a/b": s}});
    let cases = [
        (json!({"uniqueItems": true}), "uniqueItems"),
        (json!({"not": {}}), "not"),
        (json!({"if": {}, "then": {}}), "if"),
        (json!({"contains": {"type": "string"}}), "contains"),
        (json!({"dependentRequired": {}}), "dependentRequired"),
        (json!({"unevaluatedProperties": false}), "unevaluatedProperties"),
        (json!({"$dynamicRef": "#x"}), "$dynamicRef"),
        (json!({"minimun": 3}), "minimun"),
        (json!({"x-guidance": {"lenient": true}}), "x-guidance"),
        (json!({"nullable": true}), "nullable"),
        (json!({"type": "strnig"}), "type"),
        (json!({"type": []}), "type"),
        (json!({"minLength": -1}), "minLength"),
        (json!({"minLength": "3"}), "minLength"),
        (json!({"maxItems": 1e18}), "maxItems"),
        (json!({"multipleOf": 0}), "multipleOf"),
        (json!({"const": 9_007_199_254_740_993_i64}), "const"),
        (json!({"enum": []}), "enum"),
        (json!({"anyOf": []}), "anyOf"),
        (json!({"format": "iri"}), "format"),
        (json!({"pattern": "(?=a)b"}), "pattern"),
        (json!({"pattern": "(a)\\1"}), "pattern"),
        (json!({"pattern": "(a"}), "pattern"),
        (json!({"pattern": "\\bfoo"}), "pattern"),
        (json!({"$ref": "http://example.com/x"}), "$ref"),
        (json!({"$ref": "#/$defs/none"}), "$ref"),
        (json!({"oneOf": [{"type": "integer"}, {"minimum": 2}]}), "oneOf"),
        (json!({"required": "a"}), "required"),
    ];
    for (schema, keyword) in cases {
        for (schema, path) in
            [(schema.clone(), "#".to_owned()), (inner(schema), "#/properties/a~1b".to_owned())]
        {
            let e = refusal(&g, &Source::JsonSchema(schema.clone()));
            assert_eq!(e.keyword.as_deref(), Some(keyword), "{schema}: {e}");
            assert_eq!(e.path, Some(format!("{path}/{keyword}")), "{e}");
            assert!(e.message.contains(keyword) && !e.message.contains('\n'), "{e}");
        }
    }
    let near = refusal(&g, &Source::JsonSchema(json!({"minimun": 3})));
    assert!(near.message.contains("\"minimum\""), "{near}");
    let endless = json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]});
    assert!(refusal(&g, &Source::JsonSchema(endless)).message.contains("ever ends"));
    assert!(refusal(&g, &Source::JsonSchema(json!({"$ref": "#"}))).message.contains("ever ends"));
    let never = json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 5, "maximum": 3}}, "required": ["a"]});
    let e = refusal(&g, &Source::JsonSchema(never));
    assert!(e.path.as_deref().is_some_and(|p| p.starts_with("#/properties/a")), "{e:?}");
}

#[test]
fn large_and_deep_inputs_are_refused_before_they_are_read() {
    let t = tokenizer(&[], &[]);
    let g = Grammars::new(&t).expect("grammars");
    let mut deep = json!({});
    for _ in 0..100 {
        deep = json!({"items": deep});
    }
    assert!(refusal(&g, &Source::JsonSchema(deep)).message.contains("64 levels"));
    let wide: Value =
        (0..30_000).map(|i| (format!("p{i}"), json!({}))).collect::<serde_json::Map<_, _>>().into();
    assert!(refusal(&g, &Source::JsonSchema(json!({"properties": wide}))).message.contains("20000"));
    let names: Vec<String> = (0..30_000).map(|i| format!("n{i}")).collect();
    assert!(refusal(&g, &Source::JsonSchema(json!({"enum": names}))).message.contains("20000"));
    for text in ["(".repeat(60_000), "[".repeat(300), "~".repeat(500) + "a", "a".repeat(100_000)] {
        for source in [
            Source::Regex(text.clone()),
            Source::Lark(format!("start: \"a\" {text}{text}")),
            Source::Gbnf(format!("root ::= {text}")),
        ] {
            let e = refusal(&g, &source);
            assert!(!e.message.contains('\n') && e.message.len() < 500, "{e}");
        }
    }
    for empty in [Source::Regex("".into()), Source::Lark(" \n".into()), Source::Gbnf("".into())] {
        assert!(refusal(&g, &empty).message.ends_with("is empty"));
    }
    // Rules that grow without end meet a limit, and nothing hangs.
    let clock = std::time::Instant::now();
    let mut grow = String::from("root ::= a0\n");
    for i in 0..40 {
        grow += &format!("a{i} ::= a{} a{}\n", i + 1, i + 1);
    }
    drop(g.compile(&Source::Gbnf(grow + "a40 ::= \"x\"?\n")));
    drop(g.compile(&Source::Regex("((a{0,1000}){0,1000}){0,1000}".into())));
    let all = json!({"allOf": (0..200).map(|i| json!({"anyOf": [{"properties": {format!("a{i}"): {"type": "string"}}}, {"properties": {format!("b{i}"): {"type": "integer"}}}]})).collect::<Vec<_>>()});
    drop(g.compile(&Source::JsonSchema(all)));
    assert!(clock.elapsed().as_secs() < 40, "{:?}", clock.elapsed());
}

#[test]
fn regexes_and_grammars_are_enforced_as_a_whole() {
    let t = tokenizer(&[], &[]);
    let g = Grammars::new(&t).expect("grammars");
    let cases: &[(Source, &[&str], &[&str])] = &[
        (Source::Regex("[a-c]+(/x)?".into()), &["abc", "a/x"], &["", "d", "a/", "abcd"]),
        (Source::Lark("start: \"a\" b*\nb: \"(\" b* \")\"".into()), &["a", "a(())()"], &["a(", ")"]),
        (
            Source::Gbnf("root ::= \"yes\" | \"no\" # or\n  ".into()),
            &["yes", "no"],
            &["y", "maybe", "yesno", ""],
        ),
        (
            Source::Gbnf("root ::= item (\", \" item){0,2}\nitem ::= [a-z_]+ | \"\\\"\" [^\"\\n]* \"\\\"\"".into()),
            &["a", "ab_, c, \"q\u{e9} /x\"", "\"\""],
            &["a, b, c, d", "A", "\"\n\"", "a,b"],
        ),
        (
            Source::Gbnf("root ::= ws value ws\nvalue ::= \"[\" ws ( value ( ws \",\" ws value )* )? ws \"]\" | num\nnum ::= \"-\"? [0-9]+\nws ::= [ \\t\\n]*".into()),
            &["[1, [2,-3], [ ]]", " 7 ", "[]"],
            &["[1", "[,]", "1 2", ""],
        ),
        (Source::Gbnf("root ::= \"a\" \"b\"{0} [c-d]{0,0} \"e\"{1}".into()), &["ae"], &["a", "abe", "ace"]),
        (Source::Gbnf("root ::= . \"\\x41\" .? [\\u00e9-\\u00ff]\n".into()), &["\nA\u{e9}", "AAA\u{ff}"], &["A", "aB\u{e9}"]),
    ];
    for (source, good, bad) in cases {
        for text in *good {
            let mut mask = g.mask(source, None).unwrap_or_else(|e| panic!("{source:?}: {e}"));
            assert!(takes(&mut *mask, &t, text), "{source:?} {text:?}");
        }
        for text in *bad {
            let mut mask = g.mask(source, None).expect("a mask");
            assert!(!takes(&mut *mask, &t, text), "{source:?} {text:?}");
        }
    }
    let wrong = [
        "root = \"a\"",
        "a ::= \"b\"",
        "root ::= b",
        "root ::= \"a",
        "root ::= [",
        "root ::= (\"a\"",
        "root ::= \"a\"{3,1}",
        "root ::= \"\\q\"",
        "root ::= \"a\"\nroot ::= \"b\"",
        "root ::= root",
        "root ::= !<x>",
        "root ::= <nosuchtoken>",
    ];
    for text in wrong {
        let e = refusal(&g, &Source::Gbnf(text.into()));
        assert!(!e.message.contains('\n'), "{e}");
    }
    for text in [
        "start: b",
        "start: \"a\" | ",
        "%llguidance {\"a\"}",
        "start: %json {\"x-guidance\": {\"lenient\": true}}",
        "start: /(?=a)/",
    ] {
        let made = g.compile(&Source::Lark(text.into()));
        assert!(made.is_err() || text.ends_with("| "), "{text}");
    }
}

#[test]
fn a_grammar_waits_for_the_end_of_a_thought() {
    let t = tokenizer(&["<think>", "</think>", "</th"], &[]);
    let g = Grammars::new(&t).expect("grammars");
    let schema = Source::JsonSchema(
        json!({"type": "object", "properties": {"a": {"type": "integer", "maximum": 9, "minimum": 0}}, "required": ["a"], "additionalProperties": false}),
    );
    let think = |opened| Some(Think { open: "<think>".into(), close: "</think>".into(), opened });
    let cases = [
        (false, "<think>Hm {x} </thin k></think>\n\n{\"a\": 3}", true),
        (false, "{\"a\": 3}", true),
        (false, "\n{\"a\":3}", true),
        (false, "<think></think>{\"a\":3}", true),
        (false, "<think>x</think>no", false),
        (false, "<thonk>", false),
        (false, "no", false),
        (true, "Hm </think>{\"a\":3}", true),
        (true, "Hm </think>\n\nno", false),
        // The thought must end first.
        (true, "{\"a\":3}", false),
    ];
    for (opened, text, want) in cases {
        let mut mask = g.mask(&schema, think(opened)).expect("a mask");
        assert_eq!(takes(&mut *mask, &t, text), want, "{text}");
    }
    for seed in 0..200 {
        let opened = seed % 2 == 0;
        let mut mask = g.mask(&schema, think(opened)).expect("a mask");
        // It writes a thought, and the rest at random.
        let begin = if opened { "so </thi" } else { "<think>so </thi" };
        for id in t.encode(begin, false) {
            mask.accept(id).expect("free text");
        }
        assert!(opened || !mask.is_free() || seed > 0);
        for id in t.encode("nk", false) {
            mask.accept(id).expect("free text");
        }
        // The next token may be `>`, or `>\n`, or anything that is no end.
        let mut bits = vec![0; t.vocab_size().div_ceil(32)];
        mask.allowed(&mut bits).expect("a mask");
        let end = (0..t.vocab_size() as u32).filter(|&i| bits[i as usize / 32] >> (i % 32) & 1 == 1);
        let ends: Vec<u32> = end.filter(|&i| t.token_bytes(i).is_some_and(|b| b.starts_with(b">"))).collect();
        assert_eq!(ends.len(), 3);
        mask.accept(ends[seed % 3]).expect("an end");
        let text = write(&mut *mask, &t, &mut Dice(seed as u64), 500).expect("an end");
        let value: Value = serde_json::from_str(text.trim()).expect("JSON");
        assert!(value["a"].as_u64().is_some_and(|a| a < 10), "{text}");
    }
}

#[test]
fn a_thought_ends_when_it_has_had_its_share() {
    let t = tokenizer(&["</think>\n", "</th", "Hm"], &[]);
    let g = Grammars::new(&t).expect("grammars");
    let schema = Source::JsonSchema(json!({"enum": [1, 2]}));
    for seed in 0..200u64 {
        let opened = seed % 2 == 0;
        let think = Think { open: "<think>".into(), close: "</think>".into(), opened };
        let enforced = (seed % 4 < 2).then(|| g.entry(&schema, Some(think.clone())).expect("an entry"));
        let budget = (seed % 7) as usize;
        let mut mask = g.end_thought(enforced, think, budget).mask();
        if !opened {
            t.encode("<think>", false).into_iter().for_each(|id| mask.accept(id).expect("a thought"));
        }
        let (mut text, mut dice, mut tokens) = (String::new(), Dice(seed), 0);
        let mut bits = vec![0; t.vocab_size().div_ceil(32)];
        while !text.contains("</think>") {
            bits.fill(0);
            mask.allowed(&mut bits).expect("a mask");
            let may = |id: &u32| bits[*id as usize / 32] >> (id % 32) & 1 == 1;
            let all: Vec<u32> = (0..t.vocab_size() as u32).filter(may).collect();
            assert!(tokens < budget || !mask.is_free());
            assert!(tokens < budget || all.iter().all(|id| !t.is_eog(*id)), "{text:?}");
            let hm = t.encode("H", false)[0];
            let token = if tokens < budget { hm } else { all[dice.roll(all.len())] };
            mask.accept(token).expect("an allowed token");
            text += &t.decode(&[token], true);
            tokens += 1;
        }
        assert_eq!(text.trim_start_matches('H').trim_end(), "</think>", "{text:?}");
        assert!(tokens <= budget + 8, "{tokens} {budget}");
        if seed % 4 < 2 {
            let rest = write(&mut *mask, &t, &mut dice, 100).expect("an end");
            assert!(["1", "2"].contains(&rest.trim()), "{rest:?}");
        } else {
            assert!(mask.is_free());
        }
    }
}

#[test]
fn a_trigger_switches_a_grammar_on() {
    let t = tokenizer(&["<tool", "<tool_call>{", "<tool_call>["], &["<call>"]);
    let g = Grammars::new(&t).expect("grammars");
    let grammar = g.compile(&Source::JsonSchema(json!({"type": "object", "properties": {"n": {"const": 1}}, "required": ["n"], "additionalProperties": false}))).expect("compiles");
    let entry = |at_start| {
        let trigger =
            |text: &str, at_start| Trigger { text: text.into(), at_start, grammar: grammar.clone() };
        let think = Some(Think { open: "<think>".into(), close: "</think>".into(), opened: false });
        Entry {
            think,
            triggers: vec![trigger("<tool_call>", at_start), trigger("<call>", false)],
            ..Entry::default()
        }
        .mask()
    };
    let cases = [
        (false, "Free text <tool of all kinds.", true),
        (false, "<tool_call>{\"n\":1}", true),
        (false, "See <<tool_call>{\"n\":2}", false),
        (false, "See <tool_call>[", false),
        (false, "See <call>{\"n\":1}", true),
        (false, "See <call>no", false),
        (false, "<think><tool_call>x</think> well <tool_call>{\"n\":1}", true),
        (false, "<think>a</think><tool_call>no", false),
        (true, " \n<tool_call>{\"n\":1}", true),
        (true, "<tool_call>no", false),
        (true, "See <tool_call>no", true),
    ];
    for (at_start, text, want) in cases {
        assert_eq!(takes(&mut *entry(at_start), &t, text), want, "{text}");
    }
    // `<tool_call>[` in one token cannot come, for the grammar does not begin with it.
    let mut mask = entry(false);
    assert!(!mask.is_free());
    let mut bits = vec![0; t.vocab_size().div_ceil(32)];
    mask.allowed(&mut bits).expect("a mask");
    let may = |text: &str| {
        let word: String = text.bytes().map(letter).collect();
        let id = t.token_id(&word).expect("a token") as usize;
        bits[id / 32] >> (id % 32) & 1 == 1
    };
    assert!(may("<tool_call>{") && !may("<tool_call>["));
    // Where no token could go wrong, no mask is asked for.
    let plain = tokenizer(&[], &[]);
    let g = Grammars::new(&plain).expect("grammars");
    let grammar = g.compile(&Source::JsonObject).expect("compiles");
    let mut mask = Entry {
        think: None,
        triggers: vec![Trigger { text: "<tool_call>".into(), at_start: false, grammar }],
        ..Entry::default()
    }
    .mask();
    assert!(mask.is_free());
    plain.encode("a <tool_call>", false).into_iter().for_each(|id| mask.accept(id).expect("free"));
    assert!(!mask.is_free());
}

#[test]
fn compiled_grammars_are_kept_and_the_cache_is_bounded() {
    let t = tokenizer(&[], &[]);
    let g = Grammars::new(&t).expect("grammars");
    let source = |i: usize| Source::JsonSchema(json!({"const": i}));
    let first = g.compile(&source(0)).expect("compiles");
    assert!(std::sync::Arc::ptr_eq(&first, &g.compile(&source(0)).expect("compiles")));
    for i in 0..100 {
        g.compile(&source(i)).expect("compiles");
    }
    assert!(g.cache.len() <= 64, "{}", g.cache.len());
    // Uses do not disturb each other.
    let (mut a, mut b) =
        (g.mask(&source(7), None).expect("a mask"), g.mask(&source(7), None).expect("a mask"));
    assert!(takes(&mut *a, &t, "7") && takes(&mut *b, &t, "7"));
}

#[test]
fn the_table_of_keywords_is_in_order() {
    let all: Vec<&str> = super::schema::keywords().collect();
    assert!(all.is_sorted(), "{all:?}");
}
