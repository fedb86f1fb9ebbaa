//! Ctrl-C, and what ends a process politely (SIGTERM, SIGHUP): asked for once, a command stops between two tokens;
//! asked for again, the process ends.

use std::ops::ControlFlow;
#[cfg(unix)]
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

static COUNT: AtomicU32 = AtomicU32::new(0);
/// Whether SIGTERM or SIGHUP came.
static ENDED: AtomicBool = AtomicBool::new(false);
/// Whether nothing is going on that a signal could stop: the process ends at the first.
static IDLE: AtomicBool = AtomicBool::new(false);

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
    let installed = ctrlc::set_handler(move || {
        if COUNT.fetch_add(1, Ordering::SeqCst) + 1 >= last {
            leave(130);
        }
        told();
    });
    #[cfg(unix)]
    if installed.is_ok() {
        [libc::SIGTERM, libc::SIGHUP].into_iter().for_each(note_ends);
    }
    #[cfg(not(unix))]
    drop(installed);
    #[cfg(unix)]
    for signal in ignored {
        // SAFETY: sets a disposition that was in force a moment ago.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// As [`install`] for a program that waits for its user: a signal ends it while it does ([`idle`]), with the terminal as it
/// is now, and SIGTERM and SIGHUP end it once what they stopped has stopped. Until the first line nothing can be stopped
/// either.
pub fn install_idle(last: u32) {
    IDLE.store(true, Ordering::SeqCst);
    let restore = terminal();
    install_with(last, move || {
        if IDLE.load(Ordering::SeqCst) {
            restore();
            leave(130);
        }
    });
}

/// Waits for the user; see [`install_idle`].
pub fn idle<T>(wait: impl FnOnce() -> T) -> T {
    IDLE.store(true, Ordering::SeqCst);
    if ENDED.load(Ordering::SeqCst) {
        leave(130);
    }
    let done = wait();
    IDLE.store(false, Ordering::SeqCst);
    done
}

/// The handler that [`note_end`] calls; 0: none.
#[cfg(unix)]
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Notes that a signal of those that end a program came, before the handler that is there is called.
#[cfg(unix)]
fn note_ends(signal: libc::c_int) {
    let handler: extern "C" fn(libc::c_int) = note_end;
    // SAFETY: a handler that touches atomics alone and calls one that may run in a handler too.
    let before = unsafe { libc::signal(signal, handler as *const () as libc::sighandler_t) };
    if ![libc::SIG_ERR, libc::SIG_DFL, libc::SIG_IGN].contains(&before) {
        NEXT.store(before, Ordering::SeqCst);
    }
}

#[cfg(unix)]
extern "C" fn note_end(signal: libc::c_int) {
    ENDED.store(true, Ordering::SeqCst);
    let next = NEXT.load(Ordering::SeqCst);
    if next != 0 {
        // SAFETY: what `signal` gave back and is none of its constants is a handler of this type.
        let next = unsafe { std::mem::transmute::<usize, extern "C" fn(libc::c_int)>(next) };
        next(signal);
    }
}

/// Sets the terminal to what it is now, which a line editor changes while it waits.
#[cfg(unix)]
fn terminal() -> impl Fn() + Send + 'static {
    // SAFETY: only asks for the settings, into a value of its own; all zeros is a valid one.
    let (known, now) = unsafe {
        let mut now: libc::termios = std::mem::zeroed();
        (libc::tcgetattr(libc::STDIN_FILENO, &mut now) == 0, now)
    };
    move || {
        if known {
            // SAFETY: sets what was in force before.
            unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, &now) };
        }
    }
}

#[cfg(not(unix))]
fn terminal() -> impl Fn() + Send + 'static {
    || ()
}

/// Whether SIGHUP is heard: whoever started us may have switched it off.
pub fn hears_hangup() -> bool {
    #[cfg(unix)]
    return !is_ignored(libc::SIGHUP);
    #[cfg(not(unix))]
    false
}

/// Whether a model is being opened for a program that goes on until it is told to end.
static LOADING: AtomicBool = AtomicBool::new(false);

/// Until [`loaded`] or [`install`], a signal ends the process with code 130: nothing is there that could be half done.
pub fn loading() {
    LOADING.store(true, Ordering::SeqCst);
    #[cfg(unix)]
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP].into_iter().filter(|s| !is_ignored(*s)) {
        let handler: extern "C" fn(libc::c_int) = end_loading;
        // SAFETY: a handler that reads an atomic and ends the process, which handlers may do.
        unsafe { libc::signal(signal, handler as *const () as libc::sighandler_t) };
    }
}

/// Leaves signals to the handlers that come after [`loading`]'s, which may call that one too.
pub fn loaded() {
    LOADING.store(false, Ordering::SeqCst);
}

#[cfg(unix)]
extern "C" fn end_loading(_: libc::c_int) {
    if LOADING.load(Ordering::SeqCst) {
        leave(130);
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
