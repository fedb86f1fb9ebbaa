//! What the codes of a font stand for, and how wide its letters are.

use std::collections::HashMap;

use hayro_cmap::{BfString, CMap};
use hayro_syntax::object::{Array, Dict, Name, Number, Object, Stream};
use unicode_normalization::UnicodeNormalization;

/// The upper halves of the encodings; what lies below 128 is ASCII but for two marks of the standard one.
const WIN: &str = "€\0‚ƒ„…†‡ˆ‰Š‹Œ\0Ž\0\0‘’“”•–—˜™š›œ\0žŸ";
const MAC: &str = "ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü†°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø¿¡¬√ƒ≈∆«»…\u{a0}ÀÃÕŒœ–—“”‘’÷◊ÿŸ⁄€‹›ﬁﬂ‡·‚„‰ÂÊÁËÈÍÎÏÌÓÔ\0ÒÚÛÙıˆ˜¯˘˙˚¸˝˛ˇ";
const STANDARD: &str = "\0¡¢£⁄¥ƒ§¤'“«‹›ﬁﬂ\0–†‡·\0¶•‚„”»…‰\0¿\0`´ˆ˜¯˘˙¨\0˚¸\0˝˛ˇ—\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0Æ\0ª\0\0\0\0ŁØŒº\0\0\0\0\0æ\0\0\0ı\0\0łøœß\0\0\0\0";

/// Names of glyphs that are no letter with an accent.
const NAMES: &[(&str, &str)] = &[
    ("space", " "),
    ("exclam", "!"),
    ("quotedbl", "\""),
    ("numbersign", "#"),
    ("dollar", "$"),
    ("percent", "%"),
    ("ampersand", "&"),
    ("quotesingle", "'"),
    ("quoteright", "’"),
    ("quoteleft", "‘"),
    ("parenleft", "("),
    ("parenright", ")"),
    ("asterisk", "*"),
    ("plus", "+"),
    ("comma", ","),
    ("hyphen", "-"),
    ("minus", "−"),
    ("period", "."),
    ("slash", "/"),
    ("zero", "0"),
    ("one", "1"),
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("colon", ":"),
    ("semicolon", ";"),
    ("less", "<"),
    ("equal", "="),
    ("greater", ">"),
    ("question", "?"),
    ("at", "@"),
    ("bracketleft", "["),
    ("backslash", "\\"),
    ("bracketright", "]"),
    ("asciicircum", "^"),
    ("underscore", "_"),
    ("grave", "`"),
    ("braceleft", "{"),
    ("bar", "|"),
    ("braceright", "}"),
    ("asciitilde", "~"),
    ("exclamdown", "¡"),
    ("cent", "¢"),
    ("sterling", "£"),
    ("yen", "¥"),
    ("Euro", "€"),
    ("section", "§"),
    ("copyright", "©"),
    ("registered", "®"),
    ("trademark", "™"),
    ("guillemotleft", "«"),
    ("guillemotright", "»"),
    ("guilsinglleft", "‹"),
    ("guilsinglright", "›"),
    ("quotedblleft", "“"),
    ("quotedblright", "”"),
    ("quotedblbase", "„"),
    ("quotesinglbase", "‚"),
    ("endash", "–"),
    ("emdash", "—"),
    ("bullet", "•"),
    ("ellipsis", "…"),
    ("dagger", "†"),
    ("daggerdbl", "‡"),
    ("degree", "°"),
    ("plusminus", "±"),
    ("multiply", "×"),
    ("divide", "÷"),
    ("mu", "µ"),
    ("paragraph", "¶"),
    ("periodcentered", "·"),
    ("questiondown", "¿"),
    ("germandbls", "ß"),
    ("ae", "æ"),
    ("AE", "Æ"),
    ("oe", "œ"),
    ("OE", "Œ"),
    ("oslash", "ø"),
    ("Oslash", "Ø"),
    ("lslash", "ł"),
    ("Lslash", "Ł"),
    ("dotlessi", "ı"),
    ("eth", "ð"),
    ("Eth", "Ð"),
    ("thorn", "þ"),
    ("Thorn", "Þ"),
    ("ff", "ff"),
    ("fi", "fi"),
    ("fl", "fl"),
    ("ffi", "ffi"),
    ("ffl", "ffl"),
    ("nbspace", " "),
    ("onehalf", "½"),
    ("onequarter", "¼"),
    ("threequarters", "¾"),
    ("lessequal", "≤"),
    ("greaterequal", "≥"),
    ("notequal", "≠"),
    ("approxequal", "≈"),
    ("infinity", "∞"),
    ("alpha", "α"),
    ("beta", "β"),
    ("gamma", "γ"),
    ("delta", "δ"),
    ("epsilon", "ε"),
    ("lambda", "λ"),
    ("pi", "π"),
    ("sigma", "σ"),
    ("tau", "τ"),
    ("phi", "φ"),
    ("omega", "ω"),
    ("theta", "θ"),
    ("Delta", "Δ"),
    ("Omega", "Ω"),
];

