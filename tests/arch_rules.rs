//! Data flows one way: formats and runtime know nothing of ours, kernels know runtime, models know
//! those three, the harness knows all.

use std::collections::BTreeSet;

use crate::support::workspace::{OURS, metadata};

/// What each package may name in its manifest, dev-dependencies aside.
const MAY: &[(&str, &[&str])] = &[
    ("weft-formats", &[]),
    ("weft-runtime", &[]),
    ("weft-kernels", &["weft-runtime"]),
    ("weft-models", &["weft-formats", "weft-kernels", "weft-runtime"]),
    ("weft-curriculum", &[]),
    ("weft-harness", &["weft-curriculum", "weft-formats", "weft-kernels", "weft-models", "weft-runtime"]),
];

/// Packages that only these may name: the GPU stays below, the terminal above.
const ONLY: &[(&str, &[&str])] = &[
    ("wgpu", &["weft-runtime"]),
    ("clap", &["weft-harness"]),
    ("indicatif", &["weft-harness"]),
    ("rustyline", &["weft-harness"]),
    ("ctrlc", &["weft-harness"]),
    ("memmap2", &["weft-formats"]),
];

/// (package, dependency, kind) for every dependency that one of ours names; kind is null, "build" or "dev".
fn arrows() -> Vec<(String, String, String)> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let ours = packages.iter().filter(|p| OURS.contains(&p["name"].as_str().expect("a name")));
    ours.flat_map(|p| {
        let from = p["name"].as_str().expect("a name");
        p["dependencies"].as_array().expect("dependencies").iter().map(move |d| {
            let kind = d["kind"].as_str().unwrap_or("normal");
            (from.to_owned(), d["name"].as_str().expect("a name").to_owned(), kind.to_owned())
        })
    })
    .collect()
}

#[test]
fn every_package_of_ours_has_a_rule() {
    let metadata = metadata();
    let members: BTreeSet<String> = metadata["workspace_members"]
        .as_array()
        .expect("members")
        .iter()
        .map(|id| {
            let packages = metadata["packages"].as_array().expect("packages");
            let package = packages.iter().find(|p| p["id"] == *id).expect("a member is a package");
            package["name"].as_str().expect("a name").to_owned()
        })
        .collect();
    assert_eq!(members, OURS.iter().map(|s| (*s).to_owned()).collect());
    assert_eq!(members, MAY.iter().map(|(name, _)| (*name).to_owned()).collect());
}

#[test]
fn no_arrow_points_upwards() {
    let arrows = arrows();
    assert!(arrows.len() > 30, "only {} dependencies were read", arrows.len());
    for (from, to, kind) in &arrows {
        if kind == "dev" || !OURS.contains(&to.as_str()) {
            continue;
        }
        let (_, may) = MAY.iter().find(|(name, _)| name == from).expect("a rule");
        assert!(may.contains(&to.as_str()), "{from} must not depend on {to}");
    }
}

#[test]
fn the_gpu_stays_below_and_the_terminal_above() {
    for (from, to, kind) in &arrows() {
        if let Some((_, only)) = ONLY.iter().find(|(name, _)| name == to) {
            assert!(kind == "dev" || only.contains(&from.as_str()), "{from} must not depend on {to}");
        }
    }
}
