//! What a machine keeps of others: its own key, the machines that it may use, and those that may use it.
//!
//! All of it lies in one folder that its owner alone can read. A file is written beside its place and then renamed, so that
//! whoever reads finds the old one or the new one, whenever the writer was ended.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use weft_formats::hex;

use crate::disk;

/// Bytes of a file of ours at most.
const LARGEST: u64 = 1 << 20;

/// A machine that this one may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// What it is called here.
    pub name: String,
    /// Where it is, as `host:port`.
    pub address: String,
    /// Its public key, in hexadecimal digits.
    pub key: String,
}

/// A machine that may use this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// What it calls itself.
    pub name: String,
    /// Its public key, in hexadecimal digits.
    pub key: String,
}

/// All that are paired.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paired {
    /// Machines that this one may use.
    #[serde(default)]
    pub machines: Vec<Machine>,
    /// Machines that may use this one.
    #[serde(default)]
    pub guests: Vec<Guest>,
}

/// This machine's own key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) private: [u8; 32],
    pub(crate) public: [u8; 32],
}

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

/// The key of these digits.
pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    let text = text.trim();
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut key = [0; 32];
    for (i, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(key)
}

impl Folder {
    pub(crate) fn new(path: &Path) -> Folder {
        Folder(path.to_owned())
    }

    fn line(&self, e: impl std::fmt::Display) -> String {
        format!("{}: {e}", self.0.display())
    }

    /// Makes the folder, and keeps others from it while this is held.
    fn lock(&self) -> Result<File, String> {
        disk::folder(&self.0).map_err(|e| self.line(e))?;
        let lock = owners(&self.0.join("lock")).map_err(|e| self.line(e))?;
        lock.lock().map_err(|e| self.line(e))?;
        Ok(lock)
    }

    fn read(&self, name: &str) -> Result<Option<String>, String> {
        let path = self.0.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(format!("{}: {e}", path.display())),
        };
        let meta = file.metadata().map_err(|e| format!("{}: {e}", path.display()))?;
        #[cfg(unix)]
        if std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o077 != 0 {
            return Err(format!("{}: others can read or write it; chmod 600 keeps them out", path.display()));
        }
        if meta.len() > LARGEST {
            return Err(format!("{}: it is too large to be a file of Weft", path.display()));
        }
        std::io::read_to_string(file).map(Some).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Puts a file in its place, whole or not at all.
    fn write(&self, name: &str, text: &str) -> Result<(), String> {
        let part = self.0.join(format!("{name}.part"));
        let write = || {
            // One that was left behind may have been written by nobody knows whom.
            match fs::remove_file(&part) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let mut file = owners(&part)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&part, self.0.join(name))?;
            #[cfg(unix)]
            File::open(&self.0)?.sync_all()?;
            Ok(())
        };
        write().map_err(|e| self.line(e))
    }

    /// This machine's key, which is made where there is none yet.
    ///
    /// # Errors
    /// The folder cannot be written, or holds something else.
    pub(crate) fn identity(&self) -> Result<Identity, String> {
        let _lock = self.lock()?;
        let private = match self.read("identity.key")? {
            Some(text) => unhex(&text).ok_or_else(|| self.line("identity.key holds no key"))?,
            None => {
                let mut private = [0; 32];
                getrandom::fill(&mut private)
                    .map_err(|e| format!("the system gives no random numbers: {e}"))?;
                self.write("identity.key", &(hex(&private) + "\n"))?;
                private
            }
        };
        let public = super::handshake::public(&private)?;
        Ok(Identity { private, public })
    }

    /// All that are paired now.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub(crate) fn paired(&self) -> Result<Paired, String> {
        let Some(text) = self.read("machines.json")? else { return Ok(Paired::default()) };
        serde_json::from_str(&text)
            .map_err(|e| self.line(format!("machines.json is not what Weft wrote: {e}")))
    }

    /// Changes what is paired.
    ///
    /// # Errors
    /// The folder cannot be written, or what `change` says.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut Paired) -> Result<T, String>,
    ) -> Result<T, String> {
        let _lock = self.lock()?;
        let mut paired = self.paired()?;
        let before = paired.clone();
        let made = change(&mut paired)?;
        if paired != before {
            let text = serde_json::to_string_pretty(&paired).map_err(|e| self.line(e))?;
            self.write("machines.json", &(text + "\n"))?;
        }
        Ok(made)
    }
}

/// Opens a file that its owner alone can read, or makes it.
fn owners(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use weft_formats::hex;

    use super::{Folder, Guest, unhex};

    fn folder(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("weft-peers-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn keys_are_digits() {
        let key = std::array::from_fn(|i| i as u8 * 7);
        assert_eq!(unhex(&hex(&key)), Some(key));
        assert!(
            unhex("00").is_none() && unhex(&"g".repeat(64)).is_none() && unhex(&"ä".repeat(32)).is_none()
        );
    }

    #[test]
    fn a_key_is_made_once_and_nobody_else_reads_it() {
        let path = folder("key");
        let first = Folder::new(&path).identity().expect("a key");
        let again = Folder::new(&path).identity().expect("a key");
        assert_eq!((first.private, first.public), (again.private, again.public));
        assert_ne!(first.private, first.public);
        Folder::new(&path)
            .change(|p| {
                p.guests.push(Guest { name: "a".into(), key: hex(&first.public) });
                Ok(())
            })
            .expect("kept");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode =
                |p: &std::path::Path| std::fs::metadata(p).expect("there").permissions().mode() & 0o777;
            assert_eq!(mode(&path), 0o700);
            for file in std::fs::read_dir(&path).expect("a folder") {
                let file = file.expect("a file").path();
                assert_eq!(mode(&file), 0o600, "{}", file.display());
            }
            let key = path.join("identity.key");
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("set");
            assert!(Folder::new(&path).identity().is_err_and(|e| e.contains("chmod 600")));
        }
        std::fs::remove_dir_all(&path).expect("removed");
    }

    #[test]
    fn what_is_no_file_of_ours_is_said() {
        let path = folder("other");
        assert_eq!(Folder::new(&path).paired().expect("none yet").guests, []);
        Folder::new(&path).identity().expect("a key");
        for (name, text) in [("machines.json", "{"), ("identity.key", "none")] {
            let mut file = super::owners(&path.join(name)).expect("a file");
            file.set_len(0).expect("cut");
            std::io::Write::write_all(&mut file, text.as_bytes()).expect("written");
        }
        assert!(Folder::new(&path).paired().is_err_and(|e| e.contains("not what Weft wrote")));
        assert!(Folder::new(&path).identity().is_err_and(|e| e.contains("holds no key")));
        std::fs::remove_dir_all(&path).expect("removed");
    }
}
