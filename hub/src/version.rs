//! What tells one version of a model from another without reading its files.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use crate::name::{split, stem};
use crate::store::Entry;

/// What the system says of a model's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Bytes of all of them.
    pub size: u64,
    /// When the last of them was written, in seconds since 1970.
    pub modified: u64,
    /// SHA-256, in hexadecimal digits, of their names, sizes and times: another one wherever a file was written again. It
    /// is no checksum of what they hold, which would take minutes.
    pub digest: String,
}

impl Version {
    /// The version of the model whose first file, or only one, this is; None where a file is missing.
    pub fn of(first: &Path) -> Option<Version> {
        Version::of_files(&files(first))
    }

    fn of_files(files: &[PathBuf]) -> Option<Version> {
        let (mut size, mut modified, mut hash) = (0, 0, Sha256::new());
        for path in files {
            let about = std::fs::metadata(path).ok()?;
            let since =
                about.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
            size += about.len();
            modified = modified.max(since.as_secs());
            let name = path.file_name()?.to_string_lossy();
            hash.update(format!("{name}\n{}\n{}\n", about.len(), since.as_nanos()));
        }
        Some(Version { size, modified, digest: weft_formats::hex(&hash.finalize()) })
    }
}

impl Entry {
    /// Which version of the model it is; None where a file went meanwhile.
    pub fn version(&self) -> Option<Version> {
        Version::of_files(&self.files)
    }
}

/// The files of a model, by the name of the first.
fn files(first: &Path) -> Vec<PathBuf> {
    let name = first.file_name().and_then(|n| n.to_str()).and_then(stem);
    match name.and_then(split) {
        Some((name, 1, count)) => {
            (1..=count).map(|no| first.with_file_name(format!("{name}-{no:05}-of-{count:05}.gguf"))).collect()
        }
        _ => vec![first.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn a_file_that_is_written_again_is_another_version() {
        let folder = std::env::temp_dir().join(format!("weft-version-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let first = folder.join("m-00001-of-00002.gguf");
        std::fs::write(&first, "one").unwrap();
        assert_eq!(Version::of(&first), None);
        let second = folder.join("m-00002-of-00002.gguf");
        std::fs::write(&second, "and two").unwrap();
        let before = Version::of(&first).unwrap();
        assert_eq!((before.size, before.digest.len()), (10, 64));
        assert_eq!(Version::of(&first), Some(before.clone()));
        // A file of the same length.
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
        std::fs::File::options().write(true).open(&second).unwrap().set_modified(later).unwrap();
        let after = Version::of(&first).unwrap();
        assert_ne!(after.digest, before.digest);
        assert!(after.modified > before.modified);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
