//! What can be pulled: names of a hub by a strict grammar, and addresses.

use crate::error::{Error, Kind, Result};
use crate::url::Url;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// A repository of the hub, and which of its files: those of a quantisation, or one by its path.
    Hub {
        /// `ORG/REPO`.
        repo: String,
        /// Which of its models.
        which: Which,
    },
    /// A file anywhere.
    Url(Url),
}

/// Which model of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The only one, or Q4_K_M.
    Usual,
    /// That of a quantisation.
    Quant(String),
    /// A file by its path.
    File(String),
}

/// Whether a name can stand in a request, in a path and behind a '+': what a model that was pulled may be called.
pub fn is_name(name: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.len() <= 128 && name.chars().all(known) && !name.starts_with(['.', '-'])
}

fn is_part(part: &str) -> bool {
    part.len() <= 96 && is_name(part) && !part.contains("..") && !part.ends_with('.')
}

impl Name {
    /// Reads `[hf.co/]ORG/REPO[:QUANT]`, `[hf.co/]ORG/REPO/FILE.gguf`, or an address of http or https.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Name> {
        let wrong = || {
            let shown: String = text.chars().take(120).collect();
            let line = format!(
                "{shown:?} is no name of a model; expected ORG/REPO:QUANT, ORG/REPO/FILE.gguf, or an address of http or \
                 https"
            );
            Error::new(Kind::Name, line)
        };
        if text.contains("://") {
            return Url::parse(text).map(Name::Url);
        }
        let bare = ["hf.co/", "huggingface.co/"].iter().find_map(|p| text.strip_prefix(p)).unwrap_or(text);
        let (path, quant) = match bare.split_once(':') {
            Some((path, quant)) => (path, Some(quant)),
            None => (bare, None),
        };
        let parts: Vec<&str> = path.split('/').collect();
        if parts.len() < 2 || parts.len() > 6 || !parts.iter().all(|p| is_part(p)) {
            return Err(wrong());
        }
        let repo = parts[..2].join("/");
        let which = match (parts.len(), quant) {
            (2, None) => Which::Usual,
            (2, Some(quant)) if quant.len() <= 32 && is_part(quant) => Which::Quant(quant.to_owned()),
            (_, None) if path.to_ascii_lowercase().ends_with(".gguf") => Which::File(parts[2..].join("/")),
            _ => return Err(wrong()),
        };
        Ok(Name::Hub { repo, which })
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Name::Url(url) => write!(f, "{url}"),
            Name::Hub { repo, which: Which::Usual } => f.write_str(repo),
            Name::Hub { repo, which: Which::Quant(quant) } => write!(f, "{repo}:{quant}"),
            Name::Hub { repo, which: Which::File(path) } => write!(f, "{repo}/{path}"),
        }
    }
}

/// `model-00002-of-00003` as ("model", 2, 3).
pub(crate) fn split(stem: &str) -> Option<(&str, u32, u32)> {
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (name, no) = rest.rsplit_once('-')?;
    let number = |t: &str| (t.len() == 5).then(|| t.parse::<u32>().ok()).flatten();
    let (no, count) = (number(no)?, number(count)?);
    (no >= 1 && no <= count && !name.is_empty()).then_some((name, no, count))
}

/// A file's name without `.gguf`, if it has that.
pub(crate) fn stem(file: &str) -> Option<&str> {
    let cut = file.len().checked_sub(5)?;
    (file.is_char_boundary(cut) && cut > 0 && file[cut..].eq_ignore_ascii_case(".gguf")).then(|| &file[..cut])
}

/// Whether a path's file name says that it has this quantisation.
pub(crate) fn has_quant(path: &str, quant: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or_default();
    let Some(stem) = stem(file) else { return false };
    let name = split(stem).map_or(stem, |s| s.0);
    let cut = name.len().checked_sub(quant.len());
    cut.is_some_and(|cut| {
        let before = name.get(..cut).and_then(|b| b.chars().next_back());
        let right = name.get(cut..).is_some_and(|end| end.eq_ignore_ascii_case(quant));
        // "K_M" is not a name of its own within "Q4_K_M", nor is "0" within "Q4_0".
        let head = quant.split('_').next().unwrap_or_default();
        let whole = head.starts_with(|c: char| c.is_ascii_alphabetic())
            && head.contains(|c: char| c.is_ascii_digit());
        right && (cut == 0 || matches!(before, Some('-' | '.')) || (before == Some('_') && whole))
    })
}

#[cfg(test)]
mod tests {
    use super::{Name, Which, has_quant, split};

    #[test]
    fn names_are_read_and_written() {
        for (text, repo, which) in [
            ("hf.co/Qwen/Qwen3-4B-GGUF:Q4_K_M", "Qwen/Qwen3-4B-GGUF", Which::Quant("Q4_K_M".into())),
            ("huggingface.co/a/b", "a/b", Which::Usual),
            ("a/b.c/sub/x-00001-of-00002.gguf", "a/b.c", Which::File("sub/x-00001-of-00002.gguf".into())),
        ] {
            let name = Name::parse(text).expect(text);
            assert_eq!(name, Name::Hub { repo: repo.into(), which });
            assert_eq!(Name::parse(&name.to_string()), Ok(name));
        }
        assert!(matches!(Name::parse("http://127.0.0.1:1/x.gguf"), Ok(Name::Url(_))));
    }

    #[test]
    fn nothing_leaves_the_grammar() {
        for text in [
            "",
            "a",
            "/a/b",
            "a//b",
            "../a/b",
            "a/..",
            "a/../b/c.gguf",
            "a/b/../../c.gguf",
            "a/.b",
            "a/b:",
            "a/b:../x",
            "a/b:Q4/../x",
            "a/b/c.bin",
            "a/b/c.gguf:Q4",
            "a b/c",
            "a/b\n",
            "a/b%2e",
            "a\\b/c",
            "-a/b",
            "a/b/.gguf",
            "ä/b",
            "a/b?x",
            "a/b#x",
            "C:/x/y.gguf",
            "file:///x.gguf",
            &format!("a/{}", "b".repeat(97)),
        ] {
            assert!(Name::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn quantisations_are_told_apart() {
        for (path, quant, want) in [
            ("Qwen3-4B-Q4_K_M.gguf", "q4_k_m", true),
            ("x/Qwen3-4B.Q4_K_M-00001-of-00002.gguf", "Q4_K_M", true),
            ("Qwen3-4B-IQ4_K_M.gguf", "Q4_K_M", false),
            ("Qwen3-4B-Q4_K_M.gguf", "M", false),
            ("Qwen3-4B-Q4_K_M.gguf", "K_M", false),
            ("Qwen3-4B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL", true),
            ("Qwen3-4B-BF16.gguf", "BF16", true),
            ("Qwen3-4B-BF16.bin", "BF16", false),
        ] {
            assert_eq!(has_quant(path, quant), want, "{path} {quant}");
        }
        assert_eq!(split("m-00002-of-00003"), Some(("m", 2, 3)));
        assert_eq!(
            (split("m-00004-of-00003"), split("m-2-of-3"), split("-00001-of-00001")),
            (None, None, None)
        );
    }
}
