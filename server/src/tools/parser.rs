//! Tells a model's text apart as it comes.

use super::formats::{Format, Opener};
use super::object::Names;
use crate::grammar::Think;

/// A part of an answer. Neighbours of one kind may be joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A part of what the model thinks.
    Reasoning(String),
    /// A part of what it says.
    Content(String),
    /// A call begins.
    Call {
        /// Which of the answer's, from 0 on.
        index: usize,
        /// Names it.
        id: String,
        /// The tool.
        name: String,
    },
    /// A part of the arguments of a call, as the model writes them.
    Arguments {
        /// Which call's.
        index: usize,
        /// JSON, as far as the model writes it.
        text: String,
    },
}

/// What a reader of calls finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Call(String),
    Arguments(String),
    /// The call is whole.
    End,
}

/// What a letter did to a reader of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    More,
    /// It was the last of the calls.
    Done,
    /// The calls ended in front of it.
    Over,
    /// It cannot stand in a call.
    Broken,
}

/// Reads calls, from behind what opens them.
pub(super) trait Reader: Send {
    fn feed(&mut self, c: char, out: &mut Vec<Event>) -> Step;
}

enum Stage {
    /// Nothing came but white space, and a thought may.
    Start,
    Reasoning,
    Content,
    Call(Box<dyn Reader>),
    /// A call that is told already went wrong: what there is of it until it closes belongs to its arguments.
    Spill,
}

/// Reads the text of one answer.
pub struct Parser {
    format: Option<&'static Format>,
    names: Names,
    think: Option<Think>,
    seed: u64,
    stage: Stage,
    /// What is not told yet.
    held: String,
    /// White space that belongs to the content only if something follows that is content.
    gap: String,
    /// What was read of a call that is not told.
    raw: String,
    calls: usize,
    /// Whether a call is told and not whole.
    told: bool,
    /// Whether white space is dropped until something else comes.
    skip: bool,
    /// Whether there was any content.
    fresh: bool,
}

impl Parser {
    /// A parser of an answer. Calls are looked for where there is a format, and told where they are of a tool that is
    /// named. `seed` makes their ids.
    pub fn new(format: Option<&'static Format>, names: &[String], think: Option<Think>, seed: u64) -> Parser {
        let stage = match &think {
            Some(t) if t.opened => Stage::Reasoning,
            Some(_) => Stage::Start,
            None => Stage::Content,
        };
        Parser {
            format: format.filter(|_| !names.is_empty()),
            names: names.into(),
            skip: matches!(stage, Stage::Reasoning),
            think,
            seed,
            stage,
            held: String::new(),
            gap: String::new(),
            raw: String::new(),
            calls: 0,
            told: false,
            fresh: true,
        }
    }

    /// How many calls there were so far.
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// Whether the answer is still thought.
    pub fn is_thinking(&self) -> bool {
        matches!(self.stage, Stage::Reasoning)
    }

    /// Takes the next text, and appends what is certain now.
    pub fn push(&mut self, text: &str, out: &mut Vec<Piece>) {
        self.held.push_str(text);
        while self.step(out) {}
    }

    /// Ends the answer: what was held back is certain now.
    pub fn finish(&mut self, out: &mut Vec<Piece>) {
        let held = std::mem::take(&mut self.held);
        match &self.stage {
            Stage::Reasoning => self.think(held.trim_end(), out),
            Stage::Spill => self.argue(&held, out),
            Stage::Start | Stage::Content => self.say(&held, out),
            Stage::Call(_) => {
                let raw = std::mem::take(&mut self.raw);
                if !self.told {
                    self.say(&raw, out);
                }
            }
        }
        let gap = std::mem::take(&mut self.gap);
        if !self.told && !gap.is_empty() {
            add(out, Piece::Content(gap));
        }
    }

    /// Reads on; whether there may be more to read.
    fn step(&mut self, out: &mut Vec<Piece>) -> bool {
        match self.stage {
            Stage::Start => self.start(),
            Stage::Reasoning => self.reasoning(out),
            Stage::Content => self.content(out),
            Stage::Call(_) => self.call(out),
            Stage::Spill => self.spill(out),
        }
    }

