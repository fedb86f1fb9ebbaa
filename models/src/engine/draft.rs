//! Guesses of the tokens that come next. They are what followed the last time that the text was where it is now: where a
//! text repeats itself, as an edit of code does, most of them are right. Or a smaller model of the same vocabulary draws
//! them, with the answer's own seed: both models add the same noise at a position, so that the smaller one mostly draws
//! what the larger one will, greedy or not. A step that verifies several guesses takes little more than one that draws a
//! single token.

use std::collections::HashMap;

use crate::{Model, Result, Sampling, Session};

/// The most tokens by which a place is found again. Where they stand nowhere before, fewer do: a list of records shares
/// with the one before no more than a bracket here and there.
const LONGEST: usize = 3;
/// In place of a token, in front of fewer.
const NONE: u32 = u32::MAX;
/// How much the newest token counts in the share of guesses that are right.
const NEWEST: f64 = 0.15;
/// How many guesses at one place the share of all counts for there: few, since a list of some records comes by a place
/// only a few times.
const OTHERS: f32 = 1.0;
/// How much of what is known of a place stays with each new guess there.
const STAYS: f32 = 0.9;

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
    /// What followed the last occurrence of these tokens.
    places: HashMap<[u32; LONGEST], Place>,
    /// Tokens whose places are known.
    indexed: usize,
    /// The guess of the next token, if there was one.
    next: Option<u32>,
    /// This says how many tokens the place of that guess was found by.
    by: usize,
    /// These are the tokens.
    behind: [u32; LONGEST],
    /// The share of guesses that are right, as of late, by one token, by two and so on.
    right: [f64; LONGEST],
}

/// What is known of what follows some tokens. A list of records has places of both kinds: behind a bracket the name of a
/// field follows, as in each record before, and behind the name a value that never was.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// Where what followed the last time begins.
    at: u32,
    /// Guesses there, and those that were right; older ones count less.
    made: f32,
    right: f32,
}

/// The last n tokens.
fn last(known: &[u32], n: usize) -> [u32; LONGEST] {
    let mut tokens = [NONE; LONGEST];
    tokens[LONGEST - n..].copy_from_slice(&known[known.len() - n..]);
    tokens
}

impl Guesser {
    pub(super) fn new(by_model: bool) -> Guesser {
        // It begins in the middle, where a text that repeats itself from its start on is soon found out.
        let (places, behind) = (HashMap::new(), [NONE; LONGEST]);
        Guesser { by_model, places, indexed: 1, next: None, by: 1, behind, right: [0.5; LONGEST] }
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
        let share = &mut self.right[self.by - 1];
        *share += NEWEST * (f64::from(u8::from(right)) - *share);
    }

    /// The share of guesses like the next one that are right, as of late.
    pub(super) fn right(&self) -> f64 {
        let all = self.right[self.by - 1];
        match self.places.get(&self.behind) {
            Some(place) => {
                (f64::from(place.right) + f64::from(OTHERS) * all) / f64::from(place.made + OTHERS)
            }
            None => all,
        }
    }

    /// Takes note of `known`, whose last token is new.
    pub(super) fn push(&mut self, known: &[u32]) {
        if self.by_model {
            let share = &mut self.right[self.by - 1];
            *share += FORGET * (0.5 - *share);
            return;
        }
        if let (Some(guess), Some(&token)) = (self.next, known.last()) {
            self.hit(guess == token);
            if let Some(place) = self.places.get_mut(&self.behind) {
                place.made = STAYS * place.made + 1.0;
                place.right = STAYS * place.right + f32::from(u8::from(guess == token));
            }
        }
        // The place behind the last tokens has nothing to offer yet.
        while self.indexed < known.len() {
            let end = self.indexed;
            for n in 1..=LONGEST.min(end) {
                self.places.entry(last(&known[..end], n)).or_default().at = end as u32;
            }
            self.indexed += 1;
        }
        let found = self.find(known);
        self.next = found.map(|(place, _)| known[place]);
        self.by = found.map_or(self.by, |(_, n)| n);
        self.behind = found.map_or([NONE; LONGEST], |(_, n)| last(known, n));
    }

    /// Where what followed the last occurrence of the newest tokens begins, as many of them as occurred before, and how
    /// many that are.
    fn find(&self, known: &[u32]) -> Option<(usize, usize)> {
        let place = |n| self.places.get(&last(known, n)).map(|place| (place.at as usize, n));
        (1..=LONGEST.min(known.len())).rev().find_map(place)
    }

    /// Up to `most` tokens that may follow `known`.
    pub(super) fn guess<'a>(&self, known: &'a [u32], most: usize) -> &'a [u32] {
        match self.find(known) {
            Some((at, _)) => &known[at..known.len().min(at + most)],
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

    /// What follows some tokens is known for them alone: a list of records is sure of its fields, and not of their values.
    #[test]
    fn places_are_as_sure_as_they_were() {
        let mut g = Guesser::new(false);
        let mut text = vec![1, 2];
        g.push(&text);
        let mut sure = (0.0, 0.0);
        for record in 0..8 {
            // 10 to 13 are the same in each record, and what stands behind 13 is new.
            for token in [10, 11, 12, 13, 100 + record, 20 + record] {
                text.push(token);
                g.push(&text);
                match token {
                    12 => sure.0 = g.right(),
                    13 => sure.1 = g.right(),
                    _ => {}
                }
            }
        }
        assert!(sure.0 > 0.8 && sure.1 < 0.3, "{sure:?}");
    }

    /// Fewer tokens find a place where more do not, and whether they guess right is known apart.
    #[test]
    fn fewer_tokens_find_a_place_too() {
        let mut g = Guesser::new(false);
        let text = [1, 2, 3, 4, 9, 2, 3];
        g.push(&text);
        assert_eq!(g.guess(&text, 2), [4, 9]);
        g.push(&[&text[..], &[7, 4]].concat());
        let before = g.right();
        assert_eq!(g.guess(&[&text[..], &[7, 4]].concat(), 1), [9]);
        g.push(&[&text[..], &[7, 4, 8]].concat());
        assert!(g.right() < before);
    }
}
