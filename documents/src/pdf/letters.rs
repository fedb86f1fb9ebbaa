//! Letters in the order in which they are drawn, and where words and lines end.

/// A letter: what it is, where it stands, and where the next one would.
pub(super) struct Letter<'a> {
    pub(super) text: &'a str,
    pub(super) at: (f64, f64),
    pub(super) next: (f64, f64),
    pub(super) size: f64,
}

/// The text so far.
#[derive(Default)]
pub(super) struct Letters {
    pub(super) text: String,
    /// Where the next letter of the line would stand, and the size of the last one.
    next: Option<((f64, f64), f64)>,
}

impl Letters {
    pub(super) fn push(&mut self, letter: &Letter<'_>) {
        let (x, y) = letter.at;
        if !(x.is_finite() && y.is_finite() && letter.size.is_finite()) {
            return;
        }
        let between = self.gap(letter.at, letter.size.max(1e-3));
        self.next = Some((letter.next, letter.size.max(1e-3)));
        if between.starts_with('\n') && !self.text.is_empty() {
            let end = self.text.trim_end_matches([' ', '\n']).len();
            // An end that was seen already stays as long as it is.
            if !self.text[end..].contains(between) {
                self.text.truncate(end);
                self.text += between;
            }
        } else if !(self.text.is_empty()
            || self.text.ends_with(char::is_whitespace)
            || letter.text.starts_with(' '))
        {
            self.text += between;
        }
        self.text.extend(letter.text.chars().map(|c| if c.is_control() { ' ' } else { c }));
    }

    /// What stands between the last letter and one at `here`: nothing, a space, a line's or a paragraph's end.
    fn gap(&self, here: (f64, f64), size: f64) -> &'static str {
        let Some((next, last)) = self.next else { return "" };
        let size = size.max(last);
        let (across, down) = (here.0 - next.0, (here.1 - next.1).abs());
        if down > 1.9 * size {
            "\n\n"
        } else if down > 0.6 * size || across < -2.0 * size {
            "\n"
        } else if across > 0.18 * size {
            " "
        } else {
            ""
        }
    }
}

/// Words that a line's end cut are whole again, and ligatures are letters.
pub(super) fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let line = line.trim_end();
        let cut = line.strip_suffix(['-', '\u{ad}', '\u{2010}']).filter(|rest| {
            let letters = rest.ends_with(char::is_alphabetic);
            letters && lines.peek().is_some_and(|next| next.starts_with(char::is_lowercase))
        });
        match cut {
            Some(rest) => out += rest,
            None => {
                out += line;
                out.push('\n');
            }
        }
    }
    for (from, to) in [("ﬀ", "ff"), ("ﬁ", "fi"), ("ﬂ", "fl"), ("ﬃ", "ffi"), ("ﬄ", "ffl"), ("\u{a0}", " ")]
    {
        out = out.replace(from, to);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::tidy;

    #[test]
    fn words_that_were_cut_are_whole() {
        assert_eq!(
            tidy("a docu-\nment of\u{a0}ﬁne art  \nwell-\nKnown\nx -\ny"),
            "a document of fine art\nwell-\nKnown\nx -\ny\n"
        );
    }
}
