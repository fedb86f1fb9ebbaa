//! Pre-tokenizers: how text is cut into words before byte-pair merging.
//!
//! A pre-tokenizer is a list of passes. Each pass searches every piece left by the one before
//! and cuts it into its matches and the gaps between them (the `Isolated` split of
//! `tokenizers`, and what llama.cpp does with its regex lists).
//!
//! The published patterns end in `\s+(?!\S)|\s+`: a run of spaces gives its last one to the
//! word that follows. Look-ahead is the only thing in them that a finite automaton cannot do,
//! so the patterns here end in `\s+` and [`trim`] gives the last space back. That keeps the
//! search linear whatever the text.

use regex::Regex;

/// One search over the text.
#[derive(Clone, Copy)]
struct Pass {
    pattern: &'static str,
    /// Whether the pattern's last alternative stands for `\s+(?!\S)|\s+`.
    spaces: Spaces,
}

#[derive(Clone, Copy, PartialEq)]
enum Spaces {
    /// No such alternative.
    Plain,
    /// The rule holds for every run of white space.
    Trim,
    /// A run with a line break in it was already matched by `\s*[\r\n]+`.
    TrimLine,
}

const fn plain(pattern: &'static str) -> Pass {
    Pass { pattern, spaces: Spaces::Plain }
}
const fn trims(pattern: &'static str) -> Pass {
    Pass { pattern, spaces: Spaces::Trim }
}
const fn trims_line(pattern: &'static str) -> Pass {
    Pass { pattern, spaces: Spaces::TrimLine }
}

const GPT2: Pass = trims(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+");
const DIGIT: Pass = plain(r"\p{N}");
const TRIPLE: Pass = plain(r"[0-9][0-9][0-9]");

macro_rules! contraction {
    () => {
        r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
    };
}
macro_rules! llama3 {
    ($digits:literal) => {
        concat!(
            contraction!(),
            r"|[^\r\n\p{L}\p{N}]?\p{L}+|",
            $digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
        )
    };
}
// Words of the o200k family: an upper-case head, a lower-case tail.
macro_rules! cased {
    ($suffix:expr, $digits:literal) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
            $suffix,
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
            $suffix,
            "|",
            $digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+"
        )
    };
}

const CJK: Pass = plain(r"[\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}]+");
const LINE_BREAK: Pass = plain(r"[\r\n]");
// The cased letters of Unicode as DeepSeek's tokenizer.json lists them.
const DEEPSEEK_LETTERS: &str = concat!(
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚ\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}",
    r"\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}",
    r"\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}ℂℇℊ-ℓℕℙ-ℝℤ\x{2126}ℨ\x{212A}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎ",
    r"ꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"
);

/// A named family: the values of `tokenizer.ggml.pre` that mean it, its passes, and the two
/// settings that llama.cpp ties to the name.
struct Family {
    names: &'static [&'static str],
    passes: &'static [Pass],
    /// A word that is a token as it stands is not merged from its bytes.
    ignore_merges: bool,
    add_bos: bool,
}

const fn family(names: &'static [&'static str], passes: &'static [Pass]) -> Family {
    Family { names, passes, ignore_merges: false, add_bos: false }
}

// Sources: the models' own tokenizer.json files and llama.cpp's src/llama-vocab.cpp.
static FAMILIES: &[Family] = &[
    family(
        &["qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"],
        &[trims_line(llama3!(r"\p{N}"))],
    ),
    family(
        &["qwen35"],
        &[trims_line(concat!(
            contraction!(),
            r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
        ))],
    ),
    Family {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        passes: &[trims_line(llama3!(r"\p{N}{1,3}"))],
        ignore_merges: true,
        add_bos: true,
    },
    family(&["smaug-bpe", "dbrx", "glm4", "chatglm-bpe"], &[trims_line(llama3!(r"\p{N}{1,3}"))]),
    family(
        &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "exaone4",
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v1-en",
            "jina-v2-code",
            "roberta-bpe",
        ],
        &[GPT2],
    ),
    family(
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        &[DIGIT, GPT2],
    ),
    family(&["falcon"], &[plain(r"[\p{P}$+<=>^~|`]+"), GPT2, TRIPLE]),
    family(&["default"], &[plain(r"[\p{P}$+<=>^~|]+"), GPT2, plain(r"\p{N}+"), TRIPLE]),
    family(
        &["deepseek-llm"],
        &[
            LINE_BREAK,
            plain(DEEPSEEK_LETTERS),
            plain(r"\s?[!-/:-~！-／：-～‘-‟\x{3000}-。]+"),
            plain(r"\s+$"),
            CJK,
            plain(r"\p{N}+"),
        ],
    ),
    family(&["deepseek-coder"], &[LINE_BREAK, plain(r"\s?\p{L}+"), plain(r"\s?\p{P}+"), CJK, DIGIT]),
    family(
        &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        &[
            plain(r"\p{N}{1,3}"),
            plain(r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+"),
            trims_line(concat!(
                r"[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+",
                r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+"
            )),
        ],
    ),
    Family {
        names: &["tekken"],
        passes: &[trims_line(cased!("", r"\p{N}"))],
        ignore_merges: true,
        add_bos: true,
    },
    family(
        &["gpt-4o", "llama4", "kanana2"],
        &[trims_line(cased!(concat!("(?:", contraction!(), ")?"), r"\p{N}{1,3}"))],
    ),
    family(
        &["seed-coder"],
        &[trims_line(concat!(
            contraction!(),
            r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+"
        ))],
    ),
    family(&["poro-chat", "bloom", "gpt3-finnish"], &[plain(r" ?[^(\s|.,!?…。，、।۔،)]+")]),
    family(&["viking"], &[plain(r" ?[^(\s|.,!?…。，、।۔،)]+"), DIGIT]),
];

