//! A request on its way out on an HTTP/1.1 connection: at most one frame of its body is held, and what is framed is what was
//! announced, whatever its client does.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http::request::Parts;
use http_body::{Body as _, Frame};
use tokio::io::AsyncWrite;

use super::head::{self, Framing};
use super::wire::Http1Error;
use crate::http::{Body, BodyError};

/// The most an idle connection keeps for the head of its next request, in bytes.
const KEPT_BYTES: usize = 2 * 1024;

/// What is to be written, in this order: `front`, `data`, `tail`; then the next frame of `body`.
#[derive(Debug)]
pub(super) struct Out {
    /// The head, or the line that begins a chunk.
    front: Vec<u8>,
    front_sent: usize,
    data: Bytes,
    tail: &'static [u8],
    body: Option<Body>,
    framing: Framing,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing is out.
    Fresh,
    /// Something is out, not everything.
    Begun,
    /// There is nothing more to send.
    Done,
}

impl Default for Out {
    fn default() -> Self {
        Self {
            front: Vec::new(),
            front_sent: 0,
            data: Bytes::new(),
            tail: b"",
            body: None,
            framing: Framing::Bodyless,
            stage: Stage::Done,
        }
    }
}

impl Out {
    /// Takes a request.
    pub(super) fn begin(&mut self, parts: &Parts, body: Body) {
        self.framing = framing(&body);
        self.front.clear();
        self.front_sent = 0;
        head::write_request(parts, self.framing, &mut self.front);
        self.body = (self.framing != Framing::Bodyless).then_some(body);
        self.stage = Stage::Fresh;
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.stage == Stage::Fresh
    }

    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// The stream takes no more.
    pub(super) fn give_up(&mut self) {
        self.body = None;
        self.stage = Stage::Done;
    }

    /// Keeps no more than the head of an ordinary request needs.
    pub(super) fn rest(&mut self) {
        self.data = Bytes::new();
        self.front.clear();
        self.front.shrink_to(KEPT_BYTES);
    }

    /// The body of a request of which nothing is out.
    pub(super) fn take_body(&mut self) -> Body {
        let rest = self.body.take().unwrap_or_default();
        let first = std::mem::take(&mut self.data);
        self.tail = b"";
        self.stage = Stage::Done;
        if first.is_empty() { rest } else { Body::begun(first, rest) }
    }

    /// Ready when everything is out.
    pub(super) fn poll<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<Result<(), Http1Error>> {
        loop {
            // The first frame, when it is at hand, goes out with the head.
            let waits = self.data.is_empty() && self.body.is_some() && self.poll_body(cx)?.is_pending();
            if self.has_bytes() {
                ready!(self.poll_write(cx, stream))?;
            } else if waits {
                return Pin::new(&mut *stream).poll_flush(cx)?.map(Ok).and_pending();
            } else if self.body.is_none() {
                ready!(Pin::new(&mut *stream).poll_flush(cx))?;
                self.stage = Stage::Done;
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn has_bytes(&self) -> bool {
        self.front_sent < self.front.len() || !self.data.is_empty() || !self.tail.is_empty()
    }

    fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<Result<(), Http1Error>> {
        let stream = Pin::new(stream);
        let front = &self.front[self.front_sent..];
        let written = if self.data.is_empty() && self.tail.is_empty() {
            ready!(stream.poll_write(cx, front))?
        } else {
            let slices = [front, &self.data, self.tail].map(IoSlice::new);
            ready!(stream.poll_write_vectored(cx, &slices))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
        }
        self.stage = Stage::Begun;
        self.advance(written);
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        let front = written.min(self.front.len() - self.front_sent);
        self.front_sent += front;
        written -= front;
        let data = written.min(self.data.len());
        self.data.advance(data);
        self.tail = &self.tail[written - data..];
    }

    /// Takes the next frame of the request body.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Http1Error>> {
        // What ends the last chunk is not out yet.
        if !self.tail.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
        let frame = ready!(Pin::new(body).poll_frame(cx)).transpose().map_err(Http1Error::RequestBody)?;
        if self.front_sent == self.front.len() {
            self.front.clear();
            self.front_sent = 0;
        }
        match frame.map(Frame::into_data) {
            Some(Ok(data)) => self.data(data)?,
            Some(Err(frame)) => self.end(frame.into_trailers().ok())?,
            None => self.end(None)?,
        }
        Poll::Ready(Ok(()))
    }

    fn data(&mut self, data: Bytes) -> Result<(), Http1Error> {
        if let Framing::Length(remaining) = &mut self.framing {
            // Beyond what was announced it would be read as the next request.
            let left = remaining.checked_sub(data.len() as u64);
            *remaining = left.ok_or(Http1Error::RequestBody(BodyError::Cut))?;
        } else if !data.is_empty() {
            write!(self.front, "{:x}\r\n", data.len())?;
            self.tail = b"\r\n";
        }
        self.data = data;
        Ok(())
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), Http1Error> {
        match self.framing {
            Framing::Bodyless | Framing::Length(0) => {}
            Framing::Length(_) => return Err(Http1Error::RequestBody(BodyError::Cut)),
            Framing::Chunked => {
                self.front.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.iter().flatten().filter(|(name, _)| head::may_trail(name)) {
                    head::write_field(name, value, &mut self.front);
                }
                self.tail = b"\r\n";
            }
        }
        self.body = None;
        Ok(())
    }
}

fn framing(body: &Body) -> Framing {
    if body.is_end_stream() {
        return Framing::Bodyless;
    }
    body.size_hint().exact().map_or(Framing::Chunked, Framing::Length)
}

/// A flush that is done still leaves the caller waiting for the body.
trait AndPending {
    fn and_pending(self) -> Self;
}

impl AndPending for Poll<Result<(), Http1Error>> {
    fn and_pending(self) -> Self {
        match self {
            Self::Ready(Ok(())) => Self::Pending,
            other => other,
        }
    }
}

#[cfg(test)]
mod tests;
