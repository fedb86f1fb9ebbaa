//! Files that only their owner reads, and that are there whole or not at all.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// What is wrong with a disk, without a path.
pub(crate) fn plain(e: &std::io::Error) -> String {
    e.to_string().split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Makes a folder that its owner alone can look into.
pub(crate) fn folder(path: &Path) -> std::io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Writes a file so that a process that is killed leaves the old one or the new one.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let temporary = path.with_file_name(name);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options
        .open(&temporary)
        .and_then(|mut f| f.write_all(bytes).and_then(|()| f.sync_all()))
        .and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    // Folders cannot be opened for this everywhere; the rename is atomic all the same.
    let _ = path.parent().map(|p| File::open(p).and_then(|f| f.sync_all()));
    written
}

/// Removes a folder; under another name first, so that one that is half removed is none.
pub(crate) fn remove(path: &Path) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".gone");
    let gone = path.with_file_name(name);
    std::fs::rename(path, &gone)?;
    std::fs::remove_dir_all(&gone)
}
