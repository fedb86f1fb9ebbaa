//! Ctrl-C, and what ends a process politely (SIGTERM, SIGHUP): asked for once, a command stops between two tokens;
//! asked for again, the process ends.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, Ordering};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// From now on the signals set a flag, and the `last`-th in a row ends the process with code 130. One that whoever
/// started us has switched off, as `nohup` does, stays off.
pub fn install(last: u32) {
    install_with(last, || ());
}

/// As [`install`]; `told` runs at each, in a thread of its own.
pub fn install_with(last: u32, told: impl Fn() + Send + 'static) {
    #[cfg(unix)]
    let ignored: Vec<i32> =
        [libc::SIGINT, libc::SIGTERM, libc::SIGHUP].into_iter().filter(|s| is_ignored(*s)).collect();
    // Fails only where a handler is installed already, which then does the same.
    let _ = ctrlc::set_handler(move || {
        if COUNT.fetch_add(1, Ordering::SeqCst) + 1 >= last {
            leave(130);
        }
        told();
    });
    #[cfg(unix)]
    for signal in ignored {
        // SAFETY: sets a disposition that was in force a moment ago.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Whether whoever started us has switched a signal off.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    // SAFETY: only asks for the disposition, into a value of its own; all zeros is a valid one.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    }
}

/// Ends the process. Not as `exit` does, which would tear the driver down while other threads are in it: shaders
/// may be compiling still, and NVIDIA's faults then. Nothing is flushed: another thread may hold stdout, waiting
/// for a reader who does not read.
pub fn leave(code: i32) -> ! {
    // SAFETY: ends the process; nothing runs afterwards.
    unsafe { libc::_exit(code) }
}

/// Whether it was asked to stop since [`reset`].
pub fn asked() -> bool {
    COUNT.load(Ordering::SeqCst) > 0
}

/// Forgets earlier presses.
pub fn reset() {
    COUNT.store(0, Ordering::SeqCst);
}

/// For progress callbacks: break once it was asked to stop.
pub fn flow() -> ControlFlow<()> {
    if asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
