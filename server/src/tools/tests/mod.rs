//! Streamed and whole are the same, nothing is lost, and what must be called is called.

mod grammar;
mod written;

use super::formats;
use super::{Parser, Piece};
use crate::grammar::Think;
use crate::grammar::tests::Dice;
use written::{Conversation, NAMES};

/// An answer with its pieces joined.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Joined {
    pub(super) reasoning: String,
    pub(super) content: String,
    /// Ids, names and arguments.
    pub(super) calls: Vec<(String, String, String)>,
}

impl Joined {
    fn of(pieces: Vec<Piece>) -> Joined {
        let mut all = Joined::default();
        for piece in pieces {
            match piece {
                Piece::Reasoning(text) => all.reasoning += &text,
                Piece::Content(text) => all.content += &text,
                Piece::Call { index, id, name } => {
                    assert_eq!(index, all.calls.len(), "calls come in order");
                    all.calls.push((id, name, String::new()));
                }
                Piece::Arguments { index, text } => all.calls[index].2 += &text,
            }
        }
        all
    }
}

fn think(opened: bool) -> Think {
    Think { open: "<think>".into(), close: "</think>".into(), opened }
}

fn parser(format: &'static formats::Format, think: Option<Think>) -> Parser {
    let names: Vec<String> = NAMES.iter().map(|n| (*n).to_owned()).collect();
    Parser::new(Some(format), &names, think, 7)
}

pub(super) fn whole(format: &'static formats::Format, think: Option<Think>, text: &str) -> Joined {
    let mut out = Vec::new();
    let mut p = parser(format, think);
    p.push(text, &mut out);
    p.finish(&mut out);
    Joined::of(out)
}

/// The same text in pieces of a few letters.
fn streamed(format: &'static formats::Format, think: Option<Think>, text: &str, dice: &mut Dice) -> Joined {
    let mut p = parser(format, think);
    let mut out = Vec::new();
    let letters: Vec<char> = text.chars().collect();
    let mut at = 0;
    let longest = [1, 3, 12][dice.roll(3)];
    while at < letters.len() {
        let n = 1 + dice.roll(longest);
        let piece: String = letters[at..letters.len().min(at + n)].iter().collect();
        p.push(&piece, &mut out);
        at += n;
    }
    p.finish(&mut out);
    Joined::of(out)
}

#[test]
fn streamed_is_whole_and_whole_is_right() {
    for format in formats::all() {
        for seed in 0..300 {
            let mut dice = Dice(seed);
            let talk = Conversation::roll(format.name, &mut dice);
            let text = talk.text(format.name, &mut dice);
            let about = || format!("{} {seed}: {text:?}", format.name);
            let think = talk.opens().map(think);
            let all = whole(format, think.clone(), &text);
            assert_eq!(all.reasoning, talk.reasoning.clone().unwrap_or_default(), "{}", about());
            assert_eq!(all.content, talk.content, "{}", about());
            let calls: Vec<(String, String)> =
                all.calls.iter().map(|(_, n, a)| (n.clone(), a.clone())).collect();
            assert_eq!(calls, talk.calls, "{}", about());
            for (id, ..) in &all.calls {
                let nine = format.name.starts_with("mistral");
                assert!(if nine { id.len() == 9 } else { id.starts_with("call_") && id.len() == 29 }, "{id}");
            }
            for _ in 0..4 {
                assert_eq!(streamed(format, think.clone(), &text, &mut dice), all, "{}", about());
            }
        }
    }
}

/// Texts that no model should write: streamed and whole agree, and what is no call is content to the letter.
#[test]
fn nothing_is_lost_of_what_is_malformed() {
    let mut kept = 0;
    for format in formats::all() {
        for seed in 0..600 {
            let mut dice = Dice(seed);
            let talk = Conversation::roll(format.name, &mut dice);
            let text = talk.broken(format.name, &mut dice);
            let think = talk.opens().map(think);
            let all = whole(format, think.clone(), &text);
            for _ in 0..3 {
                assert_eq!(
                    streamed(format, think.clone(), &text, &mut dice),
                    all,
                    "{} {seed}: {text:?}",
                    format.name
                );
            }
            if all.calls.is_empty() && talk.opens().is_none() {
                kept += 1;
                assert_eq!(all.content, text, "{} {seed}", format.name);
            }
        }
    }
    assert!(kept > 300, "{kept}");
}

