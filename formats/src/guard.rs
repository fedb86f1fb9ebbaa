//! Code of others that panics on damaged files, kept from taking the process with it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// What `f` gives; `None` where it panicked. Only for readers of other crates, whose values are dropped then.
pub fn guard<T>(f: impl FnOnce() -> T) -> Option<T> {
    let before = GUARDED.replace(true);
    let out = catch_unwind(AssertUnwindSafe(f));
    GUARDED.set(before);
    out.ok()
}

/// Whether this thread is within [`guard`]: a panic hook has nothing to tell then, and must not end the process.
pub fn is_guarded() -> bool {
    GUARDED.get()
}
