//! Compiled pipelines on the disk, a file each.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, SystemTime};

/// A folder of compiled pipelines, for one adapter and driver. Nothing that goes wrong with it is an error:
/// what cannot be read is compiled again, what cannot be written is lost.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    /// What a pipeline depends on, beside its shader.
    key: String,
    tidied: Once,
}

/// Where one pipeline lies.
pub(crate) struct Entry<'a> {
    cache: &'a Cache,
    file: PathBuf,
    key: String,
}

const MAGIC: &[u8; 8] = b"weftpipe";

/// The largest file that can be a pipeline.
const LARGEST: u64 = 1 << 28;

/// A file that nothing has used for so long goes.
const KEPT: Duration = Duration::from_secs(60 * 60 * 24 * 60);

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

impl Cache {
    pub(crate) fn new(folder: &Path, info: &wgpu::AdapterInfo, features: wgpu::Features) -> Cache {
        let i = info;
        let key = format!(
            "weft {}, wgpu 30, {:?} {:x}:{:x} {}, {} {}, {features:?}",
            env!("CARGO_PKG_VERSION"),
            i.backend,
            i.vendor,
            i.device,
            i.name,
            i.driver,
            i.driver_info
        );
        Cache { folder: folder.to_owned(), key, tidied: Once::new() }
    }

    /// The place of the pipeline of a shader, which stands for all that goes into it.
    pub(crate) fn entry(&self, shader: &str) -> Entry<'_> {
        let key = format!("{}\n{shader}", self.key);
        let name = format!("{:016x}.pipeline", hash(&key));
        Entry { cache: self, file: self.folder.join(name), key }
    }

    /// Removes what has not been used for long, or was never finished.
    fn tidy(&self) {
        let Ok(files) = std::fs::read_dir(&self.folder) else { return };
        for file in files.flatten() {
            let name = file.file_name();
            let ours = name.to_str().is_some_and(|n| n.contains(".pipeline"));
            let modified = file.metadata().and_then(|m| m.modified());
            let age = modified.ok().and_then(|m| SystemTime::now().duration_since(m).ok());
            if ours && age.is_some_and(|a| a > KEPT) {
                let _ = std::fs::remove_file(file.path());
            }
        }
    }
}

impl Entry<'_> {
    /// The driver's data, if the file is there, whole, and of this very shader and driver.
    pub(crate) fn read(&self) -> Option<Vec<u8>> {
        // A pipe or a device under this name would be read for ever.
        let stat = std::fs::metadata(&self.file).ok().filter(|m| m.is_file() && m.len() <= LARGEST)?;
        let mut bytes = Vec::with_capacity(stat.len() as usize);
        let file = std::fs::File::open(&self.file).ok()?;
        std::io::Read::read_to_end(&mut std::io::Read::take(file, LARGEST), &mut bytes).ok()?;
        let (data, head) = (bytes.get(self.head()..)?, &bytes[..self.head()]);
        if head != self.header(data) {
            tracing::debug!(file = %self.file.display(), "cached pipeline ignored");
            return None;
        }
        // So that what is used stays; once a day is enough.
        let day = Duration::from_secs(60 * 60 * 24);
        let modified = std::fs::metadata(&self.file).and_then(|m| m.modified()).ok()?;
        if SystemTime::now().duration_since(modified).is_ok_and(|age| age > day) {
            let file = std::fs::File::options().append(true).open(&self.file);
            let _ = file.and_then(|f| f.set_modified(SystemTime::now()));
        }
        Some(data.to_vec())
    }

    /// Keeps the driver's data: the file appears whole or not at all.
    pub(crate) fn write(&self, data: &[u8]) {
        let folder = &self.cache.folder;
        let mut bytes = self.header(data);
        bytes.extend_from_slice(data);
        let part = self.file.with_extension(format!("pipeline-{}", std::process::id()));
        let written = std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&part, bytes))
            .and_then(|()| std::fs::rename(&part, &self.file));
        if let Err(e) = written {
            tracing::debug!(file = %self.file.display(), error = %e, "pipeline not cached");
            let _ = std::fs::remove_file(&part);
        }
        self.cache.tidied.call_once(|| self.cache.tidy());
    }

    /// Bytes in front of the data.
    fn head(&self) -> usize {
        MAGIC.len() + 8 + self.key.len() + 8
    }

    /// Magic, length of the key, the key whole, hash of the data.
    fn header(&self, data: &[u8]) -> Vec<u8> {
        let mut head = Vec::with_capacity(self.head() + data.len());
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&(self.key.len() as u64).to_le_bytes());
        head.extend_from_slice(self.key.as_bytes());
        head.extend_from_slice(&hash(data).to_le_bytes());
        head
    }
}