const ACCENTS: &[(&str, char)] = &[
    ("grave", '\u{300}'),
    ("acute", '\u{301}'),
    ("circumflex", '\u{302}'),
    ("tilde", '\u{303}'),
    ("macron", '\u{304}'),
    ("breve", '\u{306}'),
    ("dotaccent", '\u{307}'),
    ("dieresis", '\u{308}'),
    ("ring", '\u{30a}'),
    ("hungarumlaut", '\u{30b}'),
    ("caron", '\u{30c}'),
    ("cedilla", '\u{327}'),
    ("ogonek", '\u{328}'),
];

/// Widths that are kept of a font at most.
const MOST_WIDTHS: usize = 70_000;

/// A font.
pub(super) struct Font {
    /// Whether codes have two bytes.
    pub(super) wide: bool,
    to_unicode: Option<CMap>,
    encoding: HashMap<u32, String>,
    widths: HashMap<u32, f64>,
    otherwise: f64,
}

impl Font {
    pub(super) fn new(dict: &Dict<'_>) -> Font {
        let to_unicode = dict.get::<Stream<'_>>("ToUnicode").and_then(|stream| {
            let data = stream.decoded().ok()?;
            CMap::parse(&data, |_| None)
        });
        let wide = dict.get::<Name<'_>>("Subtype").is_some_and(|n| &*n == b"Type0");
        let (mut encoding, mut widths, mut otherwise) = (HashMap::new(), HashMap::new(), 500.0);
        if wide {
            let inner =
                dict.get::<Array<'_>>("DescendantFonts").and_then(|all| all.iter::<Dict<'_>>().next());
            if let Some(inner) = inner {
                otherwise = inner.get::<Number>("DW").map_or(1000.0, |n| n.as_f64());
                if let Some(all) = inner.get::<Array<'_>>("W") {
                    cid_widths(&all, &mut widths);
                }
            }
        } else {
            encoding = letters(dict);
            let first = dict.get::<Number>("FirstChar").map_or(0, |n| n.as_f64().max(0.0) as u32);
            if let Some(all) = dict.get::<Array<'_>>("Widths") {
                // The widths of Type 3 are in a space of its own, most often in thousandths too.
                let scale = match dict.get::<Array<'_>>("FontMatrix").and_then(|m| m.iter::<Number>().next())
                {
                    Some(n) if n.as_f64() > 0.0 => n.as_f64() * 1000.0,
                    _ => 1.0,
                };
                let all = all.iter::<Number>().take(256).enumerate();
                widths.extend(all.map(|(i, n)| (first.saturating_add(i as u32), n.as_f64() * scale)));
            }
        }
        Font { wide, to_unicode, encoding, widths, otherwise }
    }

    /// What a code stands for; nothing where the file does not say.
    pub(super) fn text(&self, code: u32) -> String {
        let known = self.to_unicode.as_ref().and_then(|map| map.lookup_bf_string(code));
        match known {
            Some(BfString::Char(c)) => c.into(),
            Some(BfString::String(text)) => text,
            None => self.encoding.get(&code).cloned().unwrap_or_default(),
        }
    }

    /// The width of a code's letter, in thousandths of the font's size.
    pub(super) fn width(&self, code: u32) -> f64 {
        self.widths.get(&code).copied().unwrap_or(self.otherwise)
    }
}

/// The widths of a font of two bytes: runs of them, and ranges of one.
fn cid_widths(all: &Array<'_>, widths: &mut HashMap<u32, f64>) {
    let mut rest = all.iter::<Object<'_>>();
    while let Some(first) = rest.next() {
        let (Object::Number(first), Some(second)) = (first, rest.next()) else { return };
        let first = first.as_f64().max(0.0) as u32;
        match second {
            Object::Array(run) => {
                for (i, n) in run.iter::<Number>().take(MOST_WIDTHS).enumerate() {
                    widths.insert(first.saturating_add(i as u32), n.as_f64());
                }
            }
            Object::Number(last) => {
                let Some(Object::Number(n)) = rest.next() else { return };
                let last = (last.as_f64().max(0.0) as u32).min(0xffff);
                widths.extend((first..=last).map(|code| (code, n.as_f64())));
            }
            _ => return,
        }
        if widths.len() > MOST_WIDTHS {
            return;
        }
    }
}

