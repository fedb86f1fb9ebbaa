//! Which option an answer names, by rules. Each rule has a name, which stands in the results; [`RULES`] lists them in
//! the order in which they are tried. A later answer of the same rank corrects an earlier one.

use super::words::{
    BLAME, FAINT_PRAISE, MARKS, PRAISE, closing, in_word, instead, negated, normal, sentence_start,
    skip_marks, starts_with, strip,
};
use crate::question::LETTERS;

/// The rules, in order, with what each takes.
pub const RULES: [(&str, &str); 9] = [
    (
        "unfinished",
        "Thinking that begins and never ends holds no answer; behind thinking, only what follows counts.",
    ),
    (
        "said",
        "The last of: a \\boxed{...}; what follows \"answer is\", \"answer:\", \"final answer\", \"correct option\", \
         \"I choose\" and the like; what is said to be correct, right or best.",
    ),
    ("alone", "A text or a last line that is a letter, with its option's text or without."),
    (
        "begins",
        "A text whose first line begins with a letter and a mark behind it, where no other line begins with another.",
    ),
    ("bold", "The last bold text that is a letter."),
    (
        "text",
        "An option's text: what the answer begins with, else the only one in its last line, else the only one in all of it.",
    ),
    ("lone letter", "The only letter of an option in the last sentence."),
    ("several", "Where the place that decides names two options, there is no answer but several."),
    ("none", "Nothing of the above: a refusal, a question in return, an empty text."),
];

/// What an answer names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// This option, 0 for the first.
    One(usize),
    /// More than one.
    Several,
    /// None.
    None,
}

/// An answer as read, with the rule that read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// What it names.
    pub choice: Choice,
    /// The rule, one of [`RULES`].
    pub rule: &'static str,
}

impl Reading {
    fn of(choice: Choice, rule: &'static str) -> Reading {
        Reading { choice, rule: if choice == Choice::Several { "several" } else { rule } }
    }

    /// For results: a letter, `MULTIPLE_ANSWERS` or `NO_ANSWER`.
    pub fn label(&self) -> String {
        match self.choice {
            Choice::One(i) => LETTERS[i].to_string(),
            Choice::Several => "MULTIPLE_ANSWERS".to_owned(),
            Choice::None => "NO_ANSWER".to_owned(),
        }
    }
}

/// What comes behind the thinking; `None` where that never ends.
pub fn after_thinking(text: &str) -> Option<&str> {
    match text.rfind("</think>") {
        Some(at) => Some(&text[at + "</think>".len()..]),
        None if text.contains("<think>") => None,
        None => Some(text),
    }
}

/// Reads which of `options` an answer names.
pub fn choice(answer: &str, options: &[String]) -> Reading {
    let Some(text) = after_thinking(answer) else { return Reading::of(Choice::None, "unfinished") };
    let text = text.trim();
    let r = Reader { options, normal: options.iter().map(|o| normal(o)).collect() };
    let rules: [(&str, &dyn Fn(&str) -> Option<Choice>); 6] = [
        ("said", &|t| r.said(t)),
        ("alone", &|t| r.alone(t)),
        ("begins", &|t| r.begins(t)),
        ("bold", &|t| r.bold(t)),
        ("text", &|t| r.option_text(t)),
        ("lone letter", &|t| r.lone_letter(t)),
    ];
    for (name, rule) in rules {
        if let Some(choice) = rule(text) {
            return Reading::of(choice, name);
        }
    }
    Reading::of(Choice::None, "none")
}

struct Reader<'a> {
    options: &'a [String],
    normal: Vec<String>,
}

