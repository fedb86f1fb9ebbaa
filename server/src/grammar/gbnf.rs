//! Grammars in the notation of llama.cpp (GBNF), as Lark.
//!
//! Rules that do not contain themselves become terminals, so that they are matched as the regular expressions they are;
//! the others become rules.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use super::Refusal;

enum Item {
    /// A regular expression; an empty one is the empty text.
    Text(String),
    Rule(String),
    /// A token of the vocabulary, in Lark's notation.
    Token(String),
    Group(Vec<Vec<Item>>),
    /// An item, and how often it may come.
    Repeat(Box<Item>, u32, Option<u32>),
}

/// Translates a grammar, whose rule `root` is the whole.
///
/// # Errors
/// The line and what is wrong there.
pub(super) fn to_lark(text: &str) -> Result<String, Refusal> {
    let mut parser = Parser { chars: text.chars().collect(), at: 0 };
    let mut rules: Vec<(String, Vec<Vec<Item>>)> = Vec::new();
    let mut numbers: HashMap<String, usize> = HashMap::new();
    parser.blank(true);
    while parser.peek().is_some() {
        let name = parser.name()?;
        parser.blank(false);
        parser.expect("::=")?;
        parser.blank(true);
        let body = parser.alternatives(0)?;
        if numbers.insert(name.clone(), rules.len()).is_some() {
            return Err(parser.wrong(&format!("the rule {name} is there twice")));
        }
        rules.push((name, body));
        parser.blank(true);
    }
    let Some(&root) = numbers.get("root") else {
        return Err(Refusal::new("the grammar has no rule named root"));
    };
    let mut uses: Vec<HashSet<usize>> = Vec::new();
    let mut tokens: Vec<bool> = Vec::new();
    for (name, body) in &rules {
        let (mut used, mut token) = (HashSet::new(), false);
        collect(body, &mut |item| match item {
            Item::Rule(other) => match numbers.get(other) {
                Some(n) => drop(used.insert(*n)),
                None => drop(used.insert(usize::MAX)),
            },
            Item::Token(_) => token = true,
            _ => {}
        });
        if used.contains(&usize::MAX) {
            let missing = |b| first_missing(b, &numbers);
            let other = missing(body).unwrap_or_default();
            return Err(Refusal::new(format!(
                "the grammar's rule {name} uses {other}, and there is no such rule"
            )));
        }
        uses.push(used);
        tokens.push(token);
    }
    let recursive = recursive(&uses, tokens);
    let names: Vec<String> =
        (0..rules.len()).map(|n| if recursive[n] { format!("r{n}") } else { format!("T{n}") }).collect();
    let empty = empty(&rules, &numbers);
    let mut out = format!("start: {}\n", reference(root, &recursive, &names, &empty));
    for (n, (_, body)) in rules.iter().enumerate() {
        let context = Context {
            numbers: &numbers,
            names: &names,
            recursive: &recursive,
            empty: &empty,
            terminal: !recursive[n],
        };
        let body = context.alternatives(body);
        if recursive[n] {
            let _ = writeln!(out, "{}: {body}", names[n]);
        } else {
            // A terminal must match something; where it may match nothing, that is said where it is used.
            let _ = writeln!(out, "{0}_W: {body}\n{0}: {0}_W & /(?s:.+)/", names[n]);
        }
    }
    Ok(out)
}

/// A rule where a rule uses it: what may be empty of a terminal is said here.
fn reference(n: usize, recursive: &[bool], names: &[String], empty: &[bool]) -> String {
    if !recursive[n] && empty[n] { format!("({})?", names[n]) } else { names[n].clone() }
}

/// Which rules may be empty, of those that do not contain themselves.
fn empty(rules: &[(String, Vec<Vec<Item>>)], numbers: &HashMap<String, usize>) -> Vec<bool> {
    fn item(of: &Item, known: &[bool], numbers: &HashMap<String, usize>) -> bool {
        match of {
            Item::Text(regex) => regex.is_empty(),
            Item::Token(_) => false,
            Item::Rule(name) => numbers.get(name).is_some_and(|n| known[*n]),
            Item::Group(body) => body.iter().any(|s| s.iter().all(|i| item(i, known, numbers))),
            Item::Repeat(inner, low, _) => *low == 0 || item(inner, known, numbers),
        }
    }
    let mut known = vec![false; rules.len()];
    loop {
        let mut changed = false;
        for (n, (_, body)) in rules.iter().enumerate() {
            if !known[n] && body.iter().any(|s| s.iter().all(|i| item(i, &known, numbers))) {
                known[n] = true;
                changed = true;
            }
        }
        if !changed {
            return known;
        }
    }
}

