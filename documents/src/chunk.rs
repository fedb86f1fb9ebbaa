//! Texts cut into passages: at headings and the ends of paragraphs where that is possible, else at the ends of sentences.
//!
//! A text becomes pieces, the smallest parts that stay whole: a sentence, a heading, a line of code or of a table. Pieces
//! are then put together up to a size in tokens; a passage begins with the last pieces of the one before it, so that what
//! stands across a cut is found too.

use crate::read::{Document, Kind};

/// Sizes in tokens of the model that makes the vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// A passage at most.
    pub most: usize,
    /// What a passage repeats of the one before it, at most.
    pub overlap: usize,
    /// A passage that is smaller than this goes on behind a heading.
    pub least: usize,
}

impl Sizes {
    /// Passages of 256 tokens, or as many as a model takes: a longer passage says too much for one vector.
    pub fn within(context: usize) -> Sizes {
        // Heading and marks take some of a small context.
        let most = 256.min(context.saturating_sub(context / 8)).max(1);
        Sizes { most, overlap: most / 8, least: most / 8 }
    }
}

/// Bytes that a token stands for at most.
const LETTERS: usize = 32;

/// A passage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its bytes in the text of the document.
    pub start: usize,
    /// Where they end.
    pub end: usize,
    /// The page it begins on, where there are pages.
    pub page: Option<u32>,
    /// The headings that it stands under, the outermost first.
    pub heading: String,
    /// Tokens of the passage.
    pub tokens: usize,
}

impl Chunk {
    /// What is turned into a vector: the passage, behind its headings.
    pub fn to_embed(&self, text: &str) -> String {
        let own = &text[self.start..self.end];
        match self.heading.is_empty() || own.starts_with('#') {
            true => own.to_owned(),
            false => format!("{}\n{own}", self.heading),
        }
    }
}

/// What stands before a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Before {
    Sentence,
    Paragraph,
    Heading,
    /// A passage is on one page, so that the page which is cited is the right one.
    Page,
}

#[derive(Debug)]
struct Piece {
    start: usize,
    end: usize,
    before: Before,
    /// Its headings, as a number in a list of all.
    heading: usize,
    tokens: usize,
}

/// The passages of a document, in order. `tokens` counts those of a text.
pub fn cut(document: &Document, sizes: &Sizes, tokens: &dyn Fn(&str) -> usize) -> Vec<Chunk> {
    let text = &*document.text;
    let (pieces, headings) = pieces(document, sizes, tokens);
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut first = 0;
    while first < pieces.len() {
        let end = passage(&pieces, first, sizes);
        let (start, stop) = (pieces[first].start, pieces[end - 1].end);
        // What is only an overlap was said already.
        let fresh = chunks.last().is_none_or(|c| stop > c.end);
        if fresh && !text[start..stop].trim().is_empty() {
            chunks.push(Chunk {
                start,
                end: stop,
                page: document.page(start),
                heading: headings[pieces[first].heading].clone(),
                tokens: tokens(&text[start..stop]),
            });
        }
        first = match end < pieces.len() && pieces[end].before < Before::Heading {
            true => back(&pieces, first, end, sizes),
            false => end,
        };
    }
    chunks
}

/// The end of the passage that begins at a piece: where a section ends, else the last paragraph's end in the second half
/// of what fits, else all that fits.
fn passage(pieces: &[Piece], first: usize, sizes: &Sizes) -> usize {
    let (mut total, mut end, mut paragraph) = (0, first, None);
    while end < pieces.len() {
        let piece = &pieces[end];
        if end > first {
            if piece.before == Before::Page || (piece.before == Before::Heading && total >= sizes.least) {
                return end;
            }
            if total + piece.tokens > sizes.most {
                return paragraph.unwrap_or(end);
            }
            if piece.before >= Before::Paragraph && total * 2 >= sizes.most {
                paragraph = Some(end);
            }
        }
        total += piece.tokens;
        end += 1;
    }
    end
}

