//! Data that was uploaded.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use weft_formats::hex;

use super::Text;
use crate::disk;
use crate::error::{ApiError, Result};

/// How many files are kept.
const MOST: usize = 64;

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FileCard {
    pub(crate) id: String,
    /// Whose it is.
    pub(crate) owner: String,
    /// What its owner calls it, for messages alone.
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) created: u64,
}

/// The folder of all of them.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    all: Vec<FileCard>,
}

fn is_id(name: &str) -> bool {
    name.strip_prefix("file-").is_some_and(|h| h.len() == 24 && h.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn failed(e: &std::io::Error) -> ApiError {
    ApiError::fault(format!("the file cannot be kept: {}", disk::plain(e)))
}

impl Files {
    /// Those that lie there.
    pub(super) fn open(folder: PathBuf) -> std::io::Result<Files> {
        disk::folder(&folder)?;
        let mut all: Vec<FileCard> = Vec::new();
        for entry in std::fs::read_dir(&folder)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(id) = name.strip_suffix(".json").filter(|id| is_id(id)) else { continue };
            let card = std::fs::read(entry.path()).ok().and_then(|b| serde_json::from_slice(&b).ok());
            // A file without a card, or a card without a file, is what a kill left behind.
            all.extend(card.filter(|c: &FileCard| c.id == id && folder.join(id).is_file()));
        }
        all.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(Files { folder, all })
    }

    /// Keeps a file; the same again is the same.
    pub(super) fn add(&mut self, owner: &str, text: Text, now: u64) -> Result<FileCard> {
        let mut hash = Sha256::new();
        for part in [owner.as_bytes(), text.name.as_bytes()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.update(&text.bytes);
        let id = format!("file-{}", hex(&hash.finalize()[..12]));
        if let Some(known) = self.all.iter().find(|f| f.id == id) {
            return Ok(known.clone());
        }
        if self.all.len() >= MOST {
            let line = format!("{MOST} files are kept here and no more; delete one by DELETE /v1/files/ID");
            return Err(ApiError::bad("too_many_files", line));
        }
        let bytes = text.bytes.len() as u64;
        let card = FileCard { id, owner: owner.into(), name: text.name, bytes, created: now };
        let json = serde_json::to_vec(&card).map_err(|e| ApiError::fault(e.to_string()))?;
        disk::write(&self.folder.join(&card.id), &text.bytes).map_err(|e| failed(&e))?;
        disk::write(&self.folder.join(format!("{}.json", card.id)), &json).map_err(|e| failed(&e))?;
        self.all.push(card.clone());
        Ok(card)
    }

    /// Those of an owner, the newest first.
    pub(super) fn list(&self, owner: &str) -> Vec<FileCard> {
        self.all.iter().rev().filter(|f| f.owner == owner).cloned().collect()
    }

    pub(super) fn find(&self, owner: &str, id: &str) -> Result<FileCard> {
        let found = self.all.iter().find(|f| f.id == id && f.owner == owner);
        found.cloned().ok_or_else(|| {
            let shown: String = id.chars().take(80).collect();
            let line = format!("there is no file \"{shown}\": it was deleted, or is another key's");
            ApiError::missing("file_not_found", line)
        })
    }

    pub(super) fn read(&self, card: &FileCard) -> Result<Text> {
        let bytes = std::fs::read(self.folder.join(&card.id)).map_err(|e| failed(&e))?;
        Ok(Text { name: card.name.clone(), bytes })
    }

    pub(super) fn remove(&mut self, owner: &str, id: &str) -> Result<()> {
        let card = self.find(owner, id)?;
        std::fs::remove_file(self.folder.join(format!("{}.json", card.id))).map_err(|e| failed(&e))?;
        self.all.retain(|f| f.id != card.id);
        let _ = std::fs::remove_file(self.folder.join(&card.id));
        Ok(())
    }
}
