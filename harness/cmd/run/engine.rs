//! An answer of an engine with one slot: with guesses of what comes next (`--draft`), and with keys and values of a prompt
//! from a file (`--prompt-cache`).

use std::path::Path;

use std::time::{Duration, Instant};

use weft_models::engine::{BLOCK, Engine, Event, Finish, GUESSES, Options, Request};
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
    /// Whether what comes next is guessed.
    pub(super) draft: bool,
    /// Who guesses, where a look at what followed before does not.
    pub(super) drafter: Option<&'a Model>,
    /// A file with keys and values, which is read if it is there and else written.
    pub(super) prompt_cache: Option<&'a Path>,
}

/// What came of it.
pub(super) struct Drawn {
    pub(super) answer: Answer,
    /// Guesses that were verified, and those of them that were right; None without `--draft`.
    pub(super) guesses: Option<(usize, usize)>,
    /// What was done with the file of keys and values.
    file: Option<String>,
    /// What ran, for `--explain`.
    pub(super) explain: Vec<String>,
    /// What was taken of the device.
    pub(super) memory: MemoryReport,
}

impl Drawn {
    /// Lines for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let drafts = self.guesses.map(|(made, right)| {
            let tokens = self.answer.timings.generated;
            let steps = tokens.saturating_sub(right).max(1);
            let each = tokens as f64 / steps as f64;
            format!("drafts: {right} of {made} guesses were right, {each:.2} tokens a step")
        });
        self.file.iter().cloned().chain(drafts).collect()
    }
}

/// Draws an answer, giving each piece of text to `each` as it comes, until its end or Ctrl-C.
pub(super) fn answer(
    model: &Model,
    asked: &Asked<'_>,
    each: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<Drawn> {
    let guesses = if asked.draft { GUESSES } else { 0 };
    let room = Options { slots: 1, context: Some(asked.context), guesses, ..Options::default() };
    let mut engine = Engine::new(model, &room)?;
    if let Some(smaller) = asked.drafter {
        engine.draft_with(smaller)?;
    }
    let start = Instant::now();
    let kept = asked.prompt_cache.filter(|path| path.exists());
    if let Some(path) = kept {
        engine.restore_prefix(path, 0)?;
    }
    engine.submit(Request {
        stop: asked.stop.to_vec(),
        ..Request::new(asked.prompt.to_vec(), asked.sampling, asked.most)
    })?;
    let bar = output::bar(
        asked.prompt.len() as u64,
        "reading the prompt {bar:30} {pos} of {len} tokens, {elapsed}",
    );
    let (mut ids, mut text, mut first, mut end) = (Vec::new(), String::new(), None, None);
    let mut reused = 0;
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
                Event::Started { cached, .. } => {
                    reused = cached;
                    bar.set_position(cached as u64);
                }
            }
        }
    }
    bar.finish_and_clear();
    if engine.without_f16() {
        output::note(super::BEYOND_F16);
    }
    let now = Instant::now();
    let shown = asked.prompt_cache.map(|path| path.display().to_string()).unwrap_or_default();
    let file = match (asked.prompt_cache, kept) {
        (None, _) => None,
        (_, Some(_)) => {
            Some(format!("{shown}: {reused} of {} tokens of the prompt were there", asked.prompt.len()))
        }
        (Some(path), None) => Some(match engine.save_prefix(path, asked.prompt, 0)? {
            0 => format!("{shown}: not written, since the prompt is shorter than a block of {BLOCK} tokens"),
            n => format!("{shown}: {n} of {} tokens of the prompt are kept", asked.prompt.len()),
        }),
    };
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
            prompt_tokens: asked.prompt.len() - reused,
            generated: end.as_ref().map_or(ids.len(), |(_, usage)| usage.generated),
        },
        ids,
        text,
        stop,
        stopped_by_text,
        prompt_tokens: asked.prompt.len(),
        reused,
    };
    let guesses = asked.draft.then(|| end.map_or((0, 0), |(_, usage)| usage.drafted));
    Ok(Drawn { answer, guesses, file, explain: engine.explain(), memory: model.gpu().memory() })
}
