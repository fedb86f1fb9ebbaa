//! Keeps a model that is forced into JSON from going on for ever where the schema lets it.

/// Digits in a row; no double needs more than 17.
const DIGITS: u32 = 20;
/// Digits of an exponent: what is written stays a finite double.
const EXPONENT: u32 = 2;
/// White space between two tokens of JSON: so many spaces, or a line end and so many for each level.
const SPACES: u32 = 2;
const INDENT: u32 = 4;
/// Arrays and objects inside each other; readers of JSON give up at 128.
const LEVELS: u32 = 100;
/// Bytes of a string.
const STRING: u32 = 128 << 10;
/// Repeats of one byte, or of a pair, in a string.
const REPEATS: u32 = 512;

/// Where in JSON a text stands, as far as the bounds ask.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bounds {
    /// Whether anything but white space came: what stands before is the grammar's to bound.
    begun: bool,
    in_string: bool,
    escaped: bool,
    exponent: bool,
    digits: u32,
    /// White space in a row, and whether there is a line end in it.
    spaces: u32,
    line: bool,
    levels: u32,
    string: u32,
    last: [u8; 2],
    repeats: [u32; 2],
    passed: bool,
}

impl Bounds {
    /// Takes a part of the text.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for &b in bytes {
            if self.in_string { self.string(b) } else { self.outside(b) }
        }
    }

    fn string(&mut self, b: u8) {
        if !self.escaped && b == b'"' {
            let Bounds { levels, passed, .. } = *self;
            *self = Bounds { begun: true, levels, passed, ..Bounds::default() };
            return;
        }
        self.escaped = !self.escaped && b == b'\\';
        self.string += 1;
        for (back, repeats) in self.repeats.iter_mut().enumerate() {
            *repeats = if self.last[back] == b { *repeats + 1 } else { 0 };
        }
        self.last = [b, self.last[0]];
        self.passed |= self.string > STRING || self.repeats.iter().any(|r| *r > REPEATS);
    }

    fn outside(&mut self, b: u8) {
        match b {
            b'"' => self.in_string = true,
            b'[' | b'{' => self.levels += 1,
            b']' | b'}' => self.levels = self.levels.saturating_sub(1),
            _ => {}
        }
        match b {
            _ if !self.begun => self.begun = !b.is_ascii_whitespace(),
            b'\n' => {
                self.passed |= self.line;
                (self.line, self.spaces) = (true, 0);
            }
            // It stands in front of a line end.
            b'\r' => self.passed |= self.line,
            b' ' | b'\t' => self.spaces += 1,
            _ => (self.line, self.spaces) = (false, 0),
        }
        let spaces = if self.line { INDENT * self.levels } else { SPACES };
        let number = b.is_ascii_digit() || (self.exponent && matches!(b, b'+' | b'-'));
        self.exponent = (self.exponent && number) || (self.digits > 0 && matches!(b, b'e' | b'E'));
        self.digits = if b.is_ascii_digit() { self.digits + 1 } else { 0 };
        let digits = if self.exponent { EXPONENT } else { DIGITS };
        self.passed |= self.digits > digits || self.spaces > spaces || self.levels > LEVELS;
    }

    /// Whether some token may pass a bound, so that it is worth to look at each.
    fn is_near(&self) -> bool {
        let most = super::compile::LONGEST_STEP;
        !self.in_string || self.string + most > STRING || self.repeats.iter().any(|r| r + most > REPEATS)
    }

    /// Takes away the tokens that pass a bound, unless no other is left.
    pub(super) fn filter<'v>(&self, bits: &mut [u32], bytes: impl Fn(u32) -> &'v [u8]) {
        if !self.is_near() {
            return;
        }
        let mut left = false;
        let mut out = Vec::new();
        for (i, word) in bits.iter().enumerate() {
            let mut rest = *word;
            while rest != 0 {
                let id = i as u32 * 32 + rest.trailing_zeros();
                rest &= rest - 1;
                let mut after = Bounds { passed: false, ..*self };
                after.push(bytes(id));
                if after.passed { out.push(id) } else { left = true }
            }
        }
        if left {
            out.iter().for_each(|id| bits[*id as usize / 32] &= !(1 << (id % 32)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Bounds;

    fn passes(text: &str) -> bool {
        let mut b = Bounds::default();
        b.push(text.as_bytes());
        b.passed
    }

    #[test]
    fn each_bound_is_where_it_is_said_to_be() {
        let cases = [
            ("1".repeat(20), "1".repeat(21)),
            ("-1.".to_owned() + &"1".repeat(20), "-1.".to_owned() + &"1".repeat(21)),
            ("1.5e-12".into(), "1.5e-123".into()),
            ("1E+99".into(), "1E100".into()),
            ("{\n    \"a\":  1,\r\n    \"b\": [\n        1\n    ]\n}\n".into(), "{\n     ".into()),
            ("{ \"a\" : 1 }".into(), "{ \"a\" :   1".into()),
            ("[\n\t1,\n\t2]".into(), "[\n\n".into()),
            ("{}\n".into(), "{}\n ".into()),
            ("\n\n    {".into(), "\n\n{\n\n".into()),
            ("[".repeat(100), "[".repeat(101)),
            ("[]".repeat(1000), "[{".repeat(51)),
            (format!("\"{}", "-".repeat(513)), format!("\"{}", "-".repeat(515))),
            (format!("\"{}", "\\n".repeat(257)), format!("\"{}", "\\n".repeat(258))),
            (format!("\"{}", "\\\"1234567890".repeat(10_000)), format!("\"{}", "abcd".repeat(32_769))),
            ("[1,2,3,4,5,6,7,8,9,10,11,12]".into(), "1e5,1e555".into()),
        ];
        for (inside, outside) in cases {
            assert!(!passes(&inside), "{}", &inside[..inside.len().min(40)]);
            assert!(passes(&outside), "{}", &outside[..outside.len().min(40)]);
        }
    }

    #[test]
    fn a_bound_gives_way_where_nothing_else_is_allowed() {
        let mut b = Bounds::default();
        b.push("1".repeat(20).as_bytes());
        let bytes = |id: u32| [&b"7"[..], b",", b"8"][id as usize];
        let mut bits = [0b111];
        b.filter(&mut bits, bytes);
        assert_eq!(bits, [0b010]);
        let mut bits = [0b101];
        b.filter(&mut bits, bytes);
        assert_eq!(bits, [0b101]);
    }
}
