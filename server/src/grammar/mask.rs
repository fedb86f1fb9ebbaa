//! A compiled grammar at work: free until a thought ends or a trigger comes, enforced from there on.

use std::sync::Arc;

use llguidance::Matcher;
use weft_models::engine::Mask;

use super::bounds::Bounds;
use super::compile::Compiled;
use super::vocabulary::Vocabulary;

/// How a model thinks aloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Think {
    /// What opens a thought, at the very beginning of the answer.
    pub open: String,
    /// What closes it.
    pub close: String,
    /// Whether the prompt opened it already.
    pub opened: bool,
}

/// A text from which on a grammar is enforced.
#[derive(Clone)]
pub struct Trigger {
    /// The text; the grammar begins behind it.
    pub text: String,
    /// Whether it counts only at the beginning of the answer, white space and thought aside.
    pub at_start: bool,
    /// What follows it.
    pub grammar: Arc<Compiled>,
}

/// Where grammars begin in an answer.
#[derive(Clone, Default)]
pub struct Entry {
    /// What comes first and is free.
    pub think: Option<Think>,
    /// What switches a grammar on, where the answer need not be under one.
    pub triggers: Vec<Trigger>,
    /// The grammar of the answer behind the thought, where there are no triggers.
    pub grammar: Option<Arc<Compiled>>,
    /// Where a thought must come to its end.
    pub budget: Option<Budget>,
}

/// After how many tokens a thought must end.
#[derive(Clone)]
pub struct Budget {
    pub(super) tokens: usize,
    pub(super) vocabulary: Arc<Vocabulary>,
}

impl Entry {
    /// The mask of one answer.
    pub fn mask(self) -> Box<dyn Mask> {
        let any = self.grammar.as_ref().or(self.triggers.first().map(|t| &t.grammar));
        let known = any.map(|g| &g.vocabulary).or(self.budget.as_ref().map(|b| &b.vocabulary));
        let Some(vocabulary) = known.cloned() else { return Box::new(Free) };
        let stage = match &self.think {
            Some(think) if think.opened => Stage::Think(Vec::new()),
            Some(_) => Stage::Open {
                seen: Vec::new(),
                grammar: self.grammar.as_deref().map(|g| Box::new(Enforced::new(g))),
            },
            None => self.after_think(),
        };
        Box::new(Staged { entry: self, vocabulary, stage, thought: 0 })
    }

    fn after_think(&self) -> Stage {
        match &self.grammar {
            Some(grammar) => Stage::Enforced(Box::new(Enforced::new(grammar))),
            None => Stage::Wait { seen: Vec::new(), start: true },
        }
    }
}

/// No grammar at all.
struct Free;

impl Mask for Free {
    fn allowed(&mut self, bits: &mut [u32]) -> Result<(), String> {
        bits.fill(u32::MAX);
        Ok(())
    }

    fn accept(&mut self, _: u32) -> Result<(), String> {
        Ok(())
    }

    fn is_free(&self) -> bool {
        true
    }
}

/// A grammar that is in force.
struct Enforced {
    matcher: Matcher,
    vocabulary: Arc<Vocabulary>,
    bounds: Option<Bounds>,
}

impl Enforced {
    fn new(grammar: &Compiled) -> Enforced {
        let bounds = grammar.is_json().then(Bounds::default);
        Enforced { matcher: grammar.matcher(), vocabulary: grammar.vocabulary.clone(), bounds }
    }

    fn allowed(&mut self, bits: &mut [u32]) -> Result<(), String> {
        let mask = self.matcher.compute_mask_or_eos().map_err(|e| one_line(&e))?;
        for (to, from) in bits.iter_mut().zip(mask.as_slice()) {
            *to |= from;
        }
        // Bits past the vocabulary are nobody's.
        if let Some(last) = bits.get_mut(self.vocabulary.len() / 32) {
            *last &= (1u32 << (self.vocabulary.len() % 32)) - 1;
        }
        if let Some(bounds) = &self.bounds {
            bounds.filter(bits, |id| self.vocabulary.bytes(id));
        }
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        if self.matcher.is_stopped() && !self.matcher.is_error() {
            // An end of text that the caller asked to pass over.
            return Ok(());
        }
        self.matcher.consume_token(token).map_err(|e| one_line(&e))?;
        if let Some(bounds) = &mut self.bounds {
            bounds.push(self.vocabulary.bytes(token));
        }
        Ok(())
    }

    /// Whether it takes these bytes; they are not consumed.
    fn takes(&mut self, bytes: &[u8]) -> bool {
        let Some(tokens) = self.vocabulary.spell(bytes) else { return false };
        self.matcher.validate_tokens(&tokens).is_ok_and(|n| n == tokens.len())
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        let tokens =
            self.vocabulary.spell(bytes).ok_or("the vocabulary cannot spell the grammar's beginning")?;
        tokens.into_iter().try_for_each(|t| self.accept(t))
    }
}

