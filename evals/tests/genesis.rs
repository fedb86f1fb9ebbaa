//! The pipeline on 200 passages of ours, with a student that knows some of the answers.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use weft_evals::ask::{Answer, Drawing, Generate, Job};
use weft_evals::genesis::finish::{Yield, duplicates, finish, is_english};
use weft_evals::genesis::minhash::{Seen, alike, signature};
use weft_evals::genesis::prompts::{made, made_json};
use weft_evals::genesis::stages::{self, Cast};
use weft_evals::genesis::{self, Model, Passage, Rules, Settings, Style, Teacher, Verdict, Wanted};
use weft_evals::hash::{Rng, hash};
use weft_evals::overlap::Index;
use weft_evals::{Error, Result, records};

use crate::folder;

fn ours(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

fn settings(passages: &Path, folder: &Path) -> Settings {
    Settings {
        passages: passages.to_owned(),
        folder: folder.to_owned(),
        shard: 60,
        questions: 2,
        styles: Style::ALL.to_vec(),
        seed: 1,
        student: Drawing::GREEDY,
        student_tokens: 100,
        alike: 0.8,
        length: (80, 20_000),
        english: true,
    }
}

/// Picks a letter by the prompt's hash, or says nothing; stops after so many answers.
struct Student {
    left: usize,
}

impl Generate for Student {
    fn name(&self) -> String {
        "student".to_owned()
    }

    fn generate(&mut self, jobs: &[Job], done: &mut dyn FnMut(usize, Answer) -> Result<()>) -> Result<()> {
        for i in (0..jobs.len()).rev() {
            if self.left == 0 {
                return Err(Error::Stopped);
            }
            self.left -= 1;
            let h = hash(jobs[i].turns[0].content.as_bytes()) % 5;
            let text = if h == 4 {
                "I do not know.".to_owned()
            } else {
                format!("Answer: {}", ["A", "B", "C", "D"][h as usize])
            };
            done(i, Answer { text, prompt_tokens: 10, tokens: 3, ..Answer::default() })?;
        }
        Ok(())
    }
}

/// Rules that stop after so many pieces.
struct Stopping(Rules, usize);

impl Teacher for Stopping {
    fn name(&self) -> String {
        "rules".to_owned()
    }

    fn teach(
        &mut self,
        wanted: &[Wanted],
        seed: u32,
        done: &mut dyn FnMut(usize, Answer) -> Result<()>,
    ) -> Result<()> {
        let left = &mut self.1;
        self.0.teach(wanted, seed, &mut |i, a| {
            *left = left.checked_sub(1).ok_or(Error::Stopped)?;
            done(i, a)
        })
    }
}

fn run(s: &Settings, shards: &[usize], left: usize) -> Result<()> {
    let duplicates = duplicates(s)?;
    for &shard in shards {
        let mut teacher = Stopping(Rules::new(&s.passages)?, left);
        let mut student = Student { left };
        let mut cast = Cast { teacher: &mut teacher, student: &mut student, judge: None };
        stages::run(s, shard, &|id| duplicates.contains_key(id), &mut cast, &mut |_, _, _| Ok(()))?;
    }
    Ok(())
}

/// All files of a run with their bytes, by name.
fn bytes(s: &Settings) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![s.folder.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(&s.folder).expect("below").display().to_string();
                all.push((name, std::fs::read(path).expect("readable")));
            }
        }
    }
    all.sort();
    all
}

fn done(s: &Settings, tests: &[(String, Index)]) -> Yield {
    finish(s, &json!({ "test": true }), tests).expect("finished")
}

