//! Source to tokens, with the white space that tags take away.
//!
//! As transformers sets Jinja up: a block's tag takes the line feed behind it (`trim_blocks`) and the blanks in front
//! of it on its line (`lstrip_blocks`), `-` takes all white space, `+` none.

use super::Fault;

/// What the parser sees.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// Text outside of tags.
    Data(String),
    /// `{{` and `}}`
    PrintBegin,
    PrintEnd,
    /// `{%` and `%}`
    BlockBegin,
    BlockEnd,
    Name(String),
    Text(String),
    Int(i128),
    Float(f64),
    /// An operator or a bracket.
    Op(&'static str),
}

/// Longest first, so that each is found before its own beginning.
const OPERATORS: [&str; 28] = [
    "//", "**", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<", ">", "=", ".", ":", "|", ",", ";",
    "(", ")", "[", "]", "{", "}", "!", "@",
];

pub(super) struct Lexer<'a> {
    source: &'a str,
    at: usize,
    line: usize,
    /// Whether what came last ended a line.
    line_starts: bool,
    out: Vec<(Token, usize)>,
}

/// White space as Python has it.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

impl<'a> Lexer<'a> {
    /// All tokens with their lines. `source` has line feeds alone.
    pub(super) fn run(source: &'a str) -> Result<Vec<(Token, usize)>, Fault> {
        let mut lexer = Lexer { source, at: 0, line: 1, line_starts: true, out: Vec::new() };
        while lexer.at < source.len() {
            lexer.data()?;
        }
        Ok(lexer.out)
    }

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn fail<T>(&self, what: impl Into<String>) -> Result<T, Fault> {
        Err(Fault::parse(self.line, what))
    }

    fn skip(&mut self, bytes: usize) {
        let passed = &self.rest()[..bytes];
        self.line += passed.matches('\n').count();
        self.line_starts = passed.ends_with('\n');
        self.at += bytes;
    }

    fn push(&mut self, token: Token) {
        self.out.push((token, self.line));
    }

    /// Text up to the next tag, and the tag.
    fn data(&mut self) -> Result<(), Fault> {
        let rest = self.rest();
        // One search, so that many tags do not each look for one that never comes.
        let begins = |at: &usize| matches!(rest.as_bytes().get(at + 1), Some(b'{' | b'%' | b'#'));
        let found = rest.match_indices('{').map(|m| m.0).find(begins);
        let Some((at, tag)) = found.map(|at| (at, &rest[at..at + 2])) else {
            self.push(Token::Data(rest.to_owned()));
            self.skip(rest.len());
            return Ok(());
        };
        let sign = rest[at + 2..].chars().next().filter(|c| ['-', '+'].contains(c));
        let text = self.before(&rest[..at], sign, tag != "{{");
        if !text.is_empty() {
            self.push(Token::Data(text.to_owned()));
        }
        self.skip(at + 2 + usize::from(sign.is_some()));
        match tag {
            "{#" => self.comment(),
            "{{" => self.tag(Token::PrintBegin, Token::PrintEnd, "}}"),
            _ if self.keyword("raw") => self.raw(),
            _ => self.tag(Token::BlockBegin, Token::BlockEnd, "%}"),
        }
    }

