//! Compiled grammars that were used last.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Compiled, Source};

/// Grammars that are kept.
const ENTRIES: usize = 64;
/// Bytes of lexers and rules of all that are kept, about.
const BYTES: usize = 64 << 20;

/// A bounded map, keyed by the hash of a source and then by the source itself.
#[derive(Default)]
pub(super) struct Cache {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    clock: u64,
    bytes: usize,
    entries: HashMap<Source, (u64, Arc<Compiled>)>,
}

impl Cache {
    pub(super) fn get(&self, source: &Source) -> Option<Arc<Compiled>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clock += 1;
        let now = inner.clock;
        let entry = inner.entries.get_mut(source)?;
        entry.0 = now;
        Some(entry.1.clone())
    }

    pub(super) fn put(&self, source: Source, compiled: Arc<Compiled>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clock += 1;
        let now = inner.clock;
        inner.bytes += compiled.bytes();
        if let Some((_, old)) = inner.entries.insert(source, (now, compiled)) {
            inner.bytes -= old.bytes();
        }
        while inner.entries.len() > ENTRIES || (inner.bytes > BYTES && inner.entries.len() > 1) {
            let oldest = inner.entries.iter().min_by_key(|(_, (used, _))| *used).map(|(s, _)| s.clone());
            let Some((_, gone)) = oldest.and_then(|s| inner.entries.remove(&s)) else { break };
            inner.bytes -= gone.bytes();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).entries.len()
    }
}
