//! Handing on what another machine answers, under the name that the model has here.
//!
//! A stream is handed on by whole events, so that one which breaks off ends with an event that says so and not in the middle
//! of a line.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use futures_core::Stream;
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes of one event at most.
const EVENT: usize = 16 << 20;

/// Streams of events say something more often than this, if only that they go on.
const SILENCE: Duration = Duration::from_secs(60);

/// How the parts of a stream end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parts {
    /// By an empty line.
    Events,
    /// By the line.
    Lines,
}

impl Parts {
    fn end(self) -> &'static [u8] {
        match self {
            Parts::Events => b"\n\n",
            Parts::Lines => b"\n",
        }
    }
}

/// The first place of `what` in `text`, from `from` on.
fn find(text: &[u8], what: &[u8], from: usize) -> Option<usize> {
    text.get(from..)?.windows(what.len()).position(|w| w == what).map(|at| from + at)
}

/// Names a model otherwise, in JSON that a Weft wrote.
#[derive(Clone)]
pub(super) struct Rename {
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Rename {
    pub(super) fn new(model: &str, machine: &str) -> Rename {
        let field = |name: &str| format!("\"model\":{}", serde_json::Value::from(name)).into_bytes();
        Rename { from: field(model), to: field(&format!("{model}@{machine}")) }
    }

    /// Appends one object to `to`. A quote within a text has a backslash before it, so what is found is a field; the first is
    /// that of the answer.
    pub(super) fn write(&self, object: &[u8], to: &mut Vec<u8>) {
        match find(object, &self.from, 0) {
            Some(at) => {
                to.extend_from_slice(&object[..at]);
                to.extend_from_slice(&self.to);
                to.extend_from_slice(&object[at + self.from.len()..]);
            }
            None => to.extend_from_slice(object),
        }
    }
}

/// The last words of a stream that breaks off, given how many events there were.
pub(super) type Broken = Box<dyn Fn(u64) -> Vec<u8> + Send>;

/// A stream that is handed on.
pub(super) struct Relay {
    body: BodyDataStream,
    parts: Parts,
    rename: Rename,
    broken: Broken,
    held: Vec<u8>,
    /// Up to where no part ends in what is held.
    looked: usize,
    count: u64,
    silence: Pin<Box<Sleep>>,
    ended: bool,
}

impl Relay {
    pub(super) fn new(body: Body, parts: Parts, rename: Rename, broken: Broken) -> Relay {
        Relay {
            body: body.into_data_stream(),
            parts,
            rename,
            broken,
            held: Vec::new(),
            looked: 0,
            count: 0,
            silence: Box::pin(sleep_until(Instant::now() + SILENCE)),
            ended: false,
        }
    }

    /// The whole parts of what is held.
    fn whole(&mut self) -> Vec<u8> {
        let (end, mut at, mut out) = (self.parts.end(), 0, Vec::new());
        while let Some(found) = find(&self.held, end, self.looked.max(at)) {
            let next = found + end.len();
            self.rename.write(&self.held[at..next], &mut out);
            self.count += 1;
            at = next;
        }
        self.held.drain(..at);
        self.looked = self.held.len().saturating_sub(end.len() - 1);
        out
    }

    fn fail(&mut self) -> Poll<Option<Result<Bytes, Infallible>>> {
        self.ended = true;
        Poll::Ready(Some(Ok((self.broken)(self.count).into())))
    }
}

impl Stream for Relay {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        while !this.ended {
            match Pin::new(&mut this.body).poll_next(cx) {
                Poll::Ready(Some(Ok(bytes))) => {
                    this.silence.as_mut().reset(Instant::now() + SILENCE);
                    this.held.extend_from_slice(&bytes);
                    let out = this.whole();
                    if this.held.len() > EVENT {
                        return this.fail();
                    }
                    if !out.is_empty() {
                        return Poll::Ready(Some(Ok(out.into())));
                    }
                }
                Poll::Ready(None) if this.held.is_empty() => this.ended = true,
                Poll::Ready(None | Some(Err(_))) => return this.fail(),
                Poll::Pending if this.parts == Parts::Events && this.silence.as_mut().poll(cx).is_ready() => {
                    return this.fail();
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use axum::body::{Body, Bytes};
    use futures_core::Stream;

    use super::{Parts, Relay, Rename};

    struct Pieces(std::vec::IntoIter<Result<Bytes, std::io::Error>>);

    impl Stream for Pieces {
        type Item = Result<Bytes, std::io::Error>;
        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Ready(self.0.next())
        }
    }

    fn relayed(pieces: Vec<Result<Bytes, std::io::Error>>, parts: Parts) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let body = Body::from_stream(Pieces(pieces.into_iter()));
            let broken = Box::new(|n| format!("broken {n}").into_bytes());
            let mut relay = Relay::new(body, parts, Rename::new("a", "desk"), broken);
            let mut all = Vec::new();
            while let Some(Ok::<_, Infallible>(bytes)) =
                std::future::poll_fn(|cx| Pin::new(&mut relay).poll_next(cx)).await
            {
                all.extend_from_slice(&bytes);
            }
            String::from_utf8(all).expect("text")
        })
    }

    const SAID: &str = "data: {\"id\":1,\"model\":\"a\",\"text\":\"\\\"model\\\":\\\"a\\\"\",\"input\":{\"model\":\"a\"}}\n\n\
                        : ping\n\ndata: {\"model\":\"ab\"}\n\ndata: {\"model\":\"a\"}\n\n";
    const WANT: &str = "data: {\"id\":1,\"model\":\"a@desk\",\"text\":\"\\\"model\\\":\\\"a\\\"\",\"input\":{\"model\":\"a\"}}\n\n\
                        : ping\n\ndata: {\"model\":\"ab\"}\n\ndata: {\"model\":\"a@desk\"}\n\n";

    #[test]
    fn models_are_named_with_their_machine_wherever_bytes_are_cut() {
        for cut in 0..=SAID.len() {
            let (a, b) = SAID.split_at(cut);
            let pieces = [a, b].map(|p| Ok(Bytes::copy_from_slice(p.as_bytes())));
            assert_eq!(relayed(pieces.into(), Parts::Events), WANT, "cut at {cut}");
        }
        let lines = "{\"model\":\"a\"}\n{\"model\":\"a\"}\n";
        let bytes = lines.bytes().map(|b| Ok(Bytes::copy_from_slice(&[b]))).collect();
        assert_eq!(relayed(bytes, Parts::Lines), "{\"model\":\"a@desk\"}\n{\"model\":\"a@desk\"}\n");
    }

    #[test]
    fn a_stream_that_breaks_off_says_so_behind_its_last_whole_event() {
        let piece = |text: &str| Ok(Bytes::copy_from_slice(text.as_bytes()));
        let error = || Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
        assert_eq!(relayed(vec![piece("x\n\ny"), error()], Parts::Events), "x\n\nbroken 1");
        assert_eq!(relayed(vec![piece("x\n\ny")], Parts::Events), "x\n\nbroken 1");
        assert_eq!(relayed(vec![error()], Parts::Lines), "broken 0");
    }
}
