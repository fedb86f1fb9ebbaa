//! `weft batch` as a person runs it.

use serde_json::Value;

use crate::support::cli::{fails, file, folder, misused, ok, weft};

const IN: &str = r#""What is 17 + 25?"
{"id": "b", "prompt": "What is 9 - 2?", "max_tokens": 12}

{"custom_id": "c", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "any", "messages": [{"role": "user", "content": "What is 12 + 12?"}], "stop": "24"}}
{"id": "d", "prompt": "Hi", "beam_width": 4}
no JSON
{"id": "e", "prompt": "What is 5 + 6?", "frequency_penalty": 0.1, "max_tokens": 15}
"#;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|l| serde_json::from_str(l).expect("a JSON line")).collect()
}

/// Every line has its line, in order, errors in place; a run that was cut off goes on to the same bytes; and answers
/// are those of `weft run`.
#[test]
fn a_line_out_for_each_line_in() {
    let dir = folder("batch");
    let input = file(&dir, "in.jsonl", IN.as_bytes());
    let out = dir.join("out.jsonl").to_str().expect("UTF-8").to_owned();
    let args = ["batch", &input, "-o", &out, "-n", "70"];
    let ran = weft(&args);
    assert_eq!(ran.code, Some(1), "two lines are wrong: {}", ran.stderr);
    assert!(ran.stderr.contains("2 of 6 lines have an \"error\""), "{}", ran.stderr);
    let whole = std::fs::read_to_string(&out).expect("answers");
    let got = lines(&whole);
    assert_eq!(got.iter().map(|v| v["index"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(got[0]["text"].as_str().unwrap(), ok(&["run", "-n", "70", "What is 17 + 25?"]));
    assert_eq!(got[0]["finish_reason"], "stop");
    assert_eq!((&got[1]["id"], &got[1]["finish_reason"]), (&"b".into(), &"length".into()));
    assert_eq!(got[1]["usage"]["completion_tokens"], 12);
    let text = got[2]["text"].as_str().unwrap();
    assert!(got[2]["id"] == "c" && text.contains("12") && !text.contains("24"), "{text:?}");
    assert!(got[3]["error"].as_str().unwrap().contains("beam_width"), "{}", got[3]);
    assert!(got[4]["error"].as_str().unwrap().contains("no JSON"), "{}", got[4]);
    assert_eq!(got[5]["id"], "e");

    // In the middle of the third line.
    let cut = whole.match_indices('\n').nth(1).unwrap().0 + 9;
    std::fs::write(&out, &whole[..cut]).expect("written");
    let ran = weft(&args);
    assert!(ran.stderr.contains("goes on behind 2 lines"), "{}", ran.stderr);
    assert_eq!(std::fs::read_to_string(&out).expect("answers"), whole);

    fails(&["batch", &input, "-o", &input], &["in.jsonl", "is the file to read"]);
    // The answers to other lines are not gone on with.
    let short = file(&dir, "short.jsonl", b"\"What is 17 + 25?\"\n");
    fails(&["batch", &short, "-o", &out], &["has 6 answers, and", "has 1 lines"]);
    let renamed = file(&dir, "renamed.jsonl", IN.replace("\"b\"", "\"x\"").as_bytes());
    fails(&["batch", &renamed, "-o", &out], &["line 2 answers the id \"b\"", "the id \"x\" there"]);
    let edited = file(&dir, "edited.jsonl", IN.replace("17 + 25", "17 + 26").as_bytes());
    fails(&["batch", &edited, "-o", &out], &["line 1 of the input is not what it was"]);
    // Neither are answers that were drawn in another way: the first line says how.
    assert_eq!((&got[0]["settings"]["max_tokens"], &got[0]["settings"]["top_p"]), (&70.into(), &0.95.into()));
    for (more, named) in [
        (["-n", "71"], "max_tokens 70, and this run has 71"),
        (["--temp", "0.5"], "temperature 0.0, and this run has 0.5"),
        (["--seed", "3"], "seed 0, and this run has 3"),
        (["-m", concat!(env!("CARGO_MANIFEST_DIR"), "/models/assets/weft-mini-f16.gguf")], "model."),
        (["--cache-type", "q8_0"], "cache null, and this run has \"q8_0\""),
    ] {
        let typed = ["batch", &input, "-o", &out, "-n", "70"];
        let typed = typed.iter().filter(|arg| more[0] != "-n" || !["-n", "70"].contains(*arg));
        let args: Vec<&str> = typed.copied().chain(more).collect();
        fails(&args, &["out.jsonl: was begun with", named, "another name"]);
    }
    assert_eq!(std::fs::read_to_string(&out).expect("answers"), whole);
    // Nor with those that somebody else writes.
    let held = std::fs::File::open(&out).expect("the answers");
    held.lock().expect("a lock");
    fails(&args, &["out.jsonl: another `weft batch` writes it"]);
    drop(held);
    let other = file(&dir, "notes.txt", b"mine\n");
    fails(&["batch", &input, "-o", &other], &["notes.txt", "not a file of answers"]);
    fails(&["batch", "nowhere.jsonl", "-o", &out], &["nowhere.jsonl", "no such file"]);
    let strange = file(&dir, "strange.jsonl", b"{\"index\":3}\n");
    fails(&["batch", &input, "-o", &strange], &["strange.jsonl", "line 1"]);
}

/// Where no line can be read back, nothing is waited for; and what a line says twice, or of what no template shows
/// anything, is its error.
#[test]
fn answers_go_to_stdout_and_devices() {
    let lines = concat!(
        "{\"prompt\": \"Hi\", \"top_k\": 1, \"top_k\": 2}\n",
        "{\"messages\": [{\"role\": \"user\", \"contnt\": \"Hi\"}]}\n",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\", \"weight\": 0}]}\n",
        "{\"prompt\": \"Hi\", \"max_tokens\": 1, \"n_predict\": 2}\n",
    );
    let input = file(&folder("batch-out"), "in.jsonl", lines.as_bytes());
    let ran = weft(&["batch", &input, "-o", "-", "-n", "2"]);
    let got: Vec<Value> = ran.stdout.lines().map(|l| serde_json::from_str(l).expect("a JSON line")).collect();
    for (line, part) in
        got.iter().zip(["\"top_k\" stands twice", "no \"content\"", "\"weight\"", "different things"])
    {
        assert!(line["error"].as_str().is_some_and(|e| e.contains(part)), "{line}");
    }
    assert_eq!(got.len(), 4);
    #[cfg(target_os = "linux")]
    fails(&["batch", &input, "-o", "/dev/full"], &["/dev/full", "no space left"]);
    // What comes of a pipe is read once, and all of it.
    #[cfg(target_os = "linux")]
    {
        let ran =
            crate::support::cli::weft_with(&["batch", "/dev/stdin", "-o", "-", "-n", "2"], lines.as_bytes());
        assert_eq!(ran.stdout.lines().count(), 4, "{}", ran.stderr);
    }
    misused(&["batch", &input, "-o", "-", "--json"], &["--json", "--output -"]);
}
