//! The file of a store (redb): made whole or not at all, and begun again where a process ended while it made it.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError};

/// Bytes that redb gives a new file at most, before anything is in it.
const NEW: u64 = 1 << 17;
/// Its mark stands here once the rest of its first page is on the disk.
const MARK: usize = 9;
const PAGE: usize = 4096;

/// What is wrong with a store, without the number of the system's error.
pub(crate) fn plain(e: &impl std::fmt::Display) -> String {
    e.to_string().split(" (os error").next().unwrap_or_default().to_owned()
}

/// Opens a store's file, which is made where it is not there and which its owner alone can read. `over` makes the store of
/// it; where that or the file itself fails, as on a full disk, a new file is gone again.
///
/// # Errors
/// One line without the path: it cannot be opened, is no store, or another program has it open; or what `over` gives.
pub fn open_file<T>(path: &Path, over: impl FnOnce(Database) -> Result<T, String>) -> Result<T, String> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).map_err(|e| plain(&e))?;
    let mut same = file.try_clone().map_err(|e| plain(&e))?;
    let refused = |e: DatabaseError| match e {
        DatabaseError::DatabaseAlreadyOpen => "another program has it open".to_owned(),
        e => plain(&e),
    };
    // From here on no other program has it.
    let backend = FileBackend::new(file).map_err(refused)?;
    let new = begun(&mut same).map_err(|e| plain(&e))?;
    if new {
        same.set_len(0).map_err(|e| plain(&e))?;
    }
    let made = Builder::new().create_with_backend(backend).map_err(refused).and_then(over);
    if made.is_err() && new {
        let _ = std::fs::remove_file(path);
    }
    made
}

/// Whether a file is empty, or was begun and never got its mark: a foreign file has more than zeros in it.
fn begun(file: &mut File) -> std::io::Result<bool> {
    if file.metadata()?.len() > NEW {
        return Ok(false);
    }
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(NEW).read_to_end(&mut bytes)?;
    Ok(bytes.iter().enumerate().all(|(i, b)| *b == 0 || (MARK..PAGE).contains(&i)))
}
