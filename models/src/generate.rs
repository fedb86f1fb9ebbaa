//! Tokens, as they come.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use weft_formats::tokenizer::StreamDecoder;
use weft_kernels::ops::sample::NOT_FINITE;
use weft_runtime::{Readback, Wait};

use crate::graph::Want;
use crate::{Error, Result, Sampling, Session};

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The model said so.
    EndOfText,
    /// As many tokens as were asked for.
    MaxTokens,
    /// The context is full.
    Context,
}

impl Session {
    /// Starts an answer to `prompt`: keeps what the cache already holds of it, computes the rest, and
    /// draws up to `max_tokens` tokens as they are asked for.
    ///
    /// # Errors
    /// An empty prompt or one longer than the context, an id out of range, senseless sampling values,
    /// a fault of the device.
    pub fn generate(
        &mut self,
        prompt: &[u32],
        sampling: &Sampling,
        max_tokens: usize,
    ) -> Result<Generation<'_>> {
        self.generate_with(prompt, sampling, max_tokens, &mut |_, _| ControlFlow::Continue(()))
    }

    /// As [`Session::generate`], telling `progress` (done, total) tokens of the prompt after each
    /// batch and between the submits of one; `Break` cancels.
    ///
    /// # Errors
    /// As [`Session::generate`]; [`Error::Cancelled`].
    pub fn generate_with(
        &mut self,
        prompt: &[u32],
        sampling: &Sampling,
        max_tokens: usize,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Generation<'_>> {
        // The device takes no more submits than it should, so nothing has to wait between batches.
        pollster::block_on(self.begin(prompt, sampling, max_tokens, progress, None))
    }

    /// As [`Session::generate_with`], without blocking: it waits for each batch of the prompt, as in a browser nothing
    /// else keeps the device's queue short.
    ///
    /// # Errors
    /// As [`Session::generate_with`].
    pub async fn generate_with_async(
        &mut self,
        prompt: &[u32],
        sampling: &Sampling,
        max_tokens: usize,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Generation<'_>> {
        self.begin(prompt, sampling, max_tokens, progress, Some(Wait::Await)).await
    }

    /// With `settle` it waits for the device after each batch of the prompt.
    async fn begin(
        &mut self,
        prompt: &[u32],
        sampling: &Sampling,
        max_tokens: usize,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
        settle: Option<Wait>,
    ) -> Result<Generation<'_>> {
        sampling.check()?;
        sampling.check_on_device()?;
        let reused = self.prefill(prompt, sampling, progress, settle).await?;
        Ok(Generation::new(self, sampling, prompt.len(), reused, max_tokens))
    }

    /// Brings the cache to the end of `prompt` and draws the token behind it. Gives how many tokens it held already.
    /// With `settle` it waits for the device after each batch.
    async fn prefill(
        &mut self,
        prompt: &[u32],
        sampling: &Sampling,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
        settle: Option<Wait>,
    ) -> Result<usize> {
        if prompt.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if prompt.len() > self.context() as usize {
            return Err(Error::PromptTooLong { tokens: prompt.len(), context: self.context() });
        }
        self.model.check_ids(prompt)?;
        let known = self.computed.min(self.tokens.len());
        let common = prompt.iter().zip(&self.tokens[..known]).take_while(|(a, b)| a == b).count();
        // The last token always runs: its logits are not kept.
        let reused = common.min(prompt.len() - 1);
        // What a layer with a window has forgotten is computed once more, and so is what it came from.
        let reused = if self.cache.shapes.holds(reused, self.written) { reused } else { 0 };
        if reused == 0 {
            self.written = 0;
        }
        self.tokens.truncate(reused);
        self.computed = reused;
        let gpu = self.model.0.gpu.clone();
        gpu.write(&self.history, reused as u64 * 4, bytemuck::cast_slice(&prompt[reused..]))?;
        while self.computed < prompt.len() {
            let start = self.computed;
            let end = (start + self.chunk() as usize).min(prompt.len());
            self.write_state(start as u32, sampling)?;
            gpu.write(&self.ids, 0, bytemuck::cast_slice(&prompt[start..end]))?;
            let want = if end == prompt.len() { Want::Token } else { Want::Cache };
            let program = self.program(want, (end - start) as u32, end as u32)?;
            let (done, total) = (start - reused, prompt.len() - reused);
            if gpu.run_while(program, None, &mut || progress(done, total))?.is_none() {
                return Err(Error::Cancelled);
            }
            if let Some(wait) = settle {
                gpu.settle(wait).await?;
            }
            self.tokens.extend_from_slice(&prompt[start..end]);
            self.computed = end;
            self.written = self.written.max(end);
            if progress(end - reused, prompt.len() - reused).is_break() {
                return Err(Error::Cancelled);
            }
        }
        Ok(reused)
    }

    /// As [`Session::generate`], without blocking.
    ///
    /// # Errors
    /// As [`Session::generate`].
    pub async fn generate_async(
        &mut self,
        prompt: &[u32],
        sampling: &Sampling,
        max_tokens: usize,
    ) -> Result<Generation<'_>> {
        self.generate_with_async(prompt, sampling, max_tokens, &mut |_, _| ControlFlow::Continue(())).await
    }
}

/// Decode steps submitted before the first of them is read: the device computes a token while the host
/// records the next and prints the last.
const IN_FLIGHT: usize = 2;

/// An answer being drawn. Dropping it cancels it; the session keeps what was read.
pub struct Generation<'a> {
    session: &'a mut Session,
    pending: VecDeque<Readback>,
    /// Position of the next token to be drawn by a submit.
    submitted: usize,
    /// Position whose token a prefill has drawn: the prompt's end, or later where all was computed once more.
    drawn: usize,
    sampling: Sampling,
    prompt: usize,
    reused: usize,
    generated: usize,
    max_tokens: usize,
    stop: Option<Stop>,
    text: Option<StreamDecoder>,
}

