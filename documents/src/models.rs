//! The models that documents need, as traits: what computes them lies elsewhere.

use serde::{Deserialize, Serialize};

/// Which model vectors come from. Those of two models cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its name, as people are told it.
    pub name: String,
    /// Values of a vector.
    pub width: usize,
    /// Tells its weights from those of another file of the same name.
    pub mark: String,
}

impl std::fmt::Display for About {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mark: String = self.mark.chars().take(8).collect();
        write!(f, "\"{}\" ({} values, {mark})", self.name, self.width)
    }
}

/// Why a model gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Somebody asked it to stop.
    Cancelled,
    /// The line says what happened.
    Failed(String),
}

/// A model that turns texts into vectors.
pub trait Embed {
    /// Which one it is.
    fn about(&self) -> &About;

    /// The most tokens of a text.
    fn context(&self) -> usize;

    /// Tokens of a text, with those that begin and end it.
    fn tokens(&self, text: &str) -> usize;

    /// A vector of length 1 for each text.
    ///
    /// # Errors
    /// See [`Fault`].
    fn embed(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>, Fault>;
}

/// A model that says how well texts answer a query.
pub trait Rerank {
    /// A score for each text; larger is better.
    ///
    /// # Errors
    /// See [`Fault`].
    fn score(&mut self, query: &str, texts: &[String]) -> Result<Vec<f32>, Fault>;
}

/// A mark of a file, from what was read of it.
pub fn mark(seen: &[u8]) -> String {
    use sha2::Digest;
    crate::store::hex(&sha2::Sha256::digest(seen)[..16])
}
