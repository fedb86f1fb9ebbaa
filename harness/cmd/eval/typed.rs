//! Which flags are read by what is asked for: one that was typed and would be left unread is refused.

use clap::ArgMatches;
use clap::parser::ValueSource;

use crate::{Error, Result};

/// What `weft eval` does, by a letter, and how that is called.
const KINDS: [(char, &str); 8] = [
    ('c', "--suite curriculum"),
    ('d', "--suite divergence"),
    ('g', "test sets by --mode generate"),
    ('l', "test sets by --mode letter, option and normalised"),
    ('h', "--suite healthbench"),
    ('i', "--suite list"),
    ('r', "--compare, --merge and --kappa"),
    ('x', "--contamination"),
];

/// Flags, and what reads them. Those that are not here are read by all, or choose what is done.
const READ: [(&str, &str); 38] = [
    ("model", "cdglh"),
    ("lora", "cdglh"),
    ("synthetic", "gl"),
    ("suite", "cdglhix"),
    ("domain", "cd"),
    ("seed", "cdgh"),
    ("json", "cdglhrx"),
    ("limit", "cglh"),
    ("n", "cgh"),
    ("slots", "cglh"),
    ("wrong", "c"),
    ("data", "glhx"),
    ("columns", "glx"),
    ("mode", "gl"),
    ("template", "gl"),
    ("system", "g"),
    ("thinking", "gh"),
    ("temp", "gh"),
    ("top_k", "gh"),
    ("top_p", "gh"),
    ("runs", "g"),
    ("shots", "gl"),
    ("shots_data", "gl"),
    ("shard", "glh"),
    ("output", "glh"),
    ("endpoint", "glh"),
    ("extractor", "g"),
    ("types", "gl"),
    ("imatrix", "gl"),
    ("imatrix_text", "gl"),
    ("keep_files", "gl"),
    ("judge", "h"),
    ("exclude", "x"),
    ("against", "d"),
    ("file", "d"),
    ("c", "d"),
    ("positions", "d"),
    ("decode", "d"),
];

/// Flags of the divergence that `--types` measures beside the score.
const BESIDE: [&str; 4] = ["file", "c", "positions", "decode"];

fn is_typed(m: &ArgMatches, id: &str) -> bool {
    m.value_source(id) == Some(ValueSource::CommandLine)
}

/// What is asked for.
fn kind(m: &ArgMatches) -> char {
    if ["compare", "merge", "kappa"].iter().any(|id| is_typed(m, id)) {
        return 'r';
    }
    if is_typed(m, "contamination") {
        return 'x';
    }
    let word = |id: &str| m.get_raw(id).and_then(|mut v| v.next()?.to_str()).unwrap_or_default().to_owned();
    match (word("suite").as_str(), word("mode").as_str()) {
        ("curriculum", _) => 'c',
        ("divergence", _) => 'd',
        ("healthbench", _) => 'h',
        ("list", _) => 'i',
        (_, "generate") => 'g',
        _ => 'l',
    }
}

/// Refuses a flag that was typed and would change nothing.
///
/// # Errors
/// There is one.
pub(crate) fn check(m: &ArgMatches, command: &clap::Command) -> Result<()> {
    let kind = kind(m);
    let name = |kind: char| KINDS.iter().find(|k| k.0 == kind).map_or("", |k| k.1);
    let flag = |id: &str| {
        let long = command.get_arguments().find(|a| a.get_id() == id).and_then(clap::Arg::get_long);
        format!("--{}", long.unwrap_or(id))
    };
    // Its own words say more.
    let told = |id: &str| id == "against" && kind != 'r' && kind != 'x';
    for (id, readers) in READ.iter().filter(|r| is_typed(m, r.0) && !told(r.0)) {
        let beside = BESIDE.contains(id) && is_typed(m, "types");
        if !readers.contains(kind) && !beside {
            let readers: Vec<&str> = readers.chars().map(name).collect();
            return Err(Error::usage(format!(
                "{} is not read by {}; it is for {}",
                flag(id),
                name(kind),
                readers.join(", ")
            )));
        }
    }
    if is_typed(m, "endpoint")
        && let Some(id) = ["model", "lora", "synthetic"].into_iter().find(|id| is_typed(m, id))
    {
        return Err(Error::usage(format!("--endpoint answers in place of a model; leave {} out", flag(id))));
    }
    Ok(())
}
