//! What can go wrong between a plan and its recording.

/// What recording an op can report.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The device refused or failed.
    #[error(transparent)]
    Gpu(#[from] weft_runtime::Error),
    /// The op cannot be split far enough for this budget, or the shape is not one it takes.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum PlanError {
    #[error("{op}: {what} needs {needed} bytes in one binding, the budget allows {allowed}")]
    DoesNotFit { op: &'static str, what: &'static str, needed: u64, allowed: u64 },
    #[error("{op}: {what}")]
    Shape { op: &'static str, what: String },
}
