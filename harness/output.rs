//! stdin, stdout and progress bars.

use std::io::{self, IsTerminal, Read, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{Error, Result};

/// Writes `text` to stdout at once.
///
/// # Errors
/// [`Error::StdoutClosed`] where nobody reads any more.
pub fn text(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::stdout)
}

/// Writes `line` and a line feed to stdout.
///
/// # Errors
/// As [`text`].
pub fn line(line: &str) -> Result<()> {
    text(&format!("{line}\n"))
}

/// Writes one JSON object, indented, to stdout.
///
/// # Errors
/// As [`text`].
pub fn json(value: &serde_json::Value) -> Result<()> {
    line(&format!("{value:#}"))
}

/// Whether stdout is a terminal.
pub fn to_terminal() -> bool {
    io::stdout().is_terminal()
}

/// A line on stderr; a closed stderr is nobody's failure.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// All of stdin as text, byte for byte.
///
/// # Errors
/// stdin that cannot be read or is not UTF-8.
pub fn stdin_text() -> Result<String> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|source| Error::Io { file: "stdin".to_owned(), source })?;
    String::from_utf8(bytes)
        .map_err(|e| Error::input(format!("stdin is not UTF-8 (at byte {})", e.utf8_error().valid_up_to())))
}

/// A bar on stderr that shows only on a terminal and clears itself. `style` is indicatif's template.
pub fn bar(total: u64, style: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    // A template that indicatif does not take falls back to its own.
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}
