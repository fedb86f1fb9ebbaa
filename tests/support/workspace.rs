//! What cargo says of this workspace.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The packages of ours.
pub(crate) const OURS: &[&str] = &[
    "weft-formats",
    "weft-runtime",
    "weft-kernels",
    "weft-models",
    "weft-curriculum",
    "weft-documents",
    "weft-evals",
    "weft-hub",
    "weft-server",
    "weft-web",
    "weft-harness",
];

/// stdout of `cargo ARGS` in the workspace, with the lock file as committed. The network is used only
/// where a package is not in the registry's cache.
pub(crate) fn cargo(args: &[&str]) -> String {
    let run = |more: &[&str]| {
        Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
            .args(args)
            .arg("--locked")
            .args(more)
            .output()
            .expect("cargo starts")
    };
    let mut out = run(&["--offline"]);
    if !out.status.success() {
        out = run(&[]);
    }
    assert!(out.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("UTF-8")
}

/// `cargo metadata`.
pub(crate) fn metadata() -> Value {
    serde_json::from_str(&cargo(&["metadata", "--format-version", "1"])).expect("JSON")
}

/// The names of all packages that `package` needs, itself included, to be built and run on `target`.
pub(crate) fn tree(package: &str, target: &str) -> Vec<String> {
    let args = [
        "tree",
        "-p",
        package,
        "-e",
        "normal,build",
        "--target",
        target,
        "--prefix",
        "none",
        "--format",
        "{p}",
    ];
    let mut names: Vec<String> =
        cargo(&args).lines().filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect();
    names.sort();
    names.dedup();
    assert!(names.len() > 10, "{package} for {target}: {names:?}");
    names
}
