//! What was said, as tokens with what is learnt of them; cut to the context.

use std::cell::Cell;

use weft_formats::chat::{Error, Message, Options};

use super::record::Talk;
use super::{Learn, Overlong, Reading};
use crate::finetune::spans;

/// A token and whether it is learnt.
type Token = (u32, bool);

/// What became of a conversation.
pub(super) enum Fit {
    /// It is all there.
    Whole(Vec<Token>),
    /// Its beginning is not.
    Truncated(Vec<Token>),
    /// It is longer than the context, and left out.
    Dropped,
    /// It is longer than the context, which is an error; so many tokens.
    TooLong(usize),
}

impl Talk {
    /// The conversation, or as much of it as fits the context. A text of n tokens has n - 1 inputs.
    ///
    /// Each try costs a rendering, so what to drop is searched by halves and without looking for answers; those
    /// are looked for once, in what is left.
    pub(super) fn fit(&self, how: &Reading<'_>) -> Result<Fit, Error> {
        let context = how.context as usize;
        let whole = self.length(&self.messages, how)?;
        if whole <= context {
            let tokens = self.tokens(&self.messages, 0, how)?;
            // Where an answer begins the text is cut, which can make it some tokens longer.
            if tokens.len() <= context + 1 {
                return Ok(Fit::Whole(tokens));
            }
        }
        match how.overlong {
            Overlong::Error => return Ok(Fit::TooLong(whole.max(context + 1))),
            Overlong::Drop => return Ok(Fit::Dropped),
            Overlong::Truncate => {}
        }
        // The system text and then one of these and all behind it: each is where an exchange begins.
        let head = self.messages.iter().position(|m| m.role != "system").unwrap_or(self.messages.len());
        let begins: Vec<usize> =
            (head + 1..self.messages.len()).filter(|&i| self.messages[i].role == "user").collect();
        let rest = |from: usize| [&self.messages[..head], &self.messages[from..]].concat();
        let failed = Cell::new(None);
        let fits = |&from: &usize| match self.length(&rest(from), how) {
            Ok(length) => length <= context,
            Err(e) => {
                failed.set(Some(e));
                true
            }
        };
        let first = begins.partition_point(|from| !fits(from));
        if let Some(e) = failed.take() {
            return Err(e);
        }
        for &from in &begins[first..] {
            let tokens = self.tokens(&rest(from), from - head, how)?;
            if tokens.len() <= context + 1 {
                return Ok(Fit::Truncated(tokens));
            }
        }
        // Not even the last exchange fits: its last tokens.
        let last = begins.last().copied().unwrap_or(head);
        let tokens = self.end(&rest(last), last - head, how)?;
        Ok(Fit::Truncated(tokens[tokens.len().saturating_sub(context + 1)..].to_vec()))
    }

    fn options(&self, how: &Reading<'_>) -> Options {
        Options {
            tools: self.tools.clone(),
            now: Some(how.now),
            extra: self.variables.clone(),
            ..Options::default()
        }
    }

    /// Inputs of the rendered messages, without looking where answers begin.
    fn length(&self, messages: &[Message], how: &Reading<'_>) -> Result<usize, Error> {
        let text = how.template.render(messages, &self.options(how))?;
        Ok(how.tokenizer.encode(&text, true).len().saturating_sub(1))
    }

    /// All tokens of `messages`, which lack `dropped` of those behind the system text.
    fn tokens(&self, messages: &[Message], dropped: usize, how: &Reading<'_>) -> Result<Vec<Token>, Error> {
        let rendered = spans::render(how.template, messages, &self.options(how))?;
        Ok(self.encode(&rendered, messages, dropped, how))
    }

    /// At least the last tokens of `messages` that the context holds, with the answers that reach into them.
    fn end(&self, messages: &[Message], dropped: usize, how: &Reading<'_>) -> Result<Vec<Token>, Error> {
        let options = self.options(how);
        let text = how.template.render(messages, &options)?;
        let ids = how.tokenizer.encode(&text, true);
        let kept = &ids[ids.len().saturating_sub(2 * how.context as usize + 2)..];
        let bytes = how.tokenizer.decode(kept, true).len();
        let from = text.len().saturating_sub(bytes);
        // The first message whose end lies in what is kept.
        let until = |n: usize| how.template.render(&messages[..n], &options).map_or(usize::MAX, |t| t.len());
        let (mut low, mut high) = (0, messages.len());
        while low < high {
            let middle = (low + high) / 2;
            if until(middle + 1) < from { low = middle + 1 } else { high = middle }
        }
        let rendered = spans::render_from(how.template, messages, &options, low)?;
        Ok(self.encode(&rendered, messages, dropped, how))
    }

    fn encode(
        &self,
        rendered: &spans::Rendered,
        messages: &[Message],
        dropped: usize,
        how: &Reading<'_>,
    ) -> Vec<Token> {
        let tokenizer = how.tokenizer;
        let cuts: Vec<usize> = rendered.spans.iter().flat_map(|s| [s.bytes.start, s.bytes.end]).collect();
        let pieces = tokenizer.encode_cut(&rendered.text, &cuts);
        let head = messages.iter().position(|m| m.role != "system").unwrap_or(messages.len());
        // Where a message of what is left stood in the whole.
        let of = |message: usize| if message < head { message } else { message + dropped };
        let all = how.learn == Learn::All;
        let mut tokens = Vec::new();
        for (i, mut piece) in pieces.into_iter().enumerate() {
            let mut behind = Vec::new();
            let mut learnt = all;
            if i % 2 == 1 {
                // A model stops at the end of its turn; what a template puts behind that it never writes.
                if let Some(last) = piece.iter().rposition(|&id| tokenizer.is_eog(id)) {
                    let rest = tokenizer.decode(&piece[last + 1..], true);
                    if rest.trim().is_empty() {
                        behind = piece.split_off(last + 1);
                    }
                }
                learnt = self.learnt[of(rendered.spans[i / 2].message)];
            }
            tokens.extend(piece.into_iter().map(|id| (id, learnt)));
            tokens.extend(behind.into_iter().map(|id| (id, all)));
        }
        tokens
    }
}
