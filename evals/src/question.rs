//! A question with its options, and the order that questions are asked in.

use std::collections::BTreeMap;

use crate::hash::{hash_all, mix};
use crate::{Error, Result};

/// The letters of options, in order.
pub const LETTERS: [char; 20] =
    ['A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O', 'P', 'Q', 'R', 'S', 'T'];

/// One question of a test set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Names it within its set; from the file, or a hash of its text.
    pub id: String,
    /// What its score is also counted under; the suite's name where the file says nothing.
    pub subject: String,
    /// A text that it is about, if any.
    pub context: Option<String>,
    /// What is asked.
    pub text: String,
    /// What there is to choose from, at most [`LETTERS`]; empty for an open question.
    pub options: Vec<String>,
    /// The right option, 0 for the first; of an open question, 0.
    pub right: usize,
    /// The right answer as text.
    pub answer: String,
}

impl Question {
    /// The letter of the right option, or the answer of an open question.
    pub fn right_label(&self) -> String {
        if self.options.is_empty() { self.answer.clone() } else { LETTERS[self.right].to_string() }
    }

    /// A hash of what is asked, which names a question without an id.
    pub(crate) fn fingerprint(&self) -> String {
        let mut parts = vec![self.context.as_deref().unwrap_or(""), self.text.as_str()];
        parts.extend(self.options.iter().map(String::as_str));
        format!("{:016x}", hash_all(&parts))
    }
}

/// Gives equal ids a number each, so that every question has a name of its own.
pub(crate) fn name_apart(questions: &mut [Question]) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for q in questions {
        let count = seen.entry(q.id.clone()).or_default();
        *count += 1;
        if *count > 1 {
            q.id = format!("{}#{count}", q.id);
        }
    }
}

/// A part of a set that one of several machines takes: part `index` of `count`, the first being 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Which part.
    pub index: usize,
    /// How many parts there are.
    pub count: usize,
}

impl Shard {
    /// Everything.
    pub const ALL: Shard = Shard { index: 0, count: 1 };

    /// Reads `i/n`, from 1/n to n/n.
    ///
    /// # Errors
    /// A text that is no such fraction.
    pub fn parse(text: &str) -> Result<Shard> {
        let wrong = || Error::input(format!("--shard {text}: give a part such as 1/4, from 1/N to N/N"));
        let (index, count) = text.split_once('/').ok_or_else(wrong)?;
        let (index, count) =
            (index.parse::<usize>().map_err(|_| wrong())?, count.parse().map_err(|_| wrong())?);
        if index == 0 || index > count {
            return Err(wrong());
        }
        Ok(Shard { index: index - 1, count })
    }
}

/// Puts questions in the order of their ids' hashes, which adding questions does not change for the others, keeps the
/// first `limit` of them, and of those the ones of `shard`.
pub fn choose(mut questions: Vec<Question>, limit: Option<usize>, shard: Shard) -> Vec<Question> {
    questions.sort_by_cached_key(|q| (mix(hash_all(&[&q.subject, &q.id])), q.id.clone()));
    questions.truncate(limit.unwrap_or(usize::MAX));
    let mine = questions.into_iter().enumerate().filter(|(i, _)| i % shard.count == shard.index);
    mine.map(|(_, q)| q).collect()
}
