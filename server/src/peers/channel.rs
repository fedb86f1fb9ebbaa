//! Bytes between two machines, sealed: frames of Noise over a connection.
//!
//! A frame is its length as two bytes and what is sealed. Noise counts the frames of each direction, so that one that is
//! dropped, repeated, changed or put elsewhere ends the channel.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use snow::TransportState;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that one frame seals at most.
const PLAIN: usize = 16 << 10;
/// Bytes that sealing adds.
pub(crate) const TAG: usize = 16;
/// Bytes of a length.
const LENGTH: usize = 2;

/// A connection whose other side is known.
pub(crate) struct Channel<S> {
    io: S,
    noise: TransportState,
    /// A frame that is being received, with its length.
    frame: Vec<u8>,
    received: usize,
    /// What was in the last frame, and how much of it was read.
    plain: Vec<u8>,
    read: usize,
    /// Frames on their way out, and how much of them is gone.
    out: Vec<u8>,
    sent: usize,
}

fn broken(line: &str) -> Error {
    Error::new(ErrorKind::InvalidData, line.to_owned())
}

impl<S: AsyncRead + AsyncWrite + Unpin> Channel<S> {
    pub(crate) fn new(io: S, noise: TransportState) -> Channel<S> {
        Channel {
            io,
            noise,
            frame: vec![0; LENGTH + PLAIN + TAG],
            received: 0,
            plain: Vec::new(),
            read: 0,
            out: Vec::new(),
            sent: 0,
        }
    }

    /// Receives bytes until there are so many of a frame; false at the end of the connection between two frames.
    fn fill(&mut self, cx: &mut Context<'_>, until: usize) -> Poll<Result<bool>> {
        while self.received < until {
            let mut buffer = ReadBuf::new(&mut self.frame[self.received..until]);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
            match buffer.filled().len() {
                0 if self.received == 0 => return Poll::Ready(Ok(false)),
                0 => return Poll::Ready(Err(ErrorKind::UnexpectedEof.into())),
                n => self.received += n,
            }
        }
        Poll::Ready(Ok(true))
    }

    /// Opens the next frame; false at the end.
    fn open(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        if !ready!(self.fill(cx, LENGTH))? {
            return Poll::Ready(Ok(false));
        }
        let length = usize::from(u16::from_be_bytes([self.frame[0], self.frame[1]]));
        if !(TAG..=PLAIN + TAG).contains(&length) {
            return Poll::Ready(Err(broken("a frame has a length that none has")));
        }
        ready!(self.fill(cx, LENGTH + length))?;
        self.plain.resize(length, 0);
        let opened = self.noise.read_message(&self.frame[LENGTH..LENGTH + length], &mut self.plain);
        let n = opened.map_err(|_| broken("a frame was not sealed by the other side"))?;
        self.plain.truncate(n);
        (self.read, self.received) = (0, 0);
        Poll::Ready(Ok(true))
    }

    /// Seals a frame behind those that are on their way.
    fn seal(&mut self, plain: &[u8]) -> Result<()> {
        let at = self.out.len();
        self.out.resize(at + LENGTH + plain.len() + TAG, 0);
        let sealed = self.noise.write_message(plain, &mut self.out[at + LENGTH..]);
        let n = sealed.map_err(|_| broken("a frame cannot be sealed"))?;
        self.out[at..at + LENGTH].copy_from_slice(&(n as u16).to_be_bytes());
        Ok(())
    }

    /// Sends what is on its way.
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        while self.sent < self.out.len() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.out[self.sent..]))? {
                0 => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                n => self.sent += n,
            }
        }
        self.out.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Sends one frame.
    pub(crate) async fn send(&mut self, plain: &[u8]) -> Result<()> {
        self.seal(plain)?;
        std::future::poll_fn(|cx| self.drain(cx)).await
    }

    /// Receives one frame, which may be empty.
    pub(crate) async fn receive(&mut self) -> Result<Vec<u8>> {
        match std::future::poll_fn(|cx| self.open(cx)).await? {
            true => Ok(std::mem::take(&mut self.plain)),
            false => Err(ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Channel<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        while this.read == this.plain.len() {
            if !ready!(this.open(cx))? {
                return Poll::Ready(Ok(()));
            }
        }
        let n = to.remaining().min(this.plain.len() - this.read);
        to.put_slice(&this.plain[this.read..this.read + n]);
        this.read += n;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Channel<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<Result<usize>> {
        ready!(self.drain(cx))?;
        let n = from.len().min(PLAIN);
        self.seal(&from[..n])?;
        match self.drain(cx) {
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            // What the connection does not take now goes out before anything else does.
            _ => Poll::Ready(Ok(n)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.drain(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.drain(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
