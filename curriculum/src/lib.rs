//! The synthetic STEM curriculum: questions whose answers are computed, with worked steps, four options
//! from named mistakes, and documents that explain why a wrong option is wrong.
//!
//! A domain is one file with a table of question families and one line in [`DOMAINS`]. The same seed
//! gives the same bytes on every platform: all arithmetic is on integers. A question belongs to train or
//! to test by a hash of its family and parameters, never of its wording, so the two share none.

pub mod biology;
pub mod chemistry;
mod geometry;
pub mod mathematics;
pub mod medicine;
mod motion;
pub mod physics;
pub mod problem;
pub mod rng;
pub mod score;
pub mod steps;
#[cfg(test)]
mod tests;
mod units;

use problem::{Problem, Wrong, wrong};
use rng::Rng;
use serde_json::{Value, json};
use std::io::{self, Write};
use steps::{decimal, fraction};

/// A field of questions.
#[derive(Debug)]
pub struct Domain {
    /// Its name in records and filters.
    pub name: &'static str,
    /// Whether it belongs to the curriculum that the on-board model is trained on and scored by.
    pub core: bool,
    /// Its question families, drawn equally often.
    pub families: &'static [Family],
}

/// One kind of question.
#[derive(Debug)]
pub struct Family {
    /// Its name in records.
    pub name: &'static str,
    /// Draws one question.
    pub draw: fn(&mut Rng) -> Problem,
}

/// Every domain. A new one is a file and a line here.
pub const DOMAINS: &[&Domain] =
    &[&mathematics::DOMAIN, &physics::DOMAIN, &biology::DOMAIN, &medicine::DOMAIN, &chemistry::DOMAIN];

/// Which side of the split a question is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Nine questions in ten.
    Train,
    /// One question in ten.
    Test,
}

/// How a question is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A user's question; steps in `<think>`, then one line with the answer.
    Chat,
    /// The same with four options; the answer is a letter.
    Mcq,
    /// A text on the question, its answer and its tempting mistakes.
    Document,
}

/// The four options of a multiple-choice question.
#[derive(Clone, Debug)]
pub struct Options {
    /// The values, A to D, all different.
    pub values: [String; 4],
    /// The index of the right one.
    pub correct: usize,
    /// The mistake that gives each wrong value; empty for the right one.
    pub mistakes: [&'static str; 4],
    /// How that mistake reaches the value.
    pub hows: [String; 4],
}

/// One record.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The domain's name.
    pub domain: &'static str,
    /// The family's name.
    pub family: &'static str,
    /// The parameters; the same for the same question in any wording or format.
    pub key: String,
    /// What the user asks; with the options in [`Format::Mcq`].
    pub prompt: String,
    /// What the assistant answers, or the whole text in [`Format::Document`].
    pub target: String,
    /// The right answer with its unit, also where the target is a letter.
    pub answer: String,
    /// The options, in [`Format::Mcq`] and [`Format::Document`].
    pub options: Option<Options>,
    /// How the question is written.
    pub format: Format,
}

/// The split of a question, by a hash of its domain, family and parameters.
pub fn split_of(domain: &str, family: &str, key: &str) -> Split {
    match rng::hash(format!("{domain}/{family}/{key}").as_bytes()) % 10 {
        0 => Split::Test,
        _ => Split::Train,
    }
}

/// The domains named in `filter`, or the core ones if it is empty. The error is the first unknown name.
pub fn select(filter: &[String]) -> Result<Vec<&'static Domain>, String> {
    if filter.is_empty() {
        return Ok(DOMAINS.iter().copied().filter(|d| d.core).collect());
    }
    filter
        .iter()
        .map(|name| DOMAINS.iter().copied().find(|d| d.name == name).ok_or_else(|| name.clone()))
        .collect()
}

/// `count` samples of `seed`, the domains in turn. Sample `i` depends on `seed` and `i` alone.
pub fn generate(
    seed: u64,
    count: u64,
    split: Split,
    format: Format,
    domains: Vec<&'static Domain>,
) -> impl Iterator<Item = Sample> {
    let count = if domains.is_empty() { 0 } else { count };
    (0..count).map(move |i| {
        let mut r = Rng::new(seed, i);
        let domain = domains[(i % domains.len() as u64) as usize];
        let family = &domain.families[r.below(domain.families.len() as u64) as usize];
        let problem = draw(&mut r, domain, family, split);
        write_up(&mut r, domain, family, problem, format)
    })
}

/// Draws until the question falls on `split`: ten draws on average for the test split.
fn draw(r: &mut Rng, domain: &Domain, family: &Family, split: Split) -> Problem {
    loop {
        let problem = (family.draw)(r);
        if split_of(domain.name, family.name, &problem.key) == split {
            return problem;
        }
    }
}

const LETTERS: [char; 4] = ['A', 'B', 'C', 'D'];

