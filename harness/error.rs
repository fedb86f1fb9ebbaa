//! What ends a command early, and with which exit code.

use std::io;
use std::path::Path;

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a command failed. Its Display is one line.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages are the documentation
pub enum Error {
    #[error(transparent)]
    Model(#[from] weft_models::Error),
    #[error(transparent)]
    Eval(weft_evals::Error),
    #[error(transparent)]
    File(#[from] weft_formats::gguf::Error),
    #[error("{file}: {source}")]
    Tokenizer { file: String, source: weft_formats::tokenizer::Error },
    #[error(transparent)]
    Gpu(#[from] weft_runtime::Error),
    #[error("{file}: {}", plain(source))]
    Io { file: String, source: io::Error },
    /// What the user gave does not make sense; the line says what to give instead.
    #[error("{0}")]
    Input(String),
    /// What was typed does not make sense by itself, in a way that clap cannot see.
    #[error("{0}")]
    Usage(String),
    #[error("{failed} of {total} cases failed")]
    Cases { failed: usize, total: usize },
    #[error("interrupted")]
    Interrupted,
    #[error("stdout was closed")]
    StdoutClosed,
}

impl Error {
    /// An input error.
    pub fn input(line: impl Into<String>) -> Error {
        Error::Input(line.into())
    }

    /// An error of usage.
    pub fn usage(line: impl Into<String>) -> Error {
        Error::Usage(line.into())
    }

    /// An I/O error at `file`.
    pub fn io(file: &Path, source: io::Error) -> Error {
        Error::Io { file: file.display().to_string(), source }
    }

    /// An error of writing to stdout. A reader that has seen enough (`| head`) is not a failure.
    pub fn stdout(source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::BrokenPipe => Error::StdoutClosed,
            _ => Error::Io { file: "stdout".to_owned(), source },
        }
    }

    /// The exit code: 130 after Ctrl-C, 0 when stdout was closed, 2 where what was typed makes no sense by itself (as clap
    /// has it), else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Interrupted | Error::Model(weft_models::Error::Cancelled) => 130,
            Error::StdoutClosed => 0,
            // What a flag says, which is looked into where it is used.
            Error::Usage(_)
            | Error::Eval(weft_evals::Error::Input(_))
            | Error::Model(weft_models::Error::Sampling { .. }) => 2,
            _ => 1,
        }
    }

    /// The line for stderr; `None` where the user knows already.
    pub fn line(&self) -> Option<String> {
        match self.exit_code() {
            // Only the model on board is read from memory.
            1 | 2 => Some(one_line(&self.to_string()).replace("(memory)", crate::mini::NAME)),
            _ => None,
        }
    }
}

impl From<weft_hub::Error> for Error {
    fn from(e: weft_hub::Error) -> Error {
        match e.kind {
            weft_hub::Kind::Stopped => Error::Interrupted,
            _ => Error::Input(e.line),
        }
    }
}

impl From<weft_evals::Error> for Error {
    fn from(e: weft_evals::Error) -> Error {
        match e {
            weft_evals::Error::Stopped => Error::Interrupted,
            e => Error::Eval(e),
        }
    }
}

/// The system's message without Rust's "(os error 2)".
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let cut = text.find(" (os error").unwrap_or(text.len());
    let mut chars = text[..cut].chars();
    chars.next().map(|c| c.to_lowercase().collect::<String>() + chars.as_str()).unwrap_or_default()
}

/// Characters of a line at most: some quote what a file holds, which may be megabytes.
const LONGEST: usize = 800;

/// Drivers and parsers write several lines; a terminal's control characters go too, and the middle of what is too
/// long, since the way out stands at the end.
pub fn one_line(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    let count = line.chars().count();
    if count <= LONGEST {
        return line;
    }
    let half = LONGEST / 2;
    let (start, end) = (line.chars().take(half), line.chars().skip(count - half));
    start.chain(" ... ".chars()).chain(end).collect()
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, one_line};

    #[test]
    fn lines_are_short() {
        assert_eq!(one_line("a\n b\u{1b}[1m\tc"), "a b [1m c");
        let line = one_line(&format!("first {} last", "é".repeat(1 << 20)));
        assert!(line.starts_with("first é") && line.ends_with("é last"), "{line}");
        assert!(line.contains(" ... ") && line.chars().count() <= LONGEST + 5);
    }
}
