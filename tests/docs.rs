//! What the documents say is what there is.

use std::path::Path;

use clap::Parser;
use weft_harness::cmd::Cli;

use crate::support::cli::ok;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

/// The words of a shell line up to a redirection, a pipe or a comment, quotes removed.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '#' | '<' | '>' | '|') if word.is_none() => break,
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Every line of `text` that runs `weft` parses; returns how many there were.
fn check_commands(text: &str) -> usize {
    let lines = text.lines().map(str::trim).filter(|l| l.starts_with("weft ") && !l.starts_with("weft help"));
    lines
        .map(|line| {
            // In --help a column of explanations follows after spaces.
            let line = line.split("  ").next().expect("a part");
            if let Err(e) = Cli::try_parse_from(words(line)) {
                panic!("{line}\n{e}");
            }
        })
        .count()
}

#[test]
fn the_readme_s_commands_parse() {
    assert!(check_commands(&read("README.md")) >= 15);
}

#[test]
fn the_examples_in_help_parse() {
    for name in [
        "run",
        "chat",
        "tokenize",
        "inspect",
        "devices",
        "tune",
        "logits",
        "eval",
        "curriculum",
        "quantize",
        "imatrix",
        "convert",
        "split",
    ] {
        assert!(check_commands(&ok(&[name, "--help"])) >= 2, "{name}");
    }
    assert!(check_commands(&ok(&["--help"])) >= 3);
    for mode in ["list", "test", "grad", "perf", "support"] {
        assert!(check_commands(&ok(&["kernels", mode, "--help"])) >= 2, "{mode}");
    }
}

#[test]
fn the_readme_s_example_is_the_doctest() {
    let body = |text: &str, prefix: &str| -> Vec<String> {
        text.lines()
            .map(|l| l.trim_start_matches(prefix).trim().to_owned())
            .skip_while(|l| !l.starts_with("let model"))
            .take_while(|l| !l.contains("Ok(())"))
            .collect()
    };
    let (readme, doctest) = (body(&read("README.md"), " "), body(&read("models/src/lib.rs"), "//! "));
    assert!(readme.len() >= 6, "{readme:?}");
    assert_eq!(readme, doctest);
}

/// Comments are sentences that a newcomer can read aloud: none of them begins with "Of".
#[test]
fn no_sentence_begins_with_of() {
    fn walk(folder: &std::path::Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with(['.', '_']) && !name.starts_with("target") {
                    walk(&path, found);
                }
            } else if [".rs", ".wgsl", ".md"].iter().any(|e| name.ends_with(e)) {
                let text = std::fs::read_to_string(&path).expect("a text");
                let begins = |l: &&str| {
                    let l = l.trim_start();
                    let comment = ["/// ", "//! ", "// "].iter().find_map(|m| l.strip_prefix(m));
                    let line = if name.ends_with(".md") { Some(l) } else { comment };
                    line.is_some_and(|l| l.starts_with("Of ") || l.contains(". Of "))
                };
                found.extend(text.lines().filter(begins).map(|l| format!("{}: {l}", path.display())));
            }
        }
    }
    let mut found = Vec::new();
    walk(std::path::Path::new(env!("CARGO_MANIFEST_DIR")), &mut found);
    assert!(found.is_empty(), "{}", found.join("\n"));
}