/// Where the next passage begins: at the last pieces of this one, as many as the overlap takes, and behind its first.
fn back(pieces: &[Piece], first: usize, end: usize, sizes: &Sizes) -> usize {
    let (mut at, mut total) = (end, 0);
    while at > first + 1 && total + pieces[at - 1].tokens <= sizes.overlap {
        at -= 1;
        total += pieces[at].tokens;
    }
    // Room for at least the piece that comes.
    while at < end && total + pieces[end].tokens > sizes.most {
        total -= pieces[at].tokens;
        at += 1;
    }
    at
}

/// Gathers the pieces of a text, and the headings that they stand under.
struct Cutter<'a> {
    text: &'a str,
    sizes: &'a Sizes,
    tokens: &'a dyn Fn(&str) -> usize,
    pieces: Vec<Piece>,
    headings: Vec<String>,
    /// The headings that are open, with their levels.
    open: Vec<(usize, String)>,
    /// The lines of a paragraph so far.
    lines: Option<(usize, usize)>,
    /// What stands before the next piece.
    before: Before,
}

/// Cuts a document into pieces, and lists the headings that they stand under.
fn pieces(document: &Document, sizes: &Sizes, tokens: &dyn Fn(&str) -> usize) -> (Vec<Piece>, Vec<String>) {
    let markdown = document.kind == Kind::Markdown;
    let mut cutter = Cutter {
        text: &document.text,
        sizes,
        tokens,
        pieces: Vec::new(),
        headings: vec![String::new()],
        open: Vec::new(),
        lines: None,
        before: Before::Paragraph,
    };
    let (mut code, mut at): (Option<&str>, _) = (None, 0);
    for line in document.text.split_inclusive('\n') {
        let (start, end) = (at, at + line.len());
        at = end;
        let bare = line.trim();
        if start > 0 && document.pages.binary_search(&start).is_ok() {
            cutter.flush();
            cutter.before = Before::Page;
        }
        let fence = ["```", "~~~"].into_iter().find(|f| markdown && bare.starts_with(f));
        if let Some(level) = heading_level(line, markdown && code.is_none()) {
            cutter.flush();
            cutter.heading(level, bare, start, end);
        } else if code.is_some() || fence.is_some() {
            // Code is cut at its lines alone.
            cutter.flush();
            if code.is_none() {
                cutter.before = cutter.before.max(Before::Paragraph);
            }
            cutter.add(start, end, true);
            code = match (code, fence) {
                (None, fence) => fence,
                (Some(open), Some(close)) if open == close => None,
                (open, _) => open,
            };
        } else if bare.is_empty() {
            cutter.flush();
            cutter.before = cutter.before.max(Before::Paragraph);
        } else {
            if is_item(bare) {
                cutter.flush();
            }
            cutter.lines = Some((cutter.lines.map_or(start, |(s, _)| s), end));
        }
    }
    cutter.flush();
    (cutter.pieces, cutter.headings)
}

impl Cutter<'_> {
    /// Ends the paragraph that is open.
    fn flush(&mut self) {
        if let Some((start, end)) = self.lines.take() {
            self.add(start, end, false);
        }
    }

    fn heading(&mut self, level: usize, bare: &str, start: usize, end: usize) {
        self.open.retain(|(l, _)| *l < level);
        let title: String = bare.trim_matches('#').trim().chars().take(80).collect();
        self.open.push((level, title));
        self.headings.push(self.open.iter().map(|(_, t)| t.as_str()).collect::<Vec<_>>().join(" › "));
        self.before = self.before.max(Before::Heading);
        self.add(start, end, true);
    }

    /// Adds a paragraph as its sentences, or a line whole; what is larger than a passage is cut at words, or anywhere.
    fn add(&mut self, start: usize, end: usize, whole: bool) {
        let (most, mut at) = (self.sizes.most, start);
        while at < end {
            let rest = &self.text[at..end];
            let mut length = if whole { rest.len() } else { sentence(rest) };
            // A letter has few tokens at most and a token few letters, so that a long text need not be counted.
            while length > 1 && (length > most * LETTERS || (self.tokens)(&rest[..length]) > most) {
                let shorter = cut_at(rest, length.min(most * LETTERS + 1) / 2);
                if shorter == 0 || shorter >= length {
                    break;
                }
                length = shorter;
            }
            let piece = &rest[..length];
            if !piece.trim().is_empty() {
                self.pieces.push(Piece {
                    start: at,
                    end: at + piece.trim_end().len(),
                    before: self.before,
                    heading: self.headings.len() - 1,
                    // A long word that no model knows may be one token; what it takes of a prompt are its letters.
                    tokens: (self.tokens)(piece).max(piece.len() / LETTERS),
                });
                self.before = Before::Sentence;
            }
            at += length;
        }
    }
}

