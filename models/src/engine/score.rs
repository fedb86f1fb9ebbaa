//! Prompts that come back with their log-probabilities, and answers of which nothing else is wanted.

use super::answer::Answer;
use super::device::Device;
use super::request::{Event, Finish};
use super::schedule::Scheduler;
use crate::Result;

impl<D: Device> Scheduler<D> {
    /// Ends an answer that has no room for a token, once nothing else is wanted of it.
    pub(super) fn end_without_tokens(&mut self, slot: usize) {
        let context = self.device.layout().context;
        let done =
            |a: &&mut Answer| !a.is_scoring() && !a.wants_more(context) && a.submitted == a.known.len();
        if let Some(answer) = self.slots[slot].as_mut().filter(done) {
            let reason = if answer.request.max_tokens == 0 { Finish::MaxTokens } else { Finish::Context };
            let event = answer.finish(reason);
            self.events.push(event);
            self.free(slot);
        }
    }

    /// Logits of a piece of a prompt came, whose tokens are these.
    pub(super) fn scored(&mut self, slot: usize, words: &[u32], (from, done): (usize, usize)) -> Result<()> {
        let vocabulary = self.device.layout().vocabulary as usize;
        let answer = self.slots[slot].as_mut().expect("an answer");
        let (id, total) = (answer.id, answer.prompt);
        match answer.score(words, from, vocabulary) {
            Ok(event) => self.events.extend(event),
            Err(_) => return self.once_more(slot),
        }
        self.events.push(Event::Progress { id, done: done.min(total), total });
        self.end_without_tokens(slot);
        Ok(())
    }
}
