//! Whole runs, asked of somebody who answers from a table.

use std::path::Path;

use serde_json::Value;
use weft_evals::ask::prompt::{Likelihood, Template};
use weft_evals::ask::{Answer, Drawing, Generate, Item, Job, Score, Scored};
use weft_evals::exam::{self, Asking};
use weft_evals::hash::{Rng, hash};
use weft_evals::journal::{Journal, claim};
use weft_evals::question::{Question, Shard, choose};
use weft_evals::suites::{Mean, find};
use weft_evals::{Error, Result};

use crate::{data, folder};

/// Answers from the prompt and the seed, in an order of its own, and fails after so many.
struct Table {
    left: usize,
}

impl Generate for Table {
    fn name(&self) -> String {
        "table".to_owned()
    }

    fn generate(&mut self, jobs: &[Job], done: &mut dyn FnMut(usize, Answer) -> Result<()>) -> Result<()> {
        let mut order: Vec<usize> = (0..jobs.len()).collect();
        Rng::new(self.left as u64).shuffle(&mut order);
        for i in order {
            if self.left == 0 {
                return Err(Error::Stopped);
            }
            self.left -= 1;
            let h = hash(format!("{:?}{}", jobs[i].turns, jobs[i].drawing.seed).as_bytes());
            let text = format!("<think>{h}</think>Answer: {}", ["A", "B", "C", "D", "E"][(h % 5) as usize]);
            done(i, Answer { text, prompt_tokens: 9, tokens: h % 100, cut: false, seconds: 0.5 })?;
        }
        Ok(())
    }
}

impl Score for Table {
    fn name(&self) -> String {
        "table".to_owned()
    }

    fn score(&mut self, items: &[Item], done: &mut dyn FnMut(usize, Scored) -> Result<()>) -> Result<()> {
        for (i, item) in items.iter().enumerate() {
            // The shorter, the likelier.
            let loglikelihoods = item.endings.iter().map(|e| -(e.len() as f64)).collect();
            done(i, Scored { loglikelihoods, tokens: 7, seconds: 0.1 })?;
        }
        Ok(())
    }
}

fn questions() -> Vec<Question> {
    let set = find("afrimedqa").expect("a suite").read(&data("afrimedqa.csv")).expect("read");
    choose(set.questions, None, Shard::ALL)
}

fn asking(runs: usize) -> Asking {
    Asking {
        template: Template::named("instruct").expect("a template"),
        system: None,
        drawing: Drawing { temperature: 0.6, top_k: 20, top_p: 0.95, seed: 1 },
        max_tokens: 100,
        thinking: None,
        runs,
    }
}

fn run(folder: &Path, left: usize) -> Result<Vec<Value>> {
    let mut answers = Journal::open(&folder.join("answers.jsonl"), &exam::key)?;
    let mut times = Journal::open(&folder.join("times.jsonl"), &exam::key)?;
    exam::generate(&questions(), &asking(3), &mut Table { left }, &mut answers, &mut times, &mut |_| Ok(()))
}

#[test]
fn a_run_that_is_stopped_anywhere_ends_with_the_same_bytes() {
    let (whole, parts) = (folder("whole"), folder("parts"));
    let lines = run(&whole, 99).expect("done");
    assert_eq!(lines.len(), 15);
    let mut rng = Rng::new(3);
    let mut stops = 0;
    loop {
        match run(&parts, 1 + rng.below(2)) {
            Ok(again) => {
                assert_eq!(again, lines);
                break;
            }
            Err(_) => stops += 1,
        }
        // A kill leaves half a line at the end.
        let path = parts.join("answers.jsonl");
        let bytes = std::fs::read(&path).expect("there");
        std::fs::write(&path, &bytes[..bytes.len() - rng.below(30)]).expect("written");
    }
    assert!(stops >= 10, "{stops} stops");
    let read = |f: &Path| std::fs::read(f.join("answers.jsonl")).expect("there");
    assert_eq!(read(&whole), read(&parts));
    // Asked again, nobody is.
    assert_eq!(run(&parts, 0).expect("all there"), lines);
    assert_eq!(exam::lines(&parts).expect("read"), lines);
}