/// The level of a Markdown heading.
fn heading_level(line: &str, markdown: bool) -> Option<usize> {
    let marks = line.len() - line.trim_start_matches('#').len();
    let is = markdown && (1..=6).contains(&marks) && line[marks..].starts_with([' ', '\n']);
    is.then_some(marks)
}

/// Whether a line begins an entry of a list, or a row of a table.
fn is_item(line: &str) -> bool {
    let digits = line.trim_start_matches(|c: char| c.is_ascii_digit());
    ["- ", "* ", "+ ", "|", "• "].iter().any(|mark| line.starts_with(mark))
        || (digits.len() < line.len() && [". ", ") "].iter().any(|mark| digits.starts_with(mark)))
}

/// A place near `at` where a text can be cut: behind a space in its second half, else between two letters; its end, where
/// that is nearer.
fn cut_at(text: &str, mut at: usize) -> usize {
    if at >= text.len() {
        return text.len();
    }
    while !text.is_char_boundary(at) {
        at += 1;
    }
    match text[..at].rfind(char::is_whitespace) {
        Some(space) if space * 2 > at => space + text[space..].chars().next().map_or(1, char::len_utf8),
        _ => at,
    }
}

/// The length of the first sentence, with the spaces behind it.
fn sentence(text: &str) -> usize {
    let mut last = ' ';
    let mut letters = text.char_indices().peekable();
    while let Some((i, c)) = letters.next() {
        let next = letters.peek().map(|(_, c)| *c);
        let ends = match c {
            '。' | '！' | '？' => true,
            '.' | '!' | '?' => {
                // "3.14", "e.g. the" and "J. Smith" go on.
                let initial = last.is_uppercase()
                    && text[..i].chars().rev().nth(1).is_none_or(|c| !c.is_alphanumeric());
                next.is_none_or(char::is_whitespace)
                    && !(c == '.' && initial)
                    && text[i + 1..].trim_start().chars().next().is_none_or(|c| !c.is_lowercase())
            }
            _ => false,
        };
        if ends {
            let end = i + c.len_utf8();
            return end + (text[end..].len() - text[end..].trim_start().len());
        }
        last = c;
    }
    text.len()
}

