use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value as Json;
use weft_formats::chat::{self, Message};
use weft_formats::gguf::File;

use super::*;

/// weft-mini's tokenizer and template.
fn mini() -> (Tokenizer, Template) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/weft-mini.gguf");
    let file = File::open(Path::new(path)).unwrap();
    let tokenizer = Tokenizer::from_metadata(file.metadata()).unwrap();
    let text = |id: Option<u32>| tokenizer.token_text(id.unwrap()).unwrap().to_owned();
    let eos = text(tokenizer.eos());
    let template = Template::from_metadata(file.metadata(), "", &eos).unwrap();
    (tokenizer, template)
}

struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn file(name: &str, content: &[u8]) -> Temporary {
    // Tests that run side by side give their files the same names.
    static FILES: AtomicU64 = AtomicU64::new(0);
    let number = FILES.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("weft-data-{}-{number}-{name}", std::process::id()));
    std::fs::write(&path, content).unwrap();
    Temporary(path)
}

fn read(name: &str, content: &str, change: impl Fn(&mut Reading<'_>)) -> Result<Data, DataError> {
    let (tokenizer, template) = mini();
    let mut how = Reading {
        tokenizer: &tokenizer,
        template: &template,
        context: 64,
        learn: Learn::Assistant,
        overlong: Overlong::Truncate,
        now: 0,
        ignore_keys: &[],
    };
    change(&mut how);
    let file = file(name, content.as_bytes());
    Data::read(&file.0, &how)
}

/// The text of the learnt tokens.
fn learnt(e: &Example) -> String {
    let ids: Vec<u32> = e.labels.iter().copied().filter(|l| *l != IGNORE).collect();
    mini().0.decode(&ids, true)
}

const TALK: &str = r#"{"messages": [{"role": "user", "content": "What is 2 + 3?"}, {"role": "assistant", "content": "The answer is 5."}, {"role": "user", "content": "And 4?"}, {"role": "assistant", "content": "The answer is 4."}]}"#;

#[test]
fn the_assistant_is_learnt_and_the_end_of_its_turn() {
    let data = read("talk.jsonl", TALK, |_| {}).unwrap();
    let (tokenizer, template) = mini();
    let e = &data.examples[0];
    let end = tokenizer.decode(&[tokenizer.eos().unwrap()], true);
    assert_eq!(learnt(e), format!("The answer is 5.{end}The answer is 4.{end}"));
    // The whole, as inference encodes it; what follows the last end of turn is no input.
    let json: Json = serde_json::from_str(TALK).unwrap();
    let messages: Vec<Message> = serde_json::from_value(json["messages"].clone()).unwrap();
    let text = template.render(&messages, &chat::Options::default()).unwrap();
    let whole = tokenizer.encode(&text, true);
    assert_eq!(e.ids, whole[..whole.len() - 1]);
    for (i, label) in e.labels.iter().enumerate() {
        assert!(*label == IGNORE || *label == whole[i + 1]);
    }
    let all = read("talk.jsonl", TALK, |r| r.learn = Learn::All).unwrap();
    assert_eq!(all.examples[0].ids, e.ids);
    assert_eq!(all.examples[0].labels, whole[1..]);
}

#[test]
fn prompts_and_texts() {
    let lines =
        "{\"prompt\": \"What is 2 + 3?\", \"completion\": \"The answer is 5.\"}\n\n{\"text\": \"mass\"}\n";
    let data = read("mixed.jsonl", lines, |_| {}).unwrap();
    assert_eq!((data.counts.records, data.counts.examples), (2, 2));
    assert!(learnt(&data.examples[0]).starts_with("The answer is 5."));
    let end = mini().0.eos().unwrap();
    assert_eq!(data.examples[1].labels.last(), Some(&end));
    assert_eq!(data.examples[1].supervised(), data.examples[1].ids.len());
}

#[test]
fn plain_text_is_cut_and_every_token_but_the_first_is_learnt_once() {
    let text = "the mass of the ball is 12 kg and it moves at 5 m/s. ".repeat(20);
    let data = read("plain.txt", &text, |_| {}).unwrap();
    assert!(data.examples.len() > 3 && data.counts.longest == 64);
    let tokens = mini().0.encode_prompt(&text);
    let labels: Vec<u32> = data.examples.iter().flat_map(|e| e.labels.clone()).collect();
    assert_eq!(labels[..tokens.len() - 1], tokens[1..]);
    assert_eq!(labels.len(), tokens.len());
    assert!(data.examples.iter().all(|e| e.ids.len() <= 64));
}

#[test]
fn longer_than_the_context() {
    let full = read("talk.jsonl", TALK, |_| {}).unwrap();
    let length = full.examples[0].ids.len() as u32;
    assert_eq!(full.counts.truncated, 0);
    // Without its first exchange.
    let cut = read("talk.jsonl", TALK, |r| r.context = length - 1).unwrap();
    assert_eq!((cut.counts.truncated, cut.counts.examples), (1, 1));
    assert!(learnt(&cut.examples[0]).starts_with("The answer is 4."));
    assert!(cut.examples[0].ids.len() < length as usize - 5);
    // Not even one exchange: its end.
    let end = read("talk.jsonl", TALK, |r| r.context = 6).unwrap();
    assert_eq!(end.examples[0].ids, full.examples[0].ids[length as usize - 6..]);
    let dropped = read("talk.jsonl", TALK, |r| (r.context, r.overlong) = (6, Overlong::Drop));
    assert!(dropped.unwrap_err().to_string().contains("all of its 1 examples are longer"));
    let refused = read("talk.jsonl", TALK, |r| (r.context, r.overlong) = (6, Overlong::Error));
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("line 1") && refused.contains("context of 6"), "{refused}");
    assert!(cut.counts.to_string().contains("1 truncated"), "{}", cut.counts);
}

