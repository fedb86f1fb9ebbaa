//! The text of PDF files, page by page.
//!
//! Files come from strangers. The syntax is read by another's crate, whose panics are caught; what is drawn is followed
//! here as far as letters go. Bounds on time, pages, text and nesting are looked at between two operators. What no bound
//! inside a process can hold (a stack that overflows, memory) is held by [`crate::apart`], which does this in a process of
//! its own.

mod font;
mod letters;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hayro_syntax::content::TypedIter;
use hayro_syntax::content::ops::TypedInstruction;
use hayro_syntax::object::{Dict, Name, Number, Object, Stream};
use hayro_syntax::page::Resources;
use hayro_syntax::{LoadPdfError, Pdf};

use font::Font;
use letters::{Letter, Letters, tidy};

/// Bounds of what is read.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Pages.
    pub pages: usize,
    /// Bytes of text.
    pub text: usize,
    /// Time. A single step of the reader may overrun it.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { pages: 5_000, text: 32 << 20, time: Duration::from_secs(60) }
    }
}

/// Drawings within drawings, and states that are kept, at most.
const DEEPEST: usize = 8;
const STATES: usize = 256;

/// The text of each page.
///
/// # Errors
/// A line that says why: damaged, locked, too large, too slow.
pub fn pages(bytes: &[u8], limits: Limits) -> Result<Vec<String>, String> {
    // All that it has made is dropped.
    let read = catch_unwind(AssertUnwindSafe(|| read(bytes, limits)));
    read.unwrap_or_else(|_| Err("it is damaged in a way that its reader does not know".into()))
}

fn read(bytes: &[u8], limits: Limits) -> Result<Vec<String>, String> {
    let end = Instant::now() + limits.time;
    let pdf = Pdf::new(bytes.to_vec()).map_err(|e| match e {
        LoadPdfError::Decryption(_) => "it is locked with a password".to_owned(),
        LoadPdfError::Invalid => "it is damaged, or no PDF".to_owned(),
    })?;
    let all = pdf.pages();
    if all.len() > limits.pages {
        return Err(format!("it has {} pages; at most {} are taken", all.len(), limits.pages));
    }
    let (mut texts, mut room) = (Vec::with_capacity(all.len()), limits.text);
    for page in all.iter() {
        let mut reader = Reader { letters: Letters::default(), fonts: HashMap::new(), room, end, why: None };
        let stream = page.page_stream().unwrap_or_default();
        reader.draw(stream, page.resources(), State::default(), 0);
        match reader.why {
            Some(Stop::Time) => {
                return Err(format!("reading it takes more than {} s", limits.time.as_secs()));
            }
            Some(Stop::Text) => return Err(format!("its text has more than {} MiB", limits.text >> 20)),
            None => {}
        }
        room -= reader.letters.text.len();
        texts.push(tidy(&reader.letters.text));
    }
    Ok(texts)
}

/// A map of points: `[a b c d x y]`, as PDF writes them.
type Map = [f64; 6];

const SAME: Map = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0];

/// First `a`, then `b`.
fn then(a: &Map, b: &Map) -> Map {
    [
        a[0] * b[0] + a[1] * b[2],
        a[0] * b[1] + a[1] * b[3],
        a[2] * b[0] + a[3] * b[2],
        a[2] * b[1] + a[3] * b[3],
        a[4] * b[0] + a[5] * b[2] + b[4],
        a[4] * b[1] + a[5] * b[3] + b[5],
    ]
}

/// What letters depend on.
#[derive(Clone)]
struct State {
    map: Map,
    font: Option<Rc<Font>>,
    size: f64,
    between: f64,
    words: f64,
    across: f64,
    leading: f64,
    rise: f64,
    text: Map,
    line: Map,
}

impl Default for State {
    fn default() -> State {
        State {
            map: SAME,
            font: None,
            size: 0.0,
            between: 0.0,
            words: 0.0,
            across: 1.0,
            leading: 0.0,
            rise: 0.0,
            text: SAME,
            line: SAME,
        }
    }
}

impl State {
    fn next_line(&mut self, x: f64, y: f64) {
        self.line = then(&[1.0, 0.0, 0.0, 1.0, x, y], &self.line);
        self.text = self.line;
    }

    fn go_on(&mut self, by: f64) {
        self.text = then(&[1.0, 0.0, 0.0, 1.0, by, 0.0], &self.text);
    }
}

enum Stop {
    Time,
    Text,
}

struct Reader {
    letters: Letters,
    /// The fonts that were read, under the addresses of their dictionaries.
    fonts: HashMap<*const u8, Rc<Font>>,
    room: usize,
    end: Instant,
    why: Option<Stop>,
}

fn map(all: [&Number; 6]) -> Map {
    all.map(Number::as_f64)
}