fn collect<'i>(body: &'i [Vec<Item>], each: &mut impl FnMut(&'i Item)) {
    let mut open: Vec<&Item> = body.iter().flatten().collect();
    while let Some(item) = open.pop() {
        each(item);
        match item {
            Item::Group(body) => open.extend(body.iter().flatten()),
            Item::Repeat(item, ..) => open.push(item),
            _ => {}
        }
    }
}

fn first_missing(body: &[Vec<Item>], numbers: &HashMap<String, usize>) -> Option<String> {
    let mut missing = None;
    collect(body, &mut |item| {
        if let Item::Rule(other) = item
            && !numbers.contains_key(other)
        {
            missing = Some(other.clone());
        }
    });
    missing
}

/// Which rules contain themselves or a token, at whatever depth, or a rule that does.
fn recursive(uses: &[HashSet<usize>], mut marked: Vec<bool>) -> Vec<bool> {
    // What cannot be put in an order by its uses is in a circle or above one.
    let mut done = vec![false; uses.len()];
    loop {
        let ready: Vec<usize> =
            (0..uses.len()).filter(|&n| !done[n] && uses[n].iter().all(|&u| done[u])).collect();
        if ready.is_empty() {
            break;
        }
        for n in ready {
            done[n] = true;
            marked[n] |= uses[n].iter().any(|&u| marked[u]);
        }
    }
    (0..uses.len()).map(|n| marked[n] || !done[n]).collect()
}

struct Context<'g> {
    numbers: &'g HashMap<String, usize>,
    names: &'g [String],
    recursive: &'g [bool],
    empty: &'g [bool],
    terminal: bool,
}

impl Context<'_> {
    fn alternatives(&self, body: &[Vec<Item>]) -> String {
        let each = |items: &Vec<Item>| {
            let parts: Vec<String> = items.iter().map(|i| self.item(i)).collect();
            if parts.is_empty() { "\"\"".to_owned() } else { parts.join(" ") }
        };
        body.iter().map(each).collect::<Vec<_>>().join(" | ")
    }

    fn item(&self, item: &Item) -> String {
        match item {
            Item::Text(regex) if regex.is_empty() => "\"\"".into(),
            Item::Text(regex) => format!("/{regex}/"),
            Item::Token(token) => token.clone(),
            Item::Group(body) => format!("({})", self.alternatives(body)),
            Item::Rule(name) => {
                let n = self.numbers[name];
                if self.terminal {
                    format!("{}_W", self.names[n])
                } else {
                    reference(n, self.recursive, self.names, self.empty)
                }
            }
            Item::Repeat(item, low, high) => {
                let inner = format!("({})", self.item(item));
                match (low, high) {
                    (0, None) => format!("{inner}*"),
                    (1, None) => format!("{inner}+"),
                    (0, Some(1)) => format!("{inner}?"),
                    (low, None) => format!("{inner}{{{low},}}"),
                    (low, Some(high)) => format!("{inner}{{{low},{high}}}"),
                }
            }
        }
    }
}

struct Parser {
    chars: Vec<char>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn wrong(&self, what: &str) -> Refusal {
        let line = 1 + self.chars[..self.at.min(self.chars.len())].iter().filter(|c| **c == '\n').count();
        Refusal::new(format!("the grammar is wrong in line {line}: {what}"))
    }

