//! The bytes of one HTTP/1.1 connection: a request going out while its response comes in, driven by whoever waits for the
//! response. No task of its own: a connection that carries nothing costs nothing.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::Method;
use http::request::Parts;
use http_body::Frame;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::coop::unconstrained;
use tokio_util::io::poll_read_buf;

use super::decode::{DecodeError, Decoded, Decoder};
use super::head::{self, Head, HeadError};
use super::out::Out;
use crate::http::{Body, BodyError};
use crate::upstream::pool::Tracked;

/// What connections of one worker read into: pieces of it are handed on, the rest is used for the next read.
const SCRATCH_BYTES: usize = 64 * 1024;
/// The least room for a read that expects a head, in bytes.
const HEAD_ROOM_BYTES: usize = 4 * 1024;
/// The least room for a read that expects a long body, in bytes.
const BODY_ROOM_BYTES: usize = 32 * 1024;
/// The most interim responses before the final one.
const MAX_INTERIM: usize = 16;

/// Why an HTTP/1 exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum Http1Error {
    /// The stream broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// The stream ended before a response head.
    #[error("the connection was closed before there was a response head")]
    Closed,
    /// The response head cannot be used.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The response body cannot be read on.
    #[error(transparent)]
    Body(#[from] DecodeError),
    /// The client did not send the request body it announced.
    #[error("the request body was cut")]
    RequestBody(#[source] BodyError),
}

/// The read buffer of a worker's connections.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Scratch(RefCell<BytesMut>);

/// A stream with one exchange on it at a time.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Tracked,
    /// What was read and is not used yet.
    read: Bytes,
    out: Out,
    incoming: Decoder,
    persistent: bool,
    /// Interim responses to this request so far.
    interim: usize,
}

impl Wire {
    pub(super) fn new(stream: Tracked) -> Self {
        Self {
            stream,
            read: Bytes::new(),
            out: Out::default(),
            incoming: Decoder::Ended,
            persistent: true,
            interim: 0,
        }
    }

    /// Whether nothing has come on this idle connection, not even its end. Makes no system call unless something has.
    pub(super) fn is_silent(&mut self) -> bool {
        let mut byte = [0];
        let mut cx = Context::from_waker(Waker::noop());
        // Whatever the task has done in this turn: a stream that is only not asked any more would look silent.
        let probe = poll_fn(|cx| Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::new(&mut byte)));
        pin!(unconstrained(probe)).as_mut().poll(&mut cx).is_pending()
    }

    /// Prepares a request. `body` is what follows the head.
    pub(super) fn begin(&mut self, parts: &Parts, body: Body) {
        self.out.begin(parts, body);
        self.incoming = Decoder::Ended;
        self.interim = 0;
    }

    /// Whether not a byte of the request was taken by the stream.
    pub(super) fn is_unsent(&self) -> bool {
        self.out.is_fresh()
    }

    /// The body of a request that is unsent.
    pub(super) fn take_body(&mut self) -> Body {
        self.out.take_body()
    }

    /// Sends what can be sent and waits for the final response head.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &Scratch,
        method: &Method,
    ) -> Poll<Result<Head, Http1Error>> {
        loop {
            self.drive_out(cx)?;
            // What comes before anything was asked is no answer.
            if self.out.is_fresh() && !self.read.is_empty() {
                return Poll::Ready(Err(Http1Error::Closed));
            }
            while !self.read.is_empty() {
                match head::read_response(&mut self.read, method)? {
                    Some(head) if !is_interim(&head) => return Poll::Ready(Ok(head)),
                    Some(_) if self.interim == MAX_INTERIM => {
                        return Poll::Ready(Err(HeadError::Invalid("number of interim responses").into()));
                    }
                    Some(_) => self.interim += 1,
                    None => break,
                }
            }
            if ready!(self.poll_fill(cx, scratch, HEAD_ROOM_BYTES))? == 0 {
                return Poll::Ready(Err(Http1Error::Closed));
            }
        }
    }

    /// The head is known: what follows is read as it says.
    pub(super) fn expect(&mut self, body: Decoder, persistent: bool) {
        self.incoming = body;
        self.persistent = persistent;
    }

    /// The next frame of the response body, while the request is driven on.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &Scratch,
    ) -> Poll<Option<Result<Frame<Bytes>, Http1Error>>> {
        loop {
            self.drive_out(cx)?;
            match self.incoming.decode(&mut self.read).map_err(Http1Error::Body)? {
                Decoded::Data(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Decoded::Trailers(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Decoded::End => return Poll::Ready(None),
                Decoded::Partial => {}
            }
            if ready!(self.poll_fill(cx, scratch, self.room()))? == 0 {
                self.persistent = false;
                self.incoming.close().map_err(Http1Error::Body)?;
            }
        }
    }

    /// Bytes of the response body that are to come, if that is known.
    pub(super) fn remaining(&self) -> Option<u64> {
        self.incoming.remaining()
    }

    /// Whether the response is over.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.incoming, Decoder::Ended)
    }

    /// Whether another request can follow the one that is over.
    pub(super) fn is_reusable(&self) -> bool {
        self.is_over() && self.out.is_done() && self.persistent && self.read.is_empty()
    }

    /// Lets go of what is not needed until the next request: pieces, even empty ones, hold the buffer they are of.
    pub(super) fn rest(&mut self) {
        self.read = Bytes::new();
        self.out.rest();
    }

    /// The stream, and what was read from it beyond the response head, when another protocol follows.
    pub(super) fn into_switched(self) -> Option<(Tracked, Bytes)> {
        matches!(self.incoming, Decoder::Switched).then_some((self.stream, self.read))
    }

    /// An error of the stream is kept from the caller once something is out: an answer may have been sent before the stream
    /// was closed, and if there is none, reading says so.
    fn drive_out(&mut self, cx: &mut Context<'_>) -> Result<(), Http1Error> {
        if self.out.is_done() {
            return Ok(());
        }
        match self.out.poll(cx, &mut self.stream) {
            Poll::Ready(Err(Http1Error::Io(_))) if !self.out.is_fresh() => {
                self.out.give_up();
                self.persistent = false;
                Ok(())
            }
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    /// Room for the next read of a body: what a long one needs in one piece.
    fn room(&self) -> usize {
        let remaining = self.incoming.remaining().and_then(|bytes| usize::try_from(bytes).ok());
        remaining.unwrap_or(BODY_ROOM_BYTES).clamp(HEAD_ROOM_BYTES, BODY_ROOM_BYTES)
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, scratch: &Scratch, room: usize) -> Poll<io::Result<usize>> {
        let mut buffer = scratch.0.borrow_mut();
        if buffer.capacity() < room {
            buffer.reserve(SCRATCH_BYTES);
        }
        let count = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut *buffer))?;
        let piece = buffer.split().freeze();
        self.read = if self.read.is_empty() { piece } else { [&self.read[..], &piece[..]].concat().into() };
        Poll::Ready(Ok(count))
    }
}

fn is_interim(head: &Head) -> bool {
    head.response.status().is_informational() && !matches!(head.body, Decoder::Switched)
}
