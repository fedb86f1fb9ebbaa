//! What the documents say is what there is.

use std::path::Path;

use clap::{CommandFactory, Parser};
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

/// Every command with the words that run it, those with commands of their own included.
fn commands() -> Vec<(Vec<String>, clap::Command)> {
    fn walk(words: &[String], command: &clap::Command, all: &mut Vec<(Vec<String>, clap::Command)>) {
        for c in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
            let words = [words, &[c.get_name().to_owned()]].concat();
            walk(&words, c, all);
            all.push((words, c.clone()));
        }
    }
    let mut all = Vec::new();
    walk(&[], &Cli::command(), &mut all);
    all
}

#[test]
fn the_examples_in_help_parse() {
    assert!(check_commands(&ok(&["--help"])) >= 3);
    for (words, command) in commands() {
        // As it is written, for help is broken into lines by the width of a terminal.
        let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let few = if command.has_subcommands() { 0 } else { 1 };
        assert!(check_commands(&examples) >= few, "{words:?} has too few examples: {examples}");
        assert!(few == 0 || examples.contains(&format!("weft {}", words.join(" "))), "{examples}");
        let help = ok(&[&words.iter().map(String::as_str).collect::<Vec<_>>()[..], &["--help"]].concat());
        assert!(few == 0 || help.contains("Examples:"), "{help}");
    }
}

/// Each flag and each command is explained in a sentence that starts like one and does not run over.
#[test]
fn every_flag_is_explained() {
    let mut wrong = Vec::new();
    for (words, command) in commands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let mut texts = vec![("the command".to_owned(), about)];
        for arg in command.get_arguments().filter(|a| !a.is_hide_set()) {
            texts.push((
                arg.get_id().to_string(),
                arg.get_help().map(ToString::to_string).unwrap_or_default(),
            ));
        }
        for (what, text) in texts {
            let first = text.chars().next().unwrap_or_default();
            let why = match () {
                () if text.split_whitespace().count() < 2 => "explains nothing",
                () if first.is_alphabetic() && !first.is_uppercase() => "begins in lower case",
                () if text.ends_with('.') || text.len() > 220 => "is no line",
                () => continue,
            };
            wrong.push(format!("{words:?}, {what}: {text:?} {why}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a help text names is there: flags, commands, and no name that code no longer has.
#[test]
fn help_names_what_there_is() {
    let all = commands();
    let mut flags: Vec<String> = vec!["--help".into(), "--version".into()];
    for (_, command) in &all {
        for arg in command.get_arguments() {
            flags.extend(arg.get_long().map(|l| format!("--{l}")));
            flags.extend(arg.get_all_aliases().into_iter().flatten().map(|l| format!("--{l}")));
        }
    }
    let names: Vec<&str> = all.iter().map(|(words, _)| words[0].as_str()).collect();
    const GONE: [&str; 11] = [
        "narrow",
        "widen",
        "baked",
        "optimiser",
        "multiplexer",
        "most_",
        "todo",
        "fixme",
        "wip",
        "xxx",
        "tbd",
    ];
    for (words, command) in &all {
        let help = command.clone().render_long_help().to_string();
        for word in help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')) {
            let known = !word.starts_with("--") || word.len() == 2 || flags.iter().any(|f| f == word);
            assert!(known, "the help of {words:?} names {word}, which no command has");
            assert!(!GONE.contains(&word.to_lowercase().as_str()), "the help of {words:?} says {word:?}");
        }
        for (i, _) in help.match_indices("`weft ") {
            let name = help[i + 6..].split([' ', '`', '\n']).next().unwrap_or_default();
            assert!(names.contains(&name) || name == "COMMAND", "the help of {words:?} names `weft {name}`");
        }
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
                if !name.starts_with(['.', '_']) && !name.starts_with("target") && name != "node_modules" {
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