    /// Passes over spaces and comments, and over ends of lines too if `lines`.
    fn blank(&mut self, lines: bool) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => self.at += 1,
                '\n' | '\r' if lines => self.at += 1,
                '#' => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                _ => break,
            }
        }
    }

    fn expect(&mut self, what: &str) -> Result<(), Refusal> {
        if self.chars[self.at..].starts_with(&what.chars().collect::<Vec<_>>()) {
            self.at += what.len();
            return Ok(());
        }
        Err(self.wrong(&format!("{what:?} is missing")))
    }

    fn name(&mut self) -> Result<String, Refusal> {
        let from = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
            self.at += 1;
        }
        if self.at == from {
            return Err(self.wrong("the name of a rule is missing"));
        }
        Ok(self.chars[from..self.at].iter().collect())
    }

    fn alternatives(&mut self, depth: usize) -> Result<Vec<Vec<Item>>, Refusal> {
        let mut all = vec![self.sequence(depth)?];
        while self.peek() == Some('|') {
            self.at += 1;
            self.blank(true);
            all.push(self.sequence(depth)?);
        }
        Ok(all)
    }

    fn sequence(&mut self, depth: usize) -> Result<Vec<Item>, Refusal> {
        let mut items = Vec::new();
        loop {
            self.blank(depth > 0);
            let item = match self.peek() {
                Some('"') => Item::Text(self.literal()?),
                Some('[') => Item::Text(self.class()?),
                Some('.') => {
                    self.at += 1;
                    Item::Text("(?s:.)".into())
                }
                Some('(') => {
                    self.at += 1;
                    let body = self.alternatives(depth + 1)?;
                    self.expect(")")?;
                    Item::Group(body)
                }
                Some('<') => self.token()?,
                Some('!') => return Err(self.wrong("tokens that must not come (!<…>) are not supported")),
                Some(c) if c.is_ascii_alphanumeric() => Item::Rule(self.name()?),
                _ => return Ok(items),
            };
            items.push(self.repeated(item)?);
        }
    }

    fn repeated(&mut self, mut item: Item) -> Result<Item, Refusal> {
        loop {
            let (low, high) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => {
                    let from = self.at + 1;
                    while self.peek().is_some_and(|c| c != '}') {
                        self.at += 1;
                    }
                    let text: String =
                        self.chars[from..self.at].iter().filter(|c| !c.is_whitespace()).collect();
                    self.repeats(&text)
                        .ok_or_else(|| self.wrong(&format!("{{{text}}} is no number of repeats")))?
                }
                _ => return Ok(item),
            };
            self.at += 1;
            // What comes no times at all is the empty text.
            item = match high {
                Some(0) => Item::Text(String::new()),
                _ => Item::Repeat(Box::new(item), low, high),
            };
        }
    }

    fn repeats(&self, text: &str) -> Option<(u32, Option<u32>)> {
        let number = |t: &str| t.parse::<u32>().ok().filter(|n| *n <= 100_000);
        match text.split_once(',') {
            None => number(text).map(|n| (n, Some(n))),
            Some((low, "")) => Some((number(low)?, None)),
            Some(("", high)) => Some((0, Some(number(high)?))),
            Some((low, high)) => {
                let (low, high) = (number(low)?, number(high)?);
                (low <= high).then_some((low, Some(high)))
            }
        }
    }

    /// `<name>` or `<[id]>`.
    fn token(&mut self) -> Result<Item, Refusal> {
        let from = self.at;
        while self.peek().is_some_and(|c| c != '>' && c != '\n') {
            self.at += 1;
        }
        if self.peek() != Some('>') {
            return Err(self.wrong("a token (<…>) is not closed"));
        }
        self.at += 1;
        let token: String = self.chars[from..self.at].iter().collect();
        Ok(Item::Token(token))
    }

    fn literal(&mut self) -> Result<String, Refusal> {
        self.at += 1;
        let mut regex = String::new();
        loop {
            match self.peek() {
                None | Some('\n') => return Err(self.wrong("a text in quotes is not closed")),
                Some('"') => break,
                Some(_) => {
                    let c = self.character()?;
                    regex += &escaped(c);
                }
            }
        }
        self.at += 1;
        Ok(regex)
    }

    fn class(&mut self) -> Result<String, Refusal> {
        self.at += 1;
        let mut regex = String::from("[");
        if self.peek() == Some('^') {
            self.at += 1;
            regex.push('^');
        }
        let mut any = false;
        loop {
            match self.peek() {
                None => return Err(self.wrong("a class of characters is not closed")),
                Some(']') => break,
                Some(_) => {
                    let low = self.character()?;
                    regex += &escaped(low);
                    if self.peek() == Some('-') && self.chars.get(self.at + 1).is_some_and(|c| *c != ']') {
                        self.at += 1;
                        let high = self.character()?;
                        if high < low {
                            return Err(self.wrong("a range of characters runs backwards"));
                        }
                        regex.push('-');
                        regex += &escaped(high);
                    }
                    any = true;
                }
            }
        }
        if !any {
            return Err(self.wrong("a class of characters is empty"));
        }
        self.at += 1;
        regex.push(']');
        Ok(regex)
    }

    /// A character, or what a backslash makes of the next ones.
    fn character(&mut self) -> Result<char, Refusal> {
        let c = self.peek().unwrap_or_default();
        self.at += 1;
        if c != '\\' {
            return Ok(c);
        }
        let kind = self.peek().unwrap_or_default();
        self.at += 1;
        let digits = match kind {
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            't' => return Ok('\t'),
            '\\' | '"' | '[' | ']' | '-' | '^' | '/' | '\'' => return Ok(kind),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return Err(self.wrong(&format!("\\{kind} is not known"))),
        };
        let hex: String = self.chars[self.at..].iter().take(digits).collect();
        let value =
            u32::from_str_radix(&hex, 16).ok().filter(|_| hex.len() == digits).and_then(char::from_u32);
        self.at += digits;
        value.ok_or_else(|| self.wrong(&format!("\\{kind}{hex} is no character")))
    }
}

/// A character in a regular expression, inside a class and outside.
fn escaped(c: char) -> String {
    if c.is_ascii_alphanumeric() { c.to_string() } else { format!("\\x{{{:X}}}", u32::from(c)) }
}
