//! Files that appear whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::gguf::{Cause, Error};

/// The largest file that is read at once; tokenizers reach 30 MB, adapters a few GB.
const MAX_BYTES: u64 = 8 << 30;

/// All of a regular file. A device would be read for ever, a pipe would wait for its writer: both are refused
/// before they are opened.
///
/// # Errors
/// No such file, one that is not regular, or of more than 8 GiB.
pub fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let stat = std::fs::metadata(path)?;
    if !stat.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    if stat.len() > MAX_BYTES {
        return Err(io::Error::other(format!("is too large ({} bytes)", stat.len())));
    }
    std::fs::read(path)
}

/// A file under a temporary name beside its own, which [`AtomicFile::finish`] gives it; dropped before, it is removed.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    temporary: PathBuf,
    /// `None` once it is finished.
    file: Option<BufWriter<File>>,
}

impl AtomicFile {
    /// Starts `path`, of any kind.
    ///
    /// # Errors
    /// `path` is there and no regular file, or its folder cannot be written.
    pub fn create(path: &Path) -> Result<AtomicFile, Error> {
        let refused = |cause: Cause| Err(cause.of(&path.display().to_string()));
        match (std::fs::metadata(path), path.file_name()) {
            (Ok(m), _) if m.is_dir() => refused(Cause::NoFile("a directory")),
            (Ok(m), _) if !m.is_file() => refused(Cause::NoFile("a pipe or a device")),
            (_, None) => refused(Cause::NoFile("not a file name")),
            (_, Some(name)) => {
                let mut name = name.to_owned();
                name.push(format!(".{}.part", std::process::id()));
                let temporary = path.with_file_name(name);
                match File::create(&temporary) {
                    Ok(file) => {
                        let file = Some(BufWriter::with_capacity(1 << 20, file));
                        Ok(AtomicFile { path: path.to_owned(), temporary, file })
                    }
                    Err(e) if e.kind() == io::ErrorKind::NotFound => refused(Cause::NoFolder),
                    Err(e) => refused(Cause::io(e)),
                }
            }
        }
    }

    /// The name that it will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// A full disk and the like.
    pub fn finish(mut self) -> Result<(), Error> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        // On the disk before it has its name: a file of that name is never a part of one, whatever stops.
        let done = file.flush().and_then(|()| file.get_ref().sync_all()).and_then(|()| {
            drop(file);
            std::fs::rename(&self.temporary, &self.path)
        });
        done.map_err(|e| {
            let _ = std::fs::remove_file(&self.temporary);
            Cause::io(e).of(&self.path.display().to_string())
        })
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.as_mut().map_or(Ok(0), |f| f.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), BufWriter::flush)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // Without flushing what is buffered: the file goes.
            let _ = file.into_parts();
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}
