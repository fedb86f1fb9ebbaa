//! An answer as a stream of events.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_core::Stream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, Sleep, sleep_until};
use weft_models::engine::{Finish, Logprobs, Usage};

use crate::app::App;
use crate::engine::{Fault, Said};
use crate::error::{ApiError, Result};
use crate::guard::Who;
use crate::said;

/// What is received from an engine.
pub(crate) type Receiver = UnboundedReceiver<(u32, Said)>;

/// Bytes of a frame, above which the rest of what is there waits for the next.
const FRAME: usize = 32 << 10;

/// Turns what is said into events.
pub(crate) trait Write: Send + 'static {
    /// Appends what one answer says. A fault of it ends the stream, as does an error that this returns.
    ///
    /// # Errors
    /// The answer cannot go on.
    fn write(&mut self, index: u32, said: Said, to: &mut Vec<u8>) -> Result<()>;

    /// Appends what comes behind all answers.
    fn end(&mut self, to: &mut Vec<u8>);

    /// Appends an error, behind which nothing comes.
    fn error(&mut self, error: &ApiError, to: &mut Vec<u8>) {
        to.extend_from_slice(format!("data: {}\n\n", error.json()).as_bytes());
    }

    /// Appends what keeps the connection open.
    fn ping(&mut self, to: &mut Vec<u8>) {
        to.extend_from_slice(b": ping\n\n");
    }
}

/// The stream of the bytes.
struct Events<W> {
    said: Receiver,
    writer: W,
    /// Answers that are not whole.
    open: u32,
    first: Option<(u32, Said)>,
    buffer: Vec<u8>,
    timer: Pin<Box<Sleep>>,
    last: Instant,
    ping: Duration,
}

/// What is said first, so that a request that comes to nothing at once has a status that says so.
pub(crate) async fn first(said: &mut Receiver) -> Result<(u32, Said)> {
    match said.recv().await {
        Some((_, Said::Failed(fault))) => Err(said::fault(fault)),
        Some(first) => Ok(first),
        None => Err(said::fault(Fault::Ending)),
    }
}

/// A response of status 200 whose events are what `writer` makes of `n` answers.
pub(crate) async fn respond<W: Write + Unpin>(
    mut said: Receiver,
    n: u32,
    writer: W,
    ping: Duration,
    kind: &'static str,
) -> Result<Response> {
    let first = first(&mut said).await?;
    let now = Instant::now();
    let events = Events {
        said,
        writer,
        open: n,
        first: Some(first),
        buffer: Vec::new(),
        timer: Box::pin(sleep_until(now + ping)),
        last: now,
        ping,
    };
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// The same as server-sent events, which are kept under a name where it has one.
pub(crate) async fn events<W: Write + Unpin>(
    app: &App,
    said: Receiver,
    n: u32,
    writer: W,
    (kept, who): (Option<String>, Who),
) -> Result<Response> {
    let response = respond(said, n, writer, app.config.ping, "text/event-stream").await?;
    Ok(match kept {
        Some(id) => app.streams.keep(&id, who.0, response, app.config.ping),
        None => response,
    })
}

impl<W: Write> Events<W> {
    /// Writes one; whether the stream goes on.
    fn take(&mut self, next: Option<(u32, Said)>) -> bool {
        let (index, said) = match next {
            Some((_, Said::Failed(fault))) => return self.fail(&said::fault(fault)),
            Some(next) => next,
            None => return self.fail(&said::fault(Fault::Ending)),
        };
        let whole = matches!(said, Said::Finished { .. });
        let (writer, buffer) = (&mut self.writer, &mut self.buffer);
        let written = catch_unwind(AssertUnwindSafe(|| writer.write(index, said, buffer)));
        match written.unwrap_or_else(|_| Err(ApiError::fault("a bug in the server ended this answer"))) {
            Ok(()) => {}
            Err(e) => return self.fail(&e),
        }
        self.open -= u32::from(whole);
        if self.open == 0 {
            self.writer.end(&mut self.buffer);
        }
        self.open > 0
    }

    fn fail(&mut self, error: &ApiError) -> bool {
        self.writer.error(error, &mut self.buffer);
        self.open = 0;
        // Nobody reads the rest: what else was asked for with it is cancelled.
        self.said.close();
        false
    }

    fn frame(&mut self) -> Poll<Option<std::result::Result<Bytes, Infallible>>> {
        let frame = Bytes::copy_from_slice(&self.buffer);
        self.buffer.clear();
        self.last = Instant::now();
        Poll::Ready(Some(Ok(frame)))
    }
}

impl<W: Write + Unpin> Stream for Events<W> {
    type Item = std::result::Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.open == 0 {
            return Poll::Ready(None);
        }
        if let Some(first) = this.first.take() {
            this.take(Some(first));
        }
        while this.open > 0 && this.buffer.len() < FRAME {
            match this.said.poll_recv(cx) {
                Poll::Ready(next) => {
                    if !this.take(next) {
                        break;
                    }
                }
                Poll::Pending => break,
            }
        }
        if !this.buffer.is_empty() {
            return this.frame();
        }
        while this.timer.as_mut().poll(cx).is_ready() {
            let due = this.last + this.ping;
            if Instant::now() >= due {
                this.writer.ping(&mut this.buffer);
                this.timer.as_mut().reset(Instant::now() + this.ping);
                if this.buffer.is_empty() {
                    continue;
                }
                return this.frame();
            }
            this.timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

/// A token of an answer.
pub(crate) struct Token {
    pub(crate) id: u32,
    /// Text that was certain with it.
    pub(crate) text: String,
    pub(crate) logprobs: Option<Logprobs>,
}

/// A whole answer to one request among several.
pub(crate) struct Whole {
    /// Log-probabilities of the prompt's tokens but the first, if they were asked for.
    pub(crate) prompt: Vec<Logprobs>,
    pub(crate) tokens: Vec<Token>,
    /// Text that was certain with the end alone.
    pub(crate) rest: String,
    pub(crate) reason: Finish,
    pub(crate) usage: Usage,
}

impl Whole {
    pub(crate) fn text(&self) -> String {
        self.tokens.iter().map(|t| t.text.as_str()).chain([self.rest.as_str()]).collect()
    }
}

/// Waits for `n` whole answers.
pub(crate) async fn collect(mut said: Receiver, n: u32) -> Result<Vec<Whole>> {
    let mut open = n;
    let mut all: Vec<(Vec<Logprobs>, Vec<Token>, Option<_>)> = (0..n).map(|_| Default::default()).collect();
    while open > 0 {
        let Some((index, one)) = said.recv().await else { return Err(said::fault(Fault::Ending)) };
        let to = &mut all[index as usize];
        match one {
            Said::Started { .. } | Said::Progress { .. } => {}
            Said::Prompt { logprobs, .. } => to.0.extend(logprobs),
            Said::Token { token: id, text, logprobs } => to.1.push(Token { id, text, logprobs }),
            Said::Finished { reason, text, usage } => {
                to.2 = Some((text, reason, usage));
                open -= 1;
            }
            Said::Failed(fault) => return Err(said::fault(fault)),
        }
    }
    let whole = |(prompt, tokens, end): (_, _, Option<_>)| {
        end.map(|(rest, reason, usage)| Whole { prompt, tokens, rest, reason, usage })
    };
    Ok(all.into_iter().filter_map(whole).collect())
}
