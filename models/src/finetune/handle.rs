//! What pauses, resumes and cancels a run from other threads.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not begun, or ended by an error.
    Idle,
    /// Training.
    Running,
    /// Saved and waiting.
    Paused,
    /// Ended early, saved.
    Cancelled,
    /// All steps done.
    Completed,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: State,
    pub(super) pause: bool,
    pub(super) cancel: bool,
}

/// Pauses, resumes and cancels a run from anywhere. All clones are of one run.
#[derive(Debug, Clone)]
pub struct Handle(Arc<(Mutex<Shared>, Condvar)>);

impl Handle {
    pub(super) fn new() -> Handle {
        let shared = Shared { state: State::Idle, pause: false, cancel: false };
        Handle(Arc::new((Mutex::new(shared), Condvar::new())))
    }

    pub(super) fn with<T>(&self, f: impl FnOnce(&mut Shared) -> T) -> T {
        let mut shared = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let out = f(&mut shared);
        self.0.1.notify_all();
        out
    }

    /// Where the run is.
    pub fn state(&self) -> State {
        self.with(|s| s.state)
    }

    /// Finishes the step, saves a checkpoint and waits.
    pub fn pause(&self) {
        self.with(|s| s.pause = true);
    }

    /// Goes on after [`Handle::pause`].
    pub fn resume(&self) {
        self.with(|s| s.pause = false);
    }

    /// Finishes the step, saves a checkpoint and the adapter, and ends the run.
    pub fn cancel(&self) {
        self.with(|s| s.cancel = true);
    }

    /// Waits while the run is paused. Whether it was cancelled.
    pub(super) fn wait(&self) -> bool {
        let mut shared = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        while shared.pause && !shared.cancel {
            shared = self.0.1.wait(shared).unwrap_or_else(PoisonError::into_inner);
        }
        shared.cancel
    }
}