    /// What is left of the text in front of a tag with this sign.
    fn before<'t>(&self, text: &'t str, sign: Option<char>, block: bool) -> &'t str {
        match sign {
            Some('-') => text.trim_end_matches(is_space),
            None if block => {
                let start = text.rfind('\n').map_or(0, |n| n + 1);
                let own_line = start > 0 || self.line_starts;
                if own_line && text[start..].chars().all(is_space) { &text[..start] } else { text }
            }
            _ => text,
        }
    }

    /// Whether the block that begins here is `{% NAME %}`.
    fn keyword(&self, name: &str) -> bool {
        let rest = self.rest().trim_start_matches(is_space);
        let Some(rest) = rest.strip_prefix(name) else { return false };
        let rest = rest.trim_start_matches(is_space);
        rest.starts_with("%}") || rest.starts_with("-%}")
    }

    /// Passes the end of a tag and what it takes behind it; whether there is one here.
    fn close(&mut self, end: &str, trims: bool) -> bool {
        let rest = self.rest();
        let (sign, tail) = match rest.chars().next() {
            Some(c @ ('-' | '+')) => (Some(c), &rest[1..]),
            _ => (None, rest),
        };
        let Some(behind) = tail.strip_prefix(end).filter(|_| trims || sign != Some('+')) else {
            return false;
        };
        let taken = match sign {
            Some('-') => behind.len() - behind.trim_start_matches(is_space).len(),
            None if trims && behind.starts_with('\n') => 1,
            _ => 0,
        };
        self.skip(rest.len() - behind.len() + taken);
        true
    }

    fn comment(&mut self) -> Result<(), Fault> {
        let Some(at) = self.rest().find("#}") else { return self.fail("a comment has no end") };
        let signed = at > 0 && ["-", "+"].iter().any(|s| self.rest()[..at].ends_with(s));
        self.skip(at - usize::from(signed));
        self.close("#}", true);
        Ok(())
    }

    fn raw(&mut self) -> Result<(), Fault> {
        let end = self.rest().find("%}").unwrap_or(0);
        let minus = self.rest()[..end].ends_with('-');
        self.skip(end + 2);
        if minus {
            let rest = self.rest();
            self.skip(rest.len() - rest.trim_start_matches(is_space).len());
        }
        let mut from = 0;
        loop {
            let rest = self.rest();
            let Some(at) = rest[from..].find("{%").map(|at| from + at) else {
                return self.fail("a raw block has no end");
            };
            let sign = rest[at + 2..].chars().next().filter(|c| ['-', '+'].contains(c));
            let inside = at + 2 + usize::from(sign.is_some());
            let name = rest[inside..].trim_start_matches(is_space);
            if let Some(tail) = name.strip_prefix("endraw") {
                let tail = tail.trim_start_matches(is_space);
                let text = self.before(&rest[..at], sign, true).to_owned();
                self.push(Token::Data(text));
                self.skip(rest.len() - tail.len());
                return if self.close("%}", true) { Ok(()) } else { self.fail("endraw has no end") };
            }
            from = inside;
        }
    }

    /// The inside of a tag.
    fn tag(&mut self, begin: Token, close: Token, end: &str) -> Result<(), Fault> {
        self.push(begin);
        let mut open: Vec<&str> = Vec::new();
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start_matches(is_space).len();
            self.skip(blank);
            let rest = self.rest();
            if rest.is_empty() {
                return self.fail("a tag has no end");
            }
            if open.is_empty() {
                let line = self.line;
                if self.close(end, end == "%}") {
                    self.out.push((close, line));
                    return Ok(());
                }
            }
            let c = rest.chars().next().unwrap_or(' ');
            match c {
                '\'' | '"' => self.string(c)?,
                '0'..='9' => self.number()?,
                c if c.is_alphabetic() || c == '_' => {
                    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
                    self.push(Token::Name(rest[..end].to_owned()));
                    self.skip(end);
                }
                _ => {
                    let Some(op) = OPERATORS.into_iter().find(|op| rest.starts_with(op)) else {
                        return self.fail(format!("unexpected {c:?}"));
                    };
                    match op {
                        "(" => open.push(")"),
                        "[" => open.push("]"),
                        "{" => open.push("}"),
                        ")" | "]" | "}" if open.pop() != Some(op) => {
                            return self.fail(format!("unexpected {op:?}"));
                        }
                        _ => {}
                    }
                    self.push(Token::Op(op));
                    self.skip(op.len());
                }
            }
        }
    }

    /// A string with Python's escapes.
    fn string(&mut self, mark: char) -> Result<(), Fault> {
        let rest = self.rest();
        let mut chars = rest.char_indices().skip(1);
        let mut text = String::new();
        loop {
            let Some((at, c)) = chars.next() else { return self.fail("a string has no end") };
            match c {
                c if c == mark => {
                    self.push(Token::Text(text));
                    self.skip(at + 1);
                    return Ok(());
                }
                '\\' => {
                    let taken = self.escape(&rest[at + 1..], &mut text)?;
                    let until = at + 1 + taken;
                    while chars.clone().next().is_some_and(|(i, _)| i < until) {
                        chars.next();
                    }
                }
                c => text.push(c),
            }
        }
    }

    /// What stands behind a backslash; how many bytes of it were taken.
    fn escape(&self, rest: &str, text: &mut String) -> Result<usize, Fault> {
        let Some(c) = rest.chars().next() else { return self.fail("a string has no end") };
        let plain = match c {
            '\n' => return Ok(1),
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'v' => '\u{b}',
            '\\' | '\'' | '"' => c,
            'x' | 'u' | 'U' => {
                let digits = [('x', 2), ('u', 4), ('U', 8)].into_iter().find(|d| d.0 == c).map_or(2, |d| d.1);
                let hex = rest.get(1..=digits).and_then(|h| u32::from_str_radix(h, 16).ok());
                match hex.and_then(char::from_u32) {
                    Some(c) => text.push(c),
                    None => return self.fail(format!("a string has a \\{c} escape that is no character")),
                }
                return Ok(1 + digits);
            }
            '0'..='7' => {
                let digits = rest.bytes().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
                let value = u32::from_str_radix(&rest[..digits], 8).unwrap_or(0);
                text.extend(char::from_u32(value));
                return Ok(digits);
            }
            'N' => return self.fail("a string has a \\N escape, which is not supported"),
            c => {
                // Python keeps the backslash of an escape that it does not know.
                text.push('\\');
                text.push(c);
                return Ok(c.len_utf8());
            }
        };
        text.push(plain);
        Ok(1)
    }

    fn number(&mut self) -> Result<(), Fault> {
        let rest = self.rest();
        let lower = rest.get(..2).unwrap_or("").to_ascii_lowercase();
        if let Some(radix) =
            [("0x", 16), ("0o", 8), ("0b", 2)].into_iter().find(|r| r.0 == lower).map(|r| r.1)
        {
            let end =
                rest[2..].find(|c: char| !(c.is_digit(radix) || c == '_')).map_or(rest.len(), |n| n + 2);
            let digits = rest[2..end].replace('_', "");
            return match i128::from_str_radix(&digits, radix) {
                Ok(value) => {
                    self.push(Token::Int(value));
                    self.skip(end);
                    Ok(())
                }
                Err(_) => self.fail(format!("{:?} is no number", &rest[..end.min(40)])),
            };
        }
        let digits = |text: &str| text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'_').count();
        let mut end = digits(rest);
        let mut float = false;
        // Behind a point, `1.2.3` has a field.
        let field = matches!(self.out.last(), Some((Token::Op("."), _)));
        if !field && rest[end..].starts_with('.') && digits(&rest[end + 1..]) > 0 {
            end += 1 + digits(&rest[end + 1..]);
            float = true;
        }
        if !field && rest[end..].starts_with(['e', 'E']) {
            let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
            let exponent = digits(&rest[end + 1 + sign..]);
            if exponent > 0 {
                end += 1 + sign + exponent;
                float = true;
            }
        }
        let text = rest[..end].replace('_', "");
        let token = match float {
            true => text.parse().map(Token::Float).ok(),
            false => text.parse().map(Token::Int).ok(),
        };
        match token {
            Some(token) => {
                self.push(token);
                self.skip(end);
                Ok(())
            }
            None => self.fail("a number has too many digits"),
        }
    }
}
