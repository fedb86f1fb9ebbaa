//! `tokenizer.ggml.precompiled_charsmap`: which characters SentencePiece's normaliser replaces by which.
//!
//! The bytes are a u32 with the size of what follows, a trie of u32 (XCDA: a compressed double array as in
//! Yata et al. 2007, s-yata/darts-clone), and the replacements, each ended by a NUL.

use super::Error;
use crate::gguf::{Array, Metadata};

const KEY: &str = "tokenizer.ggml.precompiled_charsmap";

/// Bytes of the longest sequence that is looked up. Together with the next it bounds time and memory,
/// whatever the map; NFKC needs 18 characters at the most.
const MAX_KEY: usize = 128;

/// Bytes of the longest replacement.
const MAX_REPLACEMENT: usize = 128;

#[derive(Debug)]
pub(super) struct Charsmap {
    units: Vec<u32>,
    replacements: String,
}

impl Charsmap {
    /// The map, where the file has one.
    pub(super) fn from_metadata(meta: &Metadata) -> Result<Option<Charsmap>, Error> {
        let bytes: Vec<u8> = match (meta.get(KEY), meta.array(KEY)) {
            (None, _) => return Ok(None),
            (_, Some(Array::U8(v))) => v.clone(),
            (_, Some(Array::I8(v))) => v.iter().map(|b| *b as u8).collect(),
            _ => return Err(Error::Type { key: KEY.into(), expected: "an array of bytes" }),
        };
        if bytes.is_empty() {
            return Ok(None);
        }
        Charsmap::read(&bytes).map(Some).ok_or_else(|| Error::Type {
            key: KEY.into(),
            expected: "a map of characters as SentencePiece writes it, with replacements of up to 128 bytes",
        })
    }

    fn read(bytes: &[u8]) -> Option<Charsmap> {
        let (size, rest) = bytes.split_first_chunk::<4>()?;
        let size = u32::from_le_bytes(*size) as usize;
        let (units, replacements) = (rest.get(..size)?, rest.get(size..)?);
        if !size.is_multiple_of(4) || replacements.split(|b| *b == 0).any(|r| r.len() > MAX_REPLACEMENT) {
            return None;
        }
        let units = units.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        Some(Charsmap { units, replacements: String::from_utf8(replacements.to_vec()).ok()? })
    }

    /// How many of the first of `bytes` are replaced, and by what: the longest sequence in the map.
    pub(super) fn replace(&self, bytes: &[u8]) -> Option<(usize, &str)> {
        let offset = |unit: u32| (unit >> 10) << ((unit & 1 << 9) >> 6);
        let mut found = None;
        let mut at = offset(*self.units.first()?);
        for (i, byte) in bytes.iter().take(MAX_KEY).enumerate() {
            at ^= u32::from(*byte);
            let Some(&unit) = self.units.get(at as usize) else { break };
            if *byte == 0 || unit & (1 << 31 | 0xFF) != u32::from(*byte) {
                break;
            }
            at ^= offset(unit);
            if unit >> 8 & 1 == 1
                && let Some(leaf) = self.units.get(at as usize)
            {
                found = Some((i + 1, (leaf & !(1 << 31)) as usize));
            }
        }
        let (len, start) = found?;
        let text = self.replacements.get(start..)?;
        Some((len, text.split('\0').next().unwrap_or_default()))
    }
}
