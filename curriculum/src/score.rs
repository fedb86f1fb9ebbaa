//! Scores what a model answers: the final answer or the letter is taken out of the text, compared, and
//! counted by domain with a confidence interval.

use super::{Format, Sample};
use std::collections::BTreeMap;

/// What comes after the reasoning: the text behind the last `</think>`. A text that starts to think and
/// never ends has no answer.
fn after_thinking(text: &str) -> &str {
    match text.rfind("</think>") {
        Some(at) => &text[at + "</think>".len()..],
        None if text.contains("<think>") => "",
        None => text,
    }
}

/// Lowercase, without spaces, thousands separators and closing marks; small spelling variants made equal.
fn normal(text: &str) -> String {
    let mut out = text.trim().trim_matches(['*', '`', '$']).to_lowercase();
    for (from, to) in [
        ("^2", "²"),
        ("^3", "³"),
        ("−", "-"),
        (" percent", "%"),
        ("\u{3a9}", "ohms"),
        ("\u{2126}", "ohms"),
        ("\u{3c9}", "ohms"),
        (",", ""),
        (" ", ""),
    ] {
        out = out.replace(from, to);
    }
    if out.ends_with("ohm") {
        out.push('s');
    }
    out.trim_end_matches(['.', '!']).to_string()
}

/// The first decimal number in `text`: its byte offset and length. Digits that belong to a fraction or
/// to a word are no number.
pub fn number_span(text: &str) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let start = bytes.iter().position(u8::is_ascii_digit)?;
    let mut end = start;
    let mut point = false;
    while end < bytes.len() {
        match bytes[end] {
            b'0'..=b'9' => {}
            b'.' if !point && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) => point = true,
            _ => break,
        }
        end += 1;
    }
    let glued = start > 0 && bytes[start - 1].is_ascii_alphabetic();
    if glued || bytes.get(end) == Some(&b'/') || (start > 0 && bytes[start - 1] == b'/') {
        return None;
    }
    Some((start, end - start))
}

/// A decimal number without its needless zeros, so that equal values are equal texts.
fn canonical(number: &str) -> String {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let (whole, part) = (whole.trim_start_matches('0'), part.trim_end_matches('0'));
    let whole = if whole.is_empty() { "0" } else { whole };
    if part.is_empty() { whole.to_string() } else { format!("{whole}.{part}") }
}

/// Whether two answers are the same: equal after normalisation, or the same number with the same unit.
/// `given` may leave the unit out.
pub fn same(expected: &str, given: &str) -> bool {
    let (e, g) = (normal(expected), normal(given));
    if e == g {
        return true;
    }
    let verdict = |t: &str| ["low", "normal", "high"].into_iter().find(|w| t.starts_with(w));
    if let (Some(a), Some(b)) = (verdict(&e), verdict(&g)) {
        // "high" alone answers as well as "high, above 100 mmHg"; two full texts must agree.
        return a == b && (e == a || g == b);
    }
    // "x = 7" and "7" are one answer; two different names are not.
    let bare = |t: &str| t.split_once('=').map_or(t.to_string(), |(_, v)| v.to_string());
    if e.contains('=') != g.contains('=') {
        return same(&bare(&e), &bare(&g));
    }
    let (Some((es, el)), Some((gs, gl))) = (number_span(&e), number_span(&g)) else { return false };
    let unit = |t: &str, s: usize, l: usize| (t[..s].to_string(), t[s + l..].to_string());
    let (e_unit, g_unit) = (unit(&e, es, el), unit(&g, gs, gl));
    let bare_number = g_unit.0.is_empty() && g_unit.1.is_empty();
    canonical(&e[es..es + el]) == canonical(&g[gs..gs + gl]) && (e_unit == g_unit || bare_number)
}

/// The final answer in a model's text: what follows the last "answer is" (or "answer:", or "="), to the
/// end of that line; else the last line.
pub fn final_answer(text: &str) -> Option<String> {
    let text = after_thinking(text);
    // ASCII lowering keeps byte offsets.
    let lower = text.to_ascii_lowercase();
    for mark in ["answer is", "answer:"] {
        if let Some(at) = lower.rfind(mark) {
            let line = text[at + mark.len()..].lines().next().unwrap_or("");
            return Some(line.trim().trim_start_matches(':').trim().trim_end_matches('.').to_string());
        }
    }
    let line = text.lines().rev().find(|l| !l.trim().is_empty())?.trim().trim_end_matches('.');
    Some(line.rsplit_once("= ").map_or(line, |(_, v)| v).to_string())
}

/// The option letter in a model's text, 0 for A to 3 for D.
pub fn letter(text: &str) -> Option<usize> {
    let text = after_thinking(text);
    let lower = text.to_ascii_lowercase();
    let from =
        ["answer is", "answer:", "option"].iter().filter_map(|m| lower.rfind(m).map(|at| at + m.len())).max();
    let alone = |t: &str| {
        t.split(|c: char| !c.is_alphanumeric())
            .find_map(|w| ["A", "B", "C", "D"].iter().position(|l| *l == w))
    };
    from.and_then(|at| alone(&text[at..])).or_else(|| alone(text))
}

/// Whether the model's text gives the sample's answer. In [`Format::Mcq`] the letter decides.
pub fn score_generation(sample: &Sample, text: &str) -> bool {
    match sample.format {
        Format::Mcq => score_choice(sample, letter(text)),
        _ => final_answer(text).is_some_and(|given| same(&sample.answer, &given)),
    }
}

/// Whether option `choice` (0 for A) is the right one.
pub fn score_choice(sample: &Sample, choice: Option<usize>) -> bool {
    sample.options.as_ref().is_some_and(|o| choice == Some(o.correct))
}

/// The option whose letter has the largest logit; the first of equals.
pub fn choice_from_logits(letters: [f32; 4]) -> usize {
    (1..4).fold(0, |best, i| if letters[i] > letters[best] { i } else { best })
}

/// How many of how many were right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Right answers.
    pub right: u64,
    /// All answers.
    pub total: u64,
}

impl Tally {
    /// Counts one answer.
    pub fn add(&mut self, right: bool) {
        self.right += u64::from(right);
        self.total += 1;
    }

    /// The share of right answers, 0 to 1; 0 without any.
    pub fn share(self) -> f64 {
        if self.total == 0 { 0.0 } else { self.right as f64 / self.total as f64 }
    }

    /// Wilson's 95 % interval for the share (Wilson 1927); 0 to 1 without any answer.
    pub fn interval(self) -> (f64, f64) {
        if self.total == 0 {
            return (0.0, 1.0);
        }
        let (p, n, z) = (self.share(), self.total as f64, 1.959_963_984_540_054_f64);
        let centre = p + z * z / (2.0 * n);
        let spread = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + z * z / n;
        (((centre - spread) / scale).max(0.0), ((centre + spread) / scale).min(1.0))
    }
}

/// Tallies by domain, by domain and family, and in all.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    /// By domain.
    pub domains: BTreeMap<String, Tally>,
    /// By "domain/family".
    pub families: BTreeMap<String, Tally>,
    /// In all.
    pub all: Tally,
}

impl Scores {
    /// Counts one answer to `sample`.
    pub fn add(&mut self, sample: &Sample, right: bool) {
        self.domains.entry(sample.domain.to_string()).or_default().add(right);
        self.families.entry(format!("{}/{}", sample.domain, sample.family)).or_default().add(right);
        self.all.add(right);
    }
}
