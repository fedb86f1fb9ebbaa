//! Runs cases on every core.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use weft_runtime::{DeviceKind, Gpu};

use super::case::{Case, Oracle, Outcome};
use crate::device;

/// The devices that cases run on: one; a software GPU, which compiles in its queue's thread, once for each core.
///
/// # Errors
/// As [`crate::open`].
pub async fn devices(options: &weft_runtime::Options) -> std::result::Result<Vec<Gpu>, weft_runtime::Error> {
    let mut all = vec![device::open(options).await?];
    if all[0].caps().kind == DeviceKind::Cpu {
        while all.len() < cores() {
            all.push(device::open(options).await?);
        }
    }
    Ok(all)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get()).min(8)
}

/// What became of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct Ran {
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
    /// What [`Case::run_traced`] gave.
    pub trace: Option<u64>,
}

/// Runs `cases` on all cores, telling each one's outcome and how long it took, in order. What `told` returns stops
/// the rest. Shaders take a software GPU most of the time to compile, and the references most of it elsewhere.
/// Neighbours of one op, variant and type share shaders, and so a thread and a device.
///
/// # Errors
/// What `told` returns.
pub fn run_all<E>(
    gpus: &[Gpu],
    cases: &[Case],
    oracle: Oracle,
    seed: u64,
    mut told: impl FnMut(&Case, Ran) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let run = |case: &Case, gpu: &Gpu| {
        let start = Instant::now();
        let (outcome, trace) = case.run_traced(gpu, oracle, seed);
        Ran { outcome, took: start.elapsed(), trace }
    };
    if cfg!(target_arch = "wasm32") || cores() == 1 {
        return cases.iter().try_for_each(|case| told(case, run(case, &gpus[0])));
    }
    let mut starts: Vec<usize> =
        (0..cases.len()).filter(|&i| i == 0 || cases[i].cell() != cases[i - 1].cell()).collect();
    starts.push(cases.len());
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|s| {
        for gpu in gpus.iter().cycle().take(cores()) {
            let (sender, next, starts, run) = (sender.clone(), &next, &starts, &run);
            s.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&[from, to]) = starts.get(at..at + 2) else { break };
                    for (at, case) in (from..).zip(&cases[from..to]) {
                        if sender.send((at, run(case, gpu))).is_err() {
                            return;
                        }
                    }
                }
            });
        }
        drop(sender);
        let mut early = HashMap::new();
        for (at, case) in cases.iter().enumerate() {
            let ran = loop {
                if let Some(done) = early.remove(&at) {
                    break done;
                }
                let (which, done) = receiver.recv().expect("a thread panicked");
                early.insert(which, done);
            };
            if let Err(e) = told(case, ran) {
                // Nobody takes another one.
                next.store(starts.len(), Ordering::Relaxed);
                return Err(e);
            }
        }
        Ok(())
    })
}
