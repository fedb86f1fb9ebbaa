//! Ctrl-C: asked for once, a command stops between two tokens; asked for again, the process ends.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, Ordering};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// From now on Ctrl-C sets a flag, and the `last`-th in a row ends the process with code 130.
pub fn install(last: u32) {
    // Fails only where a handler is installed already, which then does the same.
    let _ = ctrlc::set_handler(move || {
        if COUNT.fetch_add(1, Ordering::SeqCst) + 1 >= last {
            leave(130);
        }
    });
}

/// Ends the process. Not as `exit` does, which would tear the driver down while other threads are in it: shaders
/// may be compiling still, and NVIDIA's faults then. Nothing is flushed: another thread may hold stdout, waiting
/// for a reader who does not read.
pub fn leave(code: i32) -> ! {
    // SAFETY: ends the process; nothing runs afterwards.
    unsafe { libc::_exit(code) }
}

/// Whether Ctrl-C was pressed since [`reset`].
pub fn asked() -> bool {
    COUNT.load(Ordering::SeqCst) > 0
}

/// Forgets earlier presses.
pub fn reset() {
    COUNT.store(0, Ordering::SeqCst);
}

/// For progress callbacks: break once Ctrl-C was pressed.
pub fn flow() -> ControlFlow<()> {
    if asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