enum Stage {
    /// The answer has begun and may still open a thought. With a grammar, that is enforced beside it.
    Open {
        seen: Vec<u8>,
        grammar: Option<Box<Enforced>>,
    },
    /// A thought; the end of it that may begin what closes it.
    Think(Vec<u8>),
    /// Free text; the end of it that may begin a trigger, and whether that is the whole text, white space before it aside.
    Wait {
        seen: Vec<u8>,
        start: bool,
    },
    Enforced(Box<Enforced>),
}

struct Staged {
    entry: Entry,
    vocabulary: Arc<Vocabulary>,
    stage: Stage,
    /// Tokens that were thought.
    thought: usize,
}

impl Staged {
    /// What is watched for at this stage, how much of the end of the text may begin it, and the grammar behind it.
    fn watched(&self) -> Vec<(&[u8], Vec<usize>, Option<&Compiled>)> {
        let anywhere =
            |text: &[u8], seen: &[u8]| (0..text.len()).filter(|&n| seen.ends_with(&text[..n])).collect();
        let (seen, start) = match &self.stage {
            Stage::Think(seen) => {
                let close = self.entry.think.as_ref().map(|t| t.close.as_bytes()).unwrap_or_default();
                return vec![(close, anywhere(close, seen), self.entry.grammar.as_deref())];
            }
            Stage::Wait { seen, start } => (seen, *start),
            Stage::Open { seen, .. } => (seen, true),
            Stage::Enforced(_) => return Vec::new(),
        };
        let each = |trigger: &'_ Trigger| {
            let text = trigger.text.as_bytes();
            let begun = seen.trim_ascii_start();
            match trigger.at_start {
                false => anywhere(text, seen),
                true if start && text.starts_with(begun) && begun.len() < text.len() => vec![begun.len()],
                true => Vec::new(),
            }
        };
        self.entry.triggers.iter().map(|t| (t.text.as_bytes(), each(t), Some(&*t.grammar))).collect()
    }

    /// Whether the text may not end yet: a thought with an answer under a grammar behind it.
    fn must_go_on(&self) -> bool {
        matches!(self.stage, Stage::Think(_)) && self.entry.grammar.is_some()
    }

    /// Whether the thought has had its share and must close now.
    fn must_close(&self) -> bool {
        let over = self.entry.budget.as_ref().is_some_and(|b| self.thought >= b.tokens);
        over && matches!(self.stage, Stage::Think(_))
    }

    /// Sets the bits of the tokens that go on with a text from where `seen` ends in a part of it.
    fn spell(&self, text: &[u8], seen: &[u8], bits: &mut [u32]) {
        let known = (0..text.len()).rev().find(|&n| seen.ends_with(&text[..n])).unwrap_or(0);
        let rest = &text[known..];
        let mut allow = |id: u32| {
            if let Some(word) = bits.get_mut(id as usize / 32) {
                *word |= 1 << (id % 32);
            }
        };
        for n in 1..rest.len() {
            let same = self.vocabulary.starting_with(&rest[..n]);
            same.take_while(|&id| self.vocabulary.bytes(id).len() == n).for_each(&mut allow);
        }
        self.vocabulary.starting_with(rest).for_each(&mut allow);
    }

    /// The end of the text that may be a beginning of what is watched for.
    fn seen(&self) -> &[u8] {
        match &self.stage {
            Stage::Open { seen, .. } | Stage::Think(seen) | Stage::Wait { seen, .. } => seen,
            Stage::Enforced(_) => &[],
        }
    }

    /// The tokens that would end what is watched for and go on in a way that the grammar behind it does not take.
    fn wrong_ends(&self) -> Vec<u32> {
        let mut wrong = Vec::new();
        for (text, known, grammar) in self.watched() {
            let Some(grammar) = grammar else { continue };
            let mut enforced = None;
            for known in known {
                let rest = &text[known..];
                for id in self.vocabulary.starting_with(rest) {
                    let tail = &self.vocabulary.bytes(id)[rest.len()..];
                    if !tail.is_empty() && !enforced.get_or_insert_with(|| Enforced::new(grammar)).takes(tail)
                    {
                        wrong.push(id);
                    }
                }
            }
        }
        wrong
    }

    /// Takes the next bytes of free text.
    fn hear(&mut self, bytes: &[u8]) -> Result<(), String> {
        match &mut self.stage {
            Stage::Think(seen) => {
                let close = self.entry.think.as_ref().map(|t| t.close.as_bytes()).unwrap_or_default();
                seen.extend_from_slice(bytes);
                if let Some(at) = find(seen, close) {
                    let tail = seen.split_off(at + close.len());
                    self.stage = self.entry.after_think();
                    return self.take(&tail);
                }
                seen.drain(..(seen.len() + 1).saturating_sub(close.len()));
                Ok(())
            }
            Stage::Wait { seen, start } => {
                seen.extend_from_slice(bytes);
                let begun = seen.len() - seen.trim_ascii_start().len();
                let place = |t: &Trigger| match t.at_start {
                    false => find(seen, t.text.as_bytes()),
                    true => (*start && seen[begun..].starts_with(t.text.as_bytes())).then_some(begun),
                };
                let found = self.entry.triggers.iter().filter_map(|t| Some((place(t)?, t)));
                if let Some((at, trigger)) = found.min_by_key(|(at, _)| *at) {
                    let mut enforced = Enforced::new(&trigger.grammar);
                    enforced.feed(&seen[at + trigger.text.len()..])?;
                    self.stage = Stage::Enforced(Box::new(enforced));
                    return Ok(());
                }
                let begins = |t: &Trigger| t.at_start && t.text.as_bytes().starts_with(&seen[begun..]);
                *start = *start && self.entry.triggers.iter().any(begins);
                let longest = self.entry.triggers.iter().map(|t| t.text.len()).max().unwrap_or(0);
                let old = (seen.len() + 1).saturating_sub(longest.max(1));
                seen.drain(..old);
                Ok(())
            }
            Stage::Open { .. } | Stage::Enforced(_) => Ok(()),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        match &mut self.stage {
            Stage::Enforced(enforced) => enforced.feed(bytes),
            _ => self.hear(bytes),
        }
    }

    /// Takes a token of an answer that may still open a thought.
    fn open(&mut self, token: u32) -> Result<(), String> {
        let Stage::Open { seen, grammar } = &mut self.stage else { return Ok(()) };
        let open = self.entry.think.as_ref().map(|t| t.open.as_bytes()).unwrap_or_default();
        seen.extend_from_slice(self.vocabulary.bytes(token));
        let seen = std::mem::take(seen);
        if let Some(rest) = seen.strip_prefix(open) {
            let rest = rest.to_vec();
            self.stage = Stage::Think(Vec::new());
            return self.hear(&rest);
        }
        // A token without bytes is no text, and begins no thought.
        let undecided = open.starts_with(&seen) && !self.vocabulary.bytes(token).is_empty();
        let alive = match grammar {
            Some(g) => g.accept(token).is_ok(),
            None => false,
        };
        let live = if alive { grammar.take() } else { None };
        if undecided {
            self.stage = Stage::Open { seen, grammar: live };
            return Ok(());
        }
        match (live, self.entry.grammar.is_some()) {
            (Some(g), _) => self.stage = Stage::Enforced(g),
            (None, true) => return Err("the answer fits neither the grammar nor a thought".into()),
            (None, false) => {
                self.stage = self.entry.after_think();
                return self.hear(&seen);
            }
        }
        Ok(())
    }
}