impl<'a> Generation<'a> {
    pub(crate) fn new(
        session: &'a mut Session,
        sampling: &Sampling,
        prompt: usize,
        reused: usize,
        max_tokens: usize,
    ) -> Self {
        // The prefill has drawn the token at position `prompt` already.
        let text = session.model.tokenizer().ok().map(|t| t.stream(false).continuing());
        Generation {
            session,
            pending: VecDeque::new(),
            submitted: prompt,
            drawn: prompt,
            sampling: *sampling,
            prompt,
            reused,
            generated: 0,
            max_tokens,
            stop: None,
            text,
        }
    }

    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.prompt
    }

    /// Tokens of the prompt that the cache already held.
    pub fn reused_tokens(&self) -> usize {
        self.reused
    }

    /// Tokens drawn so far, the one that ended the text included.
    pub fn generated(&self) -> usize {
        self.generated
    }

    /// Why it ended, once it has.
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// Submits until enough steps are in flight; `None` when there is nothing left to wait for.
    fn next_pending(&mut self) -> Result<Option<Readback>> {
        if self.stop.is_some() {
            return Ok(None);
        }
        if self.generated >= self.max_tokens {
            self.stop = Some(Stop::MaxTokens);
            return Ok(None);
        }
        let context = self.session.context() as usize;
        if self.prompt + self.generated >= context {
            self.stop = Some(Stop::Context);
            return Ok(None);
        }
        let gpu = self.session.model.gpu().clone();
        let last = (self.prompt + self.max_tokens.min(context)).min(context);
        // The first token is waited for alone, so that the time of the second does not hide behind it.
        let ahead = if self.generated == 0 { 1 } else { IN_FLIGHT };
        while self.pending.len() < ahead && self.submitted < last {
            let token = self.session.history.range(self.submitted as u64 * 4, 4);
            if self.submitted == self.drawn {
                self.pending.push_back(gpu.read(&token));
            } else {
                let positions = self.submitted as u32;
                let program = self.session.program(Want::Token, 1, positions)?;
                let submission = gpu.run(program, Some(&token))?;
                self.pending.extend(submission.readback);
                self.session.computed = self.submitted;
                self.session.written = self.session.written.max(self.submitted);
            }
            self.submitted += 1;
        }
        Ok(self.pending.pop_front())
    }

    /// Computes prompt and answer so far once more, without f16, and draws the next token from that. The draw depends
    /// on seed and position alone, so the answer goes on as if it had been computed so from its start.
    fn once_more(&mut self) -> Result<()> {
        let tokens = std::mem::take(&mut self.session.tokens);
        self.pending.clear();
        // What is in the cache may be to blame, and would be reused.
        self.session.computed = 0;
        if !self.session.fall_back()? {
            return Err(Error::NotFiniteLogits { position: tokens.len().saturating_sub(1) as u32 });
        }
        let mut go_on = |_, _| ControlFlow::Continue(());
        pollster::block_on(self.session.prefill(&tokens, &self.sampling, &mut go_on, None))?;
        (self.submitted, self.drawn) = (tokens.len(), tokens.len());
        Ok(())
    }

    /// Whether what was beyond f16 had the session compute without: see [`Session::without_f16`].
    pub fn without_f16(&self) -> bool {
        self.session.without_f16()
    }

    fn accept(&mut self, token: u32) -> Option<u32> {
        self.session.tokens.push(token);
        self.generated += 1;
        if !self.sampling.ignore_eos && self.session.model.tokenizer().is_ok_and(|t| t.is_eog(token)) {
            self.stop = Some(Stop::EndOfText);
            return None;
        }
        Some(token)
    }

    /// The next token's id, or `None` at the end. Where logits are not finite, all is computed once more without f16:
    /// see [`Session::without_f16`].
    ///
    /// # Errors
    /// [`Error::NotFiniteLogits`]; a fault of the device.
    pub fn next_token(&mut self) -> Result<Option<u32>> {
        while let Some(r) = self.next_pending()? {
            match bytemuck::pod_read_unaligned(&r.wait()?) {
                NOT_FINITE => self.once_more()?,
                token => return Ok(self.accept(token)),
            }
        }
        Ok(None)
    }

    /// As [`Generation::next_token`], without blocking.
    ///
    /// # Errors
    /// As [`Generation::next_token`].
    pub async fn next_async(&mut self) -> Result<Option<u32>> {
        while let Some(r) = self.next_pending()? {
            match bytemuck::pod_read_unaligned(&r.await?) {
                NOT_FINITE => self.once_more()?,
                token => return Ok(self.accept(token)),
            }
        }
        Ok(None)
    }

    /// The next piece of text, made of whole UTF-8 characters (empty while one is incomplete), or
    /// `None` at the end.
    ///
    /// # Errors
    /// A fault of the device; a model without a tokenizer.
    pub fn next_text(&mut self) -> Result<Option<String>> {
        let token = self.next_token()?;
        self.text_of(token)
    }

    /// As [`Generation::next_text`], without blocking.
    ///
    /// # Errors
    /// As [`Generation::next_text`].
    pub async fn next_text_async(&mut self) -> Result<Option<String>> {
        let token = self.next_async().await?;
        self.text_of(token)
    }

    fn text_of(&mut self, token: Option<u32>) -> Result<Option<String>> {
        self.session.model.tokenizer()?;
        let decoder = self.text.as_mut().expect("the model has a tokenizer");
        match token {
            Some(t) => Ok(Some(decoder.push(t))),
            None => {
                let rest = decoder.finish();
                Ok((!rest.is_empty()).then_some(rest))
            }
        }
    }
}