/// A compiled pre-tokenizer.
#[derive(Debug)]
pub(super) struct PreTokenizer {
    passes: Vec<(Regex, bool, bool)>,
    pub(super) ignore_merges: bool,
    pub(super) add_bos: bool,
}

/// Every accepted value of `tokenizer.ggml.pre`, for error messages.
pub(super) fn known_names() -> String {
    let names: Vec<&str> = FAMILIES.iter().flat_map(|f| f.names).copied().collect();
    names.join(", ")
}

impl PreTokenizer {
    /// The pre-tokenizer of that name, or `None` for an unknown one.
    pub(super) fn named(name: &str) -> Option<Self> {
        let family = FAMILIES.iter().find(|f| f.names.contains(&name))?;
        let compile = |p: &Pass| {
            let regex = Regex::new(p.pattern).expect("the patterns are constants, and a test compiles each");
            (regex, p.spaces != Spaces::Plain, p.spaces == Spaces::TrimLine)
        };
        Some(PreTokenizer {
            passes: family.passes.iter().map(compile).collect(),
            ignore_merges: family.ignore_merges,
            add_bos: family.add_bos,
        })
    }

    /// The byte ranges of the words of `text`, in order, covering all of it.
    pub(super) fn split(&self, text: &str) -> Vec<(usize, usize)> {
        let mut pieces = vec![(0, text.len())];
        for (regex, trims, line) in &self.passes {
            let mut next = Vec::with_capacity(pieces.len() * 2);
            for &(start, end) in &pieces {
                // Each piece is a text of its own: no pass looks past its ends.
                let piece = &text[start..end];
                let (mut at, mut done) = (0, 0);
                while let Some(m) = regex.find_at(piece, at) {
                    let stop = if *trims { trim(piece, m.start(), m.end(), *line) } else { m.end() };
                    if m.start() > done {
                        next.push((start + done, start + m.start()));
                    }
                    next.push((start + m.start(), start + stop));
                    (at, done) = (stop, stop);
                }
                if done < piece.len() {
                    next.push((start + done, end));
                }
            }
            pieces = next;
        }
        pieces
    }
}

/// Where a match ends once `\s+(?!\S)` is tried before `\s+`: a run of several white space
/// characters that something else follows loses its last one. Other matches keep their end.
fn trim(piece: &str, start: usize, end: usize, line: bool) -> usize {
    let run = &piece[start..end];
    let Some(last) = run.chars().next_back() else { return end };
    let shorter = end - last.len_utf8();
    let by_line_rule = line && matches!(last, '\n' | '\r');
    if end == piece.len() || shorter == start || by_line_rule || !run.chars().all(char::is_whitespace) {
        end
    } else {
        shorter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(name: &str, text: &str) -> Vec<String> {
        let pre = PreTokenizer::named(name).unwrap();
        pre.split(text).into_iter().map(|(a, b)| text[a..b].to_string()).collect()
    }

    #[test]
    fn every_family_compiles_and_covers_the_text() {
        let text = "I'VE 12345  x\r\n\r\n\t é́ 你好abc。  ½ ``` a_b  \n ";
        for family in FAMILIES {
            for name in family.names {
                let parts = words(name, text);
                assert_eq!(parts.concat(), text, "{name}");
                assert!(parts.iter().all(|p| !p.is_empty()), "{name}: {parts:?}");
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = FAMILIES.iter().flat_map(|f| f.names).collect();
        let n = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), n);
    }

    #[test]
    fn spaces_give_their_last_to_the_next_word() {
        assert_eq!(words("gpt-2", "a   b  "), ["a", "  ", " b", "  "]);
        assert_eq!(words("gpt-2", "a \n\nb"), ["a", " \n", "\n", "b"]);
        assert_eq!(words("qwen2", "a \n\nb"), ["a", " \n\n", "b"]);
        assert_eq!(words("qwen2", "a\t\tb 12"), ["a", "\t", "\tb", " ", "1", "2"]);
        assert_eq!(words("qwen2", "a:\n\n b"), ["a", ":\n\n", " b"]);
    }

    #[test]
    fn digits_and_contractions() {
        assert_eq!(words("llama-bpe", "1234567"), ["123", "456", "7"]);
        assert_eq!(words("qwen2", "I'LL go"), ["I", "'LL", " go"]);
        assert_eq!(words("gpt-2", "I'LL go 12"), ["I", "'", "LL", " go", " 12"]);
        assert_eq!(words("smollm", "go 12"), ["go", " ", "1", "2"]);
        assert_eq!(words("falcon", "x12345!"), ["x", "123", "45", "!"]);
        assert_eq!(words("qwen35", "e\u{301}a"), ["e\u{301}a"]);
        assert_eq!(words("gpt-4o", "HelloWorld don't"), ["Hello", "World", " don't"]);
    }
}