#[test]
fn two_hundred_passages_end_to_end_with_kills_and_in_parts() {
    let s = settings(&ours("passages.jsonl"), &folder("genesis-whole"));
    assert_eq!(s.shards().expect("counted"), 4);
    run(&s, &[0, 1, 2, 3], usize::MAX).expect("done");
    let y = done(&s, &[]);
    assert_eq!((y.passages, y.duplicate_passages, y.wanted), (200, 0, 400));
    let outcomes: u64 = y.outcomes.values().sum();
    assert_eq!((outcomes, y.rejected.len(), y.outcomes.len()), (400, 0, 3), "{y:?}");
    assert_eq!(y.kinds.len(), 5, "{:?}", y.kinds);
    assert_eq!(y.kept + y.removed.values().sum::<u64>(), 400);
    assert!(y.kept >= 380, "{y:?}");
    assert_eq!(y.tokens["answers"], (4000, 1200));
    let whole = bytes(&s);

    // Killed 20 times and more, with a line half-written each time, and another process for each shard.
    let parts = settings(&ours("passages.jsonl"), &folder("genesis-parts"));
    let mut rng = Rng::new(2);
    let mut kills = 0;
    for shard in [2, 0, 3, 1] {
        while run(&parts, &[shard], 10 + rng.below(40)).is_err() {
            kills += 1;
            for stage in stages::STAGES {
                let path = parts.shard_folder(shard).join(format!("{stage}.jsonl"));
                if let Ok(bytes) = std::fs::read(&path) {
                    std::fs::write(&path, &bytes[..bytes.len() - rng.below(9).min(bytes.len())])
                        .expect("written");
                }
            }
        }
    }
    assert!(kills >= 20, "{kills} kills");
    assert_eq!(done(&parts, &[]), y);
    assert!(bytes(&parts) == whole, "the files differ");
    // Again changes nothing.
    run(&parts, &[0, 1, 2, 3], 0).expect("all there");
    assert_eq!(done(&parts, &[]), y);
    assert!(bytes(&parts) == whole, "the files differ");

    // Both kinds of files hold the same rows.
    let rows = |ending: &str| {
        let mut rows = Vec::new();
        for path in records::files(&s.folder.join("data"), Some(ending)).expect("parts") {
            records::read(&path, true, &mut |_, r| {
                let id = r["id"].as_str().expect("an id").to_owned();
                rows.push((id, r["text"].as_str().expect("a text").to_owned()));
                Ok(())
            })
            .expect("read");
        }
        rows
    };
    assert_eq!((rows(".jsonl").len() as u64, rows(".jsonl")), (y.kept, rows(".parquet")));
}

#[test]
fn planted_duplicates_and_test_questions_are_found() {
    let place = folder("genesis-planted");
    let text = std::fs::read_to_string(ours("passages.jsonl")).expect("there");
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    // Each of 200 passages again, with a word changed.
    let copy = |l: &Value| {
        let words: Vec<&str> = l["text"].as_str().expect("a text").split(' ').collect();
        let mut changed = words.clone();
        changed[0] = "Indeed";
        let mut l = l.clone();
        l["id"] = format!("copy-{}", l["id"].as_str().expect("an id")).into();
        l["text"] = changed.join(" ").into();
        l
    };
    let all: Vec<Value> = lines.iter().cloned().chain(lines.iter().map(copy)).collect();
    let path = place.join("passages.jsonl");
    std::fs::write(&path, all.iter().map(|l| format!("{l}\n")).collect::<String>()).expect("written");
    let mut s = settings(&path, &place.join("run"));
    s.questions = 1;
    std::fs::create_dir_all(&s.folder).expect("a folder");
    let found = duplicates(&s).expect("read");
    assert!(found.len() >= 198, "{} of 200", found.len());
    assert!(found.iter().all(|(copy, of)| copy.strip_prefix("copy-") == Some(of)), "{found:?}");

    run(&s, &(0..s.shards().expect("counted")).collect::<Vec<_>>(), usize::MAX).expect("done");
    let before = done(&s, &[]);
    // 30 of the documents' questions become a test set; their documents have to go, and no others.
    let mut ids = Vec::new();
    let mut texts = Vec::new();
    for part in records::files(&s.folder.join("data"), Some(".jsonl")).expect("parts") {
        records::read(&part, true, &mut |_, r| {
            if ids.len() < 30 {
                ids.push(r["id"].clone());
                let options: Vec<&str> =
                    r["options"].as_object().expect("four").values().filter_map(Value::as_str).collect();
                texts.push(format!("{} {}", r["question"].as_str().expect("a text"), options.join(" ")));
            }
            Ok(())
        })
        .expect("read");
    }
    let after = done(&s, &[("planted".to_owned(), Index::of(&texts))]);
    assert_eq!(after.removed.get("overlap: planted"), Some(&30), "{after:?}");
    assert_eq!(before.kept - after.kept, 30);
}

