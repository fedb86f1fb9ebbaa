//! Running `weft` as a person does.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// How it ended.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The program, not started.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Whether this process was started with SIGHUP ignored.
pub(crate) fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok()).is_some_and(|m| m & 1 == 1)
}

/// Runs it with `stdin`.
pub(crate) fn weft_with(args: &[&str], stdin: &[u8]) -> Ran {
    let mut child = command(args).stdin(Stdio::piped()).spawn().expect("weft starts");
    // It may end before it has read everything.
    let _ = child.stdin.take().expect("a pipe").write_all(stdin);
    let out = child.wait_with_output().expect("weft ends");
    Ran {
        code: out.status.code(),
        stdout: String::from_utf8(out.stdout).expect("stdout is UTF-8"),
        stderr: String::from_utf8(out.stderr).expect("stderr is UTF-8"),
    }
}

/// Runs it with an empty stdin.
pub(crate) fn weft(args: &[&str]) -> Ran {
    weft_with(args, b"")
}

/// stdout of a run that succeeds.
pub(crate) fn ok(args: &[&str]) -> String {
    let ran = weft(args);
    assert_eq!(ran.code, Some(0), "weft {args:?}: {}", ran.stderr);
    ran.stdout
}

/// The JSON of a run that succeeds.
pub(crate) fn json(args: &[&str]) -> Value {
    let text = ok(args);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("weft {args:?}: {e}: {text}"))
}

/// Asserts that `weft ARGS` ends with code 1, nothing on stdout and one line on stderr that says
/// `error:` and each of `parts`.
pub(crate) fn fails(args: &[&str], parts: &[&str]) {
    ends(args, 1, parts);
}

/// The same with code 2: what was typed makes no sense by itself.
pub(crate) fn misused(args: &[&str], parts: &[&str]) {
    ends(args, 2, parts);
}

fn ends(args: &[&str], code: i32, parts: &[&str]) {
    let ran = weft(args);
    let shown = format!("weft {args:?}: code {:?}\n{}{}", ran.code, ran.stdout, ran.stderr);
    assert_eq!(ran.code, Some(code), "{shown}");
    assert_eq!(ran.stdout, "", "{shown}");
    assert_eq!(ran.stderr.lines().count(), 1, "{shown}");
    assert!(ran.stderr.starts_with("error: ") && ran.stderr.ends_with('\n'), "{shown}");
    assert!(!ran.stderr.contains("bug") && !ran.stderr.contains('\x1b'), "{shown}");
    for part in parts {
        assert!(ran.stderr.contains(part), "no {part:?} in {shown}");
    }
}

/// A folder of its own for a test, emptied first.
pub(crate) fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a folder");
    path
}

/// Writes `bytes` and gives the path as text.
pub(crate) fn file(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("a file");
    path.to_str().expect("UTF-8").to_owned()
}