impl Mask for Staged {
    fn allowed(&mut self, bits: &mut [u32]) -> Result<(), String> {
        match &mut self.stage {
            Stage::Enforced(enforced) => return enforced.allowed(bits),
            Stage::Open { seen, grammar } if self.entry.grammar.is_some() => {
                if let Some(grammar) = grammar {
                    grammar.allowed(bits)?;
                }
                let open = self.entry.think.as_ref().map(|t| t.open.as_bytes()).unwrap_or_default();
                let seen = seen.clone();
                self.spell(open, &seen, bits);
                return Ok(());
            }
            _ => {}
        }
        if self.must_close() {
            let close = self.entry.think.as_ref().map(|t| t.close.as_bytes()).unwrap_or_default();
            self.spell(close, self.seen(), bits);
            for id in self.wrong_ends() {
                bits[id as usize / 32] &= !(1 << (id % 32));
            }
            return Ok(());
        }
        let n = self.vocabulary.len();
        let words = bits.len();
        bits[..words.min(n / 32)].fill(u32::MAX);
        if let Some(last) = bits.get_mut(n / 32) {
            *last = (1u32 << (n % 32)) - 1;
        }
        // A thought must end before the answer does, where there must be an answer.
        let ends = if self.must_go_on() { self.vocabulary.ends() } else { &[] };
        for &id in self.wrong_ends().iter().chain(ends) {
            bits[id as usize / 32] &= !(1 << (id % 32));
        }
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        match &mut self.stage {
            Stage::Enforced(enforced) => enforced.accept(token),
            Stage::Open { .. } => self.open(token),
            _ => {
                self.thought += usize::from(matches!(self.stage, Stage::Think(_)));
                let vocabulary = self.vocabulary.clone();
                self.hear(vocabulary.bytes(token))
            }
        }
    }

    fn is_free(&self) -> bool {
        match &self.stage {
            Stage::Enforced(_) => false,
            Stage::Open { .. } if self.entry.grammar.is_some() => false,
            _ => !self.must_go_on() && !self.must_close() && self.wrong_ends().is_empty(),
        }
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    if what.is_empty() {
        return None;
    }
    text.windows(what.len()).position(|w| w == what)
}

fn one_line(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let line: Vec<&str> = text.split_whitespace().collect();
    line.join(" ").chars().take(300).collect()
}