#[test]
fn signatures_say_how_alike_texts_are() {
    let mut rng = Rng::new(8);
    let words: Vec<String> = (0..400).map(|_| format!("w{}", rng.below(100_000))).collect();
    let mut errors = Vec::new();
    for cut in [0, 20, 60, 120, 200, 400] {
        let (a, b) = (words.join(" "), words[cut..].join(" "));
        let (na, nb) = (396.0, (400.0 - cut as f64 - 4.0).max(0.0));
        let want = nb / na;
        errors.push((alike(&signature(&a), &signature(&b)) - want).abs());
    }
    assert!(errors[0] == 0.0 && errors[..5].iter().all(|e| *e < 0.12), "{errors:?}");
    let mut seen = Seen::default();
    assert_eq!(seen.add(&words.join(" "), 0.8), None);
    assert_eq!(seen.add(&words[8..].join(" "), 0.8), Some(0));
    assert_eq!(seen.add(&words[200..].join(" "), 0.8), None);
}

#[test]
fn a_teacher_s_question_is_read_or_rejected_by_name() {
    let good = json!({
        "question": "Q?", "options": { "A": "a", "B": "b", "C": "c", "D": "d" }, "answer": "C",
        "misconceptions": { "A": "x", "B": "y", "D": "z" },
    });
    let m = made(&format!("Sure:\n```json\n{good}\n```")).expect("read");
    assert_eq!((m.right, m.misconceptions[2].as_str(), m.misconceptions[3].as_str()), (2, "", "z"));
    assert_eq!(made(&made_json(&m).to_string()), Ok(m));
    let with = |key: &str, value: Value| {
        let mut v = good.clone();
        v[key] = value;
        made(&v.to_string()).expect_err("rejected")
    };
    for (got, want) in [
        (with("question", json!(" ")), "no question"),
        (with("options", json!({ "A": "a", "B": "b", "C": "c" })), "not four options"),
        (with("options", json!(["a", "A", "c", "d"])), "options alike"),
        (with("answer", json!("E")), "answer is no option"),
        (with("misconceptions", json!({ "A": "x", "B": "y" })), "misconception missing"),
        (with("question", json!("q".repeat(3000))), "too long"),
        (made("no").expect_err("rejected"), "no JSON"),
        (made("<think>{").expect_err("rejected"), "unfinished"),
    ] {
        assert_eq!(got, want);
    }
}