#[test]
fn runs_have_seeds_and_scores_of_their_own() {
    let lines = run(&folder("runs"), 99).expect("done");
    let o = exam::result(&lines, Mean::Questions);
    assert_eq!((o.runs.len(), o.all.n), (3, 5));
    let right = lines.iter().filter(|l| l["right"] == true).count();
    assert!((o.all.mean - right as f64 / 15.0).abs() < 1e-12);
    assert!((o.runs.iter().sum::<f64>() / 3.0 - o.all.mean).abs() < 1e-12);
    let of = |run: u64| {
        lines.iter().filter(|l| l["run"] == run).map(|l| l["output"].to_string()).collect::<Vec<_>>()
    };
    assert!(of(0) != of(1) && of(1) != of(2));
    // E names no option of four.
    let unread = lines.iter().filter(|l| l["extracted"] == "NO_ANSWER").count();
    assert!((o.readable.mean - (15 - unread) as f64 / 15.0).abs() < 1e-12);
}

#[test]
fn likelihoods_pick_by_sum_or_by_byte() {
    let questions = questions();
    let of = |kind| {
        let template = Template::named("question").expect("a template");
        let (mut a, mut b) = (Journal::in_memory(), Journal::in_memory());
        exam::likelihoods(&questions, &template, kind, &mut Table { left: 9 }, (&mut a, &mut b), &mut |_| {
            Ok(())
        })
        .expect("scored")
    };
    for line in of(Likelihood::Option) {
        let lengths: Vec<usize> = line["endings"]
            .as_array()
            .expect("texts")
            .iter()
            .map(|e| e.as_str().expect("a text").len())
            .collect();
        let shortest = (0..4).min_by_key(|i| lengths[*i]).expect("four");
        assert_eq!(line["extracted"], ["A", "B", "C", "D"][shortest]);
    }
    let kind = Likelihood::Normalised;
    let options = ["ab".to_owned(), "abcdefgh".to_owned()];
    assert_eq!(
        (kind.pick(&[-3.0, -4.0], &options), Likelihood::Option.pick(&[-3.0, -4.0], &options)),
        (Some(1), Some(0))
    );
    assert!(of(Likelihood::Letter).iter().all(|l| l["endings"][1] == " B"));
}

#[test]
fn templates_fill_once_and_shots_stay_fixed() {
    let mut q = questions()[0].clone();
    q.text = "What is {options}?".to_owned();
    let plain = Template::named("plain").expect("a template");
    let text = plain.fill(&q);
    assert!(text.starts_with("What is {options}?\nA. ") && text.ends_with("\nAnswer:"), "{text}");
    q.context = Some("An abstract.".to_owned());
    assert!(plain.fill(&q).starts_with("An abstract.\nWhat is"), "{}", plain.fill(&q));
    let mut shots = plain.clone();
    shots.shots = questions().into_iter().skip(1).take(2).collect();
    let item = shots.item(&questions()[0], Likelihood::Letter);
    assert_eq!(item.prompt.matches("Answer:").count(), 3);
    assert!(
        item.prompt.contains(&format!("Answer: {}\n\n", shots.shots[0].right_label())),
        "{}",
        item.prompt
    );
    assert_ne!(shots.sha256(), plain.sha256());
    assert_eq!(shots.turns(&questions()[0], Some("Be brief.")).len(), 6);
    assert!(Template::own("no place".to_owned()).is_err() && Template::named("x").is_err());
}