/// The beginning of a text that a model takes.
pub(crate) fn shorten<'a>(text: &'a str, most: usize, tokens: &dyn Fn(&str) -> usize) -> &'a str {
    let mut text = &text[..cut_at(text, most.saturating_mul(64))];
    while text.len() > 1 && tokens(text) > most {
        let shorter = cut_at(text, text.len() * 3 / 4);
        if shorter == 0 || shorter == text.len() {
            break;
        }
        text = &text[..shorter];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Chunk, Sizes, cut, sentence, shorten};
    use crate::read::{Document, Kind};

    fn words(text: &str) -> usize {
        text.split_whitespace().count()
    }

    fn chunks(kind: Kind, text: &str, most: usize) -> Vec<Chunk> {
        let document = Document { kind, text: text.into(), pages: Vec::new() };
        let sizes = Sizes { most, overlap: most / 4, least: most / 4 };
        let all = cut(&document, &sizes, &words);
        // Nothing is lost, nothing is too large, and passages are in order.
        let mut seen = 0;
        for c in &all {
            assert!(c.tokens <= most && c.start < c.end && c.tokens == words(&text[c.start..c.end]), "{c:?}");
            assert!(text[seen.min(c.start)..c.start].trim().is_empty(), "lost {:?}", &text[seen..c.start]);
            assert!(c.end > seen);
            seen = c.end;
        }
        assert!(text[seen..].trim().is_empty(), "lost {:?}", &text[seen..]);
        all
    }

    #[test]
    fn sentences_end_where_a_reader_sees_it() {
        for (text, first) in [
            ("It costs 3.14 now. Next.", "It costs 3.14 now. "),
            ("By J. Smith here. B", "By J. Smith here. "),
            ("See e.g. this one! Yes", "See e.g. this one! "),
            ("一句。二句。", "一句。"),
            ("no end", "no end"),
        ] {
            assert_eq!(&text[..sentence(text)], first);
        }
    }

    #[test]
    fn passages_end_with_sections_and_paragraphs() {
        let text = "# Cats\n\nCats purr a lot. They sleep.\n\n## Food\n\nThey eat fish and more fish.\n\n# Dogs\n\nDogs bark at cats now.\n";
        let all = chunks(Kind::Markdown, text, 12);
        let seen: Vec<(&str, &str)> =
            all.iter().map(|c| (c.heading.as_str(), &text[c.start..c.end])).collect();
        assert_eq!(
            seen,
            [
                ("Cats", "# Cats\n\nCats purr a lot. They sleep."),
                ("Cats › Food", "## Food\n\nThey eat fish and more fish."),
                ("Dogs", "# Dogs\n\nDogs bark at cats now."),
            ]
        );
        assert_eq!(all[0].to_embed(text), seen[0].1);
        let text = format!("## A b\n\n{}", "One two three. ".repeat(9));
        let all = chunks(Kind::Markdown, &text, 12);
        assert_eq!(
            all[1].to_embed(&text),
            "A b\nOne two three. One two three. One two three. One two three."
        );
        // The end of one passage is the beginning of the next.
        assert!(all[1].start < all[0].end, "{all:?}");
    }

    #[test]
    fn paragraphs_stay_whole_where_they_can() {
        let one = "a b c d e f g.";
        let text = [one, "h i j k l m.", "n o p q r s t u v w."].join("\n\n");
        let all = chunks(Kind::Text, &text, 16);
        assert_eq!(&text[..all[0].end], &text[..one.len() + 14]);
        let code = format!("Look:\n\n```\n{}```\n\nEnd.", "x = 1\n\n".repeat(20));
        assert!(chunks(Kind::Markdown, &code, 10).len() > 4);
    }

    #[test]
    fn what_has_no_ends_is_cut_anyway() {
        let long = "word ".repeat(5000);
        assert!(chunks(Kind::Text, &long, 100).len() >= 50);
        let letters = "é".repeat(5000);
        let document = Document { kind: Kind::Text, text: letters.clone(), pages: Vec::new() };
        let sizes = Sizes { most: 16, overlap: 2, least: 2 };
        let all = cut(&document, &sizes, &|t: &str| t.chars().count());
        assert!(all.iter().all(|c| c.tokens <= 16) && all.len() > 300);
        assert_eq!(all.last().map(|c| c.end), Some(letters.len()));
        assert!(chunks(Kind::Text, "", 9).is_empty() && chunks(Kind::Markdown, "\n\n#\n", 9).len() == 1);
        assert_eq!(shorten("one two three four", 2, &words), "one two ");
        assert_eq!(shorten("one two three four", 4, &words), "one two three four");
        // Nor does a word that is one token to the model, such as a picture in letters, fill a prompt.
        let document = Document { kind: Kind::Text, text: "word".repeat(100_000), pages: Vec::new() };
        let all = cut(&document, &Sizes::within(256), &|_| 1);
        assert!(all.len() > 40 && all.iter().all(|c| c.end - c.start <= 256 * 32), "{}", all.len());
        assert_eq!(all.last().map(|c| c.end), Some(400_000));
    }

    #[test]
    fn pages_are_known() {
        let text = "First page here.\n\nSecond page there.\n\n".to_owned();
        let document = Document { kind: Kind::Pdf, text, pages: vec![0, 18] };
        let sizes = Sizes { most: 3, overlap: 0, least: 0 };
        let all = cut(&document, &sizes, &words);
        assert_eq!(all.iter().map(|c| c.page).collect::<Vec<_>>(), [Some(1), Some(2)]);
    }
}
