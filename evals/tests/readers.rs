//! Files with the columns of the published sets (`tests/reference/eval_fixtures.py` makes them), and mistakes in them.

use weft_evals::columns::Columns;
use weft_evals::question::{Question, Shard, choose};
use weft_evals::suites::{SUITES, Set, find};

use crate::{data, folder};

fn read(suite: &str, file: &str) -> Vec<Question> {
    find(suite).expect("a suite").read(&data(file)).unwrap_or_else(|e| panic!("{suite}: {e}")).questions
}

/// The error line of a file of this text, read as that suite.
fn fails(suite: &str, name: &str, text: &str) -> String {
    let path = folder(&format!("{suite}-{name}")).join(name);
    std::fs::write(&path, text).expect("written");
    let e = find(suite).expect("a suite").read(&path).expect_err("a mistake").to_string();
    assert!(!e.contains('\n') && e.contains(name), "{e}");
    e
}

fn right(q: &Question) -> (&str, &str) {
    (&q.options[q.right], &q.text)
}

#[test]
fn every_published_layout_is_read() {
    let kidney = ("Kidney", "Which organ filters blood into urine?");
    for (suite, file, count) in [
        ("mmlu-health", "mmlu", 4),
        ("mmlu-health", "anatomy_test.csv", 2),
        ("afrimedqa", "afrimedqa.csv", 5),
        ("mmlu-pro-health", "mmlu-pro.parquet", 4),
        ("medmcqa", "medmcqa.parquet", 5),
        ("medqa", "medqa.jsonl", 5),
        ("medxpertqa", "medxpertqa.jsonl", 5),
        ("arc-challenge", "arc/ARC-Challenge/test.parquet", 5),
        ("arc-challenge", "arc", 5),
        ("arc-easy", "arc.jsonl", 5),
        ("gpqa", "gpqa_diamond.csv", 5),
        ("mmlu-stem", "mmlu/test.parquet", 1),
    ] {
        let all = read(suite, file);
        assert_eq!(all.len(), count, "{suite} {file}");
        for q in &all {
            assert_eq!(q.options.len(), 4, "{suite} {file}: {q:?}");
            assert_eq!(q.answer, q.options[q.right]);
        }
        if suite != "mmlu-pro-health" && suite != "mmlu-stem" {
            assert_eq!(right(&all[0]), kidney, "{suite} {file}");
            assert_eq!(right(&all[1]).0, if count == 2 { "Four" } else { "K" }, "{suite} {file}");
        }
    }
    assert_eq!(read("mmlu-stem", "mmlu")[0].subject, "astronomy");
    assert_eq!(read("mmlu-health", "anatomy_test.csv")[1].subject, "anatomy");
    // Labels 1 to 4 are labels, not numbers that count from 0.
    assert_eq!(right(&read("arc-challenge", "arc")[1]).0, "K");
    // The right options come first in the file, and do not stay there.
    let places: Vec<usize> = read("gpqa", "gpqa_diamond.csv").iter().map(|q| q.right).collect();
    assert!(places.iter().any(|p| *p != places[0]), "{places:?}");
}

#[test]
fn pubmedqa_has_abstracts_and_three_options() {
    for file in ["pubmedqa.parquet", "ori_pqal.json"] {
        let all = read("pubmedqa", file);
        assert_eq!(all.iter().map(|q| q.right).collect::<Vec<_>>(), [0, 1, 2], "{file}");
        assert_eq!(
            all[0].context.as_deref(),
            Some("Forty people took part.\n\nResult 0 was seen."),
            "{file}"
        );
        assert_eq!(
            (all[2].id.as_str(), all[0].options.as_slice()),
            ("102", &["yes", "no", "maybe"].map(str::to_owned)[..])
        );
    }
}

#[test]
fn records_that_cannot_be_asked_are_left_out_and_counted() {
    let set = find("afrimedqa").expect("a suite").read(&data("afrimedqa.csv")).expect("read");
    assert_eq!((set.questions.len(), set.records), (5, 7));
    assert_eq!(set.files[0].2.len(), 64);
}

#[test]
fn the_options_in_a_question_s_own_text_are_cut_off() {
    assert!(read("medxpertqa", "medxpertqa.jsonl").iter().all(|q| !q.text.contains("Answer Choices")));
}

