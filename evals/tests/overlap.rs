//! Contamination, with texts planted where they should be found.

use weft_evals::hash::Rng;
use weft_evals::overlap::{self, Index, words};
use weft_evals::question::Question;

use crate::folder;

fn question(i: usize, text: &str) -> Question {
    Question {
        id: format!("q{i}"),
        subject: "s".to_owned(),
        context: None,
        text: text.to_owned(),
        options: Vec::new(),
        right: 0,
        answer: "x".to_owned(),
    }
}

fn random_words(rng: &mut Rng, n: usize) -> Vec<String> {
    (0..n).map(|_| format!("w{}", rng.below(5000))).collect()
}

/// The longest run of words that two texts share, by comparing every place with every other.
fn longest(a: &[u64], b: &[u64]) -> usize {
    let at = |i: usize, j: usize| a[i..].iter().zip(&b[j..]).take_while(|(x, y)| x == y).count();
    (0..a.len()).flat_map(|i| (0..b.len()).map(move |j| (i, j))).map(|(i, j)| at(i, j)).max().unwrap_or(0)
}

#[test]
fn planted_runs_are_found_with_their_length() {
    let mut rng = Rng::new(5);
    let texts: Vec<String> = (0..60).map(|_| random_words(&mut rng, 40).join(" ")).collect();
    let index = Index::of(&texts);
    for n in 0..200 {
        let (t, from, length) = (rng.below(60), rng.below(20), 8 + rng.below(12));
        let part: Vec<&str> = texts[t].split(' ').skip(from).take(length).collect();
        let before = random_words(&mut rng, 30).join(" ");
        // Marks and capitals do not hide it.
        let text =
            format!("{before}. {}! {}", part.join(", ").to_uppercase(), random_words(&mut rng, 30).join(" "));
        let found = index.look_up(&text);
        let want = longest(&words(&texts[t]), &words(&text));
        let mine = found.iter().find(|f| f.0 == t);
        assert_eq!(mine.is_some(), want >= overlap::RUN, "{n}");
        if let Some((_, starts, found)) = mine {
            assert_eq!((*found, starts.len()), (want, want + 1 - overlap::RUN), "{n}");
        }
    }
}

#[test]
fn a_short_question_is_found_as_a_whole_only() {
    let index = Index::of(&["Which planet is nearest to the sun?".to_owned(), String::new()]);
    assert_eq!(index.look_up("He asked which planet is nearest to the sun, and left.")[0].2, 7);
    assert!(index.look_up("Which planet is nearest to the moon?").is_empty());
}

#[test]
fn a_report_by_question_and_the_rest_of_the_data() {
    let mut rng = Rng::new(9);
    let texts: Vec<String> = (0..3).map(|_| random_words(&mut rng, 20).join(" ")).collect();
    let questions: Vec<Question> = texts.iter().enumerate().map(|(i, t)| question(i, t)).collect();
    let folder = folder("overlap");
    let (training, out) = (folder.join("train.jsonl"), folder.join("clean.jsonl"));
    let record =
        |text: &str| serde_json::json!({ "messages": [{ "role": "user", "content": text }] }).to_string();
    let clean = random_words(&mut rng, 50).join(" ");
    let lines =
        [record(&clean), record(&format!("{clean} {}", texts[1])), record("short"), record(&texts[1])];
    std::fs::write(&training, lines.join("\n")).expect("written");
    let (found, hit) = overlap::search(&questions, &training).expect("read");
    assert_eq!(hit, [1, 3]);
    assert_eq!(found.iter().map(|f| f.is_hit()).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!((found[1].runs, found[1].seen, found[1].longest, found[1].records), (8, 8, 20, 2));
    assert_eq!(found[1].places, ["line 2", "line 4"]);
    let report = overlap::report(&questions, &found);
    assert_eq!(
        (report.len(), report[0]["id"].as_str(), report[0]["share"].as_f64()),
        (1, Some("q1"), Some(1.0))
    );
    assert_eq!(overlap::exclude(&training, &hit, &out).expect("written"), 2);
    let kept = std::fs::read_to_string(&out).expect("there");
    assert_eq!(kept.lines().collect::<Vec<_>>(), [lines[0].as_str(), lines[2].as_str()]);
    assert!(overlap::exclude(&training, &hit, &training).is_err());
}
