//! Guesses of the tokens that come next: what followed the last time that the text was where it is now. Where a text
//! repeats itself, as an edit of code does, most of them are right, and a step that verifies several of them takes little
//! more than one that draws a single token.

use std::collections::HashMap;

/// Tokens by which a place is found again.
const GRAM: usize = 3;
/// How much the newest token counts in the share of guesses that are right.
const NEWEST: f64 = 0.15;

/// Guesses for one answer.
#[derive(Debug)]
pub(super) struct Guesser {
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
    pub(super) fn new() -> Guesser {
        // It begins in the middle, where a text that repeats itself from its start on is soon found out.
        Guesser { places: HashMap::new(), indexed: GRAM, next: None, right: 0.5 }
    }

    /// The share of guesses that are right, as of late.
    pub(super) fn right(&self) -> f64 {
        self.right
    }

    /// Takes note of `known`, whose last token is new.
    pub(super) fn push(&mut self, known: &[u32]) {
        if let (Some(guess), Some(&token)) = (self.next, known.last()) {
            let hit = if guess == token { 1.0 } else { 0.0 };
            self.right += NEWEST * (hit - self.right);
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
        let mut g = Guesser::new();
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
        let mut g = Guesser::new();
        let text = [1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3];
        g.push(&text);
        assert_eq!(g.guess(&text, 1), [5]);
    }
}