    fn start(&mut self) -> bool {
        let open = self.think.as_ref().map(|t| t.open.as_str()).unwrap_or_default();
        let text = self.held.trim_start();
        if let Some(rest) = text.strip_prefix(open) {
            self.held = rest.to_owned();
            (self.stage, self.skip) = (Stage::Reasoning, true);
            return true;
        }
        if open.starts_with(text) {
            return false;
        }
        self.stage = Stage::Content;
        true
    }

    fn reasoning(&mut self, out: &mut Vec<Piece>) -> bool {
        let close = self.think.as_ref().map(|t| t.close.clone()).unwrap_or_default();
        if let Some(at) = self.held.find(&close) {
            let rest = self.held.split_off(at + close.len());
            let text = std::mem::replace(&mut self.held, rest);
            self.think(text[..at].trim_end(), out);
            self.gap.clear();
            (self.stage, self.skip) = (Stage::Content, true);
            return true;
        }
        // White space at the end may be the end.
        let sure = self.held.len() - unsure(&self.held, [close.as_str()].into_iter());
        let sure = self.held[..sure].trim_end().len();
        let rest = self.held.split_off(sure);
        let text = std::mem::replace(&mut self.held, rest);
        self.think(&text, out);
        false
    }

    fn think(&mut self, text: &str, out: &mut Vec<Piece>) {
        let text = if self.skip { text.trim_start() } else { text };
        if !text.is_empty() {
            self.skip = false;
            add(out, Piece::Reasoning(text.to_owned()));
        }
    }

    /// The openers that count now.
    fn openers(&self) -> impl Iterator<Item = &'static Opener> + use<> {
        let fresh = self.fresh && self.calls == 0;
        let all = self.format.map(|f| f.openers).unwrap_or_default();
        all.iter().filter(move |o| fresh || !o.at_start)
    }

    fn content(&mut self, out: &mut Vec<Piece>) -> bool {
        let begun = self.held.len() - self.held.trim_start().len();
        let place = |o: &'static Opener| match o.at_start {
            false => self.held.find(o.text),
            true => self.held[begun..].starts_with(o.text).then_some(begun),
        };
        let found = self.openers().filter_map(|o| Some((place(o)?, std::cmp::Reverse(o.text.len()), o)));
        if let Some((at, _, opener)) = found.min_by_key(|(at, len, _)| (*at, *len)) {
            // A longer opener may begin at the same place.
            let longer =
                |o: &&Opener| o.text.len() > opener.text.len() && o.text.starts_with(&self.held[at..]);
            if self.openers().any(|o| longer(&o)) {
                return false;
            }
            let rest = self.held.split_off(at + opener.text.len());
            let text = std::mem::replace(&mut self.held, rest);
            self.say(&text[..at], out);
            self.open(opener, out);
            return true;
        }
        let whole = self.openers().filter(|o| o.at_start).any(|o| o.text.starts_with(&self.held[begun..]));
        if whole {
            return false;
        }
        let anywhere = self.openers().filter(|o| !o.at_start).map(|o| o.text);
        let sure = self.held.len() - unsure(&self.held, anywhere);
        let rest = self.held.split_off(sure);
        let text = std::mem::replace(&mut self.held, rest);
        self.say(&text, out);
        false
    }

    /// Content; white space at its end waits for what follows.
    fn say(&mut self, text: &str, out: &mut Vec<Piece>) {
        let text = if self.skip { text.trim_start() } else { text };
        let solid = text.trim_end();
        if !solid.is_empty() {
            (self.skip, self.fresh) = (false, false);
            let gap = std::mem::take(&mut self.gap);
            add(out, Piece::Content(gap + solid));
        }
        self.gap.push_str(&text[solid.len()..]);
    }

    fn open(&mut self, opener: &'static Opener, out: &mut Vec<Piece>) {
        let Some(format) = self.format else { return };
        let reader = (format.reader)(opener.text, &self.names);
        self.raw = opener.text.to_owned();
        self.stage = Stage::Call(reader);
        if opener.fed {
            self.raw.clear();
            self.held.insert_str(0, opener.text);
            self.call(out);
        }
    }

    fn call(&mut self, out: &mut Vec<Piece>) -> bool {
        let held = std::mem::take(&mut self.held);
        let mut events = Vec::new();
        for (at, c) in held.char_indices() {
            let Stage::Call(reader) = &mut self.stage else { return true };
            let step = reader.feed(c, &mut events);
            if !matches!(step, Step::Over | Step::Broken) {
                self.raw.push(c);
            }
            self.take(&mut events, out);
            let next = at + c.len_utf8();
            match step {
                Step::More => continue,
                Step::Done => self.held = held[next..].to_owned(),
                // What breaks a call may begin another.
                Step::Over | Step::Broken => self.held = held[at..].to_owned(),
            }
            if step == Step::Broken && self.told {
                self.stage = Stage::Spill;
                return true;
            }
            let raw = std::mem::take(&mut self.raw);
            self.stage = Stage::Content;
            if step == Step::Broken {
                self.say(&raw, out);
            } else {
                self.skip = true;
                self.gap.clear();
            }
            // The opener itself is said, so that it is not found again.
            if step == Step::Broken && raw.is_empty() {
                let first = self.held.chars().next().map_or(0, char::len_utf8);
                let rest = self.held.split_off(first);
                let text = std::mem::replace(&mut self.held, rest);
                self.say(&text, out);
            }
            return true;
        }
        false
    }

    fn take(&mut self, events: &mut Vec<Event>, out: &mut Vec<Piece>) {
        for event in events.drain(..) {
            match event {
                Event::Call(name) => {
                    let index = self.calls;
                    self.calls += 1;
                    self.told = true;
                    self.gap.clear();
                    let form = self.format.map(|f| f.id).unwrap_or_default();
                    out.push(Piece::Call { index, id: id(self.seed, index, form), name });
                }
                Event::Arguments(text) => self.argue(&text, out),
                Event::End => {
                    self.told = false;
                    self.skip = true;
                    self.raw.clear();
                }
            }
        }
    }

    fn argue(&mut self, text: &str, out: &mut Vec<Piece>) {
        if !text.is_empty() {
            add(out, Piece::Arguments { index: self.calls.saturating_sub(1), text: text.to_owned() });
        }
    }

    fn spill(&mut self, out: &mut Vec<Piece>) -> bool {
        let Some(close) = self.format.and_then(|f| f.close) else {
            let all = std::mem::take(&mut self.held);
            self.argue(&all, out);
            return false;
        };
        if let Some(at) = self.held.find(close) {
            let rest = self.held.split_off(at + close.len());
            let text = std::mem::replace(&mut self.held, rest);
            self.argue(&text[..at], out);
            (self.stage, self.told, self.skip) = (Stage::Content, false, true);
            self.raw.clear();
            return true;
        }
        let sure = self.held.len() - unsure(&self.held, [close].into_iter());
        let rest = self.held.split_off(sure);
        let text = std::mem::replace(&mut self.held, rest);
        self.argue(&text, out);
        false
    }
}

