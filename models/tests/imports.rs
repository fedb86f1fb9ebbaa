//! Modules of the crate import one way, and no two files of a folder import each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// From what knows nothing of the others to what knows most. A module may import those before it. `error` alone names
/// the errors of all parts, and all parts name it.
const ORDER: &[&str] = &[
    "spec",
    "arch",
    "sites",
    "synthetic",
    "weights",
    "kv",
    "lora",
    "graph",
    "options",
    "model",
    "plan",
    "loading",
    "sampling",
    "session",
    "generate",
    "importance",
    "engine",
    "embedder",
    "measure",
    "train",
    "finetune",
];

fn files(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, all);
        } else if path.extension().is_some_and(|e| e == "rs") {
            all.push(path);
        }
    }
}

/// The text without comments, strings' contents aside, and without tests.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap();
    text.lines().map(|l| l.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Every path that begins with `root`, one segment on; lists in braces are taken apart.
fn paths(text: &str, root: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices(root) {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &text[at + root.len()..];
        let name = |t: &str| t.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            None => drop(found.insert(name(rest))),
            Some(list) => {
                let list = list.split(';').next().unwrap();
                found.extend(list.split(',').map(|part| name(part.trim())));
            }
        }
    }
    found.remove("");
    found
}

/// The module that each name at the root of the crate comes from.
fn exported(src: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let lib = code(&src.join("lib.rs"));
    for line in lib.split(';').filter_map(|l| l.trim().strip_prefix("pub use ")) {
        let (module, names) = line.split_once("::").unwrap();
        let names = names.trim_matches(['{', '}']).split(',').map(|n| n.trim().to_owned());
        all.extend(names.filter(|n| !n.is_empty()).map(|n| (n, module.trim().to_owned())));
    }
    all
}

#[test]
fn modules_import_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let exported = exported(&src);
    let mut all = Vec::new();
    files(&src, &mut all);
    let mut edges = 0;
    for path in &all {
        let inside = path.strip_prefix(&src).unwrap();
        let module = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if ["lib", "error"].contains(&module) || inside.ends_with("tests.rs") {
            continue;
        }
        let rank = |m: &str| ORDER.iter().position(|o| *o == m);
        let own = rank(module).unwrap_or_else(|| panic!("{module} has no place in the order"));
        for name in paths(&code(path), "crate::") {
            let from = exported.get(&name).map_or(&*name, |m| m);
            let Some(of) = rank(from) else { continue };
            edges += 1;
            assert!(of <= own, "{} imports {name} of {from}, which comes behind {module}", inside.display());
        }
    }
    assert!(edges > 80, "only {edges} imports were read");
}

#[test]
fn files_of_a_folder_do_not_import_each_other_in_a_circle() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    let mut folders: BTreeMap<&Path, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for path in &all {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        // A folder's own file only says what is in it.
        if ["mod", "lib", "tests"].contains(&stem) || path.parent() == Some(&src) {
            continue;
        }
        let siblings = paths(&code(path), "super::");
        folders.entry(path.parent().unwrap()).or_default().insert(stem.to_owned(), siblings);
    }
    assert!(folders.len() >= 6);
    for (folder, files) in folders {
        let mut left = files.clone();
        while !left.is_empty() {
            let free = left.iter().find(|(_, needs)| needs.iter().all(|n| !left.contains_key(n)));
            let Some(free) = free.map(|(name, _)| name.clone()) else {
                panic!("{}: {:?} import each other", folder.display(), left.keys());
            };
            left.remove(&free);
        }
    }
}
