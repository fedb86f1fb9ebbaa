//! `wordwrap`: lines of a width, as Python's `textwrap` cuts them.

use std::ops::Range;

use super::super::call::{Given, true_or, whole_or};
use super::super::lexer::is_space;
use super::super::value::{Value, charge, work};
use super::super::{Fault, Result, classes, methods};

/// How lines are cut.
struct Wrap {
    width: usize,
    /// Whether a word that is longer than a line is cut.
    long: bool,
    /// Whether words are cut behind hyphens.
    hyphens: bool,
}

/// `value | wordwrap(given)`.
pub(super) fn apply(value: &Value, given: &Given) -> Result<Value> {
    let [width, long, by, hyphens] =
        given.take(["width", "break_long_words", "wrapstring", "break_on_hyphens"])?;
    let by = match &by {
        None | Some(Value::None) => "\n".to_owned(),
        Some(by) => by.text()?.to_owned(),
    };
    let width = whole_or(width.as_ref(), 79)?;
    let text = value.text()?;
    let wrap = Wrap {
        width: usize::try_from(width).unwrap_or(0),
        long: true_or(long.as_ref(), true),
        hyphens: true_or(hyphens.as_ref(), true),
    };
    let mut out: Vec<String> = Vec::new();
    for line in methods::split_lines(text, false) {
        if wrap.width == 0 {
            return Fault::err(format!("invalid width {width} (must be > 0)"));
        }
        work(line.len())?;
        let chars: Vec<char> = line.chars().collect();
        let lines = wrap.lines(&chars);
        // A line of nothing stays one.
        out.push(lines.join(&by));
        drop(charge(by.len().saturating_mul(lines.len()))?);
        work(lines.len())?;
    }
    Value::str(out.join(&by))
}

fn is_blank(text: &[char]) -> bool {
    text.iter().all(|c| is_space(*c))
}

/// White space of ASCII, at which words end.
fn is_gap(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\x0b' | '\x0c' | '\r' | ' ')
}

fn is_word(c: char) -> bool {
    c == '_' || if c.is_ascii() { c.is_ascii_alphanumeric() } else { classes::is(&c.to_string(), "isalnum") }
}

fn is_letter(c: char) -> bool {
    is_word(c) && !classes::is(&c.to_string(), "isdecimal")
}

/// Whether a dash of two hyphens or more stands here between two words.
fn is_dash(text: &[char], at: usize) -> bool {
    let before = at.checked_sub(1).map(|i| text[i]);
    // Looked at first, so that a long dash is counted once.
    if text[at] != '-' || !before.is_some_and(|c| is_word(c) || "!\"'&.,?".contains(c)) {
        return false;
    }
    let hyphens = text[at..].iter().take_while(|c| **c == '-').count();
    hyphens >= 2 && text.get(at + hyphens).is_some_and(|c| is_word(*c))
}

/// Whether the hyphen here parts a word of letters.
fn is_hyphen(text: &[char], at: usize) -> bool {
    if text[at] != '-' {
        return false;
    }
    let before = |n: usize| at.checked_sub(n).map(|i| text[i]);
    let letter = |c: Option<char>| c.is_some_and(is_letter);
    let behind = |n: usize| text.get(at + n).copied();
    let parts = letter(before(1)) && (letter(before(2)) || (before(2) == Some('-') && letter(before(3))));
    let next = if behind(2) == Some('-') { behind(3) } else { behind(2) };
    parts && letter(behind(1)) && letter(next)
}

impl Wrap {
    /// Words, what lies between them, and the parts that words can be cut into.
    fn chunks(&self, text: &[char]) -> Vec<Range<usize>> {
        let mut all = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let end = self.chunk(text, at);
            all.push(at..end);
            at = end;
        }
        all
    }

    fn chunk(&self, text: &[char], start: usize) -> usize {
        let run = |is: fn(char) -> bool| start + text[start..].iter().take_while(|c| is(**c)).count();
        if is_gap(text[start]) {
            return run(is_gap);
        }
        if !self.hyphens {
            return run(|c| !is_gap(c));
        }
        if is_dash(text, start) {
            return run(|c| c == '-');
        }
        let mut at = start + 1;
        loop {
            match text.get(at) {
                None => return at,
                Some(_) if is_hyphen(text, at) => return at + 1,
                Some(c) if is_gap(*c) || is_dash(text, at) => return at,
                Some(_) => at += 1,
            }
        }
    }

    fn lines(&self, text: &[char]) -> Vec<String> {
        let mut left: Vec<Range<usize>> = self.chunks(text);
        left.reverse();
        let mut lines = Vec::new();
        while let Some(first) = left.last() {
            // What is blank begins the first line alone.
            if !lines.is_empty() && is_blank(&text[first.clone()]) {
                left.pop();
            }
            let mut line: Vec<Range<usize>> = Vec::new();
            let mut room = self.width;
            while let Some(chunk) = left.pop_if(|chunk| chunk.len() <= room) {
                room -= chunk.len();
                line.push(chunk);
            }
            if let Some(chunk) = left.pop_if(|chunk| chunk.len() > self.width) {
                let (taken, rest) = self.cut(text, chunk, room, line.is_empty());
                // Where no room is left this is empty, and takes the place of the blank before it, which Python leaves.
                line.extend(taken);
                left.extend(rest);
            }
            line.pop_if(|last| is_blank(&text[last.clone()]));
            if let (Some(first), Some(last)) = (line.first(), line.last()) {
                lines.push(text[first.start..last.end].iter().collect());
            }
        }
        lines
    }

    /// What of a word that is longer than a line goes into this one, and what is left of it.
    fn cut(
        &self,
        text: &[char],
        chunk: Range<usize>,
        room: usize,
        begins: bool,
    ) -> (Option<Range<usize>>, Option<Range<usize>>) {
        match (self.long, begins) {
            (false, true) => return (Some(chunk), None),
            (false, false) => return (None, Some(chunk)),
            (true, _) => {}
        }
        let fits = &text[chunk.start..chunk.start + room];
        let hyphen = fits.iter().rposition(|c| *c == '-').filter(|_| self.hyphens);
        let at = match hyphen.filter(|at| fits[..*at].iter().any(|c| *c != '-')) {
            Some(hyphen) => chunk.start + hyphen + 1,
            None => chunk.start + room,
        };
        (Some(chunk.start..at), Some(at..chunk.end))
    }
}
