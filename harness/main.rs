//! `weft`: see `weft --help`.

use std::io::Write;

use std::alloc::{GlobalAlloc, Layout, System};

use weft_harness::{cmd, error, interrupt, output, report};

/// The system's allocator; where it has nothing left, one line says so in place of an abort.
struct OrLine;

impl OrLine {
    fn checked(p: *mut u8) -> *mut u8 {
        if p.is_null() {
            let line =
                b"error: the memory of this machine is used up, or a limit on it (ulimit -v) is reached\n";
            // SAFETY: writes a constant; nothing here allocates. Windows counts bytes in another type.
            unsafe { libc::write(2, line.as_ptr().cast(), line.len() as _) };
            interrupt::leave(1);
        }
        p
    }
}

// SAFETY: passes everything on to the system's allocator, and gives back no pointer of its own.
unsafe impl GlobalAlloc for OrLine {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        OrLine::checked(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        OrLine::checked(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        unsafe { System.dealloc(p, layout) }
    }

    unsafe fn realloc(&self, p: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        OrLine::checked(unsafe { System.realloc(p, layout, size) })
    }
}

#[global_allocator]
static ALLOCATOR: OrLine = OrLine;

fn main() {
    std::sync::LazyLock::force(&report::START);
    #[cfg(target_os = "linux")]
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // Mesa's loader complains on stderr without it, though nothing here opens a window.
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", std::env::temp_dir()) };
    }
    std::panic::set_hook(Box::new(|info| {
        if weft_formats::guard::is_guarded() {
            return;
        }
        let what = info.payload_as_str().unwrap_or("unknown cause");
        // What the system refuses is no bug of ours.
        if ["spawn thread", "ThreadPoolBuildError", "Resource temporarily unavailable"]
            .iter()
            .any(|p| what.contains(p))
        {
            output::note("error: the system gives no more threads; raise its limit (ulimit -u)");
            interrupt::leave(1);
        }
        let place = info.location().map_or_else(String::new, |l| format!(" ({}:{})", l.file(), l.line()));
        output::note(&error::one_line(&format!(
            "error: this is a bug in weft, please report it: {what}{place}"
        )));
        interrupt::leave(1);
    }));
    let code = match cmd::parse().and_then(cmd::run) {
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
