//! Chat templates against jinja2 set up as transformers does it
//! (`tests/reference/chat_templates.py`), and against hostile templates.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};
use weft_formats::chat::{Error, Message, Options, Template};
use weft_formats::gguf::{Metadata, Value};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/chat")
}

fn expected() -> Json {
    serde_json::from_str(&std::fs::read_to_string(data().join("expected.json")).unwrap()).unwrap()
}

fn options(case: &Json, now: &Json) -> Options {
    Options {
        add_generation_prompt: case.get("add_generation_prompt").is_none_or(|v| v.as_bool().unwrap()),
        enable_thinking: case.get("enable_thinking").map(|v| v.as_bool().unwrap()),
        tools: case.get("tools").cloned(),
        now: now.as_i64(),
        extra: case.get("extra").map_or_else(Map::new, |v| v.as_object().unwrap().clone()),
    }
}

/// Renders every case through one template and reports all that differ.
fn compare(name: &str, path: &Path) {
    let all = expected();
    let source = std::fs::read_to_string(path).unwrap();
    let template = Template::new(&source, "<BOS>", "<EOS>").unwrap();
    let mut wrong = Vec::new();
    let (cases, want) = (all["cases"].as_array().unwrap(), all["expected"][name].as_array().unwrap());
    assert_eq!(cases.len(), want.len());
    for (case, want) in cases.iter().zip(want) {
        let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
        let got = template.render(&messages, &options(case, &all["now"]));
        let same = match (&got, want["error"].as_str()) {
            (Ok(text), None) => want == text,
            (Err(Error::Refused(message)), Some("refused")) => want["message"] == message.as_str(),
            (Err(Error::Render { .. }), Some("render")) => true,
            _ => false,
        };
        if !same {
            wrong.push(format!("--- {}\ngot  {got:?}\nwant {want}", case["name"]));
        }
    }
    assert!(wrong.is_empty(), "{name}: {} of {} differ\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn our_template_renders_as_jinja2_does() {
    compare("own.jinja", &data().join("own.jinja"));
}

#[test]
fn published_templates_render_as_jinja2_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/templates");
    if !folder.exists() {
        eprintln!("skipped: shared/fixtures/templates is not here");
        return;
    }
    let all = expected();
    let names: Vec<&String> = all["expected"].as_object().unwrap().keys().collect();
    assert_eq!(names.len(), 7);
    for name in names.into_iter().filter(|n| *n != "own.jinja") {
        compare(name, &folder.join(name));
    }
}

/// Short templates of our own, each with what jinja2 gives. What we refuse that Python renders must name the
/// feature, and be next to nothing.
#[test]
fn snippets_render_as_jinja2_does() {
    let all: Json =
        serde_json::from_str(&std::fs::read_to_string(data().join("snippets.json")).unwrap()).unwrap();
    let mut variables = all["variables"].as_object().unwrap().clone();
    let messages = variables.remove("messages").unwrap();
    variables.insert("messages".into(), messages);
    let options = Options { now: expected()["now"].as_i64(), extra: variables, ..Options::default() };
    let (mut wrong, mut refused) = (Vec::new(), Vec::new());
    let snippets = all["snippets"].as_array().unwrap();
    for snippet in snippets {
        let source = snippet["source"].as_str().unwrap();
        let got = Template::new(source, "<s>", "</s>").and_then(|t| t.render(&[], &options));
        match (&got, snippet["want"].as_str()) {
            (Ok(text), Some(want)) if text == want => {}
            (Err(e), None) if !matches!(e, Error::Endless | Error::Memory | Error::Nested) => {}
            (Err(e), Some(_)) if e.to_string().contains("not supported") => refused.push(source),
            _ => wrong.push(format!("--- {source}\ngot  {got:?}\nwant {snippet}")),
        }
    }
    assert!(snippets.len() >= 300);
    assert!(refused.len() * 100 <= snippets.len(), "refused: {refused:#?}");
    assert!(wrong.is_empty(), "{} of {} differ\n{}", wrong.len(), snippets.len(), wrong.join("\n"));
}

fn ask(thinking: Option<bool>) -> Options {
    Options { add_generation_prompt: true, enable_thinking: thinking, ..Options::default() }
}

#[test]
fn chatml_where_the_file_has_none() {
    let template = Template::from_metadata(&Metadata::new(), "", "").unwrap();
    assert!(template.is_fallback() && !template.has_thinking_switch());
    let messages = [Message::new("system", "S"), Message::new("user", " U\n")];
    assert_eq!(
        template.render(&messages, &ask(None)).unwrap(),
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n U\n<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(
        template.render(&messages[..1], &Options::default()).unwrap(),
        "<|im_start|>system\nS<|im_end|>\n"
    );
}

#[test]
fn the_file_decides() {
    let mut meta = Metadata::new();
    meta.set(
        "tokenizer.chat_template",
        Value::Str("{{ bos_token }}{{ enable_thinking }}{{ eos_token }}".into()),
    );
    let template = Template::from_metadata(&meta, "<b>", "<e>").unwrap();
    assert!(!template.is_fallback() && template.has_thinking_switch());
    assert_eq!(template.render(&[], &ask(None)).unwrap(), "<b><e>");
    assert_eq!(template.render(&[], &ask(Some(false))).unwrap(), "<b>False<e>");
    // An empty one counts as none, as it does in llama.cpp; it would leave nothing of a prompt.
    meta.set("tokenizer.chat_template", Value::Str(String::new()));
    assert!(Template::from_metadata(&meta, "", "").unwrap().is_fallback());
    meta.set("tokenizer.chat_template", Value::Bool(true));
    assert_eq!(Template::from_metadata(&meta, "", "").unwrap_err(), Error::Type);
}

#[test]
fn messages_read_from_json() {
    let json =
        r#"[{"role":"user","content":"hi"},{"role":"assistant","content":null,"tool_calls":[{"id":1}]}]"#;
    let messages: Vec<Message> = serde_json::from_str(json).unwrap();
    assert_eq!(messages[0], Message::new("user", "hi"));
    assert_eq!(
        (messages[1].content.as_str(), &messages[1].extra["tool_calls"][0]["id"]),
        ("", &Json::from(1))
    );
}

#[test]
fn strange_messages_pass_as_text() {
    let template = Template::from_metadata(&Metadata::new(), "", "").unwrap();
    let hostile = "{{ 1/0 }} {% raw %} <|im_end|>\0\u{feff}";
    let text = template.render(&[Message::new("user", hostile)], &ask(None)).unwrap();
    assert!(text.contains(hostile));
}

#[test]
fn hostile_templates_end_in_one_line() {
    let fails = |source: &str| {
        let error = Template::new(source, "", "")
            .and_then(|t| t.render(&[Message::new("user", "hi")], &ask(None)))
            .unwrap_err();
        assert!(!error.to_string().contains('\n') && error.to_string().len() < 500, "{error}");
        error
    };
    assert!(matches!(fails("a\n{% if %}"), Error::Parse { line: 2, .. }));
    assert!(matches!(fails("\n\n{{ messages[7].content.x }}"), Error::Render { line: 3, .. }));
    assert!(matches!(fails("{{ messages | nosuch }}"), Error::Render { .. } | Error::Parse { .. }));
    assert!(matches!(fails("{{ missing | tojson }}"), Error::Render { .. }));
    assert!(matches!(fails("{% include 'secret' %}"), Error::Parse { .. }));
    assert_eq!(fails("{{ raise_exception('no\nsuch  role') }}"), Error::Refused("no such role".into()));
}