#[test]
fn a_judge_reads_what_rules_cannot_and_sees_no_question() {
    struct Judge;
    impl Generate for Judge {
        fn name(&self) -> String {
            "judge".to_owned()
        }
        fn generate(
            &mut self,
            jobs: &[Job],
            done: &mut dyn FnMut(usize, Answer) -> Result<()>,
        ) -> Result<()> {
            for (i, job) in jobs.iter().enumerate() {
                let all: String = job.turns.iter().map(|t| t.content.as_str()).collect();
                assert!(!all.contains("filters blood") && all.contains("Answer: E"), "{all}");
                done(i, Answer { text: " b".to_owned(), ..Answer::default() })?;
            }
            Ok(())
        }
    }
    let mut lines = run(&folder("judge"), 99).expect("done");
    let unread = lines.iter().filter(|l| l["extracted"] == "NO_ANSWER").count();
    assert!(unread > 0);
    assert_eq!(exam::reread(&questions(), &mut lines, &mut Judge).expect("read"), unread);
    let judged: Vec<_> = lines.iter().filter(|l| l["rule"] == "judge").collect();
    assert!(judged.iter().all(|l| l["extracted"] == "B" && l["right"] == (l["answer"] == "B")));
}

/// Scores of a comparison are made as those of the suite are, and the runs of a question are no questions.
#[test]
fn comparisons_and_shares_count_as_scores_do() {
    let line = |subject: &str, id: usize, run: usize, right: bool, said: &str| serde_json::json!({ "subject": subject, "id": id.to_string(), "run": run, "right": right, "extracted": said });
    // Two questions of one subject and 98 of another, of which the first has the small one right.
    let all = |small: bool| -> Vec<Value> {
        let of = |s: &'static str, n: usize, right: bool| (0..n).map(move |i| line(s, i, 0, right, "A"));
        of("small", 2, small).chain(of("large", 98, false)).collect()
    };
    let by = |over| exam::compare(&all(true), &all(false), over).expect("the same questions");
    let (subjects, questions) = (by(Mean::Subjects), by(Mean::Questions));
    assert_eq!((subjects.first.mean, subjects.second.mean, subjects.paired.difference.mean), (0.5, 0.0, 0.5));
    assert_eq!(subjects.first, exam::result(&all(true), Mean::Subjects).all);
    assert!((questions.paired.difference.mean - 0.02).abs() < 1e-12);
    assert_eq!((subjects.paired.only_first, subjects.paired.only_second), (2, 0));
    assert_eq!(exam::compare(&all(true), &[line("other", 0, 0, true, "A")], Mean::Questions), None);
    // 50 questions in four runs, of which half of the questions name an option each time.
    let runs: Vec<Value> = (0..200)
        .map(|i| line("s", i % 50, i / 50, false, if i % 2 == 0 { "A" } else { "NO_ANSWER" }))
        .collect();
    let readable = exam::result(&runs, Mean::Questions).readable;
    assert_eq!((readable.mean, readable.n), (0.5, 50));
    // It is as wide as that of 50 throws of a coin, which that of 200 is not.
    assert!(readable.high - readable.low > 0.22, "{readable:?}");
}

#[test]
fn a_folder_belongs_to_one_way_of_asking() {
    let folder = folder("claim");
    let settings = |n: u64| serde_json::json!({ "suite": "medqa", "limit": n });
    claim(&folder, &settings(1)).expect("new");
    claim(&folder, &settings(1)).expect("the same");
    claim(&folder, &settings(3)).expect("nothing was answered yet");
    claim(&folder, &settings(1)).expect("and again");
    std::fs::write(folder.join("times.jsonl"), "{}\n").expect("written");
    let e = claim(&folder, &settings(2)).expect_err("another").to_string();
    assert!(e.contains("limit 1") && e.contains("has 2") && e.contains("another folder"), "{e}");
    std::fs::write(folder.join("answers.jsonl"), "{}\n").expect("written");
    let e = Journal::open(&folder.join("answers.jsonl"), &exam::key).expect_err("no result").to_string();
    assert!(e.contains("line 1") && e.contains("no result of ours"), "{e}");
}
