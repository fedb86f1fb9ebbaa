//! Nothing that is built or run compiles C or C++, for any target.

use crate::support::workspace::{metadata, tree};

const TARGETS: &[(&str, &str)] = &[
    ("weft-harness", "x86_64-unknown-linux-gnu"),
    ("weft-harness", "aarch64-unknown-linux-gnu"),
    ("weft-harness", "aarch64-linux-android"),
    ("weft-harness", "x86_64-pc-windows-msvc"),
    ("weft-harness", "aarch64-apple-darwin"),
    ("weft-web", "wasm32-unknown-unknown"),
];

/// Packages that compile C or C++, or find and link what somebody compiled.
const BANNED: &[&str] = &[
    "autotools",
    "aws-lc-rs",
    "aws-lc-sys",
    "bindgen",
    "bzip2-sys",
    "cc",
    "cmake",
    "cxx",
    "cxx-build",
    "esaxx-rs",
    "libgit2-sys",
    "libz-sys",
    "link-cplusplus",
    "lzma-sys",
    "mimalloc",
    "libmimalloc-sys",
    "nasm-rs",
    "onig",
    "onig_sys",
    "openssl-sys",
    "pkg-config",
    "ring",
    "shaderc",
    "shaderc-sys",
    "spirv_cross",
    "tikv-jemalloc-sys",
    "vcpkg",
    "zstd-sys",
];

/// Packages that only use the `links` key to be unique in a build.
const LINK_NOTHING: &[&str] = &["rayon-core", "wasm-bindgen-shared"];

#[test]
fn no_package_compiles_c() {
    for (package, target) in TARGETS {
        let names = tree(package, target);
        let found: Vec<_> = names.iter().filter(|n| BANNED.contains(&n.as_str())).collect();
        assert!(found.is_empty(), "{package} for {target} has {found:?}");
    }
}

#[test]
fn no_package_links_a_native_library_or_calls_a_compiler() {
    let mut names: Vec<String> = TARGETS.iter().flat_map(|(p, t)| tree(p, t)).collect();
    names.sort();
    names.dedup();
    let metadata = metadata();
    let (mut links, mut calls, mut scripts) = (Vec::new(), Vec::new(), 0);
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        if names.binary_search_by(|n| n.as_str().cmp(name)).is_err() {
            continue;
        }
        if !package["links"].is_null() && !LINK_NOTHING.contains(&name) {
            links.push(name);
        }
        for target in package["targets"].as_array().expect("targets") {
            if target["kind"][0] == "custom-build" {
                let source =
                    std::fs::read_to_string(target["src_path"].as_str().expect("a path")).expect(name);
                // cbindgen writes a header from Rust's source; it calls no compiler, unlike bindgen.
                let source = source.replace("cbindgen::", "");
                scripts += 1;
                if ["cc::", "cmake::", "bindgen::", "Command::new(\"cc\")", "Command::new(\"clang"]
                    .iter()
                    .any(|call| source.contains(call))
                {
                    calls.push(name);
                }
            }
        }
    }
    assert_eq!(links, Vec::<&str>::new(), "link a native library");
    assert_eq!(calls, Vec::<&str>::new(), "call a compiler from their build script");
    assert!(scripts > 10, "only {scripts} build scripts were read");
}
