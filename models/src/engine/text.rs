//! The text of an answer as its tokens come: stop strings are found across tokens, and nothing that may be the beginning
//! of one is given away.

use weft_formats::tokenizer::{StreamDecoder, Tokenizer};

/// What a token did to the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// This much of the text is certain.
    Text(String),
    /// A stop string came, behind this much.
    Stopped { text: String, stop: String },
}

/// Decodes tokens, and holds back what may become a stop string.
pub(super) struct Text {
    /// None for a model without a tokenizer.
    tokenizer: Option<(Tokenizer, StreamDecoder)>,
    stops: Vec<String>,
    held: String,
}

impl Text {
    /// `special`: whether control tokens are shown.
    pub(super) fn new(tokenizer: Option<&Tokenizer>, special: bool, stops: Vec<String>) -> Text {
        let tokenizer = tokenizer.map(|t| (t.clone(), t.stream(special).continuing()));
        Text { tokenizer, stops, held: String::new() }
    }

    /// Whether a token ends the text.
    pub(super) fn is_end(&self, token: u32) -> bool {
        self.tokenizer.as_ref().is_some_and(|(t, _)| t.is_eog(token))
    }

    pub(super) fn push(&mut self, token: u32) -> Step {
        let Some((_, decoder)) = &mut self.tokenizer else { return Step::Text(String::new()) };
        let piece = decoder.push(token);
        self.add(&piece)
    }

    fn add(&mut self, piece: &str) -> Step {
        let from = self.held.len();
        self.held.push_str(piece);
        // The stop that begins first counts; it may have begun in what was held.
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let mut search = from.saturating_sub(longest);
        while !self.held.is_char_boundary(search) {
            search -= 1;
        }
        let found =
            |stop: &String| self.held[search..].find(stop.as_str()).map(|at| (search + at, stop.clone()));
        if let Some((at, stop)) = self.stops.iter().filter_map(found).min_by_key(|(at, s)| (*at, s.len())) {
            let text = self.held[..at].to_owned();
            self.held.clear();
            return Step::Stopped { text, stop };
        }
        let keep = self.unsure();
        let rest = self.held.split_off(self.held.len() - keep);
        Step::Text(std::mem::replace(&mut self.held, rest))
    }

    /// Bytes at the end that a stop string begins with.
    fn unsure(&self) -> usize {
        let begins = |stop: &String| {
            let most = self.held.len().min(stop.len() - 1);
            (1..=most)
                .rev()
                .find(|&n| stop.is_char_boundary(n) && self.held.ends_with(&stop[..n]))
                .unwrap_or(0)
        };
        self.stops.iter().map(begins).max().unwrap_or(0)
    }

    /// What is left at the end of an answer that no stop string ended.
    pub(super) fn finish(&mut self) -> Step {
        let rest = self.tokenizer.as_mut().map(|(_, d)| d.finish()).unwrap_or_default();
        match self.add(&rest) {
            Step::Text(mut text) => {
                text.push_str(&std::mem::take(&mut self.held));
                Step::Text(text)
            }
            stopped => stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Step, Text};

    /// However a text is cut into pieces, what comes out is the text before the first stop, and never a part of one.
    #[test]
    fn no_part_of_a_stop_string_leaks() {
        let stops = ["END", "ENDE", "nd", "\u{e9}\u{e9}"].map(String::from).to_vec();
        let cases = [
            ("abc", "abc", None),
            ("aE", "aE", None),
            ("aENEND", "aEN", Some("END")),
            ("xxENDE", "xx", Some("END")),
            ("a n n nd", "a n n ", Some("nd")),
            ("caf\u{e9} \u{e9}a \u{e9}\u{e9}", "caf\u{e9} \u{e9}a ", Some("\u{e9}\u{e9}")),
            ("EEEEEN", "EEEEEN", None),
        ];
        for (text, want, stop) in cases {
            let chars: Vec<char> = text.chars().collect();
            for cuts in 0..1u32 << (chars.len() - 1).min(10) {
                let mut t = Text::new(None, false, stops.clone());
                let mut got = String::new();
                let mut stopped = None;
                let mut piece = String::new();
                for (i, c) in chars.iter().enumerate() {
                    piece.push(*c);
                    if stopped.is_none() && (cuts >> i & 1 == 1 || i + 1 == chars.len()) {
                        match t.add(&piece) {
                            Step::Text(s) => got += &s,
                            Step::Stopped { text, stop } => {
                                got += &text;
                                stopped = Some(stop);
                            }
                        }
                        assert!(want.starts_with(&got), "{text:?} cut {cuts:b}: {got:?}");
                        piece.clear();
                    }
                }
                if stopped.is_none() {
                    match t.finish() {
                        Step::Text(s) => got += &s,
                        Step::Stopped { .. } => panic!("a stop at the end of {text:?}"),
                    }
                }
                assert_eq!((got.as_str(), stopped.as_deref()), (want, stop), "{text:?} cut {cuts:b}");
            }
        }
    }
}
