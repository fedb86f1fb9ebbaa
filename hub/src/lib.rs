//! Models from elsewhere: pulled from a hub that speaks Hugging Face's protocol or from any address, and the folder
//! where they lie.
//!
//! A file appears whole or not at all: it is written beside its place as `NAME.gguf.part`, hashed while it is written,
//! and renamed once length, checksum and header are right. What breaks off is gone on with by the next call. Nothing
//! here knows a GPU, a terminal or a runtime of threads.

mod disk;
mod error;
mod fetch;
mod http;
mod hub;
mod name;
mod pull;
mod store;
mod tls;
mod url;
mod version;

pub use disk::free;
pub use error::{Error, Kind, Result};
pub use name::{Name, is_name};
pub use pull::{Options, Progress, Pulled, Stage, pull};
pub use store::{Entry, Partial, Record, Store, Verdict};
pub use url::Url;
pub use version::Version;

/// Where models are pulled from unless an endpoint is named.
pub const ENDPOINT: &str = "https://huggingface.co";

/// Bytes as people read them.
fn human(bytes: u64) -> String {
    let size = bytes as f64;
    match bytes.checked_ilog2().unwrap_or(0) {
        0..10 => format!("{bytes} B"),
        10..20 => format!("{:.1} KiB", size / 1024.0),
        20..30 => format!("{:.1} MiB", size / 1024.0_f64.powi(2)),
        _ => format!("{:.2} GiB", size / 1024.0_f64.powi(3)),
    }
}
