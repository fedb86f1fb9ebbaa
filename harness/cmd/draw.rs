//! Answers one after the other, from an engine with one slot: what `weft run` and `weft chat` draw. What an answer's prompt
//! begins with as an earlier one did is not computed again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use weft_models::engine::{BLOCK, Engine, Event, Finish, GUESSES, Options, Request};
use weft_models::{Loading, Model};

use crate::options::{self, CacheFlag, DeviceFlags};
use crate::report::{self, Timings};
use crate::{Error, Result, interrupt, output};

/// Where guesses are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Draft {
    /// What followed the last time that the prompt or the answer had the same three tokens
    Ngram,
}

/// Guesses of what comes next.
#[derive(Debug, Args)]
pub(super) struct DraftFlags {
    /// Guess what comes next, and verify several guesses in one step. The answer is the same; it comes faster where it
    /// repeats what was said before, as an edit of code does
    #[arg(long, value_name = "HOW")]
    draft: Option<Draft>,
    /// Have a smaller model of the same vocabulary guess what comes next, on the same device, with its context beside the
    /// other's. The answer is the same
    #[arg(long, value_name = "FILE", conflicts_with = "draft", value_parser = options::model_file())]
    draft_model: Option<PathBuf>,
}

impl DraftFlags {
    fn on(&self) -> bool {
        self.draft.is_some() || self.draft_model.is_some()
    }

    fn room(&self, context: u32) -> Options {
        let guesses = if self.on() { GUESSES } else { 0 };
        Options { slots: 1, context: Some(context), guesses, ..Options::default() }
    }

    /// Has the kernels compiled, while weights load, that a prompt of so many tokens and its answer need.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub(super) fn prepare(&self, loading: &mut Loading, context: u32, prompt: usize) -> Result<()> {
        let room = self.room(context);
        Ok(loading.prepare(|model| Engine::new(model, &room)?.prepare(prompt))?)
    }
}

/// What is said where a model was computed once more.
const BEYOND_F16: &str = "note: activations were beyond what f16 holds, so the prompt was computed once more without \
                          it; --without coop,f16 does so from the start";

