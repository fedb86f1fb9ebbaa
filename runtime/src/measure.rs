//! How long programs take, by the device's clock and by the host's.

use std::time::Instant;

use crate::program::{Step, encode};
use crate::timestamps::{Clock, MAX_PASSES};
use crate::{DeviceKind, Gpu, Program, Result};

/// What one replay of a program took.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    /// Seconds that the device was busy, by its own clock, where it has one.
    pub busy: Option<f64>,
    /// Seconds from sending the longest submit to its end, by the host's clock.
    pub longest_submit: f64,
    /// How many submits it took.
    pub submits: usize,
    /// How many dispatches.
    pub dispatches: usize,
    /// Each dispatch, where that was asked for and the device has a clock.
    pub spans: Vec<Span>,
}

impl Replay {
    /// Both, one after the other.
    pub fn then(mut self, next: Replay, after: f64) -> Replay {
        let later = next.spans.into_iter().map(|s| Span { start: s.start + after, ..s });
        self.spans.extend(later);
        Replay {
            busy: self.busy.zip(next.busy).map(|(a, b)| a + b),
            longest_submit: self.longest_submit.max(next.longest_submit),
            submits: self.submits + next.submits,
            dispatches: self.dispatches + next.dispatches,
            spans: self.spans,
        }
    }
}

/// A dispatch in time.
#[derive(Debug, Clone)]
pub struct Span {
    /// Its pipeline.
    pub name: String,
    /// Workgroups.
    pub grid: [u32; 3],
    /// Seconds from the start of the replay.
    pub start: f64,
    /// How long it took.
    pub seconds: f64,
}

impl Gpu {
    /// Seconds that the device is busy with one replay of `program`, by its own clock: `None` where it
    /// has none, or where the program copies. All of it is one submit, so it must be short.
    ///
    /// # Errors
    /// A fault of the device; out of memory.
    pub fn seconds(&self, program: &Program) -> Result<Option<f64>> {
        self.check()?;
        let copies = program.steps.iter().any(|s| matches!(s, Step::Copy { .. }));
        if copies || !self.caps().timestamps {
            return Ok(None);
        }
        let mut clock = Clock::new(self, 1)?;
        let mut encoder = self.0.device.create_command_encoder(&Default::default());
        encode(&mut encoder, &program.steps, Some(&mut clock), false);
        clock.resolve(&mut encoder);
        self.submit(encoder);
        Ok(clock.read(self)?.first().map(|p| p.1))
    }

    /// Replays `program` submit by submit, waiting for each, and says how long what took. With `apart`, every
    /// dispatch is a pass of its own between two time stamps, which makes all of them slower: none overlaps
    /// its neighbours, and the device waits between them.
    ///
    /// # Errors
    /// A fault of the device; out of memory.
    pub fn measure(&self, program: &Program, apart: bool) -> Result<Replay> {
        self.sync()?;
        let clocked = self.caps().timestamps;
        let busy = clocked.then_some(0.0);
        let mut replay = Replay { busy, dispatches: program.dispatches(), ..Replay::default() };
        let begin = Instant::now();
        let mut rest = &program.steps[..];
        while !rest.is_empty() {
            let (count, estimated) = self.fitting(rest);
            let (now, later) = rest.split_at(count.min(MAX_PASSES));
            rest = later;
            let mut clock = if clocked { Some(Clock::new(self, now.len())?) } else { None };
            let mut encoder = self.0.device.create_command_encoder(&Default::default());
            encode(&mut encoder, now, clock.as_mut(), apart);
            if let Some(clock) = &clock {
                clock.resolve(&mut encoder);
            }
            let start = Instant::now();
            self.submit(encoder);
            self.sync()?;
            let took = start.elapsed().as_secs_f64();
            if self.caps().kind == DeviceKind::Cpu {
                self.learn(estimated, took * 1e3);
            }
            replay.longest_submit = replay.longest_submit.max(took);
            replay.submits += 1;
            let Some(clock) = clock.filter(|c| !c.passes.is_empty()) else { continue };
            // The device's clock starts anywhere: its passes are put where the host sent their submit.
            let sent = (start - begin).as_secs_f64();
            for (&step, (from, seconds)) in clock.passes.iter().zip(clock.read(self)?) {
                replay.busy = replay.busy.map(|b| b + seconds);
                if let (true, Step::Dispatch { pipeline, grid, .. }) = (apart, &now[step]) {
                    let name = pipeline.name.clone();
                    replay.spans.push(Span { name, grid: *grid, start: sent + from, seconds });
                }
            }
        }
        Ok(replay)
    }
}
