//! Every way the GPU can fail, each with the way out in its message.

use crate::pool::Pool;

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong between us and the GPU.
#[derive(Debug, Clone, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error(
        "no GPU adapter found: install a Vulkan driver (on Debian or Ubuntu: apt-get install mesa-vulkan-drivers)"
    )]
    NoAdapter,
    #[error("no adapter matches \"{wanted}\"; this machine has: {available}")]
    NoSuchAdapter { wanted: String, available: String },
    #[error("the adapter {adapter} cannot give {what} = {wanted} (it has {available})")]
    LimitTooHigh { adapter: String, what: &'static str, wanted: u64, available: u64 },
    #[error("the device could not be opened: {0}")]
    OpenDevice(String),
    #[error(
        "out of GPU memory: {label} needs {} more in the {pool} pool, {} is in use; \
         try a smaller context, a smaller quantisation or another device",
        crate::pool::human(*requested), crate::pool::human(*in_use)
    )]
    OutOfMemory { pool: Pool, label: String, requested: u64, in_use: u64 },
    #[error(
        "{label} needs {} in one buffer, the device allows {}",
        crate::pool::human(*requested), crate::pool::human(*allowed)
    )]
    BufferTooLarge { label: String, requested: u64, allowed: u64 },
    #[error("shader {name} was rejected: {message}")]
    Shader { name: String, message: String },
    #[error("the device was lost ({0}); open it again, with smaller submits or another adapter")]
    DeviceLost(String),
    #[error("the GPU reported an error: {0}")]
    Gpu(String),
}

/// Drivers and naga speak in paragraphs; our errors are one line.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
