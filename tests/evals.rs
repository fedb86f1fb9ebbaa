//! `weft eval` on test sets and `weft genesis`, as a user types them; who answers is a server of the test's own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::cli::{command, fails, file, folder, json, misused, ok, weft};

/// Answers after some milliseconds, with a letter that follows from the question and the seed; a judge's question with
/// JSON. Returns the address.
fn server(milliseconds: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/v1#tiny", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                let (mut line, mut length) = (String::from("-"), 0);
                while !line.trim().is_empty() {
                    line.clear();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 {
                        return;
                    }
                    if let Some(n) = line.to_lowercase().strip_prefix("content-length:") {
                        length = n.trim().parse().expect("a number");
                    }
                }
                let mut body = vec![0; length];
                if reader.read_exact(&mut body).is_err() {
                    return;
                }
                let body: Value = serde_json::from_slice(&body).expect("JSON");
                std::thread::sleep(Duration::from_millis(milliseconds));
                let asked = body["messages"].to_string() + &body["seed"].to_string();
                let sum = asked.bytes().fold(7u64, |h, b| h.wrapping_mul(31).wrapping_add(b.into())) >> 7;
                let text = match body.get("response_format") {
                    Some(_) => json!({ "explanation": "because", "criteria_met": sum % 2 == 0 }).to_string(),
                    None => {
                        format!("<think>{sum}</think>\n\nAnswer: {}", ["A", "B", "C", "D"][sum as usize % 4])
                    }
                };
                let answer = json!({
                    "choices": [{ "message": { "content": text }, "finish_reason": "stop" }],
                    "usage": { "prompt_tokens": 20, "completion_tokens": 4 },
                })
                .to_string();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
                let _ = reader.into_inner().write_all((head + &answer).as_bytes());
            });
        }
    });
    url
}

/// Kills a program after so many milliseconds; whether it was still there.
fn killed(child: &mut Child, milliseconds: u64) -> bool {
    std::thread::sleep(Duration::from_millis(milliseconds));
    let there = child.try_wait().expect("a child").is_none();
    let _ = child.kill();
    let _ = child.wait();
    there
}