/// `-n`: negative is no bound.
pub(super) fn most(n: i64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// One answer, as it came.
pub(super) struct Answer {
    /// The ids, without the one that ended the text.
    pub(super) ids: Vec<u32>,
    pub(super) text: String,
    pub(super) timings: Timings,
    /// Why it ended; `None` after Ctrl-C.
    pub(super) finish: Option<Finish>,
    pub(super) prompt_tokens: usize,
    pub(super) reused: usize,
    /// Guesses that were verified, and those of them that were right; None without `--draft`.
    pub(super) guesses: Option<(usize, usize)>,
}

impl Answer {
    /// How guesses went, for people.
    pub(super) fn drafts(&self) -> Option<String> {
        let (made, right) = self.guesses?;
        let tokens = self.timings.generated;
        let steps = tokens.saturating_sub(right).max(1);
        let each = tokens as f64 / steps as f64;
        Some(format!("drafts: {right} of {made} guesses were right, {each:.2} tokens a step"))
    }
}

/// Draws one answer after the other.
pub(super) struct Drawer {
    pub(super) engine: Engine,
    drafts: bool,
    /// Whether it was said that f16 does not hold what the model computes.
    told: bool,
}

impl Drawer {
    /// Takes the memory, and opens the model that guesses, if there is one.
    ///
    /// # Errors
    /// As [`Engine::new`] and [`Engine::draft_with`].
    pub(super) fn new(
        model: &Model,
        context: u32,
        draft: &DraftFlags,
        (device, chunk, cache): (&DeviceFlags, Option<u32>, CacheFlag),
    ) -> Result<Drawer> {
        let mut engine = Engine::new(model, &draft.room(context))?;
        if let Some(path) = &draft.draft_model {
            let started = options::begin(path.as_path().into(), device, chunk, Some(context), cache)?;
            engine.draft_with(&started.finish()?.0)?;
        }
        Ok(Drawer { engine, drafts: draft.on(), told: false })
    }

    /// Draws an answer, giving each piece of text to `each` as it comes, until its end or Ctrl-C.
    ///
    /// # Errors
    /// As [`Engine::step`]; what ends a request.
    pub(super) fn answer(
        &mut self,
        request: Request,
        each: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<Answer> {
        let length = request.prompt.len();
        let start = Instant::now();
        let id = self.engine.submit(request)?;
        let bar = output::bar(length as u64, "reading the prompt {bar:30} {pos} of {len} tokens, {elapsed}");
        let (mut ids, mut text, mut first, mut end) = (Vec::new(), String::new(), None, None);
        let mut together = None;
        let mut reused = 0;
        while end.is_none() && !interrupt::asked() {
            for event in self.engine.step()? {
                match event {
                    Event::Started { cached, .. } => {
                        reused = cached;
                        bar.set_position(cached as u64);
                    }
                    Event::Progress { done, .. } => bar.set_position(done as u64),
                    Event::Prompt { .. } => {}
                    Event::Token { token, text: part, .. } => {
                        bar.finish_and_clear();
                        first = first.or_else(|| Some(Instant::now()));
                        ids.push(token);
                        if ids.len() == report::TOGETHER {
                            together = Some(Instant::now());
                        }
                        show(&part, &mut text, each)?;
                    }
                    Event::Finished { reason, text: part, usage, .. } => {
                        bar.finish_and_clear();
                        show(&part, &mut text, each)?;
                        end = Some((reason, usage));
                    }
                    Event::Failed { error, .. } => {
                        bar.finish_and_clear();
                        return Err(error.into());
                    }
                }
            }
        }
        bar.finish_and_clear();
        self.engine.cancel(id);
        if self.engine.without_f16() && !std::mem::replace(&mut self.told, true) {
            output::note(BEYOND_F16);
        }
        let now = Instant::now();
        let first = first.unwrap_or(now);
        let guesses = self.drafts.then(|| end.as_ref().map_or((0, 0), |(_, usage)| usage.drafted));
        Ok(Answer {
            timings: Timings {
                load: Duration::ZERO,
                prefill: first - start,
                first: report::since_start(first),
                decode: now - first,
                steady: together.map_or(Duration::ZERO, |then| now - then),
                prompt_tokens: length - reused,
                generated: end.as_ref().map_or(ids.len(), |(_, usage)| usage.generated),
            },
            ids,
            text,
            finish: end.map(|(reason, _)| reason),
            prompt_tokens: length,
            reused,
            guesses,
        })
    }
}

fn show(part: &str, text: &mut String, each: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    text.push_str(part);
    if part.is_empty() { Ok(()) } else { each(part) }
}

/// A file with the keys and values of what prompts begin with.
pub(super) struct PromptCache<'a> {
    path: &'a Path,
    /// Whether it was there before.
    there: bool,
}

impl PromptCache<'_> {
    /// Looks where it is, or would be, before anything is computed.
    ///
    /// # Errors
    /// There is no such folder.
    pub(super) fn new(path: &Path) -> Result<PromptCache<'_>> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            let (path, folder) = (path.display(), folder.display());
            return Err(Error::input(format!("--prompt-cache {path}: there is no folder {folder}")));
        }
        Ok(PromptCache { path, there: path.exists() })
    }

    /// Reads it, if it is there.
    ///
    /// # Errors
    /// As [`Engine::restore_prefix`].
    pub(super) fn restore(&self, engine: &mut Engine) -> Result<()> {
        if self.there {
            engine.restore_prefix(self.path, 0)?;
        }
        Ok(())
    }

    /// Writes it behind an answer, if it was not there; says what was done.
    ///
    /// # Errors
    /// As [`Engine::save_prefix`].
    pub(super) fn save(&self, engine: &mut Engine, prompt: &[u32], answer: &Answer) -> Result<String> {
        let (shown, all) = (self.path.display(), prompt.len());
        if self.there {
            return Ok(format!("{shown}: {} of {all} tokens of the prompt were there", answer.reused));
        }
        Ok(match engine.save_prefix(self.path, prompt, 0)? {
            0 => format!("{shown}: not written, since the prompt is shorter than a block of {BLOCK} tokens"),
            n => format!("{shown}: {n} of {all} tokens of the prompt are kept"),
        })
    }
}
