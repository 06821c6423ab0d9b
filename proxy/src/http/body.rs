//! Bodies in both directions: one concrete type at the HTTP seam.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use super::exchange::Streaming;

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
    /// A request body as it comes.
    Incoming(Incoming),
    /// A response body as it comes, with the exchange that ends when it does.
    Streaming(Box<Streaming>),
}

/// Why a body was cut. Whoever reads it sees the connection or stream end in an error, never a complete message.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The peer's connection or stream broke.
    #[error("the body was cut by the peer")]
    Peer(#[source] hyper::Error),
    /// The client did not send all it had announced.
    #[error("the body was cut by the client")]
    Cut,
    /// The request's time was over.
    #[error("the time for the whole request was over")]
    Timeout,
}

impl Body {
    /// Whether there is nothing to send, so that the request can be sent again.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Incoming(incoming) => http_body::Body::is_end_stream(incoming),
            Self::Streaming(_) | Self::Cut => false,
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
            Self::Incoming(incoming) => {
                Pin::new(incoming).poll_frame(cx).map(|frame| frame.map(|f| f.map_err(BodyError::Peer)))
            }
            Self::Streaming(streaming) => streaming.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Cut => false,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Incoming(incoming) => incoming.is_end_stream(),
            Self::Streaming(streaming) => streaming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Cut => SizeHint::new(),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Incoming(incoming) => incoming.size_hint(),
            Self::Streaming(streaming) => streaming.size_hint(),
        }
    }
}