fn write_up(r: &mut Rng, domain: &Domain, family: &Family, p: Problem, format: Format) -> Sample {
    let (prompt, target, options) = match format {
        Format::Chat => (
            p.question.clone(),
            format!("<think>\n{}\n</think>\n\nThe answer is {}.", p.work, p.answer),
            None,
        ),
        Format::Mcq => {
            let o = options(r, &p);
            let ask = r.pick(&[
                "Answer with the letter.",
                "Which option is right?",
                "Choose A, B, C or D.",
                "Answer with A, B, C or D.",
                "Give the letter of the right option.",
            ]);
            let letter = LETTERS[o.correct];
            let target = format!(
                "<think>\n{}\n{} is option {letter}.\n</think>\n\nAnswer: {letter}",
                p.work, p.answer
            );
            (format!("{}\n{}\n{ask}", p.question, listed(&o)), target, Some(o))
        }
        Format::Document => {
            let o = options(r, &p);
            (p.question.clone(), document(&p, &o), Some(o))
        }
    };
    Sample {
        domain: domain.name,
        family: family.name,
        key: p.key,
        prompt,
        target,
        answer: p.answer,
        options,
        format,
    }
}

fn listed(o: &Options) -> String {
    let lines: Vec<String> = LETTERS.iter().zip(&o.values).map(|(l, v)| format!("{l}. {v}")).collect();
    lines.join("\n")
}

/// The explained form: question, options, the steps, then each wrong option with its mistake.
fn document(p: &Problem, o: &Options) -> String {
    let letter = LETTERS[o.correct];
    let mut text = format!(
        "Question: {}\n{}\n\nSolution: {}\nThe answer is {}, option {letter}.\n",
        p.question,
        listed(o),
        p.work,
        p.answer
    );
    for i in (0..4).filter(|&i| i != o.correct) {
        text += &format!(
            "\nWhy not {}? {} comes from {}: {}. The right value is {}.",
            LETTERS[i], o.values[i], o.mistakes[i], o.hows[i], p.answer
        );
    }
    text
}

/// Four different options: the answer and three wrong ones, shuffled.
fn options(r: &mut Rng, p: &Problem) -> Options {
    let mut candidates = p.wrong.clone();
    r.shuffle(&mut candidates);
    candidates.extend(slips(&p.answer));
    let mut chosen: Vec<Wrong> = vec![Wrong { mistake: "", value: p.answer.clone(), how: String::new() }];
    for c in candidates {
        if chosen.len() < 4 && chosen.iter().all(|w| !score::same(&w.value, &c.value)) {
            chosen.push(c);
        }
    }
    r.shuffle(&mut chosen);
    let correct = chosen.iter().position(|w| w.mistake.is_empty()).unwrap_or(0);
    let at = |i: usize| {
        chosen.get(i).cloned().unwrap_or(Wrong { mistake: "", value: String::new(), how: String::new() })
    };
    Options {
        values: [0, 1, 2, 3].map(|i| at(i).value),
        correct,
        mistakes: [0, 1, 2, 3].map(|i| at(i).mistake),
        hows: [0, 1, 2, 3].map(|i| at(i).how),
    }
}

/// Slips that any number allows, for questions whose own mistakes coincide.
fn slips(answer: &str) -> Vec<Wrong> {
    if let Some((n, d)) = answer.split_once('/')
        && let (Ok(n), Ok(d)) = (n.parse::<u64>(), d.parse::<u64>())
    {
        return vec![
            wrong("a slip in the numerator", fraction(n + 1, d), "the top was counted one too far"),
            wrong("a slip in the denominator", fraction(n, d + 1), "the bottom was counted one too far"),
            wrong("a slip of two in the numerator", fraction(n + 2, d), "the top was counted two too far"),
            wrong(
                "a slip of two in the denominator",
                fraction(n, d + 2),
                "the bottom was counted two too far",
            ),
        ];
    }
    let Some((start, len)) = score::number_span(answer) else { return Vec::new() };
    let (head, rest) = answer.split_at(start);
    let (number, tail) = rest.split_at(len);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let Ok(mantissa) = format!("{whole}{part}").parse::<u64>() else { return Vec::new() };
    let scale = part.len() as u32;
    let one = 10u64.pow(scale);
    let spell = |m: u64| format!("{head}{}{tail}", decimal(m, scale));
    vec![
        wrong("a slip of one", spell(mantissa + one), "the last step was counted one too far"),
        wrong("a slip of ten", spell(mantissa + 10 * one), "a ten was counted twice"),
        wrong("a slip of two", spell(mantissa + 2 * one), "the last step was counted two too far"),
        wrong("a slip of five", spell(mantissa + 5 * one), "the last step was counted five too far"),
    ]
}

impl Sample {
    /// The record as one JSON object. Chat and multiple choice have `messages`, a document has `text`;
    /// all have `domain`, `family`, `key` and `answer`; options come with `options`, `correct`, `mistakes`.
    pub fn to_json(&self) -> Value {
        let mut record = match self.format {
            Format::Document => json!({ "text": self.target }),
            _ => json!({ "messages": [
                { "role": "user", "content": self.prompt },
                { "role": "assistant", "content": self.target },
            ] }),
        };
        record["domain"] = self.domain.into();
        record["family"] = self.family.into();
        record["key"] = self.key.as_str().into();
        record["answer"] = self.answer.as_str().into();
        if let Some(o) = &self.options {
            record["options"] = json!(o.values);
            record["correct"] = LETTERS[o.correct].to_string().into();
            record["mistakes"] = json!(o.mistakes);
        }
        record
    }
}

/// Writes `samples` as JSON lines.
pub fn write_jsonl(samples: impl Iterator<Item = Sample>, out: &mut impl Write) -> io::Result<()> {
    for sample in samples {
        serde_json::to_writer(&mut *out, &sample.to_json())?;
        out.write_all(b"\n")?;
    }
    Ok(())
}