#[test]
fn mistakes_are_told_by_place_and_column() {
    let good =
        r#"{"question": "Q?", "options": {"A": "x", "B": "y"}, "answer_idx": "A", "meta_info": "step1"}"#;
    let with = |from: &str, to: &str| format!("{good}\n{}\n", good.replace(from, to));
    for (text, wants) in [
        (with("\"answer_idx\"", "\"key\""), ["line 2", "no column \"answer_idx\"", "question, options, key"]),
        (with("\"A\", \"meta", "\"C\", \"meta"), ["line 2", "is \"C\"", "A to B"]),
        (with("\"A\", \"meta", "null, \"meta"), ["line 2", "\"answer_idx\" is empty", "no right answer"]),
        (with("\"Q?\"", "null"), ["line 2", "\"question\"", "is empty"]),
        (with("\"Q?\"", "\"  \""), ["line 2", "\"question\"", "is empty"]),
        (with("{\"A\": \"x\", \"B\": \"y\"}", "null"), ["line 2", "\"options\"", "is empty"]),
        (with("\"x\"", "\"\""), ["line 2", "option A", "is empty"]),
        (with("{\"A\": \"x\", \"B\": \"y\"}", "{\"A\": \"x\"}"), ["line 2", "1 options", "two"]),
        (with("{\"A\": \"x\", \"B\": \"y\"}", "7"), ["line 2", "\"options\"", "no list"]),
        (format!("{good}\n{{\"question\": "), ["line 2", "no JSON", "EOF"]),
        (format!("{good}\n[1]\n"), ["line 2", "no JSON object", ""]),
        ("Some text.".to_owned(), ["no file of records", "Parquet", "JSON"]),
        (String::new(), ["holds no records", "", ""]),
        ("{\"instruction\": \"a\"}\n".to_owned(), ["no column", "it has instruction", "--columns"]),
    ] {
        let e = fails("medqa", "t.jsonl", &text);
        wants.iter().for_each(|w| assert!(e.contains(w), "{w:?} is missing: {e}"));
    }
}

#[test]
fn mistakes_in_tables_are_told_too() {
    let head = "question,question_clean,answer_options,correct_answer,question_type,specialty,sample_id\n";
    let row = |answer: &str, options: &str| {
        format!("{head}Q,Q?,\"{}\",{answer},mcq,x,s1\n", options.replace('"', "\"\""))
    };
    let options = r#"{"option1": "a", "option2": "b"}"#;
    for (text, wants) in [
        (row("option3", options), ["line 2", "option1 to option2"]),
        (row("", options), ["line 2", "is empty"]),
        (row("option1", "[broken"), ["line 2", "should be JSON"]),
        (
            row("option1", options).replace("correct_answer", "key"),
            ["no column \"correct_answer\"", "it has"],
        ),
        (format!("{head}Q,Q?\n"), ["line 2", "fields"]),
        (
            row("option1", options).replace("mcq", "saq"),
            ["none of its 1 records", "question_type is one of mcq"],
        ),
    ] {
        let e = fails("afrimedqa", "t.csv", &text);
        wants.iter().for_each(|w| assert!(e.contains(w), "{w:?} is missing: {e}"));
    }
    // The test split of MedMCQA has no answers.
    let e = fails(
        "medmcqa",
        "t.json",
        r#"[{"id": "1", "question": "Q", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": -1, "subject_name": "s"}]"#,
    );
    assert!(e.contains("cop\" is -1") && e.contains("0 to 3"), "{e}");
    let e = find("medqa")
        .expect("a suite")
        .read(&data("medmcqa.parquet"))
        .expect_err("other columns")
        .to_string();
    assert!(e.contains("no column \"options\"") && e.contains("opa"), "{e}");
    let e = find("medqa").expect("a suite").read(&folder("empty")).expect_err("nothing there").to_string();
    assert!(e.contains("holds no file of records") && e.contains("\"test\""), "{e}");
    let e =
        find("mmlu-stem").expect("a suite").read(&data("anatomy_test.csv")).expect_err("others").to_string();
    assert!(e.contains("none of the subjects"), "{e}");
}