impl Reader<'_> {
    /// The last of what is boxed, announced or praised.
    fn said(&self, text: &str) -> Option<Choice> {
        // ASCII lowering keeps byte offsets.
        let lower = text.to_ascii_lowercase();
        let mut found: Vec<(usize, Choice)> = Vec::new();
        for (at, _) in lower.match_indices("boxed{") {
            let inner = &text[at + "boxed{".len()..];
            let end = closing(inner);
            found.extend(self.at(&inner[..end], true).map(|c| (at, c)));
        }
        for mark in MARKS {
            for (at, _) in lower.match_indices(mark) {
                let glued = lower[..at].chars().next_back().is_some_and(in_word);
                let behind = &text[at + mark.len()..];
                let plural = behind.starts_with('s') && !behind.starts_with("s:");
                if !glued && !plural && !negated(&lower[..at]) {
                    let place = at + mark.len();
                    let named = self.at(behind, false).or_else(|| self.at(instead(behind)?, false));
                    found.extend(named.map(|c| (place, c)));
                }
            }
        }
        let praised = |praise: &&str, found: &mut Vec<(usize, Choice)>| {
            for (at, _) in lower.match_indices(praise) {
                let start = sentence_start(&text[..at]);
                found.extend(self.subject_of(&text[start..at]).map(|c| (start, c)));
            }
        };
        PRAISE.iter().for_each(|praise| praised(praise, &mut found));
        if found.is_empty() {
            FAINT_PRAISE.iter().for_each(|praise| praised(praise, &mut found));
        }
        found.into_iter().max_by_key(|(at, _)| *at).map(|(_, c)| c)
    }

    /// The option that `text` begins with, behind markup and words that mean nothing: by letter or by its text.
    /// `strict` allows no words.
    fn at(&self, text: &str, strict: bool) -> Option<Choice> {
        let mut rest = text;
        loop {
            if let Some((i, behind)) = self.letter(rest).or_else(|| self.small_letter(rest, strict)) {
                let lower = behind.to_ascii_lowercase();
                let lower = lower.trim_start_matches(|c: char| !c.is_alphanumeric());
                if BLAME.iter().any(|b| lower.starts_with(b)) {
                    return None;
                }
                return Some(self.and_another(i, behind));
            }
            if let Some(i) = self.begins_with_option(rest) {
                return Some(Choice::One(i));
            }
            rest = skip_marks(rest, strict)?;
        }
    }

    /// A small letter between words, which behind words that announce one is no word itself; `a` and `i` may be one.
    fn small_letter<'t>(&self, text: &'t str, strict: bool) -> Option<(usize, &'t str)> {
        let first = text.chars().next().filter(|c| c.is_ascii_lowercase() && !matches!(c, 'a' | 'i'))?;
        let behind = &text[1..];
        let i = LETTERS[..self.options.len()].iter().position(|l| *l == first.to_ascii_uppercase())?;
        (!strict && behind.starts_with([' ', ',', ';', ':'])).then_some((i, behind))
    }

    /// A letter of an option that stands alone at the beginning, with what follows it.
    fn letter<'t>(&self, text: &'t str) -> Option<(usize, &'t str)> {
        let mut chars = text.chars();
        let first = chars.next()?;
        let behind = chars.as_str();
        let next = behind.chars().next();
        let then = behind.chars().nth(1);
        if next.is_some_and(|c| {
            in_word(c)
                || "'’".contains(c) && then.is_some_and(in_word)
                || c == '-' && !behind.starts_with("- ")
        }) || next == Some('_') && behind.len() > 1 && behind[1..].starts_with(char::is_alphanumeric)
        {
            return None;
        }
        let small = first.is_ascii_lowercase();
        if small && !matches!(next, Some(')' | '}' | ']' | '.' | '*') | None) {
            return None;
        }
        let i = LETTERS[..self.options.len()].iter().position(|l| *l == first.to_ascii_uppercase())?;
        // An article or a pronoun rather than a letter.
        if matches!(first, 'A' | 'I') && next == Some(' ') {
            let word: String = behind.trim_start().chars().take_while(|c| c.is_alphanumeric()).collect();
            const GO_ON: [&str; 16] = [
                "and", "or", "because", "since", "as", "is", "with", "for", "which", "based", "due", "but",
                "not", "are", "in", "given",
            ];
            if word.starts_with(char::is_lowercase) && !GO_ON.contains(&word.as_str()) {
                return None;
            }
        }
        Some((i, behind))
    }

    /// Option `i`, unless another one is named in the same breath.
    fn and_another(&self, i: usize, behind: &str) -> Choice {
        let closed = behind.trim_start_matches([')', '*', '_', ']', '}', '"', '\'', '`', '.', ' ']);
        // What stands between is at most the option's own text.
        let own = self.options[i].as_str();
        let behind_own = closed.trim_start_matches('(').strip_prefix(own);
        let closed = behind_own.map_or(closed, |r| r.trim_start_matches([')', '*', '_', ' ']));
        const JOINS: [&str; 17] = [
            ", and ",
            ", or ",
            "and/or ",
            "and ",
            "or ",
            "as well as ",
            "(or ",
            "(and ",
            "& ",
            "&",
            "+ ",
            "+",
            "/ ",
            "/",
            ", ",
            ",",
            "; ",
        ];
        for join in JOINS {
            let Some(rest) = closed.strip_prefix(join) else { continue };
            let rest = rest.trim_start_matches(['(', '*', '_', '[', '"', ' ']);
            let rest = rest.strip_prefix("option ").or(rest.strip_prefix("Option ")).unwrap_or(rest);
            let rest = rest.trim_start_matches(['(', '*', '_', '[', '"', ' ']);
            let Some((other, end)) = self.letter(rest) else { break };
            let word: String = end
                .trim_start_matches([')', '*', '_', '.', ' '])
                .chars()
                .take_while(|c| c.is_alphabetic())
                .collect();
            let verb =
                ["is", "was", "has", "would", "cannot", "can", "isn", "does", "s"].contains(&word.as_str());
            if other != i && !verb {
                return Choice::Several;
            }
            break;
        }
        Choice::One(i)
    }

    /// The option that is the subject of a sentence: it begins with its letter or text, or says "option B" somewhere.
    fn subject_of(&self, sentence: &str) -> Option<Choice> {
        let lower = sentence.to_ascii_lowercase();
        if lower.contains("not ")
            || lower.contains("neither")
            || lower.contains("none")
            || lower.contains(" if ")
        {
            return None;
        }
        if let Some(choice) = self.at(sentence, false) {
            return Some(choice);
        }
        let marks = ["option ", "choice ", "answer "];
        let at = marks.iter().filter_map(|m| lower.rfind(m).map(|at| at + m.len())).max()?;
        self.at(&sentence[at..], true)
    }

    /// A text, or its last line, that is nothing but a letter, or a letter and its option's text.
    fn alone(&self, text: &str) -> Option<Choice> {
        let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
        let last = lines.last()?;
        let line = strip(last);
        let named = ["option ", "choice ", "letter "].iter().find(|w| starts_with(line, w));
        let line = named.map_or(line, |w| strip(&line[w.len()..]));
        let (i, behind) = self.letter(line)?;
        if let choice @ Choice::Several = self.and_another(i, behind) {
            return Some(choice);
        }
        let rest = normal(behind);
        let own = &self.normal[i];
        if rest.is_empty() || rest == *own {
            // The last of a list of all options is no answer.
            let listed = lines.iter().filter(|l| self.letter(strip(l)).is_some()).count();
            return (listed == 1 || rest.is_empty() && lines.len() == 1).then_some(Choice::One(i));
        }
        None
    }

    /// A first line that begins with a letter and a mark, where no other line begins with another letter.
    fn begins(&self, text: &str) -> Option<Choice> {
        let marked = |line: &str| {
            let (i, behind) = self.letter(strip(line))?;
            let mark = behind.trim_start_matches('*').starts_with(['.', ')', ':', ',', ';', ']']);
            (mark || behind.trim().is_empty() || line.trim_start().starts_with(['*', '(', '[']))
                .then(|| (i, self.and_another(i, behind)))
        };
        let mut lines = text.lines().filter(|l| !l.trim().is_empty());
        let (first, choice) = marked(lines.next()?)?;
        let other = lines.filter_map(marked).any(|(i, _)| i != first);
        (!other).then_some(choice)
    }

    /// The last bold text that is a letter, with or without its option's text.
    fn bold(&self, text: &str) -> Option<Choice> {
        let parts: Vec<&str> = text.split("**").collect();
        // Every second part is bold.
        let bold = parts.iter().enumerate().filter(|(i, _)| i % 2 == 1 && *i + 1 < parts.len());
        let of = |part: &str| {
            let (i, behind) = self.letter(strip(part))?;
            let rest = normal(behind);
            (rest.is_empty() || rest == self.normal[i]).then(|| self.and_another(i, behind))
        };
        bold.filter_map(|(_, part)| of(part)).next_back()
    }

    /// The longest option whose text `text` begins with, as whole words.
    fn begins_with_option(&self, text: &str) -> Option<usize> {
        let text = normal(text.get(..400).unwrap_or(text));
        let fits = |o: &str| {
            !o.is_empty()
                && text.strip_prefix(o).is_some_and(|r| !r.starts_with(|c: char| c.is_alphanumeric()))
        };
        let all = self.normal.iter().enumerate().filter(|(_, o)| fits(o));
        all.max_by_key(|(_, o)| o.len()).map(|(i, _)| i)
    }

    /// An option's text: at the beginning, alone in the last line, alone in all of it.
    fn option_text(&self, text: &str) -> Option<Choice> {
        if let Some(i) = self.begins_with_option(strip(text)) {
            return Some(Choice::One(i));
        }
        let last = text.lines().rev().find(|l| !l.trim().is_empty())?;
        // The last of a list of all options is no answer.
        let last = if self.ends_in_a_list(text) { text } else { last };
        for part in [last, text] {
            match self.named(part).as_slice() {
                [] => {}
                [one] => return Some(Choice::One(*one)),
                // A sentence that names several decides nothing, and neither does the whole.
                _ => return None,
            }
        }
        None
    }

    /// Whether the last line begins with a letter and so does another.
    fn ends_in_a_list(&self, text: &str) -> bool {
        let listed = |l: &&str| self.letter(strip(l)).is_some();
        let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
        lines.last().is_some_and(listed) && lines.iter().filter(|l| listed(l)).count() > 1
    }

    /// The options whose texts occur in `text`, longest first, so that one within another does not count.
    fn named(&self, text: &str) -> Vec<usize> {
        let mut text = format!(" {} ", normal(text));
        let mut order: Vec<usize> = (0..self.normal.len()).collect();
        order.sort_by_key(|i| std::cmp::Reverse(self.normal[*i].len()));
        let mut found = Vec::new();
        for i in order {
            let wanted = format!(" {} ", self.normal[i]);
            if !self.normal[i].is_empty() && text.contains(&wanted) {
                text = text.replace(&wanted, " | ");
                found.push(i);
            }
        }
        found
    }

    /// The only letter of an option in the last sentence. A is taken only where it cannot be a word.
    fn lone_letter(&self, text: &str) -> Option<Choice> {
        if self.ends_in_a_list(text) {
            return None;
        }
        let text = text.trim_end();
        let end = text.trim_end_matches(['.', '!', '*', ' ', ')', '。', '！', '）', '」']);
        let start = sentence_start(end);
        let mut found: Vec<usize> = Vec::new();
        let mut before = ' ';
        for (at, c) in text[start..].char_indices() {
            if !in_word(before) && !"'’-".contains(before) && c.is_ascii_uppercase() {
                let here = &text[start + at..];
                let last =
                    here[1..].trim_matches(['.', '!', '*', ' ', ')', '。', '！', '）', '」']).is_empty();
                let mark =
                    here[1..].starts_with([')', '.', ',', ':', ';', '*', '）', '。', '，', '、', '：', '」']);
                if let Some((i, _)) = self.letter(here)
                    && (!matches!(c, 'A' | 'I') || last || mark)
                    && !found.contains(&i)
                {
                    found.push(i);
                }
            }
            before = c;
        }
        match found.as_slice() {
            [one] => Some(Choice::One(*one)),
            _ => None,
        }
    }
}