fn data(name: &str) -> String {
    format!("{}/evals/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn lines(folder: &Path, name: &str) -> usize {
    std::fs::read_to_string(folder.join(name)).map_or(0, |t| t.lines().count())
}

#[test]
fn an_eval_killed_ten_times_ends_with_the_same_bytes() {
    let (url, place) = (server(12), folder("evals-killed"));
    let args = |name: &str| {
        let out = place.join(name).display().to_string();
        let all = [
            "eval",
            "--suite",
            "file",
            "--data",
            &data("data/questions.jsonl"),
            "--endpoint",
            &url,
            "-o",
            &out,
        ];
        [
            &all.map(str::to_owned)[..],
            &["--columns", "id=id,subject=subject", "--slots", "2", "--json"].map(str::to_owned),
        ]
        .concat()
    };
    let run = |name: &str| json(&args(name).iter().map(String::as_str).collect::<Vec<_>>());
    let whole = run("whole");
    assert_eq!((whole["score"]["n"].as_u64(), whole["runs"].as_array().map(Vec::len)), (Some(200), Some(3)));
    let mut kills = 0;
    for _ in 0..30 {
        let mut child = command(&args("killed").iter().map(String::as_str).collect::<Vec<_>>())
            .spawn()
            .expect("weft starts");
        let before = lines(&place.join("killed"), "answers.jsonl");
        // Not before it has answered something.
        for _ in 0..200 {
            if lines(&place.join("killed"), "answers.jsonl") > before + 20 {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        kills += u32::from(killed(&mut child, 3));
        if kills == 10 {
            break;
        }
    }
    assert_eq!(kills, 10);
    let again = run("killed");
    assert_eq!(again["score"], whole["score"]);
    for name in ["answers.jsonl", "result.json", "result.md", "result.svg", "settings.json"] {
        let read = |run: &str| std::fs::read(place.join(run).join(name)).expect("there");
        assert!(read("whole") == read("killed"), "{name} differs");
    }
    let folders = ["whole", "killed"].map(|n| place.join(n).display().to_string());
    let compared = json(&["eval", "--compare", &folders[0], &folders[1], "--json"]);
    assert_eq!((compared["difference"]["mean"].as_f64(), compared["p"].as_f64()), (Some(0.0), Some(1.0)));
    // Another limit is another run.
    let mut other = args("whole");
    other.extend(["--limit".to_owned(), "3".to_owned()]);
    fails(&other.iter().map(String::as_str).collect::<Vec<_>>(), &["limit", "another folder"]);
}

#[test]
fn parts_of_a_set_are_merged() {
    let (url, place) = (server(0), folder("evals-parts"));
    let run = |out: &str, shard: &str| {
        let out = place.join(out).display().to_string();
        let all = ["eval", "--suite", "medqa", "--data", &data("tests/data/medqa.jsonl"), "--endpoint", &url];
        ok(&[&all[..], &["--temp", "0", "-o", &out, "--shard", shard]].concat());
        out
    };
    let (all, a, b) = (run("all", "1/1"), run("a", "1/2"), run("b", "2/2"));
    let one = json(&["eval", "--merge", &all, "--json"]);
    assert_eq!(json(&["eval", "--merge", &a, &b, "--json"]), one);
    fails(&["eval", "--merge", &a, &a], &["question in common"]);
    fails(&["eval", "--merge", &a, &data("tests/data")], &["settings.json"]);
    // A part of the set alone has a score, and no score of the whole.
    let part = weft(&["eval", "--merge", &a]);
    assert!(part.code == Some(0) && part.stderr.contains("parts 2/2 are not among"), "{}", part.stderr);
    fails(&["eval", "--merge", &a, &run("third", "3/3")], &["a part of 2", "one of 3"]);
    // What was stopped has answers, and no result yet.
    std::fs::remove_file(Path::new(&b).join("result.json")).expect("there");
    fails(&["eval", "--merge", &a, &b], &[&b, "not at its end"]);
    let compared = weft(&["eval", "--compare", &all, &b]);
    assert!(compared.code == Some(0) && compared.stderr.contains("not at its end"), "{}", compared.stderr);
}

#[test]
fn suites_are_listed_and_mistakes_say_what_is_missing() {
    let list = ok(&["eval", "--suite", "list"]);
    for name in ["mmlu-health", "afrimedqa", "medxpertqa", "healthbench", "gpqa", "mmlu-stem"] {
        assert!(list.contains(name), "{list}");
    }
    misused(&["eval", "--suite", "medqa"], &["needs --data", "huggingface-cli"]);
    fails(&["eval", "--suite", "medqa", "--data", "/nowhere.jsonl"], &["/nowhere.jsonl", "no such file"]);
    misused(
        &["eval", "--suite", "healthbench", "--data", &data("tests/data/healthbench.jsonl")],
        &["needs --judge"],
    );
    let medqa = data("tests/data/medqa.jsonl");
    misused(&["eval", "--suite", "medqa", "--data", &medqa, "--endpoint", "https://x/v1"], &["put a proxy"]);
    let own = ["eval", "--suite", "medqa", "--data", &medqa, "--template", "nothing"];
    misused(&own, &["no template \"nothing\"", "instruct"]);
    let url = server(0);
    let letters = ["eval", "--suite", "medqa", "--data", &medqa, "--endpoint", &url, "--mode", "letter"];
    misused(&letters, &["tells no likelihoods"]);
}

#[test]
fn a_flag_that_nothing_reads_is_refused() {
    let medqa = data("tests/data/medqa.jsonl");
    let set = |more: &[&str], parts: &[&str]| {
        misused(&[&["eval", "--suite", "medqa", "--data", &medqa], more].concat(), parts);
    };
    set(&["--judge", "x"], &["--judge is not read by test sets by --mode generate", "healthbench"]);
    set(&["--domain", "physics"], &["--domain is not read", "--suite curriculum"]);
    set(&["--mode", "letter", "--temp", "0"], &["--temp is not read by test sets by --mode letter"]);
    set(&["--mode", "option", "--system", "Be brief."], &["--system is not read"]);
    set(&["--endpoint", "http://127.0.0.1:1/v1", "-m", "x.gguf"], &["--endpoint", "leave --model out"]);
    assert_eq!(weft(&["eval", "--suite", "medqa", "--data", &medqa, "--shots-data", &medqa]).code, Some(2));
    misused(&["eval", "--temp", "0.5"], &["--temp is not read by --suite curriculum"]);
    misused(&["eval", "--data", &medqa], &["--data is not read by --suite curriculum"]);
    misused(&["eval", "--suite", "list", "--limit", "3"], &["--limit is not read by --suite list"]);
    misused(&["eval", "--compare", "a", "b", "--suite", "medqa"], &["--suite is not read by --compare"]);
}

/// A model of ours, by likelihood and in words.
#[test]
fn weft_mini_answers_a_test_set() {
    let place = folder("evals-mini");
    let rows = (1..4).map(|i| {
        json!({ "question": format!("What is {i} + {i}?"), "options": [(2 * i).to_string(), "91"], "answer": 0 }).to_string()
    });
    let set = file(&place, "sums.jsonl", rows.collect::<Vec<_>>().join("\n").as_bytes());
    let all = ["eval", "--suite", "file", "--data", &set, "--json"];
    let words = json(&[&all[..], &["--temp", "0", "-n", "120"]].concat());
    assert_eq!(words["score"]["n"], 3);
    let letters = json(&[&all[..], &["--mode", "letter"]].concat());
    assert_eq!(
        (letters["score"]["n"].as_u64(), letters["runs"].as_array().map(Vec::len)),
        (Some(3), Some(1))
    );
    // A shot that is asked too has shown its answer, which is said.
    let shots = ["--mode", "letter", "--shots", "2", "--shots-data"];
    let ran = weft(&[&all[..], &shots, &[&set]].concat());
    assert!(ran.code == Some(0) && ran.stderr.contains("warning: 2 of the 3 questions"), "{}", ran.stderr);
    let others = json!({ "question": "What is 9 + 9?", "options": ["18", "91"], "answer": 0 }).to_string();
    let others = file(&place, "others.jsonl", format!("{others}\n{}", others.replace('9', "8")).as_bytes());
    let ran = weft(&[&all[..], &shots, &[&others]].concat());
    assert!(ran.code == Some(0) && !ran.stderr.contains("warning"), "{}", ran.stderr);
}

#[test]
fn healthbench_is_answered_judged_and_compared() {
    let (url, place) = (server(0), folder("evals-health"));
    let run = |out: &str, judge: &str| {
        let out = place.join(out).display().to_string();
        let all =
            ["eval", "--suite", "healthbench", "--data", &data("tests/data/healthbench.jsonl"), "--json"];
        (json(&[&all[..], &["--endpoint", &url, "--judge", judge, "-o", &out]].concat()), out)
    };
    let ((first, a), (second, b)) = (run("a", &url), run("b", &format!("{url}-2")));
    assert_eq!((first["score"]["n"].as_u64(), first["unreadable_verdicts"].as_u64()), (Some(2), Some(0)));
    assert_eq!(first["score"], second["score"]);
    assert!(
        first["tags"]["axis:accuracy"]["n"] == 2 && first["tags"]["theme:global_health"]["n"] == 1,
        "{first}"
    );
    let agreement = json(&["eval", "--kappa", &a, &b, "--json"]);
    assert_eq!((agreement["verdicts"].as_u64(), agreement["agree"].as_f64()), (Some(5), Some(1.0)));
    assert_eq!(lines(Path::new(&a), "verdicts.jsonl"), 5);
    // Parts of the set add up to the whole.
    let part = |shard: &str| {
        let out = place.join(shard.replace('/', "-")).display().to_string();
        let all =
            ["eval", "--suite", "healthbench", "--data", &data("tests/data/healthbench.jsonl"), "--json"];
        json(&[&all[..], &["--endpoint", &url, "--judge", &url, "-o", &out, "--shard", shard]].concat());
        out
    };
    let (one, two) = (part("1/2"), part("2/2"));
    let merged = json(&["eval", "--merge", &two, &one, "--json"]);
    assert_eq!((&merged["score"]["n"], &merged["tags"]), (&first["score"]["n"], &first["tags"]));
    assert_eq!(merged["score"]["score"], first["score"]["score"]);
    fails(&["eval", "--merge", &one, &one], &["question in common"]);
    // Who answered is named, which is not the model on board.
    let said = ok(&["eval", "--merge", &one, &two]);
    assert!(said.starts_with(&format!("{url}, HealthBench, judged by {url}\n")), "{said}");
}

#[test]
fn contamination_is_reported_and_left_out() {
    let place = folder("evals-contamination");
    let set = std::fs::read_to_string(data("data/questions.jsonl")).expect("there");
    let q: Value = serde_json::from_str(set.lines().next().expect("a line")).expect("JSON");
    let options: Vec<&str> =
        q["options"].as_array().expect("four").iter().filter_map(Value::as_str).collect();
    let planted = format!("{} {}", q["question"].as_str().expect("a text"), options.join(" "));
    let rows = [json!({ "text": "nothing of it" }), json!({ "text": planted })].map(|r| r.to_string());
    let training = file(&place, "train.jsonl", rows.join("\n").as_bytes());
    let out = place.join("clean.jsonl").display().to_string();
    let all = [
        "eval",
        "--suite",
        "file",
        "--data",
        &data("data/questions.jsonl"),
        "--columns",
        "id=id,subject=subject",
    ];
    let found = json(&[&all[..], &["--contamination", &training, "--exclude", &out, "--json"]].concat());
    assert_eq!(
        (found["found"].as_u64(), found["records"].as_u64(), found["kept"].as_u64()),
        (Some(1), Some(1), Some(1))
    );
    assert_eq!(found["by_question"][0]["id"], q["id"]);
    assert_eq!(std::fs::read_to_string(&out).expect("there"), format!("{}\n", rows[0]));
}

#[test]
fn genesis_killed_twenty_times_and_in_shards_gives_one_set() {
    let (url, place) = (server(5), folder("evals-genesis"));
    let passages = data("data/passages.jsonl");
    let args = |name: &str, more: &[&str]| {
        let out = place.join(name).display().to_string();
        let all =
            ["genesis", "-d", &passages, "-o", &out, "--teacher", "rules", "--student", &url, "--slots", "4"];
        [&all[..], &["--shard-size", "50"], more].concat().iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()
    };
    let run =
        |name: &str, more: &[&str]| ok(&args(name, more).iter().map(String::as_str).collect::<Vec<_>>());
    let whole = run("whole", &[]);
    assert!(whole.starts_with("200 passages") && whole.contains("failure-analysis, dialogue"), "{whole}");
    let mut kills = 0;
    for i in 0..60 {
        let all = args("killed", &[]);
        let mut child =
            command(&all.iter().map(String::as_str).collect::<Vec<_>>()).spawn().expect("weft starts");
        kills += u32::from(killed(&mut child, 15 + i % 20));
        if kills == 20 {
            break;
        }
    }
    assert_eq!(kills, 20);
    assert_eq!(run("killed", &[]), whole);
    for shard in ["3", "1", "0", "2"] {
        run("parts", &["--only", shard]);
    }
    assert_eq!(run("parts", &["--finish"]), whole);
    for name in
        ["manifest.json", "data/part-00000.jsonl", "data/part-00003.parquet", "shards/00002/documents.jsonl"]
    {
        let read = |run: &str| std::fs::read(place.join(run).join(name)).expect("there");
        assert!(read("whole") == read("killed") && read("whole") == read("parts"), "{name} differs");
    }
    let all = args("whole", &["--seed", "2"]);
    fails(&all.iter().map(String::as_str).collect::<Vec<_>>(), &["seed", "another folder"]);
    let all = args("new", &["--only", "4"]);
    fails(&all.iter().map(String::as_str).collect::<Vec<_>>(), &["no shard 4", "the last is 3"]);
}

/// Types are made, scored, set beside each other and removed; a second run makes no row again.
#[test]
fn sizes_against_scores() {
    const F16: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/assets/weft-mini-f16.gguf");
    let place = folder("evals-types");
    let text =
        "What is 17 + 25?\nThe sum of 17 and 25 is 42, since 10 + 20 = 30 and 7 + 5 = 12.\n".repeat(30);
    let text = file(&place, "text.txt", text.as_bytes());
    let (set, out) = (data("data/science.jsonl"), place.join("sizes").display().to_string());
    let args = ["eval", "-m", F16, "--suite", "arc-easy", "--data", &set, "--mode", "letter", "--limit", "3"];
    let more = ["--positions", "48", "-c", "48", "--types", "q8_0,IQ2_XS,q8_0", "-o", &out];
    let args = [&args[..], &more, &["--imatrix-text", &text]].concat();
    let rows = json(&[&args[..], &["--json"]].concat());
    let rows = rows.as_array().expect("rows");
    let names: Vec<_> = rows.iter().map(|r| r["type"].as_str().expect("a type")).collect();
    assert_eq!(names, ["source", "Q8_0", "IQ2_XS"]);
    let numbers = |key: &str| rows.iter().map(|r| r[key].as_f64().expect("a number")).collect::<Vec<_>>();
    let (bytes, bits) = (numbers("bytes"), numbers("bits_per_weight"));
    assert!(bytes[0] > bytes[1] && bytes[1] > bytes[2], "{bytes:?}");
    assert!(bits[0] > 15.9 && (8.5..8.6).contains(&bits[1]) && (2.3..3.5).contains(&bits[2]), "{bits:?}");
    let kl = |i: usize| rows[i]["divergence"]["kl"].as_f64().expect("a divergence");
    assert!(kl(1) > 0.0 && kl(2) > 10.0 * kl(1), "{rows:#?}");
    assert!(rows.iter().all(|r| r["score"]["n"] == 3));
    let left = |name: &str| place.join("sizes").join(name).exists();
    assert!(left("imatrix.gguf") && !left("q8_0.gguf") && !left("iq2_xs.gguf") && !left("imatrix.txt"));
    let shown = std::fs::read_to_string(place.join("sizes/types.md")).expect("a table");
    assert!(shown.contains("| Q8_0 | ") && shown.contains("bits a weight"), "{shown}");
    let drawn = std::fs::read_to_string(place.join("sizes/types.svg")).expect("a drawing");
    assert!(drawn.contains("IQ2_XS") && drawn.contains("</svg>"));

    // The same bytes again, and nothing that needs the model.
    let again = json(&[&args[..], &["--json"]].concat());
    assert_eq!(again.as_array(), Some(rows));
    let ran = crate::support::cli::weft(&args);
    assert!(ran.stderr.contains("free") && ran.stderr.matches("its row is there already").count() == 3);
    assert!(!ran.stderr.contains("scoring") && ran.stdout.contains("| IQ2_XS |"), "{}", ran.stderr);
    misused(&[&args[..], &["--types", "q9_9"]].concat(), &["q9_9", "known: ", "IQ2_XS"]);
}
