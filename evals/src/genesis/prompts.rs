//! What the teacher, the student and the judge are asked, and how a teacher's question is read.

use serde_json::{Value, json};

use super::{Made, Style, Verdict, Wanted};
use crate::ask::prompt::Template;
use crate::ask::{Drawing, Job, Turn, extract};
use crate::hash::{hash_all, sha256};
use crate::question::LETTERS;

/// Options of a question.
pub const OPTIONS: usize = 4;

const QUESTION: &str = "You write exam questions. From the passage below, write one multiple-choice question that a \
                        reader who understood the passage can answer and that tests one idea of it. The question must \
                        make sense without the passage. Give exactly four options of similar length, one of them right. \
                        Each wrong option must be what a learner with one particular misconception would choose; name \
                        that misconception. Return a JSON object alone: {\"question\": \"...\", \"options\": {\"A\": \
                        \"...\", \"B\": \"...\", \"C\": \"...\", \"D\": \"...\"}, \"answer\": \"A\", \"misconceptions\": \
                        {\"B\": \"...\", \"C\": \"...\", \"D\": \"...\"}}, with the answer's letter at a random place.";

const FAILURE: &str = "A learner answered a question wrongly, or gave no answer that can be read. Write a document that \
                       teaches what the learner lacks. Say what the question turns on, which misconception leads to the \
                       answer that the learner gave and why it fails, what is right and why, and how to tell the two \
                       apart next time. State the question and its options, and the right answer with its letter. Use \
                       the passage for facts, and do not mention that there is a passage.";

const OPTION_LEVEL: &str = "Write a document that reasons through a multiple-choice question option by option. State the \
                            question and its options. For each option say whether it is right, why, and for each wrong \
                            one which misconception leads to it. End with the right answer and its letter. Use the \
                            passage for facts, and do not mention that there is a passage.";

const ANSWERABLE: &str = "Answer the question from the text alone. Reply with the letter of one option, or with NONE if \
                          the text does not decide it.";

/// What each style asks for.
fn style(style: Style) -> &'static str {
    match style {
        Style::Textbook => {
            "Write it as a section of a textbook, with a heading, definitions and a worked explanation."
        }
        Style::Questions => "Write it as questions and answers that lead from the basics to this question.",
        Style::Article => {
            "Write it as an article for the web that a curious reader enjoys, with short paragraphs."
        }
        Style::Dialogue => {
            "Write it as a dialogue between a teacher and a learner who holds the misconception."
        }
    }
}

/// The prompts by name, with their hashes, for the manifest.
pub fn hashes() -> Vec<(&'static str, String)> {
    let mut all = vec![
        ("question", sha256(QUESTION.as_bytes())),
        ("failure", sha256(FAILURE.as_bytes())),
        ("option-level", sha256(OPTION_LEVEL.as_bytes())),
        ("answerable", sha256(ANSWERABLE.as_bytes())),
    ];
    all.extend(Style::ALL.map(|s| (s.name(), sha256(style(s).as_bytes()))));
    all
}

/// What a teacher that is a model is asked.
pub fn job(wanted: &Wanted, seed: u32) -> Job {
    match wanted {
        Wanted::Question { passage, number, attempt } => {
            let again = match number {
                0 => String::new(),
                n => format!("\n\nThis is question {} about the passage: ask about another idea.", n + 1),
            };
            let text = format!("{QUESTION}{again}\n\n# Passage\n{}", passage.text);
            Job {
                schema: Some(schema()),
                ..drawn(text, 1024, seed, &[&passage.id, &number.to_string(), &attempt.to_string()])
            }
        }
        Wanted::Document { passage, question, verdict, said, style: s } => {
            let answer = extract::after_thinking(said).unwrap_or("").trim();
            let learner = match verdict {
                Verdict::Wrong(i) => format!("The learner chose {}.", LETTERS[*i]),
                Verdict::Unreadable => "The learner gave no readable answer.".to_owned(),
                Verdict::Right => "The learner chose the right option.".to_owned(),
            };
            let why: String = (0..question.options.len())
                .filter(|i| *i != question.right)
                .map(|i| format!("{}: {}\n", LETTERS[i], question.misconceptions[i]))
                .collect();
            let ask = match verdict {
                Verdict::Right => OPTION_LEVEL.to_owned(),
                _ => format!("{FAILURE} {}", style(*s)),
            };
            let text = format!(
                "{ask}\n\n# Passage\n{}\n\n# Question\n{}\nRight: {}\n\n# Misconceptions\n{why}\n# The learner\n{learner}\n{}",
                passage.text,
                listed(question),
                LETTERS[question.right],
                answer.chars().take(2000).collect::<String>()
            );
            drawn(text, 2048, seed, &[&passage.id, &question.text])
        }
    }
}

