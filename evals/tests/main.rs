//! What this crate computes, beside what was worked out by hand or another way.

mod exam;
mod extract;
mod genesis;
mod health;
mod overlap;
mod readers;
mod server;
mod stats;

use std::path::PathBuf;

/// A file of ours.
fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// An empty folder for one test.
fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("weft-evals-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a folder");
    path
}