impl Reader {
    /// Follows the operators of a stream.
    fn draw(&mut self, stream: &[u8], resources: &Resources<'_>, mut now: State, depth: usize) {
        let mut kept: Vec<State> = Vec::new();
        let mut operators = TypedIter::new(stream);
        let mut count = 0_u32;
        while let Some(operator) = operators.next() {
            count = count.wrapping_add(1);
            if count % 64 == 1 && Instant::now() > self.end {
                self.why = Some(Stop::Time);
            }
            if self.why.is_some() {
                return;
            }
            use TypedInstruction as I;
            match operator {
                I::SaveState(_) if kept.len() < STATES => kept.push(now.clone()),
                I::RestoreState(_) => now = kept.pop().unwrap_or(now),
                I::Transform(t) => now.map = then(&map([&t.0, &t.1, &t.2, &t.3, &t.4, &t.5]), &now.map),
                I::BeginText(_) => (now.text, now.line) = (SAME, SAME),
                I::TextFont(t) => {
                    now.font = self.font(resources, t.0);
                    now.size = t.1.as_f64();
                }
                I::CharacterSpacing(t) => now.between = t.0.as_f64(),
                I::WordSpacing(t) => now.words = t.0.as_f64(),
                I::HorizontalScaling(t) => now.across = t.0.as_f64() / 100.0,
                I::TextLeading(t) => now.leading = t.0.as_f64(),
                I::TextRise(t) => now.rise = t.0.as_f64(),
                I::NextLine(t) => now.next_line(t.0.as_f64(), t.1.as_f64()),
                I::NextLineAndSetLeading(t) => {
                    now.leading = -t.1.as_f64();
                    now.next_line(t.0.as_f64(), t.1.as_f64());
                }
                I::NextLineUsingLeading(_) => now.next_line(0.0, -now.leading),
                I::SetTextMatrix(t) => {
                    now.line = map([&t.0, &t.1, &t.2, &t.3, &t.4, &t.5]);
                    now.text = now.line;
                }
                I::ShowText(t) => self.show(&mut now, t.0.as_bytes()),
                I::NextLineAndShowText(t) => {
                    now.next_line(0.0, -now.leading);
                    self.show(&mut now, t.0.as_bytes());
                }
                I::ShowTextWithParameters(t) => {
                    (now.words, now.between) = (t.0.as_f64(), t.1.as_f64());
                    now.next_line(0.0, -now.leading);
                    self.show(&mut now, t.2.as_bytes());
                }
                I::ShowTexts(t) => {
                    for part in t.0.iter::<Object<'_>>() {
                        match part {
                            Object::String(text) => self.show(&mut now, text.as_bytes()),
                            Object::Number(n) => now.go_on(-n.as_f64() / 1000.0 * now.size * now.across),
                            _ => {}
                        }
                    }
                }
                I::XObject(t) if depth < DEEPEST => {
                    if let Some(form) = resources.get_x_object(t.0) {
                        self.form(&form, resources, &now, depth);
                    }
                }
                _ => {}
            }
        }
    }

    /// Follows a drawing within a drawing.
    fn form(&mut self, form: &Stream<'_>, outer: &Resources<'_>, now: &State, depth: usize) {
        let dict = form.dict();
        if dict.get::<Name<'_>>("Subtype").is_none_or(|n| &*n != b"Form") {
            return;
        }
        let Ok(data) = form.decoded() else { return };
        let own: Vec<f64> = dict
            .get::<hayro_syntax::object::Array<'_>>("Matrix")
            .map(|m| m.iter::<Number>().map(|n| n.as_f64()).collect())
            .unwrap_or_default();
        let own = Map::try_from(own).unwrap_or(SAME);
        let state = State { map: then(&own, &now.map), ..now.clone() };
        match dict.get::<Dict<'_>>("Resources") {
            Some(inner) => self.draw(&data, &Resources::new(inner), state, depth + 1),
            None => self.draw(&data, outer, state, depth + 1),
        }
    }

    fn font(&mut self, resources: &Resources<'_>, name: &Name<'_>) -> Option<Rc<Font>> {
        let dict = resources.get_font(name)?;
        let font = self.fonts.entry(dict.data().as_ptr()).or_insert_with(|| Rc::new(Font::new(&dict)));
        Some(font.clone())
    }

    fn show(&mut self, now: &mut State, codes: &[u8]) {
        let Some(font) = now.font.clone() else { return };
        for code in codes.chunks(if font.wide { 2 } else { 1 }) {
            let space = code == [32];
            let code = code.iter().fold(0, |n, b| n << 8 | u32::from(*b));
            let text = font.text(code);
            let spacing = now.between + if space { now.words } else { 0.0 };
            let by = (font.width(code) / 1000.0 * now.size + spacing) * now.across;
            let place =
                then(&[now.size * now.across, 0.0, 0.0, now.size, 0.0, now.rise], &then(&now.text, &now.map));
            now.go_on(by);
            let after = then(&[1.0, 0.0, 0.0, 1.0, 0.0, now.rise], &then(&now.text, &now.map));
            if text.is_empty() {
                continue;
            }
            if self.letters.text.len() + text.len() + 2 > self.room {
                self.why = Some(Stop::Text);
                return;
            }
            self.letters.push(&Letter {
                text: &text,
                at: (place[4], place[5]),
                next: (after[4], after[5]),
                size: place[2].hypot(place[3]),
            });
        }
    }
}
