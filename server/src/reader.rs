//! What an answer says, told apart as it comes: the same for an answer that is streamed and one that is not.

use crate::ask::Reading;
use crate::tools::{Parser, Piece};

/// Reads the text of one answer.
pub(crate) struct Reader {
    parser: Parser,
    /// Tokens that were thought.
    pub(crate) reasoning: usize,
    /// The last call, while it has no arguments.
    bare: Option<usize>,
}

impl Reader {
    /// `seed` makes the ids of calls.
    pub(crate) fn new(reading: &Reading, seed: u64) -> Reader {
        let parser = Parser::new(reading.format, &reading.names, reading.think.clone(), seed);
        Reader { parser, reasoning: 0, bare: None }
    }

    /// Takes the text of a token.
    pub(crate) fn token(&mut self, text: &str, out: &mut Vec<Piece>) {
        self.reasoning += usize::from(self.parser.is_thinking());
        let from = out.len();
        self.parser.push(text, out);
        self.fill(from, out);
    }

    /// Ends the answer with the rest of its text.
    pub(crate) fn finish(&mut self, text: &str, out: &mut Vec<Piece>) {
        let from = out.len();
        self.parser.push(text, out);
        self.parser.finish(out);
        self.fill(from, out);
        if let Some(index) = self.bare.take() {
            out.push(Piece::Arguments { index, text: "{}".into() });
        }
    }

    /// Whether there were calls.
    pub(crate) fn has_calls(&self) -> bool {
        self.parser.calls() > 0
    }

    /// Gives a call that ends without arguments empty ones.
    fn fill(&mut self, from: usize, out: &mut Vec<Piece>) {
        let mut i = from;
        while i < out.len() {
            match &out[i] {
                Piece::Call { index, .. } => {
                    let index = *index;
                    if let Some(bare) = self.bare.replace(index) {
                        out.insert(i, Piece::Arguments { index: bare, text: "{}".into() });
                        i += 1;
                    }
                }
                Piece::Arguments { text, .. } if !text.is_empty() => self.bare = None,
                _ => {}
            }
            i += 1;
        }
    }
}

/// A call of a whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// A whole answer, told apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) content: String,
    pub(crate) reasoning: String,
    pub(crate) calls: Vec<Call>,
}

impl Parts {
    /// Adds what came.
    pub(crate) fn add(&mut self, pieces: impl IntoIterator<Item = Piece>) {
        for piece in pieces {
            match piece {
                Piece::Reasoning(text) => self.reasoning += &text,
                Piece::Content(text) => self.content += &text,
                Piece::Call { id, name, .. } => self.calls.push(Call { id, name, arguments: String::new() }),
                Piece::Arguments { index, text } => {
                    if let Some(call) = self.calls.get_mut(index) {
                        call.arguments += &text;
                    }
                }
            }
        }
    }
}