#[test]
fn cases_that_went_wrong_elsewhere() {
    let f = |name: &str| *formats::all().iter().find(|f| f.name == name).expect("a format");
    let call = |name: &str, arguments: &str| vec![(name.to_owned(), arguments.to_owned())];
    let none = Vec::new;
    let cases: Vec<(&str, &str, &str, Vec<(String, String)>)> = vec![
        // Prose about the tag is prose.
        ("hermes", "Write <tool_call> and then JSON.", "Write <tool_call> and then JSON.", none()),
        ("hermes", "<tool_call>", "<tool_call>", none()),
        ("hermes", "a <tool_", "a <tool_", none()),
        (
            "hermes",
            "<tool_call><tool_call>{\"name\": \"search\"}</tool_call>",
            "<tool_call>",
            call("search", "{}"),
        ),
        // Arguments first, none, as text, with line ends in strings, and a closing tag inside a string.
        (
            "hermes",
            "<tool_call>{\"arguments\": {\"q\": 1}, \"name\": \"search\"}</tool_call>",
            "",
            call("search", "{\"q\": 1}"),
        ),
        (
            "hermes",
            "<tool_call>{\"name\": \"search\", \"arguments\": {}}</tool_call>",
            "",
            call("search", "{}"),
        ),
        (
            "hermes",
            "<tool_call>{\"name\": \"search\", \"arguments\": \"{\\\"q\\\": 1}\"}</tool_call>",
            "",
            call("search", "{\"q\": 1}"),
        ),
        (
            "hermes",
            "<tool_call>{\"name\": \"search\", \"arguments\": {\"q\": \"a\nb\"}}</tool_call>",
            "",
            call("search", "{\"q\": \"a\\nb\"}"),
        ),
        (
            "hermes",
            "<tool_call>{\"name\": \"search\", \"arguments\": {\"q\": \"</tool_call>\"}}</tool_call>",
            "",
            call("search", "{\"q\": \"</tool_call>\"}"),
        ),
        // Without its end, and with text behind it.
        (
            "hermes",
            "<tool_call>{\"name\": \"search\", \"arguments\": {\"q\": 1}}",
            "",
            call("search", "{\"q\": 1}"),
        ),
        (
            "hermes",
            "<tool_call>{\"name\": \"search\", \"arguments\": {\"q\": 1",
            "",
            call("search", "{\"q\": 1"),
        ),
        ("hermes", "Hi.\n<tool_call>{\"name\": \"search\"}</tool_call>\nSo.", "Hi.So.", call("search", "{}")),
        // A tool that is not there.
        (
            "hermes",
            "<tool_call>{\"name\": \"fly\", \"arguments\": {}}</tool_call>",
            "<tool_call>{\"name\": \"fly\", \"arguments\": {}}</tool_call>",
            none(),
        ),
        (
            "llama",
            "{\"name\": \"fly\", \"parameters\": {}}",
            "{\"name\": \"fly\", \"parameters\": {}}",
            none(),
        ),
        ("llama", "{\"name\": \"Bob\", \"age\": 3}", "{\"name\": \"Bob\", \"age\": 3}", none()),
        (
            "llama",
            "So: {\"name\": \"search\", \"parameters\": {}}",
            "So: {\"name\": \"search\", \"parameters\": {}}",
            none(),
        ),
        (
            "llama",
            " <|python_tag|>{\"name\": \"search\", \"parameters\": {\"q\": 2}}",
            "",
            call("search", "{\"q\": 2}"),
        ),
        (
            "llama",
            "<|python_tag|>brave_search.call(query=\"x\")",
            "<|python_tag|>brave_search.call(query=\"x\")",
            none(),
        ),
        (
            "mistral-named",
            "[TOOL_CALLS]search[CALL_ID]abc123def[ARGS]{\"q\": [1, 2]}",
            "",
            call("search", "{\"q\": [1, 2]}"),
        ),
        ("mistral-named", "[TOOL_CALLS]search{\"q\": 3}", "", call("search", "{\"q\": 3}")),
        (
            "mistral-list",
            "[TOOL_CALLS] [{\"name\": \"search\", \"arguments\": {\"q\": 3}, \"id\": \"abc123def\"}]",
            "",
            call("search", "{\"q\": 3}"),
        ),
        (
            "generic",
            "```json\n{\"name\": \"search\", \"arguments\": {\"q\": 3}}\n```",
            "",
            call("search", "{\"q\": 3}"),
        ),
        ("generic", "```json\n{\"a\": 3}\n```", "```json\n{\"a\": 3}\n```", none()),
        (
            "gemma",
            "<|tool_call>call:search{q:<|\"|>a \"b\" <|c<|\"|>,n:-1.5,on:true,l:[1,{x:<|\"|><|\"|>}]}<tool_call|>",
            "",
            call("search", "{\"q\":\"a \\\"b\\\" <|c\",\"n\":-1.5,\"on\":true,\"l\":[1,{\"x\":\"\"}]}"),
        ),
        ("gemma", "<|tool_call>call:fly{}<tool_call|>", "<|tool_call>call:fly{}<tool_call|>", none()),
        (
            "function-gemma",
            "<start_function_call>call:search{q:<escape>Paris<escape>}<end_function_call>",
            "",
            call("search", "{\"q\":\"Paris\"}"),
        ),
    ];
    for (name, text, content, calls) in cases {
        let all = whole(f(name), None, text);
        let got: Vec<(String, String)> = all.calls.into_iter().map(|(_, n, a)| (n, a)).collect();
        assert_eq!((all.content.as_str(), got), (content, calls), "{name} {text}");
    }
}

