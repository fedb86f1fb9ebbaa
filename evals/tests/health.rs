//! HealthBench's arithmetic beside another calculation of it, and judging with a judge from a table.

use std::collections::BTreeMap;

use weft_evals::ask::{Answer, Generate, Job, Turn};
use weft_evals::hash::{Rng, hash};
use weft_evals::healthbench::{self, Conversation, Criterion, clipped, verdict};
use weft_evals::journal::Journal;
use weft_evals::{Error, Result, judge};

use crate::{data, folder};

fn conversation(rng: &mut Rng, i: usize) -> Conversation {
    let mut rubric: Vec<Criterion> = (0..1 + rng.below(12))
        .map(|_| Criterion {
            text: "c".to_owned(),
            points: rng.below(21) as f64 - 10.0,
            tags: (0..rng.below(3)).map(|_| format!("axis:{}", rng.below(4))).collect(),
        })
        .collect();
    // Two equal tags on one criterion are one.
    rubric.iter_mut().for_each(|c| c.tags.dedup());
    rubric[0].points = 1.0 + rng.below(10) as f64;
    Conversation {
        id: format!("c{i}"),
        turns: vec![Turn::new("user", "?")],
        rubric,
        tags: vec![format!("theme:{}", rng.below(3))],
    }
}

/// All of it in whole numbers, as fractions with one denominator a conversation.
#[test]
fn scores_equal_a_calculation_of_their_own() {
    let mut rng = Rng::new(11);
    let all: Vec<Conversation> = (0..300).map(|i| conversation(&mut rng, i)).collect();
    let met: Vec<Vec<bool>> = {
        // Good answers, whose mean is far from where it is clipped.
        let mut met = |c: &Criterion| (rng.below(4) > 0) == (c.points > 0.0);
        all.iter().map(|c| c.rubric.iter().map(&mut met).collect()).collect()
    };
    let (whole, tags) = healthbench::scores(&all, &met);
    let mut sums: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (c, met) in all.iter().zip(&met) {
        let mut names = vec!["all".to_owned(), c.tags[0].clone()];
        names.extend((0..4).map(|a| format!("axis:{a}")));
        for name in names {
            let (mut got, mut most) = (0i64, 0i64);
            for (r, m) in c.rubric.iter().zip(met) {
                if name.starts_with("axis") && !r.tags.contains(&name) {
                    continue;
                }
                let points = r.points as i64;
                got += if *m { points } else { 0 };
                most += if points > 0 { points } else { 0 };
            }
            if most > 0 {
                sums.entry(name).or_default().push(got as f64 / most as f64);
            }
        }
    }
    let mean = |name: &str| (sums[name].iter().sum::<f64>() / sums[name].len() as f64).clamp(0.0, 1.0);
    assert!((whole.mean - mean("all")).abs() < 1e-12 && whole.n == 300);
    assert_eq!(tags.len(), 7);
    for (tag, c) in &tags {
        assert!((c.mean - mean(tag)).abs() < 1e-12 && c.n == sums[tag].len(), "{tag}: {c:?}");
    }
    // The bootstrap's error is that of the mean of so many.
    let m = sums["all"].iter().sum::<f64>() / 300.0;
    let variance = sums["all"].iter().map(|v| (v - m).powi(2)).sum::<f64>() / 300.0;
    assert!((whole.error / (variance / 300.0).sqrt() - 1.0).abs() < 0.1, "{whole:?}");
}

#[test]
fn the_mean_is_clipped_and_a_conversation_is_not() {
    let c = |points: &[f64]| -> Vec<Criterion> {
        points.iter().map(|p| Criterion { text: String::new(), points: *p, tags: Vec::new() }).collect()
    };
    let rubric = c(&[5.0, -10.0]);
    let refs: Vec<&Criterion> = rubric.iter().collect();
    assert_eq!(healthbench::score(&refs, &[true, true]), Some(-1.0));
    assert_eq!(healthbench::score(&refs, &[false, true]), Some(-2.0));
    assert_eq!(healthbench::score(&refs[1..], &[true]), None);
    // Nothing met is nothing, and not less.
    let nothing = healthbench::score(&refs, &[false, false]).expect("a score");
    assert!(nothing == 0.0 && nothing.is_sign_positive());
    assert_eq!((clipped(&[-2.0, 1.0]).mean, clipped(&[1.0, -0.5]).mean), (0.0, 0.25));
}

