//! Streams that can be taken up again: a request that asks for it has its events numbered and kept for a while, so that a
//! client whose connection broke goes on behind the last event that it saw. The answer is drawn meanwhile.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_core::Stream;
use tokio::sync::{mpsc, watch};

use crate::error::{ApiError, Result};
use crate::fields::Fields;
use crate::guard::Who;

/// How long an answer goes on that nobody reads, and how long one is kept that is whole.
pub(crate) const KEEP: Duration = Duration::from_secs(30);
/// Streams that are kept at a time.
const STREAMS: usize = 128;
/// Bytes of events that are kept of each; older ones go.
const BYTES: usize = 1 << 20;

/// The streams of a server.
#[derive(Default)]
pub(crate) struct Streams(Arc<Mutex<HashMap<String, Arc<Kept>>>>);

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Streams({})", self.all().len())
    }
}

/// What is kept of a stream.
struct Kept {
    owner: u64,
    events: Mutex<Events>,
    /// The number of the last event, and whether it is the last of all.
    last: watch::Sender<(u64, bool)>,
    readers: watch::Sender<usize>,
    stopped: watch::Sender<bool>,
}

#[derive(Default)]
struct Events {
    /// The number of the first event that is there, less one.
    before: u64,
    all: VecDeque<Bytes>,
    bytes: usize,
    /// The beginning of an event whose end has not come.
    open: Vec<u8>,
}