/// Bytes at the end of a text that one of these begins with, the most of them.
fn unsure<'t>(text: &str, all: impl Iterator<Item = &'t str>) -> usize {
    let begins = |tag: &str| {
        let most = text.len().min(tag.len().saturating_sub(1));
        (1..=most)
            .rev()
            .find(|&n| tag.is_char_boundary(n) && text.as_bytes().ends_with(&tag.as_bytes()[..n]))
            .unwrap_or(0)
    };
    all.map(begins).max().unwrap_or(0)
}

/// Appends a piece, to the last one if that is of the same kind.
fn add(out: &mut Vec<Piece>, piece: Piece) {
    match (out.last_mut(), piece) {
        (Some(Piece::Reasoning(last)), Piece::Reasoning(text)) => last.push_str(&text),
        (Some(Piece::Content(last)), Piece::Content(text)) => last.push_str(&text),
        (Some(Piece::Arguments { index: a, text: last }), Piece::Arguments { index: b, text }) if *a == b => {
            last.push_str(&text);
        }
        (_, piece) => out.push(piece),
    }
}

/// How the ids of calls look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// `call_` and 24 letters and digits.
    #[default]
    Long,
    /// Nine letters and digits, which the templates of Mistral ask for.
    Nine,
}

fn id(seed: u64, index: usize, form: Form) -> String {
    const LETTERS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut state = seed ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut letter = || {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        char::from(LETTERS[((z ^ (z >> 31)) % 62) as usize])
    };
    match form {
        Form::Long => {
            std::iter::once("call_".to_owned()).chain((0..24).map(|_| letter().to_string())).collect()
        }
        Form::Nine => (0..9).map(|_| letter()).collect(),
    }
}
