//! What goes wrong, each in one line.

use std::io;
use std::path::Path;

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why something ended early. Its Display is one line that says what, where and what to do.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages are the documentation
pub enum Error {
    #[error("{file}: {}", plain(cause))]
    Io { file: String, cause: io::Error },
    #[error("{file}: {what}")]
    File { file: String, what: String },
    #[error("{file}, {place}: {what}")]
    Row { file: String, place: String, what: String },
    /// What was asked for does not make sense.
    #[error("{0}")]
    Input(String),
    /// A model or an endpoint failed.
    #[error("{who}: {what}")]
    Model { who: String, what: String },
    /// A file that could not be written.
    #[error(transparent)]
    Written(#[from] weft_formats::gguf::Error),
    /// It was asked to stop; what was finished is kept.
    #[error("interrupted")]
    Stopped,
}

impl Error {
    /// An error of what was asked for.
    pub fn input(line: impl Into<String>) -> Error {
        Error::Input(line.into())
    }

    /// An error of a whole file.
    pub fn file(path: &Path, what: impl Into<String>) -> Error {
        Error::File { file: path.display().to_string(), what: what.into() }
    }

    /// An error of reading or writing.
    pub fn io(path: &Path, cause: io::Error) -> Error {
        Error::Io { file: path.display().to_string(), cause }
    }
}

/// The system's message without Rust's "(os error 2)".
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let cut = text.find(" (os error").unwrap_or(text.len());
    let mut chars = text[..cut].chars();
    chars.next().map(|c| c.to_lowercase().collect::<String>() + chars.as_str()).unwrap_or_default()
}
