//! A teacher without a model, for passages that come with facts: `facts` of passages of one kind are the same
//! questions in the same order, so that what is true of another thing is a wrong option with a name for the mistake.

use std::collections::BTreeMap;
use std::path::Path;

use super::prompts::{OPTIONS, listed, made_json};
use super::{Made, Passage, Style, Teacher, Verdict, Wanted, passages};
use crate::ask::Answer;
use crate::hash::{Rng, hash_all};
use crate::question::LETTERS;
use crate::{Error, Result};

/// Makes questions of facts, and documents by form.
pub struct Rules {
    /// By kind and number of the fact: whose it is, and the answer.
    known: BTreeMap<(String, usize), Vec<(String, String)>>,
}

impl Rules {
    /// A teacher that knows the facts of all passages.
    ///
    /// # Errors
    /// As [`passages`]; passages without facts.
    pub fn new(path: &Path) -> Result<Rules> {
        let mut known: BTreeMap<(String, usize), Vec<(String, String)>> = BTreeMap::new();
        passages(path, &mut |p| {
            for (i, (_, answer)) in p.facts.iter().enumerate() {
                known.entry((p.kind.clone(), i)).or_default().push((p.name.clone(), answer.clone()));
            }
            Ok(())
        })?;
        match known.is_empty() {
            false => Ok(Rules { known }),
            true => Err(Error::file(
                path,
                "has no \"facts\", which the teacher `rules` needs; name a model as --teacher",
            )),
        }
    }

    /// The question of a fact; `None` where there is none of that number, or too few things to confuse it with.
    fn question(&self, p: &Passage, number: usize) -> Option<Made> {
        let (text, answer) = p.facts.get(number)?;
        let mut others: Vec<&(String, String)> = Vec::new();
        let all = self.known.get(&(p.kind.clone(), number))?;
        let mut order: Vec<usize> = (0..all.len()).collect();
        let mut rng = Rng::new(hash_all(&[&p.id, &number.to_string()]));
        rng.shuffle(&mut order);
        for i in order {
            let new = all[i].1 != *answer && others.iter().all(|o| o.1 != all[i].1);
            if new && others.len() < OPTIONS - 1 {
                others.push(&all[i]);
            }
        }
        if others.len() < OPTIONS - 1 {
            return None;
        }
        let right = rng.below(OPTIONS);
        let mut options: Vec<String> = others.iter().map(|o| o.1.clone()).collect();
        let mut misconceptions: Vec<String> =
            others.iter().map(|o| format!("takes {} for {}, of which this is true", p.name, o.0)).collect();
        options.insert(right, answer.clone());
        misconceptions.insert(right, String::new());
        Some(Made { text: text.clone(), options, right, misconceptions })
    }
}

impl Teacher for Rules {
    fn name(&self) -> String {
        "rules".to_owned()
    }

    fn teach(
        &mut self,
        wanted: &[Wanted],
        _: u32,
        done: &mut dyn FnMut(usize, Answer) -> Result<()>,
    ) -> Result<()> {
        for (i, w) in wanted.iter().enumerate() {
            let text = match w {
                Wanted::Question { passage, number, .. } => {
                    self.question(passage, *number).map(|m| made_json(&m).to_string()).unwrap_or_default()
                }
                Wanted::Document { passage, question, verdict, style, .. } => {
                    document(passage, question, *verdict, *style)
                }
            };
            done(i, Answer { text, ..Answer::default() })?;
        }
        Ok(())
    }
}

fn document(p: &Passage, q: &Made, verdict: Verdict, style: Style) -> String {
    let letter = LETTERS[q.right];
    let right = &q.options[q.right];
    let asked = listed(q);
    let (name, kind, fact) = (&p.name, &p.kind, q.text.trim_end_matches('?'));
    let each = |before: &str| -> String {
        (0..q.options.len())
            .map(|i| match i == q.right {
                true => format!("{before}{}. {}: right.\n", LETTERS[i], q.options[i]),
                false => format!(
                    "{before}{}. {}: wrong. Who picks it {}.\n",
                    LETTERS[i], q.options[i], q.misconceptions[i]
                ),
            })
            .collect()
    };
    let (fault, chosen) = match verdict {
        Verdict::Right => {
            return format!(
                "{asked}\n\nWe weigh the options one by one.\n\n{}\n{}\n\nAnswer: {letter}. {right}\n",
                each(""),
                p.text
            );
        }
        Verdict::Wrong(i) => {
            (format!("The answer {} {}.", LETTERS[i], q.misconceptions[i]), q.options[i].clone())
        }
        Verdict::Unreadable => {
            ("No option was named, so nothing could be right.".to_owned(), "no clear answer".to_owned())
        }
    };
    match style {
        Style::Textbook => format!(
            "# {name}\n\n{}\n\n## A common mistake\n\n{asked}\n\n{fault} The right answer is {letter}: {right}.\n\n{}",
            p.text,
            each("- ")
        ),
        Style::Questions => {
            let facts: String = p.facts.iter().map(|(q, a)| format!("Q: {q}\nA: {a}.\n\n")).collect();
            format!("{facts}Q: {asked}\nA: {letter}, {right}. {fault}\n")
        }
        Style::Article => format!(
            "What people get wrong about {name}\n\nAsk around: {fact}? Many will say {chosen}. {fault}\n\n{}\n\nSo when \
             somebody asks you about this {kind}, remember: {right}.\n\n{asked}\nAnswer: {letter}\n",
            p.text
        ),
        Style::Dialogue => format!(
            "Learner: {asked}\n\nLearner: I would say {chosen}.\n\nTeacher: Let us see. {fault}\n\nLearner: Then what do we \
             know about {name}?\n\nTeacher: {}\n\nLearner: So the answer is {letter}, {right}.\n\nTeacher: Yes, \
             {letter}.\n",
            p.text
        ),
    }
}