impl Kept {
    fn events(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the bytes of a stream apart into events, and numbers them.
    fn push(&self, bytes: &[u8]) {
        let mut e = self.events();
        e.open.extend_from_slice(bytes);
        while let Some(end) = e.open.windows(2).position(|w| w == b"\n\n") {
            let event: Vec<u8> = e.open.drain(..end + 2).collect();
            // What keeps a connection open is made for each connection.
            if event.starts_with(b":") {
                continue;
            }
            let number = e.before + e.all.len() as u64 + 1;
            let event = Bytes::from([format!("id: {number}\n").as_bytes(), &event].concat());
            e.bytes += event.len();
            e.all.push_back(event);
            while e.bytes > BYTES {
                let Some(old) = e.all.pop_front() else { break };
                e.bytes -= old.len();
                e.before += 1;
            }
        }
        let last = e.before + e.all.len() as u64;
        drop(e);
        self.last.send_modify(|told| told.0 = last);
    }

    /// The events behind a number; None where some of them are gone.
    fn after(&self, number: u64) -> Option<(Bytes, u64)> {
        let e = self.events();
        let skip = usize::try_from(number.checked_sub(e.before)?).ok()?;
        let found: Vec<&[u8]> = e.all.iter().skip(skip).map(|b| &b[..]).collect();
        let last = number.max(e.before + e.all.len() as u64);
        Some((found.concat().into(), last))
    }

    /// Comes back once nobody has read for a while, or somebody stopped it.
    async fn abandoned(&self) {
        let (mut readers, mut stopped) = (self.readers.subscribe(), self.stopped.subscribe());
        let alone = async {
            loop {
                if readers.wait_for(|n| *n == 0).await.is_err() {
                    return;
                }
                if tokio::time::timeout(KEEP, readers.wait_for(|n| *n > 0)).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = alone => {}
            _ = stopped.wait_for(|s| *s) => {}
        }
    }
}

/// Somebody reads as long as this lives.
struct Reading(Arc<Kept>);

impl Reading {
    fn of(kept: &Arc<Kept>) -> Reading {
        kept.readers.send_modify(|n| *n += 1);
        Reading(kept.clone())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.readers.send_modify(|n| *n -= 1);
    }
}

/// Bytes as they come.
struct Frames(mpsc::Receiver<Bytes>);

impl Stream for Frames {
    type Item = std::result::Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

/// A response that reads what is kept behind `number`.
fn reading(kept: &Arc<Kept>, number: u64, ping: Duration) -> Response {
    let (to, frames) = mpsc::channel(1);
    let reader = Reading::of(kept);
    tokio::spawn(async move {
        let kept = &reader.0;
        let (mut at, mut last) = (number, kept.last.subscribe());
        loop {
            let over = last.borrow_and_update().1;
            // Who reads slower than the answer comes by more than is kept sees the connection end.
            let Some((bytes, next)) = kept.after(at) else { return };
            at = next;
            if !bytes.is_empty() && to.send(bytes).await.is_err() {
                return;
            }
            if over {
                return;
            }
            let news = tokio::select! {
                changed = last.changed() => changed.is_ok(),
                () = to.closed() => false,
                () = tokio::time::sleep(ping) => to.send(Bytes::from_static(b": ping\n\n")).await.is_ok(),
            };
            if !news {
                return;
            }
        }
    });
    let mut response = Response::new(Body::from_stream(Frames(frames)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

impl Streams {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Arc<Kept>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request asks for a stream that is kept.
    ///
    /// # Errors
    /// It asks for no stream, it is another machine's, or all places are taken by answers that are not whole.
    pub(crate) fn asked(&self, f: &mut Fields, who: Who) -> Result<bool> {
        if !f.flag("resumable")?.unwrap_or(false) {
            return Ok(false);
        }
        if !f.is("stream", &true.into()) {
            return Err(ApiError::value("resumable", "\"resumable\" is for streams"));
        }
        if who.is_peer() {
            let line = "\"resumable\" is not supported for a model of another machine";
            return Err(ApiError::unsupported("resumable", line));
        }
        let mut all = self.all();
        if all.len() >= STREAMS {
            all.retain(|_, kept| !kept.last.borrow().1);
        }
        match all.len() < STREAMS {
            true => Ok(true),
            false => {
                let line = format!("{STREAMS} streams are kept to be taken up again, and no more at a time");
                Err(ApiError::unavailable("overloaded", line, 5))
            }
        }
    }

    /// Keeps the events of a response, and answers with what reads them from the first on.
    pub(crate) fn keep(&self, id: &str, owner: u64, response: Response, ping: Duration) -> Response {
        let kept = Arc::new(Kept {
            owner,
            events: Mutex::default(),
            last: watch::Sender::default(),
            readers: watch::Sender::default(),
            stopped: watch::Sender::default(),
        });
        self.all().insert(id.to_owned(), kept.clone());
        let answer = reading(&kept, 0, ping);
        let (all, id) = (self.0.clone(), id.to_owned());
        tokio::spawn(async move {
            let mut events = response.into_body().into_data_stream();
            let mut alone = Box::pin(kept.abandoned());
            loop {
                tokio::select! {
                    next = poll_fn(|cx| Pin::new(&mut events).poll_next(cx)) => match next {
                        Some(Ok(bytes)) => kept.push(&bytes),
                        _ => break,
                    },
                    // The engine sees that nobody hears it any more.
                    () = &mut alone => break,
                }
            }
            drop(events);
            kept.last.send_modify(|told| told.1 = true);
            if !*kept.stopped.borrow() {
                tokio::time::sleep(KEEP).await;
            }
            all.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        });
        answer
    }

    fn find(&self, id: &str, owner: u64) -> Result<Arc<Kept>> {
        let found = self.all().get(id).filter(|k| k.owner == owner).cloned();
        found.ok_or_else(|| {
            let shown: String = id.chars().take(80).collect();
            let line = format!(
                "there is no stream \"{shown}\": its request did not say \"resumable\", it is over for more than {} s, or \
                 it is another key's",
                KEEP.as_secs()
            );
            ApiError::missing("stream_not_found", line)
        })
    }

    /// Goes on behind an event.
    ///
    /// # Errors
    /// No such stream of this key, or one whose next events are gone.
    pub(crate) fn resume(&self, id: &str, owner: u64, after: u64, ping: Duration) -> Result<Response> {
        let kept = self.find(id, owner)?;
        let last = kept.last.borrow().0;
        if after > last || kept.after(after).is_none() {
            let line = format!("the events behind {after} are not kept, of {last} that there were");
            return Err(ApiError::http(StatusCode::GONE, "events_gone", line));
        }
        Ok(reading(&kept, after, ping))
    }

    /// Ends an answer that nobody wants any more.
    ///
    /// # Errors
    /// No such stream of this key.
    pub(crate) fn stop(&self, id: &str, owner: u64) -> Result<()> {
        self.find(id, owner)?.stopped.send_replace(true);
        Ok(())
    }
}