#[test]
fn bad_lines_are_told_with_their_number() {
    let refused = |line: &str| {
        let text = format!("{TALK}\n{line}\n");
        let e = read("bad.jsonl", &text, |_| {}).unwrap_err().to_string();
        assert!(e.contains("bad.jsonl: line 2: ") && !e.contains('\n'), "{e}");
        e
    };
    assert!(refused("{\"messages\": [").contains("is not JSON (EOF"));
    assert!(refused("[1]").contains("not a JSON object"));
    assert!(refused("{}").contains("has neither"));
    assert!(refused(r#"{"messages": []}"#).contains("is empty"));
    assert!(refused(r#"{"messages": "x"}"#).contains("no JSON list"));
    assert!(refused(r#"{"messages": 7}"#).contains("not a list"));
    assert!(refused(r#"{"messages": [3]}"#).contains("message 1 is 3"));
    let bot = refused(r#"{"messages": [{"role": "bot", "content": "x"}]}"#);
    assert!(bot.contains("message 1 has the role \"bot\" (known: system, user, assistant, tool)"), "{bot}");
    assert!(refused(r#"{"messages": [{"content": "x"}]}"#).contains("no \"role\""));
    assert!(refused(r#"{"messages": [{"role": "user"}]}"#).contains("no \"content\""));
    assert!(refused(r#"{"messages": [{"role": "user", "content": 7}]}"#).contains("is 7, not a text"));
    assert!(refused(r#"{"prompt": "x"}"#).contains("\"completion\" is missing"));
    let pair = refused(r#"{"prompt": "x", "chosen": "a", "rejected": "b"}"#);
    assert!(pair.contains("has \"rejected\", so it is of preferences"), "{pair}");
    assert!(refused(r#"{"text": 3}"#).contains("\"text\" is 3"));
    // Names that the template has of its own, and shows nothing of a record by.
    let twice = r#"{"messages": [{"role": "user", "content": "a"}], "text": "b"}"#;
    assert!(refused(twice).contains("has the key \"text\", which nothing reads"));
    let loud = r#"{"messages": [{"role": "user", "content": "a", "text": "b"}]}"#;
    assert!(refused(loud).contains("message 1 has \"text\", which the chat template does not show"));
    let e = read("empty.jsonl", "\n \n", |_| {}).unwrap_err().to_string();
    assert!(e.ends_with("empty.jsonl: holds no examples"), "{e}");
    let e = read("empty.txt", " \n", |_| {}).unwrap_err().to_string();
    assert!(e.ends_with("empty.txt: holds no examples"), "{e}");
}

#[test]
fn examples_without_an_answer_are_counted() {
    let silent = r#"{"messages": [{"role": "user", "content": "Hello"}]}"#;
    let data = read("some.jsonl", &format!("{silent}\n{TALK}\n{silent}\n"), |_| {}).unwrap();
    assert_eq!((data.counts.examples, data.counts.unsupervised), (1, 2));
    let e = read("none.jsonl", silent, |_| {}).unwrap_err().to_string();
    assert!(e.contains("not one of its 1 examples has a token to learn"), "{e}");
    read("none.jsonl", silent, |r| r.learn = Learn::All).unwrap();
}

#[test]
fn epochs_shuffle_by_seed_and_hold_everything_once() {
    let lines: String =
        (0..50).map(|i| format!("{{\"text\": \"mass {}\"}}\n", "kg ".repeat(i % 17))).collect();
    let data = read("many.jsonl", &lines, |_| {}).unwrap();
    let sorted = |batches: &[Vec<usize>]| {
        let mut all = batches.concat();
        all.sort_unstable();
        all
    };
    let first = data.epoch(7, 0, 4, None);
    assert_eq!(sorted(&first), (0..50).collect::<Vec<_>>());
    assert!(first[..12].iter().all(|b| b.len() == 4) && first[12].len() == 2);
    assert_eq!(first, data.epoch(7, 0, 4, None));
    assert_ne!(first, data.epoch(7, 1, 4, None));
    assert_ne!(first, data.epoch(8, 0, 4, None));
    let packed = data.epoch(7, 0, 2, Some(64));
    assert_eq!(sorted(&packed), (0..50).collect::<Vec<_>>());
    assert!(packed.len() < first.len() && packed.len() > 2);
    for (batches, pack, batch) in [(&first, None, 4), (&packed, Some(64), 2)] {
        let most = data.most_tokens(batch, pack);
        for b in batches {
            let b = data.batch(b);
            assert_eq!(b.sequences.iter().sum::<u32>() as usize, b.ids.len());
            assert_eq!(b.ids.len(), b.labels.len());
            assert!(b.ids.len() as u32 <= most);
        }
    }
    let (rest, held) = data.clone().split(0.1, 3);
    assert_eq!((rest.examples.len(), held.examples.len()), (45, 5));
    assert_ne!(rest.fingerprint(), data.fingerprint());
    assert_eq!(data.fingerprint(), data.clone().fingerprint());
}

/// What a batch would show: the text with what is learnt in brackets.
fn shown(e: &Example) -> String {
    let tokenizer = mini().0;
    let first = e.ids.first().map(|&id| (id, false));
    let rest = e.labels.iter().enumerate().map(|(i, &l)| match l {
        IGNORE => (e.ids.get(i + 1).copied().unwrap_or(0), false),
        l => (l, true),
    });
    let all: Vec<(u32, bool)> = first.into_iter().chain(rest).collect();
    let mut text = String::new();
    for run in all.chunk_by(|a, b| a.1 == b.1) {
        let part = tokenizer.decode(&run.iter().map(|t| t.0).collect::<Vec<_>>(), true);
        text += &if run[0].1 { format!("[{part}]") } else { part };
    }
    text
}

fn refused(name: &str, content: &str) -> String {
    let e = read(name, content, |_| {}).unwrap_err().to_string();
    assert!(!e.contains('\n'), "{e}");
    e
}

#[test]
fn other_shapes_are_read_and_said_so() {
    let cases = [
        (
            r#"{"conversations": [{"from": "human", "value": "mass?"}, {"from": "gpt", "value": "kg"}]}"#,
            "ShareGPT",
        ),
        (r#"{"instruction": "mass?", "input": "", "output": "kg"}"#, "Alpaca"),
        (
            r#"{"prompt": [{"role": "user", "content": "mass?"}], "completion": [{"role": "assistant", "content": "kg"}]}"#,
            "completion",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "mass?"}, {"role": "assistant", "content": "kg", "tool_calls": null}], "tools": null}"#,
            "messages",
        ),
    ];
    for (line, form) in cases {
        for (name, text) in [
            ("a.jsonl", line.to_owned()),
            ("a.JSON", format!("[\n {line}\n]")),
            ("a.bin", format!("\u{FEFF}{line}\r\n\r\n{line}")),
            ("a.json", format!("{:#}", serde_json::from_str::<Json>(line).unwrap())),
            ("a.txt", format!("[{line}]")),
        ] {
            let data = read(name, &text, |r| r.context = 200).unwrap();
            assert!(shown(&data.examples[0]).contains("[kg"), "{name}: {}", shown(&data.examples[0]));
            assert!(data.counts.to_string().contains(form), "{}", data.counts);
        }
    }
    let alpaca = r#"{"instruction": "mass?", "input": "of 2 balls", "output": "kg"}"#;
    let data = read("a.jsonl", alpaca, |r| r.context = 200).unwrap();
    assert!(shown(&data.examples[0]).contains("mass?\n\nof 2 balls"));
    // A text may begin as JSON does.
    for text in ["[Chorus]\nla la la", "{not json} and so on", "[1] a footnote"] {
        assert_eq!(read("a.md", text, |_| {}).unwrap().counts.forms, ["plain text"]);
    }
}

#[test]
fn what_is_not_honoured_is_refused_by_name() {
    let with = |record: &str, message: &str| {
        format!(
            r#"{{{record}"messages": [{{"role": "user", "content": "a"{message}}}, {{"role": "assistant", "content": "b"}}]}}"#
        )
    };
    for (record, message, name) in [
        (r#""loss_mask": [1], "#, "", "loss_mask"),
        (r#""chosen": "x", "#, "", "chosen"),
        (r#""tools": [{"type": "function"}], "#, "", "tools"),
        (r#""tools": "no JSON", "#, "", "tools"),
        (r#""system": 3, "#, "", "system"),
        ("", r#", "name": "Anna""#, "name"),
        ("", r#", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]"#, "tool_calls"),
        ("", r#", "weight": 1"#, "weight"),
        ("", r#", "reasoning": "hm""#, "reasoning"),
    ] {
        let text = with(record, message);
        let e = refused("a.jsonl", &text);
        assert!(e.contains(name) && e.contains("line 1"), "{e}");
        if !message.contains("tool_calls") || name == "tool_calls" {
            let keys = [name.to_owned()];
            let (tokenizer, template) = mini();
            let how = Reading { ignore_keys: &keys, ..Reading::new(&tokenizer, &template) };
            let file = file("ignored.jsonl", text.as_bytes());
            Data::read(&file.0, &how).unwrap();
        }
    }
    assert!(refused("a.txt", "{\"prompt\": \"a\", \"completion\": }\n").contains("line 1: is not JSON"));
    assert!(refused("a.csv", "a,b\n1,2\n").contains("table of text"));
    assert!(refused("a.jsonl", "PAR1 and no more").contains("Parquet"));
    let half = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0.5}]}"#;
    assert!(refused("a.jsonl", half).contains("weight 0.5"));
    // Where a record comes from changes nothing.
    read("a.jsonl", &with(r#""id": 7, "source": "x", "#, ""), |_| {}).unwrap();
}

#[test]
fn weights_and_system_texts_are_honoured() {
    let line = r#"{"system": "Be brief.", "messages": [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "b", "weight": 0}, {"role": "user", "content": "c?"}, {"role": "assistant", "content": "d", "train": true}]}"#;
    let data = read("a.jsonl", line, |r| r.context = 200).unwrap();
    let text = shown(&data.examples[0]);
    assert!(text.contains("Be brief.") && text.contains("[d") && !text.contains("[b"), "{text}");
    // Also where the beginning is dropped.
    let length = data.examples[0].ids.len() as u32;
    let cut = read("a.jsonl", line, |r| r.context = length - 1).unwrap();
    assert!(shown(&cut.examples[0]).contains("[d") && !shown(&cut.examples[0]).contains("a?"));
    for (prompt, answer) in [(r#""prompt""#, r#""completion""#), (r#""instruction""#, r#""output""#)] {
        let line = format!(r#"{{"system": "Be brief.", {prompt}: "a?", {answer}: "b"}}"#);
        assert!(
            shown(&read("a.jsonl", &line, |r| r.context = 99).unwrap().examples[0]).contains("Be brief.")
        );
    }
    let twice = r#"{"system": "A", "messages": [{"role": "system", "content": "B"}, {"role": "assistant", "content": "b"}]}"#;
    assert!(refused("a.jsonl", twice).contains("\"system\" text and a system message"));
}

/// JSON as text becomes what a template takes: an object, or the text again where it prints arguments as they are.
#[test]
fn json_held_as_text() {
    let call = |arguments: &str| {
        format!(
            r#"{{"tools": "[{{\"type\": \"function\", \"function\": {{\"name\": \"tide\", \"port\": null}}}}]", "messages": [{{"role": "user", "content": "?"}}, {{"role": "assistant", "content": null, "tool_calls": [{{"id": null, "function": {{"name": "tide", "arguments": {arguments}}}}}]}}]}}"#
        )
    };
    let (tokenizer, _) = mini();
    let begin = "{{ tools | tojson }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}";
    for (print, want) in [
        ("{{ c.function.arguments | tojson }}", r#"tide{"port": "Emden"}"#),
        ("{{ c.function.arguments }}", r#"tide{"port": "Emden"}"#),
        ("{{ '(' + c.function.arguments + ')' }}", r#"tide({"port": "Emden"})"#),
        ("{% for k, v in c.function.arguments | items %}{{ k }}={{ v }}{% endfor %}", "tideport=Emden"),
    ] {
        let source = format!("{begin}{print}{{% endfor %}}{{% endfor %}}");
        let template = Template::new(&source, "", "").unwrap();
        for arguments in
            [r#"{"port": "Emden"}"#, r#""{\"port\": \"Emden\"}""#, r#"{"port": "Emden", "day": null}"#]
        {
            let how = Reading { learn: Learn::All, ..Reading::new(&tokenizer, &template) };
            let file = file("calls.jsonl", call(arguments).as_bytes());
            let data = Data::read(&file.0, &how).unwrap();
            let text = shown(&data.examples[0]);
            assert!(text.contains(want), "{print}: {text}");
            assert!(text.contains(r#"{"name": "tide"}"#), "{text}");
            assert_eq!(data.counts.nulls, usize::from(arguments.contains("day")));
        }
        let file = file("calls.jsonl", call(r#""{broken""#).as_bytes());
        let e = Data::read(&file.0, &Reading::new(&tokenizer, &template)).unwrap_err().to_string();
        assert!(e.contains("arguments") && e.contains("message 2"), "{e}");
    }
}

/// A conversation of thousands of messages costs about as much as its text, whatever its roles.
#[test]
fn long_conversations_are_cut_in_linear_time() {
    let turns = |n: usize, one_user: bool| {
        let message = |i: usize| {
            let role = if i == 0 || (i.is_multiple_of(2) && !one_user) { "user" } else { "assistant" };
            format!(r#"{{"role": "{role}", "content": "mass of {i} kg"}}"#)
        };
        let all: Vec<String> = (0..n).map(message).collect();
        format!(r#"{{"messages": [{}]}}"#, all.join(", "))
    };
    for one_user in [false, true] {
        let start = std::time::Instant::now();
        let data = read("long.jsonl", &turns(2000, one_user), |_| {}).unwrap();
        assert_eq!((data.counts.truncated, data.counts.longest <= 64), (1, true));
        let text = shown(&data.examples[0]);
        assert!(text.contains("[mass of 1999 kg"), "{text}");
        assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    }
}

/// Mutated data: bytes dropped, doubled, and put in, from what records are made of. Values or one line, soon.
#[test]
fn mutated_data_is_read_or_refused() {
    let seeds = [
        TALK.to_owned(),
        r#"{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b", "weight": 0}]}"#
            .to_owned(),
        r#"[{"instruction": "a", "input": "b", "output": "c"}, {"text": "d"}]"#.to_owned(),
        r#"{"prompt": "a", "completion": "b", "system": "c"}"#.to_owned(),
        "PAR1\u{15}\u{4}\u{15}\u{8}\u{15}\u{8}\0\0\0\0PAR1".to_owned(),
        "plain text of two\n lines".to_owned(),
    ];
    let parts: [&[u8]; 14] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b"\"",
        b":",
        b",",
        b"null",
        b"\\u0000",
        b"\n",
        b"\xff",
        b"1e999",
        b"\"role\": 3",
        b"PAR1",
    ];
    let mut random = 20_261_128u64;
    let mut next = move |n: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % n
    };
    let (tokenizer, template) = mini();
    let how = Reading { context: 32, ..Reading::new(&tokenizer, &template) };
    let start = std::time::Instant::now();
    for _ in 0..20_000 {
        let mut bytes = seeds[next(seeds.len())].clone().into_bytes();
        for _ in 0..1 + next(4) {
            let at = next(bytes.len() + 1);
            let end = (at + next(8)).min(bytes.len());
            match next(3) {
                0 => drop(bytes.drain(at..end)),
                1 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
                _ => drop(bytes.splice(at..end, parts[next(parts.len())].iter().copied())),
            }
        }
        if let Err(e) = super::read::bytes("mutated", "jsonl", bytes, &how) {
            let line = e.to_string();
            assert!(!line.contains('\n') && line.len() < 700, "{line}");
        }
    }
    assert!(start.elapsed().as_secs() < 120, "{:?}", start.elapsed());
}

#[test]
fn all_problems_are_told_up_to_a_number() {
    let (tokenizer, template) = mini();
    let how = Reading::new(&tokenizer, &template);
    let text = "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": 1}\n\nno JSON\n[]\n";
    let told = |most: usize| {
        let problems = Data::check("mine.jsonl", text.into(), &how, most).unwrap_err();
        let places: Vec<String> = problems.iter().filter_map(|e| e.place().map(str::to_owned)).collect();
        assert!(problems.iter().all(|e| !e.what().contains("mine.jsonl") && !e.what().starts_with("line")));
        places
    };
    assert_eq!(told(9), ["line 2", "line 4", "line 5"]);
    assert_eq!(told(1), ["line 2", "line 4"]);
    let good = text.lines().next().unwrap();
    assert_eq!(Data::check("mine.jsonl", good.into(), &how, 9).unwrap().counts.examples, 1);
    let empty = Data::check("mine.jsonl", Vec::new(), &how, 9).unwrap_err();
    assert_eq!((empty.len(), empty[0].what()), (1, "holds no examples".to_owned()));
}
