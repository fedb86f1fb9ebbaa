//! Words and marks around the option that an answer names, in the languages that answers come in.

/// What an answer is announced by, in lower case as far as ASCII goes.
pub(super) const MARKS: [&str; 26] = [
    "answer",
    "correct option",
    "correct choice",
    "best option",
    "best choice",
    "option is",
    "choice is",
    "i choose",
    "i pick",
    "i select",
    "i'd choose",
    "go with",
    "conclusion",
    "respuesta",
    "réponse",
    "antwort",
    "resposta",
    "risposta",
    "ответ",
    "Ответ",
    "الإجابة",
    "答案",
    "正解",
    "答え",
    "답은",
    "정답",
];

/// Words that may stand between a mark and the letter.
const FILL: [&str; 62] = [
    "is",
    "the",
    "option",
    "choice",
    "letter",
    "answer",
    "would",
    "be",
    "must",
    "should",
    "most",
    "likely",
    "therefore",
    "thus",
    "so",
    "clearly",
    "definitely",
    "probably",
    "final",
    "correct",
    "best",
    "my",
    "to",
    "this",
    "question",
    "here",
    "i",
    "believe",
    "think",
    "number",
    "has",
    "was",
    "either",
    "both",
    "es",
    "la",
    "el",
    "correcta",
    "correcto",
    "opción",
    "letra",
    "est",
    "le",
    "bonne",
    "correcte",
    "lettre",
    "ist",
    "lautet",
    "die",
    "richtige",
    "é",
    "correta",
    "opção",
    "è",
    "corretta",
    "opzione",
    "lettera",
    "это",
    "вариант",
    "هي",
    "هو",
    "الصحيحة",
];
/// Characters that may stand there in scripts without spaces between words.
const FILL_CHARS: &str = "是为為选選择擇项項的应應该該即はがもの은는이가";

/// What says that an option is the right one, in lower case, behind it.
pub(super) const PRAISE: [&str; 10] = [
    "is correct",
    "is the correct",
    "is right",
    "is the right",
    "is the answer",
    "must be correct",
    "seems correct",
    "are correct",
    "are right",
    "are both correct",
];
/// What says so where nothing else does: an explanation has it of other things as well.
pub(super) const FAINT_PRAISE: [&str; 2] = ["is the best", "is the most"];

/// What behind a letter says that it is not the answer.
pub(super) const BLAME: [&str; 14] = [
    "is wrong",
    "is incorrect",
    "is not",
    "isn't",
    "is false",
    "is unlikely",
    "is less",
    "is eliminated",
    "can be",
    "cannot",
    "can't",
    "is out",
    "does not",
    "would not",
];

/// Where a brace that is open at the start closes.
pub(super) fn closing(text: &str) -> usize {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            '\n' if !text[..at].trim().is_empty() => return at,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// What stands in place of what is turned down: "is not B but C", "isn't B, it's C".
pub(super) fn instead(behind: &str) -> Option<&str> {
    let turned = ["is not ", "isn't ", "is neither ", "不是"];
    let start = behind.trim_start();
    if !turned.iter().any(|t| starts_with(start, t)) {
        return None;
    }
    let clause = &start[..start.find(['.', '\n', '。']).unwrap_or(start.len())];
    let lower = clause.to_ascii_lowercase();
    let marks = [" but ", "it's ", "it is ", "而是"];
    let at = marks.iter().filter_map(|m| lower.find(m).map(|at| at + m.len())).max()?;
    Some(&start[at..])
}

/// Whether `text` begins with a word in lower case, whatever its own case is.
pub(super) fn starts_with(text: &str, word: &str) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// Whether a character goes on with a word: scripts without spaces between words stand beside a letter as marks do.
pub(super) fn in_word(c: char) -> bool {
    let apart = matches!(c, '\u{e00}'..='\u{e7f}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}');
    c.is_alphanumeric() && !apart
}

/// Whether the words just before a mark turn it round: "not the answer", "no answer", "wrong answer".
pub(super) fn negated(before: &str) -> bool {
    let words: Vec<&str> = before.split_whitespace().rev().take(2).collect();
    ["not", "no", "wrong", "incorrect", "isn't", "neither", "cannot", "can't", "don't"]
        .iter()
        .any(|n| words.contains(n))
}

/// `text` without one piece of markup or filling word at its start; `None` where there is none, or a line has ended
/// after words.
pub(super) fn skip_marks(text: &str, strict: bool) -> Option<&str> {
    for command in ["\\text{", "\\textbf{", "\\mathbf{", "\\mathrm{", "\\boxed{", "\\(", "\\["] {
        if let Some(rest) = text.strip_prefix(command) {
            return Some(rest);
        }
    }
    let mut chars = text.chars();
    let first = chars.next()?;
    if first.is_whitespace() || "*_\"'`([{$:-–—=<>“‘#~→：（「【".contains(first) {
        return Some(chars.as_str());
    }
    if strict {
        return None;
    }
    if FILL_CHARS.contains(first) {
        return Some(chars.as_str());
    }
    let length = text.find(|c: char| !c.is_alphabetic()).unwrap_or(text.len());
    let (word, rest) = text.split_at(length);
    let lower = word.to_ascii_lowercase();
    if FILL.contains(&lower.as_str()) {
        return Some(rest);
    }
    if first == ',' {
        return Some(chars.as_str());
    }
    None
}

/// Without markup at the start.
pub(super) fn strip(text: &str) -> &str {
    let mut text = text;
    while let Some(rest) = skip_marks(text, true) {
        text = rest;
    }
    text
}

/// Where the last sentence or line of `text` begins. A point behind a single letter ends no sentence.
pub(super) fn sentence_start(text: &str) -> usize {
    let bytes = text.as_bytes();
    let wide = text.rfind(['。', '！', '？']).map_or(0, |at| at + '。'.len_utf8());
    for at in (wide..bytes.len()).rev() {
        let here = bytes[at];
        let then = bytes.get(at + 1).copied().unwrap_or(b' ');
        let letter = at > 0
            && bytes[at - 1].is_ascii_uppercase()
            && (at < 2 || !bytes[at - 2].is_ascii_alphanumeric());
        if here == b'\n' || b".!?".contains(&here) && then == b' ' && !letter {
            return at + 1;
        }
    }
    wide
}

/// Lower case, words and numbers with one space between.
pub(super) fn normal(text: &str) -> String {
    let spaced: String = text
        .chars()
        .map(|c| if c.is_alphanumeric() || "%.°µ<>±/".contains(c) { c } else { ' ' })
        .flat_map(char::to_lowercase)
        .collect();
    let words = spaced.split_whitespace().map(|w| w.trim_matches(['.', '/'])).filter(|w| !w.is_empty());
    words.collect::<Vec<_>>().join(" ")
}
