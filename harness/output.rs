//! stdout, progress bars, files that appear whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

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

/// A file under a temporary name, which [`Whole::finish`] renames; dropped before, it is removed.
pub struct Whole {
    path: PathBuf,
    temporary: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Whole {
    /// Starts `path`.
    ///
    /// # Errors
    /// `path` is a directory, or its folder cannot be written.
    pub fn create(path: &Path) -> Result<Whole> {
        if path.is_dir() {
            return Err(Error::input(format!("{}: is a directory", path.display())));
        }
        if std::fs::metadata(path).is_ok_and(|m| !m.is_file()) {
            let what = "is a pipe or a device, which a file would replace; give the name of a file";
            return Err(Error::input(format!("{}: {what}", path.display())));
        }
        let Some(name) = path.file_name() else {
            return Err(Error::input(format!("{}: not a file name", path.display())));
        };
        let mut name = name.to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let temporary = path.with_file_name(name);
        let file = File::create(&temporary).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::input(format!("{}: its folder does not exist", path.display())),
            _ => Error::io(path, e),
        })?;
        Ok(Whole { path: path.to_owned(), temporary, file: Some(BufWriter::with_capacity(1 << 20, file)) })
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// A full disk and the like.
    pub fn finish(mut self) -> Result<()> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        let done = file.flush().and_then(|()| {
            drop(file);
            std::fs::rename(&self.temporary, &self.path)
        });
        done.map_err(|e| {
            let _ = std::fs::remove_file(&self.temporary);
            Error::io(&self.path, e)
        })
    }
}

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.as_mut().map_or(Ok(0), |f| f.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), BufWriter::flush)
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            let _ = file.into_parts();
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}
