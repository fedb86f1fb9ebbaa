//! Sets of characters by Unicode's general category.

use std::sync::LazyLock;

/// Ranges of characters, in order.
pub(super) struct Class(Vec<(char, char)>);

impl Class {
    fn new(pattern: &str) -> Class {
        let parsed = regex_syntax::parse(pattern).map(regex_syntax::hir::Hir::into_kind);
        match parsed {
            Ok(regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(class))) => {
                Class(class.ranges().iter().map(|r| (r.start(), r.end())).collect())
            }
            // The patterns below are constants, and a test looks into each class.
            _ => Class(Vec::new()),
        }
    }

    pub(super) fn has(&self, c: char) -> bool {
        let after = self.0.partition_point(|(start, _)| *start <= c);
        after > 0 && c <= self.0[after - 1].1
    }
}

/// Punctuation.
pub(super) static PUNCTUATION: LazyLock<Class> = LazyLock::new(|| Class::new(r"\p{P}"));
/// Marks that take no room of their own.
pub(super) static MARKS: LazyLock<Class> = LazyLock::new(|| Class::new(r"\p{Mn}"));
/// Control and format characters, and private ones.
pub(super) static OTHER: LazyLock<Class> = LazyLock::new(|| Class::new(r"[\p{Cc}\p{Cf}\p{Co}]"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_what_they_are_named_for() {
        for (class, inside, outside) in [
            (&PUNCTUATION, ['!', '。', '—', '«'], ['a', '$', '+', ' ']),
            (&MARKS, ['\u{301}', '\u{300}', '\u{483}', '\u{36f}'], ['a', '\u{903}', '!', '\u{488}']),
            (&OTHER, ['\0', '\u{7f}', '\u{200b}', '\u{e000}'], ['a', ' ', '\u{3000}', 'é']),
        ] {
            assert!(inside.iter().all(|c| class.has(*c)) && !outside.iter().any(|c| class.has(*c)));
        }
    }
}
