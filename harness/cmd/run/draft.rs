//! An answer with guesses of what comes next (`--draft`), which an engine of one slot draws.

use std::time::{Duration, Instant};

use weft_models::engine::{Engine, Event, Finish, GUESSES, Options, Request};
use weft_models::{Model, Sampling, Stop};
use weft_runtime::MemoryReport;

use super::Answer;
use crate::report::{self, Timings};
use crate::{Result, interrupt, output};

/// What is asked for.
pub(super) struct Asked<'a> {
    pub(super) context: u32,
    pub(super) prompt: &'a [u32],
    pub(super) sampling: Sampling,
    pub(super) most: usize,
    pub(super) stop: &'a [String],
}

/// What came of it.
pub(super) struct Drafted {
    pub(super) answer: Answer,
    /// Guesses that were verified, and those of them that were right.
    pub(super) guesses: (usize, usize),
    /// What ran, for `--explain`.
    pub(super) explain: Vec<String>,
    /// What was taken of the device.
    pub(super) memory: MemoryReport,
}

impl Drafted {
    /// A line for people.
    pub(super) fn line(&self) -> String {
        let (made, right) = self.guesses;
        let tokens = self.answer.timings.generated;
        let steps = tokens.saturating_sub(right).max(1);
        let each = tokens as f64 / steps as f64;
        format!("drafts: {right} of {made} guesses were right, {each:.2} tokens a step")
    }
}

/// Draws an answer, giving each piece of text to `each` as it comes, until its end or Ctrl-C.
pub(super) fn answer(
    model: &Model,
    asked: &Asked<'_>,
    each: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<Drafted> {
    let room = Options { slots: 1, context: Some(asked.context), guesses: GUESSES, ..Options::default() };
    let mut engine = Engine::new(model, &room)?;
    let start = Instant::now();
    engine.submit(Request {
        stop: asked.stop.to_vec(),
        ..Request::new(asked.prompt.to_vec(), asked.sampling, asked.most)
    })?;
    let bar = output::bar(
        asked.prompt.len() as u64,
        "reading the prompt {bar:30} {pos} of {len} tokens, {elapsed}",
    );
    let (mut ids, mut text, mut first, mut end) = (Vec::new(), String::new(), None, None);
    while end.is_none() && !interrupt::asked() {
        for event in engine.step()? {
            match event {
                Event::Progress { done, .. } => bar.set_position(done as u64),
                Event::Token { token, text: part, .. } => {
                    bar.finish_and_clear();
                    first = first.or_else(|| Some(Instant::now()));
                    ids.push(token);
                    text.push_str(&part);
                    each(&part)?;
                }
                Event::Finished { reason, text: part, usage, .. } => {
                    text.push_str(&part);
                    each(&part)?;
                    end = Some((reason, usage));
                }
                Event::Failed { error, .. } => {
                    bar.finish_and_clear();
                    return Err(error.into());
                }
                Event::Started { .. } => {}
            }
        }
    }
    bar.finish_and_clear();
    if engine.without_f16() {
        output::note(super::BEYOND_F16);
    }
    let now = Instant::now();
    let first = first.unwrap_or(now);
    let stop = end.as_ref().and_then(|(reason, _)| match reason {
        Finish::EndOfText | Finish::StopToken(_) => Some(Stop::EndOfText),
        Finish::MaxTokens => Some(Stop::MaxTokens),
        Finish::Context => Some(Stop::Context),
        Finish::StopString(_) => None,
    });
    let stopped_by_text = matches!(end, Some((Finish::StopString(_), _)));
    let answer = Answer {
        timings: Timings {
            load: Duration::ZERO,
            prefill: first - start,
            first: report::since_start(first),
            decode: now - first,
            prompt_tokens: asked.prompt.len(),
            generated: end.as_ref().map_or(ids.len(), |(_, usage)| usage.generated),
        },
        ids,
        text,
        stop,
        stopped_by_text,
        prompt_tokens: asked.prompt.len(),
        reused: 0,
    };
    let guesses = end.map_or((0, 0), |(_, usage)| usage.drafted);
    Ok(Drafted { answer, guesses, explain: engine.explain(), memory: model.gpu().memory() })
}
