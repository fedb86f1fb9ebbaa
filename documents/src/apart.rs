//! A reader in a process of its own: what a hostile file does there (a loop, a stack or memory without end) ends that
//! process, and nothing else.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Bytes that such a process may say.
const MOST: u64 = 80 << 20;

/// Gives `bytes` to a program on stdin, and takes a JSON array of pages from its stdout.
///
/// # Errors
/// A line that says why: the program's own, or that it took too long or ended.
pub fn pages(mut program: Command, bytes: &[u8], time: Duration) -> Result<Vec<String>, String> {
    let mut child = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("its reader cannot be started: {e}"))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let end = Instant::now() + time;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A reader that has ended reads no more; how it ended is told below.
            let _ = stdin.map(|mut to| to.write_all(bytes));
        });
        let said = scope.spawn(move || take(stdout, MOST));
        let told = scope.spawn(move || take(stderr, 4096));
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(3)),
                _ => {
                    // It may have ended just now.
                    let _ = child.kill();
                    let _ = child.wait();
                    break None;
                }
            }
        };
        let said = said.join().unwrap_or_default();
        let told = String::from_utf8_lossy(&told.join().unwrap_or_default()).into_owned();
        match status {
            None => Err(format!("reading it takes more than {} s", time.as_secs())),
            Some(status) if status.success() => {
                serde_json::from_slice(&said).map_err(|_| "its reader broke off".to_owned())
            }
            // A reader that gives up says one line.
            Some(status) if status.code() == Some(1) && !told.trim().is_empty() => {
                let line = told.trim().lines().last().unwrap_or_default();
                Err(line.trim_start_matches("error: ").to_owned())
            }
            Some(_) => Err("its reader ended on it: the file is damaged, or made to do harm".into()),
        }
    })
}

fn take(from: Option<impl Read>, most: u64) -> Vec<u8> {
    let mut all = Vec::new();
    // What came before a fault is what there is.
    let _ = from.map(|from| from.take(most).read_to_end(&mut all));
    all
}