/// Where this user's compiled pipelines belong: the folder that the environment variable `WEFT_CACHE` names, or
/// `weft` in the system's place for caches (`XDG_CACHE_HOME` or `~/.cache`, `~/Library/Caches`, `LOCALAPPDATA`).
/// `None` where `WEFT_CACHE` is `off` or empty, or where there is no such place.
pub fn default_cache() -> Option<PathBuf> {
    let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let absolute = |p: PathBuf| p.is_absolute().then_some(p);
    if let Some(asked) = path("WEFT_CACHE") {
        let off = asked.as_os_str().is_empty() || asked.as_os_str() == "off";
        return (!off).then_some(asked);
    }
    let place = if cfg!(windows) {
        path("LOCALAPPDATA").and_then(absolute)
    } else if cfg!(target_vendor = "apple") {
        path("HOME").and_then(absolute).map(|h| h.join("Library/Caches"))
    } else {
        let home = || path("HOME").and_then(absolute).map(|h| h.join(".cache"));
        path("XDG_CACHE_HOME").and_then(absolute).or_else(home)
    };
    place.map(|p| p.join("weft"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(folder: &Path, driver: &str) -> Cache {
        Cache { folder: folder.to_owned(), key: driver.to_owned(), tidied: Once::new() }
    }

    /// Whole files of this driver and shader count, nothing else does, and nothing is an error.
    #[test]
    fn only_whole_files_of_the_same_key_are_read() {
        let folder = std::env::temp_dir().join(format!("weft-cache-{}", std::process::id()));
        let ours = cache(&folder, "driver 1");
        let entry = ours.entry("shader");
        assert_eq!(entry.read(), None);
        entry.write(b"compiled");
        assert_eq!(entry.read().as_deref(), Some(&b"compiled"[..]));
        assert_eq!(ours.entry("another").read(), None);
        assert_eq!(cache(&folder, "driver 2").entry("shader").read(), None);
        let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert_eq!(names, [entry.file.file_name().unwrap()]);

        let whole = std::fs::read(&entry.file).unwrap();
        for (i, _) in whole.iter().enumerate() {
            std::fs::write(&entry.file, &whole[..i]).unwrap();
            assert_eq!(entry.read(), None, "cut at {i}");
            let mut flipped = whole.clone();
            flipped[i] ^= 4;
            std::fs::write(&entry.file, &flipped).unwrap();
            assert_eq!(entry.read(), None, "byte {i} changed");
        }
        // A file under another shader's name, as after a collision of hashes.
        std::fs::copy(&entry.file, &ours.entry("another").file).unwrap();
        assert_eq!(ours.entry("another").read(), None);
        entry.write(b"");
        assert_eq!(entry.read().as_deref(), Some(&b""[..]));
        std::fs::remove_dir_all(&folder).unwrap();

        // A folder that cannot be: a file is in its place.
        std::fs::write(&folder, b"").unwrap();
        entry.write(b"compiled");
        assert_eq!(entry.read(), None);
        std::fs::remove_file(&folder).unwrap();
    }

    #[test]
    fn what_was_not_used_for_long_goes() {
        let folder = std::env::temp_dir().join(format!("weft-tidy-{}", std::process::id()));
        let ours = cache(&folder, "driver");
        ours.entry("old").write(b"old");
        let old = SystemTime::now() - KEPT - Duration::from_secs(60);
        let file = std::fs::File::options().append(true).open(&ours.entry("old").file).unwrap();
        file.set_modified(old).unwrap();
        let strange = folder.join("notes.txt");
        std::fs::write(&strange, b"").unwrap();
        std::fs::File::options().append(true).open(&strange).unwrap().set_modified(old).unwrap();
        // Used again, it is new.
        assert!(ours.entry("old").read().is_some());
        file.set_modified(old).unwrap();
        cache(&folder, "driver").entry("new").write(b"new");
        assert!(ours.entry("new").read().is_some() && ours.entry("old").read().is_none());
        assert!(strange.exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