/// A teacher that is a model: broken JSON first, then a question; a judge that refuses some documents.
#[test]
fn a_model_teaches_and_a_judge_checks() {
    struct Both;
    impl Generate for Both {
        fn name(&self) -> String {
            "both".to_owned()
        }
        fn generate(
            &mut self,
            jobs: &[Job],
            done: &mut dyn FnMut(usize, Answer) -> Result<()>,
        ) -> Result<()> {
            for (i, job) in jobs.iter().enumerate() {
                let said = job.turns.last().expect("a turn").content.as_str();
                let h = hash(said.as_bytes()) ^ u64::from(job.drawing.seed);
                let text = if job.schema.is_some() && h.is_multiple_of(4) {
                    "{".to_owned()
                } else if job.schema.is_some() {
                    json!({ "question": format!("What is {h}?"), "options": ["one", "two", "three", "four"], "answer": "B",
                            "misconceptions": ["p", "", "q", "r"] })
                    .to_string()
                } else if said.starts_with("Answer the question") {
                    if h.is_multiple_of(4) { "NONE" } else { "B" }.to_owned()
                } else {
                    format!(
                        "The question {h} is of the kind that the number two answers, and it is what a reader has to know. {h}"
                    )
                };
                done(i, Answer { text, tokens: 1, ..Answer::default() })?;
            }
            Ok(())
        }
    }
    let mut s = settings(&ours("passages.jsonl"), &folder("genesis-model"));
    s.shard = 200;
    s.questions = 1;
    let (mut one, mut two) = (Both, Both);
    let mut student = Student { left: usize::MAX };
    let mut cast = Cast { teacher: &mut Model(&mut one), student: &mut student, judge: Some(&mut two) };
    stages::run(&s, 0, &|_| false, &mut cast, &mut |_, _, _| Ok(())).expect("done");
    let y = done(&s, &[]);
    let removed = y.removed.get("answerability: the judge found another answer").copied().unwrap_or(0);
    assert!(y.rejected.values().sum::<u64>() < 20 && (20..90).contains(&removed), "{y:?}");
    assert!(y.tokens["questions"].1 >= 190);
}

#[test]
fn rules_need_facts_and_passages_need_texts() {
    let place = folder("genesis-wrong");
    let write = |text: &str| {
        let path = place.join("p.jsonl");
        std::fs::write(&path, text).expect("written");
        path
    };
    let e = Rules::new(&write("{\"text\": \"x\"}\n")).err().expect("no facts").to_string();
    assert!(e.contains("\"facts\"") && e.contains("--teacher"), "{e}");
    let e = genesis::passages(&write("{\"text\": \"x\"}\n{\"body\": \"y\"}\n"), &mut |_| Ok(()))
        .expect_err("no text")
        .to_string();
    assert!(e.contains("line 2") && e.contains("it has body"), "{e}");
    let s = settings(&write("{\"id\": \"a\", \"text\": \"x\"}\n{\"id\": \"a\", \"text\": \"y\"}\n"), &place);
    assert!(duplicates(&s).expect_err("one name").to_string().contains("two passages called a"));
    let s = settings(&ours("passages.jsonl"), &folder("genesis-unfinished"));
    let e = finish(&s, &json!({}), &[]).expect_err("nothing done").to_string();
    assert!(e.contains("shard 0 lacks questions"), "{e}");
}

#[test]
fn documents_of_each_style_state_question_answer_and_mistake() {
    let mut all: Vec<Passage> = Vec::new();
    genesis::passages(&ours("passages.jsonl"), &mut |p| {
        all.push(p);
        Ok(())
    })
    .expect("read");
    let mut rules = Rules::new(&ours("passages.jsonl")).expect("facts");
    let mut ask = |w: Wanted| {
        let mut text = String::new();
        rules
            .teach(&[w], 1, &mut |_, a| {
                text = a.text;
                Ok(())
            })
            .expect("taught");
        text
    };
    let passage = all[7].clone();
    let question =
        made(&ask(Wanted::Question { passage: passage.clone(), number: 1, attempt: 0 })).expect("a question");
    let wrong = (question.right + 1) % 4;
    for style in Style::ALL {
        let text = ask(Wanted::Document {
            passage: passage.clone(),
            question: question.clone(),
            verdict: Verdict::Wrong(wrong),
            said: String::new(),
            style,
        });
        for part in [&question.text, &question.options[question.right], &question.misconceptions[wrong]] {
            assert!(text.contains(part.as_str()), "{style:?} lacks {part}: {text}");
        }
        assert!(is_english(&text), "{text}");
    }
    assert!(!is_english(
        "Der schnelle braune Fuchs springt über den faulen Hund, und niemand sieht ihm dabei zu."
    ));
    assert!(!is_english("这不是英文。") && !is_english(""));
}
