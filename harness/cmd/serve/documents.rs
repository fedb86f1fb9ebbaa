//! The documents that are served, with their models.

use std::sync::Arc;

use weft_documents::Store;
use weft_server::{Documents, Served};

use super::Flags;
use super::open::{self, Opened};
use crate::documents::{about, read_pdf};
use crate::options::context;
use crate::{Error, Result};

/// A store that is open, and its models.
pub(super) struct Kept {
    store: Store,
    embedder: Opened,
    reranker: Option<Opened>,
}

/// Opens what the flags name.
///
/// # Errors
/// A file that cannot be read, or another program's.
pub(super) fn open(f: &Flags, others: &[Opened]) -> Result<Option<Kept>> {
    let (Some(store), Some(embedder)) = (&f.documents, &f.embedder) else { return Ok(None) };
    let store = Store::open(store).map_err(|e| Error::input(e.to_string()))?;
    let embedder = open::one(f, embedder, others)?;
    let reranker = f.reranker.as_ref().map(|path| open::one(f, path, others)).transpose()?;
    Ok(Some(Kept { store, embedder, reranker }))
}

impl Kept {
    /// Starts the models.
    ///
    /// # Errors
    /// A model that is none for this, or a store of another embedder.
    pub(super) fn start(self, f: &Flags) -> Result<(Documents, Vec<Served>, String)> {
        let spec = self.embedder.model.spec();
        let Some(pooling) = f.pooling.or(spec.out.pooling) else {
            return Err(Error::input(format!(
                "--embedder {}: the file says no pooling, so that it is no embedding model; --pooling (mean, cls or last) \
                 takes it for one",
                self.embedder.name
            )));
        };
        let about = about(&self.embedder.flag, spec.width as usize, pooling)?;
        let start = |one: Opened, pooling| {
            let context = context(one.model.spec(), None);
            one.start_vectors(f, context, "", pooling)
        };
        let count = self.store.list().len();
        let embedder = start(self.embedder, f.pooling)?.served;
        let reranker = self.reranker.map(|one| start(one, None)).transpose()?.map(|s| s.served);
        let line = format!("{count} documents; vectors by {}", embedder.card.id);
        let documents = Documents::new(self.store, about, &embedder, reranker.as_ref(), Arc::new(read_pdf));
        let documents = documents.map_err(Error::input)?;
        Ok((documents, std::iter::once(embedder).chain(reranker).collect(), line))
    }
}