fn drawn(text: String, most: usize, seed: u32, name: &[&str]) -> Job {
    let seed = hash_all(&[name, &[&seed.to_string()]].concat()) as u32;
    let drawing = Drawing { temperature: 0.7, top_k: 20, top_p: 0.9, seed };
    Job { turns: vec![Turn::new("user", text)], drawing, thinking: Some(false), ..Job::user("", most) }
}

/// The question as a student sees it, with a seed that follows from its name.
pub fn student(question: &Made, id: &str, drawing: Drawing, most: usize, seed: u32) -> Job {
    let template = Template::named("instruct").map(|t| t.fill(&question.question(id))).unwrap_or_default();
    let seed = hash_all(&[id, "student", &seed.to_string()]) as u32;
    Job { drawing: Drawing { seed, ..drawing }, ..Job::user(template, most) }
}

/// Whether a document answers its question, asked of a judge.
pub fn answerable(question: &Made, text: &str) -> Job {
    let text = format!("{ANSWERABLE}\n\n# Text\n{text}\n\n# Question\n{}", listed(question));
    Job { thinking: Some(false), ..Job::user(text, 16) }
}

/// A question with its options, a line each.
pub fn listed(question: &Made) -> String {
    let options = question.options.iter().zip(LETTERS).map(|(o, l)| format!("\n{l}. {o}"));
    question.text.clone() + &options.collect::<String>()
}

/// What a question from a teacher is.
pub fn schema() -> Value {
    let four = |keys: &[&str]| {
        let each: serde_json::Map<String, Value> =
            keys.iter().map(|k| ((*k).to_owned(), json!({ "type": "string" }))).collect();
        json!({ "type": "object", "properties": each })
    };
    json!({
        "type": "object",
        "properties": {
            "question": { "type": "string" },
            "options": four(&["A", "B", "C", "D"]),
            "answer": { "type": "string", "enum": ["A", "B", "C", "D"] },
            "misconceptions": four(&["A", "B", "C", "D"]),
        },
        "required": ["question", "options", "answer", "misconceptions"],
    })
}

/// Reads a teacher's question; the error names what is wrong with it in a few words, which the manifest counts.
pub fn made(text: &str) -> std::result::Result<Made, &'static str> {
    let text = extract::after_thinking(text).ok_or("unfinished")?;
    let object = crate::json_in(text).ok_or("no JSON")?;
    let words =
        |v: Option<&Value>| v.and_then(Value::as_str).map(|s| s.trim().to_owned()).filter(|s| !s.is_empty());
    let question = words(object.get("question")).ok_or("no question")?;
    let letter = |i: usize| LETTERS[i].to_string();
    let part = |key: &str, i: usize| {
        let value = object.get(key)?;
        words(value.get(letter(i)).or_else(|| value.get(i)))
    };
    let options: Vec<String> = (0..OPTIONS).filter_map(|i| part("options", i)).collect();
    if options.len() != OPTIONS {
        return Err("not four options");
    }
    let mut apart: Vec<String> = options.iter().map(|o| o.to_lowercase()).collect();
    apart.sort();
    apart.dedup();
    if apart.len() != OPTIONS {
        return Err("options alike");
    }
    let answer = words(object.get("answer")).ok_or("no answer")?;
    let right =
        (0..OPTIONS).find(|i| answer == letter(*i) || answer == options[*i]).ok_or("answer is no option")?;
    let misconceptions: Vec<String> = (0..OPTIONS)
        .map(|i| if i == right { String::new() } else { part("misconceptions", i).unwrap_or_default() })
        .collect();
    if (0..OPTIONS).any(|i| i != right && misconceptions[i].is_empty()) {
        return Err("misconception missing");
    }
    if question.len() > 2000 || options.iter().any(|o| o.len() > 600) {
        return Err("too long");
    }
    Ok(Made { text: question, options, right, misconceptions })
}

/// A question as JSON, as [`made`] reads it.
pub fn made_json(m: &Made) -> Value {
    let map = |all: &[String]| -> Value {
        let filled = all.iter().enumerate().filter(|(_, t)| !t.is_empty());
        filled
            .map(|(i, t)| (LETTERS[i].to_string(), Value::from(t.as_str())))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    json!({
        "question": m.text,
        "options": map(&m.options),
        "answer": LETTERS[m.right].to_string(),
        "misconceptions": map(&m.misconceptions),
    })
}
