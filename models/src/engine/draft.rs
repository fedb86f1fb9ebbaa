//! Guesses of the tokens that come next. They are what followed the last time that the text was where it is now: where a
//! text repeats itself, as an edit of code does, most of them are right. Or a smaller model of the same vocabulary draws
//! them, with the answer's own seed: both models add the same noise at a position, so that the smaller one mostly draws
//! what the larger one will, greedy or not. A step that verifies several guesses takes little more than one that draws a
//! single token.

use std::collections::HashMap;

use crate::{Model, Result, Sampling, Session};

/// Tokens by which a place is found again.
const GRAM: usize = 3;
/// How much the newest token counts in the share of guesses that are right.
const NEWEST: f64 = 0.15;

/// Tokens of a prompt that a smaller model reads at a time, while all answers wait.
const READ: usize = 512;
/// How fast a share of guesses that had become low is forgotten, where there are none that would show a change.
const FORGET: f64 = 0.01;

/// Draws guesses for the answers of an engine.
pub(super) trait Drafter: Send {
    /// Up to n tokens that may follow `known`, the text of this slot. None while it still reads that.
    fn draft(&mut self, slot: usize, known: &[u32], sampling: &Sampling, n: usize) -> Result<Vec<u32>>;
}

/// A smaller model, which has a session for each slot.
pub(super) struct Smaller(Vec<Session>);

impl Smaller {
    /// Takes the memory of all slots: an answer must not end for want of it.
    pub(super) fn new(model: &Model, slots: usize, context: u32) -> Result<Smaller> {
        (0..slots).map(|_| model.session(context)).collect::<Result<_>>().map(Smaller)
    }
}

impl Drafter for Smaller {
    fn draft(&mut self, slot: usize, known: &[u32], sampling: &Sampling, n: usize) -> Result<Vec<u32>> {
        let session = &mut self.0[slot];
        let common = known.iter().zip(session.tokens()).take_while(|(a, b)| a == b).count();
        if known.len() - common > READ {
            session.generate(&known[..common + READ], sampling, 0)?;
            return Ok(Vec::new());
        }
        let mut tokens = session.generate(known, sampling, n)?;
        std::iter::from_fn(|| tokens.next_token().transpose()).collect()
    }
}

/// Guesses for one answer.
#[derive(Debug)]
pub(super) struct Guesser {
    /// Whether a smaller model makes them: then what is here is how many of them are right.
    by_model: bool,
    /// Where what followed the last occurrence of these tokens begins.
    places: HashMap<[u32; GRAM], u32>,
    /// Tokens whose places are known.
    indexed: usize,
    /// The guess of the next token, if there was one.
    next: Option<u32>,
    /// The share of guesses that are right, as of late.
    right: f64,
}

impl Guesser {
    pub(super) fn new(by_model: bool) -> Guesser {
        // It begins in the middle, where a text that repeats itself from its start on is soon found out.
        Guesser { by_model, places: HashMap::new(), indexed: GRAM, next: None, right: 0.5 }
    }

    pub(super) fn by_model(&self) -> bool {
        self.by_model
    }

    /// A guess of a smaller model was right, or not.
    pub(super) fn verified(&mut self, right: bool) {
        if self.by_model {
            self.hit(right);
        }
    }

    fn hit(&mut self, right: bool) {
        self.right += NEWEST * (f64::from(u8::from(right)) - self.right);
    }

    /// The share of guesses that are right, as of late.
    pub(super) fn right(&self) -> f64 {
        self.right
    }

    /// Takes note of `known`, whose last token is new.
    pub(super) fn push(&mut self, known: &[u32]) {
        if self.by_model {
            self.right += FORGET * (0.5 - self.right);
            return;
        }
        if let (Some(guess), Some(&token)) = (self.next, known.last()) {
            self.hit(guess == token);
        }
        // The place behind the last tokens has nothing to offer yet.
        while self.indexed < known.len() {
            let end = self.indexed;
            let gram = std::array::from_fn(|i| known[end - GRAM + i]);
            self.places.insert(gram, end as u32);
            self.indexed += 1;
        }
        self.next = self.guess(known, 1).first().copied();
    }

    /// Up to `most` tokens that may follow `known`.
    pub(super) fn guess<'a>(&self, known: &'a [u32], most: usize) -> &'a [u32] {
        let Some(begin) = known.len().checked_sub(GRAM) else { return &[] };
        let gram: [u32; GRAM] = std::array::from_fn(|i| known[begin + i]);
        match self.places.get(&gram) {
            Some(&at) => &known[at as usize..known.len().min(at as usize + most)],
            None => &[],
        }
    }
}

/// Guesses of an answer that a step verifies.
pub(super) struct Guesses {
    pub(super) slot: usize,
    pub(super) epoch: u64,
    pub(super) tokens: Vec<u32>,
    /// The row that computes each guess.
    pub(super) rows: Vec<usize>,
}

#[cfg(test)]
mod tests {
    use super::Guesser;

    #[test]
    fn what_followed_before_is_guessed() {
        let mut g = Guesser::new(false);
        let text = [1, 2, 3, 4, 5, 6, 9, 1, 2, 3];
        g.push(&text);
        assert_eq!(g.guess(&text, 3), [4, 5, 6]);
        assert_eq!(g.guess(&text, 99), [4, 5, 6, 9, 1, 2, 3]);
        let before = g.right();
        g.push(&[&text[..], &[4]].concat());
        assert!(g.right() > before);
        g.push(&[&text[..], &[4, 8]].concat());
        assert!(g.right() < before);
        assert!(g.guess(&[4, 8], 2).is_empty() && g.guess(&[7, 4, 8], 2).is_empty());
    }

    /// The latest occurrence counts.
    #[test]
    fn the_last_time_counts() {
        let mut g = Guesser::new(false);
        let text = [1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3];
        g.push(&text);
        assert_eq!(g.guess(&text, 1), [5]);
    }
}
