//! Files that appear whole or not at all.

use std::fs::{File, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::gguf::{Cause, Error};

/// The largest file that is read at once; tokenizers reach 30 MB, adapters a few GB.
const MAX_BYTES: u64 = 8 << 30;

/// What stands between the name of a file that is being written and the process that writes it.
const MARK: &str = ".weft-";

/// Removes what processes that were killed left of files: those that nobody holds a lock of, which goes with its process.
fn tidy(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|n| n.strip_suffix(".part")?.rsplit_once(MARK));
        let other = process.is_some_and(|(_, id)| id.parse().is_ok_and(|id: u32| id != std::process::id()));
        if other
            && entry.file_type().is_ok_and(|t| t.is_file())
            && let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            // It may be in a folder that others may write to and not remove from.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Whether this name is a link to what a process has open, as `/dev/stdout` is: to give it to a file would take the link
/// away from every program of this machine.
fn is_stream(path: &Path) -> bool {
    std::fs::read_link(path).is_ok_and(|to| ["/proc", "/dev/fd"].iter().any(|folder| to.starts_with(folder)))
}

/// An empty file of this name, which this process holds the lock of. Where a file system has no locks, what a killed process
/// left stays.
fn locked(path: &Path) -> io::Result<File> {
    // Another process may look at it before it has its lock, and take it for a leftover.
    for _ in 0..16 {
        let file = File::options().write(true).create(true).truncate(false).open(path)?;
        let taken = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
        if !taken && path.exists() {
            file.set_len(0)?;
            return Ok(file);
        }
        std::thread::yield_now();
    }
    Err(io::Error::other("is being written by another"))
}

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
    /// `path` is there and no regular file, stands for stdout, or its folder cannot be written.
    pub fn create(path: &Path) -> Result<AtomicFile, Error> {
        let refused = |cause: Cause| Err(cause.of(&path.display().to_string()));
        match (std::fs::metadata(path), path.file_name()) {
            (Ok(m), _) if m.is_dir() => refused(Cause::NoFile("a directory")),
            (Ok(m), _) if !m.is_file() => refused(Cause::NoFile("a pipe or a device")),
            _ if path == Path::new("-") || is_stream(path) => refused(Cause::NoFile("the name of a stream")),
            (_, None) => refused(Cause::NoFile("not a file name")),
            (_, Some(name)) => {
                let mut name = name.to_owned();
                name.push(format!("{MARK}{}.part", std::process::id()));
                let temporary = path.with_file_name(name);
                tidy(path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")));
                match locked(&temporary) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_killed_processes_left_goes() {
        let folder = std::env::temp_dir().join(format!("weft-atomic-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let stays =
            ["b.gguf.weft-2.part", "c.gguf.001.part", "d.gguf.part", "e.weft-3.gguf", "f.weft-x.part"];
        for name in ["a.gguf.weft-1.part"].iter().chain(&stays) {
            std::fs::write(folder.join(name), b"begun").unwrap();
        }
        std::fs::create_dir(folder.join("g.weft-4.part")).unwrap();
        // A process that lives has the lock of what it writes.
        let other = File::open(folder.join(stays[0])).unwrap();
        other.lock().unwrap();
        let mut file = AtomicFile::create(&folder.join("z.gguf")).unwrap();
        let again = AtomicFile::create(&folder.join("z.gguf")).unwrap_err().to_string();
        assert!(again.ends_with("z.gguf: is being written by another"), "{again}");
        file.write_all(b"whole").unwrap();
        file.finish().unwrap();
        let mut found: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        let mut want = stays.to_vec();
        want.extend(["g.weft-4.part", "z.gguf"]);
        assert_eq!(found, want);
        assert_eq!(std::fs::read(folder.join("z.gguf")).unwrap(), b"whole");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// A link of our own, made as `/dev/stdout` is: it stays, and so does the one that other programs need.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_stream_is_no_file_to_replace() {
        use std::os::fd::AsRawFd;

        let folder = std::env::temp_dir().join(format!("weft-atomic-stream-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let open = File::create(folder.join("redirected")).unwrap();
        let link = folder.join("stdout");
        std::os::unix::fs::symlink(format!("/proc/self/fd/{}", open.as_raw_fd()), &link).unwrap();
        assert!(std::fs::metadata(&link).unwrap().is_file(), "what stdout is redirected to");
        for path in [&link, Path::new("-")] {
            let refused = AtomicFile::create(path).unwrap_err().to_string();
            assert!(refused.contains("is the name of a stream; give the name of a file"), "{refused}");
        }
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        // A link to a file that lies elsewhere is a name like any other.
        let other = folder.join("other");
        std::os::unix::fs::symlink(folder.join("redirected"), &other).unwrap();
        drop(AtomicFile::create(&other).unwrap());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