#[test]
fn thoughts_are_told_apart() {
    let f = formats::of("<tool_call>");
    let cases = [
        (Some(false), "<think>\nHm.\n</think>\n\nYes.", "Hm.", "Yes."),
        (Some(false), "\n<think></think>Yes. ", "", "Yes. "),
        (Some(false), "Yes <think>no</think>.", "", "Yes <think>no</think>."),
        (Some(false), "<thin", "", "<thin"),
        (
            Some(true),
            "Hm <tool_call>{\"name\": \"search\"}</tool_call>\n</think>\n\nYes.",
            "Hm <tool_call>{\"name\": \"search\"}</tool_call>",
            "Yes.",
        ),
        (Some(true), "\nNever ends </thin", "Never ends </thin", ""),
        (Some(true), "</think>Yes.", "", "Yes."),
        (None, "<think>x</think>", "", "<think>x</think>"),
    ];
    for (opened, text, reasoning, content) in cases {
        for seed in 0..20 {
            let all = streamed(f, opened.map(think), text, &mut Dice(seed));
            assert_eq!((all.reasoning.as_str(), all.content.as_str()), (reasoning, content), "{text:?}");
        }
        assert_eq!(whole(f, opened.map(think), text).content, content);
    }
}

/// Content goes out as soon as it is certain: only white space and what may open a call wait.
#[test]
fn nothing_waits_without_need() {
    let mut p = parser(formats::of("<tool_call>"), None);
    let mut out = Vec::new();
    let mut told = String::new();
    for (text, want) in [
        ("Hi the", "Hi the"),
        ("re <to", "Hi there"),
        ("tal", "Hi there <total"),
        (" ", "Hi there <total"),
        (".", "Hi there <total ."),
    ] {
        p.push(text, &mut out);
        told += &Joined::of(std::mem::take(&mut out)).content;
        assert_eq!(told, want);
    }
    // Arguments go out letter by letter.
    p.push("<tool_call>{\"name\": \"search\", \"arguments\": {\"q\": \"Par", &mut out);
    assert_eq!(out.last(), Some(&Piece::Arguments { index: 0, text: "{\"q\": \"Par".into() }));
}

#[test]
fn formats_are_chosen_by_their_templates() {
    let cases = [
        ("… <tool_call>\\n{\"name\": …", "hermes"),
        ("<|start_header_id|> … \"parameters\": …", "llama"),
        ("[TOOL_CALLS] … [TOOL_RESULTS]", "mistral-list"),
        ("[TOOL_CALLS] … [ARGS]", "mistral-named"),
        ("<|tool_call>call:", "gemma"),
        ("<start_function_call>", "function-gemma"),
        ("{{ tools }}", "generic"),
    ];
    for (template, name) in cases {
        assert_eq!(formats::of(template).name, name);
    }
    let template = |source: &str| weft_formats::chat::Template::new(source, "", "").expect("a template");
    assert!(super::format_of(&template("{{ messages }}")).is_none());
    assert_eq!(super::format_of(&template("{{ tools }} <tool_call>")).map(|f| f.name), Some("hermes"));
    let qwen = template("<think> {{ x.split('</think>') }}");
    assert_eq!(super::think_of(&qwen, "assistant\n<think>\n").map(|t| t.opened), Some(true));
    assert_eq!(super::think_of(&qwen, "<think>\n\n</think>\n\n").map(|t| t.opened), Some(false));
    assert!(super::think_of(&template("x"), "").is_none());
}
