//! `weft`: see `weft --help`.

use std::io::Write;

use clap::Parser;
use weft_harness::{cmd, error, interrupt, output, report};

fn main() {
    std::sync::LazyLock::force(&report::START);
    #[cfg(target_os = "linux")]
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // Mesa's loader complains on stderr without it, though nothing here opens a window.
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", std::env::temp_dir()) };
    }
    std::panic::set_hook(Box::new(|info| {
        let what = info.payload_as_str().unwrap_or("unknown cause");
        let place = info.location().map_or_else(String::new, |l| format!(" ({}:{})", l.file(), l.line()));
        output::note(&error::one_line(&format!(
            "error: this is a bug in weft, please report it: {what}{place}"
        )));
        interrupt::leave(1);
    }));
    let code = match cmd::run(cmd::Cli::parse()) {
        Ok(()) => 0,
        Err(e) => {
            if let Some(line) = e.line() {
                output::note(&format!("error: {line}"));
            }
            e.exit_code()
        }
    };
    let _ = std::io::stdout().flush();
    interrupt::leave(code.into());
}