#[test]
fn the_published_file_is_read_and_its_mistakes_are_told() {
    let all = healthbench::read(&data("healthbench.jsonl")).expect("read");
    assert_eq!((all.len(), all[0].rubric.len(), all[0].possible(), all[1].turns.len()), (2, 3, 15.0, 3));
    let good = std::fs::read_to_string(data("healthbench.jsonl")).expect("there");
    let line = good.lines().next().expect("a line");
    for (from, to, want) in [
        ("\"rubrics\"", "\"rubric\"", "no list \"rubrics\""),
        ("\"prompt\"", "\"messages\"", "no list \"prompt\""),
        ("\"points\": 5", "\"points\": \"five\"", "criterion 2 of \"rubrics\" lacks \"points\""),
        ("\"criterion\": \"Asks", "\"text\": \"Asks", "criterion 2 of \"rubrics\" lacks \"criterion\""),
        ("\"role\"", "\"who\"", "message 1 of \"prompt\" lacks role"),
        ("\"prompt_id\"", "\"id\"", "no \"prompt_id\""),
    ] {
        let path = folder("health").join("h.jsonl");
        let broken = line.replace(from, to);
        assert_ne!(broken, line);
        std::fs::write(&path, broken).expect("written");
        let e = healthbench::read(&path).expect_err("a mistake").to_string();
        assert!(e.contains(want) && e.contains("1"), "{e}");
    }
    // Answers and verdicts are kept by name.
    let path = folder("health").join("twice.jsonl");
    std::fs::write(&path, format!("{line}\n{line}\n")).expect("written");
    let e = healthbench::read(&path).expect_err("one name for two").to_string();
    assert!(e.contains("line 2") && e.contains("\"prompt_id\" of line 1"), "{e}");
    let path = folder("health").join("negative.jsonl");
    std::fs::write(
        &path,
        line.replace("\"points\": 10", "\"points\": -1").replace("\"points\": 5", "\"points\": 0"),
    )
    .expect("written");
    assert!(healthbench::read(&path).expect_err("nothing to win").to_string().contains("positive points"));
}

#[test]
fn verdicts_are_read_with_words_and_fences_around() {
    let good = "{\"explanation\": \"It {does}.\", \"criteria_met\": true}";
    for text in
        [good.to_owned(), format!("```json\n{good}\n```"), format!("<think>{{}}</think>Here: {good} so.")]
    {
        assert_eq!(verdict(&text), Some((true, "It {does}.".to_owned())), "{text}");
    }
    for text in ["", "{", "{\"criteria_met\": \"yes\"}", "true", "<think>{\"criteria_met\": true}"] {
        assert_eq!(verdict(text), None, "{text}");
    }
}

/// Meets what its criterion's hash says; every third first answer is no JSON; stops after so many.
struct Judge {
    left: usize,
    turned: bool,
}

impl Generate for Judge {
    fn name(&self) -> String {
        "judge".to_owned()
    }

    fn generate(&mut self, jobs: &[Job], done: &mut dyn FnMut(usize, Answer) -> Result<()>) -> Result<()> {
        for (i, job) in jobs.iter().enumerate() {
            if self.left == 0 {
                return Err(Error::Stopped);
            }
            self.left -= 1;
            assert!(job.schema.is_some());
            let h = hash(job.turns[0].content.as_bytes());
            let broken = h.is_multiple_of(3) && job.drawing.temperature == 0.0;
            let text = match broken {
                true => "I would say yes.".to_owned(),
                false => format!(
                    "{{\"explanation\": \"e\", \"criteria_met\": {}}}",
                    (h.is_multiple_of(2)) != self.turned
                ),
            };
            done(i, Answer { text, ..Answer::default() })?;
        }
        Ok(())
    }
}

#[test]
fn judging_goes_on_where_it_stopped_and_two_judges_are_compared() {
    let mut rng = Rng::new(4);
    let mut all: Vec<Conversation> = (0..20).map(|i| conversation(&mut rng, i)).collect();
    for (i, c) in all.iter_mut().enumerate() {
        c.rubric.iter_mut().enumerate().for_each(|(k, c)| c.text = format!("does thing {k} of {i}"));
    }
    let answers = vec!["<think>x</think>An answer.".to_owned(); 20];
    let judge = |folder: &std::path::Path, left: usize, turned: bool| {
        let mut journal = Journal::open(&folder.join("verdicts.jsonl"), &judge::verdict_key)?;
        judge::judge(&all, &answers, &mut Judge { left, turned }, &mut journal, &mut |_| Ok(()))
    };
    let (whole, parts, other) = (folder("v-whole"), folder("v-parts"), folder("v-other"));
    let want = judge(&whole, usize::MAX, false).expect("judged");
    assert_eq!(want.1, 0);
    // Each try comes further, since what could not be read is asked again from the start.
    let got = (10..).step_by(10).find_map(|left| judge(&parts, left, false).ok()).expect("judged");
    assert_eq!(got.0, want.0);
    judge(&other, usize::MAX, true).expect("judged");
    let same = judge::agreement(&whole, &parts).expect("both");
    assert_eq!((same.agree, same.kappa), (1.0, Some(1.0)));
    let turned = judge::agreement(&whole, &other).expect("both");
    assert!(turned.agree == 0.0 && turned.kappa.expect("defined") < -0.9, "{turned:?}");
}
