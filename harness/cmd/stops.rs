//! Texts that end an answer.

use crate::{Error, Result};

/// Watches a text that comes in pieces for others that end it.
#[derive(Debug, Default)]
pub(super) struct Stops {
    texts: Vec<String>,
    /// What may be the beginning of one of them.
    held: String,
    hit: bool,
}

impl Stops {
    /// # Errors
    /// A text without a character.
    pub(super) fn new(texts: &[String]) -> Result<Stops> {
        if texts.iter().any(String::is_empty) {
            return Err(Error::input("--stop: the text is empty"));
        }
        Ok(Stops { texts: texts.to_vec(), ..Stops::default() })
    }

    /// Whether one of them came.
    pub(super) fn hit(&self) -> bool {
        self.hit
    }

    /// What of the text so far can be shown with this piece.
    pub(super) fn push(&mut self, piece: &str) -> String {
        if self.texts.is_empty() || self.hit {
            return if self.hit { String::new() } else { piece.to_owned() };
        }
        self.held.push_str(piece);
        if let Some(at) = self.texts.iter().filter_map(|t| self.held.find(t.as_str())).min() {
            self.hit = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let keep = |t: &String| {
            let begins = |n: &usize| t.is_char_boundary(*n) && self.held.ends_with(&t[..*n]);
            (1..t.len()).rev().find(begins).unwrap_or(0)
        };
        let held = self.texts.iter().map(keep).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - held);
        std::mem::replace(&mut self.held, rest)
    }

    /// The end of the text, with what was held back.
    pub(super) fn finish(&mut self, piece: &str) -> String {
        let shown = self.push(piece);
        if self.hit { shown } else { shown + &std::mem::take(&mut self.held) }
    }
}

#[cfg(test)]
mod tests {
    use super::Stops;

    fn shown(texts: &[&str], pieces: &[&str]) -> (String, bool) {
        let texts: Vec<String> = texts.iter().map(|t| (*t).to_owned()).collect();
        let mut stops = Stops::new(&texts).unwrap();
        let mut out: String = pieces.iter().map(|p| stops.push(p)).collect();
        out += &stops.finish("");
        (out, stops.hit())
    }

    #[test]
    fn texts_end_an_answer_wherever_pieces_are_cut() {
        assert_eq!(shown(&[], &["a", "b"]), ("ab".to_owned(), false));
        assert_eq!(shown(&["ENDE"], &["abEN", "D", "Ec"]), ("ab".to_owned(), true));
        assert_eq!(shown(&["ENDE"], &["abEN", "D", "x"]), ("abENDx".to_owned(), false));
        assert_eq!(shown(&["ENDE"], &["abEN"]), ("abEN".to_owned(), false));
        assert_eq!(shown(&["aab"], &["a", "a", "a", "b"]), ("a".to_owned(), true));
        assert_eq!(shown(&["x", "bc"], &["abcx"]), ("a".to_owned(), true));
        assert_eq!(shown(&["ü!"], &["aü", "b"]), ("aüb".to_owned(), false));
        assert!(Stops::new(&[String::new()]).is_err());
    }
}
