//! What a person sees of a run: its first batch, its progress, its result.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use weft_models::Model;
use weft_models::finetune::{Event, Finetune, Shown, State, Step};
use weft_models::train::Trainer;
use weft_runtime::human;

use super::Flags;
use crate::{Result, output, report};

/// The first batch as text.
pub(super) fn batch(batch: &[Shown]) -> Result<()> {
    for (i, sequence) in batch.iter().enumerate() {
        let (tokens, learnt) = (sequence.tokens, sequence.learnt);
        let mut text =
            format!("--- sequence {} of {}: {tokens} tokens, {learnt} learnt\n", i + 1, batch.len());
        for (part, is_learnt) in &sequence.parts {
            text += &if *is_learnt { format!("⟦{part}⟧") } else { part.clone() };
        }
        output::line(&text)?;
    }
    Ok(())
}

/// How long there is no line where there is no bar.
const QUIET: Duration = Duration::from_secs(10);

/// A bar on a terminal, else a line for the first step, the last, and from time to time.
pub(super) struct Progress {
    bar: indicatif::ProgressBar,
    start: Instant,
    tokens: u64,
    last: Option<Step>,
    val: Option<(f64, f64)>,
    /// When a line was written last.
    line: Option<Instant>,
}

impl Progress {
    pub(super) fn new(steps: u64, done: u64) -> Progress {
        let bar = output::bar(steps, "{bar:24} {pos} of {len} {msg}");
        bar.set_position(done);
        Progress { bar, start: Instant::now(), tokens: 0, last: None, val: None, line: None }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn rate(&self) -> f64 {
        self.tokens as f64 / self.start.elapsed().as_secs_f64()
    }

    pub(super) fn event(&mut self, event: Event) {
        match event {
            Event::Step(s) => self.step(s),
            Event::Validating(done, of) => self.bar.set_message(format!("validating, batch {done} of {of}")),
            Event::Saved(_) | Event::State(_) => {}
        }
    }

    fn step(&mut self, s: Step) {
        self.tokens += s.tokens;
        self.last = Some(s);
        self.val = s.val.or(self.val);
        let mut line = format!(
            "loss {:.4}, {:.1} % right, lr {:.2e}, {} tokens/s, {}, {} left",
            s.loss,
            100.0 * s.accuracy,
            s.lr,
            rate(s.tokens_per_s),
            human(s.memory),
            indicatif::HumanDuration(Duration::from_secs_f64(s.seconds_left.max(0.0))),
        );
        if let Some((loss, accuracy)) = s.val {
            line += &format!("; validation loss {loss:.4}, {:.1} % right", 100.0 * accuracy);
        }
        self.bar.set_position(s.step);
        self.bar.set_message(line.clone());
        if s.skipped {
            let line = format!("warning: step {} was skipped: its loss or gradient is not finite", s.step);
            self.bar.suspend(|| output::note(&line));
        }
        let due = self.line.is_none_or(|then| then.elapsed() >= QUIET) || s.step == s.steps;
        if s.val.is_some() || (self.bar.is_hidden() && due) {
            self.line = Some(Instant::now());
            let line = format!("step {} of {}: {line}", s.step, s.steps);
            self.bar.suspend(|| output::note(&line));
        }
    }
}

/// Tokens a second, with digits that count: a software GPU has less than one.
fn rate(x: f64) -> String {
    match x {
        10.0.. => format!("{x:.0}"),
        1.0.. => format!("{x:.1}"),
        _ => format!("{x:.3}"),
    }
}

/// What came of it.
pub(super) fn result(
    f: &Flags,
    run: &Finetune<Trainer>,
    model: &Model,
    shown: &Progress,
    ended: State,
    seconds: f64,
) -> Result<()> {
    let folder = f.o.as_deref().unwrap_or(Path::new(""));
    if f.json {
        return output::json(&json!({
            "state": if ended == State::Completed { "completed" } else { "cancelled" },
            "folder": folder.display().to_string(),
            "adapter": folder.join("adapter.gguf").display().to_string(),
            "step": run.done(),
            "steps": run.steps(),
            "skipped": run.skipped(),
            "loss": shown.last.map(|s| s.loss),
            "accuracy": shown.last.map(|s| s.accuracy),
            "val_loss": shown.val.map(|v| v.0),
            "val_accuracy": shown.val.map(|v| v.1),
            "tokens": shown.tokens,
            "tokens_per_s": shown.rate(),
            "seconds": seconds,
            "memory": report::memory_json(&model.gpu().memory()),
            "plan": report::train_plan_json(run.plan()),
            "model": report::model_json(&f.model.name(), model),
            "device": report::caps_json(model.gpu().caps()),
        }));
    }
    output::note(&report::memory_line(&model.gpu().memory()));
    let what = match ended {
        State::Completed => format!("{} steps", run.done()),
        _ => format!("stopped after step {} of {}, --resume goes on", run.done(), run.steps()),
    };
    let skipped = match run.skipped() {
        0 => String::new(),
        n => format!(", {n} of them skipped"),
    };
    let loss = shown.last.map_or_else(String::new, |s| format!(", loss {:.4}", s.loss));
    output::line(&format!(
        "{}: {what}{skipped}{loss}, in {seconds:.0} s at {} tokens/s",
        folder.join("adapter.gguf").display(),
        rate(shown.rate())
    ))
}