#[test]
fn a_file_of_one_s_own_has_a_map() {
    let path = folder("own").join("own.csv");
    std::fs::write(&path, "stem,a,b,c,key,topic\nTwo and two?,3,4,5,2,sums\nThree?,3,4,5,1,sums\n")
        .expect("written");
    let columns =
        Columns::parse("question=stem,options=a+b+c,answer=key:index1,subject=topic").expect("a map");
    let set = Set::read(&path, None, "file", &[columns], &[]).expect("read");
    assert_eq!(set.questions.iter().map(|q| q.answer.as_str()).collect::<Vec<_>>(), ["4", "3"]);
    assert_eq!(set.questions[0].subject, "sums");
    let open = Columns::parse("question=stem,options=,answer=b").expect("a map");
    let set = Set::read(&path, None, "file", &[open], &[]).expect("read");
    assert_eq!((set.questions[0].options.len(), set.questions[0].answer.as_str()), (0, "4"));
    for (map, want) in [("answer=x:nonsense", "index0"), ("wrong=x", "known: id"), ("only=x", "COLUMN:VALUE")]
    {
        let e = Columns::parse(map).expect_err("a mistake").to_string();
        assert!(e.contains(want), "{e}");
    }
}

/// A question keeps its place whatever else is in the set, and parts make the whole.
/// Options by letter are found by it, also where one of them is null; and a column is there once.
#[test]
fn options_that_are_left_out_move_no_letters() {
    let path = folder("left-out").join("own.jsonl");
    let read = |text: &str, columns: &str| {
        std::fs::write(&path, text).expect("written");
        Columns::parse(columns).expect("a map").read(&path, "").map(|(all, _)| all).map_err(|e| e.to_string())
    };
    let letters = r#"{"question": "Q?", "options": {"A": "Iron", "B": null, "C": "Gold"}, "answer": "C"}"#;
    for kind in ["answer=answer:letter", "answer=answer"] {
        assert_eq!(read(letters, kind).expect("read")[0].answer, "Gold");
    }
    let lost =
        read(&letters.replace(r#""C"}"#, r#""B"}"#), "answer=answer:letter").expect_err("no such option");
    assert!(lost.contains("\"B\""), "{lost}");
    let numbered = r#"{"question": "Q?", "options": {"option1": null, "option2": "Iron", "option3": "Gold"}, "answer": "option3"}"#;
    assert_eq!(read(numbered, "answer=answer:option").expect("read")[0].answer, "Gold");
    let text = r#"{"question": "Q?", "options": {"A": "Iron", "B": "Gold"}, "answer": "Gold"}"#;
    assert_eq!(read(text, "answer=answer").expect("read")[0].right, 1);
    let padded = r#"{"question": "Q?", "options": {"A": "Iron", "B": "Gold", "C": ""}, "answer": "C"}"#;
    assert!(read(padded, "answer=answer").is_err());
    let table = folder("left-out-table").join("own.csv");
    std::fs::write(&table, "question,a,b,a,answer\nQ?,Iron,Gold,Tin,B\n").expect("written");
    let twice = Columns::parse("options=a+b,answer=answer:letter")
        .expect("a map")
        .read(&table, "")
        .expect_err("twice");
    assert!(twice.to_string().contains("two columns \"a\""), "{twice}");
}

#[test]
fn the_order_is_stable_and_shards_make_the_whole() {
    let all = read("afrimedqa", "afrimedqa.csv");
    let ids = |qs: &[Question]| qs.iter().map(|q| q.id.clone()).collect::<Vec<_>>();
    let order = ids(&choose(all.clone(), None, Shard::ALL));
    let mut turned = all.clone();
    turned.reverse();
    assert_eq!(ids(&choose(turned, None, Shard::ALL)), order);
    let fewer: Vec<Question> = all.iter().filter(|q| q.id != "s1").cloned().collect();
    assert_eq!(
        ids(&choose(fewer, None, Shard::ALL)),
        order.iter().filter(|i| *i != "s1").cloned().collect::<Vec<_>>()
    );
    let part = |i| ids(&choose(all.clone(), Some(4), Shard::parse(i).expect("a part")));
    let mut parts = [part("1/3"), part("2/3"), part("3/3")].concat();
    parts.sort();
    let mut four = order[..4].to_vec();
    four.sort();
    assert_eq!(parts, four);
    assert!(["0/3", "4/3", "x", "1/0"].iter().all(|s| Shard::parse(s).is_err()));
}

#[test]
fn suites_say_where_they_come_from() {
    for s in &SUITES {
        assert!(
            [s.title, s.from, s.file, s.licence, s.questions, s.size, s.fetch].iter().all(|t| !t.is_empty()),
            "{s:?}"
        );
        assert!(!(s.columns)().is_empty());
    }
}
