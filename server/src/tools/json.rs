//! Checks JSON letter by letter.

/// Levels of a value.
const LEVELS: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Value,
    /// Behind `[`.
    First,
    /// Behind `{`.
    KeyOrEnd,
    Key,
    Colon,
    /// Behind a value.
    Next,
    String,
    Escape,
    Hex(u8),
    Word(&'static str),
    Minus,
    Zero,
    Digits,
    Dot,
    Fraction,
    E,
    Sign,
    Exponent,
    Done,
}

/// A value that is being read.
#[derive(Debug, Clone)]
pub(super) struct Json {
    open: Vec<char>,
    at: At,
    key: bool,
}

/// What a letter did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// It belongs to the value, which goes on.
    More,
    /// It was the last of the value.
    Last,
    /// It belongs to a string, but only escaped.
    Raw,
    /// It cannot stand there.
    Wrong,
}

impl Json {
    pub(super) fn new() -> Json {
        Json { open: Vec::new(), at: At::Value, key: false }
    }

    /// Whether anything but white space was taken.
    pub(super) fn begun(&self) -> bool {
        self.at != At::Value || !self.open.is_empty()
    }

    /// Takes a letter. Numbers and words end only inside of something, so the outermost value is an object, an array or a
    /// string.
    pub(super) fn push(&mut self, c: char) -> Read {
        let space = matches!(c, ' ' | '\n' | '\r' | '\t');
        match self.at {
            At::Done => return Read::Wrong,
            At::String => return self.string(c),
            At::Escape => {
                self.at = match c {
                    'u' => At::Hex(4),
                    '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' => At::String,
                    _ => return Read::Wrong,
                }
            }
            At::Hex(n) if c.is_ascii_hexdigit() => self.at = if n == 1 { At::String } else { At::Hex(n - 1) },
            At::Word(rest) if rest.starts_with(c) => {
                self.at = if rest.len() == 1 { At::Next } else { At::Word(&rest[1..]) }
            }
            At::Hex(_) | At::Word(_) => return Read::Wrong,
            At::Minus | At::Zero | At::Digits | At::Dot | At::Fraction | At::E | At::Sign | At::Exponent => {
                return self.number(c);
            }
            _ if space => {}
            At::Value => return self.value(c),
            At::First if c == ']' => return self.close(),
            At::First => return self.value(c),
            At::KeyOrEnd if c == '}' => return self.close(),
            At::KeyOrEnd | At::Key if c == '"' => (self.at, self.key) = (At::String, true),
            At::Colon if c == ':' => self.at = At::Value,
            At::Next => return self.next(c),
            At::KeyOrEnd | At::Key | At::Colon => return Read::Wrong,
        }
        Read::More
    }

    fn string(&mut self, c: char) -> Read {
        match c {
            '"' if self.key => (self.at, self.key) = (At::Colon, false),
            '"' if self.open.is_empty() => {
                self.at = At::Done;
                return Read::Last;
            }
            '"' => self.at = At::Next,
            '\\' => self.at = At::Escape,
            c if c < ' ' => return Read::Raw,
            _ => {}
        }
        Read::More
    }

    fn value(&mut self, c: char) -> Read {
        self.at = match c {
            '"' => At::String,
            '{' | '[' if self.open.len() >= LEVELS => return Read::Wrong,
            '{' => At::KeyOrEnd,
            '[' => At::First,
            't' => At::Word("rue"),
            'f' => At::Word("alse"),
            'n' => At::Word("ull"),
            '-' => At::Minus,
            '0' => At::Zero,
            '1'..='9' => At::Digits,
            _ => return Read::Wrong,
        };
        if matches!(c, '{' | '[') {
            self.open.push(c);
        }
        Read::More
    }

    fn number(&mut self, c: char) -> Read {
        self.at = match (self.at, c) {
            (At::Minus, '0') => At::Zero,
            (At::Minus, '1'..='9') | (At::Digits, '0'..='9') => At::Digits,
            (At::Zero | At::Digits, '.') => At::Dot,
            (At::Dot | At::Fraction, '0'..='9') => At::Fraction,
            (At::Zero | At::Digits | At::Fraction, 'e' | 'E') => At::E,
            (At::E, '+' | '-') => At::Sign,
            (At::E | At::Sign | At::Exponent, '0'..='9') => At::Exponent,
            (At::Zero | At::Digits | At::Fraction | At::Exponent, _) => {
                self.at = At::Next;
                return if c.is_ascii_whitespace() { Read::More } else { self.next(c) };
            }
            _ => return Read::Wrong,
        };
        Read::More
    }

    fn next(&mut self, c: char) -> Read {
        match (c, self.open.last()) {
            (',', Some('{')) => self.at = At::Key,
            (',', Some('[')) => self.at = At::Value,
            ('}', Some('{')) | (']', Some('[')) => return self.close(),
            _ => return Read::Wrong,
        }
        Read::More
    }

    fn close(&mut self) -> Read {
        self.open.pop();
        self.at = if self.open.is_empty() { At::Done } else { At::Next };
        if self.open.is_empty() { Read::Last } else { Read::More }
    }
}

/// A letter as it stands in a string of JSON.
pub(super) fn escaped(c: char) -> String {
    let text = serde_json::to_string(c.encode_utf8(&mut [0; 4])).unwrap_or_default();
    text[1..text.len() - 1].to_owned()
}
