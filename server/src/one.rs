//! One answer to one chat, for the APIs that know no others: Anthropic's, Ollama's and Responses.

use weft_models::engine::{Finish, Usage};

use crate::app::{App, Served, no_room};
use crate::ask::{Ask, Reading, refusal};
use crate::engine::Said;
use crate::error::{ApiError, Result};
use crate::reader::{Parts, Reader};
use crate::stream::{self, Receiver};
use crate::tools::Piece;

/// An answer that is on its way.
pub(crate) struct Begun {
    pub(crate) said: Receiver,
    pub(crate) listener: Listener,
    /// Tokens of the prompt.
    pub(crate) prompt: usize,
}

/// Asks the engine.
///
/// # Errors
/// What cannot be honoured, or no room.
pub(crate) fn begin(ask: &Ask, app: &App, served: &Served, key: u64) -> Result<Begun> {
    let engine = served.engine()?;
    if ask.draw.n != 1 {
        return Err(ApiError::unsupported("n", "\"n\" is not supported: there is one answer"));
    }
    let prepared = ask.prepare(served, key)?;
    let prompt = prepared.requests.first().map_or(0, |r| r.prompt.len());
    let said = engine.submit(prepared.requests, key).map_err(no_room)?;
    Ok(Begun { said, listener: Listener { reader: Reader::new(&prepared.reading, app.id()) }, prompt })
}

/// The same for tokens that are the prompt already; the answer is content alone.
///
/// # Errors
/// What cannot be honoured, or no room.
pub(crate) fn begin_raw(ask: &Ask, prompt: Vec<u32>, app: &App, served: &Served, key: u64) -> Result<Begun> {
    let engine = served.engine()?;
    if ask.draw.n != 1 {
        return Err(ApiError::unsupported("n", "\"n\" is not supported: there is one answer"));
    }
    let mut requests = ask.draw.requests(&prompt, served.card.context - prompt.len(), key);
    if let Some((source, param)) = &ask.form {
        let make = || {
            let grammars = served.grammars()?;
            grammars.mask(source, None).map_err(|why| refusal(why, param))
        };
        let mask = tokio::task::block_in_place(make)?;
        if let Some(request) = requests.first_mut() {
            request.mask = Some(mask);
        }
    }
    let said = engine.submit(requests, key).map_err(no_room)?;
    let reading = Reading { format: None, names: Vec::new(), think: None };
    Ok(Begun { said, listener: Listener { reader: Reader::new(&reading, app.id()) }, prompt: prompt.len() })
}

/// Why an answer ended, in no API's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself.
    Stop,
    /// At this stop string.
    StopString(String),
    /// It had no more room.
    Length,
    /// With calls.
    Calls,
}

/// What an answer took, with tokens of thought apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    pub(crate) usage: Usage,
    pub(crate) reasoning: usize,
}

/// Hears an answer as it comes.
pub(crate) struct Listener {
    reader: Reader,
}

impl Listener {
    /// Appends what is certain now; how the answer ended, if it did.
    pub(crate) fn hear(&mut self, said: &Said, out: &mut Vec<Piece>) -> Option<(End, Took)> {
        match said {
            Said::Token { text, .. } => {
                self.reader.token(text, out);
                None
            }
            Said::Finished { reason, text, usage } => {
                self.reader.finish(text, out);
                Some(self.end(reason, *usage))
            }
            Said::Started { .. } | Said::Progress { .. } | Said::Prompt { .. } | Said::Failed(_) => None,
        }
    }

    fn end(&self, finish: &Finish, usage: Usage) -> (End, Took) {
        let end = match finish {
            Finish::MaxTokens | Finish::Context => End::Length,
            _ if self.reader.has_calls() => End::Calls,
            Finish::StopString(text) => End::StopString(text.clone()),
            Finish::EndOfText | Finish::StopToken(_) => End::Stop,
        };
        (end, Took { usage, reasoning: self.reader.reasoning })
    }
}

/// A whole answer.
pub(crate) struct Reply {
    pub(crate) parts: Parts,
    pub(crate) end: End,
    pub(crate) took: Took,
}

impl Begun {
    /// Waits for the end.
    ///
    /// # Errors
    /// A fault on the way.
    pub(crate) async fn whole(mut self) -> Result<Reply> {
        let all = stream::collect(self.said, 1).await?;
        let whole = all.into_iter().next().ok_or_else(|| ApiError::fault("there is no answer"))?;
        let (mut parts, mut pieces) = (Parts::default(), Vec::new());
        for token in &whole.tokens {
            self.listener.reader.token(&token.text, &mut pieces);
            parts.add(pieces.drain(..));
        }
        self.listener.reader.finish(&whole.rest, &mut pieces);
        parts.add(pieces.drain(..));
        let (end, took) = self.listener.end(&whole.reason, whole.usage);
        Ok(Reply { parts, end, took })
    }
}