/// The letters of a font of one byte: those of its encoding, and those that it has in their place.
fn letters(dict: &Dict<'_>) -> HashMap<u32, String> {
    let (mut base, mut differences) = (None, None);
    match dict.get::<Object<'_>>("Encoding") {
        Some(Object::Name(name)) => base = Some(name),
        Some(Object::Dict(own)) => {
            base = own.get::<Name<'_>>("BaseEncoding");
            differences = own.get::<Array<'_>>("Differences");
        }
        _ => {}
    }
    let mut all: HashMap<u32, String> = (0x20..0x7f_u32).map(|c| (c, char::from(c as u8).into())).collect();
    let mut half = |first: u32, letters: &str| {
        for (i, c) in letters.chars().enumerate().filter(|(_, c)| *c != '\0') {
            all.insert(first + i as u32, c.into());
        }
    };
    match base.as_deref() {
        Some(b"WinAnsiEncoding") => {
            half(0x80, WIN);
            half(0xa0, &(0xa0..=0xff_u8).map(char::from).collect::<String>());
        }
        Some(b"MacRomanEncoding") => half(0x80, MAC),
        _ => {
            half(0xa0, STANDARD);
            half(0x27, "’");
            half(0x60, "‘");
        }
    }
    let mut code = 0_u32;
    for entry in differences.iter().flat_map(|d| d.iter::<Object<'_>>()).take(1024) {
        match entry {
            Object::Number(n) => code = n.as_f64().max(0.0) as u32,
            Object::Name(name) => {
                if let Some(text) = named(name.as_str()) {
                    all.insert(code, text);
                }
                code = code.saturating_add(1);
            }
            _ => {}
        }
    }
    all
}

/// The text of a glyph by its name.
pub(super) fn named(name: &str) -> Option<String> {
    let name = name.split('.').next().filter(|n| !n.is_empty())?;
    let mut chars = name.chars();
    if let (Some(c), None) = (chars.next(), chars.next()) {
        return Some(c.into());
    }
    if let Some((_, text)) = NAMES.iter().find(|(n, _)| *n == name) {
        return Some((*text).into());
    }
    let code = name.strip_prefix("uni").filter(|d| d.len() == 4).or_else(|| name.strip_prefix('u'));
    if let Some(c) = code.and_then(|d| u32::from_str_radix(d, 16).ok()).and_then(char::from_u32) {
        return Some(c.into());
    }
    let (accent, mark) =
        ACCENTS.iter().find(|(accent, _)| name.len() == accent.len() + 1 && name.ends_with(accent))?;
    let letter = name.strip_suffix(accent)?;
    Some(letter.chars().chain([*mark]).nfc().collect())
}

#[cfg(test)]
mod tests {
    use super::{MAC, STANDARD, WIN, named};

    #[test]
    fn names_of_glyphs_are_letters() {
        for (name, text) in [
            ("a", "a"),
            ("eacute", "é"),
            ("Ccaron", "Č"),
            ("ffi", "ffi"),
            ("uni20AC", "€"),
            ("u1F600", "😀"),
            ("one.alt", "1"),
        ] {
            assert_eq!(named(name).as_deref(), Some(text), "{name}");
        }
        for name in ["g123", "", ".notdef", "uniXYZW", "uD800"] {
            assert_eq!(named(name), None, "{name}");
        }
    }

    #[test]
    fn encodings_have_their_length() {
        assert_eq!([WIN, MAC, STANDARD].map(|t| t.chars().count()), [32, 128, 96]);
        let at = |t: &str, i: usize| t.chars().nth(i).unwrap_or_default();
        assert_eq!((at(WIN, 0x17), at(WIN, 0x1f)), ('—', 'Ÿ'));
        assert_eq!((at(MAC, 0x4e), at(MAC, 0x5e), at(MAC, 0x7f)), ('Œ', 'ﬁ', 'ˇ'));
        assert_eq!(
            (at(STANDARD, 0x0e), at(STANDARD, 0x30), at(STANDARD, 0x41), at(STANDARD, 0x5b)),
            ('ﬁ', '—', 'Æ', 'ß')
        );
    }
}
