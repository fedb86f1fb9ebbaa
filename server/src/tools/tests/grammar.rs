//! What must be called is called, whatever the logits.

use serde_json::{Value, json};

use super::formats;
use super::{think, whole};
use crate::grammar::tests::{Dice, takes, tokenizer, validate, write};
use crate::grammar::{Grammars, Source, Think};
use crate::tools::{Calls, Choice, Tool, plan};

fn tools(strict: bool) -> Vec<Tool> {
    let tool = |name: &str, parameters: Option<Value>| Tool {
        name: name.into(),
        description: None,
        parameters,
        strict,
    };
    vec![
        tool(
            "search",
            Some(json!({
                "type": "object",
                "properties": {"q": {"type": "string"}, "n": {"type": "integer"}, "how": {"enum": ["fast", "well"]}},
                "required": ["q", "how"],
                "additionalProperties": false,
            })),
        ),
        tool(
            "get_weather",
            Some(json!({
                "type": "object",
                "properties": {
                    "where": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/place"}]},
                    "days": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2},
                },
                "required": ["where", "days"],
                "additionalProperties": false,
                "$defs": {"place": {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"], "additionalProperties": false}},
            })),
        ),
        tool("f", None),
    ]
}

fn check(format: &'static formats::Format, think: Option<Think>, text: &str, about: &str) -> Vec<String> {
    let all = whole(format, think, text);
    assert!(all.content.trim().is_empty(), "{about}: {text:?} has content {:?}", all.content);
    let check = |(_, name, arguments): (String, String, String)| {
        let tools = tools(true);
        let tool = tools.iter().find(|t| t.name == name).expect("a tool");
        let value: Value =
            serde_json::from_str(&arguments).unwrap_or_else(|e| panic!("{about}: {e} {arguments}"));
        assert!(validate::is_valid(&tool.schema(), &value), "{about}: {name} {arguments}");
        name
    };
    all.calls.into_iter().map(check).collect()
}

#[test]
fn required_and_named_are_obeyed_whatever_the_logits() {
    let mut several = 0;
    for format in formats::all() {
        for controls in [true, false] {
            let tags: &[&str] = if controls { format.tags } else { &[] };
            let t = tokenizer(&["<think>", "</think>", "{\"name\": \""], tags);
            let g = Grammars::new(&t).expect("grammars");
            let mut ended = 0;
            for seed in 0..60 {
                let named = seed % 2 == 0;
                let choice = if named { Choice::Named("get_weather".into()) } else { Choice::Required };
                let parallel = seed % 3 == 0;
                let calls = Calls { tools: tools(true), choice, parallel };
                let think = [None, Some(think(false)), Some(think(true))][seed % 3].clone();
                let entry =
                    plan(&g, &t, format, &calls, None, think.clone()).expect("a plan").expect("a grammar");
                let mut mask = entry.mask();
                let start = if think.as_ref().is_some_and(|t| t.opened) { "Hm.</think>" } else { "" };
                t.encode(start, false).into_iter().for_each(|id| mask.accept(id).expect("a thought"));
                let Some(text) = write(&mut *mask, &t, &mut Dice(seed as u64), 4000) else { continue };
                ended += 1;
                let names = check(format, think, &format!("{start}{text}"), format.name);
                assert!(!names.is_empty() && (parallel || names.len() == 1), "{} {text:?}", format.name);
                assert!(!named || names.iter().all(|n| n == "get_weather"), "{names:?}");
                several += usize::from(names.len() > 1);
            }
            // Thoughts at random do not end; what follows one that does is checked all the same.
            assert!(ended >= 35, "{}: {ended} ended", format.name);
        }
    }
    assert!(several > 20, "{several} answers with several calls");
}

#[test]
fn a_call_that_is_begun_is_a_call() {
    for format in formats::all() {
        let t = tokenizer(&[], format.tags);
        let g = Grammars::new(&t).expect("grammars");
        let calls = Calls { tools: tools(false), choice: Choice::Auto, parallel: true };
        let start = match format.name {
            "llama" => "{\"name\": \"search\", \"parameters\":",
            "generic" => "{\"name\": \"search\", \"arguments\":",
            _ => format.openers[0].text,
        };
        for seed in 0..30 {
            let entry =
                plan(&g, &t, format, &calls, None, Some(think(false))).expect("a plan").expect("a grammar");
            let mut mask = entry.mask();
            assert!(mask.is_free(), "{}", format.name);
            let thought = ["", "<think>so</think>\n\n"][seed % 2];
            t.encode(&format!("{thought}{start}"), true)
                .into_iter()
                .for_each(|id| mask.accept(id).expect("free text"));
            assert!(!mask.is_free(), "{}", format.name);
            let Some(text) = write(&mut *mask, &t, &mut Dice(seed as u64), 4000) else { continue };
            assert!(
                !check(format, Some(think(false)), &format!("{thought}{start}{text}"), format.name)
                    .is_empty()
            );
        }
        // Free text ends freely.
        let entry = plan(&g, &t, format, &calls, None, None).expect("a plan").expect("a grammar");
        assert!(takes(&mut *entry.mask(), &t, "There is nothing to call {x}."), "{}", format.name);
        let none = Calls { choice: Choice::None, ..calls };
        assert!(plan(&g, &t, format, &none, None, None).expect("a plan").is_none());
    }
}

/// With a form, an answer is a call or has it.
#[test]
fn calls_and_a_form_go_together() {
    for format in formats::all() {
        let t = tokenizer(&[], format.tags);
        let g = Grammars::new(&t).expect("grammars");
        let calls = Calls { tools: tools(true), choice: Choice::Auto, parallel: true };
        let form = Source::JsonSchema(json!({"type": "array", "items": {"type": "boolean"}, "maxItems": 3}));
        let entry = || plan(&g, &t, format, &calls, Some(&form), None).expect("a plan").expect("a grammar");
        for (text, good) in [("[true,false]", true), ("[]", true), ("[1]", false), ("no", false)] {
            assert_eq!(takes(&mut *entry().mask(), &t, text), good, "{}: {text}", format.name);
        }
        let (mut called, mut formed) = (0, 0);
        for seed in 0..60 {
            let Some(text) = write(&mut *entry().mask(), &t, &mut Dice(seed), 4000) else { continue };
            match serde_json::from_str::<Vec<bool>>(&text) {
                Ok(_) => formed += 1,
                Err(_) => called += check(format, None, &text, format.name).len(),
            }
        }
        assert!(called > 0 && formed > 0, "{}: {called} {formed}", format.name);
    }
}

#[test]
fn strict_tools_must_be_enforceable_and_others_need_not() {
    let t = tokenizer(&[], &[]);
    let g = Grammars::new(&t).expect("grammars");
    for format in formats::all() {
        let make = |strict| {
            let parameters =
                Some(json!({"type": "object", "properties": {"a": {"type": "array", "uniqueItems": true}}}));
            let tool = Tool { name: "f".into(), description: None, parameters, strict };
            let calls = Calls { tools: vec![tool], choice: Choice::Required, parallel: false };
            plan(&g, &t, format, &calls, None, None)
        };
        let Err(e) = make(true) else { panic!("{} takes uniqueItems", format.name) };
        assert_eq!(e.path.as_deref(), Some("#/properties/a/uniqueItems"), "{e}");
        assert!(e.message.contains("\"f\""), "{e}");
        assert!(make(false).expect("a plan").is_some());
        let calls = Calls { tools: tools(false), choice: Choice::Named("nobody".into()), parallel: false };
        assert!(plan(&g, &t, format, &calls, None, None).is_err());
    }
}
