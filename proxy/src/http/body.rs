//! Bodies in both directions: one concrete type at the HTTP seam.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Version;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use super::exchange::Streaming;
use super::filters::{Channel, Copied, Teed};
use crate::upstream::ReceiveError;

/// A request body towards an application or a response body towards a client.
#[derive(Debug, Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// A body that its client cut: whoever reads it gets an error.
    Cut,
    /// All of it is at hand.
    Full(Bytes),
    /// An HTTP/1 request body as it comes.
    Http1(Incoming),
    /// An HTTP/2 request body as it comes: complete only when END_STREAM came, which a reset without an error is not.
    Http2(Incoming),
    /// A request body of which a first piece is at hand again, because nobody took it.
    Begun(Box<Begun>),
    /// A response body as it comes, with the exchange that ends when it does.
    Streaming(Box<Streaming>),
    /// A request body of which mirrors get copies.
    Teed(Box<Teed>),
    /// Such a copy.
    Copied(Copied),
}

/// A first piece, and what comes after it.
#[derive(Debug)]
pub struct Begun {
    first: Bytes,
    rest: Body,
}

/// Why a body was cut. Whoever reads it sees the connection or stream end in an error, never a complete message.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The peer's connection or stream broke.
    #[error("the body was cut by the peer")]
    Peer(#[source] hyper::Error),
    /// The upstream's connection or stream broke.
    #[error("the body was cut by the upstream")]
    Upstream(#[source] Box<ReceiveError>),
    /// It ended before its sender said that it was complete.
    #[error("the body ended before it was complete")]
    Cut,
    /// The request's time was over.
    #[error("the time for the whole request was over")]
    Timeout,
}

impl Body {
    /// The body of a request that came in `version`.
    pub(crate) fn of_request(incoming: Incoming, version: Version) -> Self {
        if version == Version::HTTP_2 { Self::Http2(incoming) } else { Self::Http1(incoming) }
    }

    /// A body of which `first` was taken and not used.
    pub(crate) fn begun(first: Bytes, rest: Self) -> Self {
        Self::Begun(Box::new(Begun { first, rest }))
    }

    /// A body of which others get copies.
    pub(super) fn teed(inner: Self, copies: &[Rc<Channel>]) -> Self {
        Self::Teed(Box::new(Teed::new(inner, copies)))
    }

    /// Whether there is nothing to send, so that the request can be sent again.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Http1(incoming) | Self::Http2(incoming) => http_body::Body::is_end_stream(incoming),
            Self::Streaming(_) | Self::Begun(_) | Self::Cut | Self::Teed(_) | Self::Copied(_) => false,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            cut @ Self::Cut => {
                *cut = Self::Empty;
                Poll::Ready(Some(Err(BodyError::Cut)))
            }
            full @ Self::Full(_) => match std::mem::take(full) {
                Self::Full(bytes) if !bytes.is_empty() => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                _ => Poll::Ready(None),
            },
            Self::Http1(incoming) => poll_incoming(incoming, cx),
            Self::Http2(incoming) => match ready!(poll_incoming(incoming, cx)) {
                None if !http_body::Body::is_end_stream(incoming) => Poll::Ready(Some(Err(BodyError::Cut))),
                frame => Poll::Ready(frame),
            },
            Self::Begun(begun) if begun.first.is_empty() => Pin::new(&mut begun.rest).poll_frame(cx),
            Self::Begun(begun) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut begun.first))))),
            Self::Streaming(streaming) => streaming.poll_frame(cx),
            Self::Teed(teed) => teed.poll_frame(cx),
            Self::Copied(copied) => copied.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Cut => false,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Http1(incoming) | Self::Http2(incoming) => incoming.is_end_stream(),
            Self::Begun(begun) => begun.first.is_empty() && begun.rest.is_end_stream(),
            Self::Streaming(streaming) => streaming.is_end_stream(),
            Self::Teed(teed) => teed.is_end_stream(),
            Self::Copied(copied) => copied.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Cut => SizeHint::new(),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Http1(incoming) | Self::Http2(incoming) => incoming.size_hint(),
            Self::Begun(begun) => match begun.rest.size_hint().exact() {
                Some(rest) => SizeHint::with_exact(begun.first.len() as u64 + rest),
                None => SizeHint::new(),
            },
            Self::Streaming(streaming) => streaming.size_hint(),
            Self::Teed(teed) => teed.size_hint(),
            Self::Copied(copied) => copied.size_hint(),
        }
    }
}

fn poll_incoming(
    incoming: &mut Incoming,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    let polled = http_body::Body::poll_frame(Pin::new(incoming), cx);
    polled.map(|frame| frame.map(|frame| frame.map_err(BodyError::Peer)))
}
