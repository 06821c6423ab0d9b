//! A response body of either HTTP version: complete, or an error; and its connection, which is given back at the end.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::Extensions;
use http_body::{Body as _, Frame, SizeHint};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::http1::{self, Http1Error};
use super::http2::Stream;
use super::pool::Tracked;

/// A response body as it comes. Dropped before its end, it closes an HTTP/1 connection or resets an HTTP/2 stream.
pub struct Received(Kind);

enum Kind {
    Http1(http1::Incoming),
    Http2 {
        incoming: hyper::body::Incoming,
        /// Its place on the connection, until it is over.
        stream: Option<Stream>,
    },
}

/// Why a response body ended before it was complete.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// HTTP/1.
    #[error(transparent)]
    Http1(Http1Error),
    /// HTTP/2.
    #[error("the stream broke")]
    Http2(#[source] hyper::Error),
    /// An HTTP/2 stream ended without saying that it was complete, as a reset without an error does.
    #[error("the stream ended before the response was complete")]
    Cut,
}

impl ReceiveError {
    /// Whether the exchange ended because the client cut its request: that is no fault of the upstream.
    pub fn is_cut_by_client(&self) -> bool {
        matches!(self, Self::Http1(Http1Error::RequestBody(_)))
    }
}

/// The bytes behind a switch of protocols that the upstream agreed to, once they can flow.
pub enum Switching {
    /// At once.
    Http1(Box<Switched>),
    /// When hyper hands over the stream.
    Http2(OnUpgrade, Box<Received>),
    /// The upstream did not switch.
    Refused,
}

/// The upstream's side of a tunnel.
#[derive(Debug)]
pub enum Switched {
    /// The stream, after bytes that came with the response head.
    Http1 {
        /// Read first.
        first: Bytes,
        /// Read then.
        stream: SwitchedStream,
    },
    /// One stream of a connection.
    Http2(TokioIo<Upgraded>, Box<Received>),
}

/// The stream of an HTTP/1 connection that now carries another protocol.
#[derive(Debug)]
pub struct SwitchedStream(Tracked);

impl Received {
    pub(super) fn http1(incoming: http1::Incoming) -> Self {
        Self(Kind::Http1(incoming))
    }

    pub(super) fn http2(incoming: hyper::body::Incoming, stream: Stream) -> Self {
        let mut received = Self(Kind::Http2 { incoming, stream: Some(stream) });
        received.release_at_end();
        received
    }

    /// What follows a switch of protocols, once the response head says that there is one. `extensions` are those of the head.
    pub fn switch(self, extensions: &mut Extensions) -> Switching {
        match self.0 {
            Kind::Http2 { .. } => match extensions.remove::<OnUpgrade>() {
                Some(upgrade) => Switching::Http2(upgrade, Box::new(self)),
                None => Switching::Refused,
            },
            Kind::Http1(incoming) => match incoming.into_switched() {
                Some((stream, first)) => {
                    Switching::Http1(Box::new(Switched::Http1 { first, stream: SwitchedStream(stream) }))
                }
                None => Switching::Refused,
            },
        }
    }

    fn release_at_end(&mut self) {
        if let Kind::Http2 { incoming, stream } = &mut self.0
            && incoming.is_end_stream()
        {
            *stream = None;
        }
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = ReceiveError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReceiveError>>> {
        let incoming = match &mut self.0 {
            Kind::Http1(incoming) => {
                return incoming
                    .poll_frame(cx)
                    .map(|frame| frame.map(|frame| frame.map_err(ReceiveError::Http1)));
            }
            Kind::Http2 { incoming, .. } => incoming,
        };
        let polled = match Pin::new(&mut *incoming).poll_frame(cx) {
            Poll::Ready(None) if !incoming.is_end_stream() => Poll::Ready(Some(Err(ReceiveError::Cut))),
            polled => polled.map(|frame| frame.map(|frame| frame.map_err(ReceiveError::Http2))),
        };
        if polled.is_ready() {
            self.release_at_end();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Http1(incoming) => incoming.is_end_stream(),
            Kind::Http2 { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Http1(incoming) => incoming.size_hint(),
            Kind::Http2 { incoming, .. } => incoming.size_hint(),
        }
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = match &self.0 {
            Kind::Http1(_) => "http1",
            Kind::Http2 { .. } => "http2",
        };
        f.debug_struct("Received").field("version", &version).finish_non_exhaustive()
    }
}

impl Switching {
    /// Waits until bytes can flow.
    ///
    /// # Errors
    /// The upstream did not switch after all.
    pub async fn done(self) -> io::Result<Switched> {
        match self {
            Self::Http1(switched) => Ok(*switched),
            Self::Http2(upgrade, received) => {
                let upgraded = upgrade.await.map_err(io::Error::other)?;
                Ok(Switched::Http2(TokioIo::new(upgraded), received))
            }
            Self::Refused => Err(io::Error::other("the upstream did not switch protocols")),
        }
    }
}

impl AsyncRead for Switched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Http1 { first, .. } if !first.is_empty() => {
                let count = first.len().min(buf.remaining());
                buf.put_slice(&first[..count]);
                first.advance(count);
                Poll::Ready(Ok(()))
            }
            Self::Http1 { stream, .. } => Pin::new(&mut stream.0).poll_read(cx, buf),
            Self::Http2(stream, _) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Switched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Http1 { stream, .. } => Pin::new(&mut stream.0).poll_write(cx, buf),
            Self::Http2(stream, _) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Http1 { stream, .. } => Pin::new(&mut stream.0).poll_flush(cx),
            Self::Http2(stream, _) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Http1 { stream, .. } => Pin::new(&mut stream.0).poll_shutdown(cx),
            Self::Http2(stream, _) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
